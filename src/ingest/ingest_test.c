/* ingest: lines of all shapes, gz too; the embed fold embeds everything once and sets poison aside. */
#include "ingest/ingest.h"
#include "provider/provider_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

enum { DIM = 32 };

static void write_file(const char *path, const char *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
}

static void expect_lines(const char *path, const char *const *want, size_t n) {
    lines *l;
    str line;
    bool cut;
    assert_int_equal(lines_open(path, &l), OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(lines_next(l, &line, &cut), OK);
        assert_true(str_eq(line, str_of(want[i])));
        assert_false(cut);
    }
    assert_int_equal(lines_next(l, &line, &cut), ERR_NOT_FOUND);
    lines_close(l);
}

static void lines_of_all_shapes(void **state) {
    (void)state;
    char path[] = "/tmp/kith-lines-XXXXXX";
    close(mkstemp(path));
    const char *want[] = {"a", "", "b", "c"};
    write_file(path, "a\r\n\nb\nc", 7);
    expect_lines(path, want, 4);
    write_file(path, "", 0);
    expect_lines(path, want, 0);
    gzFile gz = gzopen(path, "wb");
    gzwrite(gz, "a\n\nb\nc\n", 7);
    gzclose(gz);
    expect_lines(path, want, 4);
    lines *l;
    assert_int_equal(lines_open("/nowhere/at/all", &l), ERR_NOT_FOUND);
    assert_int_equal(lines_open("/tmp", &l), ERR_INVALID);
    unlink(path);
}

static void long_lines_are_cut(void **state) {
    (void)state;
    char path[] = "/tmp/kith-lines-XXXXXX";
    close(mkstemp(path));
    size_t n = LINES_MAX_BYTES + 5000;
    char *big = mem_alloc(n + 3);
    memset(big, 'x', n);
    memcpy(big + n, "\nz\n", 3);
    write_file(path, big, n + 3);
    lines *l;
    str line;
    bool cut;
    assert_int_equal(lines_open(path, &l), OK);
    assert_int_equal(lines_next(l, &line, &cut), OK);
    assert_true(cut && line.len == LINES_MAX_BYTES);
    assert_int_equal(lines_next(l, &line, &cut), OK);
    assert_true(!cut && str_eq(line, STR("z")));
    lines_close(l);
    mem_free(big);
    unlink(path);
}

static void embeds_everything_once(void **state) {
    (void)state;
    char dir[] = "/tmp/kith-ingest-XXXXXX";
    assert_non_null(mkdtemp(dir));
    provider *p;
    shard *s;
    embedder *e;
    assert_int_equal(provider_mock_open(DIM, &p), OK);
    shard_options o = {.fs = fs_real(), .dir = dir, .space = provider_space(p), .dim = DIM};
    assert_int_equal(shard_open(&o, &s), OK);
    assert_int_equal(embedder_start(&(embedder_options){.shard = s, .provider = p}, &e), OK);
    uint64_t lsn = 0;
    char id[16], text[64];
    for (int i = 0; i < 300; i++) {
        snprintf(id, sizeof id, "p%d", i);
        snprintf(text, sizeof text, "text number %d", i);
        Kith__V1__Post post = KITH__V1__POST__INIT;
        post.id = id;
        post.text = text;
        shard_item item = {&post, NULL};
        assert_int_equal(shard_put(s, &item, 1, &lsn), OK);
    }
    for (int i = 0; i < 300; i++) {
        snprintf(id, sizeof id, "p%d", i);
        assert_int_equal(shard_wait(s, str_of(id), lsn, WAIT_SEARCHABLE, 30000), OK);
    }
    embedder_stats st;
    embedder_stats_get(e, &st);
    assert_in_range(st.texts, 300 - 64, 300); /* the last batch may not be counted yet */
    embedder_stop(e);
    shard_stats ss;
    assert_int_equal(shard_stat(s, &ss), OK);
    assert_int_equal(ss.vectors, 300);
    assert_int_equal(ss.pending, 0);
    shard_close(s);
    provider_close(p);
    char cmd[64];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    assert_int_equal(system(cmd), 0);
}

/* ---- a service that breaks ---- */

typedef struct moody {
    _Atomic unsigned unlucky; /* how often a text that says so breaks it yet */
} moody;

static err moody_embed(void *self, const embed_ask *a, float *out, embed_usage *usage) {
    moody *m = self;
    bool bad = false;
    (void)usage;
    for (size_t i = 0; i < a->count; i++) {
        bad |= str_find(a->texts[i], STR("poison")) >= 0;
        if (str_find(a->texts[i], STR("unlucky")) >= 0 && m->unlucky > 0) {
            m->unlucky--;
            bad = true;
        }
        for (size_t d = 0; d < DIM; d++) out[i * DIM + d] = d == i % DIM;
    }
    return bad ? err_set(ERR_IO, "the service broke") : OK;
}

static void moody_close(void *self) {
    (void)self;
}

/* Three broken batches, and then alone: seven failures in a row are chance, eight are the text's own. */
static void only_a_text_that_always_breaks_is_set_aside(void **state) {
    (void)state;
    static const provider_ops ops = {.embed = moody_embed, .close = moody_close};
    static const char *const texts[] = {"good", "unlucky", "poison", "good too"};
    char dir[] = "/tmp/kith-ingest-XXXXXX", id[8];
    assert_non_null(mkdtemp(dir));
    moody m = {.unlucky = 3 + 7};
    provider_info info = {.kind = "moody", .space = "moody", .dim = DIM, .texts_max = 64};
    provider *p;
    shard *s;
    embedder *e;
    uint64_t lsn = 0;
    assert_int_equal(provider_make(&ops, &m, &info, NULL, &p), OK);
    shard_options o = {.fs = fs_real(), .dir = dir, .space = "moody", .dim = DIM};
    assert_int_equal(shard_open(&o, &s), OK);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        Kith__V1__Post post = KITH__V1__POST__INIT;
        snprintf(id, sizeof id, "p%zu", i);
        post.id = id;
        post.text = (char *)(uintptr_t)texts[i];
        assert_int_equal(shard_put(s, &(shard_item){&post, NULL}, 1, &lsn), OK);
    }
    assert_int_equal(shard_wait(s, STR(""), lsn, WAIT_APPLIED, 30000), OK);
    assert_int_equal(embedder_start(&(embedder_options){.shard = s, .provider = p}, &e), OK);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        snprintf(id, sizeof id, "p%zu", i);
        assert_int_equal(shard_wait(s, str_of(id), lsn, WAIT_SEARCHABLE, 60000), OK);
    }
    embedder_stop(e);
    shard_stats st;
    assert_int_equal(shard_stat(s, &st), OK);
    assert_int_equal(st.vectors, 3);
    assert_int_equal(st.failed, 1);
    shard_close(s);
    provider_close(p);
    char cmd[64];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    assert_int_equal(system(cmd), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_all_shapes),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(embeds_everything_once),
        cmocka_unit_test(only_a_text_that_always_breaks_is_set_aside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
