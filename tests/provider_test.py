#!/usr/bin/env python3
"""Providers end to end: kith with Vertex AI (a stand-in that fails as the cloud does) and with OpenAI-compatible
servers (another kith), and independent clients: google-genai on the stand-in, openai on kith.

    KITH_BIN=build/kith KITH_VENV=... python3 tests/provider_test.py [case ...]

Nothing waits for the clock but where a pause of the breaker or the life of a token is what is tested.
"""
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "standin"))
import vertex  # noqa: E402
from kithtest import BIN, Kith, Skip, case, check, main  # noqa: E402

SECRETS = ["ya29.", "BEGIN PRIVATE KEY", "refresh-me", "foreign-token", "sk-secret"]
FAST = ["--embed-open-ms", "400", "--embed-query-ms", "500", "--embed-call-ms", "1500"]


# ---- keys and files ----

class Files:
    """A service account, other credentials, and certificates, made once."""

    def __init__(self):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import rsa
        import datetime
        import ipaddress
        self.dir = tempfile.mkdtemp(prefix="kith-provider-")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                         serialization.NoEncryption()).decode()
        self.public = key.public_key().public_bytes(serialization.Encoding.PEM,
                                                    serialization.PublicFormat.SubjectPublicKeyInfo).decode()
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stand-in")])
        now = datetime.datetime(2020, 1, 1)
        cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                .serial_number(7).not_valid_before(now).not_valid_after(now.replace(year=2050))
                .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
                .add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256()))
        self.cert = self.put("cert.pem", cert.public_bytes(serialization.Encoding.PEM).decode())
        self.key = self.put("key.pem", self.private)

    def put(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text if isinstance(text, str) else json.dumps(text))
        return path

    def account(self, url):
        return self.put("account.json", {
            "type": "service_account", "project_id": "p", "private_key_id": "k1", "private_key": self.private,
            "client_email": "kith@p.iam.gserviceaccount.com", "token_uri": url + "/token"})


FILES = None


def files():
    global FILES
    if FILES is None:
        try:
            FILES = Files()
        except ImportError as why:
            raise Skip(f"KITH_VENV lacks a package: {why}")
    return FILES


class Vertex:
    """A stand-in and a kith that embeds with it."""

    def __init__(self, *args, credentials=None, env=None, tls=None, directory=None, **fields):
        f = files()
        self.cloud = vertex.Server(tls=tls, public_key=f.public, **fields)
        self.state = self.cloud.state
        flags = ["--provider", "vertex", "--embed-url", self.cloud.url, "--vertex-project", "p", "--embed-dim", "64",
                 *FAST]
        if credentials != "metadata":
            flags += ["--vertex-credentials", credentials or f.account(self.cloud.url)]
        self.kith = Kith(args=[*flags, *args], env=env, directory=directory)

    def __enter__(self):
        self.kith.__enter__()
        return self.kith, self.state

    def __exit__(self, kind, value, tb):
        log = open(self.kith.log.name).read()
        self.cloud.close()
        self.kith.__exit__(kind, value, tb)
        for secret in SECRETS:
            check(secret not in log, f"the log holds {secret}")
        check("private matter" not in log, "the log holds a text")


def status(k):
    return k.call("GET", "/v1/status").json()


def until(what, seconds=20, text="not in time"):
    end = time.time() + seconds
    while time.time() < end:
        if what():
            return
        time.sleep(0.02)
    raise AssertionError(text() if callable(text) else text)


def drained(k, seconds=20):
    def done():
        s = status(k)
        applied = all(f["lag_records"] == 0 for f in s["folds"] if f["name"] == "store")
        return applied and s["embed_pending"] == 0 and s["vectors"] + s["embed_failed"] >= s["posts"]
    until(done, seconds, lambda: f"posts still wait: {status(k)}")


def embed(k, texts, task="document"):
    a = k.call("POST", "/v1/embed", {"texts": texts, "task": task})
    check(a.status == 200, f"embed: {a.status} {a.body[:300]!r}")
    return [v["values"] for v in a.json()["vectors"]]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))


def by_meaning(k, q):
    r = k.search(q=q, mode="meaning")
    return [h["post"]["id"] for h in r["hits"]], r["degraded"]


# ---- vertex ----

@case
def vertex_by_a_service_account():
    with Vertex(latency_s=0.05) as (k, s):
        k.batch([{"id": f"p{i}", "text": f"apple {i} pear"} for i in range(300)] +
                [{"id": "q", "text": "private matter of violins"}])
        drained(k)
        hits, degraded = by_meaning(k, "violins matter")
        check(hits[0] == "q" and degraded == [], f"{hits[:3]} {degraded}")
        threads = [threading.Thread(target=embed, args=(k, [f"text {i}"])) for i in range(8)]
        [t.start() for t in threads], [t.join() for t in threads]
        check(s.token_calls == {"jwt": 1}, f"tokens were fetched {s.token_calls}")
        check(s.by_task["RETRIEVAL_QUERY"] == 1 and s.largest > 100, f"{s.by_task} {s.largest}")
        check(all(n == 1 for n in s.embedded.values()), "a text was embedded twice")
        for task, name in (("query", "RETRIEVAL_QUERY"), ("document", "RETRIEVAL_DOCUMENT"),
                           ("similarity", "SEMANTIC_SIMILARITY")):
            (v,) = embed(k, ["a b c"], task)
            check(abs(sum(x * x for x in v) - 1) < 1e-5, "not of unit length")
            check(cosine(v, vertex.vector("a b c", name, 64)) > 0.99999, f"another vector for {task}")


@case
def the_vendors_client_agrees():
    try:
        from google import genai
        from google.genai import types
        from google.oauth2 import service_account
    except ImportError as why:
        raise Skip(str(why))
    with Vertex() as (k, s):
        cloud = f"http://127.0.0.1:{int(k.args[k.args.index('--embed-url') + 1].rsplit(':', 1)[1])}"
        credentials = service_account.Credentials.from_service_account_file(
            files().account(cloud), scopes=["https://www.googleapis.com/auth/cloud-platform"])
        client = genai.Client(vertexai=True, project="p", location="us-central1", credentials=credentials,
                              http_options=types.HttpOptions(base_url=cloud))
        texts = ["the quick brown fox", "über Öl und Äpfel", "🙂 emoji"]
        theirs = client.models.embed_content(
            model="text-embedding-005", contents=texts,
            config=types.EmbedContentConfig(task_type="RETRIEVAL_DOCUMENT", output_dimensionality=64))
        for a, b in zip(theirs.embeddings, embed(k, texts)):
            check(cosine(a.values, b) > 0.99999, "the vendor's client gets another vector")
        check(s.token_calls["jwt"] == 2, f"{s.token_calls}")


FAULTS = ["429", "429-after", "500", "503", "401", "slow", "cut", "dim", "nan", "zero", "fewer", "type", "json"]


@case
def every_fault_is_survived():
    with Vertex(slow_s=2.5) as (k, s):
        for i, fault in enumerate(FAULTS):
            s.faults = [fault]
            check(k.post({"id": fault, "text": f"private matter {fault} number{i}"}, wait="").status == 200, "post")
            until(lambda: status(k)["vectors"] == i + 1, 20, lambda: f"{fault}: not embedded: {k.tail()}")
            s.faults = [fault]
            r = k.search(q=f"number{i} {fault} asked")
            check(r["hits"][0]["post"]["id"] == fault, f"{fault}: {r['hits'][:1]}")
            until(lambda: not by_meaning(k, f"number{i} private again{time.time()}")[1], 20, f"{fault}: it stays away")
        check(status(k)["embed_failed"] == 0, "a text was put aside")


@case
def a_token_is_renewed_before_it_ends():
    with Vertex(token_life_s=2) as (k, s):
        for i in range(25):
            embed(k, [f"text {i}"])
            time.sleep(0.15)
        check(s.by_status.get("401", 0) == 0, "an old token was used")
        check(2 <= s.token_calls["jwt"] <= 5, f"{s.token_calls}")
        s.faults = ["401"]  # as if it was revoked
        embed(k, ["one more"])
        check(s.by_status["401"] == 1, "the revoked token was tried again")


@case
def the_metadata_server_gives_tokens():
    f = files()
    cloud = vertex.Server(public_key=f.public)
    with Vertex(credentials="metadata", env={"GCE_METADATA_HOST": f"127.0.0.1:{cloud.port}",
                                             "GOOGLE_APPLICATION_CREDENTIALS": ""}) as (k, s):
        s.tokens = cloud.state.tokens
        embed(k, ["a"])
        check(cloud.state.token_calls == {"metadata": 1}, f"{cloud.state.token_calls}")
    cloud.close()


@case
def workload_identity_and_user_credentials():
    f = files()
    cloud = vertex.Server()
    subject = f.put("subject", "foreign-token\n")
    external = {"type": "external_account", "audience": "//iam.googleapis.com/stand-in",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": cloud.url + "/sts"}
    by_url = {"url": cloud.url + "/subject", "headers": {"X-Flavour": "x"},
              "format": {"type": "json", "subject_token_field_name": "id_token"}}
    user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "refresh-me",
            "token_uri": cloud.url + "/token"}
    tries = [({**external, "credential_source": {"file": subject}}, "sts"),
             ({**external, "credential_source": by_url,
               "service_account_impersonation_url": cloud.url + "/impersonate"}, "impersonate"), (user, "refresh")]
    for i, (credentials, kind) in enumerate(tries):
        with Vertex(credentials=f.put(f"external{i}.json", credentials)) as (k, s):
            s.tokens = cloud.state.tokens
            embed(k, ["a"])
            check(cloud.state.token_calls[kind] == 1, f"{kind}: {cloud.state.token_calls}")
    cloud.close()


@case
def tls_is_checked():
    f = files()
    with Vertex("--embed-ca", f.cert, tls=(f.cert, f.key)) as (k, s):
        embed(k, ["a"])
    with Vertex(tls=(f.cert, f.key)) as (k, s):
        k.post({"id": "a", "text": "hello there"}, wait="applied")
        r = k.search(q="hello")
        check(r["degraded"] == ["meaning"] and len(r["hits"]) == 1 and s.calls == 0, f"{r}")


@case
def a_dead_provider_gets_probes_only():
    with Vertex() as (k, s):
        k.batch([{"id": f"p{i}", "text": f"apple {i} pear"} for i in range(20)])
        drained(k)
        check(by_meaning(k, "apple pie")[1] == [], "healthy")
        s.mode = "503"
        for i in range(12):
            r = k.search(q=f"apple new {i}")
            check(r["degraded"] == ["meaning"] and r["hits"], f"{r}")
        check("breaker open for queries" in k.tail(), k.tail())
        hits, degraded = by_meaning(k, "apple pie")  # asked before: its vector is kept
        check(degraded == [] and len(hits) == 10, f"{degraded} {hits}")
        before, start, took = s.calls, time.time(), []
        while time.time() - start < 2.5:
            t = time.time()
            k.search(q=f"apple other {time.time()}")
            took.append(time.time() - t)
        probes = s.calls - before
        check(1 <= probes <= 8, f"{probes} calls to a dead provider in 2.5 s with a pause of 0.4 s")
        check(len(took) > 50 and sorted(took)[len(took) // 2] < 0.1, "searches wait for a dead provider")
        k.post({"id": "late", "text": "a late violin"}, wait="applied")
        s.mode = ""
        until(lambda: not k.search(q=f"apple again {time.time()}")["degraded"], 10, "it does not close again")
        drained(k)
        check(by_meaning(k, "late violin")[0][0] == "late", "the backlog was not embedded")
        check("breaker closed for queries" in k.tail(), k.tail())


@case
def a_slow_provider_costs_no_more_than_the_deadline():
    with Vertex(slow_s=3) as (k, s):
        k.post({"id": "a", "text": "hello there"})
        s.mode = "slow"
        for i in range(3):
            t = time.time()
            r = k.search(q=f"hello {i}")
            check(r["degraded"] == ["meaning"] and r["hits"], f"{r}")
            check(time.time() - t < 1.5, f"a search took {time.time() - t:.2f} s, its deadline is 0.5 s")
        s.mode = ""


@case
def a_stop_does_not_wait_for_it():
    v = Vertex("--embed-call-ms", "60000", "--embed-query-ms", "60000", slow_s=4)
    with v as (k, s):
        s.mode = "hang"
        k.post({"id": "a", "text": "hello"}, wait="applied")
        t = threading.Thread(target=lambda: k.search(q="hello"))
        t.start()
        until(lambda: s.calls >= 2, 10)
        start = time.time()
        k.stop()
        check(time.time() - start < 5, f"stopping took {time.time() - start:.1f} s")
        t.join()


@case
def fewer_texts_a_call_are_learned():
    with Vertex(texts_max=5, tokens_max=2000) as (k, s):
        k.batch([{"id": f"p{i}", "text": f"apple {i} pear"} for i in range(60)])
        drained(k)
        check(s.by_status["400"] == 1 and status(k)["embed_failed"] == 0, f"{s.by_status}")
        check(all(n == 1 for n in s.embedded.values()), "a text was embedded twice")


@case
def long_texts_fill_a_call_by_tokens():
    with Vertex() as (k, s):
        k.batch([{"id": f"p{i}", "text": f"number {i} " + "word " * 4000} for i in range(40)])
        drained(k)
        check("400" not in s.by_status and status(k)["embed_failed"] == 0, f"{s.by_status}")


@case
def poison_is_put_aside_and_tried_again():
    for field in ("poison_400", "poison_500"):
        with Vertex(**{field: "POISON"}) as (k, s):
            k.batch([{"id": f"p{i}", "text": f"apple {i}" + (" POISON" if i == 7 else "")} for i in range(20)])
            until(lambda: status(k)["vectors"] == 19 and status(k)["embed_failed"] == 1, 60,
                  lambda: f"{field}: {status(k)} {k.tail()}")
            data = ["--data", os.path.join(k.dir, "d")]
            r = k.cli("embed", "failed", *data)
            check("p7" in r.stdout and "POISON" not in r.stdout, f"{field}: {r.stdout}")
            setattr(s, field, "")
            r = k.cli("embed", "failed", "--retry", *data)
            until(lambda: status(k)["vectors"] == 20 and status(k)["embed_failed"] == 0, 20,
                  lambda: f"{field}: {status(k)}")
            check(k.cli("embed", "failed", *data).stdout.strip() == "no text is set aside", "it is still listed")


@case
def a_wrong_model_sets_no_text_aside():
    with Vertex() as (k, s):
        s.mode = "400"
        k.batch([{"id": f"p{i}", "text": f"apple {i}"} for i in range(5)])
        until(lambda: "takes no text at all" in k.tail(), 20, k.tail)
        check(status(k)["embed_failed"] == 0, "posts were set aside for a fault of the configuration")
        s.mode = ""
        drained(k)
        check(status(k)["vectors"] == 5, f"{status(k)}")


@case
def a_rate_is_learned():
    with Vertex(rate=20.0, texts_max=1) as (k, s):
        k.batch([{"id": f"p{i}", "text": f"apple {i}"} for i in range(160)])
        drained(k, 60)
        check(status(k)["embed_failed"] == 0, "put aside")
        refused = s.by_status["429"]
        check(refused < 0.25 * s.calls, f"{refused} of {s.calls} calls were refused")


@case
def retry_after_is_kept():
    with Vertex(retry_after=2) as (k, s):
        embed(k, ["warm"])
        s.faults = ["429-after"]
        k.post({"id": "a", "text": "hello"}, wait="applied")
        until(lambda: "429" in s.by_status, 10)
        refused = [entry[0] for entry in s.log if entry[3] == 429][0]
        for i in range(20):
            check(k.search(q=f"hello {i}")["degraded"] == ["meaning"], "a query went during the pause")
        drained(k)
        after = [entry[0] for entry in s.log if entry[0] > refused]
        check(after and after[0] - refused >= 1.9, f"asked again after {after[0] - refused:.2f} s, told to wait 2")


@case
def a_cap_closes_bulk_and_not_queries():
    with Vertex("--embed-cost", "1000000", "--embed-day-max", "100") as (k, s):  # 1 a token, 100 a day
        k.batch([{"id": f"p{i}", "text": f"apple {i} {'pear ' * 30}"} for i in range(3)])
        drained(k)
        check("cap on spending is reached" in k.tail(), k.tail())
        k.post({"id": "late", "text": "one more"}, wait="applied")
        calls = s.calls
        check(by_meaning(k, "apple pear")[1] == [], "queries are closed too")
        time.sleep(1.2)
        check(status(k)["embed_pending"] == 1 and s.calls == calls + 1, "bulk is not closed")
        # The cap outlives a restart.
        k.stop()
        k.start()
        time.sleep(1)
        check(status(k)["embed_pending"] == 1 and s.calls == calls + 1, "forgotten by a restart")


@case
def the_cache_saves_reposts_and_rebuilds():
    with Vertex() as (k, s):
        k.batch([{"id": f"p{i}", "text": f"apple {i} pear", "author": f"u{i % 3}"} for i in range(50)])
        drained(k)
        calls = s.calls
        k.batch([{"id": f"r{i}", "text": f"  apple {i}\npear "} for i in range(50)])  # reposts
        drained(k)
        check(s.calls == calls, f"{s.calls - calls} calls for reposts")
        k.call("DELETE", "/v1/posts/p1?wait=applied")
        k.call("DELETE", "/v1/posts/r1?wait=applied")
        k.post({"id": "p2", "text": "plum"})
        drained(k)
        calls = s.calls
        k.stop()
        k.start()  # the memory is empty now
        check(embed(k, ["apple 30 pear", "plum"]) and s.calls == calls, "the disk does not have it")
        calls = s.calls
        check(embed(k, ["apple 1 pear"]) and s.calls == calls + 1, "a deleted text is in the cache")


@case
def a_damaged_cache_file_is_no_harm():
    v = Vertex()
    with v as (k, s):
        k.batch([{"id": f"p{i}", "text": f"apple {i}"} for i in range(30)])
        drained(k)
        k.stop()
        path = os.path.join(k.dir, "d", "embed-cache")
        with open(path, "r+b") as f:
            f.write(os.urandom(100))
        k.start()
        embed(k, [f"apple {i}" for i in range(30)])
        (got,) = embed(k, ["apple 3"])
        check(cosine(got, vertex.vector("apple 3", "RETRIEVAL_DOCUMENT", 64)) > 0.999, "a wrong vector")


# ---- openai ----

@case
def the_openai_client_on_kith():
    try:
        import openai
    except ImportError as why:
        raise Skip(str(why))
    with Kith(model="mock:64") as k:
        key = k.cli("key", "new", "--data", os.path.join(k.dir, "d"), "--scopes", "search").stdout.strip()
        time.sleep(5.2)  # a running server sees a new key within 5 s
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{k.port}/v1", api_key=key, max_retries=0)
        texts = ["the quick brown fox", "über Öl", "🙂"]
        plain = client.embeddings.create(model="words", input=texts, encoding_format="float")
        coded = client.embeddings.create(model="words", input=texts, dimensions=64)
        for a, b, own in zip(plain.data, coded.data, embed(k, texts)):
            check(cosine(a.embedding, b.embedding) > 0.999999 and cosine(a.embedding, own) > 0.999999, "they differ")
        check(plain.usage.total_tokens > 0 and [d.index for d in plain.data] == [0, 1, 2], f"{plain.usage}")
        check([m.id for m in client.models.list()] == ["words"], "models")
        for bad in ({"input": []}, {"input": [""]}, {"input": "x", "dimensions": 63}, {"input": "x", "model": "other"}):
            try:
                client.embeddings.create(**{"model": "words", **bad})
            except openai.BadRequestError:
                continue
            except openai.NotFoundError:
                continue
            raise AssertionError(f"{bad} was taken")


@case
def kith_on_kith():
    with Kith(model="mock:64", args=["--require-keys"]) as a:
        key = a.cli("key", "new", "--data", os.path.join(a.dir, "d"), "--name", "b", "--scopes", "search").stdout.strip()
        with open(os.path.join(a.dir, "key"), "w") as f:
            f.write(key + "\n")
        flags = ["--provider", "openai", "--embed-url", f"http://127.0.0.1:{a.port}/v1", "--embed-model", "words",
                 *FAST]
        time.sleep(5.2)  # a running server sees a new key within 5 s
        with Kith(args=[*flags, "--embed-key-file", os.path.join(a.dir, "key")]) as b, Kith(model="mock:64") as own:
            b.batch([{"id": f"p{i}", "text": f"apple {i} pear"} for i in range(100)])
            drained(b)
            check(status(b)["space"] == "openai/words/64/cosine", status(b)["space"])
            for x, y in zip(embed(b, ["a b c", "d"]), embed(own, ["a b c", "d"])):
                check(cosine(x, y) > 0.99999, "another vector than a's")
            check(key not in b.tail(), "the key is in the log")
        with Kith(args=[*flags, "--embed-dim", "64"], env={"KITH_EMBED_KEY": "sk-secret", "OPENAI_API_KEY": ""}) as b:
            b.post({"id": "x", "text": "hello"}, wait="applied")
            check(b.search(q="hello")["degraded"] == ["meaning"], "a wrong key")
            check("sk-secret" not in b.tail() and status(b)["embed_failed"] == 0, b.tail())


@case
def embed_and_import_with_a_provider():
    with Kith(model="mock:64") as a, tempfile.TemporaryDirectory() as d:
        flags = ["--provider", "openai", "--embed-url", f"http://127.0.0.1:{a.port}/v1", "--embed-model", "words"]
        out = os.path.join(d, "v.fvecs")
        a.cli("embed", *flags, "--out", out, stdin="apple pear\nplum\n")
        data = open(out, "rb").read()
        check(len(data) == 2 * (4 + 64 * 4) and struct.unpack("<I", data[:4])[0] == 64, f"{len(data)} bytes")
        check(cosine(struct.unpack("<64f", data[4:260]), embed(a, ["apple pear"])[0]) > 0.99999, "another vector")
        lines = "".join(json.dumps({"id": f"p{i}", "text": f"apple {i}"}) + "\n" for i in range(300))
        a.cli("import", *flags, "--data", os.path.join(d, "data"), "--wait", "-", stdin=lines)
        s = json.loads(a.cli("status", *flags, "--data", os.path.join(d, "data"), "--json").stdout)
        check(s["vectors"] == 300 and s["space"] == "openai/words/64/cosine", f"{s}")


@case
def a_bad_configuration_says_what_is_wrong():
    f = files()
    with tempfile.TemporaryDirectory() as d:
        for flags, says in (
                (["--provider", "gpt"], "--provider"), (["--provider", "vertex"], "--vertex-project"),
                (["--provider", "vertex", "--vertex-project", "a/b"], "vertex-project"),
                (["--provider", "vertex", "--vertex-project", "p", "--vertex-credentials", d + "/none"], "none"),
                (["--provider", "vertex", "--vertex-project", "p", "--vertex-credentials",
                  f.put("bad.json", {"type": "service_account"})], "client_email"),
                (["--provider", "openai", "--embed-url", "http://127.0.0.1:9/v1", "--embed-model", "m"], "--embed-dim"),
                (["--provider", "openai", "--embed-url", "ftp://x", "--embed-dim", "64"], "http"),
                (["--embed-dim", "-1"], "--embed-dim")):
            r = subprocess.run([BIN, "serve", "--data", d + "/d", "--listen", "127.0.0.1:0", *flags],
                               capture_output=True, text=True, timeout=60,
                               env=dict(os.environ, GOOGLE_APPLICATION_CREDENTIALS="", GOOGLE_CLOUD_PROJECT=""))
            check(r.returncode != 0 and says in r.stderr, f"{flags}: {r.returncode} {r.stderr}")


if __name__ == "__main__":
    main()
