"""socks-client and socks-server over the mesh: curl, both families, names, UDP, half-close, stalled
streams, the deny list, garbage, 500 downloads at once, and a server that dies."""
import contextlib
import hashlib
import os
import socket
import struct
import subprocess
import time

import pytest

import lab as tools
import socks5
from lab import wait
from socksmesh import body, check_fetch, curl, restart, start, start_network, state, wait_up
from topology import HTTP_ADDR, HTTP_ADDR6

LOGIN_PORT, IMPATIENT_PORT, OPEN_PORT = 1081, 1082, 1083


@pytest.fixture(scope="module")
def socks(network):
    mesh = network
    start_network(mesh)
    mesh.open_server = start(mesh, "gw1", "socks-server", "gw1-open", "--id", "open",
                             "--allow", "127.0.0.0/8", "-o", "proxy.ProxyTimeout=3600")
    wait_up(mesh.open_server)
    mesh.client = start(mesh, "sub", "socks-client", "sub-socks", "--to", "exit-one")
    mesh.login = start(mesh, "sub", "socks-client", "sub-login", "--to", "open",
                       "-o", "proxy.User=anna", "-o", "proxy.Password=green door",
                       "--listen", f"127.0.0.1:{LOGIN_PORT}")
    mesh.impatient = start(mesh, "sub", "socks-client", "sub-impatient", "--to", "open",
                           "-o", "proxy.ProxyTimeout=1", "--listen", f"127.0.0.1:{IMPATIENT_PORT}")
    for p in (mesh.client, mesh.login, mesh.impatient):
        wait_up(p)
    return mesh


# --- curl -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("host", [HTTP_ADDR, f"[{HTTP_ADDR6}]", "web.test", "four.test", "six.test",
                                  "mixed.test"])
def test_curl(socks, host):
    check_fetch(socks, host)


def test_socks5_hostname_option(socks):
    out = socks["sub"].run("curl", "-sS", "--socks5-hostname", "127.0.0.1:1080", "-o", "/dev/null",
                           "-w", "%{http_code} %{size_download}", "http://web.test/bytes/5000000")
    assert out == "200 5000000"


def test_what_cannot_be_reached_is_told(socks):
    for host, port, code in (("no-such.test", 80, 4), (HTTP_ADDR, 4, 5), (HTTP_ADDR6, 4, 5)):
        with pytest.raises(socks5.Refused) as e:
            socks5.stream(socks["sub"], host, port)
        assert e.value.code == code, host


def test_login(socks):
    def fetch(userinfo):
        return curl(socks, f"http://{HTTP_ADDR}/bytes/1000",
                    proxy=f"socks5h://{userinfo}127.0.0.1:{LOGIN_PORT}")
    assert fetch("anna:green%20door@") == (0, body(1000))
    for wrong in ("anna:green@", "ann:green%20door@", "anna:green%20door%20@", ""):
        assert fetch(wrong)[0] == 97, wrong
    # Who asks without having logged in gets no answer.
    sock = socks5.connect(socks["sub"], ("127.0.0.1", LOGIN_PORT))
    sock.sendall(b"\x05\x01\x02\x05\x01\x00" + socks5.address(HTTP_ADDR, 80))
    assert socks5.receive(sock, 2) == b"\x05\x02"
    assert sock.recv(100) == b""


def test_bad_commands(socks):
    for command, host in ((2, HTTP_ADDR), (9, HTTP_ADDR)):
        with pytest.raises(socks5.Refused) as e:
            socks5.request(socks5.connect(socks["sub"]), command, host, 80)
        assert e.value.code == 7
    # With more behind the request than is read ahead, and with its own end.
    sock = socks5.connect(socks["sub"])
    sock.sendall(b"\x05\x01\x00\x05\x01\x00" + socks5.address("no-such.test", 80) + bytes(9000))
    sock.shutdown(socket.SHUT_WR)
    assert socks5.receive(sock, 12)[:4] == b"\x05\x00\x05\x04"
    sock = socks5.connect(socks["sub"])
    sock.sendall(b"\x05\x01\x00\x05\x01\x00\x07junk")
    assert socks5.receive(sock, 4) == b"\x05\x00\x05\x08"


def test_long_names(socks):
    """A name may have 255 bytes on the wire, which is more than a name can have in DNS; one byte that
    no name has is refused before anybody is asked."""
    for name in ("x" * 255, ".".join(["x" * 63] * 4), "x" * 64 + ".test", "a..test"):
        with pytest.raises(socks5.Refused) as e:
            socks5.stream(socks["sub"], name, 80)
        assert e.value.code == 4, name
    for raw in (b"\x03\x00\x00\x50", b"\x03\x03a b\x00\x50", b"\x03\x02a\x80\x00\x50"):
        sock = socks5.connect(socks["sub"])
        sock.sendall(b"\x05\x01\x00\x05\x01\x00" + raw)
        assert socks5.receive(sock, 4) == b"\x05\x00\x05\x08", raw
    # As UDP as well: dropped, and the association lives.
    a = socks5.Association(socks["sub"])
    assert a.ask("x" * 255, 7, b"to nobody") is None
    wait(lambda: a.ask(HTTP_ADDR, 7, b"x"), 10, "what can be reached answers")
    a.close()


def test_open_to_all_is_warned_of(socks):
    warning = "whoever reaches 0.0.0.0:1090 may use it"
    for options, wanted in ((), True), (("-o", "proxy.User=a", "-o", "proxy.Password=b"), False):
        p = start(socks, "sub", "socks-client", f"sub-open-{wanted}", "--listen", "0.0.0.0:1090",
                  *options)
        p.wait_log("listening")
        assert (warning in p.log()) == wanted
        p.stop()


# --- streams --------------------------------------------------------------------------------------

def test_half_close_by_the_client(socks):
    """All that was sent before comes back, and more after it."""
    sock = socks5.stream(socks["sub"], "web.test", 7)
    data = os.urandom(300_000)
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    assert socks5.receive_all(sock) == data + b"bye"


def test_half_close_by_the_server(socks):
    sock = socks5.stream(socks["sub"], HTTP_ADDR, 11)
    assert socks5.receive_all(sock) == b"hello"
    data = os.urandom(3_000_000)
    sock.sendall(data)
    sock.close()
    wanted = f"{len(data)} {hashlib.sha256(data).hexdigest()}".encode()

    def told():
        return socks5.receive_all(socks5.stream(socks["sub"], HTTP_ADDR, 12)) == wanted
    wait(told, 10, "the upload is complete")


def fill(sock, limit=64 << 20):
    """Sends until nobody takes any more; the bytes that were taken."""
    sock.settimeout(1)
    sent = 0
    with contextlib.suppress(socket.timeout):
        while sent < limit:
            sent += sock.send(bytes(65536))
    return sent


def cpu_seconds(p):
    with open(f"/proc/{p.pid}/stat", encoding="ascii") as f:
        return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def test_stalled_streams_stop_alone(socks):
    """Two targets that do not read and two clients that do not: the others never notice, and what
    the proxies hold is bounded."""
    sub = socks["sub"]
    stalled = [socks5.stream(sub, HTTP_ADDR, 9) for _ in range(2)]
    for sock in stalled:
        assert fill(sock) < 64 << 20
    for _ in range(2):
        sock = socks5.stream(sub, HTTP_ADDR, 80)
        sock.sendall(b"GET /bytes/200000000 HTTP/1.1\r\n\r\n")
        stalled.append(sock)
    check_fetch(socks, "web.test", 10_000_000)
    check_fetch(socks, HTTP_ADDR, 100)
    # A sanitizer keeps what was freed for a while.
    limit = 400_000 if "/san" in tools.bin_dir() else 60_000
    for p in (socks.client, socks.servers["exit-one"]):
        assert p.rss_kb() < limit
    before = {p: cpu_seconds(p) for p in (socks.client, socks.servers["exit-one"])}
    time.sleep(1)
    for p, seconds in before.items():
        assert cpu_seconds(p) - seconds < 0.5, f"{p.name} is busy with nothing"
    for sock in stalled:
        sock.close()


def test_proxy_timeout(socks):
    sock = socks5.stream(socks["sub"], HTTP_ADDR, 7, proxy=("127.0.0.1", IMPATIENT_PORT))
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
    with pytest.raises(ConnectionResetError):
        while sock.recv(1):
            pass


def test_500_downloads_at_once(socks):
    """The web server answers none of them before all 500 are there."""
    began = time.monotonic()
    argv = ["ip", "netns", "exec", socks["sub"].full, "curl", "-sS", "-m", "40", "-Z",
            "--parallel-immediate", "--parallel-max", "250", "--socks5-hostname", "127.0.0.1:1080",
            "-o", "/dev/null", "-w", "%{http_code} %{size_download}\n",
            "http://web.test/together/500/[50000-50249]"]
    # Its progress meter cannot be switched off where transfers are parallel.
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                             env=socks.environment) for _ in range(2)]
    wanted = sorted(f"200 {n}" for n in range(50000, 50250))
    for p in both:
        assert sorted(p.communicate(timeout=45)[0].splitlines()) == wanted
    assert time.monotonic() - began < 40


# --- UDP ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("host", [HTTP_ADDR, HTTP_ADDR6, "four.test"])
def test_udp(socks, host):
    a = socks5.Association(socks["sub"])
    source = host if ":" in host else HTTP_ADDR
    for payload in (b"p", b"ping", os.urandom(1200), os.urandom(20_000)):
        wait(lambda p=payload: a.ask(host, 7, p) == (source, 7, p), 10,
             f"{len(payload)} bytes come back")
    a.close()


def test_udp_of_others_and_fragments_do_not_pass(socks):
    a = socks5.Association(socks["sub"])
    wait(lambda: a.ask(HTTP_ADDR, 7, b"mine"), 10, "an echo")
    assert a.ask(HTTP_ADDR, 7, b"part", fragment=1) is None
    own, a.sock = a.sock, socks["sub"].socket(socket.AF_INET, socket.SOCK_DGRAM)
    a.sock.settimeout(0.5)
    assert a.ask(HTTP_ADDR, 7, b"not mine") is None
    a.sock.close()
    a.sock = own
    a.control.close()

    def ended():
        with contextlib.suppress(ConnectionRefusedError):
            return a.ask(HTTP_ADDR, 7, b"too late") is None
        return True
    wait(ended, 5, "the association ends with its connection")


def test_udp_to_denied_addresses_does_not_pass(socks):
    with socks["gw1"].socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
        victim.bind(("0.0.0.0", 7777))
        victim.settimeout(0.3)
        a = socks5.Association(socks["sub"])
        for host in ("127.0.0.1", "self.test", socks.address("gw1")):
            assert a.ask(host, 7777, b"hello") is None
        wait(lambda: a.ask(HTTP_ADDR, 7, b"x"), 10, "what is allowed passes")
        with pytest.raises(socket.timeout):
            victim.recv(100)
        a.close()


# --- what is denied -------------------------------------------------------------------------------

def test_own_loopback_and_lan_are_denied(socks):
    gw1 = socks["gw1"]
    uplink, neighbour = gw1.links["inet"][1:]
    with gw1.socket(socket.AF_INET6, socket.SOCK_STREAM) as victim:
        victim.bind(("::", 7777))
        victim.listen(16)
        for host in ("127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1",
                     "64:ff9b::7f00:1", "169.254.1.1", "fe80::1", socks.address("r2"),
                     socks.address("gw1"), uplink, neighbour, "2001:db8:1::2", "self.test",
                     "lan.test", "224.0.0.1", "255.255.255.255"):
            with pytest.raises(socks5.Refused) as e:
                socks5.stream(socks["sub"], host, 7777)
            assert e.value.code == 2, host


def test_a_name_that_changes_gains_nothing(socks):
    check_fetch(socks, "flip.test", 1000)
    with pytest.raises(socks5.Refused) as e:
        socks5.stream(socks["sub"], "flip.test", 80)
    assert e.value.code == 2


def test_exceptions(socks):
    """The other server was told to allow its loopback."""
    with socks["gw1"].socket(socket.AF_INET, socket.SOCK_STREAM) as service:
        service.bind(("127.0.0.1", 7778))
        service.listen(16)
        for host in ("127.0.0.1", "localhost"):
            with socks5.stream(socks["sub"], host, 7778, proxy=("127.0.0.1", IMPATIENT_PORT)):
                service.accept()[0].close()
        with pytest.raises(socks5.Refused):
            socks5.stream(socks["sub"], "lan.test", 80, proxy=("127.0.0.1", IMPATIENT_PORT))


# --- hostile input --------------------------------------------------------------------------------

def test_garbage_on_the_socks_port(socks):
    idle = [socks5.connect(socks["sub"]) for _ in range(100)]
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x04\x01\x00\x50\x01\x02\x03\x04\x00", b"\x05\x00",
                 b"\x05", bytes(4096), os.urandom(100_000), b"\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50",
                 b"\x05\x01\x00\x05\x01\x00\x03\x04a\x00bc\x00\x50", b"\x05\xff" + b"\x00" * 300):
        with socks5.connect(socks["sub"]) as sock, contextlib.suppress(OSError):
            sock.sendall(junk)
            sock.shutdown(socket.SHUT_WR)
            assert len(socks5.receive_all(sock)) <= 16
    check_fetch(socks, "web.test")
    for sock in idle:
        sock.close()


def test_garbage_from_the_mesh(socks):
    """What is no run of frames ends the connection of who sent it, and nothing else."""
    from meshapp import APP_MESSAGE, SEND_FROM_APP, MeshApp
    node = next(n["id"] for n in socks.nodes() if n["name"] == "gw1")
    hello = bytes([1, 2]) + struct.pack(">II", 65536, 0)
    junk = (b"\xff", hello + hello, b"\x06" + bytes(6), hello + b"\x06" + struct.pack(">IH", 9, 0),
            hello + b"\x02" + struct.pack(">I", 1) + b"\x09", os.urandom(1000))
    for i, data in enumerate(junk):
        app = MeshApp(socks["r1"], f"hostile-{i}").connect(node, "exit-one")
        app.send(SEND_FROM_APP, 0, app.connection + struct.pack(">I", len(data)) + data)
        with pytest.raises(tools.LabError):
            while True:
                app.wait_for(APP_MESSAGE)
        app.close()
    check_fetch(socks, "web.test")


# --- servers come and go --------------------------------------------------------------------------

def test_another_server_takes_over(socks):
    """A client that was told no server finds one, and another when that one is killed."""
    client = start(socks, "sub", "socks-client", "sub-any", "--listen", f"127.0.0.1:{OPEN_PORT}")
    proxy = f"socks5h://127.0.0.1:{OPEN_PORT}"
    socks.open_server.stop()
    wait(lambda: state(client)["state"] == "up" and state(client)["server"] in socks.servers, 20,
         "the client has found a server")
    check_fetch(socks, "web.test", proxy=proxy)
    first = state(client)["server"]
    held = socks5.stream(socks["sub"], HTTP_ADDR, 7, proxy=("127.0.0.1", OPEN_PORT))
    socks.servers[first].kill()
    with pytest.raises(ConnectionResetError):
        while held.recv(1):
            pass
    # This waits in the client until there is a server again.
    check_fetch(socks, "web.test", proxy=proxy)
    second = state(client)["server"]
    assert {first, second} == set(socks.servers)
    restart(socks.servers[first])
    socks.servers[second].kill()
    check_fetch(socks, "web.test", proxy=proxy)
    assert state(client)["server"] == first
    restart(socks.servers[second])


def test_node_comes_back(socks):
    """The client's own node is killed: what was open ends, what is asked meanwhile waits."""
    held = socks5.stream(socks["sub"], HTTP_ADDR, 7)
    socks.d["sub-node"].kill()
    with pytest.raises(ConnectionResetError):
        while held.recv(1):
            pass
    socks.d["sub-node"].start()
    check_fetch(socks, "web.test", timeout=25)
    wait(lambda: socks5.Association(socks["sub"]).ask(HTTP_ADDR, 7, b"x"), 15, "UDP as well")


def test_ends_cleanly(socks):
    sock = socks5.stream(socks["sub"], HTTP_ADDR, 7, proxy=("127.0.0.1", OPEN_PORT))
    for p in socks.processes:
        if "socks-" in p.argv[0] and p.alive():
            status, seconds = p.stop()
            assert status == 0 and seconds < 2, p.name
    sock.close()
