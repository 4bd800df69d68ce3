"""etc/docker: the compose lab on Debian's Docker, driven by the commands of docs/docker.md.

The image takes the programs that `make` has built; with MESHNET_DOCKER_SOURCE=1 they are built in
the image, as a newcomer's are (a minute or more of CPU time).
"""
import json
import os
import re
import signal
import sys
import time

import pytest

from base import TOP, Unavailable, base_tar

sys.path.append(os.path.join(TOP, "tests", "lab"))

import lab as tools  # noqa: E402
from lab import wait  # noqa: E402
from engine import PROXY, Engine  # noqa: E402

FOLDER = os.path.join(TOP, "etc", "docker")
PAGE = "http://198.51.100.80/"
ADDRESS = {"gateway1": "198.51.100.11", "gateway2": "198.51.100.12"}
SUBSCRIBERS = ("subscriber1", "subscriber2")
ONLINE_SECONDS = 120  # others may have the CPUs
PLAIN = ("manager", "tracker", "relay1", "relay2", "gateway1-node", "gateway2-node",
         "subscriber1-node", "subscriber2-node", "website")


class ComposeLab:
    def __init__(self, engine, source):
        self.engine = engine
        engine.env.update(MESHNET_BASE="meshnet-base", MESHNET_PREBUILT="no" if source else "yes", COMPOSE_PROJECT_NAME="lab")

    def compose(self, *argv, **kw):
        return self.engine.run("docker-compose", *argv, cwd=FOLDER, **kw)

    def container(self, service):
        return f"lab_{service}_1"

    def inside(self, service, *argv, **kw):
        """docker exec: what `docker-compose exec -T` does, without its second of Python."""
        return self.engine.run("docker", "exec", self.container(service), *argv, **kw)

    def seen_as(self, service, seconds=5):
        """The address that the web server sees, None without an answer."""
        out = self.inside(service, "curl", "-sS", "--max-time", str(seconds), PAGE, check=False)
        m = re.search(r"The Internet sees you as ([\d.]+)$", out.strip())
        return m and m.group(1)

    def rpc(self, port, method, token=None):
        call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method})
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        status, body = tools.http_request(self.engine, "127.0.0.1", port, "POST", "/", call, 20, headers)
        return status, json.loads(body).get("result")

    def inspect(self, *services):
        return json.loads(self.engine.run("docker", "inspect", *map(self.container, services)))

    def logs(self):
        return self.compose("logs", "--no-color", "--tail", "15", check=False)[-12000:]


def step(what, began):
    print(f"{time.monotonic() - began:6.1f} s {what}")


@pytest.fixture(scope="module")
def lab(request):
    def interrupt(*_):
        raise KeyboardInterrupt  # what pytest ends fixtures for
    signal.signal(signal.SIGTERM, interrupt)
    began, host = time.monotonic(), tools.host_state()
    try:
        tar = base_tar()
        engine = Engine()
    except Unavailable as e:
        pytest.skip(str(e))
    try:
        step("dockerd answers", began)
        it = ComposeLab(engine, os.environ.get("MESHNET_DOCKER_SOURCE") == "1")
        engine.run("docker", "import", tar, "meshnet-base")
        step("base imported", began)
        # One service builds the image that all of them use.
        it.compose("build", "--build-arg", f"http_proxy={PROXY}", "manager", timeout=900)
        step("image built", began)
        it.compose("up", "-d")
        step("containers up", began)
        yield it
        if request.session.testsfailed:
            print(it.logs() + engine.log()[-3000:])
    finally:
        left = engine.close()
        step("dockerd ended", began)
    assert not left, left
    after = tools.host_state()
    assert after == host, "\n".join(tools.difference(host[k], after[k]) for k in host)


def test_nothing_but_the_mesh_leads_out(lab):
    """Beside the tunnel there is no way, neither for a subscriber nor for its neighbour without one.
    (With both gateways gone the page is gone: test_gateway_killed.)"""
    lab.inside("gateway1", "curl", "-sS", "--max-time", "20", PAGE)  # it is there
    for argv in (("subscriber1-node", "curl"), ("subscriber2-node", "curl"),
                 ("subscriber1", "curl", "--interface", "eth0"), ("subscriber2", "curl", "--interface", "eth0")):
        out = lab.inside(*argv, "-sS", "--max-time", "1", PAGE, check=False)
        assert out.startswith("curl: ("), (argv, out)


def test_subscribers_get_online(lab):
    began = time.monotonic()
    for service in SUBSCRIBERS:
        seen = wait(lambda s=service: lab.seen_as(s), ONLINE_SECONDS, f"{service} loads the page", 0.3)
        assert seen in ADDRESS.values()
        step(f"{service} is online, seen as {seen}", began)


def test_rpc_on_this_machine(lab):
    status, info = lab.rpc(65533, "nodeInfo")
    assert status == 200 and info["name"] == "gateway1" and info["gateway"]
    status, info = lab.rpc(65534, "nodeInfo")
    assert status == 200 and info["name"] == "gateway2"
    assert lab.rpc(1234, "listNodes")[0] == 401
    status, nodes = lab.rpc(1234, "listNodes", token="docker-lab")
    assert status == 200
    assert {n["name"] for n in nodes["nodes"] if n["connected"]} == {
        "relay1", "relay2", "gateway1", "gateway2", "subscriber1", "subscriber2"}
    # Published on loopback only.
    listening = lab.engine.run("ss", "-Hnlt")
    for port in (1234, 65533, 65534):
        assert set(re.findall(rf"(\S+):{port}\s", listening)) == {"127.0.0.1"}


def test_looking_around(lab):
    assert "relay1" in lab.compose("exec", "-T", "manager", "meshctl", "list-nodes")
    assert "gateway2" in lab.inside("subscriber1", "meshctl", "gateways")


def test_privileges(lab):
    """What each container really has, not what the file says."""
    for service in PLAIN:
        status = lab.inside(service, "cat", "/proc/1/status")
        assert re.search(r"CapEff:\s+0+\n", status) and re.search(r"CapBnd:\s+0+\n", status), service
        assert not re.search(r"Uid:\s+0\s", status), service
        assert "NoNewPrivs:\t1" in status
    for service, caps in (("gateway1", 1 << 12), ("subscriber1", 1 << 12 | 1 << 13)):
        bound = re.search(r"CapBnd:\s+(\w+)", lab.inside(service, "cat", "/proc/1/status")).group(1)
        assert int(bound, 16) == caps, service
    assert "Read-only" in lab.inside("gateway1", "touch", "/etc/x", check=False)


def test_gateway_killed(lab):
    """A subscriber goes on through the other; with both away there is no page."""
    wait(lambda: "standby at" in lab.engine.run("docker", "logs", lab.container("subscriber1")),
         60, "subscriber1 has a standby", 0.3)
    name = {a: n for n, a in ADDRESS.items()}
    first = name[wait(lambda: lab.seen_as("subscriber1"), 30, "the page")]
    other = next(n for n in ADDRESS if n != first)
    began = time.monotonic()
    lab.compose("kill", first)
    killed = time.monotonic()
    wait(lambda: lab.seen_as("subscriber1", 1) == ADDRESS[other], 60, f"the page through {other}", 0.05)
    print(f"{first} killed (the command took {killed - began:.1f} s), the page came through {other} "
          f"at most {time.monotonic() - killed:.1f} s after it")
    lab.engine.run("docker", "kill", lab.container(other))
    for service in SUBSCRIBERS:
        assert lab.seen_as(service, 2) is None
    lab.compose("start", first)
    wait(lambda: lab.seen_as("subscriber1") == ADDRESS[first], ONLINE_SECONDS, f"back at {first}", 0.3)


def test_health(lab):
    wait(lambda: all(c["State"]["Health"]["Status"] == "healthy" for c in lab.inspect(*PLAIN)),
         60, "healthy containers", 0.5)
    assert lab.inspect("wiring")[0]["State"]["ExitCode"] == 0


def test_down_leaves_nothing(lab):
    lab.compose("down", "-v")
    assert lab.engine.run("docker", "ps", "-aq") == ""
    assert lab.engine.run("docker", "volume", "ls", "-q") == ""
    assert sorted(lab.engine.run("docker", "network", "ls", "--format", "{{.Name}}").split()) == [
        "bridge", "host", "none"]
