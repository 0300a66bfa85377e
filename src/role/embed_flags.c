/* Flags to a provider: see embed_flags.h. Local and mock models are opened as ever (--model mock:64 too);
 * the key is read here, handed over and wiped.
 */
#include "role/embed_flags.h"

#include "role/instance.h"
#include <stdio.h>
#include <stdlib.h>

enum { KEY_FILE_MAX = 8192, MOCK_DIM = 384, MS_MAX = 3600000, MB_MAX = 1 << 20 };

static err in_range(const char *flag, int64_t v, int64_t most) {
    if (v >= 0 && v <= most) return OK;
    return err_set(ERR_INVALID, "--%s: expected 0 to %lld", flag, (long long)most);
}

static err not_negative(const char *flag, double v) {
    return v >= 0 ? OK : err_set(ERR_INVALID, "--%s: expected a number that is not negative", flag);
}

static bool is(const embed_flags *f, const char *kind) {
    return strcmp(f->kind && f->kind[0] ? f->kind : "local", kind) == 0;
}

bool embed_flags_remote(const embed_flags *f) {
    return is(f, "openai") || is(f, "vertex");
}

err embed_flags_check(const embed_flags *f) {
    if (!embed_flags_remote(f) && !is(f, "local") && !is(f, "mock"))
        return err_set(ERR_INVALID, "--provider: expected local, openai, vertex or mock, got '%s'",
                       f->kind);
    TRY(in_range("embed-dim", f->dim, PROVIDER_DIM_MAX));
    TRY(in_range("embed-query-ms", f->query_ms, MS_MAX));
    TRY(in_range("embed-call-ms", f->call_ms, MS_MAX));
    TRY(in_range("embed-open-ms", f->open_ms, MS_MAX));
    TRY(in_range("embed-cache-mb", f->cache_mb, MB_MAX));
    TRY(in_range("embed-disk-mb", f->disk_mb, MB_MAX));
    TRY(not_negative("embed-rpm", f->rpm));
    TRY(not_negative("embed-tpm", f->tpm));
    TRY(not_negative("embed-day-max", f->day_max));
    TRY(not_negative("embed-month-max", f->month_max));
    if (is(f, "vertex") && !(f->project && f->project[0]))
        return err_set(ERR_INVALID, "--vertex-project: expected the id of a Google Cloud project");
    return OK;
}

/* *out is mem_free'd by the caller; NULL: no key. */
static err read_key(const embed_flags *f, char **out) {
    static const char *const names[] = {"KITH_EMBED_KEY", "OPENAI_API_KEY"};
    *out = NULL;
    if (f->key_file) {
        uint8_t *p;
        size_t n;
        TRY(file_read_all(fs_real(), f->key_file, KEY_FILE_MAX, &p, &n));
        str key = str_trim(str_from(p, n));
        *out = mem_zalloc(key.len + 1, 1);
        if (*out) memcpy(*out, key.ptr, key.len);
        memset(p, 0, n);
        mem_free(p);
        return *out ? OK : ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const char *z = getenv(names[i]);
        if (!z || !z[0]) continue;
        *out = mem_dup(z, strlen(z) + 1);
        return *out ? OK : ERR_NO_MEMORY;
    }
    return OK;
}

static const char *or_null(const char *z) {
    return z && z[0] ? z : NULL;
}

err embed_flags_open(const embed_flags *f, const char *dir,
                     void (*notice)(void *ctx, const char *text), void *ctx, provider **out) {
    *out = NULL;
    if (is(f, "mock")) return provider_mock_open(f->dim ? (uint32_t)f->dim : MOCK_DIM, out);
    if (!embed_flags_remote(f)) return instance_model(f->model_dir, f->precision, out);
    char *key = NULL;
    if (is(f, "openai")) TRY(read_key(f, &key));
    provider_config c = {.kind = f->kind,
                         .url = or_null(f->url),
                         .model = or_null(f->model),
                         .dim = (uint32_t)f->dim,
                         .key = key,
                         .project = f->project,
                         .location = or_null(f->location),
                         .credentials = or_null(f->credentials),
                         .ca_file = or_null(f->ca_file),
                         .query_ms = (uint32_t)f->query_ms,
                         .call_ms = (uint32_t)f->call_ms,
                         .breaker = {.open_ms = (uint32_t)f->open_ms},
                         .limit = {f->rpm, f->tpm},
                         .cost = f->cost,
                         .spend = {f->day_max, f->month_max},
                         .cache_bytes = (size_t)f->cache_mb * MIB,
                         .cache_dir = dir,
                         .disk_bytes = (uint64_t)f->disk_mb * MIB,
                         .notice = notice,
                         .ctx = ctx};
    err rc = provider_open(&c, out);
    if (key) memset(key, 0, strlen(key));
    mem_free(key);
    return rc;
}
