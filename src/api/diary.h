/* diary: sealing what must be forgotten. A journal never drops a record from its middle, so interactions
 * are written encrypted, with one random key a day; the keys of days that are over the retention are
 * thrown away, and with them everything that was written on that day.
 *
 *     diary *d;
 *     TRY(diary_open(fs, dir, 90, &d));
 *     TRY(diary_seal(d, day, plain, &sealed));        // arena
 *     TRY(diary_open_page(d, day, sealed, a, &plain));   // ERR_NOT_FOUND once it is forgotten
 *
 * DIR/interactions.keys (mode 0600): magic, then 36 bytes a day. XSalsa20-Poly1305 (libsodium's
 * secretbox) with a random nonce before the text. A backup that is older still has old keys: backups
 * have a retention of their own.
 * Threads: any. Errors: ERR_CORRUPT (the file, or a sealed text that was changed), those of os/file.h.
 */
#ifndef KITH_API_DIARY_H
#define KITH_API_DIARY_H

#include "base/base.h"
#include "os/os.h"

enum { DIARY_DAYS_MAX = 3650 };

typedef struct diary diary;
MUST_USE err diary_open(fs *fs, const char *dir, uint32_t keep_days, diary **out);
void diary_close(diary *d); /* NULL is fine */
/* Makes the day's key when there is none, and forgets days before day - keep_days. */
MUST_USE err diary_seal(diary *d, uint32_t day, str plain, arena *a, str *sealed);
MUST_USE err diary_open_page(diary *d, uint32_t day, str sealed, arena *a, str *plain);

#endif
