"""What the end-to-end tests share: a kith process of their own, calls over HTTP, and a runner.

    from kithtest import Kith, case, check, main
    @case
    def a_post_comes_back():
        with Kith() as k:
            check(k.post({"id": "a", "text": "hello"}).status == 200)
    main()

The binary is KITH_BIN (default build/kith). Each Kith has a directory and a free port of its own, is
ended by its process id, and uses the mock model unless told otherwise. KITH_LONG=1 asks for long runs.
"""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
BIN = os.environ.get("KITH_BIN", os.path.join(ROOT, "build", "kith"))
LONG = os.environ.get("KITH_LONG") == "1"
DATA = os.environ.get("KITH_DATA", os.path.join(ROOT, "..", "shared", "data"))
CACHE = subprocess.run([os.path.join(ROOT, "tools/setup"), "--print-cache"], capture_output=True, text=True,
                       check=True).stdout.strip()
MODEL = os.path.join(CACHE, "model/all-minilm-l6-v2")
CASES = []


class Skip(Exception):
    """Raised by a case that cannot run here; its text says why."""


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    def json(self):
        return json.loads(self.body)


class Kith:
    def __init__(self, model="mock:64", args=(), directory=None, wait=True, env=None):
        self.own = directory is None
        self.dir = directory or tempfile.mkdtemp(prefix="kith-test-")
        self.model, self.args, self.env = model, list(args), dict(os.environ, **(env or {}))
        self.process = None
        self.start(wait)

    def start(self, wait=True):
        self.log = open(os.path.join(os.path.dirname(self.dir), os.path.basename(self.dir) + ".log"), "ab")
        self.process = subprocess.Popen(
            [BIN, "serve", "--data", os.path.join(self.dir, "d"), "--listen", "127.0.0.1:0", "--model", self.model,
             *self.args], stdout=self.log, stderr=self.log, env=self.env)
        self.port = None
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds=60):
        end = time.time() + seconds
        path = os.path.join(self.dir, "d", "serve.json")
        while time.time() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"kith ended with {self.process.returncode}: {self.tail()}")
            try:
                found = json.load(open(path))
                if found["pid"] == self.process.pid:
                    self.port = int(found["url"].rsplit(":", 1)[1])
                    if self.call("GET", "/readyz").status == 200:
                        return
            except (OSError, ValueError, KeyError, http.client.HTTPException):
                pass
            time.sleep(0.02)
        raise AssertionError(f"kith is not ready: {self.tail()}")

    def tail(self):
        with open(self.log.name, "rb") as f:
            return f.read()[-2000:].decode("utf-8", "replace")

    def call(self, method, target, body=None, headers=None, timeout=30):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            head = dict(headers or {})
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
                head.setdefault("Content-Type", "application/json")
            if isinstance(body, str):
                body = body.encode()
            c.request(method, target, body=body, headers=head)
            return Answer(c.getresponse())
        finally:
            c.close()

    def post(self, post, wait="searchable"):
        return self.call("POST", "/v1/posts" + (f"?wait={wait}" if wait else ""), post)

    def batch(self, posts):
        lines = "".join(json.dumps(p) + "\n" for p in posts)
        a = self.call("POST", "/v1/posts:batch", lines, {"Content-Type": "application/x-ndjson"}, timeout=120)
        check(a.status == 200, f"batch: {a.status} {a.body[:300]!r}")
        return [json.loads(line) for line in a.body.decode().splitlines()]

    def search(self, **params):
        a = self.call("GET", "/v1/search?" + urllib.parse.urlencode(params, doseq=True))
        check(a.status == 200, f"search {params}: {a.status} {a.body[:300]!r}")
        return a.json()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError("kith did not stop within 60 s: " + self.tail())
        return self.process.returncode

    def cli(self, command, *args, stdin=None, check_code=0):
        return kith(command, *args, stdin=stdin, code=check_code, env=self.env)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        try:
            code = self.stop()
            if kind is None:
                check(code == 0, f"kith ended with {code}: {self.tail()}")
        finally:
            self.log.close()
            if kind is None:
                os.unlink(self.log.name)
            if self.own:
                shutil.rmtree(self.dir, ignore_errors=True)


def check(condition, text="check failed"):
    if not condition:
        raise AssertionError(text)


def kith(*args, stdin=None, code=0, env=None):
    """Runs kith ARGS to its end; `code` None: any exit code will do."""
    r = subprocess.run([BIN, *args], input=stdin, capture_output=True, text=True, timeout=120, env=dict(os.environ, **(env or {})))
    check(code is None or r.returncode == code, f"kith {' '.join(args)}: code {r.returncode}, expected {code}\n{r.stdout}{r.stderr}")
    return r


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def case(fn):
    CASES.append(fn)
    return fn


def main():
    only, failed, passed, skipped = sys.argv[1:], 0, 0, 0
    for fn in CASES:
        if only and fn.__name__ not in only:
            continue
        start = time.time()
        try:
            fn()
            passed += 1
            print(f"ok   {fn.__name__} ({time.time() - start:.1f} s)", flush=True)
        except Skip as why:
            skipped += 1
            print(f"skip {fn.__name__}: {why}", flush=True)
        except Exception:  # a test's own error is a failure too
            failed += 1
            print(f"FAIL {fn.__name__}\n{traceback.format_exc()}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    sys.exit(1 if failed else 0)
