"""A node's own restart while the manager is away, half-open channels, and restarts of manager and
tracker: with traffic running, every byte checked.  Run with -s to see the pauses."""
import os
import re
import time

import pytest

from lab import LabError, bin_dir, wait
from meshapp import EchoStream, MeshApp
from topology import LINKS, MANAGER_PORT, NODES


@pytest.fixture(scope="module")
def line(overlay):
    """sub - r1 - r2 - gw1, and an echo server at gw1."""
    overlay.run("gw1", "echo-server", f"{bin_dir()}/echo", "server")
    settled(overlay)
    return overlay


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
