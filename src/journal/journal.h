/* The journal: the ordered, append-only log that all of kith's state is a fold over.
 *
 *     journal *j;
 *     TRY(journal_open(fs_real(), "data/journal", &(journal_options){.region = 1}, &j));
 *     journal_entry e = {.kind = JOURNAL_POST_PUT, .key = STR("p1"), .body = body};
 *     uint64_t first, last;
 *     TRY(journal_append(j, &e, 1, &first, &last));      // durable when it returns OK
 *
 *     journal_reader *r;
 *     TRY(journal_reader_open(j, 1, &r));
 *     while (journal_read(r, &rec) == OK) apply(&rec);   // ERR_NOT_FOUND at the durable end
 *     TRY(journal_wait(j, journal_reader_lsn(r), 1000)); // until there is more
 *
 * What it promises:
 *   - Order. Records have dense numbers (LSN, from 1) and timestamps (HLC) that only grow.
 *   - Durability. An append returns OK after its bytes and those before it were synced to disk.
 *   - Atomicity. All records of one append call survive a crash, or none.
 *   - Honesty. Each record carries a CRC-32C and the BLAKE2b hash of the record before it; a mark
 *     kept in another file says how far the journal was durable. A torn tail that nobody was told
 *     of is cut on opening and reported; anything acknowledged that is damaged or missing is
 *     ERR_CORRUPT with file, offset and LSN, never skipped.
 * The format on disk and the reasons are in docs/journal.md and at the top of journal_format.c.
 *
 * Threads: every call may be made from any thread at once, but for journal_close (no other call
 * may be running or come after) and a reader, which belongs to one thread at a time.
 *
 * Errors of appends: ERR_INVALID and ERR_TOO_LARGE (the entry is wrong, nothing was written);
 * ERR_AGAIN (asynchronous queue full, or out of file descriptors) and ERR_NO_SPACE (disk full):
 * nothing was written and later appends may work; ERR_IO: a write or sync failed, the outcome of
 * this call is unknown until the journal is opened again, and every later append fails the same
 * way; ERR_CANCELLED: the journal is closing.
 */
#ifndef KITH_JOURNAL_JOURNAL_H
#define KITH_JOURNAL_JOURNAL_H

#include "base/base.h"
#include "os/os.h"

#define JOURNAL_KEY_MAX       (1 * KIB)
#define JOURNAL_BODY_MAX      (4 * MIB)
#define JOURNAL_ENTRIES_MAX   4096       /* records of one append call */
#define JOURNAL_BATCH_MAX     (16 * MIB) /* bytes on disk of one append call */
#define JOURNAL_QUEUE_MAX     (64 * MIB) /* bytes waiting for the disk; then appends wait or fail */
#define JOURNAL_SEGMENT_MIN   (4 * KIB)
#define JOURNAL_SEGMENT_MAX   (1 * GIB)
#define JOURNAL_SEGMENT_BYTES (64 * MIB) /* default */
#define JOURNAL_MARK_SYNC_MS  100        /* default */
#define JOURNAL_HASH_BYTES    32
#define JOURNAL_ID_BYTES      16

/* Kinds of records. The numbers are on disk: never change or reuse one. 1 to 0x7fff are kith's. */
typedef enum journal_kind {
    JOURNAL_POST_PUT = 1,      /* key: post id */
    JOURNAL_POST_DELETE = 2,   /* key: post id */
    JOURNAL_VECTOR_PUT = 3,    /* key: post id; body: space and vector */
    JOURNAL_VECTOR_FAILED = 4, /* key: post id; body: a text that cannot be embedded, and why */
    JOURNAL_USER_PUT = 16,     /* key: user id */
    JOURNAL_USER_ERASE = 17,   /* key: user id */
    JOURNAL_CONSENT = 18,      /* key: user id */
    JOURNAL_FOLLOW = 24,       /* key: follower */
    JOURNAL_UNFOLLOW = 25,     /* key: follower */
    JOURNAL_BLOCK = 26,        /* key: who blocks */
    JOURNAL_UNBLOCK = 27,      /* key: who blocks */
    JOURNAL_INTERACTION = 32,  /* searches, clicks, likes; key: user or session */
    JOURNAL_KEY_PUT = 40,      /* API key made or changed; key: its id */
    JOURNAL_KEY_REVOKE = 41,   /* key: its id */
    JOURNAL_SPACE = 48,        /* embedding space made or retired */
    JOURNAL_MODEL = 49,        /* ranking model registered or promoted */
    JOURNAL_EXPERIMENT = 50,   /* started, changed, stopped */
    JOURNAL_MIGRATION = 51,    /* a step of a migration */
    JOURNAL_CONFIG = 52,       /* a setting changed at run time */
    JOURNAL_AUDIT = 64,        /* who did what */
    JOURNAL_CHECKPOINT = 65,   /* an outside checkpoint of the chain was made */
    JOURNAL_KIND_MAX = 0xffff
} journal_kind;

/* A stable name ("post_put") for logs and tools; "kind" when the number is not known here. */
const char *journal_kind_name(uint16_t kind);

typedef struct journal journal;
typedef struct journal_reader journal_reader;

typedef struct journal_options {
    size_t segment_bytes;          /* size of a segment file; 0: JOURNAL_SEGMENT_BYTES */
    uint16_t region;               /* stamped on records whose entry names none */
    int64_t (*wall_ms)(void *ctx); /* NULL: clock_wall_ms */
    void *wall_ctx;
    const uint8_t *id;     /* JOURNAL_ID_BYTES for a new journal; NULL: random */
    uint32_t mark_sync_ms; /* how far a power cut may set the mark back; 0: the default */
    bool mark_sync_always; /* sync the mark before each acknowledgement: two syncs */
} journal_options;

/* What opening found and did. */
typedef struct journal_recovery {
    uint64_t records; /* in the last segment, all checked */
    uint64_t segments;
    uint64_t cut_lsn;     /* first number of what was cut as a torn tail; 0: nothing was */
    uint64_t cut_bytes;   /* from the cut to the last byte that was not zero */
    uint64_t cut_records; /* whole records among them, of an append call that was not complete */
    uint32_t temp_files;  /* left over by a crash, removed */
    bool created;         /* a new journal */
    bool mark_slot_bad;   /* one of the mark's two slots was torn or damaged; it was rewritten */
} journal_recovery;

/* Opens or makes the journal in directory `dir` (made when missing; its parent must exist) and
 * takes its lock. ERR_AGAIN: another process has it (the detail says which). ERR_CORRUPT:
 * acknowledged records are damaged or missing; nothing was changed. ERR_UNSUPPORTED: a newer
 * format. */
MUST_USE err journal_open(fs *fs, const char *dir, const journal_options *opt, journal **out);
/* Waits for queued appends (their callbacks run), syncs the mark and gives the lock back. Readers
 * must be closed before. NULL is fine. */
void journal_close(journal *j);
const journal_recovery *journal_recovered(const journal *j);
const uint8_t *journal_id(const journal *j); /* JOURNAL_ID_BYTES */

typedef struct journal_entry {
    uint16_t kind;   /* journal_kind, not 0 */
    uint16_t region; /* 0: the journal's own */
    str key;         /* borrowed for the call */
    str body;        /* borrowed for the call; opaque */
} journal_entry;

/* Appends n entries (1 to JOURNAL_ENTRIES_MAX) as one unit and returns when they are durable;
 * their numbers are *first to *last. Threads that wait at the same time share one write and one
 * sync. */
MUST_USE err journal_append(journal *j, const journal_entry *entries, size_t n, uint64_t *first,
                            uint64_t *last);

/* The outcome of an asynchronous append: OK and its numbers, or an error with 0 and 0 (err_detail
 * says why, during the call). */
typedef void (*journal_done)(void *ctx, err rc, uint64_t first, uint64_t last);

/* The same without waiting: queues a copy and returns. When it returned OK, `done` is called
 * exactly once, from another thread (whichever led the commit), in LSN order, perhaps before this
 * call returns. `done` must be quick (post to an event loop, signal) and must not call
 * journal_append or journal_close. Any other result: `done` is not called; ERR_AGAIN: the queue
 * is full. */
MUST_USE err journal_append_async(journal *j, const journal_entry *entries, size_t n,
                                  journal_done done, void *ctx);

/* A place in the journal: the last durable record, or LSN 0 before the first. `hash` is the
 * chain's value after it: given to someone outside, it later proves that nothing up to `lsn`
 * changed. */
typedef struct journal_position {
    uint64_t lsn;
    hlc time;
    uint8_t hash[JOURNAL_HASH_BYTES];
} journal_position;

void journal_head(journal *j, journal_position *out);
uint64_t journal_head_lsn(journal *j);  /* cheaper */
uint64_t journal_first_lsn(journal *j); /* the oldest record kept; head + 1 when there is none */

/* Waits until record `lsn` is durable: OK, ERR_TIMEOUT, ERR_CANCELLED when journal_wake was called
 * meanwhile, or the journal's error when it has stopped. */
MUST_USE err journal_wait(journal *j, uint64_t lsn, uint64_t timeout_ms);
/* Makes all waits of now return ERR_CANCELLED (before closing). */
void journal_wake(journal *j);

typedef struct journal_record {
    uint64_t lsn;
    hlc time;
    uint16_t kind;
    uint16_t region;
    bool last;     /* the last record of its append call */
    bool redacted; /* its body was erased; the chain still holds */
    str key, body; /* valid until the reader's next call */
    str frame;     /* the record as it is on disk, for journal_builder_add; as long */
} journal_record;

/* A reader that starts at record `lsn` (0: the oldest kept). ERR_NOT_FOUND: it was dropped;
 * ERR_INVALID: more than one past the head, so the asker knows records that this journal does
 * not. */
MUST_USE err journal_reader_open(journal *j, uint64_t lsn, journal_reader **out);
void journal_reader_close(journal_reader *r);
/* The next durable record, checked (CRC, number, chain). ERR_NOT_FOUND: at the durable end, try
 * again later. ERR_CORRUPT: damaged; the reader stays there. */
MUST_USE err journal_read(journal_reader *r, journal_record *out);
uint64_t journal_reader_lsn(const journal_reader *r); /* of the record that comes next */

/* The chain's value after the record that was read last. */
void journal_reader_hash(const journal_reader *r, uint8_t hash[JOURNAL_HASH_BYTES]);

/* The first record whose time is `time` or later; head + 1 when there is none. */
MUST_USE err journal_find_time(journal *j, hlc time, uint64_t *lsn);

/* Removes the segments that hold only records before `lsn`. Fine when there are none. */
MUST_USE err journal_drop_before(journal *j, uint64_t lsn);

typedef struct journal_stats {
    uint64_t bytes; /* of records now kept, headers included */
    uint64_t segments;
    uint64_t appends;  /* calls acknowledged since opening */
    uint64_t records;  /* of these calls */
    uint64_t failures; /* calls that failed after they were queued */
    uint64_t groups;   /* writes to a segment, each followed by one sync */
    uint64_t group_calls_max;
    uint64_t fsyncs; /* of segments and their directory */
    uint64_t fsync_ns_sum, fsync_ns_max;
    uint64_t mark_fsyncs;
    uint64_t queued_bytes; /* now */
    err stopped;           /* OK, or why appends are refused for good */
} journal_stats;
void journal_stats_get(journal *j, journal_stats *out);

/* --- building from a copy ----------------------------------------------------------------------
 * Makes a journal again, byte for byte, from the frames of its records: a restore.
 *
 *     TRY(journal_builder_open(fs_real(), "new/journal", id, &b));
 *     while (more) TRY(journal_builder_add(b, frames, n, &(journal_limit){.lsn = 900}, &full));
 *     TRY(journal_builder_finish(b, &position));           // or journal_builder_abort(b)
 *
 * Frames are checked as they come (CRC, number, chain from the first record on). What is behind the
 * last complete append call within the limit is left out. The mark is written last, so that a
 * directory that was not finished cannot be opened. */
typedef struct journal_builder journal_builder;
typedef struct journal_limit {
    uint64_t lsn; /* the last record that may be in; 0: no limit */
    hlc time;     /* no record later than that; 0: no limit */
} journal_limit;
MUST_USE err journal_builder_open(fs *fs, const char *dir, const uint8_t id[JOURNAL_ID_BYTES],
                                  journal_builder **out);
/* n bytes of whole frames. Frames whose numbers it has are passed over. *full: the limit is
 * reached. ERR_CORRUPT: a frame is not the next one of this journal. */
MUST_USE err journal_builder_add(journal_builder *b, const uint8_t *frames, size_t n,
                                 const journal_limit *limit, bool *full);
uint64_t journal_builder_lsn(const journal_builder *b); /* the last record it has seen */
MUST_USE err journal_builder_finish(journal_builder *b, journal_position *out); /* closes it */
void journal_builder_abort(journal_builder *b); /* leaves the directory as it is; NULL is fine */
/* Checks frames without writing them: number, CRC and chain, from *at on, which moves. `visit` may
 * be NULL. */
MUST_USE err journal_frames_check(const uint8_t *frames, size_t n,
                                  const uint8_t id[JOURNAL_ID_BYTES], journal_position *at,
                                  err (*visit)(void *ctx, const journal_record *r), void *ctx);

/* --- checking -------------------------------------------------------------------------------- */

/* Visits every record in `dir` in order, without the lock, beside the process that owns it. *end
 * moves before each visit: during it, end->hash is the chain behind that record. ERR_CORRUPT:
 * something acknowledged is damaged; an error of `visit` ends the walk. */
MUST_USE err journal_walk(fs *fs, const char *dir, err (*visit)(void *ctx, const journal_record *r),
                          void *ctx, journal_position *end);

typedef struct journal_problem {
    err code;         /* ERR_CORRUPT, ERR_IO, ...; OK for a note: nothing acknowledged is hurt */
    const char *file; /* name in the directory; borrowed for the call */
    uint64_t offset;
    uint64_t lsn;     /* the record expected there; 0: not known */
    const char *text; /* what is wrong; borrowed for the call */
} journal_problem;

typedef struct journal_summary {
    uint64_t segments, records, bytes, problems, notes;
    uint64_t first_lsn, last_lsn;
} journal_summary;

/* Reads every byte of the journal in `dir` and reports all that is wrong, without the lock and
 * without changing anything: a live, a crashed or a copied directory. `report` and `out` may be
 * NULL. OK: whole. ERR_CORRUPT: at least one problem was reported. ERR_NOT_FOUND: there is no
 * journal. */
MUST_USE err journal_verify(fs *fs, const char *dir,
                            void (*report)(void *ctx, const journal_problem *p), void *ctx,
                            journal_summary *out);

#endif
