"""A full disk, apps that come while the manager is away, and programs that know nothing of restarts."""
import contextlib
import json
import os
import re
import signal
import time

import pytest

from keepline import kill_and_start, line, node_id, restart_log, settled  # noqa: F401
from lab import bin_dir, sh, wait


def test_vpn_traffic_goes_on(line):
    """A TCP stream of iperf3 and pings through the VPN while the relays, the manager and the tracker
    are killed and come back, one after the other and together."""
    server = line.daemon("gw1", "vpn-server", {"vpn": {"VPNSubnet": "10.200.0.0/24"}})
    client = line.daemon("sub", "vpn-client", {"vpn": {"Server": "vpn"}})
    wait(lambda: "1 received" in line["sub"].run("ping", "-c1", "-W1", "10.200.0.1", check=False), 20,
         "the VPN is up")
    sink = line.run("gw1", "vpn-iperf3", "iperf3", "--forceflush", "-s", "-B", "10.200.0.1")
    sink.wait_log("Server listening")
    ping = line.run("sub", "ping", "ping", "-i", "0.1", "-D", "10.200.0.1")
    tcp = line.run("sub", "iperf3", "iperf3", "-c", "10.200.0.1", "-t", "13", "-b", "20M", "-i", "1",
                   "-J")
    time.sleep(2)
    daemon = {n: line.d[f"{n}-node"] for n in ("r1", "r2")}
    daemon.update({n: line.d[f"mgr-{n}"] for n in ("nodemanager", "apptracker")})
    for victims, away in ((("r1",), 0.2), (("nodemanager", "apptracker"), 1.0), (("r2",), 0.2),
                          (("nodemanager", "r1", "r2"), 1.0)):
        kill_and_start([daemon[v] for v in victims], away)
        time.sleep(1.6)
    assert tcp.popen.wait(20) == 0, tcp.log()
    ping.signal(signal.SIGINT)
    ping.popen.wait(5)
    sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received",
                                        ping.log()).groups())
    result = json.loads(tcp.log())
    pauses = [i["sum"]["bytes"] for i in result["intervals"]]
    print(f"pings: {received} of {sent}; iperf3: {result['end']['sum_received']['bytes'] / 1e6:.1f} MB, "
          f"bytes in each second {pauses}")
    assert sent - received < 60  # four cuts of at most 1.5 s, 10 a second
    assert result["end"]["sum_received"]["bytes"] == result["end"]["sum_sent"]["bytes"]
    assert result["end"]["sum_received"]["bytes"] > 13 * 2.5e6 * 0.5
    for p in (sink, client, server):
        p.stop()
    settled(line)


@pytest.mark.parametrize("with_node", [False, True])
def test_connect_while_the_manager_is_away(line, with_node):
    """An app that asks for a connection meanwhile, or before its own node has registered, is served
    as soon as they are there."""
    settled(line)
    manager, node, far = line.d["mgr-nodemanager"], line.d["sub-node"], node_id(line, "gw1")
    manager.kill()
    if with_node:
        node.restart()
    client = line.run("sub", f"echo-early-{with_node}", f"{bin_dir()}/echo", "client", "--to",
                      f"echo@{far}", "--json", "100", "10")
    time.sleep(1.5)
    assert client.popen.poll() is None, client.log()
    manager.start()
    began = time.monotonic()
    status = client.popen.wait(15)
    print(f"connected and done {time.monotonic() - began:.1f} s after the manager's start")
    assert status == 0, client.log()
    assert json.loads(client.log().splitlines()[-1])["received"] == 10
    settled(line)


def test_full_disk(line):
    """A state directory on a file system of its own, with not a byte left: said once, and gone on with; once
    there is room, what is held is on the disk, and a restart takes it up."""
    settled(line)
    node = line.d["r3-node"]
    node.kill()
    kept = {n: open(os.path.join(node.state_dir, n), "rb").read() for n in os.listdir(node.state_dir)}
    sh("mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "none", node.state_dir)
    try:
        for name, data in kept.items():
            with open(os.open(os.path.join(node.state_dir, name), os.O_CREAT | os.O_WRONLY, 0o600),
                      "wb") as f:
                f.write(data)
        filler = fill(node.state_dir)
        began = len(node.log())
        node.start()
        settled(line)
        line.manager("disconnectNodes", a="r2", b="r3")
        time.sleep(1)
        line.connect("r2", "r3")
        settled(line)
        time.sleep(6)  # it has tried again meanwhile
        said = node.log()[began:]
        assert said.count("cannot be written: No space left on device") == 1, said
        os.unlink(filler)
        wait(lambda: "can be written again" in node.log()[began:], 8, "it finds the room by itself")
        node.kill()
        before = len(node.log())
        node.start()
        wait(lambda: "goes on with what was kept" in node.log()[before:], 5, "it took it up")
        assert restart_log(node)[:2] == (3, 3)
        settled(line)
    finally:
        node.kill()
        sh("umount", node.state_dir)
        node.start()
    settled(line)


def fill(folder):
    """A file that takes all the room there is."""
    path = os.path.join(folder, "filler")
    with open(path, "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(bytes(4096))
    return path
