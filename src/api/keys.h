/* keys: who may call. DIR/keys.json (mode 0600) holds one entry a key: id, name, scopes, the hash
 * of its secret, when it was made, whether it is revoked. A token is "kith_<id>_<secret>" and is
 * told once, by the call that makes it.
 *
 *     char token[KEY_TOKEN_MAX];
 *     TRY(keys_birth(fs, dir, token));           // "" when the directory has keys already
 *     keys *k;
 *     TRY(keys_open(fs, dir, &k));
 *     key_grant g;
 *     TRY(keys_check(k, sent, &g));              // ERR_UNAUTHENTICATED
 *     if (!(g.scopes & SCOPE_WRITE)) ...         // ERR_DENIED
 *
 * The secret is 256 random bits, so its plain BLAKE2b-256 is kept: a slow hash (Argon2) protects
 * words that people choose, and nobody guesses 2^256. Compared in constant time.
 * The file is read again when it is older than KEYS_FRESH_MS in memory, so a key made or revoked
 * by another process (`kith keys`) counts within that time. Changes take DIR/keys.lock.
 * Any thread may call. Errors: ERR_CORRUPT (the file is not as written), ERR_AGAIN (another process
 * is changing it), ERR_INVALID (name, scopes), ERR_TOO_LARGE (KEYS_MAX), and those of os/file.h.
 */
#ifndef KITH_API_KEYS_H
#define KITH_API_KEYS_H

#include "base/base.h"
#include "os/os.h"

enum {
    SCOPE_NONE = 0,
    SCOPE_SEARCH = 1,
    SCOPE_WRITE = 2,
    SCOPE_ADMIN = 4,
    SCOPE_METRICS = 8,
    SCOPE_ALL = 15
};

#define KEYS_MAX      1000
#define KEY_ID_LEN    12 /* lower-case base32 digits */
#define KEY_NAME_MAX  64
#define KEY_TOKEN_MAX 80 /* with its NUL */
#define KEYS_FRESH_MS 5000

typedef struct keys keys;

typedef struct key_info {
    char id[KEY_ID_LEN + 1];
    char name[KEY_NAME_MAX + 1];
    unsigned scopes;
    int64_t created_ms;
    bool revoked;
} key_info;

typedef struct key_grant {
    char id[KEY_ID_LEN + 1];
    unsigned scopes;
} key_grant;

/* Makes the file with one key of all scopes when there is none. */
MUST_USE err keys_birth(fs *fs, const char *dir, char token[KEY_TOKEN_MAX]);

MUST_USE err keys_open(fs *fs, const char *dir, keys **out); /* no file: no keys */
void keys_close(keys *k);
size_t keys_live(keys *k); /* keys that are not revoked */

MUST_USE err keys_new(keys *k, str name, unsigned scopes, char token[KEY_TOKEN_MAX]);
MUST_USE err keys_revoke(keys *k, str id); /* ERR_NOT_FOUND; again is fine */
MUST_USE err keys_list(keys *k, arena *a, key_info **out, size_t *count);
MUST_USE err keys_check(keys *k, str token, key_grant *out);

/* "search,write" to bits and back; an unknown word is ERR_INVALID naming "scopes". */
MUST_USE err keys_scopes_parse(str text, unsigned *out);
const char *keys_scope_name(unsigned scope); /* of one bit */

#endif
