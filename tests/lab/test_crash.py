"""kill -9 of each daemon in turn: it comes back by itself being started again, and nobody else has
to be restarted.  The tests build on each other: after each, all is well again."""
import time

import pytest

from lab import wait
from topology import GATEWAYS, LINKS, NODES


def pids(mesh, *but):
    return {k: d.pid for k, d in mesh.d.items() if k not in but}


def crash(mesh, key):
    others = pids(mesh, key)
    mesh.d[key].kill()
    return others


def all_is_well(mesh, others):
    wait(lambda: mesh.registered() >= set(NODES), 20, "all nodes are registered")
    wait(mesh.links_up, 25, "all transports are up")
    mesh.wait_online(20)
    wait(lambda: len(mesh.manager("listApps", kind="by_type", value="internet_gateway")["apps"])
         == len(GATEWAYS), 20, "both gateways are in the tracker")
    assert {k: d.pid for k, d in mesh.d.items() if k in others} == others
    assert all(d.alive() for d in mesh.d.values())


def test_apptracker(mesh):
    others = crash(mesh, "mgr-apptracker")
    # Without it the manager says so, and the data plane does not care.
    assert mesh.fetch()
    wait(lambda: tracker_error(mesh), 10, "app calls answer with an error")
    mesh.d["mgr-apptracker"].start()
    all_is_well(mesh, others)


def tracker_error(mesh):
    try:
        mesh.manager("listApps", kind="all", value="")
    except Exception as e:
        return str(e)
    return None


def test_nodemanager_is_not_missed_by_traffic(mesh):
    others = crash(mesh, "mgr-nodemanager")
    began = time.monotonic()
    while time.monotonic() - began < 3:
        assert mesh.fetch(), "traffic goes on without the manager"
        time.sleep(0.1)
    mesh.d["mgr-nodemanager"].start()
    all_is_well(mesh, others)


@pytest.mark.parametrize("which", ["r2", "r3"])
def test_a_relay(mesh, which):
    """While it is away the others carry the traffic; when it is back its links are made again."""
    others = crash(mesh, f"{which}-node")
    mesh.wait_online(15)
    wait(lambda: not any(which in pair for pair in mesh.up_links()), 10, "its links are down")
    mesh.d[f"{which}-node"].start()
    all_is_well(mesh, others)


def test_the_only_relay_of_the_subscriber(mesh):
    others = crash(mesh, "r1-node")
    time.sleep(1)
    mesh.d["r1-node"].start()
    all_is_well(mesh, others)


def test_node_of_the_gateway_in_use(mesh):
    gateway = mesh.gateway_in_use()
    others = crash(mesh, f"{gateway}-node")
    mesh.wait_online(15)
    mesh.d[f"{gateway}-node"].start()
    all_is_well(mesh, others)


def test_node_of_the_subscriber(mesh):
    others = crash(mesh, "sub-node")
    time.sleep(1)
    mesh.d["sub-node"].start()
    all_is_well(mesh, others)


def test_gatewayd_keeps_its_leases(mesh):
    gateway = mesh.gateway_in_use()
    leases = {s["sid"]: s["ipv4"] for s in mesh.gateway(gateway, "listSessions")["sessions"]}
    assert leases
    others = crash(mesh, f"{gateway}-gatewayd")
    mesh.d[f"{gateway}-gatewayd"].start()
    wait(lambda: mesh.gateway(gateway, "nodeInfo")["success"], 10, "it answers")
    now = {s["sid"]: s["ipv4"] for s in mesh.gateway(gateway, "listSessions")["sessions"]}
    assert leases.items() <= now.items()
    all_is_well(mesh, others)


def test_subscriberd(mesh):
    others = crash(mesh, "sub-subscriberd")
    mesh.d["sub-subscriberd"].start()
    all_is_well(mesh, others)
    assert len(mesh.transports()) == len(LINKS)


def test_the_manager_and_the_tracker_at_once(mesh):
    others = pids(mesh, "mgr-nodemanager", "mgr-apptracker")
    mesh.d["mgr-nodemanager"].kill()
    mesh.d["mgr-apptracker"].kill()
    time.sleep(0.5)
    assert mesh.fetch()
    mesh.d["mgr-nodemanager"].start()  # without its tracker first
    wait(lambda: mesh.registered() >= set(NODES), 20, "nodes register without a tracker")
    mesh.d["mgr-apptracker"].start()
    all_is_well(mesh, others)
