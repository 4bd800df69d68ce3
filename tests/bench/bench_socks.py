"""SOCKS5 over three hops: socks-client and socks-server over the overlay, against microsocks at the far
end, reached over plain forwarding and through packaged tunnels."""
import json
import os

import program
from lab import LabError, bin_dir, wait
from measure import RUNS, SECONDS, Cpu, have
from network import Chain
from peers import OpenVpn, WireguardGo, start_all
from report import Skip
from tunnel import Kernel, Overlay

TARGET_PORT, OUR_PORT, THEIR_PORT = 8080, 1080, 1081
STREAMS, AT_ONCE = 16, 32
MODES = (("1 stream", "bulk", 1), (f"{STREAMS} streams", "bulk", STREAMS),
         (f"requests, {AT_ONCE} at once", "requests", AT_ONCE))


class Ours:
    """socks-client at the near end, its node on the same host, and so on."""
    name = "meshnet"

    def __init__(self, net):
        self.net, self.proxy = net, ("127.0.0.1", OUR_PORT)
        overlay = Overlay(net).start()
        self.processes = [*overlay.nodes.values()]
        server = self.run(net.last, "socks-server", "--allow", "10.78.0.0/16")
        wait(lambda: '"up"' in server.log(), 10, "the socks-server is registered")
        client = self.run(net.first, "socks-client", "--listen", f"127.0.0.1:{OUR_PORT}")
        wait(lambda: '"up"' in client.log(), 10, "the socks-client has found it")
        self.apps = [client, server]

    def run(self, ns, name, *options):
        p = self.net.run(ns, f"{ns}-{name}", os.path.join(bin_dir(), name), "--json", *options)
        self.processes.append(p)
        return p


class Theirs:
    """microsocks, reached through a tunnel."""

    def __init__(self, tunnel):
        kernel = isinstance(tunnel, Kernel)
        self.name = "microsocks, " + ("not encrypted" if kernel else "through " + tunnel.name)
        self.net, self.proxy = tunnel.net, (tunnel.address, THEIR_PORT)


def load(proxy, mode, count):
    net = proxy.net
    out = net[net.first].run(program.path("socksload"), mode, *proxy.proxy, net.address(net.last),
                             TARGET_PORT, count, SECONDS, timeout=SECONDS + 20)
    answer = json.loads(out)
    if answer["failures"] > answer["answers"] / 100:
        raise LabError(f"{answer['failures']} failures, {answer['answers']} answers")
    return answer


def measure_one(proxy, values, cpu):
    for title, mode, count in MODES:
        groups = {"all": proxy.processes, "the two apps": proxy.apps} if hasattr(proxy, "apps") else {}
        with Cpu(**groups) as cost:
            answer = load(proxy, mode, count)
        bulk = mode == "bulk"
        amount = answer["bytes"] * 8 / 1e6 if bulk else answer["answers"]
        values.setdefault((title, proxy.name), []).append(amount / answer["seconds"])
        for group, seconds in cost.used.items():
            per = seconds / (answer["bytes"] / 1e9) if bulk else seconds / answer["answers"] * 1e6
            cpu.setdefault((title, group), []).append(per)


def run(report):
    if not have("microsocks"):
        raise Skip("microsocks: not installed")
    with Chain(3) as net:
        net.run(net.last, "target", program.path("socksload"), "serve", "0.0.0.0", TARGET_PORT)
        net.run(net.last, "microsocks", "microsocks", "-i", "0.0.0.0", "-p", THEIR_PORT)
        wait(lambda: {TARGET_PORT, THEIR_PORT} <= {p for _, p in net[net.last].listening()}, 5,
             "they listen")
        proxies = [Ours(net)] + [Theirs(t) for t in start_all(net, report,
                                                            (Kernel, OpenVpn, WireguardGo))]
        values, cpu = {}, {}
        for _ in range(RUNS):
            for proxy in proxies:
                measure_one(proxy, values, cpu)
    for title, mode, _ in MODES:
        unit = "Mbit/s" if mode == "bulk" else "a second"
        for proxy in proxies:
            report.add(f"{title}, {proxy.name}", values[title, proxy.name], unit,
                       None if proxy is proxies[0] else values[title, proxies[0].name])
    for (title, group), figures in cpu.items():
        report.add(f"{title}, CPU time of {group}", figures,
                   "us a request" if "requests" in title else "s/GB")
