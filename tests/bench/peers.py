"""What a user could install from Debian instead, each as its manual says, with its defaults."""
import json
import os

from lab import sh, wait
from report import Skip
from tunnel import Tunnel


class Peer(Tunnel):
    def folder(self, name):
        path = os.path.join(self.net.folder, f"{type(self).__name__.lower()}-{name}")
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def write(self, folder, name, text, mode=0o600):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w",
                  encoding="utf-8") as f:
            f.write(text)
        return path

    def wait_interface(self, ns, interface):
        wait(lambda: interface in self.net[ns].ip("-o", "link"), 10, f"{ns} has {interface}", 0.02)

    def set_address(self, ns, interface, address):
        """With the network of all its members."""
        self.wait_interface(ns, interface)
        self.net[ns].ip("addr", "add", address, "dev", interface)
        self.net[ns].ip("link", "set", interface, "up")


class Yggdrasil(Peer):
    """A node in each place: as many overlay hops as ours."""
    name, programs = "yggdrasil", ("yggdrasil",)

    def start(self):
        path, configs = self.net.path, {}
        for i, name in enumerate(path):
            config = json.loads(sh("yggdrasil", "-genconf", "-json"))
            config.update(Listen=["tcp://0.0.0.0:9001"], MulticastInterfaces=[], IfName="ygg0",
                          AdminListen="none", Peers=[])
            if i + 1 < len(path):
                config["Peers"] = [f"tcp://{self.net.neighbour(name, path[i + 1])}:9001"]
            configs[name] = self.write(self.folder(name), "conf", json.dumps(config))
        for name in reversed(path):  # the dialled one first: a failed dial is not soon repeated
            self.run(name, "yggdrasil", "-useconffile", configs[name])
            wait(lambda: any(p == 9001 for _, p in self.net[name].listening()), 10, "it listens")
        self.address = sh("yggdrasil", "-useconffile", configs[path[-1]], "-address").strip()


class Tinc(Peer):
    """A node in each place; IndirectData keeps each from talking past its neighbours."""
    name, programs = "tinc", ("tincd",)

    def start(self):
        path = self.net.path
        hosts = {name: self._make(i, name) for i, name in enumerate(path)}
        for name in path:
            for other, text in hosts.items():
                self.write(self.folder(name), f"hosts/{other}", text)
            folder = self.folder(name)
            self.run(name, "tincd", "-D", "-c", folder, f"--pidfile={folder}/pid")
        for i, name in enumerate(path):
            self.set_address(name, "tinc0", f"10.81.0.{i + 1}/24")
        self.address = f"10.81.0.{len(path)}"

    def _make(self, i, name):
        """Configuration and key; the text of its hosts file."""
        folder, path = self.folder(name), self.net.path
        connect = f"ConnectTo = {path[i + 1]}\n" if i + 1 < len(path) else ""
        self.write(folder, "tinc.conf", f"Name = {name}\nInterface = tinc0\nAddressFamily = ipv4\n"
                                        f"PingTimeout = 5\nMaxTimeout = 1\n{connect}")
        key = os.path.join(folder, "rsa_key.priv")
        sh("openssl", "genrsa", "-traditional", "-out", key, 2048)
        os.chmod(key, 0o600)
        public = sh("openssl", "rsa", "-in", key, "-RSAPublicKey_out")
        return (f"Address = {self.net.address(name)}\nSubnet = 10.81.0.{i + 1}/32\n"
                f"IndirectData = yes\n{public}")


class Nebula(Peer):
    """End to end over plain forwarding."""
    name, programs = "nebula", ("nebula", "nebula-cert")

    def start(self):
        net, folder = self.net, self.folder("ca")
        sh("nebula-cert", "ca", "-name", "bench", "-out-crt", f"{folder}/ca.crt",
           "-out-key", f"{folder}/ca.key")
        ends = {net.first: "10.82.0.1", net.last: "10.82.0.2"}
        for name, ip in ends.items():
            other = net.last if name == net.first else net.first
            sh("nebula-cert", "sign", "-ca-crt", f"{folder}/ca.crt", "-ca-key", f"{folder}/ca.key",
               "-name", name, "-ip", f"{ip}/24", "-out-crt", f"{folder}/{name}.crt",
               "-out-key", f"{folder}/{name}.key")
            config = {
                "pki": {"ca": f"{folder}/ca.crt", "cert": f"{folder}/{name}.crt",
                        "key": f"{folder}/{name}.key"},
                "static_host_map": {ends[other]: [f"{net.address(other)}:4242"]},
                "lighthouse": {"am_lighthouse": False, "hosts": []},
                "listen": {"host": "0.0.0.0", "port": 4242}, "tun": {"dev": "neb0"},
                "firewall": {way: [{"port": "any", "proto": "any", "host": "any"}]
                             for way in ("inbound", "outbound")}}
            self.run(name, "nebula", "-config",  # JSON is YAML
                     self.write(folder, f"{name}.yml", json.dumps(config)))
            self.wait_interface(name, "neb0")
        self.address = ends[net.last]


class OpenVpn(Peer):
    """End to end, peer to peer with TLS and pinned certificates."""
    name, programs = "openvpn", ("openvpn", "openssl")

    def start(self):
        net = self.net
        prints = {name: self._certificate(name) for name in (net.first, net.last)}
        for name, other, role, own, peer in (
                (net.last, net.first, "server", "10.83.0.2", "10.83.0.1"),
                (net.first, net.last, "client", "10.83.0.1", "10.83.0.2")):
            folder = self.folder(name)
            role_options = ["--tls-server", "--dh", "none"] if role == "server" else ["--tls-client"]
            self.run(name, "openvpn", "--dev", "ovpn0", "--dev-type", "tun", "--proto", "udp",
                     "--port", "1194", "--remote", net.address(other), "--ifconfig", own, peer,
                     *role_options, "--cert", f"{folder}/crt", "--key", f"{folder}/key",
                     "--peer-fingerprint", prints[other], "--verb", "2")
        self.address = "10.83.0.2"

    def _certificate(self, name):
        folder = self.folder(name)
        sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
           "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{folder}/key",
           "-out", f"{folder}/crt")
        return sh("openssl", "x509", "-in", f"{folder}/crt", "-noout", "-fingerprint",
                  "-sha256").strip().partition("=")[2]


class WireguardGo(Peer):
    """End to end in user space, as where the kernel has no WireGuard."""
    name, programs = "wireguard-go", ("wireguard-go", "wg")

    def start(self):
        net, ends = self.net, {}
        for i, name in enumerate((net.first, net.last), 1):
            secret = sh("wg", "genkey")
            ends[name] = {"interface": f"wg{os.getpid() % 10**8}{name}",  # its socket is the host's
                          "key": self.write(self.folder(name), "key", secret), "ip": f"10.84.0.{i}",
                          "public": sh("wg", "pubkey", input_text=secret).strip()}
        for name, other in ((net.first, net.last), (net.last, net.first)):
            own, peer = ends[name], ends[other]
            self.run(name, "wireguard-go", "-f", own["interface"])
            wait(lambda: os.path.exists(f"/var/run/wireguard/{own['interface']}.sock"), 5,
                 "wireguard-go answers", 0.02)
            net[name].run("wg", "set", own["interface"], "private-key", own["key"], "listen-port",
                          51820, "peer", peer["public"], "allowed-ips", f"{peer['ip']}/32",
                          "endpoint", f"{net.address(other)}:51820")
            self.set_address(name, own["interface"], f"{own['ip']}/24")
        self.address = ends[net.last]["ip"]


PEERS = (Yggdrasil, Tinc, Nebula, OpenVpn, WireguardGo)


def start_all(net, report, classes):
    """Those that came up; the others are reported as skipped."""
    running = []
    for cls in classes:
        tunnel = cls(net)
        try:
            running.append(tunnel.up())
        except Skip as reason:
            report.skip(tunnel.name, str(reason))
    return running
