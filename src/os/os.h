/* os: all that touches the machine, wrapped once: threads, clocks, files (with faults for tests).
 *
 *   thread.h  threads, mutex, condition, readers-writer lock, worker pool
 *   clock.h   wall clock, monotonic clock, hybrid logical clock
 *   file.h    files through an `fs`, which tests replace by one that fails
 *   process.h what the kernel says of this process
 */
#ifndef KITH_OS_H
#define KITH_OS_H

#include "os/clock.h"
#include "os/file.h"
#include "os/process.h"
#include "os/thread.h"

#endif
