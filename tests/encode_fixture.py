"""Prints src/encode/encode_fixture.h's numbers: what an independent numpy computation and the
reference tokenizer give for the tiny model that src/encode/encode_test.c builds.

The model's weights come from a formula (value() below), so the fixture is only its outputs. Run it by
hand when the formula, the vocabulary or the texts change: python tests/encode_fixture.py > FILE
Packages: numpy, scipy, tokenizers.
"""
import numpy as np
from scipy.special import erf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

H, HEADS, LAYERS, INNER, POSITIONS, TYPES, LONGEST = 20, 2, 2, 36, 24, 2, 16
VOCAB = ("[PAD] [UNK] [CLS] [SEP] [MASK] hello world ##s un ##believ ##able ! , . ' [ ] # "
         "\u4e2d \u6587 \u30c4 cafe \u00df stra ##\u00dfe a ##a i ##i \u0438 ##\u0438 \u1112 "
         "##\u1161 ##\u11ab 1 ##2 ##3 \u20ac \u03c3 ##\u03c3").split(" ")
TEXTS = ["hello world", "Hello, WORLDS! unbelievable", "", "caf\u00e9 \u4e2d\u6587 stra\u00dfe 123", "zzz"]
TOKENIZED = TEXTS + [
    "un[SEP]hello [sep] [MASK]", "a" * 100, "a" * 101, "a\u0301a\u0300 A\u030a", "\u0130I\u0131",
    "hello\u0000world hel\u00adlo", "\u0419 \u0438\u0306", "\ud55c \u1112\u1161\u11ab", "a\u00a0a\u3000a\u2028a\ta\na\ra",
    "\u03a3\u03c2\u03c3", "\ufb01 \u2167 \u00bd", "\U0001f600 a\U0001f600", "a" * 40 + " a" * 40, "\u20ac1", "\uf900\u4e2d",
    "hello\ufffdworld", "\u037e ; \u1fef", "world\u200bs world\u2060s", "\ue000a", "#a##a", "\u4e2da\u4e2d"]


def value(tensor, n):
    i = np.arange(n, dtype=np.int64)
    return ((i * 7919 + tensor * 104729 + i * i % 1009 * 31) % 2003 - 1001) / 1001.0


def tensor(number, *shape, scale=0.4, base=0.0):
    n = int(np.prod(shape))
    return (base + scale * value(number, n)).astype(np.float32).astype(np.float64).reshape(shape)


def norm(x, number):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
    return x * tensor(number, H, scale=0.3, base=1.0) + tensor(number + 1, H)


def linear(x, number, n, k):
    return x @ tensor(number, n, k).T + tensor(number + 1, n)


def hidden(ids):
    x = tensor(0, len(VOCAB), H)[ids] + tensor(1, POSITIONS, H)[:len(ids)] + tensor(2, TYPES, H)[0]
    x = norm(x, 3)
    for layer in range(LAYERS):
        at = 5 + 16 * layer
        q, k, v = (linear(x, at + 2 * j, H, H) for j in range(3))
        d, parts = H // HEADS, []
        for h in range(HEADS):
            cut = slice(h * d, h * d + d)
            s = q[:, cut] @ k[:, cut].T / np.sqrt(d)
            s = np.exp(s - s.max(-1, keepdims=True))
            parts.append(s / s.sum(-1, keepdims=True) @ v[:, cut])
        x = norm(x + linear(np.concatenate(parts, 1), at + 6, H, H), at + 8)
        u = linear(x, at + 10, INNER, H)
        u = 0.5 * u * (1 + erf(u / np.sqrt(2)))
        x = norm(x + linear(u, at + 12, H, INNER), at + 14)
    return x


def unit(v):
    return v / np.sqrt((v * v).sum())


def quoted(text):
    out, hexed = "", False
    for b in text.encode("utf8"):
        plain = 32 <= b < 127 and chr(b) not in '"\\?'
        if plain and hexed and chr(b) in "0123456789abcdefABCDEF":
            out += '" "'
        out += chr(b) if plain else f"\\x{b:02x}"
        hexed = not plain
    return '"' + out + '"'


def main():
    t = Tokenizer(models.WordPiece({w: i for i, w in enumerate(VOCAB)}, unk_token="[UNK]"))
    t.add_special_tokens([w for w in VOCAB[:5]])
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def ids(text):
        return [2] + t.encode(text).ids[:LONGEST - 2] + [3]

    print("/* Written by tests/encode_fixture.py: what the reference gives for the tiny model of\n"
          " * encode_test.c. */\n#ifndef KITH_ENCODE_FIXTURE_H\n#define KITH_ENCODE_FIXTURE_H\n")
    for name, v in (("HIDDEN", H), ("HEADS", HEADS), ("LAYERS", LAYERS), ("INNER", INNER),
                    ("POSITIONS", POSITIONS), ("TYPES", TYPES), ("LONGEST", LONGEST),
                    ("WORDS", len(VOCAB)), ("TEXTS", len(TEXTS))):
        print(f"#define FIXTURE_{name} {v}")
    print("\nstatic const char fixture_vocabulary[] =")
    print("\n".join("    " + quoted(w + "@")[:-2] + '\\n"' for w in VOCAB) + ";")
    print("\ntypedef struct fixture_text {\n    str text;\n    size_t count;\n    uint32_t ids[16];\n"
          "} fixture_text;\n\nstatic const fixture_text fixture_texts[] = {")
    for text in TOKENIZED:
        i = ids(text)
        print(f"    {{STR_INIT({quoted(text)}), {len(i)}, {{{', '.join(map(str, i))}}}}},")
    print("};")
    for name, pick in (("means", lambda x: x.mean(0)), ("firsts", lambda x: x[0])):
        print(f"\nstatic const float fixture_{name}[FIXTURE_TEXTS][FIXTURE_HIDDEN] = {{")
        for text in TEXTS:
            print("    {" + ", ".join(f"{v:.6f}f" for v in unit(pick(hidden(ids(text))))) + "},")
        print("};")
    print("\n#endif")


main()
