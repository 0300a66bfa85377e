/* What the mapping costs: an answer of ten hits written, a post read (plain, and with a vector of
 * 384 numbers), a query string read. CPU time, best of five rounds.
 *
 *     bench_api_json_map
 */
#include "api/json_map.h"
#include "api/api.h"

#include <google/protobuf/timestamp.pb-c.h>
#include <kith/v1/search.pb-c.h>
#include <stdio.h>

enum { ROUNDS = 5, TIMES = 20000, HITS = 10 };

static char body_text[] =
    "The kettle in the kitchen of the third floor has been \"fixed\" again; if it trips the fuse, "
    "please tell me rather than hiding it behind the coffee machine \xe2\x80\x94 last time it took "
    "a week to find. \xf0\x9f\x98\x80 Thanks to everybody who helped to clean up on Friday!";

typedef struct hits {
    Kith__V1__SearchResponse answer;
    Kith__V1__Hit hit[HITS], *list[HITS];
    Kith__V1__Post post[HITS];
    Google__Protobuf__Timestamp when;
    Kith__V1__Range range, *ranges[2];
    char *tags[2];
} hits;

static void make_hits(hits *h) {
    static char id[] = "post-1234567", author[] = "someone", next[] = "c29tZSBjdXJzb3I",
                tag[] = "tea";
    kith__v1__search_response__init(&h->answer);
    google__protobuf__timestamp__init(&h->when);
    kith__v1__range__init(&h->range);
    h->when.seconds = 1714979289;
    h->range.start = 4, h->range.end = 10;
    h->ranges[0] = h->ranges[1] = &h->range;
    h->tags[0] = h->tags[1] = tag;
    for (int i = 0; i < HITS; i++) {
        Kith__V1__Post *p = &h->post[i];
        kith__v1__post__init(p);
        kith__v1__hit__init(&h->hit[i]);
        p->id = id, p->author = author, p->text = body_text, p->thread = id, p->reply_to = id;
        p->tags = h->tags, p->n_tags = 2, p->created_at = &h->when, p->lsn = 123456;
        h->hit[i].post = p, h->hit[i].score = 0.73120001 / (i + 1), h->hit[i].snippet = body_text;
        h->hit[i].highlights = h->ranges, h->hit[i].n_highlights = 2;
        h->list[i] = &h->hit[i];
    }
    h->answer.hits = h->list, h->answer.n_hits = HITS;
    h->answer.lsn = 4711, h->answer.matching = 45, h->answer.took_ms = 0.341;
    h->answer.next_cursor = next;
}

static double best(void (*fn)(void *), void *arg) {
    uint64_t least = UINT64_MAX;
    for (int r = 0; r < ROUNDS; r++) {
        uint64_t t = clock_thread_cpu_ns();
        for (int i = 0; i < TIMES; i++) fn(arg);
        least = MIN(least, clock_thread_cpu_ns() - t);
    }
    return (double)least / TIMES / 1000;
}

static size_t written;
static void write_hits(void *arg) {
    strbuf b; /* a new one each time, as a request has */
    strbuf_init(&b, MIB);
    json_map_write(&b, &((hits *)arg)->answer);
    written = b.len;
    strbuf_deinit(&b);
}

typedef struct input {
    str text;
    arena mem;
} input;

static void read_post(void *arg) {
    input *in = arg;
    Kith__V1__PutPostRequest *r;
    arena_reset(&in->mem);
    KITH_ASSERT(api_parse_post(&in->mem, in->text, &r) == OK);
}

static void read_query(void *arg) {
    input *in = arg;
    Kith__V1__SearchRequest r;
    kith__v1__search_request__init(&r);
    arena_reset(&in->mem);
    KITH_ASSERT(json_map_query(&in->mem, &r, in->text, NULL) == OK);
}

static void report(const char *what, double us, size_t bytes) {
    printf("%-32s %8.2f us  %6zu bytes  %7.0f MB/s\n", what, us, bytes, (double)bytes / us);
}

int main(void) {
    static hits h;
    make_hits(&h);
    input in = {
        .text = STR("{\"id\":\"post-1234567\",\"author\":\"someone\",\"created_at\":\"2024-05-06T"
                    "07:08:09Z\",\"reply_to\":\"p\",\"tags\":[\"tea\",\"fuse\"],\"likes\":3,"
                    "\"text\":\"The kettle in the kitchen of the third floor has been fixed "
                    "again; if it trips the fuse, please tell me.\"}")};
    arena_init(&in.mem, 16 * MIB);
    double us = best(write_hits, &h);
    report("write an answer of ten hits", us, written);
    report("read a post", best(read_post, &in), in.text.len);
    strbuf b;
    strbuf_init(&b, MIB);
    strbuf_addz(&b, "{\"id\":\"1\",\"text\":\"t\",\"vector\":[");
    for (int i = 0; i < 384; i++) {
        strbuf_addz(&b, i ? "," : "");
        json_map_write_real(&b, 0.0123456789 * (i % 17 - 8.5), true);
    }
    strbuf_addz(&b, "]}");
    in.text = strbuf_str(&b);
    report("read a post with a vector", best(read_post, &in), in.text.len);
    in.text =
        STR("q=electric+kettle&limit=10&author=someone&after=2024-05-06&recency=0.3&explain=1");
    report("read a query string", best(read_query, &in), in.text.len);
    strbuf_deinit(&b);
    arena_deinit(&in.mem);
    return 0;
}
