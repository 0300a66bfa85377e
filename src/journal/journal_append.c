/* Appending: group commit by leader and follower.
 *
 * A call builds its frames outside the lock (copy, body hash, CRC), queues them, and then either
 * leads or waits. Who finds no leader leads: takes the whole queue, numbers and chains its
 * frames, writes them, syncs once, writes the mark, tells the waiters, and hands over to one of
 * those who queued meanwhile. So the batch is what arrived during the sync before: no timer, one
 * caller alone waits for one sync only, and under load the groups grow by themselves.
 * Asynchronous calls are led by the committer thread when no thread that waits is there to do it.
 *
 *     queue ──take──► part (fits the segment) ──write, sync──► mark ──► head moves, callers wake
 *
 * Invariants:
 *  1. One leader. All about the active segment belongs to it without a lock; `mu` guards the
 *     queue, the head and what readers see.
 *  2. Nothing is written behind tail.end before the sync of what is in front of it returned.
 *  3. tail, head and mark move only after that sync; head last.
 *  4. A failed sync, or a failed write for another reason than space, stops the journal for good:
 *     what is on disk is not known, and trying again would be wrong. Opening finds out.
 *  5. A full disk leaves the journal usable: the write group is forgotten, and before the next
 *     one the file is cut back to tail.end, so that no half of it stays behind.
 *  6. Callbacks run before the leader hands over, hence in order.
 *
 * Two conditions alternate by group (`parity`): waking the finished group does not wake the next
 * one.
 */
#include "journal/journal_int.h"

#include "obs/metrics.h"

/* --- state shared with other files ----------------------------------------------------------- */

void journal_add_segment_locked(journal *j, segment s) {
    KITH_ASSERT(j->segment_count < j->segment_cap);
    KITH_ASSERT(j->segment_count == 0 || j->segments[j->segment_count - 1].first_lsn < s.first_lsn);
    j->segments[j->segment_count++] = s;
}

err journal_stopped_locked(journal *j) {
    if (LIKELY(j->stats.stopped == OK)) return OK;
    return err_set(j->stats.stopped, "the journal has stopped until it is opened again: %s",
                   j->stopped_detail);
}

void journal_stop(journal *j) {
    mutex_lock(&j->mu);
    if (j->stats.stopped == OK) {
        j->stats.stopped = ERR_IO;
        detail_copy(j->stopped_detail, err_detail());
    }
    cond_broadcast(&j->durable);
    mutex_unlock(&j->mu);
}

err journal_mark_now(journal *j, const tail *t) {
    mark m = {.seq = j->mark_seq + 1,
              .first_lsn = j->mark_first_lsn,
              .lsn = t->lsn,
              .time = t->time,
              .segment = j->active_first,
              .end = t->end,
              .hash = t->hash};
    memcpy(m.id, j->id, ID_BYTES);
    TRY(mark_put(j->mark_file, &m));
    j->mark_seq++;
    return OK;
}

static int64_t wall_ms(journal *j) {
    return j->opt.wall_ms ? j->opt.wall_ms(j->opt.wall_ctx) : clock_wall_ms();
}

/* --- the leader's work: segments ------------------------------------------------------------- */

/* Only these leave the disk as it was. */
static bool is_transient(err rc) {
    return rc == ERR_NO_SPACE || rc == ERR_AGAIN || rc == ERR_NO_MEMORY;
}

static err timed_sync(journal *j, file *f) {
    uint64_t before = clock_mono_ns();
    err rc = file_datasync(f);
    uint64_t ns = clock_mono_ns() - before;
    metric_record(M_JOURNAL_FSYNC_SECONDS, 0, ns);
    mutex_lock(&j->mu);
    j->stats.fsyncs++;
    j->stats.fsync_ns_sum += ns;
    j->stats.fsync_ns_max = MAX(j->stats.fsync_ns_max, ns);
    mutex_unlock(&j->mu);
    return rc;
}

static err segment_room(journal *j) {
    mutex_lock(&j->mu);
    void *items = j->segments;
    err rc =
        mem_grow(&items, &j->segment_cap, j->segment_count + 1, sizeof *j->segments, SEGMENTS_MAX);
    j->segments = items;
    mutex_unlock(&j->mu);
    return rc;
}

/* Begins a new segment that has room for `need` bytes. */
static err roll(journal *j, size_t need) {
    TRY(segment_room(j));
    segment_header h = {.first_lsn = j->tail.lsn + 1,
                        .prev_first_lsn = j->active_first,
                        .time = j->tail.time,
                        .bytes = MAX(j->opt.segment_bytes, SEGMENT_HEADER + need),
                        .prev = j->tail.hash};
    memcpy(h.id, j->id, ID_BYTES);
    file *f;
    bool broken;
    err rc = segment_create(j->disk, j->dir, &h, &f, &broken);
    if (rc != OK) {
        if (!broken && is_transient(rc)) return rc;
        journal_stop(j);
        return ERR_IO;
    }
    /* Gives reserved space back; when it fails, zeros stay behind the records: harmless. */
    err trimmed = file_truncate(j->active, j->tail.end);
    (void)trimmed;
    file_close(j->active);
    j->active = f;
    j->active_first = h.first_lsn;
    j->active_limit = h.bytes;
    j->tail.end = SEGMENT_HEADER;
    j->tail_reserved = true;
    mutex_lock(&j->mu);
    j->stats.fsyncs += 2; /* header, directory */
    journal_add_segment_locked(
        j, (segment){.first_lsn = h.first_lsn, .time = h.time, .bytes = SEGMENT_HEADER});
    mutex_unlock(&j->mu);
    return OK;
}

static err stop_unless_transient(journal *j, err rc) {
    if (is_transient(rc)) return rc;
    journal_stop(j);
    return ERR_IO; /* the detail is the cause's */
}

/* Makes the active segment ready for `need` bytes at tail.end: clean, reserved, or a new one. */
static err prepare(journal *j, size_t need) {
    if (j->tail_dirty) {
        TRY(file_truncate(j->active, j->tail.end));
        j->tail_dirty = false;
        j->tail_reserved = false;
    }
    if (j->tail.end + need > j->active_limit) {
        if (j->tail.end > SEGMENT_HEADER) return roll(j, need);
        j->active_limit = SEGMENT_HEADER + need; /* an empty one that is too small just grows */
        j->tail_reserved = false;
    }
    if (!j->tail_reserved) {
        TRY(file_reserve(j->active, j->active_limit));
        j->tail_reserved = true;
    }
    return OK;
}

/* --- the leader's work: one group ------------------------------------------------------------ */

typedef struct group {
    request *first, *end; /* from first up to, not including, end */
    uint64_t records, calls;
    tail t;      /* where the group ends */
    size_t fill; /* bytes in j->group */
    uint64_t at; /* their offset in the file */
} group;

static err group_flush(journal *j, group *g) {
    if (g->fill == 0) return OK;
    err rc = file_pwrite(j->active, j->group, g->fill, g->at);
    g->at += g->fill;
    g->fill = 0;
    return rc;
}

static err group_write(journal *j, group *g, const request *r) {
    if (r->bytes > GROUP_BUFFER - g->fill) TRY(group_flush(j, g));
    if (r->bytes > GROUP_BUFFER) {
        TRY(file_pwrite(j->active, r->frames, r->bytes, g->at));
        g->at += r->bytes;
        return OK;
    }
    memcpy(j->group + g->fill, r->frames, r->bytes);
    g->fill += r->bytes;
    return OK;
}

/* Numbers and chains the frames of one call. */
static void request_seal(journal *j, group *g, request *r) {
    int64_t now = wall_ms(j);
    r->first = g->t.lsn + 1;
    for (size_t at = 0; at < r->bytes;) {
        g->t.lsn++;
        g->t.time = hlc_next(g->t.time, now);
        at += frame_seal(r->frames + at, g->t.lsn, g->t.time, (uint32_t)g->records, &g->t.hash);
        g->records++;
    }
    r->last = g->t.lsn;
    g->t.end += r->bytes;
    KITH_ASSERT(r->last - r->first + 1 == r->count);
}

/* Which calls, from g->first on, go together. */
static void group_choose(const journal *j, group *g) {
    uint64_t left = j->active_limit - j->tail.end, bytes = 0;
    request *r = g->first;
    do {
        bytes += r->bytes;
        g->calls++;
        r = r->next;
    } while (r && bytes + r->bytes <= MIN(left, (uint64_t)GROUP_MAX));
    g->end = r;
}

static err group_to_disk(journal *j, group *g) {
    g->at = j->tail.end;
    for (request *r = g->first; r != g->end; r = r->next) {
        request_seal(j, g, r);
        TRY(group_write(j, g, r));
    }
    return group_flush(j, g);
}

/* Writes and syncs what is in *g; afterwards the journal has moved on, or is as it was, or
 * stopped. */
static err group_commit(journal *j, group *g) {
    g->end = g->first->next; /* what fails before choosing fails the first call alone */
    g->calls = 1;
    mutex_lock(&j->mu);
    err rc = journal_stopped_locked(j);
    mutex_unlock(&j->mu);
    TRY(rc);
    rc = prepare(j, g->first->bytes);
    if (rc != OK) return stop_unless_transient(j, rc);
    g->calls = 0;
    group_choose(j, g);
    g->t = j->tail;
    rc = group_to_disk(j, g);
    if (rc != OK) {
        j->tail_dirty = true;
        return stop_unless_transient(j, rc);
    }
    rc = timed_sync(j, j->active);
    if (rc == OK) rc = journal_mark_now(j, &g->t);
    if (rc == OK && j->opt.mark_sync_always) rc = file_datasync(j->mark_file);
    if (rc != OK) {
        journal_stop(j);
        return ERR_IO;
    }
    j->tail = g->t;
    return OK;
}

/* --- telling --------------------------------------------------------------------------------- */

static void mark_dirty_locked(journal *j) {
    if (j->opt.mark_sync_always) {
        j->stats.mark_fsyncs++;
        return;
    }
    if (j->mark_dirty) return;
    j->mark_dirty = true;
    j->mark_due_ns = clock_mono_ns() + (uint64_t)j->opt.mark_sync_ms * 1000000u;
    cond_signal(&j->work);
}

static void head_move_locked(journal *j, const group *g) {
    j->head = j->tail;
    __atomic_store_n(&j->head_lsn, j->head.lsn, __ATOMIC_RELEASE);
    j->segments[j->segment_count - 1].bytes = j->tail.end;
    j->stats.appends += g->calls;
    j->stats.records += g->records;
    j->stats.groups++;
    j->stats.group_calls_max = MAX(j->stats.group_calls_max, g->calls);
    if (j->durable_waiters) cond_broadcast(&j->durable);
    mark_dirty_locked(j);
}

/* Tells every call of the group its outcome. A request with a waiting thread is that thread's
 * again as soon as `finished` is set and the lock is free. */
static void group_tell(journal *j, group *g, err rc, unsigned parity) {
    char detail[DETAIL_BYTES];
    if (rc != OK) detail_copy(detail, err_detail());
    request *async = NULL, **async_end = &async;
    mutex_lock(&j->mu);
    if (rc == OK) {
        head_move_locked(j, g);
    } else {
        j->stats.failures += g->calls;
    }
    for (request *r = g->first, *next; r != g->end; r = next) {
        next = r->next;
        r->rc = rc;
        if (r->done) {
            *async_end = r;
            async_end = &r->next;
            continue;
        }
        if (rc != OK) memcpy(r->detail, detail, DETAIL_BYTES);
        r->finished = true;
    }
    *async_end = NULL;
    cond_broadcast(&j->done[parity]);
    mutex_unlock(&j->mu);
    while (async) {
        request *r = async;
        async = r->next;
        if (rc != OK) (void)err_set(rc, "%s", detail);
        r->done(r->ctx, rc, rc == OK ? r->first : 0, rc == OK ? r->last : 0);
        mem_free(r);
    }
}

/* --- leading --------------------------------------------------------------------------------- */

/* Hands over: to one who claimed the lead, else to a thread that waits, else to the committer. */
static void lead_end_locked(journal *j) {
    if (j->claims) {
        j->handed = true;
        cond_signal(&j->claimed);
        return;
    }
    j->leading = false;
    if (j->queue_waiters) {
        cond_signal(&j->done[j->parity]);
    } else if (j->queue || j->closing) {
        cond_signal(&j->work);
    }
}

/* mu held, `leading` set by the caller; mu is free while the disk works. */
static void lead_locked(journal *j) {
    KITH_ASSERT(j->leading && j->queue);
    request *list = j->queue;
    unsigned parity = j->parity;
    j->queue = NULL;
    j->queue_end = &j->queue;
    j->queue_bytes = 0;
    j->queue_waiters = 0;
    j->parity ^= 1;
    cond_broadcast(&j->space);
    mutex_unlock(&j->mu);
    while (list) {
        group g = {.first = list};
        err rc = group_commit(j, &g);
        list = g.end;
        group_tell(j, &g, rc, parity);
    }
    mutex_lock(&j->mu);
    lead_end_locked(j);
}

err journal_lead_take(journal *j) {
    mutex_lock(&j->mu);
    j->claims++;
    while (j->leading && !j->handed) cond_wait(&j->claimed, &j->mu);
    j->claims--;
    j->leading = true;
    j->handed = false;
    err rc = journal_stopped_locked(j);
    if (rc != OK) lead_end_locked(j);
    mutex_unlock(&j->mu);
    return rc;
}

void journal_lead_give(journal *j) {
    mutex_lock(&j->mu);
    lead_end_locked(j);
    mutex_unlock(&j->mu);
}

static void mark_sync_locked(journal *j) {
    j->mark_dirty = false;
    mutex_unlock(&j->mu);
    err rc = file_datasync(j->mark_file);
    if (rc != OK) journal_stop(j);
    mutex_lock(&j->mu);
    j->stats.mark_fsyncs++;
}

/* Leads when only asynchronous calls are queued; syncs the mark when it is due. */
void journal_committer(void *arg) {
    journal *j = arg;
    mutex_lock(&j->mu);
    for (;;) {
        uint64_t now = j->mark_dirty ? clock_mono_ns() : 0;
        bool ready = j->queue && !j->leading && !j->queue_waiters;
        bool last = j->closing && !j->queue && !j->leading;
        if (j->mark_dirty && (last || now >= j->mark_due_ns)) {
            mark_sync_locked(j);
        } else if (ready) {
            j->leading = true;
            lead_locked(j);
        } else if (last) {
            break;
        } else if (j->mark_dirty) {
            (void)cond_wait_ms(&j->work, &j->mu, (j->mark_due_ns - now) / 1000000u + 1);
        } else {
            cond_wait(&j->work, &j->mu);
        }
    }
    mutex_unlock(&j->mu);
}

/* --- calls ----------------------------------------------------------------------------------- */

static err entry_check(const journal_entry *e, size_t i) {
    if (e->kind == 0) return err_set(ERR_INVALID, "journal entry %zu: it has no kind", i);
    if (e->key.len > JOURNAL_KEY_MAX)
        return err_set(ERR_TOO_LARGE, "journal entry %zu: key of %zu bytes, limit is %zu", i,
                       e->key.len, JOURNAL_KEY_MAX);
    if (e->body.len > JOURNAL_BODY_MAX)
        return err_set(ERR_TOO_LARGE, "journal entry %zu: body of %zu bytes, limit is %zu", i,
                       e->body.len, JOURNAL_BODY_MAX);
    return OK;
}

static err request_new(journal *j, const journal_entry *entries, size_t n, request **out) {
    if (n == 0 || n > JOURNAL_ENTRIES_MAX)
        return err_set(n ? ERR_TOO_LARGE : ERR_INVALID,
                       "journal append: expected 1 to %d entries, got %zu", JOURNAL_ENTRIES_MAX, n);
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        TRY(entry_check(&entries[i], i));
        bytes += frame_size(entries[i].key.len, entries[i].body.len);
        if (bytes > JOURNAL_BATCH_MAX)
            return err_set(ERR_TOO_LARGE, "journal append: over %zu bytes", JOURNAL_BATCH_MAX);
    }
    request *r = mem_alloc(sizeof *r + bytes);
    if (!r) return ERR_NO_MEMORY;
    memset(r, 0, sizeof *r);
    r->bytes = bytes;
    r->count = (uint32_t)n;
    uint8_t *p = r->frames;
    for (size_t i = 0; i < n; i++) {
        const journal_entry *e = &entries[i];
        uint16_t flags = (uint16_t)((i == 0 ? FRAME_FIRST : 0) | (i == n - 1 ? FRAME_LAST : 0));
        frame_build(p, j->seed, e, e->region ? e->region : j->opt.region, flags);
        p += frame_size(e->key.len, e->body.len);
    }
    *out = r;
    return OK;
}

static err admit_locked(journal *j) {
    if (j->closing) return err_set(ERR_CANCELLED, "the journal is closing");
    return journal_stopped_locked(j);
}

static bool is_full_locked(const journal *j, const request *r) {
    return j->queue && j->queue_bytes + r->bytes > JOURNAL_QUEUE_MAX;
}

static void enqueue_locked(journal *j, request *r) {
    *j->queue_end = r;
    j->queue_end = &r->next;
    j->queue_bytes += r->bytes;
    if (!r->done) j->queue_waiters++;
}

static void count_append(const journal_entry *entries, size_t n, uint64_t start) {
    uint64_t end = clock_mono_ns(), bytes = 0;
    for (size_t i = 0; i < n; i++) bytes += entries[i].key.len + entries[i].body.len;
    metric_record(M_JOURNAL_APPEND_SECONDS, 0, end - start);
    metric_record(M_JOURNAL_BATCH, 0, n);
    metric_add(M_JOURNAL_RECORDS, 0, n);
    metric_add(M_JOURNAL_BYTES, 0, bytes);
    span s = span_closed("journal.append", start, end);
    span_number(&s, "kith.journal.records", (int64_t)n);
}

err journal_append(journal *j, const journal_entry *entries, size_t n, uint64_t *first,
                   uint64_t *last) {
    *first = *last = 0;
    request *r;
    TRY(request_new(j, entries, n, &r));
    uint64_t start = clock_mono_ns();
    mutex_lock(&j->mu);
    err rc = admit_locked(j);
    while (rc == OK && is_full_locked(j, r)) {
        cond_wait(&j->space, &j->mu);
        rc = admit_locked(j);
    }
    if (rc == OK) {
        enqueue_locked(j, r);
        unsigned parity = j->parity;
        while (!r->finished) {
            if (j->leading) {
                cond_wait(&j->done[parity], &j->mu);
            } else {
                j->leading = true;
                lead_locked(j);
            }
        }
        rc = r->rc;
        if (rc != OK) (void)err_set(rc, "%s", r->detail);
        if (rc == OK) *first = r->first, *last = r->last;
    }
    mutex_unlock(&j->mu);
    mem_free(r);
    if (rc == OK) count_append(entries, n, start);
    return rc;
}

err journal_append_async(journal *j, const journal_entry *entries, size_t n, journal_done done,
                         void *ctx) {
    KITH_ASSERT(done);
    request *r;
    TRY(request_new(j, entries, n, &r));
    r->done = done;
    r->ctx = ctx;
    mutex_lock(&j->mu);
    err rc = admit_locked(j);
    if (rc == OK && is_full_locked(j, r))
        rc = err_set(ERR_AGAIN, "journal: %zu bytes wait for the disk already", j->queue_bytes);
    if (rc == OK) {
        enqueue_locked(j, r);
        if (!j->leading) cond_signal(&j->work);
    }
    mutex_unlock(&j->mu);
    if (rc != OK) mem_free(r);
    return rc;
}

void journal_stats_get(journal *j, journal_stats *out) {
    mutex_lock(&j->mu);
    *out = j->stats;
    out->segments = j->segment_count;
    out->bytes = 0;
    for (size_t i = 0; i < j->segment_count; i++) out->bytes += j->segments[i].bytes;
    out->queued_bytes = j->queue_bytes;
    mutex_unlock(&j->mu);
}
