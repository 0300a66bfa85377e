/* kith model: which models there are, and whether one is whole and good at a precision.
 *
 * `list` looks where the default model is looked for: beside it in the cache of tools/setup, and in
 * /usr/share/kith/model. `check` reads a folder as serving would, every tensor of it, and embeds a few
 * texts in f32 and in the asked precision: what their cosines are tells what the precision costs with
 * this model (all-MiniLM-L6-v2 in int8: mean .998). A folder that is wrong is refused with the file and
 * the tensor or key at fault. The limits of `check` are the project's gates for int8: mean .995, worst
 * .98; below them it says so and exits with 1.
 */
#include "role/args.h"
#include "role/command.h"
#include "role/instance.h"
#include "role/term.h"

#include "encode/encode.h"
#include <stdio.h>

enum { PATH_BYTES = INSTANCE_PATH_MAX };

static const str samples[] = {
    STR_INIT("how do I fix a flat tire"),
    STR_INIT("The train was late again, so we walked home along the river and talked."),
    STR_INIT("thanks!"),
    STR_INIT("Does anyone know a good dentist near the old market? Mine retired last month."),
    STR_INIT("@sam the release notes say 2.4.1, but `kith version` prints 2.4.0 \xf0\x9f\xa4\x94"),
    STR_INIT(
        "Breaking: the council voted 7 to 5 against the new stadium after a nine-hour session."),
    STR_INIT("so tired of winter"),
    STR_INIT("Recipe: two eggs, a cup of flour, milk, a pinch of salt; fry thin, serve with jam."),
};
#define SAMPLES     COUNT_OF(samples)
#define MEAN_LEAST  0.995
#define WORST_LEAST 0.98

/* ---- list ---- */

/* A path may hold any bytes: what is no UTF-8 ends it. */
static void add_json(strbuf *b, const char *z) {
    str s = str_of(z);
    size_t bad;
    if (!utf8_valid(s, &bad)) s.len = bad;
    strbuf_add_json(b, s);
}

typedef struct listing {
    const char *root;
    const char *standard; /* the default's folder */
    bool json;
    size_t count;
} listing;

static err list_one(void *ctx, const char *name) {
    listing *l = ctx;
    char path[PATH_BYTES], weights[PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", l->root, name);
    if (n >= (int)sizeof path) return OK;
    n = snprintf(weights, sizeof weights, "%s/model.safetensors", path);
    if (n >= (int)sizeof weights || !fs_exists(fs_real(), weights)) return OK;
    bool standard = strcmp(path, l->standard) == 0;
    strbuf b;
    strbuf_init(&b, 16 * PATH_BYTES);
    if (l->json) {
        strbuf_addz(&b, l->count ? ",{\"name\":" : "{\"name\":");
        add_json(&b, name);
        strbuf_addz(&b, ",\"path\":");
        add_json(&b, path);
        strbuf_addf(&b, ",\"default\":%s}", standard ? "true" : "false");
    } else {
        strbuf_addf(&b, "%-28s %s%s\n", name, path, standard ? "  (default)" : "");
    }
    err rc = b.rc;
    if (rc == OK) term_out(STR_FMT, STR_ARG(strbuf_str(&b)));
    strbuf_deinit(&b);
    l->count++;
    return rc;
}

static err run_list(bool json) {
    static const char system_root[] = "/usr/share/kith/model";
    char standard[PATH_BYTES], root[PATH_BYTES];
    if (instance_model_dir(standard) != OK) standard[0] = 0;
    snprintf(root, sizeof root, "%s", standard);
    char *slash = strrchr(root, '/');
    if (slash) *slash = 0;
    listing l = {.root = root, .standard = standard, .json = json};
    if (json) term_out("[");
    err rc = slash ? fs_list(fs_real(), root, list_one, &l) : OK;
    l.root = system_root;
    if (rc == OK && strcmp(root, system_root) != 0 && fs_exists(fs_real(), system_root))
        rc = fs_list(fs_real(), system_root, list_one, &l);
    if (json) term_out("]\n");
    if (!json && l.count == 0) term_out("no models: tools/setup brings all-MiniLM-L6-v2\n");
    return rc;
}

/* ---- check ---- */

static err embed_samples(const char *dir, const char *precision, encode_model **m, float **out) {
    encode_scratch *s = NULL;
    TRY(provider_model_open(fs_real(), dir, precision, m));
    *out = mem_alloc(SAMPLES * encode_dim(*m) * sizeof **out);
    err rc = *out ? encode_scratch_open(*m, &s) : ERR_NO_MEMORY;
    if (rc == OK) rc = encode_batch(*m, s, samples, SAMPLES, *out, NULL);
    encode_scratch_close(s);
    return rc;
}

static void compare(const float *a, const float *b, size_t dim, double *mean, double *worst) {
    *mean = 0;
    *worst = 1;
    for (size_t i = 0; i < SAMPLES; i++) {
        double cosine = 0;
        for (size_t d = 0; d < dim; d++) cosine += (double)a[i * dim + d] * b[i * dim + d];
        *mean += cosine / SAMPLES;
        if (cosine < *worst) *worst = cosine;
    }
}

static err say_check(const char *dir, const char *precision, const encode_model *m, double mean,
                     double worst, bool json) {
    strbuf path;
    strbuf_init(&path, 16 * PATH_BYTES);
    if (json)
        add_json(&path, dir);
    else
        strbuf_addz(&path, dir);
    err rc = path.rc;
    if (rc == OK)
        term_out(json
                     ? "{\"path\":%s,\"dim\":%zu,\"layers\":%zu,\"pooling\":\"%s\",\"max_tokens\":"
                       "%zu,\"bytes\":%zu,\"precision\":\"%s\",\"cosine_mean\":%.6f,"
                       "\"cosine_worst\":%.6f}\n"
                     : "%s: whole\n  %zu dimensions, %zu layers, %s pooling, at most %zu tokens a "
                       "text, %zu bytes in memory\n  %s against f32: cosine %.6f in the mean, %.6f "
                       "at worst\n",
                 path.ptr ? path.ptr : "", encode_dim(m), encode_layers(m),
                 encode_pools_cls(m) ? "cls" : "mean", encode_max_tokens(m), encode_model_bytes(m),
                 precision, mean, worst);
    strbuf_deinit(&path);
    return rc;
}

static err run_check(const char *dir, const char *precision, bool json) {
    encode_model *exact = NULL, *m = NULL;
    float *v = NULL, *w = NULL;
    double mean, worst;
    err rc = embed_samples(dir, "f32", &exact, &v);
    if (rc == OK) rc = embed_samples(dir, precision, &m, &w);
    if (rc == OK) {
        compare(v, w, encode_dim(m), &mean, &worst);
        rc = say_check(dir, precision, m, mean, worst, json);
        if (rc == OK && (mean < MEAN_LEAST || worst < WORST_LEAST))
            rc = err_set(ERR_UNSUPPORTED, "%s: %s is not good enough for this model: use f32", dir,
                         precision);
    }
    encode_model_close(exact);
    encode_model_close(m);
    mem_free(v);
    mem_free(w);
    return rc;
}

int command_model(int argc, char **argv) {
    const char *precision = "int8";
    bool json = false;
    char path[PATH_BYTES];
    const arg args[] = {
        {"precision", ARG_STR, &precision, "P", "f32, bf16 or int8 (default)", "KITH_PRECISION"},
        {"json", ARG_BOOL, &json, NULL, "print JSON, for scripts", NULL},
    };
    args_spec spec = {.command = "model",
                      .usage = "kith model [flags] list | check [DIR]",
                      .about = "Lists the models that are here; checks that one is whole, and what "
                               "a precision costs it.",
                      .examples =
                          "  kith model list\n  kith model check my-model --precision int8\n",
                      .args = args,
                      .count = COUNT_OF(args),
                      .positional_min = 1,
                      .positional_max = 2};
    err rc = args_parse(&spec, argc, argv);
    if (rc == ERR_CANCELLED) return 0;
    if (rc != OK) return term_fail(rc);
    const char *what = spec.positional[0], *dir = spec.positional[1];
    bool check = strcmp(what, "check") == 0;
    if (!check && strcmp(what, "list") != 0)
        return term_fail(err_set(ERR_INVALID, "model: expected list or check, got '%s'", what));
    if (check && spec.positional_count < 2) {
        rc = instance_model_dir(path);
        dir = path;
    }
    if (rc == OK) rc = check ? run_check(dir, precision, json) : run_list(json);
    return rc == OK ? 0 : term_fail(rc);
}
