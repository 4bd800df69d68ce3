"""`make install` and `make uninstall`, with what they install: programs, pages, completion."""
import os
import re
import shutil
import subprocess

import pytest

from base import BUILD, TOP

DAEMONS = ["apptracker", "gatewayd", "node", "nodemanager", "subscriberd"]
APPS = ["echo", "socks-client", "socks-server", "vpn-client", "vpn-server"]
PROGRAMS = [f"meshnet-{p}" for p in DAEMONS + APPS] + ["meshctl"]
# What `--check` wants besides the example, which names neither.
CHECK_MORE = {"meshnet-vpn-client": ["--to", "vpn"], "meshnet-vpn-server": ["--subnet", "10.200.0.0/24"]}


def make(folder, target):
    subprocess.run(["make", "-s", "--no-print-directory", target, f"DESTDIR={folder}", "PREFIX=/usr",
                    f"BUILD={BUILD}"], cwd=TOP, check=True, env={**os.environ, "MAKEFLAGS": ""})


def tree(folder):
    return sorted(os.path.relpath(os.path.join(d, name), folder)
                  for d, _, names in os.walk(folder) for name in names)


@pytest.fixture(scope="module", name="dest")
def installed(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("dest"))
    make(folder, "install")
    return folder


def run(argv, **more):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, check=False, **more)


def program(dest, name, *args):
    return run([f"{dest}/usr/bin/{name}", *args])


def page_of(dest, name):
    found = [os.path.join(d, f) for d, _, names in os.walk(f"{dest}/usr/share/man") for f in names
             if f.rsplit(".", 1)[0] == name]
    assert len(found) == 1, (name, found)
    return found[0]


def rendered(path):
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    done = run(["mandoc", "-Tascii", "-O", "width=200", path])
    assert done.returncode == 0, done.stdout
    return re.sub(".\x08", "", done.stdout)


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(dest, name):
    version = program(dest, name, "--version")
    assert version.returncode == 0 and re.search(r" \d+\.\d+\.\d+$", version.stdout.strip()), version.stdout
    if name in ("meshctl", "meshnet-echo"):
        return
    example = f"{dest}/usr/share/doc/meshnet/meshnet-example.cfg"
    check = program(dest, name, "-f", example, "--check", *CHECK_MORE.get(name, []))
    assert check.returncode == 0, check.stdout


def words_of_help(text):
    """Options, sections, and (of meshctl) commands that a --help names."""
    head = text.split("\nSIGHUP reads")[0]
    words = set(re.findall(r"(?:^|[][ ,|])(--?[a-z][a-z0-9]*)", head, re.M))
    words |= set(re.findall(r"^(\[\w+\])$", text, re.M))
    if "\nCommands:\n" in text:
        commands = text.split("\nCommands:\n")[1].split("\n\n")[0]
        words |= set(re.findall(r"^  ([a-z-]+)", commands, re.M))
    return words


@pytest.mark.parametrize("name", PROGRAMS)
def test_page_names_every_option(dest, name):
    wanted = words_of_help(program(dest, name, "--help").stdout)
    assert {"--version", "--help"} < wanted
    text = rendered(page_of(dest, name))
    missing = [w for w in sorted(wanted) if not re.search(r"(?<![\w-])" + re.escape(w) + r"(?![\w-])", text)]
    assert not missing, missing


def test_page_of_the_configuration_names_every_key(dest):
    with open(f"{TOP}/common/io/config_keys.def", encoding="utf-8") as f:
        keys = re.findall(r'^(?:STR|CHOICE|ADDRS?|HOST|NETS|PUBKEY|U64|BOOL)\((\w+), \w+, "(\w+)"', f.read(), re.M)
    assert len(keys) > 200
    text = rendered(page_of(dest, "meshnet.cfg"))
    found, section = set(), None
    for line in text.splitlines():
        if re.fullmatch(r"   \[\w+\]", line):
            section = line.strip(" []")
        elif re.match(r"     \w+ =", line) and section:
            found.add((section, line.split()[0]))
    assert found == set(keys)


def test_pages_are_sound(dest):
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    pages = [os.path.join(d, f) for d, _, names in os.walk(f"{dest}/usr/share/man") for f in names]
    assert len(pages) == len(PROGRAMS) + 2  # and meshnet.cfg, libmeshapp
    done = run(["mandoc", "-Tlint", "-W", "warning", *pages])
    assert done.returncode == 0 and not done.stdout, done.stdout


# Pages may name what other packages have, and each other.
def test_pages_refer_to_pages(dest):
    ours = set(tree(f"{dest}/usr/share/man"))
    for path in ours:
        with open(f"{dest}/usr/share/man/{path}", encoding="utf-8") as f:
            for name, section in re.findall(r"^\.Xr (\S+) (\d)", f.read(), re.M):
                if name.startswith(("mesh", "libmesh")):
                    assert f"man{section}/{name}.{section}" in ours, (path, name)


BASH = """PATH=$1/usr/bin:$PATH; . "$1/usr/share/bash-completion/completions/$2"
COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2)); compopt() { :; }
_meshnet "$2" "${!#}" "${@:$#-1:1}"; printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("line, wanted, unwanted", [
    ("meshnet-node --", {"--check", "--help", "--version"}, {"-f"}),
    ("meshnet-node -o node.N", {"node.Name="}, {"node.Token="}),
    ("meshnet-subscriberd -", {"-f", "-o", "-d", "--cleanup"}, {"-g"}),
    ("meshnet-vpn-server --s", {"--subnet", "--subnet6"}, {"--help"}),
    ("meshnet-echo c", {"client"}, {"server"})])
def test_bash_completion(dest, line, wanted, unwanted):
    done = run(["bash", "-c", BASH, "bash", dest, *line.split()])
    found = set(done.stdout.split())
    assert wanted <= found and not unwanted & found, done.stdout


# compadd is a builtin that only works inside of the line editor: a function stands in for it.
ZSH = """PATH=$1/usr/bin:$PATH; words=("${@:2}") CURRENT=$(($# - 1))
compadd() { print -rl -- "${found[@]}" }
. $1/usr/share/zsh/site-functions/_meshnet
"""


def test_zsh_completion(dest):
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    done = run(["zsh", "-fc", ZSH, "zsh", dest, "meshnet-vpn-server", "-"])
    assert {"--subnet6", "-f", "--check"} <= set(done.stdout.split()), done.stdout
    done = run(["zsh", "-fc", ZSH, "zsh", dest, "meshnet-node", "-o", ""])
    assert {"node.Name=", "transport.LivenessTimeout="} <= set(done.stdout.split()), done.stdout
    with open(f"{dest}/usr/share/zsh/site-functions/_meshnet", encoding="utf-8") as f:
        assert set(f.readline().split()[1:]) == set(PROGRAMS) - {"meshctl"}


def test_uninstall_takes_just_that(dest):
    foreign = "usr/share/doc/meshnet/notes-of-mine"
    with open(os.path.join(dest, foreign), "w", encoding="ascii") as f:
        f.write("mine\n")
    assert len(tree(dest)) > 40
    make(dest, "uninstall")
    assert tree(dest) == [foreign]
    os.remove(os.path.join(dest, foreign))
    make(dest, "install")
    make(dest, "uninstall")
    assert not tree(dest) and not os.path.exists(f"{dest}/usr/share/doc/meshnet")
