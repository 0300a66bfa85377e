/* Inside of provider/: the interface that each maker of vectors fills in. */
#ifndef KITH_PROVIDER_INT_H
#define KITH_PROVIDER_INT_H

#include "provider/provider.h"

typedef struct provider_ops {
    /* n texts into n x dim floats, unit length. Called from many threads at once. */
    err (*embed)(void *self, const str *texts, size_t n, embed_task task, float *out,
                 embed_usage *usage);
    void (*close)(void *self);
} provider_ops;

/* Takes `self` over, also when it fails. */
MUST_USE err provider_make(const provider_ops *ops, void *self, const char *space, uint32_t dim,
                           size_t texts_max, provider **out);

#endif
