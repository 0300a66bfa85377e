/* keyring: one key for each user, kept apart from all data, so that destroying it erases what the user
 * wrote from every copy that there is.
 *
 *     keyring *k;
 *     TRY(keyring_open(fs_real(), "data/user.keys", &master, &k));
 *     TRY(keyring_entries(k, &user, 1, &entry));        // made, durable
 *     keyring_seal(k, entry, ad, body, out);            // body.len + KEYRING_OVERHEAD bytes
 *     TRY(keyring_unseal(k, ad, out, plain, &n));       // ERR_NOT_FOUND: the key was destroyed
 *     TRY(keyring_erase(k, entry));                     // for ever
 *
 * The file: a header with the wrapped data key, then entries of 128 bytes, each sealed by the data key:
 * the user's name as a keyed hash, and the user's key. A destroyed entry stays as a grave, so "destroyed"
 * and "unknown" are never taken for each other.
 * Errors: ERR_CORRUPT (a changed file or body, an entry that this file does not have: bring user.keys
 * back from the archive), ERR_DENIED (another master key), ERR_IO, ERR_NO_SPACE.
 * Threads: any.
 */
#ifndef KITH_KEYRING_H
#define KITH_KEYRING_H

#include "seal/seal.h"

#define KEYRING_OVERHEAD (8 + SEAL_OVERHEAD)
#define KEYRING_MAX      ((uint32_t)1 << 26)
#define KEYRING_HEADER   512
#define KEYRING_ENTRY    128
#define KEYRING_BLOCK    1024 /* entries that are backed up together */

typedef struct keyring keyring;

MUST_USE err keyring_open(fs *fs, const char *path, const seal_master *m, keyring **out);
void keyring_close(keyring *k); /* NULL is fine */
/* Every byte of the file, which is only read. ERR_NOT_FOUND: there is none; else as keyring_open. */
MUST_USE err keyring_check(fs *fs, const char *path, const seal_master *m);

/* The users' entries; missing ones are made with one sync for all. */
MUST_USE err keyring_entries(keyring *k, const str *users, size_t n, uint32_t *entries);
/* ERR_NOT_FOUND: the user has none. */
MUST_USE err keyring_find(keyring *k, str user, uint32_t *entry);
MUST_USE err keyring_erase(keyring *k, uint32_t entry); /* fine when it is a grave */
bool keyring_is_grave(keyring *k, uint32_t entry);

/* A sealed body begins with a zero byte, which no protobuf message does. */
static inline bool keyring_is_sealed(str body) {
    return body.len >= KEYRING_OVERHEAD && body.ptr[0] == 0;
}
/* ERR_NOT_FOUND: a grave by now. */
MUST_USE err keyring_seal(keyring *k, uint32_t entry, str ad, str body, uint8_t *out);
MUST_USE err keyring_unseal(keyring *k, str ad, str sealed, uint8_t *out, size_t *n);
uint32_t keyring_entry_of(str sealed); /* the entry that a sealed body names */

/* Hex of an Ed25519 signature by a key that is derived from this file's data key. */
void keyring_sign(keyring *k, str text, char out[2 * SEAL_SIGNATURE + 1]);

/* ---- backup: blocks of KEYRING_BLOCK entries as they are in the file ---- */

uint32_t keyring_count(keyring *k);
uint64_t keyring_block_version(keyring *k, uint32_t block); /* grows with each change; 0: none */
#define KEYRING_BLOCK_BYTES ((size_t)KEYRING_BLOCK * KEYRING_ENTRY)
MUST_USE err keyring_block_read(keyring *k, uint32_t block, uint8_t out[KEYRING_BLOCK_BYTES],
                                size_t *n);
MUST_USE err keyring_header_read(keyring *k, uint8_t out[KEYRING_HEADER]);

#endif
