"""Restarts of manager and tracker, and half-open channels: with traffic running, every byte checked."""
import contextlib
import re
import threading
import time

import pytest

from keepline import (kept_rules, kill_and_start, line, listed, node_id,  # noqa: F401
                      restart_log, rules_at_manager, settled, stream)
from lab import LabError, bin_dir, wait
from meshapp import EchoStream, MeshApp
from topology import LINKS, MANAGER_PORT, NODES


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


LEFT_SECONDS = 26  # after which the manager must have taken away what is left (PROTOCOL.md 2.8)
left = {}  # since when


def test_manager_dies_while_it_makes_connections(line):
    """What the manager before did not finish is looked for by a later test: that needs time."""
    settled(line)
    far = node_id(line, "gw1")
    for after_ms in (0, 2, 5, 15, 50):
        streams = die_while_connecting(line, far, after_ms)
        wait(lambda s=streams: line.manager("status")["connections"] == len(s), 30,
             "the manager knows those that came up, and no other")
        for s in streams:
            wait(lambda s=s: s.received, 10, "something has come back")
            s.finish()
        wait(lambda: not any(rules_at_manager(line).values()), 10, "no rule is left")
    left["since"] = time.monotonic()


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


def listed_once(line, stream, victims, away):
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


@pytest.mark.parametrize("away", [0.0, 2.0])
def test_every_app_is_listed_once_by_the_next_tracker(line, stream, away):
    listed_once(line, stream, ("apptracker",), away)


# --- what is left, once the manager that died first has been gone for long; then that one dies too ---

def test_nothing_is_left_of_connections_that_were_not_made(line):
    """What the manager before did not finish, this one has removed when nobody asked for it."""
    assert "since" in left, "needs the test in which the manager died"
    time.sleep(max(0, left["since"] + LEFT_SECONDS - time.monotonic()))
    time.sleep(1.5)
    server = line.echo.log().count("registered at node")
    for name in ("gw1", "sub", "r1", "r2"):
        assert kept_rules(line, name, 0) == 0
    wait(lambda: line.echo.log().count("registered at node") > server, 10, "the echo server is back")
    settled(line)


def test_half_open_to_the_manager(line, stream):
    node = line.d["r2-node"]
    before = node.log().count("channel to the manager is closed: silence")
    with Dropped(line["r2"], MANAGER_PORT) as gone:
        gone.wait(lambda: "r2" not in line.registered(), "the manager notices")
        gone.wait(lambda: node.log().count("channel to the manager is closed: silence") > before,
                  "the node notices")
    settled(line)
    stream.finish()


@pytest.mark.parametrize("victims,away", [
    (("nodemanager",), 2.0), (("nodemanager", "apptracker"), 0.0), (("apptracker", "nodemanager"), 2.0)])
def test_every_app_is_listed_once(line, stream, victims, away):
    listed_once(line, stream, victims, away)


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
