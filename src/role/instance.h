/* instance: one running kith in this process: directory, keys, model, shard, folds, server. `kith serve`
 * is one that stays; the other commands make one for a moment when no server runs.
 *
 *     instance *k;
 *     TRY(instance_open(&(instance_options){.dir = "data", .host = "127.0.0.1"}, &k));
 *     ... instance_url(k) answers ...
 *     instance_close(k);
 */
#ifndef KITH_ROLE_INSTANCE_H
#define KITH_ROLE_INSTANCE_H

#include "api/api.h"
#include "archive/archive.h"
#include "provider/provider.h"
#include "role/embed_flags.h"

#define KITH_VERSION "0.1.0"

typedef struct instance instance;

typedef struct instance_options {
    const char *dir;
    embed_flags
        embed; /* all 0: the local model at its default place, in the directory's own precision */
    const char *host; /* NULL: "127.0.0.1" */
    uint16_t port;    /* 0: any free one */
    unsigned workers; /* 0: by cores */
    bool keys_always;
    bool must_exist;        /* a missing directory is an error, not a new one */
    bool quiet;             /* notices only when something is wrong */
    const char *archive;    /* URL; NULL: none */
    const char *master_key; /* its file; NULL: KITH_MASTER_KEY_FILE, KITH_MASTER_KEY, or none */
    bool announce;          /* write DIR/serve.json, so that other commands find this server */
} instance_options;

MUST_USE err instance_open(const instance_options *o, instance **out);
void instance_close(instance *k);
const char *instance_url(const instance *k);
/* The admin key when this call made the directory, else "". */
const char *instance_new_key(const instance *k);
provider *instance_provider(instance *k);
shard *instance_shard(instance *k);
archive *instance_archive(instance *k); /* NULL: none */
/* One operation without access control, its answer as JSON: what commands of a moment do. */
MUST_USE err instance_invoke(instance *k, api_op op, const void *request, strbuf *json);

/* "mock:384", a folder, or NULL for the default: KITH_MODEL, else the cache of tools/setup, else
 * /usr/share/kith/model. precision NULL: "int8". */
MUST_USE err instance_model(const char *model, const char *precision, provider **out);
/* The precision that the vectors in `dir` were made with; NULL when there are none yet. */
const char *instance_precision(const char *dir);

/* The folder that NULL stands for, into path[INSTANCE_PATH_MAX]. */
#define INSTANCE_PATH_MAX 4096
MUST_USE err instance_model_dir(char path[INSTANCE_PATH_MAX]);

#endif
