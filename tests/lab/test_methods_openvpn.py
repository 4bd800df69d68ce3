"""The method "openvpn" with the real program at both ends: methodtests.py, and what only it has."""
from lab import wait
from methodtests import (closed_without_a_trace, processes, test_addresses_are_the_leased_ones,  # noqa: F401
                         test_another_address_does_not_pass, test_both_families_carry_bulk,
                         test_comings_and_goings_do_not_disturb_others,
                         test_counters_tell_what_went_through, test_opens_within_two_seconds,
                         test_server_killed_alone, test_subscriber_killed, vpn)

METHOD, PROGRAMS = "openvpn", ("openvpn",)


def test_a_wrong_password_stays_outside(vpn):
    """Who knows the sid of another, but not its password."""
    lease = vpn.gateway("requestConnection", sid="stranger", name="x", port=0, method="openvpn")
    assert lease["success"]
    config = f"""
client
dev-type tun
dev wrong0
proto udp4
remote {vpn.gateway_address("s2")} {lease["openvpn"]["port"]}
nobind
peer-fingerprint {lease["openvpn"]["fingerprint"]}
ifconfig-noexec
route-noexec
disable-dco
<auth-user-pass>
stranger
{"0" * 48}
</auth-user-pass>
"""
    path = f"{vpn.folder}/wrong.conf"
    with open(path, "w", encoding="ascii") as f:
        f.write(config)
    out = vpn["s2"].run("timeout", "10", "/usr/sbin/openvpn", "--config", path, check=False)
    assert "AUTH_FAILED" in out
    assert vpn.gateway("releaseConnection", sid="stranger")["success"]


def test_gateway_killed_and_started_again(vpn, processes):
    """Its OpenVPN ends with it, and the subscribers come back with the leases that they had."""
    sids = {vpn.session(n)["sid"] for n in ("s1", "s2")}
    address = vpn.session("s1")["ipv4"]
    server = processes("gw")
    assert len(server) == 1
    vpn.gateway_daemon.kill()
    wait(lambda: not processes("gw"), 3, "the server ends with its gateway")
    vpn.gateway_daemon.start()
    vpn.wait_gateway()
    for name in ("s1", "s2"):
        vpn.wait_online(name, 20)
    assert {vpn.session(n)["sid"] for n in ("s1", "s2")} == sids
    assert vpn.session("s1")["ipv4"] == address


def test_everything_is_closed_without_a_trace(vpn, processes):
    closed_without_a_trace(vpn, processes)
