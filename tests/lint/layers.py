#!/usr/bin/python3
"""Checks the house rules that a compiler cannot: who may include what, and what may stand where.

base <- wire <- core <- engine are sans-I/O: from them, directly or through any header of ours, only
the plain C headers below may be reached (and libsodium from core up).  No daemon sees another
daemon's headers.  SQL stands in store.c, JSON objects in api.c.  Prints one line a breach.
"""
import os
import re
import sys

DAEMONS = ("nodemanager", "node", "apptracker", "gatewayd", "subscriberd")
PLAIN = set(
    "assert.h ctype.h endian.h errno.h float.h inttypes.h limits.h math.h stdalign.h stdarg.h "
    "stdbool.h stddef.h stdint.h stdio.h stdlib.h stdnoreturn.h string.h strings.h "
    "sys/queue.h sys/types.h".split())
CRYPTO = {"sodium.h", "openssl/evp.h", "openssl/crypto.h"}
# Pure text functions that happen to live in a socket header; a library that comes late.
EXCEPTIONS = {("common/base/addr.c", "arpa/inet.h"): "inet_pton and inet_ntop",
              ("common/core/seal.c", "dlfcn.h"): "libcrypto only where something is sealed",
              ("common/core/seal.c", "sys/auxv.h"): "what the CPU can",
              ("common/core/seal.c", "asm/hwcap.h"): "what the CPU can"}
# What each layer of common/ may include of the others.
LAYERS = {
    "base": ("base",),
    "wire": ("base", "wire"),
    "core": ("base", "wire", "core"),
    "io": ("base", "wire", "core", "io"),
    "tunnel": ("base", "wire", "core", "io", "tunnel"),
    "scan": ("base", "wire", "core", "io", "scan"),
}
SANS_IO = ("base", "wire", "core")
# The pure parts of an app that has no engine.
PURE = ("apps/socks/muxframe.", "apps/socks/mux.", "subscriberd/walk")
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.M)
SQL = re.compile(r'"\s*(SELECT\s|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM'
                 r'|CREATE\s+(TABLE|INDEX|UNIQUE)|DROP\s+TABLE|REPLACE\s+INTO|PRAGMA\s)')
# Handing an object on is fine; looking inside or making one is not.
JSON_SHAPE = re.compile(r'\b(json_object_(new|object|array|get_|is_type)\w*|rpc_set_\w+)\s*\(')
BANNED = re.compile(r'(?<![\w.>])(system|popen|strcpy|strcat|sprintf|vsprintf|gets|strtok|alloca)\s*\(')
AMBIENT = re.compile(r'(?<![\w.>])(clock_gettime|gettimeofday|time|getrandom|arc4random\w*|rand|random'
                     r'|randombytes_\w+|crypto_\w*keypair)\s*\(')
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*', re.S)
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')


def sources():
    for top in ("common", "apps", "meshctl") + DAEMONS:
        for folder, _, names in sorted(os.walk(top)):
            for name in sorted(names):
                if name.endswith((".c", ".h", ".def")):
                    yield os.path.join(folder, name)


class Tree:
    def __init__(self):
        self.text, self.includes, self.breaches = {}, {}, []
        for path in sources():
            with open(path, encoding="utf-8") as f:
                raw = f.read()
            self.text[path] = COMMENT.sub(lambda m: "\n" * m.group().count("\n"), raw)
            self.includes[path] = [
                (kind, name, self.resolve(path, name) if kind == '"' else None)
                for kind, name in INCLUDE.findall(self.text[path])]

    def resolve(self, path, name):
        for folder in (os.path.dirname(path), "common", "apps", "."):
            candidate = os.path.normpath(os.path.join(folder, name))
            if os.path.exists(candidate):
                return candidate
        return None

    def breach(self, path, text, line=None):
        self.breaches.append(f"{path}{':' + str(line) if line else ''}: {text}")

    def line_of(self, path, offset):
        return self.text[path].count("\n", 0, offset) + 1


def layer_of(path):
    parts = path.split("/")
    return parts[1] if parts[0] == "common" and len(parts) > 2 else None


def check_layers(tree):
    for path, includes in tree.includes.items():
        layer, top = layer_of(path), path.split("/")[0]
        for _, name, target in includes:
            if target is None:
                continue
            target_layer, target_top = layer_of(target), target.split("/")[0]
            if layer == "tunnel" and name in ("libmeshapp/meshapp.h", "libmeshapp/meshtun.h"):
                continue  # a method that rides on the mesh is an app
            if layer in LAYERS and target_layer not in LAYERS[layer]:
                tree.breach(path, f"layer '{layer}' may not include {name}")
            if target_top in DAEMONS and target_top != top:
                tree.breach(path, f"includes {name}, a header of another daemon")
            if target_top == "apps" and top == "common":
                tree.breach(path, f"common/ may not include {name} of apps/")


def sans_io_files(tree):
    """base, wire, core, every engine*.c, and whatever of its own folder an engine reaches."""
    found = {p for p in tree.text if layer_of(p) in SANS_IO or p.startswith(PURE)}
    todo = [p for p in tree.text
            if p.split("/")[0] in DAEMONS and os.path.basename(p).startswith("engine")]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found.add(path)
        for _, _, target in tree.includes[path]:
            if target and os.path.dirname(target) == os.path.dirname(path):
                todo.append(target)
        companion = path[:-2] + ".c"
        if path.endswith(".h") and companion in tree.text:
            todo.append(companion)
    return sorted(found)


def check_sans_io(tree):
    for path in sans_io_files(tree):
        layer = layer_of(path)
        allowed = PLAIN | (CRYPTO if layer not in ("base", "wire") else set())
        seen, todo = set(), [(path, "")]
        while todo:
            current, via = todo.pop()
            if current in seen or current not in tree.includes:
                continue
            seen.add(current)
            for kind, name, target in tree.includes[current]:
                if kind == "<" and name not in allowed and (path, name) not in EXCEPTIONS:
                    tree.breach(path, f"is sans-I/O but includes <{name}>{via}")
                elif target and layer_of(target) in ("io", "tunnel", "scan"):
                    tree.breach(path, f"is sans-I/O but includes {name}{via}")
                elif target:
                    todo.append((target, f" through {target}"))
        code = STRING.sub('""', tree.text[path])
        for m in AMBIENT.finditer(code):
            tree.breach(path, f"{m.group(1)}(): time and randomness come in as arguments",
                        tree.line_of(path, m.start()))


def check_places(tree):
    for path, text in tree.text.items():
        top, base = path.split("/")[0], os.path.basename(path)
        is_store = base.startswith("store") or path == "common/io/hostjournal.c"
        if not is_store:
            for m in SQL.finditer(text):
                tree.breach(path, "SQL stands in store.c", tree.line_of(path, m.start()))
            if any(name == "sqlite3.h" for _, name, _ in tree.includes[path]) \
                    and layer_of(path) != "io":
                tree.breach(path, "includes sqlite3.h; only store.c may")
        shape = JSON_SHAPE.search(text)
        if top in DAEMONS and not base.startswith("api") and shape:
            tree.breach(path, "JSON shapes stand in api.c", tree.line_of(path, shape.start()))
        code = STRING.sub('""', text)
        for m in BANNED.finditer(code):
            tree.breach(path, f"{m.group(1)}() is not used here", tree.line_of(path, m.start()))


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    tree = Tree()
    check_layers(tree)
    check_sans_io(tree)
    check_places(tree)
    for breach in sorted(set(tree.breaches)):
        print(breach)
    return 1 if tree.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
