/* The files of a journal's directory: segments, the mark, and their names.
 *
 * A segment is born under a temporary name, gets its space and its header, is synced, renamed,
 * and its name synced: a segment that has its name is whole, so a damaged header is always
 * damage. A crash before the rename leaves a ".tmp", which opening removes.
 *
 * The mark is the second witness of how far the journal was durable (the first is the segments
 * themselves). It is 8 KiB, written once in full when the journal is made, and then in place, the
 * two slots by turns: a torn write costs one slot and the other still tells the commit before.
 * Its slots lie in different pages and each within one sector.
 */
#include "journal/journal_int.h"

#define SEGMENT_SUFFIX ".seg"
#define TEMP_SUFFIX    ".tmp"
#define SEGMENT_DIGITS 20
#define LIST_TEXT_MAX  (4 * MIB)
#define TEMPS_MAX      ((size_t)4096)

void segment_name(uint64_t first_lsn, char out[SEGMENT_NAME_BYTES]) {
    for (int i = SEGMENT_DIGITS - 1; i >= 0; i--) {
        out[i] = (char)('0' + first_lsn % 10);
        first_lsn /= 10;
    }
    memcpy(out + SEGMENT_DIGITS, SEGMENT_SUFFIX, sizeof SEGMENT_SUFFIX);
}

bool segment_name_parse(const char *name, uint64_t *first_lsn) {
    str s = str_of(name);
    if (s.len != SEGMENT_DIGITS + 4 || !str_ends(s, STR(SEGMENT_SUFFIX))) return false;
    for (size_t i = 0; i < SEGMENT_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9') return false;
    }
    return str_to_u64(str_from(name, SEGMENT_DIGITS), first_lsn) && *first_lsn > 0;
}

char *journal_path(const char *dir, const char *name) {
    strbuf b;
    strbuf_init(&b, PATH_MAX_BYTES);
    strbuf_addz(&b, dir);
    strbuf_addc(&b, '/');
    strbuf_addz(&b, name);
    char *p = strbuf_take(&b);
    strbuf_deinit(&b);
    return p;
}

err dir_file_open(fs *disk, const char *dir, const char *name, unsigned flags, file **out) {
    *out = NULL;
    char *path = journal_path(dir, name);
    if (!path) return ERR_NO_MEMORY;
    err rc = file_open(disk, path, flags, out);
    mem_free(path);
    return rc;
}

/* --- what is in a directory ------------------------------------------------------------------ */

static err list_segment(dir_list *l, uint64_t first_lsn) {
    void *items = l->items;
    err rc = mem_grow(&items, &l->cap, l->count + 1, sizeof *l->items, SEGMENTS_MAX);
    l->items = items;
    TRY(rc);
    l->items[l->count++] = (segment){.first_lsn = first_lsn};
    return OK;
}

static err list_temp(dir_list *l, const char *name) {
    void *items = l->temps;
    err rc = mem_grow(&items, &l->temp_cap, l->temp_count + 1, sizeof *l->temps, TEMPS_MAX);
    l->temps = items;
    TRY(rc);
    char *copy = arena_dup(&l->text, str_of(name));
    if (!copy) return ERR_NO_MEMORY;
    l->temps[l->temp_count++] = copy;
    return OK;
}

static err list_name(void *ctx, const char *name) {
    uint64_t first_lsn;
    if (segment_name_parse(name, &first_lsn)) return list_segment(ctx, first_lsn);
    if (str_ends(str_of(name), STR(TEMP_SUFFIX))) return list_temp(ctx, name);
    return OK; /* not ours: leave it */
}

err dir_list_read(fs *disk, const char *dir, dir_list *out) {
    *out = (dir_list){0};
    arena_init(&out->text, LIST_TEXT_MAX);
    err rc = fs_list(disk, dir, list_name, out); /* bytewise order is the order of numbers */
    if (rc != OK) dir_list_deinit(out);
    return rc;
}

void dir_list_deinit(dir_list *l) {
    mem_free(l->items);
    mem_free(l->temps);
    arena_deinit(&l->text);
    l->items = NULL;
    l->temps = NULL;
    l->count = l->temp_count = 0;
}

/* --- segments -------------------------------------------------------------------------------- */

static err header_load(file *f, const char *name, uint64_t first_lsn, const uint8_t *id,
                       segment_header *h) {
    uint8_t p[SEGMENT_HEADER];
    size_t got;
    TRY(file_pread(f, p, sizeof p, 0, &got));
    if (got < sizeof p)
        return err_set(ERR_CORRUPT, "journal segment %s: its header is cut off", name);
    TRY(segment_header_read(p, name, h));
    if (id && memcmp(h->id, id, ID_BYTES) != 0)
        return err_set(ERR_CORRUPT, "journal segment %s: it belongs to another journal", name);
    if (h->first_lsn != first_lsn)
        return err_set(ERR_CORRUPT, "journal segment %s: its header says it starts at record %llu",
                       name, (unsigned long long)h->first_lsn);
    return OK;
}

err segment_open(fs *disk, const char *dir, uint64_t first_lsn, const uint8_t *id, unsigned flags,
                 file **out, segment_header *h) {
    char name[SEGMENT_NAME_BYTES];
    segment_name(first_lsn, name);
    TRY(dir_file_open(disk, dir, name, flags, out));
    err rc = header_load(*out, name, first_lsn, id, h);
    if (rc == OK) return OK;
    file_close(*out);
    *out = NULL;
    return rc;
}

/* Space and header of a new segment, on disk when it returns OK. */
static err segment_fill(file *f, const segment_header *h, bool *broken) {
    uint8_t p[SEGMENT_HEADER];
    segment_header_write(p, h);
    TRY(file_reserve(f, h->bytes));
    TRY(file_pwrite(f, p, sizeof p, 0));
    err rc = file_datasync(f);
    *broken = rc != OK;
    return rc;
}

static err segment_settle(fs *disk, const char *dir, const char *tmp, const char *path,
                          bool *broken) {
    *broken = true;
    TRY(fs_rename(disk, tmp, path));
    TRY(fs_sync_dir(disk, dir));
    *broken = false;
    return OK;
}

err segment_create(fs *disk, const char *dir, const segment_header *h, file **out, bool *broken) {
    char name[SEGMENT_NAME_BYTES], temp[SEGMENT_NAME_BYTES + 8];
    segment_name(h->first_lsn, name);
    memcpy(temp, name, SEGMENT_DIGITS + 4);
    memcpy(temp + SEGMENT_DIGITS + 4, TEMP_SUFFIX, sizeof TEMP_SUFFIX);
    *broken = false;
    *out = NULL;
    err rc = ERR_NO_MEMORY;
    char *path = journal_path(dir, name), *tmp = journal_path(dir, temp);
    if (!path || !tmp) goto done;
    TRY_GOTO(file_open(disk, tmp, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, out));
    rc = segment_fill(*out, h, broken);
    if (rc == OK) rc = segment_settle(disk, dir, tmp, path, broken);
    if (rc != OK) {
        err_text kept = err_keep();
        file_close(*out);
        *out = NULL;
        err gone = fs_unlink(disk, tmp); /* best effort: gives the space back */
        (void)gone;
        (void)err_restore(rc, &kept);
    }
done:
    mem_free(path);
    mem_free(tmp);
    return rc;
}

/* --- the mark -------------------------------------------------------------------------------- */

err mark_read(fs *disk, const char *dir, mark *out, unsigned *bad) {
    *bad = 0;
    char *path = journal_path(dir, MARK_NAME);
    if (!path) return ERR_NO_MEMORY;
    uint8_t *p;
    size_t n;
    err rc = file_read_all(disk, path, 16 * MARK_BYTES, &p, &n);
    mem_free(path);
    TRY(rc);
    bool found = false;
    for (unsigned i = 0; i < 2; i++) {
        mark m;
        size_t at = i * MARK_STRIDE;
        if (at + MARK_SLOT > n || !mark_read_slot(p + at, &m) || (m.seq & 1) != i) {
            (*bad)++;
        } else if (!found || m.seq > out->seq) {
            *out = m;
            found = true;
        }
    }
    mem_free(p);
    if (found) return OK;
    return err_set(ERR_CORRUPT, "journal: both slots of %s are damaged", MARK_NAME);
}

err mark_create(fs *disk, const char *dir, const mark *m) {
    uint8_t p[MARK_BYTES] = {0};
    for (unsigned i = 0; i < 2; i++) {
        mark slot = *m;
        slot.seq = i;
        mark_write_slot(p + i * MARK_STRIDE, &slot);
    }
    char *path = journal_path(dir, MARK_NAME);
    if (!path) return ERR_NO_MEMORY;
    err rc = file_write_atomic(disk, path, p, sizeof p);
    mem_free(path);
    return rc;
}

err mark_put(file *f, const mark *m) {
    uint8_t p[MARK_SLOT];
    mark_write_slot(p, m);
    return file_pwrite(f, p, sizeof p, (m->seq & 1) * MARK_STRIDE);
}
