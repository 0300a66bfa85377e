/* The cache in memory: W-TinyLFU (Einziger, Friedman and Manes 2017).
 *
 * Three lists in order of use: a window of 1 % for what is new, and a main part of a probation list and a
 * protected one of 80 %. What falls out of the window comes into the main part only when it was asked
 * for more often than the one that would have to go; the counts are a count-min sketch of four rows of
 * bytes, halved every ten capacities, so that an import of a million texts, each seen once, does not
 * push out the queries that people repeat.
 *
 * Invariants: an entry is in exactly one list and in one chain of the table; entries [0, used) are live but
 * for those on the free list; window + probation + protected + free = used.
 * The sketch has eight counters an entry: with one, what came once in an age fills all of them.
 * Bytes an entry: dim x 4 for the vector, 32 for key and links, 4 to 8 of the table, 32 to 64 of the
 * sketch.
 */
#include "provider/provider_int.h"

#define NONE UINT32_MAX
enum { ROWS = 4, AGE = 10, WIDE = 8, ENTRIES_MIN = 16, COUNT_MAX = 15 };
typedef enum part { WINDOW, PROBATION, PROTECTED, FREE, PARTS } part;

typedef struct entry {
    cache_key key;
    uint32_t prev, next, chain;
    uint32_t part;
} entry;

typedef struct list {
    uint32_t head, tail, count; /* head: used last */
} list;

struct cache {
    uint32_t dim, capacity, window_max, protected_max, mask, sketch_mask; /* immutable */
    mutex mu;                                                             /* guards the rest */
    entry *e;
    float *vectors;
    uint32_t *table;
    uint8_t *sketch; /* ROWS x (sketch_mask + 1) */
    list lists[PARTS];
    uint32_t used;
    uint64_t counted;
};

err cache_open(size_t bytes, uint32_t dim, cache **out) {
    *out = NULL;
    cache *c = mem_zalloc(1, sizeof *c);
    if (!c) return ERR_NO_MEMORY;
    size_t each = dim * sizeof(float) + sizeof(entry) + 2 * (WIDE * ROWS + sizeof(uint32_t));
    c->dim = dim;
    c->capacity = (uint32_t)MIN(MAX(bytes / each, ENTRIES_MIN), 1u << 24);
    c->window_max = MAX(c->capacity / 100, 1);
    c->protected_max = (uint32_t)((uint64_t)(c->capacity - c->window_max) * 4 / 5);
    uint32_t slots = 1;
    while (slots < c->capacity) slots *= 2;
    c->mask = slots - 1;
    c->e = mem_alloc(((size_t)c->capacity + 1) * sizeof *c->e);
    c->vectors = mem_alloc(((size_t)c->capacity + 1) * dim * sizeof *c->vectors);
    c->table = mem_alloc((size_t)slots * sizeof *c->table);
    c->sketch_mask = slots * WIDE - 1;
    c->sketch = mem_zalloc((size_t)slots * WIDE, ROWS);
    err rc = c->e && c->vectors && c->table && c->sketch ? mutex_init(&c->mu) : ERR_NO_MEMORY;
    if (rc != OK) {
        mem_free(c->e), mem_free(c->vectors), mem_free(c->table), mem_free(c->sketch), mem_free(c);
        return rc;
    }
    memset(c->table, 0xff, (size_t)slots * sizeof *c->table);
    for (int i = 0; i < PARTS; i++) c->lists[i] = (list){NONE, NONE, 0};
    *out = c;
    return OK;
}

void cache_close(cache *c) {
    if (!c) return;
    mutex_deinit(&c->mu);
    mem_free(c->e), mem_free(c->vectors), mem_free(c->table), mem_free(c->sketch);
    mem_free(c);
}

/* ---- counts ---- */

static uint8_t *counter(cache *c, const cache_key *k, uint32_t row) {
    uint64_t h = hash64_u64(k->h[1] + row * 0x9e3779b97f4a7c15u);
    return c->sketch + (size_t)row * (c->sketch_mask + 1) + (h & c->sketch_mask);
}

static void count(cache *c, const cache_key *k) {
    for (uint32_t r = 0; r < ROWS; r++) {
        uint8_t *n = counter(c, k, r);
        if (*n < COUNT_MAX) ++*n;
    }
    if (++c->counted < (uint64_t)c->capacity * AGE) return;
    c->counted /= 2;
    for (size_t i = 0; i < (size_t)ROWS * (c->sketch_mask + 1); i++) c->sketch[i] /= 2;
}

static uint8_t frequency(cache *c, const cache_key *k) {
    uint8_t least = COUNT_MAX;
    for (uint32_t r = 0; r < ROWS; r++) least = MIN(least, *counter(c, k, r));
    return least;
}

/* ---- lists and table ---- */

static void detach(cache *c, uint32_t i) {
    entry *e = &c->e[i];
    list *l = &c->lists[e->part];
    *(e->prev == NONE ? &l->head : &c->e[e->prev].next) = e->next;
    *(e->next == NONE ? &l->tail : &c->e[e->next].prev) = e->prev;
    l->count--;
}

static void attach(cache *c, uint32_t i, part to) {
    entry *e = &c->e[i];
    list *l = &c->lists[to];
    e->part = to;
    e->prev = NONE;
    e->next = l->head;
    *(l->head == NONE ? &l->tail : &c->e[l->head].prev) = i;
    l->head = i;
    l->count++;
}

static void move(cache *c, uint32_t i, part to) {
    detach(c, i);
    attach(c, i, to);
}

static uint32_t *bucket(cache *c, const cache_key *k) {
    return &c->table[k->h[0] & c->mask];
}

static uint32_t find(cache *c, const cache_key *k) {
    uint32_t i = *bucket(c, k);
    while (i != NONE && (c->e[i].key.h[0] != k->h[0] || c->e[i].key.h[1] != k->h[1]))
        i = c->e[i].chain;
    return i;
}

static void drop(cache *c, uint32_t i) {
    uint32_t *at = bucket(c, &c->e[i].key);
    while (*at != i) at = &c->e[*at].chain;
    *at = c->e[i].chain;
    memset(c->vectors + (size_t)i * c->dim, 0, c->dim * sizeof *c->vectors);
    move(c, i, FREE);
}

static void touch(cache *c, uint32_t i) {
    part p = c->e[i].part;
    if (p != PROBATION) {
        move(c, i, p);
        return;
    }
    move(c, i, PROTECTED);
    if (c->lists[PROTECTED].count > c->protected_max) move(c, c->lists[PROTECTED].tail, PROBATION);
}

/* The window's oldest meets the main part's: one of them stays. */
static void settle(cache *c) {
    uint32_t main_max = c->capacity - c->window_max;
    while (c->lists[WINDOW].count > c->window_max) {
        uint32_t in = c->lists[WINDOW].tail;
        if (c->lists[PROBATION].count + c->lists[PROTECTED].count < main_max) {
            move(c, in, PROBATION);
            continue;
        }
        uint32_t out = c->lists[c->lists[PROBATION].count ? PROBATION : PROTECTED].tail;
        bool better = frequency(c, &c->e[in].key) > frequency(c, &c->e[out].key);
        drop(c, better ? out : in);
        if (better) move(c, in, PROBATION);
    }
}

/* ---- calls ---- */

bool cache_get(cache *c, const cache_key *k, float *out) {
    mutex_lock(&c->mu);
    count(c, k);
    uint32_t i = find(c, k);
    if (i != NONE) {
        touch(c, i);
        memcpy(out, c->vectors + (size_t)i * c->dim, c->dim * sizeof *out);
    }
    mutex_unlock(&c->mu);
    return i != NONE;
}

/* An entry for a new key. There is one more than may be full, so that what comes in can be compared with
 * what would have to go. */
static uint32_t take(cache *c) {
    if (!c->lists[FREE].count) {
        KITH_ASSERT(c->used <= c->capacity);
        return c->used++;
    }
    uint32_t i = c->lists[FREE].head;
    detach(c, i);
    return i;
}

void cache_put(cache *c, const cache_key *k, const float *v) {
    mutex_lock(&c->mu);
    uint32_t i = find(c, k);
    if (i == NONE) {
        i = take(c);
        uint32_t *at = bucket(c, k);
        c->e[i].key = *k;
        c->e[i].chain = *at;
        *at = i;
        attach(c, i, WINDOW);
    }
    memcpy(c->vectors + (size_t)i * c->dim, v, c->dim * sizeof *v);
    settle(c);
    mutex_unlock(&c->mu);
}

void cache_forget(cache *c, const cache_key *k) {
    mutex_lock(&c->mu);
    uint32_t i = find(c, k);
    if (i != NONE) drop(c, i);
    mutex_unlock(&c->mu);
}

size_t cache_count(cache *c, uint64_t *bytes) {
    mutex_lock(&c->mu);
    size_t n = c->used - c->lists[FREE].count;
    mutex_unlock(&c->mu);
    *bytes = (uint64_t)c->capacity * (c->dim * sizeof(float) + sizeof(entry)) +
             (uint64_t)(c->mask + 1) * (WIDE * ROWS + sizeof(uint32_t));
    return n;
}

bool cache_validate(cache *c) {
    mutex_lock(&c->mu);
    uint64_t in_lists = 0, in_table = 0;
    for (int p = 0; p < PARTS; p++) {
        uint32_t n = 0, last = NONE;
        for (uint32_t i = c->lists[p].head; i != NONE && n <= c->used; i = c->e[i].next, n++) {
            if (c->e[i].part != (uint32_t)p || c->e[i].prev != last) n = c->used + 1;
            last = i;
        }
        if (n != c->lists[p].count || last != c->lists[p].tail) in_lists += UINT32_MAX;
        in_lists += n;
    }
    for (uint32_t s = 0; s <= c->mask; s++)
        for (uint32_t i = c->table[s]; i != NONE && in_table <= c->used; i = c->e[i].chain)
            in_table++;
    bool good = in_lists == c->used && in_table == c->used - c->lists[FREE].count &&
                c->lists[WINDOW].count <= c->window_max && c->used <= c->capacity + 1;
    mutex_unlock(&c->mu);
    return good;
}
