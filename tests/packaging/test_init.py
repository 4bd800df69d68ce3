"""Init scripts and units of an installed Meshnet, in a Debian root of its own: the scripts drive the
real daemons in a network namespace; the units are looked at by systemd's own tools, and booted."""
import os
import re
import shutil
import signal
import subprocess
import time
import zlib

import pytest

from base import BUILD, FOLDER, TOP, Root, Unavailable

PACKAGES = """systemd-sysv libevent-2.1-7 libevent-core-2.1-7 libevent-extra-2.1-7 libevent-pthreads-2.1-7 libjson-c5
    libsodium23 libsqlite3-0 libinih1 libmnl0 libnftables1 libssl3 libedit2""".split()
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


def poll(what, seconds=10):
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return value


def install_packages(r):
    """Kept for the next run, as the base is."""
    kept = os.path.join(FOLDER, f"init-{zlib.crc32(' '.join(PACKAGES).encode()):08x}.tar")
    if os.path.exists(kept):
        subprocess.run(["tar", "-C", r.path, "--numeric-owner", "-xf", kept], check=True)
        os.chmod(r.path, 0o755)
        return
    r.run("apt-get", "-qq", "update")
    r.run("apt-get", "-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-unsafe-io",
          "install", *PACKAGES)
    r.run("apt-get", "clean")
    subprocess.run(["tar", "-C", r.path, "--numeric-owner", "-cf", kept + ".new", "--exclude=./var/lib/apt/lists/*",
                    "."], check=True)
    os.rename(kept + ".new", kept)


@pytest.fixture(scope="module")
def root():
    try:
        with Root("init") as r:
            install_packages(r)
            env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
            subprocess.run(["make", "-s", "install", f"DESTDIR={r.path}", "PREFIX=/usr"], cwd=TOP, env=env,
                           check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            r.run("systemd-sysusers")
            with open(r.file("etc/meshnet.cfg"), "w", encoding="utf-8") as f:
                f.write(CONFIG)
            yield r
    except Unavailable as e:
        pytest.skip(str(e))


class Machine:
    """The root with a network, a process tree, a /dev and a /run of its own, and a syslog."""

    MOUNTS = """set -e
        mount --make-rprivate /
        mount --bind "$0" "$0"
        mount -t tmpfs -o mode=755 dev "$0/dev"
        mkdir -p "$0/dev/net" "$0/dev/shm" "$0/dev/pts"
        for d in null zero full random urandom tty net/tun; do
            : >"$0/dev/$d"; mount --bind "/dev/$d" "$0/dev/$d"
        done
        ln -s /proc/self/fd "$0/dev/fd"
        ln -s pts/ptmx "$0/dev/ptmx"
        mount -t devpts -o newinstance,ptmxmode=0666 devpts "$0/dev/pts"
        mount -t tmpfs -o mode=755 run "$0/run"
        mount -t proc proc "$0/proc"
        ip link set lo up
        """
    SCRIPT = MOUNTS + """
        exec chroot "$0" /busybox sh -c '/busybox syslogd -O /run/messages; while :; do sleep 3600; done'
        """
    NAMESPACES = ("--mount", "--pid", "--net")

    def __init__(self, root, cgroup=None):
        self.root = root
        self.process = subprocess.Popen(
            ["sh", "-c", '[ -z "$0" ] || echo $$ >"$0/cgroup.procs"; exec "$@"', cgroup or "", "unshare",
             *self.NAMESPACES, "--fork", "--kill-child", "sh", "-c", self.SCRIPT, root.path],
            stdin=subprocess.DEVNULL)
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"

        def first():
            with open(children, encoding="ascii") as f:
                return f.read().split()
        try:
            self.pid = poll(first)[0]
            poll(self.is_up, 60)
        except AssertionError:
            self.close()
            raise

    def is_up(self):
        return os.path.exists(f"/proc/{self.pid}/root/dev/log")

    def close(self):
        self.process.kill()
        self.process.wait()

    def run(self, *argv):
        return subprocess.run(["nsenter", "-t", self.pid, *self.NAMESPACES, f"--root=/proc/{self.pid}/root",
                               "--wd=/", *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, text=True, timeout=60, check=False,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})

    def init(self, daemon, action, expected=0, shell=()):
        done = self.run(*shell, f"/etc/init.d/meshnet-{daemon}", action)
        assert done.returncode == expected, f"{daemon} {action}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def file(self, path):
        return f"/proc/{self.pid}/root{path}"

    def daemon_pid(self, daemon):
        with open(self.file(f"/run/meshnet-{daemon}.pid"), encoding="ascii") as f:
            return f.read().strip()

    def status(self, daemon):
        """Of /proc: the fields of the running daemon."""
        text = self.run("cat", f"/proc/{self.daemon_pid(daemon)}/status").stdout
        return dict(line.split(":\t", 1) for line in text.splitlines())

    def kill(self, daemon, number):
        assert self.run("/busybox", "kill", f"-{int(number)}", self.daemon_pid(daemon)).returncode == 0

    def log(self):
        with open(self.file("/run/messages"), encoding="utf-8", errors="replace") as f:
            return f.read()


@pytest.fixture(scope="module")
def machine(root):
    shutil.copy("/bin/busybox", root.file("busybox"))
    m = Machine(root)
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
    poll(lambda: "connected" in machine.run("meshctl", "list-nodes").stdout)
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


EXPOSURE = {"apptracker": 2.0, "nodemanager": 2.0, "node": 2.0, "socks-server": 2.0, "socks-client": 2.0,
            "gatewayd": 3.3, "subscriberd": 3.3, "vpn-server": 3.1, "vpn-client": 3.1}


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


class Booted(Machine):
    """The root with systemd as its process 1, as in a container: its own control groups too."""

    SCRIPT = Machine.MOUNTS + """
        mount -t sysfs sysfs "$0/sys"
        mount -t cgroup2 cgroup2 "$0/sys/fs/cgroup"
        hostname meshtest
        cd "$0"
        mkdir -p old
        pivot_root . old
        umount -l /old
        exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /sbin/init --log-target=journal
        """
    NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")

    def __init__(self, root):
        mounts = [line.split() for line in open("/proc/mounts", encoding="utf-8")]
        tops = [m[1] for m in mounts if m[2] == "cgroup2"]
        if not tops:
            pytest.skip("systemd as process 1 wants cgroup2, which is not mounted here")
        self.cgroup = f"{tops[0]}/meshnet-init-{os.getpid()}"
        try:
            os.mkdir(self.cgroup)
        except OSError as e:
            pytest.skip(f"no control group can be made in {tops[0]}: {e.strerror}")
        super().__init__(root, self.cgroup)

    def is_up(self):
        return self.systemctl("is-system-running", check=False) in ("running", "degraded")

    def systemctl(self, *argv, check=True):
        done = self.run("systemctl", "--no-pager", *argv)
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}"
        return done.stdout.strip()

    def show(self, daemon, name):
        return self.systemctl("show", "--value", "-p", name, f"meshnet-{daemon}")

    def close(self):
        super().close()
        for folder, _, _ in os.walk(self.cgroup, topdown=False):
            def gone(path=folder):
                try:
                    os.rmdir(path)
                except OSError:
                    return False
                return True
            poll(gone)

    def journal(self, daemon):
        return self.run("journalctl", "-b", "--no-pager", "-o", "cat", "-u", f"meshnet-{daemon}").stdout


@pytest.fixture
def booted(root):
    """A function: boots it, after it has ended the one before."""
    running = []

    def boot():
        while running:
            running.pop().close()
        running.append(Booted(root))
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
        f.write("[Service]\nWatchdogSec=3\n")  # more than others may keep the CPUs from it
    root.run("systemctl", "enable", *(f"meshnet-{d}" for d in DAEMONS))
    ids = []
    for _ in range(2):
        m = booted()
        for d in DAEMONS:
            poll(lambda d=d: m.show(d, "ActiveState") == "active", 20)
        poll(lambda: "connected" in m.run("meshctl", "list-nodes").stdout)
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
    poll(lambda: "connected" in m.run("meshctl", "list-nodes").stdout)
    m.systemctl("stop", *(f"meshnet-{d}" for d in DAEMONS))
    assert {m.show(d, "Result") for d in DAEMONS} == {"success"}
