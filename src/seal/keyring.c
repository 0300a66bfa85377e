/* The users' keys in one file.
 *
 *   header, 512 bytes: "KITHKEY1"  version u32  0 u32  wrapped data key (72)  zeros
 *   entry, 128 bytes, never across a sector: box of {state u8, user's hash (16), key (32), zeros (31)}
 *     with its number as what is checked along, so entries cannot change places; 8 bytes of zeros behind
 *
 * Invariants:
 *  1. An entry is durable before its number is given out.
 *  2. A destroyed entry is overwritten in place and synced; its number is never used again.
 *  3. A tail that was being written when the power went is cut on opening (whole zeros, or a part of an
 *     entry): nobody was told of it. Any other entry that does not open is ERR_CORRUPT.
 *  4. lock guards all; it is held across a sync when entries are made or destroyed, which is rare.
 * On flash and copy-on-write disks overwriting in place leaves the old block for a while: the entry is
 * sealed by the data key, which only the master key opens.
 */
#include "seal/keyring.h"

#include <sodium.h>

enum { LIVE = 1, GRAVE = 2, USER_HASH = 16, PLAIN = 80, VERSION = 1 };
_Static_assert(PLAIN + SEAL_OVERHEAD + 8 == KEYRING_ENTRY, "entry size");
static const char MAGIC[8] = {'K', 'I', 'T', 'H', 'K', 'E', 'Y', '1'};

typedef struct user_key {
    uint8_t key[SEAL_KEY];
    uint8_t user[USER_HASH];
    uint8_t state;
} user_key;

struct keyring {
    file *f; /* immutable, as is path */
    char *path;
    uint8_t data_key[SEAL_KEY];
    mutex lock; /* guards all below */
    user_key *keys;
    size_t count, cap;
    strmap *users; /* hash to entry; live ones */
    uint64_t *versions;
    size_t version_cap;
    uint8_t nonce[SEAL_NONCE - 8]; /* random, of this opening */
    uint64_t sealed;               /* bodies since: the rest of the nonce; atomic */
};

static err damaged(const keyring *k, uint32_t entry) {
    return err_set(ERR_CORRUPT,
                   "%s: entry %u is damaged; bring the file back from the archive (kith restore)",
                   k->path, entry);
}

static void hash_user(const keyring *k, str user, uint8_t out[USER_HASH]) {
    crypto_generichash(out, USER_HASH, (const uint8_t *)user.ptr, user.len, k->data_key, SEAL_KEY);
}

static str place(uint32_t entry, uint8_t ad[8]) {
    memset(ad, 0, 8);
    le32_put(ad, entry);
    return str_from(ad, 8);
}

static bool zeros(const uint8_t *p, size_t n) {
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++) any |= p[i];
    return !any;
}

static void entry_write(const keyring *k, uint32_t entry, const user_key *u,
                        uint8_t out[KEYRING_ENTRY]) {
    uint8_t plain[PLAIN] = {0}, ad[8];
    plain[0] = u->state;
    memcpy(plain + 1, u->user, USER_HASH);
    memcpy(plain + 17, u->key, SEAL_KEY);
    memset(out, 0, KEYRING_ENTRY);
    seal_box(k->data_key, place(entry, ad), str_from(plain, PLAIN), out);
    sodium_memzero(plain, sizeof plain);
}

static bool entry_read(const keyring *k, uint32_t entry, const uint8_t *p, user_key *u) {
    uint8_t plain[PLAIN], ad[8];
    if (!zeros(p + KEYRING_ENTRY - 8, 8)) return false;
    if (!seal_unbox(k->data_key, place(entry, ad), str_from(p, KEYRING_ENTRY - 8), plain))
        return false;
    u->state = plain[0];
    memcpy(u->user, plain + 1, USER_HASH);
    memcpy(u->key, plain + 17, SEAL_KEY);
    sodium_memzero(plain, sizeof plain);
    return u->state == LIVE || u->state == GRAVE;
}

/* ---- opening ---- */

static void touch(keyring *k, uint32_t entry) {
    k->versions[entry / KEYRING_BLOCK]++;
}

static err room(keyring *k, size_t count) {
    void *keys = k->keys, *versions = k->versions;
    size_t old = k->version_cap;
    err rc = mem_grow(&keys, &k->cap, count, sizeof *k->keys, KEYRING_MAX);
    k->keys = keys;
    TRY(rc);
    rc = mem_grow(&versions, &k->version_cap, count / KEYRING_BLOCK + 1, sizeof *k->versions,
                  KEYRING_MAX);
    k->versions = versions;
    if (rc == OK && k->version_cap > old)
        memset(k->versions + old, 0, (k->version_cap - old) * sizeof *k->versions);
    return rc;
}

static err take_entry(keyring *k, const user_key *u) {
    uint32_t entry = (uint32_t)k->count;
    TRY(room(k, k->count + 1));
    if (u->state == LIVE) TRY(strmap_put(k->users, str_from(u->user, USER_HASH), entry));
    k->keys[k->count++] = *u;
    touch(k, entry);
    return OK;
}

static err load_entries(keyring *k, const uint8_t *p, size_t n) {
    size_t whole = n / KEYRING_ENTRY;
    while (whole && zeros(p + (whole - 1) * KEYRING_ENTRY, KEYRING_ENTRY)) whole--;
    for (size_t i = 0; i < whole; i++) {
        user_key u;
        if (!entry_read(k, (uint32_t)i, p + i * KEYRING_ENTRY, &u)) return damaged(k, (uint32_t)i);
        TRY(take_entry(k, &u));
    }
    if (whole * KEYRING_ENTRY == n || !k->f) return OK;
    return file_truncate(k->f, KEYRING_HEADER + whole * KEYRING_ENTRY);
}

static void header_write(const keyring *k, const seal_master *m, uint8_t h[KEYRING_HEADER]) {
    memset(h, 0, KEYRING_HEADER);
    memcpy(h, MAGIC, sizeof MAGIC);
    le32_put(h + 8, VERSION);
    seal_wrap(m, "user.keys", k->data_key, h + 16);
}

static err put_header(keyring *k, const seal_master *m) {
    uint8_t h[KEYRING_HEADER];
    header_write(k, m, h);
    TRY(file_pwrite(k->f, h, sizeof h, 0));
    return file_datasync(k->f);
}

static err load_header(keyring *k, const seal_master *m, const uint8_t *p, size_t n) {
    if (n < KEYRING_HEADER || memcmp(p, MAGIC, sizeof MAGIC) != 0 ||
        !zeros(p + 16 + SEAL_WRAPPED, KEYRING_HEADER - 16 - SEAL_WRAPPED) || le32_get(p + 12))
        return err_set(ERR_CORRUPT, "%s: its header is damaged", k->path);
    if (le32_get(p + 8) != VERSION)
        return err_set(ERR_UNSUPPORTED, "%s: of a newer version", k->path);
    err rc = seal_unwrap(m, "user.keys", p + 16, k->data_key);
    if (rc == OK || !m->given) return rc;
    /* Made before there was a master key: from now on it is needed. */
    static const seal_master none;
    if (seal_unwrap(&none, "user.keys", p + 16, k->data_key) != OK)
        return seal_unwrap(m, "user.keys", p + 16, k->data_key); /* with its own text */
    return k->f ? put_header(k, m) : OK;
}

/* The bytes of a file; without k->f nothing is written. */
static err load(keyring *k, const seal_master *m, const uint8_t *p, size_t n) {
    TRY(load_header(k, m, p, n));
    return load_entries(k, p + KEYRING_HEADER, n - KEYRING_HEADER);
}

static err open_file(keyring *k, fs *disk, const seal_master *m) {
    uint8_t *p = NULL;
    size_t n = 0;
    err rc = file_read_all(disk, k->path, (size_t)KEYRING_MAX * KEYRING_ENTRY, &p, &n);
    bool fresh = rc == ERR_NOT_FOUND || (rc == OK && n == 0);
    if (fresh) {
        uint8_t h[KEYRING_HEADER];
        seal_random(k->data_key, SEAL_KEY);
        header_write(k, m, h);
        rc = file_write_atomic(disk, k->path, h, sizeof h);
    }
    if (rc == OK) rc = file_open(disk, k->path, FILE_WRITE, &k->f);
    if (rc == OK && !fresh) rc = load(k, m, p, n);
    mem_free(p);
    return rc;
}

/* An empty one, without its file. */
static err keyring_new(const char *path, keyring **out) {
    *out = NULL;
    if (sodium_init() < 0) return err_set(ERR_INTERNAL, "no cryptography: libsodium failed");
    keyring *k = mem_zalloc(1, sizeof *k);
    if (!k) return ERR_NO_MEMORY;
    err rc = mutex_init(&k->lock);
    if (rc != OK) {
        mem_free(k);
        return rc;
    }
    seal_random(k->nonce, sizeof k->nonce);
    k->path = mem_dup(path, strlen(path) + 1);
    k->users = strmap_new();
    rc = k->path && k->users ? room(k, 1) : ERR_NO_MEMORY;
    if (rc == OK)
        *out = k;
    else
        keyring_close(k);
    return rc;
}

err keyring_open(fs *disk, const char *path, const seal_master *m, keyring **out) {
    keyring *k;
    *out = NULL;
    TRY(keyring_new(path, &k));
    err rc = open_file(k, disk, m);
    if (rc == OK)
        *out = k;
    else
        keyring_close(k);
    return rc;
}

err keyring_check(fs *disk, const char *path, const seal_master *m) {
    keyring *k;
    uint8_t *p = NULL;
    size_t n = 0;
    TRY(keyring_new(path, &k));
    err rc = file_read_all(disk, path, (size_t)KEYRING_MAX * KEYRING_ENTRY, &p, &n);
    if (rc == OK) rc = load(k, m, p, n);
    mem_free(p);
    keyring_close(k);
    return rc;
}

void keyring_close(keyring *k) {
    if (!k) return;
    file_close(k->f);
    strmap_free(k->users);
    if (k->keys) sodium_memzero(k->keys, k->count * sizeof *k->keys);
    mem_free(k->keys);
    mem_free(k->versions);
    mem_free(k->path);
    mutex_deinit(&k->lock);
    sodium_memzero(k->data_key, SEAL_KEY);
    mem_free(k);
}

/* ---- entries ---- */

/* A new entry in memory, its bytes written, not synced. */
static err make_entry(keyring *k, const uint8_t user[USER_HASH], uint32_t *entry) {
    user_key u = {.state = LIVE};
    uint8_t b[KEYRING_ENTRY];
    memcpy(u.user, user, USER_HASH);
    seal_random(u.key, SEAL_KEY);
    *entry = (uint32_t)k->count;
    if (k->count >= KEYRING_MAX) return err_set(ERR_NO_SPACE, "%s: no room for a user", k->path);
    entry_write(k, *entry, &u, b);
    TRY(file_pwrite(k->f, b, sizeof b, KEYRING_HEADER + (uint64_t)*entry * KEYRING_ENTRY));
    err rc = take_entry(k, &u);
    sodium_memzero(&u, sizeof u);
    return rc;
}

static void forget_from(keyring *k, size_t count) {
    while (k->count > count) {
        const user_key *u = &k->keys[--k->count];
        strmap_del(k->users, str_from(u->user, USER_HASH));
    }
}

static err entries_locked(keyring *k, const str *users, size_t n, uint32_t *entries) {
    size_t before = k->count;
    err rc = OK;
    for (size_t i = 0; rc == OK && i < n; i++) {
        uint8_t h[USER_HASH];
        hash_user(k, users[i], h);
        entries[i] = strmap_get(k->users, str_from(h, USER_HASH));
        if (entries[i] == MAP_NONE) rc = make_entry(k, h, &entries[i]);
    }
    if (k->count > before && rc == OK) rc = file_datasync(k->f);
    if (rc != OK) forget_from(k, before); /* the next ones are written over them */
    return rc;
}

err keyring_entries(keyring *k, const str *users, size_t n, uint32_t *entries) {
    mutex_lock(&k->lock);
    err rc = entries_locked(k, users, n, entries);
    mutex_unlock(&k->lock);
    return rc;
}

err keyring_find(keyring *k, str user, uint32_t *entry) {
    uint8_t h[USER_HASH];
    hash_user(k, user, h);
    mutex_lock(&k->lock);
    *entry = strmap_get(k->users, str_from(h, USER_HASH));
    mutex_unlock(&k->lock);
    return *entry == MAP_NONE ? err_set(ERR_NOT_FOUND, "no key of this user") : OK;
}

static err erase_locked(keyring *k, uint32_t entry) {
    user_key grave = {.state = GRAVE}, *u = &k->keys[entry];
    uint8_t b[KEYRING_ENTRY];
    if (u->state == GRAVE) return OK;
    entry_write(k, entry, &grave, b);
    TRY(file_pwrite(k->f, b, sizeof b, KEYRING_HEADER + (uint64_t)entry * KEYRING_ENTRY));
    TRY(file_datasync(k->f));
    if (strmap_get(k->users, str_from(u->user, USER_HASH)) == entry)
        strmap_del(k->users, str_from(u->user, USER_HASH));
    sodium_memzero(u, sizeof *u);
    u->state = GRAVE;
    touch(k, entry);
    return OK;
}

err keyring_erase(keyring *k, uint32_t entry) {
    mutex_lock(&k->lock);
    err rc = entry < k->count ? erase_locked(k, entry) : damaged(k, entry);
    mutex_unlock(&k->lock);
    return rc;
}

bool keyring_is_grave(keyring *k, uint32_t entry) {
    mutex_lock(&k->lock);
    bool yes = entry < k->count && k->keys[entry].state == GRAVE;
    mutex_unlock(&k->lock);
    return yes;
}

/* ---- bodies: 0, 1, 0, 0, entry u32, box ---- */

static err key_of(keyring *k, uint32_t entry, uint8_t key[SEAL_KEY]) {
    mutex_lock(&k->lock);
    bool known = entry < k->count;
    bool grave = known && k->keys[entry].state == GRAVE;
    if (known && !grave) memcpy(key, k->keys[entry].key, SEAL_KEY);
    mutex_unlock(&k->lock);
    if (grave) return err_set(ERR_NOT_FOUND, "the key of this user was destroyed");
    return known ? OK
                 : err_set(ERR_CORRUPT,
                           "%s: it lacks the key %u that a record needs; bring the file back from "
                           "the archive (kith restore)",
                           k->path, entry);
}

err keyring_seal(keyring *k, uint32_t entry, str ad, str body, uint8_t *out) {
    uint8_t key[SEAL_KEY];
    TRY(key_of(k, entry, key));
    memset(out, 0, 8);
    out[1] = 1;
    le32_put(out + 4, entry);
    uint8_t nonce[SEAL_NONCE];
    memcpy(nonce, k->nonce, sizeof k->nonce);
    le64_put(nonce + sizeof k->nonce, __atomic_fetch_add(&k->sealed, 1, __ATOMIC_RELAXED));
    seal_box_nonce(key, ad, body, nonce, out + 8);
    sodium_memzero(key, sizeof key);
    return OK;
}

uint32_t keyring_entry_of(str sealed) {
    return le32_get(sealed.ptr + 4);
}

err keyring_unseal(keyring *k, str ad, str sealed, uint8_t *out, size_t *n) {
    uint8_t key[SEAL_KEY];
    if (!keyring_is_sealed(sealed) || sealed.ptr[1] != 1)
        return err_set(ERR_UNSUPPORTED, "a record is sealed in a way that is not known here");
    TRY(key_of(k, keyring_entry_of(sealed), key));
    bool good = seal_unbox(key, ad, str_skip(sealed, 8), out);
    sodium_memzero(key, sizeof key);
    *n = sealed.len - KEYRING_OVERHEAD;
    return good ? OK : err_set(ERR_CORRUPT, "a sealed record does not open with its user's key");
}

void keyring_sign(keyring *k, str text, char out[2 * SEAL_SIGNATURE + 1]) {
    uint8_t sig[SEAL_SIGNATURE];
    seal_sign(k->data_key, text, sig);
    seal_hex(sig, sizeof sig, out);
}

/* ---- backup ---- */

uint32_t keyring_count(keyring *k) {
    mutex_lock(&k->lock);
    uint32_t n = (uint32_t)k->count;
    mutex_unlock(&k->lock);
    return n;
}

uint64_t keyring_block_version(keyring *k, uint32_t block) {
    mutex_lock(&k->lock);
    uint64_t v = block < k->version_cap ? k->versions[block] : 0;
    mutex_unlock(&k->lock);
    return v;
}

err keyring_block_read(keyring *k, uint32_t block, uint8_t out[KEYRING_BLOCK_BYTES], size_t *n) {
    mutex_lock(&k->lock);
    uint64_t from = (uint64_t)block * KEYRING_BLOCK;
    size_t want = k->count > from ? MIN((size_t)(k->count - from), KEYRING_BLOCK) : 0;
    err rc = file_pread(k->f, out, want * KEYRING_ENTRY, KEYRING_HEADER + from * KEYRING_ENTRY, n);
    mutex_unlock(&k->lock);
    if (rc == OK && *n != want * KEYRING_ENTRY) rc = damaged(k, (uint32_t)from);
    return rc;
}

err keyring_header_read(keyring *k, uint8_t out[KEYRING_HEADER]) {
    size_t n;
    TRY(file_pread(k->f, out, KEYRING_HEADER, 0, &n));
    return n == KEYRING_HEADER ? OK : err_set(ERR_CORRUPT, "%s: its header is cut off", k->path);
}
