/* What answers by meaning when the provider of the first space has no vector to give: another space that is kept
 * beside it. The whole query goes there, candidates and scores alike, so vectors of two spaces never meet. A space
 * that is still being filled answers too: the posts that it lacks are found and scored by words, as posts without a
 * vector are in any space.
 *
 * Spaces are asked in their order; those whose provider is in this process first, since they cannot be away.
 */
#include "search/search_int.h"

static bool filled(searcher *x, unsigned space) {
    size_t n = hnsw_count(shard_space_begin(x->shard, space));
    shard_space_end(x->shard, space);
    return n > 0;
}

static err ask(searcher *x, unsigned space, str text, arena *a, plan *p) {
    float *v = arena_alloc(a, shard_space_dim(x->shard, space) * sizeof *v);
    if (!v) return ERR_NO_MEMORY;
    TRY(provider_embed_query(x->providers[space], text, v, NULL));
    p->vector = v;
    p->space = space;
    return OK;
}

err fallback_vector(searcher *x, str text, arena *a, plan *p) {
    for (int remote = 0; remote <= 1; remote++)
        for (unsigned i = 1; i < shard_space_count(x->shard); i++) {
            provider *other = x->providers[i];
            if (!other || provider_about(other)->remote != remote || !filled(x, i)) continue;
            if (ask(x, i, text, a, p) == OK) return OK;
        }
    return ERR_NOT_FOUND;
}

err fallback_stored(searcher *x, uint32_t doc, arena *a, plan *p) {
    for (unsigned i = 1; i < shard_space_count(x->shard); i++) {
        float *v = arena_alloc(a, shard_space_dim(x->shard, i) * sizeof *v);
        if (!v) return ERR_NO_MEMORY;
        err rc = hnsw_get(shard_space_begin(x->shard, i), doc, v);
        shard_space_end(x->shard, i);
        if (rc != OK) continue;
        p->vector = v;
        p->space = i;
        return OK;
    }
    return ERR_NOT_FOUND;
}
