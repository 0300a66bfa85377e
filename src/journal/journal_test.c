/* The journal against an oracle: what was appended is what is read, across reopening, segments and
 * readers; limits; the lock; dropping; finding by time; verify. Damage, faults and crashes have
 * files of their own.
 */
#include "journal/journal_test_util.h"

static void append_read_reopen(void **state) {
    (void)state;
    char dir[64];
    test_dir_make(dir);
    journal *j;
    assert_ok(journal_open(fs_real(), dir, &(journal_options){.segment_bytes = 8192}, &j));
    assert_true(journal_recovered(j)->created);
    uint64_t next = 1, last;
    rng r;
    rng_seed(&r, 7);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 30; i++) {
            size_t n = 1 + rng_below(&r, 5);
            assert_ok(test_append(j, next, n, &last));
            assert_int_equal(last, next + n - 1);
            next += n;
        }
        journal_close(j);
        assert_ok(journal_open(fs_real(), dir, NULL, &j));
        assert_int_equal(journal_recovered(j)->cut_bytes, 0);
        assert_int_equal(journal_head_lsn(j), next - 1);
        journal_reader *rd;
        assert_ok(journal_reader_open(j, 0, &rd));
        journal_record rec;
        hlc time = 0;
        for (uint64_t lsn = 1; lsn < next; lsn++) {
            assert_ok(journal_read(rd, &rec));
            assert_int_equal(rec.lsn, lsn);
            test_record_is(&rec, lsn);
            assert_true(rec.time > time);
            time = rec.time;
        }
        assert_err(journal_read(rd, &rec), ERR_NOT_FOUND);
        journal_reader_close(rd);
        journal_summary sum;
        assert_ok(journal_verify(fs_real(), dir, NULL, NULL, &sum));
        assert_int_equal(sum.records, next - 1);
        assert_int_equal(sum.notes, 0);
    }
    journal_close(j);
    test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(append_read_reopen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
