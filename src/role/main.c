/* kith: one program, its commands. This file knows their names and nothing of what they do.
 */
#include "role/command.h"
#include "role/instance.h"
#include "role/term.h"

#include <string.h>

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *about;
} command;

static const command commands[] = {
    {"serve", command_serve, "serve the API and the page"},
    {"import", command_import, "bring posts in from JSONL, gz or plain"},
    {"search", command_search, "search from the terminal"},
    {"similar", command_similar, "posts like a post"},
    {"post", command_post, "put one post"},
    {"delete", command_delete, "delete a post"},
    {"status", command_status, "counts, positions, sizes, speeds"},
    {"verify", command_verify, "check every file of a data directory"},
    {"eval", command_eval, "quality on judged queries"},
    {"bench", command_bench, "speed of the index and of the encoder"},
    {"embed", command_embed, "texts to vectors"},
    {"space", command_space, "spaces of vectors side by side; change models"},
    {"model", command_model, "list models, check one"},
    {"top", command_top, "what a server does now, once a second"},
    {"trace", command_trace, "recent slow, failed and sampled requests as trees"},
    {"key", command_key, "make, list and revoke keys"},
    {"backup", command_backup, "snapshot now; list, check and prune an archive"},
    {"restore", command_restore, "a data directory from an archive"},
    {"drill", command_drill, "rehearse disasters on a copy"},
    {"erase", command_erase, "erase a user, everywhere and for ever"},
    {"export", command_export, "all that is held on a user"},
    {"audit", command_audit, "show and check what administrators did"},
};

static int usage(bool wrong) {
    term_out("kith %s: semantic search over posts and replies\n\nusage: kith COMMAND [flags]\n\n",
             KITH_VERSION);
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        term_out("  %-9s %s\n", commands[i].name, commands[i].about);
    term_out("  %-9s %s\n\n'kith COMMAND --help' tells more, with examples.\n", "version",
             "print the version");
    return wrong ? 2 : 0;
}

int main(int argc, char **argv) {
    if (argc < 2) return usage(true);
    const char *name = argv[1];
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return usage(false);
    if (strcmp(name, "version") == 0 || strcmp(name, "--version") == 0) {
        if (argc > 2 && strcmp(argv[2], "--json") == 0)
            term_out("{\"version\":\"%s\"}\n", KITH_VERSION);
        else
            term_out("kith %s\n", KITH_VERSION);
        return 0;
    }
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (strcmp(name, commands[i].name) == 0) return commands[i].run(argc - 2, argv + 2);
    term_note("kith: no command '%s'; 'kith --help' lists them", name);
    return 2;
}
