/* Writes: the rules of a post, and its way into the journal.
 *
 * A put is one append of all its records, so after a crash a post and the vector that came with it
 * are both there or both not. created_at is fixed here, before the journal, so that folding the
 * journal again gives the same rows. Vectors are journaled as half precision (2 bytes a dimension):
 * against 4 bytes a cosine moves by less than 0.0005, and the graph re-ranks with the same halves.
 */
#include "shard/shard_int.h"

#include "vec/vec.h"
#include <math.h>

enum { DELETE_WAIT_MS = 10000, PACK_MAX = POST_TEXT_MAX + POST_EXTRA_MAX + 64 * 1024 };

static err check_text(const char *field, const char *z, size_t max, bool required) {
    str s = str_of(z);
    if (required && s.len == 0)
        return err_set_field(ERR_INVALID, field, "%s: expected text, got none", field);
    if (s.len > max)
        return err_set_field(ERR_INVALID, field, "%s: expected at most %zu bytes, got %zu", field,
                             max, s.len);
    size_t bad;
    if (!utf8_valid(s, &bad))
        return err_set_field(ERR_INVALID, field, "%s: not valid UTF-8 at byte %zu", field, bad);
    return OK;
}

/* Names and ids: no control characters either. */
static err check_name(const char *field, const char *z, bool required) {
    TRY(check_text(field, z, POST_NAME_MAX, required));
    for (const char *p = z; p && *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return err_set_field(ERR_INVALID, field, "%s: expected no control characters", field);
    return OK;
}

static bool only_space(const char *z) {
    for (; *z; z++)
        if (*z != ' ' && (*z < '\t' || *z > '\r')) return false;
    return true;
}

err shard_check_post(const Kith__V1__Post *p) {
    _Static_assert(POST_ID_MAX == POST_NAME_MAX, "ids are checked as names");
    TRY(check_name("id", p->id, true));
    TRY(check_text("text", p->text, POST_TEXT_MAX, true));
    if (only_space(p->text))
        return err_set_field(ERR_INVALID, "text", "text: expected more than white space");
    TRY(check_name("author", p->author, false));
    TRY(check_name("reply_to", p->reply_to, false));
    TRY(check_name("channel", p->channel, false));
    TRY(check_name("lang", p->lang, false));
    if (p->lang && strlen(p->lang) > ATTRS_LANG_MAX)
        return err_set_field(ERR_INVALID, "lang",
                             "lang: expected a language code, at most %d bytes", ATTRS_LANG_MAX);
    if (p->n_tags > POST_TAGS_MAX)
        return err_set_field(ERR_INVALID, "tags", "tags: expected at most %d, got %zu",
                             POST_TAGS_MAX, p->n_tags);
    for (size_t i = 0; i < p->n_tags; i++) TRY(check_name("tags", p->tags[i], true));
    if (p->created_at) {
        int64_t ms = p->created_at->seconds;
        if (ms < TIME_MS_MIN / 1000 || ms > TIME_MS_MAX / 1000 || p->created_at->nanos < 0 ||
            p->created_at->nanos > 999999999)
            return err_set_field(ERR_INVALID, "created_at", "created_at: expected years 1 to 9999");
    }
    return check_text("extra", p->extra, POST_EXTRA_MAX, false);
}

/* ---- packing ---- */

typedef struct packer {
    journal_entry *entries;
    size_t count;
    arena mem;
    keyring *keys;  /* NULL: bodies are not sealed */
    uint32_t owner; /* of what is packed now */
} packer;

/* Adds a record whose body belongs to the owner. */
static err pack_entry(packer *k, uint16_t kind, str key, str body) {
    if (k->keys) {
        uint8_t ad[SEAL_AD_MAX], *p = arena_alloc(&k->mem, body.len + KEYRING_OVERHEAD);
        if (!p) return ERR_NO_MEMORY;
        TRY(keyring_seal(k->keys, k->owner, shard_seal_ad(kind, key, ad), body, p));
        body = str_from(p, body.len + KEYRING_OVERHEAD);
    }
    k->entries[k->count++] = (journal_entry){.kind = kind, .key = key, .body = body};
    return OK;
}

static err pack_post(packer *k, const Kith__V1__Post *post, Kith__V1__Post *copy) {
    *copy = *post;
    copy->thread = (char *)(uintptr_t)protobuf_c_empty_string;
    copy->lsn = 0;
    Google__Protobuf__Timestamp now = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    if (!copy->created_at) {
        int64_t ms = clock_wall_ms();
        now.seconds = ms / 1000;
        now.nanos = (int32_t)(ms % 1000) * 1000000;
        copy->created_at = &now;
    }
    Kith__V1__PostPut body = KITH__V1__POST_PUT__INIT;
    uint8_t trace[TRACE_BYTES];
    body.post = copy;
    if (trace_here.sampled) body.trace = shard_trace_pack(&trace_here, trace);
    size_t n = kith__v1__post_put__get_packed_size(&body);
    uint8_t *p = arena_alloc(&k->mem, n);
    if (!p) return ERR_NO_MEMORY;
    kith__v1__post_put__pack(&body, p);
    return pack_entry(k, JOURNAL_POST_PUT, str_of(post->id), str_from(p, n));
}

static err pack_vector(packer *k, const space *sp, const shard_vector *v) {
    uint32_t dim = sp->dim;
    float norm = vec_dot_f32(v->vector, v->vector, dim);
    if (!isfinite(norm) || norm <= 1e-12f)
        return err_set_field(ERR_INVALID, "vector",
                             "vector: expected %u finite numbers that are not all zero", dim);
    float *unit = arena_alloc(&k->mem, dim * sizeof *unit);
    f16 *half = arena_alloc(&k->mem, dim * sizeof *half);
    if (!unit || !half) return ERR_NO_MEMORY;
    float scale = 1.0f / sqrtf(norm);
    for (uint32_t i = 0; i < dim; i++) unit[i] = v->vector[i] * scale;
    vec_f16_from_f32(half, unit, dim);
    Kith__V1__VectorPut body = KITH__V1__VECTOR_PUT__INIT;
    body.space = sp->name;
    body.text_hash = v->text_hash;
    body.f16 = (ProtobufCBinaryData){dim * sizeof *half, (uint8_t *)half};
    size_t n = kith__v1__vector_put__get_packed_size(&body);
    uint8_t *p = arena_alloc(&k->mem, n);
    if (!p) return ERR_NO_MEMORY;
    kith__v1__vector_put__pack(&body, p);
    return pack_entry(k, JOURNAL_VECTOR_PUT, v->id, str_from(p, n));
}

static err pack_failed(packer *k, const space *sp, const shard_vector *v) {
    Kith__V1__VectorFailed body = KITH__V1__VECTOR_FAILED__INIT;
    body.space = sp->name;
    body.text_hash = v->text_hash;
    char *reason = arena_dup(&k->mem, v->reason);
    if (!reason) return ERR_NO_MEMORY;
    body.reason = reason;
    size_t n = kith__v1__vector_failed__get_packed_size(&body);
    uint8_t *p = arena_alloc(&k->mem, n);
    if (!p) return ERR_NO_MEMORY;
    kith__v1__vector_failed__pack(&body, p);
    k->entries[k->count++] =
        (journal_entry){.kind = JOURNAL_VECTOR_FAILED, .key = v->id, .body = str_from(p, n)};
    return OK;
}

static err packer_init(packer *k, const shard *s, size_t entries) {
    *k = (packer){.keys = s->o.unsealed ? NULL : s->keys};
    arena_init(&k->mem, 2 * JOURNAL_BATCH_MAX + entries * 8192);
    k->entries = arena_zalloc(&k->mem, entries, sizeof *k->entries);
    return k->entries ? OK : ERR_NO_MEMORY;
}

static err pack_item(packer *k, const shard *s, const shard_item *item) {
    Kith__V1__Post copy;
    TRY(pack_post(k, item->post, &copy));
    if (!item->vector) return OK;
    str text = str_of(item->post->text);
    shard_vector v = {.id = str_of(item->post->id),
                      .text_hash = hash64(text.ptr, text.len, 0),
                      .vector = item->vector};
    return pack_vector(k, s->spaces, &v);
}

/* The authors' keys, made where they are missing, all with one sync. */
static err owners_of(packer *k, const shard_item *items, size_t n, uint32_t **out) {
    str *users = arena_alloc(&k->mem, n * sizeof *users);
    *out = arena_zalloc(&k->mem, n, sizeof **out);
    if (!users || !*out) return ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) users[i] = str_of(items[i].post->author);
    return k->keys ? keyring_entries(k->keys, users, n, *out) : OK;
}

static err pack_items(packer *k, const shard *s, const shard_item *items, size_t n) {
    uint32_t *owners;
    TRY(owners_of(k, items, n, &owners));
    for (size_t i = 0; i < n; i++) {
        k->owner = owners[i];
        TRY(pack_item(k, s, &items[i]));
    }
    return OK;
}

err shard_put(shard *s, const shard_item *items, size_t n, uint64_t *lsn) {
    packer k;
    err rc = packer_init(&k, s, n * 2);
    if (rc == OK) rc = pack_items(&k, s, items, n);
    if (rc == ERR_NOT_FOUND) /* a key was destroyed a moment ago: an author was erased */
        rc = err_set(ERR_AGAIN, "an author is being erased; try again");
    uint64_t first;
    if (rc == OK) rc = journal_append(s->journal, k.entries, k.count, &first, lsn);
    arena_deinit(&k.mem);
    return rc;
}

/* Whose post it is; ERR_NOT_FOUND: the post is gone, or its author's key. */
static err owner_of(packer *k, shard *s, str id) {
    arena a;
    store_row row;
    if (!k->keys) return OK;
    arena_init(&a, 4 * PACK_MAX);
    store_reader *r = store_reader_get(s->store);
    err rc = store_get(r, id, &a, &row);
    store_reader_put(s->store, r);
    if (rc == OK) rc = keyring_find(k->keys, str_of(row.post->author), &k->owner);
    arena_deinit(&a);
    return rc;
}

static err pack_late(packer *k, space *sp, const shard_vector *v) {
    if (!v->vector) return pack_failed(k, sp, v);
    err rc = owner_of(k, sp->s, v->id);
    if (rc == OK) rc = pack_vector(k, sp, v);
    return rc == ERR_NOT_FOUND ? OK : rc; /* nobody wants the vector of a post that is gone */
}

err shard_put_vectors(shard *s, unsigned which, const shard_vector *v, size_t n) {
    packer k;
    KITH_ASSERT(which < s->space_count);
    uint64_t first, last = 0;
    err rc = packer_init(&k, s, n);
    for (size_t i = 0; rc == OK && i < n; i++) rc = pack_late(&k, &s->spaces[which], &v[i]);
    if (rc == OK && k.count) rc = journal_append(s->journal, k.entries, k.count, &first, &last);
    arena_deinit(&k.mem);
    /* The asker takes the next texts from the store, which must not show these again. */
    return rc == OK ? shard_wait(s, STR(""), last, WAIT_APPLIED, UINT64_MAX / 2000000u) : rc;
}

err shard_delete(shard *s, str id, uint64_t *lsn) {
    /* A post put a moment ago may not be applied yet: look when it is. */
    TRY(shard_wait(s, id, journal_head_lsn(s->journal), WAIT_APPLIED, DELETE_WAIT_MS));
    store_reader *r = store_reader_get(s->store);
    uint32_t doc;
    err rc = store_doc_of(r, id, &doc);
    store_reader_put(s->store, r);
    if (rc == ERR_NOT_FOUND) return err_set_field(rc, "id", "no post has this id");
    TRY(rc);
    journal_entry e = {.kind = JOURNAL_POST_DELETE, .key = id};
    uint64_t first;
    return journal_append(s->journal, &e, 1, &first, lsn);
}

err shard_note(shard *s, uint16_t kind, str key, str body, uint64_t *lsn) {
    KITH_ASSERT(kind != JOURNAL_POST_PUT && kind != JOURNAL_POST_DELETE &&
                kind != JOURNAL_VECTOR_PUT && kind != JOURNAL_VECTOR_FAILED);
    journal_entry e = {.kind = kind, .key = key, .body = body};
    uint64_t first;
    return journal_append(s->journal, &e, 1, &first, lsn);
}

/* ---- sameness ---- */

static bool same(const char *a, const char *b) {
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool same_post(const Kith__V1__Post *a, const Kith__V1__Post *b) {
    if (!same(a->text, b->text) || !same(a->author, b->author) || !same(a->reply_to, b->reply_to) ||
        !same(a->channel, b->channel) || !same(a->lang, b->lang) || !same(a->extra, b->extra) ||
        a->n_tags != b->n_tags)
        return false;
    for (size_t i = 0; i < a->n_tags; i++)
        if (!same(a->tags[i], b->tags[i])) return false;
    return !a->created_at || (b->created_at && a->created_at->seconds == b->created_at->seconds &&
                              a->created_at->nanos == b->created_at->nanos);
}

static bool same_vector(shard *s, const store_row *row, const float *vector) {
    uint32_t dim = s->o.dim, doc = row->doc;
    space *sp = s->spaces;
    mutex_lock(&sp->vec_writer);
    bool yes = doc < sp->vec_cap && sp->vec[doc].have && sp->vec[doc].have == row->text_hash;
    mutex_unlock(&sp->vec_writer);
    float norm = vec_dot_f32(vector, vector, dim);
    float *stored = yes && isfinite(norm) && norm > 0 ? mem_alloc(dim * sizeof *stored) : NULL;
    if (!stored) return false; /* out of memory too: putting it again is right, only slower */
    yes = hnsw_get(shard_vectors_begin(s), doc, stored) == OK;
    shard_vectors_end(s);
    yes = yes && vec_dot_f32(vector, stored, dim) >= SHARD_SAME_COSINE * sqrtf(norm);
    mem_free(stored);
    return yes;
}

bool shard_has_same(shard *s, const Kith__V1__Post *post, const float *vector, uint64_t *lsn) {
    arena a;
    arena_init(&a, 4 * PACK_MAX);
    store_row row;
    store_reader *r = store_reader_get(s->store);
    err rc = store_get(r, str_of(post->id), &a, &row);
    store_reader_put(s->store, r);
    bool yes = rc == OK && same_post(post, row.post) && (!vector || same_vector(s, &row, vector));
    if (yes) *lsn = row.post->lsn;
    arena_deinit(&a);
    return yes;
}
