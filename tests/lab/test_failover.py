"""A subscriber stays online: the standby takes over from a gateway that fails in any way, nothing leaves
beside the tunnel meanwhile, and moves to a better gateway lose nothing."""
import os
import time

import pytest

import lab as tools
from conftest import finish
from failover import DNS, FailoverLab, Stream
from hoststate import Resolv
from lab import wait
from topology import HTTP_ADDR, HTTP_ADDR6

HOOK = """#!/bin/sh
echo "$@ [$MESHNET_EVENT $MESHNET_GATEWAY $MESHNET_IPV4]" >> {log}
"""


@pytest.fixture(scope="module")
def mesh(request):
    lab = FailoverLab()
    try:
        hook = os.path.join(lab.folder, "hook")
        lab.hook_log = os.path.join(lab.folder, "hook.out")
        with open(os.open(hook, os.O_CREAT | os.O_WRONLY, 0o755), "w", encoding="ascii") as f:
            f.write(HOOK.format(log=lab.hook_log))
        lab.subscriber_keys = {k: f"{hook} 'an argument'" for k in
                               ("OnConnect", "OnDisconnect", "OnGoingOnline", "OnGoingOffline")}
        yield lab.bring_up()
    finally:
        finish(lab, request)


def hooks(mesh):
    with open(mesh.hook_log, encoding="utf-8") as f:
        return f.read().splitlines()


def cannot_connect(ns, host):
    try:
        tools.http_request(ns, host, 80, timeout=1)
        return False
    except OSError:
        return True


def test_a_standby_is_kept(mesh):
    used, other = mesh.both()
    assert used != other
    sessions = mesh.subscriber("listSessions")["sessions"]
    assert [s["role"] for s in sessions] == ["active", "standby"]
    assert len({s["interface"] for s in sessions}) == 2 and all(s["ipv4"] for s in sessions)
    for gw in (used, other):
        assert [s["name"] for s in mesh.gateway(gw, "listSessions")["sessions"]]
    # No default route leads through it.
    standby = sessions[1]["interface"]
    assert f"default dev {standby}" not in mesh["sub"].ip("route", "show", "table", "11700")
    assert mesh.fetch() and used


def test_ranking_explains_itself(mesh):
    shown = mesh.meshctl("sub", "gateways")
    assert "online" in shown and "standby" in shown and "rtt" in shown and "uplink" in shown
    listed = mesh.subscriber("listGateways")["gateways"]
    assert [g["rank"] for g in listed] == [1, 2]
    assert mesh.meshctl("sub", "sessions", check=False) and "standby" in mesh.meshctl(
        "sub", "status")


def test_name_servers_are_set(mesh):
    text = mesh.resolv.text()
    assert f"nameserver {DNS}\n" in text and "192.0.2.53" not in text


def test_hooks(mesh):
    wait(lambda: len(hooks(mesh)) >= 2, 5, "the hooks have run")
    used, _ = mesh.both()
    online, connect = hooks(mesh)[:2]
    assert online.startswith("an argument onGoingOnline") and "[onGoingOnline gw" in online
    assert connect.startswith("an argument onConnect gw") and f"mesh0 {mesh.session()['ipv4'][:5]}" in connect
    assert used in connect


def test_packet_loss(mesh):
    cost = mesh.strike("packet loss 40 %")
    assert cost["leaked"] == 0 and cost["outage"] < 3, cost


def test_rpc_dead_but_tunnel_alive(mesh):
    """A move with both alive: nothing is lost."""
    cost = mesh.strike("RPC dead, tunnel alive")
    assert cost["moved"] and not cost["failover"] and cost["leaked"] == 0, cost
    assert cost["lost"] == 0 and cost["outage"] < 0.5, cost


@pytest.mark.parametrize("fault", ["tunnel dead, RPC alive", "uplink cut", "link cut",
                                   "gateway killed"])
def test_fault(mesh, fault):
    cost = mesh.strike(fault, timeout=10)
    assert cost["failover"] and cost["leaked"] == 0, cost
    assert cost["detect"] < 3 and cost["switch"] < 0.5 and cost["outage"] < 5, cost


def test_an_ordered_move_loses_nothing(mesh):
    used, other = mesh.both()
    leaked = mesh.leaked()
    fresh, pinned = Stream(mesh["sub"]), Stream(mesh["sub"], pinned=True)
    wait(lambda: fresh.flows(0) and pinned.flows(0), 5, "the streams flow")
    out = mesh.meshctl("sub", "connect-gateway", other)
    assert other in out
    assert mesh.gateway_in_use() == other
    time.sleep(0.5)
    for stream in (fresh, pinned):
        assert not stream.finish(1).lost()
        assert len(stream.back) > 50
    assert mesh.leaked() == leaked and used != other


def test_a_gateway_without_ipv6(mesh):
    """IPv6 is unreachable then, by the routes already, and not direct."""
    leaked = mesh.leaked()
    mesh.meshctl("sub", "connect-gateway", "gw2")
    with pytest.raises(tools.LabError, match="No route to host"):
        mesh["sub"].ip("-6", "route", "get", HTTP_ADDR6)
    assert cannot_connect(mesh["sub"], HTTP_ADDR6) and mesh.fetch()
    mesh.meshctl("sub", "connect-gateway", "gw1")
    assert mesh.fetch(host=HTTP_ADDR6) and mesh.fetch()
    mesh.subscriber("connect")
    mesh.both()
    assert mesh.leaked() == leaked


def test_an_unknown_gateway_is_asked_first(mesh):
    used = mesh.gateway_in_use()
    with pytest.raises(tools.LabError, match="refused|unreachable|answer"):
        mesh.meshctl("sub", "connect-gateway", mesh.address("r1"), "-p", "65533", "-m", "mesh")
    assert mesh.gateway_in_use() == used and mesh.fetch()
    mesh.subscriber("connect")  # the best, again
    mesh.both()


def test_killed_and_restarted_nothing_leaks(mesh):
    """Not a byte before, while and after: kill -9, a start, an orderly end, a start."""
    leaked, daemon = mesh.leaked(), mesh.d["sub-subscriberd"]
    stream = Stream(mesh["sub"])
    daemon.kill()
    assert cannot_connect(mesh["sub"], HTTP_ADDR) and cannot_connect(mesh["sub"], HTTP_ADDR6)
    daemon.start()
    mesh.wait_online()
    assert daemon.stop()[0] == 0
    assert cannot_connect(mesh["sub"], HTTP_ADDR) and cannot_connect(mesh["sub"], HTTP_ADDR6)
    # What is near stays reachable all the while.
    assert tools.ping_rtts(mesh["sub"], mesh.address("mgr"), 1)
    daemon.start()
    mesh.wait_online()
    stream.finish()
    assert mesh.leaked() == leaked


def test_somebody_takes_the_kill_switch_away(mesh):
    mesh["sub"].run("nft", "delete", "table", "inet", "meshnet_sub")
    wait(lambda: "meshnet_sub" in mesh["sub"].run("nft", "list", "tables"), 8, "it is back")


def test_found_by_tracker_and_by_address(mesh):
    """One gateway, reached in two ways: when it has to be asked anew and one is dead, by the other."""
    gw1, http = mesh["gw1"], f"http:{mesh.address('gw1')}:65533"
    mesh.meshctl("sub", "disconnect")
    # The gateway may not have heard of the release yet, and refuse the app another session: that is waited out.
    mesh.meshctl("sub", "connect-gateway", mesh.address("gw1"), "-p", "65533", "-m", "mesh")
    assert mesh.session()["key"] == http
    assert mesh.status()["orderState"] == "done" and "orderWhy" not in mesh.status()

    def one_entry():
        gateway, = [g for g in mesh.subscriber("listGateways")["gateways"] if g["name"] == "gw1"]
        return len(gateway["ways"]) == 2 and gateway
    gateway = wait(one_entry, 5, "the two ways are one gateway")
    assert {w["via"] for w in gateway["ways"]} == {"mesh", "http"}
    assert gateway["state"] == "online" and gateway["foundBy"].count(",") == 1
    assert http in gateway["why"] or "by the mesh" in gateway["why"]
    assert "mesh,http" in mesh.meshctl("sub", "gateways") or "http,mesh" in mesh.meshctl("sub", "gateways")
    gw1.run("nft", "add", "table", "inet", "deaf")
    gw1.run("nft", "add", "chain", "inet", "deaf", "c", "{ type filter hook input priority 0; }")
    gw1.run("nft", "add", "rule", "inet", "deaf", "c", "tcp", "dport", "65533", "ip", "saddr",
            "10.77.0.0/16", "reject", "with", "tcp", "reset")
    mesh.meshctl("gw1", "end-session", mesh.session()["sid"])
    wait(lambda: mesh.status()["online"] and mesh.session()["key"].startswith("mesh:"), 15,
         "it is used by its other way")
    assert mesh.session()["gateway"] == "gw1" and mesh.fetch()
    gw1.run("nft", "delete", "table", "inet", "deaf")
    mesh.subscriber("connect")
    mesh.both()


def test_what_is_left_behind(mesh):
    """Nothing but the kill switch, and --cleanup takes that too."""
    daemon, before = mesh.d["sub-subscriberd"], mesh.before["sub"]
    assert mesh.resolv.text() != Resolv.BEFORE
    assert daemon.stop()[0] == 0
    left = before.differences()
    assert len(left) == 1 and "meshnet_sub" in left[0], left
    assert hooks(mesh)[-1].startswith("an argument onGoingOffline")
    daemon.cleanup()
    before.check()
