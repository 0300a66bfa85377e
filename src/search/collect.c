/* From candidates to a full page. Candidates are taken best first; each is refused when its author or
 * thread is at the cap, or when the store no longer has the row that was ranked (it was changed or
 * deleted since). When they are used up and the page is not full, the retrievers are asked again,
 * deeper, without what was looked at and without the authors and threads that are full. So a page is
 * short only when no more posts match, and a prolific author costs one more round, not an empty page.
 *
 * The first page fixes `as_of`: rounds after it, and pages after it, see only rows that had come by
 * then. Order within the page is by score even when a deeper round found a better one late.
 *
 * Every round looks at documents that no round before did, and depth doubles, so this ends; the round
 * limit is a second lock on that door.
 */
#include "search/search_int.h"

#include <stdlib.h>

typedef struct page {
    searcher *x;
    plan *p;
    round_state r;
    arena *a;
    found *items;
    size_t count;
    uint32_t *looked; /* documents taken from candidates, hits or not */
    size_t n_looked, looked_cap;
} page;

static err look(page *g, uint32_t doc) {
    TRY(mem_grow((void **)&g->looked, &g->looked_cap, g->n_looked + 1, sizeof *g->looked,
                 (size_t)4 * SEARCH_CANDIDATES_MAX * SEARCH_ROUNDS_MAX));
    g->looked[g->n_looked++] = doc;
    g->r.given = g->looked;
    g->r.n_given = g->n_looked;
    return OK;
}

static err take(page *g, store_reader *rd, const candidate *c) {
    found *f = &g->items[g->count];
    TRY(look(g, c->doc));
    *f = (found){.c = *c};
    err rc = store_get_doc(rd, c->doc, g->a, &f->row);
    if (rc == ERR_NOT_FOUND) return OK;
    TRY(rc);
    if (f->row.rev != c->rev) return OK;
    const Kith__V1__Post *post = f->row.post;
    tally_add(&g->r.authors, c->author, str_of(post->author));
    tally_add(&g->r.threads, c->root, str_of(post->thread));
    g->count++;
    return OK;
}

static bool at_cap(const page *g, const candidate *c) {
    return tally_full(&g->r.authors, c->author) || tally_full(&g->r.threads, c->root);
}

/* Until the page is full; *left: some that could have been taken were not needed. */
static err take_all(page *g, const candidates *c, bool *left) {
    store *st = shard_store(g->x->shard);
    store_reader *rd = store_reader_get(st);
    err rc = OK;
    size_t i = 0;
    for (; i < c->count && g->count < g->p->limit && rc == OK; i++)
        if (!at_cap(g, &c->items[i])) rc = take(g, rd, &c->items[i]);
    store_reader_put(st, rd);
    *left = false;
    for (; i < c->count && !*left; i++) *left = !at_cap(g, &c->items[i]);
    return rc;
}

/* Other candidates of a hit's thread. A candidate is in one round only: afterwards it was looked at,
 * or its thread is full. */
static void count_threads(page *g, const candidates *c) {
    for (size_t i = 0; i < c->count; i++)
        for (size_t k = 0; k < g->count; k++)
            if (g->items[k].c.root && g->items[k].c.root == c->items[i].root)
                g->items[k].more_in_thread += g->items[k].c.doc != c->items[i].doc;
}

static int by_rank(const void *x, const void *y) {
    const found *a = x, *b = y;
    if (a->c.fused.score != b->c.fused.score) return a->c.fused.score > b->c.fused.score ? -1 : 1;
    if (a->c.fused.score != 0) return a->c.doc < b->c.doc ? -1 : 1;
    return 0;
}

static size_t first_depth(const plan *p) {
    size_t d = MAX((size_t)SEARCH_CANDIDATES_MIN, 2 * p->limit);
    if (p->recency > 0) d *= 4; /* freshness can lift what is far down */
    if (p->group || p->max_per_author || p->max_per_thread) d *= 2;
    return MIN(d, (size_t)SEARCH_CANDIDATES_MAX);
}

static err rounds(page *g, bool *more) {
    size_t depth = first_depth(g->p);
    for (unsigned i = 0; i < SEARCH_ROUNDS_MAX; i++) {
        candidates c;
        bool left;
        TRY(retrieve(g->x, g->p, &g->r, depth, &c));
        TRY(take_all(g, &c, &left));
        lap(&g->r.scratch->laps, STAGE_HYDRATE);
        if (g->p->group) count_threads(g, &c);
        *more = c.more || left;
        if (g->count == g->p->limit || !c.more) return OK;
        depth = MIN(depth * 2, SEARCH_CANDIDATES_MAX);
    }
    return OK;
}

err collect(searcher *x, plan *p, search_scratch *s, arena *a, collection *out) {
    page g = {.x = x, .p = p, .a = a};
    bool more = false;
    size_t room = SEARCH_DEPTH_MAX - MIN(p->cursor.count, SEARCH_DEPTH_MAX);
    p->limit = MIN(p->limit, room);
    g.r.scratch = s;
    g.r.arena = a;
    g.r.as_of = p->paged ? p->cursor.as_of : 0;
    uint32_t per_thread = p->group ? 1 : p->max_per_thread;
    err rc = OK;
    TRY_GOTO(tally_init(&g.r.authors, p->max_per_author, a));
    TRY_GOTO(tally_init(&g.r.threads, per_thread, a));
    g.items = arena_alloc(a, (p->limit + 1) * sizeof *g.items);
    if (!g.items) TRY_GOTO(ERR_NO_MEMORY);
    TRY_GOTO(rounds(&g, &more));
    if (g.r.rounds > 1 && p->mode != MODE_LATEST) qsort(g.items, g.count, sizeof *g.items, by_rank);
    p->cursor.as_of = p->paged ? p->cursor.as_of : g.r.lsn;
    *out =
        (collection){.items = g.items, .count = g.count, .lsn = g.r.lsn, .matching = g.r.matching};
    out->full = more && g.count == p->limit && p->cursor.count + g.count < SEARCH_DEPTH_MAX &&
                p->cursor.count + g.count < g.r.matching;
done:
    mem_free(g.looked);
    return rc;
}
