"""systemd units of an installed Meshnet, in a Debian root of its own: looked at by systemd's own tools, and
booted."""
import os
import re
import shutil

import pytest

from base import Unavailable
from machine import Booted, InstalledRoot, poll

DAEMONS = ("apptracker", "nodemanager", "node", "gatewayd", "subscriberd")
UNPRIVILEGED = ("apptracker", "nodemanager", "node")
CONFIG = """[general]
LogLevel = info
[gateway]
Node =
UplinkTargets = 127.0.0.1:9
Methods = vxlan
[subscriber]
Node =
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


def test_boot(root, booted):
    """Twice with all of them enabled; what is killed, or hangs, comes back."""
    shutil.rmtree(root.file("var/lib/meshnet"), ignore_errors=True)
    drop_in = root.file("etc/systemd/system/meshnet-apptracker.service.d")
    os.makedirs(drop_in)
    with open(f"{drop_in}/watchdog.conf", "w", encoding="ascii") as f:
        f.write("[Service]\nWatchdogSec=2\n")
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
    m.systemctl("reload", "meshnet-nodemanager")
    assert "configuration reloaded" in m.journal("nodemanager")
    before = {d: m.show(d, "MainPID") for d in DAEMONS}
    for d in DAEMONS:
        m.systemctl("kill", "-s", "STOP" if d == "apptracker" else "KILL", f"meshnet-{d}")
    for d in DAEMONS:
        poll(lambda d=d: m.show(d, "ActiveState") == "active" and m.show(d, "MainPID") != before[d], 20)
    poll(lambda: "connected" in m.run("meshctl", "list-nodes", check=False).stdout)
    m.systemctl("stop", *(f"meshnet-{d}" for d in DAEMONS))
    assert {m.show(d, "Result") for d in DAEMONS} == {"success"}
