/* The simulated disk.
 *
 * A file has two images: `now`, which reads see, and `safe`, which a power cut leaves for
 * certain. Between syncs it also keeps which sectors were written and which sizes it went
 * through. A crash image is then drawn: a size out of those, and for each sector touched since
 * the sync either image. (A sector between two writes to it is not modelled: only its first and
 * its last state are kept.)
 *
 * Names are a list of bindings (path, file), again in two versions with the log of changes
 * between: a crash applies a prefix of the log of each directory, as journaling file systems do.
 * A file that has no durable name is not there after a crash, however often it was synced.
 *
 * All of it is small and linear: tests have tens of files of kilobytes, and thousands of crashes
 * a second matter more than large disks.
 */
#include "os/sim.h"
#include "os/fs_int.h"
#include "os/thread.h"

#define SIM_SECTOR     ((size_t)512)
#define SIM_FILE_MAX   (256 * MIB)
#define SIM_FILES_MAX  ((size_t)4096)
#define SIM_NAMES_MAX  ((size_t)4096)
#define SIM_CHANGE_MAX ((size_t)65536)

typedef struct image {
    uint8_t *p;
    size_t n, cap;
} image;

typedef struct inode {
    image now, safe;
    uint8_t *touched; /* one byte a sector, since the last sync */
    size_t touched_n, touched_cap;
    uint64_t *sizes; /* it had since the last sync, oldest first */
    size_t size_count, size_cap;
    bool locked;
    uint32_t opens;
} inode;

typedef struct binding {
    char *path;
    uint32_t node;
} binding;

/* A change of names: path now means node; NO_NODE: it is gone. */
#define NO_NODE UINT32_MAX
typedef struct change {
    char *path;
    char *gone; /* a path that goes in the same step (rename); or NULL */
    uint32_t node;
} change;

typedef struct names {
    binding *items;
    size_t count, cap;
} names;

typedef struct sim_fs {
    fs base;
    mutex mu; /* guards all below */
    inode **nodes;
    size_t node_count, node_cap;
    names now, safe;
    change *log;
    size_t log_count, log_cap;
    uint64_t syncs;
    arena text; /* all paths */
} sim_fs;

typedef struct sim_file {
    file base;
    sim_fs *owner;
    inode *node;
    bool has_lock, writable;
} sim_file;

static const fs_ops sim_ops;

/* --- images ---------------------------------------------------------------------------------- */

static err image_size(image *m, size_t n) {
    void *p = m->p;
    err rc = mem_grow(&p, &m->cap, n, 1, SIM_FILE_MAX);
    m->p = p;
    TRY(rc);
    if (n > m->n) memset(m->p + m->n, 0, n - m->n);
    m->n = n;
    return OK;
}

static err image_copy(image *to, const image *from) {
    TRY(image_size(to, from->n));
    if (from->n) memcpy(to->p, from->p, from->n);
    return OK;
}

static err node_touch(inode *d, size_t from, size_t to) {
    size_t last = (to + SIM_SECTOR - 1) / SIM_SECTOR;
    void *p = d->touched;
    err rc = mem_grow(&p, &d->touched_cap, last, 1, SIM_FILE_MAX / SIM_SECTOR + 1);
    d->touched = p;
    TRY(rc);
    if (last > d->touched_n) {
        memset(d->touched + d->touched_n, 0, last - d->touched_n);
        d->touched_n = last;
    }
    for (size_t i = from / SIM_SECTOR; i < last; i++) d->touched[i] = 1;
    return OK;
}

/* Bytes that a change of size uncovers or removes count as written. */
static err node_size(inode *d, size_t n) {
    void *p = d->sizes;
    err rc = mem_grow(&p, &d->size_cap, d->size_count + 1, sizeof *d->sizes, SIM_CHANGE_MAX);
    d->sizes = p;
    TRY(rc);
    TRY(node_touch(d, MIN(n, d->now.n), MAX(n, d->now.n)));
    TRY(image_size(&d->now, n));
    d->sizes[d->size_count++] = n;
    return OK;
}

static err node_sync(inode *d) {
    TRY(image_copy(&d->safe, &d->now));
    d->touched_n = 0;
    d->size_count = 0;
    return OK;
}

static void node_free(inode *d) {
    if (!d) return;
    mem_free(d->now.p);
    mem_free(d->safe.p);
    mem_free(d->touched);
    mem_free(d->sizes);
    mem_free(d);
}

static err node_new(sim_fs *s, uint32_t *out) {
    void *p = s->nodes;
    err rc = mem_grow(&p, &s->node_cap, s->node_count + 1, sizeof *s->nodes, SIM_FILES_MAX);
    s->nodes = p;
    TRY(rc);
    inode *d = mem_zalloc(1, sizeof *d);
    if (!d) return ERR_NO_MEMORY;
    *out = (uint32_t)s->node_count;
    s->nodes[s->node_count++] = d;
    return OK;
}

/* --- names ----------------------------------------------------------------------------------- */

static uint32_t names_get(const names *l, const char *path) {
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->items[i].path, path) == 0) return l->items[i].node;
    return NO_NODE;
}

static void names_remove(names *l, const char *path) {
    for (size_t i = 0; i < l->count; i++) {
        if (strcmp(l->items[i].path, path) != 0) continue;
        l->items[i] = l->items[--l->count];
        return;
    }
}

/* Paths live in the disk's arena, so they are shared, not copied. */
static err names_set(names *l, char *path, uint32_t node) {
    names_remove(l, path);
    if (node == NO_NODE) return OK;
    void *p = l->items;
    err rc = mem_grow(&p, &l->cap, l->count + 1, sizeof *l->items, SIM_NAMES_MAX);
    l->items = p;
    TRY(rc);
    l->items[l->count++] = (binding){path, node};
    return OK;
}

static err names_apply(names *l, const change *c) {
    if (c->gone) names_remove(l, c->gone);
    return names_set(l, c->path, c->node);
}

static err sim_change(sim_fs *s, const char *path, const char *gone, uint32_t node) {
    void *p = s->log;
    err rc = mem_grow(&p, &s->log_cap, s->log_count + 1, sizeof *s->log, SIM_CHANGE_MAX);
    s->log = p;
    TRY(rc);
    change c = {.path = arena_dup(&s->text, str_of(path)), .node = node};
    if (gone) c.gone = arena_dup(&s->text, str_of(gone));
    if (!c.path || (gone && !c.gone)) return ERR_NO_MEMORY;
    TRY(names_apply(&s->now, &c));
    s->log[s->log_count++] = c;
    return OK;
}

static bool in_dir(const char *path, str dir) {
    const char *slash = strrchr(path, '/');
    str own = slash ? str_from(path, (size_t)(slash - path)) : STR(".");
    return str_eq(own, dir);
}

/* --- calls ----------------------------------------------------------------------------------- */

static err open_locked(sim_fs *s, const char *path, unsigned flags, inode **out) {
    uint32_t i = names_get(&s->now, path);
    if (i == NO_NODE && !(flags & FILE_CREATE))
        return err_set(ERR_NOT_FOUND, "open %s: no such file", path);
    if (i != NO_NODE && (flags & FILE_EXCLUSIVE))
        return err_set(ERR_EXISTS, "open %s: it exists", path);
    if (i == NO_NODE) {
        TRY(node_new(s, &i));
        TRY(sim_change(s, path, NULL, i));
    }
    inode *d = s->nodes[i];
    if (flags & FILE_TRUNCATE) TRY(node_size(d, 0));
    *out = d;
    return OK;
}

static err sim_open(fs *disk, const char *path, unsigned flags, file **out) {
    sim_fs *s = (sim_fs *)disk;
    sim_file *f = mem_zalloc(1, sizeof *f);
    if (!f) return ERR_NO_MEMORY;
    *f = (sim_file){.base = {&sim_ops}, .owner = s, .writable = flags & FILE_WRITE};
    mutex_lock(&s->mu);
    err rc = open_locked(s, path, flags, &f->node);
    if (rc == OK) f->node->opens++;
    mutex_unlock(&s->mu);
    if (rc != OK) {
        mem_free(f);
        return rc;
    }
    *out = &f->base;
    return OK;
}

static void sim_close(file *base) {
    sim_file *f = (sim_file *)base;
    mutex_lock(&f->owner->mu);
    f->node->opens--;
    if (f->has_lock) f->node->locked = false;
    mutex_unlock(&f->owner->mu);
    mem_free(f);
}

static err sim_size(file *base, uint64_t *out) {
    sim_file *f = (sim_file *)base;
    mutex_lock(&f->owner->mu);
    *out = f->node->now.n;
    mutex_unlock(&f->owner->mu);
    return OK;
}

static err sim_pread(file *base, void *p, size_t n, uint64_t offset, size_t *got) {
    sim_file *f = (sim_file *)base;
    mutex_lock(&f->owner->mu);
    const image *m = &f->node->now;
    size_t left = offset < m->n ? m->n - (size_t)offset : 0;
    *got = MIN(n, left);
    if (*got) memcpy(p, m->p + offset, *got);
    mutex_unlock(&f->owner->mu);
    return OK;
}

static err write_locked(inode *d, const void *p, size_t n, uint64_t offset) {
    if (offset > SIM_FILE_MAX || n > SIM_FILE_MAX - offset)
        return err_set(ERR_NO_SPACE, "simulated files end at %zu bytes", SIM_FILE_MAX);
    size_t end = (size_t)offset + n;
    if (end > d->now.n) TRY(node_size(d, end));
    TRY(node_touch(d, (size_t)offset, end));
    memcpy(d->now.p + offset, p, n);
    return OK;
}

static err sim_pwrite(file *base, const void *p, size_t n, uint64_t offset) {
    sim_file *f = (sim_file *)base;
    if (!f->writable) return err_set(ERR_DENIED, "write: the file was opened for reading");
    mutex_lock(&f->owner->mu);
    err rc = write_locked(f->node, p, n, offset);
    mutex_unlock(&f->owner->mu);
    return rc;
}

static err sim_datasync(file *base) {
    sim_file *f = (sim_file *)base;
    mutex_lock(&f->owner->mu);
    f->owner->syncs++;
    err rc = node_sync(f->node);
    mutex_unlock(&f->owner->mu);
    return rc;
}

static err sim_truncate(file *base, uint64_t size) {
    sim_file *f = (sim_file *)base;
    if (size > SIM_FILE_MAX)
        return err_set(ERR_NO_SPACE, "simulated files end at %zu bytes", SIM_FILE_MAX);
    mutex_lock(&f->owner->mu);
    err rc = node_size(f->node, (size_t)size);
    mutex_unlock(&f->owner->mu);
    return rc;
}

static err sim_reserve(file *base, uint64_t size) {
    sim_file *f = (sim_file *)base;
    uint64_t now;
    TRY(sim_size(base, &now));
    return size > now ? sim_truncate(&f->base, size) : OK;
}

static err sim_lock(file *base) {
    sim_file *f = (sim_file *)base;
    mutex_lock(&f->owner->mu);
    bool taken = f->node->locked && !f->has_lock;
    if (!taken) f->node->locked = f->has_lock = true;
    mutex_unlock(&f->owner->mu);
    return taken ? err_set(ERR_AGAIN, "the file is held by another: stop it first") : OK;
}

static err sim_rename(fs *disk, const char *from, const char *to) {
    sim_fs *s = (sim_fs *)disk;
    mutex_lock(&s->mu);
    uint32_t i = names_get(&s->now, from);
    err rc = i == NO_NODE ? err_set(ERR_NOT_FOUND, "rename %s: no such file", from)
                          : sim_change(s, to, from, i);
    mutex_unlock(&s->mu);
    return rc;
}

static err sim_unlink(fs *disk, const char *path) {
    sim_fs *s = (sim_fs *)disk;
    mutex_lock(&s->mu);
    err rc = names_get(&s->now, path) == NO_NODE
                 ? err_set(ERR_NOT_FOUND, "remove %s: no such file", path)
                 : sim_change(s, path, NULL, NO_NODE);
    mutex_unlock(&s->mu);
    return rc;
}

static err sim_mkdir(fs *disk, const char *path) {
    (void)disk;
    (void)path;
    return OK;
}

static err sim_sync_dir(fs *disk, const char *path) {
    sim_fs *s = (sim_fs *)disk;
    mutex_lock(&s->mu);
    s->syncs++;
    size_t kept = 0;
    err rc = OK;
    for (size_t i = 0; i < s->log_count; i++) {
        if (rc == OK && in_dir(s->log[i].path, str_of(path))) {
            rc = names_apply(&s->safe, &s->log[i]);
        } else {
            s->log[kept++] = s->log[i];
        }
    }
    s->log_count = kept;
    mutex_unlock(&s->mu);
    return rc;
}

static bool sim_exists(fs *disk, const char *path) {
    sim_fs *s = (sim_fs *)disk;
    mutex_lock(&s->mu);
    bool found = names_get(&s->now, path) != NO_NODE;
    for (size_t i = 0; !found && i < s->now.count; i++)
        found = in_dir(s->now.items[i].path, str_of(path));
    mutex_unlock(&s->mu);
    return found;
}

/* The name in `dir` that follows `after` (NULL: the first), or NULL. */
static const char *next_name(sim_fs *s, const char *dir, const char *after) {
    const char *best = NULL;
    mutex_lock(&s->mu);
    for (size_t i = 0; i < s->now.count; i++) {
        const char *path = s->now.items[i].path;
        if (!in_dir(path, str_of(dir))) continue;
        const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
        if (after && strcmp(name, after) <= 0) continue;
        if (!best || strcmp(name, best) < 0) best = name;
    }
    mutex_unlock(&s->mu);
    return best; /* in the arena: valid while the disk is open */
}

static err sim_list(fs *disk, const char *path, err (*visit)(void *ctx, const char *name),
                    void *ctx) {
    const char *name = NULL;
    while ((name = next_name((sim_fs *)disk, path, name))) TRY(visit(ctx, name));
    return OK;
}

static const fs_ops sim_ops = {
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .pread = sim_pread,
    .pwrite = sim_pwrite,
    .datasync = sim_datasync,
    .truncate = sim_truncate,
    .reserve = sim_reserve,
    .lock = sim_lock,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .mkdir = sim_mkdir,
    .sync_dir = sim_sync_dir,
    .exists = sim_exists,
    .list = sim_list,
    .map = NULL,
};

/* --- power ----------------------------------------------------------------------------------- */

/* What the disk holds of one file: a size it had, and sector by sector old or new. */
static err node_crash(const inode *d, rng *r, inode *out) {
    uint32_t pick = rng_below(r, (uint32_t)d->size_count + 1);
    size_t n = pick ? (size_t)d->sizes[pick - 1] : d->safe.n;
    TRY(image_copy(&out->now, &d->safe));
    TRY(image_size(&out->now, n));
    /* One crash in four keeps nothing, one all, the others each sector by a coin of their own. */
    uint32_t mode = rng_below(r, 4), odds = 1 + rng_below(r, 7);
    for (size_t i = 0; i < d->touched_n; i++) {
        bool take = mode == 1 || (mode > 1 && rng_below(r, 8) < odds);
        size_t from = i * SIM_SECTOR;
        if (!d->touched[i] || !take || from >= n || from >= d->now.n) continue;
        memcpy(out->now.p + from, d->now.p + from, MIN(SIM_SECTOR, MIN(n, d->now.n) - from));
    }
    return node_sync(out);
}

static err node_clone(const inode *d, inode *out) {
    TRY(image_copy(&out->now, &d->now));
    return node_sync(out);
}

static err sim_clone_names(sim_fs *out, const names *from) {
    for (size_t i = 0; i < from->count; i++) {
        char *path = arena_dup(&out->text, str_of(from->items[i].path));
        if (!path) return ERR_NO_MEMORY;
        TRY(names_set(&out->now, path, from->items[i].node));
        TRY(names_set(&out->safe, path, from->items[i].node));
    }
    return OK;
}

/* The durable names and a prefix of the changes since; changes of one directory stay in order. */
static err crash_names(sim_fs *s, rng *r, names *out) {
    for (size_t i = 0; i < s->safe.count; i++)
        TRY(names_set(out, s->safe.items[i].path, s->safe.items[i].node));
    uint32_t kept = rng_below(r, (uint32_t)s->log_count + 1);
    for (uint32_t i = 0; i < kept; i++) TRY(names_apply(out, &s->log[i]));
    return OK;
}

static err sim_clone(sim_fs *s, rng *r, sim_fs *out) {
    for (size_t i = 0; i < s->node_count; i++) {
        uint32_t node;
        TRY(node_new(out, &node));
        inode *d = out->nodes[node];
        TRY(r ? node_crash(s->nodes[i], r, d) : node_clone(s->nodes[i], d));
    }
    if (!r) return sim_clone_names(out, &s->now);
    names n = {0};
    err rc = crash_names(s, r, &n);
    if (rc == OK) rc = sim_clone_names(out, &n);
    mem_free(n.items);
    return rc;
}

static err sim_after(fs *disk, rng *r, fs **out) {
    sim_fs *s = (sim_fs *)disk;
    KITH_ASSERT(s->base.ops == &sim_ops);
    TRY(fs_sim_open(out));
    mutex_lock(&s->mu);
    err rc = sim_clone(s, r, (sim_fs *)*out);
    mutex_unlock(&s->mu);
    if (rc == OK) return OK;
    fs_sim_close(*out);
    *out = NULL;
    return rc;
}

err fs_sim_crash(fs *sim, rng *r, fs **out) {
    return sim_after(sim, r, out);
}
err fs_sim_copy(fs *sim, fs **out) {
    return sim_after(sim, NULL, out);
}

err fs_sim_open(fs **out) {
    *out = NULL;
    sim_fs *s = mem_zalloc(1, sizeof *s);
    if (!s) return ERR_NO_MEMORY;
    s->base.ops = &sim_ops;
    arena_init(&s->text, 64 * MIB);
    err rc = mutex_init(&s->mu);
    if (rc != OK) {
        mem_free(s);
        return rc;
    }
    *out = &s->base;
    return OK;
}

void fs_sim_close(fs *sim) {
    sim_fs *s = (sim_fs *)sim;
    if (!s) return;
    for (size_t i = 0; i < s->node_count; i++) {
        KITH_ASSERT(s->nodes[i]->opens == 0);
        node_free(s->nodes[i]);
    }
    mem_free(s->nodes);
    mem_free(s->now.items);
    mem_free(s->safe.items);
    mem_free(s->log);
    arena_deinit(&s->text);
    mutex_deinit(&s->mu);
    mem_free(s);
}

uint64_t fs_sim_syncs(fs *sim) {
    sim_fs *s = (sim_fs *)sim;
    mutex_lock(&s->mu);
    uint64_t n = s->syncs;
    mutex_unlock(&s->mu);
    return n;
}

err fs_sim_put(fs *sim, const char *path, const void *p, size_t n) {
    file *f;
    TRY(file_open(sim, path, FILE_WRITE | FILE_CREATE | FILE_TRUNCATE, &f));
    err rc = file_pwrite(f, p, n, 0);
    if (rc == OK) rc = file_datasync(f);
    file_close(f);
    TRY(rc);
    const char *slash = strrchr(path, '/');
    char dir[512] = ".";
    size_t len = slash ? (size_t)(slash - path) : 1;
    if (len >= sizeof dir) return err_set(ERR_INVALID, "%s: the path is too long", path);
    if (slash) memcpy(dir, path, len), dir[len] = 0;
    return fs_sync_dir(sim, dir);
}
