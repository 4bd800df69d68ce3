"""Round trips: idle, and beside a full TCP stream where one link has 100 Mbit/s."""
import time

import measure
from lab import LabError
from measure import Iperf3, percentile, ping
from network import Chain
from peers import PEERS, start_all
from tunnel import Bare, Kernel, Meshnet

BOTTLENECK_MBPS, QUEUE_BYTES = 100, 1000000  # a queue of 80 ms, as routers have them
ALL = (Kernel, Meshnet, *PEERS)


def idle(report):
    with Chain() as net:
        tunnels = start_all(net, report, (*ALL, Bare))
        # The rarer the pings, the deeper everything on the way is asleep.
        for interval, count in ((0.01, 200), (0.1, 30)):
            rtts = {t: [] for t in tunnels}
            for _ in range(measure.RUNS):
                for t in tunnels:
                    rtts[t].append(percentile(ping(t, count // measure.RUNS, interval), 50))
            for t, values in rtts.items():
                report.add(f"idle, 3 hops, a ping every {interval * 1000:g} ms, {t.name}", values,
                           "ms", None if isinstance(t, Kernel) else rtts[tunnels[0]])


def loaded(report, tunnels, title):
    seconds, kernel = max(3.0, measure.SECONDS), None
    for t in tunnels:
        try:
            with Iperf3(t, seconds=seconds + 1) as load:
                time.sleep(1)  # past the slow start
                rtts = ping(t, int(seconds / 0.05) - 10, 0.05)
                load.wait()
        except LabError as e:
            report.skip(f"{title}, {t.name}", str(e))
            continue
        kernel = percentile(rtts, 50) if isinstance(t, Kernel) else kernel
        base = None if isinstance(t, Kernel) else kernel
        report.add(f"{title}, {t.name}, median", percentile(rtts, 50), "ms", base)
        report.add(f"{title}, {t.name}, 95 of 100", percentile(rtts, 95), "ms")
        report.add(f"{title}, {t.name}, throughput meanwhile", load.mbps, "Mbit/s", BOTTLENECK_MBPS)


def by_emulator(report):
    with Chain(emulated=(1,)) as net:
        net.links.start(rate=BOTTLENECK_MBPS, queue=QUEUE_BYTES)
        loaded(report, start_all(net, report, ALL), "loaded, emulator")


def by_tbf(report):
    with Chain() as net:
        for a, b in (net.hops[1], net.hops[1][::-1]):
            interface = net[a].links[b][0]
            net[a].run("tc", "qdisc", "add", "dev", interface, "root", "tbf", "rate",
                       f"{BOTTLENECK_MBPS}mbit", "burst", "32kb", "limit", QUEUE_BYTES)
        loaded(report, start_all(net, report, (Kernel, Meshnet)), "loaded, tbf")


def run(report):
    idle(report)
    by_tbf(report)
    by_emulator(report)
