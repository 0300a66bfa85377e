/* The command line, parsed by hand: getopt knows neither our error texts nor the environment, and a
 * table gives the help page for nothing.
 */
#include "role/args.h"

#include <stdio.h>
#include <stdlib.h>

enum { HELP_MAX = 16384 };

static const arg *find(const args_spec *spec, str name) {
    for (size_t i = 0; i < spec->count; i++)
        if (str_eq(str_of(spec->args[i].name), name)) return &spec->args[i];
    return NULL;
}

static err set(const arg *a, const char *from, const char *value) {
    bool ok = true;
    switch (a->kind) {
    case ARG_STR:
        *(const char **)a->out = value;
        break;
    case ARG_INT:
        ok = str_to_i64(str_of(value), a->out);
        break;
    case ARG_F64:
        ok = str_to_f64(str_of(value), a->out);
        break;
    case ARG_BOOL: {
        bool yes = strcmp(value, "1") == 0 || strcmp(value, "true") == 0;
        ok = yes || strcmp(value, "0") == 0 || strcmp(value, "false") == 0;
        *(bool *)a->out = yes;
        break;
    }
    }
    if (ok) return OK;
    return err_set(ERR_INVALID, "%s: expected %s, got '%s'", from,
                   a->kind == ARG_BOOL ? "true or false" : "a number", value);
}

static err from_environment(const args_spec *spec) {
    for (size_t i = 0; i < spec->count; i++) {
        const arg *a = &spec->args[i];
        const char *value = a->env ? getenv(a->env) : NULL;
        if (value && value[0]) TRY(set(a, a->env, value));
    }
    return OK;
}

static void print_help(const args_spec *spec) {
    strbuf b;
    strbuf_init(&b, HELP_MAX);
    strbuf_addf(&b, "%s\n\nusage: %s\n", spec->about, spec->usage);
    if (spec->count) strbuf_addz(&b, "\nflags:\n");
    for (size_t i = 0; i < spec->count; i++) {
        const arg *a = &spec->args[i];
        char left[64];
        snprintf(left, sizeof left, "--%s %s", a->name, a->value_name ? a->value_name : "");
        strbuf_addf(&b, "  %-24s %s", left, a->help);
        if (a->env) strbuf_addf(&b, " [%s]", a->env);
        strbuf_addc(&b, '\n');
    }
    strbuf_addf(&b, "\nexamples:\n%s", spec->examples);
    str s = strbuf_str(&b);
    fwrite(s.ptr, 1, s.len, stdout);
    strbuf_deinit(&b);
}

static err unknown(const args_spec *spec, const char *word) {
    return err_set(ERR_INVALID, "%s: no such flag; 'kith %s --help' lists them", word,
                   spec->command);
}

/* One word that starts with "--"; *i moves past a value taken from the next word. */
static err parse_flag(args_spec *spec, int argc, char **argv, int *i) {
    const char *word = argv[*i];
    str name = str_skip(str_of(word), 2);
    ptrdiff_t eq = str_find_byte(name, '=');
    const char *value = eq >= 0 ? word + 2 + eq + 1 : NULL;
    if (eq >= 0) name.len = (size_t)eq;
    const arg *a = find(spec, name);
    if (!a) return unknown(spec, word);
    if (a->kind == ARG_BOOL) return set(a, word, value ? value : "true");
    if (!value) {
        if (*i + 1 >= argc)
            return err_set(ERR_INVALID, "%s: expected a value (%s)", word, a->value_name);
        value = argv[++*i];
    }
    return set(a, word, value);
}

err args_parse(args_spec *spec, int argc, char **argv) {
    TRY(from_environment(spec));
    bool flags = true;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (flags && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            print_help(spec);
            return ERR_CANCELLED;
        }
        if (flags && strcmp(word, "--") == 0) {
            flags = false;
        } else if (flags && strncmp(word, "--", 2) == 0) {
            TRY(parse_flag(spec, argc, argv, &i));
        } else {
            if (spec->positional_count == spec->positional_max)
                return err_set(ERR_INVALID, "%s: one argument too many; usage: %s", word,
                               spec->usage);
            spec->positional[spec->positional_count++] = word;
        }
    }
    if (spec->positional_count < spec->positional_min)
        return err_set(ERR_INVALID, "an argument is missing; usage: %s", spec->usage);
    return OK;
}
