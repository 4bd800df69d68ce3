"""A node whose manager has a name: all its addresses are tried, it is resolved anew when the manager
is lost, from a name server and from /etc/hosts, and nobody waits for it meanwhile."""
import os
import socket
import struct
import subprocess
import threading
import time

import pytest

from lab import Lab, bin_dir, rpc, wait

NAME = "manager.mesh.test"
DEAD = "10.82.1.99"  # nobody has it
SERVER = "10.82.1.53"


class NameServer(threading.Thread):
    """Knows one name, whose addresses may be changed; silent when told so."""

    def __init__(self, ns, addresses):
        super().__init__(daemon=True)
        self.addresses, self.asked, self.silent, self.ended = addresses, 0, False, False
        self.sock = ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((SERVER, 53))
        self.sock.settimeout(0.2)
        self.start()

    def run(self):
        while not self.ended:
            try:
                data, peer = self.sock.recvfrom(512)
            except TimeoutError:
                continue
            self.asked += 1
            if not data or self.silent:
                continue
            end = data.index(b"\0", 12) + 5
            known = data[12:end - 4] == b"".join(
                bytes([len(w)]) + w.encode() for w in NAME.split(".")) + b"\0"
            found = self.addresses if known and data[end - 4:end - 2] == b"\0\1" else []
            out = data[:2] + struct.pack(">HHHHH", 0x8180 | (0 if known else 3), 1, len(found), 0, 0)
            out += data[12:end]
            for a in found:
                out += struct.pack(">HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(a)
            self.sock.sendto(out, peer)

    def close(self):
        self.ended = True
        self.join()
        self.sock.close()


class Names(Lab):
    def __init__(self):
        super().__init__()
        try:
            self.add("mgr", "n")
            self.link("n", "mgr", "10.82.1.0/24")
            self["mgr"].sysctl("net.ipv4.conf.all.promote_secondaries", 1)
            self["mgr"].ip("addr", "add", f"{SERVER}/24", "dev", "to-n")
            self.etc = f"/etc/netns/{self['n'].full}"
            os.makedirs(self.etc)
            self.write("resolv.conf", f"nameserver {SERVER}\noptions timeout:1 attempts:1\n")
            self.write("hosts", "127.0.0.1 localhost\n")
            self.write("nsswitch.conf", "hosts: files dns\n")
            self.server = NameServer(self["mgr"], [DEAD, "10.82.1.2"])
            self.daemon("mgr", "apptracker")
            self.start_manager()
        except BaseException:
            self.close()
            raise

    def write(self, name, text):
        """The same file: it is mounted over that of /etc."""
        with open(os.path.join(self.etc, name), "w", encoding="ascii") as f:
            f.write(text)

    def start_manager(self, **keys):
        self.manager = self.daemon("mgr", "nodemanager", {"apptracker": {"Addr": "localhost:5998"},
                                                          "nodemanager": keys})
        wait(lambda: 1234 in [p for _, p in self["mgr"].listening()], 10, "the manager listens")

    def nodes(self):
        return [n["name"] for n in rpc(self["mgr"], 1234, "listNodes")["nodes"] if n["connected"]]

    def close(self):
        if hasattr(self, "server"):
            self.server.close()
        super().close()


@pytest.fixture(name="lab")
def fixture_lab():
    with Names() as lab:
        yield lab


def move_manager(lab, old, new):
    """The manager's host has another address; its node notices that the line is dead."""
    lab["mgr"].ip("addr", "add", f"{new}/24", "dev", "to-n")
    lab["mgr"].ip("addr", "del", f"{old}/24", "dev", "to-n")
    wait(lambda: lab.nodes() == [], 20, "the manager misses its node")


def test_manager_by_name(lab):
    """The sandbox and the user of the node are those of any other."""
    node = lab.daemon("n", "node", {"node": {"Name": "n", "ManagerAddr": f"{NAME}:5999"}})
    wait(lambda: lab.nodes() == ["n"], 20, "the node is there, by the second address of the name")
    with open(f"/proc/{node.pid}/status", encoding="ascii") as f:
        assert "Seccomp:\t2" in f.read() or "san" in bin_dir(), "this node has no sandbox"
    lab.manager.wait_log("apptracker connected", 5)  # by its own name

    lab.server.addresses = ["10.82.1.20"]
    move_manager(lab, "10.82.1.2", "10.82.1.20")
    wait(lambda: lab.nodes() == ["n"], 30, "the node follows the name")

    # The name server is away, and the hosts file knows better.
    lab.server.silent = True
    asked = lab.server.asked
    move_manager(lab, "10.82.1.20", "10.82.1.30")
    wait(lambda: lab.server.asked > asked, 20, "the node asks for the name again")
    began = time.monotonic()
    assert node.stop()[0] == 0 and time.monotonic() - began < 2, "a silent name server kept it"
    node.start()
    node.wait_log("cannot be resolved", 20)
    lab.write("hosts", f"127.0.0.1 localhost\n10.82.1.30 {NAME}\n")
    wait(lambda: lab.nodes() == ["n"], 30, "the node reads the hosts file again")


def test_scan_by_name(lab):
    """subscriberd's module "mesh": the first address of the name is dead."""
    lab.manager.stop()
    lab.start_manager(RpcAddr="127.0.0.1,10.82.1.2", RpcToken="tell-me")
    sub = lab.daemon("n", "subscriberd", {
        "subscriber": {"Node": "", "AutoConnect": "no", "WalkInterval": 0, "ScanTimeout": 6000},
        "mesh": {"ManagerRpc": f"{NAME}:1234", "ManagerToken": "tell-me"}})
    sub.wait_log("is ready")

    def network():
        return lab.meshctl_json("n", "scan", "mesh")["networks"][0]
    assert network()["state"] == "answered"
    lab.server.addresses = []
    assert "resolve" in network()["why"]


def test_check_asks_nobody(lab):
    asked = lab.server.asked
    for option, ok in (("node.ManagerAddr=nobody.mesh.test:5999", True),
                       ("apptracker.Addr=tracker.mesh.test:5998", True),
                       ("node.ManagerAddr=[fd00::1]:5999", True),
                       ("node.ManagerAddr=nobody.mesh.test", False),
                       ("node.ManagerAddr=10.0.0.300:5999", False)):
        p = subprocess.run(["ip", "netns", "exec", lab["n"].full, os.path.join(bin_dir(), "node"),
                            "--check", "-f", "/dev/null", "-o", option],
                           capture_output=True, text=True, check=False, timeout=10)
        assert (p.returncode == 0) == ok, (option, p.stderr)
        assert ok or "NAME:PORT or IP:PORT" in p.stderr
    assert lab.server.asked == asked
