"""The mesh of the demo, for the demo and for the tests.

             inet  198.51.100.80 (HTTP, iperf3): knows no community address
             /  \\
          gw1    gw2      each with an uplink of its own, gatewayd and a node
           |      |
           r2 --- r3      relays
             \\  /
              r1 ----- mgr   nodemanager and apptracker
              |
             sub          node and subscriberd; no default route

Every line is a veth pair.  Static routes make all community addresses (10.77.0.0/16) reachable, as a
routed community network would; transports of the overlay exist only along the lines.
"""
import os

import lab as _lab
from lab import Lab, wait

HTTP_ADDR, HTTP_PORT, HTTP_ADDR6 = "198.51.100.80", 80, "2001:db8:80::80"
PAGE = "The Internet, seen through the mesh.\n"
COMMUNITY = ("mgr", "r1", "r2", "r3", "gw1", "gw2", "sub")
NODES = ("r1", "r2", "r3", "gw1", "gw2", "sub")
LINKS = (("sub", "r1"), ("r1", "r2"), ("r1", "r3"), ("r2", "r3"), ("r2", "gw1"), ("r3", "gw2"))
GATEWAYS = ("gw1", "gw2")
MANAGER_PORT, RPC_PORT, GATEWAY_PORT, SUBSCRIBER_PORT = 5999, 1234, 65533, 65532
URL = f"http://{HTTP_ADDR}/"


class MeshLab(Lab):
    """The network and its configuration; start_*() starts daemons, in any order."""

    def __init__(self):
        super().__init__()
        self.d = {}  # "NAMESPACE-PROGRAM" -> Daemon
        self.manager_secret, self.manager_key = _lab.new_key()
        try:
            self._build_network()
        except BaseException:
            self.close()
            raise

    def _build_network(self):
        self.add("inet", *COMMUNITY)
        for i, (a, b) in enumerate(LINKS + (("mgr", "r1"),), 1):
            self.link(a, b, f"10.77.{i}.0/24")
        self.route_everywhere(COMMUNITY)
        for r in ("r1", "r2", "r3"):
            self[r].sysctl("net.ipv4.ip_forward", 1)
        for i, gw in enumerate(GATEWAYS, 1):
            self.link("inet", gw, f"192.0.2.{i * 4}/30", f"2001:db8:{i}::/64")
            self[gw].ip("route", "add", "default", "via", f"192.0.2.{i * 4 + 1}")
            self[gw].ip("-6", "route", "add", "default", "via", f"2001:db8:{i}::1")
        inet = self["inet"]
        inet.ip("addr", "add", f"{HTTP_ADDR}/32", "dev", "lo")
        inet.ip("-6", "addr", "add", f"{HTTP_ADDR6}/128", "dev", "lo", "nodad")
        self.settle()

    def address(self, name):
        """The community address that others use for it."""
        return self[name].addresses()[0]

    # --- what runs ---

    def start_internet(self):
        site = os.path.join(self.folder, "site")
        os.makedirs(site, exist_ok=True)
        with open(os.path.join(site, "index.html"), "w", encoding="utf-8") as f:
            f.write(PAGE)
        for name, address in (("http", HTTP_ADDR), ("http6", HTTP_ADDR6)):
            self.run("inet", name, "/usr/bin/python3", "-m", "http.server", "--bind", address,
                     "--directory", site, str(HTTP_PORT))
        self.run("inet", "iperf3", "iperf3", "-s")
        wait(lambda: _lab.http_request(self["inet"], HTTP_ADDR, HTTP_PORT)[0] == 200, 10,
             "the web server of the Internet")

    def start(self, ns, program, sections, name=None):
        key = name or f"{ns}-{program}"
        self.d[key] = self.daemon(ns, program, sections, name=key)
        return self.d[key]

    def start_tracker(self):
        return self.start("mgr", "apptracker", {})

    def start_manager(self, **keys):
        name = "mgr-nodemanager"
        folder = os.path.join(self.folder, f"{name}.state")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, "nodemanager.key")
        if not os.path.exists(path):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w",
                      encoding="ascii") as f:
                f.write(self.manager_secret + "\n")
        return self.start("mgr", "nodemanager", {"nodemanager": keys})

    def start_node(self, ns, **keys):
        section = {"Name": ns, "ManagerAddr": f"{self.address('mgr')}:{MANAGER_PORT}",
                   "ManagerKey": self.manager_key, **keys}
        return self.start(ns, "node", {"node": section})

    def start_gateway(self, ns, **keys):
        section = {"Name": ns, "UplinkTargets": f"{HTTP_ADDR}:{HTTP_PORT}", "UplinkInterval": 2,
                   "Pool4": f"10.117.{ns[-1]}.0/24", "Pool6": f"fd75:6d65:{ns[-1]}::/64",
                   "LeaseSeconds": 30, **keys}
        return self.start(ns, "gatewayd", {"gateway": section})

    def start_subscriber(self, **keys):
        section = {"DirectNetworks": "10.77.0.0/16", "ScanInterval": 3, **keys}
        return self.start("sub", "subscriberd", {"subscriber": section})

    def start_overlay(self, **keys):
        """Manager (with these keys), tracker and all nodes, registered and linked along the lines."""
        self.start_tracker()
        self.start_manager(**keys)
        for n in NODES:
            self.start_node(n)
        wait(lambda: self.registered() >= set(NODES), 20, "all nodes register")
        for a, b in LINKS:
            self.connect(a, b)
        wait(self.links_up, 20, "all transports come up", 0.1)

    def start_all(self):
        self.start_internet()
        self.start_overlay()
        for gw in GATEWAYS:
            self.start_gateway(gw)
        self.start_subscriber()
        self.wait_online()

    # --- what can be seen ---

    def manager(self, method, /, **params):
        return _lab.rpc(self["mgr"], RPC_PORT, method, params)

    def gateway(self, ns, method, /, **params):
        return _lab.rpc(self[ns], GATEWAY_PORT, method, params)

    def subscriber(self, method, /, **params):
        return _lab.rpc(self["sub"], SUBSCRIBER_PORT, method, params)

    def nodes(self):
        return self.manager("listNodes")["nodes"]

    def registered(self):
        return {n["name"] for n in self.nodes() if n["connected"]}

    def connect(self, a, b):
        return self.manager("connectNodes", a=a, b=b)

    def transports(self):
        return self.manager("listAllTransports")["transports"]

    def up_links(self):
        return {frozenset((t["a_name"], t["b_name"])) for t in self.transports()
                if t["status"].lower() == "connected"}

    def links_up(self, links=LINKS):
        return self.up_links() >= {frozenset(pair) for pair in links}

    def fetch(self, timeout=2.0, host=HTTP_ADDR):
        """The page of the Internet, from the subscriber's place."""
        status, body = _lab.http_request(self["sub"], host, HTTP_PORT, timeout=timeout)
        return status == 200 and body.decode() == PAGE

    def wait_online(self, timeout=30):
        wait(self.fetch, timeout, "the page loads in the subscriber's place", 0.1)

    def gateway_in_use(self):
        """Name of the gateway that the subscriber uses now, from its own mouth."""
        return self.session()["gateway"]

    def session(self):
        """The subscriber's lease and gateway; LookupError while it has none."""
        session = self.subscriber("status")["session"]
        if not session or not session.get("sid"):
            raise LookupError("no session")
        return session
