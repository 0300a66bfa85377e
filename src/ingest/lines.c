/* Lines from a file, gz or plain. zlib's gz reader reads both and tells how many bytes of the file
 * it has taken (gzoffset), which gives the share done without unpacking twice.
 */
#include "ingest/ingest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { READ_BYTES = 1 << 18 };

struct lines {
    gzFile gz;
    uint64_t file_size; /* 0: not known */
    char *buf;
    size_t pos, len; /* unread bytes of buf are [pos, len) */
    char *line;
    size_t line_cap;
    bool end;
};

err lines_open(const char *path, lines **out) {
    *out = NULL;
    bool std = strcmp(path, "-") == 0;
    int fd = std ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_set(ERR_NOT_FOUND, "%s: cannot be read", path);
    struct stat st;
    if (fstat(fd, &st) != 0 || S_ISDIR(st.st_mode)) {
        close(fd);
        return err_set(ERR_INVALID, "%s: expected a file", path);
    }
    lines *l = mem_zalloc(1, sizeof *l);
    if (!l) {
        close(fd);
        return ERR_NO_MEMORY;
    }
    l->file_size = !std && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    l->buf = mem_alloc(READ_BYTES);
    l->gz = gzdopen(fd, "rb");
    if (!l->buf || !l->gz) {
        if (!l->gz) close(fd);
        lines_close(l);
        return err_set(ERR_NO_MEMORY, "no memory to read %s", path);
    }
    *out = l;
    return OK;
}

void lines_close(lines *l) {
    if (!l) return;
    if (l->gz) gzclose_r(l->gz);
    mem_free(l->buf);
    mem_free(l->line);
    mem_free(l);
}

static err fill(lines *l) {
    int n = gzread(l->gz, l->buf, READ_BYTES);
    if (n < 0) {
        int code;
        const char *why = gzerror(l->gz, &code);
        return err_set(ERR_CORRUPT, "the file cannot be read on: %s", why);
    }
    l->pos = 0;
    l->len = (size_t)n;
    if (n == 0) l->end = true;
    return OK;
}

err lines_next(lines *l, str *line, bool *cut) {
    size_t len = 0;
    bool any = false;
    *cut = false;
    for (;;) {
        if (l->pos == l->len) {
            if (!l->end) TRY(fill(l));
            if (l->end) break;
        }
        any = true;
        const char *from = l->buf + l->pos, *stop = memchr(from, '\n', l->len - l->pos);
        size_t n = stop ? (size_t)(stop - from) : l->len - l->pos, room = LINES_MAX_BYTES - len;
        if (n > room) *cut = true;
        TRY(mem_grow((void **)&l->line, &l->line_cap, len + MIN(n, room) + 1, 1,
                     LINES_MAX_BYTES + 1));
        memcpy(l->line + len, from, MIN(n, room));
        len += MIN(n, room);
        l->pos += n + (stop ? 1 : 0);
        if (stop) break;
    }
    if (!any) return ERR_NOT_FOUND;
    if (len && l->line[len - 1] == '\r') len--;
    *line = (str){l->line ? l->line : "", len};
    return OK;
}

double lines_progress(const lines *l) {
    if (!l->file_size) return -1;
    z_off_t at = gzoffset(l->gz);
    return at < 0 ? -1 : MIN(1.0, (double)at / (double)l->file_size);
}
