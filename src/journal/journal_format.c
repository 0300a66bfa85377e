/* The bytes of the journal. All numbers are little-endian; all layouts are by byte offset.
 *
 * A directory holds LOCK (whose holder owns it), MARK, and segments named by the number of their
 * first record, "00000000000000000001.seg". A segment is a header and frames, then zeros up to its
 * reserved size. A frame never spans segments, and neither does one append call.
 *
 *   frame (one record), a multiple of 8 bytes
 *     0  u32  bytes of the frame
 *     4  u32  CRC-32C of bytes 72.., then 0..3, then 8..71, starting from the journal's seed
 *     8  u64  LSN
 *    16  u64  HLC time
 *    24  u16  kind
 *    26  u16  region
 *    28  u16  flags: 1 first, 2 last record of its append call, 4 body erased
 *    30  u16  bytes of the key, at most 1,024
 *    32  u32  bytes of the body, at most 4 MiB
 *    36  u32  index in its write group
 *    40  32   chain: hash of the record before
 *    72       key, body, zeros; the body's room is at least 32 bytes
 *
 *   segment header, 128 bytes              mark, two slots of 128 bytes at 0 and 4,096
 *     0  u64  "KITHSEG1"                     0  u64  "KITHMRK1"
 *     8  u32  version 1                      8  u32  version 1
 *    12  u32  128                           12  u32  0
 *    16  16   journal id                    16  16   journal id
 *    32  u64  LSN of the first record       32  u64  sequence number; its parity is the slot
 *    40  u64  HLC of the record before      40  u64  LSN of the oldest record kept
 *    48  u64  reserved size                 48  u64  LSN of the last durable record
 *    56  32   chain before the first        56  u64  its HLC
 *    88  u64  first LSN of the segment      64  u64  first LSN of its segment
 *             before, 0: none               72  u64  offset behind it
 *    96  28   zeros                         80  32   chain after it
 *   124  u32  CRC-32C of 0..123            112  12   zeros
 *                                          124  u32  CRC-32C of 0..123
 *
 * Why so:
 *  1. The CRC finds accidents; the chain, BLAKE2b-256 (RFC 7693) of each record in the next, finds
 *     removals and edits that were done with care, and a stale frame of an earlier life of this
 *     file. 32 bytes, not 16: an auditor relies on it, and it costs 2 % of a 700-byte record.
 *  2. The chain covers number, time, kind, region, call flags, the key and the *hash* of the
 *     body, so a body can be erased later (its hash takes its place) and the chain still holds.
 *     It does not cover the group index: two copies of a journal that were written in different
 *     groups have the same chain.
 *  3. The index in the write group makes torn and damaged tellable: groups are written one after
 *     the other, each after the sync of the one before. A bad frame that is followed anywhere by
 *     a good frame of a later group was durable once, so it is damage, not a torn tail.
 *  4. CRCs start from four random bytes of the journal's id: a user's text that looks like a
 *     frame, or a block of another journal, does not pass for one.
 *  5. Hash and CRC of the body do not depend on the order of records: the appending threads
 *     compute them, and the leader's serial work is one BLAKE2b block and 68 bytes of CRC a
 *     record.
 */
#include "journal/journal_int.h"

#include <sodium.h>

enum {
    AT_BYTES = 0,
    AT_CRC = 4,
    AT_LSN = 8,
    AT_TIME = 16,
    AT_KIND = 24,
    AT_REGION = 26,
    AT_FLAGS = 28,
    AT_KEY_BYTES = 30,
    AT_BODY_BYTES = 32,
    AT_GROUP_INDEX = 36,
    AT_PREV = 40,
    AT_KEY = 72
};

/* The layout once more, as the compiler sees it: no padding hides anywhere. */
typedef struct frame_layout {
    uint32_t bytes, crc;
    uint64_t lsn, time;
    uint16_t kind, region, flags, key_bytes;
    uint32_t body_bytes, group_index;
    uint8_t prev[JOURNAL_HASH_BYTES];
} frame_layout;
_Static_assert(sizeof(frame_layout) == FRAME_HEADER, "frame header is 72 bytes");
_Static_assert(offsetof(frame_layout, lsn) == AT_LSN, "frame layout");
_Static_assert(offsetof(frame_layout, flags) == AT_FLAGS, "frame layout");
_Static_assert(offsetof(frame_layout, body_bytes) == AT_BODY_BYTES, "frame layout");
_Static_assert(offsetof(frame_layout, prev) == AT_PREV, "frame layout");
_Static_assert(AT_KEY == FRAME_HEADER, "the key follows the header");
_Static_assert(JOURNAL_HASH_BYTES == crypto_generichash_BYTES, "BLAKE2b-256");
_Static_assert(FRAME_MAX % 8 == 0 && FRAME_MAX < UINT32_MAX, "frame sizes fit u32");
_Static_assert(JOURNAL_KEY_MAX <= UINT16_MAX, "key sizes fit u16");
_Static_assert(MARK_SLOT <= 512, "a mark fits one disk sector, which is written whole or not");

#define SEGMENT_MAGIC 0x314745534854494bu /* "KITHSEG1" */
#define MARK_MAGIC    0x314b524d4854494bu /* "KITHMRK1" */

/* --- crypto ---------------------------------------------------------------------------------- */

err journal_crypto_init(void) {
    if (sodium_init() >= 0) return OK;
    return err_set(ERR_INTERNAL, "journal: libsodium cannot be initialised");
}

void journal_random_id(uint8_t id[ID_BYTES]) {
    randombytes_buf(id, ID_BYTES);
}

uint32_t journal_seed(const uint8_t id[ID_BYTES]) {
    return le32_get(id);
}

static void hash_bytes(const void *p, size_t n, uint8_t out[HASH_BYTES]) {
    int rc = crypto_generichash(out, HASH_BYTES, p, n, NULL, 0);
    KITH_ASSERT(rc == 0);
}

/* --- frames ---------------------------------------------------------------------------------- */

size_t frame_size(size_t key_bytes, size_t body_bytes) {
    size_t n = FRAME_HEADER + key_bytes + MAX(body_bytes, FRAME_BODY_MIN);
    return (n + 7) & ~(size_t)7;
}

/* The chain after a record, from its header, its key and the hash of its body. */
static void chain_step(const uint8_t *p, const uint8_t *prev, const uint8_t *body_hash,
                       chain *out) {
    uint8_t in[FRAME_HEADER + JOURNAL_KEY_MAX + HASH_BYTES];
    size_t key_bytes = le16_get(p + AT_KEY_BYTES);
    KITH_ASSERT(key_bytes <= JOURNAL_KEY_MAX);
    size_t n = AT_PREV - AT_LSN;
    memcpy(in, p + AT_LSN, n);
    le16_put(in + AT_FLAGS - AT_LSN, le16_get(p + AT_FLAGS) & (FRAME_FIRST | FRAME_LAST));
    le32_put(in + AT_GROUP_INDEX - AT_LSN, 0);
    memcpy(in + n, prev, HASH_BYTES);
    n += HASH_BYTES;
    memcpy(in + n, p + AT_KEY, key_bytes);
    n += key_bytes;
    memcpy(in + n, body_hash, HASH_BYTES);
    hash_bytes(in, n + HASH_BYTES, out->hash);
}

static uint32_t crc_of_header(uint32_t crc, const uint8_t *p) {
    crc = crc32c(crc, p, AT_CRC);
    return crc32c(crc, p + AT_LSN, FRAME_HEADER - AT_LSN);
}

void frame_build(uint8_t *p, uint32_t seed, const journal_entry *e, uint16_t region,
                 uint16_t flags) {
    size_t bytes = frame_size(e->key.len, e->body.len);
    memset(p, 0, FRAME_HEADER);
    le32_put(p + AT_BYTES, (uint32_t)bytes);
    le16_put(p + AT_KIND, e->kind);
    le16_put(p + AT_REGION, region);
    le16_put(p + AT_FLAGS, flags);
    le16_put(p + AT_KEY_BYTES, (uint16_t)e->key.len);
    le32_put(p + AT_BODY_BYTES, (uint32_t)e->body.len);
    if (e->key.len) memcpy(p + AT_KEY, e->key.ptr, e->key.len);
    uint8_t *body = p + AT_KEY + e->key.len;
    if (e->body.len) memcpy(body, e->body.ptr, e->body.len);
    memset(body + e->body.len, 0, bytes - FRAME_HEADER - e->key.len - e->body.len);
    hash_bytes(body, e->body.len, p + AT_PREV);
    le32_put(p + AT_CRC, crc32c(seed, p + AT_KEY, bytes - FRAME_HEADER));
}

size_t frame_seal(uint8_t *p, uint64_t lsn, hlc time, uint32_t group_index, chain *c) {
    uint8_t body_hash[HASH_BYTES];
    memcpy(body_hash, p + AT_PREV, HASH_BYTES);
    le64_put(p + AT_LSN, lsn);
    le64_put(p + AT_TIME, time);
    le32_put(p + AT_GROUP_INDEX, group_index);
    memcpy(p + AT_PREV, c->hash, HASH_BYTES);
    chain_step(p, c->hash, body_hash, c);
    le32_put(p + AT_CRC, crc_of_header(le32_get(p + AT_CRC), p));
    return le32_get(p + AT_BYTES);
}

size_t frame_peek(const uint8_t *p, uint64_t *lsn) {
    size_t bytes = le32_get(p + AT_BYTES);
    size_t key_bytes = le16_get(p + AT_KEY_BYTES), body_bytes = le32_get(p + AT_BODY_BYTES);
    *lsn = le64_get(p + AT_LSN);
    if (key_bytes > JOURNAL_KEY_MAX || body_bytes > JOURNAL_BODY_MAX) return 0;
    return bytes == frame_size(key_bytes, body_bytes) ? bytes : 0;
}

bool frame_read(const uint8_t *p, size_t bytes, uint32_t seed, frame *out) {
    uint32_t crc = crc32c(seed, p + AT_KEY, bytes - FRAME_HEADER);
    if (crc_of_header(crc, p) != le32_get(p + AT_CRC)) return false;
    size_t key_bytes = le16_get(p + AT_KEY_BYTES), body_bytes = le32_get(p + AT_BODY_BYTES);
    *out = (frame){
        .bytes = bytes,
        .lsn = le64_get(p + AT_LSN),
        .time = le64_get(p + AT_TIME),
        .kind = le16_get(p + AT_KIND),
        .region = le16_get(p + AT_REGION),
        .flags = le16_get(p + AT_FLAGS),
        .group_index = le32_get(p + AT_GROUP_INDEX),
        .start = p,
        .prev = p + AT_PREV,
        .key = str_from(p + AT_KEY, key_bytes),
        .body = str_from(p + AT_KEY + key_bytes, body_bytes),
    };
    /* Nothing hides in the room that is left: the chain does not cover it. */
    size_t used = out->flags & FRAME_REDACTED ? HASH_BYTES : body_bytes;
    const uint8_t *rest = p + AT_KEY + key_bytes + used;
    uint8_t any = 0;
    for (; rest < p + bytes; rest++) any |= *rest;
    return !any && !(out->flags & ~FRAME_FLAGS_ALL) && out->kind != 0 &&
           out->group_index < out->lsn;
}

void frame_chain(const frame *f, chain *out) {
    uint8_t hash[HASH_BYTES];
    if (f->flags & FRAME_REDACTED) {
        memcpy(hash, f->body.ptr, HASH_BYTES); /* its room is never smaller */
    } else {
        hash_bytes(f->body.ptr, f->body.len, hash);
    }
    chain_step(f->start, f->prev, hash, out);
}

void frame_record(const frame *f, journal_record *out) {
    bool redacted = f->flags & FRAME_REDACTED;
    *out = (journal_record){.lsn = f->lsn,
                            .time = f->time,
                            .kind = f->kind,
                            .region = f->region,
                            .last = f->flags & FRAME_LAST,
                            .redacted = redacted,
                            .key = f->key,
                            .body = redacted ? (str){"", 0} : f->body,
                            .frame = str_from(f->start, f->bytes)};
}

/* --- segment header and mark ----------------------------------------------------------------- */

static uint32_t crc_put(uint8_t *p, size_t n) {
    uint32_t crc = crc32c(0, p, n - 4);
    le32_put(p + n - 4, crc);
    return crc;
}

static bool crc_good(const uint8_t *p, size_t n) {
    return crc32c(0, p, n - 4) == le32_get(p + n - 4);
}

void segment_header_write(uint8_t p[SEGMENT_HEADER], const segment_header *h) {
    memset(p, 0, SEGMENT_HEADER);
    le64_put(p, SEGMENT_MAGIC);
    le32_put(p + 8, SEGMENT_VERSION);
    le32_put(p + 12, (uint32_t)SEGMENT_HEADER);
    memcpy(p + 16, h->id, ID_BYTES);
    le64_put(p + 32, h->first_lsn);
    le64_put(p + 40, h->time);
    le64_put(p + 48, h->bytes);
    memcpy(p + 56, h->prev.hash, HASH_BYTES);
    le64_put(p + 88, h->prev_first_lsn);
    crc_put(p, SEGMENT_HEADER);
}

err segment_header_read(const uint8_t p[SEGMENT_HEADER], const char *name, segment_header *out) {
    if (!crc_good(p, SEGMENT_HEADER) || le64_get(p) != SEGMENT_MAGIC)
        return err_set(ERR_CORRUPT, "journal segment %s: its header is damaged", name);
    if (le32_get(p + 8) != SEGMENT_VERSION || le32_get(p + 12) != SEGMENT_HEADER)
        return err_set(ERR_UNSUPPORTED, "journal segment %s: format %u, this program knows %d",
                       name, le32_get(p + 8), SEGMENT_VERSION);
    memcpy(out->id, p + 16, ID_BYTES);
    out->first_lsn = le64_get(p + 32);
    out->time = le64_get(p + 40);
    out->bytes = le64_get(p + 48);
    memcpy(out->prev.hash, p + 56, HASH_BYTES);
    out->prev_first_lsn = le64_get(p + 88);
    return OK;
}

void mark_write_slot(uint8_t p[MARK_SLOT], const mark *m) {
    memset(p, 0, MARK_SLOT);
    le64_put(p, MARK_MAGIC);
    le32_put(p + 8, 1);
    memcpy(p + 16, m->id, ID_BYTES);
    le64_put(p + 32, m->seq);
    le64_put(p + 40, m->first_lsn);
    le64_put(p + 48, m->lsn);
    le64_put(p + 56, m->time);
    le64_put(p + 64, m->segment);
    le64_put(p + 72, m->end);
    memcpy(p + 80, m->hash.hash, HASH_BYTES);
    crc_put(p, MARK_SLOT);
}

bool mark_read_slot(const uint8_t p[MARK_SLOT], mark *out) {
    if (!crc_good(p, MARK_SLOT) || le64_get(p) != MARK_MAGIC || le32_get(p + 8) != 1) return false;
    memcpy(out->id, p + 16, ID_BYTES);
    out->seq = le64_get(p + 32);
    out->first_lsn = le64_get(p + 40);
    out->lsn = le64_get(p + 48);
    out->time = le64_get(p + 56);
    out->segment = le64_get(p + 64);
    out->end = le64_get(p + 72);
    memcpy(out->hash.hash, p + 80, HASH_BYTES);
    return true;
}

const char *journal_kind_name(uint16_t kind) {
    switch (kind) {
    case JOURNAL_POST_PUT:
        return "post_put";
    case JOURNAL_POST_DELETE:
        return "post_delete";
    case JOURNAL_VECTOR_PUT:
        return "vector_put";
    case JOURNAL_VECTOR_FAILED:
        return "vector_failed";
    case JOURNAL_USER_PUT:
        return "user_put";
    case JOURNAL_USER_ERASE:
        return "user_erase";
    case JOURNAL_CONSENT:
        return "consent";
    case JOURNAL_FOLLOW:
        return "follow";
    case JOURNAL_UNFOLLOW:
        return "unfollow";
    case JOURNAL_BLOCK:
        return "block";
    case JOURNAL_UNBLOCK:
        return "unblock";
    case JOURNAL_INTERACTION:
        return "interaction";
    case JOURNAL_KEY_PUT:
        return "key_put";
    case JOURNAL_KEY_REVOKE:
        return "key_revoke";
    case JOURNAL_SPACE:
        return "space";
    case JOURNAL_MODEL:
        return "model";
    case JOURNAL_EXPERIMENT:
        return "experiment";
    case JOURNAL_MIGRATION:
        return "migration";
    case JOURNAL_CONFIG:
        return "config";
    case JOURNAL_AUDIT:
        return "audit";
    case JOURNAL_CHECKPOINT:
        return "checkpoint";
    default:
        return "kind";
    }
}
