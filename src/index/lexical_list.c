/* Posting lists: blocks of up to 248 postings, each coded on its own, changed one block at a time.
 *
 * A low list (documents with the term once: 19 of 20) is slots alone; a high list has four bits of
 * tf more for each. A block holds its first slot, and the others by Elias and Fano (1971, 1974):
 * low bits of fixed width, and the rest in unary as a bit map, which is within half a bit of the
 * entropy however gaps vary, and is unpacked eight postings a step without a chain from one to the
 * next. Where a term is in a sixth of the documents or more, a low block becomes a bitmap over the
 * same slots, when that costs at most half more: it is read 32 documents a step.
 *
 * A slot may be inserted anywhere: the block is read, changed, and written again (about 0.3 us).
 * Slots are given by length class, so lists grow at some thirty places; a posting behind a wide
 * gap (the unused end of an extent) starts a block of its own, because in unary a wide gap is long.
 * A full block splits in halves, except when it grows at its end, where a new one starts:
 * lists that only grow stay full. A block that shrank to a quarter joins a neighbour.
 *
 * Payload of at most 8 bytes lies inside the 16 bytes of the block, and a list of one block inside
 * its term: more than half of all words occur once, and cost no allocation.
 *
 * Changes come in two steps: edit_insert and edit_remove make the new blocks and may fail;
 * edit_commit puts them in place and cannot. So a document goes in or out of all its lists or of
 * none.
 *
 * Tried: gaps all as wide as the largest (1.30 bytes a posting where this takes 1.03, without
 * headers; and no faster to read); tf above 1 as exceptions inside the block: two bytes each, and
 * every block's bound was that of its largest tf; split lists are smaller and their bounds exact.
 *
 * Invariants: slots ascend strictly, within a block and over blocks; count is 1 to BLOCK_MAX; a
 * payload is exactly as long as its header says; max_tf is the largest tf of a high block, 0 in a
 * low one.
 */
#include "index/lexical_int.h"

enum { GAP_EXTRA = 7, GAP_COUNT = 24, SPLIT_SMALL = BLOCK_MAX / 4, JOIN_MAX = BLOCK_MAX * 3 / 4 };

/* ---- size and reading ---- */

static uint32_t lows_size(const block *b) {
    return ((b->count - 1u) * b->width + 7) / 8;
}

static uint32_t slots_size(const block *b) {
    return block_is_bitmap(b) ? block_words(b) * 4 : lows_size(b) + b->high;
}

uint32_t block_payload_size(const block *b) {
    return slots_size(b) + (b->max_tf ? (b->count + 1u) / 2 : 0);
}

const uint8_t *block_nibbles(const block *b) {
    return block_payload(b, block_payload_size(b)) + slots_size(b);
}

static uint32_t bitmap_slots(const block *b, const uint8_t *p, uint32_t *slots) {
    uint32_t n = 0, words = block_words(b), base = b->first & ~31u;
    for (uint32_t w = 0; w < words; w++)
        for (uint32_t m = le32_get(p + w * 4); m; m &= m - 1)
            slots[n++] = base + w * 32 + (unsigned)__builtin_ctz(m);
    return n;
}

uint32_t block_slots(const postings_kernels *k, const block *b, uint32_t *slots) {
    const uint8_t *p = block_payload(b, block_payload_size(b));
    if (block_is_bitmap(b)) return bitmap_slots(b, p, slots);
    k->unpack(p, slots_size(b), b->width, b->first, b->count - 1u, slots);
    return b->count;
}

/* Appends the block to the run. */
static void block_read(const block *b, posting_run *out) {
    uint32_t n = block_slots(postings_kernels_get(), b, out->slots + out->n);
    const uint8_t *p = b->max_tf ? block_nibbles(b) : NULL;
    for (uint32_t i = 0; i < n; i++) out->tfs[out->n + i] = p ? (uint8_t)nibble_at(p, i) : 1;
    out->n += n;
}

void block_free(block *b) {
    if (block_payload_size(b) > PAYLOAD_IN) mem_free(b->data.ptr);
    *b = (block){.count = 1};
}

/* ---- writing ---- */

static uint32_t bits_needed(uint32_t x) {
    return x ? 32 - (unsigned)__builtin_clz(x) : 0;
}

/* What posting i adds to first + i. */
static uint32_t rest_of(const uint32_t *slots, uint32_t i) {
    return slots[i] - slots[0] - i;
}

/* Chooses how many low bits each posting keeps: as takes least, lows and the bit map together. */
static void choose_width(block *b, const uint32_t *slots) {
    uint32_t n = b->count - 1u, most = n ? rest_of(slots, n) : 0, best = UINT32_MAX;
    uint32_t guess = n ? bits_needed(most / n) : 0;
    b->width = b->high = 0;
    for (uint32_t w = guess > 2 ? guess - 2 : 0; n && w <= MIN(guess + 1, (uint32_t)WIDTH_MAX);
         w++) {
        uint32_t high = ((most >> w) + n + 7) / 8, size = (n * w + 7) / 8 + high;
        if (high > UINT8_MAX || size >= best) continue;
        best = size;
        b->width = (uint8_t)w;
        b->high = (uint8_t)high;
    }
}

static void put_numbers(const block *b, uint8_t *p, const uint32_t *slots) {
    uint8_t *high = p + lows_size(b);
    uint64_t acc = 0;
    uint32_t held = 0, mask = (1u << b->width) - 1;
    memset(high, 0, b->high);
    for (uint32_t i = 1; i < b->count; i++) {
        uint32_t x = rest_of(slots, i), bit = (x >> b->width) + i - 1;
        acc |= (uint64_t)(x & mask) << held;
        held += b->width;
        for (; held >= 8; held -= 8, acc >>= 8) *p++ = (uint8_t)acc;
        high[bit / 8] = (uint8_t)(high[bit / 8] | 1u << (bit & 7));
    }
    if (held) *p = (uint8_t)acc;
}

static void put_bitmap(const block *b, uint8_t *p, const uint32_t *slots) {
    uint32_t base = b->first & ~31u;
    memset(p, 0, block_words(b) * 4);
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t bit = slots[i] - base;
        p[bit >> 3] = (uint8_t)(p[bit >> 3] | 1u << (bit & 7));
    }
}

static void put_nibbles(const block *b, uint8_t *p, const uint8_t *tfs) {
    memset(p, 0, (b->count + 1u) / 2);
    for (uint32_t i = 0; i < b->count; i++)
        p[i / 2] = (uint8_t)(p[i / 2] | MIN(tfs[i], NIBBLE_MAX) << (4 * (i & 1)));
}

/* Codes n postings (1 to BLOCK_MAX) as one block. */
static err block_make(block *b, const uint32_t *slots, const uint8_t *tfs, uint32_t n, bool high) {
    uint32_t max_tf = 0;
    for (uint32_t i = 0; high && i < n; i++) max_tf = MAX(max_tf, tfs[i]);
    *b =
        (block){.first = slots[0], .count = (uint8_t)n, .max_tf = (uint8_t)MIN(max_tf, NIBBLE_MAX)};
    choose_width(b, slots);
    uint32_t words = (slots[n - 1] - (slots[0] & ~31u)) / 32 + 1;
    uint32_t packed = slots_size(b);
    bool bitmap =
        !high && words <= WORDS_MAX && n > 16 && words * 4 <= packed + packed / BITMAP_EXTRA;
    if (bitmap) b->width = (uint8_t)(WIDTH_BITMAP + words - 1);
    if (bitmap) b->high = 0;
    uint32_t size = block_payload_size(b);
    uint8_t *p = b->data.in;
    if (size > PAYLOAD_IN) {
        p = mem_alloc(size);
        if (!p) return ERR_NO_MEMORY;
        b->data.ptr = p;
    }
    if (bitmap)
        put_bitmap(b, p, slots);
    else
        put_numbers(b, p, slots);
    if (high) put_nibbles(b, p + slots_size(b), tfs);
    return OK;
}

/* ---- lists ---- */

static block *blocks_mutable(plist *l) {
    return l->n_blocks == 1 ? &l->list.one : l->list.many.items;
}

void list_free(plist *l) {
    block *b = l->n_blocks ? blocks_mutable(l) : NULL;
    for (uint32_t i = 0; i < l->n_blocks; i++) block_free(&b[i]);
    if (l->n_blocks > 1) mem_free(b);
    *l = (plist){0};
}

static uint64_t table_bytes(const plist *l) {
    return l->n_blocks > 1 ? l->list.many.cap * sizeof(block) : 0;
}

static uint64_t payload_bytes(const block *b, uint32_t n) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t size = block_payload_size(&b[i]);
        if (size > PAYLOAD_IN) sum += size;
    }
    return sum;
}

uint64_t list_bytes(const plist *l) {
    return table_bytes(l) + payload_bytes(list_blocks(l), l->n_blocks);
}

uint64_t list_bytes_inside(const plist *l) {
    if (l->n_blocks != 1) return 0;
    uint32_t size = block_payload_size(&l->list.one);
    return sizeof l->list.one.first + (size > PAYLOAD_IN ? 0 : size);
}

uint32_t list_find_block(const plist *l, uint32_t slot) {
    const block *b = list_blocks(l);
    uint32_t lo = 0, n = l->n_blocks;
    while (n > 1) { /* b[lo].first <= slot, unless lo is 0 */
        uint32_t half = n / 2;
        lo = b[lo + half].first <= slot ? lo + half : lo;
        n -= half;
    }
    return lo;
}

/* ---- edits ---- */

static err edit_room(const plist *l, edit *e) {
    uint32_t n = l->n_blocks - e->del + e->n_add;
    uint32_t cap = l->n_blocks > 1 ? l->list.many.cap : 1;
    if (n <= 1 || n <= cap) return OK;
    e->grown_cap = n + n / 8 + 1;
    e->grown = mem_alloc(e->grown_cap * sizeof *e->grown);
    return e->grown ? OK : ERR_NO_MEMORY;
}

static err edit_add(edit *e, const posting_run *r, uint32_t from, uint32_t to) {
    TRY(block_make(&e->add[e->n_add], r->slots + from, r->tfs + from, to - from, e->high));
    e->n_add++;
    return OK;
}

/* Puts a posting in its place in the run; returns its index. */
static uint32_t run_insert(posting_run *r, uint32_t slot, uint32_t tf) {
    uint32_t i = r->n;
    for (; i > 0 && r->slots[i - 1] > slot; i--) {
        r->slots[i] = r->slots[i - 1];
        r->tfs[i] = r->tfs[i - 1];
    }
    KITH_ASSERT(i == 0 || r->slots[i - 1] != slot);
    r->slots[i] = slot;
    r->tfs[i] = (uint8_t)tf;
    r->n++;
    return i;
}

/* True when `gap` would widen every gap of the block by much. */
static bool gap_is_wide(const block *b, uint32_t gap) {
    if (b->count < GAP_COUNT) return false;
    uint32_t width = block_is_bitmap(b) ? 1 : b->width;
    return bits_needed(gap) > width + GAP_EXTRA;
}

/* Inserts before the first posting of the block behind, when that is the better place. */
static bool belongs_to_next(const plist *l, uint32_t at, uint32_t slot) {
    if (at + 1 >= l->n_blocks) return false;
    const block *next = &list_blocks(l)[at + 1];
    return next->count < BLOCK_MAX && !gap_is_wide(next, next->first - slot);
}

static err edit_insert_blocks(const plist *l, uint32_t slot, uint32_t tf, edit *e) {
    posting_run r = {.n = 0};
    const block *b = list_blocks(l);
    e->at = list_find_block(l, slot);
    block_read(&b[e->at], &r);
    uint32_t last = r.slots[r.n - 1];
    bool at_end = slot > last;
    if (at_end && (r.n == BLOCK_MAX || gap_is_wide(&b[e->at], slot - last))) {
        bool join = belongs_to_next(l, e->at, slot);
        e->at++;
        e->del = join ? 1 : 0;
        r.n = 0;
        if (join) block_read(&b[e->at], &r);
        run_insert(&r, slot, tf);
        return edit_add(e, &r, 0, r.n);
    }
    e->del = 1;
    run_insert(&r, slot, tf);
    if (r.n <= BLOCK_MAX) return edit_add(e, &r, 0, r.n);
    TRY(edit_add(e, &r, 0, r.n / 2));
    return edit_add(e, &r, r.n / 2, r.n);
}

err edit_insert(const plist *l, uint32_t slot, uint32_t tf, edit *e) {
    e->change = 1;
    e->high = tf > 1;
    err rc;
    if (l->n_blocks == 0) {
        posting_run r = {.n = 0};
        run_insert(&r, slot, tf);
        rc = edit_add(e, &r, 0, 1);
    } else {
        rc = edit_insert_blocks(l, slot, tf, e);
    }
    if (rc == OK) rc = edit_room(l, e);
    if (rc != OK) edit_abort(e);
    return rc;
}

/* Which neighbour a block that shrank to n postings joins: 1 the one behind, -1 the one before. */
static int join_side(const plist *l, uint32_t at, uint32_t n) {
    const block *b = list_blocks(l);
    if (n > SPLIT_SMALL) return 0;
    if (at + 1 < l->n_blocks && n + b[at + 1].count <= JOIN_MAX) return 1;
    return at > 0 && n + b[at - 1].count <= JOIN_MAX ? -1 : 0;
}

static void run_remove(posting_run *r, uint32_t slot) {
    uint32_t i = 0;
    while (i < r->n && r->slots[i] != slot) i++;
    KITH_ASSERT(i < r->n);
    memmove(r->slots + i, r->slots + i + 1, (r->n - i - 1) * sizeof *r->slots);
    memmove(r->tfs + i, r->tfs + i + 1, r->n - i - 1);
    r->n--;
}

err edit_remove(const plist *l, uint32_t slot, edit *e) {
    posting_run r = {.n = 0};
    const block *b = list_blocks(l);
    e->change = -1;
    e->high = b->max_tf > 0;
    e->at = list_find_block(l, slot);
    e->del = 1;
    int side = join_side(l, e->at, b[e->at].count - 1u);
    if (side < 0) block_read(&b[e->at - 1], &r);
    block_read(&b[e->at], &r);
    if (side > 0) block_read(&b[e->at + 1], &r);
    if (side) e->del = 2;
    if (side < 0) e->at--;
    run_remove(&r, slot);
    err rc = r.n ? edit_add(e, &r, 0, r.n) : OK;
    if (rc == OK) rc = edit_room(l, e);
    if (rc != OK) edit_abort(e);
    return rc;
}

void edit_abort(edit *e) {
    for (uint32_t i = 0; i < e->n_add; i++) block_free(&e->add[i]);
    mem_free(e->grown);
    e->grown = NULL;
    e->n_add = 0;
}

int64_t edit_commit(plist *l, edit *e) {
    uint32_t old_n = l->n_blocks, n = old_n - e->del + e->n_add;
    uint32_t tail = old_n - e->at - e->del;
    block *old = old_n ? blocks_mutable(l) : NULL;
    uint64_t before = table_bytes(l), after = payload_bytes(e->add, e->n_add);
    block single, *to = n == 1 ? &single : e->grown ? e->grown : old;
    for (uint32_t i = 0; i < e->del; i++) {
        before += payload_bytes(&old[e->at + i], 1);
        block_free(&old[e->at + i]);
    }
    if (n) {
        if (to != old && e->at) memcpy(to, old, e->at * sizeof *to);
        if (tail) memmove(to + e->at + e->n_add, old + e->at + e->del, tail * sizeof *to);
        memcpy(to + e->at, e->add, e->n_add * sizeof *to);
    }
    if (old_n > 1 && to != old) mem_free(old);
    l->n_blocks = n;
    l->n += (uint32_t)e->change;
    if (n == 1) {
        l->list.one = single;
    } else if (e->grown) {
        l->list.many.items = e->grown;
        l->list.many.cap = e->grown_cap;
    } else if (n == 0) {
        *l = (plist){0};
    }
    if (n == 1) mem_free(e->grown);
    e->grown = NULL;
    e->n_add = 0;
    return (int64_t)(after + table_bytes(l) - before);
}

/* ---- whole lists ---- */

/* How many of the postings from `from` on the next block takes: it ends before a wide gap. */
static uint32_t run_length(const uint32_t *slots, uint32_t from, uint32_t n) {
    uint32_t end = MIN(n, from + BLOCK_MAX);
    for (uint32_t i = from + 1; i < end; i++) {
        if (i - from < GAP_COUNT) continue;
        uint32_t width = bits_needed((slots[i - 1] - slots[from]) / (i - from));
        if (bits_needed(slots[i] - slots[i - 1]) + 1 > width + GAP_EXTRA) return i - from;
    }
    return end - from;
}

err list_build(plist *l, const uint32_t *slots, const uint8_t *tfs, uint32_t n) {
    uint32_t n_blocks = 0;
    for (uint32_t at = 0; at < n; at += run_length(slots, at, n)) n_blocks++;
    *l = (plist){0};
    block *b = &l->list.one;
    if (n_blocks > 1) {
        b = mem_alloc(n_blocks * sizeof *b);
        if (!b) return ERR_NO_MEMORY;
        l->list.many.items = b;
        l->list.many.cap = n_blocks;
    }
    for (uint32_t at = 0; at < n;) {
        uint32_t len = run_length(slots, at, n);
        err rc = block_make(&b[l->n_blocks], slots + at, tfs ? tfs + at : NULL, len, tfs != NULL);
        if (rc != OK) {
            for (uint32_t i = 0; i < l->n_blocks; i++) block_free(&b[i]);
            if (n_blocks > 1) mem_free(b);
            *l = (plist){0};
            return rc;
        }
        l->n_blocks++;
        at += len;
    }
    l->n = n;
    return OK;
}

static err bad(const char *what) {
    return err_set(ERR_INTERNAL, "words: block with %s", what);
}

err block_validate(const block *b, bool high) {
    if (b->count == 0 || b->count > BLOCK_MAX) return bad("a wrong count");
    if (!block_is_bitmap(b) && b->width > WIDTH_MAX) return bad("a wrong width");
    if (high != (b->max_tf > 0)) return bad("tfs in the wrong list");
    posting_run r = {.n = 0};
    block_read(b, &r);
    uint32_t max_tf = 0;
    if (r.n != b->count || r.slots[0] != b->first) return bad("a wrong first slot or count");
    for (uint32_t i = 0; i < r.n; i++) {
        if (i && r.slots[i] <= r.slots[i - 1]) return bad("slots out of order");
        if (high && r.tfs[i] < 2) return bad("a low tf in a high list");
        max_tf = MAX(max_tf, r.tfs[i]);
    }
    if (high && max_tf != b->max_tf) return bad("a wrong largest tf");
    return OK;
}
