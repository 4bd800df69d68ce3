"""The method "softether" with the real program at both ends: methodtests.py, and what only it has."""
from lab import wait
from uplink import INET4
from methodtests import (closed_without_a_trace, processes, test_addresses_are_the_leased_ones,  # noqa: F401
                         test_another_address_does_not_pass, test_both_families_carry_bulk,
                         test_comings_and_goings_do_not_disturb_others,
                         test_counters_tell_what_went_through, test_opens_within_two_seconds,
                         test_server_killed_alone, test_subscriber_killed, vpn)

METHOD, PROGRAMS = "softether", ("vpnserver", "vpnclient")


def prepare(lab):
    """Counts what the gateway sends to others than its subscribers ask for."""
    lab["inet"].run("nft", f"""table inet watch {{
        counter foreign {{ }}
        chain arrive {{
            type filter hook prerouting priority raw; policy accept;
            iifname "to-gw" ip daddr != {{ {INET4}, 192.0.2.4/30 }} counter name foreign
        }}
    }}""")


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


def test_gateway_killed_and_started_again(vpn, processes):
    """Its SoftEther ends with it and knows the leases again; the subscribers come back."""
    server = processes("gw")
    assert len(server) == 2  # the one restarts the other
    vpn.gateway_daemon.kill()
    wait(lambda: not processes("gw"), 3, "the server ends with its gateway")
    vpn.gateway_daemon.start()
    vpn.wait_gateway()
    for name in ("s1", "s2"):
        vpn.wait_online(name, 20)
        assert vpn.session(name)["ipv4"]


def test_everything_is_closed_without_a_trace(vpn, processes):
    closed_without_a_trace(vpn, processes)
