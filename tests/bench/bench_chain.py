"""Throughput by iperf3 and CPU time per gigabyte, over 3 overlay hops and over 1."""
import statistics

from lab import LabError
from measure import RUNS, SECONDS, Cpu, iperf3
from network import Chain
from peers import PEERS, start_all
from tunnel import Bare, Kernel, Meshnet

MODES = (("1 stream", {}), ("4 streams", {"streams": 4}), ("1 stream, reverse", {"reverse": True}))


def measure_rounds(report, tunnels):
    """Runs in turns, so that whatever else the machine does meets all alike.
    {(tunnel, mode): [Mbit/s]} and {(tunnel's name, group): [CPU seconds per GB]}."""
    speeds, cpu = {}, {}
    kernel = [t for t in tunnels if isinstance(t, Kernel)]
    for _ in range(RUNS):
        for t in list(tunnels):
            all_modes = isinstance(t, (Meshnet, Kernel))
            try:
                measure_one(t, MODES if all_modes else MODES[:1], speeds, cpu)
            except LabError as e:
                report.skip(t.name, str(e))
                tunnels.remove(t)
        for t in kernel:  # once more: it varies most, by which process meets which core
            measure_one(t, MODES[:1], speeds, cpu)
    return speeds, cpu


def measure_one(tunnel, modes, speeds, cpu):
    counted = isinstance(tunnel, (Meshnet, Bare))
    for mode, options in modes:
        groups = {"all processes": tunnel.processes} if counted else {}
        if counted and tunnel.net.relays:
            groups["a relay"] = [tunnel.relay()]
        with Cpu(**groups) as cost:
            run = iperf3(tunnel, seconds=SECONDS, **options)
        speeds.setdefault((tunnel, mode), []).append(run.mbps)
        if mode == MODES[0][0]:
            for group, seconds in cost.used.items():
                cpu.setdefault((tunnel.name, group), []).append(seconds / run.gigabytes)


def table(report, hops, classes):
    title = f"{hops} hop{'s' if hops > 1 else ''}"
    with Chain(hops) as net:
        tunnels = start_all(net, report, classes)
        speeds, cpu = measure_rounds(report, tunnels)
    kernel = tunnels[0]
    for (tunnel, mode), values in speeds.items():
        report.add(f"{title}, {tunnel.name}, {mode}", values, "Mbit/s",
                   None if tunnel is kernel else speeds[kernel, mode])
    summary(report, title, speeds, cpu)
    return {type(t): v for (t, mode), v in speeds.items() if mode == MODES[0][0]}


def summary(report, title, speeds, cpu):
    first = MODES[0][0]
    ours = [v for (t, mode), v in speeds.items() if isinstance(t, Meshnet) and mode == first]
    peers = {t.name: statistics.median(v) for (t, _), v in speeds.items()
             if not isinstance(t, (Meshnet, Kernel, Bare))}
    if ours and peers:
        best = max(peers, key=peers.get)
        report.add(f"{title}, meshnet against the best peer ({best})", ours[0], "Mbit/s", peers[best])
    for mode, _ in MODES[1:]:
        for (t, m), values in speeds.items():
            if isinstance(t, Meshnet) and m == mode and ours:
                report.add(f"{title}, meshnet, {mode} against 1 stream", values, "Mbit/s", ours[0])
    for (name, group), values in cpu.items():
        base = None if name == Bare.name else cpu.get((Bare.name, group))
        report.add(f"{title}, {name}, CPU time of {group}", values, "s/GB", base)


def run(report):
    chain = table(report, 3, (Kernel, Bare, Meshnet, *PEERS))
    hop = table(report, 1, (Kernel, Bare, Meshnet))
    if Meshnet in hop:
        report.add("1 hop, meshnet, 1 stream against the kernel over 3 hops", hop[Meshnet],
                   "Mbit/s", chain[Kernel])
