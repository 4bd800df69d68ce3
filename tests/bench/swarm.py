"""One real nodemanager on one core, and thousands of simulated nodes on the others."""
import json
import os
import select

import measure
import program
from lab import Lab, LabError, wait

PORT, RPC_PORT = 5999, 1234


class Swarm(Lab):
    def __init__(self, nodes, **keys):
        super().__init__()
        try:
            self._start(nodes, keys)
        except BaseException:
            self.close()
            raise

    def _start(self, nodes, keys):
        self.nodes = nodes
        self.add("s")
        cores = sorted(os.sched_getaffinity(0))
        self.manager = self.daemon("s", "nodemanager", {
            "nodemanager": {"MaxNodes": nodes + 100, "ListenAddr": f"127.0.0.1:{PORT}",
                            "RpcPort": RPC_PORT}, **keys})
        wait(lambda: PORT in [p for _, p in self["s"].listening()], 10, "the manager listens")
        os.sched_setaffinity(self.manager.pid, cores[:1])
        # A process of its own: commands go to it through a pipe.
        self.swarm = measure.subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self["s"].full,
             program.path("swarm"), str(PORT), str(nodes)], text=True, bufsize=1,
            stdin=measure.subprocess.PIPE, stdout=measure.subprocess.PIPE, env=self.environment)
        if len(cores) > 1:
            os.sched_setaffinity(self.swarm.pid, cores[1:])

    def ask(self, command, timeout=90):
        """What the swarm says to one command: {name: value}; "cpu" is the manager's CPU time."""
        before = measure.cpu_seconds([self.manager])
        self.swarm.stdin.write(command + "\n")
        self.swarm.stdin.flush()
        rows = {}
        if select.select([self.swarm.stdout], [], [], timeout)[0]:
            for line in iter(self.swarm.stdout.readline, ""):  # they come in one go
                if line == "\n":
                    return {**rows, "cpu": measure.cpu_seconds([self.manager]) - before}
                row = json.loads(line)
                rows[row["name"]] = row["value"]
        raise LabError(f"swarm: {command}: no answer\n{self.manager.log()[-500:]}")

    def memory_mb(self):
        """Resident, and the share of it that is the manager's (PSS)."""
        with open(f"/proc/{self.manager.pid}/smaps_rollup", encoding="ascii") as f:
            pss = next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
        return self.manager.rss_kb() / 1024, pss / 1024

    def close(self):
        swarm = getattr(self, "swarm", None)
        if swarm:
            swarm.kill()
            swarm.wait()
            swarm.stdin.close()
            swarm.stdout.close()
        super().close()
