/* From a request to a plan: everything is checked here, once, so that the later stages meet only what
 * makes sense. A refusal names the field as the API writes it.
 *
 * The fingerprint ties a cursor to what was asked: it is the hash of the request as protobuf bytes with
 * the fields blanked that do not change which posts come in which order (page size, cursor,
 * explanations, context, min_lsn). protobuf-c writes fields in the order of their numbers, so equal
 * requests give equal bytes.
 *
 * The plan points into the request and the arena; both outlive it.
 */
#include "search/search_int.h"

#include "search/query.h"

static err invalid(const char *field, const char *expected) {
    return err_set_field(ERR_INVALID, field, "expected %s", expected);
}

/* ---- filter ----------------------------------------------------------------------------- */

static err strs(char **items, size_t n, const char *field, arena *a, attrs_strs *out) {
    if (n > SEARCH_FILTER_MAX)
        return err_set_field(ERR_INVALID, field, "expected at most %d values, got %zu",
                             SEARCH_FILTER_MAX, n);
    str *v = arena_zalloc(a, n + 1, sizeof *v);
    if (!v) return ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) v[i] = str_of(items[i]);
    *out = (attrs_strs){v, n};
    return OK;
}

static err time_of(const Google__Protobuf__Timestamp *t, const char *field, bool *has,
                   int64_t *ms) {
    *has = t != NULL;
    if (!t) return OK;
    if (t->seconds < TIME_MS_MIN / 1000 || t->seconds > TIME_MS_MAX / 1000 || t->nanos < 0 ||
        t->nanos > 999999999)
        return invalid(field, "a time from year 1 to 9999");
    *ms = t->seconds * 1000 + t->nanos / 1000000;
    return OK;
}

static err plan_kind(const Kith__V1__Filter *f, attrs_filter *out) {
    str kind = str_of(f->kind);
    if (str_eq(kind, STR("reply")))
        out->flags_set |= ATTRS_REPLY;
    else if (str_eq(kind, STR("post")))
        out->flags_clear |= ATTRS_REPLY;
    else if (kind.len)
        return invalid("filter.kind", "post, reply or nothing");
    for (size_t i = 0; i < f->n_has; i++) {
        uint32_t flag = query_has_flag(str_of(f->has[i]));
        if (!flag) return invalid("filter.has", "link, media, question, tag or mention");
        out->flags_any |= flag;
    }
    return OK;
}

static err plan_filter(const Kith__V1__Filter *f, arena *a, attrs_filter *out) {
    if (!f) return OK;
    TRY(strs(f->author, f->n_author, "filter.author", a, &out->author_in));
    TRY(strs(f->not_author, f->n_not_author, "filter.not_author", a, &out->author_not));
    TRY(strs(f->thread, f->n_thread, "filter.thread", a, &out->thread_in));
    TRY(strs(f->channel, f->n_channel, "filter.channel", a, &out->channel_in));
    TRY(strs(f->not_channel, f->n_not_channel, "filter.not_channel", a, &out->channel_not));
    TRY(strs(f->tag, f->n_tag, "filter.tag", a, &out->tag_any));
    TRY(strs(f->lang, f->n_lang, "filter.lang", a, &out->lang_in));
    TRY(time_of(f->after, "filter.after", &out->has_from, &out->from_ms));
    TRY(time_of(f->before, "filter.before", &out->has_until, &out->until_ms));
    return plan_kind(f, out);
}

static err plan_not_me(bool not_me, const char *viewer, arena *a, attrs_filter *out) {
    if (!not_me) return OK;
    if (!viewer[0]) return invalid("viewer", "who asks, for not_me");
    str *me = arena_zalloc(a, 1, sizeof *me);
    if (!me) return ERR_NO_MEMORY;
    *me = str_of(viewer);
    out->author_deny = (attrs_strs){me, 1};
    return OK;
}

/* ---- numbers ---------------------------------------------------------------------------- */

static err plan_limit(int32_t limit, plan *p) {
    if (limit < 0 || limit > SEARCH_LIMIT_MAX)
        return err_set_field(ERR_INVALID, "limit", "expected 1 to %d", SEARCH_LIMIT_MAX);
    p->limit = limit ? (size_t)limit : SEARCH_LIMIT_DEFAULT;
    return OK;
}

static err plan_caps(int32_t per_author, int32_t per_thread, plan *p) {
    if (per_author < 0) return invalid("max_per_author", "0 or more");
    if (per_thread < 0) return invalid("max_per_thread", "0 or more");
    p->max_per_author = (uint32_t)per_author;
    p->max_per_thread = (uint32_t)per_thread;
    return OK;
}

static err plan_recency(const Kith__V1__SearchRequest *req, plan *p) {
    double hours = req->recency_half_life_hours;
    if (!(req->recency >= 0 && req->recency <= 1)) return invalid("recency", "0 to 1");
    if (!(hours >= 0 && hours <= 1e6)) return invalid("recency_half_life_hours", "0 to 1000000");
    p->recency = req->recency;
    p->half_life_ms = (hours > 0 ? hours : 72) * 3600000;
    p->meaning_weight = FUSE_MEANING_WEIGHT;
    if (!req->meaning_weight) return OK;
    p->meaning_weight = req->meaning_weight->value;
    if (!(p->meaning_weight >= 0 && p->meaning_weight <= 1))
        return invalid("meaning_weight", "0 to 1");
    return OK;
}

static err plan_mode(const char *mode, plan *p) {
    str m = str_of(mode);
    if (m.len == 0 || str_eq(m, STR("hybrid")))
        p->mode = MODE_HYBRID;
    else if (str_eq(m, STR("words")))
        p->mode = MODE_WORDS;
    else if (str_eq(m, STR("meaning")))
        p->mode = MODE_MEANING;
    else
        return invalid("mode", "hybrid, words or meaning");
    if (p->query.text.len == 0) p->mode = MODE_LATEST; /* operators only */
    return OK;
}

/* ---- cursor ----------------------------------------------------------------------------- */

static err fingerprint(const ProtobufCMessage *m, uint64_t seed, arena *a, uint64_t *out) {
    size_t n = protobuf_c_message_get_packed_size(m);
    uint8_t *bytes = arena_alloc(a, n + 1);
    if (!bytes) return ERR_NO_MEMORY;
    n = protobuf_c_message_pack(m, bytes);
    *out = hash64(bytes, n, seed);
    return OK;
}

static err plan_cursor(const char *text, arena *a, plan *p) {
    p->cursor.now_ms = clock_wall_ms();
    if (!text[0]) return OK;
    p->paged = true;
    return cursor_decode(str_of(text), p->request, a, &p->cursor);
}

/* ---- the whole -------------------------------------------------------------------------- */

err plan_terms(plan *p, const str *words, size_t n, arena *a) {
    lexical_term *t = arena_zalloc(a, n + 1, sizeof *t);
    if (!t) return ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) t[i] = (lexical_term){words[i], 1};
    p->terms = t;
    p->n_terms = n;
    return OK;
}

err plan_search(const Kith__V1__SearchRequest *req, arena *a, plan *p) {
    *p = (plan){.self = UINT32_MAX, .explain = req->explain, .context = req->context};
    TRY(query_parse(str_of(req->q), str_of(req->viewer), a, &p->query));
    query_filter(&p->query, &p->typed);
    TRY(plan_terms(p, p->query.words, p->query.n_words, a));
    TRY(plan_mode(req->mode, p));
    TRY(plan_limit(req->limit, p));
    TRY(plan_filter(req->filter, a, &p->given));
    TRY(plan_not_me(req->not_me, req->viewer, a, &p->given));
    TRY(plan_caps(req->max_per_author, req->max_per_thread, p));
    TRY(plan_recency(req, p));
    if (req->group[0] && !str_eq(str_of(req->group), STR("thread")))
        return invalid("group", "thread or nothing");
    p->group = req->group[0] != 0;
    Kith__V1__SearchRequest same = *req;
    same.limit = 0;
    same.cursor = (char *)(uintptr_t) "";
    same.explain = same.context = false;
    same.min_lsn = 0;
    TRY(fingerprint(&same.base, 1, a, &p->request));
    return plan_cursor(req->cursor, a, p);
}

err plan_similar(const Kith__V1__SimilarRequest *req, arena *a, plan *p) {
    *p = (plan){.self = UINT32_MAX,
                .explain = req->explain,
                .context = req->context,
                .half_life_ms = 72 * 3600000.0,
                .meaning_weight = FUSE_SIMILAR_WEIGHT};
    if (!req->id[0]) return invalid("id", "the id of a post");
    TRY(plan_limit(req->limit, p));
    TRY(plan_filter(req->filter, a, &p->given));
    TRY(plan_not_me(req->not_me, req->viewer, a, &p->given));
    TRY(plan_caps(req->max_per_author, req->max_per_thread, p));
    Kith__V1__SimilarRequest same = *req;
    same.limit = 0;
    same.cursor = (char *)(uintptr_t) "";
    same.explain = same.context = false;
    TRY(fingerprint(&same.base, 2, a, &p->request));
    return plan_cursor(req->cursor, a, p);
}
