/* kith restore: a data directory from an archive, the newest state or that of a position or a time.
 */
#include "archive/archive.h"
#include "role/args.h"
#include "role/command.h"
#include "role/term.h"

#include <stdio.h>

typedef struct restore_flags {
    const char *from, *into, *to_time, *master_key;
    int64_t to_lsn;
    bool latest, json, no_snapshot;
    progress bar;
} restore_flags;

static void on_progress(void *ctx, const char *what, uint64_t done, uint64_t total) {
    restore_flags *f = ctx;
    progress_step(&f->bar, what, done, total);
}

static void on_notice(void *ctx, const char *text) {
    (void)ctx;
    term_note("kith: %s", text);
}

static err check(restore_flags *f, restore_options *o) {
    int limits = (f->to_lsn != 0) + (f->to_time != NULL) + f->latest;
    if (!f->from || !f->into)
        return err_set(ERR_INVALID, "restore: expected --from URL and --into DIR");
    if (limits > 1)
        return err_set(ERR_INVALID, "restore: expected one of --latest, --to-lsn and --to-time");
    if (f->to_lsn < 0) return err_set(ERR_INVALID, "--to-lsn: expected a position from 1 on");
    if (f->to_time && !time_parse(str_of(f->to_time), &o->to_time_ms))
        return err_set(ERR_INVALID, "--to-time: expected RFC 3339, as 2026-11-24T12:00:00Z");
    o->url = f->from;
    o->into = f->into;
    o->to_lsn = (uint64_t)f->to_lsn;
    o->no_snapshot = f->no_snapshot;
    return OK;
}

static void say(const restore_flags *f, const restore_result *r) {
    char at[32];
    time_format(r->time_ms, at);
    if (f->json)
        term_out("{\"lsn\":%llu,\"records\":%llu,\"bytes\":%llu,\"snapshot_lsn\":%llu,"
                 "\"time\":\"%s\",\"erasures\":%llu,\"seconds\":%.3f,\"space\":\"%s\"}\n",
                 (unsigned long long)r->lsn, (unsigned long long)r->records,
                 (unsigned long long)r->bytes, (unsigned long long)r->snapshot_lsn, at,
                 (unsigned long long)r->erasures, r->seconds, r->space);
    else
        term_out("restored %s: %llu records to %s (%.1f MB in %.1f s), from %s%llu; start it with "
                 "'kith serve --data %s'\n",
                 f->into, (unsigned long long)r->records, at, (double)r->bytes / 1e6, r->seconds,
                 r->snapshot_lsn ? "the snapshot at LSN " : "record ",
                 (unsigned long long)(r->snapshot_lsn ? r->snapshot_lsn : 1), f->into);
}

int command_restore(int argc, char **argv) {
    restore_flags f = {0};
    const arg args[] = {
        {"from", ARG_STR, &f.from, "URL", "the archive: dir:PATH, s3://… or gs://…",
         "KITH_ARCHIVE"},
        {"into", ARG_STR, &f.into, "DIR", "a new directory", NULL},
        {"latest", ARG_BOOL, &f.latest, NULL, "the newest state (the default)", NULL},
        {"to-lsn", ARG_INT, &f.to_lsn, "N", "the state behind record N", NULL},
        {"to-time", ARG_STR, &f.to_time, "TIME", "the state at that time, RFC 3339", NULL},
        {"no-snapshot", ARG_BOOL, &f.no_snapshot, NULL, "from the records alone", NULL},
        {"master-key", ARG_STR, &f.master_key, "FILE", "the key that the archive was made with",
         "KITH_MASTER_KEY_FILE"},
        {"json", ARG_BOOL, &f.json, NULL, "print JSON, for scripts", NULL},
    };
    args_spec spec = {.command = "restore",
                      .usage = "kith restore [flags] --from URL --into DIR",
                      .about = "Makes a data directory from an archive. What is there is never "
                               "written over; erased users do not come back.",
                      .examples = "  kith restore --from s3://bucket/kith --into kith-data\n"
                                  "  kith restore --from dir:/backup --to-time "
                                  "2026-11-24T12:00:00Z --into past\n",
                      .args = args,
                      .count = COUNT_OF(args)};
    restore_options o = {.progress = on_progress, .notice = on_notice, .ctx = &f};
    restore_result r;
    seal_master m;
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK) rc = check(&f, &o);
    if (rc == OK) rc = seal_master_load(f.master_key, &m);
    if (rc != OK) return term_fail(rc);
    o.master = &m;
    rc = archive_restore(&o, &r);
    progress_end(&f.bar);
    if (rc != OK) { /* whatever it is, it is not the command line */
        term_fail(rc);
        return 1;
    }
    say(&f, &r);
    return 0;
}
