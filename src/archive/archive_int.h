/* What the files of archive/ share. */
#ifndef KITH_ARCHIVE_INT_H
#define KITH_ARCHIVE_INT_H

#include "archive/archive.h"
#include "journal/journal.h"
#include "object/object.h"
#include "seal/keyring.h"

#define PART_MAX   (8 * MIB)  /* bytes of frames in a part; one frame may go over */
#define CHUNK_MAX  (16 * MIB) /* of a file in a snapshot */
#define RAW_MAX    (40 * MIB) /* of any object before it is compressed */
#define NAME_BYTES 128

/* ---- codec.c ---- */
MUST_USE err codec_pack(const uint8_t key[SEAL_KEY], const char *name, str raw, strbuf *out);
MUST_USE err codec_unpack(const uint8_t key[SEAL_KEY], const char *name, str packed, uint8_t **out,
                          size_t *n);

/* ---- vault.c: an archive that is open ---- */
typedef struct vault {
    object_store *store;
    uint8_t key[SEAL_KEY];
    uint8_t journal_id[JOURNAL_ID_BYTES];
    char space[256];
    uint64_t bytes; /* sent */
} vault;
typedef struct vault_options {
    const char *url;
    const seal_master *master;
    const uint8_t
        *journal_id; /* NULL: it must exist; else it is made, or must be of this journal */
    const char *space;
    object_options object;
} vault_options;
MUST_USE err vault_open(const vault_options *o, vault *out);
void vault_close(vault *v); /* zeros are fine; keeps the detail of an error */
MUST_USE err vault_put(vault *v, const char *name, str raw, object_mode mode);
MUST_USE err vault_get(vault *v, const char *name, uint8_t **out, size_t *n);

/* Names under a prefix, in order, without it. */
typedef struct name_list {
    const char **items;
    size_t count, cap;
    uint64_t bytes; /* of the objects */
    size_t skip;
    arena mem;
} name_list;
MUST_USE err vault_names(vault *v, const char *prefix, name_list *out);
void name_list_deinit(name_list *l);

/* ---- part.c: pieces of the journal ---- */
typedef struct part {
    uint64_t first, last;
    uint64_t bytes; /* of its frames; 0: not known, as names do not tell */
} part;
typedef struct part_head { /* in front of the frames */
    uint64_t first, last;
    hlc first_time, last_time;
    uint8_t before[JOURNAL_HASH_BYTES], after[JOURNAL_HASH_BYTES];
} part_head;
#define PART_HEAD ((size_t)96)
typedef struct part_list {
    part *items;
    size_t count, cap;
} part_list;
void part_name(part p, char out[NAME_BYTES]);
void part_head_write(const part_head *h, uint8_t out[PART_HEAD]);
MUST_USE err part_head_read(const uint8_t *p, size_t n, const char *name, part_head *out);
/* The fewest parts that hold every record from 1 on, in order. ERR_CORRUPT: one is missing, but for
 * the end. */
MUST_USE err part_list_read(vault *v, part_list *out);
void part_list_deinit(part_list *l);
/* Reads one; *frames points into *own, which is mem_free'd by the caller. */
MUST_USE err part_get(vault *v, part p, uint8_t **own, part_head *h, str *frames);
MUST_USE err part_get_head(vault *v, part p, part_head *h); /* reads all of it, too */

/* ---- manifest.c ---- */
#define MANIFEST_FILES 4
typedef struct manifest_file {
    char name[32];
    uint64_t bytes;
    uint32_t chunks;
    uint8_t hash[32];
} manifest_file;
typedef struct manifest {
    char id[64], version[32];
    uint64_t lsn, store_lsn, index_lsn;
    int64_t time_ms;
    journal_position anchor; /* a record and the chain behind it */
    manifest_file files[MANIFEST_FILES];
    uint32_t file_count;
} manifest;
MUST_USE err manifest_put(vault *v, const manifest *m);
MUST_USE err manifest_get(vault *v, const char *id, manifest *out);
MUST_USE err manifest_delete(vault *v, const char *id); /* it first, then its chunks */
void chunk_name(const char *id, const char *name, uint32_t chunk, char out[NAME_BYTES]);

/* ---- ledger.c: erasures ---- */
typedef struct erasure {
    uint64_t lsn;
    hlc time;
    uint32_t entry;
    bool has_entry;
    char user[POST_NAME_MAX + 1];
} erasure;
typedef struct erasure_list {
    erasure *items;
    size_t count, cap;
} erasure_list;
MUST_USE err erasure_of(const journal_record *r, erasure *out); /* of a JOURNAL_USER_ERASE record */
MUST_USE err erasure_put(vault *v, const erasure *e);
MUST_USE err erasure_list_read(vault *v, erasure_list *out); /* in order */
void erasure_list_deinit(erasure_list *l);

/* ---- snapshot.c ---- */
typedef struct snapshot_source {
    vault *v;
    shard *shard;
    const char *dir, *version;
} snapshot_source;
MUST_USE err snapshot_make(const snapshot_source *s, manifest *out);
/* What a snapshot's name says; false: it is not one of ours. */
MUST_USE bool snapshot_id_lsn(const char *id, uint64_t *lsn);
MUST_USE bool snapshot_id_time(const char *id, int64_t *ms);
/* Deletes every snapshot of before `lsn`. */
MUST_USE err snapshot_drop_before(vault *v, uint64_t lsn);

#endif
