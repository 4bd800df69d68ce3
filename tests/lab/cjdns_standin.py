#!/usr/bin/python3
"""A stand-in for cjdns (which Debian has not): its admin protocol as the fixtures of the real one
show it (cookies, hashes, padded lengths), a TUN interface, and an IpTunnel that carries packets in
the clear over UDP.  It is no cjdns: nothing is encrypted and there is no routing.

  cjdns_standin.py INTERFACE PASSWORD KEY PORT LOG [KEY=ADDRESS:PORT...]

What it is asked goes to LOG, a line of JSON each.
"""
import fcntl
import hashlib
import ipaddress
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


def encode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(encode, value)) + b"e"
    return b"d" + b"".join(encode(k) + encode(value[k]) for k in sorted(value)) + b"e"


def decode(data, at=0):
    kind = data[at:at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1:end]), end + 1
    if kind in b"ld":
        items, at = [], at + 1
        while data[at:at + 1] != b"e":
            item, at = decode(data, at)
            items.append(item)
        if kind == b"l":
            return items, at + 1
        return dict(zip(map(bytes.decode, items[::2]), items[1::2])), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1:end], end


def padded(reply):
    """As the real one: the first key's length has zeros before it."""
    return reply[:1] + b"000000" + reply[1:]


class Cjdns:
    def __init__(self, interface, password, key, port, log, *peers):
        self.password, self.key, self.interface = password, key, interface
        self.tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.tun, TUNSETIFF, struct.pack("16sH", interface.encode(),
                                                     IFF_TUN | IFF_NO_PI))
        for how in (["mtu", "1304", "addrgenmode", "none"], ["up"]):
            subprocess.run(["ip", "link", "set", interface, *how], check=True)
        self.admin = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.admin.bind(("127.0.0.1", 11234))
        self.net = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.net.bind(("0.0.0.0", int(port)))
        self.peers = {k: (a.rsplit(":", 1)[0], int(a.rsplit(":", 1)[1]))
                      for k, a in (p.split("=") for p in peers)}
        self.keys = {a: k for k, a in self.peers.items()}
        self.connections, self.next, self.cookies, self.asked = {}, 0, set(), 0
        self.log = open(log, "a", buffering=1, encoding="ascii")

    # --- admin ---

    def authentic(self, data, call):
        cookie = call.get("cookie", b"").decode()
        first = hashlib.sha256((self.password + cookie).encode()).hexdigest().encode()
        plain = data.replace(call["hash"], first)
        return cookie in self.cookies and \
            hashlib.sha256(plain).hexdigest().encode() == call["hash"]

    def on_admin(self):
        data, peer = self.admin.recvfrom(20000)
        call, _ = decode(data)
        if call["q"] == b"cookie":
            cookie = str(int(time.time()))
            self.cookies.add(cookie)
            reply = {"cookie": cookie}
        elif not self.authentic(data, call):
            reply = {"error": "Auth failed."}
        else:
            name = call["aq"].decode()
            args = {k: v.decode() if isinstance(v, bytes) else v
                    for k, v in call.get("args", {}).items()}
            reply = getattr(self, "do_" + name, lambda _: {"error": "No such function"})(args)
            if name not in ("IpTunnel_showConnection", "Core_nodeInfo"):
                self.log.write(json.dumps([name, args, reply]) + "\n")
        if "txid" in call:
            reply["txid"] = call["txid"]
        self.admin.sendto(padded(encode(reply)), peer)

    def do_Core_nodeInfo(self, _):
        return {"error": "none", "myAddr": f"v20.0000.0000.0000.0001.{self.key}", "version": 20}

    def add(self, connection):
        number, self.next = self.next, self.next + 1
        self.connections[number] = connection
        return {"connection": number, "error": "none"}

    def do_IpTunnel_allowConnection(self, args):
        if not ("ip4Address" in args or "ip6Address" in args):
            return {"error": "Must specify ip6Address or ip4Address"}
        return self.add({"outgoing": 0, "key": args.pop("publicKeyOfAuthorizedNode"), **args})

    def do_IpTunnel_connectTo(self, args):
        self.asked = 0
        return self.add({"outgoing": 1, "key": args["publicKeyOfNodeToConnectTo"]})

    def do_IpTunnel_listConnections(self, _):
        return {"connections": list(self.connections), "error": "none"}

    def do_IpTunnel_showConnection(self, args):
        c = self.connections.get(args["connection"])
        return {"error": "none", **c} if c else {"error": "connection not found"}

    def do_IpTunnel_removeConnection(self, args):
        c = self.connections.pop(args["connection"], None)
        if not c:
            return {"error": "connection not found"}
        if c["outgoing"]:
            self.addresses("del", c)
        return {"connection": args["connection"], "error": "none"}

    # --- packets ---

    def addresses(self, what, c):
        for key, bits in (("ip4Address", 32), ("ip6Address", 128)):
            if key in c:
                subprocess.run(["ip", "addr", what, f"{c[key]}/{bits}", "dev", self.interface] +
                               (["nodad"] if bits == 128 and what == "add" else []), check=False)

    def ask(self):
        """Who has no address yet asks for it."""
        if time.monotonic() - self.asked > 0.05:
            self.asked = time.monotonic()
            for c in self.connections.values():
                if c["outgoing"] and "ip4Address" not in c and c["key"] in self.peers:
                    self.net.sendto(b"?", self.peers[c["key"]])

    def of(self, key, outgoing):
        return next((c for c in self.connections.values()
                     if c["key"] == key and c["outgoing"] == outgoing), None)

    def on_net(self):
        data, at = self.net.recvfrom(65535)
        key = self.keys.get(at)
        allowed, own = self.of(key, 0), self.of(key, 1)
        if data == b"?" and allowed:
            self.net.sendto(b"!" + json.dumps({k: v for k, v in allowed.items()
                                               if k.startswith("ip")}).encode(), at)
        elif data[:1] == b"!" and own and "ip4Address" not in own:
            own.update(json.loads(data[1:]))
            self.addresses("add", own)
        elif data[:1] == b"=" and (own or (allowed and self.ends(data[1:])[0] in (
                allowed.get("ip4Address"), allowed.get("ip6Address")))):
            os.write(self.tun, data[1:])

    @staticmethod
    def ends(packet):
        if packet[0] >> 4 == 4:
            return [str(ipaddress.ip_address(packet[a:a + 4])) for a in (12, 16)]
        return [str(ipaddress.ip_address(packet[a:a + 16])) for a in (8, 24)]

    def on_tun(self):
        packet = os.read(self.tun, 65535)
        target = self.ends(packet)[1]
        for c in self.connections.values():
            if c["key"] in self.peers and (
                    c["outgoing"] or target in (c.get("ip4Address"), c.get("ip6Address"))):
                self.net.sendto(b"=" + packet, self.peers[c["key"]])
                return

    def run(self):
        while True:
            ready, _, _ = select.select([self.admin, self.net, self.tun], [], [], 0.05)
            for what, handle in ((self.admin, self.on_admin), (self.net, self.on_net),
                                 (self.tun, self.on_tun)):
                if what in ready:
                    handle()
            self.ask()


Cjdns(*sys.argv[1:]).run()
