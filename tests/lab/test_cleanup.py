"""gatewayd and subscriberd borrow the host's network: after kill -9, the next start or --cleanup
takes back exactly what was theirs, and what others put there stays."""
import pytest

import lab as tools
from lab import wait


def assert_same(ns, before):
    after = ns.host_state()
    for what, text in before.items():
        assert after[what] == text, f"{ns.name}: {what}\n{tools.difference(text, after[what])}"


def add_foreign_state(ns):
    """What somebody else has on the host, of every kind that our daemons use too."""
    ns.run("nft", "add table ip foreign; add chain ip foreign c { type nat hook postrouting "
           "priority 100; }; add rule ip foreign c counter masquerade")
    ns.run("nft", "add table inet foreign6; add chain inet foreign6 f { type filter hook forward "
           "priority 0; }")
    ns.ip("rule", "add", "from", "10.200.0.0/16", "lookup", "200", "priority", "1200")
    ns.ip("route", "add", "10.200.0.0/16", "dev", "lo", "table", "200")
    ns.ip("-6", "rule", "add", "from", "fd99::/64", "lookup", "201", "priority", "1201")
    ns.ip("route", "add", "blackhole", "10.201.0.0/16")


@pytest.fixture(scope="module")
def before(network):
    """The mesh without its two borrowers; then they start, and the page loads."""
    network.start_internet()
    network.start_overlay()
    for name in ("gw1", "sub"):
        add_foreign_state(network[name])
    states = {name: network[name].host_state() for name in ("gw1", "sub")}
    network.start_gateway("gw1")
    network.start_subscriber()
    network.wait_online()
    return states


def test_something_was_changed(network, before):
    """Otherwise the tests below prove nothing."""
    gateway, subscriber = network["gw1"].host_state(), network["sub"].host_state()
    for what in ("nft", "routes", "links", "forwarding"):
        assert gateway[what] != before["gw1"][what], what
    for what in ("rules", "routes", "links"):
        assert subscriber[what] != before["sub"][what], what


def test_subscriberd_killed_and_cleaned_up(network, before):
    daemon = network.d["sub-subscriberd"]
    daemon.kill()
    daemon.cleanup()
    assert_same(network["sub"], before["sub"])
    daemon.cleanup()  # a second time changes nothing
    assert_same(network["sub"], before["sub"])


def test_subscriberd_killed_and_started_again(network, before):
    daemon = network.d["sub-subscriberd"]
    daemon.start()
    network.wait_online()
    daemon.kill()
    daemon.start()
    network.wait_online()
    assert daemon.stop()[0] == 0
    assert_same(network["sub"], before["sub"])


def test_gatewayd_killed_and_cleaned_up(network, before):
    daemon = network.d["gw1-gatewayd"]
    daemon.kill()
    daemon.cleanup()
    assert_same(network["gw1"], before["gw1"])
    daemon.cleanup()
    assert_same(network["gw1"], before["gw1"])


def test_gatewayd_killed_and_started_again(network, before):
    daemon = network.d["gw1-gatewayd"]
    daemon.start()
    wait(lambda: network.gateway("gw1", "nodeInfo")["success"], 10, "it answers")
    daemon.kill()
    daemon.start()
    wait(lambda: network.gateway("gw1", "nodeInfo")["success"], 10, "it answers again")
    network.d["sub-subscriberd"].start()
    network.wait_online()
    assert daemon.stop()[0] == 0
    assert_same(network["gw1"], before["gw1"])
    network.d["sub-subscriberd"].stop()
    assert_same(network["sub"], before["sub"])


def test_a_host_without_anything_to_clean(network):
    """--cleanup where the daemon never ran is no error and changes nothing."""
    ns = network["gw2"]
    state = ns.host_state()
    for program in ("gatewayd", "subscriberd"):
        ns.run(f"{tools.bin_dir()}/{program}", "-o", f"general.StateDir={network.folder}/never",
               "-f", "/dev/null", "--cleanup", env=network.environment)
    assert_same(ns, state)
