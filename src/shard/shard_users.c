/* What belongs to a user: sealing, erasing, exporting; and audit records.
 *
 * A post and its vectors are sealed by the author's own key before they go into the journal, so every copy of the
 * journal (segments, archive, replicas) becomes unreadable when that key is destroyed. The key's place is in the
 * body; kind and key of the record are checked with it, so a body cannot be moved to another record. Kinds that hold
 * nothing that a user wrote are not sealed. Records of before sealing are read as they are.
 *
 * Erasing is a fold like everything: the record USER_ERASE names the key's place. Folding it deletes the posts and
 * destroys the key; folding it again, after a restart or in a copy, does the same and no more. It names the
 * place and not only the user, because who comes back under the same name has a new key, which an old
 * erasure must not touch.
 */
#include "shard/shard_int.h"

#include <stdio.h>

enum { WAIT_MS = 30000, AUDIT_MAX = 8192, ROW_ARENA = 8 << 20 };

/* ---- sealing ---- */

str shard_seal_ad(uint16_t kind, str key, uint8_t out[SEAL_AD_MAX]) {
    KITH_ASSERT(key.len <= JOURNAL_KEY_MAX);
    le16_put(out, kind);
    if (key.len) memcpy(out + 2, key.ptr, key.len);
    return str_from(out, key.len + 2);
}

bool shard_is_sealed(const journal_record *r) {
    bool ours = r->kind == JOURNAL_POST_PUT || r->kind == JOURNAL_VECTOR_PUT;
    return ours && !r->redacted && keyring_is_sealed(r->body);
}

err shard_unseal(shard *s, arena *a, journal_record *r) {
    if (!shard_is_sealed(r)) return OK;
    uint8_t ad[SEAL_AD_MAX], *p = arena_alloc(a, r->body.len);
    size_t n;
    if (!p) return ERR_NO_MEMORY;
    err rc = keyring_unseal(s->keys, shard_seal_ad(r->kind, r->key, ad), r->body, p, &n);
    if (rc == ERR_NOT_FOUND) {
        r->redacted = true;
        r->body = STR("");
        return OK;
    }
    TRY(rc);
    r->body = str_from(p, n);
    return OK;
}

/* ---- folding an erasure ---- */

static err destroy_key(shard *s, const journal_record *r, arena *a) {
    const Kith__V1__UserErase *m =
        kith__v1__user_erase__unpack(ARENA_PB(a), r->body.len, (const uint8_t *)r->body.ptr);
    if (!m)
        return err_set(ERR_CORRUPT, "journal record %llu: an erasure that cannot be read",
                       (unsigned long long)r->lsn);
    return m->has_key ? keyring_erase(s->keys, m->key_entry) : OK;
}

err shard_store_erase(shard *s, const journal_record *r, arena *a, uint32_t **docs, size_t *count) {
    str *ids;
    size_t n;
    TRY(store_ids_of_author(s->store, r->key, a, &ids, &n));
    *docs = arena_alloc(a, (n + 1) * sizeof **docs);
    if (!*docs) return ERR_NO_MEMORY;
    *count = 0;
    arena old_row;
    arena_init(&old_row, ROW_ARENA);
    err rc = OK;
    for (size_t i = 0; rc == OK && i < n; i++) {
        Kith__V1__Post *old;
        arena_reset(&old_row);
        rc = store_delete(s->store, ids[i], &old_row, &(*docs)[*count], &old);
        if (rc == OK) ++*count;
        if (rc == OK && s->o.forget) s->o.forget(s->o.forget_ctx, str_of(old->text));
        if (rc == ERR_NOT_FOUND) rc = OK;
    }
    arena_deinit(&old_row);
    return rc == OK ? destroy_key(s, r, a) : rc;
}

/* ---- audit ---- */

static err audit_body(const char *what, str who, const char *outcome, str detail, strbuf *b) {
    strbuf_addf(b, "{\"what\":\"%s\",\"who\":", what);
    strbuf_add_json(b, who);
    strbuf_addf(b, ",\"outcome\":\"%s\"%s" STR_FMT "}", outcome, detail.len ? "," : "",
                STR_ARG(detail));
    return b->rc;
}

err shard_audit(shard *s, const char *what, str who, const char *outcome, str detail,
                uint64_t *lsn) {
    strbuf b;
    uint64_t first;
    strbuf_init(&b, AUDIT_MAX);
    err rc = audit_body(what, who, outcome, detail, &b);
    journal_entry e = {.kind = JOURNAL_AUDIT, .key = str_of(what), .body = strbuf_str(&b)};
    if (rc == OK) rc = journal_append(s->journal, &e, 1, &first, lsn);
    strbuf_deinit(&b);
    return rc;
}

/* ---- erasing ---- */

typedef struct author_scan {
    shard *s;
    str user;
    uint64_t posts;
    shard_export_visit visit;
    void *ctx;
    float *vectors[SHARD_SPACES_MAX];
} author_scan;

static err scan_row(void *ctx, const store_row *row) {
    author_scan *c = ctx;
    if (!str_eq(str_of(row->post->author), c->user)) return OK;
    c->posts++;
    if (!c->visit) return OK;
    const float *have[SHARD_SPACES_MAX] = {NULL};
    for (unsigned i = 0; i < c->s->space_count; i++) {
        if (hnsw_get(shard_space_begin(c->s, i), row->doc, c->vectors[i]) == OK)
            have[i] = c->vectors[i];
        shard_space_end(c->s, i);
    }
    return c->visit(c->ctx, row, have);
}

static err scan(author_scan *c) {
    store_reader *r = store_reader_get(c->s->store);
    err rc = store_scan_rows(r, 0, scan_row, c);
    store_reader_put(c->s->store, r);
    return rc;
}

static err append_erasure(shard *s, str user, str who, bool has_key, uint32_t key_entry,
                          uint64_t *lsn) {
    Kith__V1__UserErase m = KITH__V1__USER_ERASE__INIT;
    uint8_t body[64];
    strbuf detail, audit;
    m.has_key = has_key;
    m.key_entry = key_entry;
    KITH_ASSERT(kith__v1__user_erase__get_packed_size(&m) <= sizeof body);
    size_t n = kith__v1__user_erase__pack(&m, body);
    strbuf_init(&detail, 4096);
    strbuf_init(&audit, AUDIT_MAX);
    strbuf_addz(&detail, "\"user\":");
    strbuf_add_json(&detail, user);
    err rc = detail.rc;
    if (rc == OK) rc = audit_body("user.erase", who, "ok", strbuf_str(&detail), &audit);
    journal_entry e[] = {
        {.kind = JOURNAL_USER_ERASE, .key = user, .body = str_from(body, n)},
        {.kind = JOURNAL_AUDIT, .key = STR("user.erase"), .body = strbuf_str(&audit)}};
    uint64_t last;
    if (rc == OK) rc = journal_append(s->journal, e, COUNT_OF(e), lsn, &last);
    strbuf_deinit(&detail);
    strbuf_deinit(&audit);
    return rc;
}

/* Store's log and index snapshot without the text, on disk. */
static err scrub(shard *s) {
    uint64_t end = clock_mono_ns() + (uint64_t)WAIT_MS * 1000000u;
    err rc;
    for (;;) {
        mutex_lock(&s->gate);
        rc = store_erase_traces(s->store);
        mutex_unlock(&s->gate);
        if (rc != ERR_AGAIN || clock_mono_ns() > end) break;
        clock_sleep_ms(20);
    }
    return rc == OK ? shard_snapshot(s) : rc;
}

static void sign_erasure(shard *s, str user, shard_erasure *out) {
    strbuf b;
    strbuf_init(&b, 4096);
    strbuf_addf(&b, "kith erasure " STR_FMT " %llu %lld %llu", STR_ARG(user),
                (unsigned long long)out->lsn, (long long)out->time_ms,
                (unsigned long long)out->posts);
    keyring_sign(s->keys, strbuf_str(&b), out->signature);
    strbuf_deinit(&b);
}

err shard_erase_user(shard *s, str user, str who, shard_erasure *out) {
    author_scan c = {.s = s, .user = user};
    uint32_t entry = 0;
    memset(out, 0, sizeof *out);
    if (user.len == 0 || user.len > POST_NAME_MAX)
        return err_set_field(ERR_INVALID, "user", "expected a user's id of 1 to %d bytes",
                             POST_NAME_MAX);
    TRY(shard_wait(s, STR(""), journal_head_lsn(s->journal), WAIT_APPLIED, WAIT_MS));
    TRY(scan(&c));
    bool has_key = keyring_find(s->keys, user, &entry) == OK;
    if (!has_key && c.posts == 0)
        return err_set_field(ERR_NOT_FOUND, "user", "nothing is known of this user");
    out->posts = c.posts;
    TRY(append_erasure(s, user, who, has_key, entry, &out->lsn));
    out->time_ms = clock_wall_ms();
    TRY(shard_wait(s, STR(""), out->lsn + 1, WAIT_APPLIED, WAIT_MS));
    sign_erasure(s, user, out);
    return scrub(s);
}

err shard_export_user(shard *s, str user, shard_export_visit visit, void *ctx) {
    author_scan c = {.s = s, .user = user, .visit = visit, .ctx = ctx};
    uint32_t entry;
    err rc = OK;
    for (unsigned i = 0; i < s->space_count; i++) {
        c.vectors[i] = mem_alloc(s->spaces[i].dim * sizeof *c.vectors[i]);
        if (!c.vectors[i]) rc = ERR_NO_MEMORY;
    }
    if (rc == OK) rc = scan(&c);
    for (unsigned i = 0; i < s->space_count; i++) mem_free(c.vectors[i]);
    if (rc == OK && c.posts == 0 && keyring_find(s->keys, user, &entry) != OK)
        rc = err_set_field(ERR_NOT_FOUND, "user", "nothing is known of this user");
    return rc;
}

/* ---- state ---- */

typedef struct state_scan {
    shard *s;
    shard_state *out;
    float *vector;
} state_scan;

static err state_row(void *ctx, const store_row *row) {
    state_scan *t = ctx;
    uint8_t head[32] = {0};
    uint64_t h = t->out->hash;
    str parts[] = {str_of(row->post->id), str_of(row->post->text), str_of(row->post->author),
                   str_of(row->post->thread)};
    le32_put(head, row->doc);
    le64_put(head + 8, row->rev);
    le64_put(head + 16, row->text_hash);
    le64_put(head + 24, row->post->lsn);
    h = hash64(head, sizeof head, h);
    for (size_t i = 0; i < COUNT_OF(parts); i++) h = hash64(parts[i].ptr, parts[i].len, h);
    if (hnsw_get(shard_vectors_begin(t->s), row->doc, t->vector) == OK) {
        h = hash64(t->vector, t->s->o.dim * sizeof *t->vector, h);
        t->out->vectors++;
    }
    shard_vectors_end(t->s);
    t->out->hash = h;
    t->out->posts++;
    return OK;
}

/* Until no vector is on its way. */
static err settle(shard *s, uint64_t timeout_ms) {
    uint64_t end = clock_mono_ns() + timeout_ms * 1000000u;
    TRY(shard_wait(s, STR(""), journal_head_lsn(s->journal), WAIT_APPLIED, timeout_ms));
    for (;;) {
        mutex_lock(&s->mu);
        bool busy = shard_vec_busy(s) || s->catching_up;
        mutex_unlock(&s->mu);
        if (!busy) return OK;
        if (clock_mono_ns() > end) return err_set(ERR_TIMEOUT, "vectors are still on their way");
        clock_sleep_ms(5);
    }
}

err shard_state_get(shard *s, uint64_t timeout_ms, shard_state *out) {
    state_scan t = {.s = s, .out = out};
    memset(out, 0, sizeof *out);
    TRY(settle(s, timeout_ms));
    t.vector = mem_alloc(s->o.dim * sizeof *t.vector);
    if (!t.vector) return ERR_NO_MEMORY;
    store_reader *r = store_reader_get(s->store);
    err rc = store_scan_rows(r, 0, state_row, &t);
    store_reader_put(s->store, r);
    mem_free(t.vector);
    return rc;
}
