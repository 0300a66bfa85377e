#!/usr/bin/env python3
"""What watching costs: CPU time of a search with everything on (every trace sampled and exported to a collector, a scrape a second)
and with traces off, on the same posts, in turns, in one run. At full load CPU time a search is the inverse of searches a second.

    KITH_BIN=build/kith bench/observe.py [OFF_BINARY]     OFF_BINARY: another build, say one before a change
"""
import http.client
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests"))
import kithtest  # noqa: E402
import observe_test  # noqa: E402

ROUNDS, SEARCHES = 15, 1000
WORDS = "river boat stone light winter market letter garden window mountain story bread music paper river".split()
POSTS = [{"id": f"p{i}", "text": " ".join(WORDS[(i * 7 + k * k) % len(WORDS)] for k in range(12)) + f" {i}", "author": f"u{i % 99}"} for i in range(5000)]


def cpu(k):
    return time.clock_gettime(~k.process.pid << 3 | 2)  # the process' CPU clock, as clock_getcpuclockid makes it


def searches(k):
    c = http.client.HTTPConnection("127.0.0.1", k.port)
    before = cpu(k)
    for i in range(SEARCHES):
        c.request("GET", f"/v1/search?q={WORDS[i % 14]}+{WORDS[(i * 5 + 3) % 14]}&limit=10")
        r = c.getresponse()
        r.read()
        assert r.status == 200
    return (cpu(k) - before) / SEARCHES * 1e6


def start(env, binary=None):
    if binary:
        kithtest.BIN, kept = binary, kithtest.BIN
    k = kithtest.Kith(env=env)
    if binary:
        kithtest.BIN = kept
    k.batch(POSTS)
    k.post(POSTS[0])
    end = time.time() + 60
    while k.call("GET", "/v1/status").json()["embed_pending"] and time.time() < end:
        time.sleep(0.2)
    return k


def main():
    with tempfile.TemporaryDirectory() as d:
        port, grpc = observe_test.free_port(), observe_test.free_port()
        agent = subprocess.Popen([observe_test.rotel(), "start", "--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
                                  "--exporter", "blackhole", "--pid-file", os.path.join(d, "pid")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        on = start({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_TRACES_SAMPLER": "always_on"})
        # Neighbours on the machine must not make searches "slow", or all are kept.
        usual = start({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "KITH_TRACE_SLOW_MS": "10000"})
        off = start({"OTEL_SDK_DISABLED": "true"}, *sys.argv[1:2])
        stop = threading.Event()

        def scrape():
            while not stop.wait(1):
                for k in (on, usual):
                    urllib.request.urlopen(f"http://127.0.0.1:{k.port}/metrics").read()
        t = threading.Thread(target=scrape)
        t.start()
        rows = []
        for _ in range(ROUNDS):
            rows.append((searches(off), searches(usual), searches(on)))
        stop.set()
        t.join()
        best = [min(r[i] for r in rows) for i in range(3)]
        print(f"CPU a search, best of {ROUNDS} rounds of {SEARCHES}: off {best[0]:.1f} us; 1 in 100 sampled and a scrape a second {best[1]:.1f} us; "
              f"every trace exported {best[2]:.1f} us")
        print(f"searches a second at full load, as a share of off: {best[0] / best[1]:.3f} (1 in 100), {best[0] / best[2]:.3f} (all)")
        for k in (on, usual, off):
            k.stop()
        agent.terminate()
        agent.wait()


main()
