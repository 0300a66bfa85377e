/* The keys of days, in one small file that is replaced as a whole: a new day writes it once, without
 * the days that are over. So forgetting needs no schedule: it happens with the first interaction of a
 * new day, and when the file is opened.
 */
#include "api/diary.h"

#include <sodium.h>

#define MAGIC      "KITHDAY\1"
#define MAGIC_LEN  8
#define ENTRY_LEN  (4 + crypto_secretbox_KEYBYTES)
#define FILE_BYTES (MAGIC_LEN + ENTRY_LEN * (DIARY_DAYS_MAX + 1))

typedef struct page {
    uint32_t day;
    uint8_t key[crypto_secretbox_KEYBYTES];
} page;

struct diary {
    fs *fs;
    char *path;
    uint32_t keep;
    mutex mu; /* guards the pages and the file */
    page *pages;
    size_t count, cap;
};

static err save(diary *d) {
    uint8_t *b = mem_alloc(MAGIC_LEN + ENTRY_LEN * d->count);
    if (!b) return ERR_NO_MEMORY;
    memcpy(b, MAGIC, MAGIC_LEN);
    for (size_t i = 0; i < d->count; i++) {
        le32_put(b + MAGIC_LEN + ENTRY_LEN * i, d->pages[i].day);
        memcpy(b + MAGIC_LEN + ENTRY_LEN * i + 4, d->pages[i].key, sizeof d->pages[i].key);
    }
    err rc = file_write_atomic(d->fs, d->path, b, MAGIC_LEN + ENTRY_LEN * d->count);
    sodium_memzero(b, MAGIC_LEN + ENTRY_LEN * d->count);
    mem_free(b);
    return rc;
}

static err load(diary *d) {
    uint8_t *b;
    size_t n;
    err rc = file_read_all(d->fs, d->path, FILE_BYTES, &b, &n);
    if (rc == ERR_NOT_FOUND) return OK;
    TRY(rc);
    bool good =
        n >= MAGIC_LEN && memcmp(b, MAGIC, MAGIC_LEN) == 0 && (n - MAGIC_LEN) % ENTRY_LEN == 0;
    size_t count = good ? (n - MAGIC_LEN) / ENTRY_LEN : 0;
    if (!good) rc = err_set(ERR_CORRUPT, "%s: not a file of day keys", d->path);
    if (rc == OK)
        rc = mem_grow((void **)&d->pages, &d->cap, count + 1, sizeof *d->pages, DIARY_DAYS_MAX + 2);
    for (size_t i = 0; rc == OK && i < count; i++) {
        d->pages[i].day = le32_get(b + MAGIC_LEN + ENTRY_LEN * i);
        memcpy(d->pages[i].key, b + MAGIC_LEN + ENTRY_LEN * i + 4, sizeof d->pages[i].key);
    }
    if (rc == OK) d->count = count;
    sodium_memzero(b, n);
    mem_free(b);
    return rc;
}

static page *find(diary *d, uint32_t day) {
    for (size_t i = 0; i < d->count; i++)
        if (d->pages[i].day == day) return &d->pages[i];
    return NULL;
}

/* True when a page went. */
static bool forget(diary *d, uint32_t today) {
    size_t kept = 0, had = d->count;
    for (size_t i = 0; i < had; i++)
        if (d->pages[i].day + d->keep >= today && d->pages[i].day <= today + 1)
            d->pages[kept++] = d->pages[i];
    if (kept < had) sodium_memzero(d->pages + kept, (had - kept) * sizeof *d->pages);
    d->count = kept;
    return kept < had;
}

err diary_open(fs *disk, const char *dir, uint32_t keep_days, diary **out) {
    *out = NULL;
    if (sodium_init() < 0) return err_set(ERR_INTERNAL, "libsodium does not start");
    if (keep_days < 1 || keep_days > DIARY_DAYS_MAX)
        return err_set(ERR_INVALID, "days to keep: expected 1 to %d", DIARY_DAYS_MAX);
    diary *d = mem_zalloc(1, sizeof *d);
    if (!d) return ERR_NO_MEMORY;
    strbuf b;
    strbuf_init(&b, 4 * KIB);
    strbuf_addf(&b, "%s/interactions.keys", dir);
    d->path = strbuf_take(&b);
    d->fs = disk;
    d->keep = keep_days;
    err rc = d->path ? mutex_init(&d->mu) : ERR_NO_MEMORY;
    if (rc == OK) {
        rc = load(d);
        if (rc == OK && forget(d, (uint32_t)(clock_wall_ms() / 86400000))) rc = save(d);
        if (rc == OK) {
            *out = d;
            return OK;
        }
        mutex_deinit(&d->mu);
    }
    mem_free(d->pages);
    mem_free(d->path);
    mem_free(d);
    return rc;
}

void diary_close(diary *d) {
    if (!d) return;
    if (d->pages) sodium_memzero(d->pages, d->cap * sizeof *d->pages);
    mutex_deinit(&d->mu);
    mem_free(d->pages);
    mem_free(d->path);
    mem_free(d);
}

static err key_of(diary *d, uint32_t day, bool make, uint8_t key[crypto_secretbox_KEYBYTES]) {
    page *p = find(d, day);
    if (!p && !make) return err_set(ERR_NOT_FOUND, "the key of this day was thrown away");
    if (!p) {
        (void)forget(d, day);
        TRY(mem_grow((void **)&d->pages, &d->cap, d->count + 1, sizeof *d->pages,
                     DIARY_DAYS_MAX + 2));
        p = &d->pages[d->count++];
        p->day = day;
        randombytes_buf(p->key, sizeof p->key);
        err rc = save(d);
        if (rc != OK) d->count--;
        TRY(rc);
    }
    memcpy(key, p->key, sizeof p->key);
    return OK;
}

err diary_seal(diary *d, uint32_t day, str plain, arena *a, str *sealed) {
    uint8_t key[crypto_secretbox_KEYBYTES];
    mutex_lock(&d->mu);
    err rc = key_of(d, day, true, key);
    mutex_unlock(&d->mu);
    TRY(rc);
    size_t n = crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES + plain.len;
    uint8_t *p = arena_alloc(a, n);
    if (!p) return ERR_NO_MEMORY;
    randombytes_buf(p, crypto_secretbox_NONCEBYTES);
    crypto_secretbox_easy(p + crypto_secretbox_NONCEBYTES, (const uint8_t *)plain.ptr, plain.len, p,
                          key);
    sodium_memzero(key, sizeof key);
    *sealed = str_from(p, n);
    return OK;
}

err diary_open_page(diary *d, uint32_t day, str sealed, arena *a, str *plain) {
    const size_t head = crypto_secretbox_NONCEBYTES;
    uint8_t key[crypto_secretbox_KEYBYTES];
    if (sealed.len < head + crypto_secretbox_MACBYTES)
        return err_set(ERR_CORRUPT, "a sealed text is too short");
    mutex_lock(&d->mu);
    err rc = key_of(d, day, false, key);
    mutex_unlock(&d->mu);
    TRY(rc);
    size_t n = sealed.len - head - crypto_secretbox_MACBYTES;
    uint8_t *p = arena_alloc(a, n + 1);
    const uint8_t *box = (const uint8_t *)sealed.ptr;
    if (!p) return ERR_NO_MEMORY;
    int bad = crypto_secretbox_open_easy(p, box + head, sealed.len - head, box, key);
    sodium_memzero(key, sizeof key);
    if (bad) return err_set(ERR_CORRUPT, "a sealed text was changed");
    *plain = str_from(p, n);
    return OK;
}
