"""Links that are not perfect: tests/bench/emulator.c between the two ends of a link of a lab.

    links = Emulator(lab)
    links.join("a", "b", "10.78.1.0/24")
    links.start(delay=2, loss=1)       # keywords are the program's options; repeatable
    ...
    links.stop()                       # what was done to the frames, per direction
"""
import json
import os
import signal

from lab import LabError, bin_dir, veth, wait


class Emulator:
    def __init__(self, lab, name="emu"):
        self.lab, self.name, self.process = lab, name, None
        self.ports, self.runs = [], 0
        ns = lab.add(name)
        # The middle of a link says nothing of its own.
        ns.sysctl("net.ipv6.conf.default.disable_ipv6", 1)

    def join(self, a, b, *nets):
        """Like Lab.link, with the emulator between the two ends."""
        ns, lab = self.lab[self.name], self.lab
        for end, interface in zip((a, b), lab.link_names(a, b)):
            port = f"e{len(self.ports)}-{end}"
            veth(lab[end], interface, ns, port)
            # Frames as they are on a wire: none above the MTU.
            lab[end].run("ethtool", "-K", interface, "tso", "off", "tx-udp-segmentation", "off")
            ns.ip("link", "set", port, "up")
            self.ports.append(port)
        lab.link_ends(a, b, *nets)

    def start(self, **options):
        """Delay and jitter in ms, loss, reorder and duplicate in %, rate in Mbit/s, queue in bytes,
        seed, keep_order=True; a pair for a value per direction.  A running one is replaced."""
        self.stop()
        argv = [os.path.join(os.path.dirname(bin_dir()), "bench-bin", "emulator")]
        for key, value in options.items():
            argv.append("--" + key.replace("_", "-"))
            if value is not True:
                argv.append(",".join(map(str, value)) if isinstance(value, tuple) else str(value))
        self.runs += 1
        self.process = self.lab.run(self.name, f"{self.name}-{self.runs}", *argv, *self.ports)
        wait(lambda: self._ready() or not self.process.alive(), 5, "the emulator is ready", 0.01)
        if not self._ready():
            process, self.process = self.process, None
            raise LabError(f"emulator: {process.log()}")
        return self

    def _ready(self):
        return self.process.log().startswith("ready\n")

    def cut(self):
        """Cuts all its links, silently; again: joins them."""
        self.process.signal(signal.SIGUSR1)

    def cpu_seconds(self):
        """What it has used since start()."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """What became of the frames since start(): a dictionary per direction."""
        if not self.process:
            return []
        process, self.process = self.process, None
        process.stop()
        return json.loads(process.log().splitlines()[-1])["directions"]
