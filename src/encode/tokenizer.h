/* WordPiece: text to token ids, exactly as the reference tokenizer of BERT models does it (the
 * package `tokenizers`, BertNormalizer + BertPreTokenizer + WordPiece), and much faster.
 *
 *     tokenizer *t;
 *     TRY(tokenizer_new(vocabulary_text, &(tokenizer_options){.lower_case = true,
 *                       .strip_accents = true, .split_ideographs = true}, &t));
 *     size_t n;
 *     bool cut = tokenizer_run(t, STR("Hello, world"), ids, 254, &n);
 *     tokenizer_free(t);
 *
 * The vocabulary is one token a line; a token's id is its line's number from 0; "##x" continues a
 * word. It must hold [UNK], [CLS] and [SEP]. Errors name the file vocab.txt and the line. Nothing
 * of the text given to tokenizer_new is kept. A tokenizer is immutable: any number of threads may
 * use it.
 *
 * Any bytes are a text: those that are not UTF-8 count as U+FFFD, which the reference removes.
 */
#ifndef KITH_ENCODE_TOKENIZER_H
#define KITH_ENCODE_TOKENIZER_H

#include "base/base.h"

#define TOKENIZER_TOKENS_MAX     (1024 * 1024)
#define TOKENIZER_BYTES_MAX      (16 * MIB) /* of a vocabulary */
#define TOKENIZER_WORD_CHARS_MAX 100        /* a longer word is [UNK], as in the reference */

typedef struct tokenizer tokenizer;

typedef struct tokenizer_options {
    bool lower_case;
    bool strip_accents;    /* the reference does when it lowers, unless told otherwise */
    bool split_ideographs; /* Chinese characters are words of one character */
} tokenizer_options;

MUST_USE err tokenizer_new(str vocabulary, const tokenizer_options *options, tokenizer **out);
void tokenizer_free(tokenizer *t); /* NULL is fine */

/* Writes the first `max` ids of the text, without [CLS] and [SEP]; true when there were more. */
bool tokenizer_run(const tokenizer *t, str text, uint32_t *ids, size_t max, size_t *n);

size_t tokenizer_count(const tokenizer *t); /* tokens in the vocabulary */
size_t tokenizer_bytes(const tokenizer *t);
uint32_t tokenizer_cls(const tokenizer *t);
uint32_t tokenizer_sep(const tokenizer *t);
uint32_t tokenizer_unk(const tokenizer *t);

#endif
