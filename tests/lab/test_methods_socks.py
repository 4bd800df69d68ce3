"""The method "socks": gatewayd's own server, and dante as another's.

Every connection of s1 and s2 into the Internet goes through a SOCKS5 server at the gateway.
"""
import contextlib
import os
import socket
import struct
import time

import pytest

import lab as tools
import socks5
from lab import wait
from methods import MethodLab
from uplink import INET4, INET6

FLOWS = 64
DANTE = "/usr/sbin/danted"
DANTE_PORT = 1081


@pytest.fixture(scope="module")
def net(request):
    lab = MethodLab()
    try:
        lab.start_gateway("socks", socks={"MaxFlows": FLOWS})
        for name in ("s1", "s2"):
            lab.start_subscriber(name, "socks")
        for name in ("s1", "s2"):
            lab.wait_online(name)
        yield lab
    finally:
        if getattr(request.session, "testsfailed", 0):
            print(lab.tail_logs())
        lab.close()
        faults = lab.problems + lab.leaks()
        assert not faults, "\n".join(faults)


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def tcp(net, name, host, port, timeout=5):
    """A connection of an application."""
    sock = net[name].socket(family(host), socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def udp(net, name):
    sock = net[name].socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(3)
    return sock


def login(net, name, sid, password):
    """A connection to the gateway's server, logged in as a SOCKS5 client of our own."""
    sock = socks5.connect(net[name], (net.gateway_address(name), 1080), 3)
    sock.sendall(b"\x05\x01\x02")
    assert socks5.receive(sock, 2) == b"\x05\x02"
    sock.sendall(bytes([1, len(sid)]) + sid.encode() + bytes([len(password)]) + password.encode())
    return sock, socks5.receive(sock, 2)[1] == 0


def ask(sock, command, host, port):
    """The code of the reply."""
    sock.sendall(bytes([5, command, 0]) + socks5.address(host, port))
    return socks5.receive(sock, 4)[1]


@pytest.fixture
def lease(net):
    """A lease of nobody's: its sid and password, for a client of our own."""
    got = net.gateway("requestConnection", sid="tester", name="x", port=0, method="socks")
    assert got["success"]
    yield "tester", got["socks"]["password"]
    net.gateway("releaseConnection", sid="tester")


def test_both_families_carry_bulk(net):
    for name in ("s1", "s2"):
        for host in (INET4, INET6):
            assert net.fetch(name, 3_000_000, host, 10) == 3_000_000


def test_counters_tell_what_went_through(net):
    before = net.session("s1")["downBytes"]
    assert net.fetch("s1", 2_000_000) == 2_000_000
    after = wait(lambda: (s := net.session("s1"))["downBytes"] >= before + 2_000_000 and s, 5,
                 "the counter moves")
    assert after["downBytes"] < before + 2_100_000 and after["connected"]
    own = net.subscriber("s1", "status")["session"]
    assert own["method"] == "socks"


def test_the_gateway_forwards_nothing(net):
    """Its server makes connections of its own, so that nothing has to pass the host."""
    assert net["gw"].sysctl("net.ipv4.ip_forward").strip() == "0"
    assert net["gw"].sysctl("net.ipv6.conf.all.forwarding").strip() == "0"


def test_addresses_are_the_leased_ones(net):
    for name in ("s1", "s2"):
        session, interface = net.session(name), net.interface(name)
        addresses = net[name].ip("-o", "addr", "show", "dev", interface)
        assert session["ipv4"] in addresses and session["ipv6"] in addresses


@pytest.mark.parametrize("host", [INET4, INET6])
def test_udp_in_both_families(net, host):
    with net["s1"].socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(3)
        for text in (b"one", b"x" * 9000, b"2"):
            sock.sendto(text, (host, 7))
            got, peer = sock.recvfrom(65535)
            assert got == text and peer[:2] == (host, 7)


def test_names_are_asked_over_udp(net):
    question = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\x03web\x04test\0\0\1\0\1"
    for _ in range(FLOWS):  # each from a port of its own, one after the other
        with udp(net, "s1") as sock:
            sock.sendto(question, (INET4, 53))
            assert socket.inet_aton(INET4) in sock.recv(512)


def test_each_direction_ends_on_its_own(net):
    with tcp(net, "s1", INET4, 7) as sock:
        sock.sendall(b"question")
        sock.shutdown(socket.SHUT_WR)
        assert socks5.receive_all(sock) == b"questionbye"
    with tcp(net, "s1", INET6, 11) as sock:
        assert socks5.receive_all(sock) == b"hello"  # its end has come; ours has not
        sock.sendall(b"z" * 200_000)
        sock.shutdown(socket.SHUT_WR)

    def heard():
        with tcp(net, "s1", INET4, 12) as sock:
            return socks5.receive_all(sock).startswith(b"200000")
    wait(heard, 3, "everything has arrived")


def test_a_refusal_is_a_refusal(net):
    for host in (INET4, INET6):
        with pytest.raises(ConnectionRefusedError):
            tcp(net, "s1", host, 1)


def test_a_slow_reader_slows_the_sender(net):
    """Of a sender without an end no more is taken than sockets and one buffer hold."""
    daemons = (net.gateway_daemon, net.subscribers["s1"])
    before = [d.rss_kb() for d in daemons]
    with tcp(net, "s1", INET4, 19) as sock, tcp(net, "s1", INET4, 9) as full:
        socks5.receive(sock, 1 << 20)
        full.settimeout(0.5)
        with pytest.raises(TimeoutError):
            for _ in range(1000):
                full.sendall(b"y" * 65536)
        grown = [d.rss_kb() - b for d, b in zip(daemons, before)]
        assert max(grown) < 4096, grown
        assert net.fetch("s1", 1000)
        socks5.receive(sock, 1 << 20)  # it goes on


def test_another_address_does_not_pass(net):
    """s2 sends from the address of s1, and from one that nobody has."""
    interface, down = net.interface("s2"), net.session("s1")["downBytes"]
    for address in (net.session("s1")["ipv4"], "10.117.0.200"):
        net["s2"].ip("addr", "add", f"{address}/32", "dev", interface)
        try:
            with net["s2"].socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(0.3)
                sock.bind((address, 0))
                sock.sendto(b"spoofed", (INET4, 7))
                with pytest.raises(TimeoutError):
                    sock.recv(100)
            assert net["s2"].run("curl", "-s", "-m", "0.5", "--interface", address,
                                 f"http://{INET4}/bytes/10", check=False) == ""
        finally:
            net["s2"].ip("addr", "del", f"{address}/32", "dev", interface)
    assert net.session("s1")["downBytes"] - down < 1000
    assert net.fetch("s2", 1000) and net.fetch("s1", 1000)


def test_nobody_without_a_lease_gets_in(net, lease):
    sid, password = lease
    for wrong in ((sid, "0" * 48), ("nobody", password), (net.session("s1")["sid"], password)):
        sock, welcome = login(net, "s2", *wrong)
        with sock:
            assert not welcome and sock.recv(10) == b""
    with socks5.connect(net["s2"], (net.gateway_address("s2"), 1080), 3) as sock:
        sock.sendall(b"\x05\x01\x00")  # without a login
        assert socks5.receive(sock, 2) == b"\x05\xff" and sock.recv(10) == b""
    sock, welcome = login(net, "s2", sid, password)
    with sock:
        assert welcome and ask(sock, 1, INET4, 80) == 0
        # With the lease its connections end, and the password is worth nothing.
        assert net.gateway("releaseConnection", sid=sid)["success"]
        socks5.receive(sock, 6)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(10) == b""
    sock, welcome = login(net, "s2", sid, password)
    with sock:
        assert not welcome


def test_the_gateways_own_networks_stay_its_own(net, lease):
    """What its firewall would not forward is refused here as well, by TCP and by UDP."""
    inside = ("127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", net["gw"].links["inet"][1],
              net["gw"].links["s1"][1], net["s1"].links["gw"][1], "2001:db8:1::2", "10.117.0.1",
              "fd78:1::1", "fe80::1", "255.255.255.255", "224.0.0.1")
    for host in inside:
        sock, welcome = login(net, "s2", *lease)
        with sock:
            assert welcome and ask(sock, 1, host, 65533) == 2, host
    with pytest.raises(ConnectionRefusedError):
        tcp(net, "s1", "10.78.2.2", 65532)
    got = net["s1"].socket(socket.AF_INET, socket.SOCK_DGRAM)
    target = net["s2"].socket(socket.AF_INET, socket.SOCK_DGRAM)
    with got, target:
        target.bind((net["s2"].links["gw"][1], 4242))
        target.settimeout(0.3)
        got.sendto(b"inside", (net["s2"].links["gw"][1], 4242))
        with pytest.raises(TimeoutError):
            target.recv(100)
    for command, code in ((2, 7), (9, 7)):
        sock, welcome = login(net, "s2", *lease)
        with sock:
            assert welcome and ask(sock, command, INET4, 80) == code
    sock, welcome = login(net, "s2", *lease)
    with sock:
        assert welcome and ask(sock, 1, "web.test", 80) == 8  # names are not resolved there


def test_datagrams_of_others_are_not_a_lease_s(net, lease):
    sock, welcome = login(net, "s2", *lease)
    with sock, net["s1"].socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
        assert welcome and ask(sock, 3, "0.0.0.0", 0) == 0
        socks5.receive(sock, 4)
        port = struct.unpack(">H", socks5.receive(sock, 2))[0]
        foreign.settimeout(0.3)
        data = b"\0\0\0" + socks5.address(INET4, 7) + b"hello"
        foreign.sendto(data, (net.gateway_address("s1"), port))
        with pytest.raises((TimeoutError, ConnectionError)):
            foreign.recv(100)
        with udp(net, "s2") as own:
            own.sendto(data, (net.gateway_address("s2"), port))
            assert own.recv(100).endswith(b"hello")


def test_one_cannot_take_all_the_flows(net):
    held = []
    try:
        with pytest.raises(OSError):
            for _ in range(FLOWS + 1):
                held.append(tcp(net, "s1", INET4, 7, 0.5))
        assert len(held) >= FLOWS // 4
        assert net.fetch("s2", 100_000) == 100_000
    finally:
        for sock in held:
            sock.close()
    wait(lambda: net.fetch("s1", 1000), 5, "there is room again")


def test_opens_within_two_seconds(net):
    daemon = net.subscribers["s2"]
    daemon.stop()
    net.assert_clean("s2")
    began = time.monotonic()
    daemon.start()
    net.wait_online("s2")
    assert time.monotonic() - began < 2.0


def test_comings_and_goings_do_not_disturb_others(net):
    """An echo every 10 ms of s1 over one connection, while s2 leaves and comes."""
    daemon, slowest = net.subscribers["s2"], 0.0
    with tcp(net, "s1", INET4, 7) as sock:
        daemon.signal(15)
        until, started = time.monotonic() + 1.0, False
        while time.monotonic() < until:
            began = time.monotonic()
            sock.sendall(b"tick")
            assert socks5.receive(sock, 4) == b"tick"
            slowest = max(slowest, time.monotonic() - began)
            if not started and not daemon.alive():
                daemon.start()
                started = True
            time.sleep(0.01)
    net.wait_online("s2")
    assert started and slowest < 0.25, slowest


def test_gateway_killed_and_started_again(net):
    sids = {net.session(n)["sid"] for n in ("s1", "s2")}
    address = net.session("s1")["ipv4"]
    net.gateway_daemon.kill()
    net.gateway_daemon.start()
    net.wait_gateway()
    for name in ("s1", "s2"):
        net.wait_online(name, 20)
    assert {net.session(n)["sid"] for n in ("s1", "s2")} == sids
    assert net.session("s1")["ipv4"] == address


def test_subscriber_killed(net):
    daemon = net.subscribers["s1"]
    daemon.kill()
    daemon.cleanup()
    net.assert_clean("s1")
    daemon.start()
    net.wait_online("s1")


def dante(net):
    """A SOCKS server of somebody else, with UDP and without a login."""
    path = os.path.join(net.folder, "dante.conf")
    own, uplink = net["gw"].links["s1"][1], net["gw"].links["inet"][0]
    with open(path, "w", encoding="ascii") as f:
        f.write(f"""logoutput: stderr
internal: {own} port = {DANTE_PORT}
external: {uplink}
socksmethod: none
clientmethod: none
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 protocol: tcp udp }}
""")
    pid = os.path.join(net.folder, "dante.pid")
    server = net.run("gw", "dante", DANTE, "-f", path, "-p", pid)
    wait(lambda: (own, DANTE_PORT) in net["gw"].listening(), 10, "dante listens")
    return server


def test_a_server_of_somebody_else(net):
    """dante, over IPv4: TCP and UDP through it; online only while it is there."""
    if not os.access(DANTE, os.X_OK):
        pytest.skip("dante-server is not installed")
    server = dante(net)
    net.subscribers["s2"].stop()
    net.gateway_daemon.config["socks"]["Server"] = f"{net['gw'].links['s1'][1]}:{DANTE_PORT}"
    net.gateway_daemon.write_config()
    net.subscribers["s1"].stop()
    net.gateway_daemon.restart()
    net.wait_gateway()
    net.subscribers["s1"].start()
    net.wait_online("s1")
    assert net.fetch("s1", 3_000_000) == 3_000_000
    with udp(net, "s1") as sock:
        sock.sendto(b"through dante", (INET4, 7))
        assert sock.recv(100) == b"through dante"
    with pytest.raises(ConnectionRefusedError):
        tcp(net, "s1", INET4, 1)
    for pid in tools.sh("pgrep", "-P", str(server.pid), check=False).split():
        net["gw"].run("kill", "-9", pid, check=False)
    server.kill()
    wait(lambda: net.subscriber("s1", "status")["state"] != "online", 5, "the loss is noticed")
    dante(net)
    net.wait_online("s1", 15)


def test_everything_is_closed_without_a_trace(net):
    for name in ("s1", "s2"):
        net.subscribers[name].stop()
        net.assert_clean(name)
    wait(lambda: not net.gateway("listSessions")["sessions"], 8, "no lease is left")
    status, _ = net.gateway_daemon.stop()
    assert status == 0
    net.assert_clean("gw")
