/* attrs to bytes and back.
 *
 * Body (all integers LEB128, but where said): number of documents; for each field and then tags:
 * number of texts, each with its length; then for each document, ascending: gap to the one before,
 * five times one plus the number of the text (0: none; tags: a count and that many numbers), the
 * time (zigzag), flags. Texts are numbered by first use in this order, so the bytes follow from
 * the content alone, whatever order it came in and whatever numbers the running tables gave.
 *
 * Save goes over the documents three times: it gives file numbers, counts the length, writes. Load
 * makes each document through attrs_set, so that a file can do no more than a caller can; numbers
 * out of range, unknown bits, repeated or unsorted documents and rests are ERR_CORRUPT. About 0.5
 * us a document.
 */
#include "index/attrs_int.h"

#include "index/save.h"

static const char magic[8] = {'K', 'I', 'T', 'H', 'A', 'T', 'T', 'R'};
enum { VERSION = 1, SPARSE_MAX = 1 << 22 };

/* File numbers of texts, by running number; and the other way. */
typedef struct numbering {
    uint32_t *file;    /* ATTRS_NONE: not yet */
    uint32_t *running; /* in file order */
    uint32_t count;
} numbering;

typedef struct saving {
    const attrs *a;
    numbering fields[ATTRS_FIELDS];
} saving;

static const names *field_names(const attrs *a, int f) {
    return f == ATTRS_TAG ? a->tag_names : a->columns[f].names;
}

static err numbering_init(numbering *x, const names *n) {
    size_t end = (size_t)names_end(n) + 1;
    x->file = mem_alloc(end * sizeof *x->file);
    x->running = mem_alloc(end * sizeof *x->running);
    if (!x->file || !x->running) return ERR_NO_MEMORY;
    memset(x->file, 0xff, end * sizeof *x->file);
    return OK;
}

static void numbering_see(numbering *x, uint32_t running) {
    if (running == ATTRS_NONE || x->file[running] != ATTRS_NONE) return;
    x->file[running] = x->count;
    x->running[x->count++] = running;
}

/* The document's tags by text, so that order does not depend on running numbers. */
static uint32_t sorted_tags(const attrs *a, uint32_t doc, uint32_t out[ATTRS_TAGS_MAX]) {
    const attrs_doc_tags *t = &a->tags[doc];
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t x = t->items[i].tag, j = i;
        str text = names_text(a->tag_names, x);
        for (; j > 0 && str_cmp(text, names_text(a->tag_names, out[j - 1])) < 0; j--)
            out[j] = out[j - 1];
        out[j] = x;
    }
    return t->count;
}

static void number_all(saving *s) {
    const attrs *a = s->a;
    uint32_t tags[ATTRS_TAGS_MAX];
    for (uint32_t d = 0; d < a->docs_end; d++) {
        if (!bits_get(a->live, d)) continue;
        for (int f = 0; f < ATTRS_SINGLE; f++)
            numbering_see(&s->fields[f], a->columns[f].numbers[d]);
        uint32_t n = sorted_tags(a, d, tags);
        for (uint32_t i = 0; i < n; i++) numbering_see(&s->fields[ATTRS_TAG], tags[i]);
    }
}

static void put_doc(const saving *s, save *out, uint32_t d) {
    const attrs *a = s->a;
    for (int f = 0; f < ATTRS_SINGLE; f++) {
        uint32_t n = a->columns[f].numbers[d];
        save_varint(out, n == ATTRS_NONE ? 0 : (uint64_t)s->fields[f].file[n] + 1);
    }
    uint32_t tags[ATTRS_TAGS_MAX], n = sorted_tags(a, d, tags);
    save_varint(out, n);
    for (uint32_t i = 0; i < n; i++) save_varint(out, s->fields[ATTRS_TAG].file[tags[i]]);
    uint64_t t = (uint64_t)a->created_ms[d];
    save_varint(out, (t << 1) ^ (a->created_ms[d] < 0 ? ~(uint64_t)0 : 0));
    save_varint(out, a->flags[d]);
}

static void put_body(const saving *s, save *out) {
    const attrs *a = s->a;
    save_varint(out, a->docs_live);
    for (int f = 0; f < ATTRS_FIELDS; f++) {
        const numbering *x = &s->fields[f];
        save_varint(out, x->count);
        for (uint32_t i = 0; i < x->count; i++)
            save_text(out, names_text(field_names(a, f), x->running[i]));
    }
    uint32_t next = 0;
    for (uint32_t d = 0; d < a->docs_end; d++) {
        if (!bits_get(a->live, d)) continue;
        save_varint(out, d - next);
        put_doc(s, out, d);
        next = d + 1;
    }
}

err attrs_save(const attrs *a, const writer *w) {
    saving s = {.a = a};
    err rc = OK;
    for (int f = 0; f < ATTRS_FIELDS && rc == OK; f++)
        rc = numbering_init(&s.fields[f], field_names(a, f));
    if (rc == OK) {
        number_all(&s);
        save count = {.w = NULL}, out = {.w = w};
        put_body(&s, &count);
        save_head(&out, magic, VERSION, count.size);
        put_body(&s, &out);
        rc = save_end(&out);
    }
    for (int f = 0; f < ATTRS_FIELDS; f++) {
        mem_free(s.fields[f].file);
        mem_free(s.fields[f].running);
    }
    return rc;
}

/* ---- load ---- */

typedef struct loading {
    attrs *a;
    reader r;
    str *texts[ATTRS_FIELDS]; /* pointing into the bytes */
    uint32_t counts[ATTRS_FIELDS];
} loading;

static err corrupt(const char *what) {
    return err_set(ERR_CORRUPT, "attributes: %s", what);
}

static err read_texts(loading *l, int f) {
    uint64_t n = reader_varint(&l->r);
    if (l->r.failed || n > l->r.left) return corrupt("more texts than bytes");
    l->texts[f] = mem_alloc((n + 1) * sizeof(str));
    if (!l->texts[f]) return ERR_NO_MEMORY;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t len = reader_varint(&l->r);
        if (l->r.failed || len == 0 || len > ATTRS_NAME_MAX) return corrupt("length of a text");
        l->texts[f][i] = str_from(reader_bytes(&l->r, len), len);
        if (l->r.failed) return corrupt("cut in a text");
    }
    l->counts[f] = (uint32_t)n;
    return OK;
}

/* The text of a number that stands in the file as one more; empty for 0. */
static str read_text(loading *l, int f) {
    uint64_t n = reader_varint(&l->r);
    if (n > l->counts[f]) l->r.failed = true;
    return l->r.failed || n == 0 ? STR("") : l->texts[f][n - 1];
}

static err read_doc(loading *l, uint64_t doc) {
    attrs_value v = {0};
    str tags[ATTRS_TAGS_MAX];
    v.author = read_text(l, ATTRS_AUTHOR);
    v.thread = read_text(l, ATTRS_THREAD);
    v.channel = read_text(l, ATTRS_CHANNEL);
    v.lang = read_text(l, ATTRS_LANG);
    uint64_t n = reader_varint(&l->r);
    if (n > ATTRS_TAGS_MAX) return corrupt("number of tags");
    for (uint64_t i = 0; i < n; i++) {
        uint64_t t = reader_varint(&l->r);
        if (l->r.failed || t >= l->counts[ATTRS_TAG]) return corrupt("a tag's number");
        tags[i] = l->texts[ATTRS_TAG][t];
    }
    v.tags = tags;
    v.n_tags = n;
    uint64_t z = reader_varint(&l->r), flags = reader_varint(&l->r);
    v.created_ms = (int64_t)((z >> 1) ^ (0 - (z & 1)));
    v.flags = (uint32_t)flags;
    if (l->r.failed || flags > UINT32_MAX) return corrupt("a document");
    err rc = attrs_set(l->a, (uint32_t)doc, &v);
    return rc == OK || rc == ERR_NO_MEMORY ? rc : corrupt("a document over the limits");
}

static err read_all(loading *l) {
    uint64_t docs = reader_varint(&l->r), next = 0;
    for (int f = 0; f < ATTRS_FIELDS; f++) TRY(read_texts(l, f));
    for (uint64_t i = 0; i < docs; i++) {
        uint64_t gap = reader_varint(&l->r);
        /* A short file must not demand room for 2^28 documents. (Beyond this the owner rebuilds.)
         */
        if (l->r.failed || gap >= ATTRS_DOC_MAX || next + gap >= ATTRS_DOC_MAX ||
            next + gap > SPARSE_MAX + 64 * docs)
            return corrupt("a document's number");
        next += gap;
        TRY(read_doc(l, next));
        next++;
    }
    if (l->r.failed || l->r.left) return corrupt("bytes behind the end");
    for (int f = 0; f < ATTRS_FIELDS; f++)
        if (l->counts[f] != names_count(field_names(l->a, f))) return corrupt("an unused text");
    return OK;
}

err attrs_load(const void *p, size_t size, attrs **out) {
    *out = NULL;
    loading l = {0};
    TRY(save_open(p, size, "attributes", magic, VERSION, &l.r));
    TRY(attrs_new(&l.a));
    err rc = read_all(&l);
    for (int f = 0; f < ATTRS_FIELDS; f++) mem_free(l.texts[f]);
    if (rc != OK) {
        attrs_free(l.a);
        return rc;
    }
    *out = l.a;
    return OK;
}
