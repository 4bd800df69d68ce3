#!/usr/bin/python3
"""`make demo`: a mesh carries a subscriber to the Internet, step by step, in network namespaces.

Exits non-zero when a step failed, and leaves nothing behind.  KEEP=1 leaves it running with a
prompt in the subscriber's place; leaving the prompt ends it.
"""
import contextlib
import os
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lab"))

import lab as tools  # noqa: E402
from lab import LabError, wait  # noqa: E402
from topology import GATEWAYS, LINKS, NODES, URL, HTTP_ADDR, MeshLab  # noqa: E402

PICTURE = r"""
        the Internet   198.51.100.80: a web server that only gw1 and gw2 can reach
          /      \
       gw1        gw2       gateways: gatewayd and a node each
        |          |
        r2 ------ r3        relays: a node each
          \      /
            r1 ---- mgr     nodemanager and apptracker
            |
           sub              subscriber: a node and subscriberd; it has no default route
"""


class Demo:
    def __init__(self):
        self.began = time.monotonic()
        colour = sys.stdout.isatty()
        self.ok, self.bad, self.dim, self.plain = (
            ("\033[32m✓\033[0m", "\033[31m✗\033[0m", "\033[2m", "\033[0m") if colour
            else ("✓", "✗", "", ""))

    @contextlib.contextmanager
    def step(self, what):
        """One line when it is done: time since the start, what, and what came of it."""
        detail = []
        try:
            yield detail.append
        except (LabError, OSError, KeyError, ValueError, subprocess.SubprocessError):
            print(f"{self.bad} {self.elapsed()} {what}", flush=True)
            raise
        text = f": {detail[0]}" if detail else ""
        print(f"{self.ok} {self.elapsed()} {what}{text}", flush=True)

    def elapsed(self):
        return f"{self.dim}{time.monotonic() - self.began:5.1f} s{self.plain}"

    def show(self, text):
        print("".join(f"            {line}\n" for line in text.rstrip().splitlines()), end="",
              flush=True)

    # --- the steps ---

    def overlay(self, mesh):
        with self.step("a network of 8 places, joined by cables; an Internet with a web server"):
            mesh.start_internet()
        with self.step("the subscriber cannot reach the Internet") as tell:
            with contextlib.suppress(OSError):
                if mesh.fetch(0.5):
                    raise LabError("it can, without any tunnel")
            tell("no route to " + HTTP_ADDR)
        with self.step("manager, tracker and six nodes started; nodes registered") as tell:
            mesh.start_tracker()
            mesh.start_manager()
            for n in NODES:
                mesh.start_node(n)
            wait(lambda: mesh.registered() >= set(NODES), 20, "all nodes register")
            tell(" ".join(sorted(mesh.registered())))
        with self.step("encrypted transports between neighbours, and only there") as tell:
            for a, b in LINKS:
                mesh.connect(a, b)
            wait(mesh.links_up, 20, "all transports come up", 0.1)
            tell(f"{len(mesh.transports())} connected")

    def online(self, mesh):
        with self.step("gateways prove their uplinks and offer them in the mesh") as tell:
            for gw in GATEWAYS:
                mesh.start_gateway(gw)
            wait(lambda: len(mesh.manager("listApps", kind="by_type", value="internet_gateway")
                             ["apps"]) == len(GATEWAYS), 20, "both gateways are in the tracker")
            tell("the tracker lists " + " and ".join(GATEWAYS))
        with self.step("the subscriber finds them, ranks them and connects") as tell:
            mesh.start_subscriber()
            mesh.wait_online()
            tell(f"online through {mesh.gateway_in_use()}")
        with self.step("it measures the quality of both gateways, and says why the first is first"):
            wait(lambda: sorted(g["name"] for g in mesh.subscriber("listGateways")["gateways"]
                                if g["rttMs"]) == sorted(GATEWAYS), 20, "both are measured", 0.1)
        self.show(mesh.meshctl("sub", "gateways"))
        with self.step("a lease") as tell:
            s = mesh.session()
            tell(f"{s['ipv4']}, {s['ipv6']}, method {s['method']}, sid {s['sid']}")

    def measure(self, mesh):
        with self.step(f"curl {URL} from the subscriber's place") as tell:
            text = mesh["sub"].run("curl", "-sS", "--max-time", 5, "-w", "(%{time_total} s)", URL)
            tell(" ".join(text.split()))
        with self.step("the path crosses two relays") as tell:
            path = mesh.manager("findRoute", a="sub", b=mesh.gateway_in_use())["nodes"]
            if len(path) != 4:
                raise LabError(f"it has {len(path)} nodes")
            tell(" - ".join(n["name"] for n in path))
        with self.step("round trip to the web server, all the way through") as tell:
            rtts = tools.ping_rtts(mesh["sub"], HTTP_ADDR, 10, 0.1)
            if len(rtts) < 8:
                raise LabError(f"only {len(rtts)} of 10 pings came back")
            tell(f"{min(rtts):.2f} / {sum(rtts) / len(rtts):.2f} / {max(rtts):.2f} ms "
                 "(least / mean / most)")
        with self.step("throughput, one TCP stream by iperf3") as tell:
            up = tools.iperf3_bps(mesh["sub"], HTTP_ADDR, 3)
            down = tools.iperf3_bps(mesh["sub"], HTTP_ADDR, 3, reverse=True)
            tell(f"{up / 1e6:.0f} Mbit/s up, {down / 1e6:.0f} Mbit/s down")
        with self.step("what the nodes measured on each hop meanwhile"):
            used = {frozenset((a["name"], b["name"])) for a, b in zip(path, path[1:])}
            wait(lambda: all(t["rtt_us"] for t in mesh.transports()
                             if frozenset((t["a_name"], t["b_name"])) in used), 5, "round trips")
        self.show(mesh.meshctl("mgr", "list-all-transports"))

    def memory(self, mesh):
        with self.step("resident memory") as tell:
            tell(", ".join(f"{name} {mesh.d[key].rss_kb() / 1024:.0f} MB" for name, key in (
                ("nodemanager", "mgr-nodemanager"), ("apptracker", "mgr-apptracker"),
                ("node", "gw2-node"), ("gatewayd", "gw2-gatewayd"),
                ("subscriberd", "sub-subscriberd"))))

    def failover(self, mesh):
        first = mesh.gateway_in_use()
        with self.step(f"kill -9 of {first}, gateway and node") as tell:
            killed = time.monotonic()
            for program in ("gatewayd", "node"):
                mesh.d[f"{first}-{program}"].kill()
            wait(lambda: mesh.fetch(0.4), 20, "the page loads again", 0.05)
            seconds = time.monotonic() - killed
            tell(f"the page loads again after {seconds:.1f} s, through {mesh.gateway_in_use()}")
        self.show(mesh.meshctl("sub", "gateways"))
        return first

    def revive(self, mesh, gateway):
        with self.step(f"{gateway} is started again"):
            for program in ("node", "gatewayd"):
                mesh.d[f"{gateway}-{program}"].start()
            wait(mesh.links_up, 20, "its transport comes back", 0.1)

    def what_next(self, keep):
        print()
        if keep:
            print("It goes on running.  This prompt is the subscriber's place; try:")
        else:
            print("That was it.  `sudo make demo KEEP=1` leaves it running with a prompt, to try:")
        print(f"    curl {URL}                       the page, through the tunnel\n"
              "    ip addr show mesh0; ip route get 198.51.100.80\n"
              "    meshctl gateways                 what subscriberd knows, and why the first is first\n"
              "    on mgr meshctl list-nodes        any command in another place: mgr r1 r2 r3 gw1 gw2 inet\n"
              "    on mgr meshctl                   meshctl's own prompt: help, exit\n"
              "    exit                             ends the demo\n"
              "README.md says how to run each daemon for real.", flush=True)

    def prompt(self, mesh):
        rc = os.path.join(mesh.folder, "bashrc")
        with open(rc, "w", encoding="utf-8") as f:
            f.write(f"export PATH={tools.bin_dir()}:$PATH\n"
                    f"on() {{ local p=$1; shift; ip netns exec {mesh.prefix}-$p \"$@\"; }}\n"
                    "PS1='subscriber# '\n")
        argv = ["ip", "netns", "exec", mesh["sub"].full, "bash", "--rcfile", rc]
        subprocess.run(argv + (["-i"] if sys.stdin.isatty() else []), check=False,
                       env={**mesh.environment, "TERM": os.environ.get("TERM", "dumb"),
                            "BASH_ENV": rc})


def run(mesh, demo, keep):
    demo.overlay(mesh)
    demo.online(mesh)
    demo.memory(mesh)
    demo.measure(mesh)
    dead = demo.failover(mesh)
    if keep:
        demo.revive(mesh, dead)
    demo.what_next(keep)
    if keep:
        demo.prompt(mesh)


def main():
    if os.geteuid() != 0:
        print("The demo makes network namespaces and needs root: sudo make demo", file=sys.stderr)
        return 1
    tools.exit_on_signals()
    keep, demo, failed = os.environ.get("KEEP") == "1", Demo(), False
    print(PICTURE)
    try:
        mesh = MeshLab()
        try:
            run(mesh, demo, keep)
        except KeyboardInterrupt:
            failed = not keep
        except (LabError, OSError, KeyError, ValueError, subprocess.SubprocessError) as e:
            failed = True
            print(f"\n{type(e).__name__}: {e}\n\nWhat the daemons said last:\n{mesh.tail_logs()}")
        finally:
            mesh.close()
    except LabError as e:
        print(e)
        return 1
    left = mesh.problems + mesh.leaks()
    print(f"\n{demo.bad if left else demo.ok} {demo.elapsed()} everything stopped; "
          + ("left behind:\n" + "\n".join(left) if left else "nothing is left behind"))
    return 1 if failed or left else 0


if __name__ == "__main__":
    sys.exit(main())
