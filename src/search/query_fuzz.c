/* Any bytes as a query: either refused with a field, or understood in a form that parses back to the
 * same query.
 */
#include "search/query.h"

#include "search/search.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    arena a;
    arena_init(&a, 4 * MIB);
    query q, again;
    if (query_parse(str_from(p, n), STR("ana"), &a, &q) == OK) {
        err rc = query_parse(q.understood, STR("ana"), &a, &again);
        /* Quotes may make it longer than a query may be. */
        KITH_ASSERT(rc == OK || rc == ERR_TOO_LARGE);
        if (rc == OK) {
            KITH_ASSERT(str_eq(q.understood, again.understood));
            KITH_ASSERT(str_eq(q.text, again.text));
            KITH_ASSERT(q.n_words == again.n_words && q.n_phrases == again.n_phrases);
            KITH_ASSERT(q.n_nots == again.n_nots && q.from.count == again.from.count);
            KITH_ASSERT(q.thread.count == again.thread.count && q.has == again.has);
            KITH_ASSERT(q.from_ms == again.from_ms && q.until_ms == again.until_ms);
        }
        KITH_ASSERT(utf8_valid(q.text, NULL) && utf8_valid(q.understood, NULL));
    } else {
        KITH_ASSERT(err_field()[0] == 'q');
    }
    str plain;
    if (utf8_valid(str_from(p, n), NULL) && search_literal(str_from(p, n), &a, &plain) == OK) {
        KITH_ASSERT(query_parse(plain, STR(""), &a, &q) == OK);
        KITH_ASSERT(q.n_phrases + q.n_nots == 0 && query_filter_empty(&q));
    }
    arena_deinit(&a);
    return 0;
}
