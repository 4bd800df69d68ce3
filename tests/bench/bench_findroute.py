"""Shortest paths on 100,000 nodes and 500,000 links, beside igraph's Dijkstra; a link that changes."""
import json

from lab import LabError, sh
from program import path

LIMIT_MS = 25
BLOCKED_MS = 50  # so long one question for several paths may keep others waiting


def run(report):
    rows = {r["name"]: r for r in map(json.loads, sh(path("findroute"), timeout=180).splitlines())}
    for name, row in rows.items():
        peer = rows.get(name.replace("meshnet", "igraph"), row)
        report.add(name, row["value"], row["unit"], peer["value"] if peer is not row else None)
    ours = {n: r["value"] for n, r in rows.items() if "meshnet" in n}
    report.add("the slowest of all with marks, of the wanted",
               max(v for n, v in ours.items() if "without marks" not in n), "ms", LIMIT_MS)
    report.add("the slowest of several paths, of the wanted",
               max(r["value"] for n, r in rows.items() if "ours" in n), "ms", BLOCKED_MS)
    # The slowest of many depends on what else the machine does; the median does not.
    if max(v for n, v in ours.items() if "median" in n) > LIMIT_MS:
        raise LabError(f"wanted are {LIMIT_MS} ms")
    if any(v > rows[n.replace("meshnet", "igraph")]["value"] for n, v in ours.items()):
        raise LabError("igraph was faster")
