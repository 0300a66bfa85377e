/* The words index: documents, their slots, and how they come and go.
 *
 *      doc 17 --doc_slot--> slot 4711 --pages--> extent 3 (length 9, slots 4096..8191)
 *                      record 615 of it: doc 17, 9 tokens: the, cat, #sat, sat (alt), ...
 *      "cat" --words--> term 88 --> low list: slots that have it once: ... 4640, 4711, ...
 *                              \--> high list: slots that have it more often, and how often
 *
 * Two ideas make it small, fast and simple.
 *
 * Slots by length. BM25 of a short post depends nearly only on which words it has and how long it
 * is: tf is 1 in 19 postings of 20. A document gets a slot in an extent of its length class, so a
 * whole extent shares one length, and the score of "has words A and C" is one number there. An
 * extent whose best possible number is below the k-th best so far is skipped without reading a
 * posting, and postings need neither lengths nor impacts. (A block-max index learns such bounds
 * from whatever documents happen to be neighbours; here neighbours are alike by construction.)
 *
 * Sequences. The tokens of a document lie in order in its record, four bytes each. They decide all
 * that lists cannot: exact tf and score of the few candidates that bounds let through (one memory
 * access for all words of the query, instead of a seek in each list), phrases, words that must not
 * be there, explanations, and which lists to leave when a document goes: a delete needs no text.
 * The snapshot is the dictionary and the sequences; lists follow from them.
 *
 * Signatures. 64 bits for each slot: 48 by hashes of its terms, 16 by those of terms that it has
 * more than once. A post of a dozen words leaves most of them clear, so that a search knows
 * without touching the record that a document has not got the other words that it would need.
 * Eight share a cache line, and they stay in the cache when records do not: candidates fell by
 * three quarters.
 *
 * Memory a document: 20 bytes, and 4 a token (up to an eighth more for rounding); a posting about
 * one byte; a word 32 + 24. docs/words.md has the measured figures.
 *
 * Invariants
 *  1 doc_slot[d] = s  exactly when  the record of s has doc d; other slots once used are on a free
 *    list.
 *  2 A term's low list holds slot s exactly when the tokens of s hold it once; its high list when
 *    they hold it n > 1 times, with min(n, 15). A term number of no documents has no name and
 *    empty lists.
 *  3 The tokens of a slot that is not in use are zero: a deleted document leaves nothing.
 *  4 Insert and delete prepare all edits, then commit them; only preparation can fail.
 */
#include "index/lexical_int.h"

/* ---- length classes ---- */

uint32_t class_of_length(uint32_t len) {
    uint32_t x = len - 1;
    if (x < EXACT_MAX) return x;
    uint32_t e = 31 - (unsigned)__builtin_clz(x);
    return EXACT_MAX + (e - 5) * 4 + ((x >> (e - 2)) & 3);
}

/* ---- life ---- */

err lexical_new(const lexical_options *options, lexical **out) {
    *out = NULL;
    lexical_options o = options ? *options : (lexical_options){LEXICAL_K1, LEXICAL_B};
    if (!(o.k1 >= 0 && o.k1 <= 10 && o.b >= 0 && o.b <= 1))
        return err_set(ERR_INVALID, "words: expected k1 in 0..10 and b in 0..1");
    lexical *ix = mem_zalloc(1, sizeof *ix);
    if (!ix) return ERR_NO_MEMORY;
    ix->k1 = o.k1;
    ix->b = o.b;
    ix->kernels = postings_kernels_get();
    ix->highs_free = FREE_END;
    for (uint32_t c = 0; c < CLASSES; c++) ix->classes[c].free_head = FREE_END;
    err rc = names_new(&ix->words);
    if (rc != OK) {
        mem_free(ix);
        return rc;
    }
    *out = ix;
    return OK;
}

static uint32_t *long_tokens_of(const extent *e, uint32_t i) {
    uint32_t *p;
    memcpy(&p, extent_record(e, i)->tokens, sizeof p);
    return p;
}

static void extent_free(extent *e) {
    for (uint32_t i = 0; e->longs && i < e->used; i++) mem_free(long_tokens_of(e, i));
    mem_free(e->records);
}

void lexical_free(lexical *ix) {
    if (!ix) return;
    for (uint32_t t = 0; t < terms_end(ix); t++) list_free(&ix->terms[t].low);
    for (size_t i = 0; i < ix->highs_end; i++) list_free(&ix->highs[i]);
    for (size_t i = 0; i < ix->n_extents; i++) extent_free(&ix->extents[i]);
    for (uint32_t c = 0; c < CLASSES; c++) mem_free(ix->classes[c].extents);
    names_free(ix->words);
    mem_free(ix->terms);
    mem_free(ix->highs);
    mem_free(ix->extents);
    mem_free(ix->pages);
    mem_free(ix->page_class);
    mem_free(ix->signatures);
    mem_free(ix->doc_slot);
    mem_free(ix->ids);
    mem_free(ix->sorted);
    mem_free(ix->edits);
    mem_free(ix);
}

/* ---- room ---- */

err lexical_grow_docs(lexical *ix, uint32_t doc) {
    if (doc >= LEXICAL_DOC_MAX)
        return err_set(ERR_TOO_LARGE, "document: number %u, limit is %u", doc, LEXICAL_DOC_MAX);
    if (doc < ix->docs_cap) return OK;
    size_t cap = MAX(ix->docs_cap + ix->docs_cap / 2, (size_t)doc + 1);
    cap = MAX(cap, 256);
    uint32_t *p = mem_realloc(ix->doc_slot, cap * sizeof *p);
    if (!p) return ERR_NO_MEMORY;
    memset(p + ix->docs_cap, 0xff, (cap - ix->docs_cap) * sizeof *p);
    ix->doc_slot = p;
    ix->docs_cap = cap;
    return OK;
}

err lexical_grow_terms(lexical *ix) {
    size_t need = names_end(ix->words);
    if (need <= ix->terms_cap) return OK;
    size_t cap = MAX(ix->terms_cap + ix->terms_cap / 2, need);
    cap = MAX(cap, 256);
    term *p = mem_realloc(ix->terms, cap * sizeof *p);
    if (!p) return ERR_NO_MEMORY;
    memset(p + ix->terms_cap, 0, (cap - ix->terms_cap) * sizeof *p);
    ix->terms = p;
    ix->terms_cap = cap;
    return OK;
}

/* ---- slots ---- */

enum { POINTER_WORDS = sizeof(void *) / 4 }; /* of a record whose tokens are elsewhere */

/* Tokens lie in the record when the longest of the class do not take too much. */
static void extent_layout(extent *e, uint32_t cls) {
    uint32_t longest = class_length_max(cls);
    e->cls = cls;
    e->longs = longest > STRIDE_MAX;
    e->stride = 2 + (e->longs ? POINTER_WORDS : longest);
}

static err extent_add(lexical *ix, uint32_t cls, uint32_t size) {
    length_class *c = &ix->classes[cls];
    size_t base = ix->n_pages * 64, pages = ix->n_pages + size / 64, most = SLOT_MAX / 64;
    if (base + size > SLOT_MAX) return err_set(ERR_TOO_LARGE, "words: limit is %u slots", SLOT_MAX);
    TRY(mem_grow((void **)&ix->extents, &ix->extents_cap, ix->n_extents + 1, sizeof(extent), most));
    TRY(mem_grow((void **)&ix->pages, &ix->pages_cap, pages, sizeof(uint32_t), most));
    TRY(mem_grow((void **)&ix->page_class, &ix->page_class_cap, pages, 1, most));
    TRY(mem_grow((void **)&ix->signatures, &ix->signatures_cap, pages * 64, sizeof(uint64_t),
                 SLOT_MAX));
    TRY(mem_grow((void **)&c->extents, &c->cap, c->count + 1, sizeof(uint32_t), most));
    extent e = {.base = (uint32_t)base, .size = size, .in_order = true};
    extent_layout(&e, cls);
    e.records = mem_zalloc((size_t)size * e.stride, sizeof(uint32_t));
    if (!e.records) return ERR_NO_MEMORY;
    uint32_t number = (uint32_t)ix->n_extents++;
    memset(ix->signatures + base, 0, size * sizeof(uint64_t));
    ix->extents[number] = e;
    c->extents[c->count++] = number;
    ix->classes_end = MAX(ix->classes_end, cls + 1);
    for (; ix->n_pages < pages; ix->n_pages++) {
        ix->page_class[ix->n_pages] = (uint8_t)cls;
        ix->pages[ix->n_pages] = number;
    }
    ix->bytes_sequences += (uint64_t)size * e.stride * sizeof(uint32_t);
    return OK;
}

/* The slot that the next document of the class will have; made available, not taken. */
static err slot_reserve(lexical *ix, uint32_t cls, uint32_t *slot) {
    length_class *c = &ix->classes[cls];
    if (c->free_head != FREE_END) {
        *slot = c->free_head;
        return OK;
    }
    extent *e = c->count ? &ix->extents[c->extents[c->count - 1]] : NULL;
    if (!e || e->used == e->size) { /* extents double: few documents take little room */
        uint32_t size = EXTENT_MIN;
        while (size < EXTENT_MAX && size < 4 * c->live) size *= 2;
        TRY(extent_add(ix, cls, size));
        e = &ix->extents[ix->n_extents - 1];
    }
    *slot = e->base + e->used;
    return OK;
}

/* Gives the slot to the document whose tokens are in ix->ids, or in `long_tokens`; and, sorted, in
 * ix->sorted. */
static void slot_take(lexical *ix, uint32_t slot, uint32_t doc, uint32_t n, uint32_t *long_tokens) {
    extent *e = &ix->extents[ix->pages[slot >> 6]];
    length_class *c = &ix->classes[e->cls];
    record *r = extent_record(e, slot - e->base);
    if (c->free_head == slot) {
        c->free_head = r->doc & FREE_END;
        e->in_order = false; /* it may be; but who reuses slots has no order to gain from */
    } else {
        if (e->used++ == 0) e->first_doc = doc;
        e->in_order &= doc >= e->last_doc;
        e->last_doc = doc;
    }
    r->doc = doc;
    r->len = n;
    ix->signatures[slot] = signature_of(ix->sorted, n);
    if (e->longs) {
        memcpy(r->tokens, &long_tokens, sizeof long_tokens);
        ix->bytes_sequences += n * sizeof(uint32_t);
    } else {
        memcpy(r->tokens, ix->ids, n * sizeof(uint32_t));
    }
    e->live++;
    c->live++;
}

static void slot_give(lexical *ix, uint32_t slot) {
    extent *e = &ix->extents[ix->pages[slot >> 6]];
    length_class *c = &ix->classes[e->cls];
    record *r = extent_record(e, slot - e->base);
    if (e->longs) {
        ix->bytes_sequences -= r->len * sizeof(uint32_t);
        mem_free(long_tokens_of(e, slot - e->base));
    }
    memset(r, 0, e->stride * sizeof(uint32_t));
    r->doc = FREE_BIT | c->free_head;
    c->free_head = slot;
    ix->signatures[slot] = 0;
    e->live--;
    c->live--;
}

/* ---- distinct terms of a document ---- */

/* Shell's sort with Ciura's gaps: no recursion, no allocation, fine for a post of any length. */
static void sort_ids(uint32_t *a, uint32_t n) {
    static const uint32_t gaps[] = {27901, 12401, 5512, 2449, 1088, 484, 214, 95, 41, 19, 8, 4, 1};
    for (size_t g = 0; g < COUNT_OF(gaps); g++)
        for (uint32_t i = gaps[g]; i < n; i++) {
            uint32_t x = a[i], j = i;
            for (; j >= gaps[g] && a[j - gaps[g]] > x; j -= gaps[g]) a[j] = a[j - gaps[g]];
            a[j] = x;
        }
}

/* Room for the edits of n tokens, and the tokens sorted by term in ix->sorted. */
static err sort_tokens(lexical *ix, const uint32_t *tokens, uint32_t n) {
    TRY(mem_grow((void **)&ix->sorted, &ix->sorted_cap, n, sizeof(uint32_t), UINT16_MAX));
    TRY(mem_grow((void **)&ix->edits, &ix->edits_cap, n, sizeof(edit), UINT16_MAX));
    TRY(mem_grow((void **)&ix->highs, &ix->highs_cap, ix->highs_end + n, sizeof(plist),
                 TOKEN_ID)); /* at most so many terms get their high list now */
    for (uint32_t i = 0; i < n; i++) ix->sorted[i] = tokens[i] & TOKEN_ID;
    sort_ids(ix->sorted, n);
    return OK;
}

uint64_t signature_of(const uint32_t *sorted, uint32_t n) {
    uint64_t s = 0;
    for (uint32_t i = 0; i < n; i++) {
        s |= signature_any(sorted[i]);
        if (i && sorted[i] == sorted[i - 1]) s |= signature_high(sorted[i]);
    }
    return s;
}

/* Steps to the next distinct term of ix->sorted; false at the end. */
static bool next_distinct(const lexical *ix, uint32_t n, uint32_t *at, uint32_t *id, uint32_t *tf) {
    if (*at == n) return false;
    uint32_t from = *at;
    *id = ix->sorted[from];
    while (*at < n && ix->sorted[*at] == *id) ++*at;
    *tf = MIN(*at - from, (uint32_t)LEXICAL_TF_MAX);
    return true;
}

/* Makes an edit for each distinct term; none stays when one fails. */
static err prepare_edits(lexical *ix, uint32_t n, uint32_t slot, bool insert, uint32_t *n_edits) {
    static const plist empty = {0};
    uint32_t at = 0, id, tf, made = 0;
    err rc = OK;
    while (rc == OK && next_distinct(ix, n, &at, &id, &tf)) {
        edit *e = &ix->edits[made];
        *e = (edit){.term = id};
        const term *t = &ix->terms[id];
        const plist *l = tf == 1 ? &t->low : t->high ? term_high(ix, t) : &empty;
        rc = insert ? edit_insert(l, slot, tf, e) : edit_remove(l, slot, e);
        made += rc == OK;
    }
    if (rc != OK)
        for (uint32_t i = 0; i < made; i++) edit_abort(&ix->edits[i]);
    *n_edits = made;
    return rc;
}

/* The list that an edit changes; a high list is born when it is first needed. */
static plist *edited_list(lexical *ix, const edit *e) {
    term *t = &ix->terms[e->term];
    if (!e->high) return &t->low;
    if (t->high) return &ix->highs[t->high - 1];
    uint32_t i = ix->highs_free;
    if (i == FREE_END)
        i = (uint32_t)ix->highs_end++;
    else
        ix->highs_free = ix->highs[i].list.one.first;
    ix->highs[i] = (plist){0};
    t->high = i + 1;
    return &ix->highs[i];
}

/* Gives back what a term has no use for any more: an empty high list, and its name. */
static void drop_empty(lexical *ix, uint32_t id) {
    term *t = &ix->terms[id];
    if (t->high && ix->highs[t->high - 1].n == 0) {
        ix->highs[t->high - 1].list.one.first = ix->highs_free;
        ix->highs_free = t->high - 1;
        t->high = 0;
    }
    if (term_df(ix, t) == 0) names_del(ix->words, id);
}

static void commit_edits(lexical *ix, uint32_t n_edits) {
    for (uint32_t i = 0; i < n_edits; i++) {
        edit *e = &ix->edits[i];
        ix->bytes_postings += (uint64_t)edit_commit(edited_list(ix, e), e);
        if (e->change < 0) drop_empty(ix, e->term);
    }
}

/* ---- insert ---- */

static err insert_ids(lexical *ix, uint32_t doc, uint32_t n) {
    if (n == 0) {
        ix->doc_slot[doc] = SLOT_EMPTY;
        ix->docs++;
        return OK;
    }
    uint32_t cls = class_of_length(n), slot, n_edits = 0, *long_tokens = NULL;
    TRY(slot_reserve(ix, cls, &slot));
    TRY(sort_tokens(ix, ix->ids, n));
    if (class_length_max(cls) > STRIDE_MAX) {
        long_tokens = mem_dup(ix->ids, n * sizeof(uint32_t));
        if (!long_tokens) return ERR_NO_MEMORY;
    }
    err rc = prepare_edits(ix, n, slot, true, &n_edits);
    if (rc != OK) {
        mem_free(long_tokens);
        return rc;
    }
    commit_edits(ix, n_edits);
    slot_take(ix, slot, doc, n, long_tokens);
    ix->doc_slot[doc] = slot;
    ix->docs++;
    ix->tokens += n;
    ix->postings += n_edits;
    return OK;
}

/* Drops names that no document has: those that a failed insert had added. */
static void drop_unused(lexical *ix, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = ix->ids[i] & TOKEN_ID;
        bool used = id < ix->terms_cap && term_df(ix, &ix->terms[id]) > 0;
        if (!used && names_text(ix->words, id).ptr) names_del(ix->words, id);
    }
}

static err name_tokens(lexical *ix, const token *tokens, uint32_t n, uint32_t *named) {
    for (uint32_t i = 0; i < n; i++) {
        if (tokens[i].term.len == 0 || tokens[i].term.len > ANALYZE_TERM_MAX)
            return err_set(ERR_INVALID, "words: a term of %zu bytes, expected 1 to %d",
                           tokens[i].term.len, ANALYZE_TERM_MAX);
        uint32_t id;
        TRY(names_add(ix->words, tokens[i].term, &id));
        ix->ids[i] = id | (tokens[i].alt && i ? TOKEN_ALT : 0);
        ++*named;
    }
    return lexical_grow_terms(ix);
}

err lexical_insert(lexical *ix, uint32_t doc, const token *tokens, size_t n) {
    if (n > ANALYZE_TOKENS_MAX)
        return err_set(ERR_TOO_LARGE, "words: %zu tokens, limit is %d", n, ANALYZE_TOKENS_MAX);
    TRY(lexical_grow_docs(ix, doc));
    if (ix->doc_slot[doc] != SLOT_NONE)
        return err_set(ERR_EXISTS, "words: document %u is there", doc);
    TRY(mem_grow((void **)&ix->ids, &ix->ids_cap, n, sizeof(uint32_t), UINT16_MAX));
    uint32_t named = 0;
    err rc = name_tokens(ix, tokens, (uint32_t)n, &named);
    if (rc == OK) rc = insert_ids(ix, doc, (uint32_t)n);
    if (rc != OK) drop_unused(ix, named);
    return rc;
}

/* ---- all at once ---- */

err lexical_make_room(lexical *ix, const uint32_t counts[CLASSES]) {
    for (uint32_t c = 0; c < CLASSES; c++)
        for (uint32_t left = counts[c]; left;) {
            uint32_t size = MIN((left + 63) & ~63u, (uint32_t)EXTENT_MAX);
            TRY(extent_add(ix, c, size));
            left -= MIN(left, size);
        }
    return OK;
}

/* The class's first extent with room: load fills them in order. */
static extent *extent_with_room(lexical *ix, uint32_t cls) {
    length_class *c = &ix->classes[cls];
    extent *e = NULL;
    for (size_t i = c->live / EXTENT_MAX; i < c->count; i++) {
        e = &ix->extents[c->extents[i]];
        if (e->used < e->size) break;
    }
    KITH_ASSERT(e && e->used < e->size);
    return e;
}

err lexical_place(lexical *ix, uint32_t doc, uint32_t n) {
    if (n == 0) {
        ix->doc_slot[doc] = SLOT_EMPTY;
        ix->docs++;
        return OK;
    }
    TRY(sort_tokens(ix, ix->ids, n));
    extent *e = extent_with_room(ix, class_of_length(n));
    uint32_t slot = e->base + e->used, *long_tokens = NULL;
    if (e->longs) {
        long_tokens = mem_dup(ix->ids, n * sizeof(uint32_t));
        if (!long_tokens) return ERR_NO_MEMORY;
    }
    slot_take(ix, slot, doc, n, long_tokens);
    ix->doc_slot[doc] = slot;
    ix->docs++;
    ix->tokens += n;
    return OK;
}

/* The postings of all terms, those of a term beside each other. */
typedef struct inversion {
    uint32_t *ends[2]; /* by term: where its low and high postings end so far */
    uint32_t *slots[2];
    uint8_t *tfs; /* of the high ones */
} inversion;

/* Calls for each document in order of slots, with its tokens sorted: counts when v->slots are
 * NULL, else puts postings in their places. */
static err invert_pass(lexical *ix, inversion *v) {
    for (size_t x = 0; x < ix->n_extents; x++) {
        const extent *e = &ix->extents[x];
        for (uint32_t i = 0; i < e->used; i++) {
            const record *r = extent_record(e, i);
            uint32_t at = 0, id, tf;
            TRY(sort_tokens(ix, record_tokens(e, r), r->len));
            while (next_distinct(ix, r->len, &at, &id, &tf)) {
                uint32_t h = tf > 1, to = v->ends[h][id]++;
                if (!v->slots[0]) continue;
                v->slots[h][to] = e->base + i;
                if (h) v->tfs[to] = (uint8_t)tf;
            }
        }
    }
    return OK;
}

/* Counts become begins. Returns their sum. */
static uint32_t counts_to_begins(uint32_t *counts, uint32_t n) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t c = counts[i];
        counts[i] = sum;
        sum += c;
    }
    return sum;
}

static err build_term(lexical *ix, const inversion *v, uint32_t id) {
    uint32_t from = id ? v->ends[0][id - 1] : 0, to = v->ends[0][id];
    term *t = &ix->terms[id];
    if (to > from) TRY(list_build(&t->low, v->slots[0] + from, NULL, to - from));
    from = id ? v->ends[1][id - 1] : 0, to = v->ends[1][id];
    ix->postings += t->low.n + (to - from);
    ix->bytes_postings += list_bytes(&t->low);
    if (to == from) return OK;
    TRY(mem_grow((void **)&ix->highs, &ix->highs_cap, ix->highs_end + 1, sizeof(plist), TOKEN_ID));
    plist *high = &ix->highs[ix->highs_end];
    TRY(list_build(high, v->slots[1] + from, v->tfs + from, to - from));
    ix->bytes_postings += list_bytes(high);
    t->high = (uint32_t)++ix->highs_end;
    return OK;
}

static err build_all(lexical *ix, inversion *v) {
    uint32_t n = terms_end(ix), sums[2];
    for (int h = 0; h < 2; h++) {
        v->ends[h] = mem_zalloc((size_t)n + 1, sizeof(uint32_t));
        if (!v->ends[h]) return ERR_NO_MEMORY;
    }
    TRY(invert_pass(ix, v));
    for (int h = 0; h < 2; h++) sums[h] = counts_to_begins(v->ends[h], n);
    for (int h = 0; h < 2; h++) {
        v->slots[h] = mem_alloc(((size_t)sums[h] + 1) * sizeof(uint32_t));
        if (!v->slots[h]) return ERR_NO_MEMORY;
    }
    v->tfs = mem_alloc((size_t)sums[1] + 1);
    if (!v->tfs) return ERR_NO_MEMORY;
    TRY(invert_pass(ix, v));
    for (uint32_t id = 0; id < n; id++) TRY(build_term(ix, v, id));
    return OK;
}

err lexical_build_lists(lexical *ix) {
    inversion v = {0};
    if (ix->tokens > UINT32_MAX) return err_set(ERR_TOO_LARGE, "words: limit is 2^32 tokens");
    err rc = build_all(ix, &v);
    for (int h = 0; h < 2; h++) {
        mem_free(v.ends[h]);
        mem_free(v.slots[h]);
    }
    mem_free(v.tfs);
    return rc;
}

/* ---- delete ---- */

bool lexical_has(const lexical *ix, uint32_t doc) {
    return doc < ix->docs_cap && ix->doc_slot[doc] != SLOT_NONE;
}

err lexical_delete(lexical *ix, uint32_t doc) {
    if (!lexical_has(ix, doc)) return err_set(ERR_NOT_FOUND, "words: no document %u", doc);
    uint32_t slot = ix->doc_slot[doc], n_edits = 0;
    if (slot != SLOT_EMPTY) {
        const extent *e = extent_of(ix, slot);
        const record *r = extent_record(e, slot - e->base);
        uint32_t n = r->len;
        TRY(sort_tokens(ix, record_tokens(e, r), n));
        TRY(prepare_edits(ix, n, slot, false, &n_edits));
        commit_edits(ix, n_edits);
        slot_give(ix, slot);
        ix->tokens -= n;
        ix->postings -= n_edits;
    }
    ix->doc_slot[doc] = SLOT_NONE;
    ix->docs--;
    return OK;
}

/* ---- terms ---- */

uint32_t lexical_df(const lexical *ix, str text) {
    uint32_t id = names_get(ix->words, text);
    return id == NAMES_NONE ? 0 : term_df(ix, &ix->terms[id]);
}

static bool suggestion_before(lexical_suggestion x, lexical_suggestion y) {
    return x.df != y.df ? x.df > y.df : str_cmp(x.term, y.term) < 0;
}

size_t lexical_terms_prefix(const lexical *ix, str prefix, lexical_suggestion *out, size_t max) {
    size_t n = 0;
    if (max == 0) return 0;
    for (uint32_t id = 0; id < terms_end(ix); id++) {
        uint32_t df = term_df(ix, &ix->terms[id]);
        if (df == 0 || (n == max && df < out[n - 1].df)) continue;
        lexical_suggestion x = {names_text(ix->words, id), df};
        if (!str_starts(x.term, prefix) || (n == max && !suggestion_before(x, out[n - 1])))
            continue;
        size_t i = n < max ? n++ : n - 1;
        for (; i > 0 && suggestion_before(x, out[i - 1]); i--) out[i] = out[i - 1];
        out[i] = x;
    }
    return n;
}

/* ---- accounting ---- */

void lexical_stats_get(const lexical *ix, lexical_stats *out) {
    *out = (lexical_stats){.docs = ix->docs,
                           .terms = names_count(ix->words),
                           .postings = ix->postings,
                           .tokens = ix->tokens,
                           .bytes_postings = ix->bytes_postings,
                           .bytes_sequences = ix->bytes_sequences};
    out->bytes_dictionary =
        names_bytes(ix->words) + ix->terms_cap * sizeof(term) + ix->highs_cap * sizeof(plist);
    out->bytes_documents = sizeof *ix + ix->docs_cap * sizeof(uint32_t) + ix->n_pages * 5 +
                           ix->signatures_cap * sizeof(uint64_t) + ix->extents_cap * sizeof(extent);
}

uint64_t lexical_bytes_short(const lexical *ix) {
    uint64_t sum = 0;
    for (uint32_t t = 0; t < terms_end(ix); t++) sum += list_bytes_inside(&ix->terms[t].low);
    for (size_t i = 0; i < ix->highs_end; i++) sum += list_bytes_inside(&ix->highs[i]);
    return sum;
}

/* ---- validation ---- */

static err bad(const char *what, uint32_t at) {
    return err_set(ERR_INTERNAL, "words: %s at %u", what, at);
}

/* Every posting of the list is what the tokens of its slot say. */
static err validate_list(const lexical *ix, uint32_t id, const plist *l, bool high) {
    uint32_t n = 0, last = 0, slots[BLOCK_MAX + 16];
    for (uint32_t i = 0; i < l->n_blocks; i++) {
        const block *b = &list_blocks(l)[i];
        TRY(block_validate(b, high));
        uint32_t m = block_slots(ix->kernels, b, slots);
        for (uint32_t j = 0; j < m; j++, n++) {
            uint32_t slot = slots[j], tf;
            if (n && slot <= last) return bad("order of slots of term", id);
            last = slot;
            if (slot >> 6 >= ix->n_pages) return bad("slot of term", id);
            const extent *e = extent_of(ix, slot);
            uint32_t at = slot - e->base;
            const record *r = extent_record(e, at);
            if (at >= e->used || (r->doc & FREE_BIT)) return bad("free slot of term", id);
            ix->kernels->count_terms(record_tokens(e, r), r->len, &id, 1, &tf);
            uint32_t have = high ? nibble_at(block_nibbles(b), j) : 1;
            if (MIN(tf, (uint32_t)NIBBLE_MAX) != have) return bad("tf of term", id);
        }
    }
    return n == l->n ? OK : bad("length of list of term", id);
}

static err validate_term(const lexical *ix, uint32_t id, uint64_t *postings) {
    const term *t = &ix->terms[id];
    bool named = names_text(ix->words, id).ptr != NULL;
    if (named != (term_df(ix, t) > 0)) return bad("name of term", id);
    TRY(validate_list(ix, id, &t->low, false));
    *postings += term_df(ix, t);
    if (!t->high) return OK;
    if (t->high > ix->highs_end || ix->highs[t->high - 1].n == 0) return bad("high list", id);
    return validate_list(ix, id, term_high(ix, t), true);
}

static err validate_free_slot(const lexical *ix, const extent *e, uint32_t i) {
    const record *r = extent_record(e, i);
    uint32_t trace = r->len;
    for (uint32_t j = 0; j < e->stride - 2; j++) trace |= r->tokens[j];
    return trace || ix->signatures[e->base + i] ? bad("trace in free slot", e->base + i) : OK;
}

/* Adds up the distinct terms of a slot in use. */
static err validate_slot(const lexical *ix, const extent *e, uint32_t i, uint64_t *distinct) {
    const record *r = extent_record(e, i);
    uint32_t n = r->len, slot = e->base + i;
    uint64_t signature = 0;
    if (r->doc & FREE_BIT) return validate_free_slot(ix, e, i);
    if (r->doc >= ix->docs_cap || ix->doc_slot[r->doc] != slot)
        return bad("document of slot", slot);
    if (n == 0 || class_of_length(n) != e->cls) return bad("length of slot", slot);
    const uint32_t *t = record_tokens(e, r);
    for (uint32_t j = 0; j < n; j++) {
        uint32_t k = 0, id = t[j] & TOKEN_ID;
        if (id >= terms_end(ix)) return bad("token of slot", slot);
        while (k < j && (t[k] & TOKEN_ID) != id) k++;
        *distinct += k == j;
        signature |= signature_any(id) | (k < j ? signature_high(id) : 0);
    }
    return signature == ix->signatures[slot] ? OK : bad("signature", slot);
}

/* Documents ascend with slots where the extent says so. */
static err validate_order(const extent *e) {
    uint32_t last = 0, n = 0;
    for (uint32_t i = 0; e->in_order && i < e->used; i++) {
        uint32_t doc = extent_record(e, i)->doc;
        if (doc & FREE_BIT) continue;
        if (doc < e->first_doc || doc > e->last_doc || (n++ && doc <= last))
            return bad("order of documents of extent", e->base);
        last = doc;
    }
    return OK;
}

static uint64_t all_lists_bytes(const lexical *ix) {
    uint64_t sum = 0;
    for (uint32_t t = 0; t < terms_end(ix); t++) sum += list_bytes(&ix->terms[t].low);
    for (size_t i = 0; i < ix->highs_end; i++) sum += list_bytes(&ix->highs[i]);
    return sum;
}

err lexical_validate(const lexical *ix) {
    uint64_t postings = 0, distinct = 0, tokens = 0;
    uint32_t docs = 0, live = 0;
    for (uint32_t d = 0; d < ix->docs_cap; d++) {
        uint32_t s = ix->doc_slot[d];
        docs += s != SLOT_NONE;
        live += s == SLOT_EMPTY;
    }
    for (size_t x = 0; x < ix->n_extents; x++) {
        const extent *e = &ix->extents[x];
        uint32_t here = 0;
        for (uint32_t i = 0; i < e->used; i++) {
            TRY(validate_slot(ix, e, i, &distinct));
            here += !(extent_record(e, i)->doc & FREE_BIT);
            tokens += extent_record(e, i)->len;
        }
        TRY(validate_order(e));
        if (here != e->live) return bad("live documents of extent", (uint32_t)x);
        live += here;
    }
    if (docs != ix->docs || live != docs) return bad("number of documents", live);
    for (uint32_t t = 0; t < terms_end(ix); t++) TRY(validate_term(ix, t, &postings));
    if (postings != ix->postings || distinct != postings) return bad("postings", 0);
    if (all_lists_bytes(ix) != ix->bytes_postings) return bad("bytes of lists", 0);
    return tokens == ix->tokens ? OK : bad("tokens", 0);
}
