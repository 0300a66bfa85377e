/* A ring of searches, and a table from the hash of a search's id to its place in the ring: open
 * addressing over twice the room, rebuilt in place as old ones leave (a slot whose search was
 * overwritten no longer matches, and the next one of its chain is found behind it).
 */
#include "api/quality.h"

#include "obs/catalog.h"

enum { SLOTS = 2 * QUALITY_SEARCHES, PROBES_MAX = 32 };

typedef struct seen_search {
    uint64_t id, client; /* hashes; client 0: not known */
    int64_t at_ms;
    uint32_t hits;
    int32_t best; /* the first place that was clicked; 0: none */
    bool seen, again;
} seen_search;

struct quality {
    mutex mu; /* guards all */
    uint64_t count;
    seen_search ring[QUALITY_SEARCHES];
    uint32_t slots[SLOTS]; /* place in the ring, + 1; 0: free */
};

err quality_new(quality **out) {
    *out = NULL;
    quality *q = mem_zalloc(1, sizeof *q);
    if (!q) return ERR_NO_MEMORY;
    err rc = mutex_init(&q->mu);
    if (rc != OK)
        mem_free(q);
    else
        *out = q;
    return rc;
}

void quality_free(quality *q) {
    if (!q) return;
    mutex_deinit(&q->mu);
    mem_free(q);
}

static uint64_t hash_of(str s) {
    return hash64(s.ptr, s.len, 0) | 1;
}

static seen_search *find(quality *q, uint64_t id) {
    for (unsigned i = 0; i < PROBES_MAX; i++) {
        uint32_t at = q->slots[(id + i) % SLOTS];
        if (at && q->ring[at - 1].id == id) return &q->ring[at - 1];
    }
    return NULL;
}

void quality_search(quality *q, str search_id, size_t hits, int64_t now_ms) {
    uint64_t id = hash_of(search_id);
    mutex_lock(&q->mu);
    uint32_t at = (uint32_t)(q->count++ % QUALITY_SEARCHES);
    uint64_t old = q->ring[at].id;
    for (unsigned i = 0; old && i < PROBES_MAX; i++)
        if (q->slots[(old + i) % SLOTS] == at + 1) q->slots[(old + i) % SLOTS] = 0;
    q->ring[at] = (seen_search){.id = id, .at_ms = now_ms, .hits = (uint32_t)MIN(hits, 1000u)};
    for (unsigned i = 0; i < PROBES_MAX; i++) {
        uint32_t *slot = &q->slots[(id + i) % SLOTS];
        if (*slot) continue;
        *slot = at + 1;
        break;
    }
    mutex_unlock(&q->mu);
}

/* An earlier search of this client without a click was not what they wanted. */
static void mark_again(quality *q, const seen_search *s) {
    uint64_t n = MIN(q->count, (uint64_t)QUALITY_SEARCHES);
    for (uint64_t i = 0; i < n; i++) {
        seen_search *o = &q->ring[i];
        if (o != s && o->client == s->client && !o->best && o->at_ms <= s->at_ms &&
            s->at_ms - o->at_ms <= QUALITY_AGAIN_MS)
            o->again = true;
    }
}

void quality_act(quality *q, str search_id, str client, unsigned action, int32_t place) {
    mutex_lock(&q->mu);
    seen_search *s = find(q, hash_of(search_id));
    if (s) {
        s->seen = true;
        if (client.len && !s->client) {
            s->client = hash_of(client);
            mark_again(q, s);
        }
        bool click = action == ACTION_CLICK || action == ACTION_REPLY;
        if (click && place > 0 && (!s->best || place < s->best)) s->best = place;
        if (s->best) s->again = false;
    }
    mutex_unlock(&q->mu);
}

void quality_look(quality *q, int64_t now_ms, quality_view *out) {
    uint64_t zero = 0, first = 0, ten = 0, left = 0, again = 0;
    double mrr = 0;
    *out = (quality_view){.searches = 0};
    mutex_lock(&q->mu);
    out->searches = MIN(q->count, (uint64_t)QUALITY_SEARCHES);
    for (uint64_t i = 0; i < out->searches; i++) {
        const seen_search *s = &q->ring[i];
        zero += s->hits == 0;
        if (!s->seen) continue;
        out->seen++;
        first += s->best == 1;
        ten += s->best >= 1 && s->best <= 10;
        if (s->best) mrr += 1.0 / s->best;
        left += s->hits && !s->best && now_ms - s->at_ms >= QUALITY_SETTLE_MS;
        again += s->again;
    }
    mutex_unlock(&q->mu);
    double seen = (double)MAX(out->seen, 1u);
    out->zero = (double)zero / (double)MAX(out->searches, 1u);
    out->ctr_1 = (double)first / seen;
    out->ctr_10 = (double)ten / seen;
    out->mrr = mrr / seen;
    out->abandoned = (double)left / seen;
    out->reformulated = (double)again / seen;
}
