/* store: posts in SQLite, a fold of the journal. One writer (the shard's apply thread) and a pool
 * of readers. The store is the authority for document numbers: `doc` is a dense u32, the smallest
 * free one is given to each new post, and a deleted post's number is reused, so that everything
 * indexed by doc stays small. Same records, same numbers.
 *
 *     store *s;
 *     TRY(store_open("data/store.db", 4, &s));
 *     TRY(store_begin(s));
 *     TRY(store_put(s, &post, lsn, now_ms, arena, &change));    // … more of the batch
 *     TRY(store_commit(s, last_lsn));                      // the position moves with the state
 *
 * Durability: WAL, synchronous=NORMAL: a power cut may take back the last commits, never tear one;
 * the shard then folds the journal again from store_position. secure_delete is on, and
 * store_erase_traces empties the WAL, so that a deleted text is in no file of the store.
 * Each page has a checksum: a damaged one is ERR_CORRUPT naming it, when it is read.
 *
 * Errors: ERR_CORRUPT (a damaged file, one of another program), ERR_NO_SPACE, ERR_IO,
 * ERR_NO_MEMORY, ERR_DENIED, ERR_NOT_FOUND (no such directory), ERR_UNSUPPORTED (a newer schema). A
 * store that is ERR_CORRUPT loses nothing: remove store.db, store.db-wal, store.db-shm and fold the
 * journal again. A writer's call that fails (but for ERR_NOT_FOUND) spoils its transaction:
 * store_commit then aborts and gives the first error. An fsync that fails in a checkpoint does not
 * undo the commit; the next store_begin gives the error, for good.
 *
 * Threads: store_begin to store_commit and store_erase_traces belong to one thread at a time; a
 * reader to the thread that holds it. store_position, store_doc_limit, store_disk_bytes: any.
 *
 * Caveats: one process at a time (the owner of the data directory holds its lock), and nothing else
 * opens store.db meanwhile: closing it would drop SQLite's locks. Format: docs/store.md.
 */
#ifndef KITH_STORE_H
#define KITH_STORE_H

#include "base/base.h"
#include <kith/v1/posts.pb-c.h>

typedef struct store store;
typedef struct store_reader store_reader;

/* Makes the store when there is none (beside `path`, then renamed). 1 to 64 readers. */
MUST_USE err store_open(const char *path, unsigned readers, store **out);
void store_close(store *s); /* every reader must be back; an open transaction is aborted */
uint64_t store_position(const store *s);  /* LSN of the last commit; 0 when new */
uint32_t store_doc_limit(const store *s); /* all live docs are below it */

/* ---- writer: between store_begin and store_commit or store_abort, one thread ---- */

MUST_USE err store_begin(store *s);
MUST_USE err store_commit(store *s, uint64_t position);
void store_abort(store *s);

typedef enum store_outcome { STORE_CREATED, STORE_REPLACED, STORE_UNCHANGED } store_outcome;

/* What a put did, for the index folds. Strings and arrays live in the caller's arena. */
typedef struct store_change {
    store_outcome outcome;
    uint32_t doc;
    bool text_changed;   /* also true when created */
    uint64_t text_hash;  /* hash64(text, 0) */
    str thread;          /* root's id */
    Kith__V1__Post *old; /* the version replaced; NULL when created */
    /* Other docs whose thread became `thread` because this post links them to their root. */
    uint32_t *rerooted;
    size_t rerooted_count;
} store_change;

/* Puts `post` (id, text and limits already checked). created_at absent: now_ms. A post equal to
 * the stored one in all that a caller sets is STORE_UNCHANGED and nothing is written. The row's
 * revision (`rev`) and those of rerooted rows become `lsn`.
 * A post that is replaced with another reply_to takes along the rows whose thread was its own id;
 * what hung below it in another thread stays there.
 * thread: of the parent when the parent is here, else reply_to itself, else the post's own id;
 * cycles end because no chain is ever walked: a post is linked to its parent's thread as stored. */
MUST_USE err store_put(store *s, const Kith__V1__Post *post, uint64_t lsn, int64_t now_ms, arena *a,
                       store_change *out);
/* ERR_NOT_FOUND when there is none. *doc is free afterwards. *old lives in the arena. */
MUST_USE err store_delete(store *s, str id, arena *a, uint32_t *doc, Kith__V1__Post **old);
/* A vector for the text with this hash came. *current: the post is here and has this text; then
 * its embed state becomes done and *doc is set. */
MUST_USE err store_vector(store *s, str id, uint64_t text_hash, uint32_t *doc, bool *current);
/* The text with this hash cannot be embedded; shown by store_failed. A vector that is here stays.
 * `reason` is cut at 512 bytes. *doc and *current as in store_vector; not current where a vector is here. */
MUST_USE err store_vector_failed(store *s, str id, uint64_t text_hash, str reason, uint32_t *doc,
                                 bool *current);
/* Every row waits for a vector again: those there were are of a space that is not asked any more. */
MUST_USE err store_forget_vectors(store *s);
/* Failed rows become pending again; returns how many. */
MUST_USE err store_retry_failed(store *s, uint64_t *count);

/* Ids of all posts of an author, as the open transaction sees them: reads every row. In the arena. */
MUST_USE err store_ids_of_author(store *s, str author, arena *a, str **ids, size_t *count);

/* Outside a transaction: checkpoint and truncate the WAL. ERR_AGAIN when a reader is in the way. */
MUST_USE err store_erase_traces(store *s);

/* A copy of the store as of one commit, made at `path` (which must not exist) through a reader while
 * writes go on; *position is that commit's. Synced. Takes long: the WAL cannot be emptied meanwhile. */
MUST_USE err store_copy(store *s, const char *path, uint64_t *position);

/* ---- readers: store_reader_get waits for a free one; put it back soon ----
 * All reads of one lease see the same commit: that of its first read. While a lease is held the WAL
 * cannot be emptied, so a lease that lasts lets it grow. */

store_reader *store_reader_get(store *s);
void store_reader_put(store *s, store_reader *r);

typedef struct store_row {
    uint32_t doc;
    uint64_t rev; /* LSN of the last record that changed this row */
    uint64_t text_hash;
    Kith__V1__Post *post; /* in the arena; thread and lsn filled; created_at always set */
} store_row;

MUST_USE err store_get(store_reader *r, str id, arena *a, store_row *out); /* ERR_NOT_FOUND */
MUST_USE err store_get_doc(store_reader *r, uint32_t doc, arena *a, store_row *out);
MUST_USE err store_doc_of(store_reader *r, str id, uint32_t *doc);

/* Posts of a thread, oldest first (created_at, then doc), from behind `after` (NULL: from the
 * start); at most `limit`. */
typedef struct store_thread_pos {
    int64_t created_ms;
    uint32_t doc;
} store_thread_pos;
MUST_USE err store_thread(store_reader *r, str thread, const store_thread_pos *after, size_t limit,
                          arena *a, store_row **rows, size_t *count);
MUST_USE err store_thread_size(store_reader *r, str thread, uint64_t *out);

/* Texts that wait for a vector, newest first when `fresh_first`, else oldest first. */
MUST_USE err store_pending(store_reader *r, bool fresh_first, size_t limit, arena *a,
                           store_row **rows, size_t *count);
typedef struct store_failure {
    str id, reason;
} store_failure;
MUST_USE err store_failed(store_reader *r, size_t limit, arena *a, store_failure **out,
                          size_t *count);

/* Every row's (doc, rev, text_hash, embedded) in doc order; reads no texts. */
typedef struct store_brief {
    uint32_t doc;
    uint64_t rev, text_hash;
    bool embedded;
} store_brief;
MUST_USE err store_scan(store_reader *r, err (*visit)(void *ctx, const store_brief *b), void *ctx);
/* Every row whole, in doc order, from doc `from`; the row is valid during the visit. */
MUST_USE err store_scan_rows(store_reader *r, uint32_t from,
                             err (*visit)(void *ctx, const store_row *row), void *ctx);

typedef struct store_counts {
    uint64_t posts, threads, pending, failed;
} store_counts;
MUST_USE err store_count(store_reader *r, store_counts *out); /* cheap: kept, not counted */
uint64_t store_disk_bytes(store *s);

/* Reads all of the store at `path` (which nobody may have open) and changes nothing: the WAL's
 * frames, every page's checksum, the trees, the kept counts, every text against its hash. Each
 * problem goes to `report`, and then the answer is still OK; an error means that it could not look.
 */
MUST_USE err store_verify(const char *path, void (*report)(void *ctx, const char *problem),
                          void *ctx);

/* ---- messages in an arena: kith__v1__x__unpack(ARENA_PB(a), ...), and nothing to free ---- */

static inline void *arena_pb_alloc(void *ctx, size_t n) {
    return arena_alloc(ctx, n);
}
static inline void arena_pb_free(void *ctx, void *p) {
    (void)ctx, (void)p;
}
#define ARENA_PB(a) (&(ProtobufCAllocator){arena_pb_alloc, arena_pb_free, (a)})

#endif
