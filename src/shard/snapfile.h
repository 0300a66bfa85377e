/* snapfile: the container of an index snapshot: named sections of bytes, each with a checksum.
 *
 * Layout, little-endian:
 *     sections, one behind another, each filled up with zeros to a multiple of 64 bytes
 *     table: per section  tag[8]  offset u64  size u64 (without the fill)  crc u32 (with it)  0 u32
 *     footer (64 bytes): "KITHSNAP"  version u32  sections u32  lsn u64  journal id[16]
 *                        table offset u64  table crc u32  0 u32[2]  footer crc u32
 * The footer is last because sizes are known only then: one pass, no seeking back, and a file that
 * was cut has no footer. Every byte is under a CRC-32C.
 *
 * Errors: ERR_CORRUPT names the file and what is wrong, ERR_UNSUPPORTED a newer version.
 */
#ifndef KITH_SHARD_SNAPFILE_H
#define KITH_SHARD_SNAPFILE_H

#include "base/base.h"
#include "os/os.h"

#define SNAPFILE_SECTIONS_MAX 16
#define SNAPFILE_ID_BYTES     16

typedef struct snapfile_writer snapfile_writer;

/* Writes path.tmp; finish syncs it and renames it to path; abort removes it. */
MUST_USE err snapfile_create(fs *fs, const char *path, snapfile_writer **out);
/* Starts a section; tag has 1 to 8 bytes. The writer is valid until the next section. */
MUST_USE err snapfile_section(snapfile_writer *w, const char *tag, writer *out);
MUST_USE err snapfile_finish(snapfile_writer *w, uint64_t lsn, const uint8_t id[SNAPFILE_ID_BYTES]);
void snapfile_abort(snapfile_writer *w);

typedef struct snapfile {
    file_map map;
    uint64_t lsn;
    uint8_t id[SNAPFILE_ID_BYTES];
    uint32_t count;
    struct {
        char tag[9];
        const uint8_t *ptr;
        size_t size;
    } sections[SNAPFILE_SECTIONS_MAX];
} snapfile;

/* Maps the file and checks every byte. ERR_NOT_FOUND when there is none. */
MUST_USE err snapfile_open(fs *fs, const char *path, snapfile *out);
void snapfile_close(snapfile *s);
/* The bytes of a section; ERR_CORRUPT when it is missing. */
MUST_USE err snapfile_get(const snapfile *s, const char *tag, const uint8_t **p, size_t *size);
/* The same over bytes in memory (fuzzer, tests). `name` is for messages. */
MUST_USE err snapfile_parse(const uint8_t *p, size_t size, const char *name, snapfile *out);

#endif
