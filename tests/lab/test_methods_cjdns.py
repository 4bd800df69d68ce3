"""The method "cjdns" against a stand-in that speaks its admin protocol and carries packets
(cjdns_standin.py): no real cjdns runs here."""
import json
import os
import time

import pytest

from lab import wait
from methods import MethodLab
from uplink import INET4, INET6

STANDIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cjdns_standin.py")
# Real keys: their hashes begin with fc.
KEYS = {"gw": "uyn822n9qks1nd252hpnk1lt5pcg0g6bl5bxfj987jl9ncvqu100.k",
        "s1": "lh2747f6fmpd9cdsbn7bsn2lxwzdrhzml42xcg2652vxfhkr50z0.k",
        "s2": "rdv6m7tngpf0n1b44lh4cfxh4xj9465hxg0xspfup5nw7lgtqy70.k"}
PORT = 4343
SECTION = {"AdminPassword": "secret", "Interface": "cjdns0"}


def standin(lab, name):
    others = ("s1", "s2") if name == "gw" else ("gw",)
    peers = [f"{KEYS[o]}={lab[name].links[o][2]}:{PORT}" for o in others]
    return lab.run(name, f"cjdns-{name}", "/usr/bin/python3", STANDIN, "cjdns0", "secret",
                   KEYS[name], str(PORT), os.path.join(lab.folder, f"cjdns-{name}.calls"), *peers)


@pytest.fixture(scope="module")
def net(request):
    lab = MethodLab()
    try:
        lab.standins = {name: standin(lab, name) for name in KEYS}
        for name in KEYS:
            wait(lambda name=name: "cjdns0" in lab[name].host_state()["links"] and
                 ("127.0.0.1", 11234) in lab[name].listening("udp"), 10, "the stand-in is up")
            lab.clean[name] = lab[name].host_state()
        lab.start_gateway("cjdns", {"UplinkInterface": lab["gw"].links["inet"][0]}, cjdns=SECTION)
        for name in ("s1", "s2"):
            lab.start_subscriber(name, "cjdns", cjdns={"AdminPassword": "secret"})
        for name in ("s1", "s2"):
            lab.wait_online(name)
        yield lab
    finally:
        if getattr(request.session, "testsfailed", 0):
            print(lab.tail_logs())
        lab.close()
        faults = lab.problems + lab.leaks()
        assert not faults, "\n".join(faults)


def calls(net, name):
    with open(os.path.join(net.folder, f"cjdns-{name}.calls"), encoding="ascii") as f:
        return [json.loads(line) for line in f]


def open_at(net, name):
    """What the stand-in has: number -> arguments."""
    now = {}
    for what, args, reply in calls(net, name):
        if what in ("IpTunnel_allowConnection", "IpTunnel_connectTo"):
            now[reply["connection"]] = args
        elif what == "IpTunnel_removeConnection" and reply["error"] == "none":
            now.pop(args["connection"])
    return now


def test_both_families_go_through_it(net):
    for name in ("s1", "s2"):
        for host in (INET4, INET6):
            assert net.fetch(name, 300_000, host, 10) == 300_000
        assert net.interface(name) == "cjdns0"
    session = wait(lambda: (s := net.session("s1"))["downBytes"] >= 600_000 and s, 5, "counters")
    assert session["downBytes"] < 900_000 and session["upBytes"] > 0


def test_cjdns_is_told_the_leases_and_no_more(net):
    for name in ("s1", "s2"):
        session = net.session(name)
        assert {"publicKeyOfNodeToConnectTo": KEYS["gw"]} in open_at(net, name).values()
        mine = [a for a in open_at(net, "gw").values()
                if a["ip4Address"] == session["ipv4"].split("/")[0]]
        assert len(mine) == 1
        assert mine[0]["ip4Prefix"] == mine[0]["ip4Alloc"] == 32
        assert mine[0]["ip6Address"] == session["ipv6"].split("/")[0]
        assert mine[0]["ip6Prefix"] == mine[0]["ip6Alloc"] == 128
    assert len(open_at(net, "gw")) == 2


def test_wrong_and_foreign_keys_are_refused(net):
    def ask(sid, options):
        return net.gateway("requestConnection", sid=sid, name="x", port=0, method="cjdns",
                           options=options)
    for options in ({}, {"key": "bad"}, {"key": "v" + KEYS["gw"][1:]}, {"key": KEYS["gw"]},
                    {"key": 7}, {"key": KEYS["s1"]}):
        assert not ask("stranger", options)["success"], options
    assert len(open_at(net, "gw")) == 2


def test_another_address_does_not_pass(net):
    victim = net.session("s1")["ipv4"].split("/")[0]
    net["s2"].ip("addr", "add", f"{victim}/32", "dev", "cjdns0")
    try:
        out = net["s2"].run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "0.5", "-I", victim, INET4,
                            check=False)
        assert " 0 received" in out
    finally:
        net["s2"].ip("addr", "del", f"{victim}/32", "dev", "cjdns0")
    assert net.fetch("s2", 1000) and net.fetch("s1", 1000)


def test_opens_within_two_seconds_and_disturbs_nobody(net):
    ping = net.run("s1", "steady", "ping", "-n", "-i", "0.02", "-c", "100", "-W", "2", INET4)
    daemon = net.subscribers["s2"]
    daemon.stop()
    net.assert_clean("s2")
    wait(lambda: not open_at(net, "s2") and len(open_at(net, "gw")) == 1, 3, "it is taken back")
    began = time.monotonic()
    daemon.start()
    net.wait_online("s2")
    assert time.monotonic() - began < 2.0
    ping.popen.wait(20)
    assert " 0% packet loss" in ping.log(), ping.log()[-300:]


def test_gateway_killed_and_started_again(net):
    """What cjdns has stays in use; nothing is allowed twice."""
    before = open_at(net, "gw")
    net.gateway_daemon.kill()
    net.gateway_daemon.start()
    net.wait_gateway()
    for name in ("s1", "s2"):
        net.wait_online(name, 20)
    assert open_at(net, "gw") == before


def test_gateway_s_cjdns_started_again(net):
    """Its interface and its connections are new ones; ours are put there again."""
    net.standins["gw"].kill()
    os.unlink(os.path.join(net.folder, "cjdns-gw.calls"))
    net.standins["gw"] = standin(net, "gw")
    for name in ("s1", "s2"):
        net.wait_online(name, 20)
    assert len(open_at(net, "gw")) == 2


def test_subscriber_killed(net):
    daemon = net.subscribers["s1"]
    daemon.kill()
    daemon.cleanup()
    daemon.start()
    net.wait_online("s1")
    assert len(open_at(net, "s1")) == 1


def test_everything_is_closed_without_a_trace(net):
    for name in ("s1", "s2"):
        status, _ = net.subscribers[name].stop()
        assert status == 0
        net.assert_clean(name)
        assert not open_at(net, name)
    wait(lambda: not net.gateway("listSessions")["sessions"], 8, "no lease is left")
    status, _ = net.gateway_daemon.stop()
    assert status == 0
    net.assert_clean("gw")
    assert not open_at(net, "gw")
