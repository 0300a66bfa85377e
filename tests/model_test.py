#!/usr/bin/env python3
"""Models: `kith model`, the precision of a data directory, BERT-family folders of other shapes beside ONNX Runtime,
and folders that are wrong, each refused with the file and the tensor or key at fault.
"""
import json
import os
import shutil
from tempfile import TemporaryDirectory

import numpy as np
from safetensors.numpy import load_file, save_file

from encode_reference import build_onnx, run_session, session
from kithtest import MODEL, Kith, Skip, case, check, kith, main

TEXTS = ["how do i fix a flat tire", "the best pizza near the station tonight!", "thanks", "who won the match yesterday?"]


def need_model():
    if not os.path.exists(os.path.join(MODEL, "model.safetensors")):
        raise Skip("no model: tools/setup brings it")


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf8") as f:
        json.dump(value, f)


def random_model(folder, layers, hidden, heads, inner, cls):
    """A BERT of random weights and the vocabulary of the default model's first 3,000 tokens."""
    r = np.random.RandomState(5)
    with open(os.path.join(MODEL, "vocab.txt"), encoding="utf8") as f:
        vocab = f.read().split("\n")[:3000]
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf8") as f:
        f.write("\n".join(vocab) + "\n")
    w = {}

    def matrix(name, n, k, scale):
        w[name] = (r.standard_normal((n, k)) * scale).astype(np.float16)

    def linear(name, n, k):
        matrix(name + ".weight", n, k, k ** -0.5)
        w[name + ".bias"] = (r.standard_normal(n) * 0.1).astype(np.float16)

    def norm(name):
        w[name + ".weight"] = (1 + r.standard_normal(hidden) * 0.1).astype(np.float16)
        w[name + ".bias"] = (r.standard_normal(hidden) * 0.1).astype(np.float16)

    matrix("bert.embeddings.word_embeddings.weight", len(vocab), hidden, 1)
    matrix("bert.embeddings.position_embeddings.weight", 128, hidden, 0.3)
    matrix("bert.embeddings.token_type_embeddings.weight", 2, hidden, 0.3)
    norm("bert.embeddings.LayerNorm")
    for i in range(layers):
        p = f"bert.encoder.layer.{i}."
        for name in ("query", "key", "value"):
            linear(p + "attention.self." + name, hidden, hidden)
        linear(p + "attention.output.dense", hidden, hidden)
        norm(p + "attention.output.LayerNorm")
        linear(p + "intermediate.dense", inner, hidden)
        linear(p + "output.dense", hidden, inner)
        norm(p + "output.LayerNorm")
    save_file(w, os.path.join(folder, "model.safetensors"))
    write_json(os.path.join(folder, "config.json"), {
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "intermediate_size": inner, "vocab_size": len(vocab),
        "max_position_embeddings": 128, "type_vocab_size": 2, "layer_norm_eps": 1e-12})
    write_json(os.path.join(folder, "1_Pooling", "config.json"), {
        "word_embedding_dimension": hidden, "pooling_mode_cls_token": cls, "pooling_mode_mean_tokens": not cls})


def fvecs(path):
    raw = np.fromfile(path, dtype=np.float32)
    return raw.reshape(-1, raw[:1].view(np.int32)[0] + 1)[:, 1:]


def embed(folder, precision, where):
    out = os.path.join(where, "v.fvecs")
    kith("embed", "--model", folder, "--precision", precision, "--out", out, stdin="\n".join(TEXTS) + "\n")
    return fvecs(out)


def ids_of(folder):
    """Token ids by the reference tokenizer, from the folder's vocabulary."""
    from tokenizers import BertWordPieceTokenizer
    t = BertWordPieceTokenizer(os.path.join(folder, "vocab.txt"), lowercase=True)
    return [e.ids for e in t.encode_batch(TEXTS)]


def plain_names(folder):
    """A copy of the folder whose tensors are float32 and without "bert.": what build_onnx reads."""
    copy = folder + "-plain"
    shutil.copytree(folder, copy)
    path = os.path.join(copy, "model.safetensors")
    save_file({k.replace("bert.", ""): v.astype(np.float32) for k, v in load_file(path).items()}, path)
    return copy


def shape_is_as_onnx(layers, hidden, heads, inner, cls):
    need_model()
    with TemporaryDirectory(prefix="kith-model-") as d:
        folder = os.path.join(d, "m")
        os.mkdir(folder)
        random_model(folder, layers, hidden, heads, inner, cls)
        want = run_session(session(build_onnx(plain_names(folder), os.path.join(d, "m.onnx"))), ids_of(folder))
        found = json.loads(kith("model", "check", folder, "--precision", "f32", "--json").stdout)
        check((found["dim"], found["layers"], found["pooling"]) == (hidden, layers, "cls" if cls else "mean"), f"{found}")
        cosines = (embed(folder, "f32", d) * want).sum(1)
        check(cosines.min() > 0.99999, f"f32 beside ONNX Runtime: {cosines}")
        cosines = (embed(folder, "int8", d) * want).sum(1)
        check(cosines.min() > 0.97, f"int8 beside ONNX Runtime: {cosines}")


@case
def twelve_layers_of_768_with_cls_pooling_are_as_onnx_has_them():
    shape_is_as_onnx(12, 768, 12, 768, True)


@case
def heads_of_an_odd_size_with_mean_pooling_are_as_onnx_has_them():
    shape_is_as_onnx(3, 120, 5, 200, False)


@case
def the_default_model_is_listed_and_passes():
    need_model()
    listed = json.loads(kith("model", "list", "--json").stdout)
    check(any(m["default"] and m["path"] == MODEL for m in listed), f"{listed}")
    found = json.loads(kith("model", "check", "--json").stdout)
    check(found["precision"] == "int8" and found["dim"] == 384 and found["cosine_mean"] > 0.995, f"{found}")
    with TemporaryDirectory() as folder:
        quoted = os.path.join(folder, 'a "model"')
        os.symlink(MODEL, quoted)
        check(json.loads(kith("model", "check", "--json", quoted).stdout)["path"] == quoted, "a quote in a path")
    check("expected list or check" in kith("model", "frobnicate", code=2).stderr, "an unknown word is refused")


@case
def a_directory_keeps_the_precision_that_it_was_made_with():
    need_model()
    for given, recorded in (([], "/int8/"), (["--precision", "f32"], "/f32/")):
        with TemporaryDirectory(prefix="kith-model-") as d:
            for args in (given, []):
                with Kith(model=MODEL, directory=d, args=args) as k:
                    check(k.call("GET", "/readyz").status == 200, "ready")
                space = open(os.path.join(d, "d", "space"), encoding="utf8").read()
                check(recorded in space, f"{given}: {space}")


def broken(change, *says):
    """A copy of the default model with one thing wrong is refused, and the error says what."""
    need_model()
    with TemporaryDirectory(prefix="kith-model-") as d:
        folder = os.path.join(d, "m")
        shutil.copytree(MODEL, folder)
        change(folder)
        r = kith("model", "check", folder, code=1)
        for text in says:
            check(text in r.stderr, f"expected '{text}' in: {r.stderr}")


def tensors(folder, change):
    path = os.path.join(folder, "model.safetensors")
    w = load_file(path)
    change(w)
    os.remove(path)
    save_file(w, path)


NAME = "encoder.layer.3.output.dense.weight"


@case
def a_missing_tensor_is_named():
    broken(lambda d: tensors(d, lambda w: w.pop(NAME)), "model.safetensors", NAME)


@case
def a_tensor_of_another_shape_is_named():
    broken(lambda d: tensors(d, lambda w: w.update({NAME: w[NAME][:, :100].copy()})), "model.safetensors", NAME)


@case
def a_weight_that_is_no_number_is_named():
    def spoil(w):
        w[NAME] = w[NAME].copy()
        w[NAME][7, 7] = np.nan
    broken(lambda d: tensors(d, spoil), "model.safetensors", NAME)


@case
def a_cut_file_is_named():
    def cut(d):
        path = os.path.join(d, "model.safetensors")
        os.truncate(path, os.path.getsize(path) // 2)
    broken(cut, "model.safetensors")


@case
def the_tokenizer_of_another_model_is_named():
    def other(d):
        with open(os.path.join(d, "vocab.txt"), "w", encoding="utf8") as f:
            f.write("[PAD]\n[UNK]\n[CLS]\n[SEP]\nhello\n")
    broken(other, "vocab.txt")


@case
def a_model_that_is_no_bert_is_named():
    def other(d):
        path = os.path.join(d, "config.json")
        config = json.load(open(path, encoding="utf8"))
        config["model_type"] = "gpt2"
        write_json(path, config)
    broken(other, "config.json", "model_type")


main()
