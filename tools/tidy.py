#!/usr/bin/env python3
"""tidy: the rules of the tree that a machine can hold.

    tidy.py [--root DIR]        prints each finding as FILE:LINE: RULE: what; exit 1 when there are any

Rules, over src/:
  layer    a module includes only the modules that its line in tools/layers.txt names
  public   another module is included by its public header only (below), or by its test helpers
  foreign  a foreign header is seen by its one home
  banned   calls with a better twin in base/ or os/
  size     functions: FUNCTION_LINES, COMPLEXITY, PARAMETERS; files: FILE_LINES; code lines: COLUMNS
  essay    every .c begins with a comment of ESSAY_LINES lines or more (a test: 1)
    twins    every x.c has a test beside it, of its own or of its first word, or its module has one
tools/tidy.allow lists "RULE FILE[:FUNCTION]" that are known; a line that no longer fires is a finding
too, so the list can only shrink.
"""
import os
import re
import sys

FUNCTION_LINES, COMPLEXITY, PARAMETERS, FILE_LINES, COLUMNS, ESSAY_LINES = 70, 15, 6, 1200, 100, 2
KERNEL_PARAMETERS = 10
KERNELS = {"vec", "encode", "index"}
BANNED = {
    "malloc": "mem_alloc", "calloc": "mem_zalloc", "realloc": "mem_realloc", "free": "mem_free",
    "strcpy": "str_*", "strcat": "strbuf_*", "strncpy": "str_*", "strtok": "str_split", "sprintf": "snprintf",
    "vsprintf": "vsnprintf", "gets": "lines_*", "atoi": "str_to_i64", "atol": "str_to_i64", "atof": "str_to_f64",
    "sscanf": "str_to_*", "rand": "rng_*", "srand": "rng_*", "alloca": "arena_alloc", "setjmp": "err",
    "longjmp": "err", "assert": "KITH_ASSERT", "localtime": "time_format", "gettimeofday": "clock_*",
}
BANNED_HOME = {"base", "os"}
FOREIGN = {
    "sqlite3.h": {"store"}, "uv.h": {"net"}, "nghttp2/": {"net"}, "curl/": {"net"}, "openssl/": {"net"}, "yyjson.h": {"base"},
    "immintrin.h": {"vec"}, "arm_neon.h": {"vec"}, "pthread.h": {"os"}, "sys/socket.h": {"net"},
    "zlib.h": {"ingest", "role"}, "zstd.h": {"archive"},
}
# Headers that other modules may include, beside module/module.h.
PUBLIC = {
    "base": None, "os": None, "vec": None,
    "index": {"index", "hnsw", "flat", "lexical", "attrs", "analyze"},
    "obs": {"obs", "metrics", "catalog", "trace", "export"}, "net": {"net", "client", "sign"}, "api": {"api", "diary", "keys", "json_map"}, "journal": {"journal"}, "seal": {"seal", "keyring"},
}
SPECIAL = re.compile(r"_(test|fuzz|bench)(_util)?\.[ch]$")
SPLIT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def read_layers(path):
    allowed = {}
    for line in open(path):
        line = line.split("#")[0].strip()
        if not line:
            continue
        name, _, below = line.partition(":")
        for other in below.split():
            if other not in allowed:
                sys.exit(f"{path}: {name} names {other}, which is not above it")
        allowed[name] = set(below.split())
    return allowed


class File:
    def __init__(self, root, rel, allowed, out):
        self.rel, self.out, self.allowed = rel, out, allowed
        self.module, self.name = rel.split("/")[1], os.path.basename(rel)
        self.text = open(os.path.join(root, rel), encoding="utf-8").read()
        self.code = SPLIT.sub(blank, self.text)
        self.special = bool(SPECIAL.search(self.name)) or self.name.endswith("_testing.h")

    def add(self, line, rule, what, key=None):
        self.out.append((rule, self.rel + (":" + key if key else ""), f"{self.rel}:{line}: {rule}: {what}"))

    def includes(self):
        for number, line in enumerate(self.text.split("\n"), 1):
            match = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
            if not match:
                continue
            quote, header = match.groups()
            if quote == '"':
                self.own(number, header)
            for prefix, homes in FOREIGN.items():
                if header.startswith(prefix) and self.module not in homes and not self.special:
                    self.add(number, "foreign", f"{header} belongs to {', '.join(sorted(homes))}")

    def own(self, number, header):
        module, _, name = header.partition("/")
        if not name or module == self.module:
            return
        if module not in self.allowed.get(self.module, ()) and not self.special:
            self.add(number, "layer", f"{self.module} may not include {header}")
        public = PUBLIC.get(module, {module})
        if public is not None and name.removesuffix(".h") not in public and not self.special:
            self.add(number, "public", f"{header} is private to {module}/")

    def banned(self):
        if self.module in BANNED_HOME or self.special:
            return
        for number, line in enumerate(self.code.split("\n"), 1):
            for match in re.finditer(r"(?<![\w.>])(\w+)\s*\(", line):
                if match.group(1) in BANNED:
                    self.add(number, "banned", f"{match.group(1)}: use {BANNED[match.group(1)]}", match.group(1))

    def shape(self):
        lines = self.text.split("\n")
        if len(lines) > FILE_LINES and not self.special:
            self.add(len(lines), "size", f"{len(lines)} lines, at most {FILE_LINES}")
        for number, line in enumerate(self.code.split("\n"), 1):
            if len(line.rstrip()) > COLUMNS:
                self.add(number, "size", f"{len(line.rstrip())} columns")
        if self.name.endswith(".c"):
            head = re.match(r"\s*/\*.*?\*/", self.text, re.S)
            have, need = head.group().count("\n") + 1 if head else 0, 1 if self.special else ESSAY_LINES
            if have < need:
                self.add(1, "essay", f"opening comment of {have} lines, expected {need}")

    def functions(self, lizard):
        for f in lizard.analyze_file.analyze_source_code(self.rel, self.text).function_list:
            length = f.end_line - f.start_line + 1
            most = KERNEL_PARAMETERS if self.module in KERNELS else PARAMETERS
            if length > FUNCTION_LINES or f.cyclomatic_complexity > COMPLEXITY or len(f.parameters) > most:
                self.add(f.start_line, "size", f"{f.name}: {length} lines, complexity {f.cyclomatic_complexity}, "
                         f"{len(f.parameters)} parameters", f.name)


def main():
    root = sys.argv[2] if len(sys.argv) == 3 and sys.argv[1] == "--root" else os.path.join(os.path.dirname(__file__), "..")
    try:
        import lizard
    except ImportError:
        lizard = None
    allowed, out, tested, sources = read_layers(os.path.join(root, "tools/layers.txt")), [], set(), []
    for folder, _, names in sorted(os.walk(os.path.join(root, "src"))):
        for name in sorted(names):
            if not name.endswith((".c", ".h")):
                continue
            file = File(root, os.path.relpath(os.path.join(folder, name), root), allowed, out)
            file.includes(), file.banned(), file.shape()
            if lizard:
                file.functions(lizard)
            if name.endswith("_test.c"):
                tested.add(file.module)
            elif name.endswith(".c"):
                sources.append(file)
    for file in sources:
        if file.module not in tested:
            file.add(1, "twins", f"module {file.module} has no test")
    path = os.path.join(root, "tools/tidy.allow")
    known = set(open(path).read().split("\n")) - {""} if os.path.exists(path) else set()
    fresh = [o for o in out if f"{o[0]} {o[1]}" not in known]
    stale = known - {f"{o[0]} {o[1]}" for o in out}
    for o in fresh:
        print(o[2])
    for line in sorted(stale):
        print(f"tools/tidy.allow: stale: {line}")
    print(f"tidy: {len(fresh)} findings, {len(known)} allowed, {len(stale)} stale"
          + ("" if lizard else " (function sizes not looked at: no lizard)"))
    sys.exit(1 if fresh or stale else 0)


main()
