/* shard: the deterministic state machine. It owns one journal, the store and the indexes that are
 * folds of it, and the threads that fold.
 *
 *     shard *s;
 *     TRY(shard_open(&(shard_options){.fs = fs_real(), .dir = "data", .provider = p}, &s));
 *     TRY(shard_put(s, &item, 1, &lsn));                 // durable
 *     TRY(shard_wait(s, id, lsn, WAIT_SEARCHABLE, 2000));   // found by meaning too
 *
 * A record's way: journal (fsync, ack) -> apply thread: store transaction over a batch, commit,
 * then attrs and words under the words lock -> vectors by the vector thread under the vectors
 * lock. Texts without a vector wait in the store; the embed thread (ingest/) asks shard_pending,
 * embeds, and appends their vectors to the journal with shard_put_vectors.
 *
 * Spaces: beside the space that searches ask, others can be kept, each with its own graph, filled by their own
 * vectors of the same posts. A vector record names its space. See docs/providers.md.
 *
 * Locks, always in this order, none held across a call that blocks on disk; the first and the last are one for each
 * space, taken in the order of spaces:
 *     vec_writer (mutex: who plans and applies a graph change)
 *     words lock (rwlock over attrs, words, rev)
 *     vectors lock (rwlock over the graph)
 *
 * Files in the directory: LOCK, journal/…, user.keys, store.db (-wal, -shm), index.snap, space, and a
 * space-….snap of each further space. Losing a .snap or store.db loses nothing: both are made again from the journal. What users wrote is sealed in the journal by
 * the author's own key in user.keys, so losing that file loses all: it goes to the archive before the
 * records do.
 */
#ifndef KITH_SHARD_H
#define KITH_SHARD_H

#include "base/base.h"
#include "index/index.h"
#include "journal/journal.h"
#include "os/os.h"
#include "seal/keyring.h"
#include "store/store.h"
#include <kith/v1/record.pb-c.h>

typedef struct shard shard;

#define POST_ID_MAX    256
#define POST_TEXT_MAX  (64 * KIB)
#define POST_NAME_MAX  256 /* author, channel, tag, lang, reply_to */
#define POST_TAGS_MAX  32
#define POST_EXTRA_MAX (16 * KIB)

/* Flags of a document in attrs, beside those of attrs.h: it has tags; it names someone. */
#define SHARD_TAGGED  (1u << 4)
#define SHARD_MENTION (1u << 5)

#define SHARD_SPACES_MAX 4

typedef struct shard_space_options {
    const char *name;
    uint32_t dim;
} shard_space_options;

typedef struct shard_options {
    fs *fs;
    const char *dir;   /* made when missing, mode 0700 */
    const char *space; /* of the vectors that searches ask, and */
    uint32_t dim;      /* their dimension */
    bool change_space; /* the directory may have been another space's until now */
    shard_space_options more[SHARD_SPACES_MAX - 1]; /* kept beside it */
    unsigned more_count;
    unsigned readers;          /* store readers; 0: 4 */
    const seal_master *master; /* wraps the users' keys; NULL: none. Borrowed for the call */
    bool unsealed;             /* measuring only: new records are not sealed */
    /* Told during long work at open ("folding", done, total); may be NULL. */
    void (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total);
    void *progress_ctx;
    /* Told of what went wrong or was repaired, one line each; may be NULL. */
    void (*notice)(void *ctx, const char *text);
    void *notice_ctx;
    /* Told of each text that is deleted or replaced, on the apply thread: copies of what was made from it
     * must go. Must not block; may be NULL. */
    void (*forget)(void *ctx, str text);
    void *forget_ctx;
} shard_options;

MUST_USE err shard_open(const shard_options *o, shard **out);
void shard_close(shard *s); /* stops the folds, writes a snapshot when much changed */

/* ---- writes ---- */

typedef struct shard_item {
    const Kith__V1__Post *post;
    const float *vector; /* dim floats or NULL: to be embedded */
} shard_item;

/* The rules of a post (ids, lengths, UTF-8, NUL bytes, numbers): ERR_INVALID with the field. */
MUST_USE err shard_check_post(const Kith__V1__Post *post);
/* One append of all items: after a crash all are there or none. Posts must pass shard_check_post;
 * vectors are checked here (dimension is the caller's word; finite, not zero) and normalised. */
MUST_USE err shard_put(shard *s, const shard_item *items, size_t n, uint64_t *lsn);
MUST_USE err shard_delete(shard *s, str id, uint64_t *lsn); /* ERR_NOT_FOUND */
/* Appends a record of a kind that the shard's own folds do not read (interactions, audit). */
MUST_USE err shard_note(shard *s, uint16_t kind, str key, str body, uint64_t *lsn);
typedef struct shard_vector {
    str id;
    uint64_t text_hash;
    const float *vector; /* NULL: failed, with reason */
    str reason;
} shard_vector;
/* which: 0 the one that searches ask, from 1 on those of options.more. */
MUST_USE err shard_put_vectors(shard *s, unsigned which, const shard_vector *v, size_t n);

typedef enum shard_wait_for { WAIT_APPLIED, WAIT_SEARCHABLE } shard_wait_for;
/* WAIT_APPLIED: every record up to lsn is in store and words. WAIT_SEARCHABLE: the post `id` is
 * also in the graph (or cannot be: gone, or its embedding failed). ERR_TIMEOUT. */
MUST_USE err shard_wait(shard *s, str id, uint64_t lsn, shard_wait_for what, uint64_t timeout_ms);
/* True when the same post is already stored and, where a vector is given, that one is in the graph (a
 * cosine of SHARD_SAME_COSINE or more with it): a put would change nothing. */
bool shard_has_same(shard *s, const Kith__V1__Post *post, const float *vector, uint64_t *lsn);
#define SHARD_SAME_COSINE 0.9999f /* the graph keeps half precision: a vector's own is 1 - 1e-6 */

/* ---- reads ---- */

store *shard_store(shard *s);
journal *shard_journal(shard *s);
keyring *shard_keyring(shard *s);
const char *shard_space(const shard *s);
uint64_t shard_lsn(shard *s);  /* applied to store and words */
uint64_t shard_head(shard *s); /* durable in the journal */
uint32_t shard_dim(const shard *s);

/* The indexes behind words. rev[doc] is the row's revision that they hold, 0 for a free doc; a row
 * read from the store with another rev is of another time: drop the hit. */
typedef struct shard_words {
    const attrs *attrs;
    const lexical *words;
    const uint64_t *rev;
    uint32_t doc_limit;
    uint64_t lsn;
} shard_words;
void shard_words_begin(shard *s, shard_words *out);
void shard_words_end(shard *s);

/* The graph of a space; one at a time. */
unsigned shard_space_count(const shard *s);
const char *shard_space_name(const shard *s, unsigned which);
uint32_t shard_space_dim(const shard *s, unsigned which);
const hnsw *shard_space_begin(shard *s, unsigned which);
void shard_space_end(shard *s, unsigned which);

/* The same of the first. */
const hnsw *shard_vectors_begin(shard *s);
void shard_vectors_end(shard *s);

/* ---- upkeep ---- */

/* Waits up to timeout_ms for texts without a vector; then up to `limit` of them, or none. Fresh
 * ones first, and old ones in between, so that neither starves. */
MUST_USE err shard_pending(shard *s, size_t limit, uint64_t timeout_ms, arena *a, store_row **rows,
                           size_t *count);
typedef struct shard_rows {
    store_row *items; /* in the arena */
    size_t count;
} shard_rows;
/* The same of a further space: those with the greatest document numbers first, then round and round. None while
 * vectors of it are still read from the journal. */
MUST_USE err shard_space_pending(shard *s, unsigned which, size_t limit, uint64_t timeout_ms,
                                 arena *a, shard_rows *out);
MUST_USE err shard_snapshot(shard *s); /* now, and waits for it */

typedef struct shard_stats {
    uint64_t posts, threads, pending, failed, vectors;
    uint64_t head_lsn, store_lsn, words_lsn, vectors_lsn;
    double store_lag_s, vectors_lag_s, embed_lag_s;
    bool journal_stopped; /* it refuses appends for good: the disk failed */
    uint64_t journal_disk, store_disk, snapshot_disk;
    uint64_t words_memory, attrs_memory, vectors_memory, other_memory;
    uint64_t snapshot_lsn;
    double snapshot_age_s; /* negative: none yet */
} shard_stats;
MUST_USE err shard_stat(shard *s, shard_stats *out);

typedef struct shard_space_stats {
    uint64_t vectors, pending, failed, memory;
} shard_space_stats;
/* Texts of a further space that failed are missing again. */
void shard_space_retry(shard *s, unsigned which);
void shard_space_stat(shard *s, unsigned which, shard_space_stats *out);

/* All that the shard holds as one number: every row and its vector. Waits until everything that the journal
 * has is folded. Two shards made of the same records have the same. */
typedef struct shard_state {
    uint64_t hash, posts, vectors;
} shard_state;
MUST_USE err shard_state_get(shard *s, uint64_t timeout_ms, shard_state *out);

/* ---- users (shard_users.c) ---- */

typedef struct shard_erasure {
    uint64_t lsn, posts; /* of the record; how many posts are gone */
    int64_t time_ms;
    char signature[2 * SEAL_SIGNATURE + 1]; /* hex, over "kith erasure USER LSN TIME_MS POSTS" */
} shard_erasure;
/* Deletes every post of the user and destroys the user's key, so that journal, archive and copies of them
 * cannot be read any more; returns when store, words, graph and snapshot are scrubbed here. `who` and
 * `from` go into the audit record. ERR_NOT_FOUND: nothing is known of the user. */
MUST_USE err shard_erase_user(shard *s, str user, str who, shard_erasure *out);
/* Everything that is held on a user, post by post, with its vector in each space (NULL: none yet). */
typedef err (*shard_export_visit)(void *ctx, const store_row *row,
                                  const float *const vectors[SHARD_SPACES_MAX]);
MUST_USE err shard_export_user(shard *s, str user, shard_export_visit visit, void *ctx);
/* An audit record: {"what","who","outcome", and detail: members of JSON or ""}. Durable when it returns. */
MUST_USE err shard_audit(shard *s, const char *what, str who, const char *outcome, str detail,
                         uint64_t *lsn);

/* Every file in the directory, without opening the shard; each problem to `report`. That the master key
 * (NULL: none) is missing or another is one too: then user.keys cannot be checked. */
MUST_USE err shard_verify(fs *fs, const char *dir, const seal_master *master,
                          void (*report)(void *ctx, const char *file, const char *problem),
                          void *ctx, uint64_t *files_checked);

#endif
