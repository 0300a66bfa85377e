/* JSON into messages: a walk over the document with its own stack.
 *
 * A level is one JSON object being read into one message. Members are taken in the order of the
 * text; scalars and lists of scalars are read at once, an object pushes a level, a list of objects
 * keeps its place in `items` while its levels come and go. The stack has a fixed depth (messages of
 * ours nest four deep), so hostile nesting ends at an "unknown field" or a "wrong type" long
 * before.
 *
 * The path of an error is built from the levels only when there is an error: posts[3].text.
 *
 * Members of a Post that are not fields are collected when its object ends, by a second walk over
 * its keys: rare enough, and it keeps the first walk free of a builder. They are written compactly
 * as one JSON object, so the same members give the same bytes whatever their spacing was.
 * Invariants: (1) every field at most once, (2) nothing of `out` is set when reading fails,
 * (3) everything read is in the arena.
 */
#include "api/json_map_int.h"

#include "shard/shard.h"

#define PATH_MAX_ 256

typedef struct level {
    const msg_desc *desc;
    ProtobufCMessage *msg;
    yyjson_val *object;
    yyjson_obj_iter members;
    yyjson_arr_iter items;   /* of `field`, while in_list */
    const field_desc *field; /* whose value is being read */
    size_t index;            /* of the item being read, plus one; 0: not in a list */
    bool in_list;
    bool strangers; /* members that are no fields were seen (of a Post) */
    uint64_t seen;  /* one bit a field */
} level;

typedef struct walk {
    arena *mem;
    const char *path; /* of the root */
    const char *aside;
    yyjson_val *found;
    size_t depth;
    level levels[JSON_MAP_DEPTH_MAX];
} walk;

/* ---- errors ---- */

/* The path of the value being read; `name` (may be empty) is a member of the top level that is no
 * field. Lives in out. */
static const char *path_of(const walk *w, str name, char out[PATH_MAX_]) {
    strbuf b;
    strbuf_init(&b, PATH_MAX_ - 1);
    strbuf_addz(&b, w->path);
    for (size_t i = 0; i < w->depth; i++) {
        const level *l = &w->levels[i];
        if (!l->field) continue;
        if (b.len) strbuf_addc(&b, '.');
        strbuf_addz(&b, l->field->name);
        if (l->index) strbuf_addf(&b, "[%zu]", l->index - 1);
    }
    if (name.len) {
        if (b.len) strbuf_addc(&b, '.');
        strbuf_add(&b, utf8_cut(name, 100));
    }
    str s = utf8_cut(strbuf_str(&b), PATH_MAX_ - 1);
    memcpy(out, s.ptr, s.len);
    out[s.len] = 0;
    strbuf_deinit(&b);
    return out;
}

static err blame(const walk *w, err rc) {
    char path[PATH_MAX_];
    return rc == ERR_INVALID ? map_blame(rc, path_of(w, STR(""), path)) : rc;
}

static err wrong(const walk *w, const char *expected, yyjson_val *v) {
    return blame(w, map_expected(expected, v));
}

/* ---- lists of scalars ---- */

static err read_items(arena *a, const field_desc *f, yyjson_val *v, void *msg, size_t *at) {
    size_t n = yyjson_arr_size(v), elem = map_elem_size(map_kind_of(f));
    char *p = arena_zalloc(a, n ? n : 1, elem);
    if (!p) return ERR_NO_MEMORY;
    yyjson_arr_iter it = yyjson_arr_iter_with(v);
    for (yyjson_val *x; (x = yyjson_arr_iter_next(&it)); *at += 1)
        TRY(map_from_json(a, f, x, p + *at * elem));
    *(void **)map_slot(msg, f) = p;
    *map_count(msg, f) = n;
    return OK;
}

static err read_list(arena *a, const field_desc *f, yyjson_val *v, void *msg, size_t *at) {
    if (f->type == PROTOBUF_C_TYPE_FLOAT && yyjson_is_str(v))
        return map_floats(a, json_str(v), map_slot(msg, f), map_count(msg, f));
    if (!yyjson_is_arr(v)) return map_expected("an array", v);
    *at = 0;
    err rc = read_items(a, f, v, msg, at);
    *at += 1; /* as level.index */
    return rc;
}

err json_map_read_list(arena *a, void *msg, const char *name, yyjson_val *v) {
    const field_desc *f = map_field(((ProtobufCMessage *)msg)->descriptor, str_of(name));
    KITH_ASSERT(f && f->label == PROTOBUF_C_LABEL_REPEATED && map_kind_of(f) != MAP_MESSAGE);
    size_t at = 0;
    err rc = read_list(a, f, v, msg, &at);
    if (rc != ERR_INVALID) return rc;
    char path[PATH_MAX_];
    strbuf b;
    strbuf_init(&b, PATH_MAX_ - 1);
    strbuf_addz(&b, name);
    if (at) strbuf_addf(&b, "[%zu]", at - 1);
    memcpy(path, b.ptr ? b.ptr : "", b.len + 1);
    strbuf_deinit(&b);
    return map_blame(rc, path);
}

/* ---- what a Post keeps ---- */

static void *arena_malloc_fn(void *ctx, size_t n) {
    return arena_alloc(ctx, n);
}
static void *arena_realloc_fn(void *ctx, void *p, size_t old, size_t n) {
    void *q = arena_alloc(ctx, n);
    if (q) memcpy(q, p, MIN(old, n));
    return q;
}
static void arena_free_fn(void *ctx, void *p) {
    (void)ctx, (void)p;
}

static bool is_stranger(const walk *w, const msg_desc *d, str name) {
    if (w->aside && w->depth == 1 && str_eq(name, str_of(w->aside))) return false;
    const field_desc *f = map_field(d, name);
    return !f || map_use_of(d, f) == MAP_HIDDEN;
}

static err add_stranger(walk *w, strbuf *b, strmap *names, yyjson_val *key, yyjson_val *v) {
    str name = json_str(key);
    char path[PATH_MAX_];
    if (strmap_get(names, name) != MAP_NONE)
        return err_set_field(ERR_INVALID, path_of(w, name, path), "given twice");
    TRY(strmap_put(names, name, 0));
    yyjson_alc alc = {arena_malloc_fn, arena_realloc_fn, arena_free_fn, w->mem};
    size_t len;
    char *text = yyjson_val_write_opts(v, YYJSON_WRITE_NOFLAG, &alc, &len, NULL);
    if (!text) return ERR_NO_MEMORY;
    strbuf_addc(b, b->len ? ',' : '{');
    strbuf_add_json(b, name);
    strbuf_addc(b, ':');
    strbuf_add(b, str_from(text, len));
    if (b->rc == ERR_TOO_LARGE)
        return err_set_field(ERR_INVALID, path_of(w, name, path),
                             "expected at most %zu bytes of members that are not fields, got more",
                             POST_EXTRA_MAX);
    return b->rc;
}

static err keep_strangers(walk *w, level *l) {
    strbuf b;
    strbuf_init(&b, POST_EXTRA_MAX - 1); /* the last byte is the bracket */
    strmap *names = strmap_new();
    err rc = names ? OK : ERR_NO_MEMORY;
    yyjson_obj_iter it = yyjson_obj_iter_with(l->object);
    for (yyjson_val *k; rc == OK && (k = yyjson_obj_iter_next(&it));)
        if (is_stranger(w, l->desc, json_str(k)))
            rc = add_stranger(w, &b, names, k, yyjson_obj_iter_get_val(k));
    if (rc == OK) {
        str s = arena_printf(w->mem, STR_FMT "}", STR_ARG(strbuf_str(&b)));
        ((Kith__V1__Post *)l->msg)->extra = (char *)(uintptr_t)s.ptr;
        if (!s.ptr) rc = ERR_NO_MEMORY;
    }
    strmap_free(names);
    strbuf_deinit(&b);
    return rc;
}

/* ---- the walk ---- */

static err push(walk *w, const msg_desc *d, yyjson_val *v, ProtobufCMessage **out) {
    if (!yyjson_is_obj(v)) return wrong(w, "an object", v);
    KITH_ASSERT(w->depth < JSON_MAP_DEPTH_MAX && d->n_fields <= JSON_MAP_FIELDS_MAX);
    TRY(map_message(w->mem, d, out));
    w->levels[w->depth++] =
        (level){.desc = d, .msg = *out, .object = v, .members = yyjson_obj_iter_with(v)};
    return OK;
}

static err stranger(walk *w, level *l, str name, yyjson_val *v) {
    char path[PATH_MAX_];
    if (w->aside && w->depth == 1 && str_eq(name, str_of(w->aside))) {
        if (w->found) return err_set_field(ERR_INVALID, w->aside, "given twice");
        w->found = v;
        return OK;
    }
    if (l->desc == &kith__v1__post__descriptor) {
        l->strangers = true;
        return OK;
    }
    return err_set_field(ERR_INVALID, path_of(w, name, path), "unknown field");
}

/* Begins a list of objects: its array of pointers is made here, filled level by level. */
static err begin_list(walk *w, level *l, yyjson_val *v) {
    if (!yyjson_is_arr(v)) return wrong(w, "an array", v);
    size_t n = yyjson_arr_size(v);
    void *p = arena_zalloc(w->mem, n ? n : 1, sizeof(void *));
    if (!p) return ERR_NO_MEMORY;
    *(void **)map_slot(l->msg, l->field) = p;
    l->items = yyjson_arr_iter_with(v);
    l->in_list = true;
    return OK;
}

static err read_value(walk *w, level *l, yyjson_val *v) {
    const field_desc *f = l->field;
    map_kind k = map_kind_of(f);
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        if (k == MAP_MESSAGE) return begin_list(w, l, v);
        err rc = read_list(w->mem, f, v, l->msg, &l->index);
        if (rc == OK) l->index = 0;
        return blame(w, rc);
    }
    if (k == MAP_MESSAGE) {
        ProtobufCMessage *child;
        TRY(push(w, f->descriptor, v, &child));
        *(void **)map_slot(l->msg, f) = child;
        return OK;
    }
    return blame(w, map_from_json(w->mem, f, v, map_slot(l->msg, f)));
}

static err next_member(walk *w, level *l, yyjson_val *key) {
    yyjson_val *v = yyjson_obj_iter_get_val(key);
    str name = json_str(key);
    const field_desc *f = map_field(l->desc, name);
    if (!f || map_use_of(l->desc, f) == MAP_HIDDEN) return stranger(w, l, name, v);
    if (map_use_of(l->desc, f) == MAP_IGNORE) return OK;
    uint64_t bit = (uint64_t)1 << (f - l->desc->fields);
    l->field = f;
    char path[PATH_MAX_];
    if (l->seen & bit) return err_set_field(ERR_INVALID, path_of(w, STR(""), path), "given twice");
    l->seen |= bit;
    if (yyjson_is_null(v)) return OK;
    return read_value(w, l, v);
}

static err next_item(walk *w, level *l) {
    yyjson_val *v = yyjson_arr_iter_next(&l->items);
    if (!v) {
        *map_count(l->msg, l->field) = l->index;
        l->index = 0;
        l->in_list = false;
        return OK;
    }
    ProtobufCMessage **slot = (*(ProtobufCMessage ***)map_slot(l->msg, l->field)) + l->index;
    l->index++;
    return push(w, l->field->descriptor, v, slot);
}

static err step(walk *w) {
    level *l = &w->levels[w->depth - 1];
    if (l->in_list) return next_item(w, l);
    l->field = NULL;
    yyjson_val *key = yyjson_obj_iter_next(&l->members);
    if (key) return next_member(w, l, key);
    if (l->strangers) TRY(keep_strangers(w, l));
    w->depth--;
    return OK;
}

err json_map_read(json_map_source *in, const msg_desc *d, void **out) {
    walk w;
    w.mem = in->mem;
    w.path = in->path ? in->path : "";
    w.aside = in->aside;
    w.found = NULL;
    w.depth = 0;
    ProtobufCMessage *root;
    TRY(push(&w, d, in->value, &root));
    while (w.depth) TRY(step(&w));
    in->found = w.found;
    *out = root;
    return OK;
}

err json_map_document(str text, yyjson_doc **out) {
    return map_blame(json_parse(text, out), "body");
}

err json_map_parse(arena *a, const msg_desc *d, str text, void **out) {
    yyjson_doc *doc;
    TRY(json_map_document(text, &doc));
    json_map_source in = {.mem = a, .value = yyjson_doc_get_root(doc)};
    err rc = json_map_read(&in, d, out);
    yyjson_doc_free(doc);
    return rc;
}
