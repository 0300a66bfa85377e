#!/usr/bin/env python3
"""The storm: searches and posts go on while the provider has 30 % errors, is dead, refuses half of what is needed
with 429, and is healthy again.

    KITH_BIN=build/kith KITH_VENV=... python3 tests/storm_test.py [--plot docs/storm.svg] [--searches 200] [--posts 50]

Short (a minute) by default, as long as in the plot with KITH_LONG=1. What must hold: no search fails; the p99 of
searches with the provider dead is near that with it healthy; a dead provider gets what was under way
when it died, five calls more for each kind, and probes; afterwards the backlog drains; every post is embedded once.
"""
import collections
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import provider_test  # noqa: E402
from kithtest import CASES, LONG, Kith, case, check, main  # noqa: E402

CASES.clear()  # of provider_test

THREADS = 48
#         name, seconds short, seconds long, control of the stand-in
PHASES = [("healthy", 8, 60, {}), ("30 % errors", 10, 60, {"error_share": 0.3}),
          ("dead", 15, 180, {"mode": "503", "error_share": 0}), ("429 at half", 10, 60, {"mode": "", "rate": 55.0}),
          ("healthy again", 12, 90, {"rate": 0})]
OPEN_MS = 60000 if LONG else 3000
SEARCHES = int(sys.argv[sys.argv.index("--searches") + 1]) if "--searches" in sys.argv else 200
POSTS = int(sys.argv[sys.argv.index("--posts") + 1]) if "--posts" in sys.argv else 50
PLOT = sys.argv[sys.argv.index("--plot") + 1] if "--plot" in sys.argv else ""
WORDS = "apple pear plum violin river thread kernel winter coffee garden rain window music train ticket".split()


class StandIn:
    def __init__(self):
        f = provider_test.files()
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "standin", "vertex.py")
        self.process = subprocess.Popen([sys.executable, path, "--public-key", f.put("public.pem", f.public)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = json.loads(self.process.stdout.readline())["port"]
        self.url = f"http://127.0.0.1:{self.port}"

    def control(self, **fields):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        c.request("POST", "/control", json.dumps(fields)) if fields else c.request("GET", "/control")
        answer = json.loads(c.getresponse().read())
        c.close()
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


class Load:
    """Open loop: each request has its time; a late one is sent at once."""

    def __init__(self, port, seconds):
        self.port, self.start, self.seconds = port, time.monotonic() + 0.2, seconds
        self.lock, self.next = threading.Lock(), [0, 0]
        self.results, self.posted = [], 0
        self.threads = [threading.Thread(target=self.run, args=(kind,)) for kind in [0] * THREADS + [1] * 4]
        for t in self.threads:
            t.start()

    def take(self, kind):
        with self.lock:
            i = self.next[kind]
            at = i / (SEARCHES, POSTS)[kind]
            if at >= self.seconds:
                return None, None
            self.next[kind] += 1
        return i, self.start + at

    def run(self, kind):
        c, r = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60), random.Random(threading.get_ident())
        while True:
            i, at = self.take(kind)
            if i is None:
                break
            time.sleep(max(0, at - time.monotonic()))
            t = time.monotonic()
            if kind == 0:
                a, b = r.sample(WORDS, 2)
                q = f"{a}+{b}" if i % 2 else f"{a}+{b}+unique{i}"
                c.request("GET", f"/v1/search?q={q}&limit=10")
            else:
                body = json.dumps({"id": f"s{i}", "text": f"storm post number{i} {r.choice(WORDS)} {r.choice(WORDS)}"})
                c.request("POST", "/v1/posts", body, {"Content-Type": "application/json"})
            answer = c.getresponse()
            data = answer.read()
            end = time.monotonic()
            degraded = kind == 0 and answer.status == 200 and bool(json.loads(data).get("degraded"))
            with self.lock:
                self.results.append((kind, t - self.start, end - t, answer.status, degraded))
                self.posted += kind
        c.close()

    def join(self):
        for t in self.threads:
            t.join()


def p99(values):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * 0.99))] if values else 0.0


def bounds():
    at, out = 0, []
    for name, short, long, fields in PHASES:
        seconds = long if LONG else short
        out.append((name, at, at + seconds, fields))
        at += seconds
    return out, at


@case
def the_storm():
    phases, total = bounds()
    cloud = StandIn()
    flags = ["--provider", "vertex", "--embed-url", cloud.url, "--vertex-project", "p", "--embed-dim", "64",
             "--vertex-credentials", provider_test.files().account(cloud.url), "--embed-open-ms", str(OPEN_MS)]
    cloud.control(latency_s=0.02)
    backlog = []
    try:
        with Kith(args=flags) as k:
            k.batch([{"id": f"b{i}", "text": f"base {i} {WORDS[i % 15]} {WORDS[i * 7 % 15]}"} for i in range(1000)])
            provider_test.drained(k)
            load = Load(k.port, total)
            died = None
            for name, start, end, fields in phases:
                time.sleep(max(0, load.start + start - time.monotonic()))
                if fields:
                    cloud.control(**fields)
                if name == "dead":
                    died = time.monotonic()
                while time.monotonic() < load.start + end:
                    time.sleep(0.5)
                    backlog.append((time.monotonic() - load.start, provider_test.status(k)["embed_pending"]))
            load.join()
            provider_test.drained(k, 120)
            left = provider_test.status(k)
            report = cloud.control()
            judge(phases, load, report, died, left)
            if PLOT:
                with open(PLOT, "w") as f:
                    f.write(draw(phases, total, load, report, backlog))
    finally:
        cloud.close()


def judge(phases, load, report, died, left):
    took = collections.defaultdict(list)
    for kind, at, seconds, code, degraded in load.results:
        check(code == 200, f"a {'post' if kind else 'search'} at {at:.1f} s got {code}")
        for name, start, end, _ in phases:
            if kind == 0 and start <= at < end:
                took[name].append((seconds, degraded))
    for name, start, end, _ in phases:
        calls = sum(1 for e in report["log"] if start <= e[0] - load.start < end)
        seconds = [s for s, d in took[name]]
        print(f"  {name:14s} {len(seconds):6d} searches, p50 {sorted(seconds)[len(seconds) // 2] * 1e3:6.1f} ms, p99 "
              f"{p99(seconds) * 1e3:6.1f} ms, by words only {sum(d for s, d in took[name]) / len(seconds):6.1%}, "
              f"{calls} calls to the provider", flush=True)
    healthy, dead = p99([s for s, d in took["healthy"]]), p99([s for s, d in took["dead"]])
    print(f"  p99 with the provider dead is {dead / healthy:.2f} of healthy (the aim: at most 1.2)", flush=True)
    # No bound on speed here, for neighbours' load decides it: a search that waited for a dead provider takes a second.
    check(dead < 0.5, f"p99 {dead * 1e3:.1f} ms with it dead: searches wait for it")
    end = [e for n, s, e, f in phases if n == "dead"][0] + load.start
    calls = [e for e in report["log"] if died + 0.5 < e[0] < end]
    probes = 2 * ((end - died) * 1000 / OPEN_MS + 2)
    # A bulk call with its retries is four tries, so five failures take two batches, half a second apart and more.
    check(len(calls) <= probes + 8, f"{len(calls)} calls to a dead provider, expected at most {probes:.0f} probes")
    without = sum(d for s, d in took["healthy"])
    check(without < 0.05 * len(took["healthy"]), f"{without} searches did not use a healthy provider")
    late = [d for kind, at, s, c, d in load.results if kind == 0 and at > phases[-1][2] - 3]
    # The rate grows by 5 % a second behind a 429: the short form ends before all of it is back.
    most = 0.05 if LONG else 0.5
    check(sum(late) < most * len(late), f"{sum(late)} of {len(late)} searches are still without meaning at the end")
    check(left["posts"] == 1000 + load.posted == left["vectors"], f"{left}")
    docs = {t: n for t, n in report["embedded"].items() if t.startswith("RETRIEVAL_DOCUMENT:") and t[19:] != "kith"}
    check(len(docs) >= load.posted and max(docs.values()) == 1, "a post was embedded twice")


# ---- the plot ----

def draw(phases, total, load, report, backlog):
    wide, high, left, gap = 880, 92, 62, 26
    seconds = range(int(total))
    by = collections.defaultdict(list)
    for kind, at, s, code, degraded in load.results:
        if kind == 0:
            by[int(at)].append((s, degraded))
    calls = collections.Counter((int(e[0] - load.start), e[3] == 200) for e in report["log"])
    rows = [("searches a second: all (grey), with meaning (blue)",
             [("#bbb", [len(by[s]) for s in seconds]), ("#2464c8", [sum(not d for _, d in by[s]) for s in seconds])]),
            ("p99 of a search, ms", [("#2464c8", [p99([x for x, _ in by[s]]) * 1e3 for s in seconds])]),
            ("calls to the provider a second: answered (blue), failed (red)",
             [("#2464c8", [calls[(s, True)] for s in seconds]), ("#c83224", [calls[(s, False)] for s in seconds])]),
            ("posts that wait for their vector", [("#2464c8", [max([n for t, n in backlog if int(t) == s] or [0])
                                                               for s in seconds])])]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide + left + 20}" height="{(high + gap + 18) * 4 + 40}" '
           'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>']
    for n, (name, start, end, _) in enumerate(phases):
        x, w = left + start / total * wide, (end - start) / total * wide
        out.append(f'<rect x="{x:.1f}" y="24" width="{w:.1f}" height="{(high + gap + 18) * 4}" '
                   f'fill="{"#f4f4f4" if n % 2 else "#fff"}"/><text x="{x + 4:.1f}" y="18">{name}</text>')
    for r, (title, series) in enumerate(rows):
        top = 30 + r * (high + gap + 18)
        most = max(max(v) for _, v in series) or 1
        out.append(f'<text x="{left}" y="{top + 12}">{title}</text><text x="{left - 6}" y="{top + 26}" '
                   f'text-anchor="end">{most:.0f}</text><text x="{left - 6}" y="{top + 18 + high}" text-anchor="end">0</text>')
        out.append(f'<path d="M{left} {top + 18 + high}H{left + wide}" stroke="#888"/>')
        for colour, values in series:
            points = " ".join(f"{left + (s + 0.5) / total * wide:.1f},{top + 18 + high - v / most * high:.1f}"
                              for s, v in zip(seconds, values))
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    out.append(f'<text x="{left + wide}" y="{30 + 4 * (high + gap + 18)}" text-anchor="end">{total:.0f} s</text></svg>\n')
    return "\n".join(out)


if __name__ == "__main__":
    sys.argv = sys.argv[:1]
    main()
