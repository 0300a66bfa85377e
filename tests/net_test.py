#!/usr/bin/env python3
"""The HTTP server against clients that others wrote: curl, nghttp, h2load and Python's http.client. It serves
bench_net's paths (src/net/net_bench.c), which stands beside the kith binary in the build directory.
"""
import hashlib
import http.client
import os
import re
import shutil
import subprocess
import tempfile

from kithtest import BIN, Skip, case, check, main

BENCH = os.path.join(os.path.dirname(os.path.realpath(BIN)), "bench_net")
BIG = bytes(ord("a") + i % 26 for i in range(26)) * (1 << 20)
BIG = BIG[:1 << 20]


class Server:
    """A bench_net of its own on a free port; it ends with its standard input."""

    def __enter__(self):
        if not os.access(BENCH, os.X_OK):
            raise Skip("bench_net is not built")
        self.process = subprocess.Popen([BENCH, "0", "2", "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_):
        out, _ = self.process.communicate(timeout=30)
        check(self.process.returncode == 0, f"bench_net ended with {self.process.returncode}")
        check("requests" in out)

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"


def tool(name, *args):
    if not shutil.which(name):
        raise Skip(f"{name} is not installed")
    r = subprocess.run([name, *args], capture_output=True, timeout=60)
    check(r.returncode == 0, f"{name} {' '.join(args)}: code {r.returncode}\n{r.stderr.decode()[-500:]}")
    return r.stdout


def each_version(fn):
    for flag in ["--http1.0", "--http1.1", "--http2-prior-knowledge"]:
        fn(flag)


@case
def curl_reads_every_version():
    with Server() as s:
        def read(flag):
            check(tool("curl", "-sS", flag, s.url("/inline")) == b"hello\n")
            check(tool("curl", "-sS", flag, s.url("/worker")) == b"hello\n")
            big = tool("curl", "-sS", flag, s.url("/big"))
            check(hashlib.sha256(big).digest() == hashlib.sha256(BIG).digest(), f"{flag}: {len(big)} bytes")
            lines = tool("curl", "-sS", flag, s.url("/stream")).splitlines()
            check(len(lines) == 1000 and lines[999] == b'{"line":999}', f"{flag}: {len(lines)} lines")
            head = tool("curl", "-sS", "-I", flag, s.url("/big")).lower()
            check(b"content-length: 1048576" in head and b"date: " in head, flag)
        each_version(read)


@case
def curl_sends_bodies():
    with Server() as s, tempfile.NamedTemporaryFile() as f:
        f.write(bytes(3_000_000))
        f.flush()
        for flag in ["--http1.1", "--http2-prior-knowledge"]:
            check(tool("curl", "-sS", flag, "-d", "hi there", s.url("/echo")) == b"hi there")
            check(tool("curl", "-sS", flag, "-H", "Expect:", "--data-binary", "@" + f.name, s.url("/count")) == b"3000000\n")
            check(tool("curl", "-sS", flag, "--data-binary", "@" + f.name, s.url("/count")) == b"3000000\n")
            check(tool("curl", "-sS", flag, "-X", "POST", "-T", f.name, "-H", "Transfer-Encoding: chunked" if flag == "--http1.1" else "X: y",
                       s.url("/count")) == b"3000000\n")
            code = tool("curl", "-sS", flag, "-o", os.devnull, "-w", "%{http_code}", "--data-binary", "@" + f.name, s.url("/echo"))
            check(code == b"413", f"{flag}: a body over the limit got {code}")


@case
def curl_keeps_its_connection():
    """HTTP/1.1 only: curl 7.88 cannot reuse an HTTP/2 connection that began with prior knowledge."""
    with Server() as s:
        out = tool("curl", "-sS", "--http1.1", "-w", "%{num_connects}\n", "-o", os.devnull, s.url("/inline"), "-o", os.devnull,
                   s.url("/worker"), "-o", os.devnull, s.url("/stream"))
        check(out.split() == [b"1", b"0", b"0"], str(out))


@case
def nghttp_multiplexes():
    with Server() as s:
        out = tool("nghttp", "-ns", "-m", "50", s.url("/big"), s.url("/worker"), s.url("/stream"))
        check(out.count(b" 200 ") >= 3, out.decode()[-300:])


@case
def h2load_has_no_failures():
    with Server() as s:
        for path, args in [("/inline", ["-m", "32"]), ("/worker", ["-m", "32"]), ("/big", ["-m", "10"]), ("/stream", ["-m", "10"]),
                           ("/inline", ["--h1"]), ("/worker", ["--h1"])]:
            n = "200" if path in ("/big", "/stream") else "5000"
            out = tool("h2load", "-n", n, "-c", "4", *args, s.url(path)).decode()
            m = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", out)
            check(m and m.groups() == (n, "0", "0"), f"{path} {args}: {m and m.group(0)}")


@case
def python_speaks_to_it():
    with Server() as s:
        c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=20)
        for i in range(100):
            c.request("POST", "/echo", body=f"body {i}")
            r = c.getresponse()
            check(r.status == 200 and r.read() == f"body {i}".encode())
        c.request("POST", "/count", body=(b"x" * 1000 for _ in range(100)), encode_chunked=True,
                  headers={"Transfer-Encoding": "chunked"})
        check(c.getresponse().read() == b"100000\n")
        c.close()


if __name__ == "__main__":
    main()
