/* Parts: the journal in pieces, journal/FIRST-LAST (20 digits each).
 *
 * Small parts are merged into larger ones; a crash between the put of the large one and the deletes of the
 * small ones leaves both. So the list is walked greedily: behind record p comes the part that begins at
 * p + 1 or before and reaches farthest. What is covered twice is the same, as hash and number of every
 * frame are checked.
 */
#include "archive/archive_int.h"

#include <stdio.h>

void part_name(part p, char out[NAME_BYTES]) {
    snprintf(out, NAME_BYTES, "journal/%020llu-%020llu", (unsigned long long)p.first,
             (unsigned long long)p.last);
}

void part_head_write(const part_head *h, uint8_t out[PART_HEAD]) {
    le64_put(out, h->first);
    le64_put(out + 8, h->last);
    le64_put(out + 16, h->first_time);
    le64_put(out + 24, h->last_time);
    memcpy(out + 32, h->before, JOURNAL_HASH_BYTES);
    memcpy(out + 64, h->after, JOURNAL_HASH_BYTES);
}

err part_head_read(const uint8_t *p, size_t n, const char *name, part_head *out) {
    if (n < PART_HEAD) return err_set(ERR_CORRUPT, "archive object %s: too short", name);
    *out = (part_head){.first = le64_get(p),
                       .last = le64_get(p + 8),
                       .first_time = le64_get(p + 16),
                       .last_time = le64_get(p + 24)};
    memcpy(out->before, p + 32, JOURNAL_HASH_BYTES);
    memcpy(out->after, p + 64, JOURNAL_HASH_BYTES);
    return OK;
}

err part_get(vault *v, part p, uint8_t **own, part_head *h, str *frames) {
    char name[NAME_BYTES];
    size_t n;
    part_name(p, name);
    err rc = vault_get(v, name, own, &n);
    if (rc == ERR_NOT_FOUND) return err_set(ERR_CORRUPT, "archive object %s: missing", name);
    TRY(rc);
    rc = part_head_read(*own, n, name, h);
    if (rc == OK && (h->first != p.first || h->last != p.last))
        rc = err_set(ERR_CORRUPT, "archive object %s: it holds other records", name);
    if (rc == OK) *frames = str_from(*own + PART_HEAD, n - PART_HEAD);
    if (rc != OK) mem_free(*own);
    return rc;
}

err part_get_head(vault *v, part p, part_head *h) {
    uint8_t *own;
    str frames;
    TRY(part_get(v, p, &own, h, &frames));
    mem_free(own);
    return OK;
}

static bool name_parse(const char *text, part *out) {
    str s = str_of(text);
    return s.len == 41 && s.ptr[20] == '-' && str_to_u64(str_from(s.ptr, 20), &out->first) &&
           str_to_u64(str_skip(s, 21), &out->last) && out->first >= 1 && out->first <= out->last;
}

static err pick(const name_list *l, part_list *out) {
    uint64_t at = 0;
    part best = {0};
    for (size_t i = 0; i <= l->count; i++) {
        part p = {.first = UINT64_MAX};
        if (i < l->count && !name_parse(l->items[i], &p))
            return err_set(ERR_CORRUPT, "archive object journal/%s: not a name of ours",
                           l->items[i]);
        if (p.first > at + 1 && best.last > at) { /* sorted: nothing better comes */
            out->items[out->count++] = best;
            at = best.last;
        }
        if (i < l->count && p.first > at + 1)
            return err_set(ERR_CORRUPT, "archive: the part with record %llu is missing",
                           (unsigned long long)at + 1);
        if (p.last > best.last) best = p;
    }
    return OK;
}

err part_list_read(vault *v, part_list *out) {
    name_list l;
    *out = (part_list){0};
    TRY(vault_names(v, "journal/", &l));
    void *p = NULL;
    err rc = mem_grow(&p, &out->cap, l.count + 1, sizeof *out->items, (size_t)1 << 26);
    out->items = p;
    if (rc == OK) rc = pick(&l, out);
    name_list_deinit(&l);
    if (rc != OK) part_list_deinit(out);
    return rc;
}

void part_list_deinit(part_list *l) {
    mem_free(l->items);
    *l = (part_list){0};
}
