/* remote: a kith to talk to, for commands. A server named by --server, or the one that serves --data
 * (found by DIR/serve.json), or else one made in this process for the moment. Either way a command
 * speaks the HTTP API, so there is one way that things are done.
 */
#ifndef KITH_ROLE_REMOTE_H
#define KITH_ROLE_REMOTE_H

#include "base/json.h"
#include "net/client.h"
#include "role/instance.h"

/* Flags that these commands share. */
typedef struct remote_flags {
    const char *server, *token, *data, *master_key, *archive;
    embed_flags embed; /* of a kith made here */
    bool json;
} remote_flags;
#define REMOTE_FLAGS_INIT ((remote_flags){.data = "kith-data", .embed = EMBED_FLAGS_INIT})
#define REMOTE_ARGS(f)                                                                            \
    {"data", ARG_STR, &(f).data, "DIR", "data directory (default kith-data)", "KITH_DIR"},        \
        {"server", ARG_STR, &(f).server, "URL", "a running kith instead", "KITH_SERVER"},         \
        {"token", ARG_STR, &(f).token, "KEY", "key for it", "KITH_TOKEN"}, EMBED_ARGS((f).embed), \
    {                                                                                             \
        "json", ARG_BOOL, &(f).json, NULL, "print JSON, for scripts", NULL                        \
    }

typedef struct remote {
    http_client *http;
    instance *own; /* NULL: a server elsewhere */
} remote;

/* may_create: a missing data directory is made. */
MUST_USE err remote_open(const remote_flags *f, bool may_create, remote *out);
void remote_close(remote *r);
/* Calls, and turns an answer of 400 or more into an error with the problem's detail. */
MUST_USE err remote_call(remote *r, const http_ask *ask, http_reply *out);
/* The same, and parses the answer; yyjson_doc_free it. */
MUST_USE err remote_json(remote *r, const http_ask *ask, http_reply *reply, yyjson_doc **out);

/* A text member of an object; "" when it is absent or no text. */
const char *remote_text(yyjson_val *obj, const char *key);

#endif
