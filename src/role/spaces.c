/* DIR/spaces.json:
 *
 *   {"use":"local/m/int8/384/cosine",
 *    "spaces":[{"space":"...","provider":"local","model":"DIR","precision":"int8","embed_dim":0, ...}]}
 *
 * Members are the flags of `kith serve` with _ for -. The file is written whole and renamed into its place; unknown
 * members are refused, so that a slip of the hand is seen.
 */
#include "role/spaces.h"

#include "base/json.h"

#include <stdio.h>

enum { PATH_BYTES = 4096, FILE_MAX = 64 * KIB };

typedef struct word {
    const char *key;
    size_t at; /* in embed_flags */
} word;
static const word words[] = {{"provider", offsetof(embed_flags, kind)},
                             {"model", offsetof(embed_flags, model_dir)},
                             {"precision", offsetof(embed_flags, precision)},
                             {"embed_url", offsetof(embed_flags, url)},
                             {"embed_model", offsetof(embed_flags, model)},
                             {"embed_key_file", offsetof(embed_flags, key_file)},
                             {"embed_ca", offsetof(embed_flags, ca_file)},
                             {"vertex_project", offsetof(embed_flags, project)},
                             {"vertex_location", offsetof(embed_flags, location)},
                             {"vertex_credentials", offsetof(embed_flags, credentials)}};

static const char **word_of(embed_flags *f, const word *w) {
    return (const char **)(void *)((char *)f + w->at);
}

static void path_of(const char *dir, char path[PATH_BYTES]) {
    int n = snprintf(path, PATH_BYTES, "%s/spaces.json", dir);
    KITH_ASSERT(n > 0);
}

/* ---- reading ---- */

static err read_text(spaces *f, const char *key, yyjson_val *v, const char **out) {
    if (!yyjson_is_str(v)) return err_set(ERR_INVALID, "spaces.json: %s: expected text", key);
    *out = arena_dup(&f->mem, json_str(v));
    return *out ? OK : ERR_NO_MEMORY;
}

static err read_member(spaces *f, kept_space *k, const char *key, yyjson_val *v) {
    if (strcmp(key, "space") == 0) return read_text(f, key, v, &k->name);
    if (strcmp(key, "embed_dim") == 0) {
        k->flags.dim = yyjson_get_sint(v);
        return yyjson_is_int(v) ? OK : err_set(ERR_INVALID, "spaces.json: embed_dim: a number");
    }
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strcmp(key, words[i].key) == 0)
            return read_text(f, key, v, word_of(&k->flags, &words[i]));
    return err_set(ERR_INVALID, "spaces.json: no member '%s' is known", key);
}

static err read_space(spaces *f, yyjson_val *entry) {
    kept_space k = {.flags = EMBED_FLAGS_INIT};
    size_t i, n;
    yyjson_val *key, *v;
    yyjson_obj_foreach(entry, i, n, key, v) TRY(read_member(f, &k, yyjson_get_str(key), v));
    if (!k.name || !k.name[0]) return err_set(ERR_INVALID, "spaces.json: an entry without 'space'");
    return spaces_add(f, k.name, &k.flags);
}

static err read_file(spaces *f, str text) {
    yyjson_doc *doc;
    size_t i, n;
    yyjson_val *entry;
    TRY(json_parse(text, &doc));
    yyjson_val *root = yyjson_doc_get_root(doc), *use = yyjson_obj_get(root, "use");
    err rc = use ? read_text(f, "use", use, &f->use) : OK;
    yyjson_arr_foreach(yyjson_obj_get(root, "spaces"), i, n, entry) if (rc == OK) rc =
        read_space(f, entry);
    yyjson_doc_free(doc);
    return rc;
}

err spaces_load(const char *dir, spaces **out) {
    char path[PATH_BYTES];
    uint8_t *text = NULL;
    size_t n = 0;
    *out = NULL;
    spaces *f = mem_zalloc(1, sizeof *f);
    if (!f) return ERR_NO_MEMORY;
    arena_init(&f->mem, 2 * FILE_MAX);
    path_of(dir, path);
    err rc = file_read_all(fs_real(), path, FILE_MAX, &text, &n);
    if (rc == OK) rc = read_file(f, str_from(text, n));
    mem_free(text);
    if (rc == OK || rc == ERR_NOT_FOUND)
        *out = f;
    else
        spaces_free(f);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

void spaces_free(spaces *f) {
    if (!f) return;
    arena_deinit(&f->mem);
    mem_free(f);
}

/* ---- writing ---- */

static void write_space(strbuf *b, const kept_space *k) {
    embed_flags flags = k->flags;
    strbuf_addz(b, "{\"space\":");
    strbuf_add_json(b, str_of(k->name));
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        const char *z = *word_of(&flags, &words[i]);
        if (!z || !z[0]) continue;
        strbuf_addf(b, ",\"%s\":", words[i].key);
        strbuf_add_json(b, str_of(z));
    }
    if (flags.dim) strbuf_addf(b, ",\"embed_dim\":%lld", (long long)flags.dim);
    strbuf_addz(b, "}");
}

err spaces_save(const char *dir, const spaces *f) {
    char path[PATH_BYTES];
    strbuf b;
    strbuf_init(&b, FILE_MAX);
    strbuf_addz(&b, "{");
    if (f->use) {
        strbuf_addz(&b, "\"use\":");
        strbuf_add_json(&b, str_of(f->use));
        strbuf_addz(&b, ",");
    }
    strbuf_addz(&b, "\"spaces\":[");
    for (unsigned i = 0; i < f->count; i++) {
        strbuf_addz(&b, i ? ",\n  " : "\n  ");
        write_space(&b, &f->items[i]);
    }
    strbuf_addz(&b, "]}\n");
    path_of(dir, path);
    err rc = b.rc == OK ? file_write_atomic(fs_real(), path, b.ptr, b.len) : b.rc;
    strbuf_deinit(&b);
    return rc;
}

/* ---- the list ---- */

kept_space *spaces_find(spaces *f, const char *name) {
    for (unsigned i = 0; i < f->count; i++)
        if (strcmp(f->items[i].name, name) == 0) return &f->items[i];
    return NULL;
}

err spaces_add(spaces *f, const char *name, const embed_flags *flags) {
    if (spaces_find(f, name)) return err_set(ERR_INVALID, "space '%s' is there already", name);
    if (f->count == SHARD_SPACES_MAX)
        return err_set(ERR_TOO_LARGE, "a directory keeps at most %d spaces", SHARD_SPACES_MAX);
    f->items[f->count++] = (kept_space){name, *flags};
    return OK;
}

void spaces_remove(spaces *f, const char *name) {
    kept_space *k = spaces_find(f, name);
    if (!k) return;
    unsigned at = (unsigned)(k - f->items);
    memmove(k, k + 1, (f->count - at - 1) * sizeof *k);
    f->count--;
}
