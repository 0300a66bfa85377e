/* A disk in memory that can lose power: for tests of everything that must survive it.
 *
 *     fs *disk, *after;
 *     TRY(fs_sim_open(&disk));
 *     ... work on `disk`, perhaps through fs_fault ...
 *     TRY(fs_sim_crash(disk, &rng, &after));   // one of the states that a power cut may leave
 *     ... open and check on `after` ...
 *     fs_sim_close(after); fs_sim_close(disk);
 *
 * What a power cut leaves: every synced byte; of the bytes written since the last sync of their
 * file any mixture of old and new, sector by sector (512 bytes), as disks and page caches reorder
 * and tear; of the changes of size since then a prefix; of the changes of names since the last
 * fs_sync_dir of their directory a prefix. Directories themselves are durable at once, and so are
 * locks gone.
 *
 * Threads: calls may come from any thread; fs_sim_crash takes the state of one moment.
 */
#ifndef KITH_OS_SIM_H
#define KITH_OS_SIM_H

#include "os/file.h"

MUST_USE err fs_sim_open(fs **out);
void fs_sim_close(fs *sim); /* every file must be closed; NULL is fine */

/* A new disk as it may be after a power cut now; `sim` is as before. Every choice is drawn from
 * r. */
MUST_USE err fs_sim_crash(fs *sim, rng *r, fs **out);
/* A new disk with the same contents, all synced: what a killed process leaves. */
MUST_USE err fs_sim_copy(fs *sim, fs **out);
uint64_t fs_sim_syncs(fs *sim); /* datasync and sync_dir calls so far */

/* For tests that damage files: replaces the contents, synced. */
MUST_USE err fs_sim_put(fs *sim, const char *path, const void *p, size_t n);

#endif
