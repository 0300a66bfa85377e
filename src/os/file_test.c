/* Files on the machine's disk, straight and through the failing fs: errors by code, modes, the
 * lock across processes, faults as planned. What every fs must do is in file_test_util.h.
 */
#include "os/file_test_util.h"

#include <sys/stat.h>
#include <sys/wait.h>

static void place_real(place *p) {
    *p = (place){.disk = fs_real(), .real = true};
    snprintf(p->dir, sizeof p->dir, "/tmp/kith-file-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
}

static void on_the_machine(void **state) {
    (void)state;
    place p;
    place_real(&p);
    every_call(&p);
}

static void through_the_failing_fs(void **state) {
    (void)state;
    place p;
    fs *inner = fs_real();
    place_real(&p);
    assert_ok(fs_fault_open(inner, &p.disk)); /* no plan: nothing fails */
    fs *fault = p.disk;
    every_call(&p);
    fs_fault_close(fault);
}

/* --- the machine ----------------------------------------------------------------------------- */

static void modes_and_codes(void **state) {
    (void)state;
    place p;
    place_real(&p);
    file *f;
    struct stat st;
    assert_ok(file_write_atomic(p.disk, at(&p, "a"), "x", 1));
    assert_int_equal(stat(at(&p, "a"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(file_open(p.disk, at(&p, "a/b"), FILE_READ, &f), ERR_NOT_FOUND);
    assert_int_equal(file_open(p.disk, p.dir, FILE_WRITE, &f), ERR_INVALID); /* a directory */
    assert_int_equal(fs_mkdir(p.disk, at(&p, "a")), ERR_EXISTS);             /* a file */
    assert_int_equal(fs_mkdir(p.disk, at(&p, "no/such")), ERR_NOT_FOUND);
    assert_int_equal(fs_list(p.disk, at(&p, "a"), stop_at_b, NULL), ERR_NOT_FOUND);
    if (getuid() != 0) { /* root may do all */
        assert_int_equal(chmod(at(&p, "a"), 0400), 0);
        assert_int_equal(file_open(p.disk, at(&p, "a"), FILE_WRITE, &f), ERR_DENIED);
    }
    char name[300];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_int_equal(file_open(p.disk, name, FILE_READ, &f), ERR_INVALID);
    assert_ok(file_open(p.disk, "/dev/full", FILE_WRITE, &f));
    assert_int_equal(file_pwrite(f, "x", 1, 0), ERR_NO_SPACE);
    file_close(f);
    place_close(&p);
}

static void the_lock_names_its_holder(void **state) {
    (void)state;
    place p;
    place_real(&p);
    file *a;
    assert_ok(file_open(p.disk, at(&p, "L"), FILE_WRITE | FILE_CREATE, &a));
    assert_ok(file_lock(a));
    char who[40];
    snprintf(who, sizeof who, "process %ld", (long)getpid());
    pid_t child = fork();
    if (child == 0) {
        file *b;
        bool good = file_open(p.disk, at(&p, "L"), FILE_WRITE, &b) == OK &&
                    file_lock(b) == ERR_AGAIN && strstr(err_detail(), who);
        _exit(good ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    file_close(a);
    place_close(&p);
}

/* --- faults ---------------------------------------------------------------------------------- */

static void faults_as_planned(void **state) {
    (void)state;
    place p;
    place_real(&p);
    fs *inner = p.disk;
    assert_ok(fs_fault_open(inner, &p.disk));
    file *f;
    assert_ok(file_open(p.disk, at(&p, "a"), FILE_WRITE | FILE_CREATE, &f));
    fs_fault_plan(p.disk, (fault_plan){.kinds = FAULT_WRITE, .nth = 2, .code = ERR_IO});
    assert_ok(file_pwrite(f, "one ", 4, 0));
    assert_ok(file_datasync(f)); /* another kind: not counted */
    assert_int_equal(file_pwrite(f, "two ", 4, 4), ERR_IO);
    assert_ok(file_pwrite(f, "three", 5, 4));
    assert_int_equal(fs_fault_calls(p.disk), 3);
    fs_fault_plan(p.disk, (fault_plan){.kinds = FAULT_WRITE | FAULT_SYNC,
                                       .nth = 1,
                                       .code = ERR_NO_SPACE,
                                       .forever = true,
                                       .torn = true});
    assert_int_equal(file_pwrite(f, "abcdef", 6, 0), ERR_NO_SPACE);
    assert_int_equal(file_datasync(f), ERR_NO_SPACE);
    assert_int_equal(file_truncate(f, 0), ERR_NO_SPACE);
    fs_fault_plan(p.disk, (fault_plan){0});
    char b[16];
    size_t got;
    assert_ok(file_pread(f, b, sizeof b, 0, &got));
    assert_int_equal(got, 9);
    assert_memory_equal(b, "abc three", 9); /* half of it went */
    file_close(f);
    fs_fault_close(p.disk);
    p.disk = inner;
    place_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_the_machine),    cmocka_unit_test(through_the_failing_fs),
        cmocka_unit_test(modes_and_codes),   cmocka_unit_test(the_lock_names_its_holder),
        cmocka_unit_test(faults_as_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
