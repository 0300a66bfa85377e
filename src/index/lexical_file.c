/* The words index to bytes and back.
 *
 * Body: version of the analysis (u32: texts analyzed by other rules would not match queries, so
 * load refuses them, and the owner makes the index anew); k1, b (float bits, u32); then LEB128:
 * number of documents, of terms, of tokens; the terms, each with its length; then for each
 * document, ascending: gap to the one before, number of tokens, and the tokens, each its term's
 * number * 2 + alt. Terms are numbered by first use in this order, so the bytes follow from the
 * content alone, whatever order it came in; and frequent words have short numbers.
 *
 * Posting lists are not in the file: load gives every document its slot (classes in order, so that
 * each class stands together), and then makes each list at once from its postings, which a
 * counting sort over the sequences brings together. So a file cannot hold lists that disagree with
 * the documents, and there is little to check: numbers in range, texts distinct, nothing left
 * over.
 */
#include "index/lexical_int.h"

#include "index/save.h"

static const char magic[8] = {'K', 'I', 'T', 'H', 'W', 'O', 'R', 'D'};
enum { VERSION = 2, SPARSE_MAX = 1 << 22 };

/* ---- save ---- */

typedef struct saving {
    const lexical *ix;
    uint32_t *file;    /* by term: its number in the file; NAMES_NONE: not yet */
    uint32_t *running; /* by number in the file: the term */
    uint32_t count;
} saving;

/* The tokens of a document; n = 0 when it has none. */
static const uint32_t *doc_tokens(const lexical *ix, uint32_t doc, uint32_t *n) {
    uint32_t slot = ix->doc_slot[doc];
    *n = 0;
    if (slot >= SLOT_EMPTY) return NULL;
    const extent *e = extent_of(ix, slot);
    const record *r = extent_record(e, slot - e->base);
    *n = r->len;
    return record_tokens(e, r);
}

static void number_terms(saving *s) {
    for (uint32_t d = 0; d < s->ix->docs_cap; d++) {
        uint32_t n;
        const uint32_t *t = doc_tokens(s->ix, d, &n);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t id = t[i] & TOKEN_ID;
            if (s->file[id] != NAMES_NONE) continue;
            s->file[id] = s->count;
            s->running[s->count++] = id;
        }
    }
}

static void put_float(save *out, float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    save_u32(out, bits);
}

static void put_body(const saving *s, save *out) {
    const lexical *ix = s->ix;
    save_u32(out, ANALYZE_VERSION);
    put_float(out, ix->k1);
    put_float(out, ix->b);
    save_varint(out, ix->docs);
    save_varint(out, s->count);
    save_varint(out, ix->tokens);
    for (uint32_t i = 0; i < s->count; i++) save_text(out, names_text(ix->words, s->running[i]));
    uint32_t next = 0;
    for (uint32_t d = 0; d < ix->docs_cap; d++) {
        if (ix->doc_slot[d] == SLOT_NONE) continue;
        uint32_t n;
        const uint32_t *t = doc_tokens(ix, d, &n);
        save_varint(out, d - next);
        save_varint(out, n);
        for (uint32_t i = 0; i < n; i++)
            save_varint(out, (uint64_t)s->file[t[i] & TOKEN_ID] * 2 + (t[i] & TOKEN_ALT ? 1 : 0));
        next = d + 1;
    }
}

err lexical_save(const lexical *ix, const writer *w) {
    size_t terms = (size_t)names_end(ix->words) + 1;
    saving s = {.ix = ix};
    s.file = mem_alloc(terms * sizeof *s.file);
    s.running = mem_alloc(terms * sizeof *s.running);
    err rc = s.file && s.running ? OK : ERR_NO_MEMORY;
    if (rc == OK) {
        memset(s.file, 0xff, terms * sizeof *s.file);
        number_terms(&s);
        save count = {.w = NULL}, out = {.w = w};
        put_body(&s, &count);
        save_head(&out, magic, VERSION, count.size);
        put_body(&s, &out);
        rc = save_end(&out);
    }
    mem_free(s.file);
    mem_free(s.running);
    return rc;
}

/* ---- load ---- */

static err corrupt(const char *what) {
    return err_set(ERR_CORRUPT, "words: %s", what);
}

static err read_options(reader *r, lexical_options *o) {
    uint32_t analysis = reader_u32(r), k1 = reader_u32(r), b = reader_u32(r);
    memcpy(&o->k1, &k1, sizeof k1);
    memcpy(&o->b, &b, sizeof b);
    if (r->failed) return corrupt("cut in the head");
    if (analysis != ANALYZE_VERSION)
        return err_set(ERR_UNSUPPORTED, "words: texts analyzed by rules %u, this program's are %d",
                       analysis, ANALYZE_VERSION);
    return OK;
}

static err read_terms(lexical *ix, reader *r, uint64_t n) {
    if (r->failed || n > r->left) return corrupt("more terms than bytes");
    for (uint64_t i = 0; i < n; i++) {
        uint64_t len = reader_varint(r);
        if (r->failed || len == 0 || len > ANALYZE_TERM_MAX) return corrupt("length of a term");
        str text = str_from(reader_bytes(r, len), len);
        if (r->failed) return corrupt("cut in a term");
        uint32_t id;
        TRY(names_add(ix->words, text, &id));
        if (id != i) return corrupt("a term twice");
    }
    return lexical_grow_terms(ix);
}

/* Steps to the next document: its number and how many tokens follow. */
static err read_head(reader *r, uint64_t docs, uint64_t *next, uint32_t *doc, uint32_t *n) {
    uint64_t gap = reader_varint(r), len = reader_varint(r);
    /* A short file must not demand room for 2^28 documents. (Beyond this the owner rebuilds.) */
    if (r->failed || gap >= LEXICAL_DOC_MAX || *next + gap >= LEXICAL_DOC_MAX ||
        *next + gap > SPARSE_MAX + 64 * docs)
        return corrupt("a document's number");
    if (len > ANALYZE_TOKENS_MAX || len > r->left) return corrupt("length of a document");
    *doc = (uint32_t)(*next + gap);
    *n = (uint32_t)len;
    *next += gap + 1;
    return OK;
}

/* Counts the documents of each class, so that each class can stand together. */
static err count_docs(reader r, uint64_t docs, uint32_t counts[CLASSES]) {
    uint64_t next = 0;
    for (uint64_t i = 0; i < docs; i++) {
        uint32_t doc, n;
        TRY(read_head(&r, docs, &next, &doc, &n));
        if (n) counts[class_of_length(n)]++;
        for (uint32_t j = 0; j < n; j++) (void)reader_varint(&r);
    }
    return r.failed ? corrupt("cut in a document") : OK;
}

static err read_docs(lexical *ix, reader *r, uint64_t docs, uint64_t n_terms) {
    uint64_t next = 0;
    for (uint64_t i = 0; i < docs; i++) {
        uint32_t doc, n;
        TRY(read_head(r, docs, &next, &doc, &n));
        TRY(lexical_grow_docs(ix, doc));
        TRY(mem_grow((void **)&ix->ids, &ix->ids_cap, n, sizeof(uint32_t), UINT16_MAX));
        for (uint32_t j = 0; j < n; j++) {
            uint64_t x = reader_varint(r);
            if (r->failed || x / 2 >= n_terms || (j == 0 && (x & 1))) return corrupt("a token");
            ix->ids[j] = (uint32_t)(x / 2) | (x & 1 ? TOKEN_ALT : 0);
        }
        TRY(lexical_place(ix, doc, n));
    }
    return OK;
}

static err read_body(lexical *ix, reader *r) {
    uint32_t counts[CLASSES] = {0};
    uint64_t docs = reader_varint(r), terms = reader_varint(r), tokens = reader_varint(r);
    TRY(read_terms(ix, r, terms));
    TRY(count_docs(*r, docs, counts));
    TRY(lexical_make_room(ix, counts));
    TRY(read_docs(ix, r, docs, terms));
    if (r->failed || r->left) return corrupt("bytes behind the end");
    if (ix->tokens != tokens) return corrupt("number of tokens");
    TRY(lexical_build_lists(ix));
    for (uint32_t t = 0; t < terms_end(ix); t++)
        if (term_df(ix, &ix->terms[t]) == 0) return corrupt("an unused term");
    return OK;
}

err lexical_load(const void *p, size_t size, lexical **out) {
    *out = NULL;
    reader r;
    lexical_options o;
    TRY(save_open(p, size, "words", magic, VERSION, &r));
    TRY(read_options(&r, &o));
    lexical *ix;
    err rc = lexical_new(&o, &ix);
    if (rc != OK) return rc == ERR_INVALID ? corrupt("k1 or b") : rc;
    rc = read_body(ix, &r);
    if (rc != OK) {
        lexical_free(ix);
        return rc;
    }
    *out = ix;
    return OK;
}
