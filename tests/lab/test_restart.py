"""Restarts under traffic: a stream through two relays, every byte checked, while the nodemanager or
the apptracker is killed and started again, or a relay dies.  Run with -s to see the pauses."""
import signal
import time

import pytest

from lab import bin_dir, wait
from meshapp import EchoStream
from topology import LINKS, NODES

EXTRA_LINK = ("r3", "gw1")  # a second way from r1 to gw1
ALL_LINKS = LINKS + (EXTRA_LINK,)


@pytest.fixture(scope="module")
def diamond(overlay):
    """sub - r1 - (r2 | r3) - gw1, and an echo server at gw1."""
    overlay.connect(*EXTRA_LINK)
    overlay.run("gw1", "echo-server", f"{bin_dir()}/echo", "server")
    wait(lambda: overlay.links_up(ALL_LINKS), 20, "all transports are up")
    wait(lambda: echo_servers(overlay) == 1, 10, "the echo server is listed")
    return overlay


def echo_servers(mesh):
    return len(mesh.manager("listApps", kind="by_type", value="echo")["apps"])


def node_id(mesh, name):
    return next(n["id"] for n in mesh.nodes() if n["name"] == name)


@pytest.fixture
def stream(diamond):
    wait(lambda: diamond.registered() >= set(NODES), 20, "all nodes are registered")
    wait(lambda: diamond.links_up(ALL_LINKS), 25, "all transports are up")
    s = EchoStream(diamond["sub"], node_id(diamond, "gw1"))
    time.sleep(1.5)  # and a standby path is there
    yield s
    s.app.close()


def rules(mesh):
    """Everything that the manager knows of routes and transports, but for what is measured, and for
    standby paths, which each manager makes anew."""
    found = {n: sorted(tuple(sorted(r.items())) for r in mesh.manager("listRoutes", node=n)["routes"]
                       if not r["standby"]) for n in NODES}
    found["transports"] = sorted((t["id"], t["status"], t["a"], t["b"], t["a_port"], t["b_port"])
                                 for t in mesh.transports())
    found["connections"] = mesh.manager("status")["connections"]
    return found


def relay_in_use(mesh):
    return next(r for r in ("r2", "r3") if rules(mesh)[r])


def restart_manager(mesh, away):
    began = time.monotonic()
    mesh.d["mgr-nodemanager"].kill()
    time.sleep(away)
    mesh.d["mgr-nodemanager"].start()
    wait(lambda: mesh.registered() >= set(NODES), 20, "all nodes are registered", 0.02)
    back = time.monotonic()
    wait(lambda: mesh.links_up(ALL_LINKS), 20, "all transports are up", 0.02)
    return began, back


@pytest.mark.parametrize("away", [0.0, 3.0])
def test_nodemanager(diamond, stream, away):
    before = rules(diamond)
    assert before["connections"] == 1 and before["r1"]
    began, _ = restart_manager(diamond, away)
    wait(lambda: rules(diamond) == before, 10, "the manager knows what it knew")
    time.sleep(1)
    pause = stream.pause_since(began)
    print(f"nodemanager away for {away} s: pause {pause * 1000:.0f} ms")
    stream.finish()
    assert pause < 1
    wait(lambda: not any(rules(diamond)[n] for n in NODES), 5, "closed: no rule is left")


def test_apptracker(diamond, stream):
    began = time.monotonic()
    diamond.d["mgr-apptracker"].kill()
    time.sleep(1)
    diamond.d["mgr-apptracker"].start()
    wait(lambda: echo_servers(diamond) == 1, 15, "the echo server is listed again, once")
    pause = stream.pause_since(began)
    print(f"apptracker restarted: pause {pause * 1000:.0f} ms")
    stream.finish()
    assert pause < 0.5


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_relay_in_use(diamond, stream, how):
    """Killed: the manager sees its channel close.  Frozen, as a machine without power: nobody says
    anything; only the silence can be noticed."""
    relay = diamond.d[f"{relay_in_use(diamond)}-node"]
    began = time.monotonic()
    if how == "killed":
        relay.kill()
    else:
        relay.signal(signal.SIGSTOP)
    time.sleep(5)
    pause = stream.pause_since(began)
    if how == "killed":
        relay.start()
    else:
        relay.signal(signal.SIGCONT)
    print(f"relay {how}: pause {pause * 1000:.0f} ms")
    stream.finish()
    assert pause < 1.3


def test_relay_dies_while_the_manager_is_away(diamond, stream):
    """Nobody can give a new path; it comes as soon as the manager and those of the path are back."""
    relay, began = diamond.d[f"{relay_in_use(diamond)}-node"], time.monotonic()
    diamond.d["mgr-nodemanager"].kill()
    relay.kill()
    time.sleep(1)
    diamond.d["mgr-nodemanager"].start()
    wait(lambda: stream.times[-1] > began + 1, 9, "messages come back again", 0.02)
    time.sleep(0.5)
    pause = stream.pause_since(began)
    relay.start()
    print(f"relay killed while the manager was away for 1 s: pause {pause * 1000:.0f} ms")
    stream.finish()
    assert pause < 5


def test_route_by_hand(diamond):
    wait(lambda: diamond.registered() >= set(NODES), 20, "all nodes are registered")
    wait(lambda: diamond.links_up(ALL_LINKS), 25, "all transports are up")
    diamond.meshctl("mgr", "build-route", "sub", "r1", "r2", "r3", "gw2")
    before = rules(diamond)
    assert all(len(before[n]) == 2 for n in ("sub", "r1", "r2", "r3", "gw2"))
    restart_manager(diamond, 0)
    assert rules(diamond) == before
    time.sleep(1)
    assert rules(diamond) == before
