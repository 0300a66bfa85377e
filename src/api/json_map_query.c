/* Query parameters and path variables into messages.
 *
 * A name is a dotted path of fields; each step but the last must be a message, which is made when
 * it is first named. A name of one step that the message does not have is tried in its member
 * `filter`, which is how `author=a` comes to mean `filter.author=a` for every operation that
 * filters.
 *
 * Invariants: a field that is no list is set at most once (the fields set so far are remembered by
 * their descriptors, which are unique because a message type occurs once under a request); a list
 * grows by doubling in the arena. Errors name the parameter as it was written.
 */
#include "api/json_map_int.h"

#include "net/net.h"

#define LIST_FIRST 4 /* items of a list before it grows; always a power of two */

typedef struct target {
    ProtobufCMessage *msg;
    const field_desc *field;
} target;

typedef struct seen_set {
    const field_desc *fields[JSON_MAP_FIELDS_MAX];
    size_t count;
} seen_set;

static bool is_nested(const field_desc *f) {
    return f->label != PROTOBUF_C_LABEL_REPEATED && map_kind_of(f) == MAP_MESSAGE;
}

/* The message in slot `f` of *at, made when absent. */
static err descend(arena *a, ProtobufCMessage **at, const field_desc *f) {
    ProtobufCMessage **slot = map_slot(*at, f);
    if (!*slot) {
        ProtobufCMessage *m;
        TRY(map_message(a, f->descriptor, &m));
        *slot = m;
    }
    *at = *slot;
    return OK;
}

/* out->field is NULL when there is no such name. */
static err find(arena *a, ProtobufCMessage *msg, str path, target *out) {
    str rest = path, part;
    *out = (target){msg, NULL};
    while (str_split(&rest, '.', &part)) {
        const field_desc *f = map_field(out->msg->descriptor, part);
        if (!f || map_use_of(out->msg->descriptor, f) != MAP_USE) return OK;
        bool last = !rest.ptr;
        if (last) {
            if (map_kind_of(f) != MAP_MESSAGE) out->field = f;
            return OK;
        }
        if (!is_nested(f)) return OK;
        TRY(descend(a, &out->msg, f));
    }
    return OK;
}

static err find_short(arena *a, ProtobufCMessage *msg, str name, target *out) {
    const field_desc *filter = map_field(msg->descriptor, STR("filter"));
    if (!filter || !is_nested(filter) || str_find_byte(name, '.') >= 0) return OK;
    const field_desc *f = map_field(filter->descriptor, name);
    if (!f) return OK;
    *out = (target){msg, f};
    return descend(a, &out->msg, filter);
}

static err add_item(arena *a, const target *t, str value) {
    size_t *n = map_count(t->msg, t->field), elem = map_elem_size(map_kind_of(t->field));
    void **items = map_slot(t->msg, t->field);
    if (*n == 0 || (*n >= LIST_FIRST && (*n & (*n - 1)) == 0)) {
        char *p = arena_zalloc(a, MAX(*n * 2, (size_t)LIST_FIRST), elem);
        if (!p) return ERR_NO_MEMORY;
        if (*n) memcpy(p, *items, *n * elem);
        *items = p;
    }
    TRY(map_from_text(a, t->field, value, (char *)*items + *n * elem));
    *n += 1;
    return OK;
}

static err set_once(arena *a, const target *t, str value, seen_set *seen) {
    for (size_t i = 0; i < seen->count; i++)
        if (seen->fields[i] == t->field) return err_set(ERR_INVALID, "given twice");
    if (seen->count == COUNT_OF(seen->fields)) return err_set(ERR_INVALID, "too many parameters");
    seen->fields[seen->count++] = t->field;
    return map_from_text(a, t->field, value, map_slot(t->msg, t->field));
}

static bool is_skipped(str name, const char *const skip[2]) {
    str first = name, rest = name;
    if (!str_split(&rest, '.', &first)) return false;
    for (int i = 0; skip && i < 2; i++)
        if (skip[i] && str_eq(first, str_of(skip[i]))) return true;
    return false;
}

static err one(arena *a, ProtobufCMessage *msg, str name, str value, seen_set *seen) {
    target t;
    TRY(find(a, msg, name, &t));
    if (!t.field) TRY(find_short(a, msg, name, &t));
    if (!t.field) return err_set(ERR_INVALID, "unknown parameter");
    if (value.len == 0 && map_kind_of(t.field) != MAP_BOOL) return OK;
    if (t.field->label == PROTOBUF_C_LABEL_REPEATED) return add_item(a, &t, value);
    return set_once(a, &t, value, seen);
}

static err blame(arena *a, err rc, str name) {
    if (rc != ERR_INVALID) return rc;
    char *z = arena_dup(a, utf8_cut(name, 100));
    return err_set_field(rc, z ? z : "", "%s", err_detail());
}

err json_map_query(arena *a, void *msg, str query, const char *const skip[2]) {
    seen_set seen = {.count = 0};
    str rest = query, name, value;
    while (rest.len) {
        err rc = net_query_next(a, &rest, &name, &value);
        if (rc != OK) return map_blame(rc, "query");
        if (!name.len && !value.len) continue;
        rc = is_skipped(name, skip) ? err_set(ERR_INVALID, "unknown parameter")
                                    : one(a, msg, name, value, &seen);
        if (rc != OK) return blame(a, rc, name);
    }
    return OK;
}

err json_map_set(arena *a, void *msg, const char *path, str value) {
    target t;
    TRY(find(a, msg, str_of(path), &t));
    KITH_ASSERT(t.field && map_kind_of(t.field) == MAP_STRING);
    char **slot = map_slot(t.msg, t.field);
    const char *name = t.field->name;
    if (*slot && **slot && !str_eq(str_of(*slot), value))
        return err_set_field(ERR_INVALID, name, "expected the %s of the path, got another", name);
    return map_blame(map_from_text(a, t.field, value, slot), name);
}
