/* Columns by document, interned texts, and for each value the documents that have it.
 *
 * Which documents have a value is kept in the form that fits the field. Author and thread have
 * very many values with few documents each: a doubly linked chain through two arrays by document
 * costs 8 bytes a document, whatever the number of values, and setting or clearing is O(1).
 * Channel and language have few values with many documents: their columns are scanned (64
 * documents a word of the answer), so nothing is kept. A document has many tags, so a tag has an
 * array of documents, and a document's entry knows where in it it stands: removal moves the last
 * one into the hole. Compressed bitmaps were considered: for 100,000 authors of five posts each
 * they cost ten times as much as the chains, and the answer is a dense bit set anyway, so order
 * does not matter.
 *
 * attrs_set prepares everything that can fail (room for the document, numbers of all texts, room
 * in the lists of tags) before it changes the document. Numbers that were added in vain are
 * dropped.
 *
 * Invariants: counts[n] is the number of documents d with numbers[d] == n, and a name with count 0
 * is not in use; chains hold exactly those documents; tag_lists[t].docs[x.at] == d exactly when d
 * has the doc_tag x of tag t; a document that is not live has no value, no tag and time and flags
 * 0.
 */
#include "index/attrs_int.h"

/* ---- life ---- */

err attrs_new(attrs **out) {
    *out = NULL;
    attrs *a = mem_zalloc(1, sizeof *a);
    if (!a) return ERR_NO_MEMORY;
    err rc = names_new(&a->tag_names);
    for (int f = 0; f < ATTRS_SINGLE && rc == OK; f++) rc = names_new(&a->columns[f].names);
    a->columns[ATTRS_AUTHOR].chained = true;
    a->columns[ATTRS_THREAD].chained = true;
    if (rc != OK) {
        attrs_free(a);
        return rc;
    }
    *out = a;
    return OK;
}

void attrs_free(attrs *a) {
    if (!a) return;
    for (int f = 0; f < ATTRS_SINGLE; f++) {
        attrs_column *c = &a->columns[f];
        names_free(c->names);
        mem_free(c->numbers);
        mem_free(c->next);
        mem_free(c->prev);
        mem_free(c->heads);
        mem_free(c->counts);
    }
    for (size_t t = 0; t < a->tag_cap; t++) mem_free(a->tag_lists[t].docs);
    for (uint32_t d = 0; d < a->docs_cap; d++) mem_free(a->tags[d].items);
    names_free(a->tag_names);
    mem_free(a->tag_lists);
    mem_free(a->tags);
    mem_free(a->created_ms);
    mem_free(a->flags);
    mem_free(a->live);
    mem_free(a);
}

/* ---- room ---- */

/* Grows one array by document from a->docs_cap to `cap`, filling with bytes of `fill`. */
static err grow_array(const attrs *a, void **p, uint32_t cap, size_t elem, int fill) {
    uint8_t *grown = mem_realloc(*p, cap * elem);
    if (!grown) return ERR_NO_MEMORY;
    memset(grown + a->docs_cap * elem, fill, (cap - a->docs_cap) * elem);
    *p = grown;
    return OK;
}

/* Arrays may differ in length when a later one fails; docs_cap counts what all of them have. */
static err grow_docs(attrs *a, uint32_t doc) {
    if (doc < a->docs_cap) return OK;
    if (doc >= ATTRS_DOC_MAX)
        return err_set(ERR_TOO_LARGE, "document: number %u, limit is %u", doc, ATTRS_DOC_MAX);
    uint32_t cap = MAX(a->docs_cap + a->docs_cap / 2, doc + 1);
    cap = (MAX(cap, 256) + 63) & ~63u;
    for (int f = 0; f < ATTRS_SINGLE; f++) {
        attrs_column *c = &a->columns[f];
        TRY(grow_array(a, (void **)&c->numbers, cap, sizeof *c->numbers, 0xff));
        if (!c->chained) continue;
        TRY(grow_array(a, (void **)&c->next, cap, sizeof *c->next, 0xff));
        TRY(grow_array(a, (void **)&c->prev, cap, sizeof *c->prev, 0xff));
    }
    TRY(grow_array(a, (void **)&a->tags, cap, sizeof *a->tags, 0));
    TRY(grow_array(a, (void **)&a->created_ms, cap, sizeof *a->created_ms, 0));
    TRY(grow_array(a, (void **)&a->flags, cap, sizeof *a->flags, 0));
    uint64_t *live = mem_zalloc(cap / 64, sizeof *live);
    if (!live) return ERR_NO_MEMORY;
    if (a->docs_cap) memcpy(live, a->live, a->docs_cap / 8);
    mem_free(a->live);
    a->live = live;
    a->docs_cap = cap;
    return OK;
}

/* Heads and counts for every number of the column's names. */
static err grow_values(attrs_column *c) {
    size_t need = names_end(c->names);
    if (need <= c->cap) return OK;
    size_t cap = MAX(need, c->cap * 2 + 16);
    uint32_t *counts = mem_realloc(c->counts, cap * sizeof *counts);
    if (!counts) return ERR_NO_MEMORY;
    c->counts = counts;
    if (c->chained) {
        uint32_t *heads = mem_realloc(c->heads, cap * sizeof *heads);
        if (!heads) return ERR_NO_MEMORY;
        c->heads = heads;
        memset(heads + c->cap, 0xff, (cap - c->cap) * sizeof *heads);
    }
    memset(counts + c->cap, 0, (cap - c->cap) * sizeof *counts);
    c->cap = cap;
    return OK;
}

static err grow_tags(attrs *a) {
    size_t need = names_end(a->tag_names);
    if (need <= a->tag_cap) return OK;
    size_t cap = MAX(need, a->tag_cap * 2 + 16);
    attrs_tag_list *lists = mem_realloc(a->tag_lists, cap * sizeof *lists);
    if (!lists) return ERR_NO_MEMORY;
    memset(lists + a->tag_cap, 0, (cap - a->tag_cap) * sizeof *lists);
    a->tag_bytes += (cap - a->tag_cap) * sizeof *lists;
    a->tag_lists = lists;
    a->tag_cap = cap;
    return OK;
}

static err grow_tag_list(attrs *a, uint32_t tag) {
    attrs_tag_list *l = &a->tag_lists[tag];
    if (l->count < l->cap) return OK;
    uint32_t cap = l->cap ? l->cap + l->cap / 2 + 1 : 2;
    uint32_t *docs = mem_realloc(l->docs, cap * sizeof *docs);
    if (!docs) return ERR_NO_MEMORY;
    a->tag_bytes += (cap - l->cap) * sizeof *docs;
    l->docs = docs;
    l->cap = cap;
    return OK;
}

/* ---- values of a document ---- */

static void column_remove(attrs_column *c, uint32_t doc) {
    uint32_t n = c->numbers[doc];
    if (n == ATTRS_NONE) return;
    if (c->chained) {
        uint32_t next = c->next[doc], prev = c->prev[doc];
        if (prev != ATTRS_NONE)
            c->next[prev] = next;
        else
            c->heads[n] = next;
        if (next != ATTRS_NONE) c->prev[next] = prev;
        c->next[doc] = c->prev[doc] = ATTRS_NONE;
    }
    c->numbers[doc] = ATTRS_NONE;
    if (--c->counts[n] == 0) names_del(c->names, n);
}

static void column_add(attrs_column *c, uint32_t doc, uint32_t n) {
    if (n == ATTRS_NONE) return;
    c->numbers[doc] = n;
    c->counts[n]++;
    if (!c->chained) return;
    uint32_t head = c->heads[n];
    c->next[doc] = head;
    c->prev[doc] = ATTRS_NONE;
    if (head != ATTRS_NONE) c->prev[head] = doc;
    c->heads[n] = doc;
}

static void tag_remove(attrs *a, attrs_doc_tag x) {
    attrs_tag_list *l = &a->tag_lists[x.tag];
    uint32_t moved = l->docs[--l->count];
    if (x.at != l->count) { /* the last document takes the place; tell its entry */
        l->docs[x.at] = moved;
        attrs_doc_tags *m = &a->tags[moved];
        for (uint32_t i = 0; i < m->count; i++)
            if (m->items[i].tag == x.tag) m->items[i].at = x.at;
    }
    if (l->count) return;
    a->tag_bytes -= l->cap * sizeof *l->docs;
    mem_free(l->docs);
    *l = (attrs_tag_list){0};
    names_del(a->tag_names, x.tag);
}

static void tags_remove(attrs *a, uint32_t doc) {
    attrs_doc_tags *t = &a->tags[doc];
    for (uint32_t i = 0; i < t->count; i++) tag_remove(a, t->items[i]);
    a->tag_bytes -= t->count * sizeof *t->items;
    mem_free(t->items);
    *t = (attrs_doc_tags){0};
}

/* ---- set ---- */

/* What attrs_set prepared: numbers of all texts, in order, each tag once. */
typedef struct prepared {
    uint32_t numbers[ATTRS_SINGLE];
    attrs_doc_tag *tags;
    uint32_t n_tags;
} prepared;

static str field_of(const attrs_value *v, int field) {
    switch (field) {
    case ATTRS_AUTHOR:
        return v->author;
    case ATTRS_THREAD:
        return v->thread;
    case ATTRS_CHANNEL:
        return v->channel;
    default:
        return v->lang;
    }
}

static err check_value(const attrs_value *v) {
    static const char *const titles[] = {"author", "thread", "channel", "lang"};
    for (int f = 0; f < ATTRS_SINGLE; f++) {
        size_t max = f == ATTRS_LANG ? ATTRS_LANG_MAX : ATTRS_NAME_MAX;
        size_t len = field_of(v, f).len;
        if (len > max)
            return err_set_field(ERR_TOO_LARGE, titles[f], "%s: %zu bytes, limit is %zu", titles[f],
                                 len, max);
    }
    if (v->n_tags > ATTRS_TAGS_MAX)
        return err_set_field(ERR_TOO_LARGE, "tags", "tags: %zu, limit is %d", v->n_tags,
                             ATTRS_TAGS_MAX);
    for (size_t i = 0; i < v->n_tags; i++)
        if (v->tags[i].len == 0 || v->tags[i].len > ATTRS_NAME_MAX)
            return err_set_field(ERR_INVALID, "tags", "tags: expected 1 to %d bytes, got %zu",
                                 ATTRS_NAME_MAX, v->tags[i].len);
    return OK;
}

static bool prepared_has(const prepared *p, uint32_t tag) {
    for (uint32_t i = 0; i < p->n_tags; i++)
        if (p->tags[i].tag == tag) return true;
    return false;
}

static err prepare_tags(attrs *a, const attrs_value *v, prepared *p) {
    if (v->n_tags == 0) return OK;
    p->tags = mem_alloc(v->n_tags * sizeof *p->tags);
    if (!p->tags) return ERR_NO_MEMORY;
    for (size_t i = 0; i < v->n_tags; i++) {
        uint32_t tag;
        TRY(names_add(a->tag_names, v->tags[i], &tag));
        if (prepared_has(p, tag)) continue;
        p->tags[p->n_tags++] = (attrs_doc_tag){tag, 0};
        TRY(grow_tags(a));
        TRY(grow_tag_list(a, tag));
    }
    if (p->n_tags == v->n_tags) return OK;
    attrs_doc_tag *fit = mem_realloc(p->tags, p->n_tags * sizeof *fit); /* without duplicates */
    if (!fit) return ERR_NO_MEMORY;
    p->tags = fit;
    return OK;
}

static err prepare(attrs *a, uint32_t doc, const attrs_value *v, prepared *p) {
    TRY(grow_docs(a, doc));
    for (int f = 0; f < ATTRS_SINGLE; f++) {
        str text = field_of(v, f);
        if (text.len == 0) continue;
        TRY(names_add(a->columns[f].names, text, &p->numbers[f]));
        TRY(grow_values(&a->columns[f]));
    }
    return prepare_tags(a, v, p);
}

/* Drops names that were added and that no document has. */
static void prepare_undo(attrs *a, prepared *p) {
    for (int f = 0; f < ATTRS_SINGLE; f++) {
        attrs_column *c = &a->columns[f];
        uint32_t n = p->numbers[f];
        if (n != ATTRS_NONE && (n >= c->cap || c->counts[n] == 0)) names_del(c->names, n);
    }
    for (uint32_t i = 0; i < p->n_tags; i++) {
        uint32_t t = p->tags[i].tag;
        if (t < a->tag_cap && a->tag_lists[t].count) continue;
        if (t < a->tag_cap) {
            a->tag_bytes -= a->tag_lists[t].cap * sizeof(uint32_t);
            mem_free(a->tag_lists[t].docs);
            a->tag_lists[t] = (attrs_tag_list){0};
        }
        names_del(a->tag_names, t);
    }
    mem_free(p->tags);
}

static void commit_tags(attrs *a, uint32_t doc, prepared *p) {
    for (uint32_t i = 0; i < p->n_tags; i++) {
        attrs_tag_list *l = &a->tag_lists[p->tags[i].tag];
        p->tags[i].at = l->count;
        l->docs[l->count++] = doc;
    }
    a->tags[doc] = (attrs_doc_tags){p->tags, p->n_tags};
    a->tag_bytes += p->n_tags * sizeof *p->tags;
}

err attrs_set(attrs *a, uint32_t doc, const attrs_value *v) {
    TRY(check_value(v));
    prepared p = {.numbers = {ATTRS_NONE, ATTRS_NONE, ATTRS_NONE, ATTRS_NONE}};
    err rc = prepare(a, doc, v, &p);
    if (rc != OK) {
        prepare_undo(a, &p);
        return rc;
    }
    /* Add before removing: a value that stays must not lose its name in between. A tag list's
     * room counts one more document, so the old tags are taken off only where they are not new. */
    for (int f = 0; f < ATTRS_SINGLE; f++) {
        attrs_column *c = &a->columns[f];
        if (c->numbers[doc] == p.numbers[f]) continue;
        column_remove(c, doc);
        column_add(c, doc, p.numbers[f]);
    }
    attrs_doc_tags old = a->tags[doc];
    a->tags[doc] = (attrs_doc_tags){0};
    commit_tags(a, doc, &p);
    for (uint32_t i = 0; i < old.count; i++) tag_remove(a, old.items[i]);
    a->tag_bytes -= old.count * sizeof *old.items;
    mem_free(old.items);
    a->created_ms[doc] = v->created_ms;
    a->flags[doc] = v->flags;
    if (!bits_get(a->live, doc)) a->docs_live++;
    bits_set(a->live, doc);
    a->docs_end = MAX(a->docs_end, doc + 1);
    return OK;
}

void attrs_clear(attrs *a, uint32_t doc) {
    if (!attrs_has(a, doc)) return;
    for (int f = 0; f < ATTRS_SINGLE; f++) column_remove(&a->columns[f], doc);
    tags_remove(a, doc);
    a->created_ms[doc] = 0;
    a->flags[doc] = 0;
    bits_clear(a->live, doc);
    a->docs_live--;
    while (a->docs_end && !bits_get(a->live, a->docs_end - 1)) a->docs_end--;
}

/* ---- reading ---- */

bool attrs_has(const attrs *a, uint32_t doc) {
    return doc < a->docs_end && bits_get(a->live, doc);
}

static void sort_tags(str *tags, uint32_t n) { /* at most ATTRS_TAGS_MAX: insertion */
    for (uint32_t i = 1; i < n; i++) {
        str x = tags[i];
        uint32_t j = i;
        for (; j > 0 && str_cmp(x, tags[j - 1]) < 0; j--) tags[j] = tags[j - 1];
        tags[j] = x;
    }
}

bool attrs_get(const attrs *a, uint32_t doc, attrs_value *out, str tags[ATTRS_TAGS_MAX]) {
    *out = (attrs_value){0};
    if (!attrs_has(a, doc)) return false;
    out->author = attrs_name(a, ATTRS_AUTHOR, a->columns[ATTRS_AUTHOR].numbers[doc]);
    out->thread = attrs_name(a, ATTRS_THREAD, a->columns[ATTRS_THREAD].numbers[doc]);
    out->channel = attrs_name(a, ATTRS_CHANNEL, a->columns[ATTRS_CHANNEL].numbers[doc]);
    out->lang = attrs_name(a, ATTRS_LANG, a->columns[ATTRS_LANG].numbers[doc]);
    out->created_ms = a->created_ms[doc];
    out->flags = a->flags[doc];
    const attrs_doc_tags *t = &a->tags[doc];
    for (uint32_t i = 0; i < t->count; i++) tags[i] = names_text(a->tag_names, t->items[i].tag);
    sort_tags(tags, t->count);
    out->tags = tags;
    out->n_tags = t->count;
    return true;
}

uint32_t attrs_docs_end(const attrs *a) {
    return a->docs_end;
}
uint32_t attrs_docs_live(const attrs *a) {
    return a->docs_live;
}

attrs_columns attrs_columns_of(const attrs *a) {
    return (attrs_columns){.docs = a->docs_end,
                           .live = a->live,
                           .author = a->columns[ATTRS_AUTHOR].numbers,
                           .thread = a->columns[ATTRS_THREAD].numbers,
                           .channel = a->columns[ATTRS_CHANNEL].numbers,
                           .lang = a->columns[ATTRS_LANG].numbers,
                           .flags = a->flags,
                           .created_ms = a->created_ms};
}

static const names *names_of(const attrs *a, attrs_field field) {
    return field == ATTRS_TAG ? a->tag_names : a->columns[field].names;
}

uint32_t attrs_number(const attrs *a, attrs_field field, str name) {
    return names_get(names_of(a, field), name);
}

str attrs_name(const attrs *a, attrs_field field, uint32_t number) {
    str s = names_text(names_of(a, field), number);
    return s.ptr ? s : STR("");
}

uint32_t attrs_docs_with(const attrs *a, attrs_field field, str name) {
    uint32_t n = attrs_number(a, field, name);
    if (n == ATTRS_NONE) return 0;
    return field == ATTRS_TAG ? a->tag_lists[n].count : a->columns[field].counts[n];
}

void attrs_stats_get(const attrs *a, attrs_stats *out) {
    *out = (attrs_stats){.docs = a->docs_live, .bytes_tags = a->tag_bytes};
    for (int f = 0; f < ATTRS_FIELDS; f++) {
        out->names[f] = names_count(names_of(a, (attrs_field)f));
        out->bytes_names += names_bytes(names_of(a, (attrs_field)f));
    }
    size_t each = sizeof *a->tags + sizeof *a->created_ms + sizeof *a->flags;
    for (int f = 0; f < ATTRS_SINGLE; f++) {
        const attrs_column *c = &a->columns[f];
        each += c->chained ? 3 * sizeof(uint32_t) : sizeof(uint32_t);
        out->bytes_columns += c->cap * sizeof(uint32_t) * (c->chained ? 2 : 1);
    }
    out->bytes_columns += sizeof *a + (uint64_t)a->docs_cap * each + a->docs_cap / 8;
}

/* ---- validation ---- */

static err bad(const char *what, uint32_t doc) {
    return err_set(ERR_INTERNAL, "attrs: %s at document %u", what, doc);
}

static err validate_chain(const attrs_column *c, uint32_t number) {
    uint32_t seen = 0, prev = ATTRS_NONE;
    for (uint32_t d = c->heads[number]; d != ATTRS_NONE; d = c->next[d]) {
        if (c->numbers[d] != number || c->prev[d] != prev) return bad("broken chain", d);
        if (++seen > c->counts[number]) return bad("chain too long", d);
        prev = d;
    }
    return seen == c->counts[number] ? OK : bad("chain too short", prev);
}

static err validate_column(const attrs *a, const attrs_column *c) {
    uint64_t with = 0, counted = 0;
    for (uint32_t d = 0; d < a->docs_cap; d++) {
        if (c->numbers[d] == ATTRS_NONE) continue;
        if (!bits_get(a->live, d)) return bad("value without document", d);
        if (c->numbers[d] >= names_end(c->names)) return bad("unknown number", d);
        with++;
    }
    for (uint32_t n = 0; n < names_end(c->names); n++) {
        bool used = names_text(c->names, n).ptr != NULL;
        if (used != (n < c->cap && c->counts[n] > 0)) return bad("count of a name", n);
        if (!used) continue;
        counted += c->counts[n];
        if (c->chained) TRY(validate_chain(c, n));
    }
    return with == counted ? OK : bad("counts", (uint32_t)with);
}

static err validate_tags(const attrs *a) {
    uint64_t with = 0, listed = 0;
    for (uint32_t d = 0; d < a->docs_cap; d++) {
        const attrs_doc_tags *t = &a->tags[d];
        if (t->count && !bits_get(a->live, d)) return bad("tag without document", d);
        for (uint32_t i = 0; i < t->count; i++) {
            const attrs_doc_tag x = t->items[i];
            if (x.tag >= a->tag_cap || x.at >= a->tag_lists[x.tag].count ||
                a->tag_lists[x.tag].docs[x.at] != d)
                return bad("tag entry", d);
        }
        with += t->count;
    }
    for (uint32_t t = 0; t < names_end(a->tag_names); t++) {
        bool used = names_text(a->tag_names, t).ptr != NULL;
        uint32_t count = t < a->tag_cap ? a->tag_lists[t].count : 0;
        if (used != (count > 0)) return bad("count of a tag", t);
        listed += count;
    }
    return with == listed ? OK : bad("tag lists", (uint32_t)with);
}

err attrs_validate(const attrs *a) {
    uint32_t live = 0;
    for (uint32_t d = 0; d < a->docs_cap; d++) {
        if (!bits_get(a->live, d)) {
            if (a->created_ms[d] || a->flags[d]) return bad("trace of a document", d);
            continue;
        }
        live++;
        if (d >= a->docs_end) return bad("document beyond the end", d);
    }
    if (live != a->docs_live) return bad("number of live documents", live);
    for (int f = 0; f < ATTRS_SINGLE; f++) TRY(validate_column(a, &a->columns[f]));
    return validate_tags(a);
}
