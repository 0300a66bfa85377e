#!/usr/bin/env python3
"""scale: many real posts with given vectors into one kith over HTTP; speed, bytes by part, latencies.

    bench/scale.py [--posts 450000] [--vectors V.fvecs] [--model DIR] [--json]

Texts: tweets and IRC of KITH_DATA. Vectors: the rows of V.fvecs (made by `kith embed`, or any of the model's
dimension); when there are fewer rows than posts they are taken again with small noise, and the output says so.
Queries, when the import's snapshot is written: three words of a post (words); the first 120 characters and the first
seven words of posts, not asked before and asked again (hybrid).
"""
import argparse
import array
import base64
import gzip
import http.client
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
DATA = os.environ.get("KITH_DATA", os.path.join(ROOT, "..", "shared", "data"))


def texts(count):
    n = 0
    for name in ("tweets", "irc"):
        with gzip.open(os.path.join(DATA, name, "docs.jsonl.gz"), "rt", encoding="utf-8") as f:
            for line in f:
                post = json.loads(line)
                if not post["text"].strip():
                    continue
                yield {k: post[k] for k in ("id", "text", "author", "created_at", "reply_to", "channel") if k in post}
                n += 1
                if n == count:
                    return


class Rows:
    """Vectors as base64 of floats, row after row, again with noise behind the last."""

    def __init__(self, path):
        self.f = open(path, "rb")
        self.dim = array.array("i", self.f.read(4))[0]
        self.size = 4 + 4 * self.dim
        self.rows = os.path.getsize(path) // self.size
        self.rng = random.Random(1)

    def get(self, i):
        self.f.seek((i % self.rows) * self.size + 4)
        v = array.array("f", self.f.read(4 * self.dim))
        if i >= self.rows:
            for _ in range(24):
                v[self.rng.randrange(self.dim)] += self.rng.gauss(0, 0.03)
        return base64.b64encode(v.tobytes()).decode()


class Server:
    def __init__(self, model):
        self.dir = tempfile.mkdtemp(prefix="kith-scale-")
        self.p = subprocess.Popen([os.environ.get("KITH_BIN", ROOT + "/build/kith"), "serve", "--data", self.dir + "/d",
                                   "--listen", "127.0.0.1:0"] + (["--model", model] if model else []),
                                  stdout=subprocess.DEVNULL, stderr=open(self.dir + "/log", "w"))
        while not os.path.exists(self.dir + "/d/serve.json"):
            if self.p.poll() is not None:
                sys.exit(open(self.dir + "/log").read())
            time.sleep(0.05)
        self.port = int(json.load(open(self.dir + "/d/serve.json"))["url"].rsplit(":", 1)[1])
        self.c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def call(self, method, target, body=None):
        self.c.request(method, target, body)
        r = self.c.getresponse()
        return json.loads(r.read()) if not target.endswith(":batch") else r.read()

    def stop(self):
        self.p.terminate()
        self.p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def percentiles(times):
    times.sort()
    return {"p50_ms": round(1000 * times[len(times) // 2], 3), "p99_ms": round(1000 * times[int(len(times) * 0.99)], 3)}


def timed(server, targets):
    out = []
    for t in targets:
        start = time.perf_counter()
        server.call("GET", t)
        out.append(time.perf_counter() - start)
    return percentiles(out)


def load(server, args, rows):
    """Posts in batches; the time until every one is in every index. Making the JSON is not counted."""
    took, n, sample, batch = 0.0, 0, [], []

    def send():
        nonlocal took, batch
        body = "".join(batch).encode()
        start = time.perf_counter()
        server.call("POST", "/v1/posts:batch", body)
        took += time.perf_counter() - start
        batch = []

    for post in texts(args.posts):
        if rows:
            post["vector"] = rows.get(n)
        if n % 200 == 0:
            sample.append(post["text"])
        post["id"] = str(n) + ":" + post["id"]
        if "reply_to" in post:
            del post["reply_to"]
        batch.append(json.dumps(post) + "\n")
        n += 1
        if len(batch) == 1000:
            send()
    if batch:
        send()
    start = time.perf_counter()
    while True:
        s = server.call("GET", "/v1/status")
        if s["posts"] == n and (not rows or s["vectors"] == n):
            break
        time.sleep(0.1)
    tail = time.perf_counter() - start
    return n, took, tail, sample, s


def settle(server):
    """Until the process does nothing: the snapshot behind an import takes a core for seconds."""
    def cpu():
        with open(f"/proc/{server.p.pid}/stat") as f:
            return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))
    for _ in range(120):
        before = cpu()
        time.sleep(1)
        if cpu() - before <= 2:  # ticks of 10 ms
            return


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--posts", type=int, default=450000)
    p.add_argument("--vectors")
    p.add_argument("--model")
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    rows = Rows(args.vectors) if args.vectors else None
    server = Server(args.model)
    try:
        n, took, tail, sample, status = load(server, args, rows)
        settle(server)
        rng = random.Random(3)
        words = ["/v1/search?" + urllib.parse.urlencode({"mode": "words", "q": " ".join(rng.sample(t.split(), 3))})
                 for t in sample if len(t.split()) >= 6][:1000]
        hybrid = ["/v1/search?" + urllib.parse.urlencode({"q": t[:120]}) for t in rng.sample(sample, min(200, len(sample)))]
        short = ["/v1/search?" + urllib.parse.urlencode({"q": " ".join(t.split()[:7])}) for t in rng.sample(sample, min(400, len(sample)))]
        result = {
            "posts": n, "vectors": "none given" if not rows else f"{min(rows.rows, n)} real, {max(0, n - rows.rows)} with noise",
            "posts_per_second": round(n / (took + tail)), "acknowledged_s": round(took, 1), "until_searchable_s": round(tail, 1),
            "words_3": timed(server, words), "hybrid_new_query": timed(server, hybrid), "hybrid_cached_query": timed(server, hybrid * 3),
            "hybrid_new_7_words": timed(server, short), "hybrid_cached_7_words": timed(server, short * 3),
            "rss_mb": round(status["rss_bytes"] / 1e6),
            "memory_mb": {b["part"]: round(b.get("memory_bytes", 0) / 1e6, 1) for b in status["bytes"]},
            "disk_mb": {b["part"]: round(b.get("disk_bytes", 0) / 1e6, 1) for b in status["bytes"]},
        }
    finally:
        server.stop()
    print(json.dumps(result, indent=None if args.json else 2))


main()
