"""JSON-RPC as the contract says, malformed and oversized, on every daemon that serves it."""
import json
import socket

import pytest

import lab as tools
from lab import wait
from topology import GATEWAY_PORT, HTTP_ADDR, RPC_PORT, SUBSCRIBER_PORT

SERVERS = {"nodemanager": ("mgr", RPC_PORT, "listNodes"),
           "gatewayd": ("gw1", GATEWAY_PORT, "nodeInfo"),
           "subscriberd": ("sub", SUBSCRIBER_PORT, "status")}


@pytest.fixture(scope="module")
def served(network):
    """Each server, with as little around it as it needs."""
    network.start_internet()
    network.start_tracker()
    network.start_manager()
    network.start_node("gw1")
    network.start_gateway("gw1")
    network.start_node("sub")
    network.start_subscriber(AutoConnect="no")
    for ns, port, method in SERVERS.values():
        wait(lambda ns=ns, port=port, method=method: tools.rpc(network[ns], port, method), 15,
             f"{ns} answers {method}")
    return network


@pytest.fixture(params=sorted(SERVERS))
def server(request, served):
    ns, port, method = SERVERS[request.param]
    return served[ns], port, method


def post(server, body, timeout=5.0, method="POST", headers=None):
    ns, port, _ = server
    if isinstance(body, str):
        body = body.encode()
    return tools.http_request(ns, "127.0.0.1", port, method, "/", body, timeout, headers)


def answer(server, body):
    status, text = post(server, body)
    assert status == 200, (status, text[:200])
    return json.loads(text)


def error_code(server, body):
    a = answer(server, body)
    assert a.get("result") is None
    return a["error"]["code"]


def test_version_2(server):
    a = answer(server, json.dumps({"jsonrpc": "2.0", "id": "x", "method": server[2]}))
    assert a["jsonrpc"] == "2.0" and a["id"] == "x" and "error" not in a
    assert isinstance(a["result"], dict)


def test_version_1(server):
    a = answer(server, json.dumps({"id": 7, "method": server[2], "params": []}))
    assert a["id"] == 7 and a["error"] is None and isinstance(a["result"], dict)


def test_batch(server):
    call = {"jsonrpc": "2.0", "id": 1, "method": server[2]}
    a = answer(server, json.dumps([call, {**call, "id": 2}, {"foo": 1}, {**call, "id": 3, "method": "x"}]))
    by_id = {str(one["id"]): one for one in a}
    assert len(a) == 4
    assert "result" in by_id["1"] and "result" in by_id["2"]
    assert by_id["None"]["error"]["code"] == -32600 and by_id["3"]["error"]["code"] == -32601


def test_notification_has_no_answer(server):
    status, text = post(server, json.dumps({"jsonrpc": "2.0", "method": server[2]}))
    assert status in (200, 204) and text == b""


@pytest.mark.parametrize("body", ["{", "", "nonsense", '{"jsonrpc": "2.0", "method": "x", "id": 1} x',
                                  "\x00", '{"a": "\xff"}', "[1, 2", '"' * 9999])
def test_not_json(server, body):
    assert error_code(server, body.encode("latin-1")) == -32700


@pytest.mark.parametrize("body", ["1", '"x"', "null", "[]", "{}", '{"jsonrpc": "2.0", "id": 1}',
                                  '{"jsonrpc": "2.0", "id": 1, "method": 1}',
                                  '{"jsonrpc": "2.0", "id": 1, "method": "x", "params": "y"}'])
def test_no_request(server, body):
    assert error_code(server, body) == -32600


def test_unknown_method(server):
    for name in ("nonsense", "", "x" * 10000, "listNodes\u0000"):
        assert error_code(server, json.dumps({"jsonrpc": "2.0", "id": 1, "method": name})) == -32601


def test_too_deep(server):
    assert error_code(server, "[" * 5000 + "]" * 5000) == -32700
    assert error_code(server, '{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":' + "[" * 100
                      + "]" * 100 + "}}") == -32700


def test_too_large(server):
    """Refused with 413 or a closed connection, and without taking the memory."""
    ns, port, _ = server
    try:
        status, _ = post(server, b'"' + b"x" * (8 << 20) + b'"')
        assert status == 413
    except OSError:
        pass
    sock = ns.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(5)
    sock.connect(("127.0.0.1", port))
    sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
    reply = sock.recv(100)
    sock.close()
    assert reply == b"" or b" 413 " in reply or b" 400 " in reply
    sock = ns.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(5)
    sock.connect(("127.0.0.1", port))
    try:
        sock.sendall(b"POST / HTTP/1.1\r\nX: " + b"y" * (1 << 20))
        reply = sock.recv(100)
    except OSError:
        reply = b""
    sock.close()
    assert reply == b"" or b" 4" in reply[:12]
    test_version_2(server)


def test_batch_too_long(server):
    call = {"jsonrpc": "2.0", "id": 1, "method": server[2]}
    assert error_code(server, json.dumps([call] * 1000)) == -32600


def test_other_verbs(server):
    for verb in ("GET", "PUT", "DELETE", "OPTIONS"):
        status, _ = post(server, None, method=verb)
        assert status in (200, 204, 404, 405, 501), verb


@pytest.mark.parametrize("method, params, code", [
    ("connectNodes", {}, -32602),
    ("connectNodes", {"a": [], "b": {}}, -32602),
    ("connectNodes", {"a": "nobody", "b": "gw1"}, None),
    ("connectNodes", {"a": "gw1", "b": "gw1"}, None),
    ("findRoute", {"a": "gw1"}, -32602),
    ("findRoute", {"a": 99999999999999999999, "b": -1}, None),
    ("buildRoute", {"nodes": "gw1"}, -32602),
    ("buildRoute", {"nodes": []}, None),
    ("buildRoute", {"nodes": ["gw1"] * 5000}, None),
    ("listTransports", {"node": None}, None),
    ("shutdownNode", {"node": "nobody"}, None),
    ("addNodes", {"count": -5}, None),
    ("addNodes", {"count": 1000000000}, None),
    ("addNodes", {"count": "many"}, None),
])
def test_nodemanager_parameters(served, method, params, code):
    server = (served["mgr"], RPC_PORT, "listNodes")
    got = error_code(server, json.dumps({"jsonrpc": "2.0", "id": 1, "method": method,
                                         "params": params}))
    assert got == code if code else got < 0


@pytest.mark.parametrize("params", [
    {"sid": 5, "name": "x", "port": 0, "method": "mesh", "options": {}},
    {"sid": None, "name": {}, "port": 0, "method": "mesh", "options": {}},
    {"sid": None, "name": "x", "port": "eighty", "method": "mesh", "options": {}},
    {"sid": None, "name": "x", "port": 0, "method": [], "options": {}},
    {"sid": None, "name": "x", "port": 0, "method": "mesh", "options": "all"},
    {"sid": "y" * 5000, "name": "x", "port": 0, "method": "mesh", "options": {}},
    {"sid": None, "name": "x", "port": -1, "method": "mesh", "options": {}},
    {"sid": None, "name": "x", "port": 70000, "method": "mesh", "options": {}},
])
def test_gateway_malformed_parameters(served, params):
    server = (served["gw1"], GATEWAY_PORT, "nodeInfo")
    assert error_code(server, json.dumps({"jsonrpc": "2.0", "id": 1, "method": "requestConnection",
                                          "params": params})) == -32602


def test_gateway_refusals(served):
    refused = served.gateway("gw1", "requestConnection", sid=None, name="x", port=0,
                             method="pigeon", options={})
    assert refused["success"] is False and refused["errorMsg"] and refused["temporary"] is False
    for method in ("renewConnection", "releaseConnection"):
        refused = served.gateway("gw1", method, sid="0" * 32)
        assert refused["success"] is False and refused["errorMsg"]


def test_gateway_node_info(served):
    def online():
        info = served.gateway("gw1", "nodeInfo")
        return info["uplink"]["online"] and info
    info = wait(online, 10, "the uplink is proved")
    assert info["success"] and info["gateway"] and info["name"] == "gw1" and info["version"]
    assert [m["name"] for m in info["methods"]] == ["mesh"]
    assert {"maxSubscribers", "freeSlots", "leaseSeconds", "rateKbps", "quotaBytes", "price",
            "currency", "text"} <= set(info["terms"])
    assert {"online", "checkedAt", "rttMs"} <= set(info["uplink"])
    assert isinstance(info["ipv6support"], bool)


def test_administration_only_from_authorised_networks(served):
    ns, address = served["r1"], served["gw1"].links["r2"][1]
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "listSessions"})
    _, body = tools.http_request(ns, address, GATEWAY_PORT, "POST", "/", call)
    assert json.loads(body)["error"]["code"] < 0
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "nodeInfo"})
    _, body = tools.http_request(ns, address, GATEWAY_PORT, "POST", "/", call)
    assert json.loads(body)["result"]["success"]


def test_uplink_is_taken_back_when_it_is_gone(served):
    served["gw1"].ip("route", "add", "blackhole", f"{HTTP_ADDR}/32")
    wait(lambda: not served.gateway("gw1", "nodeInfo")["uplink"]["online"], 15,
         "the gateway notices that its uplink is gone")
    served["gw1"].ip("route", "del", "blackhole", f"{HTTP_ADDR}/32")
    wait(lambda: served.gateway("gw1", "nodeInfo")["uplink"]["online"], 15, "and that it is back")


def test_all_survived(served):
    for key, daemon in served.d.items():
        assert daemon.alive(), f"{key} ended with {daemon.popen.returncode}"
        assert daemon.rss_kb() < 400_000 or "san" in tools.bin_dir()
