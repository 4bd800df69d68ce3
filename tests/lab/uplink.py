"""What the labs of gateways without an overlay have in common: `gw` with an uplink of its own into
`inet`, which knows that uplink only and has services.py at two addresses."""
import os

import lab as tools
from lab import Lab

SERVICES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "services.py")
INET4, INET6 = "198.51.100.80", "2001:db8:80::80"
GATEWAY_PORT, SUBSCRIBER_PORT = 65533, 65532
SLOW = float(os.environ.get("MESHNET_SLOW") or 1)  # so much slower than a PC this machine is


class UplinkLab(Lab):
    def build_uplink(self):
        """Once both are there; the lab settles afterwards."""
        self.link("inet", "gw", "192.0.2.4/30", "2001:db8:1::/64")
        self["gw"].batch(["route add default via 192.0.2.5", "route add default via 2001:db8:1::1"])
        self["inet"].batch([f"addr add {INET4}/32 dev lo", f"addr add {INET6}/128 dev lo nodad"])

    def start_services(self):
        self.run("inet", "services", "/usr/bin/python3", SERVICES, INET4, INET6).wait_log("ready", 10 * SLOW)

    def daemon_of_gateway(self, sections=None, **keys):
        """gatewayd; keys of [gateway], and other sections."""
        section = {"Name": "gw", "Node": "", "UplinkTargets": f"{INET4}:80", "UplinkInterval": 1, **keys}
        return self.daemon("gw", "gatewayd", {"gateway": section, **(sections or {})})

    def gateway(self, method, /, **params):
        return tools.rpc(self["gw"], GATEWAY_PORT, method, params)

    def subscriber(self, name, method, /, **params):
        return tools.rpc(self[name], SUBSCRIBER_PORT, method, params)
