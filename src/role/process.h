/* process: what the kernel says of this process: CPU, memory, files, limits. Linux' /proc; what cannot
 * be read is 0. Any thread. */
#ifndef KITH_ROLE_PROCESS_H
#define KITH_ROLE_PROCESS_H

#include "base/base.h"

typedef struct process_stats {
    double cpu_s, start_s; /* start: since 1970 */
    uint64_t rss, virtual_bytes, fds, fds_max, threads;
} process_stats;

void process_stats_get(process_stats *out);
double process_age_s(const process_stats *p); /* now */
/* Seconds since the file was last written; negative when there is none. */
double process_file_age_s(const char *path);
/* KITH_INDEX_MEMORY_MAX, else the control group's limit, else the machine's memory. */
uint64_t process_memory_limit(void);

#endif
