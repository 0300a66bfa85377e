/* Any bytes as a vocabulary and a text: the first byte gives the options, the rest up to the first
 * NUL more vocabulary, the rest is text. Ids must exist, counts hold, and a shorter limit give a
 * prefix. */
#include "encode/tokenizer.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define IDS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    tokenizer_options o = {data[0] & 1, (data[0] & 2) != 0, (data[0] & 4) != 0};
    str rest = str_from(data + 1, size - 1), words;
    if (!str_split(&rest, 0, &words)) return 0;
    strbuf vocabulary;
    strbuf_init(&vocabulary, MIB);
    strbuf_addz(&vocabulary, "[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\nthe\n##ing\n");
    strbuf_add(&vocabulary, words);
    tokenizer *t;
    if (vocabulary.rc == OK && tokenizer_new(strbuf_str(&vocabulary), &o, &t) == OK) {
        uint32_t ids[IDS_MAX], fewer[IDS_MAX];
        size_t n, m;
        bool cut = tokenizer_run(t, rest, ids, IDS_MAX, &n);
        KITH_ASSERT(n <= IDS_MAX && (!cut || n == IDS_MAX));
        for (size_t i = 0; i < n; i++) KITH_ASSERT(ids[i] < tokenizer_count(t));
        cut = tokenizer_run(t, rest, fewer, n / 2, &m);
        KITH_ASSERT(m == n / 2 && cut == (m < n) && memcmp(ids, fewer, m * sizeof *ids) == 0);
        tokenizer_free(t);
    }
    strbuf_deinit(&vocabulary);
    return 0;
}
