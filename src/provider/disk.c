/* The cache on disk: a table of fixed slots in one file, so that it needs no index in memory, no compaction
 * and no recovery.
 *
 *   0      header, 512 bytes: magic, dimension, sets, the space's name, CRC-32C of all that
 *   4096   sets x WAYS slots: key (16), use (4), CRC-32C of key and vector (4), dim x 2 (half precision)
 *
 * A key's set is key mod sets; a lookup reads one set. A put overwrites the slot of the same key, an empty
 * one, or the one that was used longest ago. Nothing is synced: after a crash a torn slot fails its
 * checksum and is a miss, which costs one embedding. Only deletions are synced, each at once, since they
 * are promises. The file is sparse: it takes the room of what is in it.
 * Any failure to read or write is a miss; the cache never makes a call fail.
 */
#include "provider/provider_int.h"

#include "vec/distance.h"
#include <stdio.h>

enum {
    HEADER_BYTES = 512,
    START = 4096,
    WAYS = 8,
    SLOT_HEAD = 24,
    PATH_BYTES = 4096,
    MAGIC_BYTES = 8
};
static const char MAGIC[MAGIC_BYTES] = {'K', 'I', 'T', 'H', 'V', 'E', 'C', '1'};

struct disk_cache {
    uint32_t dim; /* immutable */
    size_t slot;
    uint64_t sets;
    mutex mu; /* guards the rest */
    file *f;
    uint8_t *set; /* WAYS slots */
    f16 *half;
    uint32_t clock;
};

static void make_header(const provider_info *i, uint64_t sets, uint8_t h[HEADER_BYTES]) {
    memset(h, 0, HEADER_BYTES);
    memcpy(h, MAGIC, MAGIC_BYTES);
    le32_put(h + 8, i->dim);
    le64_put(h + 16, sets);
    memcpy(h + 32, i->space, strlen(i->space));
    le32_put(h + HEADER_BYTES - 4, crc32c(0, h, HEADER_BYTES - 4));
}

static err open_file(disk_cache *d, fs *disk, const char *path, const provider_info *i) {
    uint8_t want[HEADER_BYTES], have[HEADER_BYTES] = {0};
    size_t got = 0;
    make_header(i, d->sets, want);
    TRY(file_open(disk, path, FILE_WRITE | FILE_CREATE, &d->f));
    TRY(file_pread(d->f, have, HEADER_BYTES, 0, &got));
    if (got == HEADER_BYTES && memcmp(want, have, HEADER_BYTES) == 0) return OK;
    TRY(file_truncate(d->f, 0));
    return file_pwrite(d->f, want, HEADER_BYTES, 0);
}

err disk_cache_open(fs *disk, const char *dir, const provider_info *i, uint64_t bytes,
                    disk_cache **out) {
    char path[PATH_BYTES];
    *out = NULL;
    if (snprintf(path, sizeof path, "%s/embed-cache", dir) >= (int)sizeof path)
        return err_set(ERR_INVALID, "embed cache: path too long");
    disk_cache *d = mem_zalloc(1, sizeof *d);
    if (!d) return ERR_NO_MEMORY;
    d->dim = i->dim;
    d->slot = SLOT_HEAD + (size_t)i->dim * sizeof(f16);
    d->sets = MAX(bytes / (d->slot * WAYS), 1);
    d->set = mem_alloc(d->slot * WAYS);
    d->half = mem_alloc(i->dim * sizeof *d->half);
    d->clock = (uint32_t)(clock_wall_ms() / 1000);
    err rc = d->set && d->half ? mutex_init(&d->mu) : ERR_NO_MEMORY;
    if (rc != OK) {
        mem_free(d->set), mem_free(d->half), mem_free(d);
        return rc;
    }
    rc = open_file(d, disk, path, i);
    if (rc != OK) {
        disk_cache_close(d);
        return rc;
    }
    *out = d;
    return OK;
}

void disk_cache_close(disk_cache *d) {
    if (!d) return;
    file_close(d->f);
    mutex_deinit(&d->mu);
    mem_free(d->set), mem_free(d->half);
    mem_free(d);
}

static uint64_t set_at(const disk_cache *d, const cache_key *k) {
    return START + k->h[0] % d->sets * (d->slot * WAYS);
}

static void key_bytes(const cache_key *k, uint8_t out[16]) {
    le64_put(out, k->h[0]);
    le64_put(out + 8, k->h[1]);
}

static uint32_t slot_sum(const disk_cache *d, const uint8_t *slot) {
    return crc32c(crc32c(0, slot, 16), slot + SLOT_HEAD, d->slot - SLOT_HEAD);
}

/* Reads the key's set; the way that holds it, or WAYS. What is behind the file's end is empty. */
static size_t load(disk_cache *d, const cache_key *k) {
    uint8_t key[16];
    size_t got = 0;
    key_bytes(k, key);
    if (file_pread(d->f, d->set, d->slot * WAYS, set_at(d, k), &got) != OK) got = 0;
    memset(d->set + got, 0, d->slot * WAYS - got);
    for (size_t w = 0; w < WAYS; w++)
        if (memcmp(d->set + w * d->slot, key, 16) == 0) return w;
    return WAYS;
}

bool disk_cache_get(disk_cache *d, const cache_key *k, float *out) {
    mutex_lock(&d->mu);
    size_t w = load(d, k);
    const uint8_t *slot = d->set + (w == WAYS ? 0 : w) * d->slot;
    bool hit = w < WAYS && slot_sum(d, slot) == le32_get(slot + 20);
    if (hit) {
        memcpy(d->half, slot + SLOT_HEAD, d->slot - SLOT_HEAD);
        vec_f32_from_f16(out, d->half, d->dim);
        hit = provider_unit(out, d->dim);
        uint8_t use[4];
        le32_put(use, ++d->clock);
        err rc = file_pwrite(d->f, use, 4, set_at(d, k) + w * d->slot + 16);
        (void)rc; /* then it goes a little earlier */
    }
    mutex_unlock(&d->mu);
    return hit;
}

void disk_cache_put(disk_cache *d, const cache_key *k, const float *v) {
    mutex_lock(&d->mu);
    size_t w = load(d, k);
    if (w == WAYS) {
        w = 0;
        for (size_t i = 1; i < WAYS; i++)
            if (le32_get(d->set + i * d->slot + 16) < le32_get(d->set + w * d->slot + 16)) w = i;
    }
    uint8_t *slot = d->set + w * d->slot;
    key_bytes(k, slot);
    le32_put(slot + 16, ++d->clock);
    vec_f16_from_f32(d->half, v, d->dim);
    memcpy(slot + SLOT_HEAD, d->half, d->slot - SLOT_HEAD);
    le32_put(slot + 20, slot_sum(d, slot));
    err rc = file_pwrite(d->f, slot, d->slot, set_at(d, k) + w * d->slot);
    (void)rc; /* a full disk: the next one asks the provider again */
    mutex_unlock(&d->mu);
}

void disk_cache_forget(disk_cache *d, const cache_key *k) {
    mutex_lock(&d->mu);
    size_t w = load(d, k);
    if (w < WAYS) {
        memset(d->set, 0, d->slot);
        err rc = file_pwrite(d->f, d->set, d->slot, set_at(d, k) + w * d->slot);
        if (rc == OK) rc = file_datasync(d->f);
        (void)rc; /* the next open after a failed sync finds what the disk kept */
    }
    mutex_unlock(&d->mu);
}
