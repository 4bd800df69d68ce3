"""Garbage on every TCP and UDP port of every daemon: nothing dies, nothing else is disturbed, the
log says it once."""
import contextlib
import os
import random
import re
import socket
import struct
import threading
import time

import pytest

import lab as tools
from lab import wait
from topology import COMMUNITY

OURS = {"mgr": ("nodemanager", "apptracker"), "r1": ("node",), "gw1": ("node", "gatewayd"),
        "sub": ("node", "subscriberd")}
LOG_LINES_MAX = 12  # what a daemon may say in all, whatever comes in


def tcp_payloads(rng):
    yield b""
    yield b"\0" * 8                                # an empty frame
    yield b"\xff" * 8                              # a frame of 2^64 - 1 bytes
    yield struct.pack(">Q", 1 << 40) + b"x" * 100  # a frame far over the limit
    yield tools.frame(rng.randbytes(48))           # a first handshake message with a bad key
    yield tools.frame(b"\0" * 48)                  # an all-zero public key
    yield tools.frame(rng.randbytes(500))
    yield struct.pack(">Q", 400) + b"half a frame"
    yield b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    yield b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"
    yield b"\x16\x03\x01" + rng.randbytes(300)     # somebody tries TLS
    for size in (1, 7, 8, 9, 100, 5000, 200000):
        yield rng.randbytes(size)


def throw_tcp(ns, address, port, payload):
    sock = ns.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(1.0)
    with contextlib.closing(sock), contextlib.suppress(OSError):
        sock.connect((address, port))
        sock.sendall(payload)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


def throw_udp(ns, address, port, rng, count=300):
    sock = ns.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    with contextlib.closing(sock), contextlib.suppress(OSError):
        for i in range(count):
            head = bytes([i % 12, rng.randrange(256)])  # every packet type and some that are none
            sock.sendto(head + rng.randbytes(rng.choice((0, 1, 14, 22, 30, 94, 150, 1400))),
                        (address, port))


def targets(mesh, place, kind):
    """Address and port of what listens there, with wildcards made reachable."""
    own = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}
    return sorted({(own.get(a, a), p) for a, p in mesh[place].listening(kind)})


@pytest.fixture(scope="module")
def before(mesh):
    return {"pids": {k: d.pid for k, d in mesh.d.items()},
            "lines": {k: len(d.log().splitlines()) for k, d in mesh.d.items()},
            "transports": {t["id"] for t in mesh.transports()},
            "lease": mesh.session()["sid"]}


@contextlib.contextmanager
def page_keeps_loading(mesh):
    """Fetches the page all the while; fails when any fetch did."""
    stop, results = threading.Event(), []

    def loop():
        while not stop.is_set():
            try:
                results.append(mesh.fetch(3.0))
            except OSError as e:
                results.append(e)
            time.sleep(0.1)
    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    bad = [r for r in results if r is not True]
    assert results and not bad, f"{len(bad)} of {len(results)} fetches failed: {bad[:3]}"


@pytest.mark.parametrize("place", sorted(OURS))
def test_tcp(mesh, before, place):
    rng = random.Random(1)
    found = targets(mesh, place, "tcp")
    assert found
    with page_keeps_loading(mesh):
        for address, port in found:
            for payload in tcp_payloads(rng):
                throw_tcp(mesh[place], address, port, payload)


@pytest.mark.parametrize("place", ["r1", "gw1", "sub"])
def test_udp(mesh, before, place):
    rng = random.Random(2)
    found = targets(mesh, place, "udp")
    assert found, "transports have UDP ports"
    with page_keeps_loading(mesh):
        for address, port in found:
            throw_udp(mesh[place], address, port, rng)


def test_udp_from_a_neighbour(mesh, before):
    """From the very address of the peer: only keys tell them apart."""
    rng = random.Random(3)
    target = mesh["r1"].links["sub"][1]
    with page_keeps_loading(mesh):
        for _, port in targets(mesh, "r1", "udp"):
            throw_udp(mesh["sub"], target, port, rng)


def test_slow_and_silent_connections(mesh, before):
    """Connections that say nothing, or one byte at a time, hold nobody else up."""
    held = []
    with page_keeps_loading(mesh):
        for place in OURS:
            for address, port in targets(mesh, place, "tcp"):
                for payload in (b"", b"P", struct.pack(">Q", 48)):
                    s = mesh[place].socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
                    s.settimeout(1)
                    with contextlib.suppress(OSError):
                        s.connect((address, port))
                        s.sendall(payload)
                    held.append(s)
        assert mesh.manager("status") is not None
        time.sleep(1)
    for s in held:
        s.close()


def test_nothing_died_and_nothing_was_disturbed(mesh, before):
    for key, daemon in mesh.d.items():
        assert daemon.alive(), f"{key} ended with {daemon.popen.returncode}"
        assert daemon.pid == before["pids"][key]
    assert mesh.links_up()
    assert {t["id"] for t in mesh.transports()} == before["transports"]
    assert mesh.session()["sid"] == before["lease"]
    assert mesh.fetch()


def test_the_logs_say_it_once(mesh, before):
    for key, daemon in mesh.d.items():
        lines = daemon.log().splitlines()[before["lines"][key]:]
        assert len(lines) <= LOG_LINES_MAX, f"{key}: {len(lines)} lines\n" + "\n".join(lines[:80])
    for key in ("mgr-nodemanager", "mgr-apptracker", "r1-node", "gw1-node", "sub-node"):
        lines = mesh.d[key].log().splitlines()[before["lines"][key]:]
        assert any(re.search(r"\(\d+ .*so far\)", line) for line in lines), f"{key} counted it"


def test_no_descriptor_is_left_open(mesh, before):
    def settled():
        return all(len(os.listdir(f"/proc/{d.pid}/fd")) < 64 for d in mesh.d.values())
    wait(settled, 20, "the daemons have closed the strangers' connections", 0.5)
    assert set(COMMUNITY) <= set(mesh.namespaces)
