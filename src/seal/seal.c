/* Keys, boxes, signatures: thin words over libsodium, so that nobody else picks a nonce.
 *
 * A nonce is 192 random bits: two that are equal never happen, so no counter has to be kept anywhere. Who seals very
 * many takes 128 random bits once and counts in the rest: random bits are a system call each time.
 * Everything derived names its purpose, so one key never does two works.
 */
#include "seal/seal.h"

#include <sodium.h>
#include <stdlib.h>

enum { KEY_FILE_MAX = 4096 };

_Static_assert(SEAL_KEY == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "key size");
_Static_assert(SEAL_NONCE == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, "nonce size");
_Static_assert(SEAL_TAG == crypto_aead_xchacha20poly1305_ietf_ABYTES, "tag size");
_Static_assert(SEAL_SIGNATURE == crypto_sign_BYTES, "signature size");
_Static_assert(SEAL_KEY == crypto_sign_SEEDBYTES, "seed size");

static const uint8_t *bytes(str s) {
    return (const uint8_t *)s.ptr;
}

bool seal_unhex(str text, void *p, size_t n) {
    size_t got = 0;
    if (text.len != 2 * n) return false;
    return sodium_hex2bin(p, n, text.ptr, text.len, NULL, &got, NULL) == 0 && got == n;
}

void seal_hex(const void *p, size_t n, char *out) {
    sodium_bin2hex(out, 2 * n + 1, p, n);
}

static err parse_master(str text, const char *where, seal_master *out) {
    out->given = true;
    if (seal_unhex(str_trim(text), out->key, SEAL_KEY)) return OK;
    return err_set(ERR_INVALID, "%s: expected a master key of 64 hex digits", where);
}

err seal_master_load(const char *path, seal_master *out) {
    memset(out, 0, sizeof *out);
    if (sodium_init() < 0) return err_set(ERR_INTERNAL, "no cryptography: libsodium failed");
    const char *env = getenv("KITH_MASTER_KEY");
    if (!path || !path[0]) path = getenv("KITH_MASTER_KEY_FILE");
    if (!path || !path[0])
        return env && env[0] ? parse_master(str_of(env), "KITH_MASTER_KEY", out) : OK;
    uint8_t *text;
    size_t n;
    TRY(file_read_all(fs_real(), path, KEY_FILE_MAX, &text, &n));
    err rc = parse_master(str_from(text, n), path, out);
    sodium_memzero(text, n);
    mem_free(text);
    return rc;
}

void seal_random(void *p, size_t n) {
    randombytes_buf(p, n);
}

void seal_hash(str text, uint8_t out[32]) {
    crypto_generichash(out, 32, bytes(text), text.len, NULL, 0);
}

void seal_derive(const uint8_t key[SEAL_KEY], const char *purpose, uint8_t out[SEAL_KEY]) {
    crypto_generichash(out, SEAL_KEY, (const uint8_t *)purpose, strlen(purpose), key, SEAL_KEY);
}

void seal_box(const uint8_t key[SEAL_KEY], str ad, str plain, uint8_t *out) {
    uint8_t nonce[SEAL_NONCE];
    randombytes_buf(nonce, sizeof nonce);
    seal_box_nonce(key, ad, plain, nonce, out);
}

void seal_box_nonce(const uint8_t key[SEAL_KEY], str ad, str plain, const uint8_t nonce[SEAL_NONCE],
                    uint8_t *out) {
    memcpy(out, nonce, SEAL_NONCE);
    crypto_aead_xchacha20poly1305_ietf_encrypt(out + SEAL_NONCE, NULL, bytes(plain), plain.len,
                                               bytes(ad), ad.len, NULL, out, key);
}

bool seal_unbox(const uint8_t key[SEAL_KEY], str ad, str boxed, uint8_t *out) {
    if (boxed.len < SEAL_OVERHEAD) return false;
    const uint8_t *p = bytes(boxed);
    return crypto_aead_xchacha20poly1305_ietf_decrypt(out, NULL, NULL, p + SEAL_NONCE,
                                                      boxed.len - SEAL_NONCE, bytes(ad), ad.len, p,
                                                      key) == 0;
}

void seal_wrap(const seal_master *m, const char *purpose, const uint8_t key[SEAL_KEY],
               uint8_t out[SEAL_WRAPPED]) {
    uint8_t k[SEAL_KEY];
    seal_derive(m->key, purpose, k);
    seal_box(k, str_of(purpose), str_from(key, SEAL_KEY), out);
    sodium_memzero(k, sizeof k);
}

err seal_unwrap(const seal_master *m, const char *purpose, const uint8_t wrapped[SEAL_WRAPPED],
                uint8_t key[SEAL_KEY]) {
    uint8_t k[SEAL_KEY];
    seal_derive(m->key, purpose, k);
    bool good = seal_unbox(k, str_of(purpose), str_from(wrapped, SEAL_WRAPPED), key);
    sodium_memzero(k, sizeof k);
    if (good) return OK;
    return err_set(ERR_DENIED,
                   "%s: the key there was made with another master key; give that one "
                   "with --master-key FILE or KITH_MASTER_KEY",
                   purpose);
}

static void sign_key(const uint8_t key[SEAL_KEY], uint8_t pk[crypto_sign_PUBLICKEYBYTES],
                     uint8_t sk[crypto_sign_SECRETKEYBYTES]) {
    uint8_t seed[SEAL_KEY];
    seal_derive(key, "sign", seed);
    crypto_sign_seed_keypair(pk, sk, seed);
    sodium_memzero(seed, sizeof seed);
}

void seal_sign(const uint8_t key[SEAL_KEY], str text, uint8_t out[SEAL_SIGNATURE]) {
    uint8_t pk[crypto_sign_PUBLICKEYBYTES], sk[crypto_sign_SECRETKEYBYTES];
    sign_key(key, pk, sk);
    crypto_sign_detached(out, NULL, bytes(text), text.len, sk);
    sodium_memzero(sk, sizeof sk);
}

bool seal_signed(const uint8_t key[SEAL_KEY], str text, const uint8_t signature[SEAL_SIGNATURE]) {
    uint8_t pk[crypto_sign_PUBLICKEYBYTES], sk[crypto_sign_SECRETKEYBYTES];
    sign_key(key, pk, sk);
    sodium_memzero(sk, sizeof sk);
    return crypto_sign_verify_detached(signature, bytes(text), text.len, pk) == 0;
}
