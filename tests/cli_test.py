#!/usr/bin/env python3
"""The command line as a person and a script use it: exit codes, --json, import that resumes, damage that
verify tells, a second process, a directory that cannot be written, a full disk.
"""
import gzip
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time

from kithtest import BIN, Kith, Skip, case, check, kith, main

MOCK = ["--model", "mock:32"]


class Folder:
    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="kith-cli-")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def file(self, name, text):
        path = os.path.join(self.path, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    @property
    def data(self):
        return os.path.join(self.path, "d")


def lines(n, start=0):
    return "".join(json.dumps({"id": f"p{i}", "text": f"text number {i} of apples", "author": f"a{i % 7}", "score": i}) + "\n"
                   for i in range(start, start + n))


@case
def codes_and_help():
    check("serve" in kith("--help").stdout and "eval" in kith("--help").stdout)
    check(kith("version").stdout.startswith("kith "))
    check("version" in json.loads(kith("version", "--json").stdout))
    for c in "serve import search similar post delete status verify eval bench embed key".split():
        out = kith(c, "--help").stdout
        check("examples:" in out and "usage:" in out, f"{c} --help")
    kith(code=2)
    kith("nonsense", code=2)
    kith("search", "--nope", "x", code=2)
    kith("search", code=2)
    kith("search", "--limit", "many", "x", code=2)
    with Folder() as f:
        r = kith("search", "--data", f.data, *MOCK, "x", code=1)
        check("no kith data here" in r.stderr and not os.path.exists(f.data), r.stderr)
        kith("verify", "--data", f.data, code=1)


@case
def post_search_similar_delete():
    with Folder() as f:
        d = ["--data", f.data, *MOCK]
        check("created p1" in kith("post", *d, "p1", "green apples are sour", "--author", "ann").stdout)
        check("unchanged" in kith("post", *d, "p1", "green apples are sour", "--author", "ann").stdout)
        kith("post", *d, "p2", "red apples are sweet", "--reply-to", "p1")
        a = json.loads(kith("search", *d, "--json", "--explain", "apples", "sweet").stdout)
        check(a["hits"][0]["post"]["id"] == "p2", str(a))
        e = a["hits"][0]["explain"]
        total = sum(e.get(k, {}).get("contribution", 0) for k in ("words", "meaning", "recency"))
        check(total == a["hits"][0]["score"], f"{total} is not {a['hits'][0]['score']}")
        check("p1" in kith("similar", *d, "p2").stdout)
        check(json.loads(kith("status", *d, "--json").stdout)["posts"] == 2)
        check("deleted p2" in kith("delete", *d, "p2").stdout)
        r = kith("delete", *d, "p2", code=1)
        check("no post" in r.stderr, r.stderr)
        check("nothing found" in kith("search", *d, "--mode", "words", "sweet").stdout)
        kith("similar", *d, "p2", code=1)
        kith("search", *d, "--mode", "magic", "x", code=2)
        kith("search", *d, "before:tomorrow x", code=2)


@case
def import_tells_bad_lines_and_resumes():
    with Folder() as f:
        bad = f.file("bad.jsonl", lines(3) + "not json\n" + '{"id":"x"}\n' + "\n" + '{"text":"no id"}\n' + lines(2, 3))
        r = kith("import", "--data", f.data, *MOCK, "--wait", bad, code=1)
        check("5 posts put" in r.stdout and "3 bad lines" in r.stdout, r.stdout)
        for n in (4, 5, 7):
            check(f"line {n}:" in r.stderr, r.stderr)
        r = kith("import", "--data", f.data, *MOCK, "--json", bad, code=1)
        check(json.loads(r.stdout)["unchanged"] == 5, r.stdout)
        kept = json.loads(kith("search", "--data", f.data, *MOCK, "--json", "apples").stdout)["hits"][0]["post"]
        check("score" in kept, "an unknown field was not kept")
        packed = os.path.join(f.path, "p.jsonl.gz")
        with gzip.open(packed, "wt") as g:
            g.write(lines(50, 100))
        check("50 posts put" in kith("import", "--data", f.data, *MOCK, packed).stdout)
        check("7 posts put" in kith("import", "--data", f.data, *MOCK, "-", stdin=lines(7, 900)).stdout)
        kith("import", "--data", f.data, *MOCK, f.path + "/none", code=1)


@case
def import_goes_on_after_interrupt():
    with Folder() as f:
        path = f.file("many.jsonl", lines(60000))
        with Kith(model="mock:32", directory=f.path) as k:
            p = subprocess.Popen([BIN, "import", "--data", f.data, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            while k.call("GET", "/v1/status").json().get("posts", 0) < 2000 and p.poll() is None:
                time.sleep(0.01)
            p.send_signal(signal.SIGINT)
            out, err = p.communicate(timeout=60)
            if "run it again" not in out:
                raise Skip("the import was over before the interrupt")
            check(p.returncode == 1, f"code {p.returncode}")
            r = k.cli("import", "--data", f.data, path)
            check("going on behind line" in r.stderr, r.stderr)
            check(" 0 unchanged" in r.stdout, r.stdout)
            done = int(re.search(r"going on behind line (\d+)", r.stderr).group(1))
            check(f"{60000 - done} posts put" in r.stdout, r.stdout)


@case
def given_vectors_are_used():
    with Folder() as f:
        path = f.file("p.jsonl", lines(3))
        rows = os.path.join(f.path, "v.fvecs")
        with open(rows, "wb") as out:
            for i in range(3):
                out.write(struct.pack("<i32f", 32, *[1.0 if j == i else 0.0 for j in range(32)]))
        kith("import", "--data", f.data, *MOCK, "--vectors", rows, "--wait", path)
        check(json.loads(kith("status", "--data", f.data, *MOCK, "--json").stdout)["vectors"] == 3)
        with open(rows, "wb") as out:
            out.write(struct.pack("<i8f", 8, *[1.0] * 8) * 3)
        r = kith("import", "--data", f.data, *MOCK, "--vectors", rows, f.file("q.jsonl", lines(3, 10)), code=1)
        check("32" in r.stderr, r.stderr)


@case
def embed_writes_fvecs():
    with Folder() as f:
        out = os.path.join(f.path, "v.fvecs")
        kith("embed", *MOCK, "--out", out, stdin="one\ntwo\nthree\n")
        b = open(out, "rb").read()
        check(len(b) == 3 * (4 + 32 * 4) and struct.unpack("<i", b[:4])[0] == 32)
        kith("embed", *MOCK, code=2)
        kith("embed", "--model", f.path, "--out", out, stdin="x\n", code=1)


def flip(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)
        f.seek(offset)
        f.write(bytes([byte[0] ^ 0x10]))


@case
def verify_tells_damage():
    with Folder() as f:
        kith("import", "--data", f.data, *MOCK, "--wait", f.file("p.jsonl", lines(50)))
        check("nothing wrong" in kith("verify", "--data", f.data).stdout)
        segment = sorted(x for x in os.listdir(f.data + "/journal") if os.path.getsize(f.data + "/journal/" + x) > 10000)[0]
        for path, at in ((f.data + "/journal/" + segment, 3000), (f.data + "/user.keys", 600), (f.data + "/index.snap", 500),
                         (f.data + "/store.db", 9000)):
            flip(path, at)
            r = kith("verify", "--data", f.data, "--json", code=1)
            found = json.loads(r.stdout)["problems"]
            check(found and os.path.basename(path) in " ".join(p["file"] for p in found), f"{path}: {found}")
            flip(path, at)
        check("nothing wrong" in kith("verify", "--data", f.data).stdout)
        flip(f.data + "/journal/" + segment, 3000)
        r = kith("serve", "--data", f.data, *MOCK, "--listen", "127.0.0.1:0", code=1)
        check(re.search(r"(LSN|record) \d+", r.stderr), f"a damaged journal is told with its LSN: {r.stderr}")
        flip(f.data + "/journal/" + segment, 3000)
        for name in ("index.snap", "store.db"):
            os.unlink(f.data + "/" + name)
        check(json.loads(kith("search", "--data", f.data, *MOCK, "--json", "apples").stdout)["hits"], "not made again")


@case
def second_process_and_bad_directories():
    with Folder() as f, Kith(directory=f.path) as k:
        r = kith("serve", "--data", f.data, "--model", k.model, "--listen", "127.0.0.1:0", code=1)
        check(str(k.process.pid) in r.stderr, f"the holder is named: {r.stderr}")
        r = kith("serve", "--data", f.path + "/a/b/c", *MOCK, "--listen", "127.0.0.1:0", code=1)
        check(r.stderr != "", "a missing parent is told")
        r = kith("serve", "--data", f.path + "/e", *MOCK, "--listen", f"127.0.0.1:{k.port}", code=1)
        check(str(k.port) in r.stderr or "taken" in r.stderr or "use" in r.stderr, r.stderr)
        kith("serve", "--data", f.data, "--listen", "nowhere", code=2)
        r = kith("serve", "--data", f.path + "/other", "--model", f.path, "--listen", "127.0.0.1:0", code=1)
        check("model.safetensors" in r.stderr, r.stderr)


@case
def a_directory_of_another_model_is_refused():
    with Folder() as f:
        kith("post", "--data", f.data, *MOCK, "a", "text")
        r = kith("search", "--data", f.data, "--model", "mock:64", "x", code=2)
        check("mock/words/32" in r.stderr, r.stderr)


@case
def full_disk():
    """On a small file system of its own: writes are refused with 507, reads go on, and it recovers."""
    if os.geteuid() != 0:
        raise Skip("needs root to mount a small file system")
    with Folder() as f:
        disk = f.path + "/disk"
        os.mkdir(disk)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", disk], capture_output=True).returncode:
            raise Skip("no file system can be mounted here")
        try:
            with Kith(directory=disk) as k:
                check(k.post({"id": "first", "text": "the very first"}).status == 200)
                with open(disk + "/ballast", "wb", buffering=0) as ballast:
                    try:
                        while True:
                            ballast.write(b"x" * 65536)
                    except OSError:
                        pass
                statuses, i = [], 0
                while 507 not in statuses and i < 4000:
                    a = k.post({"id": f"p{i}", "text": f"filler {i} " + "words " * 5000}, wait="")
                    statuses.append(a.status)
                    i += 1
                check(507 in statuses, f"never refused: {set(statuses)}")
                check(set(statuses) <= {200, 507, 503}, str(set(statuses)))
                good = [n for n, s in enumerate(statuses) if s == 200]
                check(k.call("GET", "/v1/posts/first").status == 200, "reads go on")
                os.unlink(disk + "/ballast")
                end = time.time() + 20
                while k.post({"id": "after", "text": "there is room again"}, wait="").status != 200:
                    check(time.time() < end, "writes did not come back")
                    time.sleep(0.2)
                k.call("POST", "/v1/posts?wait=applied", {"id": "after2", "text": "and again"})
                for n in good:
                    check(k.call("GET", f"/v1/posts/p{n}").status == 200, f"p{n} was acknowledged and is gone")
                k.kill()
                k.start()
                for n in good:
                    check(k.call("GET", f"/v1/posts/p{n}").status == 200, f"p{n} is gone after a restart")
        finally:
            subprocess.run(["umount", "-l", disk], check=False)


@case
def keys_and_scopes():
    with Folder() as f, Kith(directory=f.path, args=["--require-keys"]) as k:
        check(oct(os.stat(f.data + "/keys.json").st_mode & 0o777) == "0o600")
        shown = None
        while not shown: # printed a moment after the server answers
            with open(k.log.name, encoding="utf-8", errors="replace") as log:
                shown = re.search(r"kith_\S+", log.read())
        admin = shown.group(0)
        check(admin not in open(f.data + "/keys.json", encoding="utf-8").read(), "the key itself is stored")
        check(k.call("GET", "/v1/search?q=x").status == 401)
        check(k.call("GET", "/v1/search?q=x", headers={"Authorization": "Bearer " + admin}).status == 200)
        reader = k.cli("key", "new", "--data", f.data, "--name", "reader", "--scopes", "search").stdout.strip()
        time.sleep(5.5)
        head = {"Authorization": "Bearer " + reader}
        check(k.call("GET", "/v1/search?q=x", headers=head).status == 200)
        check(k.call("POST", "/v1/posts", {"id": "a", "text": "b"}, head).status == 403)
        check(k.call("GET", "/v1/search?q=x", headers={"Authorization": "Bearer " + reader[:-1] + "x"}).status == 401)
        ident = json.loads(k.cli("key", "list", "--data", f.data, "--json").stdout)[-1]["id"]
        k.cli("key", "revoke", ident, "--data", f.data)
        time.sleep(5.5)
        check(k.call("GET", "/v1/search?q=x", headers=head).status == 401)


main()
