/* The fakes of fake_test.h. They keep the contracts of the headers they stand for and no more:
 * a put is applied at once unless the shard is `stuck`, a search finds the posts whose text holds
 * q, a vector is four numbers from the text's hash. Single-threaded.
 */
#include "api/fake_test.h"

#include <google/protobuf/timestamp.pb-c.h>
#include <kith/v1/posts.pb-c.h>

/* ---- shard ---- */

shard *fake_shard_new(void) {
    return mem_zalloc(1, sizeof(shard));
}

static void drop(shard *s, size_t i) {
    mem_free(s->posts[i].id);
    mem_free(s->posts[i].bytes);
    s->posts[i] = s->posts[--s->count];
}

void fake_shard_free(shard *s) {
    KITH_ASSERT(s->readers_out == 0);
    while (s->count) drop(s, s->count - 1);
    mem_free(s);
}

static fake_post *find(shard *s, str id) {
    for (size_t i = 0; i < s->count; i++)
        if (str_eq(str_of(s->posts[i].id), id)) return &s->posts[i];
    return NULL;
}

static void advance(shard *s, uint64_t n) {
    s->head += n;
    if (!s->stuck) s->applied = s->head;
}

err shard_check_post(const Kith__V1__Post *p) {
    TRY(api_check_id(str_of(p->id), "id"));
    size_t n = strlen(p->text);
    if (n < 1 || n > POST_TEXT_MAX)
        return err_set_field(ERR_INVALID, "text", "expected 1 to 65536 bytes, got %zu", n);
    if (p->n_tags > POST_TAGS_MAX)
        return err_set_field(ERR_INVALID, "tags", "expected at most 32, got %zu", p->n_tags);
    return OK;
}

static void put_one(shard *s, const shard_item *item, uint64_t lsn) {
    fake_post *p = find(s, str_of(item->post->id));
    if (!p) {
        KITH_ASSERT(s->count < FAKE_POSTS_MAX);
        p = &s->posts[s->count++];
        *p = (fake_post){.id = mem_dup(item->post->id, strlen(item->post->id) + 1)};
    }
    mem_free(p->bytes);
    p->size = kith__v1__post__get_packed_size(item->post);
    p->bytes = mem_alloc(p->size);
    (void)kith__v1__post__pack(item->post, p->bytes);
    p->lsn = lsn;
    p->vector = item->vector != NULL;
}

err shard_put(shard *s, const shard_item *items, size_t n, uint64_t *lsn) {
    s->puts++;
    s->items_most = MAX(s->items_most, n);
    if (s->put_rc_times > 0) {
        s->put_rc_times--;
        return err_set(s->put_rc, "as the test wants it");
    }
    for (size_t i = 0; i < n; i++)
        if (items[i].vector && items[i].vector[0] == 0)
            return err_set_field(ERR_INVALID, "vector", "expected a length over zero, got zero");
    for (size_t i = 0; i < n; i++) put_one(s, &items[i], s->head + 1 + i);
    advance(s, n);
    *lsn = s->head;
    return OK;
}

/* Users and backups are tested with the real shard. */
err shard_erase_user(shard *s, str user, str who, shard_erasure *out) {
    (void)s, (void)user, (void)who, (void)out;
    return err_set(ERR_NOT_FOUND, "nothing is known of this user");
}
err shard_export_user(shard *s, str user, shard_export_visit visit, void *ctx) {
    (void)s, (void)user, (void)visit, (void)ctx;
    return err_set(ERR_NOT_FOUND, "nothing is known of this user");
}
err shard_audit(shard *s, const char *what, str who, const char *outcome, str detail,
                uint64_t *lsn) {
    (void)what, (void)who, (void)outcome, (void)detail;
    *lsn = ++s->head;
    return OK;
}
unsigned shard_space_count(const shard *s) {
    (void)s;
    return 1;
}
const char *shard_space_name(const shard *s, unsigned which) {
    (void)which;
    return shard_space(s);
}
uint32_t shard_space_dim(const shard *s, unsigned which) {
    (void)which;
    return shard_dim(s);
}
void shard_space_stat(shard *s, unsigned which, shard_space_stats *out) {
    (void)s, (void)which;
    memset(out, 0, sizeof *out);
}
const char *shard_space(const shard *s) {
    (void)s;
    return "fake";
}

err shard_delete(shard *s, str id, uint64_t *lsn) {
    fake_post *p = find(s, id);
    if (!p) return err_set(ERR_NOT_FOUND, "no such post");
    drop(s, (size_t)(p - s->posts));
    advance(s, 1);
    *lsn = s->head;
    return OK;
}

err shard_note(shard *s, uint16_t kind, str key, str body, uint64_t *lsn) {
    (void)kind, (void)key, (void)body;
    advance(s, 1);
    *lsn = s->head;
    return OK;
}

err shard_wait(shard *s, str id, uint64_t lsn, shard_wait_for what, uint64_t timeout_ms) {
    (void)id, (void)what, (void)timeout_ms;
    if (s->wait_rc != OK) return err_set(s->wait_rc, "as the test wants it");
    return lsn <= s->applied ? OK : err_set(ERR_TIMEOUT, "not applied in time");
}

bool shard_has_same(shard *s, const Kith__V1__Post *post, const float *vector, uint64_t *lsn) {
    if (vector) return false;         /* it keeps none */
    KITH_ASSERT(s->readers_out == 0); /* it takes one itself: two of one thread may starve all */
    fake_post *p = find(s, str_of(post->id));
    if (!p || p->size != kith__v1__post__get_packed_size(post)) return false;
    uint8_t *bytes = mem_alloc(p->size);
    (void)kith__v1__post__pack(post, bytes);
    bool same = memcmp(bytes, p->bytes, p->size) == 0;
    mem_free(bytes);
    *lsn = p->lsn;
    return same;
}

store *shard_store(shard *s) {
    return (store *)(void *)s;
}
uint64_t shard_lsn(shard *s) {
    return s->applied;
}
uint64_t shard_head(shard *s) {
    return s->head;
}
uint32_t shard_dim(const shard *s) {
    (void)s;
    return FAKE_DIM;
}
err shard_stat(shard *s, shard_stats *out) {
    *out = (shard_stats){.posts = s->count,
                         .head_lsn = s->head,
                         .store_lsn = s->applied,
                         .words_lsn = s->applied,
                         .snapshot_age_s = -1};
    return OK;
}

/* ---- store ---- */

store_reader *store_reader_get(store *s) {
    ((shard *)(void *)s)->readers_out++;
    return (store_reader *)(void *)s;
}
void store_reader_put(store *s, store_reader *r) {
    KITH_ASSERT((void *)s == (void *)r);
    ((shard *)(void *)s)->readers_out--;
}

static void *arena_alloc_fn(void *a, size_t n) {
    return arena_alloc(a, n);
}
static void arena_free_fn(void *a, void *p) {
    (void)a, (void)p;
}

static err row_of(shard *s, const fake_post *p, arena *a, store_row *out) {
    ProtobufCAllocator alloc = {arena_alloc_fn, arena_free_fn, a};
    *out = (store_row){.doc = (uint32_t)(p - s->posts), .rev = p->lsn};
    out->post = kith__v1__post__unpack(&alloc, p->size, p->bytes);
    if (!out->post) return ERR_NO_MEMORY;
    out->post->lsn = p->lsn;
    out->post->thread = out->post->reply_to[0] ? out->post->reply_to : out->post->id;
    return OK;
}

err store_failed(store_reader *r, size_t limit, arena *a, store_failure **out, size_t *count) {
    (void)r, (void)limit;
    *out = arena_zalloc(a, 1, sizeof **out);
    (*out)[0] = (store_failure){STR("broken"), STR("too odd")};
    *count = 1;
    return *out ? OK : ERR_NO_MEMORY;
}

err store_get(store_reader *r, str id, arena *a, store_row *out) {
    shard *s = (shard *)(void *)r;
    fake_post *p = find(s, id);
    return p ? row_of(s, p, a, out) : err_set(ERR_NOT_FOUND, "no such post");
}

err store_doc_of(store_reader *r, str id, uint32_t *doc) {
    shard *s = (shard *)(void *)r;
    fake_post *p = find(s, id);
    if (!p) return err_set(ERR_NOT_FOUND, "no such post");
    *doc = (uint32_t)(p - s->posts);
    return OK;
}

/* In the order of docs; created_at plays no part. */
err store_thread(store_reader *r, str root, const store_thread_pos *after, size_t limit, arena *a,
                 store_row **rows, size_t *count) {
    shard *s = (shard *)(void *)r;
    *rows = arena_zalloc(a, s->count + 1, sizeof **rows);
    *count = 0;
    for (size_t i = after ? after->doc + 1 : 0; i < s->count && *count < limit; i++) {
        TRY(row_of(s, &s->posts[i], a, &(*rows)[*count]));
        if (str_eq(str_of((*rows)[*count].post->thread), root)) ++*count;
    }
    return OK;
}

err store_thread_size(store_reader *r, str root, uint64_t *out) {
    arena a;
    arena_init(&a, 64 * MIB);
    store_row *rows;
    size_t n = 0;
    err rc = store_thread(r, root, NULL, FAKE_POSTS_MAX, &a, &rows, &n);
    arena_deinit(&a);
    *out = n;
    return rc;
}

/* ---- searcher ---- */

searcher *fake_searcher(shard *s) {
    return (searcher *)(void *)s;
}

static err answer(shard *s, arena *a, const char *q, Kith__V1__SearchResponse **out) {
    if (s->search_rc != OK) return err_set_field(s->search_rc, "q", "as the test wants it");
    if (s->canned) {
        *out = s->canned;
        return OK;
    }
    Kith__V1__SearchResponse *r = arena_alloc(a, sizeof *r);
    kith__v1__search_response__init(r);
    r->hits = arena_zalloc(a, s->count + 1, sizeof *r->hits);
    for (size_t i = 0; i < s->count; i++) {
        store_row row;
        TRY(row_of(s, &s->posts[i], a, &row));
        if (!strstr(row.post->text, q)) continue;
        Kith__V1__Hit *h = arena_alloc(a, sizeof *h);
        kith__v1__hit__init(h);
        h->post = row.post;
        h->score = 0.5;
        r->hits[r->n_hits++] = h;
    }
    r->lsn = s->applied;
    *out = r;
    return OK;
}

err search_run(searcher *x, const Kith__V1__SearchRequest *req, arena *a,
               Kith__V1__SearchResponse **out) {
    shard *s = (shard *)(void *)x;
    s->searched = req;
    size_t n = MIN(strlen(req->q), sizeof s->last_q - 1);
    memcpy(s->last_q, req->q, n);
    s->last_q[n] = 0;
    return answer(s, a, req->q, out);
}

err search_similar(searcher *x, const Kith__V1__SimilarRequest *req, arena *a,
                   Kith__V1__SearchResponse **out) {
    shard *s = (shard *)(void *)x;
    if (!find(s, str_of(req->id))) return err_set(ERR_NOT_FOUND, "no such post");
    return answer(s, a, "", out);
}

err search_suggest(searcher *x, const Kith__V1__SuggestRequest *req, arena *a,
                   Kith__V1__SuggestResponse **out) {
    (void)x, (void)req;
    *out = arena_alloc(a, sizeof **out);
    kith__v1__suggest_response__init(*out);
    return OK;
}

void searcher_stats(searcher *x, search_stats *out) {
    (void)x;
    *out = (search_stats){.searches = 7, .p50_ms = 0.25};
}

/* ---- provider ---- */

provider *fake_provider(shard *s) {
    return (provider *)(void *)s;
}
const char *provider_space(const provider *p) {
    (void)p;
    return "mock/all-minilm/4/cosine";
}
uint32_t provider_dim(const provider *p) {
    (void)p;
    return FAKE_DIM;
}
size_t provider_texts_max(const provider *p) {
    (void)p;
    return 3;
}
err provider_embed(provider *p, const str *texts, size_t n, embed_task task, float *out,
                   embed_usage *usage) {
    (void)p, (void)task;
    KITH_ASSERT(n <= provider_texts_max(p));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < FAKE_DIM; j++)
            out[i * FAKE_DIM + j] = (float)(hash64(texts[i].ptr, texts[i].len, j) % 1000) / 1000.0f;
    if (usage) usage->tokens = n * 2;
    return OK;
}

/* ---- net ---- */

static fake_http *of(const net_request *rq) {
    return (fake_http *)(void *)(uintptr_t)rq;
}

str net_header_get(const net_request *rq, str name) {
    for (size_t i = 0; i < rq->header_count; i++)
        if (str_eq_nocase(rq->headers[i].name, name)) return rq->headers[i].value;
    return (str){NULL, 0};
}

bool net_host_loopback(const char *host) {
    return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
           strncmp(host, "127.", 4) == 0;
}

const char *net_status_text(int status) {
    return status == 200 ? "OK" : status == 400 ? "Bad Request" : "Other";
}

static void note_headers(fake_http *x, int status, const net_header *h, size_t n) {
    x->answers++;
    x->status = status;
    strbuf b;
    strbuf_init(&b, sizeof x->headers - 1);
    for (size_t i = 0; i < n; i++)
        strbuf_addf(&b, STR_FMT ": " STR_FMT "\n", STR_ARG(h[i].name), STR_ARG(h[i].value));
    KITH_ASSERT(b.rc == OK);
    memcpy(x->headers, b.ptr ? b.ptr : "", b.len + 1);
    for (char *p = x->headers, in_name = 1; *p; p++) {
        if (*p == ':') in_name = 0;
        if (*p == '\n') in_name = 1;
        if (in_name && *p >= 'A' && *p <= 'Z') *p = (char)(*p + 32);
    }
    strbuf_deinit(&b);
}

void net_respond(net_request *rq, int status, const net_header *h, size_t n, str body,
                 net_own own) {
    fake_http *x = of(rq);
    note_headers(x, status, h, n);
    strbuf_add(&x->body, body);
    if (own == NET_TAKE) mem_free((char *)(uintptr_t)body.ptr);
}

bool net_cancelled(const net_request *rq) {
    return of(rq)->cancelled;
}

err net_body_read(net_request *rq, void *buf, size_t n, size_t *got) {
    fake_http *x = of(rq);
    *got = MIN(MIN(n, x->input_piece), x->input.len - x->input_at);
    if (*got) memcpy(buf, x->input.ptr + x->input_at, *got);
    x->input_at += *got;
    return OK;
}

err net_respond_begin(net_request *rq, int status, const net_header *h, size_t n) {
    note_headers(of(rq), status, h, n);
    return OK;
}

err net_respond_write(net_request *rq, str bytes) {
    strbuf_add(&of(rq)->body, bytes);
    return of(rq)->cancelled ? ERR_CANCELLED : OK;
}

void net_respond_end(net_request *rq, const net_header *trailers, size_t n) {
    (void)trailers, (void)n;
    of(rq)->is_streamed = true;
}

void net_respond_abort(net_request *rq) {
    of(rq)->aborted = true;
}

/* ---- sending ---- */

static void read_headers(fake_http *x, str rest) {
    str line;
    while (str_split(&rest, '\n', &line) && line.len) {
        ptrdiff_t colon = str_find_byte(line, ':');
        KITH_ASSERT(colon > 0 && x->rq.header_count < COUNT_OF(x->sent));
        net_header h = {str_from(line.ptr, (size_t)colon),
                        str_trim(str_skip(line, (size_t)colon + 1))};
        if (str_eq(h.name, STR("x-test-peer")))
            x->rq.peer_loopback = false;
        else if (str_eq(h.name, STR("host")))
            x->rq.host = h.value;
        else
            x->sent[x->rq.header_count++] = h;
    }
}

static fake_http *make(const char *method, const char *target, const char *headers) {
    fake_http *x = mem_zalloc(1, sizeof *x);
    arena_init(&x->mem, 16 * MIB);
    strbuf_init(&x->body, 64 * MIB);
    str t = str_of(target);
    ptrdiff_t q = str_find_byte(t, '?');
    x->rq = (net_request){.method = str_of(method),
                          .host = STR("localhost:8080"),
                          .version = 11,
                          .peer_loopback = true,
                          .arena = &x->mem,
                          .headers = x->sent};
    x->rq.path = q < 0 ? t : str_from(t.ptr, (size_t)q);
    x->rq.query = q < 0 ? (str){"", 0} : str_skip(t, (size_t)q + 1);
    x->input_piece = SIZE_MAX;
    read_headers(x, str_of(headers));
    return x;
}

fake_http *fake_send_pieces(api *a, const char *method, const char *target, const char *headers,
                            str body, size_t piece) {
    fake_http *x = make(method, target, headers);
    net_route route = {0};
    api_route_request(a, &x->rq, &route);
    if (!x->answers) {
        x->rq.streamed = route.streamed;
        x->input = body;
        x->input_piece = piece;
        if (!route.streamed) x->rq.body = body;
        if (route.streamed || !api_inline(a, &x->rq)) api_handle(a, &x->rq);
    }
    KITH_ASSERT(x->answers == 1);
    return x;
}

fake_http *fake_send(api *a, const char *method, const char *target, const char *headers,
                     str body) {
    return fake_send_pieces(a, method, target, headers, body, SIZE_MAX);
}

const char *fake_header(const fake_http *x, const char *name) {
    static _Thread_local char value[1024];
    str rest = str_of(x->headers), line;
    value[0] = 0;
    while (str_split(&rest, '\n', &line)) {
        ptrdiff_t colon = str_find_byte(line, ':');
        if (colon < 0 || !str_eq(str_from(line.ptr, (size_t)colon), str_of(name))) continue;
        str v = str_trim(str_skip(line, (size_t)colon + 1));
        KITH_ASSERT(v.len < sizeof value);
        memcpy(value, v.ptr, v.len);
        value[v.len] = 0;
    }
    return value;
}

void fake_done(fake_http *x) {
    strbuf_deinit(&x->body);
    arena_deinit(&x->mem);
    mem_free(x);
}
