"""The Debian packages: built, looked at by lintian, and installed, upgraded and purged twice: in a bare Debian root
without systemd, where the LSB scripts run the daemons in a network of their own, and in one that is booted."""
import glob
import json
import os
import re
import shutil
import stat
import subprocess
import time

import pytest

from base import BUILD, TOP, Root, Unavailable
from machine import Booted, BootingRoot, Machine, poll

DEB = os.path.join(BUILD, "deb")
FIRST = ["meshctl", "meshnet-common", "meshnet-node", "meshnet-nodemanager"]
SECOND = ["meshnet-apps", "meshnet-gateway", "meshnet-subscriber"]
PACKAGES = FIRST + SECOND + ["libmeshapp-dev", "libmeshapp0"]
APT = ["apt-get", "-y", "-qq", "--no-install-recommends", "-o", "Dpkg::Options::=--force-unsafe-io"]
# What apt, dpkg and ldconfig write about their own work; backups of the files of users.
NOT_OURS = re.compile(r"/(var/(cache|log)|var/lib/(apt|dpkg|pam)|tmp|debs|proc|dev|run/adduser)(/|$)|/etc/(ld\.so\.cache|"
                      r"(passwd|group|shadow|gshadow|subuid|subgid)-|\.pwd\.lock)$|/var/lib/systemd/deb-systemd-")
NEWER = "0.1.1"


@pytest.fixture(scope="module", name="debs")
def built():
    """Path of each package by its name."""
    tree = sorted(os.listdir(f"{TOP}/debian"))
    done = subprocess.run(["make", "-s", "--no-print-directory", "deb", f"BUILD={os.path.relpath(BUILD, TOP)}", "OPT=-O0",
                           "EXTRA_CFLAGS=-DFLAG_OF_BUILD"],
                          cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          env={**os.environ, "MAKEFLAGS": "", "DEB_BUILD_OPTIONS": "noautodbgsym"})
    assert done.returncode == 0, done.stdout
    assert sorted(os.listdir(f"{TOP}/debian")) == tree  # the work tree is left alone
    return {os.path.basename(p).split("_")[0]: p for p in glob.glob(f"{DEB}/*.deb")}


@pytest.fixture(scope="module", name="lintian", autouse=True)
def lintian_begun(debs, tmp_path_factory):
    """It looks at the packages while the others install them: the process, and where its words are."""
    if not shutil.which("lintian"):
        yield None
        return
    path = tmp_path_factory.mktemp("lintian") / "words"
    with open(path, "w", encoding="utf-8") as f:
        with subprocess.Popen(["lintian", "--allow-root", "--tag-display-limit", "0", "--fail-on", "error,warning",
                               *debs.values()], stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT) as p:
            try:
                yield p, path
            finally:
                p.kill()


def test_packages(debs):
    assert sorted(debs) == sorted(PACKAGES)
    with open(f"{TOP}/Makefile", encoding="utf-8") as f:
        version = re.search(r"^VERSION := (\S+)$", f.read(), re.M).group(1)
    assert all(f"_{version}_" in path for path in debs.values())


def test_packages_are_of_a_release(debs, tmp_path):
    """Whatever flags BUILD has been made with: the fixture asks for others."""
    with open(os.path.join(BUILD, "package", "flags"), encoding="utf-8") as f:
        flags = f.read()
    assert " -O2 " in flags and "FORTIFY_SOURCE=2" in flags and "-Wformat" in flags, flags
    assert "-O0" not in flags and "FLAG_OF_BUILD" not in flags and "sanitize" not in flags, flags
    subprocess.run(["dpkg-deb", "-x", debs["meshnet-node"], tmp_path], check=True)
    headers = subprocess.run(["readelf", "-hd", f"{tmp_path}/usr/bin/meshnet-node"], stdout=subprocess.PIPE, text=True,
                             check=True).stdout
    assert "DYN (Position-Independent" in headers and "BIND_NOW" in headers


def test_build_depends_are_what_deps_installs():
    with open(f"{TOP}/debian/control", encoding="utf-8") as f:
        wanted = re.search(r"^Build-Depends:(.*?)^\S", f.read(), re.M | re.S).group(1)
    wanted = {w.split()[0] for w in wanted.replace(",", "\n").splitlines() if w.strip()}
    with open(f"{TOP}/etc/deps.sh", encoding="utf-8") as f:
        have = set(re.search(r'^build="(.*?)"', f.read(), re.M | re.S).group(1).split())
    assert wanted - {"debhelper-compat"} == have - {"gcc", "libc6-dev", "make"}  # these are build-essential


def test_program_links_with_the_library(debs, tmp_path):
    for package in ("libmeshapp-dev", "libmeshapp0"):
        subprocess.run(["dpkg-deb", "-x", debs[package], tmp_path], check=True)
    folder = glob.glob(f"{tmp_path}/usr/lib/*/pkgconfig")[0]
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "meshapp"], stdout=subprocess.PIPE, text=True,
                           check=True, env={**os.environ, "PKG_CONFIG_LIBDIR": folder,
                                            "PKG_CONFIG_SYSROOT_DIR": str(tmp_path)}).stdout.split()
    program = f"{tmp_path}/example"
    subprocess.run(["gcc", f"{tmp_path}/usr/share/doc/libmeshapp-dev/example-app.c", *flags, "-o", program], check=True)
    needed = subprocess.run(["objdump", "-p", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "libmeshapp.so.0" in needed


def test_configuration_is_the_example_with_its_keys_as_comments(debs, tmp_path):
    subprocess.run(["dpkg-deb", "-x", debs["meshnet-common"], tmp_path], check=True)
    with open(f"{tmp_path}/etc/meshnet.cfg", encoding="utf-8") as f:
        lines = f.read().splitlines()
    assert not [line for line in lines if line and line[0] not in "#["]
    with open(f"{TOP}/etc/meshnet-example.cfg", encoding="utf-8") as f:
        keys = [line for line in f.read().splitlines() if re.match(r"\w+ *=", line)]
    assert [line[1:] for line in lines if re.match(r"#\w+ *=", line)] == keys


# --- installed ----------------------------------------------------------------------------------

def file_list(folder):
    found = {}
    for d, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(d, name)
            inside = path[len(folder):]
            if not NOT_OURS.match(inside):
                found[inside] = os.lstat(path).st_mode
    return found


def users(root):
    text = []
    for name in ("passwd", "group", "shadow", "gshadow"):
        with open(root.file("etc", name), encoding="utf-8") as f:
            text += f.read().splitlines()
    return sorted(text)


class Host:
    """The machine that the packages are installed on, step by step."""

    def __init__(self, root, machine, debs):
        self.root, self.machine, self.debs = root, machine, debs
        self.before = (file_list(root.path), users(root))

    def apt(self, *argv):
        done = self.machine.run(*APT, *argv, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def daemons(self):
        return {os.path.basename(words[0]): pid for pid, words in self.machine.processes().items()
                if words[0].startswith("/usr/bin/meshnet-")}

    def nodes(self, seconds=15, **wanted):
        """The list, once it has a connected node (of these properties)."""
        end = time.monotonic() + seconds
        while True:
            done = self.machine.run("meshctl", "--json", "list-nodes", check=False)
            try:
                nodes = json.loads(done.stdout)
                nodes = nodes.get("nodes", nodes) if isinstance(nodes, dict) else nodes
            except ValueError:
                nodes = []
            for n in nodes:
                if n.get("connected", True) and all(n.get(k) == v for k, v in wanted.items()):
                    return n
            assert time.monotonic() < end, done.stdout
            time.sleep(0.1)

    def config(self):
        with open(self.root.file("etc/meshnet.cfg"), encoding="utf-8") as f:
            return f.read()


def policy_write(root, status):
    """What invoke-rc.d is told; 0 stands for an init system, without which it starts nothing."""
    with open(root.file("usr/sbin/policy-rc.d"), "w", encoding="ascii") as f:
        f.write(f"#!/bin/sh\nexit {status}\n")
    os.chmod(root.file("usr/sbin/policy-rc.d"), 0o755)


@pytest.fixture(scope="module", name="host")
def prepared(debs):
    try:
        with Root("deb") as root:
            os.chmod(root.path, 0o755)
            os.mkdir(root.file("debs"))
            for path in debs.values():
                shutil.copy(path, root.file("debs"))
            root.run("apt-get", "-qq", "update")
            policy_write(root, 0)
            # The machine has no way to the archive.
            root.run(*APT, "--download-only", "install",
                     *(f"/debs/{os.path.basename(debs[p])}" for p in FIRST + SECOND))
            machine = Machine(root)
            try:
                yield Host(root, machine, debs)
            finally:
                machine.close()
    except Unavailable as e:
        pytest.skip(str(e))


def inside(host, packages):
    return [f"/debs/{os.path.basename(host.debs[p])}" for p in packages]


def test_installed_daemons_run(host):
    host.apt("install", *inside(host, FIRST))
    assert set(host.daemons()) == {"meshnet-apptracker", "meshnet-node", "meshnet-nodemanager"}
    name = host.machine.run("id", "-u", "meshnet").stdout.strip()
    for pid in host.daemons().values():
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            assert re.search(r"^Uid:\s+(\d+)", f.read(), re.M).group(1) == name
    host.nodes()
    for daemon in host.daemons():
        host.machine.run(daemon, "--check")
    info = os.stat(host.root.file("etc/meshnet.cfg"))
    assert stat.S_IMODE(info.st_mode) == 0o640 and info.st_uid == 0 and info.st_gid != 0
    state = os.stat(host.root.file("var/lib/meshnet"))
    assert stat.S_IMODE(state.st_mode) == 0o1770


def repacked(host, folder, package):
    """The same package with a higher version, its configuration changed."""
    tree = f"{folder}/{package}"
    subprocess.run(["dpkg-deb", "-R", host.debs[package], tree], check=True)
    control = f"{tree}/DEBIAN/control"
    with open(control, encoding="utf-8") as f:
        text = f.read()
    version = re.search(r"^Version: (.*)$", text, re.M).group(1)
    with open(control, "w", encoding="utf-8") as f:
        f.write(text.replace(f"Version: {version}", f"Version: {NEWER}").replace(f"(= {version})", f"(= {NEWER})"))
    if package == "meshnet-common":
        with open(f"{tree}/etc/meshnet.cfg", "a", encoding="utf-8") as f:
            f.write("\n# A later version says more.\n")
    out = host.root.file("debs", f"{package}-{NEWER}.deb")
    subprocess.run(["dpkg-deb", "-b", "-Znone", "--root-owner-group", tree, out], check=True, stdout=subprocess.DEVNULL)
    return f"/debs/{os.path.basename(out)}"


def test_upgrade_keeps_what_the_operator_wrote(host, tmp_path):
    node = host.nodes()
    mine = host.config().replace("#Name =", "Name = roof-12", 1).replace("#Admission = open", "Admission = allowlist\n"
                                                                         f"Allow = {node['id']}", 1)
    with open(host.root.file("etc/meshnet.cfg"), "w", encoding="utf-8") as f:
        f.write(mine)
    host.machine.run("service", "meshnet-nodemanager", "restart")
    host.machine.run("service", "meshnet-node", "restart")
    assert host.nodes(name="roof-12")["id"] == node["id"]
    before = host.daemons()
    newer = [repacked(host, tmp_path, p) for p in FIRST]
    done = host.machine.run("dpkg", "--force-confold,unsafe-io", "-i", *newer, check=False)
    assert done.returncode == 0, done.stdout
    assert NEWER in host.machine.run("dpkg-query", "-W", "meshnet-node").stdout
    assert host.config() == mine
    assert stat.S_IMODE(os.stat(host.root.file("etc/meshnet.cfg")).st_mode) == 0o640
    after = host.daemons()
    assert set(after) == set(before) and not set(after.values()) & set(before.values())
    assert host.nodes(name="roof-12")["id"] == node["id"]


def test_policy_decides_whether_a_daemon_starts(host, tmp_path):
    policy_write(host.root, 101)
    before = host.daemons()
    host.apt("install", *(repacked(host, tmp_path, p) for p in SECOND))
    assert host.daemons() == before
    policy_write(host.root, 0)
    for daemon in ("meshnet-gatewayd", "meshnet-subscriberd"):
        host.machine.run("service", daemon, "start")
    assert set(host.daemons()) == set(before) | {"meshnet-gatewayd", "meshnet-subscriberd"}


def test_purge_leaves_nothing(host):
    host.machine.run("dpkg", "--remove", "meshnet-node")
    assert "meshnet-node" not in host.daemons() and "meshnet-nodemanager" in host.daemons()
    assert "roof-12" in host.config() and os.path.exists(host.root.file("var/lib/meshnet/node.key"))
    host.machine.run("dpkg", "--purge", "meshnet-node")
    kept = os.listdir(host.root.file("var/lib/meshnet"))
    assert "nodemanager.key" in kept and not [name for name in kept if name.startswith(("node.", "node-"))]
    host.apt("purge", "--autoremove", *FIRST, *SECOND)
    assert not host.machine.processes()
    files, people = file_list(host.root.path), users(host.root)
    assert sorted(set(files) - set(host.before[0])) == []
    assert people == host.before[1]
    assert host.machine.run("sh", "-c", "cat /proc/net/dev | wc -l").stdout.strip() == "3"  # lo alone


# --- installed where systemd runs ---------------------------------------------------------------

UNITS = ["apptracker", "gatewayd", "node", "nodemanager", "subscriberd"]
# What systemd, and whatever looks after the machine while it runs, has there.
SYSTEMD_S = re.compile(r"/(sys|debs|run/(systemd|credentials|log|udev|lock|user|utmp)|var/(log|tmp|cache)|"
                       r"var/lib/(systemd|dpkg)|tmp|etc/(\.updated|machine-id))(/|$)|/var/\.updated$")
# What the methods keep beside a daemon's own files.
OF_METHODS = {"meshnet-gateway": ["fastd-g0", "fastd-gateway.key", "openvpn-server.conf", "openvpn.key", "socks.key",
                                  "softether-server.conf", "softether.key", "wireguard-gateway.key", "wireguard-peers"],
              "meshnet-subscriber": ["cjdns.peer", "fastd-mesh0", "fastd-subscriber.key", "openvpn-mesh0.conf",
                                     "softether-mesh1.conf", "wireguard-subscriber.key"]}


class BootedHost(Host):
    """The same, booted."""

    def __init__(self, root, debs):
        super().__init__(root, Booted(root), debs)
        self.before = (self.files(), users(root))

    def files(self):
        """Of the disk and of /run."""
        found = list(file_list(self.root.path)) + [f"/run{path}" for path in file_list(self.machine.file("/run"))]
        return {path for path in found if not SYSTEMD_S.match(path) and not NOT_OURS.match(path)}

    def reboot(self):
        self.machine.power_off()
        self.machine.close()
        self.machine = Booted(self.root)

    def dpkg(self, *argv):
        done = self.machine.run("dpkg", "--force-confold,unsafe-io", *argv, check=False)
        assert done.returncode == 0, done.stdout

    def states(self, of=UNITS):
        """ActiveState and UnitFileState by daemon, once none is between two states."""
        def settled():
            found = {d: self.machine.show(d, "ActiveState,UnitFileState").replace("\n", " ") for d in of}
            return not any("activating" in state for state in found.values()) and found
        return poll(settled, 20)

    def pids(self):
        return {d: self.machine.show(d, "MainPID") for d in UNITS}

    def keys(self):
        folder = self.root.file("var/lib/meshnet")
        found = {}
        for name in os.listdir(folder):
            if name.endswith((".key", ".pin")):
                with open(f"{folder}/{name}", encoding="ascii") as f:
                    found[name] = f.read()
        return found


def change(path, old, new):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    assert old in text
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(old, new, 1))


@pytest.fixture(scope="module", name="booted")
def prepared_and_booted(debs):
    try:
        with BootingRoot("debboot") as root:
            os.mkdir(root.file("debs"))
            for p in FIRST + SECOND:
                shutil.copy(debs[p], root.file("debs"))
            host = BootedHost(root, debs)
            try:
                yield host
            finally:
                host.machine.close()
    except Unavailable as e:
        pytest.skip(str(e))


def test_booted_install(booted):
    """Every daemon runs and is enabled, the apps are not; the files that systemd reads work."""
    m, sysctls = booted.machine, booted.root.file("etc/sysctl.d/50-meshnet.conf")
    with open(sysctls, "w", encoding="ascii") as f:
        f.write("net.ipv4.ip_default_ttl = 63\n")  # in the place of ours: this a network has of its own
    booted.dpkg("-i", *inside(booted, FIRST + SECOND))
    os.unlink(sysctls)
    assert booted.states() == {d: "active enabled" for d in UNITS}
    apps = ("socks-client", "socks-server", "vpn-client", "vpn-server")
    assert booted.states(apps) == {d: "inactive disabled" for d in apps}
    assert m.run("cat", "/proc/sys/net/ipv4/ip_default_ttl").stdout == "63\n"  # not only after the next boot
    booted.nodes()
    for d in UNITS:
        assert f"/usr/bin/meshnet-{d}" in m.systemctl("status", f"meshnet-{d}")
        assert m.show(d, "FragmentPath") == f"/lib/systemd/system/meshnet-{d}.service"
        m.run(f"meshnet-{d}", "--check")
    info = os.stat(booted.root.file("etc/meshnet.cfg"))
    assert stat.S_IMODE(info.st_mode) == 0o640 and "#Admission = open" in booted.config()
    # tmpfiles.d and sysusers.d agree with what the packages' scripts have made.
    m.run("chmod", "755", "/var/lib/meshnet")
    m.run("chown", "root:root", "/var/lib/meshnet/node.key")
    before = users(booted.root)
    m.run("systemd-sysusers", "meshnet.conf")
    m.run("systemd-tmpfiles", "--create", "meshnet.conf")
    assert users(booted.root) == before
    assert m.run("stat", "-c", "%U:%G %a", "/var/lib/meshnet", "/var/lib/meshnet/node.key", "/run/meshnet").stdout \
        == "root:meshnet 1770\nmeshnet:meshnet 600\nmeshnet:meshnet 755\n"


def test_booted_reload_and_restart(booted):
    m, before, keys = booted.machine, booted.pids(), booted.keys()
    change(booted.root.file("etc/meshnet.cfg"), "#LogLevel = info", "LogLevel = debug")
    for d in UNITS:
        m.systemctl("reload", f"meshnet-{d}")
    for d in UNITS:
        poll(lambda d=d: "configuration reloaded, 1 keys changed" in m.journal(d))
    assert booted.pids() == before
    for d in UNITS:
        m.systemctl("restart", f"meshnet-{d}")
        m.systemctl("is-active", f"meshnet-{d}")
    assert not set(booted.pids().values()) & set(before.values())
    booted.nodes()
    assert booted.keys() == keys and len(keys) > len(UNITS)


def test_booted_upgrade(booted, tmp_path):
    """What runs is the newer one afterwards, with the same keys; what the operator has turned off stays so."""
    m, node, keys = booted.machine, booted.nodes(), booted.keys()
    change(booted.root.file("etc/meshnet.cfg"), "#Name =", "Name = roof-12")
    m.systemctl("disable", "--now", "meshnet-subscriberd")
    m.systemctl("enable", "--now", "meshnet-socks-client")
    before, mine = booted.pids(), booted.config()
    app = m.show("socks-client", "MainPID")
    booted.dpkg("-i", *(repacked(booted, tmp_path, p) for p in FIRST + SECOND))
    wanted = {d: "inactive disabled" if d == "subscriberd" else "active enabled" for d in UNITS}
    assert booted.states() == wanted
    assert booted.states(["socks-client"]) == {"socks-client": "active enabled"}
    after = booted.pids()
    assert after["subscriberd"] == "0" and m.show("socks-client", "MainPID") != app
    assert not {after[d] for d in UNITS if d != "subscriberd"} & set(before.values())
    assert booted.nodes(name="roof-12")["id"] == node["id"] and booted.keys() == keys and booted.config() == mine
    # And the same version once more.
    booted.dpkg("-i", f"/debs/meshnet-node-{NEWER}.deb")
    assert booted.states() == wanted and m.show("node", "MainPID") != after["node"]
    assert booted.nodes(name="roof-12")["id"] == node["id"] and booted.config() == mine
    assert not m.systemctl("--failed", "--plain", "--no-legend", check=False)


def test_booted_again(booted):
    node, keys = booted.nodes(), booted.keys()
    booted.machine.systemctl("enable", "meshnet-subscriberd")
    booted.reboot()
    assert booted.states() == {d: "active enabled" for d in UNITS}
    assert booted.states(["socks-client"]) == {"socks-client": "active enabled"}
    assert booted.nodes(name="roof-12")["id"] == node["id"] and booted.keys() == keys


def test_booted_remove_and_purge(booted):
    m, keys = booted.machine, booted.keys()
    booted.dpkg("-r", *(p for p in FIRST + SECOND if p != "meshnet-common"))
    assert not [words for words in m.processes().values() if "meshnet" in words[0]]
    names = UNITS + ["socks-client"]
    assert all(m.show(d, "ActiveState,LoadState") == "not-found\ninactive" for d in names)
    assert not m.systemctl("--failed", "--plain", "--no-legend", check=False)
    assert booted.keys() == keys and "roof-12" in booted.config()
    assert not os.path.exists(m.file("/run/wireguard"))
    folder = booted.root.file("var/lib/meshnet")
    for name in OF_METHODS["meshnet-gateway"] + OF_METHODS["meshnet-subscriber"]:
        with open(f"{folder}/{name}", "w", encoding="ascii"):
            pass
    for package, pattern in (("meshnet-gateway", "gatewayd"), ("meshnet-subscriber", "subscriberd"),
                             ("meshnet-node", "node[.-]"), ("meshnet-nodemanager", "nodemanager|apptracker"),
                             ("meshnet-apps", "vpn-|socks-")):
        before = set(os.listdir(folder))
        booted.dpkg("-P", package)
        gone = before - set(os.listdir(folder))
        assert gone == {name for name in before if re.match(pattern, name)} | set(OF_METHODS.get(package, ()))
    assert os.listdir(folder) == []
    booted.dpkg("-P", "meshnet-common")
    assert sorted(booted.files() - booted.before[0]) == []
    assert users(booted.root) == booted.before[1]
    m.systemctl("daemon-reload")
    assert not m.systemctl("list-units", "--all", "--plain", "--no-legend", "meshnet*")
    assert not m.systemctl("list-unit-files", "--no-legend", "meshnet*", check=False)
    assert len(m.run("cat", "/proc/net/dev").stdout.splitlines()) == 3  # lo alone


def test_lintian_finds_neither_errors_nor_warnings(lintian):
    if not lintian:
        pytest.skip("lintian is not installed")
    process, path = lintian
    status = process.wait(timeout=300)
    with open(path, encoding="utf-8") as f:
        assert status == 0, f.read()
