/* Posts: put, get, delete, a whole thread.
 *
 * A put checks, asks the shard whether the same post is there (then a retry costs no record and
 * says "unchanged"), and appends. Whether it creates or replaces is read just before the append:
 * two puts of one new id at the same moment may both say "created"; the journal orders them all the
 * same. A put that brings a vector is always appended, because the stored vector cannot be
 * compared.
 *
 * A thread is paged oldest first. The cursor is the place behind the last post, (created_at, doc),
 * with a checksum over it and the thread's id: a cursor of another thread is refused, not
 * misread. Pages end at the limit or at API_THREAD_BYTES of text, whichever comes first.
 */
#include "api/api_int.h"

#include "base/json.h"
#include <kith/v1/posts.pb-c.h>

#define CURSOR_BYTES 16 /* created_ms u64, doc u32, crc u32 */

/* ---- put ---- */

static err read_vector(arena *mem, Kith__V1__PutPostRequest *r, yyjson_val *v) {
    if (!v || yyjson_is_null(v)) return OK;
    TRY(json_map_read_list(mem, r, "vector", v));
    if (r->n_vector) return OK;
    return err_set_field(ERR_INVALID, "vector", "expected numbers, got an empty list");
}

err api_parse_post(arena *mem, str json, Kith__V1__PutPostRequest **out) {
    Kith__V1__PutPostRequest *r = arena_alloc(mem, sizeof *r);
    if (!r) return ERR_NO_MEMORY;
    kith__v1__put_post_request__init(r);
    yyjson_doc *doc;
    TRY(json_map_document(json, &doc));
    json_map_source in = {.mem = mem, .value = yyjson_doc_get_root(doc), .aside = "vector"};
    err rc = json_map_read(&in, &kith__v1__post__descriptor, (void **)&r->post);
    if (rc == OK) rc = read_vector(mem, r, in.found);
    yyjson_doc_free(doc);
    if (rc == OK) *out = r;
    return rc;
}

err api_check_put(api_call *c, const Kith__V1__PutPostRequest *r) {
    if (!r->post) return err_set_field(ERR_INVALID, "post", "expected a post");
    TRY(shard_check_post(r->post));
    uint32_t dim = shard_dim(c->shard);
    if (r->n_vector && r->n_vector != dim)
        return err_set_field(ERR_INVALID, "vector", "expected %u numbers, got %zu", dim,
                             r->n_vector);
    return OK;
}

static bool exists(api_call *c, const char *id) {
    store_reader *r = store_reader_get(shard_store(c->shard));
    uint32_t doc;
    err rc = store_doc_of(r, str_of(id), &doc);
    store_reader_put(shard_store(c->shard), r);
    return rc == OK;
}

err api_put_post(api_call *c, const void *request, void **response) {
    const Kith__V1__PutPostRequest *r = request;
    api_wait wait;
    TRY(api_wait_parse(str_of(r->wait), &wait));
    TRY(api_check_put(c, r));
    Kith__V1__PutPostResponse *out = api_new(c, &kith__v1__put_post_response__descriptor);
    if (!out) return ERR_NO_MEMORY;
    out->id = r->post->id;
    uint64_t lsn;
    if (shard_has_same(c->shard, r->post, r->n_vector ? r->vector : NULL, &lsn)) {
        out->outcome = api_text(c, STR("unchanged"));
    } else {
        bool there = exists(c, r->post->id);
        shard_item item = {r->post, r->n_vector ? r->vector : NULL};
        TRY(shard_put(c->shard, &item, 1, &lsn));
        out->outcome = api_text(c, there ? STR("replaced") : STR("created"));
    }
    if (!out->outcome) return ERR_NO_MEMORY;
    out->lsn = c->lsn = lsn;
    *response = out;
    return api_wait_for(c, str_of(r->post->id), lsn, wait);
}

/* ---- get, delete ---- */

static err get_row(api_call *c, str id, store_row *row) {
    store_reader *r = store_reader_get(shard_store(c->shard));
    err rc = store_get(r, id, c->mem, row);
    store_reader_put(shard_store(c->shard), r);
    return rc;
}

err api_get_post(api_call *c, const void *request, void **response) {
    const Kith__V1__GetPostRequest *r = request;
    store_row row;
    TRY(api_check_id(str_of(r->id), "id"));
    TRY(get_row(c, str_of(r->id), &row));
    *response = row.post;
    return OK;
}

err api_delete_post(api_call *c, const void *request, void **response) {
    const Kith__V1__DeletePostRequest *r = request;
    api_wait wait;
    TRY(api_check_id(str_of(r->id), "id"));
    TRY(api_wait_parse(str_of(r->wait), &wait));
    Kith__V1__DeletePostResponse *out = api_new(c, &kith__v1__delete_post_response__descriptor);
    if (!out) return ERR_NO_MEMORY;
    TRY(shard_delete(c->shard, str_of(r->id), &c->lsn));
    out->id = r->id;
    out->lsn = c->lsn;
    *response = out;
    return api_wait_for(c, str_of(r->id), c->lsn, wait);
}

/* ---- thread ---- */

static uint32_t cursor_sum(const uint8_t *p, str root) {
    return crc32c(crc32c(0, p, CURSOR_BYTES - 4), root.ptr, root.len);
}

static char *cursor_make(api_call *c, const store_row *last, str root) {
    uint8_t p[CURSOR_BYTES];
    const Google__Protobuf__Timestamp *t = last->post->created_at;
    int64_t ms = t ? t->seconds * 1000 + t->nanos / 1000000 : 0;
    le64_put(p, (uint64_t)ms);
    le32_put(p + 8, last->doc);
    le32_put(p + 12, cursor_sum(p, root));
    strbuf b;
    strbuf_init(&b, 64);
    for (size_t i = 0; i < sizeof p; i++) strbuf_addf(&b, "%02x", p[i]);
    char *z = b.rc == OK ? api_text(c, strbuf_str(&b)) : NULL;
    strbuf_deinit(&b);
    return z;
}

static int hex(char x) {
    if (x >= '0' && x <= '9') return x - '0';
    return x >= 'a' && x <= 'f' ? x - 'a' + 10 : -1;
}

static err cursor_read(str s, str root, store_thread_pos *out) {
    uint8_t p[CURSOR_BYTES];
    bool good = s.len == 2 * sizeof p;
    for (size_t i = 0; good && i < sizeof p; i++) {
        int hi = hex(s.ptr[2 * i]), lo = hex(s.ptr[2 * i + 1]);
        good = hi >= 0 && lo >= 0;
        p[i] = (uint8_t)(good ? hi * 16 + lo : 0);
    }
    if (!good || le32_get(p + 12) != cursor_sum(p, root))
        return err_set_field(ERR_INVALID, "cursor", "expected a next_cursor of this thread");
    *out = (store_thread_pos){(int64_t)le64_get(p), le32_get(p + 8)};
    return OK;
}

/* The root's id: as the post says, or the id itself when it only names a missing root. */
static err thread_of(api_call *c, store_reader *r, str id, str *root, uint64_t *size) {
    store_row row;
    err rc = store_get(r, id, c->mem, &row);
    if (rc != OK && rc != ERR_NOT_FOUND) return rc;
    *root = rc == OK && row.post->thread[0] ? str_of(row.post->thread) : id;
    TRY(store_thread_size(r, *root, size));
    if (rc == OK || *size) return OK;
    return err_set(ERR_NOT_FOUND, "no such post or thread");
}

/* Takes rows into the answer until the page's bytes are used; true when all were taken. */
static bool take_rows(Kith__V1__GetThreadResponse *out, const store_row *rows, size_t n) {
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        bytes += strlen(rows[i].post->text) + strlen(rows[i].post->extra);
        if (i && bytes > API_THREAD_BYTES) return false;
        out->posts[out->n_posts++] = rows[i].post;
    }
    return true;
}

static err read_thread(api_call *c, store_reader *r, const Kith__V1__GetThreadRequest *q,
                       Kith__V1__GetThreadResponse *out) {
    str root, cursor = str_of(q->cursor);
    uint64_t total;
    store_thread_pos after;
    size_t limit = q->limit ? (size_t)q->limit : API_THREAD_DEFAULT, n;
    store_row *rows;
    TRY(thread_of(c, r, str_of(q->id), &root, &total));
    if (cursor.len) TRY(cursor_read(cursor, root, &after));
    TRY(store_thread(r, root, cursor.len ? &after : NULL, limit + 1, c->mem, &rows, &n));
    size_t page = MIN(n, limit);
    out->posts = arena_zalloc(c->mem, page ? page : 1, sizeof(void *));
    out->thread = api_text(c, root);
    out->total = (int64_t)total;
    if (!out->posts || !out->thread) return ERR_NO_MEMORY;
    bool more = !take_rows(out, rows, page) || n > limit;
    if (more && out->n_posts) {
        out->next_cursor = cursor_make(c, &rows[out->n_posts - 1], root);
        if (!out->next_cursor) return ERR_NO_MEMORY;
    }
    return OK;
}

err api_get_thread(api_call *c, const void *request, void **response) {
    const Kith__V1__GetThreadRequest *q = request;
    TRY(api_check_id(str_of(q->id), "id"));
    if (q->limit < 0 || q->limit > API_THREAD_MAX)
        return err_set_field(ERR_INVALID, "limit", "expected 1 to %d, got %d", API_THREAD_MAX,
                             (int)q->limit);
    Kith__V1__GetThreadResponse *out = api_new(c, &kith__v1__get_thread_response__descriptor);
    if (!out) return ERR_NO_MEMORY;
    store_reader *r = store_reader_get(shard_store(c->shard));
    err rc = read_thread(c, r, q, out);
    store_reader_put(shard_store(c->shard), r);
    *response = out;
    return rc;
}
