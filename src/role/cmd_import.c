/* kith import: JSONL, gz or plain, into a kith, by its batch operation.
 *
 * Lines go in requests of up to REQUEST_LINES or REQUEST_BYTES. The answer has a line for each line
 * sent, so a bad one is told with its number in the file and the rest goes on. Puts are idempotent,
 * so the place reached needs no transaction: it is kept in a small file beside the data (or, for a
 * server elsewhere, in the user's state directory) after each request, and a second run of the same
 * file skips what is done. Vectors given beside (--vectors) are row i for line i.
 */
#include "ingest/ingest.h"
#include "role/args.h"
#include "role/command.h"
#include "role/remote.h"
#include "role/term.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    REQUEST_LINES = 2000,
    REQUEST_BYTES = 4 << 20,
    BAD_SHOWN_MAX = 20,
    PATH_BYTES = 4096,
    DIM_MAX = 4096,
    WAIT_POLL_MS = 500,
    REQUEST_MS = 600000
};

static volatile sig_atomic_t interrupted;
static void on_signal(int sig) {
    interrupted = sig;
}

typedef struct import {
    remote r;
    lines *in;
    const char *path;
    char state_path[PATH_BYTES];
    uint64_t print; /* of the file: another file under the same name starts anew */
    FILE *vectors;
    bool json, wait;
    uint64_t line, sent_from; /* lines read; the first of this request */
    uint64_t done, put, same, bad;
    uint64_t lsn;
    strbuf body;
    progress p;
} import;

/* ---- where an earlier run stopped ---- */

static uint64_t file_print(const char *path) {
    struct stat st;
    char head[4096];
    if (strcmp(path, "-") == 0 || stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof head);
    if (fd >= 0) close(fd);
    return n < 0 ? 0 : hash64(head, (size_t)n, (uint64_t)st.st_size) | 1;
}

static void find_state(import *m, const remote_flags *f) {
    char full[PATH_BYTES], dir[PATH_BYTES];
    m->print = file_print(m->path);
    if (!m->print || !realpath(m->path, full)) return;
    uint64_t name = hash64(full, strlen(full), m->print);
    const char *home = getenv("HOME");
    if (f->server)
        snprintf(dir, sizeof dir, "%s/.kith", home ? home : "/tmp");
    else
        snprintf(dir, sizeof dir, "%s", f->data);
    if (fs_mkdir(fs_real(), dir) != OK) return;
    int n = snprintf(m->state_path, sizeof m->state_path, "%s/import-%016llx", dir,
                     (unsigned long long)name);
    if (n >= (int)sizeof m->state_path) m->state_path[0] = 0;
}

static uint64_t state_load(const import *m) {
    uint8_t *text;
    size_t n;
    uint64_t at = 0;
    if (!m->state_path[0] || file_read_all(fs_real(), m->state_path, 64, &text, &n) != OK) return 0;
    if (!str_to_u64(str_trim(str_from(text, n)), &at)) at = 0;
    mem_free(text);
    return at;
}

static void state_save(const import *m) {
    char text[32];
    if (!m->state_path[0]) return;
    int n = snprintf(text, sizeof text, "%llu\n", (unsigned long long)m->done);
    err rc = file_write_atomic(fs_real(), m->state_path, text, (size_t)n);
    (void)rc; /* the next run then starts from further back, and loses only time */
}

/* ---- lines ---- */

static void bad_line(import *m, uint64_t line, str why) {
    if (++m->bad <= BAD_SHOWN_MAX) {
        progress_end(&m->p);
        term_note("line %llu: " STR_FMT, (unsigned long long)line, STR_ARG(why));
    } else if (m->bad == BAD_SHOWN_MAX + 1) {
        term_note("more bad lines follow; they are only counted");
    }
}

/* One row of an fvecs file, as base64 of little-endian floats, into the line's object. */
static err add_vector(import *m, str *line) {
    uint8_t head[4], row[DIM_MAX * 4];
    if (fread(head, 1, 4, m->vectors) != 4)
        return err_set(ERR_INVALID, "--vectors: no row for line %llu", (unsigned long long)m->line);
    size_t n = (size_t)le32_get(head) * 4;
    if (n == 0 || n > DIM_MAX * 4 || fread(row, 1, n, m->vectors) != n)
        return err_set(ERR_INVALID, "--vectors: not an fvecs file at row %llu",
                       (unsigned long long)m->line);
    while (line->len && line->ptr[line->len - 1] != '}') line->len--;
    if (line->len < 2) {
        bad_line(m, m->line, STR("not a JSON object"));
        return OK;
    }
    strbuf_add(&m->body, (str){line->ptr, line->len - 1});
    strbuf_addz(&m->body, line->len > 2 ? ",\"vector\":\"" : "\"vector\":\"");
    base64_add(&m->body, row, n, BASE64_STANDARD);
    strbuf_addz(&m->body, "\"}\n");
    *line = (str){"", 0};
    return m->body.rc;
}

/* Every line goes out as a line, so the server's numbers are ours; one that is empty or too long goes
 * as an empty one. */
static err add_line(import *m, str line, bool cut) {
    if (cut) bad_line(m, m->line, STR("longer than 1 MiB: left out"));
    bool empty = cut || str_trim(line).len == 0;
    if (m->vectors && !empty) {
        TRY(add_vector(m, &line));
        empty = true; /* it is in the body, or has no brace to put a vector behind */
        if (line.len == 0) return OK;
    }
    if (!empty) strbuf_add(&m->body, line);
    strbuf_addc(&m->body, '\n');
    return m->body.rc;
}

/* ---- answers ---- */

/* A result without a line says why the rest was not taken. */
static err one_result(import *m, yyjson_val *v) {
    yyjson_val *e = yyjson_obj_get(v, "error"), *lsn = yyjson_obj_get(v, "lsn");
    uint64_t n = yyjson_get_uint(yyjson_obj_get(v, "line"));
    const char *detail = yyjson_get_str(yyjson_obj_get(e, "detail"));
    if (n == 0) return err_set(ERR_IO, "%s; run it again to go on", detail ? detail : "refused");
    m->done = m->sent_from + n - 1;
    if (e) {
        bad_line(m, m->done, str_of(detail ? detail : "refused"));
        return OK;
    }
    const char *outcome = yyjson_get_str(yyjson_obj_get(v, "outcome"));
    if (outcome && strcmp(outcome, "unchanged") == 0)
        m->same++;
    else
        m->put++;
    if (yyjson_is_uint(lsn)) m->lsn = MAX(m->lsn, yyjson_get_uint(lsn));
    return OK;
}

static err send_request(import *m) {
    if (m->body.len == 0) return OK;
    http_reply reply;
    http_ask ask = {.method = "POST",
                    .target = "/v1/posts:batch",
                    .content_type = "application/x-ndjson",
                    .body = strbuf_str(&m->body),
                    .timeout_ms = REQUEST_MS};
    TRY(remote_call(&m->r, &ask, &reply));
    str rest = reply.body, line;
    while (str_split(&rest, '\n', &line)) {
        yyjson_doc *doc;
        if (line.len == 0) continue;
        TRY(json_parse(line, &doc));
        err rc = one_result(m, yyjson_doc_get_root(doc));
        yyjson_doc_free(doc);
        if (rc != OK) {
            state_save(m);
            return rc;
        }
    }
    strbuf_reset(&m->body);
    m->sent_from = m->line + 1;
    m->done = m->line;
    state_save(m);
    progress_show(&m->p, m->done, 0, lines_progress(m->in));
    return OK;
}

static err skip_done(import *m) {
    uint64_t to = state_load(m);
    str line;
    bool cut;
    while (m->line < to && !interrupted) {
        err rc = lines_next(m->in, &line, &cut);
        if (rc == ERR_NOT_FOUND) break;
        TRY(rc);
        m->line++;
        if (m->vectors && str_trim(line).len) {
            strbuf_reset(&m->body);
            TRY(add_vector(m, &line));
        }
    }
    strbuf_reset(&m->body);
    m->done = m->line;
    m->sent_from = m->line + 1;
    if (m->line) term_note("going on behind line %llu", (unsigned long long)m->line);
    return OK;
}

static err run(import *m) {
    TRY(skip_done(m));
    size_t in_request = 0;
    while (!interrupted) {
        str line;
        bool cut;
        err rc = lines_next(m->in, &line, &cut);
        if (rc == ERR_NOT_FOUND) break;
        TRY(rc);
        m->line++;
        TRY(add_line(m, line, cut));
        if (++in_request < REQUEST_LINES && m->body.len < REQUEST_BYTES) continue;
        TRY(send_request(m));
        in_request = 0;
    }
    TRY(send_request(m));
    if (!interrupted && m->state_path[0] && fs_exists(fs_real(), m->state_path))
        return fs_unlink(fs_real(), m->state_path);
    return OK;
}

/* ---- until everything is found by meaning ---- */

static err wait_searchable(import *m) {
    progress p;
    progress_start(&p, "embedding");
    uint64_t most = 0;
    while (!interrupted) {
        http_reply reply;
        yyjson_doc *doc;
        http_ask ask = {.method = "GET", .target = "/v1/status"};
        TRY(remote_json(&m->r, &ask, &reply, &doc));
        yyjson_val *root = yyjson_doc_get_root(doc);
        uint64_t pending = yyjson_get_uint(yyjson_obj_get(root, "embed_pending"));
        uint64_t posts = yyjson_get_uint(yyjson_obj_get(root, "posts"));
        uint64_t have = yyjson_get_uint(yyjson_obj_get(root, "vectors")) +
                        yyjson_get_uint(yyjson_obj_get(root, "embed_failed"));
        uint64_t lsn = yyjson_get_uint(yyjson_obj_get(root, "lsn"));
        yyjson_doc_free(doc);
        if (pending == 0 && lsn >= m->lsn && have >= posts) break;
        most = MAX(most, posts);
        progress_show(&p, have, most, -1);
        clock_sleep_ms(WAIT_POLL_MS);
    }
    progress_end(&p);
    return OK;
}

static void report(const import *m) {
    double s = progress_seconds(&m->p);
    uint64_t n = m->put + m->same + m->bad;
    if (m->json) {
        term_out("{\"lines\":%llu,\"put\":%llu,\"unchanged\":%llu,\"bad\":%llu,\"lsn\":%llu,"
                 "\"seconds\":%.3f,\"posts_per_second\":%.0f,\"complete\":%s}\n",
                 (unsigned long long)m->line, (unsigned long long)m->put,
                 (unsigned long long)m->same, (unsigned long long)m->bad,
                 (unsigned long long)m->lsn, s, (double)n / s, interrupted ? "false" : "true");
        return;
    }
    term_out("%llu posts put, %llu unchanged, %llu bad lines, %.1f s (%.0f posts/s)%s\n",
             (unsigned long long)m->put, (unsigned long long)m->same, (unsigned long long)m->bad, s,
             (double)n / s, interrupted ? "; stopped: run it again to go on" : "");
}

static err open_import(import *m, const remote_flags *f, const char *vectors) {
    strbuf_init(&m->body, 64 * MIB);
    TRY(lines_open(m->path, &m->in));
    if (vectors) {
        m->vectors = fopen(vectors, "rb");
        if (!m->vectors) return err_set(ERR_NOT_FOUND, "%s: cannot be read", vectors);
    }
    TRY(remote_open(f, true, &m->r));
    find_state(m, f);
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    return OK;
}

int command_import(int argc, char **argv) {
    remote_flags f = REMOTE_FLAGS_INIT;
    const char *vectors = NULL;
    bool wait = false;
    const arg args[] = {
        REMOTE_ARGS(f),
        {"vectors", ARG_STR, &vectors, "FILE", "fvecs file: row i is the vector of line i", NULL},
        {"wait", ARG_BOOL, &wait, NULL, "return when all is found by meaning", NULL},
    };
    args_spec spec = {
        .command = "import",
        .usage = "kith import [flags] FILE | -",
        .about =
            "Brings posts in from JSONL (gz or plain): {\"id\",\"text\",\"author\",\"created_at\","
            "\"reply_to\",\n\"channel\",\"tags\",\"lang\"}; other fields are kept. Stopped by "
            "Ctrl-C it "
            "goes on where it was.",
        .examples = "  kith import --data DIR posts.jsonl.gz\n"
                    "  zcat posts.jsonl.gz | kith import --server http://127.0.0.1:8080 -\n",
        .args = args,
        .count = COUNT_OF(args),
        .positional_min = 1,
        .positional_max = 1};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc != OK) return term_fail(rc);
import m = {.path = spec.positional[0], .json = f.json, .wait = wait, .sent_from = 1 };
    progress_start(&m.p, "importing");
    rc = open_import(&m, &f, vectors);
    if (rc == OK) progress_start(&m.p, "importing");
    if (rc == OK) rc = run(&m);
    progress_end(&m.p);
    if (rc == OK && wait) rc = wait_searchable(&m);
    if (rc == OK) report(&m);
    int code = rc == OK ? (m.bad || interrupted ? 1 : 0) : term_fail(rc);
    if (m.vectors) fclose(m.vectors);
    remote_close(&m.r);
    lines_close(m.in);
    strbuf_deinit(&m.body);
    return code;
}
