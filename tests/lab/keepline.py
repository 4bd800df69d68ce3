"""A line of nodes with a stream over it whose every byte is checked, for tests in which programs are
killed and come back (test_keep_*.py).  Run with -s to see the pauses."""
import re
import time

import pytest

from lab import LabError, bin_dir, wait
from meshapp import EchoStream
from topology import NODES


@pytest.fixture(scope="module")
def line(network):
    """sub - r1 - r2 - gw1, and an echo server at gw1.  There is no other way than the one that is
    tried here."""
    network.start_overlay(StandbyPaths=0)
    network.echo = network.run("gw1", "echo-server", f"{bin_dir()}/echo", "server")
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


def kept_rules(mesh, name, written=1.5):
    """How many rules the node has, by its own word: what it takes up after kill -9.  `written`: seconds
    until all is on its disk."""
    time.sleep(written)
    node = mesh.d[f"{name}-node"]
    before = len(re.findall(r"of \d+ rules", node.log()))
    node.kill()
    node.start()
    wait(lambda: len(re.findall(r"of \d+ rules", node.log())) > before, 5, "it is back")
    return restart_log(node)[2]


def listed(mesh):
    try:
        return mesh.manager("listApps", kind="all", value="")["apps"]
    except LabError:
        return None


def kill_and_start(daemons, away):
    for d in daemons:
        d.kill()
    time.sleep(away)
    for d in daemons:
        d.start()
