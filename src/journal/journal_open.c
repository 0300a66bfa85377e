/* Opening, recovery, closing.
 *
 * Opening answers one question: how far was this journal durable, and is all of it there? Three
 * witnesses:
 *   - the frames of the last segment (all read and checked: CRC, number, chain),
 *   - the mark: after each sync of a segment, and before any caller hears of it, the leader
 *     writes LSN, offset and chain hash of the end into MARK. The write reaches the page cache at
 *     once, so a killed process leaves it exact; it is synced when the journal is closed and at
 *     most mark_sync_ms after it was written, so a power cut sets it back by no more than that
 *     (mark_sync_always: by nothing),
 *   - the index in the write group of each frame: a group is written only after the sync of the
 *     one before.
 *
 * Rules, in the order in which they are applied:
 *  1. A missing or foreign segment, a damaged header, a mark without good slot: ERR_CORRUPT.
 *  2. Where the frames stop (zeros, or a bad frame), everything from the first record of an
 *     append call that is not complete is the torn tail.
 *  3. If the mark says that a record at or behind that point was durable, or a good frame of a
 *     later group follows, then the tail was acknowledged: ERR_CORRUPT, with its LSN; nothing is
 *     cut.
 *  4. Else nobody was told of the tail: it is cut, and told in the recovery report.
 *  5. The record at the mark must have the mark's chain hash: a journal that was rewritten from
 *     some point on is ERR_CORRUPT even when its own chain holds.
 *  6. What was found is synced, bytes and names, before anyone reads it: a record that was in the
 *     page cache only would else be seen, or built upon, and then lost.
 *
 * What this cannot see: damage to exactly the last group by a power cut's companion within
 * mark_sync_ms (no later group, stale mark) looks like a torn tail; with mark_sync_always it does
 * not. And a directory that was set back whole, mark and all, needs an outside checkpoint
 * (journal_head).
 *
 * Segments before the last are not read here, only their headers, which name their predecessor,
 * so that a missing one is found; readers and journal_verify read the rest. Opening costs one
 * pass over one segment: 64 MiB, 0.1 s.
 */
#include "journal/journal_int.h"

typedef struct recovery {
    journal *j;
    dir_list list;
    mark mark;
    unsigned mark_bad;
    bool have_mark;
} recovery;

void detail_copy(char out[DETAIL_BYTES], const char *text) {
    str s = utf8_cut(str_of(text), DETAIL_BYTES - 1);
    memcpy(out, s.ptr, s.len);
    out[s.len] = 0;
}

/* --- the lock -------------------------------------------------------------------------------- */

static err lock_take(journal *j) {
    TRY(dir_file_open(j->disk, j->dir, LOCK_NAME, FILE_WRITE | FILE_CREATE, &j->lock_file));
    return file_lock(j->lock_file); /* its detail says who has it */
}

/* --- making a new journal -------------------------------------------------------------------- */

static err first_segment(recovery *r) {
    journal *j = r->j;
    segment_header h = {.first_lsn = 1, .bytes = j->opt.segment_bytes};
    memcpy(h.id, j->id, ID_BYTES);
    bool broken;
    TRY(segment_create(j->disk, j->dir, &h, &j->active, &broken));
    j->active_first = 1;
    j->active_limit = h.bytes;
    j->tail = (tail){.end = SEGMENT_HEADER};
    j->tail_reserved = true;
    journal_add_segment_locked(j, (segment){.first_lsn = 1, .bytes = SEGMENT_HEADER});
    return OK;
}

static err mark_first(recovery *r) {
    journal *j = r->j;
    if (j->opt.id) {
        memcpy(j->id, j->opt.id, ID_BYTES);
    } else {
        journal_random_id(j->id);
    }
    r->mark = (mark){.first_lsn = 1, .segment = 1, .end = SEGMENT_HEADER, .seq = 1};
    memcpy(r->mark.id, j->id, ID_BYTES);
    j->recovery.created = true;
    return mark_create(j->disk, j->dir, &r->mark);
}

/* --- segments by their headers --------------------------------------------------------------- */

static err missing(uint64_t lsn, const char *what) {
    return err_set(ERR_CORRUPT, "journal: record %llu: %s", (unsigned long long)lsn, what);
}

/* Segments that a drop had marked as gone and a crash left behind. */
static err drop_leftovers(recovery *r) {
    size_t n = 0;
    while (n + 1 < r->list.count && r->list.items[n + 1].first_lsn <= r->mark.first_lsn) n++;
    for (size_t i = 0; i < n; i++) {
        char name[SEGMENT_NAME_BYTES];
        segment_name(r->list.items[i].first_lsn, name);
        char *path = journal_path(r->j->dir, name);
        if (!path) return ERR_NO_MEMORY;
        err rc = fs_unlink(r->j->disk, path);
        mem_free(path);
        TRY(rc);
    }
    memmove(r->list.items, r->list.items + n, (r->list.count - n) * sizeof *r->list.items);
    r->list.count -= n;
    return OK;
}

/* Headers of all segments but the last; their order has no gap. */
static err check_headers(recovery *r) {
    journal *j = r->j;
    uint64_t before = 0;
    for (size_t i = 0; i < r->list.count; i++) {
        segment *s = &r->list.items[i];
        file *f;
        segment_header h;
        TRY(segment_open(j->disk, j->dir, s->first_lsn, j->id, FILE_READ, &f, &h));
        err rc = file_size(f, &s->bytes);
        file_close(f);
        TRY(rc);
        if (i > 0 && h.prev_first_lsn != before)
            return missing(h.prev_first_lsn, "the segment that starts with it is missing");
        s->time = h.time;
        before = s->first_lsn;
        journal_add_segment_locked(j, *s);
    }
    return OK;
}

static err check_mark_place(recovery *r) {
    const segment *first = &r->list.items[0], *last = &r->list.items[r->list.count - 1];
    if (first->first_lsn > r->mark.first_lsn)
        return missing(r->mark.first_lsn, "the segment that holds it is missing");
    if (r->mark.segment > last->first_lsn)
        return missing(r->mark.segment, "the segment that starts with it is missing");
    return OK;
}

/* --- the last segment ------------------------------------------------------------------------ */

typedef struct last_scan {
    scanner s;
    tail good;        /* behind the last complete append call */
    uint64_t records; /* up to there */
    uint64_t open;    /* whole records behind it */
} last_scan;

static err mark_matches(const recovery *r, const scanner *s, uint64_t lsn) {
    if (lsn != r->mark.lsn) return OK;
    if (memcmp(s->prev.hash, r->mark.hash.hash, HASH_BYTES) == 0) return OK;
    return missing(lsn, "it is not the record that was acknowledged (chain hash)");
}

/* Reads frames until the end or a bad one; the reason is left as this thread's detail. */
static err scan_frames(const recovery *r, last_scan *l) {
    for (;;) {
        frame f;
        err rc = scanner_next(&l->s, &f);
        if (rc != OK) return rc;
        TRY(mark_matches(r, &l->s, f.lsn));
        bool first = f.flags & FRAME_FIRST;
        if (first != (l->open == 0)) return missing(f.lsn, "its append call is broken");
        l->open++;
        if (!(f.flags & FRAME_LAST)) continue;
        l->records += l->open;
        l->open = 0;
        l->good = (tail){l->s.offset, f.lsn, f.time, l->s.prev};
    }
}

/* True damage or a torn tail? `why` is ERR_NOT_FOUND or ERR_CORRUPT of the scan, its detail set. */
static err judge_tail(const recovery *r, last_scan *l, err why) {
    char detail[DETAIL_BYTES];
    detail_copy(detail, why == ERR_CORRUPT ? err_detail() : "the records end here");
    if (r->mark.lsn > l->good.lsn)
        return err_set(ERR_CORRUPT, "record %llu of the journal was acknowledged and is lost: %s",
                       (unsigned long long)l->good.lsn + 1, detail);
    frame f;
    err rc = scanner_find_later_group(&l->s, &f);
    if (rc == ERR_NOT_FOUND) return OK;
    TRY(rc);
    return err_set(ERR_CORRUPT,
                   "record %llu of the journal was acknowledged (record %llu was written after it) "
                   "and is damaged: %s",
                   (unsigned long long)l->s.lsn, (unsigned long long)f.lsn, detail);
}

static err cut_tail(recovery *r, last_scan *l) {
    journal *j = r->j;
    uint64_t used, size;
    TRY(scanner_last_used(&l->s, l->good.end, &used));
    TRY(file_size(j->active, &size));
    if (used > l->good.end) {
        j->recovery.cut_lsn = l->good.lsn + 1;
        j->recovery.cut_bytes = used - l->good.end;
        j->recovery.cut_records = l->open;
        TRY(file_truncate(j->active, l->good.end));
        size = l->good.end;
    }
    TRY(file_datasync(j->active));
    j->tail_reserved = size >= j->active_limit; /* else the first append reserves it again */
    return OK;
}

static err recover_last(recovery *r) {
    journal *j = r->j;
    segment *last = &r->list.items[r->list.count - 1];
    char name[SEGMENT_NAME_BYTES];
    segment_name(last->first_lsn, name);
    segment_header h;
    TRY(segment_open(j->disk, j->dir, last->first_lsn, j->id, FILE_WRITE, &j->active, &h));
    if (h.bytes < JOURNAL_SEGMENT_MIN || h.bytes > JOURNAL_SEGMENT_MAX)
        return err_set(ERR_CORRUPT, "journal segment %s: its header is damaged", name);
    last_scan l = {.good = {SEGMENT_HEADER, h.first_lsn - 1, h.time, h.prev}};
    scanner_init(&l.s, j->active, name, j->seed);
    scanner_seek(&l.s, &h);
    l.s.limit = last->bytes;
    err rc = mark_matches(r, &l.s, h.first_lsn - 1);
    if (rc == OK) rc = scan_frames(r, &l);
    if (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT) rc = judge_tail(r, &l, rc);
    if (rc == OK) rc = cut_tail(r, &l);
    scanner_deinit(&l.s);
    TRY(rc);
    j->active_first = h.first_lsn;
    j->active_limit = h.bytes;
    j->tail = l.good;
    j->recovery.records = l.records;
    j->segments[j->segment_count - 1].bytes = l.good.end;
    return OK;
}

/* --- all of it ------------------------------------------------------------------------------- */

static err remove_temps(recovery *r) {
    for (size_t i = 0; i < r->list.temp_count; i++) {
        char *path = journal_path(r->j->dir, r->list.temps[i]);
        if (!path) return ERR_NO_MEMORY;
        err rc = fs_unlink(r->j->disk, path);
        mem_free(path);
        if (rc == ERR_NOT_FOUND) continue; /* it was one of ours and has its name by now */
        TRY(rc);
        r->j->recovery.temp_files++;
    }
    return OK;
}

static err load_mark(recovery *r) {
    err rc = mark_read(r->j->disk, r->j->dir, &r->mark, &r->mark_bad);
    if (rc == ERR_NOT_FOUND && r->list.count == 0) return mark_first(r);
    if (rc == ERR_NOT_FOUND)
        return err_set(ERR_CORRUPT,
                       "journal %s: %s is missing: it says how far the journal was acknowledged",
                       r->j->dir, MARK_NAME);
    TRY(rc);
    memcpy(r->j->id, r->mark.id, ID_BYTES);
    return OK;
}

/* The mark again, both slots when one was bad. */
static err rewrite_mark(recovery *r) {
    journal *j = r->j;
    TRY(dir_file_open(j->disk, j->dir, MARK_NAME, FILE_WRITE, &j->mark_file));
    j->mark_seq = r->mark.seq;
    j->mark_first_lsn = r->mark.first_lsn;
    j->recovery.mark_slot_bad = r->mark_bad > 0;
    TRY(journal_mark_now(j, &j->tail));
    if (r->mark_bad) TRY(journal_mark_now(j, &j->tail));
    j->mark_dirty = false;
    return file_datasync(j->mark_file);
}

static err recover(recovery *r) {
    journal *j = r->j;
    TRY(dir_list_read(j->disk, j->dir, &r->list));
    TRY(load_mark(r));
    j->seed = journal_seed(j->id);
    void *items = j->segments;
    err rc =
        mem_grow(&items, &j->segment_cap, r->list.count + 1, sizeof *j->segments, SEGMENTS_MAX);
    j->segments = items;
    TRY(rc);
    if (r->list.count == 0) {
        if (r->mark.lsn != 0 || r->mark.first_lsn != 1)
            return missing(r->mark.first_lsn, "all segments are missing");
        TRY(first_segment(r));
    } else {
        TRY(drop_leftovers(r));
        TRY(check_mark_place(r));
        TRY(check_headers(r));
        TRY(recover_last(r));
    }
    TRY(remove_temps(r));
    TRY(fs_sync_dir(j->disk, j->dir)); /* a crash may have come between a rename and this */
    j->recovery.segments = j->segment_count;
    return rewrite_mark(r);
}

static err options_check(journal_options *o) {
    if (!o->segment_bytes) o->segment_bytes = JOURNAL_SEGMENT_BYTES;
    if (o->segment_bytes < JOURNAL_SEGMENT_MIN || o->segment_bytes > JOURNAL_SEGMENT_MAX)
        return err_set(ERR_INVALID, "journal: segment_bytes: expected %zu to %zu, got %zu",
                       JOURNAL_SEGMENT_MIN, JOURNAL_SEGMENT_MAX, o->segment_bytes);
    if (!o->mark_sync_ms) o->mark_sync_ms = JOURNAL_MARK_SYNC_MS;
    return OK;
}

static err make_dir(fs *disk, const char *dir) {
    if (fs_exists(disk, dir)) return OK;
    TRY(fs_mkdir(disk, dir));
    char *parent = journal_path(dir, "..");
    if (!parent) return ERR_NO_MEMORY;
    err rc = fs_sync_dir(disk, parent);
    mem_free(parent);
    return rc;
}

static err sync_init(journal *j) {
    TRY(mutex_init(&j->mu));
    TRY(cond_init(&j->done[0]));
    TRY(cond_init(&j->done[1]));
    TRY(cond_init(&j->space));
    TRY(cond_init(&j->claimed));
    TRY(cond_init(&j->work));
    return cond_init(&j->durable);
}

static void sync_deinit(journal *j) {
    mutex_deinit(&j->mu);
    cond_deinit(&j->done[0]);
    cond_deinit(&j->done[1]);
    cond_deinit(&j->space);
    cond_deinit(&j->claimed);
    cond_deinit(&j->work);
    cond_deinit(&j->durable);
}

static void journal_release(journal *j) {
    file_close(j->active);
    file_close(j->mark_file);
    file_close(j->lock_file);
    mem_free(j->segments);
    mem_free(j->group);
    mem_free(j->dir);
    sync_deinit(j);
    mem_free(j);
}

static err journal_start(journal *j) {
    TRY(make_dir(j->disk, j->dir));
    TRY(lock_take(j));
    recovery r = {.j = j};
    err rc = recover(&r);
    dir_list_deinit(&r.list);
    TRY(rc);
    j->head = j->tail;
    __atomic_store_n(&j->head_lsn, j->head.lsn, __ATOMIC_RELEASE);
    TRY(thread_start(&j->committer, "kith-journal", journal_committer, j));
    j->started = true;
    return OK;
}

err journal_open(fs *disk, const char *dir, const journal_options *opt, journal **out) {
    *out = NULL;
    TRY(journal_crypto_init());
    journal *j = mem_zalloc(1, sizeof *j);
    if (!j) return ERR_NO_MEMORY;
    if (opt) j->opt = *opt;
    j->disk = disk;
    j->queue_end = &j->queue;
    err rc = sync_init(j);
    if (rc != OK) {
        mem_free(j);
        return rc;
    }
    TRY_GOTO(options_check(&j->opt));
    rc = ERR_NO_MEMORY;
    j->dir = mem_dup(dir, strlen(dir) + 1);
    j->group = mem_alloc(GROUP_BUFFER);
    if (!j->dir || !j->group) goto done;
    rc = journal_start(j);
done:
    if (rc != OK) {
        journal_release(j);
        return rc;
    }
    j->opt.id = NULL; /* borrowed for this call only */
    *out = j;
    return OK;
}

void journal_close(journal *j) {
    if (!j) return;
    mutex_lock(&j->mu);
    KITH_ASSERT(!j->readers);
    j->closing = true;
    cond_broadcast(&j->work);
    cond_broadcast(&j->space);
    mutex_unlock(&j->mu);
    thread_join(&j->committer);
    KITH_ASSERT(!j->queue && !j->leading);
    journal_release(j);
}

const journal_recovery *journal_recovered(const journal *j) {
    return &j->recovery;
}
const uint8_t *journal_id(const journal *j) {
    return j->id;
}
