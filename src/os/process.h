/* process: what the kernel says of this process: CPU, memory, files, limits. Linux' /proc; what cannot
 * be read is 0. Any thread. */
#ifndef KITH_OS_PROCESS_H
#define KITH_OS_PROCESS_H

#include "base/base.h"

typedef struct process_stats {
    double cpu_s, start_s; /* start: since 1970 */
    uint64_t rss, virtual_bytes, threads;
} process_stats;

void process_stats_get(process_stats *out);
uint64_t process_fds(void); /* open now; lists them, so it takes as long as there are many */
uint64_t process_fds_max(void);
double process_age_s(const process_stats *p); /* now */
/* Seconds since the file was last written; negative when there is none. */
double process_file_age_s(const char *path);
/* The control group's limit, else the machine's memory. */
uint64_t process_memory_limit(void);

#endif
