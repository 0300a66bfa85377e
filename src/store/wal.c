/* The WAL, looked at without SQLite.
 *
 * When SQLite opens a WAL it believes the frames up to the first whose checksum fails and drops the
 * rest in silence. After a kill that is right: what follows is a torn tail. After a flipped
 * bit it is not: hundreds of commits vanish, and if they had been copied to the main file by a
 * checkpoint already, older pages now lie over newer ones, and the result is neither state. So
 * before a store is opened its WAL is walked: a frame that fails and is followed by a frame of the
 * same WAL (the same two salts, which change whenever SQLite starts the file over) is damage, and
 * store.c then trusts nothing before it has read everything.
 *
 * A kill cannot leave that: frames are written in order, one after the other. A power cut can, in
 * the part not yet synced, which no checkpoint has copied. Damage in the very last frame looks like
 * a torn tail; store.c sees it by the count of commits when a checkpoint had copied it.
 *
 * Format (sqlite.org/fileformat2.html, section 4), all big-endian. Header, 32 bytes: magic
 * 0x377f0682 or 0x377f0683 (odd: checksums over big-endian words), version, page size, sequence,
 * salt 1, salt 2, checksum of the first 24. Frame: 24 bytes (page, size after commit, salt 1, salt
 * 2, checksum), then the page. The checksum runs on from the header through every frame's first 8
 * bytes and page.
 */
#include "store/store_int.h"

enum { WAL_HEADER = 32, FRAME_HEADER = 24, FRAME_SIZE = FRAME_HEADER + VFS_PAGE_SIZE };
#define WAL_MAGIC 0x377f0682u

typedef struct wal_sum {
    uint32_t a, b;
} wal_sum;

static uint32_t be32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Adds n bytes, a multiple of 8. */
static wal_sum sum_add(wal_sum s, const uint8_t *p, size_t n, bool big) {
    for (; n >= 8; n -= 8, p += 8) {
        s.a += (big ? be32(p) : le32_get(p)) + s.b;
        s.b += (big ? be32(p + 4) : le32_get(p + 4)) + s.a;
    }
    return s;
}

static bool sum_is(wal_sum s, const uint8_t *p) {
    return s.a == be32(p) && s.b == be32(p + 4);
}

/* Walks the frames; *bad is the first that fails and is followed by one of this WAL, else 0. */
static err walk(file *f, uint64_t frames, const uint8_t *head, wal_sum s, uint8_t *buf,
                uint64_t *bad) {
    bool big = be32(head) & 1;
    uint64_t failed = 0;
    for (uint64_t i = 1; i <= frames; i++) {
        size_t got = 0;
        TRY(file_pread(f, buf, FRAME_SIZE, WAL_HEADER + (i - 1) * FRAME_SIZE, &got));
        if (got < FRAME_SIZE) return OK;
        bool ours = memcmp(buf + 8, head + 16, 8) == 0;
        if (failed) {
            if (!ours) continue;
            *bad = failed;
            return OK;
        }
        s = sum_add(s, buf, 8, big);
        s = sum_add(s, buf + FRAME_HEADER, VFS_PAGE_SIZE, big);
        if (!ours || be32(buf) == 0 || !sum_is(s, buf + 16)) failed = i;
    }
    return OK;
}

static err check(file *f, arena *a, const char *name, str *problem) {
    uint64_t size = 0, bad = 0;
    size_t got = 0;
    uint8_t head[WAL_HEADER];
    TRY(file_size(f, &size));
    if (size < WAL_HEADER + FRAME_SIZE) return OK; /* not one frame */
    TRY(file_pread(f, head, WAL_HEADER, 0, &got));
    wal_sum s = sum_add((wal_sum){0, 0}, head, 24, be32(head) & 1);
    if ((be32(head) & ~1u) != WAL_MAGIC || be32(head + 8) != VFS_PAGE_SIZE ||
        !sum_is(s, head + 24)) {
        *problem = arena_printf(a, "%s: its header is damaged", name);
        return problem->ptr ? OK : ERR_NO_MEMORY;
    }
    uint8_t *buf = arena_alloc(a, FRAME_SIZE);
    if (!buf) return ERR_NO_MEMORY;
    TRY(walk(f, (size - WAL_HEADER) / FRAME_SIZE, head, s, buf, &bad));
    if (!bad) return OK;
    *problem = arena_printf(a, "%s: frame %llu is damaged", name, (unsigned long long)bad);
    return problem->ptr ? OK : ERR_NO_MEMORY;
}

err store_wal_check(const char *path, arena *a, str *problem) {
    *problem = (str){NULL, 0};
    str name = arena_printf(a, "%s-wal", path);
    if (!name.ptr) return ERR_NO_MEMORY;
    if (!fs_exists(fs_real(), name.ptr)) return OK;
    file *f = NULL;
    TRY(file_open(fs_real(), name.ptr, FILE_READ, &f));
    err rc = check(f, a, name.ptr, problem);
    file_close(f);
    return rc;
}
