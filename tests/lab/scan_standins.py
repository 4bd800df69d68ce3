#!/usr/bin/python3
"""Stand-ins for test_scan.py: `serve` is cjdns's admin interface and olsrd's jsoninfo on loopback;
called as batctl (meshif IF TABLE) it prints that table."""
import hashlib
import http.server
import json
import os
import socket
import sys
import threading
import time
import urllib.request

PASSWORD = b"NONE"
OWN, NEAR, FAR = (f"v20.0000.0000.0000.{label}.{key}.k" for label, key in (
    ("0001", "uyn822n9qks1nd252hpnk1lt5pcg0g6bl5bxfj987jl9ncvqu100"),
    ("0013", "lh2747f6fmpd9cdsbn7bsn2lxwzdrhzml42xcg2652vxfhkr50z0"),
    ("0153", "rdv6m7tngpf0n1b44lh4cfxh4xj9465hxg0xspfup5nw7lgtqy70")))
OWN_IP, NEAR_IP = ("fc38:7d37:927c:e7fd:284e:ed82:ec49:6847",
                   "fc47:630d:4e55:71f7:b873:27bd:ac5a:ca0a")


# --- bencode ---

def encode(value, pad=0):
    """The length of the first key is padded, as cjdns does."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, (str, bytes)):
        data = value.encode() if isinstance(value, str) else value
        return b"%d:%s" % (len(data), data)
    if isinstance(value, list):
        return b"l" + b"".join(map(encode, value)) + b"e"
    return b"d" + b"0" * pad + b"".join(encode(k) + encode(value[k]) for k in sorted(value)) + b"e"


def decode(data, at=0):
    if data[at:at + 1] == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1:end]), end + 1
    if data[at:at + 1] in (b"l", b"d"):
        items, kind, at = [], data[at:at + 1], at + 1
        while data[at:at + 1] != b"e":
            item, at = decode(data, at)
            items.append(item)
        return (items if kind == b"l" else dict(zip(items[::2], items[1::2]))), at + 1
    colon = data.index(b":", at)
    length = int(data[at:colon])
    return data[colon + 1:colon + 1 + length], colon + 1 + length


# --- cjdns ---

def sha(data):
    return hashlib.sha256(data).hexdigest().encode()


def authentic(message, request):
    cookie, given = request.get(b"cookie", b""), request.get(b"hash", b"")
    if not cookie.isdigit() or abs(time.time() - int(cookie)) > 20 or len(given) != 64:
        return False
    return sha(message.replace(given, sha(PASSWORD + cookie))) == given


def answer(function, args):
    if function == b"Core_nodeInfo":
        return {"myAddr": OWN, "myIp6": OWN_IP, "error": "none"}
    if function == b"InterfaceController_peerStats":
        return {"peers": [] if args[b"page"] else [{"addr": NEAR, "state": "ESTABLISHED"}], "total": 1}
    if function == b"NodeStore_dumpTable":
        table = [{"addr": a, "ip": ip, "path": a[4:23]} for a, ip in ((NEAR, NEAR_IP), (OWN, OWN_IP))]
        return {"routingTable": [] if args[b"page"] else table, "count": 2, "peers": 1}
    if function == b"RouterModule_getPeers":
        if args[b"path"].decode() == NEAR_IP:
            return {"error": "none", "peers": [NEAR, OWN, FAR], "result": "peers", "ms": 3}
        return {"error": "none", "peers": [FAR, NEAR], "result": "peers", "ms": 4}
    return {"error": "No function found"}


def cjdns():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 11234))
    while True:
        message, peer = sock.recvfrom(65536)
        request, _ = decode(message)
        if request[b"q"] == b"cookie":
            reply = {"cookie": str(int(time.time()))}
        elif not authentic(message, request):
            reply = {"error": "Auth failed."}
        else:
            reply = answer(request[b"aq"], request[b"args"])
        if b"txid" in request:
            reply["txid"] = request[b"txid"].decode()
        sock.sendto(encode(reply, 5), peer)


# --- olsrd ---

class Jsoninfo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        rows = [("10.40.1.1", "10.40.1.2", 1024), ("10.40.1.2", "10.40.2.2", 1163),
                ("10.40.2.2", "10.40.5.2", 2048)]
        body = json.dumps({"pid": 1, "neighbors": [{"ipAddress": "10.40.1.2", "symmetric": True}],
                           "topology": [{"lastHopIP": a, "destinationIP": b, "tcEdgeCost": c}
                                        for a, b, c in rows]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body[:50])
        self.wfile.flush()
        time.sleep(0.05)
        self.wfile.write(body[50:])

    def log_message(self, *_):
        pass


# --- batctl ---

def batctl(table):
    orig, far = "92:ed:78:26:f3:b0", "da:e0:8a:ab:e1:b6"
    tables = {
        "originators_json": [{"orig_address": orig, "best": True, "neigh_address": orig, "tq": 200},
                             {"orig_address": far, "best": True, "neigh_address": orig, "tq": 90}],
        "transtable_global_json": [
            {"orig_address": orig, "tt_address": os.environ["STANDIN_MAC"], "best": True},
            {"orig_address": far, "tt_address": "c6:6f:ac:5f:46:09", "best": True}],
        "dat_cache_json": [{"dat_cache_ip4address": "10.40.2.2",
                            "dat_cache_hwaddress": "c6:6f:ac:5f:46:09"}]}
    if table not in tables:
        print("Error - no valid command or debug table/JSON specified", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(tables[table]))


# --- a host that passes for a gateway: it has the true one answer every question ---

class Impostor(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = urllib.request.Request(sys.argv[3], body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=5) as reply:
            answer = reply.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


if sys.argv[1] == "pass-for":
    http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[2])), Impostor).serve_forever()
elif sys.argv[1] == "serve":
    threading.Thread(target=cjdns, daemon=True).start()
    http.server.ThreadingHTTPServer(("127.0.0.1", 9090), Jsoninfo).serve_forever()
else:
    batctl(sys.argv[3])
