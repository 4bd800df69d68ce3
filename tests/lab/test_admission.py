"""Who may be in the mesh and as what, with the real daemons: invites, roles and revoked keys, also
under traffic and over kill -9 of the manager; and a node that was let in and does harm.  The tests
build on each other."""
import os
import re
import time

import pytest

import lab as tools
from lab import LabError, bin_dir, sh, wait
from meshapp import EchoStream
from topology import LINKS, MANAGER_PORT, NODES

EXTRA_LINK = ("r3", "gw1")  # a second way from r1 to gw1
ALL_LINKS = LINKS + (EXTRA_LINK,)
RELAYS = ("r2", "r3")
AT_ONCE = 2.0  # seconds, whoever else has the CPUs; that a neighbour is silent is noticed after 3


@pytest.fixture(scope="module")
def strict(network):
    """A manager that wants tokens; no node yet."""
    network.start_tracker()
    network.start_manager(Admission="token", Tokens="green-door")
    wait(lambda: network.nodes() == [], 10, "the manager answers")
    return network


def invite(mesh, *options):
    return mesh.meshctl_json("mgr", "invite", *options)["token"]


def node_of(mesh, name):
    return next(n for n in mesh.nodes() if n["name"] == name)


def state_of(mesh, name):
    return node_of(mesh, name)["state"]


def registers(mesh, name, timeout=10):
    wait(lambda: name in mesh.registered(), timeout, f"{name} registers")


def kill_and_start_manager(mesh):
    mesh.d["mgr-nodemanager"].kill()
    mesh.d["mgr-nodemanager"].start()
    wait(lambda: mesh.nodes() is not None, 10, "the manager answers", 0.01)


# --- invites --------------------------------------------------------------------------------------

def test_invite_has_uses_and_a_role(strict):
    token = invite(strict, "--uses", "2", "--expires", "12h", "--role", "relay")
    assert re.fullmatch(r"[a-z2-9]{32}", token)
    for name in ("r1", "r2"):
        strict.start_node(name, Token=token)
        registers(strict, name)
        assert node_of(strict, name)["role"] == "relay"
    strict.d["r1-node"].wait_log(r"registered with the manager as a relay")
    third = strict.start_node("r3", Token=token)
    third.wait_log(r"refuses this node.*used up")
    assert "r3" not in strict.registered()
    listed = strict.meshctl("mgr", "invites")
    assert "used up" in listed and "relay" in listed and token not in listed
    for suffix in ("", "-wal"):
        with open(os.path.join(strict.d["mgr-nodemanager"].state_dir, "nodemanager.db" + suffix),
                  "rb") as f:
            assert token.encode() not in f.read()
    third.stop()


def test_an_invite_expires(strict):
    token = invite(strict, "--expires", "1s")
    time.sleep(2.1)
    node = strict.start_node("r3", Token=token)
    node.wait_log(r"refuses this node.*expired")
    node.stop()


def test_a_removed_invite_lets_nobody_in(strict):
    token = invite(strict)
    strict.meshctl("mgr", "remove-invite", token)
    with pytest.raises(LabError, match="no such invite"):
        strict.meshctl("mgr", "remove-invite", token)
    node = strict.start_node("r3", Token=token)
    node.wait_log(r"refuses this node.*not known")
    node.stop()


def test_who_was_let_in_needs_no_token_again(strict):
    """Nor is anything forgotten when the manager is killed: neither the uses nor who is in."""
    used = [i["used"] for i in strict.manager("listInvites")["invites"]]
    strict.d["r1-node"].stop()
    kill_and_start_manager(strict)
    strict.start_node("r1", Token="")
    for name in ("r1", "r2"):
        registers(strict, name)
        assert node_of(strict, name)["role"] == "relay"
    assert [i["used"] for i in strict.manager("listInvites")["invites"]] == used


def test_names(strict):
    for name, why in (("r1", "belongs to another key"), ("12345678", "looks like a number or an id")):
        node = strict.start("gw2", "node", {"node": {
            "Hostname": name, "ManagerAddr": f"{strict.address('mgr')}:{MANAGER_PORT}",
            "ManagerKey": strict.manager_key, "Token": "green-door"}})
        node.wait_log(why)
        node.stop()
    assert len(strict.nodes()) == 2


def test_all_come_in(strict):
    """r3 by a token of the file; the ends by an invite for members."""
    token = invite(strict, "--uses", "3")
    strict.start_node("r3", Token="green-door")
    for name in ("gw1", "gw2", "sub"):
        strict.start_node(name, Token=token)
    wait(lambda: strict.registered() >= set(NODES), 20, "all nodes are registered")
    for a, b in ALL_LINKS:
        strict.connect(a, b)
    wait(lambda: strict.links_up(ALL_LINKS), 20, "all transports are up")
    assert node_of(strict, "r3")["role"] == "gateway" and node_of(strict, "sub")["role"] == "member"


# --- roles ----------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def echo(strict):
    strict.run("gw1", "echo-server", f"{bin_dir()}/echo", "server")
    wait(lambda: len(strict.manager("listApps", kind="by_type", value="echo")["apps"]) == 1, 10,
         "the echo server is listed")
    return node_of(strict, "gw1")["id"]


def hops(mesh, a, b):
    return [n["name"] for n in mesh.manager("findRoute", a=a, b=b)["nodes"]]


def relay_in_use(mesh):
    return next(r for r in RELAYS if mesh.manager("listRoutes", node=r)["routes"])


def test_a_member_is_not_in_the_middle(strict, echo):
    stream = EchoStream(strict["sub"], echo)
    wait(lambda: stream.received > 50, 10, "messages come back")
    for _ in range(2):
        relay = relay_in_use(strict)
        other = "r3" if relay == "r2" else "r2"
        strict.meshctl("mgr", "set-role", relay, "member")
        wait(lambda: relay_in_use(strict) == other and
             not strict.manager("listRoutes", node=relay)["routes"], 5, "the path has moved", 0.02)
        assert hops(strict, "sub", "gw1") == ["sub", "r1", other, "gw1"]
        assert hops(strict, "sub", relay)[-1] == relay  # it may be an end
        strict.meshctl("mgr", "set-role", relay, "relay")
        strict.meshctl("mgr", "set-role", other, "relay")
    strict.meshctl("mgr", "set-role", "r2", "member")
    strict.meshctl("mgr", "set-role", "r3", "member")
    with pytest.raises(LabError, match="no way"):
        strict.manager("findRoute", a="sub", b="gw1")
    for relay in RELAYS:
        strict.meshctl("mgr", "set-role", relay, "relay")
    stream.finish()  # not a byte lost


def test_only_gateways_offer_a_way_out(strict, echo):
    server = strict.run("gw1", "socks-server", f"{bin_dir()}/socks-server")
    strict.d["gw1-node"].wait_log(r"does not list app.*role gateway")
    assert strict.manager("listApps", kind="by_type", value="socks_server")["apps"] == []
    server.stop()
    strict.meshctl("mgr", "set-role", "gw1", "gateway")
    server = strict.run("gw1", "socks-server-2", f"{bin_dir()}/socks-server")
    wait(lambda: strict.manager("listApps", kind="by_type", value="socks_server")["apps"], 10,
         "the proxy is listed")
    strict.meshctl("mgr", "set-role", "gw1", "member")
    wait(lambda: not strict.manager("listApps", kind="by_type", value="socks_server")["apps"], 5,
         "the proxy is withdrawn")
    server.stop()


# --- revoked keys ---------------------------------------------------------------------------------

def ports_towards(mesh, name):
    """neighbour -> UDP port of its end of the transport to `name`."""
    found = {}
    for t in mesh.transports():
        if t["a_name"] == name:
            found[t["b_name"]] = t["b_port"]
        if t["b_name"] == name:
            found[t["a_name"]] = t["a_port"]
    return found


def still_open(mesh, ports):
    return {n: p for n, p in ports.items() if p in {port for _, port in mesh[n].listening("udp")}}


def test_revoke_under_traffic(strict, echo):
    stream = EchoStream(strict["sub"], echo)
    wait(lambda: stream.received > 50, 10, "messages come back")
    relay = relay_in_use(strict)
    ports = ports_towards(strict, relay)
    assert len(ports) >= 3 and still_open(strict, ports) == ports
    began = time.monotonic()
    strict.meshctl("mgr", "revoke", relay)
    wait(lambda: not still_open(strict, ports), 5, "all neighbours have dropped it", 0.01)
    took = time.monotonic() - began
    node = strict.d[f"{relay}-node"]
    node.wait_log(r"refuses this node.*revoked")
    assert state_of(strict, relay) == "revoked"
    time.sleep(1)
    pause = stream.pause_since(began)
    stream.finish()
    print(f"revoked: dropped by {len(ports)} neighbours after {took * 1000:.0f} ms, "
          f"pause {pause * 1000:.0f} ms")
    assert took < AT_ONCE and pause < AT_ONCE
    assert relay in strict.meshctl("mgr", "revoked")
    # Neither another process nor another manager lets it in.
    node.restart()
    node.wait_log(r"(?s)(revoked.*){2}")
    kill_and_start_manager(strict)
    wait(lambda: strict.registered() >= set(NODES) - {relay}, 20, "the others are back")
    refused = strict.manager("status")["refused_revoked"]
    wait(lambda: strict.manager("status")["refused_revoked"] > refused, 15, "it tries in vain")
    assert relay not in strict.registered()
    lines = strict.d["mgr-nodemanager"].log().count("is refused")
    assert lines < 20, "the log is not flooded"


def test_unrevoke(strict):
    relay = next(n["name"] for n in strict.nodes() if n["state"] == "revoked")
    strict.meshctl("mgr", "unrevoke", relay)
    registers(strict, relay, 20)
    wait(lambda: strict.links_up(ALL_LINKS), 25, "its links are made again")
    assert strict.meshctl("mgr", "revoked").strip() == "no key is revoked"


def test_revoke_while_the_neighbours_are_away(strict, echo):
    """Right after a start of the manager, before any node is back: they learn it as they come."""
    relay = "r2"
    ports = ports_towards(strict, relay)
    assert still_open(strict, ports) == ports
    identity = node_of(strict, relay)["id"]
    kill_and_start_manager(strict)
    strict.manager("revoke", node=identity)
    wait(lambda: strict.registered() >= set(NODES) - {relay}, 20, "the others are back", 0.01)
    began = time.monotonic()
    wait(lambda: not still_open(strict, ports), 5, "all neighbours have dropped it", 0.01)
    assert time.monotonic() - began < AT_ONCE
    assert not set(ports_towards(strict, relay))
    strict.meshctl("mgr", "unrevoke", identity)
    registers(strict, relay, 20)
    wait(lambda: strict.links_up(ALL_LINKS), 25, "its links are made again")


# --- the list of nodes ----------------------------------------------------------------------------

def test_allowlist(strict):
    """Changed while the manager runs: who is taken off the list is cut off."""
    manager = strict.d["mgr-nodemanager"]
    known = {n["name"]: n["id"] for n in strict.nodes()}
    for name in NODES:
        strict.meshctl("mgr", "allow", known[name])
    manager.config["nodemanager"]["Admission"] = "allowlist"
    manager.write_config()
    kill_and_start_manager(strict)
    wait(lambda: strict.registered() >= set(NODES), 20, "all nodes are back")
    strict.meshctl("mgr", "disallow", "gw2")
    assert known["gw2"] not in strict.meshctl("mgr", "allowed")
    strict.d["gw2-node"].wait_log(r"refuses this node.*not on it")
    assert "gw2" not in strict.registered()
    strict.meshctl("mgr", "allow", known["gw2"])
    registers(strict, "gw2", 20)
    manager.config["nodemanager"]["Admission"] = "token"
    manager.write_config()
    kill_and_start_manager(strict)
    wait(lambda: strict.registered() >= set(NODES), 20, "all nodes are back")
    wait(lambda: strict.links_up(ALL_LINKS), 25, "all transports are up")


# --- a node that does harm ------------------------------------------------------------------------

def test_a_hostile_node_harms_nobody_else(strict, echo):
    hostile = os.path.join(os.path.dirname(bin_dir()), "bench-bin", "hostile")
    if not os.path.exists(hostile):
        sh("make", "-s", "-C", tools.TOP, os.path.relpath(hostile, tools.TOP), timeout=120)
    # Until then nobody is told "no way": who could carry it might still come back.
    wait(lambda: not strict.manager("status")["recovering"], 25, "the manager has recovered", 0.2)
    before = {t["id"] for t in strict.transports()}
    stream = EchoStream(strict["sub"], echo)
    wait(lambda: stream.received > 50, 10, "messages come back")
    program = strict.run("gw2", "hostile", hostile, f"{strict.address('mgr')}:{MANAGER_PORT}",
                         strict.manager_key, 6, "green-door", *[n["id"] for n in strict.nodes()])
    registers(strict, "hostile")
    began, slowest = time.monotonic(), 0.0
    while program.alive() and time.monotonic() - began < 20:
        asked = time.monotonic()
        assert hops(strict, "sub", "gw1")[0] == "sub"
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(0.05)
    assert program.popen.returncode == 0, program.log()
    counts = dict((k, int(v)) for k, v in re.findall(r"^(\w+) (\d+)$", program.log(), re.M))
    seen = node_of(strict, "hostile")
    print(f"{counts}\nover_limit {seen['over_limit']}, strays {seen['strays']}, "
          f"slowest RPC {slowest * 1000:.0f} ms")
    assert counts["registered"] >= 2 and counts["kept"] >= 1
    assert counts["connect_other"] >= 1000  # each a search that found no way
    assert counts["connect_busy"] > 0 and counts["app_busy"] > 0 and counts["link_busy"] > 0
    assert counts["ended"] >= 16  # every lie of its report was refused
    assert seen["over_limit"] > 1000 and seen["strays"] > 0
    # The others: not a byte lost, no link lost, nobody over a limit, new connections are made.
    pause = stream.pause_since(began)
    stream.finish()
    print(f"pause of others' traffic {pause * 1000:.0f} ms")
    assert pause < AT_ONCE and slowest < AT_ONCE
    assert {t["id"] for t in strict.transports()} == before
    assert all(n["over_limit"] == 0 for n in strict.nodes() if n["name"] != "hostile")
    stream = EchoStream(strict["sub"], echo)
    wait(lambda: stream.received > 50, 10, "a new connection works")
    stream.finish()
    strict.meshctl("mgr", "revoke", "hostile")
    strict.meshctl("mgr", "forget-node", "hostile")
    assert "hostile" in strict.meshctl("mgr", "revoked")
