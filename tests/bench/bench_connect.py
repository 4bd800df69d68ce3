"""ConnectWithRoute on a mesh of 10,000 nodes and 30,000 links: asked for, to ConnectionOn."""
from swarm import Swarm

NODES, LINKS, ASKED, BROKEN, P99_MS = 10000, 30000, 2000, 200, 5


def run(report):
    with Swarm(NODES) as swarm:
        swarm.ask("register")
        links = swarm.ask(f"links {LINKS}")
        report.add("links made", links["links"], "a second")
        report.add("links made, CPU time of the manager", LINKS / links["cpu"], "a second")
        report.add("memory with all links", swarm.memory_mb()[0], "MB")
        for at_once in (1, 8):
            made = swarm.ask(f"connect {ASKED} {at_once}")
            name = f"{at_once} at a time" if at_once > 1 else "one after the other"
            report.add(f"{name}: median", made["median"], "ms")
            report.add(f"{name}: 99th percentile", made["99th percentile"], "ms", P99_MS)
            report.add(f"{name}: slowest", made["slowest"], "ms")
            report.add(f"{name}: connections", made["rate"], "a second")
            report.add(f"{name}: CPU time of the manager", ASKED / made["cpu"], "a second")
            if made["99th percentile"] > P99_MS and at_once == 1:
                report.fail(f"wanted are {P99_MS} ms")
        broken = swarm.ask(f"break {BROKEN}")
    report.add("a link ends: its connections are told of new ways, median", broken["median"], "ms")
    report.add("the same, slowest of all links that carried any", broken["slowest"], "ms")
    report.add(f"connections that move with one link, of {2 * ASKED}", broken["moved"], "a link")
