/* A snapshot of hostile bytes, and a history of hostile steps.
 *
 * First byte even: the rest becomes the body of a snapshot in a good frame (magic, length,
 * checksum), so that the parser behind the checksum is reached; what loads must be valid, answer,
 * and save the same bytes again. Odd: the rest are steps, two bytes each, that insert, delete and
 * search documents of few words; the index must stay valid, a search must find exactly the
 * documents that have its words, and the best three must be the first three of all.
 */
#include "index/lexical.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DOCS = 96, WORDS = 24, HEAD = 20 };

static void search_all(const lexical *ix, lexical_scratch *s, str word, uint32_t expect) {
    static lexical_hit hits[LEXICAL_K_MAX];
    lexical_term t = {word, 1};
    lexical_query q = {.terms = &t, .n_terms = 1, .k = LEXICAL_K_MAX};
    size_t n;
    KITH_ASSERT(lexical_search(ix, &q, s, hits, &n) == OK);
    KITH_ASSERT(n == MIN(expect, (uint32_t)LEXICAL_K_MAX));
}

static void fuzz_load(const uint8_t *body, size_t size, lexical_scratch *s) {
    strbuf file, again;
    strbuf_init(&file, 64 * MIB);
    uint8_t head[HEAD + 4] = "KITHWORD", tail[4];
    le32_put(head + 8, 2);
    le64_put(head + 12, size + 4);
    le32_put(head + HEAD, ANALYZE_VERSION);
    strbuf_add(&file, str_from(head, sizeof head));
    strbuf_add(&file, str_from(body, size));
    le32_put(tail, crc32c(0, file.ptr, file.len));
    strbuf_add(&file, str_from(tail, sizeof tail));
    lexical *ix;
    if (lexical_load(file.ptr, file.len, &ix) == OK) {
        KITH_ASSERT(lexical_validate(ix) == OK);
        lexical_suggestion x[3];
        size_t n = lexical_terms_prefix(ix, STR(""), x, 3);
        for (size_t i = 0; i < n; i++) search_all(ix, s, x[i].term, x[i].df);
        strbuf_init(&again, 64 * MIB);
        writer w = writer_to_strbuf(&again);
        KITH_ASSERT(lexical_save(ix, &w) == OK);
        lexical_free(ix);
        KITH_ASSERT(lexical_load(again.ptr, again.len, &ix) == OK);
        lexical_free(ix);
        strbuf_deinit(&again);
    }
    strbuf_deinit(&file);
}

static const char words[WORDS][3] = {"aa", "ab", "ac", "ad", "ae", "af", "ag", "ah",
                                     "ba", "bb", "bc", "bd", "be", "bf", "bg", "bh",
                                     "ca", "cb", "cc", "cd", "ce", "cf", "cg", "ch"};

/* The words of a document follow from two bytes. */
static size_t doc_tokens(uint8_t a, uint8_t b, token *out, bool has[WORDS]) {
    size_t n = a % 3 ? b % 40 : (size_t)b * 2;
    for (size_t i = 0; i < n; i++) {
        size_t w = (a + i * b + i * i) % WORDS;
        has[w] = true;
        out[i] = (token){.term = {words[w], 2}, .alt = i && (i + a) % 7 == 0};
    }
    return n;
}

/* Two and three words, any and all: as many as there are, and the best few are the first of all. */
static void search_pairs(const lexical *ix, lexical_scratch *s, const char three[][3],
                         bool has[DOCS][WORDS]) {
    lexical_term t[3];
    lexical_hit all[DOCS], few[3];
    for (size_t i = 0; i < 3; i++) t[i] = (lexical_term){{three[i], 2}, 1};
    for (size_t mode = 0; mode < 4; mode++) {
        size_t n = 2 + mode / 2, w = (size_t)(three - words), expect = 0, n_all, n_few;
        lexical_query q = {.terms = t, .n_terms = n, .k = DOCS, .mode = (lexical_mode)(mode % 2)};
        for (size_t d = 0; d < DOCS; d++) {
            size_t have = 0;
            for (size_t i = 0; i < n; i++) have += has[d][w + i];
            expect += q.mode == LEXICAL_ALL ? have == n : have > 0;
        }
        KITH_ASSERT(lexical_search(ix, &q, s, all, &n_all) == OK);
        KITH_ASSERT(n_all == expect);
        q.k = 3;
        KITH_ASSERT(lexical_search(ix, &q, s, few, &n_few) == OK);
        KITH_ASSERT(n_few == MIN(n_all, (size_t)3));
        for (size_t i = 0; i < n_few; i++)
            KITH_ASSERT(few[i].doc == all[i].doc && few[i].score == all[i].score);
    }
}

static void fuzz_steps(const uint8_t *p, size_t size, lexical_scratch *s) {
    lexical *ix;
    bool in[DOCS] = {false}, has[DOCS][WORDS] = {{false}};
    KITH_ASSERT(lexical_new(NULL, &ix) == OK);
    for (size_t i = 0; i + 3 <= size; i += 3) {
        uint32_t d = p[i] % DOCS;
        if (in[d]) {
            KITH_ASSERT(lexical_delete(ix, d) == OK);
            memset(has[d], 0, sizeof has[d]);
        } else {
            token t[512];
            KITH_ASSERT(lexical_insert(ix, d, t, doc_tokens(p[i + 1], p[i + 2], t, has[d])) == OK);
        }
        in[d] = !in[d];
    }
    KITH_ASSERT(lexical_validate(ix) == OK);
    for (size_t w = 0; w + 3 <= WORDS; w += 3) search_pairs(ix, s, &words[w], has);
    for (size_t w = 0; w < WORDS; w++) {
        uint32_t df = 0;
        for (size_t d = 0; d < DOCS; d++) df += has[d][w];
        KITH_ASSERT(lexical_df(ix, str_from(words[w], 2)) == df);
        search_all(ix, s, str_from(words[w], 2), df);
    }
    lexical_free(ix);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    lexical_scratch *s = lexical_scratch_new();
    KITH_ASSERT(s);
    if (data[0] % 2)
        fuzz_steps(data + 1, size - 1, s);
    else
        fuzz_load(data + 1, size - 1, s);
    lexical_scratch_free(s);
    return 0;
}
