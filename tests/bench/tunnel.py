"""Ways to get IP packets from one end of the chain to the other: the kernel alone, and ours.

A Tunnel has a `name`; start() brings it up and sets `address`, the far end as `near` sees it, the
end that opens connections; `processes` are those that carry the traffic.
"""
import os
import subprocess

import lab as tools
import measure
import program
from lab import wait
from report import Skip

MANAGER_PORT, RPC_PORT, BARE_PORT = 5999, 1234, 5998


class Tunnel:
    name = ""
    programs = ()  # that it needs

    def __init__(self, net):
        self.net, self.processes, self.address, self.near = net, [], None, net.first

    @property
    def far(self):
        return self.net.last if self.near == self.net.first else self.net.first

    def up(self):
        """start(), or Skip with the reason."""
        missing = [p for p in self.programs if not measure.have(p)]
        if missing:
            raise Skip(f"{' '.join(missing)}: not installed")
        try:
            self.start()
            self.net.wait_ping(self.near, self.address)
        except (tools.LabError, OSError, ValueError, LookupError,
                subprocess.SubprocessError) as e:
            said = "".join(f"\n{p.name}: {p.log()[-300:]}" for p in self.processes)
            self.stop()
            raise Skip(f"did not start: {e}{said}") from None
        return self

    def start(self):
        raise NotImplementedError

    def run(self, ns, *argv):
        process = self.net.run(ns, f"{ns}-{type(self).__name__.lower()}", *argv)
        self.processes.append(process)
        return process

    def stop(self):
        for p in self.processes:
            p.stop()
        self.processes = []


class Kernel(Tunnel):
    """Plain forwarding: what everything is compared with."""
    name = "kernel alone"

    def start(self):
        self.address = self.net.address(self.net.last)


class Bare(Tunnel):
    """Processes that pass super-packets on and do nothing else: what any overlay of processes costs
    at least."""
    name = "bare relays"

    def start(self):
        path = self.net.path
        for i, name in enumerate(path):
            sides = [self.net.neighbour(name, path[j]) for j in (i - 1, i + 1)
                     if 0 <= j < len(path)]
            tun = () if len(sides) == 2 else ("bare0",)
            self.run(name, program.path("bare"), "end" if tun else "relay", *tun, BARE_PORT, *sides)
            if tun:
                wait(lambda: "bare0" in self.net[name].ip("-o", "link"), 10, "bare0", 0.02)
                self.net[name].batch([
                    f"addr add 10.86.0.{1 if i else 2}/24 dev bare0",
                    "link set bare0 mtu 1420 gso_max_size 63000 up"])
        self.address = "10.86.0.1"

    def relay(self):
        return self.processes[1]


class Overlay:
    """Manager, tracker, and nodes along the chain, linked as the chain is."""

    def __init__(self, net, **keys):
        self.net, self.nodes, self.others, self.keys = net, {}, [], keys

    def start(self):
        net, mgr = self.net, self.net["mgr"]
        self.others.append(net.daemon("mgr", "apptracker"))
        self.others.append(net.daemon("mgr", "nodemanager"))
        wait(lambda: (RPC_PORT in [p for _, p in mgr.listening()]), 10, "the manager listens", 0.02)
        for name in net.path:
            section = {"Name": name, "ManagerAddr": f"{net[name].links['mgr'][2]}:{MANAGER_PORT}",
                       "ExcludeInterfaces": "to-mgr,mesh*,mgw*,msub*,mvpn*,ygg*,tinc*,neb*,ovpn*,wg*"}
            self.nodes[name] = net.daemon(name, "node", {"node": section, **self.keys})
        wait(lambda: self.registered() >= set(net.path), 20, "all nodes register", 0.02)
        for a, b in net.hops:
            self.rpc("connectNodes", a=a, b=b)
        wait(self.linked, 30, "all transports come up", 0.05)
        return self

    def rpc(self, method, /, **params):
        return tools.rpc(self.net["mgr"], RPC_PORT, method, params)

    def registered(self):
        return {n["name"] for n in self.rpc("listNodes")["nodes"] if n["connected"]}

    def node_id(self, name):
        return next(n["id"] for n in self.rpc("listNodes")["nodes"] if n["name"] == name)

    def transports(self):
        return self.rpc("listAllTransports")["transports"]

    def linked(self):
        up = {frozenset((t["a_name"], t["b_name"])) for t in self.transports()
              if t["status"].lower() == "connected"}
        return up >= {frozenset(hop) for hop in self.net.hops}

    def stop(self):
        for p in [*self.nodes.values(), *self.others]:
            p.stop()


class Meshnet(Tunnel):
    """Ours, a node in each place: vpn-server at one end, vpn-client at the other."""
    name = "meshnet"

    def __init__(self, net, **keys):
        super().__init__(net)
        self.overlay = Overlay(net, **keys)

    def start(self):
        net = self.net
        self.overlay.start()
        self.processes = list(self.overlay.nodes.values())
        self._app(net.last, "vpn-server", "--subnet", "10.85.0.0/24", "-o", "vpn.forward=no")
        self._app(net.first, "vpn-client", "--to", "vpn@" + self.overlay.node_id(net.last))
        self.address = "10.85.0.1"

    def _app(self, ns, program, *options):
        self.processes.append(self.net.run(ns, f"{ns}-{program}",
                                           os.path.join(tools.bin_dir(), program), *options,
                                           "-o", f"general.statedir={self.net.folder}/{program}"))

    def relay(self):
        """The process of one node that only forwards."""
        return self.overlay.nodes[self.net.relays[0]]

    def stop(self):
        super().stop()
        self.overlay.stop()
