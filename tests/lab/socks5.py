"""A SOCKS5 client for labs: every byte as the test wants it (RFC 1928, RFC 1929)."""
import ipaddress
import socket
import struct

from lab import LabError


class Refused(LabError):
    def __init__(self, code):
        super().__init__(f"SOCKS reply {code}")
        self.code = code


def address(host, port):
    try:
        ip = ipaddress.ip_address(host)
        return bytes([1 if ip.version == 4 else 4]) + ip.packed + struct.pack(">H", port)
    except ValueError:
        return bytes([3, len(host)]) + host.encode() + struct.pack(">H", port)


def receive(sock, count):
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise LabError(f"the connection ended after {data!r}")
        data += part
    return data


def receive_all(sock):
    parts = []
    while part := sock.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def connect(ns, proxy=("127.0.0.1", 1080), timeout=15):
    """A TCP connection to the proxy, before the first word."""
    sock = ns.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    sock.connect(proxy)
    return sock


def request(sock, command, host, port):
    """Greeting and request; the address in the reply, or Refused."""
    sock.sendall(b"\x05\x01\x00")
    if receive(sock, 2) != b"\x05\x00":
        raise LabError("the proxy wants another method")
    sock.sendall(bytes([5, command, 0]) + address(host, port))
    reply = receive(sock, 4)
    if reply[1]:
        raise Refused(reply[1])
    size = {1: 4, 4: 16}[reply[3]]
    ip, port = receive(sock, size), struct.unpack(">H", receive(sock, 2))[0]
    return str(ipaddress.ip_address(ip)), port


def stream(ns, host, port, **kw):
    sock = connect(ns, **kw)
    request(sock, 1, host, port)
    return sock


class Association:
    """UDP ASSOCIATE; it lives as long as `control`."""

    def __init__(self, ns, **kw):
        self.control = connect(ns, **kw)
        self.relay = request(self.control, 3, "0.0.0.0", 0)
        self.sock = ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(0.5)

    def ask(self, host, port, payload, fragment=0):
        """What comes back, with its source; None when nothing does."""
        self.sock.sendto(bytes([0, 0, fragment]) + address(host, port) + payload, self.relay)
        try:
            data = self.sock.recv(1 << 16)
        except socket.timeout:
            return None
        size = {1: 4, 4: 16}[data[3]]
        source = str(ipaddress.ip_address(data[4:4 + size]))
        return source, struct.unpack(">H", data[4 + size:6 + size])[0], data[6 + size:]

    def close(self):
        self.control.close()
        self.sock.close()
