"""Init scripts of an installed Meshnet, in a Debian root of its own: they drive the real daemons in a network
namespace."""
import os
import shutil
import signal
import subprocess

import pytest

from base import BUILD, TOP, Unavailable
from machine import DAEMONS, UNPRIVILEGED, InstalledRoot, Machine, poll

CONFIG = """[general]
LogLevel = info
[gateway]
Node =
UplinkTargets = 127.0.0.1:9
Methods = vxlan
[subscriber]
Node =
"""


@pytest.fixture(scope="module")
def root():
    try:
        with InstalledRoot("init", CONFIG) as r:
            yield r
    except Unavailable as e:
        pytest.skip(str(e))


class Scripted(Machine):
    """Driven by the LSB scripts, with a /run of its own and a syslog."""

    SCRIPT = Machine.MOUNTS + """
        mount -t tmpfs -o mode=755 run "$0/run"
        exec chroot "$0" /busybox sh -c '/busybox syslogd -O /run/messages; while :; do sleep 3600; done'
        """

    def is_up(self):
        return os.path.exists(self.file("/dev/log"))

    def init(self, daemon, action, expected=0, shell=()):
        done = self.run(*shell, f"/etc/init.d/meshnet-{daemon}", action, check=False)
        assert done.returncode == expected, f"{daemon} {action}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def daemon_pid(self, daemon):
        with open(self.file(f"/run/meshnet-{daemon}.pid"), encoding="ascii") as f:
            return f.read().strip()

    def status(self, daemon):
        """Of /proc: the fields of the running daemon."""
        text = self.run("cat", f"/proc/{self.daemon_pid(daemon)}/status").stdout
        return dict(line.split(":\t", 1) for line in text.splitlines())

    def kill(self, daemon, number):
        pid = self.daemon_pid(daemon)
        self.run("/busybox", "kill", f"-{int(number)}", pid)
        if number == signal.SIGKILL:
            poll(lambda: not self._read(self.file(f"/proc/{pid}/cmdline")))  # a zombie at most

    def log(self):
        with open(self.file("/run/messages"), encoding="utf-8", errors="replace") as f:
            return f.read()


@pytest.fixture(scope="module")
def machine(root):
    shutil.copy("/bin/busybox", root.file("busybox"))
    m = Scripted(root)
    yield m
    m.close()


def test_lsb_start_and_stop(machine):
    for d in DAEMONS:
        machine.init(d, "status", 3)
        assert "started" in machine.init(d, "start")
        first = machine.daemon_pid(d)
        assert "runs already" in machine.init(d, "start")  # and nothing has changed
        assert machine.daemon_pid(d) == first
        assert first in machine.init(d, "status")
    poll(lambda: "connected" in machine.run("meshctl", "list-nodes", check=False).stdout)
    for d in DAEMONS:
        assert "stopped" in machine.init(d, "stop")
        machine.init(d, "status", 3)
        machine.init(d, "stop")  # it is stopped
        for action in ("reload", "force-reload"):
            machine.init(d, action, 7)
        machine.init(d, "try-restart")
        machine.init(d, "status", 3)


def test_lsb_users_and_capabilities(machine):
    """Who they are, and what the kernel would let them do: CapBnd has what an exec could bring."""
    user = machine.run("id", "-u", "meshnet").stdout.strip()
    for d in DAEMONS:
        machine.init(d, "start")
        fields = machine.status(d)
        uids = set(fields["Uid"].split())
        caps = {int(fields[f], 16) for f in ("CapPrm", "CapEff", "CapInh", "CapBnd")}
        assert fields["NoNewPrivs"] == "1" and int(fields["CapAmb"], 16) == 0, fields
        assert len(caps) == 1, fields
        if d in UNPRIVILEGED:
            assert uids == {user} and set(fields["Gid"].split()) != {"0"}, fields
        else:
            assert uids == {"0"}, fields
        net_bind, net_admin, net_raw = 1 << 10, 1 << 12, 1 << 13
        allowed = {"node": {net_admin, net_raw}, "nodemanager": {0}, "apptracker": {0}}
        assert caps <= allowed.get(d, {net_bind | net_admin | net_raw}), (d, fields)
    listing = machine.run("stat", "-c", "%n %U:%G %a", "/var/lib/meshnet", "/var/lib/meshnet/node.key",
                          "/var/lib/meshnet/gatewayd.key").stdout.split("\n")
    assert listing[:3] == ["/var/lib/meshnet root:meshnet 1770", "/var/lib/meshnet/node.key meshnet:meshnet 600",
                           "/var/lib/meshnet/gatewayd.key root:root 600"]
    for d in DAEMONS:
        machine.init(d, "stop")


def test_files_of_root_are_given_to_the_user(machine):
    """As they are after an upgrade from one that ran as root."""
    machine.init("node", "start")
    machine.init("node", "stop")
    machine.run("chown", "root:root", "/var/lib/meshnet/node.key", "/var/lib/meshnet/node.lock")
    machine.init("node", "start")
    owner = machine.run("stat", "-c", "%U", "/var/lib/meshnet/node.key").stdout
    machine.init("node", "stop")
    assert owner == "meshnet\n"


def test_lsb_reload_and_restart(machine):
    machine.init("nodemanager", "start")
    pid = machine.daemon_pid("nodemanager")
    config = machine.file("/etc/meshnet.cfg")
    with open(config, "a", encoding="utf-8") as f:
        f.write("[nodemanager]\nStandbyPaths = 2\n")
    machine.init("nodemanager", "reload")
    poll(lambda: "configuration reloaded, 1 keys changed" in machine.log())
    assert machine.daemon_pid("nodemanager") == pid
    with open(config, "a", encoding="utf-8") as f:
        f.write("StandbyPaths = 99\n")
    for action in ("reload", "force-reload", "restart", "try-restart"):
        assert "StandbyPaths" in machine.init("nodemanager", action, 6)
    assert pid in machine.init("nodemanager", "status")  # what is wrong has stopped nothing
    machine.init("node", "start", 6)
    with open(config, "w", encoding="utf-8") as f:
        f.write(CONFIG)
    machine.init("nodemanager", "restart")
    second = machine.daemon_pid("nodemanager")
    assert second != pid
    machine.init("nodemanager", "try-restart")
    assert machine.daemon_pid("nodemanager") != second
    machine.init("nodemanager", "stop")
    machine.init("nodemanager", "restart")  # starts it
    machine.init("nodemanager", "stop")


def test_lsb_dead_daemons_and_stale_pid_files(machine):
    machine.init("apptracker", "start")
    machine.kill("apptracker", signal.SIGKILL)
    machine.init("apptracker", "status", 1)
    machine.init("apptracker", "start")
    machine.init("apptracker", "status")
    machine.init("apptracker", "stop")
    # A number that somebody else has now.
    with open(machine.file("/run/meshnet-apptracker.pid"), "w", encoding="ascii") as f:
        f.write("1\n")
    machine.init("apptracker", "status", 1)
    machine.init("apptracker", "stop")
    assert machine.run("true").returncode == 0  # process 1 lives
    machine.init("apptracker", "status", 3)
    # One that does not end is killed.
    with open(machine.file("/etc/default/meshnet-apptracker"), "w", encoding="ascii") as f:
        f.write('STOP_SECONDS=1\nDAEMON_ARGS="-o apptracker.ListenAddr=127.0.0.1:5997"\n')
    machine.init("apptracker", "start")
    assert f":{5997:04X} " in machine.run("cat", "/proc/net/tcp").stdout  # DAEMON_ARGS
    machine.kill("apptracker", signal.SIGSTOP)
    assert "killed" in machine.init("apptracker", "stop")
    machine.init("apptracker", "status", 3)
    os.unlink(machine.file("/etc/default/meshnet-apptracker"))


def test_lsb_stop_takes_back_what_a_killed_gateway_left(machine):
    machine.init("gatewayd", "start")

    def tables():
        return [line for line in subprocess.run(
            ["nsenter", "-t", machine.pid, "--net", "nft", "list", "tables"], stdout=subprocess.PIPE,
            text=True, check=True).stdout.splitlines() if line]
    before = tables()
    machine.kill("gatewayd", signal.SIGKILL)
    assert before and tables() == before
    machine.init("gatewayd", "stop")
    assert tables() == []


def test_lsb_other_exit_codes(machine):
    assert "usage" in machine.init("node", "dance", 2)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    machine.init("node", "start", 4, nobody)
    machine.init("node", "status", 3, nobody)
    program = machine.file("/usr/bin/meshnet-node")
    os.rename(program, program + ".away")
    try:
        machine.init("node", "start", 5)
        machine.init("node", "stop")
    finally:
        os.rename(program + ".away", program)
    # It ends before it is ready: why is said, and no pid file is left.
    machine.init("apptracker", "start")
    with open(machine.file("/etc/default/meshnet-nodemanager"), "w", encoding="ascii") as f:
        f.write('DAEMON_ARGS="-o nodemanager.ListenAddr=127.0.0.1:5998"\n')
    assert "in use" in machine.init("nodemanager", "start", 1)
    machine.init("nodemanager", "status", 3)
    os.unlink(machine.file("/etc/default/meshnet-nodemanager"))
    machine.init("apptracker", "stop")


def test_lsb_by_busybox(machine):
    ash = ("/busybox", "sh")
    machine.init("node", "start", 0, ash)
    machine.init("node", "status", 0, ash)
    machine.init("node", "restart", 0, ash)
    machine.init("node", "stop", 0, ash)
    machine.init("node", "status", 3, ash)


def test_scripts_are_shellcheck_clean():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    subprocess.run(["make", "-s", "init-files"], cwd=TOP, check=True)
    scripts = [os.path.join(BUILD, "init", f"meshnet-{d}") for d in DAEMONS]
    done = subprocess.run(["shellcheck", *scripts], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
