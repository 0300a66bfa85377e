#!/usr/bin/env python3
"""Backup figures: RPO at a kill -9 and RTO of a restore, with N posts of 384 dimensions.

    bench/restore.py [--posts 100000] [--vectors FILE.fvecs] [--kith build/kith]

Fills a directory while it is archived (dir:), takes a snapshot, writes on, kills the process, restores into a new
directory, starts it, and times: the restore, the first right answer, all vectors searchable. Prints one JSON line.
"""
import argparse
import base64
import http.client
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import time

DIM = 384


def vectors(path, n):
    if path:
        with open(path, "rb") as f:
            for _ in range(n):
                raw = f.read(4 + DIM * 4)
                if len(raw) < 4 + DIM * 4:
                    break
                yield raw[4:]
        return
    r = random.Random(1)
    for _ in range(n):
        yield struct.pack(f"<{DIM}f", *(r.gauss(0, 1) for _ in range(DIM)))


class Server:
    def __init__(self, kith, data, url, env):
        self.args = [kith, "serve", "--data", data, "--listen", "127.0.0.1:0", "--model", f"mock:{DIM}", "--archive", url]
        self.data, self.env = data, env
        self.log = open(data + ".log", "ab")

    def start(self):
        self.began = time.time()
        self.process = subprocess.Popen(self.args, stdout=self.log, stderr=self.log, env=self.env)
        while True:
            try:
                found = json.load(open(self.data + "/serve.json"))
                if found["pid"] == self.process.pid:
                    self.port = int(found["url"].rsplit(":", 1)[1])
                    break
            except (OSError, ValueError):
                pass
            if self.process.poll() is not None:
                raise SystemExit(f"kith ended: see {self.log.name}")
            time.sleep(0.01)

    def call(self, method, target, body=None, kind="application/json"):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        c.request(method, target, body, {"Content-Type": kind} if body else {})
        r = c.getresponse()
        data = r.read()
        c.close()
        return r.status, data

    def status(self):
        return json.loads(self.call("GET", "/v1/status")[1])

    def wait_whole(self, posts):
        while True:
            s = self.status()
            if s["posts"] >= posts and s["vectors"] >= posts and all(f["lag_records"] == 0 for f in s["folds"]):
                return s
            time.sleep(0.1)

    def put(self, first, vecs):
        lines = "".join(json.dumps({"id": f"p{first + i}", "text": f"post number {first + i} tells of {(first + i) % 977} things and more words to fill a line",
                                    "author": f"user{(first + i) % 5000}", "vector": base64.b64encode(v).decode()}) + "\n"
                        for i, v in enumerate(vecs))
        status, data = self.call("POST", "/v1/posts:batch", lines.encode(), "application/x-ndjson")
        assert status == 200, data[:200]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--posts", type=int, default=100000)
    p.add_argument("--vectors")
    p.add_argument("--kith", default=os.path.join(os.path.dirname(__file__), "../build/kith"))
    a = p.parse_args()
    root = tempfile.mkdtemp(prefix="kith-restore-", dir="/var/tmp")
    env = dict(os.environ, KITH_MASTER_KEY="c3" * 32)
    url, data = f"dir:{root}/archive", root + "/d"
    s = Server(a.kith, data, url, env)
    out = {"posts": a.posts}
    try:
        s.start()
        began, batch, first = time.time(), [], 0
        for v in vectors(a.vectors, a.posts):
            batch.append(v)
            if len(batch) == 1000:
                s.put(first, batch)
                first, batch = first + len(batch), []
        s.wait_whole(first)
        out["load_s"] = round(time.time() - began, 1)
        token = next(line.strip() for line in open(s.log.name) if line.strip().startswith("kith_"))
        began = time.time()
        subprocess.run([a.kith, "backup", "now", "--data", data, "--archive", url, "--token", token], env=env, check=True,
                       stdout=subprocess.DEVNULL)
        out["snapshot_s"] = round(time.time() - began, 1)
        size = subprocess.run(["du", "-sb", data, root + "/archive/snap", root + "/archive/journal"], capture_output=True, text=True).stdout
        out["bytes"] = {line.split("\t")[1].rsplit("/", 1)[1]: int(line.split("\t")[0]) for line in size.splitlines()}
        acks = []
        end = time.time() + 4
        i = first
        while time.time() < end:  # one post a call, as an app writes
            s.call("POST", "/v1/posts", json.dumps({"id": f"p{i}", "text": f"late post {i}", "author": "late"}).encode())
            acks.append((i, time.time()))
            i += 1
        killed = time.time()
        s.process.send_signal(signal.SIGKILL)
        s.process.wait()
        began = time.time()
        r = subprocess.run([a.kith, "restore", "--from", url, "--into", root + "/new", "--json"], env=env, check=True,
                           capture_output=True, text=True)
        out["restore_s"] = round(time.time() - began, 2)
        out["restored"] = json.loads(r.stdout)
        s2 = Server(a.kith, root + "/new", f"dir:{root}/other", env)
        s2.start()
        while True:
            try:
                status, body = s2.call("GET", "/v1/search?q=late+post&limit=3")
                if status == 200 and json.loads(body).get("hits"):
                    break
            except OSError:
                pass
            time.sleep(0.02)
        out["first_answer_s"] = round(time.time() - began, 2)
        s2.wait_whole(first)
        out["whole_s"] = round(time.time() - began, 2)
        lost = [t for n, t in acks if s2.call("GET", f"/v1/posts/p{n}")[0] != 200]
        out["acknowledged_late"], out["lost"] = len(acks), len(lost)
        out["rpo_s"] = round(killed - min(lost), 3) if lost else 0.0
        s2.process.send_signal(signal.SIGTERM)
        s2.process.wait()
        print(json.dumps(out))
    finally:
        if s.process.poll() is None:
            s.process.kill()
        shutil.rmtree(root, ignore_errors=True)


main()
