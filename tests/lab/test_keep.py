"""A node's own restart while the manager is away, half-open channels, and restarts of manager and
tracker: with traffic running, every byte checked.  Run with -s to see the pauses."""
import contextlib
import json
import os
import re
import signal
import threading
import time

import pytest

from lab import LabError, bin_dir, sh, wait
from meshapp import EchoStream, MeshApp
from topology import LINKS, MANAGER_PORT, NODES


@pytest.fixture(scope="module")
def line(network):
    """sub - r1 - r2 - gw1, and an echo server at gw1.  There is no other way than the one that is
    tried here."""
    network.start_overlay(StandbyPaths=0)
    network.run("gw1", "echo-server", f"{bin_dir()}/echo", "server")
    settled(network)
    return network


def echo_servers(mesh):
    return len(mesh.manager("listApps", kind="by_type", value="echo")["apps"])


def settled(mesh):
    wait(lambda: mesh.registered() >= set(NODES), 20, "all nodes are registered")
    wait(mesh.links_up, 25, "all transports are up")
    wait(lambda: echo_servers(mesh) == 1, 15, "the echo server is listed")


def node_id(mesh, name):
    return next(n["id"] for n in mesh.nodes() if n["name"] == name)


@pytest.fixture
def stream(line):
    settled(line)
    s = EchoStream(line["sub"], node_id(line, "gw1"))
    time.sleep(1.5)  # what the nodes hold now is on their disks
    yield s
    s.app.close()


def rules_at_manager(mesh):
    return {n: sorted(tuple(sorted(r.items())) for r in mesh.manager("listRoutes", node=n)["routes"])
            for n in NODES}


def restart_log(daemon):
    """(transports, of, rules, of) that its last start took up."""
    found = re.findall(r"kept: (\d+) of (\d+) transports, (\d+) of (\d+) rules", daemon.log())
    return tuple(map(int, found[-1])) if found else None


def kept_rules(mesh, name):
    """How many rules the node has, by its own word: what it takes up after kill -9."""
    time.sleep(1.5)
    node = mesh.d[f"{name}-node"]
    before = len(re.findall(r"of \d+ rules", node.log()))
    node.kill()
    node.start()
    wait(lambda: len(re.findall(r"of \d+ rules", node.log())) > before, 5, "it is back")
    return restart_log(node)[2]


@pytest.mark.parametrize("name", ["r1", "r2"])
@pytest.mark.parametrize("away", [0.2, 6.0])
def test_relay_restarts_without_the_manager(line, stream, name, away):
    """For 0.2 s its neighbours hardly notice; after 6 s they have given it up."""
    relay, manager = line.d[f"{name}-node"], line.d["mgr-nodemanager"]
    before = rules_at_manager(line)
    assert len(before[name]) == 2
    manager.kill()
    relay.kill()
    time.sleep(away)
    relay.start()
    began = time.monotonic()
    wait(lambda: stream.times[-1] > began + 0.1, 8, "messages come back again", 0.02)
    back = next(t for t in stream.times if t > began) - began
    print(f"{name} away for {away} s without a manager: messages {back * 1000:.0f} ms after its start")
    assert back < 4
    time.sleep(2)
    assert restart_log(relay)[2:] == (2, 2)
    stream.check()
    # The manager comes back, and finds everything as it was.
    manager.start()
    settled(line)
    wait(lambda: rules_at_manager(line) == before, 10, "the manager knows the rules it knew")
    assert line.manager("status")["connections"] == 1
    assert kept_rules(line, name) == 2
    wait(lambda: stream.times[-1] > time.monotonic() - 0.2, 8, "messages come back again", 0.02)
    stream.finish()
    settled(line)
    wait(lambda: not any(rules_at_manager(line).values()), 8, "closed: no rule is left")
    assert kept_rules(line, name) == 0


@pytest.mark.parametrize("name", ["r1", "r2"])
def test_relay_restarts_under_its_manager(line, stream, name):
    """The same with the manager there: rules and transports stay what they are."""
    before, links = rules_at_manager(line), sorted(t["id"] for t in line.transports())
    began = time.monotonic()
    line.d[f"{name}-node"].kill()
    line.d[f"{name}-node"].start()
    wait(lambda: stream.times[-1] > began + 0.5, 8, "messages come back again", 0.02)
    time.sleep(1)
    pause = stream.pause_since(began)
    print(f"{name} restarted under its manager: pause {pause * 1000:.0f} ms")
    settled(line)
    assert rules_at_manager(line) == before
    assert sorted(t["id"] for t in line.transports()) == links
    stream.finish()
    assert pause < 4


def test_all_relays_restart_without_the_manager(line, stream):
    manager, relays = line.d["mgr-nodemanager"], [line.d[f"{n}-node"] for n in ("r1", "r2", "r3")]
    before = rules_at_manager(line)
    manager.kill()
    for relay in relays:
        relay.kill()
    for relay in relays:
        relay.start()
    began = time.monotonic()
    wait(lambda: stream.times[-1] > began + 0.1, 8, "messages come back again", 0.02)
    print(f"three relays restarted: {(stream.times[-1] - began) * 1000:.0f} ms after their start")
    manager.start()
    settled(line)
    wait(lambda: rules_at_manager(line) == before, 10, "the manager knows the rules it knew")
    stream.finish()


def test_end_of_a_connection_restarts(line, stream):
    """Its keys are gone with the process: the connection ends for its app, and leaves no rule."""
    line.d["mgr-nodemanager"].kill()
    line.d["gw1-node"].kill()
    line.d["gw1-node"].start()
    time.sleep(1)
    line.d["mgr-nodemanager"].start()
    wait(lambda: stream.fault, 15, "the app is told")
    assert "connection ended" in stream.fault
    stream.over = True
    settled(line)
    wait(lambda: not any(rules_at_manager(line).values()), 8, "no rule is left")
    assert line.manager("status")["connections"] == 0
    again = EchoStream(line["sub"], node_id(line, "gw1"))
    time.sleep(0.5)
    again.finish()


def test_damaged_file(line):
    node = line.d["r2-node"]
    path = os.path.join(node.state_dir, "node.state")
    assert os.stat(path).st_mode & 0o777 == 0o600
    node.kill()
    with open(path, "r+b") as f:
        f.seek(-20, os.SEEK_END)
        old = f.read(1)
        f.seek(-20, os.SEEK_END)
        f.write(bytes([old[0] ^ 1]))
    began = len(node.log())
    node.start()
    settled(line)
    said = node.log()[began:]
    assert said.count("damaged, or not written by this node; it is ignored") == 1
    assert "goes on with what was kept" not in said
    # That of another node is no better.
    time.sleep(1.5)
    node.kill()
    with open(os.path.join(line.d["r3-node"].state_dir, "node.state"), "rb") as f:
        foreign = f.read()
    with open(path, "wb") as f:
        f.write(foreign)
    began = len(node.log())
    node.start()
    settled(line)
    assert "it is ignored" in node.log()[began:]


def test_clean_end_leaves_nothing(line):
    node = line.d["r2-node"]
    time.sleep(1.5)
    status, _ = node.stop()
    assert status == 0
    node.start()
    settled(line)
    assert restart_log(node) == (0, 0, 0, 0)


def test_state_that_cannot_be_written(line):
    """Not a failure: it is said once, and the node goes on."""
    node = line.d["r3-node"]
    node.kill()
    blocker = os.path.join(node.state_dir, "node.state.new")
    os.makedirs(os.path.join(blocker, "x"))
    began = len(node.log())
    node.start()
    settled(line)
    line.manager("disconnectNodes", a="r2", b="r3")
    time.sleep(2.5)
    line.connect("r2", "r3")
    settled(line)
    assert node.log()[began:].count("cannot be written") == 1
    os.rmdir(os.path.join(blocker, "x"))
    os.rmdir(blocker)
    node.restart()
    settled(line)


@pytest.mark.parametrize("with_node", [False, True])
def test_connect_while_the_manager_is_away(line, with_node):
    """An app that asks for a connection meanwhile, or before its own node has registered, is served
    as soon as they are there."""
    settled(line)
    manager, node, far = line.d["mgr-nodemanager"], line.d["sub-node"], node_id(line, "gw1")
    manager.kill()
    if with_node:
        node.restart()
    client = line.run("sub", f"echo-early-{with_node}", f"{bin_dir()}/echo", "client", "--to",
                      f"echo@{far}", "--json", "100", "10")
    time.sleep(1.5)
    assert client.popen.poll() is None, client.log()
    manager.start()
    began = time.monotonic()
    status = client.popen.wait(15)
    print(f"connected and done {time.monotonic() - began:.1f} s after the manager's start")
    assert status == 0, client.log()
    assert json.loads(client.log().splitlines()[-1])["received"] == 10
    settled(line)


def test_full_disk(line):
    """A state directory on a file system of its own, with not a byte left: said once, and gone on with; once
    there is room, what is held is on the disk, and a restart takes it up."""
    settled(line)
    node = line.d["r3-node"]
    node.kill()
    kept = {n: open(os.path.join(node.state_dir, n), "rb").read() for n in os.listdir(node.state_dir)}
    sh("mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "none", node.state_dir)
    try:
        for name, data in kept.items():
            with open(os.open(os.path.join(node.state_dir, name), os.O_CREAT | os.O_WRONLY, 0o600),
                      "wb") as f:
                f.write(data)
        filler = fill(node.state_dir)
        began = len(node.log())
        node.start()
        settled(line)
        line.manager("disconnectNodes", a="r2", b="r3")
        time.sleep(1)
        line.connect("r2", "r3")
        settled(line)
        time.sleep(6)  # it has tried again meanwhile
        said = node.log()[began:]
        assert said.count("cannot be written: No space left on device") == 1, said
        os.unlink(filler)
        wait(lambda: "can be written again" in node.log()[began:], 8, "it finds the room by itself")
        node.kill()
        before = len(node.log())
        node.start()
        wait(lambda: "goes on with what was kept" in node.log()[before:], 5, "it took it up")
        assert restart_log(node)[:2] == (3, 3)
        settled(line)
    finally:
        node.kill()
        sh("umount", node.state_dir)
        node.start()
    settled(line)


def fill(folder):
    """A file that takes all the room there is."""
    path = os.path.join(folder, "filler")
    with open(path, "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(bytes(4096))
    return path


# --- half-open channels ---------------------------------------------------------------------------

class Dropped:
    """Within the block TCP segments from and to `port` vanish in `ns`, as with a dead machine."""

    def __init__(self, ns, port):
        self.ns, self.port = ns, port

    def __enter__(self):
        self.ns.run("nft", "add", "table", "inet", "half")
        for hook in ("input", "output"):
            self.ns.run("nft", "add", "chain", "inet", "half", hook,
                        f"{{ type filter hook {hook} priority 0; }}")
            for end in ("dport", "sport"):
                self.ns.run("nft", "add", "rule", "inet", "half", hook, "tcp", end, self.port,
                            "drop")
        self.began = time.monotonic()
        return self

    def wait(self, condition, what):
        wait(condition, 15, what, 0.05)
        seconds = time.monotonic() - self.began
        print(f"{what}: after {seconds:.1f} s")
        assert seconds < 10.5  # 10 s, and what the looking takes

    def __exit__(self, *_):
        self.ns.run("nft", "delete", "table", "inet", "half")


def test_half_open_to_the_manager(line, stream):
    node = line.d["r2-node"]
    before = node.log().count("channel to the manager is closed: silence")
    with Dropped(line["r2"], MANAGER_PORT) as gone:
        gone.wait(lambda: "r2" not in line.registered(), "the manager notices")
        gone.wait(lambda: node.log().count("channel to the manager is closed: silence") > before,
                  "the node notices")
    settled(line)
    stream.finish()


def listed(mesh):
    try:
        return mesh.manager("listApps", kind="all", value="")["apps"]
    except LabError:
        return None


def test_half_open_to_the_tracker(line):
    tracker = line.d["mgr-apptracker"]
    before = len(re.findall(r"manager \S+ is away", tracker.log()))
    with Dropped(line["mgr"], 5998) as gone:
        gone.wait(lambda: len(re.findall(r"manager \S+ is away", tracker.log())) > before,
                  "the tracker notices")
        gone.wait(lambda: listed(line) is None, "the manager notices")
    wait(lambda: listed(line), 15, "apps are listed again")


def test_half_open_to_an_app(line):
    """Over TCP: at this port there is no Unix socket beside it."""
    ns = line["r1"]
    ns.run("nft", "add table ip other; add chain ip other c { type nat hook output priority -100; }; "
           "add rule ip other c tcp dport 17100 redirect to :17000")

    def is_listed():
        return any(a["app"] == "far" for a in listed(line) or [])
    app = line.run("r1", "far-app", f"{bin_dir()}/echo", "server", "--id", "far", "--node",
                   "127.0.0.1:17100", "-d")
    wait(is_listed, 10, "it is listed")
    before = app.log().count("channel ends: silence")
    with Dropped(ns, "{ 17000, 17100 }") as gone:
        gone.wait(lambda: not is_listed(), "the node notices")
        gone.wait(lambda: app.log().count("channel ends: silence") > before, "the app notices")
    wait(is_listed, 15, "it is listed again")
    app.stop()
    ns.run("nft", "delete table ip other")
    wait(lambda: not is_listed(), 10, "it is gone")


# --- programs that know nothing of all this ----------------------------------------------------------

def test_vpn_traffic_goes_on(line):
    """A TCP stream of iperf3 and pings through the VPN while the relays, the manager and the tracker
    are killed and come back, one after the other and together."""
    server = line.daemon("gw1", "vpn-server", {"vpn": {"VPNSubnet": "10.200.0.0/24"}})
    client = line.daemon("sub", "vpn-client", {"vpn": {"Server": "vpn"}})
    wait(lambda: "1 received" in line["sub"].run("ping", "-c1", "-W1", "10.200.0.1", check=False), 20,
         "the VPN is up")
    sink = line.run("gw1", "vpn-iperf3", "iperf3", "--forceflush", "-s", "-B", "10.200.0.1")
    sink.wait_log("Server listening")
    ping = line.run("sub", "ping", "ping", "-i", "0.1", "-D", "10.200.0.1")
    tcp = line.run("sub", "iperf3", "iperf3", "-c", "10.200.0.1", "-t", "13", "-b", "20M", "-i", "1",
                   "-J")
    time.sleep(2)
    daemon = {n: line.d[f"{n}-node"] for n in ("r1", "r2")}
    daemon.update({n: line.d[f"mgr-{n}"] for n in ("nodemanager", "apptracker")})
    for victims, away in ((("r1",), 0.2), (("nodemanager", "apptracker"), 1.0), (("r2",), 0.2),
                          (("nodemanager", "r1", "r2"), 1.0)):
        kill_and_start([daemon[v] for v in victims], away)
        time.sleep(1.6)
    assert tcp.popen.wait(20) == 0, tcp.log()
    ping.signal(signal.SIGINT)
    ping.popen.wait(5)
    sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received",
                                        ping.log()).groups())
    result = json.loads(tcp.log())
    pauses = [i["sum"]["bytes"] for i in result["intervals"]]
    print(f"pings: {received} of {sent}; iperf3: {result['end']['sum_received']['bytes'] / 1e6:.1f} MB, "
          f"bytes in each second {pauses}")
    assert sent - received < 60  # four cuts of at most 1.5 s, 10 a second
    assert result["end"]["sum_received"]["bytes"] == result["end"]["sum_sent"]["bytes"]
    assert result["end"]["sum_received"]["bytes"] > 13 * 2.5e6 * 0.5
    for p in (sink, client, server):
        p.stop()
    settled(line)


# --- manager and tracker --------------------------------------------------------------------------

class QuietApp:
    """Registered, and nothing else; answers pings."""

    def __init__(self, ns, app_id):
        self.app = MeshApp(ns, app_id, "quiet")
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        with contextlib.suppress(OSError, LabError, ValueError):
            while True:
                self.app.receive()


def names(mesh):
    """Sorted (node, app) of all that is listed, or None while there is no list."""
    apps = listed(mesh)
    if apps is not None:
        apps = sorted((a["node"], a["app"]) for a in apps)
        assert len(set(apps)) == len(apps), f"announced twice: {apps}"
    return apps


def kill_and_start(daemons, away):
    for d in daemons:
        d.kill()
    time.sleep(away)
    for d in daemons:
        d.start()


@pytest.mark.parametrize("victims,away", [
    (("apptracker",), 0.0), (("apptracker",), 2.0), (("nodemanager",), 2.0),
    (("nodemanager", "apptracker"), 0.0), (("apptracker", "nodemanager"), 2.0)])
def test_every_app_is_listed_once(line, stream, victims, away):
    quiet = [QuietApp(line[ns], f"quiet-{i}") for ns in ("sub", "gw1", "gw2") for i in range(5)]
    expected = wait(lambda: len(names(line) or []) >= 17 and names(line), 10, "all are listed")
    kill_and_start([line.d[f"mgr-{v}"] for v in victims], away)
    wait(lambda: registered_or_none(line) and names(line) == expected, 20, "all are listed again", 0.05)
    for _ in range(10):
        assert names(line) == expected
        time.sleep(0.2)
    for q in quiet:
        q.app.close()
    stream.finish()
    wait(lambda: len(names(line)) == 1, 10, "those that left are not listed")


def registered_or_none(mesh):
    with contextlib.suppress(OSError, LabError):
        return mesh.registered() >= set(NODES)
    return False


@pytest.mark.parametrize("after_ms", [0, 5, 30])
def test_manager_dies_while_it_makes_a_transport(line, after_ms):
    pair = ("r3", "gw1")
    asking = threading.Thread(target=ask_quietly, args=(line, *pair))
    asking.start()
    time.sleep(after_ms / 1000)
    line.d["mgr-nodemanager"].kill()
    asking.join()
    line.d["mgr-nodemanager"].start()
    settled(line)
    with contextlib.suppress(LabError):
        line.connect(*pair)  # perhaps it had not heard of it yet
    wait(lambda: line.links_up(LINKS + (pair,)), 25, "the link is there")
    assert len(line.transports()) == len(LINKS) + 1
    for name in pair:
        kept_rules(line, name)
        assert restart_log(line.d[f"{name}-node"])[1] == sum(name in p for p in LINKS + (pair,))
    settled(line)
    line.manager("disconnectNodes", a=pair[0], b=pair[1])
    wait(lambda: len(line.transports()) == len(LINKS), 10, "it is gone")


def ask_quietly(mesh, a, b):
    with contextlib.suppress(Exception):
        mesh.connect(a, b)


def die_while_connecting(mesh, far, after_ms):
    """Those connections of six that came up."""
    streams = []

    def connect():
        with contextlib.suppress(LabError, OSError):
            streams.append(EchoStream(mesh["sub"], far, interval=0.02))
    threads = [threading.Thread(target=connect) for _ in range(6)]
    for t in threads:
        t.start()
    time.sleep(after_ms / 1000)
    mesh.d["mgr-nodemanager"].kill()
    mesh.d["mgr-nodemanager"].start()
    settled(mesh)
    for t in threads:
        t.join(25)
    print(f"killed after {after_ms} ms: {len(streams)} of 6 came up")
    return streams


def test_manager_dies_while_it_makes_connections(line):
    settled(line)
    far = node_id(line, "gw1")
    for after_ms in (0, 2, 5, 15, 50):
        streams = die_while_connecting(line, far, after_ms)
        wait(lambda s=streams: line.manager("status")["connections"] == len(s), 30,
             "the manager knows those that came up, and no other")
        for s in streams:
            s.finish()
        wait(lambda: not any(rules_at_manager(line).values()), 10, "no rule is left")
    # What the manager before did not finish, this one removes when nobody asks for it any more
    # (PROTOCOL.md 2.8).
    time.sleep(26)
    for name in ("sub", "r1", "r2", "gw1"):
        assert kept_rules(line, name) == 0
    settled(line)
