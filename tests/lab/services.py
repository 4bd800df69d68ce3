#!/usr/bin/python3
"""Services of a lab's Internet, all in one process: services.py ADDRESS ADDRESS6

  80  HTTP: /bytes/N is N bytes; /together/K/N the same, answered only when K such wait
  7   echo, TCP and UDP; TCP says "bye" after the other side's end
  9   accepts and never reads
  11  says "hello", ends its sending, reads the rest; 12 tells how much that was, and its SHA-256
  19  sends for ever
  53  DNS (UDP) for the names below
"""
import asyncio
import hashlib
import ipaddress
import resource
import socket
import struct
import sys

V4, V6 = sys.argv[1:3]
NAMES = {"web.test": [V4, V6], "four.test": [V4], "six.test": [V6], "self.test": ["127.0.0.1", "::1"],
         "lan.test": ["10.77.1.1"], "mixed.test": ["127.0.0.1", V4]}
flips = 0  # flip.test: first the web server, from then on the resolver's own loopback
together, held, last_upload = [], [], ""


def body(count):
    return bytes(i * 7 & 255 for i in range(256)) * (count // 256 + 1)


async def http(reader, writer):
    while True:
        request = await reader.readuntil(b"\r\n\r\n")
        parts = request.split()[1].decode().strip("/").split("/")
        count = int(parts[-1])
        if parts[0] == "together":
            waiting = asyncio.Event()
            together.append(waiting)
            if len(together) >= int(parts[1]):
                for event in together:
                    event.set()
                together.clear()
            await waiting.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % count + body(count)[:count])
        await writer.drain()


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"bye")
    await writer.drain()


async def greet(reader, writer):
    global last_upload
    writer.write(b"hello")
    writer.write_eof()
    digest, count = hashlib.sha256(), 0
    while data := await reader.read(65536):
        digest.update(data)
        count += len(data)
    last_upload = f"{count} {digest.hexdigest()}"


async def tell(_, writer):
    writer.write(last_upload.encode())


async def pour(_, writer):
    data = body(65536)[:65536]
    while True:
        writer.write(data)
        await writer.drain()


def closing(handler):
    async def serve(reader, writer):
        try:
            await handler(reader, writer)
        except (OSError, EOFError, ValueError, IndexError):
            pass
        finally:
            writer.close()
    return serve


async def never_read(host):
    sock = socket.create_server((host, 9), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setblocking(False)
    while True:
        held.append(await asyncio.get_running_loop().sock_accept(sock))


class UdpEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


class Dns(UdpEcho):
    def datagram_received(self, data, addr):
        global flips
        end = 12
        labels = []
        while data[end]:
            labels.append(data[end + 1:end + 1 + data[end]].decode())
            end += 1 + data[end]
        kind = struct.unpack(">H", data[end + 1:end + 3])[0]
        name = ".".join(labels).lower()
        found = NAMES.get(name, [])
        if name == "flip.test" and kind == 1:
            found = [V4 if flips == 0 else "127.0.0.1"]
            flips += 1
        packed = [ipaddress.ip_address(a).packed for a in found]
        answers = [p for p in packed if len(p) == (4 if kind == 1 else 16)]
        code = 0 if found or name == "flip.test" else 3
        out = data[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(answers), 0, 0)
        out += data[12:end + 5]
        for p in answers:
            out += struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(p)) + p
        self.transport.sendto(out, addr)


async def main():
    loop = asyncio.get_running_loop()
    for host in (V4, V6):
        for port, handler in ((80, http), (7, echo), (11, greet), (12, tell),
                              (19, pour)):
            await asyncio.start_server(closing(handler), host, port, backlog=1024)
        held.append(loop.create_task(never_read(host)))
        await loop.create_datagram_endpoint(UdpEcho, (host, 7))
        await loop.create_datagram_endpoint(Dns, (host, 53))
    print("ready", flush=True)
    await asyncio.Event().wait()


resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
asyncio.run(main())
