/* Threads by pthreads. Initialisation may fail (memory); locking a good lock cannot, so it asserts.
 * Lock order across modules is written in shard/shard.h.
 */
#ifndef KITH_OS_THREAD_H
#define KITH_OS_THREAD_H

#include "base/base.h"
#include <pthread.h>

typedef struct mutex {
    pthread_mutex_t m;
} mutex;
typedef struct cond {
    pthread_cond_t c; /* waits on the monotonic clock */
} cond;
/* Prefers writers: a stream of searches cannot starve an insert. */
typedef struct rwlock {
    pthread_rwlock_t l;
} rwlock;
typedef struct thread {
    pthread_t t;
} thread;

MUST_USE err mutex_init(mutex *m);
void mutex_deinit(mutex *m);
void mutex_lock(mutex *m);
void mutex_unlock(mutex *m);

MUST_USE err cond_init(cond *c);
void cond_deinit(cond *c);
void cond_wait(cond *c, mutex *m);
/* False when `timeout_ms` passed without a signal. */
bool cond_wait_ms(cond *c, mutex *m, uint64_t timeout_ms);
void cond_signal(cond *c);
void cond_broadcast(cond *c);

MUST_USE err rwlock_init(rwlock *l);
void rwlock_deinit(rwlock *l);
void rwlock_read(rwlock *l);
void rwlock_write(rwlock *l);
void rwlock_unlock(rwlock *l);

/* `name` is at most 15 bytes; it shows in debuggers. All signals are blocked in new threads. */
MUST_USE err thread_start(thread *t, const char *name, void (*fn)(void *), void *arg);
void thread_join(thread *t);
/* Calls fn when this thread (of thread_start) has done its work: for what a module keeps per thread.
 * At most four a thread; never called in the main thread. */
void thread_on_exit(void (*fn)(void));
/* This thread gives way to others when cores are scarce (nice 10); best effort. */
void thread_lower_priority(void);
unsigned thread_cores(void); /* cores this process may use (affinity respected), at least 1 */

/* A pool of workers over one bounded queue. pool_submit returns ERR_AGAIN when the queue is full.
 * pool_close runs what is queued, then joins. */
typedef struct pool pool;
MUST_USE err pool_open(const char *name, unsigned threads, size_t queue_max, pool **out);
MUST_USE err pool_submit(pool *p, void (*fn)(void *), void *arg);
size_t pool_queued(pool *p);
void pool_close(pool *p);

#endif
