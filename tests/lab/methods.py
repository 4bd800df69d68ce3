"""A gateway and two subscribers that reach it over IP, without an overlay: for the tunnel methods.

    inet 198.51.100.80 (services.py) --- gw --- s1     10.78.1.0/24, fd78:1::/64
                                          |
                                          +---- s2     10.78.2.0/24, fd78:2::/64

Subscribers have no default route: what reaches the Internet went through the tunnel.  The Internet
knows the gateway's uplink address only.
"""
import lab as tools
from lab import wait
from uplink import GATEWAY_PORT, INET4, UplinkLab

POOL4, POOL6 = "10.117.0.0/24", "fd75:6d65::/64"
SUBSCRIBERS = ("s1", "s2")


class MethodLab(UplinkLab):
    def __init__(self):
        super().__init__()
        self.gateway_daemon, self.subscribers = None, {}
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self):
        self.add("inet", "gw", *SUBSCRIBERS)
        for i, name in enumerate(SUBSCRIBERS, 1):
            self.link("gw", name, f"10.78.{i}.0/24", f"fd78:{i}::/64")
        self.build_uplink()
        self.settle()
        self.start_services()
        self.clean = {name: self[name].host_state() for name in ("gw", *SUBSCRIBERS)}

    def gateway_address(self, name):
        """How that subscriber reaches the gateway."""
        return self[name].links["gw"][2]

    def start_gateway(self, methods, gateway=None, **sections):
        """`methods` as in the configuration; `sections` are those of the methods."""
        self.gateway_daemon = self.daemon_of_gateway(
            sections, **{"Methods": methods, "Pool4": POOL4, "Pool6": POOL6, "UplinkInterval": 2,
                         "LeaseSeconds": 30, **(gateway or {})})
        self.wait_gateway()
        return self.gateway_daemon

    def wait_gateway(self):
        """It answers and its uplink is proven."""
        wait(lambda: self.gateway("nodeInfo")["uplink"]["online"], 10, "the gateway is online")

    def start_subscriber(self, name, methods, subscriber=None, **sections):
        section = {"Node": "", "Methods": methods, "ScanInterval": 2,
                   "Gateways": f"{self.gateway_address(name)}:{GATEWAY_PORT}",
                   **(subscriber or {})}
        daemon = self.daemon(name, "subscriberd", {"subscriber": section, **sections})
        self.subscribers[name] = daemon
        return daemon

    def wait_online(self, name, timeout=10):
        """Until the page comes through."""
        return wait(lambda: self.fetch(name, 1000), timeout, f"{name} is online")

    def fetch(self, name, count, host=INET4, timeout=5):
        """Bytes of /bytes/COUNT that came; 0 when it failed."""
        url = f"http://[{host}]/bytes/{count}" if ":" in host else f"http://{host}/bytes/{count}"
        out = self[name].run("curl", "-s", "-o", "/dev/null", "-w", "%{size_download}",
                             "-m", str(timeout), url, check=False, timeout=timeout + 5)
        return int(out or 0)

    def session(self, name):
        """The gateway's view of that subscriber's lease (by its host address)."""
        own = self[name].links["gw"][1]
        found = [s for s in self.gateway("listSessions")["sessions"] if s["host"] == own]
        return found[0] if found else None

    def interface(self, name):
        return self.subscriber(name, "listSessions")["sessions"][0]["interface"]

    def assert_clean(self, *names):
        """Routes, rules, nftables, interfaces of these are as before any daemon started."""
        for name in names:
            ns = self[name]

            def same(ns=ns, name=name):
                return ns.host_state() == self.clean[name]
            try:
                wait(same, 3, "a clean host")
            except tools.LabError:
                after = ns.host_state()
                for what, text in self.clean[name].items():
                    assert after[what] == text, \
                        f"{name}: {what}\n{tools.difference(text, after[what])}"
