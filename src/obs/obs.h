/* obs: what kith says of itself: the log here, metrics.h, trace.h, and export.h, which brings traces to
 * a collector.
 *
 *     log_line(LOG_INFO, "listening", "url=%s posts=%llu", url, posts);
 *
 * One line an event on standard error: time, level, what, trace id, key=value pairs; as JSON, or as
 * text on a terminal (KITH_LOG=json|text chooses). Never a user's text, a
 * vector, a token or a key. Libraries below role/ do not log: they return errors or call a notice
 * function, and who handles it logs it once.
 */
#ifndef KITH_OBS_H
#define KITH_OBS_H

#include "base/base.h"

typedef enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR } log_level;

/* Lines below this level are dropped; LOG_INFO at first. Any thread. */
void log_level_set(log_level level);
void log_json_set(bool json); /* else by KITH_LOG or the terminal */
/* `what` is a short constant phrase; `fmt` gives the pairs ("" for none). Control characters in the
 * result become spaces, so an event is always one line. At most 1,023 bytes. */
void log_line(log_level level, const char *what, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
