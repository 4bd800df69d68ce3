"""Leases in use: usage that is counted and kept, quotas, rates, fair shares, and what a crash of
gatewayd means for them.  The tunnels are vxlan: the kernel's own, and there all the time."""
import os
import re
import time

import pytest

import lab as tools
from lab import wait
from methodlab import HTTP_ADDR, MethodLab

MBIT = 1e6


@pytest.fixture(scope="module")
def shared(request):
    lab = MethodLab(["vxlan"], RateKbps=20_000, UplinkDownKbps=24_000, UplinkUpKbps=16_000,
                    LeaseSeconds=60)
    try:
        lab.run("inet", "iperf3", "iperf3", "-s", "-B", HTTP_ADDR)
        lab.run("inet", "iperf3-b", "iperf3", "-s", "-B", HTTP_ADDR, "-p", "5202")
        yield lab
    finally:
        if getattr(request.session, "testsfailed", 0):
            print(lab.tail_logs())
        lab.close()
        faults = lab.problems + lab.leaks()
        assert not faults, "\n".join(faults)


def load(seconds, *options, port=5201):
    return ["iperf3", "-c", HTTP_ADDR, "-p", port, "-t", seconds, "-O", "0.5", "-J", *options]


def bps(lab, name, reverse=True):
    """What arrives, in bit/s, without the first half second."""
    out = lab[name].run(*load(2, *(["-R"] if reverse else [])), timeout=30)
    return float(re.findall(r'"sum_received":\s*{[^}]*"bits_per_second":\s*([\d.e+]+)', out)[-1])


def sent(lab, ipv4, link="mgw-down"):
    """Bytes that have left by the class of this lease: its number is that of the address."""
    out = lab["gw"].run("tc", "-s", "class", "show", "dev", link)
    number = f"{int(ipv4.split('.')[-1]):x}"
    return int(re.search(rf"class htb 6d67:{number} .*?Sent (\d+) bytes", out, re.S).group(1))


def session(lab, name):
    return lab.held(name)[0]


def test_rate_of_one_lease(shared):
    """Downwards its own rate, upwards that of the whole uplink, which is less."""
    shared.connect("a", "vxlan")
    assert shared.gateway("status")["shaping"]["active"] and session(shared, "a")["rateKept"]
    down, up = bps(shared, "a"), bps(shared, "a", reverse=False)
    assert 15 * MBIT < down < 20.5 * MBIT, down
    assert 12 * MBIT < up < 16.5 * MBIT, up


def test_fair_shares(shared):
    """Eight streams of one subscriber get no more than one stream of another."""
    shared.connect("b", "vxlan")
    addresses = [session(shared, n)["ipv4"] for n in ("a", "b")]
    loads = [shared.run("a", "eight", *load(5, "-R", "-u", "-b", "8M", "-P", 8)),
             shared.run("b", "one", *load(5, "-R", "-u", "-b", "30M", port=5202))]
    began = [sent(shared, ip) for ip in addresses]
    wait(lambda: all(sent(shared, ip) > n + 1_000_000 for ip, n in zip(addresses, began)), 8,
         "both are at work")
    start = time.monotonic()
    began = [sent(shared, ip) for ip in addresses]
    time.sleep(2)
    eight, one = (sent(shared, ip) - n for ip, n in zip(addresses, began))
    total = (eight + one) * 8 / (time.monotonic() - start)
    assert 20 * MBIT < total < 25 * MBIT, (one, eight)
    assert 0.8 < one / eight < 1.25, (one, eight)
    for p in loads:
        p.popen.wait(15)
    shared.disconnect("b")


def test_usage_is_counted_and_kept(shared):
    """Over a kill -9 too, after which the tunnel goes on where it was."""
    assert shared.fetch("a", count=3_000_000)
    def used():
        return session(shared, "a")["usedBytes"]
    before = wait(lambda: used() > 3_000_000 and used(), 8, "the bytes are counted")
    time.sleep(2.5)  # longer than counters rest
    quiet = used()
    held = session(shared, "a")
    assert quiet == held["monthBytes"] >= before
    shared.d["gw"].kill()
    shared.d["gw"].start()
    wait(lambda: shared.held("a"), 10, "it is back")
    now = session(shared, "a")
    assert now["sid"] == held["sid"] and now["ipv4"] == held["ipv4"]
    assert quiet <= now["usedBytes"] < quiet + 200_000, "nothing lost, nothing twice"
    wait(lambda: shared.fetch("a", count=1_000_000), 10, "the tunnel goes on")
    wait(lambda: used() > quiet + 1_000_000, 8, "it is counted on")
    assert shared.session("a")["sid"] == held["sid"], "the subscriber has not noticed"


def test_a_quota_slows_down_and_a_new_limit_frees(shared):
    assert session(shared, "a")["rateKbps"] == 20_000
    used = session(shared, "a")["monthBytes"]
    shared.gateway("setConfig", key="StepDownKbps", value=1000)
    shared.gateway("setConfig", key="MonthQuotaBytes", value=used)
    wait(lambda: session(shared, "a")["rateKbps"] == 1000, 8, "it is slowed down")
    down = bps(shared, "a")
    assert 0.6 * MBIT < down < 1.1 * MBIT, down
    shared.gateway("setConfig", key="MonthQuotaBytes", value=0)
    wait(lambda: session(shared, "a")["rateKbps"] == 20_000, 8, "it is fast again")
    assert bps(shared, "a") > 10 * MBIT


def test_methods_are_looked_for_again(shared):
    """SIGHUP: what has become possible is offered, what is not says why."""
    daemon = shared.d["gw"]
    daemon.config["gateway"]["Methods"] = "vxlan, ipip, direct"
    daemon.write_config()
    daemon.signal(1)
    info = wait(lambda: len(shared.gateway("nodeInfo")["methods"]) > 1 and shared.gateway("nodeInfo"), 5,
                "direct is offered")
    assert [m["name"] for m in info["methods"]][:1] == ["vxlan"]
    missing = {m["name"]: m["reason"] for m in info["unavailable"]}
    offered = {m["name"] for m in info["methods"]}
    assert set(missing) | offered == {"vxlan", "ipip", "direct"} and all(missing.values())
    assert shared.gateway("status")["unavailable"] == info["unavailable"]
    assert shared.fetch("a", count=100_000), "who was there has not noticed"


def test_a_quota_ends(shared):
    daemon, sid = shared.d["gw"], session(shared, "a")["sid"]
    out = os.path.join(shared.folder, "released")
    daemon.config["gateway"]["OnRelease"] = f"/bin/sh -c 'echo \"$1 $2\" >> {out}' sh"
    daemon.write_config()
    daemon.signal(1)
    wait(lambda: out in shared.gateway("getConfig")["config"]["gateway"]["OnRelease"], 5, "it is read")
    shared.gateway("setConfig", key="StepDownKbps", value=0)
    shared.gateway("setConfig", key="MonthQuotaBytes", value=1)
    wait(lambda: not shared.held("a"), 8, "the lease ends")
    wait(lambda: os.path.exists(out) and os.path.getsize(out), 5, "the hook ran")
    with open(out, encoding="ascii") as f:
        assert f.read() == f"release {sid}\n"
    refused = tools.rpc(shared["a"], 65533, "requestConnection", {"method": "vxlan"},
                        host=shared.lan("gw"))
    assert "this month's quota" in refused["errorMsg"] and refused["temporary"]


def test_nothing_is_left(shared):
    shared.gateway("setConfig", key="MonthQuotaBytes", value=0)
    for name in ("a", "b", "gw"):
        assert shared.d[name].stop()[0] == 0
        for what, text in shared.before[name].items():
            after = shared[name].host_state()[what]
            assert after == text, f"{name} {what}\n{tools.difference(text, after)}"
    assert "clsact" not in shared["gw"].run("tc", "qdisc", "show")
