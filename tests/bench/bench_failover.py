"""What a subscriber notices when the gateway in use fails: from the fault to its detection, to the other
gateway, and to the first packet that comes back; and what left beside the tunnel meanwhile."""
import time

from failover import FailoverLab, Stream
from lab import wait
from topology import HTTP_ADDR

WANTED_SECONDS = 3


def row(report, fault, cost):
    kind = "fail-over" if cost["failover"] else "move, both alive"
    if cost["failover"]:
        report.add(f"{fault}: detected, from the first lost probe", cost["detect"], "s",
                   WANTED_SECONDS)
        report.add(f"{fault}: switched, from there", cost["switch"] * 1000, "ms")
    report.add(f"{fault}: {kind}, from the fault", cost["seconds"], "s")
    report.add(f"{fault}: longest time without a packet", cost["outage"], "s", WANTED_SECONDS)
    report.add(f"{fault}: datagrams lost, of 100 a second", cost["lost"], "datagrams")
    report.add(f"{fault}: bytes beside the tunnel", cost["leaked"], "bytes")
    if cost["leaked"] or (cost["failover"] and cost["detect"] > WANTED_SECONDS):
        report.fail(f"{fault}: {cost}")


def killed(report, net, name):
    """kill -9 of subscriberd and its start, under traffic."""
    leaked, stream = net.leaked(), Stream(net["sub"])
    wait(lambda: stream.flows(0), 5, "the stream flows")
    began = time.monotonic()
    net.d["sub-subscriberd"].kill()
    time.sleep(0.5)
    net.d["sub-subscriberd"].start()
    wait(lambda: net.status()["online"], 20, "it is online again")
    moved = time.monotonic()
    wait(lambda: stream.flows(moved), 10, "the stream flows again", 0.02)
    stream.finish()
    report.add(f"{name}: longest time without a packet", stream.longest_gap(began - 0.1), "s")
    return report.add(f"{name}: bytes beside the tunnel", net.leaked() - leaked, "bytes")


def run(report):
    net = FailoverLab()
    try:
        net.bring_up()
        for fault in net.FAULTS:
            row(report, fault, net.strike(fault))
        if killed(report, net, "subscriberd killed, started 0.5 s later"):
            report.fail("the kill switch leaked")
    finally:
        net.close()
    # The same without it, to see that a leak would be seen.
    net = FailoverLab(KillSwitch="no")
    try:
        net.bring_up()
        killed(report, net, f"the same without KillSwitch ({HTTP_ADDR} has another way)")
    finally:
        net.close()
