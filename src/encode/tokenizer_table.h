/* What the reference tokenizer does with each character, where that is not what utf8proc says.
 * Ranges are sorted and inclusive. See tokenizer_table.c. */
#ifndef KITH_ENCODE_TOKENIZER_TABLE_H
#define KITH_ENCODE_TOKENIZER_TABLE_H

#include "base/base.h"

typedef struct tokenizer_range {
    uint32_t first, last;
} tokenizer_range;

extern const tokenizer_range tokenizer_controls[], tokenizer_spaces[], tokenizer_ideographs[],
    tokenizer_marks[], tokenizer_punctuation[];
extern const size_t tokenizer_controls_count, tokenizer_spaces_count, tokenizer_ideographs_count,
    tokenizer_marks_count, tokenizer_punctuation_count;

bool tokenizer_in(const tokenizer_range *ranges, size_t count, uint32_t cp);

#define TOKENIZER_DECOMPOSED_MAX 8 /* no character decomposes into more than 4 */

/* Canonical decomposition of one character, into at most TOKENIZER_DECOMPOSED_MAX. */
size_t tokenizer_decompose(uint32_t cp, uint32_t *out);
/* Lower case, one character for one. */
uint32_t tokenizer_lower(uint32_t cp);

#endif
