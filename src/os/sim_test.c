/* The simulated disk does what every fs does, and loses power as disks do; file_write_atomic
 * survives it.
 */
#include "os/sim.h"
#include "os/file_test_util.h"

static void on_the_simulated_disk(void **state) {
    (void)state;
    place p = {.dir = "d"};
    assert_ok(fs_sim_open(&p.disk));
    every_call(&p);
    fs_sim_close(p.disk);
}

/* Whatever call fails, the old contents or the new ones are there, whole. */
static void atomic_writes_are(void **state) {
    (void)state;
    for (unsigned torn = 0; torn < 2; torn++) {
        bool met = true;
        for (uint64_t nth = 1; met; nth++) {
            fs *sim, *disk;
            assert_ok(fs_sim_open(&sim));
            assert_ok(fs_fault_open(sim, &disk));
            assert_ok(file_write_atomic(disk, "d/a", "old", 3));
            fs_fault_plan(
                disk,
                (fault_plan){
                    .kinds = FAULT_ALL, .nth = nth, .code = ERR_IO, .forever = true, .torn = torn});
            err rc = file_write_atomic(disk, "d/a", "newer", 5);
            met = rc != OK;
            rng r;
            rng_seed(&r, nth);
            for (int i = 0; i < 20; i++) {
                fs *after;
                uint8_t *b;
                size_t n;
                assert_ok(fs_sim_crash(sim, &r, &after));
                assert_ok(file_read_all(after, "d/a", 10, &b, &n));
                bool old = n == 3 && memcmp(b, "old", 3) == 0;
                bool new = n == 5 && memcmp(b, "newer", 5) == 0;
                assert_true(new || (old && rc != OK));
                mem_free(b);
                fs_sim_close(after);
            }
            fs_fault_close(disk);
            fs_sim_close(sim);
        }
    }
}

static void a_power_cut_keeps_what_was_synced(void **state) {
    (void)state;
    fs *sim;
    file *f;
    static char ones[4096], twos[4096];
    memset(ones, '1', sizeof ones);
    memset(twos, '2', sizeof twos);
    assert_ok(fs_sim_open(&sim));
    assert_ok(file_open(sim, "d/a", FILE_WRITE | FILE_CREATE, &f));
    assert_ok(file_pwrite(f, ones, sizeof ones, 0));
    assert_ok(file_datasync(f));
    rng r;
    rng_seed(&r, 1);
    unsigned gone = 0;
    for (int i = 0; i < 50; i++) { /* its name was not synced: there or not */
        fs *after;
        assert_ok(fs_sim_crash(sim, &r, &after));
        gone += !fs_exists(after, "d/a");
        fs_sim_close(after);
    }
    assert_true(gone > 5 && gone < 45);
    assert_ok(fs_sync_dir(sim, "d"));
    assert_ok(file_pwrite(f, twos, sizeof twos, 512));
    unsigned mixed = 0, longer = 0;
    for (int i = 0; i < 100; i++) {
        fs *after;
        uint8_t *b;
        size_t n;
        assert_ok(fs_sim_crash(sim, &r, &after));
        assert_ok(file_read_all(after, "d/a", 8192, &b, &n));
        assert_true(n == 4096 || n == 4608);
        longer += n == 4608;
        unsigned new = 0;
        for (size_t s = 0; s < 8; s++) {
            for (size_t k = 1; k < 512; k++) assert_int_equal(b[s * 512 + k], b[s * 512]);
            new += b[s * 512] == '2';
        }
        assert_int_equal(b[0], '1');
        mixed += new > 0 && new < 7;
        mem_free(b);
        fs_sim_close(after);
    }
    assert_true(mixed > 20 && longer > 10 && longer < 90);
    fs *same;
    uint8_t *b;
    size_t n;
    assert_ok(fs_sim_copy(sim, &same));
    assert_ok(file_read_all(same, "d/a", 8192, &b, &n));
    assert_int_equal(n, 4608);
    assert_memory_equal(b + 512, twos, 4096);
    mem_free(b);
    fs_sim_close(same);
    file_close(f);
    fs_sim_close(sim);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_the_simulated_disk),
        cmocka_unit_test(atomic_writes_are),
        cmocka_unit_test(a_power_cut_keeps_what_was_synced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
