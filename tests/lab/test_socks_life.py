"""The SOCKS apps over time: a server's whole machine that falls silent, a reload, streams that are idle,
and thousands of streams at once."""
import asyncio
import contextlib
import os
import resource
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import lab as tools
import socks5
from lab import wait
from socksmesh import SERVERS, check_fetch, curl, lines, start, start_network, state, wait_up
from topology import HTTP_ADDR

PLACE = {app: ns for ns, app in SERVERS.items()}
SHORT_PORT = 1081
STREAMS, STALLED, ROUNDS, PIECE = 2200, 500, 5, 4096
CONFIG = f"[proxy]\nResolvers = {HTTP_ADDR}\n"


@pytest.fixture(scope="module")
def socks(network):
    mesh = network
    start_network(mesh)
    # With a file of its own: the reload changes it.
    mesh.own_config = os.path.join(mesh.folder, "reload.cfg")
    configure(mesh, "")
    mesh.reloaded = wait_up(start(mesh, "gw1", "socks-server", "gw1-reload", "--id", "reload",
                                  "-f", mesh.own_config))
    mesh.client = wait_up(start(mesh, "sub", "socks-client", "sub-reload", "--to", "reload",
                                "-f", mesh.own_config))
    return mesh


def configure(mesh, keys):
    with open(mesh.own_config, "w", encoding="utf-8") as f:
        f.write(CONFIG + keys)


def reload(mesh, p, keys, wanted="done"):
    before = len(lines(p))
    configure(mesh, keys)
    p.signal(signal.SIGHUP)
    wait(lambda: lines(p)[before].get("reload") == wanted, 10, f"{p.name} reads its file: {wanted}")


def echoes(sock, data=b"still here"):
    sock.sendall(data)
    return socks5.receive(sock, len(data)) == data


# --- reload ---------------------------------------------------------------------------------------

def test_reload_changes_rules_and_keeps_streams(socks):
    held = socks5.stream(socks["sub"], HTTP_ADDR, 7)
    assert echoes(held)
    deny = f"DeniedNetworks = {HTTP_ADDR}/32\n"
    reload(socks, socks.reloaded, deny)
    with pytest.raises(socks5.Refused) as e:
        socks5.stream(socks["sub"], HTTP_ADDR, 7)
    assert e.value.code == 2
    assert echoes(held)
    # A bad file changes nothing and is told.
    reload(socks, socks.reloaded, "ProxyTimeout = soon\n", "refused")
    assert "ProxyTimeout" in socks.reloaded.log()
    with pytest.raises(socks5.Refused):
        socks5.stream(socks["sub"], HTTP_ADDR, 7)
    reload(socks, socks.reloaded, deny + f"AllowedNetworks = {HTTP_ADDR}/32\n")
    check_fetch(socks, HTTP_ADDR)
    reload(socks, socks.reloaded, "")
    check_fetch(socks, HTTP_ADDR)
    assert echoes(held)
    held.close()


def test_reload_changes_the_user(socks):
    def fetch(userinfo):
        return curl(socks, "-o", "/dev/null", f"http://{HTTP_ADDR}/bytes/1000",
                    proxy=f"socks5h://{userinfo}127.0.0.1:1080")[0]
    held = socks5.stream(socks["sub"], HTTP_ADDR, 7)
    reload(socks, socks.client, "User = anna\nPassword = one\n")
    assert (fetch("anna:one@"), fetch("anna:two@"), fetch("")) == (0, 97, 97)
    reload(socks, socks.client, "User = anna\nPassword = two\n")
    assert (fetch("anna:one@"), fetch("anna:two@")) == (97, 0)
    assert echoes(held)
    reload(socks, socks.client, "")
    assert fetch("") == 0
    held.close()


def test_name_servers_of_the_host_change(socks):
    """resolv.conf names one that does not answer, then one that does, and hosts a name: as when a
    network comes up while the server runs."""
    folder = f"/etc/netns/{socks['gw2'].full}"  # `ip netns exec` shows these files as /etc's

    def write(name, text):
        with open(os.path.join(folder, name), "w", encoding="ascii") as f:
            f.write(text)

    def fetch(name):
        return curl(socks, "-o", "/dev/null", f"http://{name}/bytes/1000", proxy=proxy)[0]
    os.makedirs(folder)
    write("resolv.conf", "nameserver 127.0.0.1\n")
    write("hosts", "127.0.0.1 localhost\n")
    config = os.path.join(socks.folder, "host.cfg")
    with open(config, "w", encoding="utf-8") as f:
        f.write("[proxy]\n")
    server = wait_up(start(socks, "gw2", "socks-server", "gw2-host", "--id", "host", "-f", config))
    client = wait_up(start(socks, "sub", "socks-client", "sub-host", "--to", "host", "--listen",
                           f"127.0.0.1:{SHORT_PORT}", "-f", config))
    proxy = f"socks5h://127.0.0.1:{SHORT_PORT}"
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        early = pool.submit(fetch, "web.test")
        time.sleep(0.5)  # it waits for an answer
        assert not early.done()
        write("resolv.conf", f"nameserver {HTTP_ADDR}\n")
        assert fetch("four.test") == 0 and fetch("by-hand.test") == 97
        assert early.result() == 0 and time.monotonic() - began < 8, "9 s is when the old one is given up"
    write("hosts", f"{HTTP_ADDR} by-hand.test\n")
    assert fetch("by-hand.test") == 0
    write("hosts", "127.0.0.1 localhost\n")
    assert fetch("by-hand.test") == 97 and fetch("web.test") == 0
    client.stop()
    server.stop()


def test_check(socks):
    program = os.path.join(tools.bin_dir(), "socks-server")
    out = socks["gw1"].run(program, "--check", "-f", socks.own_config)
    assert "good" in out
    bad = os.path.join(socks.folder, "bad.cfg")
    with open(bad, "w", encoding="utf-8") as f:
        f.write("[proxy]\nAllowedNetworks = 10.0.0.0/40\n")
    with pytest.raises(tools.LabError) as e:
        socks["gw1"].run(program, "--check", "-f", bad)
    assert "AllowedNetworks" in str(e.value)


# --- idle streams ---------------------------------------------------------------------------------

def is_reset(sock, timeout=10):
    sock.settimeout(timeout)
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return False


def test_idle_streams_end(socks):
    """ProxyTimeout of the server, changed while it runs: an idle stream, one that is half-closed by
    either side, and an association end; one on which a little moves does not."""
    sub = socks["sub"]
    reload(socks, socks.reloaded, "ProxyTimeout = 2\n")
    idle = socks5.stream(sub, HTTP_ADDR, 7)
    ours_closed = socks5.stream(sub, HTTP_ADDR, 9)  # which never reads, nor ends
    ours_closed.sendall(b"all that there is")
    ours_closed.shutdown(socket.SHUT_WR)
    theirs_closed = socks5.stream(sub, HTTP_ADDR, 11)
    assert socks5.receive_all(theirs_closed) == b"hello"
    association = socks5.Association(sub)
    lively = socks5.stream(sub, HTTP_ADDR, 7)
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        assert echoes(lively, b"x")
        time.sleep(0.2)
    assert is_reset(idle)
    assert is_reset(ours_closed)

    def cannot_send():
        try:
            return theirs_closed.send(b"x") == 0
        except OSError:
            return True
    wait(cannot_send, 10, "the half-closed stream ends")
    association.control.settimeout(10)
    with contextlib.suppress(ConnectionResetError):
        assert association.control.recv(1) == b""
    reload(socks, socks.reloaded, "")
    assert echoes(lively)
    for sock in (idle, ours_closed, theirs_closed, lively):
        sock.close()
    association.close()


# --- thousands of streams -------------------------------------------------------------------------

class Crowd:
    """Streams through the proxy on asyncio, their sockets made in the client's namespace."""

    def __init__(self, mesh):
        self.ns, self.echoed, self.open, self.bulk = mesh["sub"], 0, 0, 0
        self.gate = asyncio.Semaphore(100)  # handshakes at once

    async def connect(self, port):
        loop = asyncio.get_running_loop()
        async with self.gate:
            sock = self.ns.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", 1080))
            await loop.sock_sendall(sock, b"\x05\x01\x00\x05\x01\x00" + socks5.address(HTTP_ADDR, port))
            got = b""
            while len(got) < 12:
                part = await loop.sock_recv(sock, 12 - len(got))
                assert part, f"refused: {got!r}"
                got += part
            assert got[:4] == b"\x05\x00\x05\x00", got
            self.open += 1
            return sock

    async def echo(self, number, sock):
        loop = asyncio.get_running_loop()
        for i in range(ROUNDS):
            data = (b"%d %d " % (number, i)) * (PIECE // 4)
            data = data[:PIECE]
            await loop.sock_sendall(sock, data)
            got = b""
            while len(got) < PIECE:
                part = await loop.sock_recv(sock, PIECE - len(got))
                assert part, f"stream {number} ended"
                got += part
            assert got == data
            self.echoed += 1

    async def drink(self, sock):
        loop = asyncio.get_running_loop()
        while True:
            self.bulk += len(await loop.sock_recv(sock, 1 << 18))

    async def run(self, measure):
        stalled = await asyncio.gather(*(self.connect(19) for _ in range(STALLED)))
        bulk = await self.connect(19)
        talking = await asyncio.gather(*(self.connect(7) for _ in range(STREAMS - STALLED - 1)))
        assert self.open == STREAMS
        drinking = asyncio.create_task(self.drink(bulk))
        # All of them talk at once, beside those that nobody reads and one that takes all it gets.
        await asyncio.wait_for(asyncio.gather(*(self.echo(i, s) for i, s in enumerate(talking))), 90)
        measure()
        assert not drinking.done()
        drinking.cancel()
        for sock in (*stalled, bulk, *talking):
            sock.close()


def test_thousands_of_streams(socks, capsys):
    """2,200 streams in one mesh connection, of which 500 are never read: each of the others gets all
    its answers, and memory stays in its bounds (docs/running.md)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd, rss = Crowd(socks), {}
    before = {p.name: p.rss_kb() for p in (socks.client, socks.reloaded)}

    def measure():
        rss.update({p.name: p.rss_kb() for p in (socks.client, socks.reloaded)})
    try:
        asyncio.run(crowd.run(measure))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert crowd.echoed == (STREAMS - STALLED - 1) * ROUNDS
    assert crowd.bulk > ROUNDS * PIECE, "the greedy one had its share as well"
    with capsys.disabled():
        for name, kb in rss.items():
            print(f"\n  {name}: {before[name] // 1024} MB, with {STREAMS} streams {kb // 1024} MB;"
                  f" the greedy one took {crowd.bulk >> 20} MB meanwhile", end="")
    # 64 KiB a stalled stream, 64 MiB by which windows may grow, and the streams themselves.
    limit = 25_000 + STALLED * 64 + 65536 + STREAMS * 8
    if "/san" not in tools.bin_dir():
        for name, kb in rss.items():
            assert kb < limit, f"{name}: {kb} KB, more than {limit}"
    check_fetch(socks, HTTP_ADDR)


# --- silence --------------------------------------------------------------------------------------

def cut(ns):
    """Nothing enters or leaves the machine; inside it all goes on."""
    ns.run("nft", "table inet cut { chain in { type filter hook input priority -10; policy drop; "
                  "iifname lo accept; }; chain out { type filter hook output priority -10; "
                  "policy drop; oifname lo accept; }; }")


def test_a_machine_that_falls_silent(socks):
    """Nobody is left to say that it is gone: it is cut off.  The client notices by itself."""
    client = start(socks, "sub", "socks-client", "sub-any", "--listen", f"127.0.0.1:{SHORT_PORT}")
    proxy = f"socks5h://127.0.0.1:{SHORT_PORT}"
    wait_up(client)
    socks.reloaded.stop()  # the same place as one of the servers
    wait(lambda: state(client)["state"] == "up" and state(client)["server"] in PLACE, 20,
         "the client uses one of the two servers")
    check_fetch(socks, "web.test", proxy=proxy)
    first = state(client)["server"]
    silences = state(client)["silences"]
    ns = socks[PLACE[first]]
    held = socks5.stream(socks["sub"], HTTP_ADDR, 7, proxy=("127.0.0.1", SHORT_PORT))
    assert echoes(held)
    cut(ns)
    began = time.monotonic()
    try:
        assert is_reset(held, 30)
        ended = time.monotonic() - began
        check_fetch(socks, "web.test", proxy=proxy)
        print(f"the stream ended after {ended:.1f} s, another server answered after "
              f"{time.monotonic() - began:.1f} s")
        down = [line for line in lines(client) if line.get("state") == "down"][-1]
        assert down["reason"].startswith("nothing heard for"), down
        assert down["silences"] == silences + 1
        assert state(client)["server"] in set(PLACE) - {first}
        assert ended < 12, "the mesh itself takes 15 s"
    finally:
        ns.run("nft", "delete table inet cut")


def test_node_and_server_killed_together(socks):
    """kill -9 of both: what the kernel still says is that the node's sockets are closed."""
    client = next(p for p in socks.processes if p.name == "sub-any")
    proxy = f"socks5h://127.0.0.1:{SHORT_PORT}"
    wait(lambda: len(socks.registered()) == 6 and socks.links_up(), 60, "all nodes are back")
    check_fetch(socks, "web.test", proxy=proxy)
    second = state(client)["server"]
    socks.d[f"{PLACE[second]}-node"].kill()
    socks.servers[second].kill()
    began = time.monotonic()
    check_fetch(socks, "web.test", proxy=proxy, timeout=30)
    print(f"another server answered after {time.monotonic() - began:.1f} s")
    assert state(client)["server"] in set(PLACE) - {second}
