/* Times are milliseconds since 1970-01-01T00:00:00Z, in int64. Text is RFC 3339. */
#ifndef KITH_BASE_TIMEFMT_H
#define KITH_BASE_TIMEFMT_H

#include "base/def.h"
#include "base/str.h"

#define TIME_MS_MIN (-62135596800000) /* 0001-01-01T00:00:00.000Z */
#define TIME_MS_MAX 253402300799999   /* 9999-12-31T23:59:59.999Z */

/* "2024-05-06T07:08:09.123Z", any offset, 't' or ' ' as separator, and a bare date (midnight UTC). */
MUST_USE bool time_parse(str s, int64_t *ms);
/* Writes "2024-05-06T07:08:09Z", with ".123" when there are milliseconds; returns the length. */
size_t time_format(int64_t ms, char out[32]);

/* The date (y 2024, m 1 to 12, d 1 to 31) of a number of days since 1970. */
void time_civil(int64_t days, int *y, int *m, int *d);

#endif
