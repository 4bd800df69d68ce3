"""Which ways connections take: a link gets bad, operators have their say, the manager is away; with a
stream running whose every byte is checked."""
import signal
import time

import pytest

from conftest import finish
from emulator import Emulator
from lab import Lab, bin_dir, rpc, wait
from meshapp import EchoStream

NODES = ("a", "r1", "r2", "r3", "b")
LINKS = (("a", "r1"), ("r1", "b"), ("a", "r2"), ("r2", "b"))
THIRD = (("a", "r3"), ("r3", "b"))  # cables only; a test makes transports of them


class Diamond(Lab):
    """a - (r1 | r2 | r3) - b, with a cable of the manager to each; an emulator between a and r1."""

    def __init__(self):
        super().__init__()
        self.nodes = {}
        try:
            self._build()
            self._start()
        except BaseException:
            self.close()
            raise

    def _build(self):
        self.add(*NODES, "mgr")
        self.emulator = Emulator(self)
        self.emulator.join("a", "r1", "10.90.1.0/24")
        for i, (a, b) in enumerate(LINKS[1:] + THIRD, 2):
            self.link(a, b, f"10.90.{i}.0/24")
        for i, n in enumerate(NODES, 1):
            self.link("mgr", n, f"10.91.{i}.0/24")
        self.emulator.start(delay=0.1)
        self.settle()

    def _start(self):
        self.daemon("mgr", "apptracker")
        self.manager = self.daemon("mgr", "nodemanager")
        wait(lambda: 1234 in [p for _, p in self["mgr"].listening()], 10, "the manager listens")
        for n in NODES:
            self.nodes[n] = self.daemon(n, "node", {
                "node": {"Name": n, "ManagerAddr": f"{self[n].links['mgr'][2]}:5999"},
                "transport": {"StatsInterval": 500}})
        wait(lambda: len(self.ids()) == len(NODES), 20, "all nodes register")
        for a, b in LINKS:
            self.rpc("connectNodes", a=a, b=b)
        self.run("b", "echo", f"{bin_dir()}/echo", "server")
        wait(lambda: self.rpc("listApps")["apps"], 10, "the echo server is listed")

    def rpc(self, method, /, **params):
        return rpc(self["mgr"], 1234, method, params)

    def ids(self):
        return {n["name"]: n["id"] for n in self.rpc("listNodes")["nodes"] if n["connected"]}

    def transport(self, a, b):
        return next(t for t in self.rpc("listAllTransports")["transports"]
                    if {t["a_name"], t["b_name"]} == {a, b})

    def relays(self):
        """Those that carry; two while a connection moves."""
        return [r for r in NODES if r[0] == "r" and self.rules(r, standby=False)]

    def standbys(self):
        return [r for r in NODES if r[0] == "r" and self.rules(r, standby=True)]

    def set_standbys(self, number):
        """SIGHUP."""
        self.manager.config.setdefault("nodemanager", {})["StandbyPaths"] = number
        self.manager.write_config()
        self.manager.signal(signal.SIGHUP)

    def rules(self, node, standby):
        return [r for r in self.rpc("listRoutes", node=node)["routes"] if r["standby"] == standby]


@pytest.fixture(scope="module")
def diamond(request):
    lab = Diamond()
    yield lab
    finish(lab, request)


@pytest.fixture
def stream(diamond):
    """Runs over r1, which is the cheaper way by the word of the operator."""
    diamond.emulator.start(delay=0.1)
    wait(lambda: len(diamond.ids()) == len(NODES), 20, "all nodes are there")
    wait(lambda: all(diamond.transport(*pair)["status"] == "connected" for pair in LINKS), 20,
         "all transports are up")
    for r in ("r1", "r2"):
        diamond.meshctl("mgr", "set-transit", r, "yes")
    diamond.meshctl("mgr", "set-cost", "a", "r2", "1500")
    diamond.meshctl("mgr", "set-cost", "a", "r1", "100")
    s = EchoStream(diamond["a"], diamond.ids()["b"])
    time.sleep(0.5)
    assert diamond.relays() == ["r1"]
    yield s
    s.app.close()


def moved(diamond, stream, relay, timeout, began):
    """Waits until it runs over that relay alone; no byte is lost and nobody notices."""
    wait(lambda: diamond.relays() == [relay], timeout, f"the connection runs over {relay}")
    print(f"moved after {time.monotonic() - began:.1f} s")
    time.sleep(0.5)
    pause = stream.pause_since(began)
    stream.finish()
    return pause


def test_link_gets_bad(diamond, stream):
    diamond.meshctl("mgr", "set-cost", "a", "r1", "auto")
    assert diamond.transport("a", "r1")["cost"] < 1000 and diamond.relays() == ["r1"]
    diamond.emulator.start(delay=60)
    began = time.monotonic()
    assert moved(diamond, stream, "r2", 20, began) < 1.5
    assert diamond.transport("a", "r1")["cost"] > 5000


def test_set_cost(diamond, stream):
    began = time.monotonic()
    diamond.meshctl("mgr", "set-cost", "a", "r1", "90000")
    assert moved(diamond, stream, "r2", 5, began) < 1
    t = diamond.transport("a", "r1")
    assert t["cost"] == t["set_cost"] == 90000
    assert "r2" in diamond.meshctl("mgr", "find-route", "a", "b")
    both = diamond.meshctl("mgr", "find-route", "a", "b", "--paths", "3")
    assert "path 1" in both and "path 2" in both and "path 3" not in both
    assert "a -> r1 -> b" in both and "a -> r2 -> b" in both


def test_set_transit(diamond, stream):
    began = time.monotonic()
    diamond.meshctl("mgr", "set-transit", "r1", "no")
    assert moved(diamond, stream, "r2", 5, began) < 1
    assert [n["transit"] for n in diamond.rpc("listNodes")["nodes"] if n["name"] == "r1"] == [False]
    assert "a -> r1" in diamond.meshctl("mgr", "find-route", "a", "r1")  # still an end


@pytest.mark.parametrize("manager", ["there", "away"])
def test_relay_dies(diamond, stream, manager):
    """Both ends go over to the standby path by themselves."""
    wait(lambda: diamond.rules("r2", standby=True), 10, "a standby path is there")
    if manager == "away":
        diamond.manager.kill()
    began = time.monotonic()
    diamond.nodes["r1"].kill()
    time.sleep(4)
    pause = stream.pause_since(began)
    print(f"relay killed, the manager {manager}: pause {pause * 1000:.0f} ms")
    stream.check()
    assert stream.times[-1] > began + 3.5
    if manager == "away":
        diamond.manager.start()
        wait(lambda: len(diamond.ids()) == len(NODES) - 1, 20, "the others are back")
    diamond.meshctl("mgr", "set-cost", "a", "r1", "1500")  # no reason to go back there
    diamond.nodes["r1"].start()
    wait(lambda: len(diamond.ids()) == len(NODES), 20, "all nodes are back")
    wait(lambda: diamond.relays() == ["r2"], 20, "the manager knows that it runs over r2")
    wait(lambda: all(diamond.transport(*pair)["status"] == "connected" for pair in LINKS), 20,
         "all transports are up")
    wait(lambda: diamond.rules("r1", standby=True), 8, "a new standby path is there, soon")
    stream.finish()
    assert pause < 1.5
    wait(lambda: not any(diamond.rpc("listRoutes", node=n)["routes"] for n in NODES), 5,
         "closed: no rule is left")


def test_relays_die_one_after_the_other(diamond, stream):
    """Two standby paths, and nobody but the ends: the manager is stopped."""
    diamond.set_standbys(2)
    for pair in THIRD:
        diamond.rpc("connectNodes", a=pair[0], b=pair[1])
    wait(lambda: diamond.standbys() == ["r2", "r3"], 40, "two standby paths are there")
    diamond.manager.signal(signal.SIGSTOP)
    for relay in ("r1", "r2"):  # r2 is told first: it is the next
        began = time.monotonic()
        diamond.nodes[relay].kill()
        time.sleep(4)
        pause = stream.pause_since(began)
        print(f"{relay} killed: pause {pause * 1000:.0f} ms")
        stream.check()
        assert stream.times[-1] > began + 3.5 and pause < 1.5
    diamond.manager.signal(signal.SIGCONT)
    for relay in ("r1", "r2"):
        diamond.nodes[relay].start()
    wait(lambda: diamond.relays() == ["r3"], 20, "the manager knows that it runs over r3")
    wait(lambda: diamond.standbys() == ["r1", "r2"], 60, "two new standby paths are there")
    diamond.set_standbys(1)
    wait(lambda: len(diamond.standbys()) == 1, 5, "one is taken back")
    diamond.set_standbys(0)
    wait(lambda: not diamond.standbys(), 5, "the other too")
    assert diamond.relays() == ["r3"]
    stream.finish()
    diamond.set_standbys(1)
    for pair in THIRD:
        diamond.rpc("disconnectNodes", a=pair[0], b=pair[1])


def test_what_was_said_outlives_the_manager(diamond):
    diamond.meshctl("mgr", "set-transit", "r1", "no")
    diamond.meshctl("mgr", "set-cost", "r2", "b", "777")
    diamond.manager.kill()
    diamond.manager.start()
    wait(lambda: len(diamond.ids()) == len(NODES), 20, "all nodes are back")
    wait(lambda: diamond.transport("r2", "b")["cost"] == 777, 20, "the transport is up, and dear")
    assert "a -> r2 -> b" in diamond.meshctl("mgr", "find-route", "a", "b")
