/* A journal made again from the frames of another: equal record by record, at every limit; damaged,
 * missing and foreign frames are refused and leave nothing that opens. */
#include "journal/journal_test_util.h"

typedef struct copy {
    uint8_t *bytes;
    size_t len;
    size_t starts[512];
    journal_position ends[512]; /* after record i */
    bool last[512];
    size_t count;
    uint8_t id[JOURNAL_ID_BYTES];
} copy;

static void make(char *dir, copy *c) {
    journal *j;
    journal_options o = {.segment_bytes = 16 * KIB};
    assert_ok(journal_open(fs_real(), dir, &o, &j));
    rng r;
    rng_seed(&r, 5);
    for (uint64_t n = 1; n < 300;) {
        size_t k = 1 + rng_below(&r, 6);
        test_entry t[6];
        journal_entry e[6];
        for (size_t i = 0; i < k; i++) {
            test_entry_fill(&t[i], n++);
            e[i] = t[i].e;
        }
        uint64_t first, last;
        assert_ok(journal_append(j, e, k, &first, &last));
    }
    memcpy(c->id, journal_id(j), sizeof c->id);
    journal_reader *rd;
    journal_record rec;
    c->bytes = mem_alloc(MIB);
    assert_non_null(c->bytes);
    assert_ok(journal_reader_open(j, 1, &rd));
    while (journal_read(rd, &rec) == OK) {
        c->starts[c->count] = c->len;
        memcpy(c->bytes + c->len, rec.frame.ptr, rec.frame.len);
        c->len += rec.frame.len;
        c->last[c->count] = rec.last;
        c->ends[c->count] = (journal_position){.lsn = rec.lsn, .time = rec.time};
        journal_reader_hash(rd, c->ends[c->count].hash);
        c->count++;
    }
    journal_reader_close(rd);
    journal_close(j);
}

/* Builds up to the limit, in two overlapping pieces, and reads it back. */
static void build(const copy *c, uint64_t limit) {
    char dir[64];
    journal_builder *b;
    journal_position p;
    bool full = false;
    test_dir_make(dir);
    journal_limit l = {.lsn = limit};
    size_t half = c->starts[c->count / 2], back = c->starts[c->count / 3];
    assert_ok(journal_builder_open(fs_real(), dir, c->id, &b));
    assert_ok(journal_builder_add(b, c->bytes, half, &l, &full));
    if (!full) assert_ok(journal_builder_add(b, c->bytes + back, c->len - back, &l, &full));
    assert_ok(journal_builder_finish(b, &p));
    uint64_t want = MIN(limit ? limit : c->count, c->count);
    while (want && !c->last[want - 1]) want--;
    assert_int_equal(p.lsn, want);
    if (want) assert_memory_equal(p.hash, c->ends[want - 1].hash, sizeof p.hash);
    assert_ok(journal_verify(fs_real(), dir, NULL, NULL, NULL));
    journal *j;
    assert_ok(journal_open(fs_real(), dir, NULL, &j));
    assert_int_equal(journal_head_lsn(j), want);
    assert_int_equal(journal_recovered(j)->cut_bytes, 0);
    journal_reader *rd;
    journal_record rec;
    assert_ok(journal_reader_open(j, 1, &rd));
    for (uint64_t n = 1; n <= want; n++) {
        assert_ok(journal_read(rd, &rec));
        test_record_is(&rec, n);
        assert_int_equal(rec.time, c->ends[n - 1].time);
    }
    assert_err(journal_read(rd, &rec), ERR_NOT_FOUND);
    journal_reader_close(rd);
    test_entry t; /* and it goes on */
    uint64_t first, last;
    test_entry_fill(&t, want + 1);
    assert_ok(journal_append(j, &t.e, 1, &first, &last));
    assert_int_equal(first, want + 1);
    journal_close(j);
    test_dir_remove(dir);
}

static void every_limit(void **state) {
    (void)state;
    char dir[64];
    static copy c;
    test_dir_make(dir);
    c = (copy){0};
    make(dir, &c);
    build(&c, 0);
    for (uint64_t l = 1; l <= c.count + 1; l += 7) build(&c, l);
    mem_free(c.bytes);
    test_dir_remove(dir);
}

static void refused(void **state) {
    (void)state;
    char dir[64], to[64];
    static copy c;
    test_dir_make(dir);
    test_dir_make(to);
    c = (copy){0};
    make(dir, &c);
    rng r;
    rng_seed(&r, 9);
    for (int i = 0; i < 200; i++) { /* a flipped bit anywhere */
        journal_position at = {0};
        size_t where = rng_below(&r, (uint32_t)c.len);
        uint8_t bit = (uint8_t)(1u << rng_below(&r, 8));
        c.bytes[where] ^= bit;
        err rc = journal_frames_check(c.bytes, c.len, c.id, &at, NULL, NULL);
        c.bytes[where] ^= bit;
        if (rc == OK) fail_msg("a bit flipped at byte %zu was not seen", where);
    }
    journal_builder *b;
    bool full;
    journal *j;
    assert_ok(journal_builder_open(fs_real(), to, c.id, &b));
    assert_ok(journal_builder_add(b, c.bytes, c.starts[10], NULL, &full));
    size_t gap = c.starts[11];
    assert_err(journal_builder_add(b, c.bytes + gap, c.len - gap, NULL, &full), ERR_CORRUPT);
    journal_builder_abort(b);
    assert_err(journal_open(fs_real(), to, NULL, &j), ERR_CORRUPT);
    mem_free(c.bytes);
    test_dir_remove(dir);
    test_dir_remove(to);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_limit), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
