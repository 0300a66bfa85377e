#!/usr/bin/env python3
"""Bakes files into a C array of api_file.

    bake.py --name ui_files --out ui_files.gen.c [--depfile F] DIR
    bake.py --name openapi_file --out X.c FILE=/openapi.json

A directory gives all its files, by their path below it: ui/index.html becomes /index.html. Hidden
files are left out. The etag is the start of the SHA-256.
"""
import argparse
import hashlib
import os
import sys

TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
         ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon", ".webp": "image/webp",
         ".woff2": "font/woff2", ".json": "application/json", ".txt": "text/plain; charset=utf-8",
         ".webmanifest": "application/manifest+json", ".wasm": "application/wasm"}


def collect(source):
    """[(path served, file)] and the directories looked into."""
    if "=" in source:
        file, path = source.split("=", 1)
        return [(path, file)], []
    found, dirs = [], []
    for here, names, files in os.walk(source):
        names[:] = sorted(n for n in names if not n.startswith("."))
        dirs.append(here)
        for f in sorted(files):
            if not f.startswith(".") and os.path.splitext(f)[1] in TYPES:
                full = os.path.join(here, f)
                found.append(("/" + os.path.relpath(full, source).replace(os.sep, "/"), full))
    return found, dirs


def write(out, name, items):
    out.write("/* Made by tools/bake.py: do not edit. */\n#include \"api/api.h\"\n\n")
    rows = []
    for i, (path, file) in enumerate(items):
        kind = TYPES.get(os.path.splitext(path)[1])
        if not kind or any(c in path for c in "\"\\\n"):
            sys.exit(f"bake: no content type for {path}")
        with open(file, "rb") as f:
            data = f.read()
        out.write(f"static const unsigned char bytes_{i}[] = {{")
        for at in range(0, len(data), 24):
            out.write("\n    " + "".join(f"{b}," for b in data[at:at + 24]))
        out.write(f"{'' if data else '0'}\n}};\n")
        etag = hashlib.sha256(data).hexdigest()[:20]
        rows.append(f'    {{STR_INIT("{path}"), STR_INIT("{kind}"), STR_INIT("\\"{etag}\\""), '
                    f"bytes_{i}, {len(data)}}},\n")
    if not rows:
        rows = ["    {{NULL, 0}, {NULL, 0}, {NULL, 0}, NULL, 0},\n"]
    out.write(f"\nconst api_file {name}[] = {{\n{''.join(rows)}}};\n"
              f"const size_t {name}_count = {len(items)};\n")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--name", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--depfile")
    p.add_argument("sources", nargs="+")
    a = p.parse_args()
    items, dirs = [], []
    for source in a.sources:
        found, looked = collect(source)
        items += found
        dirs += looked
    with open(a.out, "w") as out:
        write(out, a.name, items)
    if a.depfile:
        with open(a.depfile, "w") as f:
            needs = dirs + [file for _, file in items]
            f.write(f"{a.out}: " + " ".join(n.replace(" ", "\\ ") for n in needs) + "\n")


if __name__ == "__main__":
    main()
