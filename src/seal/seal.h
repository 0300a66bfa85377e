/* seal: secrets at rest. XChaCha20-Poly1305 (libsodium) for everything that is sealed.
 *
 *     seal_master m;
 *     TRY(seal_master_load("/etc/kith/master.key", &m));  // NULL: KITH_MASTER_KEY_FILE, KITH_MASTER_KEY
 *     seal_wrap(&m, "archive", data_key, wrapped);        // only the wrapped form is written down
 *
 * The master key is 64 hex digits, from a file or the environment, and never written by kith. It wraps
 * data keys; so another master key needs only the wrapped keys to be written anew. Without a master
 * key (`given` false) data keys are wrapped by a key that is known to all: the formats are the same,
 * bytes are checked and erasure by key destruction works, but who has the files can read them.
 */
#ifndef KITH_SEAL_H
#define KITH_SEAL_H

#include "os/os.h"

#define SEAL_KEY      32
#define SEAL_NONCE    24
#define SEAL_TAG      16
#define SEAL_OVERHEAD (SEAL_NONCE + SEAL_TAG)
#define SEAL_WRAPPED  (SEAL_KEY + SEAL_OVERHEAD)

typedef struct seal_master {
    uint8_t key[SEAL_KEY];
    bool given;
} seal_master;

/* `path` NULL: the file in KITH_MASTER_KEY_FILE, else KITH_MASTER_KEY itself, else none (OK, not
 * given). ERR_INVALID: not 64 hex digits. */
MUST_USE err seal_master_load(const char *path, seal_master *out);
void seal_random(void *p, size_t n);
void seal_hex(const void *p, size_t n, char *out);     /* 2n digits and a NUL */
MUST_USE bool seal_unhex(str text, void *p, size_t n); /* exactly 2n digits */
void seal_derive(const uint8_t key[SEAL_KEY], const char *purpose, uint8_t out[SEAL_KEY]);

void seal_wrap(const seal_master *m, const char *purpose, const uint8_t key[SEAL_KEY],
               uint8_t out[SEAL_WRAPPED]);
/* ERR_DENIED: made with another master key, or changed. */
MUST_USE err seal_unwrap(const seal_master *m, const char *purpose,
                         const uint8_t wrapped[SEAL_WRAPPED], uint8_t key[SEAL_KEY]);

/* out: nonce, bytes, tag: n + SEAL_OVERHEAD. `ad` is checked with it and not in it. */
void seal_box(const uint8_t key[SEAL_KEY], str ad, str plain, uint8_t *out);
/* The same with a nonce of the caller's, who must never give one twice with the same key. */
void seal_box_nonce(const uint8_t key[SEAL_KEY], str ad, str plain, const uint8_t nonce[SEAL_NONCE],
                    uint8_t *out);
/* out: boxed.len - SEAL_OVERHEAD bytes. False: changed, cut, or of another key or place. */
MUST_USE bool seal_unbox(const uint8_t key[SEAL_KEY], str ad, str boxed, uint8_t *out);

/* Ed25519 by a key derived from `key`. */
#define SEAL_SIGNATURE 64
void seal_sign(const uint8_t key[SEAL_KEY], str text, uint8_t out[SEAL_SIGNATURE]);
MUST_USE bool seal_signed(const uint8_t key[SEAL_KEY], str text,
                          const uint8_t signature[SEAL_SIGNATURE]);
void seal_hash(str bytes, uint8_t out[32]); /* BLAKE2b-256 */

#endif
