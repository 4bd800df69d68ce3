"""Hostile input to every port of every daemon, and figures of every daemon read by a real parser.

Beside test_garbage.py (bytes that are no protocol) and test_rpc.py (the contract): wrong types for
each parameter of each method, nesting, huge bodies, slow and idle connections by the thousand, and
web pages that want to drive a loopback RPC.  All the while a well-behaved client is served.
"""
import contextlib
import http.client
import json
import math
import os
import resource
import select
import socket
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

import lab as tools
from lab import wait
from topology import GATEWAY_PORT, MANAGER_PORT, RPC_PORT, SUBSCRIBER_PORT

NODE_STATUS, TRACKER_STATUS, APP_PORT, TRACKER_PORT = 9101, 9102, 17000, 5998
IDLE_CONNECTIONS = 10_000
RPC = {"nodemanager": ("mgr", RPC_PORT, "listNodes", {}),
       "gatewayd": ("gw1", GATEWAY_PORT, "nodeInfo", {}),
       "subscriberd": ("sub", SUBSCRIBER_PORT, "status", {})}
FIGURES = {"nodemanager": ("mgr", RPC_PORT), "gatewayd": ("gw1", GATEWAY_PORT),
           "subscriberd": ("sub", SUBSCRIBER_PORT), "node": ("gw1", NODE_STATUS),
           "apptracker": ("mgr", TRACKER_STATUS)}
# Every TCP port of every daemon: the namespace, the port, and the daemon behind it.
PORTS = [("mgr", MANAGER_PORT, "mgr-nodemanager"), ("mgr", RPC_PORT, "mgr-nodemanager"),
         ("mgr", TRACKER_PORT, "mgr-apptracker"), ("mgr", TRACKER_STATUS, "mgr-apptracker"),
         ("gw1", APP_PORT, "gw1-node"), ("gw1", NODE_STATUS, "gw1-node"),
         ("gw1", GATEWAY_PORT, "gw1-gatewayd"), ("sub", SUBSCRIBER_PORT, "sub-subscriberd")]
# Every method with its parameters; what each is about is in the contract.
METHODS = {
    "nodemanager": {
        "listNodes": [], "addNode": ["connect", "name"], "addNodes": ["count", "connect"],
        "shutdownNode": ["node"], "forgetNode": ["node"], "connectNodes": ["a", "b"],
        "disconnectNodes": ["a", "b"], "listTransports": ["node"], "listAllTransports": [],
        "buildRoute": ["nodes"], "findRoute": ["a", "b"], "listRoutes": ["node"],
        "listApps": ["kind", "value"], "status": []},
    "gatewayd": {
        "nodeInfo": [], "requestConnection": ["sid", "name", "port", "method", "options"],
        "renewConnection": ["sid"], "releaseConnection": ["sid"], "status": [],
        "listSessions": ["offset", "limit"], "getConfig": []},
    "subscriberd": {
        "status": [], "listGateways": [], "listSessions": [], "connect": ["gateway", "method"],
        "disconnect": [], "startScan": []},
}
# Methods that do something for good when they are called without sense; their parameters are tried
# only with values that no sense can be made of.
WRONG = [None, True, False, 0, -1, 1.5, 2**63, -2**63, 2**64, 10**30, "", "x" * 5000, "\u0000", "a\nb",
         "\ud83d\ude00", [], [[]], [1, 2], {}, {"a": {"b": []}}, "../../etc/passwd", "'; --"]


def raise_file_limit(want):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, want), max(hard, want)))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.fixture(scope="module")
def served(network):
    network.start_internet()
    network.start("mgr", "apptracker", {"apptracker": {"StatusPort": TRACKER_STATUS}})
    network.start_manager()
    network.start_node("gw1", StatusPort=NODE_STATUS)
    network.start_gateway("gw1")
    network.start_node("sub")
    network.start_subscriber(AutoConnect="no")
    for name in RPC:
        wait(lambda name=name: legit(network, name), 15, f"{name} answers")
    wait(lambda: network.registered() >= {"gw1", "sub"}, 15, "both nodes register")
    wait(lambda: len(tools.rpc(network["mgr"], RPC_PORT, "listApps")["apps"]) == 2, 15,
         "both apps are known")
    return network


def legit(lab, name, timeout=5.0):
    place, port, method, params = RPC[name]
    return tools.rpc(lab[place], port, method, params, timeout=timeout) is not None


def call(lab, name, method, params, timeout=10.0):
    place, port, _, _ = RPC[name]
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    status, text = tools.http_request(lab[place], "127.0.0.1", port, "POST", "/", body, timeout,
                                      {"Content-Type": "application/json"})
    return status, json.loads(text)


def dial(lab, place, port, timeout=5.0):
    sock = lab[place].socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    sock.connect(("127.0.0.1", port))
    return sock


def read_all(sock):
    out = b""
    with contextlib.suppress(OSError):
        while chunk := sock.recv(65536):
            out += chunk
    return out


def figures(lab, name, timeout=5.0):
    place, port = FIGURES[name]
    status, text = tools.http_request(lab[place], "127.0.0.1", port, "GET", "/metrics", None, timeout)
    assert status == 200
    return text.decode()


def families(text):
    return {f.name: f for f in text_string_to_metric_families(text)}


def value(lab, name, family, **labels):
    for s in families(figures(lab, name))[family].samples:
        if all(s.labels.get(k) == v for k, v in labels.items()):
            return s.value
    raise KeyError((family, labels))


# --- figures --------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", sorted(FIGURES))
def test_figures_are_in_prometheus_format(served, name):
    text = figures(served, name)
    assert text.endswith("\n") and "\r" not in text
    seen, helped, typed = set(), {}, {}
    for line in text.splitlines():  # stricter than the parser: HELP, TYPE, then the samples
        if line.startswith("# HELP "):
            _, _, family, words = line.split(" ", 3)
            assert family not in helped and words.strip(), line
            helped[family] = words
        elif line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert family in helped and family not in typed, line
            assert kind in ("counter", "gauge")
            assert family.endswith("_total") == (kind == "counter"), line
            typed[family] = kind
            current = family
        else:
            family = line.split("{")[0].split(" ")[0]
            assert family == current, f"{line}: outside of its family"
            key = line.rsplit(" ", 1)[0]
            assert key not in seen, f"{key} twice"
            seen.add(key)
    assert set(helped) == set(typed)
    for family in text_string_to_metric_families(text):
        assert family.samples
        for s in family.samples:
            assert math.isfinite(s.value) and s.value >= 0
    found = families(text)
    assert {"meshnet_build_info", "process_resident_memory_bytes", "process_open_fds"} <= set(found)
    assert found["meshnet_build_info"].samples[0].labels["daemon"] == name
    assert any(f.startswith(f"meshnet_{name}_") for f in found)


def test_figures_tell_the_truth(served):
    assert value(served, "nodemanager", "meshnet_nodemanager_nodes", state="connected") == 2
    assert value(served, "node", "meshnet_node_registered") == 1
    assert value(served, "node", "meshnet_node_apps") == 1  # gatewayd
    assert value(served, "apptracker", "meshnet_apptracker_apps") == 2
    served.connect("gw1", "sub")
    assert value(served, "node", "meshnet_node_transports", state="CONNECTED") == 1
    before = value(served, "node", "meshnet_node_packets", direction="sent")
    wait(lambda: value(served, "node", "meshnet_node_packets", direction="sent") > before, 10,
         "an idle link says something")
    rss = value(served, "node", "process_resident_memory_bytes")
    assert abs(rss / 1024 - served.d["gw1-node"].rss_kb()) < 512


# --- parameters and bodies --------------------------------------------------------------------------

@pytest.mark.parametrize("name", sorted(METHODS))
def test_wrong_types_for_each_parameter(served, name):
    """An answer in every case: a result where the value makes sense, else a JSON-RPC error."""
    tried = 0
    for method, params in METHODS[name].items():
        if method in ("addNode", "addNodes", "startScan"):
            values = [v for v in WRONG if not isinstance(v, (bool, type(None))) and v not in ("", 0)]
            values = [v for v in values if not (method == "addNode" and v == "")]
        else:
            values = WRONG
        for param in params:
            for wrong in values:
                given = {"a": "gw1", "b": "sub"} if param in ("a", "b") else {}
                given = {**given, param: wrong}
                status, a = call(served, name, method, given)
                assert status == 200 and ("result" in a) != ("error" in a), (method, given)
                if "error" in a:
                    assert -32700 <= a["error"]["code"] <= -32000 and a["error"]["message"]
                tried += 1
        # Too many by position, and something that is no list of parameters.
        status, a = call(served, name, method, ["9" * 100] * 20)
        assert a["error"]["code"] == -32602, method
        status, a = call(served, name, method, 5)
        assert a["error"]["code"] == -32600, method
    assert legit(served, name) and tried >= 40
    # Nobody was shut down or disconnected by nonsense.
    assert {"gw1", "sub"} <= served.registered()


@pytest.mark.parametrize("name", sorted(RPC))
def test_nesting_10000_deep(served, name):
    place, port, _, _ = RPC[name]
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        deep = opening * 10_000 + "1" + closing * 10_000
        body = '{"jsonrpc":"2.0","id":1,"method":"status","params":{"x":' + deep + "}}"
        _, text = tools.http_request(served[place], "127.0.0.1", port, "POST", "/", body, 10,
                                     {"Content-Type": "application/json"})
        assert json.loads(text)["error"]["code"] == -32700
    assert legit(served, name)


@pytest.mark.parametrize("name", sorted(RPC))
@pytest.mark.parametrize("how", ["length", "chunked"])
def test_bodies_of_100_megabytes(served, name, how):
    """Refused early: long before it is all sent, and without taking the memory."""
    place, port, _, _ = RPC[name]
    daemon = served.d[f"{place}-{name}"]
    before = daemon.rss_kb()
    sock = dial(served, place, port)
    sent, block = 0, b"x" * 65536
    try:
        if how == "length":
            sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        else:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        while sent < 100_000_000:
            if select.select([sock], [], [], 0)[0]:
                break  # the answer is there
            sock.sendall(b"10000\r\n" + block + b"\r\n" if how == "chunked" else block)
            sent += len(block)
    except OSError:
        pass
    head = read_all(sock)[:12]
    sock.close()
    assert head in (b"", b"HTTP/1.1 413"), head
    assert sent < 30_000_000, f"{sent} bytes were taken before it was refused"
    assert daemon.rss_kb() < before + 8192
    assert legit(served, name)


@pytest.mark.parametrize("name", sorted(RPC))
def test_pipelined_garbage(served, name):
    place, port, method, _ = RPC[name]
    good = json.dumps({"jsonrpc": "2.0", "id": 5, "method": method}).encode()
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(good), good)
    sock = dial(served, place, port, 15)
    with contextlib.suppress(OSError):
        sock.sendall(request * 3 + b"\x00\xff garbage\r\n\r\n" + request * 50)
        sock.shutdown(socket.SHUT_WR)
    reply = read_all(sock)
    sock.close()
    # A close over unread bytes may cost the last answers; nothing behind the garbage is obeyed.
    assert 1 <= reply.count(b"HTTP/1.1 200") <= 3
    assert legit(served, name)


# --- who may ask ------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", sorted(RPC))
@pytest.mark.parametrize("headers", [
    {"Origin": "http://evil.example"}, {"Origin": "null"},
    {"Origin": "http://evil.example:1234", "Host": "evil.example:1234"},  # DNS rebinding
    {"Sec-Fetch-Site": "cross-site"}])
def test_a_web_page_cannot_drive_it(served, name, headers):
    place, port, _, _ = RPC[name]
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "status"})
    for kind in ("text/plain", "application/json"):
        status, text = tools.http_request(served[place], "127.0.0.1", port, "POST", "/", body, 5,
                                          {"Content-Type": kind, **headers})
        assert status == 401 and json.loads(text)["error"]["code"] == -32001
    for path in ("/metrics", "/events"):
        status, _ = tools.http_request(served[place], "127.0.0.1", port, "GET", path, None, 5, headers)
        assert status == 403


def test_from_elsewhere_the_token_is_needed(served):
    """A manager whose RPC is open to the network makes a token, and wants it."""
    place = served["r3"]
    manager = served.start("r3", "nodemanager", {"nodemanager": {"RpcAddr": "0.0.0.0"}})
    path = f"{manager.state_dir}/nodemanager-rpc.key"
    wait(lambda: tools.rpc(place, RPC_PORT, "status"), 10, "loopback needs no token")
    with open(path, encoding="ascii") as f:
        token = f.read().strip()
    assert os.stat(path).st_mode & 0o777 == 0o600 and len(token) == 64
    assert token not in manager.log() and path in manager.log()
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "status"})
    address = served.address("r3")
    for given, wanted in (({}, 401), ({"Authorization": "Bearer " + "0" * 64}, 401),
                          ({"Authorization": f"Bearer {token}"}, 200)):
        status, text = tools.http_request(served["r2"], address, RPC_PORT, "POST", "/", body, 5, given)
        assert status == wanted
        assert ("error" in json.loads(text)) == (wanted == 401)
        status, _ = tools.http_request(served["r2"], address, RPC_PORT, "GET", "/metrics", None, 5, given)
        assert status == (403 if wanted == 401 else 200)
    answer = served.meshctl("r2", "--rpc", address, "--token", "@" + path, "status")
    assert "nodes: 0" in answer
    manager.stop()


# --- slow and many ------------------------------------------------------------------------------------

def test_slow_loris_on_every_port(served):
    """One byte a second, on every port: nobody else waits, and none of them lives for long."""
    held = [(dial(served, place, port), place, port) for place, port, _ in PORTS for _ in range(8)]
    alive, began = list(held), time.monotonic()
    text = b"POST / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1000
    for i in range(25):
        for one in list(alive):
            try:
                one[0].sendall(text[i:i + 1])
                if select.select([one[0]], [], [], 0)[0]:
                    alive.remove(one)
            except OSError:
                alive.remove(one)
        assert all(legit(served, name, 2.0) for name in RPC)
        if not alive:
            break
        time.sleep(1)
    for sock, _, _ in held:
        sock.close()
    assert not alive, f"still open after {time.monotonic() - began:.0f} s: {alive}"


@pytest.mark.parametrize("place, port, key", PORTS, ids=[f"{p[2]}-{p[1]}" for p in PORTS])
def test_10000_idle_connections(served, place, port, key):
    """They are let in at each other's cost: a legitimate client is served at once, and neither
    memory nor descriptors grow with them."""
    limit = raise_file_limit(IDLE_CONNECTIONS + 1000)
    count = min(IDLE_CONNECTIONS, limit - 500)
    daemon, held = served.d[key], []
    before = daemon.rss_kb()
    try:
        for i in range(count):
            sock = served_socket(served, place)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError, OSError):
                sock.connect(("127.0.0.1", port))
            held.append(sock)
            if i % 2500 == 2499:
                check_legit(served, port)
        check_legit(served, port)
        assert daemon.alive()
        fds = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        assert fds < 2000, f"{fds} descriptors"
        assert daemon.rss_kb() < before + 48 * 1024
    finally:
        for sock in held:
            sock.close()
    print(f"{count} connections to {key} port {port}: {fds} descriptors")
    check_legit(served, port)


def served_socket(lab, place):
    """Entering a namespace 10,000 times takes its time: one stays open for all of them."""
    key = (id(lab), place)
    if key not in served_socket.makers:
        served_socket.makers[key] = lab[place]
    return served_socket.makers[key].socket(socket.AF_INET, socket.SOCK_STREAM)


served_socket.makers = {}


def check_legit(lab, port):
    """Who is to be served on this port is."""
    if port == MANAGER_PORT:  # a node that comes anew
        node = lab.d["gw1-node"]
        node.restart()
        wait(lambda: "gw1" in lab.registered(), 20, "a node registers")
        wait(lambda: tools.rpc(lab["gw1"], GATEWAY_PORT, "nodeInfo"), 10, "its gateway serves")
    elif port == APP_PORT:  # an app that comes anew
        wait(lambda: value(lab, "node", "meshnet_node_apps") == 1, 15, "gatewayd is an app again")
        assert "echo" in apps_after_hello(lab)
    elif port == TRACKER_PORT:
        wait(lambda: any(a["app"] == "gw1" for a in
                         tools.rpc(lab["mgr"], RPC_PORT, "listApps")["apps"]), 15, "lists work")
    elif port in (NODE_STATUS, TRACKER_STATUS):
        assert served_soon(lambda: figures(lab, "node" if port == NODE_STATUS else "apptracker"))
    else:
        assert served_soon(lambda: legit(lab, {RPC_PORT: "nodemanager", GATEWAY_PORT: "gatewayd",
                                               SUBSCRIBER_PORT: "subscriberd"}[port]))


def served_soon(ask):
    """One that has not yet said anything may have to make room for the next that connects, as the
    idle ones do; who asks again is served."""
    with contextlib.suppress(http.client.RemoteDisconnected, ConnectionResetError):
        return ask()
    return ask()


def apps_after_hello(lab):
    """Starts an echo server beside the node, and says what apps there are then."""
    name = f"gw1-echo-{time.monotonic_ns()}"
    p = lab.run("gw1", name, tools.bin_dir() + "/echo", "server")
    try:
        wait(lambda: any(a["type"].startswith("echo") for a in
                         tools.rpc(lab["mgr"], RPC_PORT, "listApps")["apps"]), 15, "an app registers")
        return "echo"
    finally:
        p.stop()


def test_all_survived(served):
    for key, daemon in served.d.items():
        if key != "r3-nodemanager":
            assert daemon.alive(), f"{key} ended with {daemon.popen.returncode}"
            assert len(daemon.log().splitlines()) < 400, "the log was flooded"
