/* The API's life and its calls in process.
 *
 * An api is made before the shard is open, because opening folds what the journal holds and may
 * take minutes: health is answered from the first moment, and operations say ERR_AGAIN until
 * api_attach. The pointers are written once and published by `attached` (release, paired with the
 * acquire in api_parts_get), so requests take no lock.
 *
 * Ready means: attached, and the store is at most READY_LAG records behind the journal. Once ready,
 * a bulk load may push it further without taking the node out of its load balancer: only beyond
 * UNREADY_LAG it is not. Both are positions kept in memory; nothing here blocks.
 */
#include "api/api_int.h"

#define READY_LAG   1000
#define UNREADY_LAG 200000

err api_open(const api_options *o, api **out) {
    api *a = mem_zalloc(1, sizeof *a);
    if (!a) return ERR_NO_MEMORY;
    a->o = *o;
    if (!a->o.version) a->o.version = "";
    a->start_ns = clock_mono_ns();
    a->request_seed = hash64_u64((uint64_t)clock_wall_ms() ^ (a->start_ns << 20));
    atomic_init(&a->start_what, "opening");
    err rc = quality_new(&a->quality);
    if (rc == OK) rc = metrics_collector_add(api_collect, a);
    if (rc != OK) {
        api_close(a);
        return rc;
    }
    *out = a;
    return OK;
}

void api_close(api *a) {
    if (!a) return;
    metrics_collector_remove(api_collect, a);
    quality_free(a->quality);
    mem_free(a);
}

void api_attach(api *a, shard *s, searcher *x, provider *p) {
    KITH_ASSERT(s && x && !atomic_load_explicit(&a->attached, memory_order_relaxed));
    a->parts = (api_parts){s, x, p};
    atomic_store_explicit(&a->attached, true, memory_order_release); /* api_parts_get */
}

void api_starting(api *a, const char *what, uint64_t done, uint64_t total) {
    atomic_store_explicit(&a->start_what, what, memory_order_relaxed);
    atomic_store_explicit(&a->start_done, done, memory_order_relaxed);
    atomic_store_explicit(&a->start_total, total, memory_order_relaxed);
}

bool api_parts_get(api *a, api_parts *out) {
    if (!atomic_load_explicit(&a->attached, memory_order_acquire)) return false; /* api_attach */
    *out = a->parts;
    return true;
}

static err starting(api *a) {
    const char *what = atomic_load_explicit(&a->start_what, memory_order_relaxed);
    uint64_t done = atomic_load_explicit(&a->start_done, memory_order_relaxed);
    uint64_t total = atomic_load_explicit(&a->start_total, memory_order_relaxed);
    if (!total) return err_set(ERR_AGAIN, "starting: %s", what);
    return err_set(ERR_AGAIN, "starting: %s, %llu of %llu", what, (unsigned long long)done,
                   (unsigned long long)total);
}

err api_ready(api *a) {
    api_parts p;
    if (!api_parts_get(a, &p)) return starting(a);
    uint64_t head = shard_head(p.shard), at = shard_lsn(p.shard);
    uint64_t lag = head > at ? head - at : 0;
    bool was = atomic_load_explicit(&a->was_ready, memory_order_relaxed);
    if (lag > (was ? UNREADY_LAG : READY_LAG)) {
        atomic_store_explicit(&a->was_ready, false, memory_order_relaxed);
        return err_set(ERR_AGAIN, "%llu records are not applied yet", (unsigned long long)lag);
    }
    atomic_store_explicit(&a->was_ready, true, memory_order_relaxed);
    return OK;
}

err api_call_begin(api *a, arena *mem, api_call *out) {
    api_parts p;
    if (!api_parts_get(a, &p)) return starting(a);
    *out = (api_call){
        .a = a, .shard = p.shard, .searcher = p.searcher, .provider = p.provider, .mem = mem};
    return OK;
}

err api_invoke(api *a, api_op op, const void *request, arena *mem, void **response, uint64_t *lsn) {
    KITH_ASSERT((unsigned)op < API_OP_COUNT);
    const api_operation *o = &api_operations[op];
    KITH_ASSERT(((const ProtobufCMessage *)request)->descriptor == o->request);
    api_call call;
    TRY(api_call_begin(a, mem, &call));
    *response = NULL;
    err rc = o->fn(&call, request, response);
    KITH_ASSERT(rc != OK || ((ProtobufCMessage *)*response)->descriptor == o->response);
    if (lsn) *lsn = call.lsn ? call.lsn : shard_lsn(call.shard);
    return rc;
}

/* ---- shared by handlers ---- */

void *api_new(api_call *c, const ProtobufCMessageDescriptor *d) {
    ProtobufCMessage *m = arena_alloc(c->mem, d->sizeof_message);
    if (m) protobuf_c_message_init(d, m);
    return m;
}

char *api_text(api_call *c, str s) {
    return arena_dup(c->mem, s);
}

err api_check_id(str s, const char *field) {
    if (s.len < 1 || s.len > POST_ID_MAX)
        return err_set_field(ERR_INVALID, field, "expected 1 to %d bytes, got %zu", POST_ID_MAX,
                             s.len);
    if (!utf8_valid(s, NULL)) return err_set_field(ERR_INVALID, field, "expected valid UTF-8");
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
            return err_set_field(ERR_INVALID, field, "expected no control characters");
    return OK;
}

err api_wait_parse(str text, api_wait *out) {
    *out = str_eq(text, STR("applied"))      ? API_WAIT_APPLIED
           : str_eq(text, STR("searchable")) ? API_WAIT_SEARCHABLE
                                             : API_WAIT_NONE;
    if (*out != API_WAIT_NONE || !text.len) return OK;
    return err_set_field(ERR_INVALID, "wait", "expected applied or searchable, or nothing");
}

err api_wait_for(api_call *c, str id, uint64_t lsn, api_wait what) {
    if (what == API_WAIT_NONE) return OK;
    shard_wait_for w = what == API_WAIT_APPLIED ? WAIT_APPLIED : WAIT_SEARCHABLE;
    err rc = shard_wait(c->shard, id, lsn, w, API_WAIT_MS);
    if (rc != ERR_TIMEOUT) return rc;
    return err_set(ERR_TIMEOUT, "durable at position %llu, but not %s within %d ms",
                   (unsigned long long)lsn, what == API_WAIT_APPLIED ? "applied" : "searchable",
                   API_WAIT_MS);
}
