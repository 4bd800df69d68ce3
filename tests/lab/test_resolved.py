"""vpn-client and subscriberd on a host whose names are systemd-resolved's: the real one, on a bus of its own, in a
mount namespace beside the lab's network namespace.  The machine's own files are never touched."""
import os
import re
import shutil
import socket
import time
from contextlib import ExitStack

import pytest

from conftest import finish
from lab import TOP, Daemon, wait
from topology import GATEWAYS, MeshLab

UNPACKED = os.path.join(TOP, "build", "debian", "systemd-resolved")
DNS = "10.200.0.1"
SERVERS = {"gw1": "198.51.100.53", "gw2": "198.51.100.54"}
LINK = "/run/systemd/resolve/stub-resolv.conf"
SETUP = """
set -e
cd "$1"
mount --make-rprivate /
mkdir -p /run/systemd etc
mount -t tmpfs none /run/systemd
mount -t tmpfs none etc
mkdir etc/upper etc/work /run/systemd/resolve
mount -t overlay overlay -o lowerdir=/etc,upperdir=etc/upper,workdir=etc/work /etc
umount /etc/resolv.conf 2>/dev/null || true
grep -q ^systemd-resolve: /etc/passwd || {
	echo systemd-resolve:x:996:996::/:/usr/sbin/nologin >>/etc/passwd
	echo systemd-resolve:x:996: >>/etc/group
}
chown systemd-resolve:systemd-resolve /run/systemd/resolve
ln -sf """ + LINK + """ /etc/resolv.conf
exec dbus-daemon --config-file=bus.conf --nofork --nopidfile
"""
BUS = """<busconfig><type>system</type><listen>unix:path={0}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow eavesdrop="true"/></policy>
</busconfig>
"""


def programs():
    """(systemd-resolved, the folder of resolvectl): installed ones, or unpacked by etc/deps.sh."""
    for top in ("", UNPACKED):
        daemon, folder = f"{top}/lib/systemd/systemd-resolved", f"{top}/usr/bin"
        if os.path.exists(daemon) and os.path.exists(f"{folder}/resolvectl"):
            return daemon, folder
    pytest.skip("no systemd-resolved (etc/deps.sh test unpacks it)")
    return None


class Host:
    """A namespace of the lab with systemd-resolved."""

    def __init__(self, lab, ns):
        if not shutil.which("dbus-daemon"):
            pytest.skip("no dbus-daemon")
        daemon, tools = programs()
        folder = os.path.join(lab.folder, "resolved")
        os.makedirs(folder)
        bus = "/run/systemd/bus"  # of the namespace; resolved's user may go there
        with open(os.path.join(folder, "bus.conf"), "w", encoding="ascii") as f:
            f.write(BUS.format(bus))
        self.lab, self.ns = lab, lab[ns]
        self.host = lab.run(ns, "bus", "unshare", "--mount", "sh", "-c", SETUP, "sh", folder)
        wait(lambda: os.path.exists(f"/proc/{self.host.pid}/root{bus}"), 5, "the bus is there")
        self.prefix = ["nsenter", f"--mount=/proc/{self.host.pid}/ns/mnt", "env",
                       f"DBUS_SYSTEM_BUS_ADDRESS=unix:path={bus}",
                       f"PATH={tools}:{os.environ['PATH']}"]
        self.daemon = lab.run(ns, "resolved", *self.prefix, daemon)
        wait(lambda: "Global" in self.run("resolvectl", "status", check=False), 10, "it answers")

    def run(self, *argv, **kw):
        return self.ns.run(*self.prefix, *argv, **kw)

    def links(self):
        """{interface: (servers, domains)} of links that have either."""
        def lines(command):
            text = self.run("resolvectl", command)
            return dict(re.findall(r"^Link \d+ \((\S+)\): ?(.*)$", text, re.M))
        servers, domains = lines("dns"), lines("domain")
        return {i: (servers[i].strip(), domains.get(i, "").strip()) for i in servers
                if servers[i].strip() or domains.get(i, "").strip()}


class Owner(Daemon):
    """A program on such a host."""

    def __init__(self, host, program, name, config, options=()):
        self.host = host
        super().__init__(host.lab, host.ns, program, name, config, options)
        host.lab.processes.append(self)

    def start(self):
        if self.argv[0] != "nsenter":
            self.argv = self.host.prefix + self.argv
        return super().start()


class Client(Owner):
    def __init__(self, host, name, **keys):
        super().__init__(host, "vpn-client", name, {"vpn": {"Server": "vpn", **keys}}, ["--json"])

    def interface(self):
        """Of the newest `up` line that is not followed by another one."""
        return self.wait_log(r'"state": ?"up", ?"interface": ?"([^"]+)"', 20).group(1)


@pytest.fixture(scope="module")
def vpn(network):
    network.host = Host(network, "sub")
    network.start_overlay()
    network.daemon("gw1", "vpn-server", {"vpn": {"VPNSubnet": "10.200.0.0/24", "DNS": DNS}})
    return network


def test_servers_come_and_go(vpn):
    host = vpn.host
    assert host.links() == {}
    client = Client(host, "client-clean")
    interface = client.interface()
    wait(lambda: host.links() == {interface: (DNS, "~.")}, 5, "resolved knows the server")
    # The file is resolved's, and stays so.
    assert host.run("readlink", "/etc/resolv.conf").strip() == LINK
    assert not os.path.exists(os.path.join(client.state_dir, "vpn-client.resolv"))
    # A name is asked of it, through the tunnel.
    with vpn["gw1"].socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((DNS, 53))
        server.settimeout(5)
        asking = vpn.run("sub", "query", *host.prefix, "resolvectl", "query", "name.example")
        question, where = server.recvfrom(512)
        assert b"\4name\7example\0" in question and where[0].startswith("10.200.0.")
        asking.kill()
    status, _ = client.stop()
    assert status == 0
    assert host.links() == {}
    assert "resolvectl" not in client.log()


def test_killed(vpn):
    """The interface goes with the process, and what resolved knew of it."""
    client = Client(vpn.host, "client-killed")
    interface = client.interface()
    wait(lambda: vpn.host.links() == {interface: (DNS, "~.")}, 5, "resolved knows the server")
    client.kill()
    wait(lambda: vpn.host.links() == {}, 5, "resolved has forgotten it")
    client.start()
    wait(lambda: vpn.host.links().values() and
         list(vpn.host.links().values()) == [(DNS, "~.")], 20, "and knows it again")
    client.stop()


def test_names_left_alone(vpn):
    client = Client(vpn.host, "client-plain", UseDNS="no")
    client.interface()
    assert vpn.host.links() == {}
    client.stop()


@pytest.fixture(scope="module")
def moving(request):
    """Two gateways that name a server each, both in the Internet."""
    lab = MeshLab()
    try:
        lab.host = Host(lab, "sub")
        lab.start_internet()
        lab.start_overlay()
        for gw in GATEWAYS:
            lab["inet"].ip("addr", "add", f"{SERVERS[gw]}/32", "dev", "lo")
            lab.start_gateway(gw, DNS=SERVERS[gw])
        section = {"DirectNetworks": "10.77.0.0/16", "ScanInterval": 1, "AutoConnect": "no"}
        lab.sub = Owner(lab.host, "subscriberd", "subscriberd", {"subscriber": section})
        wait(lambda: len(lab.subscriber("listGateways")["gateways"]) == 2
             and all(g["rank"] for g in lab.subscriber("listGateways")["gateways"]), 20, "both are known")
        yield lab
    finally:
        finish(lab, request)


def sessions(lab):
    return {s["gateway"]: s["interface"] for s in lab.subscriber("listSessions")["sessions"]
            if s["state"] in ("online", "standby")}


def names_by(lab, gateway):
    """resolved asks the server that this gateway names, through it, and no other."""
    link = sessions(lab)[gateway]
    wait(lambda: lab.host.links() == {link: (SERVERS[gateway], "~.")}, 5, f"the server of {gateway}")
    name = f"n{time.monotonic_ns()}"
    with ExitStack() as stack:
        socks = {gw: stack.enter_context(lab["inet"].socket(socket.AF_INET, socket.SOCK_DGRAM)) for gw in GATEWAYS}
        for gw, sock in socks.items():
            sock.bind((SERVERS[gw], 53))
            sock.settimeout(10)
        asking = lab.run("sub", f"query-{name}", *lab.host.prefix, "resolvectl", "query", f"{name}.example")
        try:
            question, where = socks[gateway].recvfrom(512)
        finally:
            asking.kill()
        assert name.encode() in question
        assert where[0] == f"192.0.2.{GATEWAYS.index(gateway) * 4 + 6}", "by the gateway's uplink"
        other, = set(GATEWAYS) - {gateway}
        socks[other].setblocking(False)
        with pytest.raises(BlockingIOError):
            socks[other].recvfrom(512)


def test_a_move_takes_the_names_along(moving):
    """The former gateway stays as the standby, with its interface, and is asked no names any more."""
    lab = moving
    assert lab.host.links() == {}
    for gateway in ("gw1", "gw2", "gw1"):
        lab.meshctl("sub", "connect-gateway", gateway)
        names_by(lab, gateway)
        assert lab.host.run("readlink", "/etc/resolv.conf").strip() == LINK
    lab.subscriber("connect")  # the best, with a standby
    wait(lambda: len(sessions(lab)) == 2, 15, "there is a standby")
    used = lab.subscriber("status")["session"]["gateway"]
    names_by(lab, used)
    other, = set(GATEWAYS) - {used}
    lab.meshctl("sub", "connect-gateway", other)
    assert len(sessions(lab)) == 2, "the former one is still there"
    names_by(lab, other)


def test_moved_and_killed(moving):
    lab = moving
    used = lab.subscriber("status")["session"]["gateway"]
    lab.sub.kill()
    wait(lambda: lab.host.links() == {}, 5, "resolved has forgotten all of it")
    lab.sub.start()
    wait(lambda: all(g["rank"] for g in lab.subscriber("listGateways")["gateways"]), 20, "both are known")
    lab.meshctl("sub", "connect-gateway", used)
    names_by(lab, used)
    lab.meshctl("sub", "disconnect")
    wait(lambda: lab.host.links() == {}, 5, "as before")
    lab.meshctl("sub", "connect-gateway", used)
    names_by(lab, used)
    assert lab.sub.stop()[0] == 0
    assert lab.host.links() == {}
    assert lab.host.run("readlink", "/etc/resolv.conf").strip() == LINK


def test_resolved_is_away(vpn):
    """Said, and the tunnel goes on."""
    vpn.host.daemon.stop()
    client = Client(vpn.host, "client-alone")
    client.interface()
    client.wait_log("resolvectl: exit 1; names may be resolved as before", 10)
    assert client.alive()
    client.stop()
