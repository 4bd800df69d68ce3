"""10,000 control channels of one nodemanager on one core: what they cost to make and to hold."""
from swarm import Swarm

NODES, MB, PER_SECOND, HOLD_SECONDS = 10000, 500, 2000, 6


def run(report):
    with Swarm(NODES) as swarm:
        empty = swarm.memory_mb()[0]
        made = swarm.ask("register")
        rss, pss = swarm.memory_mb()
        held = swarm.ask(f"hold {HOLD_SECONDS}")
        rss_held, pss = swarm.memory_mb()
    rate = report.add("registrations, wall time", made["registrations"], "a second", PER_SECOND)
    report.add("registrations, CPU time of the manager", NODES / made["cpu"], "a second", PER_SECOND)
    report.add("memory before the first", empty, "MB")
    most = report.add(f"memory with {NODES} channels", max(rss, rss_held), "MB", MB)
    report.add("its own part of that (PSS)", pss, "MB")
    report.add("a channel", (rss_held - empty) * 1024 / NODES, "KB")
    report.add("CPU time of the manager while all are idle", held["cpu"] / HOLD_SECONDS, "s a second")
    if rate < PER_SECOND or most > MB:
        report.fail("fewer registrations, or more memory, than wanted")
