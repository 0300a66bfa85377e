/* Hostile JSON and query strings into messages, and back.
 *
 * The first byte chooses: a post, a search request, an answer (lists of messages), an embed request
 * or a query. What is read must write, read again, and write the same bytes: the mapping is its own
 * oracle. The input is copied exactly, so a read past its end is seen.
 */
#include "api/json_map.h"
#include "api/api.h"

#include <kith/v1/admin.pb-c.h>
#include <kith/v1/posts.pb-c.h>
#include <kith/v1/search.pb-c.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(arena *a, const ProtobufCMessageDescriptor *d, str text) {
    void *m, *again;
    if (json_map_parse(a, d, text, &m) != OK) {
        KITH_ASSERT(utf8_valid(str_of(err_detail()), NULL));
        return;
    }
    strbuf first, second;
    strbuf_init(&first, 32 * MIB);
    strbuf_init(&second, 32 * MIB);
    json_map_write(&first, m);
    KITH_ASSERT(first.rc == OK);
    err rc = json_map_parse(a, d, strbuf_str(&first), &again);
    if (rc == OK) {
        json_map_write(&second, again);
        /* thread and lsn of a post are written and not read: requests never hold them */
        KITH_ASSERT(str_eq(strbuf_str(&first), strbuf_str(&second)));
    } else {
        KITH_ASSERT(rc == ERR_NO_MEMORY || rc == ERR_INVALID);
        KITH_ASSERT(rc != ERR_INVALID || first.len > POST_EXTRA_MAX);
    }
    strbuf_deinit(&first);
    strbuf_deinit(&second);
}

static void query(arena *a, str text) {
    Kith__V1__SearchRequest r;
    kith__v1__search_request__init(&r);
    static const char *const skip[2] = {"viewer", NULL};
    if (json_map_query(a, &r, text, skip) != OK) return;
    strbuf b;
    strbuf_init(&b, 32 * MIB);
    json_map_write(&b, &r);
    KITH_ASSERT(b.rc == OK && !r.viewer[0]);
    void *again;
    err rc = json_map_parse(a, &kith__v1__search_request__descriptor, strbuf_str(&b), &again);
    KITH_ASSERT(rc == OK || rc == ERR_NO_MEMORY);
    strbuf_deinit(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const ProtobufCMessageDescriptor *const kinds[] = {
        &kith__v1__post__descriptor, &kith__v1__search_request__descriptor,
        &kith__v1__search_response__descriptor, &kith__v1__embed_request__descriptor};
    if (!size || size > 64 * KIB) return 0;
    char *copy = mem_dup(data + 1, size - 1);
    str text = str_from(copy, size - 1);
    arena a;
    arena_init(&a, 16 * MIB);
    size_t kind = data[0] % (COUNT_OF(kinds) + 2);
    Kith__V1__PutPostRequest *put;
    if (kind < COUNT_OF(kinds))
        round_trip(&a, kinds[kind], text);
    else if (kind == COUNT_OF(kinds))
        query(&a, text);
    else
        (void)api_parse_post(&a, text, &put);
    arena_deinit(&a);
    mem_free(copy);
    return 0;
}
