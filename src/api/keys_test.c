/* keys: born once, checked, revoked, kept, and hostile files refused. */
#include "api/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct place {
    char dir[64], file[96], lock[96];
} place;

static int setup(void **state) {
    static place p;
    p = (place){.dir = "/tmp/kith-keys-XXXXXX"};
    if (!mkdtemp(p.dir)) return 1;
    strbuf b;
    strbuf_init(&b, 95);
    strbuf_addf(&b, "%s/keys.json", p.dir);
    memcpy(p.file, b.ptr, b.len + 1);
    strbuf_reset(&b);
    strbuf_addf(&b, "%s/keys.lock", p.dir);
    memcpy(p.lock, b.ptr, b.len + 1);
    strbuf_deinit(&b);
    *state = &p;
    return 0;
}

static int teardown(void **state) {
    place *p = *state;
    (void)unlink(p->file);
    (void)unlink(p->lock);
    return rmdir(p->dir);
}

static void birth_gives_one_admin_key(void **state) {
    place *p = *state;
    char token[KEY_TOKEN_MAX], again[KEY_TOKEN_MAX];
    assert_int_equal(keys_birth(fs_real(), p->dir, token), OK);
    assert_int_equal(strlen(token), 5 + KEY_ID_LEN + 1 + 43);
    assert_int_equal(keys_birth(fs_real(), p->dir, again), OK);
    assert_string_equal(again, "");
    struct stat st;
    assert_int_equal(stat(p->file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    keys *k;
    assert_int_equal(keys_open(fs_real(), p->dir, &k), OK);
    assert_int_equal(keys_live(k), 1);
    key_grant g;
    assert_int_equal(keys_check(k, str_of(token), &g), OK);
    assert_int_equal(g.scopes, SCOPE_ALL);
    assert_memory_equal(g.id, token + 5, KEY_ID_LEN);
    keys_close(k);
}

static void secret_is_not_in_the_file(void **state) {
    place *p = *state;
    char token[KEY_TOKEN_MAX];
    assert_int_equal(keys_birth(fs_real(), p->dir, token), OK);
    uint8_t *bytes;
    size_t n;
    assert_int_equal(file_read_all(fs_real(), p->file, MIB, &bytes, &n), OK);
    str secret = str_of(token + 5 + KEY_ID_LEN + 1);
    assert_true(str_find(str_from(bytes, n), secret) < 0);
    assert_true(str_find(str_from(bytes, n), str_from(token + 5, KEY_ID_LEN)) > 0);
    mem_free(bytes);
}

static void wrong_tokens_are_refused(void **state) {
    place *p = *state;
    char token[KEY_TOKEN_MAX];
    assert_int_equal(keys_birth(fs_real(), p->dir, token), OK);
    keys *k;
    assert_int_equal(keys_open(fs_real(), p->dir, &k), OK);
    size_t n = strlen(token);
    key_grant g;
    for (size_t i = 0; i < n; i++) { /* any one character changed */
        char bad[KEY_TOKEN_MAX];
        memcpy(bad, token, n + 1);
        bad[i] = bad[i] == 'b' ? 'c' : 'b';
        assert_int_equal(keys_check(k, str_of(bad), &g), ERR_UNAUTHENTICATED);
    }
    for (size_t i = 0; i < n; i++)
        assert_int_equal(keys_check(k, str_from(token, i), &g), ERR_UNAUTHENTICATED);
    assert_int_equal(keys_check(k, (str){NULL, 0}, &g), ERR_UNAUTHENTICATED);
    keys_close(k);
}

static void keys_are_made_listed_revoked(void **state) {
    place *p = *state;
    keys *k, *other;
    char token[KEY_TOKEN_MAX];
    key_grant g;
    assert_int_equal(keys_open(fs_real(), p->dir, &k), OK);
    assert_int_equal(keys_live(k), 0);
    assert_int_equal(keys_new(k, STR("a \"bot\""), SCOPE_SEARCH, token), OK);
    assert_int_equal(keys_open(fs_real(), p->dir, &other), OK); /* another process */
    assert_int_equal(keys_check(other, str_of(token), &g), OK);
    assert_int_equal(g.scopes, SCOPE_SEARCH);
    arena a;
    arena_init(&a, MIB);
    key_info *list;
    size_t n;
    assert_int_equal(keys_list(other, &a, &list, &n), OK);
    assert_int_equal(n, 1);
    assert_string_equal(list[0].name, "a \"bot\"");
    assert_true(!list[0].revoked && list[0].created_ms > 1700000000000);
    assert_int_equal(keys_revoke(k, str_of(list[0].id)), OK);
    assert_int_equal(keys_revoke(k, str_of(list[0].id)), OK);
    assert_int_equal(keys_revoke(k, STR("aaaaaaaaaaaa")), ERR_NOT_FOUND);
    assert_int_equal(keys_check(k, str_of(token), &g), ERR_UNAUTHENTICATED);
    assert_int_equal(keys_live(k), 0);
    arena_deinit(&a);
    keys_close(other);
    keys_close(k);
}

static void bad_names_and_scopes(void **state) {
    place *p = *state;
    keys *k;
    char token[KEY_TOKEN_MAX], name[KEY_NAME_MAX + 1];
    memset(name, 'x', sizeof name);
    assert_int_equal(keys_open(fs_real(), p->dir, &k), OK);
    assert_int_equal(keys_new(k, str_from(name, sizeof name), SCOPE_ALL, token), ERR_INVALID);
    assert_string_equal(err_field(), "name");
    assert_int_equal(keys_new(k, STR("\xff"), SCOPE_ALL, token), ERR_INVALID);
    assert_int_equal(keys_new(k, STR("a"), 0, token), ERR_INVALID);
    assert_string_equal(err_field(), "scopes");
    assert_int_equal(keys_new(k, STR("a"), 16, token), ERR_INVALID);
    unsigned s;
    assert_int_equal(keys_scopes_parse(STR("search, admin"), &s), OK);
    assert_int_equal(s, SCOPE_SEARCH | SCOPE_ADMIN);
    assert_int_equal(keys_scopes_parse(STR("search,root"), &s), ERR_INVALID);
    assert_int_equal(keys_scopes_parse(STR(""), &s), ERR_INVALID);
    keys_close(k);
}

static void damaged_files_are_refused(void **state) {
    place *p = *state;
    static const char bad_scope[] =
        "{\"keys\":[{\"id\":\"aaaaaaaaaaaa\",\"name\":\"\",\"scopes\":[\"root\"],\"hash\":"
        "\"0000000000000000000000000000000000000000000000000000000000000000\","
        "\"created_at\":\"2024-01-01\",\"revoked\":false}]}";
    static const char bad_hash[] =
        "{\"keys\":[{\"id\":\"aaaaaaaaaaaa\",\"name\":\"\",\"scopes\":[],\"hash\":\"00\","
        "\"created_at\":\"2024-01-01\",\"revoked\":false}]}";
    static const char *const bad[] = {
        "", "{", "[]", "{\"keys\":{}}", "{\"keys\":[3]}", "{\"keys\":[{}]}", bad_scope, bad_hash};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(file_write_atomic(fs_real(), p->file, bad[i], strlen(bad[i])), OK);
        keys *k = NULL;
        if (keys_open(fs_real(), p->dir, &k) != ERR_CORRUPT) fail_msg("taken: %s", bad[i]);
        assert_null(k);
    }
}

/* Each byte of a good file changed: another text in a name may pass, a crash or a grant may not. */
static void flipped_bytes_grant_nothing(void **state) {
    place *p = *state;
    char token[KEY_TOKEN_MAX];
    assert_int_equal(keys_birth(fs_real(), p->dir, token), OK);
    uint8_t *bytes;
    size_t n;
    assert_int_equal(file_read_all(fs_real(), p->file, MIB, &bytes, &n), OK);
    for (size_t i = 0; i < n; i++) {
        bytes[i] ^= 0x11;
        assert_int_equal(file_write_atomic(fs_real(), p->file, bytes, n), OK);
        keys *k;
        if (keys_open(fs_real(), p->dir, &k) == OK) {
            key_grant g = {.scopes = 0};
            err rc = keys_check(k, str_of(token), &g);
            assert_true(rc == ERR_UNAUTHENTICATED || g.scopes <= SCOPE_ALL);
            keys_close(k);
        }
        bytes[i] ^= 0x11;
    }
    mem_free(bytes);
}

static void failing_writes_leave_the_old_file(void **state) {
    place *p = *state;
    char token[KEY_TOKEN_MAX], second[KEY_TOKEN_MAX];
    assert_int_equal(keys_birth(fs_real(), p->dir, token), OK);
    fs *bad;
    assert_int_equal(fs_fault_open(fs_real(), &bad), OK);
    keys *k;
    assert_int_equal(keys_open(bad, p->dir, &k), OK);
    for (uint64_t n = 1; n <= 3; n++) {
        fs_fault_plan(bad, (fault_plan){.kinds = FAULT_WRITE | FAULT_SYNC | FAULT_RENAME,
                                        .nth = n,
                                        .code = ERR_NO_SPACE});
        assert_int_equal(keys_new(k, STR("b"), SCOPE_SEARCH, second), ERR_NO_SPACE);
        assert_string_equal(second, "");
        fs_fault_plan(bad, (fault_plan){0});
        key_grant g;
        assert_int_equal(keys_check(k, str_of(token), &g), OK);
        assert_int_equal(keys_live(k), 1);
    }
    keys_close(k);
    fs_fault_close(bad);
    strbuf b;
    strbuf_init(&b, 200);
    strbuf_addf(&b, "%s.tmp", p->file);
    (void)unlink(b.ptr);
    strbuf_deinit(&b);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(birth_gives_one_admin_key),   T(secret_is_not_in_the_file),
        T(wrong_tokens_are_refused),    T(keys_are_made_listed_revoked),
        T(bad_names_and_scopes),        T(damaged_files_are_refused),
        T(flipped_bytes_grant_nothing), T(failing_writes_leave_the_old_file),
    };
    return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}
