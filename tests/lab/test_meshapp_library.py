"""libmeshapp as others get it: installed, compiled against from outside the tree, and run."""
import os
import re
import shutil
import subprocess
import time

import pytest

import lab as tools
from lab import Process, sh, wait

MANY, NODE = 2000, "127.0.0.1:17000"
LIBRARY = os.path.join(tools.TOP, "apps", "libmeshapp")
EXAMPLE = os.path.join(tools.TOP, "docs", "example-app.c")
STRICT = ("-std=c17", "-Wall", "-Wextra", "-Wconversion", "-Werror")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """`make install` to a place of its own."""
    if os.environ.get("SAN") == "1":
        pytest.skip("the library is not built with the sanitizers")
    top = str(tmp_path_factory.mktemp("installed"))
    sh("make", "-s", "install", f"PREFIX={top}/usr", cwd=tools.TOP, timeout=300)
    return f"{top}/usr"


def flags(prefix, *want):
    env = {**os.environ, "PKG_CONFIG_PATH": f"{prefix}/lib/pkgconfig"}
    return sh("pkg-config", *want, "meshapp", env=env).split()


def compile_app(prefix, source, *extra, static=False):
    """Compiled and linked in the folder of the installation, as a stranger would."""
    out = os.path.join(prefix, os.path.basename(source)[:-2] + ("-static" if static else ""))
    copy = os.path.join(prefix, os.path.basename(source))
    shutil.copy(source, copy)
    options = flags(prefix, "--cflags", *(["--static"] if static else []), "--libs")
    if static:
        options = [f"{prefix}/lib/libmeshapp.a" if o == "-lmeshapp" else o for o in options]
    sh("cc", *STRICT, copy, *options, *extra, f"-Wl,-rpath,{prefix}/lib", "-o", out, cwd=prefix)
    return out


@pytest.fixture(scope="module")
def mesh(overlay, prefix):
    overlay.prefix_dir = prefix
    return overlay


def start(mesh, ns, name, *argv):
    p = Process(mesh, mesh[ns], f"{ns}-{name}", argv)
    mesh.processes.append(p)
    return p


def public_functions(text):
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    return set(re.findall(r"^(?!typedef)[\w ]+[ *](mesh\w+)\(", text, re.M))


def test_exports_are_the_header_s_functions(prefix):
    with open(f"{prefix}/include/meshapp.h", encoding="utf-8") as f:
        wanted = public_functions(f.read())
    for nm in (("-D", f"{prefix}/lib/libmeshapp.so"), ("-g", f"{prefix}/lib/libmeshapp.a")):
        found = re.findall(r" [TDBR] (\w+)", sh("nm", "--defined-only", *nm))
        assert set(found) == wanted and len(wanted) > 40
    assert "libmeshapp.so.0" in sh("readelf", "-d", f"{prefix}/lib/libmeshapp.so")


@pytest.mark.parametrize("compiler", [("cc", "-x", "c", "-std=c99", "-pedantic"), ("c++", "-x", "c++")])
def test_header_stands_alone(prefix, compiler):
    if not shutil.which(compiler[0]):
        pytest.skip(f"no {compiler[0]}")
    subprocess.run([*compiler, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I",
                    f"{prefix}/include", "-include", "meshapp.h", "-"], input=b"", check=True)


def test_uninstalled(prefix):
    build = os.path.dirname(tools.bin_dir())
    env = {**os.environ, "PKG_CONFIG_PATH": build}
    options = sh("pkg-config", "--cflags", "--libs", "meshapp", env=env).split()
    sh("cc", *STRICT, EXAMPLE, *options, "-o", f"{prefix}/example-uninstalled")


def test_man_page(prefix):
    assert os.path.exists(f"{prefix}/share/man/man3/libmeshapp.3")
    with open(os.path.join(LIBRARY, "libmeshapp.3"), encoding="utf-8") as f:
        page = f.read()
    with open(os.path.join(LIBRARY, "include", "meshapp.h"), encoding="utf-8") as f:
        header = f.read()
    for name in re.findall(r"^\.Fn (\w+)", page, re.M):
        assert re.search(rf"\b{name}\(", header), name
    for errno in set(re.findall(r"-(E[A-Z]+)\b", header)):
        assert f".It Bq Er {errno}\n" in page, errno


@pytest.mark.parametrize("static", [False, True])
def test_example(mesh, static):
    with open(EXAMPLE, encoding="utf-8") as f:
        assert len(f.readlines()) <= 60
    program = compile_app(mesh.prefix_dir, EXAMPLE, static=static)
    assert ("libmeshapp" in sh("ldd", program)) == (not static)
    server = start(mesh, "gw1", f"example-{static}", program, NODE)
    wait(lambda: "capitals" in mesh.meshctl("mgr", "apps"), 10, "the server is listed")
    assert mesh["sub"].run(program, NODE, "good", "morning") == "GOOD\nMORNING\n"
    server.kill()
    wait(lambda: "capitals" not in mesh.meshctl("mgr", "apps"), 10, "and no longer")
    failed = subprocess.run(["ip", "netns", "exec", mesh["sub"].full, program, NODE, "x"],
                            capture_output=True, text=True, timeout=30, check=False)
    assert failed.returncode == 1 and "No such file" in failed.stderr


def test_thousands_of_connections_and_a_node_that_goes(mesh):
    program = compile_app(mesh.prefix_dir, os.path.join(tools.TOP, "tests", "lab", "manyconn.c"),
                          "-levent_core")
    start(mesh, "gw2", "echo", os.path.join(tools.bin_dir(), "echo"), "server", "--id", "many")
    wait(lambda: "many" in mesh.meshctl("mgr", "apps"), 10, "the echo server is listed")
    app = start(mesh, "r1", "manyconn", program, NODE, "many", MANY)
    began = time.monotonic()
    app.wait_log(rf"^all {MANY}$", 60)
    print(f"{MANY} connections: {time.monotonic() - began:.2f} s, {app.rss_kb()} kB")
    assert app.rss_kb() < 60_000
    mesh.d["r1-node"].kill()
    app.wait_log(rf"^ended {MANY} code lost \w+", 15)
    app.wait_log(r"^down \w+", 15)
    mesh.d["r1-node"].start()
    wait(lambda: app.log().count(f"all {MANY}\n") == 2, 90, "all are made again")
    assert re.findall(r"^(up|down|all)", app.log(), re.M) == ["up", "all", "down", "up", "all"]
    assert "bad" not in app.log()


def test_calls_that_wait(mesh):
    program = compile_app(mesh.prefix_dir, os.path.join(tools.TOP, "tests", "lab", "synccheck.c"))
    start(mesh, "gw1", "sync-echo", os.path.join(tools.bin_dir(), "echo"), "server", "--id", "back")
    wait(lambda: "back" in mesh.meshctl("mgr", "apps"), 10, "the echo server is listed")
    app = start(mesh, "sub", "synccheck", program, NODE, "back")
    app.wait_log(r"^ready$|^line", 60)
    assert "ready" in app.log(), app.log()
    mesh.d["sub-node"].kill()
    mesh.d["sub-node"].start()
    assert app.popen.wait(60) == 0, app.log()
    assert "done" in app.log()
