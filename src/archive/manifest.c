/* Manifests: what a snapshot consists of, as JSON, signed and sealed.
 *
 *     {"format":1,"id":"...","version":"0.1.0","time_ms":n,"lsn":n,"store_lsn":n,"index_lsn":n,
 *      "journal":{"id":"hex","lsn":n,"hash":"hex"},
 *      "files":[{"name":"store.db","bytes":n,"chunks":n,"hash":"hex"}],"signature":"hex"}
 * The signature (Ed25519, a key derived from the archive's) is over the text up to `,"signature"`. The journal's
 * chain is anchored: number and hash of a record, which verify compares with the parts.
 * A snapshot exists when its manifest does: it is put last and deleted first.
 */
#include "archive/archive_int.h"

#include "base/json.h"
#include <stdio.h>

enum { TEXT_MAX = 64 * 1024 };

void chunk_name(const char *id, const char *name, uint32_t chunk, char out[NAME_BYTES]) {
    snprintf(out, NAME_BYTES, "snap/%s/%s.%05u", id, name, chunk);
}

static void add_files(const manifest *m, strbuf *b) {
    for (uint32_t i = 0; i < m->file_count; i++) {
        const manifest_file *f = &m->files[i];
        char hex[65];
        seal_hex(f->hash, sizeof f->hash, hex);
        strbuf_addf(b, "%s{\"name\":\"%s\",\"bytes\":%llu,\"chunks\":%u,\"hash\":\"%s\"}",
                    i ? "," : "", f->name, (unsigned long long)f->bytes, f->chunks, hex);
    }
}

err manifest_put(vault *v, const manifest *m) {
    char name[NAME_BYTES], id[33], hash[65], sig[2 * SEAL_SIGNATURE + 1];
    uint8_t signature[SEAL_SIGNATURE];
    strbuf b;
    strbuf_init(&b, TEXT_MAX);
    seal_hex(v->journal_id, JOURNAL_ID_BYTES, id);
    seal_hex(m->anchor.hash, JOURNAL_HASH_BYTES, hash);
    strbuf_addf(&b, "{\"format\":1,\"id\":\"%s\",\"version\":\"%s\",\"time_ms\":%lld,", m->id,
                m->version, (long long)m->time_ms);
    strbuf_addf(&b, "\"lsn\":%llu,\"store_lsn\":%llu,\"index_lsn\":%llu,",
                (unsigned long long)m->lsn, (unsigned long long)m->store_lsn,
                (unsigned long long)m->index_lsn);
    strbuf_addf(&b, "\"journal\":{\"id\":\"%s\",\"lsn\":%llu,\"hash\":\"%s\"},\"files\":[", id,
                (unsigned long long)m->anchor.lsn, hash);
    add_files(m, &b);
    strbuf_addc(&b, ']');
    seal_sign(v->key, strbuf_str(&b), signature);
    seal_hex(signature, sizeof signature, sig);
    strbuf_addf(&b, ",\"signature\":\"%s\"}", sig);
    snprintf(name, sizeof name, "manifests/%s", m->id);
    err rc = b.rc == OK ? vault_put(v, name, strbuf_str(&b), OBJECT_NEW) : b.rc;
    strbuf_deinit(&b);
    return rc;
}

static uint64_t number(yyjson_val *o, const char *key) {
    return yyjson_get_uint(yyjson_obj_get(o, key));
}

static bool text_to(yyjson_val *o, const char *key, char *to, size_t size) {
    str s = json_str(yyjson_obj_get(o, key));
    if (!s.len || s.len >= size || memchr(s.ptr, '/', s.len)) return false;
    memcpy(to, s.ptr, s.len);
    to[s.len] = 0;
    return true;
}

static bool parse_files(yyjson_val *root, manifest *m) {
    size_t i, n;
    yyjson_val *o;
    yyjson_arr_foreach(yyjson_obj_get(root, "files"), i, n, o) {
        if (i >= MANIFEST_FILES) return false;
        manifest_file *f = &m->files[m->file_count++];
        f->bytes = number(o, "bytes");
        f->chunks = (uint32_t)number(o, "chunks");
        if (!text_to(o, "name", f->name, sizeof f->name) ||
            !seal_unhex(json_str(yyjson_obj_get(o, "hash")), f->hash, sizeof f->hash))
            return false;
    }
    return true;
}

static bool parse(yyjson_val *root, manifest *m) {
    yyjson_val *j = yyjson_obj_get(root, "journal");
    m->lsn = number(root, "lsn");
    m->store_lsn = number(root, "store_lsn");
    m->index_lsn = number(root, "index_lsn");
    m->time_ms = yyjson_get_sint(yyjson_obj_get(root, "time_ms"));
    m->anchor.lsn = number(j, "lsn");
    return number(root, "format") == 1 && text_to(root, "id", m->id, sizeof m->id) &&
           text_to(root, "version", m->version, sizeof m->version) &&
           seal_unhex(json_str(yyjson_obj_get(j, "hash")), m->anchor.hash, JOURNAL_HASH_BYTES) &&
           parse_files(root, m);
}

static bool signature_good(const vault *v, str text, yyjson_val *root) {
    uint8_t sig[SEAL_SIGNATURE];
    ptrdiff_t at = str_find(text, STR(",\"signature\""));
    return at > 0 && seal_unhex(json_str(yyjson_obj_get(root, "signature")), sig, sizeof sig) &&
           seal_signed(v->key, str_from(text.ptr, (size_t)at), sig);
}

err manifest_get(vault *v, const char *id, manifest *out) {
    char name[NAME_BYTES];
    uint8_t *p;
    size_t n;
    yyjson_doc *doc = NULL;
    memset(out, 0, sizeof *out);
    snprintf(name, sizeof name, "manifests/%s", id);
    TRY(vault_get(v, name, &p, &n));
    str text = str_from(p, n);
    err rc = json_parse(text, &doc);
    bool good = rc == OK && parse(yyjson_doc_get_root(doc), out) &&
                signature_good(v, text, yyjson_doc_get_root(doc)) && strcmp(out->id, id) == 0;
    yyjson_doc_free(doc);
    mem_free(p);
    if (rc == ERR_NO_MEMORY) return rc;
    return good ? OK
                : err_set(ERR_CORRUPT, "archive object %s: not a manifest that we signed", name);
}

err manifest_delete(vault *v, const char *id) {
    char name[NAME_BYTES], prefix[NAME_BYTES];
    name_list l;
    snprintf(name, sizeof name, "manifests/%s", id);
    TRY(object_delete(v->store, name));
    snprintf(prefix, sizeof prefix, "snap/%s/", id);
    TRY(vault_names(v, prefix, &l));
    err rc = OK;
    for (size_t i = 0; rc == OK && i < l.count; i++) {
        snprintf(name, sizeof name, "%.80s%.40s", prefix, l.items[i]);
        rc = object_delete(v->store, name);
    }
    name_list_deinit(&l);
    return rc;
}
