"""SOCKS and VPN at once on the same nodes, over 10 and over 40 hops: a chain of nodes on one host.

    a: n0 - row: n1 ... n9 ... n39 - far: n40
                         |
                       near: m10

Every line is one hop; n1 to n39 share a namespace and talk over its loopback."""
import json
import os
import subprocess
import time

import pytest

import lab as tools
from lab import Lab, Process, rpc, wait

FAR_HOPS, NEAR_HOPS = 40, 10
ENDS = {"near": NEAR_HOPS, "far": FAR_HOPS}
LAN = {"near": "10.88.10.1", "far": "10.88.40.1"}  # a web server there, reached through SOCKS only
SUBNET = {"near": "10.210.0.0/24", "far": "10.240.0.0/24"}
SERVER = {"near": "10.210.0.1", "far": "10.240.0.1"}
SOCKS_PORT = {"near": 1081, "far": 1082}
COUNT = 300_000
HERE = os.path.dirname(os.path.abspath(__file__))


class Chain(Lab):
    def __init__(self):
        super().__init__()
        self.add("a", "row", "near", "far")
        for i, name in enumerate(("a", "near", "far"), 1):
            self.link("row", name, f"10.88.{i}.0/24")
        for name, address in LAN.items():
            self[name].ip("addr", "add", f"{address}/32", "dev", "lo")
        self.settle()
        self.daemon("row", "apptracker")
        self.daemon("row", "nodemanager")
        wait(lambda: 1234 in [p for _, p in self["row"].listening()], 10, "the manager listens")
        for i in range(1, FAR_HOPS):
            self.node("row", f"n{i}", "127.0.0.1:5999", AppTalkAddr=f"127.0.0.1:{17000 + i}")
        for ns, name in (("a", "n0"), ("near", f"m{NEAR_HOPS}"), ("far", f"n{FAR_HOPS}")):
            (_, _, manager), = self[ns].links.values()
            self.node(ns, name, f"{manager}:5999")
        wait(lambda: len(self.ids()) == FAR_HOPS + 2, 30, "all nodes register")
        pairs = [(f"n{i}", f"n{i + 1}") for i in range(FAR_HOPS)]
        pairs.append((f"n{NEAR_HOPS - 1}", f"m{NEAR_HOPS}"))
        for a, b in pairs:
            self.rpc("connectNodes", a=a, b=b)
        wait(lambda: sum(t["status"].lower() == "connected" for t in
                         self.rpc("listAllTransports")["transports"]) == len(pairs), 30,
             "all transports come up")

    def node(self, ns, name, manager, **keys):
        self.daemon(ns, "node", {"node": {"Name": name, "ManagerAddr": manager, **keys}}, name=name)

    def rpc(self, method, /, **params):
        return rpc(self["row"], 1234, method, params)

    def ids(self):
        return {n["name"]: n["id"] for n in self.rpc("listNodes")["nodes"] if n["connected"]}

    def app(self, ns, name, program, *argv):
        p = Process(self, self[ns], name, [os.path.join(tools.bin_dir(), program), *argv, "-o",
                                           f"general.statedir={self.folder}/{name}.state"], True)
        self.processes.append(p)
        return p

    def client(self, *argv):
        """Starts a program in the client's place; its output comes with communicate()."""
        return subprocess.Popen(["ip", "netns", "exec", self["a"].full, *map(str, argv)],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                env=self.environment)


def up(p):
    return [line for line in p.log().splitlines() if line.startswith("{") and
            json.loads(line).get("state") == "up"]


def start_apps(chain):
    clients = []
    for ns in ENDS:
        chain.run(ns, f"{ns}-iperf3", "iperf3", "-s")
        chain.run(ns, f"{ns}-web", "/usr/bin/python3", os.path.join(HERE, "services.py"), LAN[ns], "::1")
        chain.run(
            ns, f"{ns}-echo", os.path.join(tools.bin_dir(), "echo"), "server", "--id", f"echo-{ns}")
        chain.app(ns, f"{ns}-socks-server", "socks-server", "--json", "--id", f"socks-{ns}",
                  "--allow", f"{LAN[ns]}/32", "-o", "proxy.denylocal=no")
        chain.app(ns, f"{ns}-vpn-server", "vpn-server", "--json", "--id", f"vpn-{ns}", "--subnet",
                  SUBNET[ns])
        clients.append(chain.app("a", f"socks-client-{ns}", "socks-client", "--json", "--listen",
                                 f"127.0.0.1:{SOCKS_PORT[ns]}", "--to", f"socks-{ns}"))
        clients.append(chain.app("a", f"vpn-client-{ns}", "vpn-client", "--json", "--to",
                                 f"vpn-{ns}", "--interface", f"vpn{ENDS[ns]}"))
    for p in clients:
        wait(lambda p=p: up(p), 20, f"{p.name} is up")


@pytest.fixture(scope="module")
def chain(request):
    lab = None
    try:
        lab = Chain()
        start_apps(lab)
        yield lab
    finally:
        if lab:
            if request.session.testsfailed:
                print(lab.tail_logs())
            lab.close()
            faults = lab.problems + lab.leaks()
            assert not faults, "\n".join(faults)


@pytest.mark.parametrize("ns", ENDS)
def test_the_way_has_so_many_hops(chain, ns):
    name = f"n{FAR_HOPS}" if ns == "far" else f"m{NEAR_HOPS}"
    route = chain.rpc("findRoute", a="n0", b=name)
    assert len(route["nodes"]) == ENDS[ns] + 1


def test_socks_and_vpn_at_once(chain):
    """Both proxies and both tunnels carry something all through the same seconds."""
    began = time.monotonic()
    jobs = {}
    for ns in ENDS:
        jobs[ns, "ping"] = chain.client("ping", "-n", "-c", 15, "-i", 0.2, "-W", 3, SERVER[ns])
        jobs[ns, "iperf3"] = chain.client("iperf3", "-J", "-t", 3, "-c", SERVER[ns])
        jobs[ns, "curl"] = chain.client(
            "curl", "-sS", "-m", 20, "-o", f"{chain.folder}/{ns}-page", "-x",
            f"socks5h://127.0.0.1:{SOCKS_PORT[ns]}", "-w", "%{http_code}",
            f"http://{LAN[ns]}/bytes/{COUNT}")
    out = {key: p.communicate(timeout=30)[0].decode() for key, p in jobs.items()}
    want = (bytes(i * 7 & 255 for i in range(256)) * (COUNT // 256 + 1))[:COUNT]
    for ns in ENDS:
        assert out[ns, "ping"].count("time=") >= 13, out[ns, "ping"]
        bps = json.loads(out[ns, "iperf3"])["end"]["sum_received"]["bits_per_second"]
        assert bps > 5e6
        assert out[ns, "curl"] == "200", out[ns, "curl"]
        with open(f"{chain.folder}/{ns}-page", "rb") as f:
            assert f.read() == want
    assert time.monotonic() - began < 40


@pytest.mark.parametrize("ns", ENDS)
def test_echo(chain, ns):
    out = chain["a"].run(os.path.join(tools.bin_dir(), "echo"), "client", "--json", "--to",
                         f"echo-{ns}", "10M", "2", timeout=40)
    answer = json.loads(out)
    assert answer["received"] == 2 and sum(h["count"] for h in answer["histogram"]) == 2
    text = chain["a"].run(os.path.join(tools.bin_dir(), "echo"), "client", "--to", f"echo-{ns}", 100,
                          50, timeout=40)
    assert "p99" in text and "50 of 50 messages" in text and "##" in text
