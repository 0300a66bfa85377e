/* names: a set of texts, each with a small number, that forgets without trace.
 *
 *     uint32_t ana;
 *     TRY(names_add(n, STR("ana"), &ana));   // the same number each time, until it is deleted
 *     names_del(n, ana);                     // bytes wiped; the number may be given again
 *
 * Terms of the lexical index and values of attributes live here. Numbers are dense: the one
 * freed last is given first. Texts are at most NAMES_TEXT_MAX bytes. Private to
 * index/: it is in no other module's way.
 * Threads: many readers or one writer. Failure: names_add changes nothing when it fails.
 */
#ifndef KITH_INDEX_NAMES_H
#define KITH_INDEX_NAMES_H

#include "base/base.h"

#define NAMES_TEXT_MAX 1024
#define NAMES_NONE     UINT32_MAX

typedef struct names names;

MUST_USE err names_new(names **out);
void names_free(names *n);
uint32_t names_get(const names *n, str text); /* NAMES_NONE when absent */
MUST_USE err names_add(names *n, str text, uint32_t *number);
void names_del(names *n, uint32_t number);       /* must be in use */
str names_text(const names *n, uint32_t number); /* ptr NULL when not in use; until a change */
uint32_t names_end(const names *n);              /* every number in use is below */
uint32_t names_count(const names *n);
uint64_t names_bytes(const names *n);

#endif
