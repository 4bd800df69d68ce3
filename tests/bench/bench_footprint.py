"""Memory and wake-ups of idle nodes: a relay with two transports, before it has carried anything and
after, and a hub with 1,000.  The baselines are the limits they must keep."""
import resource
import time

import measure
from lab import LabError, wait
from bench_echo import Row
from network import Chain
from tunnel import Meshnet, Overlay

IDLE_SECONDS, SPOKES, SPOKES_AT_ONCE = 10, 1000, 50
REST_SECONDS = 15  # after traffic: then memory for bursts has been given back
NODE_MB, NODE_WAKEUPS, HUB_MB = 3, 5, 40


def watch(report, title, process, seconds=IDLE_SECONDS, limit_mb=NODE_MB, limit_wakeups=None):
    before, cpu = measure.wakeups(process), measure.cpu_seconds([process])
    time.sleep(seconds)
    report.add(f"{title}, resident memory", measure.status_value(process, "VmRSS") / 1024, "MB",
               limit_mb)
    report.add(f"{title}, private memory", private_mb(process), "MB")
    report.add(f"{title}, wake-ups", (measure.wakeups(process) - before) / seconds, "a second",
               limit_wakeups)
    report.add(f"{title}, CPU time", (measure.cpu_seconds([process]) - cpu) / seconds * 1000,
               "ms a second")


def private_mb(process):
    """Without what is shared with other programs: libraries."""
    total = 0
    for pid in measure.process_ids([process]):
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("Private_"))
    return total / 1024


def relay(report):
    with Chain() as net:
        overlay = Overlay(net).start()
        time.sleep(3)  # the last of the handshakes
        watch(report, "idle relay of 2 transports", overlay.nodes[net.relays[0]],
              limit_wakeups=NODE_WAKEUPS)
    with Chain() as net:
        ours = Meshnet(net).up()
        gigabytes = measure.iperf3(ours).gigabytes
        time.sleep(REST_SECONDS)
        watch(report, f"the same, having carried {gigabytes:.1f} GB",
              ours.overlay.nodes[net.relays[0]], limit_wakeups=NODE_WAKEUPS)


class Star(Row):
    """Node 0 linked to all others, which are real nodes too."""

    def __init__(self, spokes):
        # A descriptor for each transport, at the hub and at the manager.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
        super().__init__(1)
        self.hub, self.limit = self.processes[-1], None
        for first in range(1, spokes + 1, SPOKES_AT_ONCE):
            if not self._add(range(first, min(spokes + 1, first + SPOKES_AT_ONCE))):
                break
        wait(lambda: self.connected() >= self.linked, 60, f"{self.linked} transports come up", 0.5)

    linked = 0

    def _add(self, numbers):
        """False when the manager allows no more; `limit` is what it said."""
        for i in numbers:
            self.daemon("row", "node", {"node": {"Name": f"n{i}", "AppTalkAddr": self.app(i)}},
                        name=f"n{i}")
        wait(lambda: len(self.ids()) > numbers[-1], 30, "spokes register", 0.2)
        for i in numbers:
            try:
                self.rpc("connectNodes", a="n0", b=f"n{i}")
            except LabError as e:
                self.limit = str(e)
                return False
            self.linked += 1
        return True

    def connected(self):
        return sum(t["status"].lower() == "connected"
                   for t in self.rpc("listAllTransports")["transports"])


def hub(report):
    began = time.monotonic()
    with Star(SPOKES) as star:
        if star.limit:
            report.skip(f"idle hub of {SPOKES:,} transports", star.limit)
        title = f"idle hub of {star.linked:,} transports"
        report.add(f"{star.linked:,} nodes started, registered and linked to one",
                   time.monotonic() - began, "s")
        time.sleep(3)
        watch(report, title, star.hub, limit_mb=HUB_MB)
        report.add(f"{title}, those still up", star.connected(), "transports", star.linked)


def run(report):
    relay(report)
    hub(report)
