/* WordPiece over a trie.
 *
 * What the reference does to a text, in its order: cut out special tokens written in the text
 * ("[SEP]"); remove control characters, turn white space into spaces, put spaces round ideographs;
 * decompose (NFD) and drop nonspacing marks; lower case; split at spaces and round punctuation;
 * then, word by word, take the longest token that starts the rest of the word, or make the whole
 * word [UNK]. Every step but the last works on one character at a time, so one pass over the text
 * does it all: each character becomes a kind and its replacement, words collect in a small buffer,
 * and a word that ends is matched. (Decomposed marks would have to be put in canonical order, but
 * they are dropped, and a mark that is not dropped is in no vocabulary.)
 *
 * Characters below U+3400 (all alphabets, kana, punctuation) are looked up in a table made at
 * start: kind and replacement in 32 bits. Unified ideographs stand for themselves, alone. The
 * others, and those that become several, are worked out each time by tokenizer_table.h.
 *
 * The trie has two roots, for tokens that start a word and for those that continue one ("##x"),
 * over bytes: a double array (Aoe 1989; the XOR form), so a step is one load: child = base[node] ^
 * byte, and it is a child when its check is the node. Matching a word walks the trie once a token.
 * As tokens are whole UTF-8 sequences, matching bytes is matching characters.
 *
 * Invariants: slots 0 and 1 are the roots; a slot's check is its parent, or NOWHERE when free;
 * words hold at most WORD_BYTES_MAX bytes; an id is below `count`.
 */
#include "encode/tokenizer.h"
#include "encode/tokenizer_table.h"

#include <stdlib.h>
#include <string.h>

#define NOWHERE        UINT32_MAX
#define TABLE_CHARS    0x3400
#define WORD_BYTES_MAX (TOKENIZER_WORD_CHARS_MAX * 4)
#define SLOT_TRIES_MAX 64 /* free slots looked at before the array grows: building stays linear */
#define SLOT_SCAN_MAX  4096
#define SLOTS_MAX      ((size_t)1 << 28)
#define LINE_MAX_BYTES 1024

enum { ROOT_START = 0, ROOT_CONTINUE = 1 };

/* A character's fate, in the upper bits of a table entry; its replacement is in the lower 21. */
enum { KIND_WORD, KIND_DROP, KIND_SPACE, KIND_ALONE, KIND_SEVERAL };
#define KIND_SHIFT 21
#define CHAR_MASK  (((uint32_t)1 << KIND_SHIFT) - 1)

typedef struct slot {
    uint32_t base, check;
    uint32_t id; /* of the token that ends here, or NOWHERE */
} slot;

typedef struct special {
    str text; /* static */
    uint32_t id;
} special;

struct tokenizer {
    tokenizer_options options;
    slot *slots;
    size_t slots_count, slots_cap;
    uint32_t *chars; /* TABLE_CHARS entries */
    special specials[5];
    size_t specials_count, count;
    uint32_t unk, cls, sep;
};

/* ---- characters ---- */

#define IN(name, cp) tokenizer_in(tokenizer_##name, tokenizer_##name##_count, cp)

typedef struct fate {
    uint32_t kind; /* never KIND_SEVERAL */
    uint32_t chars[TOKENIZER_DECOMPOSED_MAX];
    size_t n; /* several stand together: alone as one word, or each as its own kind says */
} fate;

/* What the steps before decomposition make of a character. */
static uint32_t kind_before(const tokenizer_options *o, uint32_t cp) {
    if (IN(controls, cp)) return KIND_DROP;
    if (IN(spaces, cp)) return KIND_SPACE;
    return o->split_ideographs && IN(ideographs, cp) ? KIND_ALONE : KIND_WORD;
}

static void fate_of(const tokenizer_options *o, uint32_t cp, fate *f) {
    f->n = 0;
    f->kind = kind_before(o, cp);
    if (f->kind == KIND_DROP || f->kind == KIND_SPACE) return;
    uint32_t parts[TOKENIZER_DECOMPOSED_MAX] = {cp};
    size_t n = o->strip_accents ? tokenizer_decompose(cp, parts) : 1;
    for (size_t i = 0; i < n; i++) {
        if (o->strip_accents && IN(marks, parts[i])) continue;
        f->chars[f->n++] = o->lower_case ? tokenizer_lower(parts[i]) : parts[i];
    }
    if (cp == 0x130 && o->lower_case && !o->strip_accents) { /* the one lower case of two */
        *f = (fate){KIND_WORD, {'i', 0x307}, 2};
    }
    if (f->n == 0) f->kind = KIND_DROP;
    if (f->n == 1 && IN(punctuation, f->chars[0])) f->kind = KIND_ALONE;
}

static err chars_build(tokenizer *t) {
    t->chars = mem_alloc(TABLE_CHARS * sizeof *t->chars);
    if (!t->chars) return ERR_NO_MEMORY;
    for (uint32_t cp = 0; cp < TABLE_CHARS; cp++) {
        fate f;
        fate_of(&t->options, cp, &f);
        uint32_t kind = f.n > 1 ? KIND_SEVERAL : f.kind;
        t->chars[cp] = kind << KIND_SHIFT | (f.n == 1 ? f.chars[0] : 0);
    }
    return OK;
}

/* ---- building the trie ---- */

typedef struct entry {
    str text; /* without its "##" */
    uint32_t id;
    bool continues;
} entry;

/* A node to be built: its tokens are sorted[lo, hi), equal in their first `depth` bytes. */
typedef struct todo {
    uint32_t node;
    uint32_t lo, hi, depth;
} todo;

typedef struct builder {
    tokenizer *t;
    const entry *sorted;
    todo *queue;
    size_t queue_count, queue_cap;
    size_t first_free; /* no free slot is below it */
} builder;

static int entry_order(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->continues != y->continues) return x->continues ? 1 : -1;
    int c = str_cmp(x->text, y->text);
    if (c) return c;
    return x->id < y->id ? -1 : x->id > y->id;
}

static err slots_grow(tokenizer *t) { /* by 256 */
    TRY(mem_grow((void **)&t->slots, &t->slots_cap, t->slots_count + 256, sizeof *t->slots,
                 SLOTS_MAX));
    for (size_t i = 0; i < 256; i++) t->slots[t->slots_count + i] = (slot){0, NOWHERE, NOWHERE};
    t->slots_count += 256;
    return OK;
}

static bool slots_fit(const tokenizer *t, uint32_t base, const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (t->slots[base ^ bytes[i]].check != NOWHERE) return false;
    return true;
}

/* A base where all children find free slots. */
static err base_find(builder *b, const uint8_t *bytes, size_t n, uint32_t *base) {
    tokenizer *t = b->t;
    while (b->first_free < t->slots_count && t->slots[b->first_free].check != NOWHERE)
        b->first_free++;
    size_t tries = 0, end = MIN(t->slots_count, b->first_free + SLOT_SCAN_MAX);
    for (size_t s = b->first_free; s < end && tries < SLOT_TRIES_MAX; s++) {
        if (t->slots[s].check != NOWHERE) continue;
        tries++;
        *base = (uint32_t)s ^ bytes[0];
        if (slots_fit(t, *base, bytes, n)) return OK;
    }
    *base = (uint32_t)t->slots_count;
    return slots_grow(t);
}

static err queue_add(builder *b, todo d) {
    TRY(mem_grow((void **)&b->queue, &b->queue_cap, b->queue_count + 1, sizeof d, SLOTS_MAX));
    b->queue[b->queue_count++] = d;
    return OK;
}

/* Places the children of one node and queues them. */
static err node_build(builder *b, todo d) {
    tokenizer *t = b->t;
    uint8_t bytes[256];
    uint32_t starts[257];
    size_t n = 0;
    uint32_t i = d.lo;
    while (i < d.hi && b->sorted[i].text.len == d.depth) /* the last of equal lines counts */
        t->slots[d.node].id = b->sorted[i++].id;
    for (; i < d.hi; i++) {
        uint8_t byte = (uint8_t)b->sorted[i].text.ptr[d.depth];
        if (n == 0 || bytes[n - 1] != byte) {
            bytes[n] = byte;
            starts[n++] = i;
        }
    }
    if (n == 0) return OK;
    starts[n] = d.hi;
    uint32_t base;
    TRY(base_find(b, bytes, n, &base));
    t->slots[d.node].base = base;
    for (size_t j = 0; j < n; j++) {
        uint32_t child = base ^ bytes[j];
        t->slots[child].check = d.node;
        TRY(queue_add(b, (todo){child, starts[j], starts[j + 1], d.depth + 1}));
    }
    return OK;
}

static err trie_build(tokenizer *t, entry *entries, size_t n) {
    qsort(entries, n, sizeof *entries, entry_order);
    uint32_t starts = 0;
    while (starts < n && !entries[starts].continues) starts++;
    builder b = {.t = t, .sorted = entries};
    err rc = slots_grow(t);
    if (rc == OK) {
        t->slots[ROOT_START].check = ROOT_START;
        t->slots[ROOT_CONTINUE].check = ROOT_CONTINUE;
        TRY_GOTO(queue_add(&b, (todo){ROOT_START, 0, starts, 0}));
        TRY_GOTO(queue_add(&b, (todo){ROOT_CONTINUE, starts, (uint32_t)n, 0}));
        for (size_t i = 0; i < b.queue_count; i++) TRY_GOTO(node_build(&b, b.queue[i]));
    }
done:
    mem_free(b.queue);
    return rc;
}

/* ---- vocabulary ---- */

typedef struct entries {
    entry *items;
    size_t count, cap;
} entries;

static err entry_add(entries *e, str line) {
    size_t number = e->count + 1;
    if (line.len > LINE_MAX_BYTES)
        return err_set(ERR_CORRUPT, "vocab.txt: line %zu: a token of %zu bytes, limit is %d",
                       number, line.len, LINE_MAX_BYTES);
    if (!utf8_valid(line, NULL))
        return err_set(ERR_CORRUPT, "vocab.txt: line %zu: not UTF-8", number);
    TRY(mem_grow((void **)&e->items, &e->cap, number, sizeof *e->items, TOKENIZER_TOKENS_MAX));
    bool continues = line.len > 2 && str_starts(line, STR("##"));
    e->items[e->count++] =
        (entry){continues ? str_skip(line, 2) : line, (uint32_t)number - 1, continues};
    return OK;
}

static err entries_read(entries *e, str vocabulary) {
    if (vocabulary.len > TOKENIZER_BYTES_MAX)
        return err_set(ERR_TOO_LARGE, "vocab.txt: %zu bytes, limit is %zu", vocabulary.len,
                       TOKENIZER_BYTES_MAX);
    str rest = vocabulary, line;
    while (rest.len && str_split(&rest, '\n', &line)) {
        if (str_ends(line, STR("\r"))) line.len--;
        TRY(entry_add(e, line));
    }
    return OK;
}

static err specials_find(tokenizer *t, const entries *e) {
    static const str names[] = {STR_INIT("[UNK]"), STR_INIT("[CLS]"), STR_INIT("[SEP]"),
                                STR_INIT("[PAD]"), STR_INIT("[MASK]")};
    uint32_t ids[COUNT_OF(names)];
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        ids[i] = NOWHERE;
        for (size_t j = 0; j < e->count; j++)
            if (str_eq(e->items[j].text, names[i]) && !e->items[j].continues)
                ids[i] = e->items[j].id;
        if (ids[i] != NOWHERE) t->specials[t->specials_count++] = (special){names[i], ids[i]};
        if (ids[i] == NOWHERE && i < 3)
            return err_set(ERR_CORRUPT, "vocab.txt: no token %s: not a WordPiece vocabulary",
                           names[i].ptr);
    }
    t->unk = ids[0];
    t->cls = ids[1];
    t->sep = ids[2];
    return OK;
}

err tokenizer_new(str vocabulary, const tokenizer_options *options, tokenizer **out) {
    entries e = {0};
    err rc = OK;
    tokenizer *t = mem_zalloc(1, sizeof *t);
    if (!t) return ERR_NO_MEMORY;
    t->options = *options;
    TRY_GOTO(entries_read(&e, vocabulary));
    TRY_GOTO(specials_find(t, &e));
    t->count = e.count;
    TRY_GOTO(trie_build(t, e.items, e.count));
    TRY_GOTO(chars_build(t));
done:
    mem_free(e.items);
    if (rc != OK) {
        tokenizer_free(t);
        t = NULL;
    }
    *out = t;
    return rc;
}

void tokenizer_free(tokenizer *t) {
    if (!t) return;
    mem_free(t->slots);
    mem_free(t->chars);
    mem_free(t);
}

size_t tokenizer_count(const tokenizer *t) {
    return t->count;
}
size_t tokenizer_bytes(const tokenizer *t) {
    return sizeof *t + t->slots_cap * sizeof *t->slots + TABLE_CHARS * sizeof *t->chars;
}
uint32_t tokenizer_cls(const tokenizer *t) {
    return t->cls;
}
uint32_t tokenizer_sep(const tokenizer *t) {
    return t->sep;
}
uint32_t tokenizer_unk(const tokenizer *t) {
    return t->unk;
}

/* ---- running ---- */

typedef struct run {
    const tokenizer *t;
    uint32_t *ids;
    size_t n, max;
    bool cut;
    size_t word_bytes, word_chars; /* word_chars counts on beyond what is kept */
    char word[WORD_BYTES_MAX];
} run;

static void run_emit(run *r, const uint32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (r->n == r->max) {
            r->cut = true;
            return;
        }
        r->ids[r->n++] = ids[i];
    }
}

/* The longest token from `root` that starts the bytes [p, end): its id and where it ends. */
static inline uint32_t longest(const tokenizer *t, uint32_t root, const char *p, const char *end,
                               const char **next) {
    uint32_t node = root, best = NOWHERE;
    const slot *slots = t->slots;
    while (p < end) {
        uint32_t child = slots[node].base ^ (uint8_t)*p;
        if (slots[child].check != node || child == node) break;
        p++;
        node = child;
        if (slots[node].id != NOWHERE) {
            best = slots[node].id;
            *next = p;
        }
    }
    return best;
}

/* Ends the word, if there is one. */
static void run_flush(run *r) {
    uint32_t ids[WORD_BYTES_MAX];
    size_t n = 0;
    if (r->word_chars == 0) return;
    bool known = r->word_chars <= TOKENIZER_WORD_CHARS_MAX;
    const char *p = r->word, *end = p + r->word_bytes;
    while (known && p < end) {
        ids[n] = longest(r->t, n ? ROOT_CONTINUE : ROOT_START, p, end, &p);
        known = ids[n++] != NOWHERE;
    }
    if (!known) {
        ids[0] = r->t->unk;
        n = 1;
    }
    run_emit(r, ids, n);
    r->word_bytes = r->word_chars = 0;
}

static inline void run_add(run *r, uint32_t cp) {
    if (r->word_chars++ >= TOKENIZER_WORD_CHARS_MAX) return;
    if (cp < 0x80)
        r->word[r->word_bytes++] = (char)cp;
    else
        r->word_bytes += utf8_put(cp, r->word + r->word_bytes);
}

static void run_several(run *r, uint32_t cp) {
    fate f;
    fate_of(&r->t->options, cp, &f);
    if (f.kind == KIND_DROP) return;
    if (f.kind == KIND_SPACE || f.kind == KIND_ALONE) run_flush(r);
    for (size_t i = 0; i < f.n; i++) {
        bool alone = f.kind == KIND_WORD && IN(punctuation, f.chars[i]);
        if (alone) run_flush(r);
        run_add(r, f.chars[i]);
        if (alone) run_flush(r);
    }
    if (f.kind == KIND_ALONE) run_flush(r);
}

/* A special token written at `rest`: its length, 0 when there is none. */
static size_t run_special(run *r, str rest) {
    for (size_t i = 0; i < r->t->specials_count; i++) {
        const special *s = &r->t->specials[i];
        if (!str_starts(rest, s->text)) continue;
        run_flush(r);
        run_emit(r, &s->id, 1);
        return s->text.len;
    }
    return 0;
}

/* Two large blocks of ideographs, which nothing decomposes or lowers. */
static inline bool is_plain_ideograph(uint32_t cp) {
    return (cp >= 0x4e00 && cp <= 0x9fff) || (cp >= 0x3400 && cp <= 0x4dbf);
}

static void run_char(run *r, uint32_t cp) {
    uint32_t found = (uint32_t)KIND_SEVERAL << KIND_SHIFT;
    if (cp < TABLE_CHARS)
        found = r->t->chars[cp];
    else if (is_plain_ideograph(cp))
        found = (r->t->options.split_ideographs ? KIND_ALONE : KIND_WORD) << KIND_SHIFT | cp;
    switch (found >> KIND_SHIFT) {
    case KIND_WORD:
        run_add(r, found & CHAR_MASK);
        break;
    case KIND_SPACE:
        run_flush(r);
        break;
    case KIND_ALONE:
        run_flush(r);
        run_add(r, found & CHAR_MASK);
        run_flush(r);
        break;
    case KIND_SEVERAL:
        run_several(r, cp);
        break;
    default: /* KIND_DROP */
        break;
    }
}

bool tokenizer_run(const tokenizer *t, str text, uint32_t *ids, size_t max, size_t *n) {
    run r;
    r.t = t;
    r.ids = ids;
    r.n = 0;
    r.max = max;
    r.cut = false;
    r.word_bytes = r.word_chars = 0;
    size_t pos = 0;
    while (pos < text.len && !r.cut) {
        uint8_t byte = (uint8_t)text.ptr[pos];
        if (byte == '[') {
            size_t length = run_special(&r, str_skip(text, pos));
            pos += length;
            if (length) continue;
        }
        uint32_t cp = byte;
        if (byte < 0x80)
            pos++;
        else
            cp = utf8_next(text, &pos);
        run_char(&r, cp);
    }
    if (!r.cut) run_flush(&r);
    *n = r.n;
    return r.cut;
}
