/* Boxes, wrapped keys, signatures; the keyring: durable entries, graves, every byte flipped, torn tails. */
#include "seal/keyring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void must(err rc) {
    if (rc != OK) fail_msg("%s: %s", err_name(rc), err_detail());
}

static void boxes(void **state) {
    (void)state;
    seal_master m, other = {{1}, true}, none;
    unsetenv("KITH_MASTER_KEY_FILE");
    setenv("KITH_MASTER_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
           1);
    must(seal_master_load(NULL, &m));
    assert_true(m.given && m.key[1] == 0x11);
    setenv("KITH_MASTER_KEY", "0011", 1);
    assert_int_equal(seal_master_load(NULL, &none), ERR_INVALID);
    unsetenv("KITH_MASTER_KEY");
    must(seal_master_load(NULL, &none));
    assert_false(none.given);
    uint8_t key[SEAL_KEY], w[SEAL_WRAPPED], back[SEAL_KEY], box[5 + SEAL_OVERHEAD], out[5];
    seal_random(key, sizeof key);
    seal_wrap(&m, "x", key, w);
    must(seal_unwrap(&m, "x", w, back));
    assert_memory_equal(key, back, SEAL_KEY);
    assert_int_equal(seal_unwrap(&other, "x", w, back), ERR_DENIED);
    assert_int_equal(seal_unwrap(&m, "y", w, back), ERR_DENIED);
    seal_box(key, STR("ad"), STR("hello"), box);
    assert_true(seal_unbox(key, STR("ad"), str_from(box, sizeof box), out));
    assert_memory_equal(out, "hello", 5);
    assert_false(seal_unbox(key, STR("da"), str_from(box, sizeof box), out));
    for (size_t i = 0; i < sizeof box; i++) {
        box[i] ^= 4;
        assert_false(seal_unbox(key, STR("ad"), str_from(box, sizeof box), out));
        box[i] ^= 4;
        assert_false(seal_unbox(key, STR("ad"), str_from(box, i), out));
    }
    uint8_t sig[SEAL_SIGNATURE];
    seal_sign(key, STR("text"), sig);
    assert_true(seal_signed(key, STR("text"), sig));
    assert_false(seal_signed(key, STR("texT"), sig));
    assert_false(seal_signed(back + 0, STR("text"), (memset(back, 0, 32), sig)));
}

static void round_trip(keyring *k, uint32_t e, err want) {
    uint8_t sealed[7 + KEYRING_OVERHEAD], out[7];
    size_t n;
    err rc = keyring_seal(k, e, STR("post/1"), STR("a text!"), sealed);
    assert_int_equal(rc, want);
    if (rc != OK) return;
    str s = str_from(sealed, sizeof sealed);
    assert_true(keyring_is_sealed(s));
    assert_int_equal(keyring_entry_of(s), e);
    must(keyring_unseal(k, STR("post/1"), s, out, &n));
    assert_true(n == 7 && memcmp(out, "a text!", 7) == 0);
    assert_int_equal(keyring_unseal(k, STR("post/2"), s, out, &n), ERR_CORRUPT);
    sealed[4] ^= 1; /* another user's entry, or none */
    assert_int_not_equal(keyring_unseal(k, STR("post/1"), s, out, &n), OK);
}

static void ring(void **state) {
    (void)state;
    char dir[] = "/tmp/kith-seal-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/user.keys", dir);
    seal_master none = {{0}, false}, m = {{7}, true}, other = {{8}, true};
    keyring *k;
    must(keyring_open(fs_real(), path, &none, &k));
    str users[] = {STR("ann"), STR("bob"), STR("ann"), STR("")};
    uint32_t e[4], again[4], found;
    must(keyring_entries(k, users, 4, e));
    assert_true(e[0] == 0 && e[1] == 1 && e[2] == 0 && e[3] == 2);
    round_trip(k, e[0], OK);
    uint8_t sealed[3 + KEYRING_OVERHEAD], out[3];
    size_t n;
    must(keyring_seal(k, e[1], STR("x"), STR("abc"), sealed));
    keyring_close(k);
    must(keyring_open(fs_real(), path, &m, &k)); /* from now on with a master key */
    keyring_close(k);
    assert_int_equal(keyring_open(fs_real(), path, &none, &k), ERR_DENIED);
    assert_int_equal(keyring_open(fs_real(), path, &other, &k), ERR_DENIED);
    must(keyring_open(fs_real(), path, &m, &k));
    must(keyring_entries(k, users, 4, again));
    assert_memory_equal(e, again, sizeof e);
    str s = str_from(sealed, sizeof sealed);
    must(keyring_unseal(k, STR("x"), s, out, &n));
    uint64_t version = keyring_block_version(k, 0);
    must(keyring_erase(k, e[1]));
    must(keyring_erase(k, e[1]));
    assert_true(keyring_block_version(k, 0) > version && keyring_is_grave(k, e[1]));
    assert_int_equal(keyring_unseal(k, STR("x"), s, out, &n), ERR_NOT_FOUND);
    round_trip(k, e[1], ERR_NOT_FOUND);
    assert_int_equal(keyring_find(k, STR("bob"), &found), ERR_NOT_FOUND);
    must(keyring_entries(k, &users[1], 1, &found)); /* comes back as a new person */
    assert_int_equal(found, 3);
    assert_int_equal(keyring_erase(k, 9), ERR_CORRUPT);
    keyring_close(k);
    must(keyring_open(fs_real(), path, &m, &k));
    assert_true(keyring_is_grave(k, e[1]) && keyring_count(k) == 4);
    keyring_close(k);
    uint8_t *p;
    must(file_read_all(fs_real(), path, MIB, &p, &n));
    assert_int_equal(n, KEYRING_HEADER + 4 * KEYRING_ENTRY);
    for (size_t i = 0; i < n; i++) { /* no flipped bit goes unseen */
        p[i] ^= 0x10;
        must(file_write_atomic(fs_real(), path, p, n));
        err rc = keyring_open(fs_real(), path, &m, &k);
        if (rc == OK) fail_msg("byte %zu flipped was not seen", i);
        assert_int_equal(keyring_check(fs_real(), path, &m), rc);
        p[i] ^= 0x10;
    }
    memset(p + n - KEYRING_ENTRY, 0, KEYRING_ENTRY); /* an entry that was being written */
    must(file_write_atomic(fs_real(), path, p, n));
    must(keyring_check(fs_real(), path, &m)); /* and leaves it as it is */
    uint8_t *after;
    size_t length;
    must(file_read_all(fs_real(), path, MIB, &after, &length));
    assert_true(length == n && memcmp(after, p, n) == 0);
    mem_free(after);
    assert_int_equal(keyring_check(fs_real(), "no/such/file", &m), ERR_NOT_FOUND);
    must(keyring_open(fs_real(), path, &m, &k));
    assert_int_equal(keyring_count(k), 3);
    keyring_close(k);
    must(file_write_atomic(fs_real(), path, p, n - KEYRING_ENTRY - 5));
    must(keyring_open(fs_real(), path, &m, &k));
    assert_int_equal(keyring_count(k), 2);
    keyring_close(k);
    mem_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(boxes), cmocka_unit_test(ring)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
