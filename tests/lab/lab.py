"""Labs: the real daemons in network namespaces of their own.

A Lab makes namespaces named mn<pid>x<n>-NAME, joins them with veth pairs, starts programs in them
with their configuration and state under one temporary folder, and takes back exactly what it made:
at the end, after an exception, and after SIGINT or SIGTERM.  What a killed run left behind is taken
back by the next one.  Needs root; nothing is done to the host's own namespace.
"""
import atexit
import collections
import contextlib
import ctypes
import fcntl
import http.client
import ipaddress
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
STOP_SECONDS = 2.0  # what a daemon has for its end after SIGTERM (DESIGN.md section 11)
MARK = "MESHNET_LAB"  # in the environment of every process of a lab
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
SANITIZER = re.compile(r"(ERROR|SUMMARY): \w*Sanitizer|runtime error:")

_libc = ctypes.CDLL(None, use_errno=True)
_count = itertools.count(1)


class LabError(Exception):
    pass


def bin_dir():
    path = os.environ.get("MESHNET_BIN") or os.path.join(os.environ.get("BUILD") or "build", "bin")
    return os.path.join(TOP, path)


def sh(*argv, check=True, timeout=30, input_text="", **kw):
    """Runs a command; its output as text.  LabError when it fails."""
    p = subprocess.run([str(a) for a in argv], input=input_text, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=timeout, **kw)
    if check and p.returncode:
        raise LabError(f"{' '.join(map(str, argv))}: exit status {p.returncode}\n{p.stdout}{p.stderr}")
    return p.stdout


def wait(probe, timeout, what, interval=0.05):
    """Calls `probe` until it answers something true, and returns that; LabError after `timeout` s.
    An exception of the probe counts as 'not yet' and is told at the end."""
    deadline, last = time.monotonic() + timeout, None
    while True:
        try:
            value = probe()
            if value:
                return value
            last = value
        except (OSError, LabError, KeyError, LookupError, TypeError, ValueError,
                http.client.HTTPException) as e:
            last = e
        if time.monotonic() >= deadline:
            raise LabError(f"{what}: not within {timeout} s (last: {last!r})")
        time.sleep(interval)


# --- keys -----------------------------------------------------------------------------------------

def x25519_public(secret):
    """The public key of a 32-byte secret (RFC 7748), so that a lab knows a daemon's key before the
    daemon runs.  Not for secrets that matter: it takes its time unevenly."""
    p, bits = 2**255 - 19, bytearray(secret)
    bits[0] &= 248
    bits[31] = bits[31] & 127 | 64
    k, x1 = int.from_bytes(bits, "little"), 9
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a % p, c * b % p, a * a % p, b * b % p
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % p, x1 * (da - cb) ** 2 % p
        x2, z2 = aa * bb % p, e * (aa + 121665 * e) % p
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, p - 2, p) % p).to_bytes(32, "little")


def new_key():
    """(secret, public) as hexadecimal text."""
    secret = secrets.token_bytes(32)
    return secret.hex(), x25519_public(secret).hex()


# --- namespaces -----------------------------------------------------------------------------------

class Namespace:
    def __init__(self, lab, name):
        self.lab, self.name, self.full = lab, name, f"{lab.prefix}-{name}"
        self.links = {}  # name of the neighbour -> (interface, own address, neighbour's address)
        sh("ip", "netns", "add", self.full)
        # Addresses are usable at once, and states compare equal a moment later.
        self.sysctl("net.ipv6.conf.default.accept_dad", 0)
        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))

    def ip(self, *args, **kw):
        return sh("ip", "-n", self.full, *args, **kw)

    def batch(self, lines):
        """Several commands of ip, in one process."""
        return sh("ip", "-n", self.full, "-batch", "-", input_text="\n".join(lines) + "\n")

    def run(self, *argv, **kw):
        return sh("ip", "netns", "exec", self.full, *argv, **kw)

    def sysctl(self, key, value=None):
        """Reads a setting, or sets it."""
        with self.enter(), open("/proc/sys/" + key.replace(".", "/"), "r" if value is None else "w",
                                encoding="ascii") as f:
            return f.read() if value is None else f.write(str(value))

    @contextlib.contextmanager
    def enter(self):
        """Sockets made inside belong to this namespace, for good; nothing else changes."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(f"/run/netns/{self.full}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(there, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            yield self
        finally:
            if _libc.setns(here, CLONE_NEWNET):
                os._exit(70)  # never go on in a foreign namespace
            os.close(here)
            os.close(there)

    def socket(self, *args):
        with self.enter():
            return socket.socket(*args)

    def addresses(self):
        return [a for _, a, _ in self.links.values()]

    def listening(self, kind="tcp"):
        """(address, port) of every socket that listens (tcp) or is bound (udp) here."""
        out = self.run("ss", "-Hnl", "--tcp" if kind == "tcp" else "--udp")
        pairs = [line.split()[3].rsplit(":", 1) for line in out.splitlines()]
        return [(a.strip("[]").split("%")[0], int(p)) for a, p in pairs]

    def host_state(self):
        """What a daemon could change in the host's network, as text to compare."""
        return {
            "nft": self.run("nft", "-s", "list", "ruleset"),
            "rules": self.ip("rule") + self.ip("-6", "rule"),
            "routes": strip_volatile(self.ip("route", "show", "table", "all")),
            "links": "\n".join(sorted(line.split(":")[1].split("@")[0].strip() for line in
                                      self.ip("-o", "link").splitlines())),
            "forwarding": self.sysctl("net.ipv4.ip_forward")
            + self.sysctl("net.ipv6.conf.all.forwarding"),
        }


def veth(ns, interface, other, other_interface):
    sh("ip", "link", "add", interface, "netns", ns.full, "type", "veth",
       "peer", "name", other_interface, "netns", other.full)


def strip_volatile(text):
    text = re.sub(r" (expires|age) \S+|linkdown ?|dead ?", "", text)
    return "\n".join(sorted(line.rstrip() for line in text.splitlines()))


# --- processes ------------------------------------------------------------------------------------

class Process:
    """A program in a namespace.  Its output goes to `log`; it dies with the lab."""

    def __init__(self, lab, ns, name, argv, must_end=False):
        self.lab, self.ns, self.name, self.argv = lab, ns, name, [str(a) for a in argv]
        self.log_path = os.path.join(lab.folder, f"{name}.log")
        self.must_end = must_end  # a SIGTERM has to end it in time and with status 0
        self.popen = None
        self.start()

    def start(self):
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.ns.full, *self.argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.lab.environment,
                cwd=self.lab.folder, start_new_session=True)
        return self

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen is not None and self.popen.poll() is None

    def kill(self):
        """kill -9: no chance to tidy up."""
        self.popen.kill()
        self.popen.wait()

    def signal(self, number):
        self.popen.send_signal(number)

    def stop(self, timeout=STOP_SECONDS + 3):
        """SIGTERM; the exit status and the seconds that it took."""
        began = time.monotonic()
        if self.alive():
            self.popen.terminate()
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.returncode, time.monotonic() - began

    def restart(self):
        self.stop()
        return self.start()

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def wait_log(self, pattern, timeout=10):
        return wait(lambda: re.search(pattern, self.log(), re.M), timeout,
                    f"{self.name} logs /{pattern}/")

    def rss_kb(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


class Daemon(Process):
    """One of our daemons: writes its configuration file, runs `PROGRAM -f FILE`."""

    def __init__(self, lab, ns, program, name=None, config=None, options=()):
        self.program, self.config = program, {k: dict(v) for k, v in (config or {}).items()}
        name = name or f"{ns.name}-{program}"
        self.config_path = os.path.join(lab.folder, f"{name}.cfg")
        self.state_dir = os.path.join(lab.folder, f"{name}.state")
        self.config.setdefault("general", {}).setdefault("StateDir", self.state_dir)
        os.makedirs(self.state_dir, mode=0o700, exist_ok=True)
        self.write_config()
        super().__init__(lab, ns, name, [os.path.join(bin_dir(), program), "-f", self.config_path,
                                         *options], must_end=True)

    def write_config(self):
        with open(self.config_path, "w", encoding="utf-8") as f:
            for section, keys in self.config.items():
                f.write(f"[{section}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()))

    def cleanup(self):
        """Runs `PROGRAM -f FILE --cleanup` in the daemon's namespace."""
        return self.ns.run(*self.argv, "--cleanup", env=self.lab.environment)


# --- the lab --------------------------------------------------------------------------------------

class Lab:
    def __init__(self):
        reap_dead_labs()
        self.prefix = f"mn{os.getpid()}x{next(_count)}"
        self.folder = tempfile.mkdtemp(prefix=f"meshnet-{self.prefix}-")
        self.namespaces, self.processes = {}, []
        self.nets = {}  # network of a link -> its two namespaces
        self.closed, self.problems = False, []
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
                            "HOME": self.folder, MARK: self.prefix,
                            "ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1:exitcode=77",
                            "UBSAN_OPTIONS": "print_stacktrace=1"}
        self.host_before = host_state()
        atexit.register(self.close)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def add(self, *names):
        for name in names:
            self.namespaces[name] = Namespace(self, name)
        return self.namespaces[names[-1]]

    def __getitem__(self, name):
        return self.namespaces[name]

    def link(self, a, b, *nets):
        """A veth pair between two namespaces; in each network `a` has the first address and `b` the
        second.  The interfaces are called to-<the other>."""
        names = self.link_names(a, b)
        veth(self[a], names[0], self[b], names[1])
        self.link_ends(a, b, *nets)

    @staticmethod
    def link_names(a, b):
        return f"to-{b}", f"to-{a}"

    def link_ends(self, a, b, *nets):
        """Addresses of the two interfaces of a link, however they are joined; sets them up."""
        ns, names = (self[a], self[b]), self.link_names(a, b)
        for net in map(ipaddress.ip_network, nets):
            for i in (0, 1):
                extra = ["nodad"] if net.version == 6 else []
                ns[i].ip("addr", "add", f"{net[i + 1]}/{net.prefixlen}", "dev", names[i], *extra)
        self.nets[nets[0]] = {a, b}
        first = ipaddress.ip_network(nets[0])
        for i in (0, 1):
            ns[i].ip("link", "set", names[i], "up")
            ns[i].links[ns[1 - i].name] = (names[i], str(first[i + 1]), str(first[2 - i]))

    def route_everywhere(self, names):
        """Static routes between the link networks of these namespaces, along the fewest hops."""
        for start in names:
            via, todo = {start: None}, collections.deque([start])
            order = []
            while todo:
                here = todo.popleft()
                order.append(here)
                for other, (_, _, peer) in self[here].links.items():
                    if other in names and other not in via:
                        via[other] = via[here] or peer
                        todo.append(other)
            for net, ends in self.nets.items():
                if start not in ends and ends <= set(names):
                    nearest = min(ends, key=order.index)
                    self[start].ip("route", "add", net, "via", via[nearest])

    def settle(self):
        """Returns when the kernel has given every interface its link-local address."""
        for ns in self.namespaces.values():
            wait(lambda ns=ns: len(ns.ip("-6", "-o", "addr", "show", "scope", "link").splitlines())
                 >= len(ns.links), 5, f"{ns.name}: link-local addresses")

    def run(self, ns, name, *argv):
        p = Process(self, self[ns], name, argv)
        self.processes.append(p)
        return p

    def daemon(self, ns, program, config=None, name=None, options=()):
        p = Daemon(self, self[ns], program, name, config, options)
        self.processes.append(p)
        return p

    def meshctl(self, ns, *args, check=True, timeout=30):
        """Output of one meshctl command, as typed in that namespace."""
        return self[ns].run(os.path.join(bin_dir(), "meshctl"), *args, check=check, timeout=timeout,
                            env=self.environment)

    def meshctl_json(self, ns, *args):
        return json.loads(self.meshctl(ns, "--json", *args))

    # --- the end ---

    def close(self):
        """Ends everything.  Safe to call twice; interrupts wait until it is done."""
        if self.closed:
            return
        self.closed = True
        atexit.unregister(self.close)
        with deaf_to_signals():
            self.problems += self._stop_processes()
            self.problems += self._sanitizer_reports()
            for ns in self.namespaces.values():
                remove_namespace(ns.full)
            if os.environ.get("LAB_KEEP_LOGS") != "1":
                shutil.rmtree(self.folder, ignore_errors=True)

    def _stop_processes(self):
        problems, began = [], time.monotonic()
        running = [p for p in self.processes if p.alive()]
        for p in running:
            p.popen.terminate()
        for p in running:
            status, seconds = p.stop(max(0.1, STOP_SECONDS + 1 - (time.monotonic() - began)))
            if p.must_end and status != 0:
                problems.append(f"{p.name}: exit status {status} after SIGTERM ({seconds:.1f} s)")
        return problems

    def _sanitizer_reports(self):
        return [f"{p.name}: {line}" for p in self.processes for line in p.log().splitlines()
                if SANITIZER.search(line)][:10]

    def leaks(self, timeout=3):
        """After close(): what is still there that was not there before, one line each."""
        deadline = time.monotonic() + timeout
        while True:
            found = [f"namespace {n}" for n in netns_list() if n.startswith(self.prefix + "-")]
            found += [f"process {pid} {cmd}" for pid, cmd in marked_processes(self.prefix)]
            after = host_state()
            found += [f"the host's {k} changed:\n{difference(self.host_before[k], after[k])}"
                      for k in after if after[k] != self.host_before[k]]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.2)

    def tail_logs(self, lines=15):
        out = []
        for p in self.processes:
            text = p.log().splitlines()[-lines:]
            state = "running" if p.alive() else f"ended with {p.popen.returncode}"
            out.append(f"--- {p.name} ({state})\n" + "\n".join(text))
        return "\n".join(out)


@contextlib.contextmanager
def deaf_to_signals():
    saved = {}
    try:
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            saved[s] = signal.signal(s, signal.SIG_IGN)
    except ValueError:  # not the main thread
        pass
    try:
        yield
    finally:
        for s, handler in saved.items():
            signal.signal(s, handler)


def exit_on_signals():
    """SIGTERM and SIGHUP end the program the way an exception does, so that labs are closed."""
    def leave(number, _):
        raise SystemExit(128 + number)
    for s in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, leave)


def netns_list():
    return os.listdir("/run/netns") if os.path.isdir("/run/netns") else []


def marked_processes(prefix):
    """Processes of the labs whose mark is `prefix`."""
    mark, found = f"{MARK}={prefix}\0".encode(), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/environ", "rb") as f:
                if mark not in f.read() + b"\0":
                    continue
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                found.append((int(pid), f.read().replace(b"\0", b" ").decode(errors="replace")))
    return found


def remove_namespace(full):
    """Kills what still runs inside, then removes it."""
    for _ in range(20):
        pids = sh("ip", "netns", "pids", full, check=False).split()
        if not pids:
            break
        for pid in map(int, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    sh("ip", "netns", "del", full, check=False)
    shutil.rmtree(f"/etc/netns/{full}", ignore_errors=True)  # hoststate.Resolv
    with contextlib.suppress(OSError):
        os.rmdir("/etc/netns")  # unless others have something there


def reap_dead_labs():
    """A lab whose process was killed outright left its namespaces and its folder: take them back."""
    def dead(name, pattern):
        m = re.fullmatch(pattern, name)
        return m and not os.path.exists(f"/proc/{m.group(1)}")
    for full in netns_list():
        if dead(full, r"mn(\d+)x\d+-.+"):
            remove_namespace(full)
    if os.environ.get("LAB_KEEP_LOGS") != "1":
        for name in os.listdir(tempfile.gettempdir()):
            if dead(name, r"meshnet-mn(\d+)x\d+-.+"):
                shutil.rmtree(os.path.join(tempfile.gettempdir(), name), ignore_errors=True)


def host_state():
    return {
        "nft": sh("nft", "-s", "list", "ruleset", check=False),
        "rules": sh("ip", "rule") + sh("ip", "-6", "rule", check=False),
        "routes": strip_volatile(sh("ip", "route", "show", "table", "all")),
    }


def difference(before, after):
    old, new = before.splitlines(), after.splitlines()
    return "\n".join([f"- {line}" for line in old if line not in new]
                     + [f"+ {line}" for line in new if line not in old])


# --- talking to things in a namespace ---------------------------------------------------------------

def http_request(ns, host, port, method="GET", path="/", body=None, timeout=5.0, headers=None):
    """(status, body) of one HTTP request from inside the namespace."""
    sock = ns.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect((host, port))
        client = http.client.HTTPConnection(host, port, timeout=timeout)
        client.sock = sock
        client.request(method, path, body=body, headers=headers or {})
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        sock.close()


def rpc(ns, port, method, params=None, host="127.0.0.1", timeout=10.0):
    """The result of one JSON-RPC call; LabError for an error answer."""
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    _, body = http_request(ns, host, port, "POST", "/", json.dumps(call), timeout,
                           {"Content-Type": "application/json"})
    answer = json.loads(body)
    if answer.get("error"):
        raise LabError(f"{method}: {answer['error']}")
    return answer["result"]


def ping_rtts(ns, host, count=5, interval=0.2):
    """Round trips in ms."""
    out = ns.run("ping", "-n", "-c", count, "-i", interval, "-W", 2, host, check=False)
    return [float(v) for v in re.findall(r"time=([\d.]+) ms", out)]


def iperf3_bps(ns, host, seconds=3, reverse=False, timeout=30):
    out = ns.run("iperf3", "-c", host, "-t", seconds, "-J", *(["-R"] if reverse else []),
                 timeout=timeout, check=False)
    answer = json.loads(out)
    if "error" in answer:
        raise LabError(f"iperf3: {answer['error']}")
    return answer["end"]["sum_received"]["bits_per_second"]


def frame(body):
    """A control frame: 8-byte big-endian length, then the bytes."""
    return struct.pack(">Q", len(body)) + body
