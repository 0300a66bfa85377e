/* A snapshot: the store by SQLite's online backup, the index snapshot, the API keys, and a manifest.
 *
 * Writes are never stopped; the index snapshot is the one that the shard writes anyway (its folds pause for that
 * long). Files go in chunks of CHUNK_MAX, each an object. `lsn` in the manifest is the largest position in any of
 * the files: a restore to before it does not use this snapshot.
 */
#include "archive/archive_int.h"

#include <sodium.h>
#include <stdio.h>

enum { PATH_BYTES = 4096 };

typedef crypto_generichash_state file_hash;

static err send_file(vault *v, manifest *m, const char *path, const char *name) {
    file *f;
    err rc = file_open(fs_real(), path, FILE_READ, &f);
    if (rc == ERR_NOT_FOUND) return OK; /* not every directory has every file */
    TRY(rc);
    KITH_ASSERT(m->file_count < MANIFEST_FILES);
    manifest_file *mf = &m->files[m->file_count++];
    snprintf(mf->name, sizeof mf->name, "%s", name);
    file_hash h;
    crypto_generichash_init(&h, NULL, 0, sizeof mf->hash);
    uint8_t *buf = mem_alloc(CHUNK_MAX);
    size_t got = CHUNK_MAX;
    if (!buf) rc = ERR_NO_MEMORY;
    while (rc == OK && got == CHUNK_MAX) {
        char object[NAME_BYTES];
        rc = file_pread(f, buf, CHUNK_MAX, mf->bytes, &got);
        if (rc != OK || (got == 0 && mf->chunks)) break;
        crypto_generichash_update(&h, buf, got);
        chunk_name(m->id, name, mf->chunks, object);
        rc = vault_put(v, object, str_from(buf, got), OBJECT_NEW);
        mf->chunks++;
        mf->bytes += got;
    }
    crypto_generichash_final(&h, mf->hash, sizeof mf->hash);
    mem_free(buf);
    file_close(f);
    return rc;
}

/* What makes a snapshot's name: its position and when. */
static void name_it(manifest *m) {
    m->time_ms = clock_wall_ms();
    snprintf(m->id, sizeof m->id, "%020llu-%013llu", (unsigned long long)m->lsn,
             (unsigned long long)MAX(m->time_ms, 0));
}

bool snapshot_id_lsn(const char *id, uint64_t *lsn) {
    return strlen(id) > 20 && str_to_u64(str_from(id, 20), lsn);
}

bool snapshot_id_time(const char *id, int64_t *ms) {
    return strlen(id) > 21 && str_to_i64(str_of(id + 21), ms);
}

static err send_all(const snapshot_source *s, manifest *m, const char *copy) {
    char path[PATH_BYTES];
    shard_stats st;
    TRY(shard_snapshot(s->shard));
    TRY(store_copy(shard_store(s->shard), copy, &m->store_lsn));
    TRY(shard_stat(s->shard, &st));
    m->index_lsn = st.snapshot_lsn;
    m->lsn = MAX(m->store_lsn, m->index_lsn);
    journal_head(shard_journal(s->shard), &m->anchor);
    name_it(m);
    TRY(send_file(s->v, m, copy, "store.db"));
    snprintf(path, sizeof path, "%s/index.snap", s->dir);
    TRY(send_file(s->v, m, path, "index.snap"));
    snprintf(path, sizeof path, "%s/keys.json", s->dir);
    TRY(send_file(s->v, m, path, "keys.json"));
    snprintf(path, sizeof path, "%s/interactions.keys", s->dir);
    TRY(send_file(s->v, m, path, "interactions.keys"));
    /* A later index snapshot may have taken the file's name meanwhile. */
    TRY(shard_stat(s->shard, &st));
    m->index_lsn = MAX(m->index_lsn, st.snapshot_lsn);
    return manifest_put(s->v, m);
}

static void remove_copy(const char *copy) {
    static const char *const tails[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < COUNT_OF(tails); i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s%s", copy, tails[i]);
        if (!fs_exists(fs_real(), path)) continue;
        err rc = fs_unlink(fs_real(), path); /* tried again before the next copy */
        (void)rc;
    }
}

err snapshot_make(const snapshot_source *s, manifest *out) {
    char copy[PATH_BYTES];
    memset(out, 0, sizeof *out);
    snprintf(out->version, sizeof out->version, "%s", s->version);
    snprintf(copy, sizeof copy, "%s/backup.db.tmp", s->dir);
    remove_copy(copy);
    err rc = send_all(s, out, copy);
    err_text kept = err_keep();
    remove_copy(copy);
    return err_restore(rc, &kept);
}

err snapshot_drop_before(vault *v, uint64_t lsn) {
    name_list l;
    TRY(vault_names(v, "manifests/", &l));
    err rc = OK;
    for (size_t i = 0; rc == OK && i < l.count; i++) {
        uint64_t at;
        if (snapshot_id_lsn(l.items[i], &at) && at < lsn) rc = manifest_delete(v, l.items[i]);
    }
    name_list_deinit(&l);
    return rc;
}
