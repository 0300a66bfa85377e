/* Walking a journal from outside: every record in order, without the lock and without writing, so it works beside
 * the process that owns the directory. What is behind the last record that the mark knows may be in the making: damage
 * there is the end, damage before it is ERR_CORRUPT.
 */
#include "journal/journal_int.h"

typedef struct walk {
    fs *disk;
    const char *dir;
    err (*visit)(void *ctx, const journal_record *r);
    void *ctx;
    journal_position *at;
    mark mark;
    uint32_t seed;
} walk;

static err walk_frames(walk *w, scanner *s, uint64_t stop) {
    while (!stop || s->lsn < stop) {
        frame f;
        err rc = scanner_next(s, &f);
        bool behind = s->lsn > w->mark.lsn;
        if (rc == ERR_NOT_FOUND || (rc == ERR_CORRUPT && behind)) {
            if (behind) return OK;
            return err_set(ERR_CORRUPT, "journal segment %s: record %llu is missing", s->name,
                           (unsigned long long)s->lsn);
        }
        TRY(rc);
        w->at->lsn = f.lsn;
        w->at->time = f.time;
        memcpy(w->at->hash, s->prev.hash, HASH_BYTES);
        journal_record r;
        frame_record(&f, &r);
        TRY(w->visit(w->ctx, &r));
    }
    return OK;
}

static err walk_segment(walk *w, uint64_t first, uint64_t stop, chain *last, bool linked) {
    char name[SEGMENT_NAME_BYTES];
    segment_header h;
    file *f;
    scanner s;
    segment_name(first, name);
    TRY(segment_open(w->disk, w->dir, first, w->mark.id, FILE_READ, &f, &h));
    scanner_init(&s, f, name, w->seed);
    err rc = file_size(f, &s.limit);
    if (rc == OK && linked && memcmp(last->hash, h.prev.hash, HASH_BYTES) != 0)
        rc = err_set(ERR_CORRUPT, "journal segment %s: it does not continue the one before", name);
    if (rc == OK) {
        scanner_seek(&s, &h);
        rc = walk_frames(w, &s, stop);
        *last = s.prev;
    }
    scanner_deinit(&s);
    file_close(f);
    return rc;
}

err journal_walk(fs *disk, const char *dir, err (*visit)(void *ctx, const journal_record *r),
                 void *ctx, journal_position *end) {
    walk w = {.disk = disk, .dir = dir, .visit = visit, .ctx = ctx, .at = end};
    unsigned bad;
    dir_list l;
    chain last = {{0}};
    *end = (journal_position){0};
    TRY(journal_crypto_init());
    TRY(mark_read(disk, dir, &w.mark, &bad));
    w.seed = journal_seed(w.mark.id);
    TRY(dir_list_read(disk, dir, &l));
    err rc = OK;
    for (size_t i = 0; rc == OK && i < l.count; i++) {
        uint64_t stop = i + 1 < l.count ? l.items[i + 1].first_lsn : 0;
        rc = walk_segment(&w, l.items[i].first_lsn, stop, &last, i > 0);
    }
    dir_list_deinit(&l);
    return rc;
}
