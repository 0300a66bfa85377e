/* The snapshot container: see snapfile.h for the layout.
 *
 * The writer gathers up to 1 MiB before it writes, sums each section as it goes, and keeps the table
 * in memory (16 entries). The first error sticks, so a structure that saves itself in thousands of
 * small pieces is checked once, at the end. Reading maps the file and sums all of it before any
 * byte is believed: at 8 GB/s that is less than what the page cache needs.
 */
#include "shard/snapfile.h"

enum { BUFFER = 1 << 20, ALIGN = 64, ENTRY = 32, FOOTER = 64, VERSION = 1 };

typedef struct entry {
    char tag[8];
    uint64_t offset, size;
    uint32_t crc;
} entry;

struct snapfile_writer {
    fs *disk;
    char *path, *tmp;
    file *f;
    uint8_t *buf;
    size_t buf_len;
    uint64_t offset; /* of what was handed over, buffered or not */
    entry table[SNAPFILE_SECTIONS_MAX];
    uint32_t count;
    err rc;
};

static err flush(snapfile_writer *w) {
    if (w->rc == OK && w->buf_len)
        w->rc = file_pwrite(w->f, w->buf, w->buf_len, w->offset - w->buf_len);
    w->buf_len = 0;
    return w->rc;
}

static err put(snapfile_writer *w, const void *p, size_t n) {
    const uint8_t *b = p;
    while (n && w->rc == OK) {
        size_t take = MIN(n, BUFFER - w->buf_len);
        memcpy(w->buf + w->buf_len, b, take);
        w->buf_len += take;
        w->offset += take;
        b += take;
        n -= take;
        if (w->buf_len == BUFFER && flush(w) != OK) break;
    }
    return w->rc;
}

static err section_write(void *ctx, const void *p, size_t n) {
    snapfile_writer *w = ctx;
    entry *e = &w->table[w->count - 1];
    e->crc = crc32c(e->crc, p, n);
    e->size += n;
    return put(w, p, n);
}

static err fill(snapfile_writer *w, uint32_t *crc) {
    static const uint8_t zero[ALIGN];
    size_t n = (ALIGN - w->offset % ALIGN) % ALIGN;
    if (crc) *crc = crc32c(*crc, zero, n);
    return put(w, zero, n);
}

err snapfile_create(fs *disk, const char *path, snapfile_writer **out) {
    *out = NULL;
    snapfile_writer *w = mem_zalloc(1, sizeof *w);
    if (!w) return ERR_NO_MEMORY;
    w->disk = disk;
    w->path = mem_dup(path, strlen(path) + 1);
    w->tmp = mem_alloc(strlen(path) + 5);
    w->buf = mem_alloc(BUFFER);
    err rc = w->path && w->tmp && w->buf ? OK : ERR_NO_MEMORY;
    if (rc == OK) {
        memcpy(w->tmp, path, strlen(path));
        memcpy(w->tmp + strlen(path), ".tmp", 5);
        rc = file_open(disk, w->tmp, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, &w->f);
    }
    if (rc != OK) {
        snapfile_abort(w);
        return rc;
    }
    *out = w;
    return OK;
}

err snapfile_section(snapfile_writer *w, const char *tag, writer *out) {
    KITH_ASSERT(w->count < SNAPFILE_SECTIONS_MAX && strlen(tag) <= 8);
    if (w->count) TRY(fill(w, &w->table[w->count - 1].crc));
    entry *e = &w->table[w->count++];
    memcpy(e->tag, tag, strlen(tag));
    e->offset = w->offset;
    *out = (writer){section_write, w};
    return w->rc;
}

static err finish(snapfile_writer *w, uint64_t lsn, const uint8_t *id) {
    if (w->count) TRY(fill(w, &w->table[w->count - 1].crc));
    uint64_t table_offset = w->offset;
    uint32_t table_crc = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        uint8_t b[ENTRY] = {0};
        memcpy(b, w->table[i].tag, 8);
        le64_put(b + 8, w->table[i].offset);
        le64_put(b + 16, w->table[i].size);
        le32_put(b + 24, w->table[i].crc);
        table_crc = crc32c(table_crc, b, ENTRY);
        TRY(put(w, b, ENTRY));
    }
    uint8_t f[FOOTER] = "KITHSNAP";
    le32_put(f + 8, VERSION);
    le32_put(f + 12, w->count);
    le64_put(f + 16, lsn);
    memcpy(f + 24, id, SNAPFILE_ID_BYTES);
    le64_put(f + 40, table_offset);
    le32_put(f + 48, table_crc);
    le32_put(f + 60, crc32c(0, f, 60));
    TRY(put(w, f, FOOTER));
    TRY(flush(w));
    return file_datasync(w->f);
}

static err sync_parent(fs *disk, const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return fs_sync_dir(disk, ".");
    char *dir = mem_dup(path, (size_t)(slash - path) + 1);
    if (!dir) return ERR_NO_MEMORY;
    dir[slash - path] = 0;
    err rc = fs_sync_dir(disk, dir);
    mem_free(dir);
    return rc;
}

err snapfile_finish(snapfile_writer *w, uint64_t lsn, const uint8_t id[SNAPFILE_ID_BYTES]) {
    err rc = finish(w, lsn, id);
    file_close(w->f);
    w->f = NULL;
    if (rc == OK) rc = fs_rename(w->disk, w->tmp, w->path);
    if (rc == OK) rc = sync_parent(w->disk, w->path);
    if (rc == OK) mem_free(w->tmp), w->tmp = NULL;
    snapfile_abort(w);
    return rc;
}

void snapfile_abort(snapfile_writer *w) {
    if (!w) return;
    file_close(w->f);
    if (w->tmp && fs_exists(w->disk, w->tmp)) {
        err rc = fs_unlink(w->disk, w->tmp); /* left over otherwise; the next one truncates it */
        (void)rc;
    }
    mem_free(w->buf);
    mem_free(w->tmp);
    mem_free(w->path);
    mem_free(w);
}

/* ---- reading ---- */

static err bad(const char *name, const char *what) {
    return err_set(ERR_CORRUPT, "%s: %s", name, what);
}

static err parse_table(const uint8_t *p, uint64_t end, const char *name, snapfile *s) {
    uint64_t at = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        const uint8_t *b = p + end + (size_t)i * ENTRY;
        uint64_t offset = le64_get(b + 8), size = le64_get(b + 16);
        if (offset != at || size > end - offset) return bad(name, "section out of its bounds");
        uint64_t stop = (offset + size + ALIGN - 1) / ALIGN * ALIGN;
        if (stop > end) return bad(name, "section out of its bounds");
        memcpy(s->sections[i].tag, b, 8);
        s->sections[i].ptr = p + offset;
        s->sections[i].size = size;
        if (crc32c(0, p + offset, stop - offset) != le32_get(b + 24))
            return err_set(ERR_CORRUPT, "%s: section '%s' is damaged (checksum)", name,
                           s->sections[i].tag);
        at = stop;
    }
    return at == end ? OK : bad(name, "bytes outside of every section");
}

err snapfile_parse(const uint8_t *p, size_t size, const char *name, snapfile *s) {
    if (size < FOOTER || size > SIZE_MAX / 2) return bad(name, "too short for an index snapshot");
    const uint8_t *f = p + size - FOOTER;
    if (memcmp(f, "KITHSNAP", 8) != 0) return bad(name, "no snapshot footer: cut, or another file");
    if (crc32c(0, f, 60) != le32_get(f + 60)) return bad(name, "footer is damaged (checksum)");
    if (le32_get(f + 8) != VERSION)
        return err_set(ERR_UNSUPPORTED, "%s: snapshot version %u, this program reads %d", name,
                       le32_get(f + 8), VERSION);
    s->count = le32_get(f + 12);
    s->lsn = le64_get(f + 16);
    memcpy(s->id, f + 24, SNAPFILE_ID_BYTES);
    uint64_t table = le64_get(f + 40);
    if (s->count > SNAPFILE_SECTIONS_MAX || table % ALIGN != 0 ||
        table + (uint64_t)s->count * ENTRY + FOOTER != size)
        return bad(name, "table out of its bounds");
    if (crc32c(0, p + table, (size_t)s->count * ENTRY) != le32_get(f + 48))
        return bad(name, "section table is damaged (checksum)");
    return parse_table(p, table, name, s);
}

err snapfile_open(fs *disk, const char *path, snapfile *out) {
    memset(out, 0, sizeof *out);
    TRY(file_map_open(disk, path, &out->map));
    err rc = snapfile_parse(out->map.ptr, out->map.size, path, out);
    if (rc != OK) snapfile_close(out);
    return rc;
}

void snapfile_close(snapfile *s) {
    file_map_close(&s->map);
    memset(s, 0, sizeof *s);
}

err snapfile_get(const snapfile *s, const char *tag, const uint8_t **p, size_t *size) {
    for (uint32_t i = 0; i < s->count; i++) {
        if (strcmp(s->sections[i].tag, tag) != 0) continue;
        *p = s->sections[i].ptr;
        *size = s->sections[i].size;
        return OK;
    }
    return err_set(ERR_CORRUPT, "index snapshot: section '%s' is missing", tag);
}
