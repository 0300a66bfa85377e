/* hnsw_search: walks over codes, re-ranking, filters, exact scans.
 *
 * A walk keeps one pool of the best `ef` nodes, sorted, and follows the links of the best one not yet
 * followed until all in the pool are. For each node it (1) reads the links, drops those seen, and
 * prefetches the codes of the first AHEAD; (2) prefetches the links of the node that will likely be next;
 * (3) scores SCORED codes while as many more are on their way; (4) lets a SIMD comparison pick those that
 * beat the pool's worst; (5) inserts these few. Memory latency is thus paid once a hop, not once a neighbour.
 * (Asking for all codes of a hop at once fills the processor's list of outstanding lines, and it waits there
 * with nothing to do; docs/index.md has the figures.)
 *
 * The pool's best are then scored with half-precision vectors (rerank): 4-bit codes put the
 * true 10 nearest among their own best 30 nearly always (docs/index.md).
 *
 * Filters. The walk goes through all nodes, but a second list, `found`, takes only those that match; the
 * walk ends when the best node left is worse than all of a full `found`, and what is worse than
 * that is not even kept, so it widens by itself where few match. The rarer the matches, the longer that
 * takes; below a share (scan_is_cheaper) scoring all matches by code is cheaper and more exact. And
 * whatever the walk gives, when it found fewer than k the scan is run: a filter never returns fewer
 * than k when k match.
 *
 * A walk at ef 64 touches 66 times 256 bytes of links and 1,900 codes of 128 bytes (150,000 nodes).
 */
#include "index/flat.h"
#include "index/hnsw_int.h"
#include <math.h>

#define SEEDS        4u   /* entries that a walk starts from */
#define RERANK_MIN   64u  /* nodes that may be scored exactly, or 4 k */
#define RERANK_LEAST 12u  /* and that are, at least, or k */
#define RERANK_AHEAD 4u   /* vectors prefetched before the one being scored */
#define SURE         3.0f /* standard deviations */
#define AHEAD        16u  /* codes of a hop asked for before the first is scored, */
#define SCORED       8u   /* and then as many as are scored at a time */
#define SCAN_BATCH   64u  /* codes compared with the worst at once in a scan */
#define SCAN_AHEAD   48u  /* codes asked for before the one being scored in a scan of all */
#define POOL_MAX     HNSW_EF_MAX
#define SCAN_MIN     2000u /* so few matches are always scanned */

/* ---- pools ---- */

size_t hnsw_pool_add(hnsw_pool *p, float score, uint32_t id) {
    if (p->count == p->max) {
        if (p->count == 0 || !(score > p->score[p->count - 1])) return SIZE_MAX;
        p->count--;
    }
    return vec_best->insert(p->score, p->id, p->count++, score, id);
}

static float pool_threshold(const hnsw_pool *p) {
    return p->count == p->max && p->count ? p->score[p->count - 1] : -4.0f; /* below any cosine */
}

static void pool_open(hnsw_pool *p, size_t max) {
    KITH_ASSERT(max <= p->cap);
    p->count = 0;
    p->max = max;
}

/* ---- walk ---- */

typedef struct gate { /* which nodes a filtered search wants */
    const hnsw_query *q;
    hnsw_pool *found; /* NULL: no filter */
} gate;

static bool doc_passes(const hnsw_query *q, uint32_t doc) {
    return !q->filter || (doc < q->filter_docs && bits_get(q->filter, doc));
}

static bool node_passes(const hnsw *h, const hnsw_query *q, uint32_t id) {
    for (uint32_t at = *node_doc(h, id); at != NONE; at = doc_after(h, at))
        if (doc_passes(q, doc_at(at))) return true;
    return false;
}

/* Adds the best few entries to the pool. */
static void walk_start(const hnsw *h, const codes_query *q, hnsw_scratch *s, const gate *g) {
    const uint8_t *codes[ENTRY_MAX];
    float score[ENTRY_MAX];
    for (uint32_t i = 0; i < h->entry_count; i++)
        codes[i] = h->entry_codes + (size_t)i * h->code_stride;
    codes_score(q, codes, h->entry_count, score);
    hnsw_pool best = {(float[SEEDS + 16]){0}, (uint32_t[SEEDS + 16]){0}, 0, SEEDS, SEEDS};
    for (uint32_t i = 0; i < h->entry_count; i++)
        if (score[i] > pool_threshold(&best)) hnsw_pool_add(&best, score[i], i);
    for (size_t i = 0; i < best.count; i++) {
        uint32_t id = h->entries[best.id[i]];
        bits_set(s->seen, id);
        hnsw_pool_add(&s->pool, best.score[i], id);
        if (g->found && node_passes(h, g->q, id)) hnsw_pool_add(g->found, best.score[i], id);
    }
}

static void prefetch(const void *p, size_t size) {
    for (size_t at = 0; at < size; at += 64) __builtin_prefetch((const char *)p + at, 0, 3);
}

/* Collects the links of `id` not seen yet, marks them, prefetches their codes. */
static size_t links_fresh(const hnsw *h, uint32_t id, uint64_t *seen, uint32_t *fresh,
                          const uint8_t **codes) {
    const uint32_t *links = node_links(h, id);
    size_t n = 0, count = links[0], stride = h->code_stride;
    for (size_t i = 1; i <= count; i++) {
        uint32_t to = links[i];
        uint64_t word = seen[to >> 6], bit = (uint64_t)1 << (to & 63);
        const uint8_t *code = node_code(h, to);
        fresh[n] = to;
        codes[n] = code;
        n += !(word & bit);
        seen[to >> 6] = word | bit;
        if ((word & bit) || n > AHEAD) continue; /* score_ahead asks for those */
        __builtin_prefetch(code, 0, 2);
        if (stride > 64) __builtin_prefetch(code + 64, 0, 2);
    }
    return n;
}

/* Scores codes, the first AHEAD of which are on their way; asks for as many more as it scores at a time. */
static void score_ahead(const hnsw *h, const codes_query *q, const uint8_t **codes, size_t n,
                        float *score) {
    for (size_t i = 0; i < n; i += SCORED) {
        for (size_t j = i + AHEAD; j < MIN(i + AHEAD + SCORED, n); j++)
            prefetch(codes[j], h->code_stride);
        codes_score(q, codes + i, MIN(SCORED, n - i), score + i);
    }
}

/* The first place from `at` on whose links were not followed; count when none. */
static size_t pool_next(const hnsw_pool *p, size_t at) {
    while (at < p->count && (p->id[at] & WALKED)) at++;
    return at;
}

/* Follows the links of the pool's entry `at`; the place to go on from is returned. */
static size_t walk_hop(const hnsw *h, const codes_query *q, hnsw_scratch *s, const gate *g,
                       size_t at) {
    uint32_t fresh[HNSW_DEGREE_MAX];
    const uint8_t *codes[HNSW_DEGREE_MAX];
    float score[HNSW_DEGREE_MAX];
    uint16_t better[HNSW_DEGREE_MAX];
    hnsw_pool *p = &s->pool;
    uint32_t id = p->id[at];
    p->id[at] = id | WALKED;
    size_t n = links_fresh(h, id, s->seen, fresh, codes);
    size_t next = pool_next(p, at + 1);
    size_t links_size = h->link_stride * sizeof(uint32_t);
    if (next < p->count) prefetch(node_links(h, p->id[next]), links_size);
    score_ahead(h, q, codes, n, score);
    if (g->found) {
        size_t m = vec_above(score, n, pool_threshold(g->found), better);
        for (size_t i = 0; i < m; i++)
            if (node_passes(h, g->q, fresh[better[i]]))
                hnsw_pool_add(g->found, score[better[i]], fresh[better[i]]);
    }
    float worst = pool_threshold(p); /* what is worse than all of a full `found` leads nowhere */
    if (g->found) worst = MAX(worst, pool_threshold(g->found));
    size_t m = vec_above(score, n, worst, better);
    size_t first = at + 1;
    for (size_t i = 0; i < m; i++) {
        size_t place = hnsw_pool_add(p, score[better[i]], fresh[better[i]]);
        if (place >= first) continue;
        first = place; /* likely to be next: its links are wanted soon */
        prefetch(node_links(h, fresh[better[i]]), links_size);
    }
    return first;
}

static void walk(const hnsw *h, const codes_query *q, size_t ef, hnsw_scratch *s, const gate *g) {
    memset(s->seen, 0, bits_words(h->top) * sizeof *s->seen);
    pool_open(&s->pool, ef);
    walk_start(h, q, s, g);
    size_t at = 0;
    while ((at = pool_next(&s->pool, at)) < s->pool.count) {
        const hnsw_pool *f = g->found;
        if (f && f->count == f->max && s->pool.score[at] < f->score[f->count - 1]) break;
        at = walk_hop(h, q, s, g, at);
    }
    for (size_t i = 0; i < s->pool.count; i++) s->pool.id[i] &= ~WALKED;
}

void hnsw_walk(const hnsw *h, const codes_query *q, size_t ef, hnsw_scratch *s) {
    walk(h, q, ef, s, &(gate){NULL, NULL});
}

/* ---- scan ---- */

typedef struct scan_batch {
    const hnsw *h;
    const codes_query *q;
    hnsw_pool *to;
    size_t n;
    uint32_t ids[SCAN_BATCH];
    const uint8_t *codes[SCAN_BATCH];
} scan_batch;

static void scan_flush(scan_batch *b) {
    float score[SCAN_BATCH];
    uint16_t better[SCAN_BATCH];
    codes_score(b->q, b->codes, b->n, score);
    size_t m = vec_above(score, b->n, pool_threshold(b->to), better);
    for (size_t i = 0; i < m; i++) hnsw_pool_add(b->to, score[better[i]], b->ids[better[i]]);
    b->n = 0;
}

static void scan_node(scan_batch *b, uint32_t id) {
    const uint8_t *code = node_code(b->h, id);
    prefetch(code, b->h->code_stride);
    b->ids[b->n] = id;
    b->codes[b->n++] = code;
    if (b->n == SCAN_BATCH) scan_flush(b);
}

/* Scores codes that lie side by side. The processor's own prefetching ends at each page, so they are asked
 * for here, SCAN_AHEAD before they are scored, in the `left` bytes that there are. */
static void scan_run(const codes_query *q, const uint8_t *first, size_t left, size_t n,
                     float *score) {
    const uint8_t *codes[SCAN_BATCH];
    for (size_t i = 0; i < n; i++) codes[i] = first + i * q->stride;
    for (size_t i = 0; i < n; i += SCORED) {
        size_t ahead = (i + SCAN_AHEAD) * q->stride, size = SCORED * q->stride;
        if (ahead + size <= left) prefetch(first + ahead, size);
        codes_score(q, codes + i, MIN(SCORED, n - i), score + i);
    }
}

/* The best by code among all nodes, in the order of memory. Free slots are told apart at the end. */
static void scan_all(const hnsw *h, hnsw_scratch *s) {
    float score[SCAN_BATCH];
    uint16_t better[SCAN_BATCH];
    for (uint32_t at = 0; at < h->top; at += SCAN_BATCH) { /* a chunk holds whole batches */
        size_t n = MIN(SCAN_BATCH, h->top - at);
        size_t left = (size_t)(NODE_CHUNK - slot_of(at)) << h->code_shift;
        scan_run(&s->query, node_code(h, at), left, n, score);
        size_t m = vec_above(score, n, pool_threshold(&s->found), better);
        for (size_t i = 0; i < m; i++)
            if (*node_doc(h, at + better[i]) != NONE)
                hnsw_pool_add(&s->found, score[better[i]], at + better[i]);
    }
}

/* The best by code among all nodes with a matching doc. */
static void scan(const hnsw *h, const hnsw_query *q, size_t keep, hnsw_scratch *s) {
    scan_batch b = {.h = h, .q = &s->query, .to = &s->found};
    pool_open(&s->found, keep);
    if (!q->filter) {
        scan_all(h, s);
    } else {
        memset(s->seen, 0, bits_words(h->top) * sizeof *s->seen);
        size_t docs = MIN(q->filter_docs, h->doc_cap);
        for (size_t w = 0; w < bits_words(docs); w++) {
            for (uint64_t bits = q->filter[w]; bits; bits &= bits - 1) {
                size_t doc = w * 64 + (size_t)__builtin_ctzll(bits);
                uint32_t id = doc < docs ? h->doc_node[doc] : NONE;
                if (id == NONE || bits_get(s->seen, id)) continue;
                bits_set(s->seen, id);
                scan_node(&b, id);
            }
        }
    }
    scan_flush(&b);
}

/* ---- re-ranking ---- */

static bool hit_before(hnsw_hit a, hnsw_hit b) {
    return a.score > b.score || (a.score == b.score && a.doc < b.doc);
}

/* Inserts into the sorted out[0..*n), which holds at most k. */
static void hit_add(hnsw_hit *out, size_t *n, size_t k, hnsw_hit hit) {
    if (*n == k && !hit_before(hit, out[k - 1])) return;
    size_t low = 0, high = *n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (hit_before(out[mid], hit))
            low = mid + 1;
        else
            high = mid;
    }
    size_t tail = MIN(*n, k - 1) - low;
    memmove(out + low + 1, out + low, tail * sizeof *out);
    out[low] = hit;
    if (*n < k) ++*n;
}

static void node_hits(const hnsw *h, const hnsw_query *q, uint32_t id, float score, hnsw_hit *out,
                      size_t *n) {
    for (uint32_t at = *node_doc(h, id); at != NONE; at = doc_after(h, at))
        if (doc_passes(q, doc_at(at))) hit_add(out, n, q->k, (hnsw_hit){doc_at(at), score});
}

/* The difference between exact scores and scores by code, learned while re-ranking: its mean and
 * spread (Welford's running variance). */
typedef struct drift {
    float n, mean, square;
} drift;

static void drift_add(drift *d, float x) {
    float delta = x - d->mean;
    d->n += 1.0f;
    d->mean += delta / d->n;
    d->square += delta * (x - d->mean);
}

/* The most that a score by code is likely to be off: SURE standard deviations over the mean. */
static float drift_bound(const drift *d) {
    return d->mean + SURE * sqrtf(d->square / d->n);
}

static void rerank_prefetch(const hnsw *h, uint32_t id) {
    prefetch(node_vector(h, id), h->vector_stride * sizeof(f16));
    __builtin_prefetch(node_doc(h, id), 0, 3);
}

/* Scores the pool's first nodes exactly, at most `count`; stops when the next ones, by what was seen of
 * their kind, will not enter the k best. */
static void rerank(const hnsw *h, const hnsw_query *q, const hnsw_pool *p, size_t count,
                   const float *unit, hnsw_hit *out, size_t *n) {
    size_t least = MAX(q->k, RERANK_LEAST);
    drift d = {0, 0, 0};
    *n = 0;
    for (size_t i = 0; i < MIN(count, RERANK_AHEAD); i++) rerank_prefetch(h, p->id[i]);
    for (size_t i = 0; i < count; i++) {
        if (i >= least && *n == q->k && p->score[i] + drift_bound(&d) < out[q->k - 1].score) break;
        if (i + RERANK_AHEAD < count) rerank_prefetch(h, p->id[i + RERANK_AHEAD]);
        float score = vec_dot_f16(node_vector(h, p->id[i]), unit, h->o.dim);
        drift_add(&d, score - p->score[i]);
        node_hits(h, q, p->id[i], score, out, n);
    }
}

/* How many nodes may be scored exactly. */
static size_t rerank_max(const hnsw_query *q) {
    return MAX((size_t)q->k * 4, RERANK_MIN);
}

/* ---- search ---- */

err hnsw_query_check(const hnsw *h, const hnsw_query *q) {
    if (q->k == 0 || q->k > HNSW_K_MAX)
        return err_set(ERR_INVALID, "search: k is %u, expected 1 to %u", q->k, HNSW_K_MAX);
    if (q->ef > HNSW_EF_MAX)
        return err_set(ERR_INVALID, "search: ef is %u, expected at most %u", q->ef, HNSW_EF_MAX);
    (void)h;
    return OK;
}

/* Docs that can match, as far as is known without looking. */
static size_t match_bound(const hnsw *h, const hnsw_query *q) {
    return q->filter ? MIN(q->filter_count, h->docs) : h->docs;
}

/* The costs measured at 150,000 x 384, in nanoseconds: a scan takes 12 a match; a walk takes 50 a node it
 * scores, about 34 of them for each place of ef, and more as the share that matches falls, by its
 * power of -0.6. They meet at a tenth of 150,000 and at three hundredths of a million. */
static bool scan_is_cheaper(const hnsw *h, size_t matches, size_t ef) {
    if (matches <= SCAN_MIN || ef >= h->live) return true;
    float share = (float)matches / (float)h->docs;
    return 12.0f * (float)matches <= 50.0f * 34.0f * (float)ef * powf(share, -0.6f);
}

/* How far a walk under a filter looks: `found` takes the best matches, `pool` leads the way. The walk ends
 * when nothing left is better than the worst of a full `found`, so pool may be large: it
 * is what keeps a walk going whose surroundings match less often than the filter as a whole. */
typedef struct reach {
    size_t found, pool;
} reach;

static reach reach_of(const hnsw *h, const hnsw_query *q, size_t matches, size_t ef) {
    if (!q->filter) return (reach){0, ef};
    float share = (float)MAX(matches, 1) / (float)MAX(h->docs, 1);
    size_t found = (size_t)((float)ef * powf(share, 0.4f));
    size_t pool = (size_t)((float)ef * 8.0f / share);
    return (reach){MAX(found, (size_t)q->k * 2), MIN(MAX(pool, (size_t)q->k), POOL_MAX)};
}

/* True when the walk filled the page. */
static bool search_walk(const hnsw *h, const hnsw_query *q, reach r, hnsw_scratch *s, hnsw_hit *out,
                        size_t *n) {
    gate g = {q, q->filter ? &s->found : NULL};
    if (g.found) pool_open(g.found, r.found);
    walk(h, &s->query, r.pool, s, &g);
    const hnsw_pool *p = g.found ? g.found : &s->pool;
    rerank(h, q, p, MIN(p->count, rerank_max(q)), s->unit, out, n);
    return *n == q->k;
}

err hnsw_search(const hnsw *h, const float *query, const hnsw_query *q, hnsw_scratch *s,
                hnsw_hit *out, size_t *n) {
    *n = 0;
    TRY(hnsw_query_check(h, q));
    if (!h->model) return flat_search_index(h, query, q, out, n);
    size_t matches = match_bound(h, q);
    size_t ef = MAX(q->ef ? q->ef : h->o.ef_default, q->k);
    reach r = reach_of(h, q, matches, ef);
    TRY(hnsw_scratch_fit(h, s, MAX(MAX(r.pool, r.found), rerank_max(q))));
    TRY(hnsw_unit(h->o.dim, query, s->unit));
    codes_query_set(h->model, s->unit, &s->query, s->tmp);
    if (!q->scan && !scan_is_cheaper(h, matches, ef) && search_walk(h, q, r, s, out, n)) return OK;
    scan(h, q, rerank_max(q), s);
    rerank(h, q, &s->found, s->found.count, s->unit, out, n);
    return OK;
}

err hnsw_score_docs(const hnsw *h, const float *query, const uint32_t *docs, size_t n,
                    float *scores) {
    float small[512];
    float *unit = h->o.dim <= COUNT_OF(small) ? small : mem_alloc(h->o.dim * sizeof *unit);
    if (!unit) return ERR_NO_MEMORY;
    err rc = hnsw_unit(h->o.dim, query, unit);
    for (size_t i = 0; rc == OK && i < n; i++) {
        bool there = hnsw_has(h, docs[i]);
        scores[i] = there ? vec_dot_f16(node_vector(h, h->doc_node[docs[i]]), unit, h->o.dim)
                          : HNSW_SCORE_ABSENT;
    }
    if (unit != small) mem_free(unit);
    return rc;
}
