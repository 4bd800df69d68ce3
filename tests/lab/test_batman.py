"""batman-adv itself: four hosts in a row, one layer 2 over them, no address on the links between.

      h1 --- h2 --- h3 --- h4 --- inet  198.51.100.80
   subscriberd           gatewayd

bat0 of host N has 10.44.0.N and fd44::N.  Needs the kernel module (tests/vm has one) and batctl.
"""
import json
import os
import re
import shutil
import subprocess

import pytest

import lab as tools
from conftest import finish
from lab import Lab, rpc, wait

HERE = os.path.dirname(os.path.abspath(__file__))
HOSTS = [f"h{i}" for i in range(1, 5)]
INET4, INET6 = "198.51.100.80", "2001:db8:80::80"
GATEWAY_PORT, SUBSCRIBER_PORT = 65533, 65532
SLOW = float(os.environ.get("MESHNET_SLOW") or 1)
COUNT = 100_000


def missing():
    if not shutil.which("batctl", path="/usr/sbin:/usr/bin"):
        return "batctl is not installed"
    argv = "unshare --net ip link add probe0 type batadv".split()
    p = subprocess.run(argv, stderr=subprocess.DEVNULL, check=False)
    return "" if p.returncode == 0 else "the kernel has no batman-adv"


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


class Batman(Lab):
    def __init__(self):
        super().__init__()
        self.add("inet", *HOSTS)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self):
        ports = {h: [] for h in HOSTS}
        for a, b in zip(HOSTS, HOSTS[1:]):
            tools.veth(self[a], f"to-{b}", self[b], f"to-{a}")
            ports[a].append(f"to-{b}")
            ports[b].append(f"to-{a}")
        self.link("h4", "inet", "192.0.2.0/30", "2001:db8:1::/64")
        self["h4"].batch(["route add default via 192.0.2.2",
                          "route add default via 2001:db8:1::2"])
        self["inet"].batch([f"addr add {INET4}/32 dev lo", f"addr add {INET6}/128 dev lo nodad"])
        for i, h in enumerate(HOSTS, 1):
            ns = self[h]
            ns.batch(["link add bat0 type batadv",
                      *(f"link set {p} mtu 1532 master bat0 up" for p in ports[h]),
                      f"addr add 10.44.0.{i}/24 dev bat0", f"addr add fd44::{i}/64 dev bat0 nodad",
                      "link set bat0 up"])
            ns.run("batctl", "meshif", "bat0", "orig_interval", "200")
        self.macs = {h: json.loads(self[h].ip("-j", "link", "show", "bat0"))[0]["address"]
                     for h in HOSTS}
        self.run("inet", "services", "/usr/bin/python3", os.path.join(HERE, "services.py"), INET4,
                 INET6).wait_log("ready", 20 * SLOW)


    def table(self, h, name):
        return json.loads(self[h].run("batctl", "meshif", "bat0", name))

    def meets(self, h, others):
        """Does batman-adv here know of these hosts' interfaces?"""
        known = {row["tt_address"] for row in self.table(h, "transtable_global_json")}
        return {self.macs[o] for o in others} <= known

    def answers(self, h, count):
        """Do so many others answer to a call of all?  batman-adv drops broadcasts for the first ten
        seconds or so, after it knows all hosts."""
        p = subprocess.run(["ip", "netns", "exec", self[h].full, "ping", "-6", "-c2", "-i0.3", "-W1",
                            "ff02::1%bat0"], capture_output=True, text=True, check=False)
        return len(set(re.findall(r"from (fe80::\S+?)%bat0", p.stdout))) > count  # and itself

    def forget(self):
        """As if nobody had spoken with anybody."""
        for h in HOSTS:
            self[h].ip("neigh", "flush", "dev", "bat0")

    def start(self):
        section = {"Name": "gw", "Node": "", "Methods": "direct, vxlan", "Pool4": "10.117.1.0/24",
                   "Pool6": "fd75:6d65:1::/64", "UplinkTargets": f"{INET4}:80",
                   "UplinkInterval": 1, "UplinkInterface": "to-inet"}
        self.daemon("h4", "gatewayd", {"gateway": section, "direct": {"Interface": "bat0"}})
        section = {"Node": "", "AutoConnect": "no", "Methods": "direct, vxlan", "Networks": "batman",
                   "WalkInterval": 0, "ScanInterval": 2, "ProbeInterval": 300, "ProbeLosses": 50}
        self.daemon("h1", "subscriberd", {"subscriber": section})
        wait(lambda: self.gw("nodeInfo")["uplink"]["online"], 20 * SLOW, "the gateway is online")
        wait(lambda: self.sub("status"), 20 * SLOW, "the subscriber answers")

    def gw(self, method, /, **params):
        return rpc(self["h4"], GATEWAY_PORT, method, params)

    def sub(self, method, /, **params):
        return rpc(self["h1"], SUBSCRIBER_PORT, method, params)

    def scan(self):
        """The hosts that the walk knows at its end, by key."""
        call = self.sub("startScan", networks="batman")["callId"]

        def done():
            status = self.sub("pollCallStatus", callId=call)
            return status if status["done"] else None
        status = wait(done, 20 * SLOW, "the scan ends", 0.05)
        assert [n["state"] for n in status["networks"]] == ["answered"], status["networks"]
        return {h["key"]: h for h in self.sub("getGraphSince", timestamp=0)["hosts"]
                if not h["gone"]}


@pytest.fixture(scope="module")
def net(request):
    lab = Batman()
    try:
        wait(lambda: all(lab.meets(h, set(HOSTS) - {h}) for h in HOSTS), 60, "batman-adv converges")
        wait(lambda: lab.answers("h1", 3), 60, "all hear the first")
        lab.forget()
        lab.start()
        yield lab
    finally:
        finish(lab, request)


def test_the_walk_finds_hosts_that_nobody_spoke_with(net):
    """batman-adv tells MAC addresses; the hosts are called to tell theirs of IPv6."""
    assert net.table("h1", "dat_cache_json") == []
    hosts = net.scan()
    assert all("batman" in hosts[f"fd44::{i}"]["networks"] for i in (2, 3, 4))
    assert {k for k, h in hosts.items() if h["answer"] == "gateway"} == {"fd44::4"}
    originators = {r["orig_address"] for r in net.table("h1", "originators_json")}
    assert len(originators) == 3
    assert {f"name:{mac}" for mac in originators} <= set(hosts)


def test_the_walk_finds_hosts_by_the_arp_cache(net):
    """What batman-adv has overheard, after the kernel has forgotten it."""
    net["h1"].run("ping", "-c1", "-W5", "10.44.0.4")
    net["h1"].ip("neigh", "flush", "dev", "bat0")
    assert "10.44.0.4" in {r["dat_cache_ip4address"] for r in net.table("h1", "dat_cache_json")}
    assert net.scan()["10.44.0.4"]["answer"] == "gateway"


@pytest.mark.parametrize("method", ["vxlan", "direct"])
def test_traffic_through_the_gateway(net, method):
    """Three hops of batman-adv to it, and out."""
    found = [g for g in net.sub("listGateways")["gateways"] if "batman" in str(g)]
    assert found, net.sub("listGateways")
    net.sub("connect", gateway="10.44.0.4", method=method)
    wait(lambda: net.sub("status")["state"] == "online", 20 * SLOW, f"online by {method}")
    status, got = tools.http_request(net["h1"], INET4, 80, path=f"/bytes/{COUNT}",
                                     timeout=10 * SLOW)
    assert status == 200 and len(got) == COUNT
    (lease,) = net.gw("listSessions")["sessions"]
    assert lease["method"] == method and lease["host"] == "10.44.0.1"
    net.sub("disconnect")
    wait(lambda: not net.gw("listSessions")["sessions"], 10 * SLOW, "the lease ends")
