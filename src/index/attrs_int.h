/* attrs: what attrs*.c share. Nobody else includes it. */
#ifndef KITH_INDEX_ATTRS_INT_H
#define KITH_INDEX_ATTRS_INT_H

#include "index/attrs.h"
#include "index/names.h"

/* The four fields of which a document has at most one value; tags are the fifth. */
enum { ATTRS_SINGLE = 4 };

/* A document in a tag's list, and where it stands there. */
typedef struct attrs_doc_tag {
    uint32_t tag;
    uint32_t at; /* in tag_list.docs */
} attrs_doc_tag;

typedef struct attrs_doc_tags {
    attrs_doc_tag *items; /* in order of tag number */
    uint32_t count;
} attrs_doc_tags;

typedef struct attrs_tag_list {
    uint32_t *docs; /* no order */
    uint32_t count, cap;
} attrs_tag_list;

/* One field: its texts, how many documents have each, and the chain of those documents. */
typedef struct attrs_column {
    names *names;
    uint32_t *numbers;     /* by document; ATTRS_NONE */
    uint32_t *next, *prev; /* by document: doubly linked, ATTRS_NONE ends; NULL where not kept */
    uint32_t *heads;       /* by number */
    uint32_t *counts;      /* by number */
    size_t cap;            /* of heads and counts */
    bool chained;
} attrs_column;

struct attrs {
    attrs_column columns[ATTRS_SINGLE]; /* by attrs_field */
    names *tag_names;
    attrs_tag_list *tag_lists; /* by tag number */
    size_t tag_cap;
    attrs_doc_tags *tags; /* by document */
    int64_t *created_ms;
    uint32_t *flags;
    uint64_t *live;
    uint32_t docs_cap; /* a multiple of 64 */
    uint32_t docs_end; /* every live document is below */
    uint32_t docs_live;
    uint64_t tag_bytes;
};

#endif
