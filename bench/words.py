"""The words index beside its peers: one process tree, one core, the same documents, terms and queries.

    python bench/words.py --bench BUILD/bench_index_lexical [--data DIR] [--docs N] [--out FILE]

Peers are Tantivy and bm25s (PyPI). Documents are posts of shared data (tweets; with --irc the IRC messages too).
kith's analysis makes the terms for all: bench_index_lexical --terms writes them, and the peers index those by
white space. Queries are 2, 3 and 5 different words of random posts, OR and AND, 500 each way. Each query runs three
times in each engine, its best counts, in CPU time of the calling thread. Peers are called from Python; the time of Tantivy's fastest query is given as
well, as an upper bound of what the call itself costs.
"""
import argparse, gzip, json, os, random, subprocess, sys, tempfile, time


def posts(data, irc):
    for name in ["tweets"] + (["irc"] if irc else []):
        with gzip.open(os.path.join(data, name, "docs.jsonl.gz"), "rt") as f:
            for line in f:
                yield " ".join(json.loads(line)["text"].split())


def make_queries(docs, seed=1):
    rng = random.Random(seed)
    long = [d for d in docs if len(set(d)) >= 6]
    out = []
    for n in (2, 3, 5):
        for mode in ("or", "and"):
            for _ in range(500):
                out.append((mode, rng.sample(sorted(set(rng.choice(long))), n)))
    return out


def table(times):
    rows = {}
    for key, us in times.items():
        us.sort()
        rows["%d %s" % key] = {"p50_us": round(us[len(us) // 2], 2), "p99_us": round(us[len(us) * 99 // 100], 2),
                               "mean_us": round(sum(us) / len(us), 2)}
    return rows


def best_of(run, times=3):
    best = float("inf")
    for _ in range(times):
        t = time.thread_time_ns()
        run()
        best = min(best, time.thread_time_ns() - t)
    return best / 1000


def run_tantivy(docs, queries, where):
    import tantivy
    b = tantivy.SchemaBuilder()
    b.add_text_field("t", stored=False, tokenizer_name="whitespace", index_option="freq")
    schema = b.build()
    index = tantivy.Index(schema, path=where)
    writer = index.writer(heap_size=500_000_000, num_threads=1)
    t = time.process_time()
    for d in docs:
        doc = tantivy.Document()
        doc.add_text("t", " ".join(d))
        writer.add_document(doc)
    writer.commit()
    writer.wait_merging_threads()
    build = time.process_time() - t
    index.reload()
    s = index.searcher()
    times, fastest = {}, float("inf")
    for mode, words in queries:
        occur = tantivy.Occur.Must if mode == "and" else tantivy.Occur.Should
        q = tantivy.Query.boolean_query([(occur, tantivy.Query.term_query(schema, "t", w, "freq")) for w in words])
        us = best_of(lambda: s.search(q, 10, count=False))
        fastest = min(fastest, us)
        times.setdefault((len(words), mode), []).append(us)
    postings = sum(os.path.getsize(os.path.join(where, f)) for f in os.listdir(where) if f.endswith(".idx"))
    return {"build_s": round(build, 2), "segments": s.num_segments, "postings_bytes": postings,
            "fastest_query_us": round(fastest, 2), "queries": table(times)}


def run_bm25s(docs, queries):
    """In batches, as it is meant to be used (its numba backend, one thread): only means."""
    import bm25s
    ids = {}
    corpus = [[ids.setdefault(w, len(ids)) for w in d] for d in docs]
    t = time.process_time()
    r = bm25s.BM25(k1=0.9, b=0.6, backend="numba")
    r.index(bm25s.tokenization.Tokenized(ids=corpus, vocab=ids), show_progress=False)
    build = time.process_time() - t
    groups = {}
    for mode, words in queries:
        if mode == "or":
            groups.setdefault("%d or" % len(words), []).append([ids[w] for w in words])
    rows = {}
    for name, group in groups.items():
        batch = bm25s.tokenization.Tokenized(ids=group, vocab=ids)
        us = best_of(lambda: r.retrieve(batch, k=10, show_progress=False, n_threads=1))
        rows[name] = {"mean_us": round(us / len(group), 2)}
    return {"build_s": round(build, 2), "queries": rows}


def run_kith(bench, texts, queries, where):
    path = os.path.join(where, "queries")
    with open(path, "w") as f:
        for mode, words in queries:
            f.write(("+" if mode == "and" else "") + " ".join(words) + "\n")
    out = json.loads(subprocess.run([bench, texts, path, "3"], check=True, capture_output=True, text=True).stdout)
    for state in ("live", "loaded"):
        out[state] = {"%d %s" % (q["words"], q["mode"]): {k: q[k] for k in ("p50_us", "p99_us", "mean_us")}
                      for q in out[state] if q}
    return out


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--bench", required=True)
    a.add_argument("--data", default=os.environ.get("KITH_DATA", "../shared/data"))
    a.add_argument("--docs", type=int, default=150000)
    a.add_argument("--irc", action="store_true")
    a.add_argument("--out")
    a = a.parse_args()
    if not os.path.isdir(os.path.join(a.data, "tweets")):
        print("bench/words: no data at %s: skipped" % a.data)
        return 0
    with tempfile.TemporaryDirectory() as where:
        texts = os.path.join(where, "texts")
        with open(texts, "w") as f:
            for i, text in enumerate(posts(a.data, a.irc)):
                if i == a.docs:
                    break
                f.write(text + "\n")
        terms = subprocess.run([a.bench, "--terms", texts], check=True, capture_output=True, text=True).stdout
        docs = [line.split() for line in terms.split("\n")[:-1]]
        queries = make_queries(docs)
        os.mkdir(os.path.join(where, "tantivy"))
        result = {"docs": len(docs), "kith": run_kith(a.bench, texts, queries, where)}
        try:
            result["tantivy"] = run_tantivy(docs, queries, os.path.join(where, "tantivy"))
            result["bm25s"] = run_bm25s(docs, queries)
        except ImportError as e:
            print("bench/words: %s: peer skipped" % e, file=sys.stderr)
    text = json.dumps(result, indent=1)
    print(text)
    if a.out:
        with open(a.out, "w") as f:
            f.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
