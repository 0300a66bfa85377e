#!/usr/bin/env python3
"""The page in real Chromium, driven by WebDriver: typing, keys, thread, similar, why, filters, themes,
phone width, a dead server, and that no text of a post is ever taken for HTML.

Screenshots go to KITH_SHOTS when it is set.
"""
import base64
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

from kithtest import Kith, Skip, case, check, main

POSTS = [
    {"id": "a", "text": "How do I stop unsolicited mail from reaching my inbox?", "author": "ann", "channel": "help",
     "created_at": "2024-03-01T10:00:00Z"},
    {"id": "b", "text": "Try a Bayesian filter on the mail server, it learns.", "author": "bob", "channel": "help",
     "created_at": "2024-03-01T11:00:00Z", "reply_to": "a"},
    {"id": "c", "text": "<img src=x onerror=document.title='owned'> mail & <b>bold</b>", "author": "<i>eve</i>", "channel": "help",
     "created_at": "2024-03-02T11:00:00Z", "reply_to": "b"},
    {"id": "d", "text": "Grüße aus Zürich: die Mail kam 🎉 an, mail!", "author": "dora", "channel": "de", "lang": "de",
     "created_at": "2023-01-02T11:00:00Z"},
] + [{"id": f"n{i}", "text": f"note {i} about the mail queue and its length", "author": f"u{i % 5}", "channel": "ops",
      "created_at": f"2024-01-{i % 28 + 1:02d}T00:00:00Z"} for i in range(45)]


class Browser:
    """A WebDriver session with chromedriver, on a free port."""

    def __init__(self):
        driver = shutil.which("chromedriver")
        if not driver or not (shutil.which("chromium") or os.path.exists("/usr/bin/chromium")):
            raise Skip("no chromium and chromedriver here")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.profile = tempfile.mkdtemp(prefix="kith-chromium-")
        self.process = subprocess.Popen([driver, f"--port={self.port}", "--allowed-ips=127.0.0.1"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                            "--disable-background-networking", "--disable-component-update", "--disable-sync",
                            "--disable-dev-shm-usage", "--window-size=1000,900", f"--user-data-dir={self.profile}"]}
        for _ in range(150):
            try:
                self.session = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": {
                    "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}})["sessionId"]
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("chromedriver does not answer")

    def ask(self, method, path, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        c.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        value = json.loads(c.getresponse().read())["value"]
        c.close()
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(value["message"].split("\n")[0])
        return value

    def go(self, url):
        self.ask("POST", f"/session/{self.session}/url", {"url": url})

    def js(self, script, *args):
        return self.ask("POST", f"/session/{self.session}/execute/sync", {"script": script, "args": list(args)})

    def until(self, script, what, seconds=20):
        end = time.time() + seconds
        while time.time() < end:
            value = self.js("return " + script)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"{what}: not within {seconds} s; status '{self.js('return document.body.innerText')[:400]}'")

    def keys(self, text):
        actions = [{"type": t, "value": k} for k in text for t in ("keyDown", "keyUp")]
        self.ask("POST", f"/session/{self.session}/actions", {"actions": [{"type": "key", "id": "k", "actions": actions}]})

    def click(self, css):
        self.js("document.querySelector(arguments[0]).click()", css)

    def size(self, width, height):
        self.ask("POST", f"/session/{self.session}/window/rect", {"width": width, "height": height})

    def shot(self, name):
        folder = os.environ.get("KITH_SHOTS")
        if folder:
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, name + ".png"), "wb") as f:
                f.write(base64.b64decode(self.ask("GET", f"/session/{self.session}/screenshot")))

    def complaints(self):
        logs = self.ask("POST", f"/session/{self.session}/se/log", {"type": "browser"})
        return [e["message"] for e in logs if e["level"] == "SEVERE"]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        try:
            self.ask("DELETE", f"/session/{self.session}")
        except (OSError, AssertionError):
            pass
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.profile, ignore_errors=True)


DOWN, UP, ENTER, ESC = "\ue015", "\ue013", "\ue007", "\ue00c"
HITS = "document.querySelectorAll('#results .hit').length"


def type_query(b, text):
    b.js("document.activeElement.blur()")
    b.keys("/")
    check(b.js("return document.activeElement.id") == "q", "/ goes to the search box")
    b.keys(text)


@case
def a_person_searches():
    with Browser() as b, Kith() as k:
        for r in k.batch(POSTS):
            check("error" not in r, str(r))
        k.post(POSTS[0])
        url = f"http://127.0.0.1:{k.port}/"
        b.go(url)
        b.until("document.querySelector('#empty button') !== null", "the start")
        check(b.js("return document.querySelector('#more').offsetParent === null"), "more results are offered at the start")
        b.shot("1-start")
        b.until("document.querySelector('#totals').textContent.includes('posts')", "totals")
        type_query(b, "unsolicited mail")
        b.until(HITS + " > 0", "results as one types")
        check(b.until("document.querySelector('#results mark') && document.querySelector('#results mark').textContent", "a mark") != "", "marks")
        b.shot("2-results")
        # No post is HTML.
        check(b.js("return document.title") == "kith", "a post's text ran as HTML")
        check(b.js("return document.querySelectorAll('#results img, #results i').length") == 0, "a post's tags became elements")
        # Keys: down, up, enter into the thread, escape back.
        b.keys(DOWN)
        check(b.js("return document.activeElement.tagName") == "ARTICLE", "arrow down goes to the first result")
        b.keys(DOWN + UP)
        first = b.js("return document.activeElement.closest('li').dataset.id")
        b.keys(ENTER)
        b.until("document.querySelector('.here')", "the thread")
        b.shot("3-thread")
        check(b.js("return document.querySelector('.here').dataset.id") == first, "the thread shows the post")
        b.keys(ESC)
        b.until("document.querySelector('#crumb').hidden && " + HITS + " > 1", "back to the results")
        # Why and similar.
        b.click("#results .why")
        rows = b.until("document.querySelector('#results .explain table') && document.querySelector('#results .explain').innerText", "why")
        check("score" in rows and "words" in rows, rows)
        b.shot("4-why")
        b.click("#results .similar")
        b.until("location.search.includes('similar=') && " + HITS + " > 0", "similar")
        b.click("#back")
        b.until("!location.search.includes('similar=')", "back")
        check(not b.complaints(), str(b.complaints()))


@case
def filters_pages_and_links():
    with Browser() as b, Kith() as k:
        k.batch(POSTS)
        k.post(POSTS[0])
        url = f"http://127.0.0.1:{k.port}/"
        b.go(url + "?q=mail&channel=ops")
        b.until(HITS + " == 20", "a full page of the channel")
        check(not b.js("return document.querySelector('#filters').hidden"), "filters of the address are shown")
        b.click("#more")
        b.until(HITS + " == 40", "the second page")
        b.click("#more")
        b.until(HITS + " == 45", "the third")
        ids = b.js("return [...document.querySelectorAll('.hit')].map(h => h.dataset.id)")
        check(len(set(ids)) == 45, "a result came twice")
        check(b.js("return document.querySelector('#more').offsetParent === null"), "more results are offered at the end")
        b.click("#clear")
        b.until("!location.search.includes('channel') && " + HITS + " == 20", "cleared")
        b.go(url + "?q=Gr%C3%BC%C3%9Fe+mail")
        b.until(HITS + " > 0", "umlauts")
        marks = b.until("[...document.querySelectorAll('mark')].map(m => m.textContent)", "marks")
        check(all(re.fullmatch(r"(?i)gr(ü|u)(ß|ss)e|mail", m) for m in marks), f"marks off their words: {marks}")
        b.go(url + "?q=from%3Anobody+mail")
        b.until("document.querySelector('#status').textContent.includes('Nothing')", "the empty state")
        b.shot("5-empty")


@case
def phone_dark_and_dead_server():
    with Browser() as b:
        with Kith() as k:
            k.batch(POSTS)
            k.post(POSTS[0])
            b.size(390, 800)
            b.go(f"http://127.0.0.1:{k.port}/?q=mail")
            b.until(HITS + " > 0", "results")
            check(b.js("return document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the phone")
            b.click("#theme")
            before = b.js("return getComputedStyle(document.body).backgroundColor")
            b.shot("6-phone-dark")
            b.click("#theme")
            check(b.js("return getComputedStyle(document.body).backgroundColor") != before, "the theme changes")
            # Every control has a name that a screen reader can say.
            nameless = b.js("""return [...document.querySelectorAll('button,input,select,a')].filter(e => e.offsetParent &&
              !(e.innerText || e.getAttribute('aria-label') || (e.labels && e.labels.length))).length""")
            check(nameless == 0, f"{nameless} controls without a name")
        type_query(b, "x")
        text = b.until("!document.querySelector('#problem').hidden && document.querySelector('#problem').textContent", "the error")
        check("cannot be reached" in text, text)
        b.shot("7-error")


@case
def the_status_page():
    with Browser() as b, Kith() as k:
        k.batch(POSTS)
        k.post(POSTS[0])
        for i in range(60):
            k.search(q=f"mail {i % 9}", mode=("", "words", "meaning")[i % 3])
        k.call("GET", "/v1/search?q=mail", headers={"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
        b.size(1100, 1000)
        b.go(f"http://127.0.0.1:{k.port}/status")
        b.until("document.querySelectorAll('#stages tr').length == 8", "stages")
        b.until("document.querySelectorAll('.chart path[d]').length == 8", "charts")
        b.until("document.querySelector('#state').textContent.includes('searches since')", "the state")
        b.until("document.querySelector('#trace-list details')", "traces")
        b.js("document.querySelector('#trace-list details').open = true")
        check("search." in b.js("return document.querySelector('#trace-list').textContent"), "spans of a search")
        check(b.js("return document.documentElement.scrollWidth <= innerWidth"), "the page is wider than its window")
        b.shot("8-status")
        b.size(390, 800)
        check(b.js("return document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the phone")
        check(not b.complaints(), str(b.complaints()))


main()
