"""One TCP stream over three links of 1 Gbit/s that lose, delay and reorder in each direction.

Jitter is netem's: frames may overtake each other.  KEEP_ORDER=1: only `reorder` makes them.
"""
import os
import statistics

import measure
from lab import LabError
from measure import iperf3
from network import Chain
from peers import PEERS, start_all
from tunnel import Kernel, Meshnet

PROFILES = {"low": dict(delay=2, jitter=2, loss=0.25, reorder=0.5),
            "medium": dict(delay=4, jitter=7, loss=1, reorder=2.5),
            "high": dict(delay=6, jitter=15, loss=2.5, reorder=5)}
LINK = dict(rate=1000, queue=4000000)
if os.environ.get("KEEP_ORDER") == "1":
    LINK["keep_order"] = True


def measure_profile(report, profile, tunnels):
    """{tunnel: [Mbit/s]} of those through which iperf3 could do its work at all."""
    speeds = {}
    for _ in range(measure.RUNS):
        for t in tunnels:
            try:
                run = iperf3(t, seconds=max(4, measure.SECONDS))
                speeds.setdefault(t, []).append(run.mbps)
            except LabError as e:
                print(f"   ({profile}, {t.name}, one run: {e})")
    for t in tunnels:
        if t not in speeds:
            report.skip(f"{profile}, {t.name}", "no run of iperf3 came to its end")
    return speeds


def table(report, profile, speeds):
    medians = {type(t): statistics.median(v) for t, v in speeds.items()}
    for t, values in speeds.items():
        base = None if isinstance(t, Kernel) else medians.get(Kernel)
        report.add(f"{profile}, {t.name}", values, "Mbit/s", base)
    peers = {c: v for c, v in medians.items() if c not in (Kernel, Meshnet)}
    if Meshnet in medians and peers:
        best = max(peers, key=peers.get)
        report.add(f"{profile}, meshnet against the best peer ({best.name})", medians[Meshnet],
                   "Mbit/s", peers[best])
        for cls, value in peers.items():
            if cls.name == "wireguard-go":
                report.add(f"{profile}, meshnet against wireguard-go", medians[Meshnet], "Mbit/s",
                           value)


def run(report):
    with Chain(emulated=(0, 1, 2)) as net:
        net.links.start(**LINK)
        tunnels = start_all(net, report, (Kernel, Meshnet, *PEERS))
        for name, profile in PROFILES.items():
            net.links.start(**LINK, **profile)
            table(report, name, measure_profile(report, name, tunnels))
