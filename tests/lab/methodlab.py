"""A lab for methods that lie between the addresses of two hosts (direct, ipip, gre, vxlan, ...).

             inet  198.51.100.80, 2001:db8:80::80: services.py
              |
      side -- gw         side: another network of the gateway's owner
              |
             lan         a bridge, 10.77.0.0/24 and fd77::/64
            / | \\
           a  b  c       a and b run subscriberd; c is a stranger

The daemons run; nobody is online.
"""
import ipaddress
import os
import socket
import struct

import lab as _lab
from lab import LabError, wait
from uplink import INET4 as HTTP_ADDR, INET6 as HTTP_ADDR6, SLOW, UplinkLab

TARGET_PORT = 4242
HOSTS = {"gw": 1, "a": 11, "b": 12, "c": 13}
SUBSCRIBERS = ("a", "b")
COUNT = 300_000


def body(count):
    return (bytes(i * 7 & 255 for i in range(256)) * (count // 256 + 1))[:count]


def checksum(data):
    data += b"\0" * (len(data) & 1)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp_packet(source, target, text, port=TARGET_PORT):
    """An IP packet with a UDP datagram in it, whoever sends it."""
    src, dst = ipaddress.ip_address(source), ipaddress.ip_address(target)
    length = 8 + len(text)
    pseudo = src.packed + dst.packed + struct.pack(">HH", 17, length)
    udp = struct.pack(">HHHH", 4000, port, length, 0) + text
    udp = udp[:6] + struct.pack(">H", checksum(pseudo + udp) or 0xFFFF) + udp[8:]
    if src.version == 6:
        return struct.pack(">IHBB", 6 << 28, length, 17, 64) + src.packed + dst.packed + udp
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, 17, 0) + src.packed + dst.packed
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + udp


class MethodLab(UplinkLab):
    def __init__(self, methods, **gateway):
        super().__init__()
        self.d = {}
        try:
            self._build()
            for name in HOSTS:
                self._settle(self[name], 3 if name == "gw" else 1)
            self.before = {name: self[name].host_state() for name in HOSTS}
            self._start(methods, gateway)
        except BaseException:
            self.close()
            raise

    def _build(self):
        self.add("inet", "side", "lan", *HOSTS)
        self.build_uplink()
        self.link("gw", "side", "10.78.0.0/24")
        self["lan"].batch(["link add br0 type bridge", "link set br0 up"])
        for name in HOSTS:
            _lab.veth(self[name], "lan", self["lan"], f"p-{name}")
        self["lan"].batch([f"link set p-{name} master br0 up" for name in HOSTS])
        side = [f"route add 10.78.0.0/24 via {self.lan('gw')}"]
        more = {"gw": [], "a": side, "b": side,
                "c": side + [f"route add default via {self.lan('gw', f)}" for f in (4, 6)]}
        for name in HOSTS:
            self[name].batch([f"addr add {self.lan(name)}/24 dev lan",
                              f"addr add {self.lan(name, 6)}/64 dev lan nodad",
                              "link set lan up", *more[name]])
        # The gateway is a router between the owner's networks already.
        self["gw"].sysctl("net.ipv4.ip_forward", 1)
        self["gw"].sysctl("net.ipv6.conf.all.forwarding", 1)
        self["side"].ip("route", "add", "default", "via", "10.78.0.1")

    @staticmethod
    def _settle(ns, links):
        """Returns when the kernel has given each interface its link-local address."""
        def settled():
            lines = ns.ip("-6", "-o", "addr", "show", "scope", "link").splitlines()
            if len(lines) != links:
                raise LabError("\n".join(lines))
            return True
        wait(settled, 5 * SLOW, f"{ns.name}: link-local addresses")

    @staticmethod
    def lan(name, family=4):
        return f"10.77.0.{HOSTS[name]}" if family == 4 else f"fd77::{HOSTS[name]:x}"

    def _start(self, methods, keys):
        self.start_services()
        self.start_gateway(methods, **keys)
        for name in SUBSCRIBERS:
            section = {"Node": "", "AutoConnect": "no", "Methods": ",".join(methods),
                       "ScanInterval": 2, "ProbeInterval": 200, "ProbeLosses": 50}
            self.d[name] = self.daemon(name, "subscriberd", {"subscriber": section})
        wait(lambda: all(self.subscriber(n, "status") for n in SUBSCRIBERS), 20 * SLOW, "the subscribers answer")

    def start_gateway(self, methods, **keys):
        self.d["gw"] = self.daemon_of_gateway(
            {"direct": {"Interface": "lan"}},
            **{"Methods": ",".join(methods), "LeaseSeconds": 30, "UplinkInterface": "to-inet",
               "Pool4": "10.117.1.0/24", "Pool6": "fd75:6d65:1::/64", **keys})
        wait(lambda: self.gateway("nodeInfo")["uplink"]["online"], 20 * SLOW, "the gateway proves its uplink")

    # --- being online ---

    def session(self, name):
        status = self.subscriber(name, "status")
        if status["state"] != "online":
            raise LookupError(f"{name} is {status['state']}")
        return status["session"]

    def connect(self, name, method, family=4, timeout=10 * SLOW):
        """Online by this method, calling the gateway over this family; the session."""
        self.subscriber(name, "connect", gateway=self.lan("gw", family), method=method)
        return wait(lambda: self.session(name), timeout, f"{name} is online by {method}", 0.02)

    def disconnect(self, *names):
        for name in names:
            self.subscriber(name, "disconnect")
        wait(lambda: all(self.subscriber(n, "status")["state"] == "idle" for n in names)
             and not any(self.held(n) for n in names), 10 * SLOW, "the leases end")

    def held(self, name):
        """The gateway's sessions of this host."""
        hosts = {self.lan(name), self.lan(name, 6)}
        return [s for s in self.gateway("listSessions")["sessions"] if s["host"] in hosts]

    def fetch(self, name, host=HTTP_ADDR, count=COUNT, timeout=5.0 * SLOW):
        status, got = _lab.http_request(self[name], host, 80, path=f"/bytes/{count}",
                                        timeout=timeout)
        return status == 200 and got == body(count)

    # --- sending what one may not ---

    def listen(self, host=HTTP_ADDR):
        """A UDP socket of the Internet that says what arrives (address, text) until `stop`."""
        sock = self["inet"].socket(socket.AF_INET6 if ":" in host else socket.AF_INET,
                                   socket.SOCK_DGRAM)
        sock.bind((host, TARGET_PORT))
        sock.settimeout(5 * SLOW)
        return sock

    def send_packet(self, name, interface, packet):
        """A packet just as it is, by this interface's way."""
        v6 = packet[0] >> 4 == 6
        sock = self[name].socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW,
                                 socket.IPPROTO_RAW)
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            target = ipaddress.ip_address(packet[24:40] if v6 else packet[16:20])
            sock.sendto(packet, (str(target), 0))

    def spoofed(self):
        return self.gateway("status")["counters"]["spoofedPackets"]
