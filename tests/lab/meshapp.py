"""An app of the mesh in Python: what a lab needs to see every byte and every pause of a connection
(common/PROTOCOL.md section 1.3 and 2.6)."""
import contextlib
import hashlib
import socket
import struct
import threading
import time

from lab import LabError, frame, wait

APP_PORT, CREDIT_BYTES = 17000, 1 << 20
REGISTER_APP, REGISTER_APP_ACK, CONNECT_TO_APP, CONNECTION_ON, CONNECTION_SHUTDOWN = 17, 18, 24, 15, 16
SEND_FROM_APP, APP_MESSAGE, APP_CREDIT, COMMON_ACK, PING = 25, 26, 27, 28, 30


def text(s):
    b = s.encode()
    return struct.pack(">H", len(b)) + b


class MeshApp:
    """One channel to the node of a namespace, and at most one connection over it."""

    def __init__(self, ns, app_id, app_type="lab"):
        self.sock = ns.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(("127.0.0.1", APP_PORT))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")
        self.lock, self.connection, self.credit = threading.Lock(), None, CREDIT_BYTES
        self.send(REGISTER_APP, 1, text(app_id) + text(app_type) + text(""))
        if self.wait_for(REGISTER_APP_ACK)[:2] != b"\0\0":
            raise LabError(f"{app_id} is not registered")

    def send(self, kind, seq, fields):
        with self.lock:
            self.sock.sendall(frame(struct.pack(">HI", kind, seq) + fields))

    def receive(self):
        """(type, sequence, fields) of the next message; answers pings."""
        while True:
            length = struct.unpack(">Q", self.read(8))[0]
            body = self.read(length)
            kind, seq = struct.unpack(">HI", body[:6])
            if kind != PING:
                return kind, seq, body[6:]
            self.send(COMMON_ACK, seq, struct.pack(">H", 0) + body[6:14] + text(""))

    def read(self, count):
        data = self.file.read(count)
        if len(data) != count:
            raise LabError("the node has closed the app's channel")
        return data

    def earn(self, count):
        with self.lock:
            self.credit += count

    def wait_for(self, wanted):
        while True:
            kind, _, fields = self.receive()
            if kind == wanted:
                return fields
            if kind == APP_CREDIT:
                self.earn(struct.unpack(">I", fields[8:12])[0])
            if kind == CONNECTION_SHUTDOWN:
                raise LabError(f"the connection ended: {fields[8:]!r}")
            if kind == COMMON_ACK and fields[:2] != b"\0\0":
                raise LabError(f"refused: {fields!r}")

    def connect(self, node_id, app_id, stream=True):
        self.send(CONNECT_TO_APP, 2, struct.pack(">I", 1) + bytes.fromhex(node_id) + text(app_id)
                  + bytes([0 if stream else 1]))
        self.connection = self.wait_for(CONNECTION_ON)[:8]
        return self

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


class EchoStream:
    """Sends numbered messages at a steady pace to an echo server, and checks that each comes back
    once, in order and whole.  Remembers when each came."""

    def __init__(self, ns, node_id, app_id="echo", size=2000, interval=0.005):
        self.size, self.interval = size, interval
        self.app = MeshApp(ns, f"lab-{time.monotonic_ns()}").connect(node_id, app_id)
        self.sent, self.times, self.fault = 0, [time.monotonic()], None
        self.stopping, self.over = threading.Event(), False
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self._send, self._receive)]
        for t in self.threads:
            t.start()

    def message(self, number):
        seed = hashlib.sha256(struct.pack(">Q", number)).digest()
        return (struct.pack(">Q", number) + seed * (self.size // len(seed) + 1))[:self.size]

    def _send(self):
        try:
            while not self.stopping.wait(self.interval):
                if self.app.credit <= 0:
                    continue
                data = self.message(self.sent)
                self.app.earn(-len(data))
                self.app.send(SEND_FROM_APP, 0, self.app.connection
                              + struct.pack(">I", len(data)) + data)
                self.sent += 1
        except OSError as e:
            self.fault = self.fault or f"sending: {e}"

    def _receive(self):
        try:
            while True:
                data = self.app.wait_for(APP_MESSAGE)[12:]
                if data != self.message(self.received):
                    raise LabError(f"message {self.received} came back wrong")
                self.times.append(time.monotonic())
                self.app.send(APP_CREDIT, 0, self.app.connection + struct.pack(">I", len(data)))
        except (OSError, LabError, ValueError) as e:
            if not self.over:
                self.fault = self.fault or str(e)

    @property
    def received(self):
        return len(self.times) - 1

    def pause_since(self, began):
        """The longest time without a message from `began` on, up to now."""
        times = [t for t in self.times if t >= began]
        times = [max(t for t in self.times if t < began)] + times + [time.monotonic()]
        return max(b - a for a, b in zip(times, times[1:]))

    def check(self):
        assert self.fault is None, self.fault

    def finish(self, timeout=10):
        """Stops sending and waits for the rest.  Every message must have come back."""
        self.stopping.set()
        self.threads[0].join(timeout)
        with contextlib.suppress(LabError):
            wait(lambda: self.fault or self.received == self.sent, timeout, "all is back")
        self.over = True
        self.app.close()
        self.check()
        assert self.received == self.sent > 0
