"""Other CPUs: everything compiles for them, the unit tests pass there under qemu-user, and a stripped
daemon is small enough for a router's flash.

CI builds for s390x, which is big-endian and whose char has no sign, with less optimizing.  `make
test-cross` sets CROSS_TARGETS to the others too, and CROSS_ALL: as it is shipped, its size, and the
slow unit tests as well.
"""
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess

import pytest

from base import BUILD, TOP

TARGETS = os.environ.get("CROSS_TARGETS", "s390x-linux-gnu").split()
EVERYTHING = os.environ.get("CROSS_ALL") == "1"
DAEMONS = "nodemanager", "node", "apptracker", "gatewayd", "subscriberd"
STRIPPED_MAX = 400 * 1000
# Past the limit, and not to grow further without a look (docs/building.md).
STRIPPED_MAX_OF = {
    ("s390x-linux-gnu", "gatewayd"): 412 * 1000,
    ("s390x-linux-gnu", "subscriberd"): 449 * 1000,
    ("mipsel-linux-gnu", "gatewayd"): 533 * 1000,
    ("mipsel-linux-gnu", "subscriberd"): 599 * 1000,
}
OPTIMIZE = "OPT=-O2 -g0" if EVERYTHING else "OPT=-O1 -g0"
BUILD_SECONDS, UNIT_SECONDS = 600, 300
JOBS = max(1, min(4, os.cpu_count() or 2))
UNITS = sorted(os.path.basename(p)[:-2] for p in glob.glob(f"{TOP}/tests/unit/test_*.c"))

# What qemu-user does not do, and which tests need it.
NETFILTER = "qemu-user has no NETLINK_NETFILTER"
NETLINK = "qemu-user changes no links, addresses or routes for a program of the other byte order"
SPAWN = "qemu-user makes a fork of vfork, so that posix_spawn cannot tell what failed"
SO_ERROR = "qemu-user leaves the number of SO_ERROR as it is here, and MIPS has others"
LOCALE = "the library has this machine's locale, of the other byte order"
PROGRAMS = {
    "test_child": SPAWN,
    "test_helper": SPAWN,
    "test_hostjournal": NETLINK,
    "test_netlink": NETLINK,
    "test_nft": NETFILTER,
    "test_sandbox": "a filter of this machine's calls would be one of qemu-user's own",
    "test_tunnel_link": NETLINK,
    "test_tunnel_mesh": NETLINK,
}
CASES = {
    ("test_hook", "test_order_and_failures"): SPAWN,
    ("test_hook", "test_several_at_once"): SPAWN,
    ("test_meshctl", "test_wide_table"): LOCALE,
    ("test_meshtun", "test_super_packets"): NETLINK,
    ("test_meshtun", "test_adopted"): NETLINK,
    ("test_scan_exchange", "test_bad_manners"): SPAWN,
    ("test_scan_exchange", "test_batctl"): SPAWN,
}
# Of one target.
CASES_OF = {("mipsel-linux-gnu", "test_jsonrpc_http", "test_client_nowhere"): SO_ERROR}
# What takes more than 5 s of emulation, and runs natively in each `make test`.
SLOW = ("test_connection", "test_mux", "test_noise", "test_playout", "test_scan_exchange",
        "test_sendstate", "test_transport")


def folder(target):
    return os.path.join(BUILD, target)


def emulator(target):
    return "qemu-" + target.split("-")[0]


def run(argv, seconds, **more):
    return subprocess.run(argv, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", timeout=seconds,
                          check=False, **more)


_built = {}


def build(target):
    """Builds everything once; a machine without the compiler skips."""
    for tool in (f"{target}-gcc", emulator(target)):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    if target not in _built:
        sysroot = run(["etc/sysroot.sh", target, os.path.join("build", "cross", target)], 300)
        _built[target] = "no sysroot: " + sysroot.stdout[-500:] if sysroot.returncode else None
        if not sysroot.returncode:
            made = run(["make", "-s", "-k", f"-j{JOBS}", f"CROSS={target}", f"BUILD={folder(target)}",
                        "SAN=0", OPTIMIZE, "programs", "library", "unit-bins"], BUILD_SECONDS,
                       env={k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS")})
            assert made.returncode == 0, made.stdout[-3000:]
    if _built[target]:
        pytest.skip(_built[target])


def emulate(target, name):
    env = {**os.environ, "QEMU_LD_PREFIX": f"{TOP}/build/cross/{target}",
           "CMOCKA_MESSAGE_OUTPUT": "TAP"}
    try:
        return run([emulator(target), f"{folder(target)}/unit/{name}"], UNIT_SECONDS, env=env)
    except subprocess.TimeoutExpired:
        return None


_results = {}


def unit_results(target):
    """All unit programs, several at a time."""
    build(target)
    if target not in _results:
        names = [n for n in UNITS if n not in PROGRAMS and (EVERYTHING or n not in SLOW)]
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            _results[target] = dict(zip(names, pool.map(lambda n: emulate(target, n), names)))
    return _results[target]


@pytest.mark.parametrize("target", TARGETS)
def test_builds(target):
    build(target)
    with open(f"{folder(target)}/bin/node", "rb") as f:
        start = f.read(6)
    big_endian = target.startswith("s390x")
    assert start[:4] == b"\x7fELF" and start[5] == (2 if big_endian else 1)


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("target", TARGETS)
def test_unit(target, name):
    if name in PROGRAMS:
        pytest.skip(PROGRAMS[name])
    if name in SLOW and not EVERYTHING:
        pytest.skip("takes long under emulation; `make test-cross` runs it")
    done = unit_results(target)[name]
    assert done is not None, f"no end after {UNIT_SECONDS} s"
    verdicts = re.findall(r"^(ok|not ok) \d+ - (\S+)", done.stdout, re.M)
    failed = [case for verdict, case in verdicts if verdict != "ok" and (name, case) not in CASES and
              (target, name, case) not in CASES_OF]
    assert not failed, done.stdout[-3000:]
    assert any(verdict == "ok" for verdict, _ in verdicts), done.stdout[-3000:]
    left_out = [case for verdict, case in verdicts if verdict != "ok"]
    assert done.returncode == len(left_out), done.stdout[-3000:]


@pytest.mark.parametrize("name,case", CASES)
def test_left_out(name, case):
    pytest.skip(CASES[name, case])


@pytest.mark.parametrize("target,name,case", CASES_OF)
def test_left_out_of_one(target, name, case):
    pytest.skip(f"{target}: {CASES_OF[target, name, case]}")


def check_relro(program):
    """What is read-only after relocation ends with a page, so that all of it is protected."""
    segments = re.findall(r"^  (LOAD|GNU_RELRO) +\S+ (\S+) \S+ \S+ (\S+) +(?:R|RW|R E) +(\S+)$",
                          run(["readelf", "-lW", str(program)], 30).stdout, re.M)
    ends = [int(at, 16) + int(size, 16) for kind, at, size, _ in segments if kind == "GNU_RELRO"]
    page = max(int(align, 16) for kind, _, _, align in segments if kind == "LOAD")
    assert len(ends) == 1 and ends[0] % page == 0, segments


@pytest.mark.parametrize("target", ["native"] + TARGETS)
def test_sizes(target, tmp_path):
    programs = os.path.join(BUILD if target == "native" else folder(target), "bin")
    tool = "strip"
    if target != "native" and not EVERYTHING:
        pytest.skip("not built as it is shipped; `make test-cross` does it")
    if target != "native":
        build(target)
        tool = f"{target}-strip"
    elif not os.path.exists(f"{programs}/node"):
        pytest.skip("not built")
    sizes = {}
    for daemon in DAEMONS:
        small = tmp_path / daemon
        assert run([tool, "-o", str(small), f"{programs}/{daemon}"], 30).returncode == 0
        check_relro(small)
        sizes[daemon] = small.stat().st_size
    print(target, sizes)
    large = {d: n for d, n in sizes.items() if n >= STRIPPED_MAX_OF.get((target, d), STRIPPED_MAX)}
    assert not large, f"stripped, of {target}: {sizes}"
