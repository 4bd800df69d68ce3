"""What runs inside the virtual machine: a list of scenarios.

A scenario names the kernel modules and programs that it needs and a pytest file of tests/lab with
its environment.  One whose modules the kernel package lacks, or whose programs are not here, is
skipped with that reason.  To add one, add an entry.
"""
from dataclasses import dataclass, field


@dataclass
class Scenario:
    name: str
    tests: str                                     # file of tests/lab
    select: str = ""                               # pytest -k
    environment: dict = field(default_factory=dict)
    modules: tuple = ()
    programs: tuple = ()
    daemons: tuple = ("gatewayd", "subscriberd")   # of BUILD/bin


def methods(name, wanted, modules, programs=()):
    """tests/lab/test_methods_link.py with these methods."""
    return Scenario(name, "test_methods_link.py", "" if "direct" in wanted else "not direct_keeps",
                    environment={"MESHNET_METHODS": wanted}, modules=modules, programs=programs)


SCENARIOS = [
    methods("tunnels", "ipip ipip6 gre gre6", ("ipip", "sit", "ip6_tunnel", "ip_gre", "ip6_gre")),
    Scenario("wireguard", "test_methods_wg.py",
             environment={"MESHNET_WIREGUARD": "kernel", "MESHNET_METHODS": "wireguard"},
             modules=("wireguard",)),
    Scenario("batman", "test_batman.py", modules=("batman_adv",), programs=("batctl",)),
    Scenario("queues", "test_gateway_direct.py",
             environment={"MESHNET_QUEUES": "fq_codel cake"},
             modules=("ifb", "sch_htb", "sch_ingress", "sch_cake", "cls_bpf", "act_mirred"),
             programs=("tc", "iperf3")),
]
