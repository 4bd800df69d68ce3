"""The methods wireguard (by wireguard-go) and fastd, with the real programs: one gateway that offers
both, two subscribers for each.

     inet  198.51.100.80 (HTTP, UDP echo)
      |
      gw   gatewayd, NAT
     /||\\
   w1 w2 f1 f2   subscriberd: wireguard, wireguard, fastd, fastd; no default route
"""
import contextlib
import json
import os
import re
import signal
import socket
import threading
import time

import pytest

import lab as tools
from lab import wait
from uplink import INET4 as WEB, INET6 as WEB6, UplinkLab

# "kernel" in a virtual machine, whose kernel has WireGuard of its own.
BACKEND = os.environ.get("MESHNET_WIREGUARD", "userspace")
WANTED = os.environ.get("MESHNET_METHODS", "wireguard fastd").split()
SLOW = float(os.environ.get("MESHNET_SLOW", "1"))

SUBSCRIBERS = {"w1": "wireguard", "w2": "wireguard", "f1": "fastd", "f2": "fastd"}
FIRST = {m: n for m, n in (("wireguard", "w1"), ("fastd", "f1")) if m in WANTED}
SECOND = {m: n for m, n in (("wireguard", "w2"), ("fastd", "f2")) if m in WANTED}
PROGRAMS = {"wireguard": "wireguard-go", "fastd": "fastd"}
GATEWAY4 = "10.117.0.1"
USERSPACE = pytest.mark.skipif(BACKEND != "userspace", reason="the kernel is no process")
METHODS = pytest.mark.parametrize("method", WANTED)
LENGTH = 3_000_000


class MethodsLab(UplinkLab):
    def __init__(self):
        super().__init__()
        try:
            self.add("inet", "gw", *SUBSCRIBERS)
            self.build_uplink()
            for i, name in enumerate(SUBSCRIBERS, 1):
                self.link("gw", name, f"10.77.{i}.0/24")
            self.settle()
            self.clean = {name: self[name].host_state() for name in self.namespaces}
            self.start_services()
            self.subscribers = {}
            self.start_gateway()
        except BaseException:
            self.close()
            raise

    def start_gateway(self):
        self.gatewayd = self.daemon_of_gateway({"wireguard": {"Backend": BACKEND}},
                                               Methods=",".join(WANTED), LeaseSeconds=int(6 * SLOW))

    def start_subscriber(self, name):
        if name in self.subscribers:
            return self.subscribers[name].start()
        address = self[name].links["gw"][2]
        self.subscribers[name] = self.daemon(name, "subscriberd", {
            "subscriber": {"Node": "", "Gateways": address, "Methods": SUBSCRIBERS[name],
                           "ScanInterval": 1,
                           # so that it is the tunnel that comes back, also on a busy machine
                           "ProbeLosses": 10 if SUBSCRIBERS[name] == "wireguard" else 3},
            "wireguard": {"Backend": BACKEND}})
        return self.subscribers[name]

    def sessions(self):
        return {s["sid"]: s for s in self.gateway("listSessions")["sessions"]}

    def session(self, name):
        """The subscriber's lease as the gateway shows it."""
        own = self.subscriber(name, "status")["session"]
        return self.sessions()[own["sid"]]

    def online(self, name):
        return self.fetch(name, 10) == 10

    def wait_online(self, name, timeout=15):
        """By itself: what a daemon that was killed left behind may carry traffic too."""
        wait(lambda: self.online(name) and self.subscriber(name, "status")["online"], timeout,
             f"{name} loads a page", 0.02)

    def fetch(self, name, length, host=WEB, timeout=5.0):
        status, body = tools.http_request(self[name], host, 80, path=f"/bytes/{length}",
                                          timeout=timeout)
        assert status == 200
        return len(body)

    def kernel_has(self):
        """Has the kernel WireGuard of its own?"""
        try:
            self["inet"].ip("link", "add", "wgtest", "type", "wireguard")
        except tools.LabError:
            return False
        self["inet"].ip("link", "del", "wgtest")
        return True

    def programs(self, ns, program):
        pids = tools.sh("ip", "netns", "pids", self[ns].full).split()
        found = []
        for pid in pids:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="ascii") as f:
                if f.read().strip() == program:
                    found.append(int(pid))
        return found


class Echo:
    """A datagram to the Internet's echo and back, a hundred times a second, while the block runs."""

    def __init__(self, ns):
        self.sock, self.sent, self.back, self.ended = ns.socket(socket.AF_INET, socket.SOCK_DGRAM), {}, {}, False
        self.sock.connect((WEB, 7))
        self.sock.settimeout(0.01)

    def _run(self):
        while not self.ended or time.monotonic() < self.last + 0.5:
            now = time.monotonic()
            if not self.ended:
                self.last = now
                self.sent[len(self.sent)] = now
                with contextlib.suppress(OSError):
                    self.sock.send(str(len(self.sent) - 1).encode())
            while time.monotonic() < now + 0.01:
                with contextlib.suppress(OSError):
                    self.back[int(self.sock.recv(64))] = time.monotonic()

    def __enter__(self):
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.thread.join()
        self.sock.close()

    def lost(self):
        return [n for n in self.sent if n not in self.back]

    def outage(self):
        """The longest time without an answer."""
        times = sorted(self.back.values())
        return max((b - a for a, b in zip(times, times[1:])), default=float("inf"))


@pytest.fixture(scope="module")
def net(request):
    lab = MethodsLab()
    yield lab
    failed = getattr(request.session, "testsfailed", 0)
    if failed:
        print(lab.tail_logs(60))
    lab.close()
    faults = lab.problems + lab.leaks()
    assert not faults, "\n".join(faults)


def addresses(ns, interface):
    return re.findall(r"inet6? (\S+?)[/ ]", ns.ip("-o", "addr", "show", "dev", interface))


def test_methods_are_offered(net):
    info = wait(lambda: net.gateway("nodeInfo"), 5 * SLOW, "the gateway answers")
    offered = {m["name"]: m for m in info["methods"]}
    assert set(offered) == set(WANTED) and all(m["ready"] for m in offered.values())
    assert offered["wireguard"]["backend"] == {"userspace": "wireguard-go"}.get(BACKEND, BACKEND)
    assert all(len(m["publicKey"]) in (44, 64) for m in offered.values())
    net.keys = {name: m["publicKey"] for name, m in offered.items()}
    for name in (f"{method}-gateway.key" for method in WANTED):
        assert os.stat(os.path.join(net.gatewayd.state_dir, name)).st_mode & 0o777 == 0o600


@METHODS
def test_opens_and_carries(net, method):
    name = FIRST[method]
    wait(lambda: net.gateway("nodeInfo")["uplink"]["online"], 5 * SLOW, "the uplink is proven")
    began = time.monotonic()
    net.start_subscriber(name)
    net.wait_online(name)
    took = time.monotonic() - began
    print(f"{method}: online {took:.2f} s after subscriberd's start")
    assert took < 2 * SLOW
    assert net.fetch(name, LENGTH) == LENGTH
    assert net.fetch(name, 1000, WEB6) == 1000


@METHODS
def test_addresses_and_counters(net, method):
    name = FIRST[method]
    session = net.session(name)
    assert session["method"] == method and session["connected"]
    assert set(addresses(net[name], "mesh0")) == {session["ipv4"], session["ipv6"]}
    route = net["gw"].ip("route", "get", session["ipv4"])
    assert f"dev {session['interface']} " in route
    before = counted(net, name)
    with net[name].socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect((WEB, 7))
        s.settimeout(1)
        for _ in range(200):
            s.send(bytes(1000))
            assert len(s.recv(2000)) == 1000
    after = counted(net, name)
    for own, key in zip(after, ("upBytes", "downBytes")):
        carried = after[own][key] - before[own][key]
        assert 200 * 1028 <= carried < 200 * 1028 * 1.1 + 5000, (own, key)


def counted(net, name):
    """What the gateway and the subscriber themselves count, once the figures are fresh."""
    time.sleep(0.3)
    return {"gateway": net.session(name),
            "subscriber": tools.rpc(net[name], 65532, "status")["session"]["traffic"]}


@METHODS
def test_second_disturbs_nobody(net, method):
    """It joins, loads, leaves; the first one loses nothing meanwhile."""
    name, second = FIRST[method], SECOND[method]
    with Echo(net[name]) as echo:
        d = net.start_subscriber(second)
        net.wait_online(second)
        assert net.fetch(second, 100_000) == 100_000
        assert net.session(second)["ipv4"] != net.session(name)["ipv4"]
        d.stop()
        wait(lambda: len([s for s in net.sessions().values() if s["method"] == method]) == 1, 5,
             "the lease ends")
        time.sleep(0.2)
    assert len(echo.sent) > 30
    assert not echo.lost(), f"{len(echo.lost())} of {len(echo.sent)} lost"


@METHODS
def test_spoofing_is_refused(net, method):
    """An address of the pool that nobody holds, and the one of another subscriber."""
    name, ns = FIRST[method], net[FIRST[method]]
    session = net.session(name)
    others = [n for n in FIRST.values() if n != name]
    victim = net.session(others[0])["ipv4"] if others else "10.117.0.77"
    sink = net["inet"].socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind((WEB, 9999))
    sink.settimeout(0.3)
    for address in ("10.117.99.9", victim):
        ns.ip("addr", "add", f"{address}/32", "dev", "lo")
    try:
        for source in (session["ipv4"], "10.117.99.9", victim, session["ipv4"]):
            with ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.bind((source, 0))
                s.sendto(source.encode(), (WEB, 9999))
        heard = []
        with contextlib.suppress(TimeoutError):
            while True:
                heard.append(sink.recv(64).decode())
        assert heard == [session["ipv4"]] * 2
    finally:
        sink.close()
        for address in ("10.117.99.9", victim):
            ns.ip("addr", "del", f"{address}/32", "dev", "lo")


def test_wireguard_roams(net):
    """The subscriber's address outside changes: the tunnel stays, and so does the lease."""
    ns, sid = net["w1"], net.session("w1")["sid"]
    ns.sysctl("net.ipv4.conf.to-gw.promote_secondaries", 1)
    with Echo(ns) as echo:
        time.sleep(0.1)
        ns.ip("addr", "add", "10.77.1.9/24", "dev", "to-gw")
        ns.ip("addr", "del", "10.77.1.2/24", "dev", "to-gw")
        time.sleep(1.0)
    print(f"roaming: {len(echo.lost())} of {len(echo.sent)} lost, {echo.outage():.2f} s")
    assert echo.outage() < 0.4 * SLOW and max(echo.back) > len(echo.sent) - 5
    until = net.session("w1")["timeoutTimestamp"]
    wait(lambda: net.session("w1")["timeoutTimestamp"] > until + 1, 8 * SLOW, "the lease is renewed")
    assert tools.rpc(ns, 65532, "status")["session"]["sid"] == sid
    with Echo(ns) as echo:
        time.sleep(0.1)
        ns.ip("addr", "add", "10.77.1.2/24", "dev", "to-gw")
        ns.ip("addr", "del", "10.77.1.9/24", "dev", "to-gw")
        time.sleep(0.4)
    assert echo.outage() < 0.4 * SLOW


class Listener(threading.Thread):
    """Reads the calls that pass an interface in the clear, as anybody on the way can."""

    def __init__(self, ns, interface):
        super().__init__()
        self.sock = ns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.sock.bind((interface, 0x0800))
        self.sock.settimeout(0.1)
        self.heard, self.ended = b"", False

    def run(self):
        while not self.ended:
            with contextlib.suppress(TimeoutError):
                frame = self.sock.recv(65536)
                ip = frame[14:]
                tcp = ip[(ip[0] & 15) * 4:]
                if ip[9] == 6 and tcp[2:4] == (65533).to_bytes(2, "big"):
                    self.heard += tcp[(tcp[12] >> 4) * 4:int.from_bytes(ip[2:4], "big")]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.join()
        self.sock.close()

    def calls(self, method):
        """The parameters of all that were heard."""
        found, decoder = [], json.JSONDecoder()
        for at in re.finditer(rb"\r\n\r\n(?=\{)", self.heard):
            call = decoder.raw_decode(self.heard[at.end():].decode("latin-1"))[0]
            if call["method"] == method:
                found.append(call["params"])
        return found


def readdress(ns, new, old):
    ns.sysctl("net.ipv4.conf.to-gw.promote_secondaries", 1)
    ns.ip("addr", "add", f"{new}/24", "dev", "to-gw")
    ns.ip("addr", "del", f"{old}/24", "dev", "to-gw")


def test_roamed_and_killed(net):
    """The subscriber is killed and comes up at another address: the lease is still its own.  It is
    nobody else's, whatever he read of it."""
    d, before = net.subscribers["w1"], net.session("w1")
    with Listener(net["gw"], net["gw"].links["w1"][0]) as listener:
        d.kill()
        readdress(net["w1"], "10.77.1.9", "10.77.1.2")
        began = time.monotonic()
        net.start_subscriber("w1")
        net.wait_online("w1")
        print(f"roamed and killed: online {time.monotonic() - began:.2f} s after the start")
    after = net.session("w1")
    assert time.monotonic() - began < 2 * SLOW
    assert (after["sid"], after["ipv4"]) == (before["sid"], before["ipv4"])
    assert (before["host"], after["host"]) == ("10.77.1.2", "10.77.1.9")

    recorded = listener.calls("requestConnection")
    assert [c["sid"] for c in recorded] == [before["sid"]]
    stranger, gateway = net["w2"], net["w2"].links["gw"][2]
    spoken = recorded[0]["options"]
    unproven = {k: v for k, v in spoken.items() if k != "owner"}
    forged = {**spoken, "owner": {**spoken["owner"], "stamp": spoken["owner"]["stamp"] + 1}}
    for options, words in ((spoken, "a later call"), (unproven, "cannot be used"), (forged, "proof")):
        got = tools.rpc(stranger, 65533, "requestConnection", {**recorded[0], "options": options},
                        host=gateway)
        assert not got["success"] and words in got["errorMsg"], got
    for call in ("renewConnection", "releaseConnection"):
        for more in ({}, {"owner": spoken["owner"]}):
            got = tools.rpc(stranger, 65533, call, {"sid": before["sid"], **more}, host=gateway)
            assert not got["success"], got
    assert net.session("w1")["host"] == "10.77.1.9" and net.online("w1")


def test_roamed_and_released(net):
    """Its address changes while it runs, and what it ends then is ended."""
    sid = net.session("w1")["sid"]
    readdress(net["w1"], "10.77.1.2", "10.77.1.9")
    assert net.subscribers["w1"].stop()[0] == 0
    wait(lambda: sid not in net.sessions(), 2 * SLOW, "the lease is released")
    net.start_subscriber("w1")
    net.wait_online("w1")


@pytest.mark.skipif(len(WANTED) < 2, reason="one method only")
def test_a_method_is_taken_away(net, tmp_path):
    """SIGHUP without wireguard: its leases end, with all that belongs to them, and those of fastd lose
    nothing.  With it again it is offered again, and who is waiting for it comes back."""
    ended, state = tmp_path / "ended", net["gw"].host_state()
    session, section = net.session("w1"), net.gatewayd.config["gateway"]
    section["OnRelease"] = f"/bin/sh -c 'echo $1 $2 $3 >>{ended}' hook"
    section["Methods"] = "fastd"
    net.wait_online("f1")
    with Echo(net["f1"]) as echo:
        net.gatewayd.write_config()
        net.gatewayd.signal(signal.SIGHUP)
        wait(lambda: [m["name"] for m in net.gateway("nodeInfo")["methods"]] == ["fastd"], 3,
             "wireguard is not offered")
        wait(lambda: f"release {session['sid']} wireguard" in ended.read_text(encoding="utf-8"), 2,
             "OnRelease runs")
        wait(lambda: tools.rpc(net["w1"], 65532, "status")["state"] != "online", 15,
             "the subscriber knows that it has no tunnel")
        time.sleep(0.2)
    assert not echo.lost(), f"{len(echo.lost())} of {len(echo.sent)} lost"
    assert all(s["method"] == "fastd" for s in net.sessions().values())
    assert not net.programs("gw", "wireguard-go")
    assert session["interface"] not in net["gw"].host_state()["links"].split()
    assert session["interface"] not in net["gw"].run("nft", "list", "ruleset")
    got = net.gateway("requestConnection", method="wireguard", options={})
    assert not got["success"] and "is not offered" in got["errorMsg"]
    section["Methods"] = ",".join(WANTED)
    net.gatewayd.write_config()
    net.gatewayd.signal(signal.SIGHUP)
    net.wait_online("w1", 20)
    assert net.session("w1")["method"] == "wireguard"
    assert net["gw"].host_state()["links"] == state["links"]


def until_new(net, ns, program, old):
    wait(lambda: len(net.programs(ns, program)) == len(old) and
         not set(net.programs(ns, program)) & set(old), 10, f"a new {program}")


@USERSPACE
def test_wireguard_program_killed(net):
    """The gateway's wireguard-go dies: it is started again with all leases; nobody asks anew."""
    sid, old = net.session("w1")["sid"], net.programs("gw", "wireguard-go")
    with Echo(net["w1"]) as echo:
        time.sleep(0.2)
        os.kill(old[0], signal.SIGKILL)
        until_new(net, "gw", "wireguard-go", old)
        wait(lambda: max(echo.back) >= len(echo.sent) - 3, 10, "traffic again")
    print(f"wireguard-go killed: {echo.outage():.2f} s without traffic")
    assert net.session("w1")["sid"] == sid and echo.outage() < 1 * SLOW


@pytest.mark.skipif("fastd" not in WANTED, reason="without fastd")
def test_fastd_program_killed(net):
    """The same for fastd, which may want a new connection: up to 15 s after its last handshake a
    subscriber's process takes no other."""
    old = net.programs("gw", "fastd")
    began = time.monotonic()
    os.kill(old[0], signal.SIGKILL)
    until_new(net, "gw", "fastd", old)
    wait(lambda: net.session("f1")["connected"], 10, "a connection")
    net.wait_online("f1")
    print(f"fastd killed: {time.monotonic() - began:.2f} s without traffic")


def test_gatewayd_killed_and_started_again(net):
    """Its programs carry on without it; then its next start replaces them.  The keys stay, and the
    tunnels come back by themselves."""
    sid = net.session("w1")["sid"]
    old = {p: net.programs("gw", p) for p in PROGRAMS.values()}
    with contextlib.ExitStack() as stack:
        echos = {name: stack.enter_context(Echo(net[name])) for name in FIRST.values()}
        w = echos["w1"]
        time.sleep(0.1)
        net.gatewayd.kill()
        time.sleep(0.3)
        assert {p: net.programs("gw", p) for p in PROGRAMS.values()} == old
        for echo in echos.values():
            assert max(echo.back) > len(echo.sent) - 10, "traffic goes on without gatewayd"
        net.gatewayd.start()
        wait(lambda: net.gateway("nodeInfo")["success"], 5 * SLOW, "it answers")
        wait(lambda: max(w.back) >= len(w.sent) - 3 * SLOW, 10 * SLOW, "traffic again")
        assert net.session("w1")["sid"] == sid
    print(f"gatewayd killed and started: wireguard {w.outage():.2f} s without traffic")
    for p, pids in old.items():
        assert not set(net.programs("gw", p)) & set(pids)
    assert len(net.programs("gw", "wireguard-go")) == (BACKEND == "userspace")
    offered = {m["name"]: m["publicKey"] for m in net.gateway("nodeInfo")["methods"]}
    assert offered == net.keys


def leftovers(net, names):
    out = []
    for name in names:
        after = net[name].host_state()
        out += [f"{name}: {what}\n{tools.difference(text, after[what])}"
                for what, text in net.clean[name].items() if after[what] != text]
        out += [f"{name}: {p}" for p in PROGRAMS.values() if net.programs(name, p)]
    return "\n".join(out)


def folders(daemon):
    return [f for f in os.listdir(daemon.state_dir) if os.path.isdir(f"{daemon.state_dir}/{f}")]


def test_subscriberd_killed_and_cleaned_up(net):
    if "f1" in net.subscribers:
        net.subscribers["f1"].restart()  # it may be waiting for its gateway's second chance
    for name in FIRST.values():
        d = net.subscribers[name]
        net.wait_online(name)
        d.kill()
        assert "mesh0" in net[name].ip("link")
        d.cleanup()
        assert not leftovers(net, [name])


def test_gatewayd_killed_and_cleaned_up(net):
    net.gatewayd.kill()
    net.gatewayd.cleanup()
    assert not leftovers(net, ["gw"])


def test_closes_clean(net):
    """Everything once more, then ended as it should be: nothing is left."""
    net.gatewayd.start()
    for name in FIRST.values():
        net.start_subscriber(name)
    for name in FIRST.values():
        net.wait_online(name)
    for name in FIRST.values():
        assert net.subscribers[name].stop()[0] == 0
    wait(lambda: not net.sessions(), 5 * SLOW, "the leases end")
    wait(lambda: "mgwf" not in net["gw"].ip("-o", "link"), 2 * SLOW, "the subscribers' interfaces go")
    assert net.gatewayd.stop()[0] == 0
    assert not leftovers(net, ["gw", *SUBSCRIBERS])
    for d in (net.gatewayd, *net.subscribers.values()):
        assert not folders(d)


@USERSPACE
def test_what_is_missing_is_told(net):
    """A kernel without WireGuard when only the kernel is wanted, a port that somebody has, a program
    that is not installed."""
    taken = net["gw"].socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("0.0.0.0", 51820))
    reasons = {"auto": "its port is in use", "kernel": "the kernel makes no WireGuard interface"}
    if net.kernel_has():
        del reasons["kernel"]
    path = os.path.join(net.folder, "bin")
    os.mkdir(path)
    os.symlink("/usr/bin/wireguard-go", f"{path}/wireguard-go")
    try:
        for backend, reason in reasons.items():
            out = net["gw"].run("sh", "-c", 'PATH="$1"; shift; exec "$@" 2>&1', "sh", path,
                                os.path.join(tools.bin_dir(), "gatewayd"), "-f", "/dev/null",
                                "-o", f"general.StateDir={net.folder}/missing", "-o", "gateway.Node=",
                                "-o", "gateway.Methods=wireguard,fastd",
                                "-o", f"wireguard.Backend={backend}", check=False)
            assert f"method wireguard cannot be offered: {reason}" in out, out
            assert "method fastd cannot be offered: fastd is not installed" in out, out
    finally:
        taken.close()
    assert not leftovers(net, ["gw"])
