"""gatewayd by itself: terms, codes, hooks, crashes, full disks, a flushed ruleset, a thousand leases.
Nobody uses the leases here; test_gateway_traffic.py does."""
import json
import os
import sqlite3

import pytest

import lab as tools
from gateway import PORT, UPLINK, GatewayLab
from lab import LabError, wait

LEASES = 1000
SANITIZED = "san" in tools.bin_dir().split("/")  # slower, and several times as large


@pytest.fixture(scope="module")
def gateway(request):
    lab = GatewayLab()
    try:
        lab.start_mesh()
        lab["inet"].run("mkdir", "-p", lab.folder)
        lab.run("inet", "services", "/usr/bin/python3",
                os.path.join(os.path.dirname(__file__), "services.py"), UPLINK, "2001:db8:1::1")
        add_foreign_state(lab.gw)
        lab.before = state(lab.gw)
        yield lab
    finally:
        if getattr(request.session, "testsfailed", 0):
            print(lab.tail_logs())
        lab.close()
        faults = lab.problems + lab.leaks()
        assert not faults, "\n".join(faults)


FOREIGN_TABLES = """
add table ip foreign
add chain ip foreign c { type nat hook postrouting priority 100; }
add rule ip foreign c oifname "elsewhere" counter masquerade
add table inet other
add set inet other s { type ipv4_addr; }
add element inet other s { 192.0.2.77 }
"""


def add_foreign_state(ns):
    ns.run("nft", "-f", "-", input_text=FOREIGN_TABLES)
    ns.ip("rule", "add", "from", "10.200.0.0/16", "lookup", "200", "priority", "1200")
    ns.ip("route", "add", "10.200.0.0/16", "dev", "lo", "table", "200")
    ns.ip("route", "add", "blackhole", "10.201.0.0/16")


def state(ns):
    """What gatewayd may not change, and traffic control beside it."""
    found = ns.host_state()
    found["tc"] = ns.run("tc", "qdisc", "show")
    return found


def assert_as_before(lab, what=None):
    after = state(lab.gw)
    for key, text in lab.before.items():
        if not what or key in what:
            assert after[key] == text, f"{key}\n{tools.difference(text, after[key])}"


def foreign_tables(ns):
    return ns.run("nft", "-a", "list", "table", "ip", "foreign") + \
        ns.run("nft", "-a", "list", "table", "inet", "other")


def elements(ns, name="up4"):
    """Leases in the table; LabError when it is not there."""
    return ns.run("nft", "list", "map", "inet", "meshnet_gw", name).count("accept")


def leases(lab):
    """What the store holds, read by somebody else."""
    path = os.path.join(lab.running.state_dir, "gatewayd.db")
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return {sid: (ip4, ip6) for sid, ip4, ip6 in db.execute("SELECT sid, ip4, ip6 FROM lease")}


def test_node_info_tells_what_is_now(gateway):
    """Its answer is kept for all who ask; many changes within the second for which it would hold."""
    gateway.start("now")
    for i in range(20):
        gateway.call("setConfig", key="Text", value=f"text {i}")
        before = gateway.call("nodeInfo")["terms"]
        assert before["text"] == f"text {i}"
        sid = gateway.request(f"now{i}")["sid"]
        assert gateway.call("nodeInfo")["terms"]["freeSlots"] == before["freeSlots"] - 1
        gateway.call("endSession", sid=sid)
        assert gateway.call("nodeInfo")["terms"] == before
    # A neighbour of the same table asks with another id, and in another way.
    answer = tools.http_request(gateway.gw, "127.0.0.1", PORT, "POST", "/", json.dumps(
        [{"jsonrpc": "2.0", "id": n, "method": "nodeInfo"} for n in (7, "x")]),
        headers={"Content-Type": "application/json"})[1]
    assert [(a["id"], a["result"]["terms"]["text"]) for a in json.loads(answer)] == [(7, "text 19"), ("x", "text 19")]


def test_settings_codes_and_ending(gateway):
    hook, out = os.path.join(gateway.folder, "hook"), os.path.join(gateway.folder, "hook.out")
    with open(hook, "w", encoding="ascii") as f:
        f.write(f'#!/bin/sh\necho "$#" "$@" >> {out}\n')
    os.chmod(hook, 0o755)
    daemon = gateway.start("first", OnRegister=f"{hook} one two", OnRelease=hook)
    lease = gateway.request("app;rm -rf $HOME")
    sid, until = lease["sid"], str(lease["timeoutTimestamp"])
    assert gateway.request("app;rm -rf $HOME") == lease, "asking twice"
    assert gateway.call("releaseConnection", sid=sid) == {"success": True}
    rest = [sid, "mesh", "app;rm -rf $HOME", "127.0.0.1", lease["ipv4"], lease["ipv6"], "meshgw0",
            until]

    def hooks():
        with open(out, encoding="ascii") as f:
            return sorted(f.read().splitlines())
    wait(lambda: len(hooks()) == 2, 5, "both hooks")
    assert hooks() == sorted([" ".join(["11", "one", "two", "register", *rest]),
                              " ".join(["9", "release", *rest])])

    answer = gateway.call("setConfig", key="LeaseSeconds", value=33)
    assert answer["value"] == 33 and not answer["persistent"]
    assert gateway.call("nodeInfo")["terms"]["leaseSeconds"] == 33
    for key, value in (("LeaseSeconds", 1), ("OnRegister", "/bin/sh"), ("AdminToken", "x"),
                       ("DeniedNetworks", "nonsense"), ("NoSuchKey", 1)):
        with pytest.raises(LabError):
            gateway.call("setConfig", key=key, value=value)
    gateway.meshctl("gw", "set-gateway", "RequireCode", "yes")
    assert "code is needed" in gateway.request("b")["errorMsg"]
    code = gateway.meshctl_json("gw", "add-code", "anna")["code"]
    assert "anna" in gateway.meshctl("gw", "codes")
    refused = [gateway.request("b", code="guess")["errorMsg"] for _ in range(6)]
    assert "not known" in refused[0] and "too many" in refused[-1]
    mine = gateway.request("b", code=code, ns=gateway.host, host="10.77.0.1")
    assert mine["success"], mine
    session = gateway.call("listSessions")["sessions"][0]
    assert session["code"] == "anna" and "code" not in session["name"]
    gateway.meshctl("gw", "remove-code", "anna")
    assert not gateway.request("c", code=code, ns=gateway.host, host="10.77.0.1")["success"]
    gateway.meshctl("gw", "end-session", mine["sid"][:6])
    assert gateway.call("listSessions")["total"] == 0
    with open(os.path.join(daemon.state_dir, "gatewayd.db"), "rb") as f:
        assert code.encode() not in f.read(), "only a hash is kept"
    assert daemon.stop()[0] == 0
    assert_as_before(gateway)


def test_hook_for_a_lease_that_ended_while_down(gateway):
    """Once, at the next start; for what goes on there is none."""
    out = os.path.join(gateway.folder, "down.out")
    hook = f"/bin/sh -c 'echo \"$@\" >> {out}' sh"
    daemon = gateway.start("down", OnRegister=hook, OnRelease=hook)
    over, lasting = gateway.request("over"), gateway.request("lasting")

    def hooks():
        with open(out, encoding="ascii") as f:
            return [line.split()[:2] for line in f]
    wait(lambda: os.path.exists(out) and len(hooks()) == 2, 5, "both began")
    daemon.kill()
    with sqlite3.connect(os.path.join(daemon.state_dir, "gatewayd.db")) as db:  # time goes by
        db.execute("UPDATE lease SET expires = granted - 1 WHERE sid = ?", (over["sid"],))
    daemon.start()
    wait(gateway.ready, 10, "it is back")
    wait(lambda: len(hooks()) > 2, 5, "one has ended")
    assert set(leases(gateway)) == {lasting["sid"]}
    gateway.call("releaseConnection", sid=lasting["sid"])
    wait(lambda: len(hooks()) > 3, 5, "the other, too")
    assert hooks()[2:] == [["release", over["sid"]], ["release", lasting["sid"]]]
    counters = gateway.call("status")["counters"]
    assert (counters["hooksRun"], counters["hooksFailed"], counters["hooksDropped"]) == (2, 0, 0)
    assert daemon.stop()[0] == 0
    assert_as_before(gateway)


def test_uplink(gateway):
    """Advertised while TCP and DNS work; offline at once when the link is gone, long before the next proof."""
    keys = {"UplinkTargets": f"192.0.2.1:9999,{UPLINK}:80", "UplinkDns": UPLINK, "UplinkDnsName": "web.test"}
    daemon = gateway.start("uplink", UplinkInterval=1, **keys)

    def online():
        return gateway.call("nodeInfo")["uplink"]["online"]
    assert gateway.call("nodeInfo")["uplink"]["rttMs"] > 0
    inet = gateway["inet"]
    inet.run("nft", "add table inet cut; add chain inet cut i { type filter hook input priority 0; };"
             "add rule inet cut i udp dport 53 drop")
    wait(lambda: not online(), 8, "no name server, and offline")
    assert "no name server" in daemon.log()
    assert "down" in gateway.request("x")["errorMsg"]
    inet.run("nft", "delete", "table", "inet", "cut")
    wait(online, 8, "it works again")
    assert daemon.stop()[0] == 0
    daemon = gateway.start("uplink-seldom", UplinkInterval=60, **keys)
    gateway.gw.ip("link", "set", "to-inet", "down")
    wait(lambda: not online(), 5, "the link is down, and offline at once")
    gateway.gw.ip("link", "set", "to-inet", "up")
    gateway.default_routes()
    wait(online, 8, "the route is back")
    inet.ip("link", "set", "to-gw", "down")  # no carrier
    wait(lambda: not online(), 5, "no carrier, and offline at once")
    inet.ip("link", "set", "to-gw", "up")
    wait(online, 8, "the carrier is back")
    assert daemon.stop()[0] == 0
    gateway.settle()


def test_a_thousand_leases_and_kill_9(gateway):
    daemon = gateway.start("many", RateKbps=2000, UplinkDownKbps=50000)
    answers = gateway.request_many([f"app{i}" for i in range(LEASES)])
    assert all(a["success"] for a in answers)
    assert len({a["ipv4"] for a in answers}) == len({a["ipv6"] for a in answers}) == LEASES
    assert elements(gateway.gw) == elements(gateway.gw, "down6") == LEASES
    assert leases(gateway) == {a["sid"]: (a["ipv4"], a["ipv6"]) for a in answers}
    assert gateway.gw.run("tc", "class", "show", "dev", "mgw-up").count("parent") == LEASES
    assert daemon.rss_kb() < 60_000 or SANITIZED, f"{daemon.rss_kb()} KB"
    foreign = foreign_tables(gateway.gw)
    daemon.kill()
    assert foreign_tables(gateway.gw) == foreign
    daemon.start()
    wait(gateway.ready, 10, "it is back")
    assert gateway.call("status")["sessions"] == elements(gateway.gw) == LEASES
    again = gateway.request_many([f"app{i}" for i in range(0, LEASES, 10)])
    assert [a["sid"] for a in again] == [a["sid"] for a in answers[::10]], "the same leases"
    assert foreign_tables(gateway.gw) == foreign
    # A killed one leaves nothing behind that its cleanup would not find.
    daemon.kill()
    daemon.cleanup()
    assert_as_before(gateway)
    daemon.start()
    wait(gateway.ready, 10, "it is back")


def test_a_flushed_ruleset_is_put_back(gateway):
    """At once, by what the kernel tells, with everything that the others had left out."""
    repairs = gateway.call("status")["counters"]["rulesetRepairs"]
    for damage in (("flush", "ruleset"), ("flush", "map", "inet", "meshnet_gw", "up4"),
                   ("delete", "table", "inet", "meshnet_gw")):
        gateway.gw.run("nft", *damage)
        wait(lambda: elements(gateway.gw) == elements(gateway.gw, "down6") == LEASES,
             15 if SANITIZED else 3, f"{damage}: the leases are back")
    assert gateway.call("status")["counters"]["rulesetRepairs"] == repairs + 3
    # Its own changes are no reason to repair.
    lease = gateway.request("one-more")
    gateway.call("releaseConnection", sid=lease["sid"])
    assert gateway.call("status")["counters"]["rulesetRepairs"] == repairs + 3
    assert gateway.running.stop()[0] == 0
    gateway.gw.run("nft", "-f", "-", input_text=FOREIGN_TABLES)
    assert_as_before(gateway)


def test_pool_and_host_limits(gateway):
    daemon = gateway.start("small", Pool4="10.117.0.0/29", Pool6="", MaxSubscribers=10,
                           SessionsPerHost=6)
    answers = [gateway.request(f"a{i}") for i in range(6)]
    assert [a["success"] for a in answers] == [True] * 5 + [False]
    assert "no free address" in answers[5]["errorMsg"] and answers[5]["temporary"]
    assert gateway.call("nodeInfo")["terms"]["freeSlots"] == 0
    gateway.call("releaseConnection", sid=answers[0]["sid"])
    assert gateway.request("a9")["success"]
    daemon.config["gateway"].update(Pool4="10.117.0.0/24", SessionsPerHost=2)
    daemon.write_config()
    daemon.restart()
    wait(gateway.ready, 10, "it is back")
    assert "too many sessions" in gateway.request("a10")["errorMsg"]
    assert gateway.request("a10", ns=gateway.host, host="10.77.0.1")["success"], "another host"
    assert daemon.stop()[0] == 0
    assert_as_before(gateway)


def test_full_disk(gateway):
    """No lease that could not be kept; those that are there go on."""
    folder = os.path.join(gateway.folder, "disk")
    os.makedirs(folder)
    tools.sh("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
    try:
        daemon = gateway.start("full", sections={"general": {"StateDir": folder}})
        held = gateway.request("held")
        fd = os.open(os.path.join(folder, "filler"), os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError):
            while os.write(fd, bytes(4096)):
                pass
        os.close(fd)
        refused = next(a for a in (gateway.request(f"n{i}", sid=f"n{i}") for i in range(400))
                       if not a["success"])
        assert "disk is full" in refused["errorMsg"] and refused["temporary"]
        listed = {s["sid"]: s["ipv4"] for s in gateway.call("listSessions", limit=500)["sessions"]}
        assert listed[held["sid"]] == held["ipv4"]
        assert elements(gateway.gw) == len(listed)
        assert gateway.request("held")["sid"] == held["sid"]
        assert gateway.call("nodeInfo")["success"]
        os.remove(os.path.join(folder, "filler"))
        late = gateway.request("late")
        assert late["success"], late
        daemon.kill()
        daemon.start()
        wait(gateway.ready, 10, "it is back")
        after = {s["sid"] for s in gateway.call("listSessions", limit=500)["sessions"]}
        assert after == set(listed) | {late["sid"]}
        assert daemon.stop()[0] == 0
    finally:
        tools.sh("umount", folder)
    assert_as_before(gateway)


def test_a_foreign_clsact_is_left_alone(gateway):
    """Traffic control that somebody else has on the tunnel stays as it is, and status says so."""
    daemon = gateway.start("shaped", RateKbps=2000)
    gateway.gw.run("tc", "qdisc", "add", "dev", "meshgw0", "clsact")
    gateway.gw.run("tc", "filter", "add", "dev", "meshgw0", "ingress", "protocol", "ip", "prio", "5",
                   "u32", "match", "u32", "0", "0", "flowid", "1:1")
    before = gateway.gw.run("tc", "filter", "show", "dev", "meshgw0", "ingress")
    assert gateway.request("a")["success"]
    shaping = gateway.call("status")["shaping"]
    assert not shaping["active"] and "somebody else" in shaping["reason"]
    gateway.call("releaseConnection", sid=gateway.call("listSessions")["sessions"][0]["sid"])
    assert gateway.gw.run("tc", "filter", "show", "dev", "meshgw0", "ingress") == before
    assert daemon.stop()[0] == 0
    assert_as_before(gateway)


def test_answers_without_an_error(gateway):
    """nodeInfo is printed once and given to all, also in batches and by JSON-RPC 1.0."""
    daemon = gateway.start("batch")
    batch = [{"jsonrpc": "2.0", "id": i, "method": "nodeInfo"} for i in range(3)]
    batch.append({"method": "nodeInfo", "params": [], "id": "old"})
    _, body = tools.http_request(gateway.gw, "127.0.0.1", PORT, "POST", "/", json.dumps(batch))
    answers = json.loads(body)
    assert [a["id"] for a in answers] == [0, 1, 2, "old"]
    assert len({json.dumps(a["result"]) for a in answers}) == 1
    assert answers[0]["result"]["gateway"] is True and answers[3]["error"] is None
    assert daemon.stop()[0] == 0
