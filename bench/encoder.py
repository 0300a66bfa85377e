"""The encoder beside its peers: the same texts, one core, one run.

    python bench/encoder.py BUILD_FOLDER [--texts FILE] [--rounds 3] [--json FILE]

Engines: kith f32, bf16 and int8; ONNX Runtime fp32 and dynamic int8 (per channel); OpenVINO and
CTranslate2 when they are installed. Rounds interleave the engines, each engine's best counts, and time
is the process's processor time, so a busy machine disturbs little. Peers get token ids ready made, batches of
32 sorted by length (they pad); kith tokenizes too. Then one query at a time, then the tokenizer beside
the reference's. Prints a table with ratios to the best peer of the same kind and quality (cosine to fp32).
Packages: numpy, onnx, onnxruntime, safetensors, tokenizers; optional openvino, ctranslate2, transformers, torch.
"""
import argparse
import json
import os
import random
import sys
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))

import numpy as np  # noqa: E402

from encode_reference import (Tool, build_onnx, data_folder, model_folder, opened, padded,  # noqa: E402
                              run_session, session, tokenizer)

QUERIES = ["how do i fix a flat tire", "best pizza near the station tonight", "who won the match yesterday",
           "cheap flights to lisbon in may", "why does my cat ignore me"]


def pick_texts(path, reference):
    """256 posts of about 34 tokens."""
    if path:
        with opened(path) as f:
            return [line.rstrip("\n") for line in f][:256]
    data = data_folder()
    if not data:
        sys.exit("no KITH_DATA and no --texts: nothing to encode")
    with opened(os.path.join(data, "tweets", "docs.jsonl.gz")) as f:
        texts = [json.loads(line)["text"] for line in f]
    texts = random.Random(1).sample(texts, 4000)
    long_enough = [t for t, e in zip(texts, reference.encode_batch(texts)) if len(e.ids) > 24]
    return long_enough[:256]


def batches(ids, size):
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    return [order[at:at + size] for at in range(0, len(order), size)]


class Onnx:
    def __init__(self, path):
        self.session = session(path)

    def run(self, ids, size):
        return run_session(self.session, ids, size)


class OpenVino:
    def __init__(self, path, precision):
        import openvino
        core = openvino.Core()
        self.model = core.compile_model(core.read_model(path), "CPU", {
            "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision})
        self.request = self.model.create_infer_request()

    def run(self, ids, size):
        out = [None] * len(ids)
        for part in batches(ids, size):
            matrix, mask = padded([ids[i] for i in part])
            v = self.request.infer({"ids": matrix, "mask": mask, "steps": np.arange(matrix.shape[1])})
            for i, row in zip(part, next(iter(v.values()))):
                out[i] = row.copy()
        return np.array(out)


class CTranslate:
    def __init__(self, folder, scratch, kind):
        import ctranslate2
        path = os.path.join(scratch, "ct2-" + kind)
        ctranslate2.converters.TransformersConverter(folder).convert(path, quantization=kind)
        self.encoder = ctranslate2.Encoder(path, device="cpu", compute_type=kind, intra_threads=1,
                                           inter_threads=1)

    def run(self, ids, size):
        out = [None] * len(ids)
        for part in batches(ids, size):
            rows = np.array(self.encoder.forward_batch([ids[i] for i in part]).last_hidden_state)
            for i, hidden in zip(part, rows):
                v = hidden[:len(ids[i])].mean(0)
                out[i] = v / np.linalg.norm(v)
        return np.array(out)


def make_peers(folder, scratch):
    path = build_onnx(folder, os.path.join(scratch, "model.onnx"))
    from onnxruntime.quantization import QuantType, quantize_dynamic
    small = os.path.join(scratch, "model8.onnx")
    quantize_dynamic(path, small, per_channel=True, weight_type=QuantType.QInt8,
                     op_types_to_quantize=["MatMul"])
    makers = {"onnxruntime f32": lambda: Onnx(path), "onnxruntime int8": lambda: Onnx(small),
              "openvino f32": lambda: OpenVino(path, "f32"), "openvino bf16": lambda: OpenVino(path, "bf16"),
              "ctranslate2 f32": lambda: CTranslate(folder, scratch, "float32"),
              "ctranslate2 int8": lambda: CTranslate(folder, scratch, "int8")}
    peers = {}
    for name, make in makers.items():
        try:
            peers[name] = make()
        except Exception as e:  # a peer that is not installed, or does not run here, is left out
            print(f"without {name}: {type(e).__name__}: {str(e)[:80]}", file=sys.stderr)
    return peers


def timed(call):
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def throughput(tool, peers, texts, ids, rounds):
    tokens, rows, vectors = sum(map(len, ids)), {}, {}
    for _ in range(rounds):
        for name, peer in peers.items():
            seconds, vectors[name] = timed(lambda p=peer: p.run(ids, 32))
            rows[name] = max(rows.get(name, 0), tokens / seconds)
        for precision in ("f32", "bf16", "int8"):
            got = tool.time(texts, precision, 32)["tokens_per_s"]
            rows["kith " + precision] = max(rows.get("kith " + precision, 0), got)
    for precision in ("f32", "bf16", "int8"):
        vectors["kith " + precision] = tool.vectors(texts, precision)
    return rows, vectors


def latency(tool, peers, rounds):
    ids = tool.ids(QUERIES)
    rows = {}
    for _ in range(rounds):
        for name, peer in peers.items():
            for row in ids * 8:
                seconds, _ = timed(lambda r=row, p=peer: p.run([r], 1))
                rows[name] = min(rows.get(name, 1e9), seconds * 1e3)
        for precision in ("f32", "bf16", "int8"):
            got = tool.time(QUERIES * 40, precision, 1)["best_batch_ms"]
            rows["kith " + precision] = min(rows.get("kith " + precision, 1e9), got)
    return rows, sum(map(len, ids)) / len(ids)


def tokenizing(tool, reference, texts, rounds):
    many = texts * 40
    ours = max(tool.time_tokenizer(many)["tokens_per_s"] for _ in range(rounds))
    best = 0
    for _ in range(rounds):
        seconds, encodings = timed(lambda: reference.encode_batch(many))
        best = max(best, sum(len(e.ids) for e in encodings) / seconds)
    return ours, best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--texts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json")
    args = parser.parse_args()
    folder = model_folder()
    tool, reference = Tool(os.path.join(args.build, "bench_encode_tool"), folder), tokenizer(folder)
    texts = pick_texts(args.texts, reference)
    ids = tool.ids(texts)
    with tempfile.TemporaryDirectory() as scratch:
        peers = make_peers(folder, scratch)
        rate, vectors = throughput(tool, peers, texts, ids, args.rounds)
        delay, query_tokens = latency(tool, peers, args.rounds)
    ours, theirs = tokenizing(tool, reference, texts, args.rounds)
    exact = vectors["onnxruntime f32"]
    print(f"{len(texts)} texts, {sum(map(len, ids)) / len(ids):.1f} tokens each, batches of 32; "
          f"queries of {query_tokens:.1f} tokens; kernels {tool.time(texts[:1])['kernels']}")
    print(f"{'engine':20} {'tokens/s':>9} {'query ms':>9} {'cosine mean':>12} {'worst':>8}")
    report = {"tokenizer": {"kith": ours, "reference": theirs}, "engines": {}}
    for name in sorted(rate, key=rate.get):
        cosine = (vectors[name] * exact).sum(1)
        print(f"{name:20} {rate[name]:9.0f} {delay[name]:9.2f} {cosine.mean():12.6f} {cosine.min():8.5f}")
        report["engines"][name] = {"tokens_per_s": rate[name], "query_ms": delay[name],
                                   "cosine_mean": float(cosine.mean()), "cosine_min": float(cosine.min())}
    for kind in ("f32", "bf16", "int8"):
        same = [n for n in peers if n.endswith(kind)]
        if same:
            best, quick = max(same, key=rate.get), min(same, key=delay.get)
            print(f"kith {kind}: {rate['kith ' + kind] / rate[best]:.2f} x {best} in tokens/s, "
                  f"{delay['kith ' + kind] / delay[quick]:.2f} x the time of {quick} for a query")
    print(f"tokenizer: {ours / 1e6:.1f} M tokens/s, {ours / theirs:.0f} x the reference")
    if args.json:
        with open(args.json, "w", encoding="utf8") as f:
            json.dump(report, f, indent=1)


if __name__ == "__main__":
    main()
