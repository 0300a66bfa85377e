/* Inside of shard/: the state that its files share, grouped by what guards it. */
#ifndef KITH_SHARD_INT_H
#define KITH_SHARD_INT_H

#include "journal/journal.h"
#include "obs/metrics.h"
#include "shard/shard.h"

enum {
    APPLY_RECORDS_MAX = 512,   /* of one store transaction: 256 was 3 % slower, 1,024 no faster */
    APPLY_BYTES_MAX = 8 << 20, /* bodies of one transaction */
    VECTOR_QUEUE_MAX = 1024,   /* vectors on their way to the graph, */
    PLAN_BATCH_MAX = 32,       /* of them planned side by side, */
    PLAN_ALONE = 64,           /* batches without helpers after waiting long for one, */
    PLAN_HELPERS_MAX = 3,      /* by so many threads besides the one that links */
    SNAPSHOT_RECORDS = 50000,  /* a snapshot after so many records, */
    SNAPSHOT_IDLE_MS = 300000, /* or so long after the first record it lacks, */
    SNAPSHOT_ERASE_MS = 5000,  /* or so soon after a delete, which must leave the file, */
    SNAPSHOT_SPARE = 20,       /* but never more than one 20th of the time */
    RETRY_MS = 500             /* between tries when the disk or memory is full */
};

typedef struct vector_job {
    uint32_t doc;
    uint64_t text_hash;
    float *vector; /* owned */
} vector_job;

/* Drafts of a batch of vectors, made by the vectors thread and its helpers. */
typedef struct vector_plans {
    pool *helpers; /* NULL on a single core */
    unsigned helper_count;
    unsigned alone; /* batches still to be planned without them: the cores are busy elsewhere */
    vector_job jobs[PLAN_BATCH_MAX];
    err rc[PLAN_BATCH_MAX];
    hnsw_draft *drafts[PLAN_BATCH_MAX];
    hnsw_scratch *scratch[PLAN_HELPERS_MAX + 1];
    unsigned count;
    unsigned next; /* atomic: the job that is planned next */
    /* guarded by mu */
    mutex mu;
    cond done;
    bool open; /* a helper that comes may begin: one that the system lets run too late does not */
    unsigned asked; /* helpers called that have not come yet */
    unsigned turn;  /* helpers that began in this batch: each has its own scratch */
    unsigned busy;  /* helpers at work */
} vector_plans;

/* What the graph holds of a document, by doc; guarded by the space's writer. */
typedef struct vector_state {
    uint64_t want; /* text hash of the live version; 0: no such doc */
    uint64_t have; /* text hash of the vector in the graph; 0: none */
    bool failed;   /* the wanted text cannot be embedded */
    bool coming;   /* its vector is in the journal and on its way into the graph */
} vector_state;

/* The vectors of one space, and the thread that brings them into its graph. */
typedef struct space {
    /* immutable after opening */
    struct shard *s;
    char *name;
    char *snap_path; /* of a space beside the first, whose graph is in the index snapshot */
    uint32_t dim;

    /* guarded by vectors_lock; changed only by who also holds vec_writer */
    rwlock vectors_lock;
    hnsw *vectors;

    /* guarded by vec_writer */
    mutex vec_writer;
    vector_state *vec;
    size_t vec_cap;
    uint32_t missing; /* documents that need a vector which nobody has made yet */
    uint32_t failed;
    uint32_t look_at; /* where the search for the missing goes on, downwards */

    vector_plans *plans; /* the thread's */

    /* guarded by the shard's mu */
    vector_job queue[VECTOR_QUEUE_MAX];
    size_t queue_head, queue_count;
    bool busy;             /* jobs were taken and are not in the graph yet */
    uint64_t snapshot_lsn; /* up to which its snapshot knows the journal */
    bool behind;           /* vectors after that may be in the journal */

    thread t;
    bool on;
} space;

struct shard {
    /* immutable after opening */
    shard_options o;
    char *dir, *snap_path;
    space spaces[SHARD_SPACES_MAX]; /* the first is the one that searches ask */
    unsigned space_count;
    journal *journal;
    store *store;
    keyring *keys;

    /* guarded by words_lock */
    rwlock words_lock;
    attrs *attrs;
    lexical *words;
    uint64_t *rev;
    size_t rev_cap;
    uint32_t doc_limit;

    /* guarded by gate: held while a batch is applied or vectors are brought back, so that whoever
     * takes it sees a state between two batches */
    mutex gate;

    /* guarded by mu */
    mutex mu;
    cond moved; /* something below moved */
    uint64_t applied_lsn;
    hlc applied_time;
    bool catching_up; /* old vectors are being read from the journal */
    bool closing;
    uint64_t change_lsn;            /* applied, since the last snapshot: 0 none */
    uint64_t changed_ns, erased_ns; /* when the first change and delete since then came; 0 none */
    uint64_t snapshot_lsn, snapshot_ns, snapshot_took_ns, snapshot_bytes;
    bool erase_traces; /* the store's log still holds a deleted text */
    bool rebind;       /* while opening: the store's marks are of another space */

    unsigned pending_turn; /* atomic: every fourth batch of pending texts is the oldest */

    thread apply_thread, keep_thread, catch_thread;
    bool apply_on, keep_on, catch_on;
};

void shard_notice(shard *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool shard_closing(shard *s);
/* Sleeps RETRY_MS or until closing. */
void shard_pause(shard *s);

/* Where a request's trace stands in a record; it goes on in the folds. */
enum { TRACE_BYTES = 24 };
static inline ProtobufCBinaryData shard_trace_pack(const trace_context *c,
                                                   uint8_t out[TRACE_BYTES]) {
    const uint64_t parts[] = {c->trace.hi, c->trace.lo, c->span};
    for (size_t i = 0; i < TRACE_BYTES; i++) out[i] = (uint8_t)(parts[i / 8] >> (56 - 8 * (i % 8)));
    return (ProtobufCBinaryData){TRACE_BYTES, out};
}
static inline trace_context shard_trace_unpack(ProtobufCBinaryData b) {
    uint64_t parts[3] = {0, 0, 0};
    for (size_t i = 0; b.len == TRACE_BYTES && i < TRACE_BYTES; i++)
        parts[i / 8] = parts[i / 8] << 8 | b.data[i];
    return (trace_context){{parts[0], parts[1]}, parts[2], b.len == TRACE_BYTES};
}

/* shard_apply.c */
void shard_apply_main(void *arg);
/* Folds a vector's record, or its failure, into the store again. In a transaction. */
MUST_USE err shard_store_vector(shard *s, const journal_record *r, arena *a);
/* Folds the journal into the store alone, up to its head, when opening. */
MUST_USE err shard_apply_store(shard *s);
/* Puts one row into words and attrs (replacing what doc had); retries on no memory. */
MUST_USE err shard_index_row(shard *s, uint32_t doc, const Kith__V1__Post *post, uint64_t rev,
                             arena *a);
void shard_unindex(shard *s, uint32_t doc);
MUST_USE err shard_docs_reserve(shard *s, uint32_t doc);

/* shard_users.c */
#define SEAL_AD_MAX (JOURNAL_KEY_MAX + 8)
/* What is checked with a sealed body: kind and key of its record. */
str shard_seal_ad(uint16_t kind, str key, uint8_t out[SEAL_AD_MAX]);
/* Bodies of other kinds may begin with any byte: they are never sealed by a user's key. */
bool shard_is_sealed(const journal_record *r);
/* Opens a sealed body into the arena; a body whose key was destroyed becomes a redacted record. */
MUST_USE err shard_unseal(shard *s, arena *a, journal_record *r);
/* Folds an erasure: the user's posts leave the store, the key is destroyed. *docs in the arena. */
MUST_USE err shard_store_erase(shard *s, const journal_record *r, arena *a, uint32_t **docs,
                               size_t *count);

/* shard_vectors.c */
MUST_USE err shard_plans_open(bool helpers, vector_plans **out);
void shard_plans_close(vector_plans *p); /* NULL is fine */
void shard_vec_main(void *arg);          /* a space */
MUST_USE err shard_vec_push(space *sp, uint32_t doc, uint64_t text_hash, const uint8_t *f16,
                            size_t size);
/* From now on doc wants the vectors of this text (0: none), in every space; others leave the graphs. */
MUST_USE err shard_vec_want(shard *s, uint32_t doc, uint64_t text_hash);
void shard_vec_failed(space *sp, uint32_t doc, uint64_t text_hash);
void shard_vec_forgive(space *sp,
                       vector_state *v);       /* a failed text may be tried again; writer held */
bool shard_vec_lacking(const vector_state *v); /* a vector that nobody has made yet */
/* A record of a vector (unsealed) or of its failure, for the graph that lacks it. */
MUST_USE err shard_vec_record(shard *s, const journal_record *rec, arena *a);
/* True when a vector is on its way into some graph. mu is held. */
bool shard_vec_busy(const shard *s);
/* Reads vectors that the graph lacks from the journal. */
void shard_catch_main(void *arg);

/* shard_spaces.c */
MUST_USE err shard_spaces_init(shard *s); /* names and locks; plans and graphs come later */
MUST_USE err shard_spaces_start(shard *s);
void shard_spaces_join(shard *s);
void shard_spaces_deinit(shard *s);
bool shard_space_file(const char *name); /* a snapshot of a space beside the first */
/* Snapshots of spaces that are not open are removed: erased texts must not stay in them. */
void shard_spaces_sweep(shard *s);
/* The space of this name; NULL: none that is open. */
space *shard_space_find(shard *s, str name);
/* The directory becomes that of the first space when another was it: the store's marks of what is embedded are
 * made anew from the journal. */
MUST_USE err shard_space_bind(shard *s);
MUST_USE err shard_space_rebind(shard *s);

/* shard_snapshot.c */
void shard_keep_main(void *arg);
MUST_USE err shard_load(shard *s); /* indexes from the files, or empty ones */
MUST_USE err shard_reconcile(shard *s);
MUST_USE err shard_snapshot_write(shard *s);

#endif
