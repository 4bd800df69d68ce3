"""vpn-server and vpn-client over the mesh: several clients, both families, super-packets, restarts."""
import json
import os
import re

import pytest

import lab as tools
from lab import Process, wait

SUBNET, SUBNET6 = "10.200.0.0/24", "fd00:200::/64"
SERVER4, SERVER6 = "10.200.0.1", "fd00:200::1"


def program(name):
    return os.path.join(tools.bin_dir(), name)


def start(mesh, ns, name, *argv):
    p = Process(mesh, mesh[ns], f"{ns}-{name}", [program(name), "--json", "-o",
                f"general.statedir={mesh.folder}/{ns}-{name}.state", *argv], must_end=True)
    mesh.processes.append(p)
    return p


def lines(p):
    return [json.loads(line) for line in p.log().splitlines() if line.startswith("{")]


def states(p):
    return [line["state"] for line in lines(p) if "state" in line]


def address(p, family="ipv4"):
    return [line for line in lines(p) if line.get("state") == "up"][-1][family].split("/")[0]


@pytest.fixture(scope="module")
def vpn(network):
    network.start_overlay()
    network.vpn_server = start(network, "gw1", "vpn-server", "--id", "office", "--subnet", SUBNET,
                               "--subnet6", SUBNET6)
    network.vpn_clients = {ns: start(network, ns, "vpn-client", "--to", "office",
                                     "--interface", "office0") for ns in ("sub", "gw2", "r3")}
    for p in network.vpn_clients.values():
        wait(lambda p=p: "up" in states(p), 15, f"{p.name} is up")
    return network


def test_addresses_are_distinct(vpn):
    for family in ("ipv4", "ipv6"):
        assert len({address(p, family) for p in vpn.vpn_clients.values()}) == 3


@pytest.mark.parametrize("ns", ["sub", "gw2", "r3"])
def test_pings(vpn, ns):
    for host in (SERVER4, SERVER6):
        wait(lambda host=host: tools.ping_rtts(vpn[ns], host, 1), 5, f"{ns} pings {host}")


def test_clients_reach_each_other_through_the_server(vpn):
    vpn["gw1"].sysctl("net.ipv4.ip_forward", 1)
    other = address(vpn.vpn_clients["gw2"])
    wait(lambda: tools.ping_rtts(vpn["sub"], other, 1), 5, "a ping from client to client")


def gso_max(ns, interface):
    return int(re.search(r"gso_max_size (\d+)", ns.ip("-d", "link", "show", interface)).group(1))


def test_super_packets_and_counters(vpn):
    """The interface hands out packets far above its MTU, and a bulk transfer goes through."""
    vpn.run("gw1", "iperf3", "iperf3", "-s")
    assert gso_max(vpn["sub"], "office0") == 62500  # this host does not forward
    features = vpn["sub"].run("ethtool", "-k", "office0", check=False)
    assert not features or "tcp-segmentation-offload: on" in features
    for reverse in (False, True):
        bps = wait(lambda r=reverse: tools.iperf3_bps(vpn["sub"], SERVER4, 2, r), 10, "iperf3")
        assert bps > 100e6


def test_foreign_addresses_do_not_pass(vpn):
    """A client's kernel sends from another address: neither the client nor the server lets it."""
    sub = vpn["sub"]
    sub.ip("addr", "add", "10.99.0.1/32", "dev", "lo")
    out = sub.run("ping", "-c", 2, "-i", 0.2, "-W", 1, "-I", "10.99.0.1", SERVER4, check=False)
    assert "100% packet loss" in out


def test_server_comes_back(vpn):
    vpn.vpn_server.kill()
    client = vpn.vpn_clients["sub"]
    wait(lambda: states(client)[-1] == "down", 10, "the client notices")
    vpn.vpn_server.start()
    wait(lambda: states(client)[-1] == "up", 15, "the client is up again")
    wait(lambda: tools.ping_rtts(vpn["sub"], SERVER4, 1), 5, "a ping")


def test_node_comes_back(vpn):
    client = vpn.vpn_clients["sub"]
    vpn.d["sub-node"].kill()
    wait(lambda: states(client)[-1] == "down", 10, "the client notices")
    vpn.d["sub-node"].start()
    wait(lambda: states(client)[-1] == "up", 30, "the client is up again")
    wait(lambda: tools.ping_rtts(vpn["sub"], SERVER6, 1), 5, "a ping")


def test_ends_cleanly(vpn):
    for p in (*vpn.vpn_clients.values(), vpn.vpn_server):
        status, seconds = p.stop()
        assert status == 0 and seconds < 2
    assert "office0" not in vpn["sub"].ip("link", "show")
