"""What a test must leave as it found it: routes, rules, nftables, interfaces, queues, forwarding,
resolv.conf and processes of a namespace.

    def test_something(lab, unchanged):
        unchanged(lab["sub"])            # as it is now, it has to be again when the test has ended

or, across tests and restarts:

    before = HostState(lab["sub"])
    ...
    before.check()                       # waits a little; AssertionError says what differs
"""
import contextlib
import os
import re
import time

import pytest

import lab as tools

SETTLE_SECONDS = 5


def processes(ns):
    """Command lines of what runs in a namespace, without ours."""
    found = []
    for pid in tools.sh("ip", "netns", "pids", ns.full, check=False).split():
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/stat", "rb") as f:
                if f.read().rsplit(b")", 1)[1].split()[0] == b"Z":
                    continue
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                found.append(f.read().replace(b"\0", b" ").decode(errors="replace").strip())
    return "\n".join(sorted(found))


class Resolv:
    """/etc/resolv.conf of a namespace, as `ip netns exec` shows it to what is started from now on.
    A lab whose daemons set name servers must have one, or they would write the host's own."""

    BEFORE = "# the host's own\nsearch lab\nnameserver 192.0.2.53\n"

    def __init__(self, ns):
        self.folder = f"/etc/netns/{ns.full}"
        os.makedirs(self.folder)
        self.path = os.path.join(self.folder, "resolv.conf")
        with open(self.path, "w", encoding="ascii") as f:
            f.write(self.BEFORE)

    def text(self):
        with open(self.path, encoding="ascii") as f:
            return f.read()

    def remove(self):
        os.unlink(self.path)
        os.rmdir(self.folder)
        with contextlib.suppress(OSError):
            os.rmdir("/etc/netns")  # unless others have something there


def resolv_conf(ns):
    try:
        with open(f"/etc/netns/{ns.full}/resolv.conf", encoding="ascii") as f:
            return f.read()
    except OSError:
        return ""


def host_state(ns):
    """Texts to compare, by what they tell.  Counters are left out: they may go on."""
    state = ns.host_state()
    state["nft"] = re.sub(r"counter packets \d+ bytes \d+", "counter", state["nft"])
    state["addresses"] = tools.strip_volatile(re.sub(r"(?m)^\d+: |valid_lft .*$", "",
                                                     ns.ip("-o", "addr")))
    state["queues"] = tools.strip_volatile(re.sub(r"(?m)^qdisc noqueue .*$", "",
                                                  ns.run("tc", "qdisc", check=False)))
    state["resolv.conf"] = resolv_conf(ns)
    state["processes"] = processes(ns)
    return state


class HostState:
    """A namespace as it is now."""

    def __init__(self, ns, without=()):
        self.ns, self.without = ns, without
        self.before = self.now()

    def now(self):
        return {k: v for k, v in host_state(self.ns).items() if k not in self.without}

    def differences(self):
        after = self.now()
        return [f"{self.ns.name}: {k} changed:\n{tools.difference(self.before[k], after[k])}"
                for k in after if after[k] != self.before[k]]

    def check(self, timeout=SETTLE_SECONDS):
        deadline = time.monotonic() + timeout
        while found := self.differences():
            assert time.monotonic() < deadline, "\n".join(found)
            time.sleep(0.1)


@pytest.fixture
def unchanged():
    """Call it with namespaces: what they are then they must be at the end of the test."""
    watched = []

    def watch(*namespaces, without=()):
        watched.extend(HostState(ns, without) for ns in namespaces)
    yield watch
    for state in watched:
        state.check()
