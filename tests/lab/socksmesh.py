"""The SOCKS apps in the mesh of the demo: what their labs share."""
import json
import os
import subprocess

import lab as tools
from lab import Process, wait
from topology import HTTP_ADDR, HTTP_ADDR6

SERVERS = {"gw1": "exit-one", "gw2": "exit-two"}
HERE = os.path.dirname(os.path.abspath(__file__))


def start(mesh, ns, program, name, *argv):
    p = Process(mesh, mesh[ns], name, [os.path.join(tools.bin_dir(), program), "--json",
                                       "-f", mesh.socks_config, *argv], must_end=True)
    mesh.processes.append(p)
    return p


def lines(p):
    return [json.loads(line) for line in p.log().splitlines() if line.startswith("{")]


def state(p):
    """The last line that tells a state of the uplink."""
    return [line for line in lines(p) if line.get("state") in ("up", "down")][-1]


def restart(p):
    """Starts a killed server and waits until it is registered."""
    before = len(lines(p))
    p.start()
    wait(lambda: {"state": "up"}.items() <= lines(p)[before].items(), 15, f"{p.name} is up again")


def curl(mesh, *argv, proxy="socks5h://127.0.0.1:1080", timeout=20):
    """(exit status, output) of curl in the client's place."""
    p = subprocess.run(["ip", "netns", "exec", mesh["sub"].full, "curl", "-sS", "-m", str(timeout),
                        "-x", proxy, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=timeout + 5, env=mesh.environment)
    return p.returncode, p.stdout


def body(count):
    return (bytes(i * 7 & 255 for i in range(256)) * (count // 256 + 1))[:count]


def check_fetch(mesh, host, count=100_000, **kw):
    status, out = curl(mesh, f"http://{host}/bytes/{count}", **kw)
    assert status == 0 and out == body(count), (status, out[:200])


def start_network(mesh, *options):
    """Overlay, the Internet's services and a socks-server at each gateway; `options` are theirs."""
    mesh.socks_config = os.path.join(mesh.folder, "socks.cfg")
    with open(mesh.socks_config, "w", encoding="utf-8") as f:
        f.write(f"[proxy]\nResolvers = {HTTP_ADDR}\n")
    services = mesh.run("inet", "services", "/usr/bin/python3", os.path.join(HERE, "services.py"),
                        HTTP_ADDR, HTTP_ADDR6)
    mesh.start_overlay()
    services.wait_log("ready")
    mesh.servers = {app: start(mesh, ns, "socks-server", f"{ns}-socks", "--id", app, *options)
                    for ns, app in SERVERS.items()}
    for p in mesh.servers.values():
        wait_up(p)


def wait_up(p):
    wait(lambda: state(p)["state"] == "up", 15, f"{p.name} is up")
    return p
