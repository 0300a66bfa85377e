/* Strict JSON with a depth limit.
 *
 * yyjson reads without recursion, so depth does not endanger the stack, but everything that walks
 * a document is simpler and safer when depth is bounded; the check counts brackets outside strings
 * before parsing; strings, most of a document, are skipped by memchr.
 */
#include "base/json.h"

/* The end of the string that starts behind the quote at `i`: its closing quote, or the text's end. */
static size_t skip_string(str s, size_t i) {
    for (;;) {
        const char *q = i < s.len ? memchr(s.ptr + i, '"', s.len - i) : NULL;
        if (!q) return s.len;
        size_t at = (size_t)(q - s.ptr), slashes = 0;
        while (slashes < at - i && s.ptr[at - 1 - slashes] == '\\') slashes++;
        if (slashes % 2 == 0) return at;
        i = at + 1;
    }
}

static bool depth_ok(str s) {
    size_t depth = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '"') {
            i = skip_string(s, i + 1);
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_DEPTH_MAX) return false;
        } else if ((c == ']' || c == '}') && depth) {
            depth--;
        }
    }
    return true;
}

static void *alloc_fn(void *ctx, size_t n) {
    (void)ctx;
    return mem_alloc(n);
}
static void *realloc_fn(void *ctx, void *p, size_t old, size_t n) {
    (void)ctx, (void)old;
    return mem_realloc(p, n);
}
static void free_fn(void *ctx, void *p) {
    (void)ctx;
    mem_free(p);
}

err json_parse(str s, yyjson_doc **out) {
    static const yyjson_alc alc = {alloc_fn, realloc_fn, free_fn, NULL};
    *out = NULL;
    if (!depth_ok(s))
        return err_set(ERR_INVALID, "JSON nested deeper than %d levels", JSON_DEPTH_MAX);
    yyjson_read_err e;
    /* yyjson only writes to its input with YYJSON_READ_INSITU, which we never pass. */
    char *in = (char *)(uintptr_t)s.ptr;
    *out = yyjson_read_opts(in, s.len, YYJSON_READ_NOFLAG, &alc, &e);
    if (*out) return OK;
    if (e.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) return ERR_NO_MEMORY;
    return err_set(ERR_INVALID, "not JSON at byte %zu: %s", e.pos, e.msg ? e.msg : "syntax");
}
