"""What kill -9 of gatewayd costs its subscribers: one gateway with every method that runs here, one
subscriber for each, all of them with a datagram every 10 ms to the Internet and back.

     inet  198.51.100.80 (HTTP, UDP echo)
      |
      gw   gatewayd, NAT
      |
   one network for each subscriber; no default route
"""
import contextlib
import os
import signal
import time

import pytest

import lab as tools
from lab import Lab, wait
from test_methods_wg import WEB, WEB6, Echo

METHODS = ("wireguard", "fastd", "openvpn", "softether", "socks", "vxlan")
WANTED = os.environ.get("MESHNET_METHODS", " ".join(METHODS)).split()
AWAY = 0.3  # seconds between its end and its next start


class KilledLab(Lab):
    def __init__(self):
        super().__init__()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self):
        self.add("inet", "gw", *WANTED)
        self.link("inet", "gw", "192.0.2.4/30", "2001:db8:1::/64")
        for i, name in enumerate(WANTED, 1):
            self.link("gw", name, f"10.77.{i}.0/24")
        self["gw"].ip("route", "add", "default", "via", "192.0.2.5")
        self["inet"].ip("addr", "add", f"{WEB}/32", "dev", "lo")
        self["inet"].ip("-6", "addr", "add", f"{WEB6}/128", "dev", "lo", "nodad")
        self.settle()
        services = os.path.join(tools.TOP, "tests", "lab", "services.py")
        self.run("inet", "services", "/usr/bin/python3", services, WEB, WEB6).wait_log("ready")
        self.gatewayd = self.daemon("gw", "gatewayd", {
            "gateway": {"Name": "gw", "Node": "", "Methods": ",".join(WANTED), "LeaseSeconds": 60,
                        "UplinkTargets": f"{WEB}:80", "UplinkInterval": 1}})
        wait(lambda: self.gateway("nodeInfo")["uplink"]["online"], 10, "the gateway is online")
        self.subscribers = {name: self.daemon(name, "subscriberd", {
            "subscriber": {"Node": "", "Gateways": self[name].links["gw"][2], "Methods": name,
                           "ScanInterval": 1}}) for name in WANTED}
        for name in WANTED:
            wait(lambda name=name: self.own(name)["state"] == "online", 15, f"{name} is online")

    def gateway(self, method, /, **params):
        return tools.rpc(self["gw"], 65533, method, params)

    def own(self, name):
        return tools.rpc(self[name], 65532, "status")


@pytest.fixture(scope="module")
def net(request):
    lab = KilledLab()
    yield lab
    if getattr(request.session, "testsfailed", 0):
        print(lab.tail_logs(40))
    lab.close()
    faults = lab.problems + lab.leaks()
    assert not faults, "\n".join(faults)


def test_leases_go_on(net):
    before = {m: net.own(m)["session"] for m in WANTED}
    with contextlib.ExitStack() as stack:
        echos = {m: stack.enter_context(Echo(net[m])) for m in WANTED}
        time.sleep(0.3)
        net.gatewayd.kill()
        killed = time.monotonic()
        time.sleep(AWAY)
        alone = {m for m, e in echos.items() if max(e.back.values()) > killed + AWAY - 0.1}
        net.gatewayd.start()
        wait(lambda: net.gateway("nodeInfo")["success"], 10, "it answers", 0.01)
        print(f"gatewayd answers {time.monotonic() - killed - AWAY:.2f} s after its start")
        for method, echo in echos.items():
            wait(lambda e=echo: e.back and max(e.back) >= len(e.sent) - 10, 20,
                 f"traffic of {method} again", 0.02)
        time.sleep(0.3)
    sessions = {s["method"]: s for s in net.gateway("listSessions")["sessions"]}
    for method, echo in echos.items():
        print(f"{method}: {echo.outage():.2f} s without traffic"
              f"{', none while gatewayd was away' if method in alone else ''}")
        for now in (net.own(method)["session"], sessions[method]):
            for key in ("sid", "method"):
                assert now[key] == before[method][key], method
        assert sessions[method]["ipv4"] == before[method]["ipv4"].split("/")[0]
    assert len(sessions) == len(WANTED)


def test_ends_while_it_asks(net):
    """The gateway is silent: a question is under way when the subscriber ends, and is not leaked."""
    net.gatewayd.signal(signal.SIGSTOP)
    try:
        time.sleep(1.2)  # it asks every second
        assert net.subscribers[WANTED[-1]].stop()[0] == 0
    finally:
        net.gatewayd.signal(signal.SIGCONT)
