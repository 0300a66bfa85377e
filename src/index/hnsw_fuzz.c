/* hnsw_fuzz: hostile snapshots, and then the index that came out of one, used.
 *
 * The input is a snapshot as it is. When the first byte is 0xff, the rest is a script instead: an index of 4
 * dimensions is filled past its first training and then changed by the script's bytes, validated,
 * saved and loaded, so that mutations start from real snapshots too.
 */
#include "index/hnsw.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(hnsw *h) {
    hnsw_scratch *s;
    hnsw_hit hits[8];
    size_t n;
    float x[HNSW_DIM_MAX] = {1};
    if (hnsw_scratch_new(&s) != OK) return;
    bool whole = hnsw_validate(h) == OK; /* loading lets a few oddities pass that harm nothing */
    if (hnsw_search(h, x, &(hnsw_query){.k = 8}, s, hits, &n) == OK && n > 8) __builtin_trap();
    for (uint32_t doc = 0; doc < 64; doc++)
        if (hnsw_has(h, doc) && hnsw_delete(h, doc) != OK) __builtin_trap();
    (void)!hnsw_insert(h, 3, x);
    if (whole && hnsw_validate(h) == ERR_INTERNAL) __builtin_trap();
    hnsw_scratch_free(s);
}

static void script(const uint8_t *data, size_t size) {
    hnsw *h;
    rng r;
    rng_seed(&r, 1);
    if (hnsw_new(&(hnsw_options){.dim = 4, .degree = 8, .ef_build = 8}, &h) != OK) return;
    for (uint32_t doc = 0; doc < 1100; doc++) {
        float x[4] = {rng_normal(&r), rng_normal(&r), rng_normal(&r), rng_normal(&r)};
        if (hnsw_insert(h, doc, x) != OK) __builtin_trap();
    }
    for (size_t i = 0; i + 4 <= size; i += 4) {
        uint32_t doc = le16_get(data + i) % 1200u;
        float x[4] = {(float)data[i + 2] - 127.5f, (float)data[i + 3] - 127.5f, 1.0f, (float)doc};
        if (data[i + 2] & 1)
            (void)!hnsw_insert(h, doc, x);
        else
            (void)!hnsw_delete(h, doc);
    }
    if (hnsw_validate(h) != OK) __builtin_trap();
    strbuf b;
    strbuf_init(&b, 64 * MIB);
    writer w = writer_to_strbuf(&b);
    hnsw *again;
    if (hnsw_save(h, &w) != OK || hnsw_load(b.ptr, b.len, NULL, &again) != OK) __builtin_trap();
    hnsw_free(again);
    strbuf_deinit(&b);
    hnsw_free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size && data[0] == 0xff) {
        script(data + 1, size - 1);
        return 0;
    }
    hnsw *h;
    if (hnsw_load(data, size, NULL, &h) != OK) return 0;
    use(h);
    hnsw_free(h);
    return 0;
}
