/* Any bytes to the analyzer: it never fails, and its tokens keep what analyze.h promises. */
#include "index/analyze.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    arena a;
    token_list t;
    arena_init(&a, 64 * MIB);
    KITH_ASSERT(analyze(&a, str_from(data, size), &t) == OK);
    for (size_t i = 0; i < t.count; i++) {
        const token *x = &t.items[i];
        uint32_t before = i ? t.items[i - 1].position : 0;
        KITH_ASSERT(x->term.len > 0 && x->term.len <= ANALYZE_TERM_MAX &&
                    utf8_valid(x->term, NULL));
        KITH_ASSERT(x->size > 0 && x->offset + x->size <= size);
        KITH_ASSERT(x->position == (i && !x->alt ? before + 1 : before));
    }
    arena_deinit(&a);
    return 0;
}
