"""What is left of live traffic while a neighbour's wire carries 100,000 hostile packets a second.

The sender of the flood shares the machine with the nodes, so the baseline is a flood as large to
nobody: what it costs beyond that is the node's."""
import json
import time

import measure
import program
from lab import LabError
from measure import Iperf3
from network import Chain
from tunnel import Meshnet

PER_SECOND, MODES = 100000, {"foreign": "a flood to nobody", "handshake": "bogus handshakes",
                             "forged": "forged data packets", "replay": "replayed data packets"}


def one(tunnel, mode, number):
    """Mbit/s of the live traffic while the flood runs, and packets a second of it."""
    net = tunnel.net
    interface = net[net.first].links[net.relays[0]][0]
    seconds = max(2, round(measure.SECONDS))
    warm = Iperf3(tunnel, seconds=1)  # something to catch
    flood = net.run(net.first, f"flood-{number}", program.path("flood"), mode, interface, PER_SECOND,
                    seconds + 2, tunnel.first_transport)
    warm.wait()
    flood.wait_log("caught", 10)
    time.sleep(0.2)
    run = Iperf3(tunnel, seconds=seconds).wait()
    flood.popen.wait(seconds + 10)
    return run.mbps, json.loads(flood.log().splitlines()[1])["value"]


def first_transport(overlay):
    a, r1 = overlay.net.path[:2]
    return next(t["id"] for t in overlay.transports() if {t["a_name"], t["b_name"]} == {a, r1})


def run(report):
    with Chain() as net:
        tunnel = Meshnet(net).up()
        tunnel.first_transport = first_transport(tunnel.overlay)
        speeds, rates = {"none": []}, {mode: [] for mode in MODES}
        measure.iperf3(tunnel, seconds=3)  # its congestion control knows the path from here on
        for number in range(measure.RUNS):
            speeds["none"].append(measure.iperf3(tunnel).mbps)
            # Each round begins with another one, so that none is always the first.
            for mode in [*MODES, *MODES][number:number + len(MODES)]:
                try:
                    speed, rate = one(tunnel, mode, f"{mode}-{number}")
                    speeds.setdefault(mode, []).append(speed)
                    rates[mode].append(rate)
                except (LabError, ValueError, IndexError) as e:
                    report.skip(f"live traffic under {MODES[mode]}", str(e))
    report.add("live traffic, no flood", speeds.pop("none"), "Mbit/s")
    for mode, values in speeds.items():
        base = None if mode == "foreign" else speeds.get("foreign")
        report.add(f"live traffic under {MODES[mode]}", values, "Mbit/s", base)
    for mode, values in ((m, v) for m, v in rates.items() if v):
        report.add(f"{MODES[mode]} sent", values, "packets/s", PER_SECOND)
