/* Checking a directory from outside: `kith verify`.
 *
 * It reads every byte of every segment and of the mark, without the lock and without writing, so
 * it works on a live journal, on what a crash left and on a copy. It goes on after damage: it
 * looks for the next good frame and says which records lie between, so that one run names all
 * that is lost.
 *
 * Problem or note? What was acknowledged and is damaged is a problem; what nobody was told of (a
 * torn tail, leftovers, one slot of the mark) is a note. The mark, which is read before the
 * segments, decides: on a live journal it only grows, so everything up to it must be there, and
 * what is behind it may be in the making. A segment that disappears while we read was dropped
 * when the mark, read again, says so.
 */
#include "journal/journal_int.h"

typedef struct check {
    fs *disk;
    const char *dir;
    void (*report)(void *ctx, const journal_problem *p);
    void *ctx;
    journal_summary sum;
    mark mark;
    bool have_mark;
    uint32_t seed;
    uint8_t id[ID_BYTES];
    bool have_id;
    /* the segment in hand */
    const char *name;
    scanner s;
    uint64_t stop; /* first LSN of the next segment; 0: this is the last */
    chain end;     /* of the segment before, when `linked` */
    bool linked;
    uint64_t call;     /* first record of an append call whose last is not seen yet; 0: none */
    uint64_t expected; /* first LSN that the next segment should have; 0: not known */
} check;

static void tell(check *c, err code, uint64_t offset, uint64_t lsn, const char *text) {
    if (code == OK) {
        c->sum.notes++;
    } else {
        c->sum.problems++;
    }
    journal_problem p = {.code = code, .file = c->name, .offset = offset, .lsn = lsn, .text = text};
    if (c->report) c->report(c->ctx, &p);
}

/* An append call that has no end was not acknowledged, unless later records say so. */
static void check_call(check *c) {
    if (!c->call) return;
    bool durable = c->stop != 0 || (c->have_mark && c->call <= c->mark.lsn);
    tell(c, durable ? ERR_CORRUPT : OK, c->s.offset, c->call,
         durable ? "the rest of its append call is missing"
                 : "its append call is not complete: opening the journal will cut it");
    c->call = 0;
}

/* Bytes that nothing has been written to must be zeros. */
static err check_rest(check *c, uint64_t from) {
    uint64_t used;
    TRY(scanner_last_used(&c->s, from, &used));
    if (used == from) return OK;
    if (c->stop == 0) {
        tell(c, OK, from, c->s.lsn, "torn tail: opening the journal will cut it");
    } else {
        tell(c, ERR_CORRUPT, from, c->stop, "bytes behind the last record of a full segment");
    }
    return OK;
}

/* Was the record at s.offset acknowledged, by what a later segment, the mark, or a later group
 * says? */
static err check_durable(check *c, bool *durable) {
    *durable = c->stop != 0 || (c->have_mark && c->s.lsn <= c->mark.lsn);
    if (*durable) return OK;
    frame f;
    err rc = scanner_find_later_group(&c->s, &f);
    *durable = rc == OK;
    return rc == ERR_NOT_FOUND ? OK : rc;
}

/* The frame at s.offset is bad or missing. Goes to the next good one; ERR_NOT_FOUND: there is
 * none. */
static err check_resume(check *c, const char *why) {
    scanner *s = &c->s;
    bool durable;
    TRY(check_durable(c, &durable));
    if (!durable) {
        check_call(c);
        TRY(check_rest(c, s->offset));
        return ERR_NOT_FOUND;
    }
    c->call = 0; /* told by the damage */
    tell(c, ERR_CORRUPT, s->offset, s->lsn, why);
    frame f;
    uint64_t offset;
    TRY(scanner_find(s, &f, &offset));
    s->offset = offset;
    s->lsn = f.lsn;
    s->chained = false;
    return OK;
}

/* A live journal may have cut its reserved space away since we looked: believe the new size. */
static err check_shrunk(check *c, bool *again) {
    uint64_t size;
    TRY(file_size(c->s.f, &size));
    *again = size < c->s.limit && size >= c->s.offset;
    if (*again) {
        c->s.limit = size;
        c->s.len = 0;
    }
    return OK;
}

static void check_frame(check *c, const frame *f) {
    c->sum.records++;
    if (!c->sum.first_lsn) c->sum.first_lsn = f->lsn;
    c->sum.last_lsn = f->lsn;
    if (f->flags & FRAME_FIRST) c->call = f->lsn;
    if (f->flags & FRAME_LAST) c->call = 0;
    if (!c->have_mark || f->lsn != c->mark.lsn) return;
    if (memcmp(c->s.prev.hash, c->mark.hash.hash, HASH_BYTES) != 0)
        tell(c, ERR_CORRUPT, c->s.offset - f->bytes, f->lsn,
             "it is not the record that was acknowledged (chain hash)");
}

static err check_frames(check *c) {
    for (;;) {
        if (c->stop && c->s.lsn >= c->stop) return OK;
        frame f;
        err rc = scanner_next(&c->s, &f);
        if (rc == OK) {
            check_frame(c, &f);
            continue;
        }
        if (rc != ERR_NOT_FOUND && rc != ERR_CORRUPT) return rc;
        char why[DETAIL_BYTES];
        detail_copy(why, rc == ERR_CORRUPT ? err_detail() : "records are missing");
        bool again;
        TRY(check_shrunk(c, &again));
        if (again) continue;
        TRY(check_resume(c, why));
    }
}

static void check_link(check *c, const segment_header *h, uint64_t before) {
    if (before && h->prev_first_lsn != before)
        tell(c, ERR_CORRUPT, 0, h->prev_first_lsn, "the segment before it is missing");
    if (c->linked && c->expected == h->first_lsn &&
        memcmp(c->end.hash, h->prev.hash, HASH_BYTES) != 0)
        tell(c, ERR_CORRUPT, 0, h->first_lsn,
             "it does not continue the segment before it (chain hash)");
}

static err check_open_segment(check *c, file *f, uint64_t before) {
    uint8_t p[SEGMENT_HEADER];
    size_t got;
    uint64_t first = c->expected;
    segment_header h;
    TRY(file_pread(f, p, sizeof p, 0, &got));
    err rc = got < sizeof p ? err_set(ERR_CORRUPT, "its header is cut off")
                            : segment_header_read(p, c->name, &h);
    if (rc == OK && c->have_id && memcmp(h.id, c->id, ID_BYTES) != 0)
        rc = err_set(ERR_CORRUPT, "it belongs to another journal");
    if (rc == OK && h.first_lsn != first)
        rc = err_set(ERR_CORRUPT, "its header names another first record");
    TRY(file_size(f, &c->s.limit));
    c->sum.bytes += c->s.limit;
    if (rc == OK) {
        if (!c->have_id) memcpy(c->id, h.id, ID_BYTES);
        c->have_id = true;
        c->seed = c->s.seed = journal_seed(c->id);
        check_link(c, &h, before);
        scanner_seek(&c->s, &h);
        return OK;
    }
    tell(c, rc, 0, first, err_detail());
    if (!c->have_id) return ERR_NOT_FOUND;
    c->s.offset = SEGMENT_HEADER; /* its records may be good all the same */
    c->s.lsn = first;
    return OK;
}

static err check_records(check *c, file *f, uint64_t before) {
    scanner_init(&c->s, f, c->name, c->seed);
    err rc = check_open_segment(c, f, before);
    if (rc == OK) rc = check_frames(c);
    if (rc == OK) check_call(c);
    if (rc == OK) rc = check_rest(c, c->s.offset);
    c->linked = rc == OK && c->s.chained;
    c->end = c->s.prev;
    scanner_deinit(&c->s);
    return rc == ERR_NOT_FOUND ? OK : rc; /* the end, all told */
}

/* A file that is gone was dropped when the mark says so by now. */
static void check_gone(check *c, uint64_t first_lsn) {
    mark m;
    unsigned bad;
    if (mark_read(c->disk, c->dir, &m, &bad) == OK && m.first_lsn > first_lsn) return;
    tell(c, ERR_CORRUPT, 0, first_lsn, "the segment that holds this record is missing");
}

static err check_segment(check *c, const dir_list *l, size_t i) {
    char name[SEGMENT_NAME_BYTES];
    segment_name(l->items[i].first_lsn, name);
    c->name = name;
    c->stop = i + 1 < l->count ? l->items[i + 1].first_lsn : 0;
    c->expected = l->items[i].first_lsn;
    file *f;
    err rc = dir_file_open(c->disk, c->dir, name, FILE_READ, &f);
    if (rc == ERR_NOT_FOUND) {
        check_gone(c, l->items[i].first_lsn);
        c->linked = false;
        return OK;
    }
    if (rc == OK) {
        rc = check_records(c, f, i ? l->items[i - 1].first_lsn : 0);
        file_close(f);
        c->sum.segments++;
    }
    if (rc == ERR_NO_MEMORY) return rc;
    if (rc != OK) tell(c, rc, 0, l->items[i].first_lsn, err_detail());
    return OK;
}

/* --- the mark -------------------------------------------------------------------------------- */

static err check_mark_padding(check *c) {
    char *path = journal_path(c->dir, MARK_NAME);
    if (!path) return ERR_NO_MEMORY;
    uint8_t *p;
    size_t n;
    err rc = file_read_all(c->disk, path, 16 * MARK_BYTES, &p, &n);
    mem_free(path);
    TRY(rc);
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        if (i % MARK_STRIDE >= MARK_SLOT) any |= p[i];
    mem_free(p);
    if (any || n != MARK_BYTES)
        tell(c, OK, 0, 0, "bytes beside the two slots were changed or the size is wrong");
    return OK;
}

/* `rc` and `bad` are mark_read's. */
static err check_mark(check *c, err rc, unsigned bad) {
    c->name = MARK_NAME;
    if (rc != OK) {
        tell(c, rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc, 0, 0, err_detail());
        return OK;
    }
    c->have_mark = c->have_id = true;
    memcpy(c->id, c->mark.id, ID_BYTES);
    c->seed = journal_seed(c->id);
    if (bad) tell(c, OK, 0, 0, "one of its slots is torn or damaged; opening rewrites it");
    return check_mark_padding(c);
}

/* What the mark says should be there at both ends. */
static void check_ends(check *c, const dir_list *l) {
    if (!c->have_mark) return;
    c->name = MARK_NAME;
    if (l->count == 0) {
        if (c->mark.lsn) tell(c, ERR_CORRUPT, 0, c->mark.first_lsn, "all segments are missing");
        return;
    }
    if (l->items[0].first_lsn > c->mark.first_lsn) check_gone(c, c->mark.first_lsn);
    if (l->items[l->count - 1].first_lsn < c->mark.segment)
        tell(c, ERR_CORRUPT, 0, c->mark.segment, "the segment that starts with it is missing");
}

err journal_verify(fs *disk, const char *dir, void (*report)(void *ctx, const journal_problem *p),
                   void *ctx, journal_summary *out) {
    if (out) *out = (journal_summary){0};
    check c = {.disk = disk, .dir = dir, .report = report, .ctx = ctx};
    /* The mark before the names: a segment that it knows is then listed, or was dropped. */
    unsigned bad;
    err mark_rc = mark_read(disk, dir, &c.mark, &bad);
    if (mark_rc == ERR_NO_MEMORY) return mark_rc;
    dir_list l;
    TRY(dir_list_read(disk, dir, &l));
    err rc = OK;
    if (mark_rc == ERR_NOT_FOUND && l.count == 0) {
        rc = err_set(ERR_NOT_FOUND, "%s: there is no journal", dir);
    } else {
        rc = check_mark(&c, mark_rc, bad);
    }
    for (size_t i = 0; rc == OK && i < l.count; i++) rc = check_segment(&c, &l, i);
    if (rc == OK) check_ends(&c, &l);
    c.name = dir;
    for (size_t i = 0; rc == OK && i < l.temp_count; i++)
        tell(&c, OK, 0, 0, "a temporary file was left over; opening removes it");
    dir_list_deinit(&l);
    if (out) *out = c.sum;
    TRY(rc);
    if (c.sum.problems == 0) return OK;
    return err_set(ERR_CORRUPT, "journal %s: %llu problems", dir,
                   (unsigned long long)c.sum.problems);
}
