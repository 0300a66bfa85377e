/* Reading: readers, waiting, finding by time, dropping old segments.
 *
 * A reader owns a file handle and a scanner; it shares nothing with writers but, once for every
 * time it catches up, a look at the head under the lock. It reads sequentially, 256 KiB at a
 * time, and checks CRC, number and chain of each record, so a record that reaches a fold is the
 * one that was appended.
 *
 * Invariants:
 *  1. A reader looks only at bytes before the durable end that it last saw (`limit`), so it never
 *     buffers what is being written.
 *  2. `upto` is the last number that may be read from the segment in hand. A clean end before it,
 *     or a bad frame, is damage: ERR_CORRUPT, and the reader stays where it is.
 *  3. Going into the next segment, the chain goes on: its header must hold the hash reached.
 *  4. A segment that an open reader has still to read is not dropped.
 *
 * Starting in the middle passes over the frames before it by their headers (about 1 GB/s from the
 * page cache); starting at the head, which followers do, reads nothing.
 */
#include "journal/journal_int.h"

struct journal_reader {
    journal *j;                   /* immutable */
    journal_reader *next, **link; /* guarded by j->mu */
    uint64_t lsn;                 /* of the record to read next; atomic: j->mu's side reads it */
    uint64_t upto;                /* see invariant 2 */
    uint64_t segment;             /* first LSN of the segment in hand; 0: none */
    file *f;
    scanner s;
    char name[SEGMENT_NAME_BYTES];
};

/* --- where things are ------------------------------------------------------------------------ */

/* The segment that holds `lsn`, or would: the last whose first is not behind it. */
static size_t segment_of_locked(const journal *j, uint64_t lsn) {
    size_t low = 0, high = j->segment_count;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (j->segments[mid].first_lsn <= lsn) {
            low = mid;
        } else {
            high = mid;
        }
    }
    return low;
}

typedef struct place {
    uint64_t segment; /* first LSN */
    uint64_t upto;    /* last number that is durable there */
    uint64_t limit;   /* offset behind it, or more in older segments (invariant 2 guards) */
    tail head;
} place;

/* ERR_NOT_FOUND: dropped. */
static err find_place(journal *j, uint64_t lsn, place *out) {
    mutex_lock(&j->mu);
    size_t i = segment_of_locked(j, lsn);
    uint64_t first = j->segments[0].first_lsn;
    out->segment = j->segments[i].first_lsn;
    out->limit = j->segments[i].bytes;
    out->head = j->head;
    out->upto = j->head.lsn;
    if (i + 1 < j->segment_count) out->upto = j->segments[i + 1].first_lsn - 1;
    mutex_unlock(&j->mu);
    if (lsn >= first) return OK;
    return err_set(ERR_NOT_FOUND, "journal record %llu was dropped: the oldest kept is %llu",
                   (unsigned long long)lsn, (unsigned long long)first);
}

void journal_head(journal *j, journal_position *out) {
    mutex_lock(&j->mu);
    out->lsn = j->head.lsn;
    out->time = j->head.time;
    memcpy(out->hash, j->head.hash.hash, HASH_BYTES);
    mutex_unlock(&j->mu);
}

uint64_t journal_head_lsn(journal *j) {
    return __atomic_load_n(&j->head_lsn, __ATOMIC_ACQUIRE); /* with head_move_locked */
}

uint64_t journal_first_lsn(journal *j) {
    mutex_lock(&j->mu);
    uint64_t first = j->segments[0].first_lsn;
    mutex_unlock(&j->mu);
    return first;
}

/* --- waiting --------------------------------------------------------------------------------- */

static err wait_locked(journal *j, uint64_t lsn, uint64_t timeout_ms) {
    uint64_t wakes = j->wakes, start = clock_mono_ns();
    while (j->head.lsn < lsn) {
        TRY(journal_stopped_locked(j));
        if (j->wakes != wakes) return err_set(ERR_CANCELLED, "journal: the wait was cancelled");
        uint64_t gone_ms = (clock_mono_ns() - start) / 1000000u;
        if (gone_ms >= timeout_ms)
            return err_set(ERR_TIMEOUT, "journal record %llu did not come in %llu ms",
                           (unsigned long long)lsn, (unsigned long long)timeout_ms);
        (void)cond_wait_ms(&j->durable, &j->mu, MIN(timeout_ms - gone_ms, (uint64_t)3600000));
    }
    return OK;
}

err journal_wait(journal *j, uint64_t lsn, uint64_t timeout_ms) {
    if (journal_head_lsn(j) >= lsn) return OK;
    mutex_lock(&j->mu);
    j->durable_waiters++;
    err rc = wait_locked(j, lsn, timeout_ms);
    j->durable_waiters--;
    mutex_unlock(&j->mu);
    return rc;
}

void journal_wake(journal *j) {
    mutex_lock(&j->mu);
    j->wakes++;
    cond_broadcast(&j->durable);
    mutex_unlock(&j->mu);
}

/* --- readers --------------------------------------------------------------------------------- */

/* Opens the segment of `p`; its chain must go on from where the last one ended. On failure the
 * reader stays in front of it. */
static err reader_enter(journal_reader *r, const place *p) {
    bool follows = r->segment != 0 && r->s.chained && r->s.lsn == p->segment;
    char name[SEGMENT_NAME_BYTES];
    segment_name(p->segment, name);
    segment_header h;
    file *f;
    err rc = segment_open(r->j->disk, r->j->dir, p->segment, r->j->id, FILE_READ, &f, &h);
    if (rc == ERR_NOT_FOUND) /* which would mean "at the end" to the caller */
        return err_set(ERR_CORRUPT, "journal segment %s: the file is missing", name);
    TRY(rc);
    if (follows && memcmp(r->s.prev.hash, h.prev.hash, HASH_BYTES) != 0) {
        file_close(f);
        return err_set(ERR_CORRUPT, "journal segment %s: it does not continue the one before",
                       name);
    }
    file_close(r->f);
    r->f = r->s.f = f;
    r->segment = p->segment;
    r->s.len = 0;
    memcpy(r->name, name, sizeof name);
    scanner_seek(&r->s, &h);
    return OK;
}

/* Finds where r->lsn is now. ERR_NOT_FOUND: nothing durable there yet. */
static err reader_refresh(journal_reader *r) {
    if (r->lsn > journal_head_lsn(r->j)) return ERR_NOT_FOUND;
    place p;
    if (find_place(r->j, r->lsn, &p) != OK) return ERR_INTERNAL; /* invariant 4 */
    if (p.segment != r->segment) TRY(reader_enter(r, &p));
    r->s.limit = p.limit;
    r->upto = p.upto;
    return r->lsn <= p.upto ? OK : ERR_NOT_FOUND;
}

static err reader_damage(const journal_reader *r, err rc) {
    if (rc != ERR_NOT_FOUND) return rc;
    return err_set(ERR_CORRUPT, "journal segment %s: record %llu at offset %llu: it is missing",
                   r->name, (unsigned long long)r->lsn, (unsigned long long)r->s.offset);
}

err journal_read(journal_reader *r, journal_record *out) {
    if (r->lsn > r->upto || r->segment == 0) TRY(reader_refresh(r));
    err rc = scanner_skip_to(&r->s, r->lsn);
    frame f;
    if (rc == OK) rc = scanner_next(&r->s, &f);
    if (rc != OK) return reader_damage(r, rc);
    frame_record(&f, out);
    __atomic_store_n(&r->lsn, f.lsn + 1, __ATOMIC_RELAXED); /* with drop_limit_locked */
    return OK;
}

void journal_reader_hash(const journal_reader *r, uint8_t hash[JOURNAL_HASH_BYTES]) {
    memcpy(hash, r->s.prev.hash, HASH_BYTES);
}

uint64_t journal_reader_lsn(const journal_reader *r) {
    return r->lsn;
}

/* A start at the head reads nothing: number, offset and chain are known. */
static err reader_at_head(journal_reader *r, const place *p) {
    TRY(reader_enter(r, p));
    r->s.offset = p->limit;
    r->s.lsn = p->head.lsn + 1;
    r->s.prev = p->head.hash;
    return OK;
}

static err reader_start(journal_reader *r) {
    place p;
    TRY(find_place(r->j, r->lsn, &p));
    if (r->lsn > p.head.lsn + 1)
        return err_set(
            ERR_INVALID,
            "journal: record %llu was asked for, but the last one is %llu: the asker has "
            "seen records that this journal does not hold",
            (unsigned long long)r->lsn, (unsigned long long)p.head.lsn);
    if (r->lsn == p.head.lsn + 1) return reader_at_head(r, &p);
    return OK;
}

static void reader_link(journal_reader *r) {
    journal *j = r->j;
    mutex_lock(&j->mu);
    if (r->lsn == 0) r->lsn = j->segments[0].first_lsn;
    r->next = j->readers;
    r->link = &j->readers;
    if (r->next) r->next->link = &r->next;
    j->readers = r;
    mutex_unlock(&j->mu);
}

err journal_reader_open(journal *j, uint64_t lsn, journal_reader **out) {
    *out = NULL;
    journal_reader *r = mem_zalloc(1, sizeof *r);
    if (!r) return ERR_NO_MEMORY;
    r->j = j;
    r->lsn = lsn;
    scanner_init(&r->s, NULL, r->name, j->seed);
    reader_link(r); /* from here on nothing that it needs is dropped */
    err rc = reader_start(r);
    if (rc != OK) {
        journal_reader_close(r);
        return rc;
    }
    *out = r;
    return OK;
}

void journal_reader_close(journal_reader *r) {
    if (!r) return;
    mutex_lock(&r->j->mu);
    *r->link = r->next;
    if (r->next) r->next->link = r->link;
    mutex_unlock(&r->j->mu);
    file_close(r->f);
    scanner_deinit(&r->s);
    mem_free(r);
}

/* --- by time --------------------------------------------------------------------------------- */

/* The last segment with a record before `time` in front of it: the answer is in it, or is the
 * first record behind it. */
static uint64_t time_start(journal *j, hlc time) {
    mutex_lock(&j->mu);
    size_t i = j->segment_count - 1;
    while (i > 0 && j->segments[i].time >= time) i--;
    uint64_t lsn = j->segments[i].first_lsn;
    mutex_unlock(&j->mu);
    return lsn;
}

err journal_find_time(journal *j, hlc time, uint64_t *lsn) {
    *lsn = 0;
    journal_reader *r;
    TRY(journal_reader_open(j, time_start(j, time), &r));
    journal_record rec;
    err rc;
    do rc = journal_read(r, &rec);
    while (rc == OK && rec.time < time);
    if (rc == OK) *lsn = rec.lsn;
    if (rc == ERR_NOT_FOUND) {
        *lsn = r->lsn;
        rc = OK;
    }
    journal_reader_close(r);
    return rc;
}

/* --- dropping -------------------------------------------------------------------------------- */

static uint64_t drop_limit_locked(const journal *j, uint64_t lsn) {
    for (const journal_reader *r = j->readers; r; r = r->next)
        lsn = MIN(lsn, __atomic_load_n(&r->lsn, __ATOMIC_RELAXED)); /* may lag: drops less */
    return lsn;
}

static err drop_files(journal *j, const segment *gone, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char name[SEGMENT_NAME_BYTES];
        segment_name(gone[i].first_lsn, name);
        char *path = journal_path(j->dir, name);
        if (!path) return ERR_NO_MEMORY;
        err rc = fs_unlink(j->disk, path);
        mem_free(path);
        if (rc != OK && rc != ERR_NOT_FOUND) return rc;
    }
    return fs_sync_dir(j->disk, j->dir);
}

/* The mark first, durably: a crash between leaves segments that opening then removes. */
static err drop_mark(journal *j, uint64_t first_lsn) {
    uint64_t before = j->mark_first_lsn;
    j->mark_first_lsn = first_lsn;
    err rc = journal_mark_now(j, &j->tail);
    if (rc == OK) rc = file_datasync(j->mark_file);
    if (rc == OK) return OK;
    j->mark_first_lsn = before;
    journal_stop(j);
    return ERR_IO;
}

/* Takes the first n segments out of the table, as *out. */
static err drop_from_table(journal *j, uint64_t lsn, segment **out, size_t *n) {
    mutex_lock(&j->mu);
    lsn = drop_limit_locked(j, lsn);
    size_t k = 0;
    while (k + 1 < j->segment_count && j->segments[k + 1].first_lsn <= lsn) k++;
    err rc = OK;
    *n = 0;
    *out = k ? mem_dup(j->segments, k * sizeof **out) : NULL;
    if (k && !*out) rc = ERR_NO_MEMORY;
    if (*out) {
        memmove(j->segments, j->segments + k, (j->segment_count - k) * sizeof *j->segments);
        j->segment_count -= k;
        *n = k;
    }
    mutex_unlock(&j->mu);
    return rc;
}

err journal_drop_before(journal *j, uint64_t lsn) {
    TRY(journal_lead_take(j)); /* dropping writes the mark */
    segment *gone;
    size_t n;
    err rc = drop_from_table(j, lsn, &gone, &n);
    if (rc == OK && n) rc = drop_mark(j, journal_first_lsn(j));
    journal_lead_give(j);
    if (rc == OK && n) rc = drop_files(j, gone, n);
    mem_free(gone);
    return rc;
}
