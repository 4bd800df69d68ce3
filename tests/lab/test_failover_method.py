"""One gateway with two methods: when the tunnel dies and its RPC answers, the other method is tried
before the gateway is given up; and with a standby that is the only gateway too."""
import time

import pytest

from conftest import finish
from hoststate import HostState
from lab import wait
from methodlab import MethodLab


@pytest.fixture(scope="module")
def net(request):
    lab = MethodLab(["vxlan", "direct"])
    try:
        lab.hosts = {name: HostState(lab[name], without=("processes",)) for name in ("a", "b")}
        yield lab
    finally:
        finish(lab, request)


def restart(net, name, **keys):
    daemon = net.d[name]
    daemon.stop()
    daemon.config["subscriber"].update(keys)
    daemon.write_config()
    daemon.start()
    wait(lambda: net.subscriber(name, "status"), 10, "it answers")


def online(net, name, method):
    return wait(lambda: (s := net.session(name))["method"] == method and s, 10,
                f"{name} is online by {method}", 0.02)


@pytest.mark.parametrize("standby", ["no", "yes"])
def test_other_method_of_the_same_gateway(net, standby):
    restart(net, "a", AutoConnect="yes", Gateways=f"{net.lan('gw')}:65533", Standby=standby,
            ProbeLosses=3)
    online(net, "a", "vxlan")
    if standby == "yes":
        second = wait(lambda: (s := net.subscriber("a", "status")["standby"]) and s["state"] == "standby"
                      and s, 15, "a standby by the other method")
        assert second["method"] == "direct"
    assert net.fetch("a", count=1000)
    net["gw"].run("nft", "add table inet cut; add chain inet cut c { type filter hook prerouting "
                  "priority -290; }; add rule inet cut c udp dport 4789 drop")
    began = time.monotonic()
    try:
        online(net, "a", "direct")
        # By the clock, not by lastDetectMs: that begins with a probe that was lost before the cut.
        assert time.monotonic() - began < 3
        status = net.subscriber("a", "status")
        assert status["failovers"] == 1 and status["session"]["gateway"] == "gw"
        assert status["lastSwitchMs"] < 1000, status
        assert net.fetch("a", count=1000)
    finally:
        net["gw"].run("nft", "delete", "table", "inet", "cut")


def test_nothing_is_left(net):
    for name in ("a", "b"):
        assert net.d[name].stop()[0] == 0
        net.hosts[name].check()
