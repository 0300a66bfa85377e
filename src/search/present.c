/* The answer: from hits to the message that the API sends. Strings point into rows that live in the
 * request's arena, so nothing is copied but snippets.
 *
 * What is marked: the query's words and the words of its phrases, each weighted by how rare it is in
 * the index now. Explanations are taken from the index again, term by term, under the words lock; a
 * post that changed in this instant keeps the score it was ranked by, and its terms are left out when
 * they no longer add up to it.
 *
 * Context: root and parent of a reply, read from the store. One that is missing or deleted is named
 * by its id instead, so that a client can show the gap.
 */
#include "search/search_int.h"

#define EMPTY ((char *)(uintptr_t) "")

typedef struct presenter {
    searcher *x;
    plan *p;
    search_scratch *s;
    arena *a;
    snippet_term *terms;
    size_t n_terms;
} presenter;

/* ---- snippet ------------------------------------------------------------------------------ */

static err weigh_terms(presenter *g) {
    shard_words w;
    const plan *p = g->p;
    g->terms = arena_zalloc(g->a, p->n_terms + 1, sizeof *g->terms);
    if (!g->terms) return ERR_NO_MEMORY;
    shard_words_begin(g->x->shard, &w);
    double docs = attrs_docs_live(w.attrs);
    for (size_t i = 0; i < p->n_terms && i < LEXICAL_TERMS_MAX; i++) {
        double df = lexical_df(w.words, p->terms[i].text);
        float weight = (float)(1.0 / (1.0 + 20 * df / (docs + 1)));
        if (p->query.n_phrases) weight = MAX(weight, SNIPPET_MARK_SHARE); /* marked whole */
        g->terms[g->n_terms++] = (snippet_term){p->terms[i].text, weight};
    }
    shard_words_end(g->x->shard);
    return OK;
}

static err show_snippet(presenter *g, const char *text, Kith__V1__Hit *hit) {
    snippet s;
    TRY(snippet_make(str_of(text), g->terms, g->n_terms, g->a, &s));
    hit->snippet = s.text.ptr == text ? (char *)(uintptr_t)text : arena_dup(g->a, s.text);
    hit->highlights = arena_alloc(g->a, (s.count + 1) * sizeof *hit->highlights);
    Kith__V1__Range *r = arena_alloc(g->a, (s.count + 1) * sizeof *r);
    if (!hit->snippet || !hit->highlights || !r) return ERR_NO_MEMORY;
    for (size_t i = 0; i < s.count; i++) {
        kith__v1__range__init(&r[i]);
        r[i].start = (int32_t)s.ranges[i].start;
        r[i].end = (int32_t)s.ranges[i].end;
        hit->highlights[i] = &r[i];
    }
    hit->n_highlights = s.count;
    return OK;
}

/* ---- context ------------------------------------------------------------------------------ */

static err look_for(presenter *g, store_reader *rd, char *id, Kith__V1__Post **post,
                    char **missing) {
    store_row row;
    err rc = store_get(rd, str_of(id), g->a, &row);
    if (rc == OK) *post = row.post;
    if (rc == ERR_NOT_FOUND) *missing = id;
    return rc == ERR_NOT_FOUND ? OK : rc;
}

static err show_context(presenter *g, store_reader *rd, Kith__V1__Hit *hit) {
    Kith__V1__Post *post = hit->post;
    if (!post->reply_to[0]) return OK;
    Kith__V1__Context *c = arena_alloc(g->a, sizeof *c);
    if (!c) return ERR_NO_MEMORY;
    kith__v1__context__init(c);
    hit->context = c;
    TRY(look_for(g, rd, post->reply_to, &c->parent, &c->missing_parent));
    if (!post->thread[0] || strcmp(post->thread, post->id) == 0) return OK;
    if (strcmp(post->thread, post->reply_to) == 0) {
        c->root = c->parent;
        c->missing_root = c->missing_parent;
        return OK;
    }
    return look_for(g, rd, post->thread, &c->root, &c->missing_root);
}

/* ---- explanation -------------------------------------------------------------------------- */

typedef struct shown {
    uint32_t rank;
    double raw, weight;
    const fuse_part *part;
    const char *rule;
} shown;

static err show_part(arena *a, shown s, Kith__V1__Part **out) {
    Kith__V1__Part *p = arena_alloc(a, sizeof *p);
    if (!p) return ERR_NO_MEMORY;
    kith__v1__part__init(p);
    p->rank = (int32_t)s.rank;
    p->raw = s.raw;
    p->normalized = s.part->normalized;
    p->weight = s.weight;
    p->contribution = s.part->contribution;
    p->rule = arena_dup(a, str_of(s.rule));
    *out = p;
    return p->rule ? OK : ERR_NO_MEMORY;
}

static err show_terms(arena *a, const lexical_explanation *x, Kith__V1__Explanation *e) {
    e->terms = arena_alloc(a, (x->n_parts + 1) * sizeof *e->terms);
    Kith__V1__TermScore *t = arena_alloc(a, (x->n_parts + 1) * sizeof *t);
    if (!e->terms || !t) return ERR_NO_MEMORY;
    for (size_t i = 0; i < x->n_parts; i++) {
        const lexical_part *p = &x->parts[i];
        if (p->tf == 0) continue;
        kith__v1__term_score__init(t);
        t->term = arena_dup(a, p->term); /* the query's own, but it need not end in NUL */
        if (!t->term) return ERR_NO_MEMORY;
        t->idf = (double)p->idf;
        t->tf = (int32_t)p->tf;
        t->score = (double)p->value;
        e->terms[e->n_terms++] = t++;
    }
    return OK;
}

static err explain_terms(presenter *g, const candidate *c, Kith__V1__Explanation *e) {
    lexical_query q = plan_lexical(g->p);
    shard_words w;
    if (q.n_terms == 0 || c->bm25 <= 0) return OK;
    lexical_explanation *x = arena_alloc(g->a, sizeof *x);
    if (!x) return ERR_NO_MEMORY;
    shard_words_begin(g->x->shard, &w);
    bool same = c->doc < w.doc_limit && w.rev[c->doc] == c->rev;
    err rc = same ? lexical_explain(w.words, &q, g->s->lexical, c->doc, x) : OK;
    shard_words_end(g->x->shard);
    TRY(rc);
    return same && x->score == c->bm25 ? show_terms(g->a, x, e) : OK;
}

static err show_explanation(presenter *g, const candidate *c, Kith__V1__Hit *hit) {
    const fuse_result *f = &c->fused;
    fuse_weights w = plan_weights(g->p);
    Kith__V1__Explanation *e = arena_alloc(g->a, sizeof *e);
    if (!e) return ERR_NO_MEMORY;
    kith__v1__explanation__init(e);
    hit->explain = e;
    if (g->p->mode == MODE_LATEST) w = (fuse_weights){0, 0, 0};
    str half = arena_printf(g->a, "2^(-age / %g h)", g->p->half_life_ms / 3600000);
    if (!half.ptr) return ERR_NO_MEMORY;
    double cosine = c->cosine > HNSW_SCORE_ABSENT ? (double)c->cosine : 0;
    bool pending = c->cosine <= HNSW_SCORE_ABSENT && f->meaning.normalized > 0;
    const char *meaning_rule = pending ? FUSE_PENDING_RULE : FUSE_MEANING_RULE;
    double age_h = (double)(g->p->cursor.now_ms - c->created_ms) / 3600000;
    TRY(show_part(g->a,
                  (shown){c->rank_words, (double)c->bm25, w.words, &f->words, FUSE_WORDS_RULE},
                  &e->words));
    TRY(show_part(g->a, (shown){c->rank_meaning, cosine, w.meaning, &f->meaning, meaning_rule},
                  &e->meaning));
    TRY(show_part(g->a, (shown){0, MAX(age_h, 0), w.recency, &f->recency, half.ptr}, &e->recency));
    return explain_terms(g, c, e);
}

/* ---- the whole ---------------------------------------------------------------------------- */

static err show_hit(presenter *g, store_reader *rd, const found *f, Kith__V1__Hit **out) {
    Kith__V1__Hit *hit = arena_alloc(g->a, sizeof *hit);
    if (!hit) return ERR_NO_MEMORY;
    kith__v1__hit__init(hit);
    *out = hit;
    hit->post = f->row.post;
    hit->score = f->c.fused.score;
    hit->more_in_thread = (int32_t)f->more_in_thread;
    TRY(show_snippet(g, hit->post->text, hit));
    if (g->p->explain) TRY(show_explanation(g, &f->c, hit));
    return rd ? show_context(g, rd, hit) : OK;
}

static err show_cursor(const plan *p, const collection *c, arena *a,
                       Kith__V1__SearchResponse *out) {
    if (!c->full) return OK;
    search_cursor next = p->cursor;
    str text;
    next.request = p->request;
    next.count = p->cursor.count + c->count;
    next.docs = arena_alloc(a, (next.count + 1) * sizeof *next.docs);
    if (!next.docs) return ERR_NO_MEMORY;
    if (p->cursor.count) memcpy(next.docs, p->cursor.docs, p->cursor.count * sizeof *next.docs);
    for (size_t i = 0; i < c->count; i++) next.docs[p->cursor.count + i] = c->items[i].c.doc;
    TRY(cursor_encode(&next, a, &text));
    out->next_cursor = arena_dup(a, text);
    return out->next_cursor ? OK : ERR_NO_MEMORY;
}

static err show_mode(const plan *p, arena *a, Kith__V1__SearchResponse *out) {
    static const char *const names[] = {"hybrid", "words", "meaning", "latest"};
    search_mode mode = p->degraded ? MODE_WORDS : p->mode;
    out->mode = arena_dup(a, str_of(names[mode]));
    out->understood = p->query.understood.len ? arena_dup(a, p->query.understood) : EMPTY;
    if (!out->mode || !out->understood) return ERR_NO_MEMORY;
    if (!p->degraded && p->space == 0) return OK;
    out->degraded = arena_alloc(a, sizeof *out->degraded);
    if (!out->degraded) return ERR_NO_MEMORY;
    out->degraded[0] = arena_dup(a, p->degraded ? STR("meaning") : STR("space"));
    out->n_degraded = 1;
    return out->degraded[0] ? OK : ERR_NO_MEMORY;
}

static err show_hits(presenter *g, const collection *c, Kith__V1__SearchResponse *out) {
    store *st = shard_store(g->x->shard);
    store_reader *rd = g->p->context ? store_reader_get(st) : NULL;
    err rc = OK;
    for (size_t i = 0; i < c->count && rc == OK; i++)
        rc = show_hit(g, rd, &c->items[i], &out->hits[i]);
    if (rd) store_reader_put(st, rd);
    out->n_hits = c->count;
    return rc;
}

err present(searcher *x, plan *p, const collection *c, search_scratch *s, arena *a,
            Kith__V1__SearchResponse **out) {
    presenter g = {.x = x, .p = p, .s = s, .a = a};
    Kith__V1__SearchResponse *r = arena_alloc(a, sizeof *r);
    if (!r) return ERR_NO_MEMORY;
    kith__v1__search_response__init(r);
    r->lsn = c->lsn;
    r->matching = (int64_t)c->matching;
    r->hits = arena_zalloc(a, c->count + 1, sizeof *r->hits);
    if (!r->hits) return ERR_NO_MEMORY;
    TRY(weigh_terms(&g));
    TRY(show_hits(&g, c, r));
    TRY(show_cursor(p, c, a, r));
    TRY(show_mode(p, a, r));
    *out = r;
    return OK;
}
