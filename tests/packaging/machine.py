"""Roots that run: a process tree with a network of its own (Machine), or booted by systemd (Booted).

What they leave running, mounted or in control groups is gone after close().
"""
import contextlib
import fcntl
import itertools
import os
import subprocess
import time
import zlib

from base import ENVIRONMENT, FOLDER, SECONDS, TOP, Root, Unavailable

DAEMONS = ("apptracker", "nodemanager", "node", "gatewayd", "subscriberd")
UNPRIVILEGED = ("apptracker", "nodemanager", "node")
# Of a root that boots: what Meshnet's programs are linked with and its packages depend on, and the programs
# that its methods start.
LIBRARIES = """libevent-2.1-7 libevent-core-2.1-7 libevent-extra-2.1-7 libevent-pthreads-2.1-7 libjson-c5 libsodium23
    libsqlite3-0 libinih1 libmnl0 libnftables1 libssl3 libedit2""".split()
HELPERS = "fastd openvpn softether-vpnclient softether-vpncmd softether-vpnserver wireguard-go".split()
PACKAGES = ["systemd-sysv", "adduser", "iputils-ping", *LIBRARIES, *HELPERS]
# Theirs would begin to serve by themselves.
NOT_STARTED = "openvpn softether-vpnclient softether-vpnserver".split()


def poll(what, seconds=10):
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return value


@contextlib.contextmanager
def _locked():
    """No other process does the same."""
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, "init.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install_packages(r):
    r.run("apt-get", "-qq", "update")
    r.run("apt-get", "-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-unsafe-io",
          "install", *PACKAGES)
    r.run("apt-get", "clean")
    r.run("systemctl", "disable", *NOT_STARTED)


def booting_root_tar():
    """Made once, as the base is."""
    words = " ".join(PACKAGES + NOT_STARTED)
    tar = os.path.join(FOLDER, f"init-{zlib.crc32(words.encode()):08x}.tar")
    with _locked():
        if not os.path.exists(tar):
            with Root("init") as r:
                _install_packages(r)
                subprocess.run(["tar", "-C", r.path, "--numeric-owner", "-cf", tar + ".new",
                                "--exclude=./var/lib/apt/lists/*", "."], check=True)
            os.rename(tar + ".new", tar)
    return tar


class BootingRoot(Root):
    """One with systemd and PACKAGES."""

    def tar(self):
        return booting_root_tar()


class InstalledRoot(BootingRoot):
    """And Meshnet, by `make install`, with this configuration."""

    def __init__(self, name, config):
        super().__init__(name)
        self.config = config

    def __enter__(self):
        super().__enter__()
        try:
            self._install()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _install(self):
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
        with _locked():  # it writes in BUILD
            subprocess.run(["make", "-s", "install", f"DESTDIR={self.path}", "PREFIX=/usr"], cwd=TOP, env=env,
                           check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.run("systemd-sysusers")
        with open(self.file("etc/meshnet.cfg"), "w", encoding="utf-8") as f:
            f.write(self.config)


class Machine:
    """A Root that runs: with a network, a process tree and a /dev of its own until close().  What a command
    leaves running goes on until then."""

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
        mount -t proc proc "$0/proc"
        ip link set lo up
        """
    SCRIPT = MOUNTS + 'exec chroot "$0" sleep infinity'
    ARGUMENTS = ()
    NAMESPACES = ("--mount", "--pid", "--net")

    def __init__(self, root, cgroup=""):
        self.root = root
        self.process = subprocess.Popen(
            ["sh", "-c", '[ -z "$0" ] || echo $$ >"$0/cgroup.procs"; exec "$@"', cgroup,
             "setpriv", "--pdeathsig", "KILL", "unshare",  # it does not outlive a test that is killed
             *self.NAMESPACES, "--fork", "--kill-child", "sh", "-c", self.SCRIPT, root.path,
             *self.ARGUMENTS],
            stdin=subprocess.DEVNULL)
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        try:
            self.pid = poll(lambda: self._alive() and self._read(children).decode().split(), 20)[0]
            poll(lambda: self._alive() and self.is_up(), 60)
        except BaseException:
            self.close()
            raise

    def _alive(self):
        if self.process.poll() is not None:
            raise Unavailable("no namespaces for a machine of its own")
        return True

    def is_up(self):
        """Once it sleeps everything is mounted."""
        return b"infinity" in self._read(f"/proc/{self.pid}/cmdline")

    @staticmethod
    def _read(path):
        try:
            with open(path, "rb") as f:
                return f.read()
        except OSError:
            return b""

    def close(self):
        self.process.kill()
        self.process.wait()

    def run(self, *argv, timeout=SECONDS, check=True, env=None):
        """As Root.run, in here."""
        return subprocess.run(["nsenter", "-t", self.pid, *self.NAMESPACES, f"--root=/proc/{self.pid}/root",
                               "--wdns=/", *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, text=True, errors="replace", timeout=timeout, check=check,
                              env={**ENVIRONMENT, **(env or {})})

    def file(self, path):
        """As it sees it: its own /run and /dev too."""
        return f"/proc/{self.pid}/root{path}"

    def processes(self):
        """The command lines of all that run, but the first that keeps this alive."""
        spaces = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/ns/pid") == spaces and pid != self.pid:
                    found[int(pid)] = self._read(f"/proc/{pid}/cmdline").decode().rstrip("\0").split("\0")
            except OSError:
                pass
        return {pid: words for pid, words in found.items() if words != [""]}


class Booted(Machine):
    """The root with systemd as its process 1, as in a container: its own control groups too."""

    SCRIPT = Machine.MOUNTS + """
        mount -t tmpfs -o mode=755 run "$0/run"
        mount -t sysfs sysfs "$0/sys"
        mount -t cgroup2 cgroup2 "$0/sys/fs/cgroup"
        hostname meshtest
        cd "$0"
        mkdir -p old
        pivot_root . old
        umount -l /old
        rmdir /old
        exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /sbin/init --log-target=journal
        """
    NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")
    COUNT = itertools.count()

    def __init__(self, root):
        with open("/proc/mounts", encoding="utf-8") as f:
            mounts = [line.split() for line in f]
        tops = [m[1] for m in mounts if m[2] == "cgroup2"]
        if not tops:
            raise Unavailable("systemd as process 1 wants cgroup2, which is not mounted here")
        self.cgroup = f"{tops[0]}/meshnet-init-{os.getpid()}-{next(self.COUNT)}"
        try:
            os.mkdir(self.cgroup)
        except OSError as e:
            raise Unavailable(f"no control group can be made in {tops[0]}: {e.strerror}") from e
        super().__init__(root, self.cgroup)

    def is_up(self):
        return self.systemctl("is-system-running", check=False) in ("running", "degraded")

    def systemctl(self, *argv, check=True):
        done = self.run("systemctl", "--no-pager", *argv, check=False)
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}"
        return done.stdout.strip()

    def show(self, daemon, name):
        return self.systemctl("show", "--value", "-p", name, f"meshnet-{daemon}")

    def group(self, daemon):
        """The command lines of the processes of a unit, by their numbers out here."""
        pids = self._read(f"{self.cgroup}/system.slice/meshnet-{daemon}.service/cgroup.procs").decode().split()
        return {pid: self._read(f"/proc/{pid}/cmdline").decode().rstrip("\0").split("\0") for pid in pids}

    def journal(self, daemon):
        return self.run("journalctl", "-b", "--no-pager", "-o", "cat", "-u", f"meshnet-{daemon}").stdout

    def power_off(self):
        """As an operator does it: every unit is stopped."""
        self.run("systemctl", "poweroff", check=False)
        self.process.wait(60)

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


class BootedLayer(Booted):
    """With a layer in memory over the root, which stays as it is: several can run at once."""

    SCRIPT = """set -e
        mount -t tmpfs layer /mnt
        mkdir /mnt/upper /mnt/work /mnt/root
        mount -t overlay -o "lowerdir=$0,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
        exec sh -c "$1" /mnt/root
        """
    ARGUMENTS = (Booted.SCRIPT,)
