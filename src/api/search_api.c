/* Search, similar, suggest: the searcher does the work and the checks of its own fields; what
 * stands here is what any wire needs: texts that are UTF-8 (JSON and queries are checked where they
 * are read, a request made in process is not), an id that is one, and the position that was seen.
 *
 * The answer's position is the searcher's own (SearchResponse.lsn), not the shard's at the time of
 * writing the headers: a client compares it with its writes, so it must not be too high.
 */
#include "api/api_int.h"

#include <kith/v1/search.pb-c.h>

static err check_text(const char *z, const char *field) {
    if (utf8_valid(str_of(z), NULL)) return OK;
    return err_set_field(ERR_INVALID, field, "expected valid UTF-8");
}

static err done(api_call *c, Kith__V1__SearchResponse *r, void **response) {
    c->lsn = r->lsn;
    quality_search(c->a->quality, str_of(r->search_id), r->n_hits, clock_wall_ms());
    *response = r;
    return OK;
}

err api_search(api_call *c, const void *request, void **response) {
    const Kith__V1__SearchRequest *r = request;
    Kith__V1__SearchResponse *out;
    TRY(check_text(r->q, "q"));
    TRY(search_run(c->searcher, r, c->mem, &out));
    return done(c, out, response);
}

err api_similar(api_call *c, const void *request, void **response) {
    const Kith__V1__SimilarRequest *r = request;
    Kith__V1__SearchResponse *out;
    TRY(api_check_id(str_of(r->id), "id"));
    TRY(search_similar(c->searcher, r, c->mem, &out));
    return done(c, out, response);
}

err api_suggest(api_call *c, const void *request, void **response) {
    const Kith__V1__SuggestRequest *r = request;
    TRY(check_text(r->q, "q"));
    return search_suggest(c->searcher, r, c->mem, (Kith__V1__SuggestResponse **)response);
}
