/* Spans as OTLP, by hand: seven small messages, whose fields are listed at each. A nested message is
 * written into a buffer of its own first, since its length stands before it.
 */
#include "obs/export.h"

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, NESTED_MAX = 64 * 1024 };

static void put_tag(strbuf *b, unsigned field, unsigned wire) {
    uint8_t v[10];
    strbuf_add(b, str_from(v, varint_put(v, field << 3 | wire)));
}
static void put_varint(strbuf *b, unsigned field, uint64_t value) {
    uint8_t v[10];
    put_tag(b, field, VARINT);
    strbuf_add(b, str_from(v, varint_put(v, value)));
}
static void put_fixed64(strbuf *b, unsigned field, uint64_t value) {
    uint8_t v[8];
    le64_put(v, value);
    put_tag(b, field, FIXED64);
    strbuf_add(b, str_from(v, sizeof v));
}
static void put_bytes(strbuf *b, unsigned field, str s) {
    uint8_t v[10];
    put_tag(b, field, BYTES);
    strbuf_add(b, str_from(v, varint_put(v, s.len)));
    strbuf_add(b, s);
}
/* An identifier, most significant byte first. */
static void put_id(strbuf *b, unsigned field, const uint64_t *words, size_t n) {
    uint8_t v[16];
    for (size_t i = 0; i < 8 * n; i++) v[i] = (uint8_t)(words[i / 8] >> (56 - 8 * (i % 8)));
    put_bytes(b, field, str_from(v, 8 * n));
}
static void put_trace_id(strbuf *b, unsigned field, trace_id t) {
    const uint64_t words[] = {t.hi, t.lo};
    put_id(b, field, words, 2);
}

/* AnyValue {string_value 1, int_value 3}; KeyValue {key 1, value 2} */
static void put_attr(strbuf *b, unsigned field, str key, const str *text, int64_t number) {
    strbuf value, pair;
    strbuf_init(&value, NESTED_MAX);
    strbuf_init(&pair, NESTED_MAX);
    if (text)
        put_bytes(&value, 1, *text);
    else
        put_varint(&value, 3, (uint64_t)number);
    put_bytes(&pair, 1, key);
    put_bytes(&pair, 2, strbuf_str(&value));
    put_bytes(b, field, strbuf_str(&pair));
    if (value.rc != OK) b->rc = value.rc;
    if (pair.rc != OK) b->rc = pair.rc;
    strbuf_deinit(&value);
    strbuf_deinit(&pair);
}

/* Link {trace_id 1, span_id 2} */
static void put_link(strbuf *b, unsigned field, const trace_context *c) {
    strbuf link;
    strbuf_init(&link, NESTED_MAX);
    put_trace_id(&link, 1, c->trace);
    put_id(&link, 2, &c->span, 1);
    put_bytes(b, field, strbuf_str(&link));
    if (link.rc != OK) b->rc = link.rc;
    strbuf_deinit(&link);
}

/* Span {trace_id 1, span_id 2, parent_span_id 4, name 5, kind 6, start 7, end 8, attributes 9,
 * links 13, status 15 {code 3: 2 is an error}} */
static void put_span(strbuf *b, unsigned field, const span_data *d, strbuf *body) {
    static const char failed[] = {3 << 3, 2};
    strbuf_reset(body);
    put_trace_id(body, 1, d->trace);
    put_id(body, 2, &d->id, 1);
    if (d->parent) put_id(body, 4, &d->parent, 1);
    put_bytes(body, 5, str_of(d->name));
    put_varint(body, 6, (uint64_t)d->kind);
    put_fixed64(body, 7, d->start_ns);
    put_fixed64(body, 8, d->end_ns ? d->end_ns : d->start_ns);
    for (unsigned i = 0; i < d->attr_count; i++) {
        const span_attr *a = &d->attrs[i];
        str text = str_of(a->is_text ? a->text : "");
        put_attr(body, 9, str_of(a->key), a->is_text ? &text : NULL, a->number);
    }
    if (trace_id_is(d->link.trace)) put_link(body, 13, &d->link);
    if (d->failed) put_bytes(body, 15, str_from(failed, sizeof failed));
    put_bytes(b, field, strbuf_str(body));
}

/* Resource {attributes 1} */
static void put_resource(strbuf *b, unsigned field, const export_options *o, strbuf *body) {
    str name = str_of(o->service ? o->service : "kith"), version = str_of(o->version);
    str rest = str_of(o->attributes), pair, key;
    strbuf_reset(body);
    put_attr(body, 1, STR("service.name"), &name, 0);
    if (version.len) put_attr(body, 1, STR("service.version"), &version, 0);
    while (rest.len && str_split(&rest, ',', &pair)) {
        str value = pair;
        if (str_find_byte(pair, '=') < 1 || !str_split(&value, '=', &key)) continue;
        value = str_trim(value);
        if (utf8_valid(key, NULL) && utf8_valid(value, NULL))
            put_attr(body, 1, str_trim(key), &value, 0);
    }
    put_bytes(b, field, strbuf_str(body));
}

err otlp_traces(strbuf *b, const export_options *o, const span_data *spans, size_t n) {
    strbuf body, scope, all;
    strbuf_init(&body, NESTED_MAX);
    strbuf_init(&scope, EXPORT_BODY_MAX);
    strbuf_init(&all, EXPORT_BODY_MAX);
    put_bytes(&body, 1, STR("kith")); /* InstrumentationScope {name 1} */
    put_bytes(&scope, 1, strbuf_str(&body));
    for (size_t i = 0; i < n; i++) put_span(&scope, 2, &spans[i], &body);
    put_resource(&all, 1, o, &body);        /* ResourceSpans {resource 1, */
    put_bytes(&all, 2, strbuf_str(&scope)); /* scope_spans 2} */
    put_bytes(b, 1, strbuf_str(&all));
    err rc = body.rc != OK ? body.rc : scope.rc != OK ? scope.rc : all.rc != OK ? all.rc : b->rc;
    strbuf_deinit(&body);
    strbuf_deinit(&scope);
    strbuf_deinit(&all);
    return rc;
}
