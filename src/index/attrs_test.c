/* Attributes against a naive store: an array of values per document and one predicate over texts.
 *
 * Random histories set, replace and clear; after each batch random filters must give the same bits
 * and count as the predicate, by compile and by match, and columns, names and facets must agree.
 * The rest: names vanish with their last document, saved bytes do not depend on history, flipped
 * bytes are noticed, failing allocations change nothing.
 */
#include "index/attrs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DOCS = 700, NAMES = 40, TAGS = 5 };

typedef struct plain {
    bool in;
    uint8_t field[4]; /* name number; 0: none */
    uint8_t tags[TAGS];
    uint8_t n_tags;
    int64_t created_ms;
    uint32_t flags;
} plain;

typedef struct world {
    plain docs[DOCS];
    char texts[NAMES][40];
    str names[NAMES];
    attrs *a;
    rng r;
} world;

static void world_open(world *w, uint64_t seed) {
    memset(w, 0, sizeof *w);
    rng_seed(&w->r, seed);
    for (int i = 0; i < NAMES; i++) {
        int n =
            snprintf(w->texts[i], sizeof w->texts[i], i % 3 ? "n%d" : "a-much-longer-name-%d", i);
        w->names[i] = i ? str_from(w->texts[i], (size_t)n) : STR("");
    }
    assert_int_equal(attrs_new(&w->a), OK);
}

/* Languages must be short: their names come from those that are. */
static uint8_t random_name(world *w, int field) {
    uint32_t n = rng_below(&w->r, field == ATTRS_AUTHOR ? NAMES : 8);
    if (field == ATTRS_LANG && n % 3 == 0) n = 1;
    return (uint8_t)(rng_below(&w->r, 9) ? n : 0);
}

static attrs_value value_of(const world *w, const plain *p, str tags[TAGS]) {
    for (int i = 0; i < p->n_tags; i++) tags[i] = w->names[p->tags[i]];
    return (attrs_value){.author = w->names[p->field[ATTRS_AUTHOR]],
                         .thread = w->names[p->field[ATTRS_THREAD]],
                         .channel = w->names[p->field[ATTRS_CHANNEL]],
                         .lang = w->names[p->field[ATTRS_LANG]],
                         .created_ms = p->created_ms,
                         .flags = p->flags,
                         .tags = tags,
                         .n_tags = p->n_tags};
}

static plain random_plain(world *w) {
    plain p = {.in = true, .flags = rng_below(&w->r, 32)};
    for (int f = 0; f < 4; f++) p.field[f] = random_name(w, f);
    p.n_tags = (uint8_t)(rng_below(&w->r, 2) ? 0 : rng_below(&w->r, TAGS + 1));
    for (int i = 0; i < p.n_tags; i++) p.tags[i] = (uint8_t)(1 + rng_below(&w->r, 12));
    p.created_ms = (int64_t)rng_below(&w->r, 1000) - 500;
    if (rng_below(&w->r, 50) == 0) p.created_ms = rng_below(&w->r, 2) ? INT64_MIN : INT64_MAX;
    return p;
}

static void world_set(world *w, uint32_t d) {
    str tags[TAGS];
    w->docs[d] = random_plain(w);
    attrs_value v = value_of(w, &w->docs[d], tags);
    assert_int_equal(attrs_set(w->a, d, &v), OK);
}

static void world_clear(world *w, uint32_t d) {
    attrs_clear(w->a, d);
    w->docs[d] = (plain){.in = false};
}

/* ---- filters ---- */

typedef struct picks {
    str items[12][NAMES];
    size_t n;
} picks;

static attrs_strs pick(world *w, picks *p, unsigned chance, unsigned of) {
    attrs_strs s = {p->items[p->n], 0};
    if (rng_below(&w->r, chance)) return s;
    str *to = p->items[p->n++];
    for (uint32_t n = 1 + rng_below(&w->r, 3); n > 0; n--) {
        uint32_t i = 1 + rng_below(&w->r, of);
        to[s.count++] = i < NAMES ? w->names[i] : STR("nobody has this");
    }
    return s;
}

static attrs_filter random_filter(world *w, picks *p) {
    p->n = 0;
    attrs_filter f = {0};
    f.author_in = pick(w, p, 4, NAMES);
    f.author_not = pick(w, p, 4, NAMES);
    f.author_deny = pick(w, p, 6, NAMES);
    f.thread_in = pick(w, p, 6, 8);
    f.thread_not = pick(w, p, 8, 8);
    f.channel_in = pick(w, p, 5, 9);
    f.channel_not = pick(w, p, 6, 9);
    f.lang_in = pick(w, p, 6, NAMES);
    f.lang_not = pick(w, p, 6, 9);
    f.tag_any = pick(w, p, 6, 14);
    f.tag_all = pick(w, p, 8, 14);
    f.tag_not = pick(w, p, 6, 14);
    f.has_from = rng_below(&w->r, 4) == 0;
    f.has_until = rng_below(&w->r, 4) == 0;
    f.from_ms = (int64_t)rng_below(&w->r, 1000) - 500;
    f.until_ms = (int64_t)rng_below(&w->r, 1000) - 500;
    f.flags_set = rng_below(&w->r, 3) ? 0 : 1u << rng_below(&w->r, 5);
    f.flags_clear = rng_below(&w->r, 4) ? 0 : 1u << rng_below(&w->r, 5);
    f.flags_any = rng_below(&w->r, 5) ? 0 : rng_below(&w->r, 32);
    return f;
}

static bool in(attrs_strs s, str x) {
    for (size_t i = 0; i < s.count; i++)
        if (str_eq(s.items[i], x)) return true;
    return false;
}

static bool clause(attrs_strs want, attrs_strs not, str own) {
    if (want.count && (own.len == 0 || !in(want, own))) return false;
    return !(own.len && in(not, own));
}

static bool naive_tags(const world *w, const attrs_filter *f, const plain *p) {
    bool any = f->tag_any.count == 0;
    str own[TAGS];
    attrs_strs mine = {own, p->n_tags};
    for (int i = 0; i < p->n_tags; i++) {
        own[i] = w->names[p->tags[i]];
        any |= in(f->tag_any, own[i]);
        if (in(f->tag_not, own[i])) return false;
    }
    for (size_t i = 0; i < f->tag_all.count; i++)
        if (!in(mine, f->tag_all.items[i])) return false;
    return any;
}

static bool naive_match(const world *w, const attrs_filter *f, const plain *p) {
    const str author = w->names[p->field[ATTRS_AUTHOR]];
    if (!p->in || !clause(f->author_in, f->author_not, author)) return false;
    if (author.len && in(f->author_deny, author)) return false;
    if (!clause(f->thread_in, f->thread_not, w->names[p->field[ATTRS_THREAD]])) return false;
    if (!clause(f->channel_in, f->channel_not, w->names[p->field[ATTRS_CHANNEL]])) return false;
    if (!clause(f->lang_in, f->lang_not, w->names[p->field[ATTRS_LANG]])) return false;
    if (f->has_from && p->created_ms < f->from_ms) return false;
    if (f->has_until && p->created_ms >= f->until_ms) return false;
    if ((p->flags & f->flags_set) != f->flags_set || (p->flags & f->flags_clear)) return false;
    if (f->flags_any && !(p->flags & f->flags_any)) return false;
    return naive_tags(w, f, p);
}

static void compare_filter(world *w, uint64_t seed) {
    picks p;
    attrs_filter f = random_filter(w, &p);
    uint64_t bits[DOCS / 64 + 3];
    memset(bits, 0xff, sizeof bits);
    uint32_t count, want = 0;
    assert_int_equal(attrs_filter_compile(w->a, &f, bits, COUNT_OF(bits), &count), OK);
    for (uint32_t d = 0; d < COUNT_OF(bits) * 64; d++) {
        bool match = d < DOCS && naive_match(w, &f, &w->docs[d]);
        want += match;
        if (bits_get(bits, d) != match || attrs_filter_match(w->a, &f, d) != match)
            fail_msg("seed %llu: document %u: expected %d", (unsigned long long)seed, d, match);
    }
    assert_int_equal(count, want);
    if (attrs_filter_empty(&f)) assert_int_equal(count, attrs_docs_live(w->a));
}

static void compare_values(const world *w) {
    attrs_columns c = attrs_columns_of(w->a);
    for (uint32_t d = 0; d < DOCS; d++) {
        attrs_value v;
        str tags[ATTRS_TAGS_MAX];
        const plain *p = &w->docs[d];
        assert_int_equal(attrs_get(w->a, d, &v, tags), p->in);
        if (!p->in) continue;
        assert_true(str_eq(v.author, w->names[p->field[ATTRS_AUTHOR]]));
        assert_true(str_eq(v.thread, w->names[p->field[ATTRS_THREAD]]));
        assert_true(str_eq(v.channel, w->names[p->field[ATTRS_CHANNEL]]));
        assert_true(str_eq(v.lang, w->names[p->field[ATTRS_LANG]]));
        assert_true(v.created_ms == p->created_ms && v.flags == p->flags);
        assert_true(c.created_ms[d] == p->created_ms && c.flags[d] == p->flags);
        assert_true(c.author[d] == attrs_number(w->a, ATTRS_AUTHOR, v.author) || !v.author.len);
        attrs_strs mine = {tags, v.n_tags};
        for (size_t i = 1; i < v.n_tags; i++) assert_true(str_cmp(tags[i - 1], tags[i]) < 0);
        for (int i = 0; i < p->n_tags; i++) assert_true(in(mine, w->names[p->tags[i]]));
    }
}

static void compare_facets(const world *w) {
    attrs_facet x[16];
    size_t n;
    uint32_t counts[NAMES] = {0}, sum = 0;
    for (uint32_t d = 0; d < DOCS; d++)
        if (w->docs[d].in) counts[w->docs[d].field[ATTRS_CHANNEL]]++;
    assert_int_equal(attrs_facets(w->a, ATTRS_CHANNEL, NULL, x, 16, &n), OK);
    for (size_t i = 0; i < n; i++) {
        str name = attrs_name(w->a, ATTRS_CHANNEL, x[i].number);
        uint32_t k = 0;
        while (!str_eq(w->names[k], name)) k++;
        assert_int_equal(x[i].count, counts[k]);
        if (name.len) assert_int_equal(attrs_docs_with(w->a, ATTRS_CHANNEL, name), x[i].count);
        if (i) assert_true(x[i - 1].count >= x[i].count);
        sum += x[i].count;
    }
    assert_int_equal(sum, attrs_docs_live(w->a));
}

static void test_random_histories(void **state) {
    (void)state;
    static world w;
    unsigned cases = getenv("KITH_LONG") ? 600 : 12;
    for (uint64_t seed = 1; seed <= cases; seed++) {
        world_open(&w, seed);
        for (unsigned step = 0; step < 6; step++) {
            for (uint32_t i = 0; i < DOCS / 2; i++) {
                uint32_t d = rng_below(&w.r, step == 5 ? 60 : DOCS);
                if (rng_below(&w.r, step % 2 ? 2 : 5))
                    world_set(&w, d);
                else
                    world_clear(&w, d);
            }
            assert_int_equal(attrs_validate(w.a), OK);
            compare_values(&w);
            compare_facets(&w);
            for (int i = 0; i < 60; i++) compare_filter(&w, seed);
        }
        attrs_free(w.a);
    }
}

static void save_to(const attrs *a, strbuf *b) {
    strbuf_init(b, 64 * MIB);
    writer out = writer_to_strbuf(b);
    assert_int_equal(attrs_save(a, &out), OK);
}

static void test_names_vanish(void **state) {
    (void)state;
    attrs *a;
    assert_int_equal(attrs_new(&a), OK);
    str tag = STR("tag-of-a-vanishing-post");
    attrs_value v = {.author = STR("vanishing-author"), .tags = &tag, .n_tags = 1};
    assert_int_equal(attrs_set(a, 3, &v), OK);
    uint32_t number = attrs_number(a, ATTRS_AUTHOR, STR("vanishing-author"));
    assert_true(number != ATTRS_NONE);
    attrs_clear(a, 3);
    assert_int_equal(attrs_number(a, ATTRS_AUTHOR, STR("vanishing-author")), ATTRS_NONE);
    assert_int_equal(attrs_name(a, ATTRS_AUTHOR, number).len, 0);
    assert_int_equal(attrs_docs_with(a, ATTRS_TAG, tag), 0);
    assert_int_equal(attrs_docs_end(a), 0);
    strbuf b;
    save_to(a, &b);
    assert_true(str_find(strbuf_str(&b), STR("vanishing")) < 0);
    strbuf_deinit(&b);
    attrs_free(a);
}

static void test_bytes_follow_from_content(void **state) {
    (void)state;
    static world w;
    world_open(&w, 5);
    for (uint32_t i = 0; i < 3000; i++) {
        uint32_t d = rng_below(&w.r, DOCS);
        if (w.docs[d].in && rng_below(&w.r, 3) == 0)
            world_clear(&w, d);
        else
            world_set(&w, d);
    }
    attrs *fresh, *loaded;
    assert_int_equal(attrs_new(&fresh), OK);
    for (uint32_t d = DOCS; d-- > 0;) {
        str tags[TAGS];
        attrs_value v = value_of(&w, &w.docs[d], tags);
        if (w.docs[d].in) assert_int_equal(attrs_set(fresh, d, &v), OK);
    }
    strbuf a, b, c;
    save_to(w.a, &a);
    save_to(fresh, &b);
    assert_true(str_eq(strbuf_str(&a), strbuf_str(&b)));
    assert_int_equal(attrs_load(a.ptr, a.len, &loaded), OK);
    assert_int_equal(attrs_validate(loaded), OK);
    save_to(loaded, &c);
    assert_true(str_eq(strbuf_str(&a), strbuf_str(&c)));
    attrs_free(w.a);
    w.a = loaded;
    compare_values(&w);
    strbuf_deinit(&a);
    strbuf_deinit(&b);
    strbuf_deinit(&c);
    attrs_free(fresh);
    attrs_free(loaded);
}

static void test_every_flipped_byte_is_noticed(void **state) {
    (void)state;
    attrs *a, *out;
    assert_int_equal(attrs_new(&a), OK);
    str tags[] = {STR("x"), STR("y")};
    attrs_value v = {.author = STR("ana"),
                     .lang = STR("de"),
                     .tags = tags,
                     .n_tags = 2,
                     .created_ms = -5,
                     .flags = ATTRS_REPLY};
    assert_int_equal(attrs_set(a, 2, &v), OK);
    assert_int_equal(attrs_set(a, 7, &v), OK);
    strbuf b;
    save_to(a, &b);
    for (size_t i = 0; i < b.len; i++)
        for (int bit = 0; bit < 8; bit++) {
            b.ptr[i] = (char)(b.ptr[i] ^ (1 << bit));
            assert_true(attrs_load(b.ptr, b.len, &out) != OK);
            b.ptr[i] = (char)(b.ptr[i] ^ (1 << bit));
        }
    for (size_t n = 0; n < b.len; n++) {
        char *copy = mem_dup(b.ptr, n + 1);
        assert_true(attrs_load(copy, n, &out) != OK);
        mem_free(copy);
    }
    strbuf_deinit(&b);
    attrs_free(a);
}

static void test_failing_allocations_change_nothing(void **state) {
    (void)state;
    static world w;
    world_open(&w, 3);
    for (uint32_t d = 0; d < 200; d++) world_set(&w, d);
    strbuf before, after;
    save_to(w.a, &before);
    str tags[] = {STR("new tag that is long"), STR("n1"), STR("newer")};
    attrs_value v = {.author = STR("someone entirely new"),
                     .thread = STR("n1"),
                     .channel = STR("new channel"),
                     .lang = STR("xx"),
                     .tags = tags,
                     .n_tags = 3};
    err rc = ERR_NO_MEMORY;
    for (long nth = 1; rc != OK; nth++) {
        mem_fail_after(nth);
        rc = attrs_set(w.a, 5000, &v);
        mem_fail_after(0);
        if (rc == OK) break;
        assert_int_equal(rc, ERR_NO_MEMORY);
        assert_int_equal(attrs_validate(w.a), OK);
    }
    attrs_clear(w.a, 5000);
    assert_int_equal(attrs_validate(w.a), OK);
    save_to(w.a, &after);
    assert_true(str_eq(strbuf_str(&before), strbuf_str(&after)));
    attrs_filter f = {0};
    str two[] = {w.names[1], w.names[2]};
    f.author_in = f.channel_in = (attrs_strs){two, 2};
    uint64_t bits[6000 / 64 + 1];
    uint32_t count;
    rc = ERR_NO_MEMORY;
    for (long nth = 1; rc != OK; nth++) {
        mem_fail_after(nth);
        rc = attrs_filter_compile(w.a, &f, bits, COUNT_OF(bits), &count);
        mem_fail_after(0);
    }
    attrs *out = NULL;
    rc = ERR_NO_MEMORY;
    for (long nth = 1; rc != OK; nth += 1 + nth / 8) {
        mem_fail_after(nth);
        rc = attrs_load(before.ptr, before.len, &out);
        mem_fail_after(0);
    }
    attrs_free(out);
    strbuf_deinit(&before);
    strbuf_deinit(&after);
    attrs_free(w.a);
}

static void test_limits(void **state) {
    (void)state;
    attrs *a;
    assert_int_equal(attrs_new(&a), OK);
    char *big = mem_alloc(ATTRS_NAME_MAX + 1);
    memset(big, 'x', ATTRS_NAME_MAX + 1);
    attrs_value v = {.author = str_from(big, ATTRS_NAME_MAX + 1)};
    assert_int_equal(attrs_set(a, 0, &v), ERR_TOO_LARGE);
    assert_true(str_eq(str_of(err_field()), STR("author")));
    v = (attrs_value){.lang = str_from(big, ATTRS_LANG_MAX + 1)};
    assert_int_equal(attrs_set(a, 0, &v), ERR_TOO_LARGE);
    str empty = STR("");
    v = (attrs_value){.tags = &empty, .n_tags = 1};
    assert_int_equal(attrs_set(a, 0, &v), ERR_INVALID);
    v = (attrs_value){.author = str_from(big, ATTRS_NAME_MAX)};
    assert_int_equal(attrs_set(a, ATTRS_DOC_MAX, &v), ERR_TOO_LARGE);
    assert_int_equal(attrs_set(a, 70, &v), OK);
    attrs_filter f = {0};
    uint64_t bits[2];
    uint32_t count;
    assert_int_equal(attrs_filter_compile(a, &f, bits, 1, &count), ERR_INVALID);
    assert_int_equal(attrs_filter_compile(a, &f, bits, 2, &count), OK);
    assert_int_equal(count, 1);
    mem_free(big);
    attrs_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_histories),
        cmocka_unit_test(test_names_vanish),
        cmocka_unit_test(test_bytes_follow_from_content),
        cmocka_unit_test(test_every_flipped_byte_is_noticed),
        cmocka_unit_test(test_failing_allocations_change_nothing),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
