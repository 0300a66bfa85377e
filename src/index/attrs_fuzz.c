/* A hostile body in a good frame (magic, length, checksum): it is refused, or what loads is valid,
 * answers filters, and its own bytes load again and are the same when saved. */
#include "index/attrs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 20 };

static void use(attrs *a) {
    KITH_ASSERT(attrs_validate(a) == OK);
    size_t words = bits_words(attrs_docs_end(a));
    uint64_t *bits = mem_alloc(words * 8 + 8);
    uint32_t count;
    attrs_filter f = {.flags_clear = ATTRS_REPLY, .has_from = true};
    KITH_ASSERT(bits && attrs_filter_compile(a, &f, bits, words, &count) == OK);
    KITH_ASSERT(count == bits_count(bits, words));
    for (uint32_t d = 0; d < attrs_docs_end(a) && d < 1000; d++)
        KITH_ASSERT(attrs_filter_match(a, &f, d) == bits_get(bits, d));
    mem_free(bits);
}

static void save_to(const attrs *a, strbuf *b) {
    strbuf_init(b, 64 * MIB);
    writer w = writer_to_strbuf(b);
    KITH_ASSERT(attrs_save(a, &w) == OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    strbuf file, first, second;
    strbuf_init(&file, 64 * MIB);
    uint8_t head[HEAD] = "KITHATTR", tail[4];
    le32_put(head + 8, 1);
    le64_put(head + 12, size);
    strbuf_add(&file, str_from(head, sizeof head));
    strbuf_add(&file, str_from(data, size));
    le32_put(tail, crc32c(0, file.ptr, file.len));
    strbuf_add(&file, str_from(tail, sizeof tail));
    attrs *a, *again;
    if (attrs_load(file.ptr, file.len, &a) == OK) {
        use(a);
        save_to(a, &first);
        KITH_ASSERT(attrs_load(first.ptr, first.len, &again) == OK);
        save_to(again, &second);
        KITH_ASSERT(str_eq(strbuf_str(&first), strbuf_str(&second)));
        strbuf_deinit(&first);
        strbuf_deinit(&second);
        attrs_free(a);
        attrs_free(again);
    }
    strbuf_deinit(&file);
    return 0;
}
