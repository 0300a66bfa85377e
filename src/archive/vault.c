/* An archive that is open: its storage and its data key.
 *
 * archive.json is the one object in plain text:
 *     {"format":1,"journal":"<32 hex>","space":"...","key":"<144 hex, wrapped by the master key>","sum":"<64 hex>"}
 * sum is a keyed hash of the text before it, by the data key, and the text must be exactly what we would
 * write, so that no byte of it can change unseen. It is put with "no overwrite": of two that make an archive at
 * once, one finds the other's. One archive belongs to one journal for ever.
 */
#include "archive/archive_int.h"

#include "base/json.h"

enum { META_MAX = 4096 };
static const char META[] = "archive.json";

static err meta_text(const vault *v, const uint8_t wrapped[SEAL_WRAPPED], strbuf *b) {
    char id[2 * JOURNAL_ID_BYTES + 1], hex[2 * SEAL_WRAPPED + 1], sum[65];
    uint8_t k[SEAL_KEY], h[32];
    seal_hex(v->journal_id, JOURNAL_ID_BYTES, id);
    seal_hex(wrapped, SEAL_WRAPPED, hex);
    strbuf_addf(b, "{\"format\":1,\"journal\":\"%s\",\"space\":", id);
    strbuf_add_json(b, str_of(v->space));
    strbuf_addf(b, ",\"key\":\"%s\",\"sum\":\"", hex);
    if (b->rc != OK) return b->rc;
    seal_derive(v->key, b->ptr, k); /* keyed by the data key: only who has it can make this sum */
    seal_hash(str_from(k, sizeof k), h);
    seal_hex(h, sizeof h, sum);
    strbuf_addf(b, "%s\"}\n", sum);
    return b->rc;
}

static err make(vault *v, const vault_options *o) {
    uint8_t wrapped[SEAL_WRAPPED];
    strbuf b;
    strbuf_init(&b, META_MAX);
    memcpy(v->journal_id, o->journal_id, JOURNAL_ID_BYTES);
    size_t n = strlen(o->space);
    if (n >= sizeof v->space) return err_set(ERR_INVALID, "archive: the space's name is too long");
    memcpy(v->space, o->space, n + 1);
    seal_random(v->key, SEAL_KEY);
    seal_wrap(o->master, META, v->key, wrapped);
    err rc = meta_text(v, wrapped, &b);
    if (rc == OK) rc = object_put(v->store, META, strbuf_str(&b), OBJECT_NEW);
    strbuf_deinit(&b);
    return rc;
}

static err parse(vault *v, str text, const vault_options *o) {
    yyjson_doc *doc;
    uint8_t wrapped[SEAL_WRAPPED];
    err rc = json_parse(text, &doc);
    if (rc == ERR_NO_MEMORY) return rc;
    if (rc != OK)
        return err_set(ERR_CORRUPT, "archive %s: %s is damaged", object_name(v->store), META);
    yyjson_val *root = yyjson_doc_get_root(doc), *space = yyjson_obj_get(root, "space");
    bool good =
        yyjson_is_str(space) && yyjson_get_len(space) < sizeof v->space &&
        seal_unhex(json_str(yyjson_obj_get(root, "journal")), v->journal_id, JOURNAL_ID_BYTES) &&
        seal_unhex(json_str(yyjson_obj_get(root, "key")), wrapped, SEAL_WRAPPED);
    if (good) memcpy(v->space, yyjson_get_str(space), yyjson_get_len(space) + 1);
    uint64_t format = yyjson_get_uint(yyjson_obj_get(root, "format"));
    yyjson_doc_free(doc);
    if (good && format > 1)
        return err_set(ERR_UNSUPPORTED, "archive %s: made by a newer kith (format %llu)",
                       object_name(v->store), (unsigned long long)format);
    if (good) TRY(seal_unwrap(o->master, META, wrapped, v->key));
    strbuf b;
    strbuf_init(&b, META_MAX);
    rc = good ? meta_text(v, wrapped, &b) : OK;
    good = good && rc == OK && str_eq(strbuf_str(&b), text);
    strbuf_deinit(&b);
    if (rc == ERR_NO_MEMORY) return rc;
    return good ? OK
                : err_set(ERR_CORRUPT, "archive %s: %s is damaged", object_name(v->store), META);
}

static err load(vault *v, const vault_options *o) {
    uint8_t *p;
    size_t n;
    TRY(object_get(v->store, META, META_MAX, &p, &n));
    err rc = parse(v, str_from(p, n), o);
    mem_free(p);
    TRY(rc);
    if (!o->journal_id || memcmp(o->journal_id, v->journal_id, JOURNAL_ID_BYTES) == 0) return OK;
    return err_set(ERR_EXISTS,
                   "archive %s: it belongs to another journal; name another prefix for this one",
                   object_name(v->store));
}

err vault_open(const vault_options *o, vault *out) {
    memset(out, 0, sizeof *out);
    TRY(object_open(o->url, &o->object, &out->store));
    err rc = load(out, o);
    if (rc == ERR_NOT_FOUND && o->journal_id) {
        rc = make(out, o);
        if (rc == ERR_EXISTS) rc = load(out, o);
    } else if (rc == ERR_NOT_FOUND) {
        rc = err_set(ERR_NOT_FOUND, "%s: there is no archive here", object_name(out->store));
    }
    if (rc != OK) vault_close(out);
    return rc;
}

void vault_close(vault *v) {
    object_close(v->store);
    memset(v, 0, sizeof *v);
}

err vault_put(vault *v, const char *name, str raw, object_mode mode) {
    strbuf b;
    strbuf_init(&b, OBJECT_MAX);
    err rc = codec_pack(v->key, name, raw, &b);
    if (rc == OK) rc = object_put(v->store, name, strbuf_str(&b), mode);
    if (rc == OK) v->bytes += b.len;
    strbuf_deinit(&b);
    return rc;
}

err vault_get(vault *v, const char *name, uint8_t **out, size_t *n) {
    uint8_t *p;
    size_t len;
    *out = NULL;
    TRY(object_get(v->store, name, OBJECT_MAX, &p, &len));
    err rc = codec_unpack(v->key, name, str_from(p, len), out, n);
    mem_free(p);
    return rc;
}

static err add_name(void *ctx, const object_info *o) {
    name_list *l = ctx;
    void *p = l->items;
    err rc = mem_grow(&p, &l->cap, l->count + 1, sizeof *l->items, (size_t)1 << 26);
    l->items = p;
    TRY(rc);
    l->items[l->count] = arena_dup(&l->mem, str_skip(str_of(o->key), l->skip));
    if (!l->items[l->count]) return ERR_NO_MEMORY;
    l->count++;
    l->bytes += o->size;
    return OK;
}

err vault_names(vault *v, const char *prefix, name_list *out) {
    memset(out, 0, sizeof *out);
    arena_init(&out->mem, GIB);
    out->skip = strlen(prefix);
    err rc = object_list(v->store, prefix, add_name, out);
    if (rc != OK) name_list_deinit(out);
    return rc;
}

void name_list_deinit(name_list *l) {
    mem_free(l->items);
    arena_deinit(&l->mem);
    memset(l, 0, sizeof *l);
}
