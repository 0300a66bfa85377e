/* What an archive holds, whether all of it is whole, and what may go.
 *
 * A deep check reads every object: parts frame by frame with one chain from record 1 to the end, manifests by their
 * signature, each chunk and each file's hash, and the anchor in each manifest against the chain that was read. An
 * object that is damaged is named and the check goes on with the next.
 */
#include "archive/archive_int.h"

#include <sodium.h>
#include <stdio.h>

typedef struct anchor {
    uint64_t lsn;
    uint8_t hash[JOURNAL_HASH_BYTES];
    char id[64];
    bool met;
} anchor;

typedef struct checking {
    const check_options *o;
    archive_summary *out;
    vault v;
    part_list parts;
    erasure_list ledger;
    anchor *anchors;
    size_t anchor_count, anchor_cap;
} checking;

static void problem(checking *c, const char *object) {
    c->out->problems++;
    if (c->o->problem) c->o->problem(c->o->ctx, object, err_detail());
}

static void show(const checking *c, const char *what, uint64_t done, uint64_t total) {
    if (c->o->progress) c->o->progress(c->o->ctx, what, done, total);
}

/* ---- snapshots ---- */

static err check_file(checking *c, const manifest *m, const manifest_file *f) {
    crypto_generichash_state h;
    uint8_t hash[32];
    uint64_t bytes = 0;
    crypto_generichash_init(&h, NULL, 0, sizeof hash);
    for (uint32_t i = 0; i < f->chunks; i++) {
        char name[NAME_BYTES];
        uint8_t *p;
        size_t n;
        chunk_name(m->id, f->name, i, name);
        err rc = vault_get(&c->v, name, &p, &n);
        if (rc == ERR_NOT_FOUND) rc = err_set(ERR_CORRUPT, "archive object %s: missing", name);
        TRY(rc);
        crypto_generichash_update(&h, p, n);
        bytes += n;
        mem_free(p);
        show(c, "checking snapshots", bytes, f->bytes);
    }
    crypto_generichash_final(&h, hash, sizeof hash);
    if (bytes == f->bytes && memcmp(hash, f->hash, sizeof hash) == 0) return OK;
    return err_set(ERR_CORRUPT, "archive snapshot %s: %s is not what was put", m->id, f->name);
}

static err add_anchor(checking *c, const manifest *m) {
    void *p = c->anchors;
    err rc = mem_grow(&p, &c->anchor_cap, c->anchor_count + 1, sizeof *c->anchors, 1 << 20);
    c->anchors = p;
    TRY(rc);
    anchor *a = &c->anchors[c->anchor_count++];
    *a = (anchor){.lsn = m->anchor.lsn};
    memcpy(a->hash, m->anchor.hash, sizeof a->hash);
    memcpy(a->id, m->id, sizeof a->id);
    return OK;
}

static bool forgotten(const checking *c, uint64_t lsn) {
    return c->ledger.count && c->ledger.items[c->ledger.count - 1].lsn > lsn;
}

static err check_snapshot(checking *c, const char *id) {
    manifest m;
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "manifests/%.100s", id);
    err rc = manifest_get(&c->v, id, &m);
    archive_entry e = {.id = id, .lsn = m.lsn, .time_ms = m.time_ms};
    for (uint32_t i = 0; rc == OK && i < m.file_count; i++) {
        e.bytes += m.files[i].bytes;
        if (c->o->deep) rc = check_file(c, &m, &m.files[i]);
    }
    if (rc == ERR_CORRUPT || rc == ERR_NOT_FOUND) {
        problem(c, name);
        return OK;
    }
    TRY(rc);
    c->out->snapshots++;
    e.usable = !forgotten(c, m.lsn);
    if (c->o->entry) c->o->entry(c->o->ctx, &e);
    return add_anchor(c, &m);
}

static err check_snapshots(checking *c) {
    name_list l;
    TRY(vault_names(&c->v, "manifests/", &l));
    err rc = OK;
    for (size_t i = 0; rc == OK && i < l.count; i++) rc = check_snapshot(c, l.items[i]);
    name_list_deinit(&l);
    return rc;
}

/* ---- the journal ---- */

/* Position by position, where a manifest has an anchor. */
static err check_anchors(checking *c, const journal_position *at) {
    for (size_t i = 0; i < c->anchor_count; i++) {
        anchor *a = &c->anchors[i];
        if (a->lsn != at->lsn) continue;
        a->met = true;
        if (memcmp(a->hash, at->hash, sizeof a->hash) != 0)
            return err_set(ERR_CORRUPT, "record %llu is not the one that snapshot %s anchors",
                           (unsigned long long)at->lsn, a->id);
    }
    return OK;
}

/* The next anchor at or behind `lsn`, or 0. */
static uint64_t next_anchor(const checking *c, uint64_t lsn) {
    uint64_t best = 0;
    for (size_t i = 0; i < c->anchor_count; i++)
        if (c->anchors[i].lsn >= lsn && (!best || c->anchors[i].lsn < best))
            best = c->anchors[i].lsn;
    return best;
}

typedef struct stop_at {
    uint64_t lsn; /* 0: nowhere */
    size_t bytes; /* of the frames up to it */
} stop_at;

static err count_bytes(void *ctx, const journal_record *r) {
    stop_at *s = ctx;
    s->bytes += r->frame.len;
    return r->lsn == s->lsn ? ERR_CANCELLED : OK;
}

/* Frames piece by piece, so that the chain's value is known at each anchor. */
static err check_frames(checking *c, str frames, journal_position *at) {
    while (frames.len) {
        stop_at stop = {.lsn = next_anchor(c, at->lsn + 1)};
        err rc = journal_frames_check((const uint8_t *)frames.ptr, frames.len, c->v.journal_id, at,
                                      count_bytes, &stop);
        if (rc != OK && rc != ERR_CANCELLED) return rc;
        TRY(check_anchors(c, at));
        frames = str_skip(frames, stop.bytes);
    }
    return OK;
}

static err check_part(checking *c, part p, journal_position *at, bool *lost) {
    uint8_t *own;
    part_head h;
    str frames;
    TRY(part_get(&c->v, p, &own, &h, &frames));
    if (*lost || h.first <= at->lsn) { /* goes on behind damage, or overlaps */
        at->lsn = h.first - 1;
        memcpy(at->hash, h.before, sizeof at->hash);
        *lost = false;
    }
    err rc = check_frames(c, frames, at);
    if (rc == OK && (at->lsn != h.last || memcmp(at->hash, h.after, sizeof at->hash) != 0))
        rc = err_set(ERR_CORRUPT, "its records do not end as its head says");
    mem_free(own);
    return rc;
}

static err check_journal(checking *c) {
    journal_position at = {0};
    bool lost = false;
    for (size_t i = 0; i < c->parts.count; i++) {
        char name[NAME_BYTES];
        part_name(c->parts.items[i], name);
        err rc = check_part(c, c->parts.items[i], &at, &lost);
        lost = rc != OK;
        if (rc == ERR_CORRUPT) problem(c, name);
        if (rc != OK && rc != ERR_CORRUPT) return rc;
        show(c, "checking the journal", i + 1, c->parts.count);
    }
    return OK;
}

static err check_keys(checking *c) {
    name_list l;
    TRY(vault_names(&c->v, "keys/", &l));
    for (size_t i = 0; i < l.count; i++) {
        char name[NAME_BYTES];
        uint8_t *p = NULL;
        size_t n;
        snprintf(name, sizeof name, "keys/%.40s", l.items[i]);
        err rc = vault_get(&c->v, name, &p, &n);
        mem_free(p);
        if (rc != OK) problem(c, name);
    }
    name_list_deinit(&l);
    return OK;
}

/* ---- all of it ---- */

static err ends(checking *c) {
    archive_summary *s = c->out;
    part_head h;
    s->parts = c->parts.count;
    if (!s->parts) return OK;
    s->first_lsn = c->parts.items[0].first;
    s->last_lsn = c->parts.items[s->parts - 1].last;
    for (size_t i = 0; i < 2; i++) {
        err rc = part_get_head(&c->v, c->parts.items[i ? s->parts - 1 : 0], &h);
        if (rc == ERR_CORRUPT) continue; /* a deep check names it */
        TRY(rc);
        if (i)
            s->last_ms = HLC_MS(h.last_time);
        else
            s->first_ms = HLC_MS(h.first_time);
    }
    return OK;
}

static err read_names(checking *c) {
    name_list l;
    TRY(vault_names(&c->v, "", &l));
    c->out->objects = l.count;
    c->out->bytes = l.bytes;
    name_list_deinit(&l);
    err rc = part_list_read(&c->v, &c->parts);
    if (rc == ERR_CORRUPT) {
        problem(c, "journal/");
        rc = OK;
    }
    if (rc == OK) rc = erasure_list_read(&c->v, &c->ledger);
    if (rc == ERR_CORRUPT) {
        problem(c, "erasures/");
        rc = OK;
    }
    c->out->erasures = c->ledger.count;
    return rc;
}

err archive_check(const check_options *o, archive_summary *out) {
    memset(out, 0, sizeof *out);
    checking *c = mem_zalloc(1, sizeof *c);
    if (!c) return ERR_NO_MEMORY;
    c->o = o;
    c->out = out;
    err rc = vault_open(&(vault_options){.url = o->url, .master = o->master}, &c->v);
    if (rc == OK) rc = read_names(c);
    if (rc == OK) rc = ends(c);
    if (rc == OK) rc = check_snapshots(c);
    if (rc == OK && o->deep) rc = check_journal(c);
    if (rc == OK && o->deep) rc = check_keys(c);
    vault_close(&c->v);
    part_list_deinit(&c->parts);
    erasure_list_deinit(&c->ledger);
    mem_free(c->anchors);
    mem_free(c);
    return rc;
}

/* ---- prune ---- */

static err last_good(checking *c, const name_list *l, size_t *index) {
    for (size_t i = l->count; i-- > 0;) {
        uint64_t before = c->out->problems;
        c->anchor_count = 0;
        TRY(check_snapshot(c, l->items[i]));
        if (c->out->problems > before) continue;
        *index = i;
        return OK;
    }
    return err_set(ERR_NOT_FOUND, "no snapshot in the archive is whole: nothing is pruned");
}

static err prune(checking *c, uint32_t keep, uint32_t days, uint64_t *deleted) {
    name_list l;
    size_t good = 0;
    TRY(vault_names(&c->v, "manifests/", &l));
    err rc = l.count ? last_good(c, &l, &good) : OK;
    int64_t now = clock_wall_ms(), ms;
    for (size_t i = 0; rc == OK && i + keep < l.count; i++) {
        bool old = snapshot_id_time(l.items[i], &ms) && now - ms >= (int64_t)days * 86400000;
        if (!old || i == good) continue;
        rc = manifest_delete(&c->v, l.items[i]);
        if (rc == OK) ++*deleted;
    }
    name_list_deinit(&l);
    return rc;
}

err archive_prune(const char *url, const seal_master *m, uint32_t keep, uint32_t days,
                  uint64_t *deleted) {
    archive_summary sum = {0};
    check_options o = {.url = url, .master = m, .deep = true};
    *deleted = 0;
    checking *c = mem_zalloc(1, sizeof *c);
    if (!c) return ERR_NO_MEMORY;
    c->o = &o;
    c->out = &sum;
    err rc = vault_open(&(vault_options){.url = url, .master = m}, &c->v);
    if (rc == OK) rc = prune(c, keep, days, deleted);
    vault_close(&c->v);
    mem_free(c->anchors);
    mem_free(c);
    return rc;
}
