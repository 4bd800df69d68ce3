"""How things are measured: iperf3, ping, CPU time, memory."""
import itertools
import json
import os
import re
import subprocess
import time

from lab import LabError, sh, wait

RUNS = int(os.environ.get("RUNS") or 3)
SECONDS = float(os.environ.get("SECONDS") or 2)
TICKS = os.sysconf("SC_CLK_TCK")


class Iperf3:
    """One run of iperf3 through a tunnel, in the background until wait().  It has a server of its
    own: one that lost its client would be busy for the next."""

    ports = itertools.count(5201)

    def __init__(self, tunnel, seconds=SECONDS, streams=1, reverse=False, interval=None):
        port, self.limit = next(self.ports), seconds + 25
        self.server = self._spawn(tunnel.net[tunnel.far], ["-s", "-1", "-p", str(port)])
        wait(lambda: (port in [p for _, p in tunnel.net[tunnel.far].listening()]), 5,
             "iperf3 listens", 0.01)
        # CUBIC everywhere: the default of the machine may be another.
        argv = ["-c", tunnel.address, "-p", str(port), "-t", str(round(seconds) or 1), "-P",
                str(streams), "-C", "cubic", "-J", "--connect-timeout", "10000"]
        self.client = self._spawn(tunnel.net[tunnel.near], argv + (["-R"] if reverse else [])
                                  + (["-i", str(interval)] if interval else []))
        self.answer = None

    @staticmethod
    def _spawn(ns, argv):
        return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", ns.full,
                                 "iperf3", *argv], text=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                env=ns.lab.environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for p in (self.client, self.server):
            p.kill()
            p.wait()
            p.stdout.close()

    def wait(self):
        try:
            out, _ = self.client.communicate(timeout=self.limit)
            self.answer = json.loads(out)
        except subprocess.TimeoutExpired:
            raise LabError(f"iperf3: no end within {self.limit:g} s") from None
        except ValueError as e:
            raise LabError(f"iperf3: not JSON: {e}") from None
        finally:
            self.close()
        if "error" in self.answer:
            raise LabError(f"iperf3: {self.answer['error']}")
        return self

    @property
    def mbps(self):
        return self.answer["end"]["sum_received"]["bits_per_second"] / 1e6

    @property
    def gigabytes(self):
        return self.answer["end"]["sum_received"]["bytes"] / 1e9

    def intervals(self):
        """(seconds since the start, bytes) of each interval."""
        return [(i["sum"]["end"], i["sum"]["bytes"]) for i in self.answer["intervals"]]


def iperf3(tunnel, **kw):
    return Iperf3(tunnel, **kw).wait()


def ping(tunnel, count=200, interval=0.01, size=56):
    """Round trips in ms."""
    address = tunnel.address
    out = tunnel.net[tunnel.near].run("ping", "-n", "-c", count, "-i", interval, "-s", size, "-W", 2, address,
                 check=False, timeout=count * max(interval, 0.02) + 30)
    rtts = [float(v) for v in re.findall(r"time=([\d.]+) ms", out)]
    if not rtts:
        raise LabError(f"no ping to {address} came back")
    return rtts


def percentile(values, percent):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


# --- what processes use -----------------------------------------------------------------------------

def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(p) for p in f.read().split()]


def process_ids(processes):
    """Of lab processes, with their descendants."""
    todo, found = [p.pid for p in processes], []
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += _children(pid)
    return found


def cpu_seconds(processes):
    total = 0
    for pid in process_ids(processes):
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def status_value(process, key):
    total = 0
    for pid in process_ids([process]):
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            total += int(re.search(rf"^{key}:\s+(\d+)", f.read(), re.M).group(1))
    return total


def wakeups(process):
    return status_value(process, "voluntary_ctxt_switches")


class Cpu:
    """with Cpu(relay=[...], all=[...]) as cpu: ...; cpu.used["relay"] are CPU seconds."""

    def __init__(self, **groups):
        self.groups, self.used = groups, {}

    def __enter__(self):
        self.before = {k: cpu_seconds(v) for k, v in self.groups.items()}
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.used = {k: cpu_seconds(v) - self.before[k] for k, v in self.groups.items()}


def busy_share(seconds=0.5):
    """How much of all CPUs is in use, 0 to 1."""
    def sample():
        with open("/proc/stat", encoding="ascii") as f:
            fields = [int(v) for v in f.readline().split()[1:9]]
        return sum(fields), fields[3] + fields[4]
    (all0, idle0), _ = sample(), time.sleep(seconds)
    all1, idle1 = sample()
    return 1 - (idle1 - idle0) / max(1, all1 - all0)


def have(program):
    return bool(sh("sh", "-c", 'command -v "$1"', "sh", program, check=False).strip())
