/* What the journal's files share: the format's constants, the scanner, the open journal. */
#ifndef KITH_JOURNAL_JOURNAL_INT_H
#define KITH_JOURNAL_JOURNAL_INT_H

#include "journal/journal.h"

/* --- format (journal_format.c; offsets and reasons are in its essay) ------------------------- */

#define HASH_BYTES ((size_t)JOURNAL_HASH_BYTES)
#define ID_BYTES   ((size_t)JOURNAL_ID_BYTES)

enum { FRAME_FIRST = 1, FRAME_LAST = 2, FRAME_REDACTED = 4, FRAME_FLAGS_ALL = 7 };

#define FRAME_HEADER   ((size_t)72)
#define FRAME_BODY_MIN HASH_BYTES /* room for the hash of a body that was erased */
#define FRAME_MIN      (FRAME_HEADER + FRAME_BODY_MIN)
#define FRAME_MAX      (FRAME_HEADER + JOURNAL_KEY_MAX + JOURNAL_BODY_MAX)

typedef struct frame {
    size_t bytes;
    uint64_t lsn;
    hlc time;
    uint16_t kind, region, flags;
    uint32_t group_index;
    const uint8_t *start; /* borrowed, `bytes` long */
    const uint8_t *prev;  /* HASH_BYTES */
    str key, body;
} frame;

/* The chain after a frame. */
typedef struct chain {
    uint8_t hash[HASH_BYTES];
} chain;

size_t frame_size(size_t key_bytes, size_t body_bytes);
/* The writer's two halves. frame_build (any thread): everything but what only the leader knows;
 * the body's hash and the tail's CRC wait in the places of the previous hash and the CRC. */
void frame_build(uint8_t *p, uint32_t seed, const journal_entry *e, uint16_t region,
                 uint16_t flags);
/* frame_seal (the leader): number, time, group index; moves *c on. Returns the frame's bytes. */
size_t frame_seal(uint8_t *p, uint64_t lsn, hlc time, uint32_t group_index, chain *c);

/* What the first FRAME_HEADER bytes say the frame's size is; 0 when they make no sense. */
size_t frame_peek(const uint8_t *p, uint64_t *lsn);
/* Reads a whole frame of frame_peek's size; false when its CRC or fields are wrong. */
bool frame_read(const uint8_t *p, size_t bytes, uint32_t seed, frame *out);
void frame_chain(const frame *f, chain *out);           /* the chain's value after f */
void frame_record(const frame *f, journal_record *out); /* as readers see it; borrows from f */

#define SEGMENT_HEADER  ((size_t)128)
#define SEGMENT_VERSION 1

typedef struct segment_header {
    uint8_t id[ID_BYTES];
    uint64_t first_lsn, prev_first_lsn; /* of the segment before; 0: none */
    hlc time;                           /* of the record before */
    uint64_t bytes;                     /* reserved size of the file */
    chain prev;
} segment_header;

void segment_header_write(uint8_t p[SEGMENT_HEADER], const segment_header *h);
/* ERR_CORRUPT or ERR_UNSUPPORTED; `name` for the detail. */
MUST_USE err segment_header_read(const uint8_t p[SEGMENT_HEADER], const char *name,
                                 segment_header *out);

#define MARK_SLOT   ((size_t)128)
#define MARK_STRIDE ((size_t)4096)
#define MARK_BYTES  (2 * MARK_STRIDE)
#define MARK_NAME   "MARK"
#define LOCK_NAME   "LOCK"

typedef struct mark {
    uint8_t id[ID_BYTES];
    uint64_t seq;
    uint64_t first_lsn; /* the oldest record kept */
    uint64_t lsn;       /* the last durable record */
    hlc time;
    uint64_t segment; /* first LSN of the segment that holds the end */
    uint64_t end;     /* offset there behind the record */
    chain hash;
} mark;

void mark_write_slot(uint8_t p[MARK_SLOT], const mark *m);
bool mark_read_slot(const uint8_t p[MARK_SLOT], mark *out);

err journal_crypto_init(void);
void journal_random_id(uint8_t id[ID_BYTES]);
uint32_t journal_seed(const uint8_t id[ID_BYTES]); /* where every CRC starts */

/* --- scanner (journal_scan.c) ---------------------------------------------------------------- */

typedef struct scanner {
    file *f;          /* borrowed */
    const char *name; /* of the file, for details; borrowed */
    uint32_t seed;
    uint64_t limit;  /* bytes of the file that may be looked at */
    uint64_t offset; /* of the next frame */
    uint64_t lsn;    /* its number */
    chain prev;      /* the chain before it, when `chained` */
    bool chained;
    uint8_t *buf;
    size_t cap, len;
    uint64_t at; /* offset of buf[0] */
} scanner;

void scanner_init(scanner *s, file *f, const char *name, uint32_t seed);
void scanner_deinit(scanner *s);
void scanner_seek(scanner *s, const segment_header *h); /* to the first frame */
/* The next frame, checked; borrowed until the next call. ERR_NOT_FOUND: a clean end (the limit, or
 * zeros). ERR_CORRUPT with what is wrong; the scanner stays. */
MUST_USE err scanner_next(scanner *s, frame *out);
/* Passes over frames before `lsn` by their headers alone. */
MUST_USE err scanner_skip_to(scanner *s, uint64_t lsn);
/* The first good frame behind the bad one at s->offset, with its number or a later one.
 * ERR_NOT_FOUND when there is none. */
MUST_USE err scanner_find(scanner *s, frame *out, uint64_t *offset);
/* A good frame of a write group that began behind the next record, anywhere in the rest: the
 * proof that the next record was durable once. ERR_NOT_FOUND: there is none. */
MUST_USE err scanner_find_later_group(scanner *s, frame *out);
/* The offset behind the last byte that is not zero in [from, limit); `from` when all are. */
MUST_USE err scanner_last_used(scanner *s, uint64_t from, uint64_t *out);

/* --- files of a directory (journal_segment.c) ------------------------------------------------ */

#define SEGMENT_NAME_BYTES 32 /* "00000000000000000001.seg" and its NUL */
#define SEGMENTS_MAX       ((size_t)1 << 20)
#define PATH_MAX_BYTES     (4 * KIB)

typedef struct segment {
    uint64_t first_lsn;
    hlc time;       /* of the record before its first */
    uint64_t bytes; /* of its file that hold records or its header */
} segment;

typedef struct dir_list {
    segment *items;
    size_t count, cap;
    char **temps; /* names to remove */
    size_t temp_count, temp_cap;
    arena text;
} dir_list;

void segment_name(uint64_t first_lsn, char out[SEGMENT_NAME_BYTES]);
bool segment_name_parse(const char *name, uint64_t *first_lsn);
/* dir/name, mem_free it; NULL when out of memory. */
char *journal_path(const char *dir, const char *name);
MUST_USE err dir_file_open(fs *disk, const char *dir, const char *name, unsigned flags, file **out);
MUST_USE err dir_list_read(fs *disk, const char *dir, dir_list *out);
void dir_list_deinit(dir_list *l);
/* Opens a segment and reads its header, which must be of this journal and number. */
MUST_USE err segment_open(fs *disk, const char *dir, uint64_t first_lsn, const uint8_t *id,
                          unsigned flags, file **out, segment_header *h);
/* Makes a segment under a temporary name, reserves it, syncs it, renames it. *broken tells that a
 * sync failed, or that the name may or may not be there: the journal must stop. */
MUST_USE err segment_create(fs *disk, const char *dir, const segment_header *h, file **out,
                            bool *broken);
/* Reads both slots; *bad counts damaged ones. ERR_NOT_FOUND: no file. ERR_CORRUPT: no good slot. */
MUST_USE err mark_read(fs *disk, const char *dir, mark *out, unsigned *bad);
MUST_USE err mark_create(fs *disk, const char *dir, const mark *m);
MUST_USE err mark_put(file *f, const mark *m); /* to the slot of its seq; not synced */

/* --- the open journal ------------------------------------------------------------------------ */

#define GROUP_BUFFER (256 * KIB)
#define GROUP_MAX    (8 * MIB) /* bytes of one write group, when more than one call is in it */
#define DETAIL_BYTES 256

typedef struct request {
    struct request *next;
    journal_done done; /* NULL: a thread waits */
    void *ctx;
    size_t bytes; /* of frames */
    uint32_t count;
    bool finished;
    err rc;
    uint64_t first, last;
    char detail[DETAIL_BYTES];
    uint8_t frames[];
} request;

/* Where the next record goes. */
typedef struct tail {
    uint64_t end; /* offset in the active segment */
    uint64_t lsn; /* of the last record */
    hlc time;
    chain hash;
} tail;

struct journal {
    /* immutable after opening */
    fs *disk;
    char *dir;
    journal_options opt;
    uint8_t id[ID_BYTES];
    uint32_t seed;
    file *lock_file;
    journal_recovery recovery;
    bool started; /* the committer runs */
    thread committer;

    /* owned by the leader: whoever set `leading` (opening and closing lead by nature) */
    file *active;
    uint64_t active_first;
    uint64_t active_limit; /* reserved size of the active segment */
    tail tail;
    bool tail_dirty;    /* bytes behind tail.end may be on disk: cut them before writing */
    bool tail_reserved; /* [0, active_limit) is reserved */
    file *mark_file;
    uint64_t mark_seq;
    uint8_t *group; /* GROUP_BUFFER bytes */

    mutex mu; /* guards all below */
    request *queue, **queue_end;
    size_t queue_bytes;
    uint32_t queue_waiters; /* threads among the queued calls */
    unsigned parity;        /* which `done` the queued calls wait on */
    bool leading, closing;
    uint32_t claims; /* calls that want to lead without a queued request */
    bool handed;     /* the lead is theirs: `leading` stays set */
    bool mark_dirty;
    uint64_t mark_due_ns;
    uint64_t mark_first_lsn;
    cond done[2];
    cond claimed;
    cond space;   /* the queue was taken */
    cond work;    /* for the committer */
    cond durable; /* the head moved, or the journal stopped */
    uint32_t durable_waiters;
    uint64_t wakes;
    segment *segments;
    size_t segment_count, segment_cap;
    tail head;         /* copy of `tail` as of the last commit */
    uint64_t head_lsn; /* atomic copy of head.lsn: release here, acquire in journal_head_lsn */
    journal_reader *readers;
    journal_stats stats;
    char stopped_detail[DETAIL_BYTES];
};

/* journal_append.c */
void journal_committer(void *arg);
void journal_stop(journal *j); /* for good; mu not held; takes the detail of this thread */
MUST_USE err journal_mark_now(journal *j, const tail *t); /* leader; writes, does not sync */
MUST_USE err journal_stopped_locked(journal *j); /* OK, or the sticky error with its detail */
MUST_USE err journal_lead_take(journal *j);      /* waits for the lead; fails when stopped */
void journal_lead_give(journal *j);
void journal_add_segment_locked(journal *j, segment s);
void detail_copy(char out[DETAIL_BYTES], const char *text);

#endif
