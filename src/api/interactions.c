/* Interactions: checked, counted, sealed and journaled.
 *
 * A batch becomes one record, keyed by its day, sealed with the key of that day (diary.h). Without
 * the consent flag nothing of it is kept or counted but that it was refused. No fold reads these
 * records: they are there for judgement lists and training, and the ratios that a dashboard needs are
 * taken here, on the way (quality.h). The place of an event is as the client tells it; it is not proof of
 * anything and moves nothing but these figures.
 */
#include "api/api_int.h"
#include "api/diary.h"
#include "api/quality.h"
#include "journal/journal.h"

#include <kith/v1/interactions.pb-c.h>

enum { EVENTS_MAX = 1000, ID_MAX = 128, DAY_MS = 86400000 };

static err check_text(const char *z, const char *field, size_t i) {
    size_t n = strlen(z);
    if (n <= ID_MAX && utf8_valid(str_from(z, n), NULL)) return OK;
    char name[64];
    strbuf b;
    strbuf_init(&b, sizeof name - 1);
    strbuf_addf(&b, "events[%zu].%s", i, field);
    memcpy(name, b.ptr ? b.ptr : "", b.len + 1);
    strbuf_deinit(&b);
    return err_set_field(ERR_INVALID, name, "expected at most %d bytes of UTF-8", ID_MAX);
}

static err check_event(const Kith__V1__Interaction *e, size_t i) {
    TRY(check_text(e->query_id, "query_id", i));
    TRY(check_text(e->client_id, "client_id", i));
    TRY(check_text(e->session_id, "session_id", i));
    TRY(check_text(e->action_name, "action_name", i));
    if (!e->query_id[0] || !e->action_name[0])
        return err_set_field(ERR_INVALID, "events", "event %zu: expected query_id and action_name",
                             i);
    const Kith__V1__InteractionAttributes *a = e->event_attributes;
    if (a && a->object) TRY(check_text(a->object->object_id, "event_attributes.object", i));
    return OK;
}

static unsigned action_of(const char *name) {
    static const char *const names[] = {"impression", "click", "dwell", "reply"};
    for (unsigned i = 0; i < COUNT_OF(names); i++)
        if (strcmp(name, names[i]) == 0) return i;
    return ACTION_OTHER;
}

static void count_event(api_call *c, const Kith__V1__Interaction *e) {
    const Kith__V1__InteractionAttributes *a = e->event_attributes;
    int32_t place = a && a->position ? a->position->ordinal : 0;
    unsigned action = action_of(e->action_name);
    metric_add(M_INTERACTIONS, action, 1);
    quality_act(c->a->quality, str_of(e->query_id), str_of(e->client_id), action, place);
}

static err keep(api_call *c, const Kith__V1__PutInteractionsRequest *r) {
    Kith__V1__InteractionBatch batch = KITH__V1__INTERACTION_BATCH__INIT;
    Kith__V1__InteractionRecord record = KITH__V1__INTERACTION_RECORD__INIT;
    str sealed;
    batch.events = r->events;
    batch.n_events = r->n_events;
    size_t n = kith__v1__interaction_batch__get_packed_size(&batch);
    uint8_t *plain = arena_alloc(c->mem, n + 1);
    if (!plain) return ERR_NO_MEMORY;
    kith__v1__interaction_batch__pack(&batch, plain);
    record.day = (uint32_t)(clock_wall_ms() / DAY_MS);
    TRY(diary_seal(c->a->o.diary, record.day, str_from(plain, n), c->mem, &sealed));
    record.sealed = (ProtobufCBinaryData){sealed.len, (uint8_t *)(uintptr_t)sealed.ptr};
    n = kith__v1__interaction_record__get_packed_size(&record);
    uint8_t *body = arena_alloc(c->mem, n + 1);
    if (!body) return ERR_NO_MEMORY;
    kith__v1__interaction_record__pack(&record, body);
    /* The key of a record is readable: it says no more than the day. */
    str key = arena_printf(c->mem, "day-%u", record.day);
    if (!key.ptr) return ERR_NO_MEMORY;
    return shard_note(c->shard, JOURNAL_INTERACTION, key, str_from(body, n), &c->lsn);
}

err api_put_interactions(api_call *c, const void *request, void **response) {
    const Kith__V1__PutInteractionsRequest *r = request;
    if (r->n_events < 1 || r->n_events > EVENTS_MAX)
        return err_set_field(ERR_INVALID, "events", "expected 1 to %d events, got %zu", EVENTS_MAX,
                             r->n_events);
    for (size_t i = 0; i < r->n_events; i++) TRY(check_event(r->events[i], i));
    Kith__V1__PutInteractionsResponse *out =
        api_new(c, &kith__v1__put_interactions_response__descriptor);
    if (!out) return ERR_NO_MEMORY;
    *response = out;
    if (!r->consent || !c->a->o.diary) {
        metric_add(M_INTERACTIONS_REFUSED, 0, r->n_events);
        return OK;
    }
    TRY(keep(c, r));
    for (size_t i = 0; i < r->n_events; i++) count_event(c, r->events[i]);
    out->kept = (int32_t)r->n_events;
    out->lsn = c->lsn;
    return OK;
}
