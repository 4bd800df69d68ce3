#!/usr/bin/python3
"""Runs the scenarios in one virtual machine: tests/vm/run.py [-v] [SCENARIO...]

Prints what tests/run reads: a line `PASSED|FAILED|SKIPPED NAME [REASON]` for each test, after the
output of scenarios that failed (with -v, of all).  Ends with status 1 when a test failed.
"""
import os
import re
import sys

from scenarios import SCENARIOS
from vm import TOP, Image, Kernel, Unavailable

BUILD = os.path.join(TOP, os.environ.get("BUILD") or "build")
BIN = os.environ.get("MESHNET_BIN") or os.path.join(BUILD, "bin")
CPU_SECONDS, TIMEOUT_S = 600, 1500  # two minutes of an idle machine's, which a busy one has not at once
MODULES = ("veth", "bridge", "tun", "dummy", "vxlan", "inet_diag", "tcp_diag", "udp_diag",
           "net/netfilter/nf.*", "net/ipv4/netfilter/nf_.*", "net/ipv6/netfilter/nf_.*")
PROGRAMS = ("ip", "bridge", "ss", "nft", "ping", "setpriv", "sysctl")
PYTEST = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "attr", "attrs", "py", "py.py")


def add_scenario(image, s):
    """Its files go into the image; Unavailable says why it cannot run."""
    missing = [m for m in s.modules if not image.kernel.has(m)]
    if missing:
        raise Unavailable(f"the kernel {image.kernel.version} has no {', '.join(missing)}")
    for name in s.daemons:
        image.program(os.path.join(BIN, name), f"/m/build/bin/{name}")
    for name in s.programs:
        image.program(name)
    image.modules(*s.modules)
    variables = " ".join(f"{k}='{v}'" for k, v in {
        **s.environment, "PYTHONDONTWRITEBYTECODE": "1", "MESHNET_BIN": "build/bin"}.items())
    # Modules that make links of their own do so before the tests look at what is there.
    load = "".join(f"modprobe {m}; " for m in s.modules)
    select = f"-k '{s.select}'" if s.select else ""
    return s.name, (f"{load}{variables} python3 -m pytest -q -rA --color=no --durations=15 "
                    f"-p no:cacheprovider --tb=short {select} tests/lab/{s.tests}")


def results(name, status, text):
    """(verdict, test, reason) of each test in pytest's summary."""
    found = []
    for verdict, test, reason in re.findall(
            r"^(PASSED|FAILED|ERROR|SKIPPED) (?:\[\d+\] )?(\S+?)(?:: \d+: | - |$)(.*)", text, re.M):
        test = f"vm {name} {test.rsplit('::', 1)[-1]}"
        found.append(("FAILED" if verdict == "ERROR" else verdict, test, reason.strip()))
    if status != 0 and not any(v == "FAILED" for v, _, _ in found):
        found.append(("FAILED", f"vm {name}", "no end" if status is None else f"status {status}"))
    return found


def say(verdict, test, reason=""):
    print(f"{verdict} {test} {reason}".rstrip(), flush=True)


def main():
    names = [a for a in sys.argv[1:] if a != "-v"]
    wanted = [s for s in SCENARIOS if not names or s.name in names]
    folder = os.path.join(BUILD, "vm")
    commands, failed = [], False
    try:
        image = Image(Kernel.find(folder), folder)
        for name in PROGRAMS:
            image.program(name)
        image.python(*PYTEST)
        image.modules(*MODULES)
        image.modules("crc32c_generic", load=True)  # nf_tables and batman-adv want it of libcrc32c
        image.file(os.path.join(TOP, "tests", "lab"), "/m/tests/lab")
        for s in wanted:
            try:
                commands.append(add_scenario(image, s))
            except Unavailable as e:
                say("SKIPPED", f"vm {s.name}", str(e))
        reached = set()
        for name, status, seconds, text in image.run(commands, CPU_SECONDS, TIMEOUT_S) if commands else ():
            reached.add(name)
            print(f"# {name}: {seconds:.1f} s", flush=True)
            found = results(name, status, text) if name != "boot" else []
            if status != 0 or "-v" in sys.argv:
                print(text, flush=True)
            if status != 0:
                failed = True
                found = found or [("FAILED", f"vm {name}", f"status {status}")]
            for verdict in found:
                say(*verdict)
        for name, _ in commands:
            if name not in reached:
                say("FAILED", f"vm {name}", "not reached")
    except Unavailable as e:
        for s in wanted:
            say("SKIPPED", f"vm {s.name}", str(e))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
