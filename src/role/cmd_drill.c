/* kith drill: the disasters of docs/runbooks, rehearsed on a copy that is made from the archive.
 *
 *   1  the store is damaged, then the journal: seen; rebuilt from the journal, then restored
 *   2  the index is damaged: seen; rebuilt from stored vectors
 *   3  no embedding provider: new posts are found by words, queue, and catch up when vectors come
 *   4  complete loss: from the archive alone, and from the posts' content alone
 * Every drill compares the state with the undamaged copy's by a hash over every row and vector. RTO is from the
 * damage to the first moment that the state is whole again; RPO is what the live journal has and the archive has
 * not at the start. The live directory is only read.
 */
#include "archive/archive.h"
#include "role/args.h"
#include "role/command.h"
#include "role/remote.h"
#include "role/term.h"

#include <stdio.h>
#include <stdlib.h>

enum { PATH_BYTES = 4096, FLIPS = 64, WAIT_MS = 600000, DRILLS = 4 };

typedef struct drill_result {
    bool ok;
    double rto_s;
    uint64_t checked;
    char what[256];
} drill_result;

typedef struct drill {
    remote_flags r;
    const char *scratch;
    seal_master master;
    char root[PATH_BYTES - 256], space[256];
    uint32_t dim;
    uint64_t rpo_records;
    double rpo_s;
    shard_state base; /* of the undamaged copy */
    rng random;
} drill;

static void quiet(void *ctx, const char *text) {
    (void)ctx, (void)text;
}

static double since(uint64_t start) {
    return (double)(clock_mono_ns() - start) / 1e9;
}

static void sub(const drill *d, const char *name, char out[PATH_BYTES]) {
    snprintf(out, PATH_BYTES, "%s/%s", d->root, name);
}

/* ---- copies ---- */

static err copy_to(drill *d, const char *name) {
    char into[PATH_BYTES];
    restore_result r;
    sub(d, name, into);
    restore_options o = {.url = d->r.archive, .into = into, .master = &d->master, .notice = quiet};
    TRY(archive_restore(&o, &r));
    snprintf(d->space, sizeof d->space, "%s", r.space);
    return OK;
}

static err open_copy(const drill *d, const char *name, shard **out) {
    char dir[PATH_BYTES];
    sub(d, name, dir);
    return shard_open(&(shard_options){.fs = fs_real(),
                                       .dir = dir,
                                       .space = d->space,
                                       .dim = d->dim,
                                       .master = &d->master,
                                       .notice = quiet},
                      out);
}

/* Opens, waits until all is folded, and takes the state. */
static err state_of(const drill *d, const char *name, shard_state *out) {
    shard *s;
    TRY(open_copy(d, name, &s));
    err rc = shard_state_get(s, WAIT_MS, out);
    err_text kept = err_keep();
    shard_close(s);
    return err_restore(rc, &kept);
}

static err same(const drill *d, const shard_state *s) {
    if (s->hash == d->base.hash && s->posts == d->base.posts) return OK;
    return err_set(ERR_CORRUPT, "the state is not what it was: %llu posts, expected %llu",
                   (unsigned long long)s->posts, (unsigned long long)d->base.posts);
}

/* ---- damage ---- */

static err flip(drill *d, const char *name, const char *file_name) {
    char path[PATH_BYTES + 64];
    file *f;
    uint64_t size;
    snprintf(path, sizeof path, "%s/%s/%s", d->root, name, file_name);
    TRY(file_open(fs_real(), path, FILE_WRITE, &f));
    err rc = file_size(f, &size);
    for (int i = 0; rc == OK && size && i < FLIPS; i++) {
        uint8_t b;
        size_t got;
        uint64_t at = rng_u64(&d->random) % size;
        rc = file_pread(f, &b, 1, at, &got);
        b ^= (uint8_t)(1u << rng_below(&d->random, 8));
        if (rc == OK) rc = file_pwrite(f, &b, 1, at);
    }
    file_close(f);
    return rc;
}

static void count_problem(void *ctx, const char *name, const char *problem) {
    (void)name, (void)problem;
    ++*(uint64_t *)ctx;
}

static err must_be_seen(const drill *d, const char *name) {
    char dir[PATH_BYTES];
    uint64_t problems = 0, files;
    sub(d, name, dir);
    err rc = shard_verify(fs_real(), dir, &d->master, count_problem, &problems, &files);
    if (problems) return OK;
    return rc == OK ? err_set(ERR_INTERNAL, "%s: the damage was not seen", dir) : rc;
}

/* ---- the drills ---- */

static err first_segment(void *ctx, const char *name) {
    char *out = ctx;
    if (!out[0] && str_ends(str_of(name), STR(".seg"))) snprintf(out, 64, "journal/%s", name);
    return OK;
}

static err drill_store(drill *d, drill_result *r) {
    shard_state s;
    char segment[64] = {0}, dir[PATH_BYTES];
    TRY(copy_to(d, "store"));
    TRY(state_of(d, "store", &s));
    uint64_t start = clock_mono_ns();
    TRY(flip(d, "store", "store.db"));
    TRY(must_be_seen(d, "store"));
    TRY(state_of(d, "store", &s));
    TRY(same(d, &s));
    double rebuilt = since(start);
    sub(d, "store/journal", dir);
    TRY(fs_list(fs_real(), dir, first_segment, segment));
    start = clock_mono_ns();
    TRY(flip(d, "store", segment));
    TRY(must_be_seen(d, "store"));
    TRY(copy_to(d, "store-again"));
    TRY(state_of(d, "store-again", &s));
    TRY(same(d, &s));
    r->rto_s = MAX(rebuilt, since(start));
    r->checked = s.posts;
    snprintf(r->what, sizeof r->what,
             "store rebuilt from the journal in %.2f s; damaged journal restored in %.2f s",
             rebuilt, since(start));
    return OK;
}

static err drill_index(drill *d, drill_result *r) {
    shard_state s;
    shard *live;
    TRY(copy_to(d, "index"));
    TRY(state_of(d, "index", &s));
    uint64_t start = clock_mono_ns();
    TRY(flip(d, "index", "index.snap"));
    TRY(must_be_seen(d, "index"));
    TRY(open_copy(d, "index", &live));
    double words = since(start); /* answers by words from here on */
    err rc = shard_state_get(live, WAIT_MS, &s);
    r->rto_s = since(start);
    shard_close(live);
    TRY(rc);
    r->checked = s.posts;
    snprintf(r->what, sizeof r->what,
             "words answer after %.2f s, the graph is whole after %.2f s from stored vectors",
             words, r->rto_s);
    return same(d, &s);
}

static err outage(const drill *d, shard *s, drill_result *r) {
    char id[] = "drill-outage", text[] = "a post that came while nothing could be embedded";
    uint64_t lsn, start = clock_mono_ns();
    shard_stats st;
    Kith__V1__Post p = KITH__V1__POST__INIT;
    p.id = id;
    p.text = text;
    p.author = (char[]){"drill"};
    TRY(shard_put(s, &(shard_item){&p, NULL}, 1, &lsn));
    TRY(shard_wait(s, str_of(id), lsn, WAIT_APPLIED, WAIT_MS));
    TRY(shard_stat(s, &st));
    if (st.pending == 0) return err_set(ERR_INTERNAL, "the post does not wait for a vector");
    double words = since(start);
    float *v = mem_zalloc(d->dim, sizeof *v);
    if (!v) return ERR_NO_MEMORY;
    v[0] = 1;
    shard_vector sv = {.id = str_of(id), .text_hash = hash64(text, strlen(text), 0), .vector = v};
    start = clock_mono_ns();
    err rc = shard_put_vectors(s, 0, &sv, 1);
    mem_free(v);
    if (rc == OK) rc = shard_wait(s, sv.id, shard_head(s), WAIT_SEARCHABLE, WAIT_MS);
    r->rto_s = since(start);
    r->checked = st.posts;
    snprintf(
        r->what, sizeof r->what,
        "a new post is found by words after %.3f s and by meaning %.3f s after its vector came",
        words, r->rto_s);
    return rc;
}

static err drill_provider(drill *d, drill_result *r) {
    shard *s;
    TRY(copy_to(d, "provider"));
    TRY(open_copy(d, "provider", &s));
    err rc = outage(d, s, r);
    err_text kept = err_keep();
    shard_close(s);
    return err_restore(rc, &kept);
}

typedef struct content {
    shard *to;
    uint64_t posts;
} content;

static err put_content(void *ctx, const store_row *row) {
    content *c = ctx;
    uint64_t lsn;
    c->posts++;
    return shard_put(c->to, &(shard_item){row->post, NULL}, 1, &lsn);
}

/* From the posts alone into an empty directory: what an export gives. */
static err from_content(drill *d, uint64_t *posts) {
    shard *from, *to;
    shard_stats st = {0};
    TRY(open_copy(d, "loss", &from));
    err rc = open_copy(d, "content", &to);
    if (rc == OK) {
        content c = {.to = to};
        store_reader *r = store_reader_get(shard_store(from));
        rc = store_scan_rows(r, 0, put_content, &c);
        store_reader_put(shard_store(from), r);
        if (rc == OK) rc = shard_wait(to, STR(""), shard_head(to), WAIT_APPLIED, WAIT_MS);
        if (rc == OK) rc = shard_stat(to, &st);
        shard_close(to);
        *posts = st.posts;
        if (rc == OK && st.posts != c.posts)
            rc = err_set(ERR_INTERNAL, "%llu of %llu posts came back from content",
                         (unsigned long long)st.posts, (unsigned long long)c.posts);
    }
    shard_close(from);
    return rc;
}

static err drill_loss(drill *d, drill_result *r) {
    shard_state s;
    uint64_t start = clock_mono_ns(), posts = 0;
    TRY(copy_to(d, "loss"));
    double restored = since(start);
    TRY(state_of(d, "loss", &s));
    r->rto_s = since(start);
    TRY(same(d, &s));
    start = clock_mono_ns();
    TRY(from_content(d, &posts));
    r->checked = s.posts + posts;
    snprintf(
        r->what, sizeof r->what,
        "restored in %.2f s, whole after %.2f s; from content alone %llu posts in %.2f s, then "
        "they are to be embedded",
        restored, r->rto_s, (unsigned long long)posts, since(start));
    return OK;
}

/* ---- all of it ---- */

/* What the live journal has and the archive has not. */
static err measure_rpo(drill *d, const archive_summary *sum) {
    char path[PATH_BYTES];
    journal_summary live;
    snprintf(path, sizeof path, "%s/journal", d->r.data);
    if (!fs_exists(fs_real(), path)) return OK;
    TRY(journal_verify(fs_real(), path, NULL, NULL, &live));
    if (live.last_lsn <= sum->last_lsn) return OK;
    d->rpo_records = live.last_lsn - sum->last_lsn;
    d->rpo_s = (double)(clock_wall_ms() - sum->last_ms) / 1000.0;
    return OK;
}

static err find_dim(drill *d) {
    d->dim = 0;
    /* provider/model/DIM/metric: the one number between slashes that stands alone */
    str rest = str_of(d->space), part;
    while (str_split(&rest, '/', &part)) {
        uint64_t n;
        if (str_to_u64(part, &n) && n >= 1 && n <= 65536) d->dim = (uint32_t)n;
    }
    return d->dim
               ? OK
               : err_set(ERR_UNSUPPORTED, "drill: no dimension in the space's name '%s'", d->space);
}

static err prepare(drill *d) {
    archive_summary sum;
    if (!d->r.archive || !d->r.archive[0])
        return err_set(ERR_INVALID, "drill: expected --archive URL: drills work on a copy from it");
    TRY(archive_check(&(check_options){.url = d->r.archive, .master = &d->master}, &sum));
    TRY(measure_rpo(d, &sum));
    snprintf(d->root, sizeof d->root, "%s/kith-drill-XXXXXX", d->scratch);
    if (!mkdtemp(d->root))
        return err_set(ERR_IO, "drill: cannot make a directory in %s; name one with --scratch",
                       d->scratch);
    TRY(copy_to(d, "base"));
    TRY(find_dim(d));
    return state_of(d, "base", &d->base);
}

static err remove_name(void *ctx, const char *name) {
    char path[PATH_BYTES + 256];
    snprintf(path, sizeof path, "%s/%s", (const char *)ctx, name);
    return fs_unlink(fs_real(), path);
}

/* Only what drills make: DIR/journal/… and the files of DIR; directories stay empty. */
static void clear(const drill *d) {
    static const char *const names[] = {"base",     "store", "store-again", "index",
                                        "provider", "loss",  "content"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char dir[PATH_BYTES], log[PATH_BYTES + 16];
        sub(d, names[i], dir);
        snprintf(log, sizeof log, "%s/journal", dir);
        if (!fs_exists(fs_real(), dir)) continue;
        err rc = fs_list(fs_real(), log, remove_name, log);
        if (rc == OK) remove(log);
        rc = fs_list(fs_real(), dir, remove_name, dir);
        if (rc == OK) remove(dir);
    }
    remove(d->root);
}

static void say(const drill *d, const drill_result *r, int n, bool first) {
    if (d->r.json)
        term_out("%s{\"drill\":%d,\"ok\":%s,\"rpo_records\":%llu,\"rpo_s\":%.3f,\"rto_s\":%.3f,"
                 "\"checked\":%llu,\"what\":\"%s\"}",
                 first ? "" : ",", n, r->ok ? "true" : "false", (unsigned long long)d->rpo_records,
                 d->rpo_s, r->rto_s, (unsigned long long)r->checked, r->what);
    else
        term_out("drill %d  %-6s  RPO %llu records, %.2f s   RTO %.2f s   checked %llu   %s\n", n,
                 r->ok ? "ok" : "FAILED", (unsigned long long)d->rpo_records, d->rpo_s, r->rto_s,
                 (unsigned long long)r->checked, r->what);
}

static bool run_one(drill *d, int n, bool first) {
    static err (*const drills[DRILLS])(drill *, drill_result *) = {drill_store, drill_index,
                                                                   drill_provider, drill_loss};
    drill_result r = {0};
    err rc = drills[n - 1](d, &r);
    r.ok = rc == OK;
    if (!r.ok) {
        str why = utf8_cut(str_of(err_detail()), sizeof r.what - 1);
        for (size_t i = 0; i < why.len; i++) r.what[i] = why.ptr[i] == '"' ? '\'' : why.ptr[i];
        r.what[why.len] = 0;
    }
    say(d, &r, n, first);
    return r.ok;
}

static int run_all(drill *d, uint64_t which) {
    err rc = prepare(d);
    if (rc != OK) return term_fail(rc);
    bool ok = true, first = true;
    if (d->r.json) term_out("[");
    for (int n = 1; n <= DRILLS; n++) {
        if (which && which != (uint64_t)n) continue;
        ok = run_one(d, n, first) && ok;
        first = false;
    }
    if (d->r.json) term_out("]\n");
    return ok ? 0 : 1;
}

/* 0: all. */
static err which_one(const char *text, uint64_t *which) {
    *which = 0;
    if (strcmp(text, "all") == 0) return OK;
    if (str_to_u64(str_of(text), which) && *which >= 1 && *which <= DRILLS) return OK;
    return err_set(ERR_INVALID, "expected 1, 2, 3, 4 or all, got '%s'", text);
}

int command_drill(int argc, char **argv) {
    drill *d = mem_zalloc(1, sizeof *d);
    if (!d) return term_fail(ERR_NO_MEMORY);
    d->r = REMOTE_FLAGS_INIT;
    d->scratch = "/var/tmp";
    const arg args[] = {
        {"data", ARG_STR, &d->r.data, "DIR", "the live directory, to measure RPO (only read)",
         "KITH_DIR"},
        {"archive", ARG_STR, &d->r.archive, "URL", "dir:PATH, s3://… or gs://…", "KITH_ARCHIVE"},
        {"master-key", ARG_STR, &d->r.master_key, "FILE", "64 hex digits", "KITH_MASTER_KEY_FILE"},
        {"scratch", ARG_STR, &d->scratch, "DIR", "where copies are made (default /var/tmp)", NULL},
        {"json", ARG_BOOL, &d->r.json, NULL, "print JSON, for scripts", NULL},
    };
    args_spec spec = {.command = "drill",
                      .usage = "kith drill [flags] 1 | 2 | 3 | 4 | all",
                      .about =
                          "Rehearses disasters on a copy from the archive: 1 store and journal "
                          "damaged, 2 index damaged, 3 no embedding provider, 4 complete loss.",
                      .examples = "  kith drill all --data DIR --archive s3://bucket/kith\n",
                      .args = args,
                      .count = COUNT_OF(args),
                      .positional_min = 1,
                      .positional_max = 1};
    uint64_t which;
    err rc = args_parse(&spec, argc, argv);
    if (rc == OK) rc = which_one(spec.positional[0], &which);
    if (rc == OK) rc = seal_master_load(d->r.master_key, &d->master);
    rng_seed(&d->random, clock_mono_ns());
    int code = rc == ERR_CANCELLED ? 0 : rc != OK ? term_fail(rc) : run_all(d, which);
    if (d->root[0]) clear(d);
    mem_free(d);
    return code;
}
