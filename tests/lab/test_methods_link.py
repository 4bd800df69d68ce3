"""The methods that are links of the kernel, each end to end: methodlab.py says where.

What this machine's kernel has is tested here, the others by tests/vm, which runs this file inside
and says which by MESHNET_METHODS.  The tests leave everybody offline.
"""
import json
import os
import re
import socket
import struct
import subprocess
import time

import lab as tools
import pytest
from conftest import finish
from lab import LabError, wait
from methodlab import HOSTS, HTTP_ADDR, HTTP_ADDR6, SLOW, SUBSCRIBERS, MethodLab, udp_packet
from uplink import GATEWAY_PORT

# A method, with a 6 where the addresses outside are of IPv6, and the link that it needs there.
KINDS = {"direct": None, "direct6": None, "vxlan": "vxlan id 1", "vxlan6": "vxlan id 1",
         "gre": "gre", "gre6": "ip6gre", "ipip": "sit", "ipip6": "ip6tnl"}


# At c, of what the others send to the Internet by it.
LEAKS = f"""
table inet leaks {{
  counter leaked {{ }}
  chain c {{
    type filter hook prerouting priority -300;
    ip daddr {HTTP_ADDR} counter name leaked
    ip6 daddr {HTTP_ADDR6} counter name leaked
  }}
}}
"""


def kernel_has(kind, v6):
    """Tries it, in a namespace that goes at once."""
    ends = "local fd00::1 remote fd00::2" if v6 else "local 192.0.2.1 remote 192.0.2.2"
    argv = f"unshare --net ip link add probe0 type {kind} {ends}".split()
    return subprocess.run(argv, stderr=subprocess.DEVNULL, check=False).returncode == 0


WANTED = os.environ.get("MESHNET_METHODS", "").split() or [
    m for m, kind in KINDS.items() if not kind or kernel_has(kind, m.endswith("6"))]
TUNNELS = [m for m in WANTED if not m.startswith("direct")]
MISSING = [m for m in ("vxlan", "gre", "ipip") if not any(w.startswith(m) for w in WANTED)
           and "MESHNET_METHODS" not in os.environ]

needs_direct = pytest.mark.skipif("direct" not in WANTED, reason="not among MESHNET_METHODS")


def parts(wanted):
    return (wanted[:-1], 6) if wanted.endswith("6") else (wanted, 4)


@pytest.fixture(scope="module")
def net(request):
    offered = dict.fromkeys([parts(m)[0] for m in WANTED] + MISSING)
    lab = MethodLab(list(offered))
    try:
        yield lab
    finally:
        finish(lab, request)


@pytest.fixture
def offline(net):
    yield net
    net.disconnect(*SUBSCRIBERS)


def own(net, name, wanted):
    """(IPv4, IPv6) that packets of this subscriber come from; None where it has none."""
    session = net.session(name)
    if parts(wanted)[0] != "direct":
        return session["ipv4"].split("/")[0], session["ipv6"].split("/")[0]
    return net.lan(name), net.lan(name, 6)


def targets(addresses):
    return [(a, t) for a, t in zip(addresses, (HTTP_ADDR, HTTP_ADDR6)) if a]


def test_methods_that_the_kernel_lacks_are_not_offered(net):
    offered = [m["name"] for m in net.gateway("nodeInfo")["methods"]]
    assert offered == list(dict.fromkeys(parts(m)[0] for m in WANTED))
    reasons = {m["name"]: m["reason"] for m in net.gateway("nodeInfo")["unavailable"]}
    assert list(reasons) == MISSING
    for method in MISSING:
        assert reasons[method].startswith("the kernel has no links of kind")
    links = net["gw"].host_state()["links"]
    assert links == net.before["gw"]["links"], "to look for kinds of links leaves none"


@pytest.mark.parametrize("wanted", WANTED)
def test_download(offline, wanted):
    net, (method, family) = offline, parts(wanted)
    began = time.monotonic()
    session = net.connect("a", method, family)
    seconds = time.monotonic() - began
    assert seconds < 2 * SLOW, f"open after {seconds:.1f} s"
    assert session["method"] == method
    for address, target in targets(own(net, "a", wanted)):
        assert net.fetch("a", target), target
        way = net["a"].ip("route", "get", target)
        assert f"dev {session['interface']}" in way and f"src {address}" in way
    (held,) = net.held("a")
    assert held["sid"] == session["sid"] and held["host"] == net.lan("a", family)
    expected = 300_000 * len(targets(own(net, "a", wanted)))
    counted = wait(lambda: (s := net.held("a")[0])["downBytes"] >= expected and s, 3 * SLOW, "counters")
    assert counted["downBytes"] < expected * 1.3 and 0 < counted["upBytes"] < expected / 3
    assert counted["connected"] and counted["dropped"] == 0


@needs_direct
def test_direct_keeps_the_subscribers_own_interface(offline):
    net = offline
    session = net.connect("a", "direct")
    assert session["interface"] == "lan"
    assert net["a"].host_state()["links"] == net.before["a"]["links"]
    assert net["a"].ip("addr", "show", "lan").count("inet ") == 1
    # The owner's other network is reached as before, with a lease and without one.
    for name in ("a", "c"):
        tools.sh("ip", "netns", "exec", net[name].full, "ping", "-c1", "-W2", "10.78.0.2")
    with pytest.raises((OSError, LabError)):
        net.fetch("c", count=10, timeout=0.5)
    assert net.fetch("a", count=10)


def reaches(net, name, target):
    try:
        return net.fetch(name, target, count=10, timeout=0.7 * SLOW)
    except (OSError, LabError):
        return False


def ask_by_hand(net, name, also, method="requestConnection", **params):
    """What a program of c's own asks, over IPv4."""
    if method == "requestConnection":
        params = {"sid": None, "name": name, "method": "direct", "options": {"also": also}}
    return tools.rpc(net[name], GATEWAY_PORT, method, params, host=net.lan("gw"))


@needs_direct
def test_direct_another_family_has_to_be_ones_own(offline):
    """c has a lease of IPv4, and names addresses of IPv6: nobody's, b's, its own."""
    net = offline
    for also in (["fd77::99"], [net.lan("b", 6)], []):
        sid = ask_by_hand(net, "c", also)["sid"]
        assert reaches(net, "c", HTTP_ADDR) and not reaches(net, "c", HTTP_ADDR6), also
        net.connect("b", "direct")
        assert net.fetch("b", HTTP_ADDR6), "it is b's all the same"
        net.disconnect("b")
        assert ask_by_hand(net, "c", None, "releaseConnection", sid=sid)["success"]
    answer = ask_by_hand(net, "c", [net.lan("b", 6), net.lan("c", 6)][1:])
    assert answer["direct"]["alsoHost"] == net.lan("c", 6)
    assert reaches(net, "c", HTTP_ADDR) and reaches(net, "c", HTTP_ADDR6)
    # One lease: both are gone with it.
    assert ask_by_hand(net, "c", None, "releaseConnection", sid=answer["sid"])["success"]
    assert not reaches(net, "c", HTTP_ADDR) and not reaches(net, "c", HTTP_ADDR6)


@needs_direct
@pytest.mark.parametrize("family", [4, 6])
def test_direct_kill_switch(offline, family):
    """The gateway knows another host at the subscriber's address of the other family, so that one is
    not leased; and the host has another way out, in both."""
    net, other = offline, 10 - family
    a, gw = net["a"], net["gw"]
    target, taken = (HTTP_ADDR6, net.lan("a", 6)) if other == 6 else (HTTP_ADDR, net.lan("a"))
    daemon = net.d["a"]
    gw.ip("neigh", "replace", taken, "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", "lan")
    for f in (4, 6):
        a.ip(f"-{f}", "route", "add", "default", "via", net.lan("c", f))
    net["c"].run("nft", "-f", "-", input_text=LEAKS)
    daemon.config["subscriber"]["KillSwitch"] = "yes"
    daemon.write_config()
    daemon.stop()
    daemon.start()

    def leaves(address):
        with a.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lan")
            try:
                s.sendto(b"x", (address, 9))
            except OSError:
                pass

    try:
        wait(lambda: net.subscriber("a", "status"), 10 * SLOW, "it is there again")
        net.connect("a", "direct", family)
        mine = HTTP_ADDR if family == 4 else HTTP_ADDR6
        assert net.fetch("a", mine) and not reaches(net, "a", target)
        leaves(target)
        daemon.kill()
        leaves(target)
        leaves(mine)
        daemon.start()
        wait(lambda: net.subscriber("a", "status"), 10 * SLOW, "it is there again")
        leaves(target)
        leaves(mine)
        assert "packets 0 " in net["c"].run("nft", "list", "counter", "inet", "leaks", "leaked")
    finally:
        daemon.config["subscriber"]["KillSwitch"] = "no"
        daemon.write_config()
        daemon.stop()
        daemon.start()
        gw.ip("neigh", "del", taken, "dev", "lan")
        net["c"].run("nft", "delete", "table", "inet", "leaks")
        for f in (4, 6):
            a.ip(f"-{f}", "route", "del", "default")
        wait(lambda: net.subscriber("a", "status"), 10 * SLOW, "it is there again")
    # Nobody else is there: both are leased again.
    net.connect("a", "direct", family)
    assert net.fetch("a", HTTP_ADDR) and net.fetch("a", HTTP_ADDR6)


def test_an_order_says_what_it_waits_for(offline):
    """A method that is not ours is refused at once; a gateway that is banned is waited for."""
    net, (method, _) = offline, parts(WANTED[0])
    gateway, section = net.lan("gw"), net.d["a"].config["subscriber"]

    def order():
        return net.subscriber("a", "pollCallStatus", callId=call)

    def ban(whom):
        section["BannedGateways"] = whom
        net.d["a"].write_config()
        net.d["a"].signal(1)
    call = net.subscriber("a", "connect", gateway=gateway, method="mesh")["callId"]
    failed = wait(lambda: order()["done"] and order(), 5 * SLOW, "it is refused")
    assert not failed["success"] and failed["errorMsg"] == "mesh is not among subscriber.Methods"
    ban(gateway)
    try:
        wait(lambda: "is banned" in str(net.subscriber("a", "listGateways")), 5 * SLOW, "it is banned")
        call = net.subscriber("a", "connect", gateway=gateway, method=method)["callId"]
        assert wait(lambda: order().get("waiting"), 5 * SLOW, "why it waits") == "is banned"
        assert not order()["done"]
    finally:
        ban("")
    done = wait(lambda: order()["done"] and order(), 10 * SLOW, "it is connected")
    assert done["success"] and done["method"] == method


def arrivals(net, target, *sends):
    """What arrives in the Internet of what `sends` send, one after the other, up to b"own", which
    has to come last: that what is refused would have come before it is why it is not awaited."""
    with net.listen(target) as sock:
        for send in sends:
            send()
            time.sleep(0.05)
        got = []
        while not got or got[-1] != b"own":
            got.append(sock.recvfrom(100)[0])
        return got


@pytest.mark.parametrize("wanted", WANTED)
def test_addresses_of_others_are_refused(offline, wanted):
    net, (method, family) = offline, parts(wanted)
    net.connect("a", method, family)
    net.connect("b", method, family)
    interface = net.session("a")["interface"]
    victim = own(net, "b", wanted)
    before, theirs = net.spoofed(), net.held("b")[0]["upPackets"]

    def send(source, target, text):
        net.send_packet("a", interface, udp_packet(source, target, text))

    for mine, (theirs_at, target) in zip((a for a in own(net, "a", wanted) if a), targets(victim)):
        # The same packet passes with one's own address, so it is the address that is refused.
        assert arrivals(net, target, lambda: send(theirs_at, target, b"spoofed"),
                        lambda: send(mine, target, b"own")) == [b"own"]
    count = len(targets(victim))
    wait(lambda: net.spoofed() >= before + count, 3 * SLOW, "it is counted as spoofing")
    time.sleep(0.6)  # older counters are shown for half a second
    assert net.held("b")[0]["upPackets"] <= theirs + 20 * SLOW  # the probes of b


def outer(net, wanted, inner):
    """A stranger's packet to the gateway with `inner` in it, as b would send it but for the
    outer address; and the protocol.  What only the two ends know, the stranger has guessed."""
    links = json.loads(net["gw"].ip("-d", "-j", "link", "show"))
    theirs = next(li for li in links if "linkinfo" in li and
                  li["linkinfo"].get("info_data", {}).get(
                      "remote6" if wanted == "vxlan6" else "remote")
                  == net.lan("b", parts(wanted)[1]))
    data = theirs["linkinfo"]["info_data"]
    if wanted.startswith("ipip"):
        return 4, inner
    if wanted.startswith("gre"):
        key = int(socket.inet_aton(data["ikey"]).hex(), 16)
        return 47, struct.pack(">HHI", 0x2000, 0x800, key) + inner
    fdb = net["gw"].run("bridge", "fdb", "show", "dev", theirs["ifname"])
    mac = re.search(r"^((?!00:00:00)[0-9a-f:]{17}) dst", fdb, re.M).group(1)
    frame = bytes.fromhex((theirs["address"] + mac).replace(":", "")) + b"\x08\x00" + inner
    return 17, struct.pack(">II", 8 << 24, data["id"] << 8) + frame


@pytest.mark.parametrize("wanted", TUNNELS)
def test_strangers_cannot_send_into_a_tunnel(offline, wanted):
    net, (method, family) = offline, parts(wanted)
    net.connect("b", method, family)

    def send(name, text):
        inner = udp_packet(own(net, "b", wanted)[0], HTTP_ADDR, text)
        protocol, payload = outer(net, wanted, inner)
        kind = socket.SOCK_DGRAM if protocol == 17 else socket.SOCK_RAW
        port = 4789 if protocol == 17 else 0
        with net[name].socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind,
                              protocol) as sock:
            sock.bind((net.lan(name, family), 0))
            sock.sendto(payload, (net.lan("gw", family), port))

    # From b itself it passes, so the stranger's is well made.
    assert arrivals(net, HTTP_ADDR, lambda: send("c", b"foreign"),
                    lambda: send("b", b"own")) == [b"own"]


@pytest.mark.parametrize("wanted", [m for m in WANTED if not m.endswith("6")])
def test_others_come_and_go_unnoticed(offline, wanted):
    net, (method, family) = offline, parts(wanted)
    net.connect("a", method, family)
    target = targets(own(net, "a", wanted))[0][1]
    ping = net.run("a", f"ping-{wanted}", "ping", "-n", "-i", str(0.005 * SLOW), target)
    wait(lambda: len(re.findall("bytes from", ping.log())) > 3, 5 * SLOW, "the ping runs")
    for _ in range(2):
        net.connect("b", method, family)
        assert net.fetch("b", target, 1000)
        net.disconnect("b")
    ping.signal(2)
    ping.popen.wait(5 * SLOW)
    sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received",
                                        ping.log()).groups())
    assert sent >= 10 and received >= sent - 1, ping.log()[-300:]  # the last may be under way


@pytest.mark.parametrize("wanted", [m for m in WANTED if not m.endswith("6")])
def test_the_tunnel_goes_on_after_the_gateway_was_killed(offline, wanted):
    net, (method, family) = offline, parts(wanted)
    sid = net.connect("a", method, family)["sid"]
    net.d["gw"].kill()
    net.d["gw"].start()
    wait(lambda: net.fetch("a", count=1000, timeout=0.5), 8 * SLOW, "the page loads again", 0.05)
    wait(lambda: [s["sid"] for s in net.held("a")] == [sid], 5 * SLOW, "it is the same lease")


def test_nothing_is_left(net):
    net.disconnect(*SUBSCRIBERS)
    for name in SUBSCRIBERS:
        after = net[name].host_state()
        assert after["links"] == net.before[name]["links"]
    for name, daemon in net.d.items():
        status, seconds = daemon.stop()
        assert status == 0 and seconds < tools.STOP_SECONDS * SLOW, (name, status, seconds)
    for name in HOSTS:
        after = net[name].host_state()
        for what, text in net.before[name].items():
            assert after[what] == text, f"{name}: {what}\n{tools.difference(text, after[what])}"
