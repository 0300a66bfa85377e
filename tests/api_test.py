#!/usr/bin/env python3
"""The API end to end: boots the real program and checks what a client sees.

    KITH_BIN=build/kith python3 tests/api_test.py

The standard library only. Where jsonschema and openapi-spec-validator are installed, the OpenAPI page
is validated and the answers are checked against the schemas that it promises. The model is the
mock one: nothing here is about quality.
"""
import base64
import http.client
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from urllib.parse import quote

BIN = os.environ.get("KITH_BIN")
DIM = 384


class Server:
    def __init__(self, data, *flags):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [BIN, "serve", "--data", data, "--listen", "127.0.0.1:0", "--model", f"mock:{DIM}", *flags],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.port = 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            line = self.process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/? is ready", line)
            if found:
                self.port = int(found.group(1))
                break
            if not line:
                break
        if not self.port:
            self.log.seek(0)
            sys.exit(f"kith did not start: {self.log.read()}")
        self.reader = threading.Thread(target=self.process.stdout.read, daemon=True)
        self.reader.start()

    def stderr(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.reader.join(10)
        self.process.stdout.close()
        self.log.close()
        return code


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.body)


def setUpModule():
    global server, folder, admin
    if not BIN:
        raise unittest.SkipTest("KITH_BIN is not set")
    folder = tempfile.TemporaryDirectory(prefix="kith-api-test-")
    server = Server(os.path.join(folder.name, "data"))
    admin = re.search(r"kith_[a-z2-7]{12}_[\w-]{43}", server.stderr()).group(0)


def tearDownModule():
    code = server.stop()
    folder.cleanup()
    if code != 0:
        raise RuntimeError(f"kith stopped with {code}")


def call(method, target, body=None, headers=None, port=None):
    c = http.client.HTTPConnection("127.0.0.1", port or server.port, timeout=30)
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    c.request(method, target, body=body, headers=headers or {})
    answer = Answer(c.getresponse())
    c.close()
    return answer


def post(body, query=""):
    return call("POST", "/v1/posts" + query, body)


def vector(seed):
    return [((seed * 31 + i * 17) % 101 - 50) / 50 for i in range(DIM)]


class Base(unittest.TestCase):
    def ok(self, answer):
        self.assertEqual(answer.status, 200, answer.body)
        self.assertIn("Kith-LSN", answer.headers)
        self.assertIn("Kith-Request-Id", answer.headers)
        return answer.json

    def problem(self, answer, status, code, field=None, expected=None):
        self.assertEqual(answer.status, status, answer.body[:500])
        self.assertEqual(answer.headers["Content-Type"], "application/problem+json")
        p = answer.json
        self.assertEqual(p["status"], status)
        self.assertTrue(p["title"] and p["type"] and p["detail"])
        self.assertEqual(p["code"], code, p)
        if field is not None:
            self.assertEqual(p.get("field"), field, p)
        if expected is not None:
            self.assertEqual(p.get("expected"), expected, p)
        return p


class Posts(Base):
    def test_life_of_a_post(self):
        full = {"id": "life/1 ü", "text": "a \"quoted\" text\n\u2028", "author": "ann",
                "created_at": "2024-05-06T07:08:09.123Z", "reply_to": "nobody", "channel": "c",
                "tags": ["x", "y"], "lang": "de", "likes": 3, "media": [{"url": "u", "w": None}]}
        r = self.ok(post(full, "?wait=applied"))
        self.assertEqual((r["id"], r["outcome"]), (full["id"], "created"))
        path = "/v1/posts/" + quote(full["id"], safe="")
        got = self.ok(call("GET", path))
        self.assertEqual(got.pop("thread"), "nobody")
        self.assertGreater(got.pop("lsn"), 0)
        self.assertEqual(got, full)
        again = self.ok(post(full))
        self.assertEqual((again["outcome"], again["lsn"]), ("unchanged", r["lsn"]))
        self.assertEqual(self.ok(post({**full, "text": "b"}, "?wait=applied"))["outcome"], "replaced")
        self.assertEqual(self.ok(call("GET", path))["text"], "b")
        self.ok(call("DELETE", path + "?wait=applied"))
        self.problem(call("GET", path), 404, "not_found")
        self.problem(call("DELETE", path), 404, "not_found")

    def test_put_by_path(self):
        self.ok(call("PUT", "/v1/posts/bypath", {"text": "t"}))
        self.ok(call("PUT", "/v1/posts/bypath", {"id": "bypath", "text": "t"}))
        self.problem(call("PUT", "/v1/posts/bypath", {"id": "other", "text": "t"}), 400, "invalid", "id")

    def test_camel_case_and_numbers_as_strings(self):
        self.ok(post({"id": "camel", "text": "t", "createdAt": "2024-05-06", "replyTo": "x"}, "?wait=applied"))
        got = self.ok(call("GET", "/v1/posts/camel"))
        self.assertEqual((got["created_at"], got["reply_to"]), ("2024-05-06T00:00:00Z", "x"))

    def test_vectors(self):
        packed = base64.b64encode(struct.pack(f"<{DIM}f", *vector(3))).decode()
        self.ok(post({"id": "v1", "text": "one", "vector": vector(3)}, "?wait=searchable"))
        self.ok(post({"id": "v2", "text": "two", "vector": packed}, "?wait=searchable"))
        hits = self.ok(call("GET", "/v1/posts/v1/similar"))["hits"]
        self.assertEqual(hits[0]["post"]["id"], "v2")
        self.problem(post({"id": "v3", "text": "t", "vector": [1, 2]}), 400, "invalid", "vector", f"{DIM} numbers")
        self.problem(post({"id": "v3", "text": "t", "vector": [0] * DIM}), 400, "invalid", "vector")

    def test_thread(self):
        self.ok(post({"id": "root", "text": "root", "created_at": "2024-01-01"}))
        for i in range(5):
            self.ok(post({"id": f"reply{i}", "text": f"r{i}", "reply_to": "root", "created_at": f"2024-01-0{i + 2}"},
                         "?wait=applied"))
        ids, cursor = [], ""
        while True:
            page = self.ok(call("GET", f"/v1/posts/reply3/thread?limit=2&cursor={cursor}"))
            self.assertEqual((page["thread"], page["total"]), ("root", 6))
            ids += [p["id"] for p in page["posts"]]
            cursor = page.get("next_cursor", "")
            if not cursor:
                break
        self.assertEqual(ids, ["root"] + [f"reply{i}" for i in range(5)])
        self.problem(call("GET", "/v1/posts/root/thread?cursor=00"), 400, "invalid", "cursor")
        self.problem(call("GET", "/v1/posts/no-such/thread"), 404, "not_found")

    def test_bad_bodies(self):
        good = {"id": "bad", "text": "t"}
        table = [
            (b"", "body"), (b"{", "body"), (b"[]", None), (b"null", None), (b"\xff\xfe{}", "body"),
            (b'{"id":"a","text":"\xff"}', "body"), (b'{"id":"a","text":"\xed\xa0\x80"}', "body"),
            (b'{"id":"a","text":"\\ud800"}', "body"), (b'{"id":"a","text":"x\\u0000y"}', "text"),
            (b'{"id":"a","id":"b","text":"t"}', "id"), (b'{"id":"a","text":NaN}', "body"),
            (b'{"id":"a","text":"t"} trailing', "body"), (b'{"id":"a","text":"t",}', "body"),
            (b"[" * 10000, "body"), (b'{"id":"a","text":"t","x":' + b"[" * 10000, "body"),
            ({**good, "text": ""}, "text"), ({**good, "text": None}, "text"), ({**good, "text": 7}, "text"),
            ({**good, "text": "x" * 65537}, "text"), ({**good, "id": ""}, "id"), ({**good, "id": 5}, "id"),
            ({**good, "id": "x" * 257}, "id"), ({**good, "id": "x" * 10000}, "id"), ({**good, "id": "a\nb"}, "id"),
            ({"text": "t"}, "id"), ({"id": "a"}, "text"),
            ({**good, "tags": "x"}, "tags"), ({**good, "tags": ["a", 1]}, "tags[1]"),
            ({**good, "tags": ["t"] * 33}, None), ({**good, "created_at": "yesterday"}, "created_at"),
            ({**good, "created_at": "2024-13-01"}, "created_at"), ({**good, "created_at": 1714979289}, "created_at"),
            ({**good, "created_at": "0000-01-01"}, "created_at"), ({**good, "author": "x" * 300}, "author"),
            ({**good, "reply_to": {}}, "reply_to"), ({**good, "blob": "x" * 17000}, "blob"),
            ({**good, "vector": "x"}, "vector"), ({**good, "vector": {}}, "vector"), ({**good, "vector": []}, "vector"),
        ]
        for body, field in table:
            with self.subTest(str(body)[:60]):
                self.problem(post(body), 400, "invalid", field)
        self.problem(call("GET", "/v1/posts/bad"), 404, "not_found")  # nothing of it was kept

    def test_odd_but_good(self):
        for i, extra in enumerate([{"created_at": "1890-01-01"}, {"created_at": "2999-01-01T00:00:00+02:00"},
                                   {"reply_to": "not-here-yet"}, {"reply_to": f"odd{2 + 1}"},
                                   {"text": "x" * 65536}, {"extra": {"a": 1}}, {"thread": 7, "lsn": "x"}]):
            self.ok(post({"id": f"odd{i}", "text": "t", **extra}))
        self.ok(post({"id": "cyc1", "text": "t", "reply_to": "cyc2"}))
        self.ok(post({"id": "cyc2", "text": "t", "reply_to": "cyc1"}, "?wait=applied"))
        self.ok(call("GET", "/v1/posts/cyc1/thread"))

    def test_too_large(self):
        a = post(b'{"id":"big","text":"' + b"x" * (1 << 20) + b'"}')
        self.assertEqual(a.status, 413)

    def test_ids_in_paths(self):
        self.problem(call("GET", "/v1/posts/" + "x" * 300), 400, "invalid", "id", "1 to 256 bytes")
        self.assertEqual(call("GET", "/v1/posts/" + "x" * 10000).status, 414)
        for bad in ("%ff", "%00", "%2", "%0a"):
            self.problem(call("GET", "/v1/posts/" + bad), 400, "invalid", "id")


class Batch(Base):
    def lines(self, body, query=""):
        a = call("POST", "/v1/posts:batch" + query, body, {"Content-Type": "application/x-ndjson"})
        self.assertEqual(a.status, 200, a.body)
        self.assertEqual(a.headers["Content-Type"], "application/x-ndjson")
        return [json.loads(x) for x in a.body.decode().splitlines()]

    def test_results_in_order(self):
        body = (b'{"id":"b1","text":"a"}\n\nnonsense\n{"id":"b2","text":"b"}\r\n{"id":"b3","text":7}\n'
                b'{"id":"b1","text":"c"}\n{"id":"b4","text":"\xff"}\n{"id":"b5","text":"no newline at the end"}')
        r = self.lines(body, "?wait=applied")
        self.assertEqual([x["line"] for x in r], [1, 3, 4, 5, 6, 7, 8])
        self.assertEqual([x.get("outcome") for x in r],
                         ["created", None, "created", None, "replaced", None, "created"])
        self.assertEqual([x["error"]["field"] for x in r if "error" in x], ["body", "text", "body"])
        self.assertEqual(self.ok(call("GET", "/v1/posts/b1"))["text"], "c")
        again = self.lines(b'{"id":"b2","text":"b"}\n{"id":"b5","text":"no newline at the end"}')
        self.assertEqual([x["outcome"] for x in again], ["unchanged", "unchanged"])

    def test_many(self):
        n = 5000
        body = "".join(json.dumps({"id": f"many{i}", "text": f"number {i}"}) + "\n" for i in range(n)).encode()
        r = self.lines(body, "?wait=applied")
        self.assertEqual([x["line"] for x in r], list(range(1, n + 1)))
        self.assertTrue(all(x["outcome"] == "created" for x in r))
        self.assertEqual(self.ok(call("GET", f"/v1/posts/many{n - 1}"))["text"], f"number {n - 1}")

    def test_streams_both_ways(self):
        """Results of what was sent come while the request is still open."""
        c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        c.putrequest("POST", "/v1/posts:batch")
        c.putheader("Transfer-Encoding", "chunked")
        c.endheaders()
        def chunk(data):
            c.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        chunk(b'{"id":"s1","text":"a"}\n')
        received = b""
        while b'"s1"' not in received:
            received += c.sock.recv(65536)
        self.assertIn(b"200", received.split(b"\r\n")[0])
        chunk(b'{"id":"s2","te')
        chunk(b'xt":"b"}\n')
        while b'"s2"' not in received:
            received += c.sock.recv(65536)
        c.send(b"0\r\n\r\n")
        while not received.endswith(b"0\r\n\r\n"):
            received += c.sock.recv(65536)
        c.close()

    def test_long_line(self):
        r = self.lines(b'{"id":"l1","text":"' + b"x" * (2 << 20) + b'"}\n{"id":"l2","text":"t"}\n')
        self.assertEqual((r[0]["error"]["status"], r[1]["outcome"]), (413, "created"))

    def test_parameters(self):
        self.problem(call("POST", "/v1/posts:batch?wait=searchable", b""), 400, "invalid", "wait")
        self.problem(call("POST", "/v1/posts:batch?x=1", b""), 400, "invalid", "x")
        self.assertEqual(self.lines(b""), [])


class Search(Base):
    @classmethod
    def setUpClass(cls):
        for i, text in enumerate(["a red fox jumps", "the red kettle boils", "green tea"]):
            answer = post({"id": f"q{i}", "text": text, "author": f"u{i}", "channel": "qs"}, "?wait=searchable")
            assert answer.status == 200, answer.body

    def test_get_and_post_agree(self):
        a = self.ok(call("GET", "/v1/search?q=red&channel=qs&mode=words&limit=5"))
        b = self.ok(call("POST", "/v1/search", {"q": "red", "filter": {"channel": ["qs"]}, "mode": "words", "limit": 5}))
        ids = [h["post"]["id"] for h in a["hits"]]
        self.assertEqual(sorted(ids), ["q0", "q1"])
        self.assertEqual(ids, [h["post"]["id"] for h in b["hits"]])

    def test_filters_by_short_name(self):
        for q in ("author=u1", "filter.author=u1", "author=u1&author=nobody", "not_author=u0&not_author=u2"):
            a = self.ok(call("GET", f"/v1/search?q=red+tea&channel=qs&{q}"))
            self.assertEqual([h["post"]["id"] for h in a["hits"]], ["q1"], q)

    def test_bad_requests(self):
        gets = [("limit=-1", "limit"), ("limit=1000000000", "limit"), ("limit=x", "limit"), ("limit=1.5", "limit"),
                ("limit=99999999999999999999", "limit"), ("mode=x", "mode"), ("nope=1", "nope"),
                ("limit=1&limit=2", "limit"), ("explain=perhaps", "explain"), ("recency=nan", "recency"),
                ("recency=2", "recency"), ("after=soon", "after"), ("kind=story", None), ("cursor=xyz", "cursor"),
                ("q=%ff", "query"), ("q=%00", "query")]
        for query, field in gets:
            with self.subTest(query[:40]):
                self.problem(call("GET", "/v1/search?" + query), 400, "invalid", field)
        posts = [('{"q":"a","lim":1}', "lim"), ('{"filter":{"athor":["a"]}}', "filter.athor"),
                 ('{"filter":{"author":"a"}}', "filter.author"), ('{"filter":{"author":[1]}}', "filter.author[0]"),
                 ('{"limit":true}', "limit"), ('{"limit":4294967296}', "limit"), ('{"min_lsn":-1}', "min_lsn"),
                 ('{"q":["a"]}', "q"), ('{"explain":"yes"}', "explain"), ("[1]", None), ("{", "body")]
        for body, field in posts:
            with self.subTest(body):
                self.problem(call("POST", "/v1/search", body), 400, "invalid", field)
        self.problem(call("GET", "/v1/search?q=" + "x" * 3000), 413, "too_large", "q")
        self.problem(call("POST", "/v1/search?limit=3", "{}"), 400, "invalid", "query")
        self.problem(call("GET", "/v1/posts/nobody/similar"), 404, "not_found")

    def test_reads_its_own_writes(self):
        for i in range(30):
            put = post({"id": f"own{i}", "text": f"xylophone{i}"})
            lsn = put.headers["Kith-LSN"]
            a = call("GET", f"/v1/search?q=xylophone{i}&mode=words", headers={"Kith-Min-LSN": lsn})
            self.assertEqual([h["post"]["id"] for h in self.ok(a)["hits"]], [f"own{i}"])
            self.assertGreaterEqual(int(a.headers["Kith-LSN"]), int(lsn))
            self.ok(call("DELETE", f"/v1/posts/own{i}"))

    def test_min_lsn(self):
        self.problem(call("GET", "/v1/search?q=a", headers={"Kith-Min-LSN": "x"}), 400, "invalid", "Kith-Min-LSN")
        a = call("GET", "/v1/search?q=a", headers={"Kith-Min-LSN": str(1 << 60)})
        self.problem(a, 504, "timeout")
        self.assertEqual(a.headers["Retry-After"], "1")


class Embeddings(Base):
    def test_embed(self):
        a = self.ok(call("POST", "/v1/embed", {"texts": ["a", "b c"], "task": "query"}))
        self.assertEqual((a["dimensions"], len(a["vectors"]), len(a["vectors"][0]["values"])), (DIM, 2, DIM))
        for body, field in (({}, "texts"), ({"texts": [""]}, "texts[0]"), ({"texts": ["a"] * 257}, "texts"),
                            ({"texts": "a"}, "texts"), ({"texts": ["a"], "task": "x"}, "task")):
            self.problem(call("POST", "/v1/embed", body), 400, "invalid", field)

    def test_openai(self):
        a = self.ok(call("POST", "/v1/embeddings", {"input": ["a", "b"], "encoding_format": "base64"}))
        packed = [list(struct.unpack(f"<{DIM}f", base64.b64decode(d["embedding"]))) for d in a["data"]]
        b = self.ok(call("POST", "/v1/embeddings", {"input": "b", "model": a["model"], "dimensions": DIM}))
        self.assertEqual([d["index"] for d in a["data"]], [0, 1])
        for x, y in zip(packed[1], b["data"][0]["embedding"]):
            self.assertEqual(x, struct.unpack("<f", struct.pack("<f", y))[0])
        self.assertEqual(self.ok(call("GET", "/v1/models"))["data"][0]["id"], a["model"])
        for body, status, param in (({"input": [1, 2]}, 400, "input"), ({"input": "a", "dimensions": 8}, 400, "dimensions"),
                                    ({"input": "a", "model": "other"}, 404, "model"), ({}, 400, "input"),
                                    ({"input": "a", "x": 1}, 400, "x"), ({"input": []}, 400, "input")):
            e = call("POST", "/v1/embeddings", body)
            self.assertEqual((e.status, e.json["error"]["param"]), (status, param), e.body)


class Access(Base):
    def test_methods_and_paths(self):
        a = call("PATCH", "/v1/posts/x")
        self.assertEqual((a.status, a.headers["Allow"]), (405, "PUT, GET, HEAD, DELETE, OPTIONS"))
        a = call("OPTIONS", "/v1/search")
        self.assertEqual((a.status, a.headers["Allow"]), (204, "GET, HEAD, POST, OPTIONS"))
        a = call("HEAD", "/v1/search?q=red")
        self.assertEqual((a.status, a.body), (200, b""))
        for path in ("/v1", "/v1/posts/", "/nothing", "/v1/posts/a/b/c"):
            self.problem(call("GET", path), 404, "not_found")

    def test_health(self):
        self.assertEqual(call("GET", "/healthz").body, b"ok\n")
        self.assertEqual(call("GET", "/readyz").json, {"ready": True})

    def test_status(self):
        a = self.ok(call("GET", "/v1/status"))
        self.assertGreater(a["rss_bytes"], 1 << 20)
        self.assertEqual([f["name"] for f in a["folds"]], ["store", "words", "vectors", "embed"])

    def test_keys_and_the_look_of_a_local_request(self):
        wrong = admin[:-1] + ("a" if admin[-1] != "a" else "b")
        table = [({}, 404), ({"Authorization": f"Bearer {admin}"}, 404), ({"Authorization": f"Bearer {wrong}"}, 401),
                 ({"Authorization": "Bearer x"}, 401), ({"Authorization": "Basic eDp5"}, 401),
                 ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403),
                 ({"Origin": f"http://127.0.0.1:{server.port}"}, 404), ({"Host": "evil.example"}, 401),
                 ({"Host": "localhost"}, 404), ({"X-Forwarded-For": "10.1.1.1"}, 401),
                 ({"Host": "evil.example", "Authorization": f"Bearer {admin}"}, 404)]
        for headers, status in table:
            with self.subTest(headers):
                a = call("DELETE", "/v1/posts/none", headers=headers)
                self.assertEqual(a.status, status, a.body)
                if status == 401:
                    self.assertIn("Bearer", a.headers["WWW-Authenticate"])

    def test_request_ids(self):
        self.assertEqual(call("GET", "/healthz", headers={"Kith-Request-Id": "abc-1"}).headers["Kith-Request-Id"], "abc-1")
        made = {call("GET", "/healthz").headers["Kith-Request-Id"] for _ in range(5)}
        self.assertEqual(len(made), 5)

    def test_required_keys(self):
        with tempfile.TemporaryDirectory(prefix="kith-api-test-") as d:
            s = Server(os.path.join(d, "data"), "--require-keys")
            try:
                key = re.search(r"kith_[a-z2-7]{12}_[\w-]{43}", s.stderr()).group(0)
                self.assertEqual(call("GET", "/v1/search?q=a", port=s.port).status, 401)
                self.assertEqual(call("GET", "/v1/search?q=a", headers={"Authorization": f"Bearer {key}"},
                                      port=s.port).status, 200)
                self.assertEqual(call("GET", "/healthz", port=s.port).status, 200)
                keys = os.path.join(d, "data", "keys.json")
                self.assertEqual(os.stat(keys).st_mode & 0o777, 0o600)
                with open(keys) as f:
                    self.assertNotIn(key.split("_", 2)[2], f.read())
            finally:
                s.stop()

    def test_pages(self):
        a = call("GET", "/")
        if a.status == 404:
            self.skipTest("no page in this build")
        self.assertIn("default-src 'none'", a.headers["Content-Security-Policy"])
        b = call("GET", "/", headers={"If-None-Match": a.headers["ETag"]})
        self.assertEqual((b.status, b.body), (304, b""))


class OpenApi(Base):
    @classmethod
    def setUpClass(cls):
        cls.page = call("GET", "/openapi.json").json

    def test_valid(self):
        try:
            from openapi_spec_validator import validate
        except ImportError:
            self.skipTest("openapi-spec-validator is not installed")
        validate(self.page)

    def test_every_path_is_served(self):
        for path, methods in self.page["paths"].items():
            for method in methods:
                a = call(method.upper(), path.replace("{id}", "none"), headers={"Content-Length": "0"})
                self.assertNotEqual(a.status, 405, (method, path))
                if a.status == 404 and "none" not in path.replace("{id}", "none"):
                    self.fail(f"{method} {path}: {a.body}")

    def test_answers_are_as_promised(self):
        try:
            from jsonschema import Draft202012Validator
        except ImportError:
            self.skipTest("jsonschema is not installed")
        self.ok(post({"id": "schema1", "text": "a schema", "tags": ["t"], "more": {"a": 1}}, "?wait=searchable"))
        self.ok(post({"id": "schema2", "text": "a reply", "reply_to": "schema1"}, "?wait=searchable"))

        def check(name, document):
            schema = {"$ref": f"#/components/schemas/{name}", "components": self.page["components"]}
            errors = [e.message for e in Draft202012Validator(schema).iter_errors(document)]
            self.assertEqual(errors, [], (name, document))

        check("Post", self.ok(call("GET", "/v1/posts/schema1")))
        check("PutPostResponse", self.ok(post({"id": "schema1", "text": "a schema"})))
        check("SearchResponse", self.ok(call("GET", "/v1/search?q=schema&explain=1&context=1")))
        check("SearchResponse", self.ok(call("GET", "/v1/posts/schema1/similar")))
        check("SuggestResponse", self.ok(call("GET", "/v1/suggest?q=sch")))
        check("GetThreadResponse", self.ok(call("GET", "/v1/posts/schema1/thread")))
        check("StatusResponse", self.ok(call("GET", "/v1/status")))
        check("EmbedResponse", self.ok(call("POST", "/v1/embed", {"texts": ["a"]})))
        check("OpenAiEmbeddings", self.ok(call("POST", "/v1/embeddings", {"input": "a"})))
        check("OpenAiModels", self.ok(call("GET", "/v1/models")))
        check("OpenAiError", call("POST", "/v1/embeddings", {}).json)
        check("Problem", call("GET", "/v1/search?limit=x").json)
        for line in call("POST", "/v1/posts:batch", b'{"id":"schema1","text":"a schema"}\nx\n').body.splitlines():
            check("BatchResult", json.loads(line))


if __name__ == "__main__":
    unittest.main()
