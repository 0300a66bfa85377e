/* Damage: every byte flipped, every length cut, files missing, swapped, foreign or from another
 * time. Detected always, by opening, reading or verify; never a crash, never a record that was
 * not appended. And its opposite: a tail that nobody was told of is cut at any byte, and nothing
 * else with it.
 */
#include "journal/journal_int.h"
#include "journal/journal_test_util.h"

#define CALLS 16 /* two segments and a bit */

static const journal_options small = {.segment_bytes = 4096};

/* A closed journal of several segments on a simulated disk; entry numbers are LSNs. */
static uint64_t build(fs **disk, int calls) {
    journal *j;
    uint64_t next = 1, last = 0;
    assert_ok(fs_sim_open(disk));
    assert_ok(journal_open(*disk, "j", &small, &j));
    for (int i = 0; i < calls; i++) {
        size_t n = 1 + (size_t)i % 3;
        assert_ok(test_append(j, next, n, &last));
        next += n;
    }
    journal_close(j);
    return last;
}

typedef struct found {
    uint64_t problems, notes;
} found;

static void count_problem(void *ctx, const journal_problem *p) {
    found *f = ctx;
    assert_non_null(p->file);
    assert_non_null(p->text);
    if (p->code == OK) {
        f->notes++;
    } else {
        f->problems++;
    }
}

/* Verifies, opens and reads; every record must be the right one. True when anything was amiss. */
static bool look(fs *disk, uint64_t last) {
    found f = {0};
    err rc = journal_verify(disk, "j", count_problem, &f, NULL);
    assert_int_equal(rc == OK, f.problems == 0);
    bool amiss = f.problems || f.notes;
    journal *j;
    rc = journal_open(disk, "j", &small, &j);
    if (rc != OK) {
        assert_true(rc == ERR_CORRUPT || rc == ERR_UNSUPPORTED);
        assert_null(j);
        assert_true(f.problems > 0); /* verify sees all that opening sees */
        return true;
    }
    journal_reader *rd;
    journal_record rec;
    uint64_t next = 1;
    rc = journal_reader_open(j, 0, &rd);
    if (rc == OK) {
        while ((rc = journal_read(rd, &rec)) == OK) {
            assert_int_equal(rec.lsn, next);
            test_record_is(&rec, next++);
        }
        journal_reader_close(rd);
    }
    if (rc == ERR_NOT_FOUND) {
        assert_int_equal(next, last + 1); /* the whole of it, or an error */
    } else {
        assert_int_equal(rc, ERR_CORRUPT);
        assert_true(f.problems > 0);
        amiss = true;
    }
    journal_close(j);
    return amiss;
}

typedef struct flip_ctx {
    fs *disk;
    uint64_t last;
    unsigned files;
} flip_ctx;

static err flip_file(void *ctx, const char *name) {
    flip_ctx *c = ctx;
    char path[64];
    snprintf(path, sizeof path, "j/%s", name);
    if (strcmp(name, "LOCK") == 0) return OK;
    c->files++;
    uint8_t *p;
    size_t n;
    assert_ok(file_read_all(c->disk, path, 1 << 20, &p, &n));
    size_t used = n; /* of the zeros behind, only each 32nd byte in a short run */
    while (used > 0 && p[used - 1] == 0) used--;
    for (size_t i = 0; i < n; i += i < used || test_is_long() ? 1 : 32) {
        for (unsigned bit = test_is_long() ? 0 : i % 8; bit < 8; bit += test_is_long() ? 1 : 8) {
            fs *copy;
            assert_ok(fs_sim_copy(c->disk, &copy));
            p[i] ^= (uint8_t)(1u << bit);
            assert_ok(fs_sim_put(copy, path, p, n));
            p[i] ^= (uint8_t)(1u << bit);
            if (!look(copy, c->last)) fail_msg("%s: byte %zu bit %u: not seen", name, i, bit);
            fs_sim_close(copy);
        }
    }
    mem_free(p);
    return OK;
}

static void every_byte_flipped(void **state) {
    (void)state;
    flip_ctx c = {0};
    c.last = build(&c.disk, CALLS);
    assert_false(look(c.disk, c.last));
    assert_ok(fs_list(c.disk, "j", flip_file, &c));
    assert_true(c.files >= 3);
    fs_sim_close(c.disk);
}

static err cut_file(void *ctx, const char *name) {
    flip_ctx *c = ctx;
    char path[64];
    uint8_t *p;
    size_t n;
    snprintf(path, sizeof path, "j/%s", name);
    if (strcmp(name, "LOCK") == 0) return OK;
    c->files++;
    assert_ok(file_read_all(c->disk, path, 1 << 20, &p, &n));
    size_t used = n;
    while (used > 0 && p[used - 1] == 0) used--;
    for (size_t keep = 0; keep < used; keep++) {
        fs *copy;
        assert_ok(fs_sim_copy(c->disk, &copy));
        assert_ok(fs_sim_put(copy, path, p, keep));
        if (!look(copy, c->last)) fail_msg("%s: cut to %zu bytes: not seen", name, keep);
        fs_sim_close(copy);
    }
    mem_free(p);
    return OK;
}

/* An acknowledged tail that is cut off is missed: the mark knows of it. */
static void every_length_cut(void **state) {
    (void)state;
    flip_ctx c = {0};
    c.last = build(&c.disk, CALLS);
    assert_ok(fs_list(c.disk, "j", cut_file, &c));
    assert_true(c.files >= 3);
    fs_sim_close(c.disk);
}

static err remove_file(void *ctx, const char *name) {
    flip_ctx *c = ctx;
    char path[64];
    snprintf(path, sizeof path, "j/%s", name);
    if (strcmp(name, "LOCK") == 0) return OK;
    fs *copy;
    assert_ok(fs_sim_copy(c->disk, &copy));
    assert_ok(fs_unlink(copy, path));
    journal *j;
    assert_err(journal_open(copy, "j", &small, &j), ERR_CORRUPT); /* by the headers alone */
    if (!look(copy, c->last)) fail_msg("%s was removed: not seen", name);
    fs_sim_close(copy);
    c->files++;
    return OK;
}

static void every_file_missing(void **state) {
    (void)state;
    flip_ctx c = {0};
    c.last = build(&c.disk, 3 * CALLS);
    assert_ok(fs_list(c.disk, "j", remove_file, &c));
    assert_true(c.files >= 4); /* the mark, a first segment, a middle one, a last one */
    fs_sim_close(c.disk);
}

typedef struct name_log {
    char names[32][40];
    unsigned count;
} name_log;

static err log_name(void *ctx, const char *name) {
    name_log *l = ctx;
    if (strstr(name, ".seg")) snprintf(l->names[l->count++], sizeof l->names[0], "j/%s", name);
    return OK;
}

static void copy_file(fs *from, const char *source, fs *to, const char *target) {
    uint8_t *p;
    size_t n;
    assert_ok(file_read_all(from, source, 1 << 20, &p, &n));
    assert_ok(fs_sim_put(to, target, p, n));
    mem_free(p);
}

static void swapped_and_foreign_segments(void **state) {
    (void)state;
    fs *a, *b, *copy;
    uint64_t last = build(&a, CALLS);
    build(&b, CALLS);
    name_log l = {0};
    assert_ok(fs_list(a, "j", log_name, &l));
    assert_true(l.count >= 2);
    for (unsigned i = 0; i < l.count; i++) {
        assert_ok(fs_sim_copy(a, &copy)); /* the same segment of another journal */
        copy_file(b, l.names[i], copy, l.names[i]);
        assert_true(look(copy, last));
        fs_sim_close(copy);
        assert_ok(fs_sim_copy(a, &copy)); /* a neighbour under its name */
        copy_file(a, l.names[(i + 1) % l.count], copy, l.names[i]);
        assert_true(look(copy, last));
        fs_sim_close(copy);
    }
    assert_ok(fs_sim_copy(a, &copy)); /* another journal's mark */
    copy_file(b, "j/MARK", copy, "j/MARK");
    assert_true(look(copy, last));
    fs_sim_close(copy);
    fs_sim_close(a);
    fs_sim_close(b);
}

/* A journal rolled back to an earlier state of its segments is missed by the mark; a journal with
 * another history up to the same number, by the chain hash in the mark. */
static void another_history(void **state) {
    (void)state;
    fs *disk, *early, *other;
    journal *j;
    uint64_t last;
    uint8_t id[JOURNAL_ID_BYTES] = "one and the same";
    journal_options o = {.segment_bytes = 65536, .id = id};
    assert_ok(fs_sim_open(&disk));
    assert_ok(fs_sim_open(&other));
    assert_ok(journal_open(disk, "j", &o, &j));
    assert_ok(test_append(j, 1, 5, &last));
    assert_ok(fs_sim_copy(disk, &early));
    assert_ok(test_append(j, 6, 5, &last));
    journal_close(j);
    const char *seg = "j/00000000000000000001.seg";
    copy_file(early, seg, disk, seg);
    assert_err(journal_open(disk, "j", &o, &j), ERR_CORRUPT);
    assert_non_null(strstr(err_detail(), "record 6"));
    assert_err(journal_verify(disk, "j", NULL, NULL, NULL), ERR_CORRUPT);

    assert_ok(journal_open(other, "j", &o, &j));
    assert_ok(test_append(j, 101, 10, &last));
    journal_close(j);
    copy_file(other, seg, disk, seg);
    assert_err(journal_open(disk, "j", &o, &j), ERR_CORRUPT);
    assert_err(journal_verify(disk, "j", NULL, NULL, NULL), ERR_CORRUPT);
    fs_sim_close(disk);
    fs_sim_close(early);
    fs_sim_close(other);
}

/* Changes the record at p with care: its CRC is right again. */
static void forge(uint8_t *p, size_t bytes, uint32_t seed) {
    uint32_t crc = crc32c(seed, p + FRAME_HEADER, bytes - FRAME_HEADER);
    crc = crc32c(crc32c(crc, p, 4), p + 8, FRAME_HEADER - 8);
    le32_put(p + 4, crc);
}

/* An edit by someone who knows the format is seen by the chain, and at the last record by the
 * mark. */
static void forged_records(void **state) {
    (void)state;
    fs *disk, *copy;
    uint64_t last = build(&disk, CALLS), lsn, forged = 0;
    name_log l = {0};
    mark m;
    unsigned bad;
    assert_ok(mark_read(disk, "j", &m, &bad));
    assert_ok(fs_list(disk, "j", log_name, &l));
    for (unsigned i = 0; i < l.count; i++) {
        uint8_t *p;
        size_t n, bytes;
        assert_ok(file_read_all(disk, l.names[i], 1 << 20, &p, &n));
        for (size_t at = SEGMENT_HEADER; at + FRAME_MIN <= n; at += bytes) {
            bytes = frame_peek(p + at, &lsn);
            if (bytes == 0) break;
            static const size_t offsets[] = {16, 24, 40, 72}; /* time, kind, chain, key */
            for (size_t k = 0; k < COUNT_OF(offsets) + 1; k++) {
                uint8_t *edit = mem_dup(p, n);
                edit[at + (k < COUNT_OF(offsets) ? offsets[k] : bytes - 9)] ^= 1;
                forge(edit + at, bytes, journal_seed(m.id));
                found f = {0};
                journal *j;
                assert_ok(fs_sim_copy(disk, &copy));
                assert_ok(fs_sim_put(copy, l.names[i], edit, n));
                assert_err(journal_verify(copy, "j", count_problem, &f, NULL), ERR_CORRUPT);
                if (i + 1 == l.count) assert_err(journal_open(copy, "j", &small, &j), ERR_CORRUPT);
                fs_sim_close(copy);
                mem_free(edit);
                forged++;
            }
        }
        mem_free(p);
    }
    assert_int_equal(forged, last * 5);
    fs_sim_close(disk);
}

static int64_t told_time(void *ctx) {
    return *(int64_t *)ctx;
}

/* A segment that was written anew from its start holds in itself, but its neighbours do not. */
static void a_forged_segment(void **state) {
    (void)state;
    fs *a, *b, *copy;
    journal *j;
    uint64_t last;
    uint8_t id[JOURNAL_ID_BYTES] = "one and the same";
    int64_t now;
    journal_options o = {.segment_bytes = 4096, .id = id, .wall_ms = told_time, .wall_ctx = &now};
    fs **disks[2] = {&a, &b};
    for (int d = 0; d < 2; d++) {
        assert_ok(fs_sim_open(disks[d]));
        assert_ok(journal_open(*disks[d], "j", &o, &j));
        for (uint64_t n = 1; n <= 90; n++) { /* equal but for the times from record 5 on */
            now = n < 5 ? 1000 : 2000 + d;
            assert_ok(test_append(j, n, 1, &last));
        }
        journal_close(j);
    }
    name_log l = {0};
    assert_ok(fs_list(a, "j", log_name, &l));
    assert_true(l.count >= 3);
    for (unsigned i = 0; i + 1 < l.count; i++) {
        assert_ok(fs_sim_copy(a, &copy));
        copy_file(b, l.names[i], copy, l.names[i]);
        assert_err(journal_verify(copy, "j", NULL, NULL, NULL), ERR_CORRUPT);
        assert_ok(journal_open(copy, "j", &o, &j)); /* reads only the last segment... */
        journal_reader *rd;
        journal_record rec;
        err rc;
        assert_ok(journal_reader_open(j, 1, &rd)); /* ...but readers meet it */
        while ((rc = journal_read(rd, &rec)) == OK) {}
        assert_int_equal(rc, ERR_CORRUPT);
        uint64_t stays = journal_reader_lsn(rd);
        assert_err(journal_read(rd, &rec), ERR_CORRUPT);
        assert_int_equal(journal_reader_lsn(rd), stays);
        journal_reader_close(rd);
        journal_close(j);
        fs_sim_close(copy);
    }
    fs_sim_close(a);
    fs_sim_close(b);
}

/* The last append call, cut or scrambled at each of its bytes, with the mark of before it. */
static void torn_tails(void **state) {
    (void)state;
    fs *disk, *before, *copy;
    journal *j;
    uint64_t last;
    const char *seg = "j/00000000000000000001.seg";
    journal_options o = {.segment_bytes = 65536};
    assert_ok(fs_sim_open(&disk));
    assert_ok(journal_open(disk, "j", &o, &j));
    for (uint64_t n = 1; n <= 10; n++) assert_ok(test_append(j, n, 1, &last));
    journal_stats st;
    journal_stats_get(j, &st);
    size_t from = (size_t)st.bytes;
    assert_ok(fs_sim_copy(disk, &before));
    assert_ok(test_append(j, 11, 3, &last));
    journal_stats_get(j, &st);
    size_t to = (size_t)st.bytes;
    journal_close(j);
    uint8_t *p;
    size_t n;
    assert_ok(file_read_all(disk, seg, 1 << 20, &p, &n));
    uint8_t *torn = mem_dup(p, n);
    for (int mode = 0; mode < 3; mode++) {
        for (size_t at = from; at <= to; at++) {
            memcpy(torn, p, n);
            if (mode == 0) memset(torn + at, 0, n - at);                     /* cut */
            if (mode == 1 && at < to) memset(torn + from, 0, at + 1 - from); /* its start is lost */
            if (mode == 2 && at < to) torn[at] ^= 0x41;                      /* one byte */
            assert_ok(fs_sim_copy(before, &copy));
            assert_ok(fs_sim_put(copy, seg, torn, n));
            found f = {0};
            assert_ok(journal_verify(copy, "j", count_problem, &f, NULL));
            assert_ok(journal_open(copy, "j", &o, &j));
            const journal_recovery *rec = journal_recovered(j);
            uint64_t head = journal_head_lsn(j);
            /* The call is there whole or not at all. (Its last bytes may be zeros of themselves.)
             * */
            assert_true(head == 10 || (head == 13 && memcmp(torn, p, n) == 0));
            assert_true(head == 13 || at == from || rec->cut_bytes > 0 || mode == 1);
            if (rec->cut_bytes) assert_int_equal(rec->cut_lsn, 11);
            assert_int_equal(rec->cut_bytes > 0, f.notes > 0); /* verify announces the cut */
            assert_ok(test_append(j, head + 1, 2, &last));
            assert_int_equal(last, head + 2);
            journal_close(j);
            assert_false(look(copy, head + 2)); /* and afterwards all is clean */
            fs_sim_close(copy);
        }
    }
    mem_free(p);
    mem_free(torn);
    fs_sim_close(before);
    fs_sim_close(disk);
}

/* Damage before a later group is damage even when the mark knows of neither. */
static void damage_before_a_later_group(void **state) {
    (void)state;
    fs *disk, *before, *copy;
    journal *j;
    uint64_t last;
    const char *seg = "j/00000000000000000001.seg";
    journal_options o = {.segment_bytes = 65536};
    assert_ok(fs_sim_open(&disk));
    assert_ok(journal_open(disk, "j", &o, &j));
    assert_ok(fs_sim_copy(disk, &before)); /* a mark of record 0 */
    journal_stats st;
    size_t ends[11] = {0};
    for (uint64_t n = 1; n <= 10; n++) {
        assert_ok(test_append(j, n, 1, &last));
        journal_stats_get(j, &st);
        ends[n] = (size_t)st.bytes;
    }
    journal_close(j);
    uint8_t *p;
    size_t n;
    assert_ok(file_read_all(disk, seg, 1 << 20, &p, &n));
    for (uint64_t hurt = 1; hurt <= 10; hurt++) {
        assert_ok(fs_sim_copy(before, &copy));
        p[ends[hurt] - 40] ^= 1;
        assert_ok(fs_sim_put(copy, seg, p, n));
        p[ends[hurt] - 40] ^= 1;
        if (hurt < 10) {
            char text[32];
            snprintf(text, sizeof text, "record %llu of", (unsigned long long)hurt);
            assert_err(journal_open(copy, "j", &o, &j), ERR_CORRUPT);
            assert_non_null(strstr(err_detail(), text));
            assert_err(journal_verify(copy, "j", NULL, NULL, NULL), ERR_CORRUPT);
        } else { /* the last group, by a mark of long ago: a torn tail, and told as one */
            assert_ok(journal_open(copy, "j", &o, &j));
            assert_int_equal(journal_recovered(j)->cut_lsn, 10);
            uint64_t cut = journal_recovered(j)->cut_bytes; /* up to the last that is not zero */
            assert_true(cut > 72 && cut <= ends[10] - ends[9]);
            journal_close(j);
        }
        fs_sim_close(copy);
    }
    mem_free(p);
    fs_sim_close(before);
    fs_sim_close(disk);
}

static void leftovers_are_removed(void **state) {
    (void)state;
    fs *disk;
    uint64_t last = build(&disk, CALLS);
    assert_ok(fs_sim_put(disk, "j/00000000000000000999.seg.tmp", "half", 4));
    assert_ok(fs_sim_put(disk, "j/MARK.tmp", "half", 4));
    assert_ok(fs_sim_put(disk, "j/notes.txt", "not ours", 8));
    journal *j;
    assert_ok(journal_open(disk, "j", &small, &j));
    assert_int_equal(journal_recovered(j)->temp_files, 2);
    journal_close(j);
    assert_true(fs_exists(disk, "j/notes.txt"));
    assert_false(fs_exists(disk, "j/MARK.tmp"));
    assert_false(look(disk, last));
    fs_sim_close(disk);
}

/* A reader meets damage that came after opening: told with its number, and the reader stays. */
static void damage_under_a_reader(void **state) {
    (void)state;
    fs *disk;
    uint64_t last = build(&disk, CALLS);
    journal *j;
    assert_ok(journal_open(disk, "j", &small, &j));
    const char *seg = "j/00000000000000000001.seg";
    uint8_t *p;
    size_t n;
    assert_ok(file_read_all(disk, seg, 1 << 20, &p, &n));
    p[n / 2] ^= 4;
    assert_ok(fs_sim_put(disk, seg, p, n));
    mem_free(p);
    journal_reader *rd;
    journal_record rec;
    assert_ok(journal_reader_open(j, 1, &rd));
    uint64_t good = 0;
    while (journal_read(rd, &rec) == OK) test_record_is(&rec, ++good);
    assert_true(good < last);
    for (int i = 0; i < 3; i++) assert_err(journal_read(rd, &rec), ERR_CORRUPT);
    assert_int_equal(journal_reader_lsn(rd), good + 1);
    journal_reader_close(rd);
    journal_close(j);
    fs_sim_close(disk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_flipped),
        cmocka_unit_test(every_length_cut),
        cmocka_unit_test(every_file_missing),
        cmocka_unit_test(swapped_and_foreign_segments),
        cmocka_unit_test(another_history),
        cmocka_unit_test(forged_records),
        cmocka_unit_test(a_forged_segment),
        cmocka_unit_test(torn_tails),
        cmocka_unit_test(damage_before_a_later_group),
        cmocka_unit_test(leftovers_are_removed),
        cmocka_unit_test(damage_under_a_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
