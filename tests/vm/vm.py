"""A small virtual machine for tests that need another kernel than this machine's.

QEMU without KVM boots the kernel of Debian's linux-image-amd64 (the installed one, else what is
needed of it unpacked from the package into BUILD/vm: nothing is installed; the smaller cloud kernel
has no batman-adv) with an initramfs that is made here:
busybox, the kernel modules and programs that are asked for with their libraries, Python and the
tests.  Commands run inside one after the other; what they print and their status come back over
the serial console.

    image = Image(Kernel.find(), "build/vm"); image.modules("wireguard"); image.program("wg")
    for name, status, seconds, text in image.run([("hello", "echo hello")], 30, 60): ...
"""
import glob
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
QEMU = "qemu-system-x86_64"
PACKAGE = "linux-image-amd64"
# What is unpacked of it: a quarter, without the drivers of hardware that is not there.
PARTS = ("./boot/vmlinuz-*", "./lib/modules/*/modules.*", "./lib/modules/*/kernel/net/*",
         "./lib/modules/*/kernel/drivers/net/*.ko", "./lib/modules/*/kernel/lib/*",
         "./lib/modules/*/kernel/crypto/*", "./lib/modules/*/kernel/arch/x86/crypto/*")
MEMORY_MB = 1024
CPU = "Nehalem,+rdrand"  # no AVX: to emulate it costs more than it brings
# Its clock counts instructions, 2 ns each, and leaps when nothing is to do: what else keeps this
# machine busy is not noticed inside, and to wait there costs no time here.
CLOCK = "shift=1,sleep=off"
SEARCH = "/usr/sbin:/usr/bin:/sbin:/bin"
MARK = "@@meshnet"  # begins the lines of ours on the console

INIT = r"""#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /run /tmp; mount -t tmpfs run /run; mount -t tmpfs tmp /tmp
mount -t devpts pts /dev/pts
ip link set lo up
for m in $(cat /modules-at-start); do modprobe $m || echo "modprobe $m: status $?"; done
echo "@@meshnet up"
cd /m
while read -r name; do
	read -r line
	echo "@@meshnet begin $name"
	sh -c "$line" </dev/null 2>&1
	echo "@@meshnet end $name $?"
done </commands
echo "@@meshnet down"
poweroff -f
"""


class Unavailable(Exception):
    """Why no virtual machine can be had here."""


class Kernel:
    """Image and modules of one version."""

    def __init__(self, root, version):
        self.version, self.image = version, os.path.join(root, "boot", f"vmlinuz-{version}")
        self.folder = os.path.join(root, "lib", "modules", version)
        if not os.path.exists(os.path.join(self.folder, "modules.dep")):
            subprocess.run(["depmod", "-b", root, version], check=True)
        self.depends, self.paths = {}, {}
        with open(os.path.join(self.folder, "modules.dep"), encoding="ascii") as f:
            for line in f:
                path, needed = line.strip().split(":")
                self.depends[path] = needed.split()
                self.paths[self._name(path)] = path

    @staticmethod
    def _name(path):
        return os.path.basename(path).split(".")[0].replace("-", "_")

    def has(self, module):
        return module.replace("-", "_") in self.paths or self.builtin(module)

    def builtin(self, module):
        with open(os.path.join(self.folder, "modules.builtin"), encoding="ascii") as f:
            return any(self._name(line.strip()) == module.replace("-", "_") for line in f)

    def files(self, modules):
        """Paths of these modules (names, or patterns of paths) and of what they need."""
        found = set()
        for wanted in modules:
            pattern = re.compile("kernel/" + wanted) if "/" in wanted else None
            paths = ([p for p in self.depends if pattern.match(p)] if pattern else
                     [self.paths[wanted.replace("-", "_")]] if not self.builtin(wanted) else [])
            for path in paths:
                found |= {path, *self.depends[path]}
        return found

    @classmethod
    def find(cls, build):
        """The newest that is here already, else from the package."""
        for root in ("/", build):
            images = [i for i in glob.glob(os.path.join(root, "boot", "vmlinuz-*-amd64"))
                      if not re.search("-(cloud|rt)-", i)]
            for image in sorted(images, key=os.path.getmtime, reverse=True):
                version = os.path.basename(image)[len("vmlinuz-"):]
                needed = f"lib/modules/{version}" + ("/modules.dep" if root == "/" else "")
                if os.access(image, os.R_OK) and os.path.exists(os.path.join(root, needed)):
                    return cls(root, version)
        return cls._unpack(build)

    @classmethod
    def _unpack(cls, build):
        """apt-get only fetches the file; the package's scripts do not run."""
        os.makedirs(build, exist_ok=True)
        try:
            out = subprocess.run(["apt-cache", "depends", PACKAGE], check=True, text=True,
                                 capture_output=True).stdout
            name = re.search(r"Depends: (linux-image-\S+-amd64)", out).group(1)
            subprocess.run(["apt-get", "-qq", "download", name], cwd=build, check=True, text=True,
                           capture_output=True)
            (package,) = glob.glob(os.path.join(build, name + "_*.deb"))
            with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package],
                                  stdout=subprocess.PIPE) as archive:
                subprocess.run(["tar", "-x", "-C", build, "--wildcards", *PARTS], check=True,
                               stdin=archive.stdout)
            os.remove(package)
        except (OSError, AttributeError, ValueError, subprocess.CalledProcessError) as e:
            text = getattr(e, "stderr", None) or str(e)
            raise Unavailable(f"no kernel image of {PACKAGE}: {text.strip()[:200]}") from e
        return cls(build, name[len("linux-image-"):])


class Image:
    """What is inside, and running it."""

    def __init__(self, kernel, build):
        self.kernel, self.build = kernel, build
        self.entries = {}  # path inside -> path here, or bytes
        self.links = {}
        self.wanted, self.at_start = set(), []
        busybox = shutil.which("busybox", path=SEARCH)
        if not busybox:
            raise Unavailable("busybox-static is not installed")
        self.entries["bin/busybox"] = busybox
        applets = subprocess.run([busybox, "--list"], check=True, text=True,
                                 capture_output=True).stdout.split()
        self.links.update({f"bin/{a}": "busybox" for a in applets if a != "busybox"})
        self.links["sbin/modprobe"] = "../bin/busybox"

    # --- what is inside ---

    def modules(self, *wanted, load=False):
        """Names, or patterns of paths like `net/netfilter/nft_.*`; loaded at need or at start."""
        self.wanted |= set(wanted)
        if load:
            self.at_start += wanted

    def file(self, path, inside=None):
        """A file or a folder of this machine, at the same place or another one."""
        if os.path.isdir(path):
            for name in os.listdir(path):
                self.file(os.path.join(path, name), inside and os.path.join(inside, name))
        else:
            self.entries[(inside or path).lstrip("/")] = path

    def program(self, name, inside=None):
        """A program and the libraries that it is linked with.  Unavailable when it is not here."""
        path = shutil.which(name, path=SEARCH) if "/" not in name else name
        if not path or not os.path.exists(path):
            raise Unavailable(f"the program {name} is not here")
        self.file(os.path.realpath(path), inside or path)
        self.libraries(path)

    def libraries(self, *paths):
        out = subprocess.run(["ldd", *paths], text=True, capture_output=True).stdout
        for library in set(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", out, re.M)):
            self.file(os.path.realpath(library), library)

    def python(self, *packages):
        """The interpreter, its library, and these packages of Debian's."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        self.program(f"/usr/bin/python{version}")
        self.links["usr/bin/python3"] = f"python{version}"
        library = f"/usr/lib/python{version}"
        useless = ("config-", "test", "lib2to3", "pydoc_data", "distutils", "idlelib", "ensurepip",
                   "tkinter", "turtledemo", "sitecustomize", "site-packages", "dist-packages")
        for name in os.listdir(library):
            if not name.startswith(useless):
                self.file(os.path.join(library, name))
        self.libraries(*glob.glob(f"{library}/lib-dynload/*.so"))
        for name in packages:
            path = f"/usr/lib/python3/dist-packages/{name}"
            if os.path.exists(path):
                self.file(path)

    # --- writing it: the "newc" format of cpio ---

    def _write(self, path, commands):
        self.entries["init"] = INIT.encode()
        self.entries["modules-at-start"] = " ".join(self.at_start).encode()
        self.entries["commands"] = "".join(f"{n}\n{c}\n" for n, c in commands).encode()
        inside = f"lib/modules/{self.kernel.version}"
        for module in self.kernel.files(self.wanted):
            self.entries[f"{inside}/{module}"] = os.path.join(self.kernel.folder, module)
        for name in os.listdir(self.kernel.folder):
            if re.fullmatch(r"modules\.(dep|alias|softdep|symbols|builtin|order)", name):
                self.entries[f"{inside}/{name}"] = os.path.join(self.kernel.folder, name)
        folders = {os.path.dirname(p) for p in (*self.entries, *self.links)}
        for folder in list(folders):
            while folder := os.path.dirname(folder):
                folders.add(folder)
        folders |= {"proc", "sys", "dev", "run", "tmp", "root", "etc", "var"}
        with open(path, "wb") as out:
            number = 0
            def put(name, mode, data, mtime=0):
                nonlocal number
                number += 1
                head = name.encode() + b"\0"
                out.write(b"070701" + b"%08X" * 13 % (number, mode, 0, 0, 1, mtime, len(data), 0,
                                                       0, 0, 0, len(head), 0))
                for part in (head, data):
                    out.write(part + bytes(-(out.tell() + len(part)) % 4))
            for folder in sorted(folders - {""}):
                put(folder, stat.S_IFDIR | 0o755, b"")
            for name, source in self.entries.items():
                if isinstance(source, bytes):
                    put(name, stat.S_IFREG | 0o755, source)
                    continue
                with open(source, "rb") as f:
                    info = os.fstat(f.fileno())
                    put(name, info.st_mode, f.read(), int(info.st_mtime))
            for name, target in self.links.items():
                if name not in self.entries:
                    put(name, stat.S_IFLNK | 0o777, target.encode())
            put("TRAILER!!!", 0, b"")

    # --- running it ---

    def run(self, commands, cpu_seconds, timeout):
        """Boots and runs (name, shell command) pairs in order; yields (name, status, seconds, text)
        for each as it ends.  A command that does not end before all together have taken so many
        seconds of a CPU, or in time, or a kernel that stops, is told with status None, and ends the
        list.  The first has the name "boot"."""
        if not shutil.which(QEMU):
            raise Unavailable(f"{QEMU} is not installed")
        os.makedirs(self.build, exist_ok=True)
        initrd = os.path.join(self.build, "initrd")
        self._write(initrd, commands)
        argv = ["prlimit", f"--cpu={cpu_seconds}", QEMU, "-accel", "tcg,thread=single", "-icount", CLOCK,
                "-rtc", "clock=vm", "-cpu", CPU, "-m", str(MEMORY_MB), "-nodefaults",
                "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel",
                self.kernel.image, "-initrd", initrd, "-append",
                "console=ttyS0 quiet loglevel=3 panic=-1 random.trust_cpu=on mitigations=off"]
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, errors="replace")
        try:
            yield from self._follow(p, timeout)
        finally:
            p.kill()
            p.wait()
            os.remove(initrd)

    @staticmethod
    def _follow(p, timeout):
        began = at = time.monotonic()
        name, text = "boot", []
        watchdog = threading.Timer(timeout, p.kill)
        watchdog.start()
        try:
            for line in p.stdout:
                words = line.split()
                if not line.startswith(MARK):
                    text.append(line)
                elif words[1] in ("up", "end"):
                    now = time.monotonic()
                    yield name, int(words[3]) if words[1] == "end" else 0, now - at, "".join(text)
                    name, text, at = None, [], now
                elif words[1] == "begin":
                    name, text, at = words[2], [], time.monotonic()
                elif words[1] == "down":
                    return
            seconds = time.monotonic() - began
            text.append(f"no end: {QEMU} ended with {p.wait()} after {seconds:.0f} s\n")
            yield name or "between", None, time.monotonic() - at, "".join(text)
        finally:
            watchdog.cancel()
