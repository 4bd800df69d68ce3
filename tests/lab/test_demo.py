"""The demo's scenario as assertions.  The tests build on each other, in this order."""
import ipaddress
import re
import time

import lab as tools
from lab import wait
from topology import (COMMUNITY, GATEWAYS, HTTP_ADDR, HTTP_ADDR6, LINKS, NODES)

FAILOVER_SECONDS = 6.0





def test_nodes_register(mesh):
    nodes = {n["name"]: n for n in mesh.nodes()}
    assert set(nodes) == set(NODES)
    assert all(n["connected"] for n in nodes.values())
    assert len({n["id"] for n in nodes.values()}) == len(NODES)
    assert all(len(n["id"]) == 64 and n["id"].startswith(n["short"]) for n in nodes.values())


def test_transports_only_between_neighbours(mesh):
    assert mesh.up_links() == {frozenset(pair) for pair in LINKS}
    for t in mesh.transports():
        assert t["rtt_us"] < 1_000_000


def test_gateways_are_found_with_quality(mesh):
    def both_measured():
        known = {g["name"]: g for g in mesh.subscriber("listGateways")["gateways"]}
        return set(known) == set(GATEWAYS) and all(
            g["online"] and g["rttMs"] > 0 and g["why"] for g in known.values()) and known
    wait(both_measured, 20, "both gateways are known and measured")


def test_lease_and_addresses(mesh):
    session = mesh.session()
    gateway = session["gateway"]
    assert gateway in GATEWAYS and session["method"] == "mesh"
    ipv4, ipv6 = (ipaddress.ip_interface(session[k]).ip for k in ("ipv4", "ipv6"))
    assert ipv4 in ipaddress.ip_network(f"10.117.{gateway[-1]}.0/24")
    assert ipv6 in ipaddress.ip_network(f"fd75:6d65:{gateway[-1]}::/64")
    shown = mesh["sub"].ip("addr", "show", session["interface"])
    assert re.search(rf"\b{ipv4}\b", shown) and f" {ipv6}" in shown
    held = [(s["sid"], s["ipv4"]) for s in mesh.gateway(gateway, "listSessions")["sessions"]]
    assert (session["sid"], str(ipv4)) in held


def test_the_page_loads_over_ipv4_and_ipv6(mesh):
    assert mesh.fetch()
    assert mesh.fetch(host=HTTP_ADDR6)


def test_only_the_tunnel_leads_to_the_internet(mesh):
    main = mesh["sub"].ip("route", "show", "table", "main")
    assert "default" not in main
    assert "mesh0" in mesh["sub"].ip("route", "get", HTTP_ADDR)
    # The community stays reachable beside it.
    assert "mesh0" not in mesh["sub"].ip("route", "get", mesh.address("mgr"))


def test_traffic_crosses_two_relays(mesh):
    """Which relays they are, and whether there is a third, measured costs decide, now and then anew."""
    gateway = mesh.gateway_in_use()
    path = mesh.manager("findRoute", a="sub", b=gateway)
    assert len(path["nodes"]) >= 4 and path["hops"] == len(path["nodes"]) - 1

    def received():
        return {frozenset((t["a_name"], t["b_name"])): t["tx_bytes"] + t["rx_bytes"]
                for t in mesh.transports()}
    before = received()
    for _ in range(20):
        assert mesh.fetch()

    def reached():
        """From the subscriber, over links that carried the page; probes of a standby are a fifth of it."""
        mesh.fetch()
        found, links = {"sub"}, [link for link, n in received().items() if n > before[link] + 20000]
        for _ in links:
            found |= {name for link in links if link & found for name in link}
        return found
    wait(lambda: {"r1", gateway} <= reached(), 8, "the bytes of the page are counted on every hop", 0.2)


def test_ping(mesh):
    rtts = tools.ping_rtts(mesh["sub"], HTTP_ADDR, 5)
    assert len(rtts) == 5 and min(rtts) < 50


def test_throughput(mesh):
    assert tools.iperf3_bps(mesh["sub"], HTTP_ADDR, 2) > 10e6
    assert tools.iperf3_bps(mesh["sub"], HTTP_ADDR, 2, reverse=True) > 10e6


def test_meshctl_shows_it(mesh):
    listed = mesh.meshctl("mgr", "list-nodes")
    assert all(n in listed for n in NODES)
    assert len(mesh.meshctl_json("mgr", "list-nodes")["nodes"]) == len(NODES)
    assert len(mesh.meshctl_json("mgr", "list-all-transports")["transports"]) == len(LINKS)
    assert "r1" in mesh.meshctl("mgr", "find-route", "sub", "gw2")
    apps = mesh.meshctl("mgr", "apps")
    assert apps.count("internet_gateway") == 2
    gateways = mesh.meshctl("sub", "gateways")
    assert all(gw in gateways for gw in GATEWAYS)


def test_killing_the_gateway_in_use(mesh):
    first = mesh.gateway_in_use()
    second = next(gw for gw in GATEWAYS if gw != first)
    began = time.monotonic()
    for program in ("gatewayd", "node"):
        mesh.d[f"{first}-{program}"].kill()
    wait(lambda: mesh.fetch(0.4), 15, "the page loads again", 0.05)
    seconds = time.monotonic() - began
    assert mesh.gateway_in_use() == second
    assert seconds < FAILOVER_SECONDS, f"fail-over took {seconds:.1f} s"


def test_the_dead_gateway_comes_back(mesh):
    dead = next(gw for gw in GATEWAYS if not mesh.d[f"{gw}-gatewayd"].alive())
    for program in ("node", "gatewayd"):
        mesh.d[f"{dead}-{program}"].start()
    wait(mesh.links_up, 20, "its transport comes back")
    wait(lambda: all(g["online"] for g in mesh.subscriber("listGateways")["gateways"])
         and len(mesh.subscriber("listGateways")["gateways"]) == 2, 20, "it is listed as online")
    assert mesh.fetch()


def test_everything_ends_cleanly_and_hosts_are_as_before(mesh):
    for name, daemon in mesh.d.items():
        status, seconds = daemon.stop()
        assert status == 0, f"{name}: exit status {status}"
        assert seconds < tools.STOP_SECONDS, f"{name}: took {seconds:.1f} s to end"
    for name in COMMUNITY:
        now = mesh[name].host_state()
        for what, text in mesh.clean[name].items():
            assert now[what] == text, f"{name}: {what}\n{tools.difference(text, now[what])}"
