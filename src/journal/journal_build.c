/* Building a journal from a copy of its frames: what a restore does.
 *
 * A frame holds its own number, time, flags and the hash of the one before, so a copy of the frames in
 * order is a copy of the journal; only segment headers and the mark are written anew. Segments are cut at
 * append calls, at JOURNAL_SEGMENT_BYTES, as the writer does; where the cuts are changes nothing that
 * a reader sees.
 *
 * Invariants:
 *  1. Every frame written continues the chain from record 1; a foreign, missing, doubled or changed one is
 *     ERR_CORRUPT before anything behind it is written.
 *  2. `good` is the end of the last complete append call inside the limit. finish cuts there.
 *  3. MARK comes last, after all is synced: until then opening refuses the directory.
 */
#include "journal/journal_int.h"

enum { BUILD_BUFFER = 1 << 20 };

typedef struct cursor {
    uint64_t lsn;
    chain hash;
} cursor;

struct journal_builder {
    fs *disk;
    char *dir;
    uint8_t id[ID_BYTES];
    uint32_t seed;
    cursor at; /* the last frame taken */
    file *f;
    uint64_t segment; /* in hand, its first LSN; 0: none */
    uint64_t end;     /* of it, buffer included */
    tail good;        /* see invariant 2 */
    uint64_t good_segment;
    uint8_t *buf;
    size_t len;
};

/* The next frame of p: checked against the cursor, which moves. */
static err next_frame(const uint8_t *p, size_t n, uint32_t seed, cursor *at, frame *out) {
    uint64_t lsn = 0;
    size_t bytes = n >= FRAME_HEADER ? frame_peek(p, &lsn) : 0;
    if (bytes == 0 || bytes > n || !frame_read(p, bytes, seed, out))
        return err_set(ERR_CORRUPT, "record %llu of the copy is damaged",
                       (unsigned long long)at->lsn + 1);
    if (out->lsn != at->lsn + 1)
        return err_set(ERR_CORRUPT, "the copy goes on with record %llu, expected %llu",
                       (unsigned long long)out->lsn, (unsigned long long)at->lsn + 1);
    if (memcmp(out->prev, at->hash.hash, HASH_BYTES) != 0)
        return err_set(ERR_CORRUPT, "record %llu of the copy does not continue the one before",
                       (unsigned long long)out->lsn);
    at->lsn = out->lsn;
    frame_chain(out, &at->hash);
    return OK;
}

err journal_frames_check(const uint8_t *frames, size_t n, const uint8_t id[JOURNAL_ID_BYTES],
                         journal_position *at, err (*visit)(void *ctx, const journal_record *r),
                         void *ctx) {
    cursor c = {.lsn = at->lsn};
    memcpy(c.hash.hash, at->hash, HASH_BYTES);
    TRY(journal_crypto_init());
    uint32_t seed = journal_seed(id);
    for (size_t used = 0; used < n;) {
        frame f;
        TRY(next_frame(frames + used, n - used, seed, &c, &f));
        used += f.bytes;
        at->lsn = c.lsn;
        at->time = f.time;
        memcpy(at->hash, c.hash.hash, HASH_BYTES);
        journal_record r;
        frame_record(&f, &r);
        if (visit) TRY(visit(ctx, &r));
    }
    return OK;
}

/* ---- writing ---- */

static err flush(journal_builder *b) {
    if (b->len == 0) return OK;
    err rc = file_pwrite(b->f, b->buf, b->len, b->end - b->len);
    b->len = 0;
    return rc;
}

static err put_bytes(journal_builder *b, const uint8_t *p, size_t n) {
    if (b->len + n > BUILD_BUFFER) TRY(flush(b));
    if (n > BUILD_BUFFER) {
        TRY(file_pwrite(b->f, p, n, b->end));
        b->end += n;
        return OK;
    }
    memcpy(b->buf + b->len, p, n);
    b->len += n;
    b->end += n;
    return OK;
}

/* Ends the segment in hand at `end`. */
static err end_segment(journal_builder *b, uint64_t end) {
    if (!b->f) return OK;
    err rc = flush(b);
    if (rc == OK) rc = file_truncate(b->f, end);
    if (rc == OK) rc = file_datasync(b->f);
    file_close(b->f);
    b->f = NULL;
    return rc;
}

static err begin_segment(journal_builder *b, uint64_t first_lsn) {
    segment_header h = {.first_lsn = first_lsn,
                        .prev_first_lsn = b->segment,
                        .time = b->good.time,
                        .bytes = JOURNAL_SEGMENT_BYTES,
                        .prev = b->good.hash};
    memcpy(h.id, b->id, ID_BYTES);
    bool broken;
    TRY(segment_create(b->disk, b->dir, &h, &b->f, &broken));
    b->segment = first_lsn;
    b->end = SEGMENT_HEADER;
    return OK;
}

static bool over(const frame *f, const journal_limit *l) {
    return l && ((l->lsn && f->lsn > l->lsn) || (l->time && f->time > l->time));
}

static err take_frame(journal_builder *b, const frame *f) {
    bool first = f->flags & FRAME_FIRST;
    if (first && b->f && b->end >= JOURNAL_SEGMENT_BYTES - JOURNAL_BATCH_MAX)
        TRY(end_segment(b, b->end));
    if (!b->f) TRY(begin_segment(b, f->lsn));
    TRY(put_bytes(b, f->start, f->bytes));
    if (!(f->flags & FRAME_LAST)) return OK;
    b->good = (tail){b->end, f->lsn, f->time, b->at.hash};
    b->good_segment = b->segment;
    return OK;
}

err journal_builder_open(fs *disk, const char *dir, const uint8_t id[JOURNAL_ID_BYTES],
                         journal_builder **out) {
    *out = NULL;
    TRY(journal_crypto_init());
    TRY(fs_mkdir(disk, dir));
    journal_builder *b = mem_zalloc(1, sizeof *b);
    if (!b) return ERR_NO_MEMORY;
    b->disk = disk;
    memcpy(b->id, id, ID_BYTES);
    b->seed = journal_seed(id);
    b->dir = mem_dup(dir, strlen(dir) + 1);
    b->buf = mem_alloc(BUILD_BUFFER);
    err rc = b->dir && b->buf ? begin_segment(b, 1) : ERR_NO_MEMORY;
    if (rc != OK) {
        journal_builder_abort(b);
        return rc;
    }
    b->good = (tail){.end = SEGMENT_HEADER};
    b->good_segment = 1;
    *out = b;
    return OK;
}

err journal_builder_add(journal_builder *b, const uint8_t *frames, size_t n,
                        const journal_limit *limit, bool *full) {
    *full = false;
    for (size_t used = 0; used < n;) {
        uint64_t lsn;
        size_t bytes = n - used >= FRAME_HEADER ? frame_peek(frames + used, &lsn) : 0;
        if (bytes && bytes <= n - used && lsn <= b->at.lsn) { /* an overlap of two parts */
            used += bytes;
            continue;
        }
        frame f;
        TRY(next_frame(frames + used, n - used, b->seed, &b->at, &f));
        *full = over(&f, limit);
        if (*full) return OK;
        TRY(take_frame(b, &f));
        used += f.bytes;
    }
    return OK;
}

uint64_t journal_builder_lsn(const journal_builder *b) {
    return b->at.lsn;
}

/* A segment that holds only what is left out goes. */
static err cut(journal_builder *b) {
    bool same = b->good_segment == b->segment;
    TRY(end_segment(b, same ? b->good.end : SEGMENT_HEADER));
    if (same) return OK;
    char name[SEGMENT_NAME_BYTES];
    segment_name(b->segment, name);
    char *path = journal_path(b->dir, name);
    if (!path) return ERR_NO_MEMORY;
    err rc = fs_unlink(b->disk, path);
    mem_free(path);
    return rc;
}

err journal_builder_finish(journal_builder *b, journal_position *out) {
    err rc = cut(b);
    if (rc == OK) rc = fs_sync_dir(b->disk, b->dir);
    mark m = {.seq = 1,
              .first_lsn = 1,
              .lsn = b->good.lsn,
              .time = b->good.time,
              .segment = b->good_segment,
              .end = b->good.end,
              .hash = b->good.hash};
    memcpy(m.id, b->id, ID_BYTES);
    if (rc == OK) rc = mark_create(b->disk, b->dir, &m);
    *out = (journal_position){.lsn = b->good.lsn, .time = b->good.time};
    memcpy(out->hash, b->good.hash.hash, HASH_BYTES);
    journal_builder_abort(b);
    return rc;
}

void journal_builder_abort(journal_builder *b) {
    if (!b) return;
    file_close(b->f);
    mem_free(b->dir);
    mem_free(b->buf);
    mem_free(b);
}
