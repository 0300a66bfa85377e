"""The graph beside its peers: one process tree, one core, the same vectors and queries.

    python bench/index.py --kith 'BUILD/kith bench index' --base B.fvecs --queries Q.fvecs --truth T.ivecs
        [--peers faiss16,...] [--cache DIR] [--rounds 2] [--out F.json] [--plot F.svg] [--table F.md] [--title TEXT]
    python bench/index.py --from F.json [--plot F.svg] [--table F.md] [--title TEXT]

Each engine builds in a process of its own, single-threaded, then answers all queries at settings from fast to
thorough; processor time, the best of three passes. Engines take turns (kith, a peer, the next, ...) and the whole is
done `rounds` times, the best of each setting kept, so that a neighbour on the machine hurts all alike. The table
gives queries a second at a recall@10 of .90, .95, .98 and .99, interpolated (log of the speed, linear in recall)
between the two settings around it. --cache keeps what peers built, with the seconds it took. Peers come from PyPI:
faiss-cpu, hnswlib, usearch, rabitqlib (SymphonyQG), scann, pyvsag, scalable-vs; glass is built from
zilliztech/pyglass (pybind11 < 3). What is not installed is left out and said so.

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


def run_faiss(name, m, sq8, B, Q, T, cache):
    import faiss
    faiss.omp_set_num_threads(1)

    def make():
        if sq8:
            index = faiss.IndexHNSWSQ(B.shape[1], faiss.ScalarQuantizer.QT_8bit, m, faiss.METRIC_INNER_PRODUCT)
            index.train(B)
        else:
            index = faiss.IndexHNSWFlat(B.shape[1], m, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 200
        index.add(B)
        return index

    index, s = built(cache and f"{cache}/{name}", faiss.read_index, make, faiss.write_index)

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

    index, s = built(cache and f"{cache}/symqg", rabitqlib.SymqgIndex.load, make, lambda i, p: i.save(p))

    def ask(ef):
        ids = index.search(Q, 10, ef, 1)
        return ids[0] if isinstance(ids, tuple) else ids

    return s, timed(ask, Q, T, EFS)


def run_scann(batched, B, Q, T, cache):
    import scann
    leaves = int(2 * math.sqrt(len(B)))

    def make():
        return (scann.scann_ops_pybind.builder(B, 10, "dot_product")
                .tree(num_leaves=leaves, num_leaves_to_search=20, training_sample_size=len(B), soar_lambda=1.5,
                      overretrieve_factor=2).score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100)
                .set_n_training_threads(1).build())

    def save(index, path):
        os.makedirs(path, exist_ok=True)
        index.serialize(path)

    index, s = built(cache and f"{cache}/scann", scann.scann_ops_pybind.load_searcher, make, save)

    def ask(n):
        if batched:
            return index.search_batched(Q, leaves_to_search=n, pre_reorder_num_neighbors=100)[0]
        return [index.search(q, leaves_to_search=n, pre_reorder_num_neighbors=100)[0] for q in Q]

    return s, timed(ask, Q, T, (3, 6, 10, 16, 24, 40, 60, 100, 150, 250))


def run_vsag(B, Q, T, cache):
    import numpy as np
    import pyvsag

    def empty():
        return pyvsag.Index("hgraph", json.dumps({
            "dtype": "float32", "metric_type": "ip", "dim": B.shape[1],
            "index_param": {"base_quantization_type": "sq8", "max_degree": 32, "ef_construction": 200,
                            "use_reorder": True, "precise_quantization_type": "fp32", "build_thread_count": 1}}))

    def make():
        index = empty()
        index.build(vectors=B, ids=np.arange(len(B)), num_elements=len(B), dim=B.shape[1])
        return index

    def load(path):
        index = empty()
        index.load(path)
        return index

    index, s = built(cache and f"{cache}/vsag", load, make, lambda i, p: i.save(p))

    def ask(ef):
        p = json.dumps({"hgraph": {"ef_search": ef}})
        return [index.knn_search(vector=q, k=10, parameters=p)[0] for q in Q]

    return s, timed(ask, Q, T, EFS)


def run_svs(B, Q, T, cache):
    import svs

    def make():
        how = svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=64, window_size=128)
        return svs.Vamana.build(how, B, svs.DistanceType.MIP, num_threads=1)

    def save(index, path):
        for part in ("config", "graph", "data"):
            os.makedirs(f"{path}/{part}", exist_ok=True)
        index.save(f"{path}/config", f"{path}/graph", f"{path}/data")

    def load(path):
        return svs.Vamana(f"{path}/config", svs.GraphLoader(f"{path}/graph"),
                          svs.VectorDataLoader(f"{path}/data", svs.DataType.float32), svs.DistanceType.MIP, num_threads=1)

    index, s = built(cache and f"{cache}/svs", load, make, save)

    def ask(window):
        index.search_window_size = window
        return index.search(Q, 10)[0]

    return s, timed(ask, Q, T, EFS)


def run_glass(code, B, Q, T, cache):
    import glass
    path = cache and f"{cache}/glass"

    def make():
        return glass.Index("HNSW", "IP", "SQ8U", 32, 200).build(B)

    graph, s = built(path, glass.Graph, make, lambda i, p: i.save(p))
    searcher = glass.Searcher(graph, B, "IP", code, "FP16" if code == "SQ4U" else "")
    searcher.optimize(1)

    glass.set_num_threads(1)

    def ask(ef):
        searcher.set_ef(ef)
        return searcher.batch_search(Q, 10, 1)[0]

    return s, timed(ask, Q, T, EFS)


RUN = {"faiss16": lambda *a: run_faiss("faiss16", 16, False, *a),
       "faiss32": lambda *a: run_faiss("faiss32", 32, False, *a),
       "faiss-sq8": lambda *a: run_faiss("faiss-sq8", 32, True, *a),
       "hnswlib": run_hnswlib, "usearch": run_usearch, "symqg": run_symqg, "scann": lambda *a: run_scann(False, *a),
       "scann-batch": lambda *a: run_scann(True, *a), "vsag": run_vsag, "svs": run_svs,
       "glass-sq8": lambda *a: run_glass("SQ8U", *a), "glass-sq4": lambda *a: run_glass("SQ4U", *a)}
NAMES = {"kith": "kith", "faiss16": "FAISS HNSW, M 16", "faiss32": "FAISS HNSW, M 32", "faiss-sq8": "FAISS HNSW SQ8, M 32",
         "hnswlib": "hnswlib, M 16", "usearch": "USearch f16, M 16", "symqg": "SymphonyQG (rabitqlib), R 32",
         "scann": "ScaNN, one by one", "scann-batch": "ScaNN, batched", "vsag": "VSAG hgraph sq8, 32",
         "svs": "SVS Vamana fp32, R 64", "glass-sq8": "Glass SQ8U, R 32", "glass-sq4": "Glass SQ4U, R 32"}


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


# ---- what is shown ----

COLOURS = ("#d62728", "#1f77b4", "#6baed6", "#08519c", "#2ca02c", "#98df8a", "#9467bd", "#ff7f0e", "#ffbb78", "#8c564b",
           "#e377c2", "#7f7f7f", "#bcbd22")


def frontier(rows, least):
    """The points that no other point beats in both ways, from the least recall up."""
    best, out = 0, []
    for r in sorted(rows, key=lambda r: (-r["recall@10"], -r["qps"])):
        if r["qps"] > best and r["recall@10"] >= least:
            best = r["qps"]
            out.append(r)
    return out[::-1]


def plot(results, title):
    """The recall-QPS picture, as SVG."""
    left, top, width, height, least = 70, 40, 560, 400, 0.80
    lines = {n: frontier(r["rows"], least) for n, r in results.items()}
    speeds = [p["qps"] for line in lines.values() for p in line]
    low, high = math.log10(min(speeds)) - 0.05, math.log10(max(speeds)) + 0.05

    def x(recall):
        return left + width * (recall - least) / (1 - least)

    def y(qps):
        return top + height * (high - math.log10(qps)) / (high - low)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 250} {top + height + 50}" '
           'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>',
           f'<text x="{left}" y="22" font-size="15">{title}</text>']
    for i in range(0, 21, 2):
        at_x = x(least + i / 100)
        out.append(f'<path d="M{at_x:.1f} {top}V{top + height}" stroke="#ddd"/><text x="{at_x:.1f}" '
                   f'y="{top + height + 18}" text-anchor="middle">{least + i / 100:.2f}</text>')
    for power in range(1, 7):
        for digit in (1, 2, 5):
            qps = digit * 10 ** power
            if low <= math.log10(qps) <= high:
                out.append(f'<path d="M{left} {y(qps):.1f}H{left + width}" stroke="#ddd"/><text x="{left - 6}" '
                           f'y="{y(qps) + 4:.1f}" text-anchor="end">{qps:,}</text>')
    out.append(f'<text x="{left + width / 2}" y="{top + height + 38}" text-anchor="middle">recall@10</text>'
               f'<text x="16" y="{top + height / 2}" transform="rotate(-90 16 {top + height / 2})" '
               'text-anchor="middle">queries a second, one core</text>')
    order = sorted(lines, key=lambda n: -(at(results[n]["rows"], 0.95) or 0))
    for i, name in enumerate(order):
        colour = COLOURS[list(NAMES).index(name) % len(COLOURS)]
        points = " ".join(f"{x(p['recall@10']):.1f},{y(p['qps']):.1f}" for p in lines[name])
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" '
                   f'stroke-width="{3.5 if name == "kith" else 1.5}"/>')
        at_y = top + 14 + 20 * i
        out.append(f'<path d="M{left + width + 16} {at_y - 4}h24" stroke="{colour}" '
                   f'stroke-width="{3.5 if name == "kith" else 1.5}"/><text x="{left + width + 46}" '
                   f'y="{at_y}">{NAMES[name]}</text>')
    return "\n".join(out) + "\n</svg>\n"


def table(results):
    """Rows of the engine, what it took to build, and at each recall its speed and kith's beside it."""
    ours = {t: at(results["kith"]["rows"], t) for t in TARGETS}
    rows = [["engine", "build s"] + [f"QPS @{t:.2f}" for t in TARGETS]]
    for name, r in results.items():
        cells = []
        for t in TARGETS:
            q = at(r["rows"], t)
            ratio = "" if not q or name == "kith" or not ours[t] else f" ({ours[t] / q:.1f}x)"
            cells.append(f"{q:,.0f}{ratio}" if q else "-")
        rows.append([NAMES[name], f"{r['build_s']:.0f}"] + cells)
    return rows


def markdown(results, title):
    rows = table(results)
    lines = ["| " + " | ".join(r) + " |" for r in rows]
    lines.insert(1, "| --- |" + " ---: |" * (len(rows[0]) - 1))
    return f"## {title}\n\n" + "\n".join(lines) + "\n"


def show(results, o):
    rows = table(results)
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for r in rows:
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))))
    print("(in brackets: kith is so many times as fast)")
    for path, text in ((o.plot, plot), (o.table, markdown)):
        if path:
            with open(path, "w") as f:
                f.write(text(results, o.title))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--kith", help="command that prints kith's rows")
    p.add_argument("--base")
    p.add_argument("--queries")
    p.add_argument("--truth")
    p.add_argument("--peers", default=",".join(RUN))
    p.add_argument("--cache")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--out")
    p.add_argument("--plot")
    p.add_argument("--table")
    p.add_argument("--title", default="recall and speed")
    p.add_argument("--from", dest="source", help="results of an earlier run: show them again")
    p.add_argument("--one", choices=RUN, help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.source:
        with open(o.source) as f:
            return show(json.load(f), o)
    if not (o.base and o.queries and o.truth):
        p.error("--base, --queries and --truth are needed")
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
    if o.out:
        with open(o.out, "w") as f:
            json.dump(results, f, indent=1)
    show(results, o)


main()
