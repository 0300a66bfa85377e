"""The words index beside its peers: one process tree, one core, the same documents, terms and queries.

    python bench/words.py --bench BUILD/bench_index_lexical [--data DIR] [--sizes 150000,457814,1000000]
        [--target DIR] [--bm25s] [--out F.json]
    python bench/words.py --from F.json [--plot F.svg] [--table F.md]

The peer is Tantivy, called natively: bench/tantivy is built by cargo into --target (a folder outside the tree), and
merged to one segment, its best state; --bm25s adds bm25s (PyPI, numba, in batches). kith's analysis makes the terms
for all: bench_index_lexical --terms writes them, and peers index those by white space. Queries are 2, 3 and 5
different words of random posts, OR and AND, 500 each way. Each query runs five times in each engine and its best
counts, in CPU time of the calling thread.

Documents are the tweets of shared data, then its IRC messages (457,814 together), then posts, questions, mails and
speeches of its other sets; beyond those, earlier ones again with their words shuffled, which the result tells.
"""
import argparse, gzip, json, math, os, random, subprocess, sys, tempfile, time

SETS = ["tweets", "irc", "tweets_multilang", "semeval_cqa", "stackexchange", "tatoeba", "rumoureval17", "mail_lists",
        "parlspeech", "trecqa", "npl", "lisa", "cranfield", "cisi", "checkthat20", "stackfaq"]
HERE = os.path.dirname(os.path.abspath(__file__))


def read_set(folder):
    for name in ("docs.jsonl.gz", "docs.jsonl"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with (gzip.open if name.endswith("gz") else open)(path, "rt") as f:
                for line in f:
                    text = " ".join(json.loads(line)["text"].split())
                    if text:
                        yield text


def posts(data, n, seed=1):
    """The first n posts, and how many of them are real."""
    texts, rng = [], random.Random(seed)
    for name in SETS:
        for text in read_set(os.path.join(data, name)):
            if len(texts) == n:
                return texts, n
            texts.append(text)
    real = len(texts)
    for i in range(n - real):
        words = texts[i % real].split()
        rng.shuffle(words)
        texts.append(" ".join(words))
    return texts, real


def make_queries(docs, seed=1):
    rng = random.Random(seed)
    long = [d for d in docs if len(set(d)) >= 6]
    out = []
    for n in (2, 3, 5):
        for mode in ("or", "and"):
            for _ in range(500):
                out.append((mode, rng.sample(sorted(set(rng.choice(long))), n)))
    return out


def rows_of(groups):
    return {"%d %s" % (q["words"], q["mode"].upper()): {k: q[k] for k in ("p50_us", "p99_us", "mean_us")}
            for q in groups if q}


def run_json(*args):
    return json.loads(subprocess.run(args, check=True, capture_output=True, text=True).stdout)


def build_tantivy(target):
    """The peer's program, or None where cargo cannot make it."""
    env = dict(os.environ, CARGO_TARGET_DIR=target, RUSTFLAGS="-C target-cpu=native")
    make = ["cargo", "build", "--release", "--quiet", "--manifest-path",
            os.path.join(HERE, "tantivy", "Cargo.toml")]
    try:
        subprocess.run(make, check=True, env=env)
    except (OSError, subprocess.CalledProcessError) as e:
        print("bench/words: no Tantivy: %s" % e)
        return None
    return os.path.join(target, "release", "tantivy-bench")


def run_bm25s(docs, queries):
    import bm25s
    ids = {}
    corpus = [[ids.setdefault(w, len(ids)) for w in d] for d in docs]
    t = time.process_time()
    r = bm25s.BM25(k1=0.9, b=0.6, backend="numba")
    r.index(bm25s.tokenization.Tokenized(ids=corpus, vocab=ids), show_progress=False)
    build, rows = time.process_time() - t, {}
    for n in (2, 3, 5):
        group = [[ids[w] for w in words] for mode, words in queries if mode == "or" and len(words) == n]
        batch, best = bm25s.tokenization.Tokenized(ids=group, vocab=ids), float("inf")
        for _ in range(3):
            t = time.thread_time_ns()
            r.retrieve(batch, k=10, show_progress=False, n_threads=1)
            best = min(best, time.thread_time_ns() - t)
        rows["%d OR" % n] = {"mean_us": round(best / 1000 / len(group), 2)}
    return {"build_s": round(build, 2), "queries": rows}


def run_size(a, n, tantivy):
    texts, real = posts(a.data, n)
    with tempfile.TemporaryDirectory() as where:
        paths = {name: os.path.join(where, name) for name in ("texts", "terms", "queries", "tantivy")}
        with open(paths["texts"], "w") as f:
            f.write("\n".join(texts) + "\n")
        with open(paths["terms"], "w") as f:
            subprocess.run([a.bench, "--terms", paths["texts"]], check=True, stdout=f)
        with open(paths["terms"]) as f:
            docs = [line.split() for line in f]
        queries = make_queries(docs)
        with open(paths["queries"], "w") as f:
            f.writelines(("+" if mode == "and" else "") + " ".join(words) + "\n" for mode, words in queries)
        k = run_json(a.bench, paths["texts"], paths["queries"], "5")
        k["live"], k["loaded"] = rows_of(k["live"]), rows_of(k["loaded"])
        k["build_s"] = round((k["analyze_us_a_doc"] + k["insert_us_a_doc"]) * n / 1e6, 2)
        out = {"docs": n, "real": real, "kith": k}
        if tantivy:
            os.mkdir(paths["tantivy"])
            t = run_json(tantivy, paths["terms"], paths["queries"], "5", paths["tantivy"])
            t["queries"] = rows_of(t["queries"])
            out["tantivy"] = t
        if a.bm25s:
            out["bm25s"] = run_bm25s(docs, queries)
    return out


def series(size):
    out = [("after a restart", size["kith"]["loaded"]), ("built post by post", size["kith"]["live"])]
    return out + ([("Tantivy", size["tantivy"]["queries"])] if "tantivy" in size else [])


def table(result):
    out = []
    for size in result:
        names = [name for name, _ in series(size)]
        peer = names[-1] == "Tantivy"
        out += ["", "| {:,} | kith, {} | kith, {} | {} |".format(size["docs"], *names[:2], "Tantivy | faster" if peer
                                                                  else ""), "| --- " * (5 if peer else 3) + "|"]
        for q in size["kith"]["live"]:
            cells = ["%.1f / %.1f / %.0f" % (r[q]["mean_us"], r[q]["p50_us"], r[q]["p99_us"]) for _, r in series(size)]
            if peer:
                t = size["tantivy"]["queries"][q]["mean_us"]
                cells.append("%.1f × / %.1f ×" % tuple(t / r[q]["mean_us"] for _, r in series(size)[:2]))
            out.append("| %s | %s |" % (q, " | ".join(cells)))
    return "\n".join(out) + "\n"


def plot(result):
    """Mean microseconds a query, a panel a size, logarithmic."""
    colour, wide, high, left = ["#0b6", "#6c9", "#c53"], 300, 190, 46
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="268" font-family="sans-serif" font-size="11">'
           % (left + wide * len(result) + 10), '<rect width="100%" height="100%" fill="#fff"/>']
    def y(us):
        return 30 + high - high * math.log10(max(us, 1)) / 3
    for us in (1, 10, 100, 1000):
        out.append('<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="4" y="%.1f">%d µs</text>'
                   % (left, left + wide * len(result), y(us), y(us), y(us) + 4, us))
    for i, size in enumerate(result):
        x0 = left + wide * i
        out.append('<text x="%d" y="18" font-weight="bold">%s posts</text>' % (x0 + 8, format(size["docs"], ",")))
        for j, q in enumerate(size["kith"]["live"]):
            for k, (_, rows) in enumerate(series(size)):
                top, x = y(rows[q]["mean_us"]), x0 + 8 + j * 48 + k * 13
                out.append('<rect x="%d" y="%.1f" width="12" height="%.1f" fill="%s"/>' % (x, top, 30 + high - top,
                                                                                         colour[k]))
            out.append('<text x="%d" y="%d">%s</text>' % (x0 + 8 + j * 48, 30 + high + 15, q))
    for k, (name, _) in enumerate(series(result[0])):
        out.append('<rect x="%d" y="248" width="12" height="12" fill="%s"/><text x="%d" y="258">%s</text>'
                   % (left + 8 + k * 190, colour[k], left + 24 + k * 190, name if k == 2 else "kith, " + name))
    return "\n".join(out + ["</svg>", ""])


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--bench")
    a.add_argument("--from", dest="source")
    a.add_argument("--data", default=os.environ.get("KITH_DATA", "../shared/data"))
    a.add_argument("--sizes", default="150000,457814,1000000")
    a.add_argument("--target", default=os.path.expanduser("~/.cache/kith/bench-tantivy"))
    a.add_argument("--bm25s", action="store_true")
    for name in ("--out", "--plot", "--table"):
        a.add_argument(name)
    a = a.parse_args()
    if a.source:
        with open(a.source) as f:
            result = json.load(f)
    elif not os.path.isdir(os.path.join(a.data, "tweets")):
        print("bench/words: no data at %s: skipped" % a.data)
        return 0
    else:
        tantivy = build_tantivy(a.target)
        result = [run_size(a, int(n), tantivy) for n in a.sizes.split(",")]
    for path, text in ((a.out, json.dumps(result, indent=1)), (a.plot, plot(result)), (a.table, table(result))):
        if path:
            with open(path, "w") as f:
                f.write(text)
    if not (a.out or a.plot or a.table):
        print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
