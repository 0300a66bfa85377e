/* Threads by pthreads, and the worker pool.
 *
 * Readers-writer locks prefer writers (glibc's NONRECURSIVE kind): with the default a steady
 * stream of searches would hold an insert off for ever. Conditions wait on the monotonic clock, so
 * a jump of the wall clock neither hangs nor spins a waiter.
 *
 * The pool is a ring of (function, argument) pairs under one mutex: a job here costs a search or a
 * put (tens of microseconds and more), so the lock's 50 ns do not show.
 */
#include "os/thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

enum { POOL_THREADS_MAX = 256, THREAD_STACK_BYTES = 1 << 20, BACKGROUND_NICE = 10 };

static void must(int rc) {
    KITH_ASSERT(rc == 0);
}
static err from(int rc, const char *what) {
    return rc == 0 ? OK : err_set(ERR_NO_MEMORY, "%s: %s", what, strerror(rc));
}

err mutex_init(mutex *m) {
    return from(pthread_mutex_init(&m->m, NULL), "mutex");
}
void mutex_deinit(mutex *m) {
    must(pthread_mutex_destroy(&m->m));
}
void mutex_lock(mutex *m) {
    must(pthread_mutex_lock(&m->m));
}
void mutex_unlock(mutex *m) {
    must(pthread_mutex_unlock(&m->m));
}

err cond_init(cond *c) {
    pthread_condattr_t a;
    TRY(from(pthread_condattr_init(&a), "condition"));
    must(pthread_condattr_setclock(&a, CLOCK_MONOTONIC));
    int rc = pthread_cond_init(&c->c, &a);
    must(pthread_condattr_destroy(&a));
    return from(rc, "condition");
}

void cond_deinit(cond *c) {
    must(pthread_cond_destroy(&c->c));
}
void cond_wait(cond *c, mutex *m) {
    must(pthread_cond_wait(&c->c, &m->m));
}
void cond_signal(cond *c) {
    must(pthread_cond_signal(&c->c));
}
void cond_broadcast(cond *c) {
    must(pthread_cond_broadcast(&c->c));
}

bool cond_wait_ms(cond *c, mutex *m, uint64_t timeout_ms) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t ns = (uint64_t)t.tv_nsec + timeout_ms % 1000 * 1000000u;
    t.tv_sec += (time_t)(timeout_ms / 1000 + ns / 1000000000u);
    t.tv_nsec = (long)(ns % 1000000000u);
    int rc = pthread_cond_timedwait(&c->c, &m->m, &t);
    KITH_ASSERT(rc == 0 || rc == ETIMEDOUT);
    return rc == 0;
}

err rwlock_init(rwlock *l) {
    pthread_rwlockattr_t a;
    TRY(from(pthread_rwlockattr_init(&a), "readers-writer lock"));
    must(pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
    int rc = pthread_rwlock_init(&l->l, &a);
    must(pthread_rwlockattr_destroy(&a));
    return from(rc, "readers-writer lock");
}

void rwlock_deinit(rwlock *l) {
    must(pthread_rwlock_destroy(&l->l));
}
void rwlock_read(rwlock *l) {
    must(pthread_rwlock_rdlock(&l->l));
}
void rwlock_write(rwlock *l) {
    must(pthread_rwlock_wrlock(&l->l));
}
void rwlock_unlock(rwlock *l) {
    must(pthread_rwlock_unlock(&l->l));
}

typedef struct start {
    void (*fn)(void *);
    void *arg;
    char name[16];
} start;

enum { ON_EXIT_MAX = 4 };
static _Thread_local void (*on_exit_calls[ON_EXIT_MAX])(void);
static _Thread_local unsigned on_exit_count;

void thread_on_exit(void (*fn)(void)) {
    KITH_ASSERT(on_exit_count < ON_EXIT_MAX);
    on_exit_calls[on_exit_count++] = fn;
}

static void *thread_main(void *p) {
    start s = *(start *)p;
    mem_free(p);
    (void)pthread_setname_np(pthread_self(), s.name);
    s.fn(s.arg);
    while (on_exit_count) on_exit_calls[--on_exit_count]();
    return NULL;
}

err thread_start(thread *t, const char *name, void (*fn)(void *), void *arg) {
    start *s = mem_zalloc(1, sizeof *s);
    if (!s) return ERR_NO_MEMORY;
    s->fn = fn;
    s->arg = arg;
    memcpy(s->name, name, MIN(strlen(name), sizeof s->name - 1));
    pthread_attr_t a;
    err rc = from(pthread_attr_init(&a), "thread");
    if (rc == OK) {
        must(pthread_attr_setstacksize(&a, THREAD_STACK_BYTES));
        sigset_t all, old; /* signals go to the main thread */
        sigfillset(&all);
        must(pthread_sigmask(SIG_SETMASK, &all, &old));
        int e = pthread_create(&t->t, &a, thread_main, s);
        must(pthread_sigmask(SIG_SETMASK, &old, NULL));
        must(pthread_attr_destroy(&a));
        if (e) rc = err_set(ERR_AGAIN, "cannot start thread %s: %s", name, strerror(e));
    }
    if (rc != OK) mem_free(s);
    return rc;
}

void thread_join(thread *t) {
    must(pthread_join(t->t, NULL));
}

void thread_lower_priority(void) {
    /* On Linux the process priority of id 0 is that of the calling thread. */
    (void)setpriority(PRIO_PROCESS, 0, BACKGROUND_NICE);
}

unsigned thread_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? (unsigned)n : 1;
}

/* ---- pool ---- */

typedef struct job {
    void (*fn)(void *);
    void *arg;
} job;

struct pool {
    /* immutable */
    thread *threads;
    unsigned thread_count;
    size_t max;
    /* guarded by mu */
    mutex mu;
    cond more;
    job *ring;
    size_t head, count;
    bool closing;
};

static void pool_main(void *arg) {
    pool *p = arg;
    mutex_lock(&p->mu);
    for (;;) {
        while (p->count == 0 && !p->closing) cond_wait(&p->more, &p->mu);
        if (p->count == 0) break;
        job j = p->ring[p->head];
        p->head = (p->head + 1) % p->max;
        p->count--;
        mutex_unlock(&p->mu);
        j.fn(j.arg);
        mutex_lock(&p->mu);
    }
    mutex_unlock(&p->mu);
}

err pool_open(const char *name, unsigned threads, size_t queue_max, pool **out) {
    KITH_ASSERT(threads > 0 && threads <= POOL_THREADS_MAX && queue_max > 0);
    *out = NULL;
    pool *p = mem_zalloc(1, sizeof *p);
    if (!p) return ERR_NO_MEMORY;
    p->max = queue_max;
    p->ring = mem_zalloc(queue_max, sizeof *p->ring);
    p->threads = mem_zalloc(threads, sizeof *p->threads);
    if (!p->ring || !p->threads || mutex_init(&p->mu) != OK) goto no_mutex;
    if (cond_init(&p->more) != OK) goto no_cond;
    for (; p->thread_count < threads; p->thread_count++) {
        err rc = thread_start(&p->threads[p->thread_count], name, pool_main, p);
        if (rc != OK) {
            pool_close(p);
            return rc;
        }
    }
    *out = p;
    return OK;
no_cond:
    mutex_deinit(&p->mu);
no_mutex:
    mem_free(p->ring);
    mem_free(p->threads);
    mem_free(p);
    return ERR_NO_MEMORY;
}

err pool_submit(pool *p, void (*fn)(void *), void *arg) {
    mutex_lock(&p->mu);
    bool full = p->count == p->max || p->closing;
    if (!full) {
        p->ring[(p->head + p->count) % p->max] = (job){fn, arg};
        p->count++;
        cond_signal(&p->more);
    }
    mutex_unlock(&p->mu);
    return full ? err_set(ERR_AGAIN, "busy: %zu requests are waiting", p->max) : OK;
}

size_t pool_queued(pool *p) {
    mutex_lock(&p->mu);
    size_t n = p->count;
    mutex_unlock(&p->mu);
    return n;
}

void pool_close(pool *p) {
    if (!p) return;
    mutex_lock(&p->mu);
    p->closing = true;
    cond_broadcast(&p->more);
    mutex_unlock(&p->mu);
    for (unsigned i = 0; i < p->thread_count; i++) thread_join(&p->threads[i]);
    cond_deinit(&p->more);
    mutex_deinit(&p->mu);
    mem_free(p->ring);
    mem_free(p->threads);
    mem_free(p);
}
