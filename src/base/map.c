/* Two hash maps by one plan: open addressing, linear probing, power-of-two size, at most 3/4 full,
 * deletion by shifting back the entries behind (no tombstones, so a map that turns over for years
 * stays as fast as a new one). Linear probing reads one cache line for nearly every lookup.
 *
 * strmap keeps its keys in one growing byte array, each with its length before it; the space of
 * deleted keys is counted and the array rewritten when half of it is waste. A slot holds the upper
 * 32 bits of the hash, so a probe reads key bytes only when those agree.
 */
#include "base/base.h"

enum { SLOTS_MIN = 16 };
#define KEYS_MAX (UINT32_MAX - 1) /* key bytes of one strmap: offsets are u32 */

static bool too_full(size_t count, size_t slots) {
    return (count + 1) * 4 > slots * 3;
}

/* True when an entry whose ideal slot is `home` may move from `from` back into `hole`. */
static bool may_move(size_t home, size_t hole, size_t from, size_t mask) {
    return ((from - home) & mask) >= ((from - hole) & mask);
}

/* ---- strings ---- */

typedef struct str_slot {
    uint32_t tag;   /* upper half of the hash */
    uint32_t key;   /* offset into `keys` of a u32 length and the bytes */
    uint32_t value; /* MAP_NONE: empty */
} str_slot;

struct strmap {
    str_slot *slots;
    size_t mask, count;
    uint8_t *keys;
    size_t keys_len, keys_cap, keys_dead;
};

static str key_at(const strmap *m, uint32_t off) {
    uint32_t n;
    memcpy(&n, m->keys + off, 4);
    return str_from(m->keys + off + 4, n);
}

static str_slot *str_slots_new(size_t n) {
    str_slot *s = mem_alloc(n * sizeof *s);
    for (size_t i = 0; s && i < n; i++) s[i].value = MAP_NONE;
    return s;
}

strmap *strmap_new(void) {
    strmap *m = mem_zalloc(1, sizeof *m);
    if (!m) return NULL;
    m->slots = str_slots_new(SLOTS_MIN);
    m->mask = SLOTS_MIN - 1;
    if (m->slots) return m;
    mem_free(m);
    return NULL;
}

void strmap_free(strmap *m) {
    if (!m) return;
    mem_free(m->slots);
    mem_free(m->keys);
    mem_free(m);
}

/* The slot of `key`, or the empty one where it belongs. */
static size_t str_find_slot(const strmap *m, str key, uint64_t h) {
    size_t i = h & m->mask;
    uint32_t tag = (uint32_t)(h >> 32);
    for (;; i = (i + 1) & m->mask) {
        const str_slot *s = &m->slots[i];
        if (s->value == MAP_NONE) return i;
        if (s->tag == tag && str_eq(key_at(m, s->key), key)) return i;
    }
}

uint32_t strmap_get(const strmap *m, str key) {
    return m->slots[str_find_slot(m, key, hash64(key.ptr, key.len, 0))].value;
}

static err str_grow(strmap *m) {
    size_t n = (m->mask + 1) * 2;
    str_slot *old = m->slots, *s = str_slots_new(n);
    if (!s) return ERR_NO_MEMORY;
    size_t old_n = m->mask + 1;
    m->mask = n - 1;
    for (size_t j = 0; j < old_n; j++) {
        if (old[j].value == MAP_NONE) continue;
        str k = key_at(m, old[j].key);
        size_t i = hash64(k.ptr, k.len, 0) & m->mask;
        while (s[i].value != MAP_NONE) i = (i + 1) & m->mask;
        s[i] = old[j];
    }
    m->slots = s;
    mem_free(old);
    return OK;
}

/* Rewrites the key bytes without the dead ones: erased keys leave no trace. */
static err str_compact(strmap *m) {
    size_t live = m->keys_len - m->keys_dead;
    uint8_t *keys = mem_alloc(live ? live : 1);
    if (!keys) return ERR_NO_MEMORY;
    size_t at = 0;
    for (size_t i = 0; i <= m->mask; i++) {
        if (m->slots[i].value == MAP_NONE) continue;
        size_t n = 4 + key_at(m, m->slots[i].key).len;
        memcpy(keys + at, m->keys + m->slots[i].key, n);
        m->slots[i].key = (uint32_t)at;
        at += n;
    }
    mem_free(m->keys);
    m->keys = keys;
    m->keys_len = at;
    m->keys_cap = live ? live : 1;
    m->keys_dead = 0;
    return OK;
}

err strmap_put(strmap *m, str key, uint32_t v) {
    KITH_ASSERT(v != MAP_NONE);
    uint64_t h = hash64(key.ptr, key.len, 0);
    size_t i = str_find_slot(m, key, h);
    if (m->slots[i].value != MAP_NONE) {
        m->slots[i].value = v;
        return OK;
    }
    if (too_full(m->count, m->mask + 1)) {
        TRY(str_grow(m));
        i = str_find_slot(m, key, h);
    }
    TRY(mem_grow((void **)&m->keys, &m->keys_cap, m->keys_len + 4 + key.len, 1, KEYS_MAX));
    uint32_t n = (uint32_t)key.len;
    memcpy(m->keys + m->keys_len, &n, 4);
    if (n) memcpy(m->keys + m->keys_len + 4, key.ptr, n);
    m->slots[i] = (str_slot){(uint32_t)(h >> 32), (uint32_t)m->keys_len, v};
    m->keys_len += 4 + key.len;
    m->count++;
    return OK;
}

bool strmap_del(strmap *m, str key) {
    size_t hole = str_find_slot(m, key, hash64(key.ptr, key.len, 0));
    if (m->slots[hole].value == MAP_NONE) return false;
    str k = key_at(m, m->slots[hole].key);
    m->keys_dead += 4 + k.len;
    memset(m->keys + m->slots[hole].key + 4, 0, k.len);
    m->slots[hole].value = MAP_NONE;
    m->count--;
    for (size_t i = (hole + 1) & m->mask; m->slots[i].value != MAP_NONE; i = (i + 1) & m->mask) {
        str other = key_at(m, m->slots[i].key);
        if (!may_move(hash64(other.ptr, other.len, 0) & m->mask, hole, i, m->mask)) continue;
        m->slots[hole] = m->slots[i];
        m->slots[i].value = MAP_NONE;
        hole = i;
    }
    if (m->keys_dead > 4096 && m->keys_dead * 2 > m->keys_len) {
        err rc = str_compact(m); /* no memory now: the next deletion tries again */
        (void)rc;
    }
    return true;
}

size_t strmap_count(const strmap *m) {
    return m->count;
}
size_t strmap_bytes(const strmap *m) {
    return sizeof *m + (m->mask + 1) * sizeof(str_slot) + m->keys_cap;
}

bool strmap_next(const strmap *m, size_t *cursor, str *key, uint32_t *v) {
    for (; *cursor <= m->mask; ++*cursor) {
        const str_slot *s = &m->slots[*cursor];
        if (s->value == MAP_NONE) continue;
        *key = key_at(m, s->key);
        *v = s->value;
        ++*cursor;
        return true;
    }
    return false;
}

/* ---- u64 ---- */

typedef struct u64_slot {
    uint64_t key;
    uint32_t value;
} u64_slot;

struct u64map {
    u64_slot *slots;
    size_t mask, count;
};

static u64_slot *u64_slots_new(size_t n) {
    u64_slot *s = mem_alloc(n * sizeof *s);
    for (size_t i = 0; s && i < n; i++) s[i].value = MAP_NONE;
    return s;
}

u64map *u64map_new(void) {
    u64map *m = mem_zalloc(1, sizeof *m);
    if (!m) return NULL;
    m->slots = u64_slots_new(SLOTS_MIN);
    m->mask = SLOTS_MIN - 1;
    if (m->slots) return m;
    mem_free(m);
    return NULL;
}

void u64map_free(u64map *m) {
    if (!m) return;
    mem_free(m->slots);
    mem_free(m);
}

static size_t u64_find_slot(const u64map *m, uint64_t key) {
    size_t i = hash64_u64(key) & m->mask;
    while (m->slots[i].value != MAP_NONE && m->slots[i].key != key) i = (i + 1) & m->mask;
    return i;
}

uint32_t u64map_get(const u64map *m, uint64_t key) {
    return m->slots[u64_find_slot(m, key)].value;
}

static err u64_grow(u64map *m) {
    size_t old_n = m->mask + 1;
    u64_slot *old = m->slots, *s = u64_slots_new(old_n * 2);
    if (!s) return ERR_NO_MEMORY;
    m->slots = s;
    m->mask = old_n * 2 - 1;
    for (size_t j = 0; j < old_n; j++)
        if (old[j].value != MAP_NONE) s[u64_find_slot(m, old[j].key)] = old[j];
    mem_free(old);
    return OK;
}

err u64map_put(u64map *m, uint64_t key, uint32_t v) {
    KITH_ASSERT(v != MAP_NONE);
    size_t i = u64_find_slot(m, key);
    if (m->slots[i].value == MAP_NONE) {
        if (too_full(m->count, m->mask + 1)) {
            TRY(u64_grow(m));
            i = u64_find_slot(m, key);
        }
        m->count++;
    }
    m->slots[i] = (u64_slot){key, v};
    return OK;
}

bool u64map_del(u64map *m, uint64_t key) {
    size_t hole = u64_find_slot(m, key);
    if (m->slots[hole].value == MAP_NONE) return false;
    m->slots[hole].value = MAP_NONE;
    m->count--;
    for (size_t i = (hole + 1) & m->mask; m->slots[i].value != MAP_NONE; i = (i + 1) & m->mask) {
        if (!may_move(hash64_u64(m->slots[i].key) & m->mask, hole, i, m->mask)) continue;
        m->slots[hole] = m->slots[i];
        m->slots[i].value = MAP_NONE;
        hole = i;
    }
    return true;
}

size_t u64map_count(const u64map *m) {
    return m->count;
}
size_t u64map_bytes(const u64map *m) {
    return sizeof *m + (m->mask + 1) * sizeof(u64_slot);
}

bool u64map_next(const u64map *m, size_t *cursor, uint64_t *key, uint32_t *v) {
    for (; *cursor <= m->mask; ++*cursor) {
        const u64_slot *s = &m->slots[*cursor];
        if (s->value == MAP_NONE) continue;
        *key = s->key;
        *v = s->value;
        ++*cursor;
        return true;
    }
    return false;
}
