/* Posts to bytes and back, through an arena.
 *
 * What is stored is the proto message less the fields that are columns (id, thread, lsn), so that
 * a thread can move without touching the text, and two versions of a post are equal exactly when
 * their bytes are: protobuf-c packs fields in the order of their numbers, and created_at is always
 * set. Unknown fields of a newer version ride along (protobuf-c keeps them).
 *
 * Unpacking allocates from the caller's arena through protobuf-c's allocator interface: eight or
 * so pointer bumps a post, and nothing to free.
 */
#include "store/store_int.h"

typedef struct pb_memory {
    arena *a;
    bool failed; /* tells "no memory" from "not a message" */
} pb_memory;

static void *pb_alloc(void *ctx, size_t n) {
    pb_memory *m = ctx;
    void *p = arena_alloc(m->a, n);
    if (!p) m->failed = true;
    return p;
}

err store_pack(const Kith__V1__Post *post, Google__Protobuf__Timestamp *created, arena *a,
               str *out) {
    Kith__V1__Post copy = *post; /* shallow: everything it points to stays the caller's */
    copy.id = copy.thread = NULL;
    copy.lsn = 0;
    if (created) copy.created_at = created;
    size_t n = kith__v1__post__get_packed_size(&copy);
    uint8_t *bytes = arena_alloc(a, n);
    if (!bytes) return ERR_NO_MEMORY;
    *out = str_from(bytes, kith__v1__post__pack(&copy, bytes));
    return OK;
}

err store_row_read(const conn *c, sqlite3_stmt *q, arena *a, store_row *out) {
    pb_memory memory = {a, false};
    ProtobufCAllocator pb = {pb_alloc, arena_pb_free, &memory};
    str body = store_column_str(q, 6);
    *out = (store_row){.doc = (uint32_t)sqlite3_column_int64(q, 0),
                       .rev = (uint64_t)sqlite3_column_int64(q, 3),
                       .text_hash = (uint64_t)sqlite3_column_int64(q, 4)};
    Kith__V1__Post *post = kith__v1__post__unpack(&pb, body.len, (const uint8_t *)body.ptr);
    if (memory.failed) return ERR_NO_MEMORY;
    if (!post || !post->created_at)
        return err_set(ERR_CORRUPT, "%s: the body of doc %u cannot be read", c->path, out->doc);
    post->id = arena_dup(a, store_column_str(q, 1));
    post->thread = arena_dup(a, store_column_str(q, 2));
    post->lsn = (uint64_t)sqlite3_column_int64(q, 5);
    out->post = post;
    return post->id && post->thread ? OK : ERR_NO_MEMORY;
}
