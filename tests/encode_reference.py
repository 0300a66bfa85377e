"""The encoder's reference, for tests/encode_oracle.py and bench/encoder.py.

build_onnx() writes the model's computation as an ONNX graph, straight from model.safetensors, so that
an independent engine can run it. Tool drives kith's own encoder through build/bench_encode_tool.
Packages: numpy, onnx, onnxruntime, safetensors, tokenizers.
"""
import glob
import gzip
import json
import os
import struct
import subprocess

import numpy as np


def model_folder():
    """KITH_MODEL, or where tools/setup put the model."""
    if os.environ.get("KITH_MODEL"):
        return os.environ["KITH_MODEL"]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    cache = subprocess.run([os.path.join(root, "tools", "setup"), "--print-cache"], check=True,
                           stdout=subprocess.PIPE, text=True).stdout.strip()
    return os.path.join(cache, "model", "all-minilm-l6-v2")


def data_folder():
    """KITH_DATA, or ../shared/data beside the tree; None when absent."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.environ.get("KITH_DATA", os.path.join(root, "..", "shared", "data"))
    return path if os.path.isdir(path) else None


def opened(path):
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf8")
    return open(path, encoding="utf8")


def all_texts(data):
    """Every text of every set, in a fixed order."""
    for path in sorted(glob.glob(os.path.join(data, "**", "*.jsonl*"), recursive=True)):
        with opened(path) as f:
            for line in f:
                text = json.loads(line).get("text")
                if isinstance(text, str):
                    yield text
    for path in sorted(glob.glob(os.path.join(data, "sts", "*.tsv"))):
        with opened(path) as f:
            for line in f:
                yield line.rstrip("\n")


def tokenizer(folder):
    """The reference tokenizer: 256 tokens, no padding, whatever its file says."""
    from tokenizers import Tokenizer
    t = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    t.no_padding()
    t.enable_truncation(256)
    return t


class Tool:
    """kith's encoder behind a pipe (src/encode/encode_tool_bench.c)."""

    def __init__(self, path, folder):
        self.path, self.folder = path, folder

    def run(self, texts, *args, env=None):
        raw = [t.encode("utf8", "replace") for t in texts]
        frames = b"".join(struct.pack("<I", len(r)) + r for r in raw)
        return subprocess.run([self.path, self.folder, *map(str, args)], input=frames, check=True,
                              stdout=subprocess.PIPE, env={**os.environ, **(env or {})}).stdout

    def ids(self, texts):
        flat, out, at = np.frombuffer(self.run(texts, "ids"), "<u4"), [], 0
        for _ in texts:
            n = int(flat[at])
            out.append(flat[at + 1:at + 1 + n].tolist())
            at += 1 + n
        assert at == len(flat)
        return out

    def vectors(self, texts, precision="f32", batch=32, env=None):
        flat = np.frombuffer(self.run(texts, "vectors", precision, batch, env=env), "<f4")
        return flat.reshape(len(texts), -1)

    def time(self, texts, precision="f32", batch=32):
        return json.loads(self.run(texts, "time", precision, batch))

    def time_tokenizer(self, texts):
        return json.loads(self.run(texts, "tokenize"))


def build_onnx(folder, path):
    """Writes the model (ids, steps, mask -> unit vectors) as an ONNX graph."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import load_file
    config = json.load(open(os.path.join(folder, "config.json"), encoding="utf8"))
    weights = load_file(os.path.join(folder, "model.safetensors"))
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    eps = config["layer_norm_eps"]
    nodes, inits = [], []

    def const(name, array):
        inits.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(kind, inputs, out, **attributes):
        nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def linear(x, name, out):
        w = const(name + ".w", weights[name + ".weight"].T)
        y = op("MatMul", [x, w], out + ".m")
        return op("Add", [y, const(name + ".b", weights[name + ".bias"])], out)

    def norm(x, name, out):
        return op("LayerNormalization", [x, const(name + ".g", weights[name + ".weight"]),
                                         const(name + ".b", weights[name + ".bias"])],
                  out, axis=-1, epsilon=eps)

    split = const("split", np.array([0, 0, heads, hidden // heads], np.int64))
    join = const("join", np.array([0, 0, hidden], np.int64))
    positions = const("positions", weights["embeddings.position_embeddings.weight"])
    kind0 = const("type0", weights["embeddings.token_type_embeddings.weight"][0])
    words = const("words", weights["embeddings.word_embeddings.weight"])
    x = op("Add", [op("Gather", [words, "ids"], "e.words"),
                   op("Gather", [positions, "steps"], "e.positions")], "e.sum")
    x = norm(op("Add", [x, kind0], "e.all"), "embeddings.LayerNorm", "x0")
    mask = op("Cast", ["mask"], "mask.f", to=TensorProto.FLOAT)
    far = op("Mul", [op("Sub", [const("f1", np.float32(1)), mask], "mask.off"),
                     const("far.c", np.float32(-10000))], "far")
    far = op("Unsqueeze", [far, const("axes", np.array([1, 2], np.int64))], "far4")
    for i in range(config["num_hidden_layers"]):
        p, n = f"encoder.layer.{i}.", f"l{i}."
        q, k, v = (op("Reshape", [linear(x, p + "attention.self." + s, n + s), split], n + s + ".r")
                   for s in ("query", "key", "value"))
        q = op("Transpose", [q], n + "q", perm=[0, 2, 1, 3])
        k = op("Transpose", [k], n + "k", perm=[0, 2, 3, 1])
        v = op("Transpose", [v], n + "v", perm=[0, 2, 1, 3])
        s = op("Div", [op("MatMul", [q, k], n + "s"),
                       const(n + "root", np.float32((hidden // heads) ** 0.5))], n + "sd")
        s = op("Softmax", [op("Add", [s, far], n + "sm")], n + "p", axis=-1)
        c = op("Transpose", [op("MatMul", [s, v], n + "c")], n + "ct", perm=[0, 2, 1, 3])
        c = linear(op("Reshape", [c, join], n + "cr"), p + "attention.output.dense", n + "o")
        x = norm(op("Add", [c, x], n + "x1"), p + "attention.output.LayerNorm", n + "x2")
        h = linear(x, p + "intermediate.dense", n + "h")
        g = op("Erf", [op("Div", [h, const(n + "r2", np.float32(2 ** 0.5))], n + "g1")], n + "g2")
        g = op("Mul", [h, op("Add", [g, "f1"], n + "g3")], n + "g4")
        g = op("Mul", [g, const(n + "half", np.float32(0.5))], n + "g5")
        h = linear(g, p + "output.dense", n + "d")
        x = norm(op("Add", [h, x], n + "x3"), p + "output.LayerNorm", f"x{i + 1}")
    pooling = os.path.join(folder, "1_Pooling", "config.json")
    if os.path.exists(pooling) and json.load(open(pooling, encoding="utf8")).get("pooling_mode_cls_token"):
        row = op("Gather", [x, const("first", np.array([0], np.int64))], "row", axis=1)
        pooled = op("Squeeze", [row, const("second", np.array([1], np.int64))], "pooled")
    else:
        wide = op("Unsqueeze", [mask, const("last", np.array([2], np.int64))], "wide")
        total = op("ReduceSum", [op("Mul", [x, wide], "kept"), "one1"], "total", keepdims=0)
        const("one1", np.array([1], np.int64))
        count = op("ReduceSum", [wide, "one1"], "count", keepdims=0)
        pooled = op("Div", [total, count], "pooled")
    op("LpNormalization", [pooled], "vectors", axis=-1, p=2)
    graph = helper.make_graph(
        nodes, "sentence-encoder",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"]),
         helper.make_tensor_value_info("steps", TensorProto.INT64, ["length"]),
         helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", hidden])], inits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def session(path):
    """ONNX Runtime on one thread, all its optimisations on."""
    import onnxruntime
    o = onnxruntime.SessionOptions()
    o.intra_op_num_threads = o.inter_op_num_threads = 1
    o.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    o.log_severity_level = 3
    return onnxruntime.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def padded(ids):
    """Lists of ids as one matrix and its mask."""
    width = max(map(len, ids))
    matrix, mask = np.zeros((2, len(ids), width), np.int64)
    for i, row in enumerate(ids):
        matrix[i, :len(row)] = row
        mask[i, :len(row)] = 1
    return matrix, mask


def run_session(s, ids, batch=32):
    """Vectors of all, in batches of near lengths, in the order given."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    out = None
    for at in range(0, len(order), batch):
        part = order[at:at + batch]
        matrix, mask = padded([ids[i] for i in part])
        v = s.run(None, {"ids": matrix, "mask": mask, "steps": np.arange(matrix.shape[1])})[0]
        if out is None:
            out = np.empty((len(ids), v.shape[1]), np.float32)
        out[part] = v
    return out
