"""gatewayd: how fast it answers, how many leases it grants durably, what a thousand of them cost."""
import json
import os
import time

import program
from gateway import PORT, GatewayLab
from lab import LabError
from measure import RUNS, SECONDS

INFO_A_SECOND, LEASES_A_SECOND, RSS_KB, LEASES = 20_000, 500, 60_000, 1000


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(net, *args):
    out = net.gw.run(program.path("rpcload"), *args[:1], "127.0.0.1", PORT, *args[1:], timeout=60)
    answer = json.loads(out)
    if answer["failures"]:
        raise LabError(f"{answer['failures']} of {answer['answers']} were refused")
    return answer


def node_info(net, daemon, connections, depth):
    """Answers a second, and a second of the daemon's CPU time."""
    before = cpu_seconds(daemon.pid)
    answer = load(net, "nodeinfo", connections, depth, SECONDS)
    used = cpu_seconds(daemon.pid) - before
    return answer["answers"] / answer["seconds"], answer["answers"] / used


def run(report):
    with GatewayLab() as net:
        net.start_mesh()
        daemon = net.start(UplinkDownKbps=100_000)
        rates, per_cpu, grants = {}, {}, []
        for _ in range(RUNS):
            for shape in ((1, 1), (16, 1), (16, 8)):
                rate, cpu = node_info(net, daemon, *shape)
                rates.setdefault(shape, []).append(rate)
                per_cpu.setdefault(shape, []).append(cpu)
        for i in range(RUNS):
            net.running.stop()
            daemon = net.start(f"fresh{i}", UplinkDownKbps=100_000, LeaseSeconds=3600)
            answer = load(net, "lease", 64, LEASES)
            grants.append(answer["answers"] / answer["seconds"])
        time.sleep(4)  # usage is read and saved once
        rss, held = daemon.rss_kb(), net.call("status")["sessions"]
    for (connections, depth), values in rates.items():
        title = f"nodeInfo, {connections} connections, {depth} under way on each"
        report.add(title, values, "a second", INFO_A_SECOND)
        report.add(title + ", of a whole core", per_cpu[connections, depth], "a CPU second",
                   INFO_A_SECOND)
    report.add(f"requestConnection, durable, shaped, to {LEASES} from none, 64 connections", grants, "a second",
               LEASES_A_SECOND)
    report.add(f"resident memory with {held} leases", rss / 1000, "MB", RSS_KB / 1000)
    if held != LEASES or rss > RSS_KB:
        raise LabError(f"{rss} KB for {held} leases; wanted are {RSS_KB} at most for {LEASES}")
    # The load needs a core too, so what one core of the daemon's answers is told by its CPU time.
    if max(grants) < LEASES_A_SECOND or max(max(v) for v in per_cpu.values()) < INFO_A_SECOND:
        raise LabError("slower than wanted")
