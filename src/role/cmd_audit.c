/* kith audit show | verify: the audit records of a data directory's journal, read beside a running server.
 *
 * verify reads every byte of the journal and its chain of hashes, so an audit record that was changed, removed or
 * moved is seen. Against a cut tail and a journal that was replaced as a whole only something kept elsewhere
 * helps: the position and hash that an earlier verify printed (--lsn, --hash), or an archive.
 */
#include "role/args.h"
#include "role/command.h"
#include "role/remote.h"
#include "role/term.h"

#include <stdio.h>

enum { PATH_BYTES = 4096 };

typedef struct audit_flags {
    const char *dir, *hash;
    int64_t lsn;
    bool json;
    size_t count;
    uint64_t want_lsn;
    bool met, fits;
    journal_position at;
} audit_flags;

static void say(const journal_record *r, const char *at) {
    yyjson_doc *doc = NULL;
    if (json_parse(r->body, &doc) != OK) doc = NULL;
    yyjson_val *root = yyjson_doc_get_root(doc);
    const char *user = remote_text(root, "user");
    term_out("%-24s  LSN %-10llu %-16.*s %-14s %s%s%s\n", at, (unsigned long long)r->lsn,
             STR_ARG(r->key), remote_text(root, "who"), remote_text(root, "outcome"),
             user[0] ? "  user " : "", user);
    yyjson_doc_free(doc);
}

static err on_record(void *ctx, const journal_record *r) {
    audit_flags *f = ctx;
    if (r->kind != JOURNAL_AUDIT) return OK;
    char at[32];
    time_format(HLC_MS(r->time), at);
    if (f->json)
        term_out("%s{\"lsn\":%llu,\"time\":\"%s\",\"record\":" STR_FMT "}", f->count ? "," : "",
                 (unsigned long long)r->lsn, at, STR_ARG(r->body));
    else
        say(r, at);
    f->count++;
    return OK;
}

static err on_any(void *ctx, const journal_record *r) {
    audit_flags *f = ctx;
    uint8_t want[JOURNAL_HASH_BYTES];
    f->count += r->kind == JOURNAL_AUDIT;
    if (r->lsn != f->want_lsn) return OK;
    f->met = true;
    f->fits = seal_unhex(str_of(f->hash ? f->hash : ""), want, sizeof want) &&
              memcmp(want, f->at.hash, sizeof want) == 0;
    return OK;
}

static void on_problem(void *ctx, const journal_problem *p) {
    (void)ctx;
    if (p->code != OK)
        term_note("kith: journal/%s at byte %llu, LSN %llu: %s", p->file,
                  (unsigned long long)p->offset, (unsigned long long)p->lsn, p->text);
}

static err verify(audit_flags *f, const char *path) {
    f->want_lsn = (uint64_t)f->lsn;
    TRY(journal_verify(fs_real(), path, on_problem, NULL, NULL));
    TRY(journal_walk(fs_real(), path, on_any, f, &f->at));
    if (f->lsn && !f->met)
        return err_set(ERR_CORRUPT, "%s: record %lld is not there any more: the end was cut off",
                       path, (long long)f->lsn);
    if (f->lsn && !f->fits)
        return err_set(ERR_CORRUPT, "%s: up to record %lld it is not what it was", path,
                       (long long)f->lsn);
    char hex[2 * JOURNAL_HASH_BYTES + 1];
    seal_hex(f->at.hash, JOURNAL_HASH_BYTES, hex);
    if (f->json)
        term_out("{\"records\":%llu,\"audit\":%zu,\"lsn\":%llu,\"hash\":\"%s\"}\n",
                 (unsigned long long)f->at.lsn, f->count, (unsigned long long)f->at.lsn, hex);
    else
        term_out("%zu audit records, %llu records, every hash fits. Keep this elsewhere:\n"
                 "  kith audit verify --lsn %llu --hash %s\n",
                 f->count, (unsigned long long)f->at.lsn, (unsigned long long)f->at.lsn, hex);
    return OK;
}

static err show(audit_flags *f, const char *path) {
    if (f->json) term_out("[");
    TRY(journal_walk(fs_real(), path, on_record, f, &f->at));
    if (f->json) term_out("]\n");
    return OK;
}

int command_audit(int argc, char **argv) {
    audit_flags f = {.dir = "kith-data"};
    const arg args[] = {
        {"data", ARG_STR, &f.dir, "DIR", "data directory (default kith-data)", "KITH_DIR"},
        {"lsn", ARG_INT, &f.lsn, "N", "verify: a position that was kept elsewhere, and", NULL},
        {"hash", ARG_STR, &f.hash, "HEX", "the hash that belongs to it", NULL},
        {"json", ARG_BOOL, &f.json, NULL, "print JSON, for scripts", NULL},
    };
    args_spec spec = {.command = "audit",
                      .usage = "kith audit [flags] show | verify",
                      .about = "Shows what administrators did, and checks that nobody changed it.",
                      .examples = "  kith audit show --data DIR\n",
                      .args = args,
                      .count = COUNT_OF(args),
                      .positional_min = 1,
                      .positional_max = 1};
    char path[PATH_BYTES];
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK) {
        snprintf(path, sizeof path, "%s/journal", f.dir);
        const char *what = spec.positional[0];
        if (strcmp(what, "show") == 0)
            rc = show(&f, path);
        else if (strcmp(what, "verify") == 0)
            rc = verify(&f, path);
        else
            rc = err_set(ERR_INVALID, "expected show or verify, got '%s'", what);
    }
    return rc == OK ? 0 : term_fail(rc);
}
