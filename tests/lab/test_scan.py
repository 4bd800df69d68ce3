"""Six hosts in a row, each network's real routing daemon on them, gateways on some: the subscriber at
the one end finds them through every network.  cjdns, olsrd and batctl are small stand-ins.

      h1 --- h2 --- h3 --- h4 --- h5 --- h6       babeld, BIRD (OSPF), FRR (OSPF), yggdrasil
   subscriberd     gatewayd              gatewayd

babel announces 10.41.0.N, BIRD 10.42.0.N, FRR 10.43.0.N, each host's N; yggdrasil has its own.
"""
import json
import os
import shutil
import socket
import sqlite3
import time

import pytest

import lab as tools
from conftest import finish
from lab import Lab, rpc, wait

HERE = os.path.dirname(os.path.abspath(__file__))
HOSTS = [f"h{i}" for i in range(1, 7)]
GATEWAYS = ("h3", "h6")
FRR = "/usr/lib/frr"
PORT = 65532
# Keys of a real cjdns, and the addresses that follow from them.
NEAR = ("lh2747f6fmpd9cdsbn7bsn2lxwzdrhzml42xcg2652vxfhkr50z0.k",
        "fc47:630d:4e55:71f7:b873:27bd:ac5a:ca0a")
FAR = ("rdv6m7tngpf0n1b44lh4cfxh4xj9465hxg0xspfup5nw7lgtqy70.k",
       "fc1f:fd0d:2912:bbdd:a396:6032:75b4:aed7")


class Row(Lab):
    def __init__(self):
        super().__init__()
        self.add(*HOSTS)
        os.chmod(self.folder, 0o711)  # FRR's daemons are not root
        for i, (a, b) in enumerate(zip(HOSTS, HOSTS[1:]), 1):
            self.link(a, b, f"10.40.{i}.0/24", f"fd40:{i}::/64")
        self.route_everywhere(HOSTS)
        for i, h in enumerate(HOSTS, 1):
            for net in (41, 42, 43):
                self[h].ip("addr", "add", f"10.{net}.0.{i}/32", "dev", "lo")
            self[h].sysctl("net.ipv4.ip_forward", 1)
            self[h].sysctl("net.ipv6.conf.all.forwarding", 1)
        self.settle()
        for i, h in enumerate(HOSTS, 1):
            self.start_zebra(h)
            self.start_babel(i, h)
            self.start_bird(i, h)
            self.start_yggdrasil(h)
        for i, h in enumerate(HOSTS, 1):
            self.start_ospfd(i, h)
        self.start_gateway("h3", KnownGateways="10.40.5.2")
        self.start_gateway("h6")
        self.start_standins()
        self.start_mesh()
        self.join_yggdrasil()

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        return self.path(name)

    def interfaces(self, h):
        return [i for i, _, _ in self[h].links.values()]

    # --- routing daemons ---

    def start_babel(self, i, h):
        config = self.write(f"{h}-babel.conf", f"""
random-id true
default hello-interval 1
redistribute ip 10.41.0.{i}/32 allow
redistribute deny
redistribute local ip 10.41.0.{i}/32 allow
redistribute local deny
""")
        self.run(h, f"{h}-babeld", "babeld", "-c", config, "-I", self.path(f"{h}-babel.pid"), "-S",
                 self.path(f"{h}-babel.state"), "-g", self.path(f"{h}-babel.sock"),
                 *self.interfaces(h))

    def start_bird(self, i, h):
        links = " ".join(f'interface "{name}" {{ type ptp; hello 1; dead 4; }};'
                         for name in self.interfaces(h))
        config = self.write(f"{h}-bird.conf", f"""
router id 10.42.0.{i};
protocol device {{}}
protocol kernel {{ ipv4 {{ import none; export where net ~ [ 10.42.0.0/16+ ]; }}; }}
protocol ospf v2 o4 {{ ipv4 {{}}; area 0 {{ {links} stubnet 10.42.0.{i}/32; }}; }}
""")
        self.run(h, f"{h}-bird", "bird", "-f", "-c", config, "-s", self.path(f"{h}-bird.ctl"),
                 "-P", self.path(f"{h}-bird.pid"))

    def frr(self, h, program, *argv):
        folder = self.path(f"{h}-frr")
        if not os.path.isdir(folder):
            os.mkdir(folder)
            shutil.chown(folder, "frr", "frrvty")
        self.run(h, f"{h}-{program}", f"{FRR}/{program}", "--vty_socket", folder, "-z",
                 f"{folder}/zserv.api", "-i", f"{folder}/{program}.pid", "-P", "0", "-A",
                 "127.0.0.1", *argv)

    def start_zebra(self, h):
        self.frr(h, "zebra", "-f", "/dev/null")

    def start_ospfd(self, i, h):
        """In another area than BIRD: the two take no notice of each other."""
        wait(lambda: os.path.exists(self.path(f"{h}-frr/zserv.api")), 10, f"zebra of {h}")
        links = "".join(f"interface {name}\n ip ospf network point-to-point\n"
                        " ip ospf hello-interval 1\n ip ospf dead-interval 4\n"
                        for name in self.interfaces(h))
        config = self.write(f"{h}-ospfd.conf", f"""
{links}
router ospf
 ospf router-id 10.43.0.{i}
 network 10.40.0.0/16 area 1
 network 10.43.0.{i}/32 area 1
 timers throttle spf 10 100 1000
""")
        os.chmod(config, 0o644)
        self.frr(h, "ospfd", "-f", config)

    def start_yggdrasil(self, h):
        config = self.write(f"{h}-ygg.conf", json.dumps({
            "AdminListen": f"unix://{self.path(h)}-ygg.sock", "IfName": "ygg0",
            "Listen": ["tcp://0.0.0.0:9900"], "Peers": [], "MulticastInterfaces": []}))
        self.run(h, f"{h}-yggdrasil", "yggdrasil", "-useconffile", config)

    def yggdrasil(self, h, request, **arguments):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            s.connect(self.path(f"{h}-ygg.sock"))
            s.sendall(json.dumps({"request": request, "arguments": arguments}).encode() + b"\n")
            data = b""
            while part := s.recv(65536):
                data += part
        return json.loads(data)["response"]

    def join_yggdrasil(self):
        """A dial that fails is tried again after a minute: only when all of them listen."""
        for h in HOSTS:
            wait(lambda h=h: ("0.0.0.0", 9900) in self[h].listening() or
                 ("*", 9900) in self[h].listening(), 10, f"yggdrasil of {h}")
        for a, b in zip(HOSTS, HOSTS[1:]):
            self.yggdrasil(a, "addpeer", uri=f"tcp://{self[a].links[b][2]}:9900")

    # --- ours ---

    def start_gateway(self, h, **keys):
        return self.daemon(h, "gatewayd", {"gateway": {
            "Name": f"gate-{h}", "Node": "", "Methods": "vxlan", "Pool4": f"10.11{h[1]}.0.0/24",
            "UplinkInterface": self.interfaces(h)[0], **keys}})

    def start_standins(self):
        h1, h2, h3 = (self[h] for h in HOSTS[:3])
        for ns, (key, address) in ((h2, NEAR), (h3, FAR)):
            ns.ip("-6", "addr", "add", f"{address}/128", "dev", "lo", "nodad")
            h1.ip("-6", "route", "add", f"{address}/128", "via", "fd40:1::2")
        h2.ip("-6", "route", "add", f"{FAR[1]}/128", "via", "fd40:2::2")
        h3.ip("-6", "route", "add", "fd40:1::/64", "via", "fd40:2::1")
        mac = h2.run("cat", "/sys/class/net/to-h1/address").strip()
        self.batctl = os.path.join(HERE, "scan_standins.py")
        self.environment["STANDIN_MAC"] = mac
        self.run("h1", "standins", "/usr/bin/python3", self.batctl, "serve")

    def start_mesh(self):
        """A nodemanager and two nodes; no app of theirs is asked, only their addresses."""
        manager = self.daemon("h2", "nodemanager", {"nodemanager": {
            "ListenAddr": "0.0.0.0:5999", "RpcAddr": "127.0.0.1,10.40.1.2", "RpcToken": "tell-me"}})
        manager.wait_log("is ready")
        for h in GATEWAYS:
            self.daemon(h, "node", {"node": {"Name": h, "ManagerAddr": "10.40.1.2:5999"}})

    def start_subscriber(self, *options, **keys):
        p = self.path
        self.subscriber = self.daemon("h1", "subscriberd", {
            "subscriber": {"Node": "", "AutoConnect": "no", "WalkInterval": 0, "ScanDelay": 2,
                           "ScanTimeout": 1500, **keys},
            "babel": {"Socket": p("h1-babel.sock")}, "bird": {"Socket": p("h1-bird.ctl")},
            "frr": {"Socket": p("h1-frr/ospfd.vty")}, "yggdrasil": {"Socket": p("h1-ygg.sock")},
            "batman": {"Batctl": self.batctl},
            "mesh": {"ManagerRpc": "10.40.1.2:1234", "ManagerToken": "tell-me"},
            "l2": {"Delay": 5, "HostLimit": 4},
        }, options=options)
        self.subscriber.wait_log("is ready")
        return self.subscriber

    def ask(self, method, /, **params):
        return rpc(self["h1"], PORT, method, params)

    def scan(self, networks):
        """Scans, and answers the hosts known now, by key."""
        status = self.meshctl_json("h1", "scan", networks)
        assert status["done"]
        for network in status["networks"]:
            assert network["state"] == "answered", network
        self.status = status
        return self.hosts()

    def graph(self):
        return self.meshctl_json("h1", "graph")

    def hosts(self):
        return {h["key"]: h for h in self.graph()["hosts"] if not h["gone"]}


@pytest.fixture(scope="module")
def row(request):
    lab = Row()
    try:
        lab.start_subscriber()
        yield lab
    finally:
        finish(lab, request)


def gateways(hosts, network):
    return {k for k, h in hosts.items()
            if h["answer"] == "gateway" and network in h["networks"].split(",")}


def scan_until(row, network, expected, prefix):
    """The routing daemons need a few seconds to find each other."""
    def look():
        found = {k for k in gateways(row.scan(network), network) if k.startswith(prefix)}
        return found if found >= expected else None
    assert wait(look, 30, f"{network} leads to {expected}", 0.3) == expected


def test_cjdns(row):
    """The stand-in pads lengths as the real one; its table names only the nearer node."""
    hosts = row.scan("cjdns")
    assert hosts[NEAR[1]]["answer"] == "silent"
    assert hosts[FAR[1]]["answer"] == "gateway"
    assert hosts[FAR[1]]["depth"] == 2 and hosts[FAR[1]]["name"] == FAR[0]


def test_olsr(row):
    hosts = row.scan("olsr")
    assert gateways(hosts, "olsr") == {"10.40.2.2", "10.40.5.2"}
    assert hosts["10.40.5.2"]["depth"] == 3


def test_batman(row):
    """MAC addresses by batctl, their IP addresses by its ARP cache and by the kernel's."""
    row["h1"].run("ping", "-c1", "-W1", "10.40.1.2")
    hosts = row.scan("batman")
    assert "batman" in hosts["10.40.1.2"]["networks"]
    assert gateways(hosts, "batman") == {"10.40.2.2"}
    assert hosts["name:92:ed:78:26:f3:b0"]["depth"] == 1
    assert hosts["10.40.2.2"]["depth"] <= 2


def test_mesh(row):
    """The nodes that nodemanager knows are asked at their addresses."""
    wait(lambda: gateways(row.scan("mesh"), "mesh") == {"10.40.2.2", "10.40.5.2"}, 10,
         "the nodes' hosts are known", 0.3)


def test_l2_keeps_its_limit(row):
    hosts = row.scan("l2")
    l2 = {k for k, h in hosts.items() if "l2" in h["networks"].split(",")}
    assert l2 == {"10.40.1.2", "10.40.1.3", "10.40.1.4", "10.40.1.5"}


@pytest.mark.parametrize("network,prefix", [("babel", "10.41.0."), ("bird", "10.42.0."),
                                            ("frr", "10.43.0.")])
def test_routing_daemons(row, network, prefix):
    scan_until(row, network, {prefix + "3", prefix + "6"}, prefix)
    hosts = row.hosts()
    assert hosts[prefix + "2"]["answer"] == "silent"
    assert hosts[prefix + "3"]["gateway"]["name"] == "gate-h3"


def test_ospf_tells_the_whole_graph(row):
    """Links between hosts that are not ours, and so how far each is."""
    for network, prefix in (("bird", "10.42.0."), ("frr", "10.43.0.")):
        links = {(link["a"], link["b"]) for link in row.graph()["links"]
                 if link["network"] == network and not link["gone"]}
        for i in range(2, 6):
            assert (f"{prefix}{i}", f"{prefix}{i + 1}") in links
        assert ("own", f"{prefix}2") in links
        assert row.hosts()[prefix + "6"]["depth"] == 5


def test_kernel_tells_protocols_apart(row):
    row.subscriber.stop()
    shutil.rmtree(row.subscriber.state_dir)
    os.mkdir(row.subscriber.state_dir, 0o700)
    row.subscriber.start()
    wait(lambda: row.ask("status"), 5, "the subscriber is back")
    hosts = row.scan("kernel")
    for net, how in ((41, "babel"), (42, "bird"), (43, "ospf")):
        assert hosts[f"10.{net}.0.6"]["how"] == how
        assert hosts[f"10.{net}.0.6"]["answer"] == "gateway"
    assert hosts["10.40.1.2"]["how"] in ("olsr", "neighbour")  # the hop of static routes, too


def test_gateways_tell_of_others(row):
    """h3 was told of h6 at an address that no network names."""
    hosts = row.hosts()
    assert hosts["10.40.5.2"]["networks"] == "told"
    assert hosts["10.40.5.2"]["answer"] == "gateway"
    # The other way round: whoever scans tells the gateways, and they pass on what they proved.
    row.scan("kernel")
    wait(lambda: [g for g in rpc(row["h6"], 65533, "listGateways")["gateways"]
                  if g["provenAt"] and g["name"] == "gate-h3"], 10, "h6 has learned of h3")
    told = [g["address"] for g in rpc(row["h6"], 65533, "nodeInfo")["gateways"]]
    assert any(a.endswith(".0.3:65533") or a == "10.40.2.2:65533" for a in told)


def test_the_same_gateway_at_several_addresses_is_one(row):
    listed = row.meshctl_json("h1", "gateways")["gateways"]
    wait(lambda: sorted(g["name"] for g in row.meshctl_json("h1", "gateways")["gateways"])
         == ["gate-h3", "gate-h6"], 5, f"one line each: {listed}")
    for g in row.meshctl_json("h1", "gateways")["gateways"]:
        assert g["foundBy"]
        ways = {w["key"] for w in g["ways"]}
        assert 2 <= len(ways) <= 4 and g["key"] in ways and len(g["id"]) == 64
    assert row.ask("status")["gateways"] == 2


def test_who_passes_for_a_gateway_is_another_one(row):
    """h4 has h3's gateway answer in its place, proof and all: but that one names its own address."""
    row.subscriber.config["subscriber"].update(
        Gateways="10.40.3.2:7000", BannedGateways="10.40.3.2", Methods="vxlan")
    row.subscriber.write_config()
    impostor = row.run("h4", "impostor", "/usr/bin/python3", row.batctl, "pass-for", "7000",
                       "http://10.40.3.1:65533/")
    wait(lambda: 7000 in [p for _, p in row["h4"].listening()], 5, "the impostor listens")
    row.subscriber.restart()
    wait(lambda: row.ask("status"), 5, "the subscriber is back")

    def listed():
        found = {g["key"]: g for g in row.ask("listGateways")["gateways"]}
        impostor = found.pop("http:10.40.3.2:7000", {})
        return impostor.get("name") and len(found) == 2 and (impostor, list(found.values()))
    false, true = wait(listed, 10, "both are listed")
    assert false["name"] == "gate-h3" and false["id"] is None and len(false["ways"]) == 1
    assert false["state"] == "unusable" and "is banned; does not prove" in false["why"]
    assert sorted(g["name"] for g in true) == ["gate-h3", "gate-h6"]
    wait(lambda: all(g["id"] and g["state"] == "ready" for g in listed()[1]), 5, "the true ones are ready")
    for g in listed()[1]:
        assert g["why"].count("; also by http:") == len(g["ways"]) - 1
    impostor.stop()
    row.subscriber.config["subscriber"].update(Gateways="", BannedGateways="", Methods="wireguard")
    row.subscriber.write_config()


def test_a_scan_that_need_not_reach_everybody(row):
    row.subscriber.stop()
    shutil.rmtree(row.subscriber.state_dir)
    os.mkdir(row.subscriber.state_dir, 0o700)
    row.subscriber.config["subscriber"].update(ScanGateways=1, ScanParallel=1)
    row.subscriber.write_config()
    row.subscriber.start()
    wait(lambda: row.ask("status"), 5, "the subscriber is back")
    hosts = row.scan("frr")
    assert row.status["enough"]
    assert hosts["10.43.0.3"]["answer"] == "gateway"
    assert hosts["10.43.0.6"]["answer"] == "not asked"
    row.subscriber.config["subscriber"].update(ScanGateways=0, ScanParallel=16)
    row.subscriber.write_config()
    row.subscriber.restart()
    wait(lambda: row.ask("status"), 5, "the subscriber is back")


def test_yggdrasil(row):
    address = {h: row.yggdrasil(h, "getself")["address"] for h in HOSTS}
    scan_until(row, "yggdrasil", {address["h3"], address["h6"]}, "20")
    hosts = row.hosts()
    # Our own node knows h2 only: the rest was asked for, one after the other.
    assert {h for h in HOSTS[1:] if address[h] in hosts} == set(HOSTS[1:])
    assert [hosts[address[h]]["depth"] for h in HOSTS[1:]] == [1, 2, 3, 4, 5]


def test_what_changed_since(row):
    """A link that is cut shows as gone, and nothing else is told again."""
    row.scan("frr")
    before = row.graph()["timestamp"]
    assert row.meshctl_json("h1", "graph", "--since", str(before))["hosts"] == []
    row["h6"].ip("link", "set", "to-h5", "down")
    try:
        wait(lambda: "10.43.0.6" not in row.scan("frr"), 20, "h6 is gone", 0.5)
        news = row.ask("getGraphSince", timestamp=before)
        gone = {h["key"] for h in news["hosts"] if h["gone"]}
        assert "10.43.0.6" in gone and all(k.endswith(".0.6") for k in gone - {"10.40.5.2"})
        assert all(h["stamp"] > before for h in news["hosts"])
    finally:
        row["h6"].ip("link", "set", "to-h5", "up")
    dot = row.meshctl("h1", "graph", "--dot")
    assert dot.startswith("digraph") and '"10.43.0.6"' not in dot


def test_goes_on_after_a_kill(row):
    """What was asked before the kill is not asked again."""
    row.subscriber.config["l2"].update(HostLimit=40, Delay=50)
    row.subscriber.config["subscriber"].update(ScanTimeout=400)
    row.subscriber.write_config()
    row.subscriber.restart()
    wait(lambda: row.ask("status"), 5, "the subscriber is back")
    call = row.ask("startScan", networks="l2")["callId"]
    wait(lambda: row.ask("pollCallStatus", callId=call)["asked"] >= 12, 10, "some are asked")
    wait(lambda: row.subscriber.kill() is None, 1, "the kill")
    db = sqlite3.connect(os.path.join(row.subscriber.state_dir, "subscriberd.graph.db"))
    number = int(call.split("-")[1])
    asked = dict(db.execute("SELECT key, asked FROM hosts WHERE asked_scan = ?", (number,)))
    assert len(asked) >= 5
    row.subscriber.start()
    wait(lambda: row.ask("pollCallStatus", callId=call)["done"], 20, "it comes to its end")
    assert "was interrupted and goes on" in row.subscriber.log()
    after = dict(db.execute("SELECT key, asked FROM hosts WHERE asked_scan = ?", (number,)))
    assert len(after) >= 40
    assert all(after[k] == v for k, v in asked.items() if k != "own")
    db.close()


def test_bounded_calls_and_errors(row):
    with pytest.raises(tools.LabError, match="no network 'nosuch'"):
        row.ask("startScan", networks="nosuch")
    with pytest.raises(tools.LabError, match="no such call"):
        row.ask("pollCallStatus", callId="scan-999")
    text = row.meshctl("h1", "scan", "frr,babel")
    assert "NETWORK" in text and "gate-h3" in text and "hosts were asked" in text


def test_two_daemons_on_one_host(empty):
    """The original's demo: two configuration files, two ports, two databases, one host."""
    empty.add("one")
    empty["one"].ip("link", "add", "eth0", "type", "veth", "peer", "name", "wire")
    empty["one"].ip("addr", "add", "10.50.0.1/24", "dev", "eth0")
    for name in ("eth0", "wire"):
        empty["one"].ip("link", "set", name, "up")
    empty["one"].ip("route", "add", "default", "via", "10.50.0.2")
    before = empty["one"].ip("route", "get", "198.51.100.80")
    gateway = empty.daemon("one", "gatewayd", {"gateway": {
        "Name": "provider", "Node": "", "Methods": "wireguard", "Pool4": "10.60.0.0/24",
        "UplinkInterface": "eth0"}})
    subscriber = empty.daemon("one", "subscriberd", {"subscriber": {
        "Node": "", "AutoConnect": "no", "Networks": "kernel", "Methods": "wireguard"}})
    gateway.wait_log("is ready")
    subscriber.wait_log("is ready")
    found = empty.meshctl_json("one", "scan")["found"]
    assert [(g["address"], g["name"], g["own"]) for g in found] == [
        ("10.50.0.1:65533", "provider", True)]
    # Its own gateway is used by nobody unasked.
    rpc(empty["one"], PORT, "connect")
    own, = wait(lambda: [g for g in empty.meshctl_json("one", "gateways")["gateways"] if g["id"]], 5,
                "it is listed")
    assert own["state"] == "unusable" and "on our own host" in own["why"]
    assert rpc(empty["one"], 65533, "listSessions")["sessions"] == []
    said = empty.meshctl("one", "connect-gateway", "10.50.0.1", "-p", "65533")
    assert "note: the gateway is on our own host" in said
    lease = wait(lambda: rpc(empty["one"], 65533, "listSessions")["sessions"], 10, "a lease is granted")
    assert lease[0]["host"] == "10.50.0.1" and lease[0]["ipv4"].startswith("10.60.0.")
    subscriber.wait_log("is on our own host: its tunnel is up")
    # It does not look online, and takes nothing away from the host.
    status = rpc(empty["one"], PORT, "status")
    assert not status["online"] and status["state"] == status["session"]["state"] == "own host"
    assert "own host" in status["note"] and "own host" in empty.meshctl("one", "gateways")
    assert empty["one"].ip("route", "get", "198.51.100.80") == before
    time.sleep(2)
    assert rpc(empty["one"], PORT, "status")["session"]["sid"] == lease[0]["sid"]
    assert {os.path.basename(f) for d in (gateway, subscriber) for f in os.listdir(d.state_dir)
            if f.endswith(".db")} >= {"gatewayd.db", "subscriberd.db", "subscriberd.graph.db"}
    empty.meshctl("one", "disconnect")
