/* The local provider: a sentence-transformers folder, run in this process.
 *
 * The model is immutable and shared; each call takes a scratch from a small stock and puts it back, so
 * a query never waits for a batch of the embed fold: it finds or makes a scratch of its own. The
 * space names the folder, the precision and the dimension, because vectors that differ in any of
 * these are not to be compared.
 */
#include "provider/provider_int.h"

#include "encode/encode.h"
#include <stdio.h>

enum { STOCK_MAX = 16, PATH_BYTES = 4096 };

typedef struct local {
    encode_model *model;
    /* guarded by mu */
    mutex mu;
    encode_scratch *stock[STOCK_MAX];
    size_t stocked;
} local;

static encode_scratch *take_stocked(local *l) {
    mutex_lock(&l->mu);
    encode_scratch *s = l->stocked ? l->stock[--l->stocked] : NULL;
    mutex_unlock(&l->mu);
    return s;
}

static void give_back(local *l, encode_scratch *s) {
    mutex_lock(&l->mu);
    bool room = l->stocked < STOCK_MAX;
    if (room) l->stock[l->stocked++] = s;
    mutex_unlock(&l->mu);
    if (!room) encode_scratch_close(s);
}

/* This family of models has one side for queries and documents, so the task is not looked at. */
static err local_embed(void *self, const embed_ask *ask, float *out, embed_usage *usage) {
    local *l = self;
    encode_stats st = {0};
    encode_scratch *s = take_stocked(l);
    if (!s) TRY(encode_scratch_open(l->model, &s));
    err rc = encode_batch(l->model, s, ask->texts, ask->count, out, &st);
    give_back(l, s);
    usage->tokens = st.tokens;
    return rc;
}

static void local_close(void *self) {
    local *l = self;
    for (size_t i = 0; i < l->stocked; i++) encode_scratch_close(l->stock[i]);
    encode_model_close(l->model);
    mutex_deinit(&l->mu);
    mem_free(l);
}

typedef struct model_file {
    const char *name;
    bool required;
    file_map map;
} model_file;

static err map_files(fs *disk, const char *dir, model_file *files, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char path[PATH_BYTES];
        if (snprintf(path, sizeof path, "%s/%s", dir, files[i].name) >= (int)sizeof path)
            return err_set(ERR_INVALID, "model: path too long");
        err rc = file_map_open(disk, path, &files[i].map);
        if (rc == ERR_NOT_FOUND && files[i].required)
            return err_set(rc,
                           "model: %s is missing; a sentence-transformers folder has it "
                           "(tools/setup brings the default model)",
                           path);
        if (rc != OK && rc != ERR_NOT_FOUND) return rc;
    }
    return OK;
}

static str bytes_of(const model_file *f) {
    return str_from(f->map.ptr, f->map.size);
}

err provider_model_open(fs *disk, const char *dir, const char *precision, encode_model **out) {
    encode_precision p;
    if (!encode_precision_parse(str_of(precision), &p))
        return err_set_field(ERR_INVALID, "precision", "precision: expected f32, bf16 or int8");
    model_file f[] = {{"model.safetensors", true, {0}},
                      {"vocab.txt", true, {0}},
                      {"config.json", true, {0}},
                      {"1_Pooling/config.json", false, {0}},
                      {"sentence_bert_config.json", false, {0}},
                      {"tokenizer_config.json", false, {0}}};
    err rc = map_files(disk, dir, f, COUNT_OF(f));
    if (rc == OK) {
        encode_files files = {.weights = bytes_of(&f[0]),
                              .vocabulary = bytes_of(&f[1]),
                              .config = bytes_of(&f[2]),
                              .pooling = bytes_of(&f[3]),
                              .sentence = bytes_of(&f[4]),
                              .tokenizer = bytes_of(&f[5])};
        rc = encode_model_open(&files, p, out);
    }
    for (size_t i = 0; i < COUNT_OF(f); i++) file_map_close(&f[i].map);
    return rc;
}

/* The folder's own name: the last part of its path. */
static str folder_name(const char *dir) {
    str s = str_of(dir);
    while (s.len && s.ptr[s.len - 1] == '/') s.len--;
    for (size_t i = s.len; i > 0; i--)
        if (s.ptr[i - 1] == '/') return str_skip(s, i);
    return s;
}

err provider_local_open(fs *disk, const char *model_dir, const char *precision, provider **out) {
    static const provider_ops ops = {.embed = local_embed, .close = local_close};
    *out = NULL;
    local *l = mem_zalloc(1, sizeof *l);
    if (!l) return ERR_NO_MEMORY;
    err rc = provider_model_open(disk, model_dir, precision, &l->model);
    if (rc == OK) rc = mutex_init(&l->mu);
    if (rc != OK) {
        encode_model_close(l->model);
        mem_free(l);
        return rc;
    }
    provider_info info = {
        .kind = "local", .dim = (uint32_t)encode_dim(l->model), .texts_max = PROVIDER_TEXTS_MAX};
    provider_space_set(&info, "local", folder_name(model_dir),
                       encode_precision_name(encode_precision_of(l->model)));
    return provider_make(&ops, l, &info, NULL, out);
}
