"""The way between two nodes changes: packets that are too large vanish, it is cut, a node moves; and
the wall clock jumps.  Nobody who uses the mesh notices more than a pause."""
import json
import os
import re
import struct
import subprocess
import time

import pytest

from lab import Lab, LabError, bin_dir, rpc, sh, wait
from topology import MeshLab

MIB = 1 << 20
JUMBO_MTU, JUMBO_PAYLOAD = 9000, 8952
DAY, YEAR = 86400, 365 * 86400


class Way(Lab):
    """a - m - b: nodes at a and b, a router between them that drops what it is told to, without a
    word.  The manager has a cable of its own to each."""

    def __init__(self):
        super().__init__()
        try:
            self._build()
            self._start()
        except BaseException:
            self.close()
            raise

    def _build(self):
        self.add("a", "m", "b", "mgr")
        self.link("a", "m", "10.80.1.0/24")
        self.link("m", "b", "10.80.2.0/24")
        self.link("a", "mgr", "10.81.1.0/24")
        self.link("b", "mgr", "10.81.2.0/24")
        self["m"].sysctl("net.ipv4.ip_forward", 1)
        self["a"].sysctl("net.ipv4.conf.all.promote_secondaries", 1)
        for ns, interface in (("a", "to-m"), ("m", "to-a"), ("m", "to-b"), ("b", "to-m")):
            # Frames as they are on a wire, and so large that only the router is in their way.
            self[ns].run("ethtool", "-K", interface, "tso", "off", "tx-udp-segmentation", "off")
            self[ns].ip("link", "set", interface, "mtu", JUMBO_MTU)
        self.routes()
        self["m"].run("nft", "add table inet way; add chain inet way forward "
                      "{ type filter hook forward priority 0; }")
        self.settle()

    def routes(self):
        self["a"].ip("route", "replace", "10.80.2.0/24", "via", "10.80.1.2")
        self["b"].ip("route", "replace", "10.80.1.0/24", "via", "10.80.2.1")

    def _start(self):
        self.daemon("mgr", "apptracker")
        self.daemon("mgr", "nodemanager", {"msgsrv": {"MaxPacketSize": JUMBO_PAYLOAD}})
        wait(lambda: 1234 in [p for _, p in self["mgr"].listening()], 10, "the manager listens")
        self.nodes = {n: self.daemon(n, "node", {"node": {
            "Name": n, "ManagerAddr": f"{self[n].links['mgr'][2]}:5999"}}) for n in ("a", "b")}
        wait(lambda: len(self.ids()) == 2, 20, "both nodes register")
        self.rpc("connectNodes", a="a", b="b")
        wait(self.is_up, 20, "the transport comes up")
        self.run("b", "echo", os.path.join(bin_dir(), "echo"), "server")

    def rpc(self, method, /, **params):
        return rpc(self["mgr"], 1234, method, params)

    def ids(self):
        return {n["name"]: n["id"] for n in self.rpc("listNodes")["nodes"] if n["connected"]}

    def transport(self):
        """The transport that is up; LookupError when there is none."""
        up = [t for t in self.rpc("listAllTransports")["transports"]
              if t["status"].lower() == "connected"]
        return up[0]

    def is_up(self):
        return bool(self.transport())

    def drop(self, rule):
        """From now on the router drops only what this nft expression matches; "" for nothing."""
        self["m"].run("nft", "flush chain inet way forward"
                      + (f"; add rule inet way forward {rule} counter drop" if rule else ""))

    def dropped(self):
        text = self["m"].run("nft", "list", "chain", "inet", "way", "forward")
        return int(re.search(r"counter packets (\d+)", text).group(1))

    def echo(self, size, count, window=1, timeout=40):
        """Starts an echo client at a."""
        return Echo(self, ["--size", size, "--count", count, "--window", window, "--timeout",
                           timeout])


class Echo:
    def __init__(self, lab, options):
        argv = ["ip", "netns", "exec", lab["a"].full, os.path.join(bin_dir(), "echo"), "client",
                "--to", f"echo@{lab.ids()['b']}", "--json", "--wait", *map(str, options)]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=lab.environment)

    def finish(self, timeout=60):
        """The client's figures; LabError when not every message came back."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        finally:
            self.process.kill()
        if self.process.returncode:
            raise LabError(f"echo: {out}{err}")
        return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def way(request):
    lab = Way()
    yield lab
    if request.session.testsfailed:
        print(lab.tail_logs())
    lab.close()
    assert not lab.problems + lab.leaks()


# --- size -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("mtu", [1500, 1280, 1124])
def test_oversize_packets_vanish_from_the_start(way, mtu):
    """The transport is made over such a way: 1 MiB there and back."""
    way.drop(f"ip length > {mtu}")
    for n in ("a", "b"):
        way.nodes[n].restart()
    wait(lambda: len(way.ids()) == 2 and way.is_up(), 25, "the transport is made again")
    figures = way.echo(MIB, 1).finish()
    assert figures["received"] == 1
    assert way.dropped() > 0, "nothing was too large: the test proves nothing"
    way.drop("")


@pytest.mark.parametrize("mtu", [1500, 1280, 1124])
def test_the_way_becomes_narrow_under_load(way, mtu):
    """Full packets begin to vanish in the midst of a transfer."""
    way.drop("")
    way.nodes["a"].restart()
    wait(lambda: len(way.ids()) == 2 and way.is_up(), 25, "the transport is made again")
    assert way.echo(MIB, 3).finish()["received"] == 3  # packets are as large as can be now
    echo = way.echo(200000, 1200, window=4)
    time.sleep(0.5)
    way.drop(f"ip length > {mtu}")
    figures = echo.finish()
    assert figures["received"] == 1200
    assert way.dropped() > 0
    assert figures["max_us"] < 5e6
    way.drop("")


# --- the way is cut, a node moves -------------------------------------------------------------------

def paced_echo(way, seconds):
    """Messages in a row for about so long, one at a time."""
    rtt_us = way.echo(10000, 200).finish()["median_us"]
    return way.echo(10000, max(200, int(seconds * 1e6 / rtt_us)), timeout=60)


def test_cut_for_ten_seconds(way):
    """The link dies and is made again; the connection waits for it, and not a message is lost."""
    echo = paced_echo(way, 6)
    time.sleep(1)
    before = way.transport()["id"]
    way.drop("meta l4proto udp")
    time.sleep(10)
    with pytest.raises(LookupError):
        way.transport()
    way.drop("")
    healed = time.monotonic()
    wait(way.is_up, 10, "there is a transport again")
    back = time.monotonic() - healed
    figures = echo.finish()
    assert way.transport()["id"] != before
    assert back < 2
    assert 9e6 < figures["max_us"] < 13e6  # one message waited; the client has one connection only


def test_short_cut(way):
    """Two seconds: the very same transport goes on, soon."""
    echo = paced_echo(way, 5)
    time.sleep(1)
    before = way.transport()["id"]
    way.drop("meta l4proto udp")
    time.sleep(2)
    way.drop("")
    figures = echo.finish()
    assert way.transport()["id"] == before
    assert figures["max_us"] < 3.2e6


def test_a_node_moves(way):
    """Another address on the same link: the transport stays, and follows."""
    echo = paced_echo(way, 6)
    time.sleep(1)
    before = way.transport()["id"]
    a = way["a"]
    a.ip("addr", "add", "10.80.1.77/24", "dev", "to-m")
    a.ip("addr", "del", "10.80.1.1/24", "dev", "to-m")
    way.routes()
    way.nodes["b"].wait_log(r"the peer moved from .*10\.80\.1\.1\b.* to .*10\.80\.1\.77\b", 5)
    figures = echo.finish()
    assert way.transport()["id"] == before
    assert figures["max_us"] < 3e6


# --- the wall clock ---------------------------------------------------------------------------------

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Seconds that the wall clock is wrong by, from a file that the test writes. */
static long offset(void)
{
	static volatile const long *at;
	if (!at) {
		int fd = open(getenv("WALL_OFFSET"), O_RDONLY | O_CLOEXEC);
		at = fd < 0 ? NULL : mmap(NULL, sizeof *at, PROT_READ, MAP_SHARED, fd, 0);
		if (fd >= 0)
			close(fd);
		if (!at || at == MAP_FAILED)
			_exit(99);
	}
	return *at;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	static int (*real)(clockid_t, struct timespec *);
	if (!real)
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	int rc = real(id, ts);
	if (!rc && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		ts->tv_sec += offset();
	return rc;
}

int gettimeofday(struct timeval *tv, void *zone)
{
	struct timespec ts;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *out)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	if (out)
		*out = ts.tv_sec;
	return ts.tv_sec;
}
"""
LEASE_SECONDS = 5


class Clockwork(MeshLab):
    """The demo's mesh, with a wall clock that the test sets."""

    def __init__(self):
        super().__init__()
        source, shim = (os.path.join(self.folder, f"wall.{e}") for e in ("c", "so"))
        self.offset_path = os.path.join(self.folder, "wall.offset")
        self.environment.update(WALL_OFFSET=self.offset_path)
        with open(source, "w", encoding="ascii") as f:
            f.write(SHIM)
        self.jump_to(0)
        sh("cc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl")
        self.environment.update(LD_PRELOAD=shim)

    def jump_to(self, seconds):
        with open(self.offset_path, "r+b" if os.path.exists(self.offset_path) else "wb") as f:
            f.write(struct.pack("@l", seconds))

    def wall(self):
        """What the processes of the lab take for the time."""
        return int(self["sub"].run("/usr/bin/python3", "-c", "import time; print(int(time.time()))",
                                   env=self.environment))

    def start_gateway(self, ns, **keys):
        return super().start_gateway(ns, LeaseSeconds=LEASE_SECONDS, **keys)


@pytest.fixture(scope="module")
def clockwork(request):
    if os.path.exists(os.path.join(bin_dir(), "..", "obj", "node", "main.o")) and \
            b"__asan_init" in open(os.path.join(bin_dir(), "node"), "rb").read():
        pytest.skip("a preloaded clock does not go with the address sanitizer")
    lab = Clockwork()
    try:
        lab.start_all()
        yield lab
    finally:
        if request.session.testsfailed:
            print(lab.tail_logs())
        lab.close()
    assert not lab.problems + lab.leaks()


@pytest.mark.parametrize("jump", [-DAY, 10 * YEAR, 0])
def test_the_wall_clock_jumps(clockwork, jump):
    """Traffic goes on without a gap, through two renewals (each half a lease) and past its first end."""
    sid = clockwork.session()["sid"]
    transports = {t["id"] for t in clockwork.transports()}
    clockwork.jump_to(jump)
    assert abs(clockwork.wall() - time.time() - jump) < 5, "the shim does nothing"
    until = time.monotonic() + 1.5 * LEASE_SECONDS
    while time.monotonic() < until:
        assert clockwork.fetch(1.0), "the page loads"
        time.sleep(0.1)
    assert clockwork.session()["sid"] == sid
    assert {t["id"] for t in clockwork.transports()} == transports
    for gw in ("gw1", "gw2"):
        for s in clockwork.gateway(gw, "listSessions")["sessions"]:
            assert 0 < s["timeoutTimestamp"] - clockwork.wall() <= LEASE_SECONDS + 1
