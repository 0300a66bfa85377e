/* Hostile directories: a segment and a mark made from the input are verified, opened, read and
 * appended to.
 *
 * The first byte chooses how the rest becomes a segment:
 *   0  the bytes as they are
 *   1  the bytes with every CRC made good, so that what is behind the checksums is reached
 *   2  a good segment with edits: (offset u16, xor u8) triples; an offset over its size cuts it
 * The second byte chooses the mark: of the beginning, of the end of the good segment, or absent.
 *
 * Beside not crashing it must hold: what verify calls whole opens and reads to the end; after an
 * opening that succeeded the directory is whole, takes an append, and is whole again.
 */
#include "journal/journal_int.h"
#include "os/sim.h"

#define IMAGE_MAX (64 * KIB)
#define RECORDS   6

static const uint8_t the_id[ID_BYTES] = "fuzzfuzzfuzzfuz";

static void header_good(uint8_t *p, size_t bytes) {
    segment_header h = {.first_lsn = 1, .bytes = bytes};
    memcpy(h.id, the_id, ID_BYTES);
    segment_header_write(p, &h);
}

/* A good segment of RECORDS records in two calls and two groups; returns its end. */
static size_t image_good(uint8_t *p, mark *end) {
    header_good(p, 4096);
    size_t at = SEGMENT_HEADER;
    chain c = {{0}};
    for (uint64_t i = 0; i < RECORDS; i++) {
        journal_entry e = {
            .kind = 1, .key = STR("key"), .body = STR("a body of some bytes, more than 32")};
        uint16_t flags = (uint16_t)((i % 3 == 0 ? FRAME_FIRST : 0) | (i % 3 == 2 ? FRAME_LAST : 0));
        frame_build(p + at, journal_seed(the_id), &e, 1, flags);
        at += frame_seal(p + at, i + 1, 1000 + i, (uint32_t)(i % 3), &c);
    }
    *end = (mark){.seq = 3, .first_lsn = 1, .lsn = RECORDS, .segment = 1, .end = at, .hash = c};
    memcpy(end->id, the_id, ID_BYTES);
    return at;
}

static void make_crcs_good(uint8_t *p, size_t n) {
    header_good(p, 4096);
    for (size_t at = SEGMENT_HEADER; n - at >= FRAME_MIN;) {
        uint64_t lsn;
        size_t bytes = frame_peek(p + at, &lsn);
        if (bytes == 0 || bytes > n - at) return;
        uint32_t crc = crc32c(journal_seed(the_id), p + at + FRAME_HEADER, bytes - FRAME_HEADER);
        crc = crc32c(crc32c(crc, p + at, 4), p + at + 8, FRAME_HEADER - 8);
        le32_put(p + at + 4, crc);
        at += bytes;
    }
}

static size_t image_make(uint8_t *image, const uint8_t *in, size_t n, unsigned mode, mark *end) {
    size_t good = image_good(image, end);
    if (mode == 2) {
        size_t size = 4096;
        memset(image + good, 0, size - good);
        for (; n >= 3; in += 3, n -= 3) {
            size_t at = le16_get(in);
            if (at < size) image[at] ^= in[2];
            if (at >= size) size = at % (size + 1);
        }
        return size;
    }
    n = MIN(n, IMAGE_MAX);
    memset(image, 0, IMAGE_MAX);
    memcpy(image, in, n);
    if (mode == 1 && n >= SEGMENT_HEADER + FRAME_MIN) make_crcs_good(image, n);
    return n;
}

static void need(err rc) {
    KITH_ASSERT(rc == OK);
}

static void read_through(journal *j, bool whole) {
    journal_reader *r;
    journal_record rec;
    need(journal_reader_open(j, 0, &r));
    err rc;
    uint64_t n = 0;
    while ((rc = journal_read(r, &rec)) == OK) {
        KITH_ASSERT(rec.key.len <= JOURNAL_KEY_MAX && rec.body.len <= JOURNAL_BODY_MAX);
        KITH_ASSERT(++n == rec.lsn);
    }
    KITH_ASSERT(rc == ERR_NOT_FOUND || !whole);
    KITH_ASSERT(rc != ERR_NOT_FOUND || n == journal_head_lsn(j));
    journal_reader_close(r);
}

static void exercise(fs *disk) {
    journal *j;
    uint64_t first, last;
    bool whole = journal_verify(disk, "j", NULL, NULL, NULL) == OK;
    journal_options o = {.segment_bytes = 4096};
    err rc = journal_open(disk, "j", &o, &j);
    KITH_ASSERT(rc == OK || !whole);
    if (rc != OK) return;
    read_through(j, true);
    journal_entry e = {.kind = 2, .body = STR("new")};
    uint64_t head = journal_head_lsn(j);
    need(journal_append(j, &e, 1, &first, &last));
    KITH_ASSERT(first == head + 1);
    read_through(j, true);
    journal_close(j);
    need(journal_verify(disk, "j", NULL, NULL, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n) {
    static uint8_t image[IMAGE_MAX];
    if (n < 2) return 0;
    need(journal_crypto_init());
    fs *disk;
    mark end, begin = {.first_lsn = 1, .segment = 1, .end = SEGMENT_HEADER};
    size_t size = image_make(image, in + 2, n - 2, in[0] % 3, &end);
    memcpy(begin.id, the_id, ID_BYTES);
    need(fs_sim_open(&disk));
    need(fs_sim_put(disk, "j/00000000000000000001.seg", image, size));
    if (in[1] % 3 != 2) need(mark_create(disk, "j", in[1] % 3 ? &end : &begin));
    exercise(disk);
    fs_sim_close(disk);
    return 0;
}
