/* /proc/self/stat and its neighbours. The fields of stat stand behind the command's name, which may
 * hold anything but ends with the last ')': 12 and 13 behind it are user and system time in ticks, 18
 * threads, 20 the start in ticks since boot, 21 virtual bytes, 22 resident pages (proc(5)).
 */
#include "os/process.h"

#include "os/os.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX_BYTES = 4096 };

static str read_small(const char *path, char buf[FILE_MAX_BYTES]) {
    file *f;
    size_t got = 0;
    if (file_open(fs_real(), path, FILE_READ, &f) != OK) return (str){"", 0};
    err rc = file_pread(f, buf, FILE_MAX_BYTES, 0, &got);
    file_close(f);
    return str_from(buf, rc == OK ? got : 0);
}

static uint64_t boot_s(void) {
    char buf[FILE_MAX_BYTES];
    str up = read_small("/proc/uptime", buf), first;
    double s;
    if (!str_split(&up, ' ', &first) || !str_to_f64(first, &s)) return 0;
    return (uint64_t)((double)clock_wall_ms() / 1000 - s);
}

static err count_one(void *ctx, const char *name) {
    (void)name;
    ++*(uint64_t *)ctx;
    return OK;
}

void process_stats_get(process_stats *out) {
    char buf[FILE_MAX_BYTES];
    *out = (process_stats){0};
    str s = read_small("/proc/self/stat", buf), field;
    size_t end = s.len;
    while (end && s.ptr[end - 1] != ')') end--;
    s = str_trim(str_skip(s, end));
    uint64_t v[24] = {0};
    for (size_t i = 1; i < COUNT_OF(v) && str_split(&s, ' ', &field); i++)
        if (!str_to_u64(field, &v[i])) v[i] = 0;
    double tick = (double)sysconf(_SC_CLK_TCK);
    out->cpu_s = (double)(v[12] + v[13]) / tick;
    out->threads = v[18];
    out->start_s = (double)boot_s() + (double)v[20] / tick;
    out->virtual_bytes = v[21];
    out->rss = v[22] * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t process_fds(void) {
    uint64_t n = 0;
    if (fs_list(fs_real(), "/proc/self/fd", count_one, &n) != OK) return 0;
    return n ? n - 1 : 0; /* the listing's own */
}

uint64_t process_fds_max(void) {
    struct rlimit lim;
    return getrlimit(RLIMIT_NOFILE, &lim) == 0 ? lim.rlim_cur : 0;
}

double process_age_s(const process_stats *p) {
    return MAX((double)clock_wall_ms() / 1000 - p->start_s, 0);
}

double process_file_age_s(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) return -1;
    double at = (double)st.st_mtim.tv_sec + (double)st.st_mtim.tv_nsec / 1e9;
    return MAX((double)clock_wall_ms() / 1000 - at, 0);
}

uint64_t process_memory_limit(void) {
    char buf[FILE_MAX_BYTES];
    uint64_t v;
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    str s = str_trim(read_small("/sys/fs/cgroup/memory.max", buf));
    return str_to_u64(s, &v) && v < machine ? v : machine;
}
