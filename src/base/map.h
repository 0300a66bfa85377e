/* Hash maps, open addressing. Values are u32 (an index into the owner's array).
 * A failed insertion leaves the map as it was. No iteration order is promised.
 */
#ifndef KITH_BASE_MAP_H
#define KITH_BASE_MAP_H

#include "base/def.h"
#include "base/err.h"
#include "base/str.h"

#define MAP_NONE UINT32_MAX /* "absent"; not a legal value */

/* String keys, copied into the map. */
typedef struct strmap strmap;
MUST_USE strmap *strmap_new(void);
void strmap_free(strmap *m);
uint32_t strmap_get(const strmap *m, str key);           /* MAP_NONE when absent */
MUST_USE err strmap_put(strmap *m, str key, uint32_t v); /* inserts or replaces */
bool strmap_del(strmap *m, str key);
size_t strmap_count(const strmap *m);
size_t strmap_bytes(const strmap *m);
/* Visits every entry; *cursor starts at 0; false at the end. The key is valid until a change. */
bool strmap_next(const strmap *m, size_t *cursor, str *key, uint32_t *v);

typedef struct u64map u64map;
MUST_USE u64map *u64map_new(void);
void u64map_free(u64map *m);
uint32_t u64map_get(const u64map *m, uint64_t key);
MUST_USE err u64map_put(u64map *m, uint64_t key, uint32_t v);
bool u64map_del(u64map *m, uint64_t key);
size_t u64map_count(const u64map *m);
size_t u64map_bytes(const u64map *m);
bool u64map_next(const u64map *m, size_t *cursor, uint64_t *key, uint32_t *v);

#endif
