"""Rates and fair shares of leases that keep addresses of their own (method direct), and the queues
that leases have.  Without fq_codel and cake in the kernel each has a plain one; tests/vm has both
(MESHNET_QUEUES)."""
import json
import os
import re
import time

import lab as tools
import pytest
from conftest import finish
from lab import wait
from methodlab import HTTP_ADDR, HTTP_ADDR6, SLOW, MethodLab

MBIT = 1e6
RATE, DOWN, UP = (round(kbps / SLOW) for kbps in (20_000, 24_000, 16_000))
KERNEL_HAS = os.environ.get("MESHNET_QUEUES", "").split()
SERVERS = ("a", "b", "6", "own")
PORTS = {name: 5201 + i for i, name in enumerate(SERVERS)}


@pytest.fixture(scope="module")
def net(request):
    lab = MethodLab(["direct"], RateKbps=RATE, UplinkDownKbps=DOWN, UplinkUpKbps=UP,
                    LeaseSeconds=60)
    try:
        for name, host in zip(SERVERS, (HTTP_ADDR, HTTP_ADDR, HTTP_ADDR6, lab.lan("gw"))):
            where = "gw" if name == "own" else "inet"
            lab.run(where, f"iperf3-{name}", "iperf3", "-s", "-B", host, "-p", PORTS[name])
            wait(lambda w=where, p=PORTS[name]: p in {q for _, q in lab[w].listening()}, 5 * SLOW,
                 "iperf3 listens")
        yield lab
    finally:
        finish(lab, request)


def load(server, host, seconds, *options):
    return ["iperf3", "-c", host, "-p", PORTS[server], "-t", seconds, "-O", "0.5", "-J", *options]


def bps(net, name, server="a", host=HTTP_ADDR, reverse=True):
    """What arrives, in bit/s, without the first half second."""
    out = net[name].run(*load(server, host, 2, *(["-R"] if reverse else [])), timeout=30)
    return float(re.findall(r'"sum_received":\s*{[^}]*"bits_per_second":\s*([\d.e+]+)', out)[-1])


def sent(net, *names, link="mgw-down"):
    """A function: when, and the bytes that have left by the class of each lease until then.  A class's
    number is that of the address of the pool that stays unused."""
    numbers = [f"{int(net.held(n)[0]['ipv4'].split('/')[0].split('.')[-1]):x}" for n in names]

    def read():
        out = net["gw"].run("tc", "-s", "class", "show", "dev", link)  # all of them at one time
        return time.monotonic(), *(int(re.search(
            rf"class htb 6d67:{number} .*?Sent (\d+) bytes", out, re.S).group(1)) for number in numbers)
    return read


def assert_kept(net, name, server="a", host=HTTP_ADDR):
    """Downwards its own rate, upwards that of the whole uplink, which is less."""
    down, up = bps(net, name, server, host), bps(net, name, server, host, reverse=False)
    assert 0.7 * RATE < down / 1000 < 1.03 * RATE, down
    assert 0.7 * UP < up / 1000 < 1.05 * UP, up


def test_rate_of_a_direct_lease(net):
    net.connect("a", "direct")
    assert net.gateway("status")["shaping"]["active"] and net.held("a")[0]["rateKept"]
    assert_kept(net, "a")


def test_a_neighbour_is_not_limited(net):
    """What it says to the gateway itself stays on the shared network; hosts without a lease, and
    their packets, are nobody's here."""
    assert bps(net, "a", "own", net.lan("gw")) > 2000 * RATE
    assert bps(net, "c", "own", net.lan("gw")) > 2000 * RATE


def fair(net):
    """Four streams of one subscriber get no more than one of another; what both get, in kbit/s."""
    each, more = round(DOWN / 3), round(DOWN * 1.2)
    seconds = int(10 * SLOW)  # they are stopped before
    four = load("a", HTTP_ADDR, seconds, "-R", "-u", "-b", f"{each}K", "-P", 4)
    one = load("b", HTTP_ADDR, seconds, "-R", "-u", "-b", f"{more}K")
    loads = [net.run("a", "four", *four), net.run("b", "one", *one)]
    look = sent(net, "a", "b")
    _, *began = look()
    wait(lambda: all(n > was + DOWN * 20 for n, was in zip(look()[1:], began)), 6 * SLOW,
         "both are at work")
    start, *began = look()
    time.sleep(max(1.5, SLOW / 2))
    end, *after = look()
    four, one = (n - was for n, was in zip(after, began))
    total = (four + one) * 8 / (end - start) / 1000
    for p in loads:
        p.stop()
    assert 0.8 < one / four < 1.25, (one, four)
    return total


@pytest.mark.parametrize("wanted", ["auto", "fq_codel", "cake", "fifo"])
def test_queues(net, wanted):
    """Each lease's queue is of the kind that is wanted, as far as the kernel has it."""
    net.connect("a", "direct")
    if not net.held("b"):
        net.connect("b", "direct")
    net.gateway("setConfig", key="UplinkQueue", value=wanted)
    kind = {"auto": "fq_codel", "fifo": "bfifo"}.get(wanted, wanted)
    if kind != "bfifo" and kind not in KERNEL_HAS:
        kind, why = "bfifo", "the kernel has neither fq_codel nor cake"
    else:
        why = None
    shaping = net.gateway("status")["shaping"]
    assert (shaping["queue"], shaping["queueReason"]) == (kind, why) and shaping["active"]
    for link in ("mgw-up", "mgw-down"):
        leaves = [q for q in json.loads(net["gw"].run("tc", "-j", "qdisc", "show", "dev", link))
                  if q.get("parent", "").startswith("6d67:")]
        assert [q["kind"] for q in leaves] == [kind] * 2, leaves
    if wanted == "auto" or wanted in KERNEL_HAS and wanted != "fq_codel":
        total = fair(net)
        assert 0.6 * DOWN < total < 1.05 * DOWN, total


def test_the_rate_is_kept_after_a_crash(net):
    net.d["gw"].kill()
    net.d["gw"].start()
    wait(lambda: net.held("a") and net.held("a")[0]["rateKept"], 10 * SLOW, "it is back")
    assert net.gateway("nodeInfo")["success"]
    wait(lambda: net.fetch("a", count=1000, timeout=0.5), 8 * SLOW, "the page loads again")
    assert 0.6 * RATE < bps(net, "a") / 1000 < 1.03 * RATE


def test_rate_over_ipv6(net):
    net.disconnect("a", "b")
    assert "clsact" not in net["gw"].run("tc", "qdisc", "show", "dev", "lan")
    net.connect("a", "direct", 6)
    assert net.held("a")[0]["rateKept"]
    assert_kept(net, "a", "6", HTTP_ADDR6)


def test_nothing_is_left(net):
    for name in ("a", "b", "gw"):
        assert net.d[name].stop()[0] == 0
        for what, text in net.before[name].items():
            after = net[name].host_state()[what]
            assert after == text, f"{name} {what}\n{tools.difference(text, after)}"
    assert "clsact" not in net["gw"].run("tc", "qdisc", "show")
