"""A Docker engine of a test's own, from Debian's docker.io.

It runs in mount, PID and network namespaces of its own with all that it keeps in memory, so that
what dockerd does to a network (bridges, nftables, forwarding) and to /run never touches the host's,
and that everything ends with it, also when the test is killed.  Only its cgroups are the machine's:
they lie below /meshnet-docker-PID and are removed at the end.

The containers of a build reach the Debian archive through an HTTP proxy in this process (PROXY): it
listens in the engine's network and asks in the host's, so nothing has to be routed or translated.
"""
import contextlib
import ctypes
import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from base import Unavailable
from lab import wait

BRIDGE = "192.0.2.1"
PROXY = f"http://{BRIDGE}:3128"
CLONE_NEWNET, PR_SET_PDEATHSIG = 0x40000000, 1
START = """set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs "$1/data"
ip link set lo up
exec dockerd --config-file "$1/daemon.json" --data-root "$1/data" --exec-root /run/docker \
    --pidfile /run/docker.pid -H "unix://$1/docker.sock" --bip "$2" --cgroup-parent "$3" --log-level warn
"""
_libc = ctypes.CDLL(None, use_errno=True)


class _Proxy(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = ("range", "if-range", "if-modified-since", "user-agent")
        ask = urllib.request.Request(self.path, headers={k: v for k, v in self.headers.items()
                                                         if k.lower() in wanted})
        try:
            answer = urllib.request.urlopen(ask, timeout=60)
        except urllib.error.HTTPError as e:
            answer = e
        except OSError as e:
            self.send_error(502, str(e))
            return
        self.send_response(answer.status)
        for name in ("Content-Type", "Content-Length", "Content-Range", "Last-Modified"):
            if answer.headers.get(name):
                self.send_header(name, answer.headers[name])
        self.end_headers()
        shutil.copyfileobj(answer, self.wfile)

    def log_message(self, *_):
        pass


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def cgroups(name):
    return sorted(glob.glob(f"/sys/fs/cgroup/*/{name}") + glob.glob(f"/sys/fs/cgroup/{name}"))


def remove_cgroups(name):
    for top in cgroups(name):
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def reap_dead():
    """What engines left whose process was killed outright."""
    for path in cgroups("meshnet-docker-*") + glob.glob(f"{tempfile.gettempdir()}/meshnet-docker-*"):
        m = re.fullmatch(r"meshnet-docker-(\d+)(-\w+)?", os.path.basename(path))
        if m and not os.path.exists(f"/proc/{m.group(1)}"):
            remove_cgroups(os.path.basename(path))
            if path.startswith(tempfile.gettempdir()):
                shutil.rmtree(path, ignore_errors=True)


class Engine:
    def __init__(self):
        for program in ("dockerd", "containerd", "runc", "docker", "docker-compose"):
            if not shutil.which(program):
                raise Unavailable(f"{program} is not installed")
        if os.geteuid() != 0:
            raise Unavailable("dockerd needs root")
        reap_dead()
        self.name = f"meshnet-docker-{os.getpid()}"
        self.folder = tempfile.mkdtemp(prefix=self.name + "-")
        self.proxy, self.pid = None, None
        os.mkdir(os.path.join(self.folder, "data"))
        with open(os.path.join(self.folder, "daemon.json"), "w", encoding="ascii") as f:
            f.write("{}\n")
        self.log_path = os.path.join(self.folder, "log")
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.folder,
                    "DOCKER_HOST": f"unix://{self.folder}/docker.sock", "DOCKER_CONFIG": self.folder,
                    "DOCKER_BUILDKIT": "0", "COMPOSE_HTTP_TIMEOUT": "180"}
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.popen = subprocess.Popen(
                ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                 "sh", "-c", START, "sh", self.folder, BRIDGE + "/24", "/" + self.name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,
                env={"PATH": self.env["PATH"]})
        try:
            wait(self._answers, 60, "dockerd answers", 0.1)
            self._start_proxy()
        except BaseException as e:
            log = self.log()[-600:]
            self.close()
            if isinstance(e, Exception):
                raise Unavailable(f"dockerd does not start here: {e}; {log}") from e
            raise

    def _answers(self):
        if self.popen.poll() is not None:
            raise Unavailable("dockerd ended")
        with open(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children", encoding="ascii") as f:
            self.pid = int(f.read().split()[0])
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
            s.settimeout(5)
            s.connect(os.path.join(self.folder, "docker.sock"))
            s.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b"OK" in s.recv(4096)

    @contextlib.contextmanager
    def enter(self):
        """This thread in the engine's network: as whoever sits at a machine with Docker."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        try:
            if _libc.setns(there, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            yield
        finally:
            _libc.setns(here, CLONE_NEWNET)
            os.close(here)
            os.close(there)

    def socket(self, *args):
        with self.enter():
            return socket.socket(*args)

    def _start_proxy(self):
        with self.enter():
            self.proxy = ThreadingHTTPServer((BRIDGE, 3128), _Proxy)
        threading.Thread(target=self.proxy.serve_forever, daemon=True).start()

    def run(self, *argv, timeout=300, check=True, cwd=None, env=None):
        """A command of somebody at that machine; its output as text."""
        done = subprocess.run(["nsenter", f"--net=/proc/{self.pid}/ns/net", *argv],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout,
                              check=False, cwd=cwd, env={**self.env, **(env or {})})
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout[-3000:]}")
        return done.stdout

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def close(self):
        """Ends everything; returns what is left, which should be nothing."""
        if self.proxy:
            self.proxy.shutdown()
            self.proxy.server_close()
        if self.pid and self.popen.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(20)
        self.popen.kill()
        self.popen.wait()
        remove_cgroups(self.name)
        shutil.rmtree(self.folder, ignore_errors=True)
        left = cgroups(self.name) + [p for p in (self.folder,) if os.path.exists(p)]
        with open("/proc/mounts", encoding="utf-8") as f:
            left += [line for line in f if self.folder in line]
        return left + self._processes()

    def _processes(self):
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                with open(path, "rb") as f:
                    if self.folder.encode() in f.read():
                        found.append(path)
        return found
