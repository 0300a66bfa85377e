"""Several spaces in one directory: kept side by side, asked when the first one's provider is away, changed, dropped.

The first space is another kith's, over its OpenAI-compatible /v1/embeddings, which the test ends; the second is a
mock model in the process, with another dimension.
"""
import json
import os
import time

from kithtest import Kith, case, check, kith, main

WORDS = "rain garden bread bicycle river music winter train island coffee window letter".split()


def text(i):
    return f"{WORDS[i % 12]} {WORDS[(i * 5 + 3) % 12]} {WORDS[(i * 7 + 1) % 12]} number{i}"


def data(k):
    return os.path.join(k.dir, "d")


def spaces(k):
    return k.call("GET", "/v1/status").json()["spaces"]


def until(condition, what, seconds=30):
    end = time.time() + seconds
    while not condition():
        check(time.time() < end, f"not in {seconds} s: {what}")
        time.sleep(0.05)


def filled(k, i, n):
    until(lambda: len(spaces(k)) > i and spaces(k)[i]["vectors"] == n, f"{n} vectors in space {i}: {spaces(k)}")


def restart(k):
    if k.process.poll() is None:
        check(k.stop() == 0, k.tail())
    k.start()


def posts(a, b):
    return [{"id": f"p{i}", "text": text(i), "author": f"u{i % 5}"} for i in range(a, b)]


def space(k, *args, code=0):
    return kith("space", *args, "--data", data(k), code=code, env=k.env)


def user(k, what, *more):
    return kith(what, "--data", data(k), "--token", k.admin, *more, "u3", env=k.env)


def beside(k, source):
    """The second space is added, filled behind the scenes, and searches go on as before."""
    k.admin = kith("key", "new", "--data", data(k), "--scopes", "admin", env=k.env).stdout.strip()
    k.batch(posts(0, 60))
    filled(k, 0, 60)
    check(len(spaces(k)) == 1)
    space(k, "add", "--provider", "local", "--model", "mock:32")
    check("there already" in space(k, "add", "--provider", "local", "--model", "mock:32", code=2).stderr)
    restart(k)
    filled(k, 1, 60)
    first, second = spaces(k)
    check(first["dimensions"] == 64 and second["dimensions"] == 32 and second["pending"] == 0)
    check(k.search(q="rain garden")["degraded"] == [])
    check(k.search(q="garden", mode="meaning")["mode"] == "meaning")


def survives(k):
    """kill -9 in the middle of filling: nothing is embedded that the journal has, and both spaces come back."""
    k.batch(posts(60, 90))
    k.kill()
    k.start()
    filled(k, 0, 90)
    filled(k, 1, 90)
    restart(k)
    filled(k, 1, 90)
    check(k.call("DELETE", "/v1/posts/p89").status == 200)
    filled(k, 1, 89)


def away(k, source):
    """Cached vector, then the other space, then words; each says so, and vectors are never mixed."""
    cached = k.search(q="coffee window", mode="meaning", limit=5)
    source.kill()
    check(k.search(q="coffee window", mode="meaning", limit=5)["hits"][0]["post"]["id"] == cached["hits"][0]["post"]["id"])
    check(k.search(q="coffee window", mode="meaning")["degraded"] == [])
    answer = k.search(q="winter train island", mode="meaning")
    check(answer["degraded"] == ["space"] and answer["mode"] == "meaning" and answer["hits"], answer)
    k.post({"id": "late", "text": "a zeppelin over the harbour"}, wait="applied")
    until(lambda: any(h["post"]["id"] == "late" for h in k.search(q="zeppelin harbour over the", mode="meaning")["hits"]),
          "a post that only the other space has")
    words = k.search(q="winter train island", mode="words")
    check(words["degraded"] == [])
    metrics = k.call("GET", "/metrics").body.decode()
    counted = [line for line in metrics.splitlines() if "kith_search_degraded_total" in line and "other_space" in line]
    check(counted and float(counted[0].split()[-1]) > 0, counted)
    check(spaces(k)[1]["space"] in metrics, "the space is in the metrics")


def exports(k):
    first, second = spaces(k)
    out = json.loads(user(k, "export").stdout)
    post = out["posts"][0]
    check(out["space"] == first["space"] and len(post["vector"]) == 64)
    check(post["more"][0]["space"] == second["space"] and len(post["more"][0]["values"]) == 32)


def erases(k):
    n = spaces(k)[1]["vectors"]
    gone = json.loads(user(k, "erase", "--yes").stdout)
    gone = int(gone["posts"])
    check(gone > 10)
    until(lambda: spaces(k)[1]["vectors"] == n - gone, f"vectors of {gone} posts leave the second space")


def changes(k):
    """Use the second space, then drop the first: its provider is not needed any more."""
    old, new = (s["space"] for s in spaces(k))
    check("has vectors of" not in space(k, "use", new).stderr)
    restart(k)
    now = spaces(k)
    check([s["space"] for s in now] == [new, old], now)
    check(now[0]["pending"] == 0, f"nothing is embedded again: {now}")
    answer = k.search(q="winter letter music", mode="meaning")
    check(answer["degraded"] == [] and answer["hits"], answer)
    check("use another first" in space(k, "drop", new, code=2).stderr)
    space(k, "drop", old)
    restart(k)
    check([s["space"] for s in spaces(k)] == [new])
    check(k.search(q="bread river", mode="meaning")["hits"])
    k.post({"id": "after", "text": "bread by the river"})
    check(k.stop() == 0)
    check(not [f for f in os.listdir(data(k)) if f.startswith("space-")], os.listdir(data(k)))


def damaged(k):
    """A damaged file of the second space is told by verify, and made again from the journal."""
    check(k.stop() == 0)
    names = [f for f in os.listdir(data(k)) if f.startswith("space-") and f.endswith(".snap")]
    check(len(names) == 1, names)
    path = os.path.join(data(k), names[0])
    kith("verify", "--data", data(k), env=k.env)
    with open(path, "r+b") as f:
        f.seek(200)
        byte = f.read(1)
        f.seek(200)
        f.write(bytes([byte[0] ^ 1]))
    check(names[0] in kith("verify", "--data", data(k), code=1, env=k.env).stdout)
    k.start()


@case
def two_spaces():
    with Kith() as source:
        url = f"http://127.0.0.1:{source.port}/v1"
        args = ["--provider", "openai", "--embed-url", url, "--embed-model", "words", "--embed-dim", "64", "--embed-open-ms", "60000"]
        with Kith(args=args) as k:
            beside(k, source)
            survives(k)
            n = spaces(k)[1]["vectors"]
            damaged(k)
            filled(k, 1, n)
            exports(k)
            away(k, source)
            erases(k)
            changes(k)
            k.start()
        source.start()


main()
