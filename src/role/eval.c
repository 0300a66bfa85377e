/* Evaluation goes the way of the product: posts through the journal into a shard, queries through
 * search/, so what is measured is what users get. Only HTTP is left out.
 *
 * Documents are embedded here in batches sorted by nothing, as they come, and put with their vectors;
 * one journal append a batch. Those that the shard already has as they are (a directory that is used
 * again) are skipped, so a second mode or a changed ranking costs only the queries.
 *
 * Judgements are kept per query as a map from document to grade. A judged document that is not among
 * the documents counts in the ideal order and in recall: leaving it out would flatter us.
 */
#include "role/eval.h"

#include "base/json.h"
#include "ingest/ingest.h"
#include "search/search.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    BATCH_MAX = 256,
    QUERIES_MAX = 1 << 20,
    JUDGED_MAX = 100000, /* of one query */
    RANKS = 10,
    WAIT_MS = 600000
};

typedef struct judged {
    str doc;
    int64_t grade;
} judged;

typedef struct judged_query {
    judged *items;
    size_t count, cap;
} judged_query;

typedef struct eval {
    const eval_options *o;
    eval_result *r;
    shard *shard;
    searcher *searcher;
    arena keep;    /* ids and judgements: the whole run */
    arena batch;   /* documents of a batch, one query */
    strmap *index; /* query id -> queries[] */
    judged_query *queries;
    size_t n_queries, queries_cap;
    double *us;
    size_t n_us, us_cap;
    char dir[64];
    bool temporary;
} eval;

static void progress(const eval *e, const char *what, uint64_t done, uint64_t total) {
    if (e->o->progress) e->o->progress(e->o->progress_ctx, what, done, total);
}

/* Calls each for every line of a file; empty lines are skipped. */
static err each_line(const char *path, err (*each)(eval *e, str line), eval *e) {
    lines *l;
    TRY(lines_open(path, &l));
    err rc;
    for (uint64_t n = 1;; n++) {
        str line;
        bool cut;
        rc = lines_next(l, &line, &cut);
        if (rc == ERR_NOT_FOUND) {
            rc = OK;
            break;
        }
        if (rc == OK && cut) rc = err_set(ERR_TOO_LARGE, "longer than %zu bytes", LINES_MAX_BYTES);
        if (rc == OK && str_trim(line).len) rc = each(e, str_trim(line));
        if (rc == OK) continue;
        char copy[256]; /* err_set writes where err_detail lies */
        str why = utf8_cut(str_of(err_detail()), sizeof copy);
        memcpy(copy, why.ptr, why.len);
        rc = err_set(rc, "%s line %llu: %.*s", path, (unsigned long long)n, (int)why.len, copy);
        break;
    }
    lines_close(l);
    return rc;
}

/* ---- judgements --------------------------------------------------------------------------- */

static err keep_str(eval *e, str *s) {
    s->ptr = arena_dup(&e->keep, *s);
    return s->ptr ? OK : ERR_NO_MEMORY;
}

static err judged_at(eval *e, str id, judged_query **out) {
    uint32_t at = strmap_get(e->index, id);
    if (at == MAP_NONE) {
        TRY(mem_grow((void **)&e->queries, &e->queries_cap, e->n_queries + 1, sizeof *e->queries,
                     QUERIES_MAX));
        at = (uint32_t)e->n_queries++;
        e->queries[at] = (judged_query){0};
        TRY(strmap_put(e->index, id, at));
    }
    *out = &e->queries[at];
    return OK;
}

static err qrels_line(eval *e, str line) {
    str qid, doc, grade;
    judged j;
    judged_query *q;
    if (!str_split(&line, '\t', &qid) || !str_split(&line, '\t', &doc) ||
        !str_split(&line, '\t', &grade) || !str_to_i64(str_trim(grade), &j.grade))
        return err_set(ERR_INVALID, "expected: query id, tab, document id, tab, grade");
    if (j.grade > 30) return err_set(ERR_INVALID, "expected a grade up to 30");
    TRY(judged_at(e, qid, &q));
    j.doc = doc;
    TRY(keep_str(e, &j.doc));
    TRY(mem_grow((void **)&q->items, &q->cap, q->count + 1, sizeof *q->items, JUDGED_MAX));
    q->items[q->count++] = j;
    return OK;
}

/* ---- documents ---------------------------------------------------------------------------- */

typedef struct batch {
    Kith__V1__Post *posts;
    str texts[BATCH_MAX];
    shard_item items[BATCH_MAX];
    size_t count;
} batch;

static char *field(yyjson_val *v, const char *name, arena *a) {
    str s = json_str(yyjson_obj_get(v, name));
    return s.len ? arena_dup(a, s) : (char *)(uintptr_t) "";
}

static err post_of(str line, arena *a, Kith__V1__Post *p) {
    yyjson_doc *d;
    TRY(json_parse(line, &d));
    yyjson_val *v = yyjson_doc_get_root(d);
    kith__v1__post__init(p);
    str text = utf8_cut(json_str(yyjson_obj_get(v, "text")), POST_TEXT_MAX);
    p->text = text.len ? arena_dup(a, text) : (char *)(uintptr_t) "";
    p->id = field(v, "id", a);
    p->author = field(v, "author", a);
    p->channel = field(v, "channel", a);
    p->reply_to = field(v, "reply_to", a);
    p->lang = field(v, "lang", a);
    Google__Protobuf__Timestamp *t = arena_alloc(a, sizeof *t);
    bool ok = t && p->text && p->id && p->author && p->channel && p->reply_to && p->lang;
    int64_t ms = 0; /* without a time: 1970, so that a second run finds the same post */
    if (ok) {
        if (!time_parse(json_str(yyjson_obj_get(v, "created_at")), &ms)) ms = 0;
        google__protobuf__timestamp__init(t);
        t->seconds = (ms - (ms % 1000 + 1000) % 1000) / 1000;
        t->nanos = (int32_t)((ms % 1000 + 1000) % 1000) * 1000000;
        p->created_at = t;
    }
    yyjson_doc_free(d);
    return ok ? OK : ERR_NO_MEMORY;
}

static err batch_put(eval *e, batch *b) {
    uint32_t dim = provider_dim(e->o->provider);
    size_t most = provider_texts_max(e->o->provider);
    uint64_t lsn;
    if (b->count == 0) return OK;
    float *v = arena_alloc(&e->batch, b->count * dim * sizeof *v);
    if (!v) return ERR_NO_MEMORY;
    for (size_t i = 0; i < b->count; i += most)
        TRY(provider_embed(e->o->provider, b->texts + i, MIN(most, b->count - i), EMBED_DOCUMENT,
                           v + i * dim, NULL));
    for (size_t i = 0; i < b->count; i++) b->items[i].vector = v + i * dim;
    TRY(shard_put(e->shard, b->items, b->count, &lsn));
    b->count = 0;
    arena_reset(&e->batch);
    progress(e, "documents", e->r->docs, 0);
    return OK;
}

static err batch_line(eval *e, batch *b, str line) {
    Kith__V1__Post *p = arena_alloc(&e->batch, sizeof *p);
    uint64_t lsn;
    if (!p) return ERR_NO_MEMORY;
    TRY(post_of(line, &e->batch, p));
    if (!p->text[0]) return OK; /* some collections have empty documents: never found */
    TRY(shard_check_post(p));
    e->r->docs++;
    if (shard_has_same(e->shard, p, NULL, &lsn)) return OK;
    b->texts[b->count] = str_of(p->text);
    b->items[b->count++].post = p;
    return b->count == BATCH_MAX ? batch_put(e, b) : OK;
}

typedef struct loading {
    eval e; /* first: each_line hands it on */
    batch b;
} loading;

static batch *batch_of(eval *e) {
    return &((loading *)(void *)e)->b;
}

static err doc_line(eval *e, str line) {
    return batch_line(e, batch_of(e), line);
}

/* Until every post that has a vector is in the graph. */
static err wait_searchable(eval *e) {
    TRY(shard_wait(e->shard, STR(""), shard_head(e->shard), WAIT_APPLIED, WAIT_MS));
    for (unsigned ms = 0; ms < WAIT_MS; ms += 10) {
        shard_stats st;
        TRY(shard_stat(e->shard, &st));
        if (st.vectors + st.failed + st.pending >= st.posts) return OK;
        clock_sleep_ms(10);
    }
    return err_set(ERR_TIMEOUT, "eval: the graph is not done after %d s", WAIT_MS / 1000);
}

/* ---- one query ---------------------------------------------------------------------------- */

static int64_t grade_of(const judged_query *q, str doc) {
    for (size_t i = 0; i < q->count; i++)
        if (str_eq(q->items[i].doc, doc)) return MAX(q->items[i].grade, 0);
    return 0;
}

static int by_grade(const void *x, const void *y) {
    const judged *a = x, *b = y;
    return a->grade > b->grade ? -1 : a->grade < b->grade;
}

static double gain(int64_t grade, bool linear) {
    return linear ? (double)grade : exp2((double)grade) - 1;
}

/* q->items sorted by falling grade. */
static double ndcg(const judged_query *q, const str *ids, size_t n, bool linear) {
    double got = 0, ideal = 0;
    for (size_t i = 0; i < RANKS; i++) {
        double discount = log2((double)i + 2);
        if (i < n) got += gain(grade_of(q, ids[i]), linear) / discount;
        if (i < q->count) ideal += gain(MAX(q->items[i].grade, 0), linear) / discount;
    }
    return got / ideal;
}

static void score_query(eval *e, judged_query *q, const str *ids, size_t n) {
    size_t positive = 0, found = 0, first = 0;
    for (size_t i = 0; i < q->count; i++) positive += q->items[i].grade > 0;
    for (size_t i = n; i-- > 0;) {
        if (grade_of(q, ids[i]) == 0) continue;
        found++;
        first = i + 1;
    }
    e->r->ndcg_10 += ndcg(q, ids, n, false);
    e->r->ndcg_linear_10 += ndcg(q, ids, n, true);
    e->r->recall_100 += (double)found / (double)positive;
    if (first > 0 && first <= RANKS) e->r->mrr_10 += 1.0 / (double)first;
    e->r->queries++;
}

static err ask(eval *e, str id, str text, judged_query *q) {
    Kith__V1__SearchRequest req;
    str plain;
    search_id_list ids;
    kith__v1__search_request__init(&req);
    TRY(search_literal(text, &e->batch, &plain));
    req.q = arena_dup(&e->batch, plain);
    if (!req.q) return ERR_NO_MEMORY;
    if (e->o->mode) req.mode = (char *)(uintptr_t)e->o->mode;
    uint64_t start = clock_mono_ns();
    TRY(search_ids(e->searcher, &req, id, EVAL_RECALL_DEPTH, &e->batch, &ids));
    TRY(mem_grow((void **)&e->us, &e->us_cap, e->n_us + 1, sizeof *e->us, QUERIES_MAX));
    e->us[e->n_us++] = (double)(clock_mono_ns() - start) / 1000;
    score_query(e, q, ids.items, ids.count);
    return OK;
}

static err query_line(eval *e, str line) {
    yyjson_doc *d;
    TRY(json_parse(line, &d));
    yyjson_val *v = yyjson_doc_get_root(d);
    str id = json_str(yyjson_obj_get(v, "id")), text = json_str(yyjson_obj_get(v, "text"));
    uint32_t at = id.len ? strmap_get(e->index, id) : MAP_NONE;
    err rc = OK;
    if (at != MAP_NONE && text.len) {
        judged_query *q = &e->queries[at];
        qsort(q->items, q->count, sizeof *q->items, by_grade);
        if (q->items[0].grade > 0) rc = ask(e, id, text, q);
        arena_reset(&e->batch);
        progress(e, "queries", e->r->queries, 0);
    }
    yyjson_doc_free(d);
    return rc;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static int by_value(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static void finish(eval *e) {
    eval_result *r = e->r;
    double n = (double)MAX(r->queries, 1);
    r->ndcg_10 /= n, r->ndcg_linear_10 /= n, r->recall_100 /= n, r->mrr_10 /= n;
    if (e->n_us == 0) return;
    qsort(e->us, e->n_us, sizeof *e->us, by_value);
    r->p50_us = e->us[e->n_us / 2];
    r->p99_us = e->us[MIN(e->n_us * 99 / 100, e->n_us - 1)];
}

static err open_shard(eval *e) {
    const eval_options *o = e->o;
    e->temporary = o->dir == NULL;
    strbuf b;
    strbuf_init(&b, sizeof e->dir);
    strbuf_addf(&b, "/tmp/kith-eval-%016llx",
                (unsigned long long)hash64_u64(clock_mono_ns() ^ (uint64_t)getpid() << 40));
    if (b.rc == OK) memcpy(e->dir, b.ptr, b.len + 1);
    err rc = b.rc;
    strbuf_deinit(&b);
    TRY(rc);
    shard_options so = {.fs = fs_real(),
                        .dir = e->temporary ? e->dir : o->dir,
                        .space = provider_space(o->provider),
                        .dim = provider_dim(o->provider)};
    TRY(shard_open(&so, &e->shard));
    return searcher_open(e->shard, o->provider, &e->searcher);
}

/* A shard's directory holds files, and folders of files, and nothing deeper. */
static err remove_file(void *ctx, const char *name) {
    arena a;
    arena_init(&a, 64 * KIB);
    str path = arena_printf(&a, "%s/%s", (const char *)ctx, name);
    err rc = path.ptr ? fs_unlink(fs_real(), path.ptr) : ERR_NO_MEMORY;
    arena_deinit(&a);
    return rc;
}

static err remove_dir(const char *path) {
    TRY(fs_list(fs_real(), path, remove_file, (void *)(uintptr_t)path));
    return rmdir(path) == 0 ? OK : err_set(ERR_IO, "%s: cannot be removed", path);
}

static err remove_name(void *ctx, const char *name) {
    arena a;
    arena_init(&a, 64 * KIB);
    str path = arena_printf(&a, "%s/%s", (const char *)ctx, name);
    err rc = path.ptr ? fs_unlink(fs_real(), path.ptr) : ERR_NO_MEMORY;
    if (path.ptr && rc != OK) rc = remove_dir(path.ptr);
    arena_deinit(&a);
    return rc;
}

static err close_shard(eval *e) {
    searcher_close(e->searcher);
    if (e->shard) shard_close(e->shard);
    if (!e->temporary || !fs_exists(fs_real(), e->dir)) return OK;
    TRY(fs_list(fs_real(), e->dir, remove_name, e->dir));
    return remove_dir(e->dir);
}

err eval_run(const eval_options *o, eval_result *out) {
    loading *l = mem_zalloc(1, sizeof *l);
    if (!l) return ERR_NO_MEMORY;
    eval *e = &l->e;
    *out = (eval_result){0};
    e->o = o;
    e->r = out;
    arena_init(&e->keep, 4 * GIB);
    arena_init(&e->batch, GIB);
    err rc = OK;
    uint64_t start = clock_mono_ns();
    e->index = strmap_new();
    if (!e->index) TRY_GOTO(ERR_NO_MEMORY);
    TRY_GOTO(each_line(o->qrels, qrels_line, e));
    TRY_GOTO(open_shard(e));
    TRY_GOTO(each_line(o->docs, doc_line, e));
    TRY_GOTO(batch_put(e, &l->b));
    TRY_GOTO(wait_searchable(e));
    out->index_s = (double)(clock_mono_ns() - start) / 1e9;
    TRY_GOTO(each_line(o->queries, query_line, e));
    finish(e);
done:
    if (close_shard(e) != OK && rc == OK) rc = ERR_IO;
    for (size_t i = 0; i < e->n_queries; i++) mem_free(e->queries[i].items);
    mem_free(e->queries);
    mem_free(e->us);
    strmap_free(e->index);
    arena_deinit(&e->keep);
    arena_deinit(&e->batch);
    mem_free(l);
    return rc;
}
