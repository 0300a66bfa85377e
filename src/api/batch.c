/* POST /v1/posts:batch: NDJSON in, NDJSON out, both streamed.
 *
 * The body is read in pieces; all whole lines of what has arrived form a group (at most GROUP_MAX),
 * which is one append to the journal, so the group's size sets itself: while one group is being
 * synced, the next arrives. Each line gets one result line, in order. Nothing is kept of the past:
 * memory is one line's limit, one read and one group.
 *
 * A bad line is answered and passed over. A line over API_LINE_MAX is skipped to its end. A group
 * that the shard refuses as a whole gets that error on each of its lines; when the cause will not
 * pass (disk full, a failed file), the answer ends there: fewer results than lines. ERR_AGAIN is
 * waited out here, up to AGAIN_TRIES: the client has no better way to wait.
 *
 * Sending the same batch again is harmless: what is there already is "unchanged" and not appended.
 * `lsn` of a result is a position at or behind its record: having applied it means having the post.
 * Store readers are never held while shard_has_same runs, which takes one itself.
 */
#include "api/api_int.h"

#include <kith/v1/posts.pb-c.h>

#define READ_BYTES   (256 * KIB)
#define GROUP_MAX    1024
#define GROUP_MEMORY (64 * MIB)
#define RESULTS_MAX  (8 * MIB)
#define AGAIN_TRIES  100
#define AGAIN_MS     50

typedef struct item {
    uint64_t line;
    Kith__V1__PutPostRequest *request; /* NULL: error holds what was wrong */
    str error;                         /* members of its problem, in the group's arena */
    const char *outcome;               /* NULL: to be appended */
    bool there;                        /* before this group, or earlier in it */
    uint64_t lsn;
} item;

typedef struct batch {
    api *a;
    net_request *rq;
    const api_http *h;
    api_call call; /* its mem is `group` */
    arena group;
    char *buf; /* API_LINE_MAX + READ_BYTES */
    size_t len;
    uint64_t line;
    bool skipping; /* inside a line that is too long */
    bool failed;   /* end the answer */
    item *items;   /* GROUP_MAX */
    size_t count;
    shard_item *puts; /* GROUP_MAX */
    strbuf results;
    uint64_t last_lsn;
    api_wait wait;
} batch;

/* ---- results ---- */

static str problem(batch *b, err rc) {
    strbuf s;
    strbuf_init(&s, 8 * KIB);
    api_problem_members(&s, rc, b->h->local, true);
    char *z = s.rc == OK ? arena_dup(&b->group, strbuf_str(&s)) : NULL;
    str out = z ? str_from(z, s.len) : STR("\"status\":503,\"code\":\"no_memory\"");
    strbuf_deinit(&s);
    return out;
}

static void write_result(strbuf *out, const item *it) {
    strbuf_addf(out, "{\"line\":%llu", (unsigned long long)it->line);
    if (it->request) {
        strbuf_addz(out, ",\"id\":");
        strbuf_add_json(out, str_of(it->request->post->id));
    }
    if (it->error.len)
        strbuf_addf(out, ",\"error\":{" STR_FMT "}}\n", STR_ARG(it->error));
    else
        strbuf_addf(out, ",\"outcome\":\"%s\",\"lsn\":%llu}\n", it->outcome,
                    (unsigned long long)it->lsn);
}

static void send_results(batch *b) {
    err rc = b->results.rc;
    if (rc == OK && b->results.len) rc = net_respond_write(b->rq, strbuf_str(&b->results));
    if (rc != OK) b->failed = true;
    strbuf_reset(&b->results);
}

/* A result that is of no line. */
static void send_failure(batch *b, err rc) {
    item it = {.error = problem(b, rc)};
    write_result(&b->results, &it);
    send_results(b);
    b->failed = true;
}

/* ---- a group ---- */

static void find_unchanged(batch *b) {
    for (size_t i = 0; i < b->count; i++) {
        item *it = &b->items[i];
        if (!it->request || it->there) continue;
        const float *vector = it->request->n_vector ? it->request->vector : NULL;
        if (shard_has_same(b->call.shard, it->request->post, vector, &it->lsn))
            it->outcome = "unchanged";
    }
}

static void find_existing(batch *b) {
    store *s = shard_store(b->call.shard);
    store_reader *r = store_reader_get(s);
    uint32_t doc;
    for (size_t i = 0; i < b->count; i++) {
        item *it = &b->items[i];
        if (it->request && !it->outcome && !it->there)
            it->there = store_doc_of(r, str_of(it->request->post->id), &doc) == OK;
    }
    store_reader_put(s, r);
}

/* Marks ids that stand earlier in the group: they are there, whatever the store says. */
static err find_repeated(batch *b) {
    strmap *ids = strmap_new();
    err rc = ids ? OK : ERR_NO_MEMORY;
    for (size_t i = 0; rc == OK && i < b->count; i++) {
        item *it = &b->items[i];
        if (!it->request) continue;
        str id = str_of(it->request->post->id);
        it->there = strmap_get(ids, id) != MAP_NONE;
        if (!it->there) rc = strmap_put(ids, id, (uint32_t)i);
    }
    strmap_free(ids);
    return rc;
}

static err append(batch *b, const shard_item *items, size_t n, uint64_t *lsn) {
    err rc = ERR_AGAIN;
    for (int i = 0; i < AGAIN_TRIES && rc == ERR_AGAIN && !net_cancelled(b->rq); i++) {
        if (i) clock_sleep_ms(AGAIN_MS);
        rc = shard_put(b->call.shard, items, n, lsn);
    }
    return rc;
}

static void settle(batch *b, item *it, err rc, uint64_t lsn) {
    if (rc == OK) {
        it->outcome = it->there ? "replaced" : "created";
        it->lsn = lsn;
        b->last_lsn = MAX(b->last_lsn, lsn);
        return;
    }
    it->error = problem(b, rc);
    if (rc == ERR_NO_SPACE || rc == ERR_IO || rc == ERR_CORRUPT || rc == ERR_CANCELLED)
        b->failed = true;
}

static bool must_append(const item *it) {
    return it->request && !it->outcome && !it->error.len;
}

static void append_one_by_one(batch *b) {
    for (size_t i = 0; i < b->count && !b->failed; i++) {
        item *it = &b->items[i];
        if (!must_append(it)) continue;
        const Kith__V1__PutPostRequest *r = it->request;
        shard_item one = {r->post, r->n_vector ? r->vector : NULL};
        uint64_t lsn = 0;
        settle(b, it, append(b, &one, 1, &lsn), lsn);
    }
}

static void append_group(batch *b) {
    size_t n = 0;
    for (size_t i = 0; i < b->count; i++) {
        if (!must_append(&b->items[i])) continue;
        const Kith__V1__PutPostRequest *r = b->items[i].request;
        b->puts[n++] = (shard_item){r->post, r->n_vector ? r->vector : NULL};
    }
    if (!n) return;
    uint64_t lsn = 0;
    err rc = append(b, b->puts, n, &lsn);
    if (rc == ERR_INVALID) { /* one of them: the others must not suffer */
        append_one_by_one(b);
        return;
    }
    for (size_t i = 0; i < b->count; i++)
        if (must_append(&b->items[i])) settle(b, &b->items[i], rc, lsn);
}

static void run_group(batch *b) {
    if (!b->count) return;
    err rc = find_repeated(b);
    if (rc == OK) {
        find_unchanged(b);
        find_existing(b);
        append_group(b);
    }
    for (size_t i = 0; i < b->count; i++) {
        if (rc != OK && must_append(&b->items[i])) settle(b, &b->items[i], rc, 0);
        if (b->items[i].error.len || b->items[i].outcome) write_result(&b->results, &b->items[i]);
    }
    bool failed = b->failed;
    send_results(b);
    b->failed = b->failed || failed;
    b->count = 0;
    arena_reset(&b->group);
}

/* ---- lines ---- */

static err read_line(batch *b, str line, item *it) {
    TRY(api_parse_post(&b->group, line, &it->request));
    err rc = api_check_put(&b->call, it->request);
    if (rc != OK) it->request = NULL;
    return rc;
}

static void add_line(batch *b, str line) {
    b->line++;
    if (!str_trim(line).len) return;
    item *it = &b->items[b->count++];
    *it = (item){.line = b->line};
    err rc = line.len > API_LINE_MAX
                 ? err_set(ERR_TOO_LARGE, "expected a line of at most %zu bytes", API_LINE_MAX)
                 : read_line(b, line, it);
    if (rc != OK) {
        it->request = NULL;
        it->error = problem(b, rc);
    }
    if (b->count == GROUP_MAX) run_group(b);
}

/* Takes the whole lines of the buffer and keeps the rest. */
static void take_lines(batch *b, bool at_end) {
    str rest = str_from(b->buf, b->len);
    ptrdiff_t eol;
    while (!b->failed && (eol = str_find_byte(rest, '\n')) >= 0) {
        if (b->skipping)
            b->skipping = false;
        else
            add_line(b, str_from(rest.ptr, (size_t)eol));
        rest = str_skip(rest, (size_t)eol + 1);
    }
    bool too_long = rest.len > API_LINE_MAX;
    if (!b->failed && rest.len && !b->skipping && (at_end || too_long)) add_line(b, rest);
    if (b->skipping || too_long) {
        b->skipping = true;
        rest.len = 0;
    }
    if (rest.len) memmove(b->buf, rest.ptr, rest.len);
    b->len = rest.len;
}

static void run_body(batch *b) {
    size_t got = 1;
    while (got && !b->failed) {
        err rc = net_body_read(b->rq, b->buf + b->len, READ_BYTES, &got);
        if (rc != OK) {
            send_failure(b, rc);
            return;
        }
        b->len += got;
        take_lines(b, got == 0);
        run_group(b);
    }
}

static void run_wait(batch *b) {
    if (b->failed || b->wait == API_WAIT_NONE || !b->last_lsn) return;
    err rc = api_wait_for(&b->call, (str){"", 0}, b->last_lsn, b->wait);
    if (rc != OK) send_failure(b, rc);
}

/* ---- the request ---- */

static err read_parameters(batch *b) {
    str rest = b->rq->query, key, value;
    while (rest.len) {
        TRY(net_query_next(b->rq->arena, &rest, &key, &value));
        if (!key.len && !value.len) continue;
        if (!str_eq(key, STR("wait"))) {
            char *name = arena_dup(b->rq->arena, utf8_cut(key, 100));
            return err_set_field(ERR_INVALID, name ? name : "", "unknown parameter");
        }
        TRY(api_wait_parse(value, &b->wait));
        if (b->wait == API_WAIT_SEARCHABLE)
            return err_set_field(ERR_INVALID, "wait", "expected applied, or nothing, for a batch");
    }
    return OK;
}

static err prepare(batch *b) {
    TRY(read_parameters(b));
    TRY(api_call_begin(b->a, &b->group, &b->call));
    b->buf = mem_alloc(API_LINE_MAX + READ_BYTES);
    b->items = mem_alloc(GROUP_MAX * sizeof *b->items);
    b->puts = mem_alloc(GROUP_MAX * sizeof *b->puts);
    if (!b->buf || !b->items || !b->puts) return ERR_NO_MEMORY;
    net_header headers[API_HEADERS_MAX];
    api_answer r = {.type = "application/x-ndjson", .lsn = shard_lsn(b->call.shard)};
    size_t n = api_headers(b->rq, b->h, &r, headers);
    return net_respond_begin(b->rq, 200, headers, n);
}

void api_run_batch(api *a, net_request *rq, api_http *h) {
    batch b = {.a = a, .rq = rq, .h = h};
    arena_init(&b.group, GROUP_MEMORY);
    strbuf_init(&b.results, RESULTS_MAX);
    err rc = prepare(&b);
    if (rc == OK) {
        run_body(&b);
        run_wait(&b);
        net_respond_end(rq, NULL, 0);
    } else if (rc == ERR_CANCELLED) {
        net_respond_end(rq, NULL, 0);
    } else {
        api_respond_error(a, rq, h, rc);
    }
    strbuf_deinit(&b.results);
    arena_deinit(&b.group);
    mem_free(b.buf);
    mem_free(b.items);
    mem_free(b.puts);
}
