"""A bare Debian 12 root, made once by debootstrap and copied for each test that needs one.

    with Root("deb") as root: root.run("apt-get", "-y", "install", "/debs/meshnet-node_0.1.0_amd64.deb")
    tar = base_tar()        # for `docker import`

What was made lies in BUILD/packaging/base-ARCH.tar and is kept for the next run.  It has the package
sources of this machine (its keys too, so that `apt-get update` answers inside as it does outside).
"""
import fcntl
import glob
import os
import shutil
import subprocess
import tempfile

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.path.join(TOP, os.environ.get("BUILD") or "build")
FOLDER = os.path.join(BUILD, "packaging")
SUITE = "bookworm"
DEFAULT_SOURCE = "http://deb.debian.org/debian"
SECONDS = 300
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


class Unavailable(Exception):
    """Why no root can be had here; tests skip with it."""


def _source_files():
    return glob.glob("/etc/apt/sources.list.d/*.sources") + glob.glob("/etc/apt/sources.list.d/*.list") + \
        [f for f in ("/etc/apt/sources.list",) if os.path.exists(f)]


def debian_source():
    """The archive that this machine takes Debian 12 from: the first with the suite `bookworm`."""
    for path in _source_files():
        with open(path, encoding="utf-8") as f:
            text = f.read()
        for stanza in text.split("\n\n"):
            fields = dict(line.split(":", 1) for line in stanza.splitlines()
                          if ":" in line and not line.startswith(("#", "deb ")))
            if SUITE in fields.get("Suites", "").split():
                return fields["URIs"].split()[0]
        for line in text.splitlines():
            words = [w for w in line.split() if not w.startswith(("[", "signed-by=", "arch="))]
            if words[:1] == ["deb"] and len(words) > 2 and words[2] == SUITE:
                return words[1]
    return DEFAULT_SOURCE


def base_tar(arch="amd64"):
    """Path of the tar of a minimal root; made when it is not there (about a minute)."""
    os.makedirs(FOLDER, exist_ok=True)
    tar = os.path.join(FOLDER, f"base-{arch}.tar")
    with open(os.path.join(FOLDER, f"base-{arch}.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(tar):
            _make(tar, arch)
    return tar


def _make(tar, arch):
    if os.geteuid() != 0:
        raise Unavailable("debootstrap needs root")
    if not shutil.which("debootstrap"):
        raise Unavailable("debootstrap is not installed")
    folder = tempfile.mkdtemp(prefix="base-", dir=FOLDER)
    try:
        done = subprocess.run(["debootstrap", "--variant=minbase", f"--arch={arch}", SUITE, folder,
                               debian_source()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", timeout=SECONDS, check=False)
        if done.returncode:
            raise Unavailable("debootstrap failed: " + done.stdout.strip().splitlines()[-1])
        subprocess.run(["tar", "-C", folder, "--numeric-owner", "-cf", tar + ".new", "."], check=True)
        os.rename(tar + ".new", tar)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Root:
    """A copy of the base in BUILD/packaging/NAME-*, with /proc and /dev; removed at the end."""

    def __init__(self, name, arch="amd64"):
        self.name, self.arch, self.path = name, arch, None

    def tar(self):
        return base_tar(self.arch)

    def __enter__(self):
        tar = self.tar()
        self.path = tempfile.mkdtemp(prefix=self.name + "-", dir=FOLDER)
        subprocess.run(["tar", "-C", self.path, "--numeric-owner", "-xf", tar], check=True)
        os.chmod(self.path, 0o755)  # it is the / of users that are not root
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path)

    def file(self, *parts):
        return os.path.join(self.path, *(p.lstrip("/") for p in parts))

    def run(self, *argv, timeout=SECONDS, check=True, env=None):
        """Runs a command inside, in a mount and a PID namespace of its own (nothing stays mounted,
        and what it left running dies); returns the CompletedProcess with output as text."""
        script = ('mount --make-rprivate / && mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" '
                  '&& exec chroot "$0" "$@"')
        return subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script,
                               self.path, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, text=True, errors="replace", timeout=timeout,
                              check=check,
                              env={**ENVIRONMENT, **(env or {})})
