/* kith backup now | list | verify | prune | key.
 *
 * `now` asks the server of the directory, or makes the snapshot in this process when none runs, and waits until the
 * archive has it. The others need only the archive.
 */
#include "archive/archive.h"
#include "role/args.h"
#include "role/command.h"
#include "role/remote.h"
#include "role/term.h"

#include <kith/v1/ops.pb-c.h>
#include <stdio.h>

enum { WAIT_MS = 600000, POLL_MS = 500 };

typedef struct backup_flags {
    remote_flags r;
    int64_t keep, days;
    seal_master master;
    progress bar;
    strbuf out; /* JSON of a list */
    uint64_t newest;
    size_t count;
} backup_flags;

/* ---- list and verify ---- */

static void on_progress(void *ctx, const char *what, uint64_t done, uint64_t total) {
    backup_flags *f = ctx;
    progress_step(&f->bar, what, done, total);
}

static void add_entry(void *ctx, const archive_entry *e) {
    backup_flags *f = ctx;
    char at[32];
    time_format(e->time_ms, at);
    strbuf_addf(&f->out,
                "%s{\"id\":\"%s\",\"lsn\":%llu,\"time\":\"%s\",\"bytes\":%llu,\"usable\":%s}",
                f->count++ ? "," : "", e->id, (unsigned long long)e->lsn, at,
                (unsigned long long)e->bytes, e->usable ? "true" : "false");
}

static void say_entry(void *ctx, const archive_entry *e) {
    (void)ctx;
    char at[32];
    time_format(e->time_ms, at);
    term_out("  %s  %s  LSN %-10llu %10.1f MB%s\n", e->id, at, (unsigned long long)e->lsn,
             (double)e->bytes / 1e6, e->usable ? "" : "  (before an erasure: not used)");
}

static void see_entry(void *ctx, const archive_entry *e) {
    backup_flags *f = ctx;
    f->newest = MAX(f->newest, e->lsn);
}

static void on_problem(void *ctx, const char *object, const char *text) {
    (void)ctx;
    term_note("kith: %s: %s", object, text);
}

static void say_summary(const archive_summary *s, bool deep) {
    char first[32], last[32];
    time_format(s->first_ms, first);
    time_format(s->last_ms, last);
    term_out("%llu records from %s to %s, %llu snapshots, %llu objects, %.1f MB%s\n",
             (unsigned long long)s->last_lsn, first, last, (unsigned long long)s->snapshots,
             (unsigned long long)s->objects, (double)s->bytes / 1e6,
             !deep         ? ""
             : s->problems ? ": NOT whole"
                           : ": every byte is whole");
}

static err look(backup_flags *f, bool deep, void (*entry)(void *ctx, const archive_entry *e),
                archive_summary *sum) {
    check_options o = {.url = f->r.archive,
                       .master = &f->master,
                       .deep = deep,
                       .entry = entry,
                       .problem = on_problem,
                       .progress = on_progress,
                       .ctx = f};
    err rc = archive_check(&o, sum);
    progress_end(&f->bar);
    return rc;
}

static int list(backup_flags *f, bool deep) {
    archive_summary s;
    err rc = look(f, deep, f->r.json ? add_entry : say_entry, &s);
    if (rc != OK) {
        term_fail(rc);
        return 1;
    }
    if (f->r.json)
        term_out("{\"records\":%llu,\"parts\":%llu,\"objects\":%llu,\"bytes\":%llu,"
                 "\"erasures\":%llu,\"problems\":%llu,\"checked\":%s,\"snapshots\":[" STR_FMT
                 "]}\n",
                 (unsigned long long)s.last_lsn, (unsigned long long)s.parts,
                 (unsigned long long)s.objects, (unsigned long long)s.bytes,
                 (unsigned long long)s.erasures, (unsigned long long)s.problems,
                 deep ? "true" : "false", STR_ARG(strbuf_str(&f->out)));
    else
        say_summary(&s, deep);
    return s.problems ? 1 : 0;
}

/* ---- now ---- */

static err ask(backup_flags *f, uint64_t *lsn) {
    remote r;
    http_reply reply;
    yyjson_doc *doc = NULL;
    TRY(remote_open(&f->r, false, &r));
    err rc = OK;
    if (r.own) {
        archive_request(instance_archive(r.own));
        *lsn = shard_head(instance_shard(r.own));
        archive_stats st = {0};
        for (int i = 0; i < WAIT_MS / POLL_MS && !st.snapshot_ms; i++) {
            archive_stats_get(instance_archive(r.own), &st);
            if (!st.snapshot_ms) clock_sleep_ms(POLL_MS);
        }
        if (!st.snapshot_ms) rc = err_set(ERR_TIMEOUT, "backup: no snapshot came about");
    } else {
        http_ask q = {.method = "POST",
                      .target = "/v1/backup",
                      .content_type = "application/json",
                      .body = STR("{\"who\":\"kith backup\"}")};
        rc = remote_json(&r, &q, &reply, &doc);
        *lsn = yyjson_get_uint(yyjson_obj_get(yyjson_doc_get_root(doc), "lsn"));
        yyjson_doc_free(doc);
    }
    remote_close(&r);
    return rc;
}

static int now(backup_flags *f) {
    uint64_t lsn = 0;
    archive_summary s;
    err rc = ask(f, &lsn);
    for (int i = 0; rc == OK && f->newest < lsn && i < WAIT_MS / POLL_MS; i++) {
        rc = look(f, false, see_entry, &s);
        if (rc == ERR_NOT_FOUND) rc = OK; /* the archive itself is being made */
        if (rc == OK && f->newest < lsn) clock_sleep_ms(POLL_MS);
    }
    if (rc == OK && f->newest < lsn)
        rc = err_set(ERR_TIMEOUT, "backup: the snapshot is not in the archive yet");
    if (rc != OK) return term_fail(rc);
    if (f->r.json)
        term_out("{\"lsn\":%llu}\n", (unsigned long long)f->newest);
    else
        term_out("backup: a snapshot at LSN %llu is in %s\n", (unsigned long long)f->newest,
                 f->r.archive);
    return 0;
}

/* ---- prune, key ---- */

static int prune(backup_flags *f) {
    uint64_t deleted;
    if (f->keep < 1 || f->days < 0 || f->keep > 100000 || f->days > 100000)
        return term_fail(err_set(ERR_INVALID, "prune: expected --keep from 1 and --days from 0"));
    err rc =
        archive_prune(f->r.archive, &f->master, (uint32_t)f->keep, (uint32_t)f->days, &deleted);
    if (rc != OK) {
        term_fail(rc);
        return 1;
    }
    if (f->r.json)
        term_out("{\"deleted\":%llu}\n", (unsigned long long)deleted);
    else
        term_out("backup: %llu snapshots deleted\n", (unsigned long long)deleted);
    return 0;
}

static int make_key(void) {
    uint8_t key[SEAL_KEY];
    char hex[2 * SEAL_KEY + 1];
    seal_random(key, sizeof key);
    seal_hex(key, sizeof key, hex);
    term_out("%s\n", hex);
    return 0;
}

static int run(backup_flags *f, const char *what) {
    if (strcmp(what, "key") == 0) return make_key();
    if (!f->r.archive || !f->r.archive[0])
        return term_fail(err_set(ERR_INVALID, "backup: expected --archive URL"));
    if (strcmp(what, "now") == 0) return now(f);
    if (strcmp(what, "list") == 0) return list(f, false);
    if (strcmp(what, "verify") == 0) return list(f, true);
    if (strcmp(what, "prune") == 0) return prune(f);
    return term_fail(
        err_set(ERR_INVALID, "expected now, list, verify, prune or key, got '%s'", what));
}

int command_backup(int argc, char **argv) {
    backup_flags f = {.r = REMOTE_FLAGS_INIT, .keep = 7, .days = 30};
    const arg args[] = {
        REMOTE_ARGS(f.r),
        {"archive", ARG_STR, &f.r.archive, "URL", "dir:PATH, s3://… or gs://…", "KITH_ARCHIVE"},
        {"master-key", ARG_STR, &f.r.master_key, "FILE", "64 hex digits", "KITH_MASTER_KEY_FILE"},
        {"keep", ARG_INT, &f.keep, "N", "prune: the newest N stay (default 7)", NULL},
        {"days", ARG_INT, &f.days, "N", "prune: younger ones stay (default 30)", NULL},
    };
    args_spec spec = {
        .command = "backup",
        .usage = "kith backup [flags] now | list | verify | prune | key",
        .about =
            "now: a snapshot of the running server's data (or of --data). list: what the "
            "archive holds. verify: reads every byte of it. prune: deletes old snapshots, never "
            "the last good one. key: prints a new master key.",
        .examples = "  kith backup key > /etc/kith/master.key; chmod 600 /etc/kith/master.key\n"
                    "  kith backup now --data DIR --archive s3://bucket/kith\n"
                    "  kith backup verify --archive s3://bucket/kith\n",
        .args = args,
        .count = COUNT_OF(args),
        .positional_min = 1,
        .positional_max = 1};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc == OK) rc = seal_master_load(f.r.master_key, &f.master);
    if (rc != OK) return term_fail(rc);
    strbuf_init(&f.out, 16 * MIB);
    int code = run(&f, spec.positional[0]);
    strbuf_deinit(&f.out);
    return code;
}
