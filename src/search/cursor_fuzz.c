/* Any text as a cursor: refused with the field, or decoded into a set that encodes back to it. */
#include "search/cursor.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* The checksum is put right, so that the fuzzer gets behind it. */
static err seal(const uint8_t *p, size_t n, arena *a, str *out) {
    static const char alphabet[65] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t *b = arena_alloc(a, n + 4);
    char *t = arena_alloc(a, (n + 4) * 2);
    if (!b || !t) return ERR_NO_MEMORY;
    memcpy(b, p, n);
    le32_put(b + n, crc32c(0, p, n));
    n += 4;
    size_t len = 0;
    for (size_t bit = 0; bit < n * 8; bit += 6) {
        unsigned v = (unsigned)b[bit / 8] << 8 | (bit / 8 + 1 < n ? b[bit / 8 + 1] : 0u);
        t[len++] = alphabet[(v >> (10 - bit % 8)) & 63];
    }
    *out = str_from(t, len);
    return OK;
}

static void check(str text, arena *a) {
    search_cursor c;
    uint64_t request = 0;
    err rc = cursor_decode(text, request, a, &c);
    if (rc == ERR_NO_MEMORY) return;
    if (rc != OK) {
        KITH_ASSERT(str_eq(str_of(err_field()), STR("cursor")));
        return;
    }
    str back;
    search_cursor again;
    KITH_ASSERT(c.count <= SEARCH_DEPTH_MAX);
    if (cursor_encode(&c, a, &back) != OK) return;
    KITH_ASSERT(cursor_decode(back, request, a, &again) == OK && again.count == c.count);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    arena a;
    arena_init(&a, 4 * MIB);
    check(str_from(p, n), &a);
    str sealed;
    if (n < 4000 && seal(p, n, &a, &sealed) == OK) check(sealed, &a);
    arena_deinit(&a);
    return 0;
}
