"""vpn-server and vpn-client as they are used: routes and name servers handed out, split and full
tunnels, the same address for the same client, and nothing left behind."""
import json
import os
import re
import signal
import socket
import subprocess

import pytest

import lab as tools
from hoststate import Resolv
from lab import wait
from topology import HTTP_ADDR, HTTP_ADDR6

SUBNET, SUBNET6 = "10.200.0.0/24", "fd00:200::/64"
SUBNET_V4_ONLY = "10.201.0.0/24"
DNS, MARK = "10.200.0.1", 1749
GW1_UPLINK, GW2_UPLINK = "192.0.2.6", "192.0.2.10"  # what the Internet sees of them
SO_MARK = 36


def foreign(ns):
    """What others have set up on the host, and must stay as it is."""
    ns.run("nft", "add", "table", "inet", "others")
    ns.run("nft", "add", "chain", "inet", "others", "c",
           "{ type filter hook output priority 5 ; policy accept ; }")
    ns.run("nft", "add", "rule", "inet", "others", "c", "meta", "mark", str(MARK), "counter")
    ns.ip("rule", "add", "pref", "11801", "to", "203.0.113.0/24", "lookup", "77")
    ns.ip("route", "add", "203.0.113.0/24", "via", ns.links[next(iter(ns.links))][2], "table", "77")
    ns.ip("-6", "rule", "add", "pref", "20000", "to", "2001:db8:f::/48", "lookup", "77")


@pytest.fixture(scope="module")
def vpn(network):
    clients = ("sub", "gw2", "r3")
    network.start_internet()
    network.start_overlay()
    network.resolv = {ns: Resolv(network[ns]) for ns in clients}
    try:
        for ns in ("gw1", *clients):
            foreign(network[ns])
        network.clean = {ns: state_of(network, ns) for ns in ("gw1", *clients)}
        network.servers = {
            "both": network.daemon("gw1", "vpn-server", {"vpn": {
                "VPNSubnet": f"{SUBNET}, {SUBNET6}", "DNS": DNS,
                "Routes": "198.51.100.0/24, 2001:db8:80::/64, 0.0.0.0/0, 127.0.0.0/8"}},
                name="server-both", options=["--json", "--id", "both"]),
            "four": network.daemon("gw1", "vpn-server", {"vpn": {"VPNSubnet": SUBNET_V4_ONLY}},
                                   name="server-four", options=["--json", "--id", "four"])}
        network.clients = {ns: client(network, ns, "both") for ns in ("sub", "r3")}
        yield network
    finally:
        for r in network.resolv.values():
            r.remove()


def client(vpn, ns, server, full="no", **keys):
    vpn.count = getattr(vpn, "count", 0) + 1
    p = vpn.daemon(ns, "vpn-client", {"vpn": {"Server": server, "FullTunnel": full, **keys}},
                   name=f"{ns}-vpn-client-{vpn.count}", options=["--json"])
    p.seen = 0
    online(p)
    return p


def table(vpn, ns):
    """Our own routing table: the first slot has a foreign rule among its priorities."""
    assert "11801:\tfrom all to 203.0.113.0/24 lookup 77" in vpn[ns].ip("rule")
    return re.search(r"^11805:\tfrom all lookup (\d+)", vpn[ns].ip("rule"), re.M).group(1)


def lines(p):
    return [json.loads(line) for line in p.log().splitlines() if line.startswith("{")]


def online(p):
    """The newest line that says so, once there is one more of them than before."""
    def more():
        ups = [line for line in lines(p) if line.get("state") == "up"]
        return ups[-1] if len(ups) > p.seen else None
    p.up = wait(more, 20, f"{p.name} is up")
    p.seen += 1
    return p.up


def fetch(vpn, ns, host=HTTP_ADDR, timeout=3):
    try:
        return tools.http_request(vpn[ns], host, 80, timeout=timeout)[0] == 200
    except OSError:
        return False


def seen_by_internet(vpn, ns):
    """The address from which the Internet's web server sees a request from there."""
    with open(os.path.join(vpn.folder, "http.log"), encoding="utf-8") as f:
        before = len(f.read())
    assert fetch(vpn, ns)
    with open(os.path.join(vpn.folder, "http.log"), encoding="utf-8") as f:
        return re.findall(r"^(\S+) - - ", f.read()[before:], re.M)[-1]


def datagram_comes_from(vpn, mark):
    """The address from which the Internet sees a datagram of gw2 with that mark."""
    there = vpn["inet"].socket(socket.AF_INET, socket.SOCK_DGRAM)
    here = vpn["gw2"].socket(socket.AF_INET, socket.SOCK_DGRAM)
    with there, here:
        there.bind((HTTP_ADDR, 0))
        there.settimeout(3)
        here.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        here.sendto(b"x", there.getsockname())
        return there.recvfrom(10)[1][0]


def state_of(vpn, ns):
    """Without counters, which may go on."""
    state = vpn[ns].host_state()
    state["nft"] = re.sub(r"counter packets \d+ bytes \d+", "counter", state["nft"])
    return state


def unchanged(vpn, ns):
    wait(lambda: state_of(vpn, ns) == vpn.clean[ns], 5, f"{ns} is as before")
    if ns in vpn.resolv:
        assert vpn.resolv[ns].text() == Resolv.BEFORE


# --- split tunnel ---------------------------------------------------------------------------------

def test_several_clients_have_both_families(vpn):
    ups = [c.up for c in vpn.clients.values()]
    assert len({u["ipv4"] for u in ups}) == len({u["ipv6"] for u in ups}) == 2
    one, other = (u["ipv4"].split("/")[0] for u in ups)
    assert one != other
    wait(lambda: tools.ping_rtts(vpn["sub"], other, 1), 5, "from client to client")


@pytest.mark.parametrize("host", [HTTP_ADDR, HTTP_ADDR6])
def test_routes_are_handed_out(vpn, host):
    """sub has no way to the Internet but this."""
    assert fetch(vpn, "sub", host)


def test_split_tunnel_is_only_what_was_named(vpn):
    routes = vpn["sub"].ip("route", "show", "table", table(vpn, "sub"))
    assert "198.51.100.0/24" in routes and "default" not in routes and "127.0.0.0" not in routes
    assert not vpn["sub"].ip("route", "show", "default")
    assert "198.51.100" not in vpn["sub"].ip("route", "show", "table", "main")


def test_name_servers(vpn):
    text = vpn.resolv["sub"].text()
    assert f"nameserver {DNS}\n" in text and "192.0.2.53" not in text
    assert f"nameserver {DNS}" in vpn["sub"].run("cat", "/etc/resolv.conf")


def test_an_address_that_was_not_leased_is_not_forwarded(vpn):
    sub, interface = vpn["sub"], vpn.clients["sub"].up["interface"]
    sub.ip("addr", "add", "10.200.0.99/32", "dev", interface)
    out = sub.run("ping", "-c", 3, "-i", 0.2, "-W", 1, "-I", "10.200.0.99", HTTP_ADDR, check=False)
    assert "100% packet loss" in out
    sub.ip("addr", "del", "10.200.0.99/32", "dev", interface)
    assert fetch(vpn, "sub")


# --- leases ---------------------------------------------------------------------------------------

def reload(p, wanted):
    p.write_config()
    before = len(lines(p))
    p.signal(signal.SIGHUP)
    wait(lambda: lines(p)[before].get("reload") == wanted, 10, f"{p.name} reads its file: {wanted}")


def test_hup_is_not_the_end(vpn):
    """What can be taken is; what cannot is said; what is wrong is refused; and packets go on."""
    for p, key in ((vpn.servers["both"], "VPNSubnet"), (vpn.clients["sub"], "MTU")):
        config = {s: dict(k) for s, k in p.config.items()}
        p.config["vpn"][key] = "10.210.0.0/24" if key == "VPNSubnet" else "1400"
        p.config["general"]["LogLevel"] = "debug"
        reload(p, "done")
        p.wait_log("has changed: it holds from the next start")
        assert f"vpn.{key.lower()} has changed" in p.log().lower()
        p.config["vpn"][key] = "nonsense"
        reload(p, "refused")
        p.wait_log("the old one stays in use")
        p.config = config
        told = p.log().count("has changed")
        reload(p, "done")
        assert p.log().count("has changed") == told
        assert p.alive()
    vpn["sub"].run("ping", "-c", "1", "-W", "2", DNS)


def test_the_same_client_has_the_same_address(vpn):
    p = vpn.clients["sub"]
    had = p.up["ipv4"], p.up["ipv6"]
    p.kill()
    p.start()
    assert (online(p)["ipv4"], p.up["ipv6"]) == had
    other = vpn.clients["r3"].up["ipv4"]
    vpn.servers["both"].kill()
    vpn.servers["both"].start()
    for c in vpn.clients.values():
        online(c)
    assert (p.up["ipv4"], p.up["ipv6"]) == had and vpn.clients["r3"].up["ipv4"] == other
    assert fetch(vpn, "sub")


# --- full tunnel ----------------------------------------------------------------------------------

@pytest.fixture
def full(vpn, request):
    """gw2 has an uplink of its own, for both families."""
    assert fetch(vpn, "gw2") and fetch(vpn, "gw2", HTTP_ADDR6)
    p = client(vpn, "gw2", request.param, "yes")
    yield p
    p.stop()
    unchanged(vpn, "gw2")
    assert fetch(vpn, "gw2") and fetch(vpn, "gw2", HTTP_ADDR6)


@pytest.mark.parametrize("full", ["both"], indirect=True)
def test_full_tunnel(vpn, full):
    assert seen_by_internet(vpn, "gw2") == GW1_UPLINK
    assert fetch(vpn, "gw2", HTTP_ADDR6)
    assert f"nameserver {DNS}\n" in vpn.resolv["gw2"].text()
    assert full.up["interface"] in vpn["gw2"].ip("route", "get", "8.8.8.8")
    # Connected networks, and what the mesh itself is carried by, stay outside.
    assert "to-r3" in vpn["gw2"].ip("route", "get", vpn["gw2"].links["r3"][2])
    assert "to-inet" in vpn["gw2"].ip("route", "get", "8.8.8.8", "mark", MARK)
    assert datagram_comes_from(vpn, 0) == GW1_UPLINK
    assert datagram_comes_from(vpn, MARK) == GW2_UPLINK
    counter = re.search(r"mark \w+ counter packets (\d+)", vpn["gw2"].run("nft", "list", "ruleset"))
    assert int(counter.group(1)) > 10
    # A server that is gone does not send us back to our own uplink.
    vpn.servers["both"].kill()
    wait(lambda: lines(full)[-1].get("state") == "down", 10, "the client notices")
    assert not fetch(vpn, "gw2", timeout=1) and not fetch(vpn, "gw2", HTTP_ADDR6, 1)
    vpn.servers["both"].start()
    online(full)
    assert seen_by_internet(vpn, "gw2") == GW1_UPLINK
    for c in vpn.clients.values():
        online(c)


@pytest.mark.parametrize("full", ["four"], indirect=True)
def test_no_ipv6_leaks_beside_an_ipv4_tunnel(vpn, full):
    assert "ipv6" not in full.up
    assert seen_by_internet(vpn, "gw2") == GW1_UPLINK
    assert not fetch(vpn, "gw2", HTTP_ADDR6, 1)
    assert "unreachable default" in vpn["gw2"].ip("-6", "route", "show", "table", table(vpn, "gw2"))


# --- nothing is left ------------------------------------------------------------------------------

@pytest.mark.parametrize("again", [False, True])
def test_kill_of_a_full_tunnel_leaves_nothing(vpn, again):
    """After --cleanup, and after a next start and its end."""
    p = client(vpn, "gw2", "both", "yes")
    p.kill()
    assert state_of(vpn, "gw2") != vpn.clean["gw2"] and vpn.resolv["gw2"].text() != Resolv.BEFORE
    if again:
        p.start()
        online(p)
        assert seen_by_internet(vpn, "gw2") == GW1_UPLINK
        p.stop()
    else:
        p.cleanup()
    unchanged(vpn, "gw2")


def test_what_others_wrote_stays(vpn):
    """resolv.conf that somebody has changed meanwhile is theirs."""
    p = client(vpn, "gw2", "both", "yes")
    with open(vpn.resolv["gw2"].path, "w", encoding="ascii") as f:
        f.write("nameserver 192.0.2.99\n")
    p.stop()
    assert vpn.resolv["gw2"].text() == "nameserver 192.0.2.99\n"
    with open(vpn.resolv["gw2"].path, "w", encoding="ascii") as f:
        f.write(Resolv.BEFORE)
    unchanged(vpn, "gw2")


def test_two_clients_on_one_host(vpn):
    """Each has rules and a table of its own."""
    two = client(vpn, "sub", "four")
    assert fetch(vpn, "sub") and tools.ping_rtts(vpn["sub"], "10.201.0.1", 2)
    two.stop()
    assert fetch(vpn, "sub")


def test_a_state_directory_is_one_client_s(vpn):
    p = vpn.clients["sub"]
    second = subprocess.run(["ip", "netns", "exec", vpn["sub"].full, *p.argv], capture_output=True,
                            text=True, timeout=10, check=False, env=vpn.environment)
    assert second.returncode == 1 and "a StateDir of its own" in second.stderr
    assert fetch(vpn, "sub")


def test_the_ends_leave_nothing(vpn):
    for ns, p in vpn.clients.items():
        status, seconds = p.stop()
        assert status == 0 and seconds < 2
        unchanged(vpn, ns)
    vpn.servers["both"].kill()
    vpn.servers["both"].cleanup()
    # It has switched forwarding on first, and takes it back; who still needs it sees to that.
    wait(lambda: vpn["gw1"].run("cat", "/proc/sys/net/ipv4/ip_forward") == "1\n", 10, "forwarding")
    assert vpn.servers["four"].stop()[0] == 0
    unchanged(vpn, "gw1")
