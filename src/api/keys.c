/* The keys file and the check of a token.
 *
 * The file is one JSON document, {"keys": [{"id", "name", "scopes", "hash", "created_at",
 * "revoked"}]}, written whole beside itself and renamed. It is small (KEYS_MAX entries), so lookups
 * walk an array: a thousand compares of twelve bytes are microseconds, and one request has one.
 *
 * Guards: mu protects all fields of `keys` behind it. A reader that finds the table older than
 * KEYS_FRESH_MS reads the file again under mu; when the file cannot be read then, the table in
 * memory stays (a full file table or a slow disk must not lock everybody out) and is tried again
 * after the same time. A change takes the lock file first, then mu, reads, edits, writes.
 * Invariants: (1) no secret is kept or logged, (2) the token that does not exist costs the same
 * hash and compare as the one that does, (3) revoked entries stay, so that ids are never reused.
 */
#include "api/keys.h"

#include "base/json.h"
#include <sodium.h>

#define FILE_BYTES_MAX (512 * KIB)
#define HASH_BYTES     32
#define SECRET_BYTES   32
#define SECRET_TEXT    43 /* base64url of 32 bytes, no padding */
#define PATH_BYTES_MAX 4096

typedef struct entry {
    key_info info;
    uint8_t hash[HASH_BYTES];
} entry;

struct keys {
    fs *fs;
    char path[PATH_BYTES_MAX], lock_path[PATH_BYTES_MAX];
    mutex mu;
    /* guarded by mu */
    entry *items;
    size_t count, cap;
    uint64_t read_ns; /* when the file was last read */
};

static const struct {
    const char *name;
    unsigned bit;
} scope_names[] = {{"search", SCOPE_SEARCH},
                   {"write", SCOPE_WRITE},
                   {"admin", SCOPE_ADMIN},
                   {"metrics", SCOPE_METRICS}};

const char *keys_scope_name(unsigned scope) {
    for (size_t i = 0; i < COUNT_OF(scope_names); i++)
        if (scope_names[i].bit == scope) return scope_names[i].name;
    return "";
}

static unsigned scope_bit(str s) {
    for (size_t i = 0; i < COUNT_OF(scope_names); i++)
        if (str_eq(str_of(scope_names[i].name), s)) return scope_names[i].bit;
    return 0;
}

err keys_scopes_parse(str text, unsigned *out) {
    str rest = text, part;
    unsigned bits = 0;
    while (str_split(&rest, ',', &part)) {
        unsigned bit = scope_bit(str_trim(part));
        if (!bit)
            return err_set_field(ERR_INVALID, "scopes",
                                 "expected search, write, admin or a list of them");
        bits |= bit;
    }
    *out = bits;
    return OK;
}

/* ---- tokens ---- */

static void hash_secret(str secret, uint8_t out[HASH_BYTES]) {
    (void)crypto_generichash(out, HASH_BYTES, (const uint8_t *)secret.ptr, secret.len, NULL, 0);
}

static void make_token(entry *e, char token[KEY_TOKEN_MAX]) {
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    uint8_t secret[SECRET_BYTES];
    char text[SECRET_TEXT + 1];
    for (int i = 0; i < KEY_ID_LEN; i++)
        e->info.id[i] = digits[randombytes_uniform(sizeof digits - 1)];
    randombytes_buf(secret, sizeof secret);
    sodium_bin2base64(text, sizeof text, secret, sizeof secret,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    hash_secret(str_of(text), e->hash);
    strbuf b;
    strbuf_init(&b, KEY_TOKEN_MAX - 1);
    strbuf_addf(&b, "kith_%s_%s", e->info.id, text);
    memcpy(token, b.ptr ? b.ptr : "", b.len + 1);
    sodium_memzero(secret, sizeof secret);
    sodium_memzero(text, sizeof text);
    if (b.ptr) sodium_memzero(b.ptr, b.len);
    strbuf_deinit(&b);
}

/* ---- the file ---- */

static err corrupt(const keys *k, const char *what) {
    return err_set(ERR_CORRUPT, "%s: %s", k->path, what);
}

static err parse_scopes(const keys *k, yyjson_val *v, unsigned *out) {
    size_t i, n;
    yyjson_val *x;
    yyjson_arr_foreach(v, i, n, x) {
        unsigned bit = yyjson_is_str(x) ? scope_bit(json_str(x)) : 0;
        if (!bit) return corrupt(k, "a key has a scope that is none");
        *out |= bit;
    }
    return OK;
}

static err parse_entry(const keys *k, yyjson_val *v, entry *e) {
    *e = (entry){0};
    str id = json_str(yyjson_obj_get(v, "id")), name = json_str(yyjson_obj_get(v, "name"));
    str hash = json_str(yyjson_obj_get(v, "hash")),
        made = json_str(yyjson_obj_get(v, "created_at"));
    yyjson_val *scopes = yyjson_obj_get(v, "scopes"), *revoked = yyjson_obj_get(v, "revoked");
    if (id.len != KEY_ID_LEN || name.len > KEY_NAME_MAX) return corrupt(k, "a key has no good id");
    if (!yyjson_is_arr(scopes) || !yyjson_is_bool(revoked))
        return corrupt(k, "a key lacks scopes or revoked");
    memcpy(e->info.id, id.ptr, id.len);
    if (name.len) memcpy(e->info.name, name.ptr, name.len);
    if (!time_parse(made, &e->info.created_ms)) return corrupt(k, "a key has no created_at");
    e->info.revoked = yyjson_get_bool(revoked);
    size_t n;
    if (!hash.ptr || hash.len != 2 * (size_t)HASH_BYTES ||
        sodium_hex2bin(e->hash, HASH_BYTES, hash.ptr, hash.len, NULL, &n, NULL) != 0 ||
        n != HASH_BYTES)
        return corrupt(k, "a key has no good hash");
    return parse_scopes(k, scopes, &e->info.scopes);
}

static err parse_all(const keys *k, yyjson_val *root, entry **out, size_t *count) {
    yyjson_val *list = yyjson_obj_get(root, "keys"), *v;
    if (!yyjson_is_arr(list)) return corrupt(k, "expected {\"keys\": [...]}");
    size_t n = yyjson_arr_size(list), i, max;
    if (n > KEYS_MAX) return corrupt(k, "too many keys");
    entry *items = mem_zalloc(n ? n : 1, sizeof *items);
    if (!items) return ERR_NO_MEMORY;
    err rc = OK;
    yyjson_arr_foreach(list, i, max, v) {
        rc = parse_entry(k, v, &items[i]);
        if (rc != OK) break;
    }
    if (rc != OK) {
        mem_free(items);
        return rc;
    }
    *out = items;
    *count = n;
    return OK;
}

/* Reads the file into the table; on failure the table stays. mu held. */
static err reload(keys *k) {
    k->read_ns = clock_mono_ns();
    if (!fs_exists(k->fs, k->path)) {
        k->count = 0;
        return OK;
    }
    uint8_t *bytes = NULL;
    size_t size, n = 0;
    yyjson_doc *doc = NULL;
    entry *items = NULL;
    err rc = file_read_all(k->fs, k->path, FILE_BYTES_MAX, &bytes, &size);
    if (rc == OK && json_parse(str_from(bytes, size), &doc) != OK) rc = corrupt(k, "not JSON");
    if (rc == OK) rc = parse_all(k, yyjson_doc_get_root(doc), &items, &n);
    if (rc == OK) {
        mem_free(k->items);
        k->items = items;
        k->count = k->cap = n;
    }
    yyjson_doc_free(doc);
    mem_free(bytes);
    return rc;
}

static void write_entry(strbuf *b, const entry *e) {
    char hex[2 * HASH_BYTES + 1], when[32];
    sodium_bin2hex(hex, sizeof hex, e->hash, HASH_BYTES);
    str made = str_from(when, time_format(e->info.created_ms, when));
    strbuf_addf(b, "  {\"id\": \"%s\", \"name\": ", e->info.id);
    strbuf_add_json(b, str_of(e->info.name));
    strbuf_addz(b, ", \"scopes\": [");
    const char *sep = "";
    for (size_t i = 0; i < COUNT_OF(scope_names); i++) {
        if (!(e->info.scopes & scope_names[i].bit)) continue;
        strbuf_addf(b, "%s\"%s\"", sep, scope_names[i].name);
        sep = ", ";
    }
    strbuf_addf(b, "], \"hash\": \"%s\", \"created_at\": \"" STR_FMT "\", \"revoked\": %s}", hex,
                STR_ARG(made), e->info.revoked ? "true" : "false");
}

static err save(keys *k) {
    strbuf b;
    strbuf_init(&b, FILE_BYTES_MAX);
    strbuf_addz(&b, "{\"keys\": [\n");
    for (size_t i = 0; i < k->count; i++) {
        if (i) strbuf_addz(&b, ",\n");
        write_entry(&b, &k->items[i]);
    }
    strbuf_addz(&b, "\n]}\n");
    err rc = b.rc == OK ? file_write_atomic(k->fs, k->path, b.ptr, b.len) : b.rc;
    strbuf_deinit(&b);
    return rc;
}

/* ---- life ---- */

static err path_join(char out[PATH_BYTES_MAX], const char *dir, const char *name) {
    strbuf b;
    strbuf_init(&b, PATH_BYTES_MAX - 1);
    strbuf_addf(&b, "%s/%s", dir, name);
    err rc = b.rc;
    if (rc == OK) memcpy(out, b.ptr, b.len + 1);
    strbuf_deinit(&b);
    return rc;
}

err keys_open(fs *disk, const char *dir, keys **out) {
    *out = NULL;
    if (sodium_init() < 0) return err_set(ERR_INTERNAL, "no source of random bytes");
    keys *k = mem_zalloc(1, sizeof *k);
    if (!k) return ERR_NO_MEMORY;
    k->fs = disk;
    bool mu = false;
    err rc;
    TRY_GOTO(path_join(k->path, dir, "keys.json"));
    TRY_GOTO(path_join(k->lock_path, dir, "keys.lock"));
    TRY_GOTO(mutex_init(&k->mu));
    mu = true;
    TRY_GOTO(reload(k));
    *out = k;
    return OK;
done:
    if (mu) mutex_deinit(&k->mu);
    mem_free(k);
    return rc;
}

void keys_close(keys *k) {
    if (!k) return;
    mutex_deinit(&k->mu);
    mem_free(k->items);
    mem_free(k);
}

static void refresh(keys *k) {
    if (clock_mono_ns() - k->read_ns > (uint64_t)KEYS_FRESH_MS * 1000000) (void)reload(k);
}

size_t keys_live(keys *k) {
    mutex_lock(&k->mu);
    refresh(k);
    size_t n = 0;
    for (size_t i = 0; i < k->count; i++) n += !k->items[i].info.revoked;
    mutex_unlock(&k->mu);
    return n;
}

/* ---- changes: lock file, mu, read, edit, write ---- */

static err change_begin(keys *k, file **lock) {
    TRY(file_open(k->fs, k->lock_path, FILE_WRITE | FILE_CREATE, lock));
    err rc = file_lock(*lock);
    if (rc == OK) {
        mutex_lock(&k->mu);
        rc = reload(k);
        if (rc == OK) return OK;
        mutex_unlock(&k->mu);
    }
    file_close(*lock);
    return rc;
}

static void change_end(keys *k, file *lock) {
    mutex_unlock(&k->mu);
    file_close(lock);
}

static err add(keys *k, str name, unsigned scopes, char token[KEY_TOKEN_MAX]) {
    TRY(mem_grow((void **)&k->items, &k->cap, k->count + 1, sizeof *k->items, KEYS_MAX));
    entry *e = &k->items[k->count];
    *e = (entry){.info = {.scopes = scopes, .created_ms = clock_wall_ms()}};
    if (name.len) memcpy(e->info.name, name.ptr, name.len);
    make_token(e, token);
    k->count++;
    err rc = save(k);
    if (rc == OK) return OK;
    k->count--;
    token[0] = 0;
    return rc;
}

static err check_name(str name, unsigned scopes) {
    if (name.len > KEY_NAME_MAX || !utf8_valid(name, NULL))
        return err_set_field(ERR_INVALID, "name", "expected at most %d bytes of UTF-8, got %zu",
                             KEY_NAME_MAX, name.len);
    if (name.len && memchr(name.ptr, 0, name.len))
        return err_set_field(ERR_INVALID, "name", "expected text without NUL bytes");
    if (!scopes || scopes & ~(unsigned)SCOPE_ALL)
        return err_set_field(ERR_INVALID, "scopes",
                             "expected at least one of search, write, admin");
    return OK;
}

err keys_new(keys *k, str name, unsigned scopes, char token[KEY_TOKEN_MAX]) {
    token[0] = 0;
    TRY(check_name(name, scopes));
    file *lock;
    TRY(change_begin(k, &lock));
    err rc = add(k, name, scopes, token);
    change_end(k, lock);
    return rc;
}

err keys_birth(fs *disk, const char *dir, char token[KEY_TOKEN_MAX]) {
    token[0] = 0;
    keys *k;
    TRY(keys_open(disk, dir, &k));
    file *lock;
    err rc = change_begin(k, &lock);
    if (rc == OK) {
        if (!fs_exists(disk, k->path)) rc = add(k, STR("admin"), SCOPE_ALL, token);
        change_end(k, lock);
    }
    keys_close(k);
    return rc;
}

static entry *find(keys *k, str id) {
    for (size_t i = 0; i < k->count; i++)
        if (str_eq(str_from(k->items[i].info.id, KEY_ID_LEN), id)) return &k->items[i];
    return NULL;
}

err keys_revoke(keys *k, str id) {
    file *lock;
    TRY(change_begin(k, &lock));
    entry *e = find(k, id);
    err rc = e ? OK : err_set(ERR_NOT_FOUND, "no key has this id");
    if (rc == OK && !e->info.revoked) {
        e->info.revoked = true;
        rc = save(k);
        if (rc != OK) e->info.revoked = false;
    }
    change_end(k, lock);
    return rc;
}

err keys_list(keys *k, arena *a, key_info **out, size_t *count) {
    mutex_lock(&k->mu);
    refresh(k);
    key_info *list = arena_zalloc(a, k->count ? k->count : 1, sizeof *list);
    for (size_t i = 0; list && i < k->count; i++) list[i] = k->items[i].info;
    *count = list ? k->count : 0;
    mutex_unlock(&k->mu);
    *out = list;
    return list ? OK : ERR_NO_MEMORY;
}

/* ---- the check ---- */

static bool token_split(str token, str *id, str *secret) {
    const size_t at = sizeof "kith_" - 1;
    if (token.len != at + KEY_ID_LEN + 1 + SECRET_TEXT) return false;
    if (!str_starts(token, STR("kith_")) || token.ptr[at + KEY_ID_LEN] != '_') return false;
    *id = str_from(token.ptr + at, KEY_ID_LEN);
    *secret = str_from(token.ptr + at + KEY_ID_LEN + 1, SECRET_TEXT);
    return true;
}

err keys_check(keys *k, str token, key_grant *out) {
    static const entry nobody;
    str id, secret;
    if (!token_split(token, &id, &secret))
        return err_set(ERR_UNAUTHENTICATED,
                       "expected a bearer token of the form kith_<id>_<secret>");
    uint8_t hash[HASH_BYTES];
    hash_secret(secret, hash);
    mutex_lock(&k->mu);
    refresh(k);
    const entry *e = find(k, id);
    bool known = e && !e->info.revoked;
    bool same = sodium_memcmp((known ? e : &nobody)->hash, hash, HASH_BYTES) == 0;
    if (known && same) {
        memcpy(out->id, e->info.id, sizeof out->id);
        out->scopes = e->info.scopes;
    }
    mutex_unlock(&k->mu);
    if (known && same) return OK;
    return err_set(ERR_UNAUTHENTICATED, "no live key has this token");
}
