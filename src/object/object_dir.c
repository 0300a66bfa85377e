/* A directory as an object store: a key is a path below it. An object is written beside its name and
 * renamed, so it is whole or not there; leftovers end in ".tmp" and are not listed. Directories are
 * told from files by looking into them: a name that can be listed is a directory.
 */
#include "object/object_int.h"

enum { PATH_BYTES = 4096, DEPTH_MAX = 8 };

typedef struct dir_store {
    object_store base;
    char *root;
} dir_store;

static err path_of(const dir_store *d, const char *key, char out[PATH_BYTES]) {
    size_t a = strlen(d->root), b = strlen(key);
    if (a + b + 8 > PATH_BYTES) return err_set(ERR_INVALID, "%s/%s: path too long", d->root, key);
    memcpy(out, d->root, a);
    out[a] = '/';
    memcpy(out + a + 1, key, b + 1);
    return OK;
}

/* Makes the directories on the way to `path`. */
static err make_parents(const dir_store *d, char *path) {
    for (char *p = path + strlen(d->root) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        err rc = fs_mkdir(fs_real(), path);
        *p = '/';
        TRY(rc);
    }
    return OK;
}

static err dir_put(object_store *s, const char *key, str bytes, object_mode mode) {
    const dir_store *d = (dir_store *)s;
    char path[PATH_BYTES];
    TRY(path_of(d, key, path));
    TRY(make_parents(d, path));
    if (mode == OBJECT_NEW && fs_exists(fs_real(), path))
        return err_set(ERR_EXISTS, "%s: it is there already", path);
    return file_write_atomic(fs_real(), path, bytes.ptr, bytes.len);
}

static err dir_get(object_store *s, const char *key, size_t max, uint8_t **out, size_t *n) {
    char path[PATH_BYTES];
    TRY(path_of((dir_store *)s, key, path));
    return file_read_all(fs_real(), path, max, out, n);
}

static err dir_del(object_store *s, const char *key) {
    char path[PATH_BYTES];
    TRY(path_of((dir_store *)s, key, path));
    return fs_unlink(fs_real(), path);
}

/* ---- listing: names collected, directory by directory, then sorted by being visited in order ---- */

typedef struct walk {
    const dir_store *d;
    str prefix;
    err (*visit)(void *ctx, const object_info *o);
    void *ctx;
    arena mem;
    char **names; /* a stack of keys yet to be looked at; the next one on top */
    size_t count, cap;
    const char *at; /* the directory in hand, "" or "a/b" */
} walk;

static err push_name(void *ctx, const char *name) {
    walk *w = ctx;
    if (str_ends(str_of(name), STR(".tmp")) || name[0] == '.') return OK;
    void *p = w->names;
    TRY(mem_grow(&p, &w->cap, w->count + 1, sizeof *w->names, (size_t)1 << 26));
    w->names = p;
    str key =
        w->at[0] ? arena_printf(&w->mem, "%s/%s", w->at, name) : arena_printf(&w->mem, "%s", name);
    if (!key.ptr) return ERR_NO_MEMORY;
    w->names[w->count++] = (char *)(uintptr_t)key.ptr;
    return OK;
}

static err push_dir(walk *w, const char *key, const char *path) {
    w->at = key;
    size_t base = w->count; /* where its names begin */
    TRY(fs_list(fs_real(), path, push_name, w));
    for (size_t i = base, j = w->count; i + 1 < j; i++) { /* the first on top */
        char *t = w->names[i];
        w->names[i] = w->names[--j];
        w->names[j] = t;
    }
    return OK;
}

static bool may_hold(str prefix, str key) {
    size_t n = MIN(prefix.len, key.len);
    return memcmp(prefix.ptr, key.ptr, n) == 0;
}

static err look(walk *w, const char *key) {
    char path[PATH_BYTES];
    if (!may_hold(w->prefix, str_of(key))) return OK;
    TRY(path_of(w->d, key, path));
    err listed = push_dir(w, key, path);
    if (listed != ERR_NOT_FOUND) return listed; /* a file is "not a directory" */
    if (!str_starts(str_of(key), w->prefix)) return OK;
    file *f;
    object_info o = {.key = key};
    err rc = file_open(fs_real(), path, FILE_READ, &f);
    if (rc == ERR_NOT_FOUND) return OK; /* deleted meanwhile */
    TRY(rc);
    rc = file_size(f, &o.size);
    file_close(f);
    return rc == OK ? w->visit(w->ctx, &o) : rc;
}

static err dir_list(object_store *s, const char *prefix,
                    err (*visit)(void *ctx, const object_info *o), void *ctx) {
    walk w = {.d = (dir_store *)s, .prefix = str_of(prefix), .visit = visit, .ctx = ctx, .at = ""};
    arena_init(&w.mem, GIB);
    err rc = push_dir(&w, "", w.d->root);
    while (rc == OK && w.count) rc = look(&w, w.names[--w.count]);
    mem_free(w.names);
    arena_deinit(&w.mem);
    return rc;
}

static void dir_close(object_store *s) {
    dir_store *d = (dir_store *)s;
    mem_free(d->root);
    mem_free(d);
}

err object_dir_open(const char *path, object_store **out) {
    static const object_ops ops = {dir_put, dir_get, dir_del, dir_list, dir_close};
    TRY(fs_mkdir(fs_real(), path));
    dir_store *d = mem_zalloc(1, sizeof *d);
    if (!d) return ERR_NO_MEMORY;
    d->base.ops = &ops;
    d->root = mem_dup(path, strlen(path) + 1);
    if (!d->root) {
        mem_free(d);
        return ERR_NO_MEMORY;
    }
    *out = &d->base;
    return OK;
}
