/* The ledger of erasures: one object for each, put before the record of the erasure counts as archived and never
 * deleted. It names the user by the id that the app gave, which is all that is kept of them, because a restore must
 * know whom not to bring back.
 */
#include "archive/archive_int.h"

#include "base/json.h"
#include <kith/v1/record.pb-c.h>
#include <stdio.h>

err erasure_of(const journal_record *r, erasure *out) {
    arena a;
    memset(out, 0, sizeof *out);
    if (r->key.len > POST_NAME_MAX)
        return err_set(ERR_CORRUPT, "record %llu: a user's id that is too long",
                       (unsigned long long)r->lsn);
    arena_init(&a, MIB);
    Kith__V1__UserErase *m =
        kith__v1__user_erase__unpack(ARENA_PB(&a), r->body.len, (const uint8_t *)r->body.ptr);
    out->lsn = r->lsn;
    out->time = r->time;
    memcpy(out->user, r->key.ptr, r->key.len);
    if (m) {
        out->entry = m->key_entry;
        out->has_entry = m->has_key;
    }
    arena_deinit(&a);
    return m ? OK
             : err_set(ERR_NO_MEMORY, "record %llu: its erasure cannot be read now",
                       (unsigned long long)r->lsn);
}

static void object_of(uint64_t lsn, char out[NAME_BYTES]) {
    snprintf(out, NAME_BYTES, "erasures/%020llu", (unsigned long long)lsn);
}

err erasure_put(vault *v, const erasure *e) {
    char name[NAME_BYTES];
    strbuf b;
    strbuf_init(&b, 4096);
    object_of(e->lsn, name);
    strbuf_addf(&b,
                "{\"lsn\":%llu,\"time\":%llu,\"entry\":%lld,\"user\":", (unsigned long long)e->lsn,
                (unsigned long long)e->time, e->has_entry ? (long long)e->entry : -1);
    strbuf_add_json(&b, str_of(e->user));
    strbuf_addc(&b, '}');
    err rc = b.rc == OK ? vault_put(v, name, strbuf_str(&b), OBJECT_NEW) : b.rc;
    strbuf_deinit(&b);
    return rc == ERR_EXISTS ? OK : rc; /* the same, from before a crash */
}

static err read_one(vault *v, const char *tail, erasure *out) {
    char name[NAME_BYTES];
    uint8_t *p;
    size_t n;
    yyjson_doc *doc = NULL;
    snprintf(name, sizeof name, "erasures/%s", tail);
    TRY(vault_get(v, name, &p, &n));
    err rc = json_parse(str_from(p, n), &doc);
    yyjson_val *root = yyjson_doc_get_root(doc);
    str user = json_str(yyjson_obj_get(root, "user"));
    if (rc == ERR_NO_MEMORY) {
        mem_free(p);
        return rc;
    }
    if (rc != OK || user.len > POST_NAME_MAX) {
        rc = err_set(ERR_CORRUPT, "archive object %s: not an erasure", name);
    } else {
        int64_t entry = yyjson_get_sint(yyjson_obj_get(root, "entry"));
        *out = (erasure){.lsn = yyjson_get_uint(yyjson_obj_get(root, "lsn")),
                         .time = yyjson_get_uint(yyjson_obj_get(root, "time")),
                         .has_entry = entry >= 0,
                         .entry = entry >= 0 ? (uint32_t)entry : 0};
        memcpy(out->user, user.ptr, user.len);
    }
    yyjson_doc_free(doc);
    mem_free(p);
    return rc;
}

err erasure_list_read(vault *v, erasure_list *out) {
    name_list l;
    *out = (erasure_list){0};
    TRY(vault_names(v, "erasures/", &l));
    void *p = NULL;
    err rc = mem_grow(&p, &out->cap, l.count + 1, sizeof *out->items, (size_t)1 << 24);
    out->items = p;
    for (size_t i = 0; rc == OK && i < l.count; i++) {
        rc = read_one(v, l.items[i], &out->items[out->count]);
        if (rc == OK) out->count++;
    }
    name_list_deinit(&l);
    if (rc != OK) erasure_list_deinit(out);
    return rc;
}

void erasure_list_deinit(erasure_list *l) {
    mem_free(l->items);
    *l = (erasure_list){0};
}
