/* Restore: a data directory from an archive.
 *
 *   1. Everything is looked at before anything is written: the target, the parts, the ledger.
 *   2. Into INTO.restoring: user.keys (with a grave for every erasure in the ledger), the journal up to the limit, and
 *      store, index and API keys from the newest usable snapshot; a damaged snapshot is passed over, as it only saves
 *      time.
 *   3. The ledger is replayed: an erasure that came after the limit is appended as a record, so that the first start
 *      folds it. Then the directory gets its name.
 * So a failure leaves INTO as it was, and what is half made has a name that nothing opens; the next restore clears it.
 */
#include "archive/archive_int.h"

#include <kith/v1/record.pb-c.h>
#include <sodium.h>
#include <stdio.h>

enum { PATH_BYTES = 4096 };

typedef struct restore {
    const restore_options *o;
    restore_result *out;
    vault v;
    part_list parts;
    erasure_list ledger;
    journal_limit limit;
    char dir[PATH_BYTES - 64]; /* INTO.restoring */
    journal_position end;
} restore;

static void show(const restore *r, const char *what, uint64_t done, uint64_t total) {
    if (r->o->progress) r->o->progress(r->o->ctx, what, done, total);
}

static void note(const restore *r, const char *text) {
    if (r->o->notice) r->o->notice(r->o->ctx, text);
}

static err path_of(const restore *r, const char *name, char out[PATH_BYTES]) {
    int n = snprintf(out, PATH_BYTES, "%s/%s", r->dir, name);
    return n < PATH_BYTES ? OK : err_set(ERR_INVALID, "%s: path too long", r->dir);
}

/* ---- 1: looking ---- */

static err any_name(void *ctx, const char *name) {
    (void)name;
    *(bool *)ctx = true;
    return OK;
}

static err check_target(const restore *r) {
    bool used = false;
    err rc = fs_list(fs_real(), r->o->into, any_name, &used);
    if (rc == ERR_NOT_FOUND && !fs_exists(fs_real(), r->o->into)) return OK;
    if (rc != OK || used)
        return err_set(ERR_EXISTS, "%s: it is not empty; a restore goes into a new directory",
                       r->o->into);
    return OK;
}

/* Times of the first and the last record. */
static err span_of(restore *r, int64_t *first, int64_t *last) {
    part_head h;
    TRY(part_get_head(&r->v, r->parts.items[0], &h));
    *first = HLC_MS(h.first_time);
    TRY(part_get_head(&r->v, r->parts.items[r->parts.count - 1], &h));
    *last = HLC_MS(h.last_time);
    return OK;
}

static err check_time(restore *r) {
    int64_t first, last;
    char a[32], b[32];
    TRY(span_of(r, &first, &last));
    if (r->o->to_time_ms >= first && r->o->to_time_ms <= last) return OK;
    time_format(first, a);
    time_format(last, b);
    return err_set(ERR_INVALID,
                   "--to-time: the archive's records are from %s to %s; for the newest state use "
                   "--latest",
                   a, b);
}

static err check_limit(restore *r) {
    const restore_options *o = r->o;
    if (r->parts.count == 0)
        return err_set(ERR_NOT_FOUND, "%s: the archive has no records yet",
                       object_name(r->v.store));
    uint64_t last = r->parts.items[r->parts.count - 1].last;
    if (o->to_lsn > last)
        return err_set(ERR_INVALID, "--to-lsn: the archive's last record is %llu, got %llu",
                       (unsigned long long)last, (unsigned long long)o->to_lsn);
    r->limit.lsn = o->to_lsn;
    if (!o->to_time_ms) return OK;
    TRY(check_time(r));
    r->limit.time = ((uint64_t)o->to_time_ms << 16) | 0xffff;
    return OK;
}

/* ---- 2: the users' keys ---- */

static err write_file(const restore *r, const char *name, const uint8_t *p, size_t n) {
    char path[PATH_BYTES];
    TRY(path_of(r, name, path));
    r->out->bytes += n;
    return file_write_atomic(fs_real(), path, p, n);
}

static err collect_keys(restore *r, strbuf *b) {
    name_list l;
    uint8_t *p;
    size_t n;
    TRY(vault_names(&r->v, "keys/", &l));
    err rc = l.count ? vault_get(&r->v, "keys/header", &p, &n) : OK;
    if (rc == OK && l.count) {
        strbuf_add(b, str_from(p, n));
        mem_free(p);
    }
    for (uint32_t i = 0; rc == OK && i + 1 < l.count; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "keys/%08u", i);
        rc = vault_get(&r->v, name, &p, &n);
        if (rc == ERR_NOT_FOUND) rc = err_set(ERR_CORRUPT, "archive object %s: missing", name);
        if (rc == OK) strbuf_add(b, str_from(p, n));
        if (rc == OK) mem_free(p);
    }
    name_list_deinit(&l);
    return rc == OK ? b->rc : rc;
}

/* Graves for all who were erased, whatever copy of the keys came back. */
static err bury(restore *r) {
    char path[PATH_BYTES];
    keyring *k;
    TRY(path_of(r, "user.keys", path));
    TRY(keyring_open(fs_real(), path, r->o->master, &k));
    err rc = OK;
    for (size_t i = 0; rc == OK && i < r->ledger.count; i++) {
        const erasure *e = &r->ledger.items[i];
        if (e->has_entry && e->entry < keyring_count(k)) rc = keyring_erase(k, e->entry);
    }
    keyring_close(k);
    return rc;
}

static err restore_keys(restore *r) {
    strbuf b;
    strbuf_init(&b, KEYRING_HEADER + (size_t)KEYRING_MAX * KEYRING_ENTRY);
    err rc = collect_keys(r, &b);
    if (rc == OK && b.len) rc = write_file(r, "user.keys", (const uint8_t *)b.ptr, b.len);
    strbuf_deinit(&b);
    return rc == OK ? bury(r) : rc;
}

/* ---- 2: the journal ---- */

static err restore_parts(restore *r, journal_builder *b) {
    uint64_t total = r->limit.lsn ? r->limit.lsn : r->parts.items[r->parts.count - 1].last;
    bool full = false;
    for (size_t i = 0; i < r->parts.count && !full; i++) {
        uint8_t *own;
        part_head h;
        str frames;
        TRY(part_get(&r->v, r->parts.items[i], &own, &h, &frames));
        err rc = journal_builder_add(b, (const uint8_t *)frames.ptr, frames.len, &r->limit, &full);
        r->out->bytes += frames.len;
        mem_free(own);
        if (rc != OK) {
            char name[NAME_BYTES];
            part_name(r->parts.items[i], name);
            return err_set(rc, "archive object %s: %s", name, err_detail());
        }
        show(r, "restoring the journal", journal_builder_lsn(b), total);
        if (r->limit.lsn && journal_builder_lsn(b) >= r->limit.lsn) break;
    }
    return OK;
}

static err restore_journal(restore *r) {
    char path[PATH_BYTES];
    journal_builder *b;
    TRY(path_of(r, "journal", path));
    TRY(journal_builder_open(fs_real(), path, r->v.journal_id, &b));
    err rc = restore_parts(r, b);
    if (rc != OK) {
        journal_builder_abort(b);
        return rc;
    }
    TRY(journal_builder_finish(b, &r->end));
    r->out->lsn = r->out->records = r->end.lsn;
    r->out->time_ms = HLC_MS(r->end.time);
    return OK;
}

/* ---- 2: a snapshot ---- */

static err restore_file(restore *r, const manifest *m, const manifest_file *mf) {
    char path[PATH_BYTES];
    file *f;
    crypto_generichash_state h;
    uint8_t hash[32];
    uint64_t at = 0;
    TRY(path_of(r, mf->name, path));
    TRY(file_open(fs_real(), path, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, &f));
    crypto_generichash_init(&h, NULL, 0, sizeof hash);
    err rc = OK;
    for (uint32_t i = 0; rc == OK && i < mf->chunks; i++) {
        char name[NAME_BYTES];
        uint8_t *p = NULL;
        size_t n = 0;
        chunk_name(m->id, mf->name, i, name);
        rc = vault_get(&r->v, name, &p, &n);
        if (rc == OK) rc = file_pwrite(f, p, n, at);
        if (rc == OK) crypto_generichash_update(&h, p, n);
        mem_free(p);
        at += n;
        show(r, "restoring the snapshot", at, mf->bytes);
    }
    crypto_generichash_final(&h, hash, sizeof hash);
    if (rc == OK && (at != mf->bytes || memcmp(hash, mf->hash, sizeof hash) != 0))
        rc = err_set(ERR_CORRUPT, "archive snapshot %s: %s is not what was put", m->id, mf->name);
    if (rc == OK) rc = file_datasync(f);
    file_close(f);
    r->out->bytes += at;
    return rc;
}

static bool usable(const restore *r, const manifest *m) {
    for (size_t i = 0; i < r->ledger.count; i++)
        if (r->ledger.items[i].lsn > m->lsn) return false;
    return m->lsn <= r->end.lsn;
}

static err clear_name(void *ctx, const char *name) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", (const char *)ctx, name);
    return fs_unlink(fs_real(), path);
}

static void drop_files(restore *r, const manifest *m) {
    for (uint32_t i = 0; i < m->file_count; i++) {
        char path[PATH_BYTES];
        err rc = path_of(r, m->files[i].name, path);
        if (rc == OK) rc = fs_unlink(fs_real(), path); /* may not be there */
        (void)rc;
    }
}

static err try_snapshot(restore *r, const char *id, bool *done) {
    manifest m;
    err rc = manifest_get(&r->v, id, &m);
    if (rc == OK && !usable(r, &m)) return OK;
    for (uint32_t i = 0; rc == OK && i < m.file_count; i++) rc = restore_file(r, &m, &m.files[i]);
    if (rc == OK) {
        *done = true;
        r->out->snapshot_lsn = m.lsn;
        return OK;
    }
    if (rc != ERR_CORRUPT && rc != ERR_NOT_FOUND) return rc;
    note(r, err_detail());
    note(r, "this snapshot is passed over; the journal gives back the same");
    drop_files(r, &m);
    return OK;
}

static err restore_snapshot(restore *r) {
    name_list l;
    bool done = r->o->no_snapshot;
    TRY(vault_names(&r->v, "manifests/", &l));
    err rc = OK;
    for (size_t i = l.count; rc == OK && !done && i-- > 0;) rc = try_snapshot(r, l.items[i], &done);
    name_list_deinit(&l);
    return rc;
}

/* ---- 3: the ledger ---- */

static err append_erasure(journal *j, const erasure *e) {
    Kith__V1__UserErase m = KITH__V1__USER_ERASE__INIT;
    uint8_t body[64];
    m.has_key = e->has_entry;
    m.key_entry = e->entry;
    KITH_ASSERT(kith__v1__user_erase__get_packed_size(&m) <= sizeof body);
    size_t n = kith__v1__user_erase__pack(&m, body);
    journal_entry entry = {
        .kind = JOURNAL_USER_ERASE, .key = str_of(e->user), .body = str_from(body, n)};
    uint64_t first, last;
    return journal_append(j, &entry, 1, &first, &last);
}

static err append_audit(restore *r, journal *j) {
    char body[256];
    int n = snprintf(body, sizeof body,
                     "{\"what\":\"restore\",\"outcome\":\"ok\",\"lsn\":%llu,\"erasures\":%llu}",
                     (unsigned long long)r->end.lsn, (unsigned long long)r->out->erasures);
    journal_entry entry = {
        .kind = JOURNAL_AUDIT, .key = STR("kith restore"), .body = str_from(body, (size_t)n)};
    uint64_t first, last;
    return journal_append(j, &entry, 1, &first, &last);
}

static err replay_ledger(restore *r) {
    char path[PATH_BYTES];
    journal *j;
    TRY(path_of(r, "journal", path));
    TRY(journal_open(fs_real(), path, NULL, &j));
    err rc = journal_head_lsn(j) == r->end.lsn
                 ? OK
                 : err_set(ERR_INTERNAL, "restore: the journal ends with another record");
    for (size_t i = 0; rc == OK && i < r->ledger.count; i++) {
        if (r->ledger.items[i].lsn <= r->end.lsn) continue;
        rc = append_erasure(j, &r->ledger.items[i]);
        r->out->erasures++;
    }
    if (rc == OK) rc = append_audit(r, j);
    if (rc == OK) r->out->lsn = journal_head_lsn(j);
    journal_close(j);
    return rc;
}

/* ---- all of it ---- */

/* What an earlier restore that was cut off left behind. */
static err clear_leftovers(restore *r) {
    char path[PATH_BYTES];
    if (!fs_exists(fs_real(), r->dir)) return OK;
    TRY(path_of(r, "journal", path));
    if (fs_exists(fs_real(), path)) TRY(fs_list(fs_real(), path, clear_name, path));
    static const char *const names[] = {
        "store.db",  "store.db.tmp",  "index.snap", "keys.json", "interactions.keys",
        "user.keys", "user.keys.tmp", "space",      "space.tmp"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        TRY(path_of(r, names[i], path));
        if (fs_exists(fs_real(), path)) TRY(fs_unlink(fs_real(), path));
    }
    return OK;
}

static err make_all(restore *r) {
    TRY(clear_leftovers(r));
    TRY(fs_mkdir(fs_real(), r->dir));
    TRY(write_file(r, "space", (const uint8_t *)r->v.space, strlen(r->v.space)));
    TRY(restore_keys(r));
    TRY(restore_journal(r));
    TRY(restore_snapshot(r));
    TRY(replay_ledger(r));
    TRY(fs_sync_dir(fs_real(), r->dir));
    return fs_rename(fs_real(), r->dir, r->o->into);
}

err archive_restore(const restore_options *o, restore_result *out) {
    uint64_t start = clock_mono_ns();
    memset(out, 0, sizeof *out);
    restore *r = mem_zalloc(1, sizeof *r);
    if (!r) return ERR_NO_MEMORY;
    r->o = o;
    r->out = out;
    err rc = snprintf(r->dir, sizeof r->dir, "%s.restoring", o->into) < (int)sizeof r->dir
                 ? check_target(r)
                 : err_set(ERR_INVALID, "%s: path too long", o->into);
    if (rc == OK) rc = vault_open(&(vault_options){.url = o->url, .master = o->master}, &r->v);
    if (rc == OK) rc = part_list_read(&r->v, &r->parts);
    if (rc == OK) rc = erasure_list_read(&r->v, &r->ledger);
    if (rc == OK) rc = check_limit(r);
    if (rc == OK) rc = make_all(r);
    if (rc == OK) snprintf(out->space, sizeof out->space, "%s", r->v.space);
    vault_close(&r->v);
    part_list_deinit(&r->parts);
    erasure_list_deinit(&r->ledger);
    mem_free(r);
    out->seconds = (double)(clock_mono_ns() - start) / 1e9;
    return rc;
}
