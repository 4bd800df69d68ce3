"""One hop that loses 30 % both ways, and one that is cut for 10 s: does everything arrive, at what
cost on the wire, and how long does nothing arrive?"""
import json
import os
import subprocess
import time

from lab import LabError, bin_dir
from measure import Iperf3
from network import Chain
from tunnel import Meshnet

LOSS_PERCENT, LINK = 30, dict(delay=5, rate=100, queue=1000000)
MESSAGE_BYTES, MESSAGES = 1 << 20, 16
CUT_SECONDS, INTERVAL_SECONDS, CUT_MESSAGES = 10, 0.1, 1000


def echo_argv(net, size, count, timeout, window=4):
    return ["ip", "netns", "exec", net[net.first].full, os.path.join(bin_dir(), "echo"), "client",
            "--to", f"echo@{net.far_id}", "--size", str(size), "--count", str(count), "--window",
            str(window), "--timeout", str(timeout), "--json", "--wait"]


def start(net):
    """The tunnel, and the echo server at its far end."""
    tunnel = Meshnet(net).up()
    net.run(net.last, "echo", os.path.join(bin_dir(), "echo"), "server", "--id", "echo")
    net.far_id = tunnel.overlay.node_id(net.last)
    return tunnel


def longest_stall(run, since=0.0):
    """Seconds without a byte, in whole intervals of iperf3's sender or receiver."""
    longest = stall = 0.0
    for end, bytes_ in run.intervals():
        if end < since:
            continue
        stall = 0.0 if bytes_ else stall + INTERVAL_SECONDS
        longest = max(longest, stall)
    return longest


def lossy_messages(report, net):
    net.links.start(**LINK, loss=LOSS_PERCENT)
    done = subprocess.run(echo_argv(net, MESSAGE_BYTES, MESSAGES, 60), text=True, timeout=80,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    there, back = net.links.stop()
    net.links.start(**LINK)
    answer = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {"received": 0}
    delivered = MESSAGE_BYTES * answer["received"]
    report.add(f"{LOSS_PERCENT} % loss, messages of 1 MiB that came back intact",
               answer["received"], "messages", MESSAGES)
    if not delivered:
        return
    report.add(f"{LOSS_PERCENT} % loss, bytes sent by both nodes against bytes delivered",
               there["received_bytes"] + back["received_bytes"], "bytes", 2 * delivered)
    report.add(f"{LOSS_PERCENT} % loss, slowest of these messages", answer["max_us"] / 1e6, "s")
    report.add(f"{LOSS_PERCENT} % loss, goodput each way", delivered * 8e-6 / answer["seconds"],
               "Mbit/s")


def lossy_stream(report, net, tunnel):
    net.links.start(**LINK, loss=LOSS_PERCENT)
    try:
        run = Iperf3(tunnel, seconds=10, interval=INTERVAL_SECONDS, reverse=True).wait()
        report.add(f"{LOSS_PERCENT} % loss, TCP through the VPN", run.mbps, "Mbit/s", LINK["rate"])
        report.add(f"{LOSS_PERCENT} % loss, longest stall of that", longest_stall(run, 1), "s")
    except LabError as e:
        report.skip(f"{LOSS_PERCENT} % loss, TCP through the VPN", str(e))
    net.links.start(**LINK)


def cut(report, net, tunnel):
    """Both kinds of traffic across a cut."""
    echo = subprocess.Popen(echo_argv(net, 10000, CUT_MESSAGES, 60, window=1), text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    stream = Iperf3(tunnel, seconds=CUT_SECONDS + 12, interval=INTERVAL_SECONDS, reverse=True)
    began = time.monotonic()
    time.sleep(3)
    net.links.cut()
    time.sleep(CUT_SECONDS)
    net.links.cut()
    back = time.monotonic() - began
    try:
        after = [end for end, n in stream.wait().intervals() if end > back and n]
        report.add("cut for 10 s, TCP through the VPN flows again after",
                   max(0.0, after[0] - back), "s")
    except IndexError:
        report.skip("cut for 10 s, TCP through the VPN", "it did not flow again")
    except LabError as e:
        report.skip("cut for 10 s, TCP through the VPN", str(e))
    try:
        out, _ = echo.communicate(timeout=60)
        answer = json.loads(out.splitlines()[-1]) if out.strip() else {"received": 0, "max_us": 0}
        report.add("cut for 10 s, messages of one stream that came back", answer["received"],
                   "messages", CUT_MESSAGES)
        report.add("cut for 10 s, slowest of these", answer["max_us"] / 1e6, "s")
    except (subprocess.TimeoutExpired, ValueError) as e:
        echo.kill()
        report.skip("cut for 10 s, messages of one stream", str(e))


def run(report):
    with Chain(1, emulated=(0,)) as net:
        net.links.start(**LINK)
        tunnel = start(net)
        lossy_messages(report, net)
        lossy_stream(report, net, tunnel)
        cut(report, net, tunnel)
