"""A stand-in for Vertex AI text embeddings and for what gives out its tokens, from the published protocol.

    python3 tests/standin/vertex.py --port 0 [--tls CERT KEY] [--dim 64]

As a process of its own it prints {"port": N} and serves until its standard input ends. POST /control takes JSON
whose members set fields of State; GET /control gives what was counted. Within Python: Server().

Endpoints: :predict (bearer checked; 250 texts, 20,000 tokens a call; task types; outputDimensionality),
/token (JWT bearer, RS256 verified against the account's public key; refresh tokens), /sts (RFC 8693),
/impersonate, /computeMetadata/... (Metadata-Flavor needed).

Faults (State.faults: the next calls' faults, one each; State.mode: for all; State.error_share: at random):
    429, 429-after (Retry-After: State.retry_after), 500, 503, 400, 401, 403, slow (State.slow_s), hang, cut (in the
    middle of the body), dim (one too many), nan, zero, fewer (than texts), type (text/html), json (broken)
Errors have the body of google.rpc.Status; messages repeat part of the text, as real ones may: it must not be logged.
"""
import argparse
import base64
import collections
import hashlib
import http.server
import json
import random
import re
import ssl
import sys
import threading
import time
import urllib.parse

STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
          429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}
TASKS = {"RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY", "CLASSIFICATION", "CLUSTERING",
         "QUESTION_ANSWERING", "FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY"}


def vector(text, task, dim):
    """Words to pseudo-random directions: texts that share words are near. Sides differ by a little."""
    sums = [0.0] * dim
    words = collections.Counter(w.lower() for w in re.findall(r"\w+", text))
    for word, n in [*words.items(), ("/" + task, 0.25)]:
        bits = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=(dim + 7) // 8).digest(), "little")
        for d in range(dim):
            sums[d] += n if bits >> d & 1 else -n
    return [x * 0.37 for x in sums]  # not of unit length, as a shortened vector is not


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.dim, self.texts_max, self.tokens_max = 64, 250, 20000
        self.faults, self.mode, self.error_share = [], "", 0.0
        self.retry_after, self.slow_s, self.latency_s, self.token_life_s = 1, 3.0, 0.0, 3600
        self.rate = 0.0  # texts' calls a second; more is 429
        self.poison_400, self.poison_500 = "", ""
        self.public_key = ""
        self.bucket, self.bucket_at = 0.0, time.monotonic()
        self.tokens, self.token_calls = {}, collections.Counter()
        self.calls, self.by_status, self.by_task = 0, collections.Counter(), collections.Counter()
        self.log, self.embedded, self.largest = [], collections.Counter(), 0
        self.random = random.Random(5)

    def report(self):
        with self.lock:
            return {"calls": self.calls, "by_status": dict(self.by_status), "by_task": dict(self.by_task),
                    "token_calls": dict(self.token_calls), "embedded": dict(self.embedded),
                    "largest": self.largest, "log": self.log}

    def over_rate(self):
        now = time.monotonic()
        self.bucket = min(self.bucket + (now - self.bucket_at) * self.rate, self.rate)
        self.bucket_at = now
        if self.bucket < 1:
            return True
        self.bucket -= 1
        return False

    def next_fault(self):
        if self.faults:
            return self.faults.pop(0)
        if self.mode:
            return self.mode
        if self.error_share and self.random.random() < self.error_share:
            return self.random.choice(["500", "503", "cut"])
        if self.rate and self.over_rate():
            return "429"
        return ""

    def new_token(self):
        token = "ya29.stand-in-" + base64.urlsafe_b64encode(random.randbytes(24)).decode()
        self.tokens[token] = time.monotonic() + self.token_life_s
        return token


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state = None

    def log_message(self, *args):
        pass

    def send(self, status, body, headers=(), kind="application/json; charset=UTF-8", cut=False):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n"
        head += "".join(f"{k}: {v}\r\n" for k, v in headers) + "\r\n"
        if cut:
            data, self.close_connection = data[:len(data) // 2], True
        try:
            self.wfile.write(head.encode() + data)
        except OSError:
            self.close_connection = True

    def fail(self, status, message="", headers=()):
        self.send(status, {"error": {"code": status, "message": message, "status": STATUS.get(status, "UNKNOWN"),
                                     "details": []}}, headers)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self):
        s = self.state
        if self.path == "/control":
            self.send(200, s.report())
        elif self.path.startswith("/computeMetadata/v1/instance/service-accounts/default/token"):
            if self.headers.get("Metadata-Flavor") != "Google":
                return self.fail(403)
            self.give_token("metadata")
        elif self.path == "/subject":
            self.send(200, {"id_token": "foreign-token", "flavour": self.headers.get("X-Flavour")})
        else:
            self.fail(404)

    def do_POST(self):
        data = self.body()
        if self.path == "/control":
            with self.state.lock:
                for key, value in json.loads(data).items():
                    setattr(self.state, key, value)
            self.send(200, {})
        elif self.path in ("/token", "/sts"):
            self.exchange(dict(urllib.parse.parse_qsl(data.decode())))
        elif self.path == "/impersonate":
            self.impersonate(json.loads(data))
        elif self.path.endswith(":predict"):
            self.predict(json.loads(data))
        else:
            self.fail(404)

    # ---- tokens ----

    def give_token(self, kind):
        s = self.state
        with s.lock:
            s.token_calls[kind] += 1
            token = s.new_token()
            life = s.token_life_s
        if s.latency_s:
            time.sleep(s.latency_s)
        self.send(200, {"access_token": token, "expires_in": life, "token_type": "Bearer"})

    def exchange(self, form):
        s, grant = self.state, form.get("grant_type", "")
        if s.mode == "token-500":
            with s.lock:
                s.token_calls["failed"] += 1
            return self.fail(500)
        if grant.endswith(":jwt-bearer"):
            if not self.jwt_is_good(form.get("assertion", "")):
                return self.send(400, {"error": "invalid_grant"})
            return self.give_token("jwt")
        if grant.endswith(":token-exchange"):
            want = {"audience": "//iam.googleapis.com/stand-in", "subject_token": "foreign-token",
                    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                    "requested_token_type": "urn:ietf:params:oauth:token-type:access_token"}
            if any(form.get(k) != v for k, v in want.items()):
                return self.send(400, {"error": "invalid_request"})
            return self.give_token("sts")
        if grant == "refresh_token" and form.get("refresh_token") == "refresh-me":
            return self.give_token("refresh")
        self.send(400, {"error": "unsupported_grant_type"})

    def jwt_is_good(self, assertion):
        from google.auth import jwt
        try:
            claims = jwt.decode(assertion, certs=self.state.public_key.encode(), verify=True)
        except ValueError:
            return False
        return claims["scope"] == "https://www.googleapis.com/auth/cloud-platform" and \
            claims["aud"].endswith("/token") and claims["exp"] - claims["iat"] <= 3600

    def impersonate(self, body):
        if not self.bearer_is_good() or "https://www.googleapis.com/auth/cloud-platform" not in body["scope"]:
            return self.fail(403)
        with self.state.lock:
            self.state.token_calls["impersonate"] += 1
            token = self.state.new_token()
        self.send(200, {"accessToken": token, "expireTime": "2030-01-01T00:00:00Z"})

    def bearer_is_good(self):
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return self.state.tokens.get(token, 0) > time.monotonic()

    # ---- embeddings ----

    def predict(self, request):
        s = self.state
        texts = [i.get("content", "") for i in request["instances"]]
        task = request["instances"][0].get("task_type", "RETRIEVAL_DOCUMENT") if texts else ""
        with s.lock:
            fault = s.next_fault()
            s.calls += 1
            s.largest = max(s.largest, len(texts))
        if s.latency_s:
            time.sleep(s.latency_s)
        status = self.answer(request, texts, task, fault)
        with s.lock:
            s.by_status[str(status)] += 1
            s.by_task[task] += 1
            s.log.append([round(time.monotonic(), 3), task, len(texts), status])
            if status == 200:
                s.embedded.update(f"{task}:{t}" for t in texts)

    def refusal(self, request, texts, task):
        s = self.state
        if not self.bearer_is_good():
            return 401, "Request had invalid authentication credentials."
        if len(texts) > s.texts_max:
            return 400, f"{s.texts_max} instance(s) is allowed per prediction. Actual: {len(texts)}"
        if sum(min(2048, len(t.encode()) // 4) for t in texts) > s.tokens_max:
            return 400, "Unable to submit request because the input token count is too large"
        if task not in TASKS or any(not t for t in texts):
            return 400, "The text content is empty."
        if s.poison_400 and any(s.poison_400 in t for t in texts):
            return 400, f"Invalid text: {texts[0][:60]}"
        if s.poison_500 and any(s.poison_500 in t for t in texts):
            return 500, "Internal error"
        return 0, ""

    def answer(self, request, texts, task, fault):
        s = self.state
        if fault == "slow":
            time.sleep(s.slow_s)
        if fault == "hang":
            time.sleep(s.slow_s * 10)
        if fault == "429-after":
            self.fail(429, "Quota exceeded", [("Retry-After", str(s.retry_after))])
            return 429
        if fault == "401":
            with s.lock:
                s.tokens.clear()
        if fault.isdigit() and fault != "401":
            self.fail(int(fault), f"could not embed {texts[0][:60]}" if texts else "")
            return int(fault)
        status, why = self.refusal(request, texts, task)
        if status:
            self.fail(status, why)
            return status
        return self.vectors(request, texts, task, fault)

    def vectors(self, request, texts, task, fault):
        dim = int((request.get("parameters") or {}).get("outputDimensionality") or self.state.dim)
        if fault == "dim":
            dim += 1
        values = [vector(t, task, dim) for t in texts]
        if fault == "zero":
            values[-1] = [0.0] * dim
        if fault == "nan":
            values[-1][0] = "NaN"  # the proto3 JSON mapping's word for it
        if fault == "fewer":
            values = values[:-1]
        body = {"predictions": [{"embeddings": {"values": v, "statistics": {
            "token_count": float(len(t) // 4 + 1), "truncated": False}}} for v, t in zip(values, texts)],
            "metadata": {"billableCharacterCount": sum(map(len, texts))}}
        kind = "text/html" if fault == "type" else "application/json; charset=UTF-8"
        data = json.dumps(body).encode()
        self.send(200, data[:-9] if fault == "json" else data, kind=kind, cut=fault == "cut")
        return 200 if not fault or fault in ("slow", "hang", "401") else 599


class Threads(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Server:
    def __init__(self, tls=None, port=0, **fields):
        self.state = State()
        for key, value in fields.items():
            setattr(self.state, key, value)
        self.http = Threads(("127.0.0.1", port), type("H", (Handler,), {"state": self.state}))
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.port = self.http.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--dim", type=int, default=64)
    p.add_argument("--public-key", default="")
    o = p.parse_args()
    server = Server(port=o.port, dim=o.dim, public_key=open(o.public_key).read() if o.public_key else "")
    print(json.dumps({"port": server.port}), flush=True)
    sys.stdin.read()
