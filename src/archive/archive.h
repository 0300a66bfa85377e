/* archive: the fold that keeps all of a shard elsewhere, and what is made of it: restore, list, verify,
 * prune.
 *
 *     archive *a;
 *     TRY(archive_start(&(archive_options){.url = "s3://b/kith", .master = &m, .shard = s, ...}, &a));
 *     archive_request(a);                       // a snapshot, soon
 *     archive_stop(a);                          // sends what is left
 *
 *     TRY(archive_restore(&(restore_options){.url = ..., .into = "new", .master = &m}, &result));
 *
 * An archive holds, every object compressed and sealed (codec.c):
 *     archive.json                    which journal, which space, the data key, wrapped
 *     journal/FIRST-LAST              frames of the journal, without a gap from record 1 on
 *     keys/header, keys/BLOCK         the users' keys, renewed in place: a destroyed key goes here too
 *     erasures/LSN                    the ledger of erasures
 *     snap/ID/NAME.N, manifests/ID    snapshots (store, index, API keys) and their signed manifests
 * New records go there within a second (parts), later they are merged. A snapshot only saves time: the
 * journal alone gives back everything. So after an erasure older snapshots, which hold the text, are
 * deleted, and a restore never uses a snapshot from before an erasure.
 *
 * Errors name the object. ERR_DENIED: another master key. ERR_CORRUPT: bytes that are not what was put.
 * Threads: archive_* of one archive from any; the others block their caller.
 */
#ifndef KITH_ARCHIVE_H
#define KITH_ARCHIVE_H

#include "seal/seal.h"
#include "shard/shard.h"

typedef struct archive archive;

typedef struct archive_options {
    const char *url;
    const seal_master *master; /* copied */
    const char *dir;           /* of the shard; a copy of the store is made there for a while */
    const char *version;       /* of the program, for manifests */
    shard *shard;
    uint64_t snapshot_records; /* a snapshot after so many records; 0: 1,000,000 */
    uint32_t snapshot_hours;   /* or after so long; 0: 24 */
    void (*notice)(void *ctx, const char *text);
    void *ctx;
} archive_options;

/* Starts its threads; the storage need not answer yet. */
MUST_USE err archive_start(const archive_options *o, archive **out);
void archive_stop(archive *a); /* waits up to 15 s for the rest to go; NULL is fine */
void archive_request(archive *a);

typedef struct archive_stats {
    uint64_t lsn;          /* the last record that is safe there */
    double lag_s;          /* age of the oldest record that is not; 0: none */
    uint64_t parts, bytes; /* sent since the start */
    uint64_t snapshot_lsn; /* of the last good snapshot; 0: none yet */
    int64_t snapshot_ms;   /* when, since 1970 */
    uint64_t failures;
    bool connected;
} archive_stats;
void archive_stats_get(archive *a, archive_stats *out);

/* ---- from an archive ---- */

typedef struct restore_options {
    const char *url, *into;
    const seal_master *master;
    uint64_t to_lsn;    /* 0: no limit */
    int64_t to_time_ms; /* 0: no limit */
    bool no_snapshot;   /* fold from the first record */
    void (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total);
    void (*notice)(void *ctx, const char *text);
    void *ctx;
} restore_options;
typedef struct restore_result {
    uint64_t lsn, records, bytes, snapshot_lsn; /* bytes: written; snapshot_lsn 0: none was used */
    int64_t time_ms;                            /* of the last record */
    uint64_t erasures;                          /* replayed */
    double seconds;
    char space[256];
} restore_result;
/* ERR_EXISTS: `into` is there and not empty. Nothing appears under `into` unless all is well. */
MUST_USE err archive_restore(const restore_options *o, restore_result *out);

typedef struct archive_entry {
    const char *id;
    uint64_t lsn, bytes;
    int64_t time_ms;
    bool usable; /* no erasure came later */
} archive_entry;
typedef struct archive_summary {
    uint64_t first_lsn, last_lsn, parts, objects, bytes, snapshots, erasures, problems;
    int64_t first_ms, last_ms; /* times of the first and last record */
} archive_summary;
typedef struct check_options {
    const char *url;
    const seal_master *master;
    bool deep;                                        /* read every byte; else names and the ends */
    void (*entry)(void *ctx, const archive_entry *e); /* may be NULL */
    void (*problem)(void *ctx, const char *object, const char *text); /* may be NULL */
    void (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total);
    void *ctx;
} check_options;
/* OK also when there are problems: out->problems counts them. */
MUST_USE err archive_check(const check_options *o, archive_summary *out);

/* Deletes snapshots beyond the newest `keep` that are older than `days`; never the last good one, which
 * is read whole first. */
MUST_USE err archive_prune(const char *url, const seal_master *m, uint32_t keep, uint32_t days,
                           uint64_t *deleted);

#endif
