/* args: the command line of one command, by table. --name VALUE, --name=VALUE, -h and --help; the
 * rest is positional. A flag that was not given is taken from its environment variable when it has
 * one. An unknown flag, a missing or wrong value is ERR_INVALID with a text that says what to do.
 */
#ifndef KITH_ROLE_ARGS_H
#define KITH_ROLE_ARGS_H

#include "base/base.h"

typedef enum arg_kind {
    ARG_STR,  /* const char * */
    ARG_INT,  /* int64_t */
    ARG_F64,  /* double */
    ARG_BOOL, /* bool; takes no value */
} arg_kind;

typedef struct arg {
    const char *name; /* without the dashes */
    arg_kind kind;
    void *out;              /* holds the default before args_parse */
    const char *value_name; /* for the help: "DIR" */
    const char *help;
    const char *env; /* or NULL */
} arg;

#define ARGS_POSITIONAL_MAX 64

typedef struct args_spec {
    const char *command; /* "search" */
    const char *usage;   /* "kith search [flags] QUERY" */
    const char *about;
    const char *examples;
    const arg *args;
    size_t count;
    const char *positional[ARGS_POSITIONAL_MAX]; /* filled in */
    size_t positional_count;
    size_t positional_min, positional_max;
} args_spec;

/* ERR_CANCELLED when help was asked for and printed: exit with 0. */
MUST_USE err args_parse(args_spec *spec, int argc, char **argv);

#endif
