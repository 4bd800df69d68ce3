"""The demo's mesh with a subscriber that could also reach the Internet directly: what it sends there
while it should use the tunnel is a leak.  Faults of the gateway in use, and how long they are felt."""
import datetime
import re
import signal
import socket
import struct
import threading
import time

from hoststate import HostState, Resolv
from lab import wait
from topology import COMMUNITY, GATEWAYS, HTTP_ADDR, HTTP_ADDR6, HTTP_PORT, LINKS, MeshLab

ECHO_PORT, INTERVAL = 7, 0.01
DIRECT, DIRECT6 = "192.0.2.128/30", "2001:db8:d::/64"
DNS = "9.9.9.9"
ECHO = f"""
import socket, select
socks = []
for family, host in ((socket.AF_INET, {HTTP_ADDR!r}), (socket.AF_INET6, {HTTP_ADDR6!r})):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind((host, {ECHO_PORT}))
    socks.append(s)
while True:
    for s in select.select(socks, [], [])[0]:
        s.sendto(*s.recvfrom(2000))
"""
# Everything that comes from the subscriber over its direct link, but to that link's own network.
LEAKS = """
table inet leaks {
  counter leaked4 { }
  counter leaked6 { }
  chain c {
    type filter hook prerouting priority -300;
    iifname "to-sub" ip daddr != 192.0.2.128/30 counter name leaked4
    iifname "to-sub" ip6 daddr 2000::/3 ip6 daddr != 2001:db8:d::/64 counter name leaked6
  }
}
"""


class Stream(threading.Thread):
    """Datagrams to the Internet's echo, one every 10 ms, from whatever address the way out has at that
    moment, or (`pinned`) always from that which it had at first, as a connection does."""

    def __init__(self, ns, pinned=False):
        super().__init__(daemon=True)
        self.sock = ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        if pinned:
            self.sock.connect((HTTP_ADDR, ECHO_PORT))
        self.ending, self.sent, self.back = False, {}, {}
        self.start()

    def run(self):
        number = 0
        while not self.ending:
            now = time.monotonic()
            try:
                self.sock.sendto(struct.pack(">Q", number), (HTTP_ADDR, ECHO_PORT))
                self.sent[number] = now
            except OSError:
                pass  # no way out at the moment
            number += 1
            while time.monotonic() < now + INTERVAL:
                try:
                    got = struct.unpack(">Q", self.sock.recv(100))[0]
                    self.back.setdefault(got, time.monotonic())
                except OSError:
                    time.sleep(0.001)

    def flows(self, since):
        """Something that was sent after that has come back."""
        return any(self.sent.get(n, 0) > since for n in list(self.back))

    def finish(self, wait_seconds=0.3):
        time.sleep(wait_seconds)
        self.ending = True
        self.join()
        self.sock.close()
        return self

    def longest_gap(self, since=0.0):
        """Seconds in which nothing came back."""
        times = sorted(t for t in self.back.values() if t >= since)
        return max((b - a for a, b in zip([since or times[0], *times], times)), default=0.0)

    def lost(self):
        return [n for n in self.sent if n not in self.back]


class FailoverLab(MeshLab):
    def __init__(self, **subscriber):
        super().__init__()
        self.subscriber_keys = subscriber

    def _build_network(self):
        super()._build_network()
        self.link("inet", "sub", DIRECT, DIRECT6)
        sub = self["sub"]
        sub.ip("route", "add", "default", "via", sub.links["inet"][2])
        sub.ip("-6", "route", "add", "default", "via", "2001:db8:d::1")
        self["inet"].run("nft", "-f", "-", input_text=LEAKS)
        self.resolv = Resolv(sub)
        self.settle()

    def bring_up(self):
        """gw2 has no IPv6 for subscribers."""
        self.start_internet()
        self.run("inet", "echo", "/usr/bin/python3", "-c", ECHO)
        self.start_tracker()
        self.start_manager()
        for n in COMMUNITY[1:]:
            # gatewayd's packets are moved by its node: they go on while gatewayd is held up.
            keys = {"AppTalkAddr": self.app_socket(n)} if n in GATEWAYS else {}
            self.start_node(n, **keys)
        wait(lambda: self.registered() >= set(COMMUNITY[1:]), 20, "all nodes register")
        for a, b in LINKS:
            self.connect(a, b)
        wait(self.links_up, 20, "all transports come up", 0.1)
        for gw in GATEWAYS:
            self.start_gateway(gw, Node=self.app_socket(gw), DNS=DNS,
                               **({"Pool6": ""} if gw == "gw2" else {}))
        self.before = {"sub": HostState(self["sub"])}
        keys = {"KillSwitch": "yes", "ProbeTarget": f"{HTTP_ADDR}:{HTTP_PORT}",
                "StandbyProbeInterval": 1000, "ScanInterval": 1, "BetterFor": 3}
        self.start_subscriber(**{**keys, **self.subscriber_keys})
        self.both()
        return self

    def app_socket(self, ns):
        return f"unix:{self.folder}/{ns}.sock"

    def status(self):
        return self.subscriber("status")

    def both(self, timeout=30):
        """Waits for a gateway in use and a standby, and until both were probed; the names."""
        def ready():
            s = self.status()
            return s["online"] and s["standby"] and s["standby"]["state"] == "standby" and s
        s = wait(ready, timeout, "a gateway in use and a standby")
        return s["session"]["gateway"], s["standby"]["gateway"]

    def leaked(self):
        """Bytes of both families so far."""
        out = self["inet"].run("nft", "-j", "list", "counters", "table", "inet", "leaks")
        return sum(int(n) for n in re.findall(r'"bytes": ?(\d+)', out))

    def switch_seconds(self):
        """From giving a gateway up to being online through the next, by the log."""
        lines = [line for line in self.d["sub-subscriberd"].log().splitlines()
                 if "given up" in line or "online through" in line]
        lost, online = [datetime.datetime.fromisoformat(line[:23]) for line in lines
                        if "standby" not in line][-2:]
        return (online - lost).total_seconds()

    # --- faults: each returns how to undo it ---

    def _drop(self, ns, name, rule):
        self[ns].run("nft", f"add table inet {name}; add chain inet {name} c {{ type filter hook "
                     f"prerouting priority -290; }}; add rule inet {name} c {rule}")
        return lambda: self[ns].run("nft", "delete", "table", "inet", name)

    def gateway_killed(self, gw):
        """With its node, as when the power fails."""
        for program in ("gatewayd", "node"):
            self.d[f"{gw}-{program}"].kill()

        def undo():
            for program in ("node", "gatewayd"):
                self.d[f"{gw}-{program}"].start()
            wait(self.links_up, 20, "its transport comes back")
        return undo

    def uplink_cut(self, gw):
        return self._drop("inet", "cut", f'iifname "to-{gw}" drop')

    def link_cut(self, gw, rule="drop"):
        relay = next(r for r in ("r2", "r3") if gw in self[r].links)
        undo = [self._drop(relay, "cut", f'iifname "to-{gw}" {rule}'),
                self._drop(gw, "cut", f'iifname "to-{relay}" {rule}')]
        return lambda: [u() for u in undo]

    def loss_40(self, gw):
        return self.link_cut(gw, "numgen random mod 100 < 40 drop")

    def rpc_dead(self, gw):
        daemon = self.d[f"{gw}-gatewayd"]
        daemon.signal(signal.SIGSTOP)
        return lambda: daemon.signal(signal.SIGCONT)

    def tunnel_dead(self, gw):
        return self._drop(gw, "cut", 'iifname "meshgw*" drop')

    FAULTS = {"packet loss 40 %": loss_40, "RPC dead, tunnel alive": rpc_dead,
              "tunnel dead, RPC alive": tunnel_dead, "uplink cut": uplink_cut,
              "link cut": link_cut, "gateway killed": gateway_killed}

    def strike(self, fault, timeout=40):
        """Makes the fault at the gateway in use and waits for the other one; what it cost."""
        used, other = self.both()
        before, leaked = self.status(), self.leaked()
        stream = Stream(self["sub"])
        wait(lambda: stream.flows(0), 5, "the stream flows")
        time.sleep(0.2)
        began = time.monotonic()
        undo = self.FAULTS[fault](self, used)
        try:
            wait(lambda: self.status()["session"]["gateway"] == other, timeout,
                 f"{fault}: the other gateway is used", 0.02)
            seen = time.monotonic() - began
            moved = time.monotonic()
            wait(lambda: stream.flows(moved), 10, "the stream flows again", 0.02)
        finally:
            stream.finish(1)
            undo()
        after = self.status()
        failed = after["failovers"] > before["failovers"]
        return {
            "from": used, "to": other, "seconds": seen, "outage": stream.longest_gap(began - 0.1),
            "failover": failed, "moved": after["moves"] > before["moves"],
            "detect": after["lastDetectMs"] / 1000 if failed else None,
            "switch": self.switch_seconds() if failed else None,
            "lost": len(stream.lost()), "leaked": self.leaked() - leaked,
        }
