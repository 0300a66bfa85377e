/* spaces: which spaces of vectors a directory keeps, in DIR/spaces.json, and the provider of each.
 *
 *     spaces *f;
 *     TRY(spaces_load("data", &f));              // no file: none, and no use
 *     ... f->items[i].flags ...
 *     TRY(spaces_save("data", f));
 *     spaces_free(f);
 *
 * Without the file the directory has one space, that of the flags. With it the file says which spaces there are and
 * which one searches ask (`use`); flags then give numbers only (limits, caps, times), for all. No key is in the
 * file: entries name key files, or leave keys to the environment.
 */
#ifndef KITH_ROLE_SPACES_H
#define KITH_ROLE_SPACES_H

#include "role/embed_flags.h"
#include "shard/shard.h"

typedef struct kept_space {
    const char *name;
    embed_flags flags; /* the words of it; numbers but dim are 0 */
} kept_space;

/* Texts live as long as the file does, or are the caller's. */
typedef struct spaces {
    arena mem;
    const char *use; /* NULL: not said yet */
    kept_space items[SHARD_SPACES_MAX];
    unsigned count;
} spaces;

MUST_USE err spaces_load(const char *dir, spaces **out);
MUST_USE err spaces_save(const char *dir, const spaces *f);
void spaces_free(spaces *f); /* NULL is fine */
/* The entry of this name; NULL: none. */
kept_space *spaces_find(spaces *f, const char *name);
/* ERR_TOO_LARGE when there is no room. Texts are borrowed. */
MUST_USE err spaces_add(spaces *f, const char *name, const embed_flags *flags);
void spaces_remove(spaces *f, const char *name);

#endif
