/* The running archive: two threads, so that a long snapshot never holds up the records.
 *
 * Parts: the head is looked at, then the users' keys that changed are sent, then the records up to that head. In
 * this order, because a record without its user's key is lost: the key was made before the record. A part is sent
 * GATHER_MS after its first record came, so the newest acknowledged record is there within a second. When
 * MERGE_COUNT small parts lie behind each other they become one.
 *
 * Snapshots: asked for (archive_request, or an audit record "backup.request" that a command wrote through the API),
 * after so many records, after so many hours, and at once after an erasure, whose end is that all
 * snapshots of before it are deleted.
 *
 * A crash anywhere: the archive's own names say how far it came. A part that is there already must end with the
 * same hash. An archive that holds records which this journal lacks belongs to another history (a journal
 * was restored to an earlier time and written on): that is an error until a person names another target.
 *
 * Failures are told once for each kind of failure, tried again for ever, and shown as lag.
 */
#include "archive/archive_int.h"

#include <stdio.h>

enum {
    GATHER_MS = 300,
    RETRY_MS = 2000,
    MERGE_COUNT = 32,
    STOP_MS = 15000,
    TICK_MS = 200,
    DETAIL_BYTES = 512
};

struct archive {
    archive_options o; /* immutable */
    seal_master master;
    char *url, *dir;

    mutex mu; /* guards all below */
    cond moved;
    bool stopping;
    uint64_t stop_ns;    /* when stopping ends in any case */
    bool asked;          /* a snapshot */
    uint64_t erased_lsn; /* snapshots of before it must go; 0: none */
    archive_stats stats;
    hlc last_time; /* of the last record that is there */
    char told[DETAIL_BYTES];

    /* parts thread only */
    part_list parts;
    uint64_t at; /* the last record that is there */
    uint64_t *key_versions;
    size_t key_blocks;
    bool key_header;

    thread part_thread, snap_thread;
    bool part_on, snap_on;
};

/* ---- small things ---- */

static bool stopping(archive *a) {
    mutex_lock(&a->mu);
    bool yes = a->stopping;
    mutex_unlock(&a->mu);
    return yes;
}

/* For the storage's retries: give up when there is no time left. */
static bool out_of_time(void *ctx) {
    archive *a = ctx;
    mutex_lock(&a->mu);
    bool yes = a->stopping && clock_mono_ns() > a->stop_ns;
    mutex_unlock(&a->mu);
    return yes;
}

static void rest(archive *a, uint64_t ms) {
    uint64_t end = clock_mono_ns() + ms * 1000000u;
    mutex_lock(&a->mu);
    while (!a->stopping && clock_mono_ns() < end) (void)cond_wait_ms(&a->moved, &a->mu, TICK_MS);
    mutex_unlock(&a->mu);
}

static void tell(archive *a, const char *what) {
    char text[DETAIL_BYTES];
    snprintf(text, sizeof text, "archive: %s: %.400s", what, err_detail());
    mutex_lock(&a->mu);
    a->stats.failures++;
    bool fresh = strcmp(text, a->told) != 0;
    if (fresh) memcpy(a->told, text, sizeof text);
    mutex_unlock(&a->mu);
    if (fresh && a->o.notice) a->o.notice(a->o.ctx, text);
}

static void good(archive *a, const char *what) {
    mutex_lock(&a->mu);
    bool was_bad = a->told[0] != 0;
    a->told[0] = 0;
    mutex_unlock(&a->mu);
    if (was_bad && a->o.notice) a->o.notice(a->o.ctx, what);
}

static err open_vault(archive *a, vault *v) {
    journal *j = shard_journal(a->o.shard);
    vault_options o = {.url = a->url,
                       .master = &a->master,
                       .journal_id = journal_id(j),
                       .space = shard_space(a->o.shard),
                       .object = {.stopping = out_of_time, .ctx = a}};
    return vault_open(&o, v);
}

/* ---- the users' keys ---- */

static err send_block(archive *a, vault *v, keyring *k, uint32_t block) {
    char name[NAME_BYTES];
    uint8_t *p = mem_alloc(KEYRING_BLOCK_BYTES);
    size_t n;
    if (!p) return ERR_NO_MEMORY;
    uint64_t version = keyring_block_version(k, block);
    err rc = keyring_block_read(k, block, p, &n);
    snprintf(name, sizeof name, "keys/%08u", block);
    if (rc == OK) rc = vault_put(v, name, str_from(p, n), OBJECT_REPLACE);
    if (rc == OK) a->key_versions[block] = version;
    mem_free(p);
    return rc;
}

static err send_keys(archive *a, vault *v) {
    keyring *k = shard_keyring(a->o.shard);
    uint32_t blocks = (keyring_count(k) + KEYRING_BLOCK - 1) / KEYRING_BLOCK;
    size_t old = a->key_blocks;
    void *p = a->key_versions;
    err rc = mem_grow(&p, &a->key_blocks, blocks + 1, sizeof *a->key_versions, KEYRING_MAX);
    a->key_versions = p;
    TRY(rc);
    if (a->key_blocks > old)
        memset(a->key_versions + old, 0, (a->key_blocks - old) * sizeof *a->key_versions);
    if (!a->key_header) {
        uint8_t h[KEYRING_HEADER];
        TRY(keyring_header_read(k, h));
        TRY(vault_put(v, "keys/header", str_from(h, sizeof h), OBJECT_REPLACE));
        a->key_header = true;
    }
    for (uint32_t b = 0; b < blocks; b++)
        if (keyring_block_version(k, b) != a->key_versions[b]) TRY(send_block(a, v, k, b));
    return OK;
}

/* ---- parts ---- */

typedef struct gather {
    part_head head;
    strbuf bytes; /* head and frames */
    bool again;   /* of records that are there: nothing in them is news */
    bool asked;
    uint64_t erased_lsn;
} gather;

static err note_record(vault *v, gather *g, const journal_record *r) {
    if (r->kind == JOURNAL_AUDIT && str_find(r->body, STR("\"backup.request\"")) >= 0)
        g->asked = true;
    if (r->kind != JOURNAL_USER_ERASE) return OK;
    erasure e;
    TRY(erasure_of(r, &e));
    g->erased_lsn = r->lsn;
    return erasure_put(v, &e);
}

/* Frames of records from `first` on, up to `last` and about PART_MAX. */
static err gather_frames(archive *a, vault *v, uint64_t first, uint64_t last, gather *g) {
    journal_reader *r;
    uint8_t head[PART_HEAD] = {0};
    strbuf_reset(&g->bytes);
    strbuf_add(&g->bytes, str_from(head, sizeof head));
    TRY(journal_reader_open(shard_journal(a->o.shard), first, &r));
    err rc = OK;
    journal_record rec;
    g->head = (part_head){.first = first};
    for (uint64_t lsn = first; rc == OK && lsn <= last && g->bytes.len < PART_MAX; lsn++) {
        rc = journal_read(r, &rec);
        if (rc == OK && !g->again) rc = note_record(v, g, &rec);
        if (rc != OK) break;
        if (lsn == first) {
            g->head.first_time = rec.time;
            memcpy(g->head.before, rec.frame.ptr + 40, JOURNAL_HASH_BYTES);
        }
        strbuf_add(&g->bytes, rec.frame);
        g->head.last = lsn;
        g->head.last_time = rec.time;
    }
    if (rc == OK) journal_reader_hash(r, g->head.after);
    journal_reader_close(r);
    if (rc == OK) rc = g->bytes.rc;
    if (rc == OK) part_head_write(&g->head, (uint8_t *)g->bytes.ptr);
    return rc;
}

static err put_part(vault *v, const gather *g) {
    char name[NAME_BYTES];
    part p = {.first = g->head.first, .last = g->head.last};
    part_name(p, name);
    err rc = vault_put(v, name, strbuf_str(&g->bytes), OBJECT_NEW);
    if (rc != ERR_EXISTS) return rc;
    part_head h;
    TRY(part_get_head(v, p, &h)); /* ours, from before a crash? */
    if (memcmp(h.after, g->head.after, JOURNAL_HASH_BYTES) == 0) return OK;
    return err_set(ERR_EXISTS, "%s in the archive is of another history of this journal", name);
}

static err remember(archive *a, part p) {
    void *items = a->parts.items;
    err rc = mem_grow(&items, &a->parts.cap, a->parts.count + 1, sizeof p, (size_t)1 << 26);
    a->parts.items = items;
    if (rc == OK) a->parts.items[a->parts.count++] = p;
    return rc;
}

static void moved_on(archive *a, const gather *g, uint64_t bytes) {
    a->at = g->head.last;
    mutex_lock(&a->mu);
    a->stats.lsn = a->at;
    a->stats.parts++;
    a->stats.bytes = bytes;
    a->last_time = g->head.last_time;
    a->asked = a->asked || g->asked;
    a->erased_lsn = MAX(a->erased_lsn, g->erased_lsn);
    cond_broadcast(&a->moved);
    mutex_unlock(&a->mu);
}

static err send_part(archive *a, vault *v, uint64_t head) {
    gather g = {0};
    strbuf_init(&g.bytes, PART_MAX + RAW_MAX / 2);
    err rc = gather_frames(a, v, a->at + 1, head, &g);
    if (rc == OK) rc = put_part(v, &g);
    if (rc == OK) rc = remember(a, (part){g.head.first, g.head.last, g.bytes.len - PART_HEAD});
    if (rc == OK) moved_on(a, &g, v->bytes);
    strbuf_deinit(&g.bytes);
    return rc;
}

/* The last MERGE_COUNT parts as one, when that is not too large; then they are deleted. Called at every tick, so parts
 * that are known to be too large are not read again. */
static err merge_parts(archive *a, vault *v) {
    part_list *l = &a->parts;
    if (l->count < MERGE_COUNT) return OK;
    size_t from = l->count - MERGE_COUNT;
    part whole = {.first = l->items[from].first, .last = l->items[l->count - 1].last};
    uint64_t known = 0;
    for (size_t i = from; i + 1 < l->count; i++) known += l->items[i].bytes;
    if (known >= PART_MAX) return OK;
    gather g = {.again = true};
    strbuf_init(&g.bytes, PART_MAX + RAW_MAX / 2);
    err rc = gather_frames(a, v, whole.first, whole.last, &g);
    bool fits = rc == OK && g.head.last == whole.last;
    if (fits) rc = put_part(v, &g);
    if (rc == OK && !fits) l->items[from].bytes = PART_MAX; /* with what is behind it, for good */
    whole.bytes = g.bytes.len - PART_HEAD;
    strbuf_deinit(&g.bytes);
    if (!fits || rc != OK) return rc;
    for (size_t i = from; i < l->count; i++) {
        char name[NAME_BYTES];
        part_name(l->items[i], name);
        TRY(object_delete(v->store, name));
    }
    l->items[from] = whole;
    l->count = from + 1;
    return OK;
}

/* ---- the parts thread ---- */

static err check_history(archive *a, vault *v) {
    if (a->parts.count == 0) return OK;
    part p = a->parts.items[a->parts.count - 1];
    journal *j = shard_journal(a->o.shard);
    if (p.last > journal_head_lsn(j))
        return err_set(ERR_EXISTS,
                       "it holds record %llu and this journal ends with %llu: this is an earlier "
                       "state; restore from it, or archive to another prefix",
                       (unsigned long long)p.last, (unsigned long long)journal_head_lsn(j));
    part_head h;
    TRY(part_get_head(v, p, &h));
    journal_reader *r;
    journal_record rec;
    uint8_t hash[JOURNAL_HASH_BYTES];
    TRY(journal_reader_open(j, p.last, &r));
    err rc = journal_read(r, &rec);
    journal_reader_hash(r, hash);
    if (rc == OK && memcmp(hash, h.after, sizeof hash) != 0)
        rc = err_set(ERR_EXISTS,
                     "its record %llu is not this journal's: another history; archive to another "
                     "prefix",
                     (unsigned long long)p.last);
    journal_reader_close(r);
    TRY(rc);
    a->at = p.last;
    mutex_lock(&a->mu);
    a->stats.lsn = a->at;
    a->last_time = h.last_time;
    mutex_unlock(&a->mu);
    return OK;
}

static err connect(archive *a, vault *v) {
    TRY(open_vault(a, v));
    part_list_deinit(&a->parts);
    a->at = 0;
    a->key_header = false;
    err rc = part_list_read(v, &a->parts);
    if (rc == OK) rc = check_history(a, v);
    if (rc != OK) {
        vault_close(v);
        return rc;
    }
    mutex_lock(&a->mu);
    a->stats.connected = true;
    mutex_unlock(&a->mu);
    return OK;
}

/* Everything that is durable now. */
static err send_new(archive *a, vault *v) {
    uint64_t head = journal_head_lsn(shard_journal(a->o.shard));
    TRY(send_keys(a, v));
    while (a->at < head) TRY(send_part(a, v, head));
    return merge_parts(a, v);
}

static err follow(archive *a, vault *v) {
    journal *j = shard_journal(a->o.shard);
    for (;;) {
        bool last = stopping(a);
        TRY(send_new(a, v));
        good(a, "archive: it goes on");
        if (last) return OK;
        err rc = journal_wait(j, a->at + 1, TICK_MS);
        if (rc == OK) rest(a, GATHER_MS);
    }
}

static void part_main(void *arg) {
    archive *a = arg;
    while (!out_of_time(a)) {
        vault v;
        err rc = connect(a, &v);
        if (rc == OK) {
            rc = follow(a, &v);
            if (rc != OK) tell(a, "sending records");
            vault_close(&v);
            if (rc == OK) return;
        } else {
            tell(a, "opening");
        }
        if (stopping(a) && (rc == ERR_EXISTS || rc == ERR_DENIED || rc == ERR_INVALID)) return;
        if (stopping(a)) clock_sleep_ms(TICK_MS);
        rest(a, RETRY_MS);
    }
}

/* ---- the snapshot thread ---- */

typedef struct snap_state {
    uint64_t done_lsn, done_ns;
    bool known; /* what the archive has was looked at */
} snap_state;

static bool due(archive *a, const snap_state *s, uint64_t *erased) {
    uint64_t now = clock_mono_ns(), hours = a->o.snapshot_hours ? a->o.snapshot_hours : 24;
    uint64_t records = a->o.snapshot_records ? a->o.snapshot_records : 1000000;
    mutex_lock(&a->mu);
    *erased = a->erased_lsn;
    bool yes = a->asked || *erased || a->stats.lsn >= s->done_lsn + records ||
               (a->stats.lsn > s->done_lsn && now > s->done_ns + hours * 3600000000000u);
    yes = yes && a->stats.connected && s->known;
    mutex_unlock(&a->mu);
    return yes;
}

static err snapshot_once(archive *a, snap_state *s, uint64_t erased) {
    vault v;
    manifest m;
    TRY(open_vault(a, &v));
    snapshot_source src = {&v, a->o.shard, a->dir, a->o.version};
    mutex_lock(&a->mu);
    bool asked = a->asked;
    a->asked = false; /* a request that comes from here on makes another */
    mutex_unlock(&a->mu);
    err rc = OK;
    if (erased) rc = shard_wait(a->o.shard, STR(""), erased, WAIT_APPLIED, STOP_MS);
    if (rc == OK) rc = snapshot_make(&src, &m);
    if (rc == OK && erased) rc = snapshot_drop_before(&v, erased);
    vault_close(&v);
    mutex_lock(&a->mu);
    if (rc == OK) {
        a->stats.snapshot_lsn = m.lsn;
        a->stats.snapshot_ms = m.time_ms;
        if (a->erased_lsn == erased) a->erased_lsn = 0;
        s->done_lsn = m.lsn;
        s->done_ns = clock_mono_ns();
    } else {
        a->asked = a->asked || asked;
    }
    mutex_unlock(&a->mu);
    return rc;
}

/* What is there already; and what an erasure should have deleted when we were stopped. */
static err look_back(archive *a, snap_state *s) {
    vault v;
    name_list l;
    erasure_list e = {0};
    uint64_t oldest = UINT64_MAX, newest = 0, erased = 0;
    TRY(open_vault(a, &v));
    err rc = vault_names(&v, "manifests/", &l);
    for (size_t i = 0; rc == OK && i < l.count; i++) {
        uint64_t at = 0;
        if (snapshot_id_lsn(l.items[i], &at)) {
            oldest = MIN(oldest, at);
            newest = MAX(newest, at);
        }
    }
    if (rc == OK) name_list_deinit(&l);
    if (rc == OK) rc = erasure_list_read(&v, &e);
    if (rc == OK && e.count) erased = e.items[e.count - 1].lsn;
    erasure_list_deinit(&e);
    vault_close(&v);
    TRY(rc);
    mutex_lock(&a->mu);
    a->stats.snapshot_lsn = newest;
    if (oldest < erased) a->erased_lsn = MAX(a->erased_lsn, erased);
    mutex_unlock(&a->mu);
    *s = (snap_state){.done_lsn = newest, .done_ns = clock_mono_ns(), .known = true};
    return OK;
}

static bool connected(archive *a) {
    mutex_lock(&a->mu);
    bool yes = a->stats.connected;
    mutex_unlock(&a->mu);
    return yes;
}

static void snap_main(void *arg) {
    archive *a = arg;
    snap_state s = {0};
    uint64_t erased;
    thread_lower_priority();
    while (!stopping(a)) {
        err rc = OK;
        if (!s.known && connected(a)) rc = look_back(a, &s);
        if (rc == OK && due(a, &s, &erased)) rc = snapshot_once(a, &s, erased);
        if (rc != OK) {
            tell(a, "snapshot");
            rest(a, RETRY_MS);
        }
        rest(a, TICK_MS);
    }
}

/* ---- start and stop ---- */

static err start_threads(archive *a) {
    TRY(thread_start(&a->part_thread, "kith-archive", part_main, a));
    a->part_on = true;
    TRY(thread_start(&a->snap_thread, "kith-snapshot", snap_main, a));
    a->snap_on = true;
    return OK;
}

err archive_start(const archive_options *o, archive **out) {
    *out = NULL;
    archive *a = mem_zalloc(1, sizeof *a);
    if (!a) return ERR_NO_MEMORY;
    a->o = *o;
    a->master = *o->master;
    err rc = mutex_init(&a->mu);
    if (rc == OK) rc = cond_init(&a->moved);
    a->url = mem_dup(o->url, strlen(o->url) + 1);
    a->dir = mem_dup(o->dir, strlen(o->dir) + 1);
    if (rc == OK && (!a->url || !a->dir)) rc = ERR_NO_MEMORY;
    object_store *probe = NULL;
    if (rc == OK) rc = object_open(o->url, NULL, &probe); /* a target that is none is told now */
    object_close(probe);
    if (rc == OK) rc = start_threads(a);
    if (rc != OK) {
        archive_stop(a);
        return rc;
    }
    *out = a;
    return OK;
}

void archive_stop(archive *a) {
    if (!a) return;
    mutex_lock(&a->mu);
    a->stopping = true;
    a->stop_ns = clock_mono_ns() + (uint64_t)STOP_MS * 1000000u;
    cond_broadcast(&a->moved);
    mutex_unlock(&a->mu);
    if (a->part_on) thread_join(&a->part_thread);
    if (a->snap_on) thread_join(&a->snap_thread);
    part_list_deinit(&a->parts);
    mem_free(a->key_versions);
    mem_free(a->url);
    mem_free(a->dir);
    cond_deinit(&a->moved);
    mutex_deinit(&a->mu);
    mem_free(a);
}

void archive_request(archive *a) {
    mutex_lock(&a->mu);
    a->asked = true;
    cond_broadcast(&a->moved);
    mutex_unlock(&a->mu);
}

void archive_stats_get(archive *a, archive_stats *out) {
    uint64_t head = journal_head_lsn(shard_journal(a->o.shard));
    mutex_lock(&a->mu);
    *out = a->stats;
    hlc last = a->last_time;
    mutex_unlock(&a->mu);
    int64_t ms = clock_wall_ms() - HLC_MS(last);
    out->lag_s = out->lsn >= head || ms < 0 ? 0 : (double)ms / 1000.0;
}
