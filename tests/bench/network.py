"""The network of the benchmarks: a - r1 - r2 - b, namespaces joined by veth pairs of 1500 bytes.

The manager sits beside it with a cable of its own to each, so that what is done to the chain's links
is not done to the control channels as well.
"""
from emulator import Emulator
from lab import Lab, wait


class Chain(Lab):
    def __init__(self, hops=3, emulated=()):
        """`emulated`: numbers of the hops (from 0) whose link goes through the emulator."""
        super().__init__()
        try:
            self._build(hops, emulated)
        except BaseException:
            self.close()
            raise

    def _build(self, hops, emulated):
        self.path = ["a", *(f"r{i}" for i in range(1, hops)), "b"]
        self.first, self.last, self.relays = "a", "b", self.path[1:-1]
        self.hops = list(zip(self.path, self.path[1:]))
        self.add(*self.path, "mgr")
        self.links = Emulator(self) if emulated else None
        for i, (a, b) in enumerate(self.hops):
            join = self.links.join if i in emulated else self.link
            join(a, b, f"10.78.{i + 1}.0/24")
        for i, name in enumerate(self.path):
            self.link(name, "mgr", f"10.79.{i + 1}.0/24")
        self._use_cubic()
        self.route_everywhere(self.path)
        for name in self.relays:
            self[name].sysctl("net.ipv4.ip_forward", 1)
        self.settle()
        if self.links:
            self.links.start()

    def _use_cubic(self):
        """For peers that use TCP, as for iperf3: Debian's default, which may not be the machine's.  A
        namespace may be refused another default; its routes may name one."""
        for name in self.path:
            for other, (interface, own, _) in self[name].links.items():
                if other != "mgr":
                    net = own.rpartition(".")[0] + ".0/24"
                    self[name].ip("route", "replace", net, "dev", interface, "proto", "kernel",
                                  "scope", "link", "src", own, "congctl", "cubic")

    def address(self, name):
        """In the chain, the side towards a."""
        before = self.path[max(0, self.path.index(name) - 1)]
        after = self.path[self.path.index(name) + 1] if name == self.first else None
        return self[name].links[after or before][1]

    def neighbour(self, name, other):
        """The address by which `name` sees its neighbour `other`."""
        return self[name].links[other][2]

    def wait_ping(self, near, address, timeout=15):
        ns = self[near]

        def answered():  # more than once: a tunnel may answer and then make new keys
            return "3 received" in ns.run("ping", "-n", "-c", 3, "-i", 0.2, "-W", 1, address,
                                          check=False)
        wait(answered, timeout, f"a ping to {address} comes back", 0.1)
