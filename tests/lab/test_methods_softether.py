"""The method "softether" with the real program at both ends."""
import time

import pytest

import lab as tools
from lab import wait
from methods import INET4, INET6, MethodLab


@pytest.fixture(scope="module")
def vpn(request):
    lab = MethodLab()
    try:
        lab["inet"].run("nft", f"""table inet watch {{
            counter foreign {{ }}
            chain arrive {{
                type filter hook prerouting priority raw; policy accept;
                iifname "to-gw" ip daddr != {{ {INET4}, 192.0.2.0/30 }} counter name foreign
            }}
        }}""")
        lab.start_gateway("softether")
        for name in ("s1", "s2"):
            lab.start_subscriber(name, "softether")
        for name in ("s1", "s2"):
            lab.wait_online(name)
        yield lab
    finally:
        if getattr(request.session, "testsfailed", 0):
            print(lab.tail_logs())
        lab.close()
        faults = lab.problems + lab.leaks()
        assert not faults, "\n".join(faults)


def processes(lab, ns):
    """SoftEther's processes of a namespace."""
    found = []
    for pid in tools.sh("ip", "netns", "pids", lab[ns].full).split():
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                if f.read().strip() in ("vpnserver", "vpnclient"):
                    found.append(int(pid))
        except FileNotFoundError:
            pass
    return found


def test_both_families_carry_bulk(vpn):
    for name in ("s1", "s2"):
        for host in (INET4, INET6):
            assert vpn.fetch(name, 3_000_000, host, 10) == 3_000_000


def test_counters_tell_what_went_through(vpn):
    before = vpn.session("s1")["downBytes"]
    assert vpn.fetch("s1", 2_000_000) == 2_000_000
    wait(lambda: vpn.session("s1")["downBytes"] >= before + 2_000_000, 5, "the counter moves")
    assert vpn.session("s1")["connected"]
    assert vpn.session("s2")["downBytes"] < vpn.session("s1")["downBytes"]


def test_addresses_are_the_leased_ones(vpn):
    for name in ("s1", "s2"):
        session, interface = vpn.session(name), vpn.interface(name)
        addresses = vpn[name].ip("-o", "addr", "show", "dev", interface)
        assert session["ipv4"] in addresses and session["ipv6"] in addresses


def test_another_address_does_not_pass(vpn):
    """s2 sends from the address of s1, and from one that nobody has."""
    interface = vpn.interface("s2")
    for address in (vpn.session("s1")["ipv4"], "10.117.0.200"):
        vpn["s2"].ip("addr", "add", f"{address}/32", "dev", interface)
        try:
            out = vpn["s2"].run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "0.5", "-I", address,
                                INET4, check=False)
            assert " 0 received" in out, out
        finally:
            vpn["s2"].ip("addr", "del", f"{address}/32", "dev", interface)
    assert vpn.fetch("s2", 1000) and vpn.fetch("s1", 1000)


def test_opens_within_two_seconds(vpn):
    daemon = vpn.subscribers["s2"]
    daemon.stop()
    vpn.assert_clean("s2")
    began = time.monotonic()
    daemon.start()
    vpn.wait_online("s2")
    assert time.monotonic() - began < 2.0


def test_comings_and_goings_do_not_disturb_others(vpn):
    """A ping every 20 ms of s1, while s2 leaves and comes: none is lost."""
    ping = vpn.run("s1", "steady", "ping", "-n", "-i", "0.02", "-c", "150", "-W", "2", INET4)
    daemon = vpn.subscribers["s2"]
    daemon.stop()
    daemon.start()
    vpn.wait_online("s2")
    ping.popen.wait(20)
    assert " 0% packet loss" in ping.log(), ping.log()[-300:]


def test_an_ended_lease_is_cut_off_at_once(vpn):
    """With its session, its hub and its interface; the subscriber comes back with another."""
    old = vpn.session("s2")
    assert vpn["gw"].ip("-o", "link", "show", "dev", old["interface"])
    assert vpn.gateway("endSession", sid=old["sid"])["success"]
    wait(lambda: old["interface"] not in vpn["gw"].ip("-o", "link", "show"), 5, "its end")
    vpn.wait_online("s2", 15)
    assert vpn.session("s2")["grantedAt"] > old["grantedAt"]


def test_it_does_not_call_home(vpn):
    """All that the gateway sent to the Internet went to the host that its subscribers asked for."""
    out = vpn["inet"].run("nft", "list", "counters")
    assert "packets 0 bytes 0" in out, out


def test_nobody_else_manages_the_server(vpn):
    """Not over the network, and not without the password."""
    for ns, address in (("s1", vpn.gateway_address("s1")), ("gw", "127.0.0.1")):
        out = vpn[ns].run("timeout", "5", "/usr/libexec/softether/vpncmd/vpncmd",
                          f"{address}/tcp:5555", "/SERVER", "/PASSWORD:x", "/CSV", "/PROGRAMMING",
                          "/CMD", "HubList",
                          check=False)
        assert "Standalone" not in out and "Error" in out, out


def test_gateway_killed_and_started_again(vpn):
    """Its SoftEther ends with it and knows the leases again; the subscribers come back."""
    server = processes(vpn, "gw")
    assert len(server) == 2  # the one restarts the other
    vpn.gateway_daemon.kill()
    wait(lambda: not processes(vpn, "gw"), 3, "the server ends with its gateway")
    vpn.gateway_daemon.start()
    vpn.wait_gateway()
    for name in ("s1", "s2"):
        vpn.wait_online(name, 20)
        assert vpn.session(name)["ipv4"]


def test_server_killed_alone(vpn):
    """It is started again, and subscribers go on."""
    old = processes(vpn, "gw")
    vpn["gw"].run("kill", "-9", str(old[0]))
    wait(lambda: processes(vpn, "gw") not in ([], old), 5, "another server")
    for name in ("s1", "s2"):
        vpn.wait_online(name, 20)


def test_subscriber_killed(vpn):
    """Its SoftEther ends with it; the next start makes the host as it was, and online again."""
    daemon = vpn.subscribers["s1"]
    daemon.kill()
    wait(lambda: not processes(vpn, "s1"), 3, "the client ends with its subscriber")
    daemon.cleanup()
    vpn.assert_clean("s1")
    daemon.start()
    vpn.wait_online("s1")


def test_everything_is_closed_without_a_trace(vpn):
    # Of leases that a subscriber gave up while the gateway was away, some may wait for their end.
    sids = {vpn.session(n)["sid"] for n in ("s1", "s2")}
    for name in ("s1", "s2"):
        status, _ = vpn.subscribers[name].stop()
        assert status == 0
        vpn.assert_clean(name)
        assert not processes(vpn, name)
    wait(lambda: not sids & {s["sid"] for s in vpn.gateway("listSessions")["sessions"]}, 3,
         "their leases are closed")
    status, _ = vpn.gateway_daemon.stop()
    assert status == 0
    vpn.assert_clean("gw")
    assert not processes(vpn, "gw")
