#!/usr/bin/env python3
"""kill -9 during a write load, again and again: no acknowledged write lost, none twice, verify clean.

Writers put posts, replace some and delete some, and note what was acknowledged and what was under way
at the kill (its outcome may be either). After each restart every post must be as acknowledged.
"""
import random
import threading

from kithtest import LONG, Kith, case, check, main

ROUNDS = 200 if LONG else 15
WRITERS = 4
IDS = 400


class Writer(threading.Thread):
    """Owns the ids i with i % WRITERS == me; one operation at a time."""

    def __init__(self, kith, me, state, seed):
        super().__init__(daemon=True)
        self.kith, self.me, self.state, self.rng = kith, me, state, random.Random(seed)
        self.open = None  # (id, text or None) under way
        self.acknowledged = 0

    def run(self):
        while True:
            i = f"p{self.rng.randrange(IDS // WRITERS) * WRITERS + self.me}"
            text = None if self.rng.random() < 0.2 else f"post {i} version {self.rng.random()}"
            self.open = (i, text)
            try:
                if text is None:
                    a = self.kith.call("DELETE", f"/v1/posts/{i}")
                    ok = a.status in (200, 404)
                else:
                    ok = self.kith.post({"id": i, "text": text, "author": f"w{self.me}"}, wait="").status == 200
            except OSError:
                return
            except Exception:  # cut in the middle of an answer
                return
            if not ok:
                return
            self.state[i] = text
            self.open = None
            self.acknowledged += 1


def settle(kith, state, writers):
    """What is there now must be as acknowledged; what was under way may be either."""
    unsure = {w.open[0]: w.open[1] for w in writers if w.open}
    for i in [f"p{n}" for n in range(IDS)]:
        a = kith.call("GET", f"/v1/posts/{i}")
        got = a.json()["text"] if a.status == 200 else None
        check(a.status in (200, 404), f"{i}: {a.status}")
        want = {state.get(i)} | ({unsure[i]} if i in unsure else set())
        check(got in want, f"{i}: got {got!r}, acknowledged {state.get(i)!r}")
        state[i] = got


def found_once(kith, state):
    """Every post is found by its own words, once."""
    alive = [i for i, t in state.items() if t]
    for i in random.Random(1).sample(alive, min(20, len(alive))):
        hits = [h["post"]["id"] for h in kith.search(q=f'"post {i} version"', mode="words", limit=50)["hits"]]
        check(hits.count(i) == 1, f"{i} found {hits.count(i)} times")


@case
def nothing_acknowledged_is_lost():
    state, total = {}, 0
    k = Kith()
    try:
        for r in range(ROUNDS):
            writers = [Writer(k, n, state, r * WRITERS + n) for n in range(WRITERS)]
            for w in writers:
                w.start()
            threading.Event().wait(random.Random(r).uniform(0.05, 0.6))
            k.kill()
            for w in writers:
                w.join(10)
            total += sum(w.acknowledged for w in writers)
            if r % 10 == 0:
                k.cli("verify", "--data", k.dir + "/d")
            k.start()
            k.call("POST", "/v1/posts?wait=applied", {"id": "settled", "text": f"round {r}"})
            settle(k, state, writers)
            found_once(k, state)
        check(total > ROUNDS * 5, f"only {total} writes were acknowledged")
        print(f"     {ROUNDS} kills, {total} acknowledged writes, 0 lost")
    finally:
        k.__exit__(None, None, None)


main()
