/* Erasing and exporting a user, and asking for a backup. Each leaves an audit record in the journal; the erasure's is
 * written with the erasure, as one append.
 *
 * A backup is asked for by that audit record: the archive is a fold and sees it there, so this module needs to know
 * nothing of archives.
 */
#include "api/api_int.h"

#include <kith/v1/ops.pb-c.h>

enum { EXPORT_POSTS_MAX = 100000 };

static str who_of(const char *who) {
    return str_of(who && who[0] ? who : "api");
}

err api_erase_user(api_call *c, const void *request, void **response) {
    static const char *const places[] = {"journal",  "store",   "words", "vectors",
                                         "snapshot", "archive", "keys"};
    const Kith__V1__EraseUserRequest *r = request;
    Kith__V1__EraseUserResponse *out = api_new(c, &kith__v1__erase_user_response__descriptor);
    shard_erasure e;
    TRY(api_check_id(str_of(r->id), "id"));
    if (!out) return ERR_NO_MEMORY;
    TRY(shard_erase_user(c->shard, str_of(r->id), who_of(r->who), &e));
    out->user = r->id;
    out->lsn = c->lsn = e.lsn;
    out->erased_at_ms = e.time_ms;
    out->posts = (int64_t)e.posts;
    out->signature = api_text(c, str_of(e.signature));
    out->scrubbed = arena_zalloc(c->mem, COUNT_OF(places), sizeof *out->scrubbed);
    if (!out->signature || !out->scrubbed) return ERR_NO_MEMORY;
    for (size_t i = 0; i < COUNT_OF(places); i++)
        out->scrubbed[out->n_scrubbed++] = (char *)(uintptr_t)places[i];
    *response = out;
    return OK;
}

/* ---- export ---- */

typedef struct exporting {
    api_call *c;
    Kith__V1__ExportUserResponse *out;
    size_t cap;
} exporting;

static err room(exporting *x) {
    if (x->out->n_posts < x->cap) return OK;
    if (x->cap >= EXPORT_POSTS_MAX)
        return err_set(ERR_TOO_LARGE, "more than %d posts: export from a copy of the data",
                       EXPORT_POSTS_MAX);
    size_t cap = x->cap ? x->cap * 2 : 64;
    Kith__V1__ExportedPost **more = arena_alloc(x->c->mem, cap * sizeof *more);
    if (!more) return ERR_NO_MEMORY;
    if (x->cap) memcpy(more, x->out->posts, x->cap * sizeof *more);
    x->out->posts = more;
    x->cap = cap;
    return OK;
}

static err copy_vector(api_call *c, unsigned space, const float *from, float **to) {
    size_t bytes = shard_space_dim(c->shard, space) * sizeof **to;
    *to = arena_alloc(c->mem, bytes);
    if (!*to) return ERR_NO_MEMORY;
    memcpy(*to, from, bytes);
    return OK;
}

/* Its vectors in the spaces beside the first. */
static err export_more(api_call *c, const float *const vectors[SHARD_SPACES_MAX],
                       Kith__V1__ExportedPost *p) {
    unsigned count = shard_space_count(c->shard);
    if (count < 2) return OK;
    p->more = arena_zalloc(c->mem, count, sizeof *p->more);
    if (!p->more) return ERR_NO_MEMORY;
    for (unsigned i = 1; i < count; i++) {
        if (!vectors[i]) continue;
        Kith__V1__SpaceVector *v = api_new(c, &kith__v1__space_vector__descriptor);
        if (!v) return ERR_NO_MEMORY;
        v->space = api_text(c, str_of(shard_space_name(c->shard, i)));
        if (!v->space) return ERR_NO_MEMORY;
        TRY(copy_vector(c, i, vectors[i], &v->values));
        v->n_values = shard_space_dim(c->shard, i);
        p->more[p->n_more++] = v;
    }
    return OK;
}

/* The row lives during the visit only: it is packed and unpacked into the call's arena. */
static err export_post(void *ctx, const store_row *row,
                       const float *const vectors[SHARD_SPACES_MAX]) {
    exporting *x = ctx;
    TRY(room(x));
    Kith__V1__ExportedPost *p = api_new(x->c, &kith__v1__exported_post__descriptor);
    size_t n = kith__v1__post__get_packed_size(row->post);
    uint8_t *bytes = arena_alloc(x->c->mem, n + 1);
    if (!p || !bytes) return ERR_NO_MEMORY;
    kith__v1__post__pack(row->post, bytes);
    p->post = kith__v1__post__unpack(ARENA_PB(x->c->mem), n, bytes);
    if (!p->post) return ERR_NO_MEMORY;
    if (vectors[0]) {
        TRY(copy_vector(x->c, 0, vectors[0], &p->vector));
        p->n_vector = shard_space_dim(x->c->shard, 0);
    }
    TRY(export_more(x->c, vectors, p));
    x->out->posts[x->out->n_posts++] = p;
    return OK;
}

static err audit_user(api_call *c, const char *what, const char *who, const char *user) {
    strbuf b;
    uint64_t lsn;
    strbuf_init(&b, 4096);
    strbuf_addz(&b, "\"user\":");
    strbuf_add_json(&b, str_of(user));
    err rc =
        b.rc == OK ? shard_audit(c->shard, what, who_of(who), "ok", strbuf_str(&b), &lsn) : b.rc;
    strbuf_deinit(&b);
    return rc;
}

err api_export_user(api_call *c, const void *request, void **response) {
    const Kith__V1__ExportUserRequest *r = request;
    exporting x = {.c = c, .out = api_new(c, &kith__v1__export_user_response__descriptor)};
    TRY(api_check_id(str_of(r->id), "id"));
    if (!x.out) return ERR_NO_MEMORY;
    x.out->user = r->id;
    x.out->space = api_text(c, str_of(shard_space(c->shard)));
    if (!x.out->space) return ERR_NO_MEMORY;
    TRY(shard_export_user(c->shard, str_of(r->id), export_post, &x));
    *response = x.out;
    return audit_user(c, "user.export", r->who, r->id);
}

err api_request_backup(api_call *c, const void *request, void **response) {
    const Kith__V1__RequestBackupRequest *r = request;
    Kith__V1__RequestBackupResponse *out =
        api_new(c, &kith__v1__request_backup_response__descriptor);
    if (!out) return ERR_NO_MEMORY;
    TRY(shard_audit(c->shard, "backup.request", who_of(r->who), "ok", STR(""), &out->lsn));
    c->lsn = out->lsn;
    *response = out;
    return OK;
}
