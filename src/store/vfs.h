/* vfs: what stands between SQLite and the files of the store. It gives each page of the main
 * database a checksum, keeps what was deleted out of unused bytes, and takes SQLite's memory from
 * mem.h so that tests can make it fail.
 *
 *     TRY(vfs_init());                                   // as often as one likes
 *     sqlite3_open_v2(path, &db, flags, VFS_LIVE);
 *
 * The names below are SQLite VFS names. The still ones change nothing on disk, take no locks and
 * need `PRAGMA locking_mode=EXCLUSIVE` before the first read: nobody may write meanwhile.
 * A page whose checksum is wrong gives SQLITE_IOERR_DATA, with err_detail() of this thread naming
 * file and page.
 */
#ifndef KITH_STORE_VFS_H
#define KITH_STORE_VFS_H

#include "base/base.h"
#include <sqlite3.h>

#define VFS_LIVE  "kith"       /* read and write, checksums on the main database */
#define VFS_STILL "kith-still" /* read only, with what the WAL says */
#define VFS_MAIN  "kith-main"  /* read only, the main file alone: as if there were no WAL */

#define VFS_PAGE_SIZE 4096
#define VFS_SUM_SIZE  8
/* 128 GiB less a page: below 2^25 pages the first byte of an overflow or free page (the top byte
 * of a page number) is 0 or 1, never that of a b-tree page (2, 5, 10, 13). */
#define VFS_PAGES_MAX ((1 << 25) - 1)

MUST_USE err vfs_init(void);
/* What the checksum of page `number` (from 1) must be, as it stands in the page's last 8 bytes. */
uint64_t vfs_page_sum(const uint8_t page[VFS_PAGE_SIZE], uint32_t number);
/* The default VFS of this process under the three, replaced for tests (NULL: only ask). */
sqlite3_vfs *vfs_under(sqlite3_vfs *replacement);

#endif
