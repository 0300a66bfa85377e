/* search over a real shard in a temporary directory with the mock provider. The oracle is a plain
 * array of what was put: filters, counts, phrases and pages are checked against a walk over it.
 */
#include "search/search.h"

#include "index/analyze.h"
#include "provider/provider_int.h"
#include "search/fuse.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { DIM = 128, POSTS = 600, AUTHORS = 12, CHANNELS = 5, TEXT = 256, EXTRA = 400 };

typedef struct entry {
    char id[16], text[TEXT], author[16], channel[16], tag[16], lang[4], reply_to[16], root[16];
    int64_t created_s;
} entry;

static struct {
    char dir[64];
    provider *p, *broken;
    shard *s;
    searcher *x, *dark; /* with a model that fails */
    entry e[POSTS];
    arena a;
    rng r;
} f;

typedef Kith__V1__SearchRequest request;
typedef Kith__V1__SearchResponse response;

static char *z(const char *s) {
    return (char *)(uintptr_t)s;
}

/* ---- the shard and what is in it ---- */

static err broken_embed(void *self, const embed_ask *ask, float *out, embed_usage *usage) {
    (void)self, (void)ask, (void)out, (void)usage;
    return err_set(ERR_IO, "the model is away");
}

static void broken_close(void *self) {
    (void)self;
}

static const provider_ops broken_ops = {.embed = broken_embed, .close = broken_close};

static void words_into(char *out, size_t cap) {
    static const char *const vocabulary[] = {
        "apple",  "banana", "cherry", "load",   "balancer", "nginx",  "kernel", "thread",
        "signal", "garden", "rain",   "window", "music",    "guitar", "train",  "ticket",
        "Zürich", "café",   "emoji",  "👍",      "東京都",   "привет", "winter", "coffee"};
    size_t n = 0;
    for (uint32_t k = 4 + rng_below(&f.r, 12); k > 0; k--) {
        uint32_t skew = rng_below(&f.r, 24);
        const char *w = vocabulary[MIN(skew, rng_below(&f.r, 24))];
        n += (size_t)snprintf(out + n, cap - n, "%s%s", n ? " " : "", w);
        if (n + 40 > cap) break;
    }
    if (rng_below(&f.r, 5) == 0) snprintf(out + n, cap - n, " http://ex.org/a");
    if (rng_below(&f.r, 7) == 0) snprintf(out + strlen(out), cap - strlen(out), " why?");
}

static void make_entry(int i) {
    entry *e = &f.e[i];
    snprintf(e->id, sizeof e->id, "p%d", i);
    words_into(e->text, sizeof e->text);
    uint32_t skew = rng_below(&f.r, AUTHORS);
    snprintf(e->author, sizeof e->author, "a%u", MIN(skew, rng_below(&f.r, AUTHORS)));
    snprintf(e->channel, sizeof e->channel, "c%u", rng_below(&f.r, CHANNELS));
    snprintf(e->tag, sizeof e->tag, "t%u", rng_below(&f.r, 4));
    snprintf(e->lang, sizeof e->lang, "%s", rng_below(&f.r, 3) ? "en" : "de");
    e->created_s = 1700000000 + (int64_t)rng_below(&f.r, 30000000);
    snprintf(e->root, sizeof e->root, "%s", e->id);
    if (i > 20 && rng_below(&f.r, 2)) {
        const entry *parent = &f.e[rng_below(&f.r, (uint32_t)i)];
        snprintf(e->reply_to, sizeof e->reply_to, "%s", parent->id);
        snprintf(e->root, sizeof e->root, "%s", parent->root);
    }
}

static uint64_t put_entry(shard *s, const entry *e) {
    Kith__V1__Post post;
    Google__Protobuf__Timestamp t;
    char *tags[1] = {z(e->tag)};
    float v[DIM];
    str text = str_of(e->text);
    kith__v1__post__init(&post);
    google__protobuf__timestamp__init(&t);
    t.seconds = e->created_s;
    post.id = z(e->id), post.text = z(e->text), post.author = z(e->author);
    post.channel = z(e->channel), post.lang = z(e->lang), post.reply_to = z(e->reply_to);
    post.created_at = &t;
    post.tags = tags;
    post.n_tags = e->tag[0] != 0;
    assert_int_equal(provider_embed(f.p, &text, 1, EMBED_DOCUMENT, v, NULL), OK);
    shard_item item = {&post, v};
    uint64_t lsn = 0;
    assert_int_equal(shard_put(s, &item, 1, &lsn), OK);
    return lsn;
}

static int setup(void **state) {
    (void)state;
    rng_seed(&f.r, 5);
    arena_init(&f.a, 256 * MIB);
    snprintf(f.dir, sizeof f.dir, "/tmp/kith-search-XXXXXX");
    if (!mkdtemp(f.dir)) return -1;
    if (provider_mock_open(DIM, &f.p) != OK) return -1;
    provider_info info = {.kind = "broken", .space = "broken", .dim = DIM, .texts_max = 64};
    if (provider_make(&broken_ops, NULL, &info, NULL, &f.broken) != OK) return -1;
    shard_options o = {.fs = fs_real(), .dir = f.dir, .space = provider_space(f.p), .dim = DIM};
    if (shard_open(&o, &f.s) != OK) return -1;
    uint64_t lsn = 0;
    for (int i = 0; i < POSTS; i++) {
        make_entry(i);
        lsn = put_entry(f.s, &f.e[i]);
    }
    for (int i = 0; i < POSTS; i++)
        if (shard_wait(f.s, str_of(f.e[i].id), lsn, WAIT_SEARCHABLE, 20000) != OK) return -1;
    if (searcher_open(f.s, f.p, &f.x) != OK) return -1;
    return searcher_open(f.s, f.broken, &f.dark) == OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    searcher_close(f.x);
    searcher_close(f.dark);
    shard_close(f.s);
    provider_close(f.p);
    provider_close(f.broken);
    arena_deinit(&f.a);
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", f.dir);
    return system(cmd);
}

static const entry *entry_of(const char *id) {
    for (int i = 0; i < POSTS; i++)
        if (strcmp(f.e[i].id, id) == 0) return &f.e[i];
    return NULL;
}

static response *search(searcher *x, request req) {
    response *out = NULL;
    err rc = search_run(x, &req, &f.a, &out);
    if (rc != OK) print_error("%s: %s\n", err_field(), err_detail());
    assert_int_equal(rc, OK);
    assert_int_equal(strlen(out->search_id), 16);
    return out;
}

static request ask(const char *q, int limit) {
    request r;
    kith__v1__search_request__init(&r);
    r.q = z(q);
    r.limit = limit;
    return r;
}

static void assert_sorted(const response *r) {
    for (size_t i = 1; i < r->n_hits; i++) {
        assert_true(r->hits[i - 1]->score >= r->hits[i]->score);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(r->hits[i]->post->id, r->hits[k]->post->id);
    }
}

/* ---- filters ---- */

static bool link_in(const entry *e) {
    return strstr(e->text, "http://") != NULL;
}

typedef struct wanted {
    const char *author, *channel, *tag, *lang, *kind, *not_me;
    int64_t after, before;
    bool link;
} wanted;

static bool same(const char *want, const char *have) {
    return !want || strcmp(want, have) == 0;
}

static bool passes(const wanted *w, const entry *e) {
    bool reply = e->reply_to[0] != 0;
    if (!same(w->author, e->author) || !same(w->channel, e->channel)) return false;
    if (!same(w->tag, e->tag) || !same(w->lang, e->lang)) return false;
    if (!same(w->kind, reply ? "reply" : "post")) return false;
    if (w->not_me && same(w->not_me, e->author)) return false;
    if (w->link && !link_in(e)) return false;
    return e->created_s >= w->after && (!w->before || e->created_s < w->before);
}

static wanted random_filter(void) {
    wanted w = {0};
    const entry *e = &f.e[rng_below(&f.r, POSTS)];
    if (rng_below(&f.r, 3) == 0) w.author = e->author;
    if (rng_below(&f.r, 3) == 0) w.not_me = f.e[rng_below(&f.r, POSTS)].author;
    if (rng_below(&f.r, 3) == 0) w.channel = e->channel;
    if (rng_below(&f.r, 4) == 0) w.tag = e->tag;
    if (rng_below(&f.r, 4) == 0) w.lang = e->lang;
    if (rng_below(&f.r, 4) == 0) w.kind = rng_below(&f.r, 2) ? "reply" : "post";
    if (rng_below(&f.r, 6) == 0) w.link = true;
    if (rng_below(&f.r, 4) == 0) w.after = e->created_s - 1000000;
    if (rng_below(&f.r, 4) == 0) w.before = e->created_s + 1000000;
    return w;
}

static response *search_filtered(const wanted *w, request r) {
    Kith__V1__Filter flt;
    Google__Protobuf__Timestamp after, before;
    char *author = z(w->author), *channel = z(w->channel), *tag = z(w->tag), *lang = z(w->lang);
    char *link = z("link");
    kith__v1__filter__init(&flt);
    google__protobuf__timestamp__init(&after);
    google__protobuf__timestamp__init(&before);
    flt.author = &author, flt.n_author = w->author != NULL;
    flt.channel = &channel, flt.n_channel = w->channel != NULL;
    flt.tag = &tag, flt.n_tag = w->tag != NULL;
    flt.lang = &lang, flt.n_lang = w->lang != NULL;
    flt.has = &link, flt.n_has = w->link;
    if (w->kind) flt.kind = z(w->kind);
    after.seconds = w->after, before.seconds = w->before;
    if (w->after) flt.after = &after;
    if (w->before) flt.before = &before;
    if (w->not_me) r.viewer = z(w->not_me), r.not_me = true;
    r.filter = &flt;
    return search(f.x, r);
}

static void pages_are_full(void **state) {
    (void)state;
    for (int round = 0; round < 100; round++) {
        wanted w = random_filter();
        size_t matches = 0, limit = 1 + rng_below(&f.r, 100);
        for (int i = 0; i < POSTS; i++) matches += passes(&w, &f.e[i]);
        request r = ask(f.e[rng_below(&f.r, POSTS)].text, (int)limit);
        r.mode = z(rng_below(&f.r, 2) ? "hybrid" : "meaning");
        response *out = search_filtered(&w, r);
        assert_int_equal(out->matching, matches);
        assert_int_equal(out->n_hits, MIN(limit, matches));
        for (size_t i = 0; i < out->n_hits; i++)
            assert_true(passes(&w, entry_of(out->hits[i]->post->id)));
        assert_sorted(out);
        arena_reset(&f.a);
    }
}

/* Typed operators and the request's filter are joined by AND. */
static void typed_filters(void **state) {
    (void)state;
    response *a = search(f.x, ask("from:a1 in:c2 rain", 100));
    wanted w = {.author = "a1", .channel = "c2"};
    response *b = search_filtered(&w, ask("rain", 100));
    assert_true(a->n_hits > 0 && a->n_hits == b->n_hits);
    for (size_t i = 0; i < a->n_hits; i++)
        assert_string_equal(a->hits[i]->post->id, b->hits[i]->post->id);
    w = (wanted){.author = "a2"};
    assert_int_equal(search_filtered(&w, ask("from:a1 rain", 10))->n_hits, 0);
    request r = ask("from:me rain", 10);
    r.viewer = z("a3");
    response *me = search(f.x, r);
    assert_true(me->n_hits > 0);
    for (size_t i = 0; i < me->n_hits; i++) assert_string_equal(me->hits[i]->post->author, "a3");
    arena_reset(&f.a);
}

static bool has_words(const char *text, const char *const *words, size_t n) {
    token_list t;
    assert_int_equal(analyze(&f.a, str_of(text), &t), OK);
    for (size_t i = 0; i + n <= t.count; i++) {
        size_t k = 0;
        while (k < n && str_eq(t.items[i + k].term, str_of(words[k]))) k++;
        if (k == n) return true;
    }
    return false;
}

static void phrases_are_demanded(void **state) {
    (void)state;
    static const char *const phrase[] = {"apple", "banana"}, *const no[] = {"cherry"};
    static const char *const modes[] = {"hybrid", "words", "meaning"};
    size_t want = 0;
    for (int i = 0; i < POSTS; i++)
        want += has_words(f.e[i].text, phrase, 2) && !has_words(f.e[i].text, no, 1);
    assert_true(want > 3 && want < 100);
    for (size_t m = 0; m < COUNT_OF(modes); m++) {
        request r = ask("\"Apple BANANA\" -cherry", 100);
        r.mode = z(modes[m]);
        response *out = search(f.x, r);
        assert_int_equal(out->n_hits, want);
        assert_int_equal(out->matching, want);
        for (size_t i = 0; i < out->n_hits; i++) {
            assert_true(has_words(out->hits[i]->post->text, phrase, 2));
            assert_false(has_words(out->hits[i]->post->text, no, 1));
        }
    }
    assert_int_equal(search(f.x, ask("\"no such phrase\"", 10))->n_hits, 0);
    assert_int_equal(search(f.x, ask("rain -nosuchword", 100))->n_hits, 100);
    arena_reset(&f.a);
}

/* ---- explanations ---- */

static void check_part(const Kith__V1__Part *p) {
    assert_true(p->contribution == p->weight * p->normalized);
    assert_true(p->normalized >= 0 && p->normalized <= 1);
}

static void explanations_add_up(void **state) {
    (void)state;
    static const char *const modes[] = {"hybrid", "words", "meaning"};
    for (int round = 0; round < 60; round++) {
        request r = ask(f.e[rng_below(&f.r, POSTS)].text, 50);
        Kith__V1__Weight w;
        kith__v1__weight__init(&w);
        w.value = rng_unit(&f.r);
        r.mode = z(modes[rng_below(&f.r, 3)]);
        r.explain = true;
        if (rng_below(&f.r, 2)) r.recency = rng_unit(&f.r);
        if (rng_below(&f.r, 2)) r.meaning_weight = &w;
        response *out = search(f.x, r);
        assert_true(out->n_hits > 0);
        assert_sorted(out);
        for (size_t i = 0; i < out->n_hits; i++) {
            const Kith__V1__Explanation *e = out->hits[i]->explain;
            double sum =
                e->words->contribution + e->meaning->contribution + e->recency->contribution;
            assert_true(out->hits[i]->score == sum);
            check_part(e->words), check_part(e->meaning), check_part(e->recency);
            float raw = 0;
            for (size_t k = 0; k < e->n_terms; k++) raw += (float)e->terms[k]->score;
            assert_true(e->words->raw == (double)raw);
            double s = e->words->raw;
            assert_true(e->words->normalized == s / (s + FUSE_WORDS_HALF));
            if (strcmp(e->meaning->rule, FUSE_MEANING_RULE) == 0)
                assert_true(e->meaning->normalized == MIN(MAX(e->meaning->raw, 0), 1));
            assert_true(e->words->rank || e->meaning->rank);
        }
        arena_reset(&f.a);
    }
}

/* A post's score does not depend on the mode of finding it: filter to it alone, same score. */
static void scores_stand_alone(void **state) {
    (void)state;
    response *out = search(f.x, ask("garden rain window", 50));
    for (size_t i = 0; i < out->n_hits; i += 7) {
        char q[64];
        const entry *e = entry_of(out->hits[i]->post->id);
        snprintf(q, sizeof q, "garden rain window from:%s in:%s", e->author, e->channel);
        response *one = search(f.x, ask(q, 100));
        bool found = false;
        for (size_t k = 0; k < one->n_hits; k++) {
            if (strcmp(one->hits[k]->post->id, e->id) != 0) continue;
            found = true;
            assert_true(one->hits[k]->score == out->hits[i]->score);
        }
        assert_true(found);
    }
    arena_reset(&f.a);
}

static void snippets_and_highlights(void **state) {
    (void)state;
    for (int round = 0; round < 30; round++) {
        request r = ask(f.e[rng_below(&f.r, POSTS)].text, 20);
        r.mode = z("words");
        response *out = search(f.x, r);
        for (size_t i = 0; i < out->n_hits; i++) {
            const Kith__V1__Hit *h = out->hits[i];
            str s = str_of(h->snippet);
            int32_t last = 0;
            assert_true(h->n_highlights > 0);
            for (size_t k = 0; k < h->n_highlights; k++) {
                const Kith__V1__Range *g = h->highlights[k];
                assert_true(g->start >= last && g->end > g->start && (size_t)g->end <= s.len);
                assert_true(
                    utf8_valid(str_from(s.ptr + g->start, (size_t)(g->end - g->start)), NULL));
                last = g->end;
            }
        }
        arena_reset(&f.a);
    }
}

/* ---- caps, groups, context ---- */

static void caps_hold_and_pages_stay_full(void **state) {
    (void)state;
    request r = ask("apple banana rain", 30);
    r.max_per_author = 3;
    response *out = search(f.x, r);
    assert_int_equal(out->n_hits, 30); /* 12 authors x 3 are there */
    int per[AUTHORS] = {0};
    for (size_t i = 0; i < out->n_hits; i++)
        assert_true(++per[atoi(out->hits[i]->post->author + 1)] <= 3);
    r.cursor = out->next_cursor;
    response *next = search(f.x, r);
    assert_int_equal(next->n_hits, 6); /* caps count over all pages */
    for (size_t i = 0; i < next->n_hits; i++)
        assert_true(++per[atoi(next->hits[i]->post->author + 1)] <= 3);
    r = ask("apple banana rain", 100);
    r.max_per_thread = 1;
    out = search(f.x, r);
    for (size_t i = 0; i < out->n_hits; i++)
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(out->hits[i]->post->thread, out->hits[k]->post->thread);
    arena_reset(&f.a);
}

static void groups_by_thread(void **state) {
    (void)state;
    size_t roots = 0, seen = 0;
    for (int i = 0; i < POSTS; i++) roots += strcmp(f.e[i].id, f.e[i].root) == 0;
    request r = ask("rain garden", 100);
    r.group = z("thread");
    char roots_seen[POSTS][16];
    uint32_t more = 0;
    for (;;) {
        response *out = search(f.x, r);
        for (size_t i = 0; i < out->n_hits; i++) {
            const Kith__V1__Hit *h = out->hits[i];
            more += (uint32_t)h->more_in_thread;
            for (size_t k = 0; k < seen; k++)
                assert_string_not_equal(roots_seen[k], h->post->thread);
            snprintf(roots_seen[seen++], 16, "%s", h->post->thread);
        }
        if (!out->next_cursor[0]) break;
        r.cursor = out->next_cursor;
    }
    assert_int_equal(seen, roots);
    assert_true(more > 0);
    arena_reset(&f.a);
}

static response *find_post(const char *id, const char *text, bool context) {
    request r = ask(text, 100);
    r.context = context;
    response *out = search(f.x, r);
    for (size_t i = 0; i < out->n_hits; i++) {
        if (strcmp(out->hits[i]->post->id, id) != 0) continue;
        out->hits[0] = out->hits[i];
        return out;
    }
    return NULL;
}

static void context_names_what_is_missing(void **state) {
    (void)state;
    entry root = {
        .id = "root", .text = "where is the quokka", .author = "x", .created_s = 1700000000};
    entry mid = {.id = "mid",
                 .text = "a quokka lives there",
                 .author = "y",
                 .reply_to = "root",
                 .created_s = 1700000001};
    entry leaf = {.id = "leaf",
                  .text = "quokka photographed today",
                  .author = "z",
                  .reply_to = "mid",
                  .created_s = 1700000002};
    put_entry(f.s, &root), put_entry(f.s, &mid);
    uint64_t lsn = put_entry(f.s, &leaf);
    assert_int_equal(shard_wait(f.s, STR("leaf"), lsn, WAIT_SEARCHABLE, 10000), OK);
    response *out = find_post("leaf", leaf.text, true);
    assert_non_null(out);
    assert_string_equal(out->hits[0]->context->root->id, "root");
    assert_string_equal(out->hits[0]->context->parent->id, "mid");
    assert_int_equal(shard_delete(f.s, STR("mid"), &lsn), OK);
    assert_int_equal(shard_wait(f.s, STR(""), lsn, WAIT_APPLIED, 10000), OK);
    out = find_post("leaf", leaf.text, true);
    assert_non_null(out);
    assert_null(out->hits[0]->context->parent);
    assert_string_equal(out->hits[0]->context->missing_parent, "mid");
    assert_string_equal(out->hits[0]->context->root->id, "root");
    assert_null(find_post("mid", "a quokka lives there", false));
    out = find_post("root", root.text, true);
    assert_null(out->hits[0]->context);
    assert_int_equal(shard_delete(f.s, STR("root"), &lsn), OK);
    assert_int_equal(shard_delete(f.s, STR("leaf"), &lsn), OK);
    assert_int_equal(shard_wait(f.s, STR(""), lsn, WAIT_APPLIED, 10000), OK);
    arena_reset(&f.a);
}

/* ---- cursors ---- */

static _Atomic bool stop;
static _Atomic int inserted;

static void insert_all_the_time(void *arg) {
    (void)arg;
    for (int i = 0; i < EXTRA && !atomic_load(&stop); i++) {
        entry e = f.e[i % POSTS];
        snprintf(e.id, sizeof e.id, "x%d", i);
        e.reply_to[0] = 0;
        put_entry(f.s, &e);
        atomic_store(&inserted, i + 1);
    }
}

static void delete_inserted(void) {
    uint64_t lsn = 0;
    for (int i = 0; i < atomic_load(&inserted); i++) {
        char id[16];
        snprintf(id, sizeof id, "x%d", i);
        assert_int_equal(shard_delete(f.s, str_of(id), &lsn), OK);
    }
    assert_int_equal(shard_wait(f.s, STR(""), lsn, WAIT_APPLIED, 10000), OK);
}

static void page_through(const char *q, const char *mode, size_t want) {
    bool seen[POSTS] = {false};
    size_t count = 0;
    thread t;
    request r = ask(q, 37);
    r.mode = z(mode);
    response *out = search(f.x, r);
    atomic_store(&stop, false);
    atomic_store(&inserted, 0);
    assert_int_equal(thread_start(&t, "inserter", insert_all_the_time, NULL), OK);
    for (;;) {
        for (size_t i = 0; i < out->n_hits; i++) {
            const entry *e = entry_of(out->hits[i]->post->id);
            assert_non_null(e); /* nothing that came later */
            assert_false(seen[e - f.e]);
            seen[e - f.e] = true;
            count++;
        }
        if (!out->next_cursor[0]) break;
        assert_int_equal(out->n_hits, 37);
        r.cursor = out->next_cursor;
        out = search(f.x, r);
    }
    atomic_store(&stop, true);
    thread_join(&t);
    assert_int_equal(count, want);
    delete_inserted();
    arena_reset(&f.a);
}

static void pages_are_stable_while_posts_arrive(void **state) {
    (void)state;
    static const char *const rain[] = {"rain"};
    size_t with_rain = 0;
    for (int i = 0; i < POSTS; i++) with_rain += has_words(f.e[i].text, rain, 1);
    page_through("rain", "hybrid", POSTS);
    page_through("rain", "words", with_rain);
    page_through("", "", POSTS);
}

static void search_a_lot(void *arg) {
    arena a;
    arena_init(&a, 64 * MIB);
    for (int i = 0; i < 60; i++) {
        request r = ask(f.e[(i * 7 + *(int *)arg) % POSTS].text, 10);
        response *out;
        r.explain = true;
        r.max_per_author = i % 3;
        assert_int_equal(search_run(f.x, &r, &a, &out), OK);
        assert_int_equal(out->n_hits, 10);
        arena_reset(&a);
    }
    arena_deinit(&a);
}

static void many_threads(void **state) {
    (void)state;
    thread t[4], inserter;
    int seed[4] = {1, 2, 3, 4};
    atomic_store(&stop, false);
    atomic_store(&inserted, 0);
    assert_int_equal(thread_start(&inserter, "inserter", insert_all_the_time, NULL), OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(thread_start(&t[i], "s", search_a_lot, &seed[i]), OK);
    for (int i = 0; i < 4; i++) thread_join(&t[i]);
    atomic_store(&stop, true);
    thread_join(&inserter);
    delete_inserted();
}

static void cursors_belong_to_their_query(void **state) {
    (void)state;
    request r = ask("rain", 5);
    response *out = search(f.x, r), *no;
    r.cursor = out->next_cursor;
    r.limit = 9; /* may change */
    r.explain = true;
    assert_int_equal(search(f.x, r)->n_hits, 9);
    r.q = z("snow");
    assert_int_equal(search_run(f.x, &r, &f.a, &no), ERR_INVALID);
    assert_string_equal(err_field(), "cursor");
    r.q = z("rain");
    r.cursor = z("garbage");
    assert_int_equal(search_run(f.x, &r, &f.a, &no), ERR_INVALID);
    assert_string_equal(err_field(), "cursor");
    arena_reset(&f.a);
}

/* ---- the rest ---- */

static void newest_without_words(void **state) {
    (void)state;
    response *out = search(f.x, ask("from:a1", 100));
    assert_string_equal(out->mode, "latest");
    size_t want = 0;
    for (int i = 0; i < POSTS; i++) want += strcmp(f.e[i].author, "a1") == 0;
    assert_int_equal(out->n_hits, MIN(want, 100));
    for (size_t i = 1; i < out->n_hits; i++)
        assert_true(out->hits[i - 1]->post->created_at->seconds >=
                    out->hits[i]->post->created_at->seconds);
    int64_t newest = 0;
    for (int i = 0; i < POSTS; i++)
        if (strcmp(f.e[i].author, "a1") == 0) newest = MAX(newest, f.e[i].created_s);
    assert_int_equal(out->hits[0]->post->created_at->seconds, newest);
    arena_reset(&f.a);
}

static void recency_lifts_the_new(void **state) {
    (void)state;
    request r = ask("rain garden", 10);
    r.recency_half_life_hours = 24 * 365;
    double plain = 0, fresh = 0;
    response *out = search(f.x, r);
    for (size_t i = 0; i < out->n_hits; i++)
        plain += (double)out->hits[i]->post->created_at->seconds;
    r.recency = 0.9;
    out = search(f.x, r);
    for (size_t i = 0; i < out->n_hits; i++)
        fresh += (double)out->hits[i]->post->created_at->seconds;
    assert_true(fresh > plain);
    arena_reset(&f.a);
}

static void reads_its_own_writes(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        entry e = f.e[0];
        uint64_t gone;
        snprintf(e.id, sizeof e.id, "own%d", i);
        snprintf(e.text, sizeof e.text, "zebracorn%d", i);
        request r = ask(e.text, 1);
        r.min_lsn = put_entry(f.s, &e);
        response *out = search(f.x, r);
        assert_int_equal(out->n_hits, 1);
        assert_string_equal(out->hits[0]->post->id, e.id);
        assert_true(out->lsn >= r.min_lsn);
        assert_int_equal(shard_delete(f.s, str_of(e.id), &gone), OK);
        r.min_lsn = gone;
        r.mode = z("words");
        assert_int_equal(search(f.x, r)->n_hits, 0);
    }
    request r = ask("rain", 1);
    response *out;
    r.min_lsn = shard_head(f.s) + 1000;
    assert_int_equal(search_run(f.x, &r, &f.a, &out), ERR_TIMEOUT);
    arena_reset(&f.a);
}

static void a_query_survives_its_model(void **state) {
    (void)state;
    static const char *const modes[] = {"hybrid", "meaning"};
    request r = ask("rain garden", 20);
    r.mode = z("words");
    response *words = search(f.dark, r);
    assert_int_equal(words->n_degraded, 0);
    for (size_t m = 0; m < COUNT_OF(modes); m++) {
        r.mode = z(modes[m]);
        response *out = search(f.dark, r);
        assert_int_equal(out->n_degraded, 1);
        assert_string_equal(out->degraded[0], "meaning");
        assert_string_equal(out->mode, "words");
        assert_int_equal(out->n_hits, words->n_hits);
        for (size_t i = 0; i < out->n_hits; i++)
            assert_string_equal(out->hits[i]->post->id, words->hits[i]->post->id);
    }
    arena_reset(&f.a);
}

static void similar_posts(void **state) {
    (void)state;
    for (int i = 0; i < 40; i++) {
        Kith__V1__SimilarRequest r;
        response *out;
        kith__v1__similar_request__init(&r);
        r.id = f.e[i].id;
        r.limit = 20;
        r.other_threads = i % 2;
        r.explain = true;
        assert_int_equal(search_similar(i % 3 ? f.x : f.dark, &r, &f.a, &out), OK);
        assert_int_equal(out->n_hits, 20);
        assert_int_equal(out->n_degraded, 0); /* the stored vector needs no model */
        assert_sorted(out);
        for (size_t k = 0; k < out->n_hits; k++) {
            assert_string_not_equal(out->hits[k]->post->id, r.id);
            if (r.other_threads) assert_string_not_equal(out->hits[k]->post->thread, f.e[i].root);
        }
        r.cursor = out->next_cursor;
        response *next;
        assert_int_equal(search_similar(f.x, &r, &f.a, &next), OK);
        assert_int_equal(next->n_hits, 20);
        for (size_t k = 0; k < next->n_hits; k++)
            for (size_t m = 0; m < out->n_hits; m++)
                assert_string_not_equal(next->hits[k]->post->id, out->hits[m]->post->id);
    }
    Kith__V1__SimilarRequest r;
    response *out;
    kith__v1__similar_request__init(&r);
    r.id = z("nobody");
    assert_int_equal(search_similar(f.x, &r, &f.a, &out), ERR_NOT_FOUND);
    r.id = z("");
    assert_int_equal(search_similar(f.x, &r, &f.a, &out), ERR_INVALID);
    arena_reset(&f.a);
}

static bool suggests(const char *q, const char *want) {
    Kith__V1__SuggestRequest r;
    Kith__V1__SuggestResponse *out;
    kith__v1__suggest_request__init(&r);
    r.q = z(q);
    assert_int_equal(search_suggest(f.x, &r, &f.a, &out), OK);
    for (size_t i = 0; i < out->n_suggestions; i++)
        if (strcmp(out->suggestions[i], want) == 0) return true;
    return false;
}

static void suggestions(void **state) {
    (void)state;
    assert_true(suggests("ban", "banana"));
    assert_true(suggests("Caf", "cafe"));
    assert_true(suggests("rain gar", "rain garden"));
    assert_true(suggests("rain from:a", "rain from:a0"));
    assert_true(suggests("in:c", "in:c1"));
    assert_true(suggests("c", "in:c0") || suggests("c1", "in:c1"));
    assert_true(suggests("t1", "#t1"));
    assert_false(suggests("from:c", "from:c0"));
    assert_false(suggests("", "apple"));
    arena_reset(&f.a);
}

static void ids_for_evaluation(void **state) {
    (void)state;
    request r = ask(f.e[3].text, 0);
    search_id_list all, rest;
    assert_int_equal(search_ids(f.x, &r, STR(""), 100, &f.a, &all), OK);
    assert_int_equal(all.count, 100);
    assert_int_equal(search_ids(f.x, &r, all.items[0], 100, &f.a, &rest), OK);
    assert_int_equal(rest.count, 100);
    for (size_t i = 0; i + 1 < all.count; i++) assert_true(str_eq(rest.items[i], all.items[i + 1]));
    arena_reset(&f.a);
}

static void refused(const char *field, request r) {
    response *out;
    assert_int_equal(search_run(f.x, &r, &f.a, &out), ERR_INVALID);
    assert_string_equal(err_field(), field);
}

static void bad_requests(void **state) {
    (void)state;
    Kith__V1__Filter flt;
    Google__Protobuf__Timestamp t;
    Kith__V1__Weight w;
    kith__v1__filter__init(&flt);
    google__protobuf__timestamp__init(&t);
    kith__v1__weight__init(&w);
    char *cheese = z("cheese");
    request r = ask("rain", 10);
    r.limit = -1, refused("limit", r);
    r.limit = 101, refused("limit", r);
    r = ask("rain", 10), r.mode = z("magic"), refused("mode", r);
    r = ask("rain", 10), r.group = z("author"), refused("group", r);
    r = ask("rain", 10), r.recency = 1.5, refused("recency", r);
    r.recency = (double)NAN, refused("recency", r);
    r = ask("rain", 10), r.recency_half_life_hours = -1, refused("recency_half_life_hours", r);
    r = ask("rain", 10), r.max_per_author = -1, refused("max_per_author", r);
    r = ask("rain", 10), r.max_per_thread = -5, refused("max_per_thread", r);
    r = ask("rain", 10), r.not_me = true, refused("viewer", r);
    w.value = 2;
    r = ask("rain", 10), r.meaning_weight = &w, refused("meaning_weight", r);
    r = ask("before:tomorrow", 10), refused("q", r);
    r = ask("from:me", 10), refused("q", r);
    r = ask("rain", 10), r.filter = &flt;
    flt.kind = z("cat"), refused("filter.kind", r);
    flt.kind = z(""), flt.has = &cheese, flt.n_has = 1, refused("filter.has", r);
    flt.n_has = 0, flt.after = &t, t.nanos = -1, refused("filter.after", r);
    t.nanos = 0, t.seconds = INT64_MAX, refused("filter.after", r);
    search_stats st;
    searcher_stats(f.x, &st);
    assert_true(st.errors >= 15 && st.searches > st.errors && st.p99_ms >= st.p50_ms);
    arena_reset(&f.a);
}

/* Each allocation of a search fails once: an error, no leak, and the next search works. */
static void memory_runs_out(void **state) {
    (void)state;
    request r = ask("rain \"apple\" -nginx", 20);
    r.explain = r.context = true;
    r.max_per_author = 30;
    int failed = 0;
    for (long n = 1; n < 300; n++) {
        response *out;
        mem_fail_after(n);
        err rc = search_run(f.x, &r, &f.a, &out);
        mem_fail_after(0);
        arena_reset(&f.a);
        assert_true(rc == OK || rc == ERR_NO_MEMORY || rc == ERR_IO);
        failed += rc != OK;
    }
    assert_true(failed > 3);
    assert_true(search(f.x, r)->n_hits > 0);
    arena_reset(&f.a);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(pages_are_full),
                                       cmocka_unit_test(typed_filters),
                                       cmocka_unit_test(phrases_are_demanded),
                                       cmocka_unit_test(explanations_add_up),
                                       cmocka_unit_test(scores_stand_alone),
                                       cmocka_unit_test(snippets_and_highlights),
                                       cmocka_unit_test(caps_hold_and_pages_stay_full),
                                       cmocka_unit_test(groups_by_thread),
                                       cmocka_unit_test(context_names_what_is_missing),
                                       cmocka_unit_test(newest_without_words),
                                       cmocka_unit_test(recency_lifts_the_new),
                                       cmocka_unit_test(pages_are_stable_while_posts_arrive),
                                       cmocka_unit_test(many_threads),
                                       cmocka_unit_test(cursors_belong_to_their_query),
                                       cmocka_unit_test(reads_its_own_writes),
                                       cmocka_unit_test(a_query_survives_its_model),
                                       cmocka_unit_test(similar_posts),
                                       cmocka_unit_test(suggestions),
                                       cmocka_unit_test(ids_for_evaluation),
                                       cmocka_unit_test(bad_requests),
                                       cmocka_unit_test(memory_runs_out)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
