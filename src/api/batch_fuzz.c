/* Hostile NDJSON to POST /v1/posts:batch.
 *
 * The first byte says in which pieces the body comes. Whatever comes: one result for each line that is
 * not blank and not behind a failure, each a line of JSON, line numbers ascending, and no store
 * reader left out. The same body in one piece makes the same posts.
 */
#include "api/fake_test.h"

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_results(const fake_http *x) {
    str rest = strbuf_str(&x->body), line;
    int64_t last = 0;
    while (str_split(&rest, '\n', &line)) {
        if (!line.len) continue;
        yyjson_doc *d;
        KITH_ASSERT(json_parse(line, &d) == OK);
        int64_t number = yyjson_get_sint(yyjson_obj_get(yyjson_doc_get_root(d), "line"));
        KITH_ASSERT(number == 0 || number > last); /* 0: of the whole stream */
        last = MAX(last, number);
        yyjson_doc_free(d);
    }
}

static size_t posts_of(str body, size_t piece) {
    shard *s = fake_shard_new();
    api_options o = {.version = "1"};
    api *a;
    KITH_ASSERT(api_open(&o, &a) == OK);
    api_attach(a, s, fake_searcher(s), fake_provider(s));
    fake_http *x = fake_send_pieces(a, "POST", "/v1/posts:batch", "", body, piece);
    if (x->status == 200) check_results(x);
    fake_done(x);
    KITH_ASSERT(s->readers_out == 0);
    size_t count = s->count;
    api_close(a);
    fake_shard_free(s);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    uint8_t *copy = mem_dup(data + 1, size - 1); /* exact: a read past the end is seen */
    if (!copy && size > 1) return 0;
    str body = str_from(copy, size - 1);
    size_t pieces = posts_of(body, 1 + data[0]), whole = posts_of(body, SIZE_MAX);
    KITH_ASSERT(pieces == whole);
    mem_free(copy);
    return 0;
}
