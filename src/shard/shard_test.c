/* shard: put, delete, wait, restart from every mix of files, damage, and state = fold(journal).
 *
 * A small mirror (what was acknowledged) is the oracle: after each restart the store, the words and
 * the graph must hold just that.
 */
#include "shard/shard.h"

#include "provider/provider.h"
#include "shard/snapfile.h"
#include "vec/vec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { DIM = 64, IDS = 40, TEXT = 200 };

typedef struct fixture {
    char dir[64];
    provider *p;
    shard *s;
    char *want[IDS]; /* acknowledged text by id; NULL: not there */
    int notices;
} fixture;

static void on_notice(void *ctx, const char *text) {
    (void)text;
    ((fixture *)ctx)->notices++;
}

static void open_it(fixture *f) {
    shard_options o = {.fs = fs_real(),
                       .dir = f->dir,
                       .space = provider_space(f->p),
                       .dim = DIM,
                       .notice = on_notice,
                       .notice_ctx = f};
    err rc = shard_open(&o, &f->s);
    if (rc != OK) print_error("%s\n", err_detail());
    assert_int_equal(rc, OK);
}

static int setup(void **state) {
    fixture *f = mem_zalloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/kith-shard-XXXXXX");
    if (!mkdtemp(f->dir) || provider_mock_open(DIM, &f->p) != OK) return -1;
    open_it(f);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    shard_close(f->s);
    provider_close(f->p);
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", f->dir);
    int rc = system(cmd);
    for (int i = 0; i < IDS; i++) mem_free(f->want[i]);
    mem_free(f);
    return rc;
}

static void id_of(int i, char out[16]) {
    snprintf(out, 16, "p%d", i);
}

static void put(fixture *f, int i, const char *text, bool with_vector) {
    char id[16];
    id_of(i, id);
    Kith__V1__Post post = KITH__V1__POST__INIT;
    post.id = id;
    post.text = (char *)(uintptr_t)text;
    post.author = (char *)(uintptr_t)(i % 2 ? "ann" : "bob");
    float v[DIM];
    str t = str_of(text);
    assert_int_equal(provider_embed(f->p, &t, 1, EMBED_DOCUMENT, v, NULL), OK);
    uint64_t lsn;
    shard_item item = {&post, with_vector ? v : NULL};
    assert_int_equal(shard_put(f->s, &item, 1, &lsn), OK);
    mem_free(f->want[i]);
    f->want[i] = mem_dup(text, strlen(text) + 1);
}

static void del(fixture *f, int i) {
    char id[16];
    uint64_t lsn;
    id_of(i, id);
    err rc = shard_delete(f->s, str_of(id), &lsn);
    assert_int_equal(rc, f->want[i] ? OK : ERR_NOT_FOUND);
    mem_free(f->want[i]);
    f->want[i] = NULL;
}

/* Embeds what waits, as the embed fold does. */
static void embed_all(fixture *f) {
    arena a;
    arena_init(&a, 16 * MIB);
    assert_int_equal(shard_wait(f->s, STR(""), shard_head(f->s), WAIT_APPLIED, 10000), OK);
    for (;;) {
        store_row *rows;
        size_t n;
        arena_reset(&a);
        assert_int_equal(shard_pending(f->s, 8, 0, &a, &rows, &n), OK);
        if (n == 0) break;
        for (size_t i = 0; i < n; i++) {
            float v[DIM];
            str t = str_of(rows[i].post->text);
            assert_int_equal(provider_embed(f->p, &t, 1, EMBED_DOCUMENT, v, NULL), OK);
            shard_vector sv = {
                .id = str_of(rows[i].post->id), .text_hash = rows[i].text_hash, .vector = v};
            assert_int_equal(shard_put_vectors(f->s, 0, &sv, 1), OK);
        }
    }
    arena_deinit(&a);
}

/* Every acknowledged post is in the store, found by its words and by its vector; no other is. */
static void check_all(fixture *f) {
    arena a;
    arena_init(&a, 16 * MIB);
    assert_int_equal(shard_wait(f->s, STR(""), shard_head(f->s), WAIT_APPLIED, 10000), OK);
    size_t live = 0;
    for (int i = 0; i < IDS; i++) {
        char id[16];
        id_of(i, id);
        arena_reset(&a);
        store_row row;
        store_reader *r = store_reader_get(shard_store(f->s));
        err rc = store_get(r, str_of(id), &a, &row);
        store_reader_put(shard_store(f->s), r);
        assert_int_equal(rc, f->want[i] ? OK : ERR_NOT_FOUND);
        if (!f->want[i]) continue;
        live++;
        assert_string_equal(row.post->text, f->want[i]);
        assert_int_equal(shard_wait(f->s, str_of(id), 0, WAIT_SEARCHABLE, 10000), OK);
        shard_words w;
        shard_words_begin(f->s, &w);
        assert_int_equal(w.rev[row.doc], row.rev);
        assert_true(lexical_has(w.words, row.doc));
        assert_true(attrs_has(w.attrs, row.doc));
        shard_words_end(f->s);
        float got[DIM], want[DIM];
        str t = str_of(f->want[i]);
        assert_int_equal(provider_embed(f->p, &t, 1, EMBED_DOCUMENT, want, NULL), OK);
        const hnsw *h = shard_vectors_begin(f->s);
        assert_int_equal(hnsw_get(h, row.doc, got), OK);
        shard_vectors_end(f->s);
        assert_true(vec_dot_f32(got, want, DIM) > 0.999f);
    }
    shard_words w;
    shard_words_begin(f->s, &w);
    assert_int_equal(attrs_docs_live(w.attrs), live);
    assert_int_equal(lexical_validate(w.words), OK);
    assert_int_equal(attrs_validate(w.attrs), OK);
    shard_words_end(f->s);
    const hnsw *h = shard_vectors_begin(f->s);
    assert_int_equal(hnsw_count(h), live);
    assert_int_equal(hnsw_validate(h), OK);
    shard_vectors_end(f->s);
    arena_deinit(&a);
}

static void random_ops(fixture *f, rng *r, int n) {
    for (int k = 0; k < n; k++) {
        int i = (int)rng_below(r, IDS);
        if (rng_below(r, 4) == 0) {
            del(f, i);
            continue;
        }
        char text[TEXT];
        snprintf(text, sizeof text, "post %d says word%u and word%u", i, rng_below(r, 30),
                 rng_below(r, 30));
        put(f, i, text, rng_below(r, 2) == 0);
    }
}

static void remove_file(fixture *f, const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    unlink(path);
}

/* Restart with: everything, no snapshot, no store, an old snapshot, a damaged snapshot. */
static void restarts_from_any_files(void **state) {
    fixture *f = *state;
    rng r;
    rng_seed(&r, 42);
    for (int round = 0; round < 10; round++) {
        random_ops(f, &r, 60);
        embed_all(f);
        if (round % 3 == 0) assert_int_equal(shard_snapshot(f->s), OK);
        random_ops(f, &r, 20);
        embed_all(f);
        check_all(f);
        shard_close(f->s);
        f->s = NULL;
        if (round % 5 == 1) remove_file(f, "index.snap");
        if (round % 5 == 2 || round % 5 == 3) {
            remove_file(f, "store.db");
            remove_file(f, "store.db-wal");
            remove_file(f, "store.db-shm");
        }
        if (round % 5 == 3) remove_file(f, "index.snap");
        open_it(f);
        check_all(f);
    }
}

static int count_problem;
static void on_problem(void *ctx, const char *name, const char *problem) {
    (void)ctx, (void)name, (void)problem;
    count_problem++;
}

static void write_bytes(const char *path, const uint8_t *p, size_t n) {
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(p, 1, n, out), n);
    fclose(out);
}

/* A damaged snapshot: verify says so, opening says so and has everything all the same. */
static void opens_again(fixture *f) {
    uint64_t files;
    count_problem = 0;
    assert_int_equal(shard_verify(fs_real(), f->dir, NULL, on_problem, NULL, &files), ERR_CORRUPT);
    assert_true(count_problem > 0);
    f->notices = 0;
    open_it(f);
    assert_true(f->notices > 0);
    check_all(f);
    shard_close(f->s);
    f->s = NULL;
}

/* Each byte of the snapshot flipped: verify tells, and opening makes the indexes again. */
static void damaged_snapshot_is_made_again(void **state) {
    fixture *f = *state;
    rng r;
    rng_seed(&r, 7);
    random_ops(f, &r, 30);
    embed_all(f);
    assert_int_equal(shard_snapshot(f->s), OK);
    shard_close(f->s);
    f->s = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/index.snap", f->dir);
    uint8_t *bytes;
    size_t n;
    assert_int_equal(file_read_all(fs_real(), path, 64 * MIB, &bytes, &n), OK);
    snapfile parsed = {0};
    assert_int_equal(snapfile_parse(bytes, n, "good", &parsed), OK);
    for (size_t i = 0; i < n; i++) {
        bytes[i] ^= (uint8_t)(1u << (i % 8));
        assert_int_not_equal(snapfile_parse(bytes, n, "flipped", &parsed), OK);
        if (i % (n / 12) == 0) {
            write_bytes(path, bytes, n);
            opens_again(f);
        }
        bytes[i] ^= (uint8_t)(1u << (i % 8));
        if (n > 20000) i += n / 20000;
    }
    write_bytes(path, bytes, n / 2); /* cut */
    opens_again(f);
    mem_free(bytes);
    open_it(f);
    check_all(f);
}

/* Damage in the store that is seen on opening: it is folded again from the journal. */
static void damaged_store_is_made_again(void **state) {
    fixture *f = *state;
    rng r;
    rng_seed(&r, 11);
    random_ops(f, &r, 80);
    embed_all(f);
    check_all(f);
    shard_close(f->s);
    f->s = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/store.db", f->dir);
    uint8_t *bytes;
    size_t n;
    assert_int_equal(file_read_all(fs_real(), path, 64 * MIB, &bytes, &n), OK);
    for (int i = 0; i < 3; i++) { /* the header, the schema's page, all of it */
        size_t from = i == 0 ? 20 : 0, to = i == 0 ? 60 : i == 1 ? 4096 : n;
        for (size_t at = from; at < to; at++) bytes[at] ^= 0x55;
        write_bytes(path, bytes, n);
        for (size_t at = from; at < to; at++) bytes[at] ^= 0x55;
        f->notices = 0;
        open_it(f);
        assert_true(f->notices > 0);
        check_all(f);
        shard_close(f->s);
        f->s = NULL;
    }
    mem_free(bytes);
    open_it(f);
}

static bool grep_file(const char *path, const char *needle) {
    uint8_t *b;
    size_t n;
    if (file_read_all(fs_real(), path, 256 * MIB, &b, &n) != OK) return false;
    bool found = memmem(b, n, needle, strlen(needle)) != NULL;
    mem_free(b);
    return found;
}

static void deleted_text_is_in_no_file(void **state) {
    fixture *f = *state;
    put(f, 1, "the xylophonequark secret of someone", true);
    put(f, 2, "something else entirely", true);
    embed_all(f);
    check_all(f);
    assert_int_equal(shard_snapshot(f->s), OK);
    char snap[128], db[128], wal[128];
    snprintf(snap, sizeof snap, "%s/index.snap", f->dir);
    snprintf(db, sizeof db, "%s/store.db", f->dir);
    snprintf(wal, sizeof wal, "%s/store.db-wal", f->dir);
    assert_true(grep_file(snap, "xylophonequark")); /* the word is a term of the index */
    del(f, 1);
    assert_int_equal(shard_wait(f->s, STR(""), shard_head(f->s), WAIT_APPLIED, 10000), OK);
    bool there = true;
    for (int i = 0; i < 200 && there; i++) { /* by itself, in the background */
        clock_sleep_ms(100);
        there = grep_file(snap, "xylophonequark") || grep_file(db, "xylophonequark") ||
                grep_file(wal, "xylophonequark");
    }
    assert_false(there);
    check_all(f);
}

static void vectors_of_replaced_texts_are_dropped(void **state) {
    fixture *f = *state;
    put(f, 1, "first text", false);
    assert_int_equal(shard_wait(f->s, STR(""), shard_head(f->s), WAIT_APPLIED, 10000), OK);
    float v[DIM] = {1};
    str first = STR("first text");
    put(f, 1, "second text", true);
    shard_vector late = {
        .id = STR("p1"), .text_hash = hash64(first.ptr, first.len, 0), .vector = v};
    assert_int_equal(shard_put_vectors(f->s, 0, &late, 1), OK);
    check_all(f);
}

static void the_same_again_is_known(void **state) {
    fixture *f = *state;
    put(f, 1, "one text", true);
    assert_int_equal(shard_wait(f->s, STR("p1"), shard_head(f->s), WAIT_SEARCHABLE, 10000), OK);
    Kith__V1__Post post = KITH__V1__POST__INIT;
    char id[] = "p1", text[] = "one text", author[] = "ann";
    post.id = id, post.text = text, post.author = author;
    float v[DIM], other[DIM] = {0};
    str t = STR("one text");
    assert_int_equal(provider_embed(f->p, &t, 1, EMBED_DOCUMENT, v, NULL), OK);
    for (int i = 0; i < DIM; i++) v[i] *= 7, other[i] = -v[i];
    uint64_t lsn = 0;
    assert_true(shard_has_same(f->s, &post, NULL, &lsn));
    assert_true(shard_has_same(f->s, &post, v, &lsn)); /* of any length */
    assert_false(shard_has_same(f->s, &post, other, &lsn));
    memset(other, 0, sizeof other);
    assert_false(shard_has_same(f->s, &post, other, &lsn));
}

static void failed_texts_are_set_aside(void **state) {
    fixture *f = *state;
    str t = STR("poison");
    put(f, 3, "poison", false);
    shard_vector bad = {
        .id = STR("p3"), .text_hash = hash64(t.ptr, t.len, 0), .reason = STR("no tokens")};
    assert_int_equal(shard_put_vectors(f->s, 0, &bad, 1), OK);
    assert_int_equal(shard_wait(f->s, STR("p3"), shard_head(f->s), WAIT_SEARCHABLE, 5000), OK);
    shard_stats st;
    assert_int_equal(shard_stat(f->s, &st), OK);
    assert_int_equal(st.failed, 1);
    assert_int_equal(st.pending, 0);
}

static void bad_posts_are_refused(void **state) {
    fixture *f = *state;
    char longid[POST_ID_MAX + 2];
    memset(longid, 'x', sizeof longid - 1);
    longid[sizeof longid - 1] = 0;
    struct {
        const char *id, *text, *author, *field;
    } t[] = {{"", "t", "", "id"},          {"a", "", "", "text"},       {"a", " \n", "", "text"},
             {"a\nb", "t", "", "id"},      {longid, "t", "", "id"},     {"a", "\xff", "", "text"},
             {"a", "t", "\x01", "author"}, {"a", "t", longid, "author"}};
    for (size_t i = 0; i < COUNT_OF(t); i++) {
        Kith__V1__Post p = KITH__V1__POST__INIT;
        p.id = (char *)(uintptr_t)t[i].id;
        p.text = (char *)(uintptr_t)t[i].text;
        p.author = (char *)(uintptr_t)t[i].author;
        assert_int_equal(shard_check_post(&p), ERR_INVALID);
        assert_string_equal(err_field(), t[i].field);
    }
    Kith__V1__Post p = KITH__V1__POST__INIT;
    char id[] = "a", text[] = "t";
    p.id = id;
    p.text = text;
    float v[DIM] = {0};
    shard_item item = {&p, v};
    uint64_t lsn;
    assert_int_equal(shard_put(f->s, &item, 1, &lsn), ERR_INVALID);
    v[0] = 0.0f / v[1];
    assert_int_equal(shard_put(f->s, &item, 1, &lsn), ERR_INVALID);
}

static void second_process_is_told(void **state) {
    fixture *f = *state;
    pid_t pid = fork();
    if (pid == 0) {
        shard *s;
        shard_options o = {
            .fs = fs_real(), .dir = f->dir, .space = provider_space(f->p), .dim = DIM};
        _exit(shard_open(&o, &s) == ERR_AGAIN ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void other_space_is_refused(void **state) {
    fixture *f = *state;
    shard_close(f->s);
    shard_options o = {.fs = fs_real(), .dir = f->dir, .space = "another/space", .dim = DIM};
    assert_int_equal(shard_open(&o, &f->s), ERR_INVALID);
    open_it(f);
}

/* ---- several spaces ---- */

enum { OTHER_DIM = 32 };

static void open_two(fixture *f, provider *first, provider *second, bool change) {
    shard_options o = {.fs = fs_real(),
                       .dir = f->dir,
                       .space = provider_space(first),
                       .dim = provider_dim(first),
                       .change_space = change,
                       .more = {{provider_space(second), provider_dim(second)}},
                       .more_count = 1,
                       .notice = on_notice,
                       .notice_ctx = f};
    err rc = shard_open(&o, &f->s);
    if (rc != OK) print_error("%s\n", err_detail());
    assert_int_equal(rc, OK);
}

/* Fills the space beside the first; returns how many texts it lacked. */
static size_t fill_beside(fixture *f, provider *p, size_t at_most) {
    arena a;
    size_t total = 0;
    arena_init(&a, 16 * MIB);
    while (total < at_most) {
        shard_rows rows;
        float v[OTHER_DIM];
        arena_reset(&a);
        assert_int_equal(shard_space_pending(f->s, 1, 3, total ? 0 : 200, &a, &rows), OK);
        if (rows.count == 0) break;
        for (size_t i = 0; i < rows.count; i++) {
            str t = str_of(rows.items[i].post->text);
            assert_int_equal(provider_embed(p, &t, 1, EMBED_DOCUMENT, v, NULL), OK);
            shard_vector sv = {.id = str_of(rows.items[i].post->id),
                               .text_hash = rows.items[i].text_hash,
                               .vector = v};
            assert_int_equal(shard_put_vectors(f->s, 1, &sv, 1), OK);
        }
        total += rows.count;
    }
    arena_deinit(&a);
    return total;
}

static void expect_spaces(fixture *f, uint64_t first, uint64_t second) {
    shard_state st;
    shard_space_stats x;
    assert_int_equal(shard_state_get(f->s, 10000, &st), OK); /* nothing is on its way */
    assert_int_equal(st.vectors, first);
    shard_space_stat(f->s, 1, &x);
    assert_int_equal(x.vectors, second);
}

/* The second space lives through restarts and lost files, becomes the first, and goes back; a crash in the middle
 * of the change only means doing it again. */
static void spaces_side_by_side(void **state) {
    fixture *f = *state;
    provider *other;
    char text[64];
    shard_stats st;
    assert_int_equal(provider_mock_open(OTHER_DIM, &other), OK);
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof text, "space text number %d", i);
        put(f, i, text, true);
    }
    shard_close(f->s);
    open_two(f, f->p, other, false);
    assert_int_equal(fill_beside(f, other, 9), 9);
    expect_spaces(f, 20, 9);
    shard_close(f->s);
    open_two(f, f->p, other, false);
    assert_int_equal(fill_beside(f, other, 100), 11); /* only what it lacked */
    expect_spaces(f, 20, 20);
    put(f, 0, "another text now", true);
    assert_int_equal(fill_beside(f, other, 100), 1);
    del(f, 1);
    assert_int_equal(shard_wait(f->s, STR(""), shard_head(f->s), WAIT_APPLIED, 10000), OK);
    expect_spaces(f, 19, 19);
    shard_close(f->s);
    remove_file(f, "index.snap"); /* the first graph from the journal, the second from its file */
    open_two(f, f->p, other, false);
    expect_spaces(f, 19, 19);
    shard_close(f->s);
    open_two(f, other, f->p, true);
    expect_spaces(f, 19, 19);
    assert_int_equal(shard_stat(f->s, &st), OK);
    assert_int_equal(st.pending, 0);
    put(f, 2, "a text that only the new first space gets", false);
    assert_int_equal(shard_wait(f->s, STR(""), shard_head(f->s), WAIT_APPLIED, 10000), OK);
    shard_close(f->s);
    char next[128];
    snprintf(next, sizeof next, "%s/space.next", f->dir);
    assert_int_equal(file_write_atomic(fs_real(), next, "x", 1), OK); /* as a crash leaves it */
    open_two(f, f->p, other, true);
    expect_spaces(f, 18, 18);
    assert_int_equal(shard_stat(f->s, &st), OK);
    assert_int_equal(st.pending, 1);
    assert_false(fs_exists(fs_real(), next));
    assert_int_equal(fill_beside(f, other, 100), 1);
    provider_close(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(restarts_from_any_files, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_snapshot_is_made_again, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_store_is_made_again, setup, teardown),
        cmocka_unit_test_setup_teardown(deleted_text_is_in_no_file, setup, teardown),
        cmocka_unit_test_setup_teardown(vectors_of_replaced_texts_are_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_again_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(failed_texts_are_set_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_posts_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(second_process_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(other_space_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(spaces_side_by_side, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
