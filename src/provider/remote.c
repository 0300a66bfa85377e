/* One call to a service that may be slow, full, broken or away.
 *
 * A call's way:  cap on spending (bulk only) -> breaker shut? -> limiter -> breaker -> HTTP, with what is left
 * of the deadline -> what came of it, told to breaker and limiter -> answer, or a retry within the budget.
 *
 * Two breakers, for queries and for documents, since a service may be too full for an import and quick enough
 * for queries. Callers never probe: when an open breaker's time is over, one thread of our own asks
 * with a harmless text. So no search waits for a dead service, and what is asked of a dead service is
 * probes and nothing else.
 *
 * 429 says that the service works: it goes to the limiter, not to the breaker. A query does not wait for room in
 * the limits, it is answered without a vector; a bulk call waits until its deadline.
 *
 * 400 for a single text may be the text or everything (a wrong model name): a call with a harmless text tells.
 *
 * Error texts name the service, the status and its error's name (capitals only): a service's own message may
 * repeat the text that it was sent.
 */
#include "provider/provider_int.h"

#include "net/client.h"
#include <stdio.h>

enum {
    QUERY_MS = 1000,
    CALL_MS = 30000, /* one try of a bulk call */
    BULK_MS = 120000,
    DIRECT_MS = 15000, /* documents that someone waits for */
    QUERY_TRIES = 2,
    BULK_TRIES = 4,
    QUERY_BASE_MS = 20,
    BULK_BASE_MS = 200,
    BULK_CAP_MS = 10000,
    STOCK_MAX = 64,
    BODY_MAX = 32 << 20,
    SPEND_SAVE_S = 10,
    URL_MAX = 512,
    PATH_BYTES = 4096,
    OPS = 2
};
#define NS_PER_MS   1000000u
#define RETRY_SHARE 0.1

typedef enum op { OP_QUERY, OP_DOCUMENT } op;

typedef struct remote {
    /* immutable */
    remote_api api;
    void *self;
    provider_info info;
    char url[URL_MAX];
    char *ca_file, *spend_path; /* or NULL */
    fs *fs;
    uint32_t query_ms, call_ms;
    void (*notice)(void *ctx, const char *text);
    void *ctx;
    thread prober;
    bool probing; /* the thread was started */
    /* with locks of their own */
    breaker breakers[OPS];
    limiter limit;
    retry_budget retries;
    spend spend;
    /* atomic */
    _Atomic bool closing;
    _Atomic size_t texts_max;
    _Atomic uint64_t spend_saved_s;
    _Atomic uint64_t requests, ns, by_fault[REMOTE_CANCELLED + 1];
    _Atomic uint64_t skipped_open, skipped_limit, skipped_spend;
    /* guarded by mu */
    mutex mu;
    cond wake;
    http_client *stock[STOCK_MAX];
    size_t stocked;
    rng rng;
    bool told_open[OPS];
} remote;

static void bump(_Atomic uint64_t *n) {
    atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

static uint64_t read_of(_Atomic uint64_t *n) {
    return atomic_load_explicit(n, memory_order_relaxed);
}

static bool closing(remote *r) {
    return atomic_load_explicit(&r->closing, memory_order_relaxed);
}

static void tell(remote *r, const char *fmt, const char *what, const char *why) {
    char text[256];
    snprintf(text, sizeof text, fmt, r->info.kind, what, why);
    if (r->notice) r->notice(r->ctx, text);
}

/* Sleeps; false when it was cancelled. */
static bool pause_ms(remote *r, uint64_t ms) {
    uint64_t end = clock_mono_ns() + ms * NS_PER_MS, now;
    mutex_lock(&r->mu);
    while (!closing(r) && (now = clock_mono_ns()) < end)
        (void)cond_wait_ms(&r->wake, &r->mu, (end - now) / NS_PER_MS + 1);
    mutex_unlock(&r->mu);
    return !closing(r);
}

/* ---- connections ---- */

static err take_client(remote *r, http_client **out) {
    mutex_lock(&r->mu);
    *out = r->stocked ? r->stock[--r->stocked] : NULL;
    mutex_unlock(&r->mu);
    return *out ? OK : http_client_open(r->url, NULL, out);
}

static void give_client(remote *r, http_client *c) {
    mutex_lock(&r->mu);
    bool room = r->stocked < STOCK_MAX;
    if (room) r->stock[r->stocked++] = c;
    mutex_unlock(&r->mu);
    if (!room) http_client_close(c);
}

/* ---- spending ---- */

static void load_spend(remote *r) {
    uint8_t *p;
    size_t n;
    if (!r->spend_path || file_read_all(r->fs, r->spend_path, KIB, &p, &n) != OK) return;
    str rest = str_trim(str_from(p, n)), part[4];
    spend_stats s = {0};
    bool good = true;
    for (int i = 0; i < 4; i++) good = good && str_split(&rest, ' ', &part[i]);
    if (good && str_to_f64(part[0], &s.day) && str_to_f64(part[1], &s.month) &&
        str_to_i64(part[2], &s.day_number) && str_to_i64(part[3], &s.month_number))
        spend_restore(&r->spend, &s);
    mem_free(p);
}

static void save_spend(remote *r) {
    spend_stats s;
    char text[128];
    if (!r->spend_path) return;
    spend_stats_get(&r->spend, clock_wall_ms(), &s);
    int n = snprintf(text, sizeof text, "%.9g %.9g %lld %lld\n", s.day, s.month,
                     (long long)s.day_number, (long long)s.month_number);
    if (file_write_atomic(r->fs, r->spend_path, text, (size_t)n) != OK)
        tell(r, "%s: %s: %s", "what was spent is not kept", err_detail());
}

static void pay(remote *r, uint64_t tokens) {
    int share = spend_add(&r->spend, clock_wall_ms(), (double)tokens * r->info.cost / 1e6);
    if (share == 80) tell(r, "%s: %s%s", "80 % of the cap on spending is used", "");
    if (share == 100)
        tell(r, "%s: %s%s", "the cap on spending is reached: only queries are embedded", "");
    uint64_t now = (uint64_t)clock_wall_ms() / 1000, last = read_of(&r->spend_saved_s);
    if (now >= last + SPEND_SAVE_S && /* one thread wins */
        atomic_compare_exchange_strong(&r->spend_saved_s, &last, now))
        save_spend(r);
}

/* ---- one try ---- */

typedef struct outcome {
    remote_fault fault;
    err rc;
    uint64_t retry_after_ms;
    remote_hint hint;
} outcome;

static remote_fault fault_of_status(int status) {
    if (status == 200) return REMOTE_OK;
    if (status == 429) return REMOTE_THROTTLED;
    if (status == 408 || status >= 500) return REMOTE_SERVER;
    if (status == 401 || status == 403 || status == 404) return REMOTE_DENIED;
    if (status >= 400) return REMOTE_REFUSED;
    return REMOTE_BAD;
}

static remote_fault fault_of_err(err rc) {
    switch (rc) {
    case ERR_TIMEOUT:
        return REMOTE_TIMEOUT;
    case ERR_CANCELLED:
        return REMOTE_CANCELLED;
    case ERR_TOO_LARGE:
    case ERR_CORRUPT:
        return REMOTE_BAD;
    default:
        return REMOTE_NETWORK;
    }
}

/* error.status or error.code, when it is a name and not a sentence; "" otherwise. */
static const char *error_name(yyjson_val *error) {
    const char *z = yyjson_get_str(yyjson_obj_get(error, "status"));
    if (!z) z = yyjson_get_str(yyjson_obj_get(error, "code"));
    size_t n = z ? strspn(z, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_") : 0;
    return n && n < 40 && !z[n] ? z : "";
}

/* An answer of another status than 200. */
static err read_refusal(remote *r, const remote_call *c, const http_reply *reply, outcome *o) {
    static const err codes[] = {[REMOTE_THROTTLED] = ERR_AGAIN,
                                [REMOTE_SERVER] = ERR_IO,
                                [REMOTE_BAD] = ERR_CORRUPT,
                                [REMOTE_DENIED] = ERR_DENIED,
                                [REMOTE_REFUSED] = ERR_INVALID};
    yyjson_doc *doc = NULL;
    if (json_parse(reply->body, &doc) != OK) doc = NULL; /* a proxy's page: it has no name */
    yyjson_val *error = yyjson_obj_get(yyjson_doc_get_root(doc), "error");
    const char *name = error_name(error);
    r->api.refusal(r->self, reply->status, error, c, &o->hint);
    err rc = err_set(codes[o->fault], "%s: the service answered %d%s%s", r->info.kind,
                     reply->status, name[0] ? " " : "", name);
    yyjson_doc_free(doc);
    return rc;
}

static err read_answer(remote *r, const remote_call *c, const http_reply *reply, float *out,
                       embed_usage *use) {
    str type = http_reply_header(reply, STR("content-type")), json = STR("application/json");
    if (!type.ptr || !str_eq_nocase(str_from(type.ptr, MIN(type.len, json.len)), json))
        return err_set(ERR_CORRUPT, "%s: the answer is not application/json", r->info.kind);
    yyjson_doc *doc;
    if (json_parse(reply->body, &doc) != OK)
        return err_set(ERR_CORRUPT, "the service's answer is no JSON");
    err rc = r->api.answer(yyjson_doc_get_root(doc), c, out, use);
    yyjson_doc_free(doc);
    return rc;
}

static void send_call(remote *r, http_client *http, remote_call *c, float *out, embed_usage *use,
                      outcome *o) {
    uint64_t now = clock_mono_ns(), left = c->deadline_ns > now ? c->deadline_ns - now : 0;
    const char *headers[] = {c->auth.ptr};
    http_reply reply;
    http_ask ask = {.method = "POST",
                    .target = c->target.ptr,
                    .content_type = "application/json",
                    .body = strbuf_str(&c->body),
                    .timeout_ms = (uint32_t)(left / NS_PER_MS) + 1,
                    .headers = headers,
                    .header_count = c->auth.len > 0,
                    .ca_file = r->ca_file,
                    .cancel = c->cancel};
    bump(&r->requests);
    o->rc = http_call(http, &ask, &reply);
    atomic_fetch_add_explicit(&r->ns, clock_mono_ns() - now, memory_order_relaxed);
    if (o->rc != OK) {
        o->fault = fault_of_err(o->rc);
        return;
    }
    o->fault = fault_of_status(reply.status);
    o->retry_after_ms =
        retry_after_ms(http_reply_header(&reply, STR("retry-after")), clock_wall_ms());
    if (o->fault != REMOTE_OK) {
        o->rc = read_refusal(r, c, &reply, o);
        return;
    }
    o->rc = read_answer(r, c, &reply, out, use);
    if (o->rc != OK) o->fault = REMOTE_BAD;
}

/* One call over the wire. */
static outcome try_call(remote *r, const embed_ask *ask, uint64_t deadline, bool may_probe,
                        float *out, embed_usage *use) {
    outcome o = {.fault = REMOTE_NETWORK};
    remote_call c = {.ask = ask,
                     .info = &r->info,
                     .deadline_ns = deadline,
                     .may_probe = may_probe,
                     .cancel = &r->closing};
    http_client *http;
    o.rc = take_client(r, &http);
    if (o.rc != OK) return o;
    strbuf_init(&c.target, 4 * KIB);
    strbuf_init(&c.body, BODY_MAX);
    strbuf_init(&c.auth, 64 * KIB);
    o.rc = r->api.ask(r->self, &c);
    if (o.rc == OK)
        o.rc = c.target.rc != OK ? c.target.rc : c.body.rc != OK ? c.body.rc : c.auth.rc;
    if (o.rc == OK)
        send_call(r, http, &c, out, use, &o);
    else
        o.fault = o.rc == ERR_DENIED ? REMOTE_DENIED : fault_of_err(o.rc);
    strbuf_deinit(&c.target);
    strbuf_deinit(&c.body);
    strbuf_deinit(&c.auth);
    give_client(r, http);
    bump(&r->by_fault[o.fault]);
    return o;
}

static guard_outcome judged(remote_fault f) {
    switch (f) {
    case REMOTE_OK:
        return GUARD_OK;
    case REMOTE_THROTTLED:
    case REMOTE_REFUSED:
    case REMOTE_CANCELLED:
        return GUARD_IGNORED;
    default:
        return GUARD_FAILED;
    }
}

/* Tells of an opened breaker once, and wakes who will probe. */
static void after_call(remote *r, op which) {
    bool shut = breaker_shut(&r->breakers[which], clock_mono_ns()), told;
    mutex_lock(&r->mu);
    told = r->told_open[which];
    r->told_open[which] = shut;
    if (shut) cond_broadcast(&r->wake);
    mutex_unlock(&r->mu);
    if (shut == told) return;
    const char *what = which == OP_QUERY ? "queries" : "documents";
    tell(r, shut ? "%s: breaker open for %s: %s" : "%s: breaker closed for %s%s", what,
         shut ? err_detail() : "");
}

static op op_of(const embed_ask *ask) {
    return ask->task == EMBED_QUERY && !ask->bulk ? OP_QUERY : OP_DOCUMENT;
}

static outcome away(remote *r) {
    bump(&r->skipped_open);
    return (outcome){.fault = REMOTE_CANCELLED,
                     .rc = err_set(ERR_AGAIN, "%s: away for now (breaker open)", r->info.kind)};
}

static outcome guarded_call(remote *r, const embed_ask *ask, uint64_t deadline, bool may_probe,
                            float *out, embed_usage *use) {
    op which = op_of(ask);
    breaker_ticket t;
    breaker *b = &r->breakers[which];
    if (!breaker_enter(b, clock_mono_ns(), may_probe, &t)) return away(r);
    outcome o = try_call(r, ask, deadline, may_probe, out, use);
    if (o.hint.again) o = try_call(r, ask, deadline, may_probe, out, use);
    uint64_t now = clock_mono_ns();
    breaker_leave(b, &t, now, judged(o.fault));
    if (o.fault == REMOTE_THROTTLED) limiter_throttled(&r->limit, now, o.retry_after_ms);
    if (o.hint.texts_max && o.hint.texts_max < atomic_load(&r->texts_max))
        atomic_store(&r->texts_max, o.hint.texts_max);
    if (o.fault == REMOTE_OK) {
        limiter_fine(&r->limit);
        pay(r, use->tokens);
    }
    after_call(r, which);
    return o;
}

/* ---- a whole call: room, tries ---- */

static uint64_t guess(const remote *r, const embed_ask *ask) {
    uint64_t n = 0;
    for (size_t i = 0; i < ask->count; i++) n += provider_guess_tokens(&r->info, ask->texts[i]);
    return n;
}

/* Waits for room in the limits; a query does not wait. */
static err take_room(remote *r, const embed_ask *ask, bool query, uint64_t deadline) {
    uint64_t tokens = guess(r, ask), now, wait;
    while ((wait = limiter_take(&r->limit, now = clock_mono_ns(), (double)tokens, ask->bulk))) {
        if (query || now + wait >= deadline) {
            bump(&r->skipped_limit);
            return err_set(ERR_AGAIN, "%s: the service's limit is used up for now", r->info.kind);
        }
        if (!pause_ms(r, MIN(wait / NS_PER_MS + 1, 1000))) return ERR_CANCELLED;
    }
    return OK;
}

static bool worth_a_retry(remote_fault f) {
    return f == REMOTE_THROTTLED || f == REMOTE_SERVER || f == REMOTE_TIMEOUT ||
           f == REMOTE_NETWORK || f == REMOTE_BAD;
}

/* True when another try may be made, after its pause. */
static bool again(remote *r, const outcome *o, unsigned tries, bool query, uint64_t deadline) {
    if (!worth_a_retry(o->fault) || tries >= (query ? QUERY_TRIES : BULK_TRIES)) return false;
    if (o->fault == REMOTE_THROTTLED && query) return false;
    mutex_lock(&r->mu);
    uint64_t ms = retry_delay_ms(&r->rng, tries - 1, query ? QUERY_BASE_MS : BULK_BASE_MS,
                                 query ? QUERY_BASE_MS * 4 : BULK_CAP_MS);
    mutex_unlock(&r->mu);
    if (clock_mono_ns() + ms * NS_PER_MS >= deadline) return false;
    return retry_budget_take(&r->retries) && pause_ms(r, ms);
}

static outcome tried_call(remote *r, const embed_ask *ask, float *out, embed_usage *use,
                          uint64_t deadline) {
    op which = op_of(ask);
    bool query = which == OP_QUERY;
    outcome o = {.fault = REMOTE_CANCELLED};
    retry_budget_call(&r->retries);
    for (unsigned tries = 1;; tries++) {
        if (breaker_shut(&r->breakers[which], clock_mono_ns())) return away(r);
        o.rc = take_room(r, ask, query, deadline);
        if (o.rc != OK) return o;
        uint64_t one = clock_mono_ns() + (uint64_t)r->call_ms * NS_PER_MS;
        *use = (embed_usage){0};
        o = guarded_call(r, ask, MIN(deadline, one), false, out, use);
        if (o.rc == OK || !again(r, &o, tries, query, deadline)) return o;
    }
}

/* A single text was refused: is it the text, or would anything be refused? */
static err whose_fault(remote *r, uint64_t deadline) {
    err_text said = err_keep();
    str text = STR("kith");
    embed_ask ask = {.texts = &text, .count = 1, .bulk = true};
    embed_usage use = {0};
    float *v = mem_alloc(r->info.dim * sizeof *v);
    if (!v) return ERR_NO_MEMORY;
    outcome o = tried_call(r, &ask, v, &use, deadline);
    mem_free(v);
    if (o.rc == OK) return err_restore(ERR_INVALID, &said);
    if (o.fault != REMOTE_REFUSED) return o.rc;
    return err_set(ERR_DENIED, "%s; it takes no text at all: check model and dimension",
                   said.detail);
}

static uint64_t default_ms(const remote *r, const embed_ask *ask) {
    if (ask->bulk) return BULK_MS;
    return ask->task == EMBED_QUERY ? r->query_ms : DIRECT_MS;
}

static err remote_embed(void *self, const embed_ask *ask, float *out, embed_usage *usage) {
    remote *r = self;
    uint64_t deadline = ask->deadline_ns;
    if (!deadline) deadline = clock_mono_ns() + default_ms(r, ask) * NS_PER_MS;
    if (closing(r)) return err_set(ERR_CANCELLED, "%s: stopping", r->info.kind);
    if (ask->bulk && spend_closed(&r->spend, clock_wall_ms())) {
        bump(&r->skipped_spend);
        return err_set(ERR_AGAIN, "%s: the cap on spending is reached", r->info.kind);
    }
    outcome o = tried_call(r, ask, out, usage, deadline);
    if (o.fault == REMOTE_REFUSED && ask->count == 1 && ask->bulk) return whose_fault(r, deadline);
    return o.rc;
}

/* ---- probing ---- */

static void probe(remote *r, op which) {
    str text = STR("kith");
    embed_ask ask = {.texts = &text,
                     .count = 1,
                     .task = which == OP_QUERY ? EMBED_QUERY : EMBED_DOCUMENT,
                     .bulk = which == OP_DOCUMENT};
    embed_usage use = {0};
    uint64_t ms = which == OP_QUERY ? r->query_ms : r->call_ms;
    float *v = mem_alloc(r->info.dim * sizeof *v);
    if (!v) return;
    if (limiter_take(&r->limit, clock_mono_ns(), 2, false) == 0)
        (void)guarded_call(r, &ask, clock_mono_ns() + ms * NS_PER_MS, true, v, &use);
    else
        (void)pause_ms(r, 100);
    mem_free(v);
}

static void prober_main(void *arg) {
    remote *r = arg;
    while (!closing(r)) {
        uint64_t next = UINT64_MAX;
        for (op i = OP_QUERY; i <= OP_DOCUMENT; i++) {
            uint64_t in = breaker_probe_in(&r->breakers[i], clock_mono_ns());
            if (in == 0) probe(r, i);
            next = MIN(next, in);
        }
        mutex_lock(&r->mu);
        if (!closing(r) && next == UINT64_MAX)
            cond_wait(&r->wake, &r->mu);
        else if (!closing(r))
            (void)cond_wait_ms(&r->wake, &r->mu, MIN(next / NS_PER_MS + 1, 1000));
        mutex_unlock(&r->mu);
    }
}

/* ---- life ---- */

static void remote_cancel(void *self) {
    remote *r = self;
    mutex_lock(&r->mu);
    atomic_store(&r->closing, true);
    cond_broadcast(&r->wake);
    mutex_unlock(&r->mu);
}

static void remote_close(void *self) {
    remote *r = self;
    remote_cancel(r);
    if (r->probing) thread_join(&r->prober);
    if (r->info.cost > 0) save_spend(r);
    while (r->stocked) http_client_close(r->stock[--r->stocked]);
    for (int i = 0; i < OPS; i++) breaker_deinit(&r->breakers[i]);
    limiter_deinit(&r->limit);
    retry_budget_deinit(&r->retries);
    spend_deinit(&r->spend);
    cond_deinit(&r->wake);
    mutex_deinit(&r->mu);
    r->api.close(r->self);
    mem_free(r->ca_file);
    mem_free(r->spend_path);
    mem_free(r);
}

static size_t remote_texts_max(void *self) {
    remote *r = self;
    return atomic_load(&r->texts_max);
}

static void remote_stats(void *self, provider_stats *out) {
    remote *r = self;
    uint64_t now = clock_mono_ns();
    out->requests = read_of(&r->requests);
    out->request_ns = read_of(&r->ns);
    out->ok = read_of(&r->by_fault[REMOTE_OK]);
    out->throttled = read_of(&r->by_fault[REMOTE_THROTTLED]);
    out->server_errors = read_of(&r->by_fault[REMOTE_SERVER]);
    out->timeouts = read_of(&r->by_fault[REMOTE_TIMEOUT]);
    out->network_errors = read_of(&r->by_fault[REMOTE_NETWORK]);
    out->bad_answers = read_of(&r->by_fault[REMOTE_BAD]);
    out->denied = read_of(&r->by_fault[REMOTE_DENIED]);
    out->refused = read_of(&r->by_fault[REMOTE_REFUSED]);
    out->skipped_open = read_of(&r->skipped_open);
    out->skipped_limit = read_of(&r->skipped_limit);
    out->skipped_spend = read_of(&r->skipped_spend);
    mutex_lock(&r->retries.mu);
    out->retries = r->retries.retries;
    out->retries_refused = r->retries.refused;
    mutex_unlock(&r->retries.mu);
    breaker_stats_get(&r->breakers[OP_QUERY], now, &out->query);
    breaker_stats_get(&r->breakers[OP_DOCUMENT], now, &out->document);
    limiter_stats_get(&r->limit, now, &out->limit);
    spend_stats_get(&r->spend, clock_wall_ms(), &out->spent);
    if (r->api.stats) r->api.stats(r->self, out);
}

static err copy_strings(remote *r, const provider_config *c) {
    if (c->ca_file && !(r->ca_file = mem_dup(c->ca_file, strlen(c->ca_file) + 1)))
        return ERR_NO_MEMORY;
    if (!c->cache_dir) return OK;
    char path[PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/embed-spend", c->cache_dir);
    if (n >= (int)sizeof path) return err_set(ERR_INVALID, "data directory: path too long");
    r->spend_path = mem_dup(path, (size_t)n + 1);
    return r->spend_path ? OK : ERR_NO_MEMORY;
}

/* Locks are made first and all at once, so that closing a half-made one is the same as a whole one. */
static err make_locks(remote *r, const provider_config *c) {
    breaker_options query = c->breaker, document = c->breaker;
    query.slow_ms = c->breaker.slow_ms ? c->breaker.slow_ms : r->query_ms;
    document.slow_ms = c->breaker.slow_ms ? c->breaker.slow_ms : r->call_ms;
    query.probe_ms = document.probe_ms = MAX(r->query_ms, r->call_ms) + 5000;
    TRY(mutex_init(&r->mu));
    TRY(cond_init(&r->wake));
    TRY(breaker_init(&r->breakers[OP_QUERY], &query));
    TRY(breaker_init(&r->breakers[OP_DOCUMENT], &document));
    TRY(limiter_init(&r->limit, &c->limit));
    TRY(retry_budget_init(&r->retries, RETRY_SHARE));
    return spend_init(&r->spend, &c->spend);
}

/* One call whose only use is the number of dimensions. */
static err ask_dim(remote *r) {
    str text = STR("kith");
    embed_ask ask = {.texts = &text, .count = 1, .bulk = true};
    embed_usage use = {0};
    float *v = mem_alloc(PROVIDER_DIM_MAX * sizeof *v);
    if (!v) return ERR_NO_MEMORY;
    r->info.dim = 0;
    /* answer() counts: it writes how many there were into the first number. */
    outcome o =
        try_call(r, &ask, clock_mono_ns() + (uint64_t)r->call_ms * NS_PER_MS, true, v, &use);
    if (o.rc == OK) r->info.dim = (uint32_t)v[0];
    mem_free(v);
    if (o.rc == OK) return OK;
    return err_set(o.rc, "%s (with --embed-dim nothing is asked at the start)", err_detail());
}

static err start(remote *r, const provider_config *c) {
    str url = str_of(r->url);
    if (!str_starts(url, STR("http://")) && !str_starts(url, STR("https://")))
        return err_set(ERR_INVALID, "--embed-url: expected http://... or https://...");
    TRY(copy_strings(r, c));
    load_spend(r);
    if (!r->info.dim) TRY(ask_dim(r));
    if (r->info.dim < 8 || r->info.dim > PROVIDER_DIM_MAX)
        return err_set(ERR_INVALID, "%s: expected 8 to %d dimensions, got %u", r->info.kind,
                       PROVIDER_DIM_MAX, r->info.dim);
    TRY(thread_start(&r->prober, "kith-probe", prober_main, r));
    r->probing = true;
    return OK;
}

err remote_make(const provider_config *c, const char *url, const remote_api *api, void *self,
                provider_info *info, provider **out) {
    static const provider_ops ops = {remote_embed, remote_close, remote_cancel, remote_texts_max,
                                     remote_stats};
    *out = NULL;
    remote *r = mem_zalloc(1, sizeof *r);
    if (!r) {
        api->close(self);
        return ERR_NO_MEMORY;
    }
    r->api = *api;
    r->self = self;
    r->info = *info;
    r->fs = c->fs ? c->fs : fs_real();
    r->query_ms = c->query_ms ? c->query_ms : QUERY_MS;
    r->call_ms = c->call_ms ? c->call_ms : CALL_MS;
    r->notice = c->notice;
    r->ctx = c->ctx;
    snprintf(r->url, sizeof r->url, "%s", url);
    atomic_store(&r->texts_max, info->texts_max);
    rng_seed(&r->rng, clock_mono_ns());
    err rc = make_locks(r, c);
    if (rc == OK) rc = start(r, c);
    if (rc != OK) {
        err_text kept = err_keep();
        remote_close(r);
        return err_restore(rc, &kept);
    }
    provider_space_set(&r->info, info->kind, str_of(info->space), NULL);
    return provider_make(&ops, r, &r->info, c, out);
}

/* ---- what the protocols share ---- */

void remote_known_model(const provider_config *c, const known_model *known, size_t n,
                        const char *model, provider_info *info) {
    info->dim = c->dim;
    info->cost = MAX(c->cost, 0);
    snprintf(info->space, sizeof info->space, "%s", model);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(model, known[i].name) != 0) continue;
        if (!info->dim) info->dim = known[i].dim;
        if (c->cost < 0) info->cost = known[i].cost;
    }
}

err remote_vector(float *v, uint32_t dim) {
    if (provider_unit(v, dim)) return OK;
    return err_set(ERR_CORRUPT, "the service gave a vector without a length");
}

err remote_numbers(yyjson_val *array, uint32_t dim, float *out) {
    size_t n = yyjson_arr_size(array), i, most;
    yyjson_val *x;
    if (dim == 0) { /* only asked how many: see ask_dim */
        out[0] = (float)n;
        return n && n <= PROVIDER_DIM_MAX ? OK : err_set(ERR_CORRUPT, "expected a vector");
    }
    if (!yyjson_is_arr(array) || n != dim)
        return err_set(ERR_CORRUPT, "the service gave %zu dimensions, expected %u", n, dim);
    yyjson_arr_foreach(array, i, most, x) {
        if (!yyjson_is_num(x))
            return err_set(ERR_CORRUPT, "the service gave a vector of no numbers");
        out[i] = (float)yyjson_get_num(x);
    }
    return remote_vector(out, dim);
}
