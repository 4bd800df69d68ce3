"""Messages to an app some hops away and back, over nodes in a row on one host's loopback."""
import json
import os

import measure
from lab import Lab, LabError, bin_dir, rpc, wait

HOPS = (1, 3, 10, 40)
KB, MB = 10**3, 10**6
# label, bytes of a message, messages, under way at once.  A message has 16 MiB at most: 100 MB are ten.
SIZES = (("100 B", 100, 200, 1), ("10 KB", 10 * KB, 100, 1), ("1 MB", MB, 10, 1),
         ("10 MB", 10 * MB, 5, 1), ("100 MB (10 messages)", 10 * MB, 10, 4))
ORIGINAL_MS = 7000  # the original meshnet for the benchmark of 10 MB over 3 hops
APP_PORT, TIMEOUT_SECONDS = 17000, 40


class Row(Lab):
    """A manager and nodes 0, 1, 2 ... on one loopback, each linked to the next."""

    def __init__(self, count):
        super().__init__()
        self.here = self.add("row")
        self.daemon("row", "apptracker")
        self.daemon("row", "nodemanager")
        wait(lambda: 1234 in [p for _, p in self.here.listening()], 10, "the manager listens")
        for i in range(count):
            self.daemon("row", "node", {"node": {"Name": f"n{i}", "AppTalkAddr": self.app(i)}},
                        name=f"n{i}")
        wait(lambda: len(self.ids()) == count, 30, "all nodes register")
        for i in range(count - 1):
            self.rpc("connectNodes", a=f"n{i}", b=f"n{i + 1}")
        wait(lambda: sum(t["status"].lower() == "connected" for t in
                         self.rpc("listAllTransports")["transports"]) >= count - 1, 30,
             "all transports come up")

    def rpc(self, method, /, **params):
        return rpc(self.here, 1234, method, params)

    def ids(self):
        return {n["name"]: n["id"] for n in self.rpc("listNodes")["nodes"] if n["connected"]}

    @staticmethod
    def app(i):
        return f"127.0.0.1:{APP_PORT + i}"

    def echo(self, hops, size, count, window):
        out = self.here.run(os.path.join(bin_dir(), "echo"), "client", "--node", self.app(0), "--to",
                            f"echo-{hops}@{self.ids()[f'n{hops}']}", "--size", size, "--count",
                            count, "--window", window, "--timeout", TIMEOUT_SECONDS, "--json",
                            "--wait", timeout=TIMEOUT_SECONDS + 10, check=False)
        answer = json.loads(out.splitlines()[-1]) if out.strip() else {}
        if answer.get("received") != count:
            raise LabError(f"{answer.get('received', 0)} of {count} messages came back in "
                           f"{TIMEOUT_SECONDS} s")
        return answer


def measure_hops(report, row, hops):
    row.run("row", f"echo-{hops}", os.path.join(bin_dir(), "echo"), "server", "--node",
            row.app(hops), "--id", f"echo-{hops}")
    for label, size, count, window in SIZES:
        if size == 10 * MB and window == 1 and hops != 3:
            continue  # the original's own benchmark only
        name = f"{hops} hop{'s' if hops > 1 else ''}, {label}"
        runs = measure.RUNS if hops * size <= 30 * MB else 1
        try:
            answers = [row.echo(hops, size, count, window) for _ in range(runs)]
        except (LabError, ValueError) as e:
            report.skip(name, str(e))
            return  # what is larger takes longer still
        if window > 1:
            report.add(name, [a["seconds"] * 1000 for a in answers], "ms in all")
        else:
            report.add(name, [a["median_us"] / 1000 for a in answers], "ms",
                       ORIGINAL_MS if size == 10 * MB else None)


def run(report):
    with Row(max(HOPS) + 1) as row:
        for hops in HOPS:
            measure_hops(report, row, hops)
