"""Throughput by iperf3 and CPU time per gigabyte, over 3 overlay hops and over 1."""
import statistics

from measure import RUNS, SECONDS, Cpu, iperf3
from network import Chain
from peers import PEERS, start_all
from tunnel import Kernel, Meshnet

MODES = (("1 stream", {}), ("4 streams", {"streams": 4}), ("1 stream, reverse", {"reverse": True}))


def measure_rounds(net, tunnels):
    """Runs in turns, so that whatever else the machine does meets all alike.
    {(tunnel, mode): [Mbit/s]} and {group: [CPU seconds per GB]} of ours."""
    speeds, cpu = {}, {}
    for _ in range(RUNS):
        for t in tunnels:
            ours = isinstance(t, Meshnet)
            for mode, options in MODES if ours or isinstance(t, Kernel) else MODES[:1]:
                groups = {"all processes": t.processes} if ours else {}
                if ours and net.relays:
                    groups["a relay"] = [t.relay()]
                with Cpu(**groups) as used:
                    run = iperf3(net, t.address, seconds=SECONDS, **options)
                speeds.setdefault((t, mode), []).append(run.mbps)
                if mode == MODES[0][0]:
                    for group, seconds in used.used.items():
                        cpu.setdefault(group, []).append(seconds / run.gigabytes)
    return speeds, cpu


def table(report, hops, classes):
    title = f"{hops} hop{'s' if hops > 1 else ''}"
    with Chain(hops) as net:
        tunnels = start_all(net, report, classes)
        speeds, cpu = measure_rounds(net, tunnels)
    kernel = next(t for t in tunnels if isinstance(t, Kernel))
    for (tunnel, mode), values in speeds.items():
        report.add(f"{title}, {tunnel.name}, {mode}", values, "Mbit/s",
                   None if tunnel is kernel else speeds[kernel, mode])
    summary(report, title, speeds, cpu)


def summary(report, title, speeds, cpu):
    first = MODES[0][0]
    ours = [v for (t, mode), v in speeds.items() if isinstance(t, Meshnet) and mode == first]
    peers = {t.name: statistics.median(v) for (t, _), v in speeds.items()
             if not isinstance(t, (Meshnet, Kernel))}
    if ours and peers:
        best = max(peers, key=peers.get)
        report.add(f"{title}, meshnet against the best peer ({best})", ours[0], "Mbit/s", peers[best])
    for mode, _ in MODES[1:]:
        for (t, m), values in speeds.items():
            if isinstance(t, Meshnet) and m == mode and ours:
                report.add(f"{title}, meshnet, {mode} against 1 stream", values, "Mbit/s", ours[0])
    for group, values in cpu.items():
        report.add(f"{title}, meshnet, CPU time of {group}", values, "s/GB")


def run(report):
    table(report, 3, (Kernel, Meshnet, *PEERS))
    table(report, 1, (Kernel, Meshnet))
