"""systemd units of an installed Meshnet, in a Debian root of its own: looked at by systemd's own tools, and
booted; and what gatewayd and subscriberd start under theirs, in two of them with a network between."""
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from base import Unavailable
from machine import DAEMONS, UNPRIVILEGED, Booted, BootedLayer, InstalledRoot, Machine, poll

CONFIG = """[general]
LogLevel = info
[gateway]
Node =
UplinkTargets = 127.0.0.1:9
Methods = vxlan
[subscriber]
Node =
[vpn]
VPNSubnet = 10.200.0.0/24
"""
EXPOSURE = {"apptracker": 2.0, "nodemanager": 2.0, "node": 2.0, "socks-server": 2.0, "socks-client": 2.0,
            "gatewayd": 3.3, "subscriberd": 3.3, "vpn-server": 3.1, "vpn-client": 3.1}


@pytest.fixture(scope="module")
def root():
    try:
        with InstalledRoot("units", CONFIG) as r:
            yield r
    except Unavailable as e:
        pytest.skip(str(e))


def test_units_are_valid_and_tight(root):
    folder = "/usr/lib/systemd/system"
    units = sorted(u for u in os.listdir(root.file(folder)) if u.startswith("meshnet-"))
    assert units == sorted(f"meshnet-{name}.service" for name in EXPOSURE)
    done = root.run("systemd-analyze", "--man=no", "verify", *(f"{folder}/{u}" for u in units), check=False)
    assert done.returncode == 0 and "meshnet" not in done.stdout, done.stdout
    for name, most in EXPOSURE.items():
        out = root.run("systemd-analyze", "security", "--offline=yes", "--no-pager",
                       f"{folder}/meshnet-{name}.service").stdout
        level = float(re.search(r"Overall exposure level for \S+: (\d+\.\d)", out).group(1))
        assert level < most, f"{name}: {level}"


@pytest.fixture
def booted(root):
    """A function: boots it, after it has ended the one before."""
    running = []

    def boot():
        while running:
            running.pop().close()
        try:
            running.append(Booted(root))
        except Unavailable as e:
            pytest.skip(str(e))
        return running[-1]
    yield boot
    while running:
        running.pop().close()


def is_another(m, daemon, before):
    """It is there, as another process.  One question: what is asked later may be of a later state."""
    pid, state = m.show(daemon, "MainPID,ActiveState").split()
    return state == "active" and pid not in ("0", before)


def test_boot(root, booted):
    """Twice with all of them enabled; what is killed, or hangs, comes back."""
    shutil.rmtree(root.file("var/lib/meshnet"), ignore_errors=True)
    for d in ("apptracker", "vpn-server"):
        drop_in = root.file(f"etc/systemd/system/meshnet-{d}.service.d")
        os.makedirs(drop_in)
        with open(f"{drop_in}/watchdog.conf", "w", encoding="ascii") as f:
            f.write("[Service]\nWatchdogSec=3\n")  # more than others may keep the CPUs from it
    root.run("systemctl", "enable", *(f"meshnet-{d}" for d in DAEMONS))
    ids = []
    for _ in range(2):
        m = booted()
        for d in DAEMONS:
            poll(lambda d=d: m.show(d, "ActiveState") == "active", 20)
        poll(lambda: "connected" in m.run("meshctl", "list-nodes", check=False).stdout)
        ids.append(m.run("meshctl", "--json", "list-nodes").stdout)
    ids = [re.search(r"[0-9a-f]{64}", text).group(0) for text in ids]
    assert ids[0] == ids[1]
    status = {d: dict(line.split(":\t", 1) for line in
                      m.run("cat", f"/proc/{m.show(d, 'MainPID')}/status").stdout.splitlines())
              for d in DAEMONS}
    assert int(status["node"]["CapEff"], 16) == 1 << 13  # CAP_NET_RAW
    assert {int(status[d]["CapBnd"], 16) for d in ("nodemanager", "apptracker")} == {0}
    assert {s["NoNewPrivs"] + s["Seccomp"] for s in status.values()} == {"12"}
    for d in UNPRIVILEGED:
        assert "0" not in status[d]["Uid"].split()
    # The units are the same in this; those two have a filter of their own besides.
    filters = {d: int(status[d]["Seccomp_filters"]) for d in UNPRIVILEGED}
    assert filters["node"] == filters["apptracker"] == filters["nodemanager"] + 1
    m.systemctl("reload", "meshnet-nodemanager")
    assert "configuration reloaded" in m.journal("nodemanager")
    m.systemctl("start", "meshnet-vpn-server")
    started = time.monotonic()
    before = {d: m.show(d, "MainPID") for d in DAEMONS + ("vpn-server",)}
    for d in DAEMONS:
        m.systemctl("kill", "-s", "STOP" if d == "apptracker" else "KILL", f"meshnet-{d}")
    for d in DAEMONS:
        poll(lambda d=d: is_another(m, d, before[d]), 20)
    poll(lambda: "connected" in m.run("meshctl", "list-nodes", check=False).stdout)
    time.sleep(max(0, started + 2.5 - time.monotonic()))  # mostly over by now
    assert m.show("vpn-server", "MainPID") == before["vpn-server"]  # it has told the watchdog that it lives
    m.systemctl("stop", "meshnet-vpn-server", *(f"meshnet-{d}" for d in DAEMONS))
    assert {m.show(d, "Result") for d in DAEMONS} == {"success"}, m.journal("apptracker")


# --- the programs of the methods ----------------------------------------------------------------

HELPERS = {"wireguard": "wireguard-go", "fastd": "fastd", "openvpn": "openvpn", "softether": "vpn",
           "vxlan": None, "socks": None}
GATEWAY, FAR = "10.77.0.1", "198.51.100.80"
HELPERS_CONFIG = f"""[general]
LogLevel = debug
[node]
ManagerAddr = {GATEWAY}:5999
Connect = yes
[gateway]
Name = gw
DNS = 192.0.2.1
Methods = mesh, {", ".join(HELPERS)}
OnRegister = /bin/sh -c "echo leased $2"
[subscriber]
AutoConnect = no
ProbeInterval = 200
Methods = mesh, {", ".join(HELPERS)}
OnConnect = /bin/sh -c "echo connected"
[vpn]
VPNSubnet = 10.200.0.0/24
Server = vpn
"""


class Net:
    """inet - gw - sub: the last two booted, with one daemon each."""

    def __init__(self, root):
        self.machines = []
        try:
            self.inet = self._add(Machine(root))
            self.gw = self._add(BootedLayer(root))
            self.sub = self._add(BootedLayer(root))
            self._link(self.inet, "192.0.2.1/24", self.gw, "192.0.2.2/24")
            self._link(self.gw, f"{GATEWAY}/24", self.sub, "10.77.0.2/24")
            self.ip(self.inet, "addr", "add", f"{FAR}/32", "dev", "lo")
            self.ip(self.gw, "route", "add", "default", "via", "192.0.2.1")
            self.links = self.interfaces()
        except BaseException:
            self.close()
            raise

    def _add(self, machine):
        self.machines.append(machine)
        return machine

    @staticmethod
    def ip(machine, *argv):
        return subprocess.run(["nsenter", "-t", machine.pid, "--net", "ip", *argv], check=True, text=True,
                              stdout=subprocess.PIPE).stdout

    def _link(self, a, address_a, b, address_b):
        name = f"eth{len(self.ip(a, '-o', 'link').splitlines())}"
        subprocess.run(["ip", "link", "add", name, "netns", a.pid, "type", "veth", "peer", "name", name, "netns",
                        b.pid], check=True)
        for machine, address in ((a, address_a), (b, address_b)):
            self.ip(machine, "addr", "add", address, "dev", name)
            self.ip(machine, "link", "set", name, "up")

    def interfaces(self):
        return [sorted(line["ifname"] for line in json.loads(self.ip(m, "-j", "link"))) for m in (self.gw, self.sub)]

    def restart(self):
        for m, daemon in ((self.gw, "gatewayd"), (self.sub, "subscriberd")):
            m.systemctl("daemon-reload")
            m.systemctl("restart", f"meshnet-{daemon}")
        poll(lambda: self.info()["uplink"]["online"])

    def info(self):
        return json.loads(self.gw.run("meshctl", "rpc", "gatewayd", "nodeInfo").stdout)

    def connect(self, method, gateway=GATEWAY):
        done = self.sub.run("meshctl", "--timeout", "15", "connect-gateway", gateway, "-m", method, check=False)
        assert "done: yes" in done.stdout, done.stdout + self.gw.journal("gatewayd") + self.sub.journal("subscriberd")
        session = json.loads(self.sub.run("meshctl", "rpc", "subscriberd", "status").stdout)["session"]
        assert session["method"] == method and session["state"] == "online"
        return session

    def reaches(self, host):
        return self.sub.run("ping", "-n", "-c", "1", "-W", "1", host, check=False).returncode == 0

    def disconnect(self):
        self.sub.run("meshctl", "disconnect")
        poll(lambda: len(self.helpers(self.sub, "subscriberd")) == 0)

    @staticmethod
    def helpers(machine, daemon):
        """Of the unit's control group: what the daemon started; and what they may do."""
        found = {}
        for pid, words in machine.group(daemon).items():
            if not words[0].startswith("/usr/bin/meshnet-"):
                with open(f"/proc/{pid}/status", encoding="ascii") as f:
                    found[" ".join(words)] = dict(line.split(":\t", 1) for line in f.read().splitlines())
        return found

    def close(self):
        while self.machines:
            self.machines.pop().close()


@pytest.fixture(scope="module", name="net")
def booted_net(root):
    shutil.rmtree(root.file("var/lib/meshnet"), ignore_errors=True)
    root.run("systemctl", "disable", *(f"meshnet-{d}" for d in DAEMONS))
    with open(root.file("etc/meshnet.cfg"), "w", encoding="utf-8") as f:
        f.write(HELPERS_CONFIG)
    try:
        n = Net(root)
    except Unavailable as e:
        pytest.skip(str(e))
    n.restart()
    yield n
    n.close()


def drop_in_of(root, daemon):
    """What the unit's comment says that softether takes."""
    with open(root.file(f"/usr/lib/systemd/system/meshnet-{daemon}.service"), encoding="ascii") as f:
        lines = re.findall(r"^#   (\S.*)$", f.read(), re.M)
    assert lines[0] == "[Service]" and len(lines) > 3
    return "\n".join(lines) + "\n"


def test_methods_under_the_units(net):
    """All work whose programs the units let start, and the one that wants more is named."""
    info = net.info()
    assert {m["name"] for m in info["methods"] if m["ready"]} == set(HELPERS) - {"softether"}
    why = {m["name"]: m["reason"] for m in info["unavailable"]}
    assert list(why) == ["softether"] and "mount namespace" in why["softether"]
    for method, program in HELPERS.items():
        if method == "softether":
            continue
        session = net.connect(method)
        # Through a SOCKS5 server go TCP and UDP; what it answers to ICMP is the gateway's address.
        poll(lambda s=session: net.reaches(s["ipv4gateway"] if s["method"] == "socks" else FAR))
        for m, daemon in ((net.gw, "gatewayd"), (net.sub, "subscriberd")):
            found = {words: s for words, s in net.helpers(m, daemon).items() if program and program in words}
            assert bool(program) == bool(found), (method, net.helpers(m, daemon))
            for s in found.values():
                assert not int(s["CapEff"], 16) & ~(1 << 10 | 1 << 12 | 1 << 13)  # what the network takes
                assert s["NoNewPrivs"] + s["Seccomp"] == "12"
        net.disconnect()
    assert set(re.findall(r": leased (\w+)$", net.gw.journal("gatewayd"), re.M)) == set(HELPERS) - {"softether"}
    assert "connected" in net.sub.journal("subscriberd")
    for m, daemon in ((net.gw, "gatewayd"), (net.sub, "subscriberd")):
        assert "notification message" not in m.journal(daemon)  # they do not speak for the daemon


def test_mesh_and_apps_under_the_units(net):
    for m, name, units in ((net.gw, "gw", ("apptracker", "nodemanager", "node", "vpn-server", "socks-server")),
                           (net.sub, "sub", ("node", "vpn-client", "socks-client"))):
        with open(m.file("/etc/default/meshnet-node"), "w", encoding="ascii") as f:
            f.write(f'DAEMON_ARGS="-o node.Name={name}"\n')
        m.systemctl("start", *(f"meshnet-{u}" for u in units))
    poll(lambda: len(re.findall(" connected ", net.gw.run("meshctl", "list-nodes", check=False).stdout)) == 2)
    # A node of the manager's own, in its unit: it has its filter of system calls there too.
    assert "state: connected" in net.gw.run("meshctl", "add-node", "third", "connect").stdout
    filters = {}
    for pid, words in net.gw.group("nodemanager").items():
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            filters[words[0]] = int(re.search(r"^Seccomp_filters:\t(\d+)", f.read(), re.M).group(1))
    assert filters["/usr/bin/meshnet-node"] == filters["/usr/bin/meshnet-nodemanager"] + 1

    def name_servers():
        with open(net.sub.file("/etc/resolv.conf"), encoding="utf-8") as f:
            return f.read()
    before = name_servers()
    poll(lambda: "gw " in net.sub.run("meshctl", "gateways").stdout)
    net.connect("mesh", "gw")
    poll(lambda: net.reaches(FAR))
    assert "nameserver 192.0.2.1\n" in name_servers() != before
    net.disconnect()
    poll(lambda: name_servers() == before)
    poll(lambda: net.reaches("10.200.0.1"))
    poll(lambda: "state up, server socks" in net.sub.journal("socks-client"))
    net.sub.systemctl("stop", "meshnet-vpn-client", "meshnet-socks-client")
    net.gw.systemctl("stop", "meshnet-vpn-server", "meshnet-socks-server")


def test_killed_gateway_comes_back(net):
    net.connect("wireguard")
    before, pid = set(net.gw.group("gatewayd")), net.gw.show("gatewayd", "MainPID")
    net.gw.systemctl("kill", "-s", "KILL", "--kill-who=main", "meshnet-gatewayd")
    poll(lambda: is_another(net.gw, "gatewayd", pid))
    assert not before & set(net.gw.group("gatewayd"))
    poll(lambda: net.reaches(FAR))
    net.disconnect()


def test_softether_as_its_unit_says(root, net):
    for m, daemon in ((net.gw, "gatewayd"), (net.sub, "subscriberd")):
        folder = m.file(f"/etc/systemd/system/meshnet-{daemon}.service.d")
        os.makedirs(folder)
        with open(f"{folder}/softether.conf", "w", encoding="ascii") as f:
            f.write(drop_in_of(root, daemon))
    net.restart()
    assert not net.info()["unavailable"]
    net.connect("softether")
    poll(lambda: net.reaches(FAR))
    net.disconnect()


def test_stop_leaves_nothing(net):
    for m, daemon in ((net.sub, "subscriberd"), (net.gw, "gatewayd")):
        assert m.group(daemon)
        m.systemctl("stop", f"meshnet-{daemon}")
        assert not m.group(daemon) and m.show(daemon, "Result") == "success"
    assert net.interfaces() == net.links
    for m in (net.gw, net.sub):
        assert not subprocess.run(["nsenter", "-t", m.pid, "--net", "nft", "list", "tables"], check=True,
                                  stdout=subprocess.PIPE).stdout
