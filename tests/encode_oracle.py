"""kith's encoder against its references, on real texts.

    python tests/encode_oracle.py BUILD_FOLDER

1. Token ids equal those of the package `tokenizers`: on every code point, alone and inside a word, and on
   the texts of KITH_DATA (a sample of 30,000; all with KITH_LONG=1). No difference is allowed.
2. Vectors against ONNX Runtime fp32 on a graph built from the same weights: cosine at least 0.9999
   in f32, and what docs/encoder.md promises for bf16 and int8 (300 texts; 2,000 with KITH_LONG=1).
3. Spearman correlation on the STS sets equals the reference's to 0.001 in f32.

Without the model: skipped (77). Without KITH_DATA: hand-written texts only. Packages: see
encode_reference.py.
"""
import glob
import os
import random
import sys
import tempfile

import numpy as np

from encode_reference import (Tool, all_texts, build_onnx, data_folder, model_folder, opened,
                              run_session, session, tokenizer)

LONG = bool(os.environ.get("KITH_LONG"))
OWN_TEXTS = ["", " ", "hello world", "Caf\u00e9 na\u00efve \u00c5ngstr\u00f6m", "\u4f60\u597d\uff0c\u4e16\u754c",
             "\u3053\u3093\u306b\u3061\u306f", "\uc548\ub155", "\u041f\u0440\u0438\u0432\u0435\u0442", "\U0001f600\u200d\U0001f525 ok",
             "[CLS] [SEP] [MASK] [PAD] [UNK] [cls]", "a" * 100 + " " + "b" * 101, "x " * 400,
             "https://example.org/a?b=c&d=e#f @user #tag", "\x00\x01\x7f\ufffd\u00ad", "it's can't 'quoted' \u2019",
             "1,234.56 \u20ac \u00bd \u2167", "\u0130stanbul \u1e9e \ufb01", "\t\r\n", "e\u0301" * 60]

failures = 0


def check(good, what):
    global failures
    failures += not good
    print(("ok      " if good else "FAILED  ") + what, flush=True)


def different_ids(tool, reference, texts):
    count = 0
    for at in range(0, len(texts), 20000):
        part = texts[at:at + 20000]
        for text, ids, encoding in zip(part, tool.ids(part), reference.encode_batch(part)):
            if ids != encoding.ids:
                count += 1
                if count <= 5:
                    print(f"  {text[:80]!r}: {ids[:20]}, expected {encoding.ids[:20]}")
    return count


def spearman(a, b):
    def ranks(x):
        order = np.argsort(x, kind="stable")
        r = np.empty(len(x))
        r[order] = np.arange(len(x))
        for v in np.unique(x[np.concatenate([x[order][1:] == x[order][:-1], [False]])[np.argsort(order)]]):
            r[x == v] = r[x == v].mean()  # ties share their mean rank
        return r
    return np.corrcoef(ranks(a), ranks(b))[0, 1]


def sts_pairs(path):
    """Lines of score TAB text TAB text; lines that are not are left out."""
    with opened(path) as f:
        for line in f:
            parts = line.rstrip("\n").split("\t")
            try:
                yield float(parts[0]), parts[1], parts[2]
            except (ValueError, IndexError):
                continue


def check_tokens(tool, folder, texts):
    reference = tokenizer(folder)
    step = 1 if LONG else 7
    points = [f"a{chr(c)}b {chr(c)} {chr(c)}{chr(c)}x" for c in range(0, 0x110000)
              if not 0xd800 <= c < 0xe000 and (c < 0x3000 or c % step == 0)]
    check(different_ids(tool, reference, points) == 0, f"token ids, {len(points)} code points")
    check(different_ids(tool, reference, texts) == 0, f"token ids, {len(texts)} texts")


def check_vectors(tool, engine, texts):
    expected = run_session(engine, tool.ids(texts))
    for precision, mean, worst in (("f32", 0.9999999, 0.9999), ("bf16", 0.99995, 0.9999), ("int8", 0.998, 0.98)):
        got = tool.vectors(texts, precision)
        cosines = (got * expected).sum(1)
        check(cosines.mean() >= mean and cosines.min() >= worst,
              f"cosine to ONNX Runtime fp32, {precision}, {len(texts)} texts: mean {cosines.mean():.6f}, "
              f"worst {cosines.min():.6f}")
        check(abs(np.linalg.norm(got, axis=1) - 1).max() < 1e-5, f"unit length, {precision}")
    alone = tool.vectors(texts[:50], "f32", 1)
    check((alone == tool.vectors(texts[:50], "f32", 50)).all(), "a vector does not depend on its batch")
    scalar = tool.vectors(texts[:20], env={"KITH_CPU": "scalar"})
    check(((scalar * expected[:20]).sum(1)).min() >= 0.9999, "scalar kernels agree")


def check_sts(tool, engine, data):
    paths = sorted(glob.glob(os.path.join(data, "sts", "*.tsv")))
    for path in paths if LONG else paths[:2]:
        scores, a, b = zip(*list(sts_pairs(path))[:None if LONG else 300])
        texts = list(a) + list(b)
        reference = run_session(engine, tool.ids(texts))
        n, gold = len(a), np.array(scores)
        expected = spearman((reference[:n] * reference[n:]).sum(1), gold)
        for precision, slack in (("f32", 0.001), ("int8", 0.02)):
            v = tool.vectors(texts, precision)
            got = spearman((v[:n] * v[n:]).sum(1), gold)
            check(abs(got - expected) <= slack,
                  f"Spearman {os.path.basename(path)} {precision}: {got:.4f}, reference {expected:.4f}")


def main():
    folder, data = model_folder(), data_folder()
    if not os.path.exists(os.path.join(folder, "model.safetensors")):
        print("skipped: no model in", folder)
        return 77
    tool = Tool(os.path.join(sys.argv[1], "bench_encode_tool"), folder)
    texts = list(OWN_TEXTS)
    if data:
        found = list(all_texts(data))
        texts += found if LONG else random.Random(7).sample(found, min(30000, len(found)))
    else:
        print("no KITH_DATA: hand-written texts only")
    check_tokens(tool, folder, texts)
    with tempfile.TemporaryDirectory() as scratch:
        engine = session(build_onnx(folder, os.path.join(scratch, "model.onnx")))
        some = OWN_TEXTS + random.Random(8).sample(texts, min(len(texts), 2000 if LONG else 300) - len(OWN_TEXTS))
        check_vectors(tool, engine, some)
        if data:
            check_sts(tool, engine, data)
    print("failed" if failures else "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
