"""The graph beside its peers: one process tree, one core, the same vectors and queries.

    python bench/index.py --kith 'BUILD/kith bench index' --base B.fvecs --queries Q.fvecs --truth T.ivecs
        [--peers faiss16,faiss32,hnswlib,usearch,symqg,scann,vsag] [--cache DIR] [--rounds 2] [--out FILE]

Each engine builds in a process of its own, single-threaded, then answers all queries at settings from fast to
thorough; processor time, the best of three passes. Engines take turns (kith, a peer, the next, ...) and the whole is
done `rounds` times, the best of each setting kept, so that a neighbour on the machine hurts all alike. The table
gives queries a second at a recall@10 of .90, .95, .98 and .99, interpolated (log of the speed, linear in recall)
between the two settings around it. --cache keeps what peers built. Peers come from PyPI: faiss-cpu, hnswlib, usearch,
rabitqlib (SymphonyQG), scann, pyvsag; what is not installed is left out and said so.

The vectors of docs/index.md: the tweets of the shared data over 15 characters, shuffled (numpy RandomState(1)), the
first 150,000 as base and the next 1,000 as queries, embedded with all-MiniLM-L6-v2 and normalised.
"""
import argparse, json, math, os, shlex, subprocess, sys, time

TARGETS = (0.90, 0.95, 0.98, 0.99)
EFS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384)


def read(path, kind):
    import numpy as np
    raw = np.fromfile(path, dtype=np.float32)
    dim = int(raw[:1].view(np.int32)[0])
    return np.ascontiguousarray(raw.reshape(-1, dim + 1)[:, 1:]).view(kind)


def timed(ask, queries, truth, settings):
    """Rows of recall and speed; ask(setting) answers all queries and returns ids."""
    rows = []
    for s in settings:
        best = float("inf")
        for _ in range(3):
            t = time.process_time()
            ids = ask(s)
            best = min(best, time.process_time() - t)
        hits = sum(len(set(map(int, a[:10])) & set(map(int, b[:10]))) for a, b in zip(ids, truth))
        rows.append({"setting": s, "recall@10": hits / (10 * len(queries)), "qps": len(queries) / best})
    return rows


def built(path, load, make, save):
    """The index, from the cache when it is there; and the processor seconds that building took."""
    if path and os.path.exists(path):
        with open(path + ".json") as f:
            return load(path), json.load(f)
    t = time.process_time()
    index = make()
    seconds = time.process_time() - t
    if path:
        save(index, path)
        with open(path + ".json", "w") as f:
            json.dump(seconds, f)
    return index, seconds


def run_faiss(m, B, Q, T, cache):
    import faiss
    faiss.omp_set_num_threads(1)

    def make():
        index = faiss.IndexHNSWFlat(B.shape[1], m, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 200
        index.add(B)
        return index

    index, s = built(cache and f"{cache}/faiss{m}", faiss.read_index, make, faiss.write_index)

    def ask(ef):
        index.hnsw.efSearch = ef
        return index.search(Q, 10)[1]

    return s, timed(ask, Q, T, EFS)


def run_hnswlib(B, Q, T, cache):
    import hnswlib

    def make():
        index = hnswlib.Index("ip", B.shape[1])
        index.init_index(len(B), M=16, ef_construction=200, random_seed=1)
        index.set_num_threads(1)
        index.add_items(B, num_threads=1)
        return index

    def load(path):
        index = hnswlib.Index("ip", B.shape[1])
        index.load_index(path)
        return index

    index, s = built(cache and f"{cache}/hnswlib", load, make, lambda i, p: i.save_index(p))

    def ask(ef):
        index.set_ef(ef)
        return index.knn_query(Q, 10, num_threads=1)[0]

    return s, timed(ask, Q, T, EFS)


def run_usearch(B, Q, T, cache):
    import numpy as np
    from usearch.index import Index

    def make():
        index = Index(ndim=B.shape[1], metric="ip", dtype="f16", connectivity=16, expansion_add=200)
        index.add(np.arange(len(B)), B, threads=1)
        return index

    index, s = built(cache and f"{cache}/usearch", lambda p: Index.restore(p), make, lambda i, p: i.save(p))

    def ask(ef):
        index.expansion_search = ef
        return index.search(Q, 10, threads=1).keys

    return s, timed(ask, Q, T, EFS)


def run_symqg(B, Q, T, cache):
    import rabitqlib

    def make():
        index = rabitqlib.SymqgIndex(B.shape[1], 32, metric="ip", quantization_bits=0)
        index.build(B, 400, 1)
        return index

    t = time.process_time()
    index = make()
    s = time.process_time() - t

    def ask(ef):
        ids = index.search(Q, 10, ef, 1)
        return ids[0] if isinstance(ids, tuple) else ids

    return s, timed(ask, Q, T, EFS)


def run_scann(B, Q, T, cache):
    import scann
    leaves = int(2 * math.sqrt(len(B)))
    t = time.process_time()
    index = (scann.scann_ops_pybind.builder(B, 10, "dot_product")
             .tree(num_leaves=leaves, num_leaves_to_search=20, training_sample_size=len(B), soar_lambda=1.5,
                   overretrieve_factor=2).score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100)
             .set_n_training_threads(1).build())
    s = time.process_time() - t

    def ask(n):
        return [index.search(q, leaves_to_search=n, pre_reorder_num_neighbors=100)[0] for q in Q]

    return s, timed(ask, Q, T, (3, 6, 10, 16, 24, 40, 60, 100, 150))


def run_vsag(B, Q, T, cache):
    import numpy as np
    import pyvsag
    index = pyvsag.Index("hgraph", json.dumps({
        "dtype": "float32", "metric_type": "ip", "dim": B.shape[1],
        "index_param": {"base_quantization_type": "sq8", "max_degree": 32, "ef_construction": 200,
                        "use_reorder": True, "precise_quantization_type": "fp32", "build_thread_count": 1}}))
    t = time.process_time()
    index.build(vectors=B, ids=np.arange(len(B)), num_elements=len(B), dim=B.shape[1])
    s = time.process_time() - t

    def ask(ef):
        p = json.dumps({"hgraph": {"ef_search": ef}})
        return [index.knn_search(vector=q, k=10, parameters=p)[0] for q in Q]

    return s, timed(ask, Q, T, EFS)


RUN = {"faiss16": lambda *a: run_faiss(16, *a), "faiss32": lambda *a: run_faiss(32, *a), "hnswlib": run_hnswlib,
       "usearch": run_usearch, "symqg": run_symqg, "scann": run_scann, "vsag": run_vsag}


def one(name, o):
    B, Q, T = read(o.base, "float32"), read(o.queries, "float32"), read(o.truth, "int32")
    import numpy as np
    B = np.ascontiguousarray(B / np.linalg.norm(B, axis=1, keepdims=True))
    Q = np.ascontiguousarray(Q / np.linalg.norm(Q, axis=1, keepdims=True))
    seconds, rows = RUN[name](B, Q, T, o.cache)
    print("\n" + json.dumps({"build_s": seconds, "rows": rows}))


def run_peer(name, o):
    words = [sys.executable, __file__, "--one", name, "--base", o.base, "--queries", o.queries, "--truth", o.truth]
    p = subprocess.run(words + (["--cache", o.cache] if o.cache else []), capture_output=True, text=True,
                       env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    if p.returncode:
        why = (p.stderr.strip() or "died of signal %d" % -p.returncode).split("\n")[-1]
        print(f"{name}: left out: {why}", file=sys.stderr)
        return None
    return json.loads(p.stdout.strip().split("\n")[-1])


def run_kith(o):
    words = shlex.split(o.kith) + ["--base", o.base, "--queries", o.queries, "--truth", o.truth, "--json"]
    rows = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return {"build_s": rows[0]["build_s"], "rows": rows, "bytes_per_vector": rows[0]["bytes_per_vector"]}


def at(rows, target):
    """Queries a second at a recall, or None when no setting reaches it."""
    rows = sorted(rows, key=lambda r: r["recall@10"])
    if not rows or rows[-1]["recall@10"] < target:
        return None
    best = None
    for a, b in zip([rows[0]] + rows, rows):
        if b["recall@10"] < target:
            continue
        span = b["recall@10"] - a["recall@10"]
        part = (target - a["recall@10"]) / span if span > 0 and a["recall@10"] < target else 1.0
        qps = math.exp(math.log(a["qps"]) * (1 - part) + math.log(b["qps"]) * part)
        best = max(best or 0, qps)
    return best


def merge(old, new):
    if not old or not new:
        return old or new
    for a, b in zip(old["rows"], new["rows"]):
        a["qps"] = max(a["qps"], b["qps"])
    old["build_s"] = min(old["build_s"], new["build_s"])
    return old


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--kith", help="command that prints kith's rows")
    p.add_argument("--base", required=True)
    p.add_argument("--queries", required=True)
    p.add_argument("--truth", required=True)
    p.add_argument("--peers", default=",".join(RUN))
    p.add_argument("--cache")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--out")
    p.add_argument("--one", choices=RUN, help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.one:
        return one(o.one, o)
    if not o.kith:
        p.error("--kith is needed")
    results, gone = {}, set()
    for _ in range(o.rounds):
        results["kith"] = merge(results.get("kith"), run_kith(o))
        for name in filter(None, o.peers.split(",")):
            if name in gone:
                continue
            r = run_peer(name, o)
            gone |= {name} if r is None else set()
            if r:
                results[name] = merge(results.get(name), r)
    print("%-9s %8s " % ("engine", "build s") + " ".join("%16s" % f"qps @{t:.2f}" for t in TARGETS) + "   (kith is x times)")
    ours = {t: at(results["kith"]["rows"], t) for t in TARGETS}
    for name, r in results.items():
        cells = []
        for t in TARGETS:
            q = at(r["rows"], t)
            ratio = "" if not q or name == "kith" or not ours[t] else f" ({ours[t] / q:.1f}x)"
            cells.append("%16s" % (("%.0f" % q if q else "-") + ratio))
        print("%-9s %8.1f " % (name, r["build_s"]) + " ".join(cells))
    if o.out:
        with open(o.out, "w") as f:
            json.dump(results, f, indent=1)


main()
