"""One gateway and who asks it, for tests and benchmarks of gatewayd alone.

        inet  198.51.100.80
          |
         gw    nodemanager, node, gatewayd with the method mesh
          |
        host   asks by HTTP, for as many apps as it likes
"""
import json

import lab as tools
from lab import Lab, wait

PORT = 65533
UPLINK = "198.51.100.80"
NODE_ID = "ab" * 32  # of the apps that `host` asks for; no such node has to be there


class GatewayLab(Lab):
    def __init__(self):
        super().__init__()
        self.running = None
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self):
        self.add("inet", "gw", "host")
        self.link("inet", "gw", "192.0.2.0/30", "2001:db8:1::/64")
        self.link("gw", "host", "10.77.0.0/16")
        self.gw, self.host = self["gw"], self["host"]
        self.gw.sysctl("net.ipv6.conf.to-inet.keep_addr_on_down", 1)
        self.default_routes()
        self["inet"].ip("addr", "add", f"{UPLINK}/32", "dev", "lo")
        self.settle()

    def default_routes(self):
        self.gw.ip("route", "replace", "default", "via", "192.0.2.1")
        self.gw.ip("-6", "route", "replace", "default", "via", "2001:db8:1::1")

    def start_mesh(self):
        """A mesh of one node, so that the method mesh is ready."""
        self.daemon("gw", "nodemanager")
        self.daemon("gw", "node", {"node": {"Name": "gw", "ManagerAddr": "127.0.0.1:5999"}})

    def start(self, name="gatewayd", ready=True, sections=None, **keys):
        section = {"Name": "gw", "Pool4": "10.117.0.0/16", "Pool6": "fd75:6d65:1::/64",
                   "LeaseSeconds": 60, "SessionsPerHost": 0, "MaxSubscribers": 2000, **keys}
        if self.running:
            self.running.stop()  # of a test that failed
        daemon = self.daemon("gw", "gatewayd", {"gateway": section, **(sections or {})}, name=name)
        self.running = daemon
        wait(self.ready if ready else lambda: self.call("nodeInfo")["success"], 10,
             "gatewayd answers")
        return daemon

    def ready(self):
        info = self.call("nodeInfo")
        return info["uplink"]["online"] and all(m["ready"] for m in info["methods"])

    def call(self, method, /, ns=None, host="127.0.0.1", **params):
        return tools.rpc(ns or self.gw, PORT, method, params, host=host)

    def request(self, app, sid=None, ns=None, host="127.0.0.1", **options):
        """A lease for an app of a node that is not there: nobody will use it."""
        return self.call("requestConnection", ns, host, sid=sid, name=app, port=0, method="mesh",
                         options={"node": NODE_ID, "app": app, **options})

    def request_many(self, apps, host="127.0.0.1"):
        """Leases for all of them, in batches over one connection."""
        answers = []
        for i in range(0, len(apps), 50):
            batch = [{"jsonrpc": "2.0", "id": k, "method": "requestConnection",
                      "params": {"method": "mesh", "options": {"node": NODE_ID, "app": app}}}
                     for k, app in enumerate(apps[i:i + 50])]
            _, body = tools.http_request(self.gw, host, PORT, "POST", "/", json.dumps(batch), 20)
            answers += [a["result"] for a in json.loads(body)]
        return answers
