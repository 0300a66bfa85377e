/* A table of texts by number, and a hash table from text to number.
 *
 * Most texts are short: a text of up to 14 bytes lies inside its 16-byte entry, a longer one in an
 * allocation of its own whose pointer lies there. So the dictionary of 450,000 posts costs about
 * 24 bytes a word, and deleting a word wipes exactly its bytes, at once: nothing waits for a
 * compaction.
 *
 * The hash table holds (32-bit hash, number) pairs, linear probing, at most 3/4 full, deletion by
 * shifting back, as base/map.c does; the stored hash also gives the home slot, so neither growth
 * nor deletion reads the texts.
 *
 * Invariants: entry.len == FREE exactly when the number is not in use; free numbers are chained
 * through the first four bytes of their entries, newest first; every number in use has one slot.
 */
#include "index/names.h"

#define FREE       UINT16_MAX
#define INLINE_MAX 14u
enum { SLOTS_MIN = 16 };
#define NUMBERS_MAX (1u << 30)

typedef struct entry {
    char in[INLINE_MAX]; /* the text, or a pointer to it, or the next free number */
    uint16_t len;
} entry;

typedef struct slot {
    uint32_t hash;
    uint32_t number; /* NAMES_NONE: empty */
} slot;

struct names {
    entry *entries;
    size_t cap;
    uint32_t end;       /* entries ever used */
    uint32_t count;     /* in use */
    uint32_t free_head; /* NAMES_NONE: none */
    slot *slots;
    uint32_t mask;
    uint64_t long_bytes; /* in allocations of their own */
};

static char *long_ptr(const entry *e) {
    char *p;
    memcpy(&p, e->in, sizeof p);
    return p;
}

static str entry_text(const entry *e) {
    return str_from(e->len <= INLINE_MAX ? e->in : long_ptr(e), e->len);
}

static uint32_t text_hash(str text) {
    return (uint32_t)(hash64(text.ptr, text.len, 0) >> 32);
}

static slot *slots_new(size_t n) {
    slot *s = mem_alloc(n * sizeof *s);
    for (size_t i = 0; s && i < n; i++) s[i].number = NAMES_NONE;
    return s;
}

err names_new(names **out) {
    *out = NULL;
    names *n = mem_zalloc(1, sizeof *n);
    if (!n) return ERR_NO_MEMORY;
    n->slots = slots_new(SLOTS_MIN);
    n->mask = SLOTS_MIN - 1;
    n->free_head = NAMES_NONE;
    if (!n->slots) {
        mem_free(n);
        return ERR_NO_MEMORY;
    }
    *out = n;
    return OK;
}

void names_free(names *n) {
    if (!n) return;
    for (uint32_t i = 0; i < n->end; i++)
        if (n->entries[i].len != FREE && n->entries[i].len > INLINE_MAX)
            mem_free(long_ptr(&n->entries[i]));
    mem_free(n->entries);
    mem_free(n->slots);
    mem_free(n);
}

/* The slot of `text`, or the empty one where it belongs. */
static uint32_t find_slot(const names *n, str text, uint32_t hash) {
    for (uint32_t i = hash & n->mask;; i = (i + 1) & n->mask) {
        const slot *s = &n->slots[i];
        if (s->number == NAMES_NONE) return i;
        if (s->hash == hash && str_eq(entry_text(&n->entries[s->number]), text)) return i;
    }
}

uint32_t names_get(const names *n, str text) {
    return n->slots[find_slot(n, text, text_hash(text))].number;
}

static err grow_slots(names *n) {
    size_t size = ((size_t)n->mask + 1) * 2;
    slot *s = slots_new(size);
    if (!s) return ERR_NO_MEMORY;
    uint32_t mask = (uint32_t)(size - 1);
    for (size_t j = 0; j <= n->mask; j++) {
        if (n->slots[j].number == NAMES_NONE) continue;
        uint32_t i = n->slots[j].hash & mask;
        while (s[i].number != NAMES_NONE) i = (i + 1) & mask;
        s[i] = n->slots[j];
    }
    mem_free(n->slots);
    n->slots = s;
    n->mask = mask;
    return OK;
}

err names_add(names *n, str text, uint32_t *number) {
    if (text.len > NAMES_TEXT_MAX)
        return err_set(ERR_TOO_LARGE, "name: %zu bytes, limit is %d", text.len, NAMES_TEXT_MAX);
    uint32_t hash = text_hash(text);
    uint32_t at = find_slot(n, text, hash);
    if (n->slots[at].number != NAMES_NONE) {
        *number = n->slots[at].number;
        return OK;
    }
    if (((uint64_t)n->count + 1) * 4 > ((uint64_t)n->mask + 1) * 3) {
        TRY(grow_slots(n));
        at = find_slot(n, text, hash);
    }
    bool reuse = n->free_head != NAMES_NONE;
    if (!reuse)
        TRY(mem_grow((void **)&n->entries, &n->cap, (size_t)n->end + 1, sizeof(entry),
                     NUMBERS_MAX));
    char *own = NULL;
    if (text.len > INLINE_MAX && !(own = mem_dup(text.ptr, text.len))) return ERR_NO_MEMORY;
    uint32_t id = reuse ? n->free_head : n->end++;
    entry *e = &n->entries[id];
    if (reuse) memcpy(&n->free_head, e->in, sizeof n->free_head);
    memset(e, 0, sizeof *e);
    e->len = (uint16_t)text.len;
    if (own)
        memcpy(e->in, &own, sizeof own);
    else if (text.len)
        memcpy(e->in, text.ptr, text.len);
    if (own) n->long_bytes += text.len;
    n->slots[at] = (slot){hash, id};
    n->count++;
    *number = id;
    return OK;
}

static void unlink_slot(names *n, uint32_t hole) {
    n->slots[hole].number = NAMES_NONE;
    for (uint32_t i = (hole + 1) & n->mask; n->slots[i].number != NAMES_NONE;
         i = (i + 1) & n->mask) {
        uint32_t home = n->slots[i].hash & n->mask;
        if (((i - home) & n->mask) < ((i - hole) & n->mask)) continue;
        n->slots[hole] = n->slots[i];
        n->slots[i].number = NAMES_NONE;
        hole = i;
    }
}

/* Through a volatile pointer, so that no compiler leaves it out before the free. */
static void wipe(void *p, size_t n) {
    volatile char *b = p;
    for (size_t i = 0; i < n; i++) b[i] = 0;
}

void names_del(names *n, uint32_t number) {
    KITH_ASSERT(number < n->end && n->entries[number].len != FREE);
    entry *e = &n->entries[number];
    str text = entry_text(e);
    uint32_t at = find_slot(n, text, text_hash(text));
    KITH_ASSERT(n->slots[at].number == number);
    unlink_slot(n, at);
    if (e->len > INLINE_MAX) {
        char *p = long_ptr(e);
        wipe(p, e->len);
        mem_free(p);
        n->long_bytes -= e->len;
    }
    wipe(e->in, sizeof e->in);
    memcpy(e->in, &n->free_head, sizeof n->free_head);
    e->len = FREE;
    n->free_head = number;
    n->count--;
}

str names_text(const names *n, uint32_t number) {
    if (number >= n->end || n->entries[number].len == FREE) return (str){NULL, 0};
    return entry_text(&n->entries[number]);
}

uint32_t names_end(const names *n) {
    return n->end;
}
uint32_t names_count(const names *n) {
    return n->count;
}
uint64_t names_bytes(const names *n) {
    return sizeof *n + n->cap * sizeof(entry) + ((uint64_t)n->mask + 1) * sizeof(slot) +
           n->long_bytes;
}
