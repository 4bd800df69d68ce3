"""300 real nodes on one machine: they register, pair by themselves, and each has something echoed."""
import concurrent.futures
import json
import os
import time

import pytest

from lab import Lab, LabError, bin_dir, rpc, sh, wait

NODES, A_CALL, SERVERS, AT_ONCE = 300, 60, 10, 4
MESSAGES, BYTES = 3, 1000


class Crowd(Lab):
    """One manager that starts all of them (addNodes), on the loopback of one namespace."""

    def __init__(self):
        super().__init__()
        try:
            self.add("crowd")
            self.daemon("crowd", "apptracker")
            # 300 nodes that tell what they do would write more than they say.
            self.manager = self.daemon("crowd", "nodemanager", {"general": {"LogLevel": "warn"}})
            wait(lambda: 1234 in [p for _, p in self["crowd"].listening()], 10, "the manager listens")
        except BaseException:
            self.close()
            raise

    def rpc(self, method, /, **params):
        return rpc(self["crowd"], 1234, method, params, timeout=30)

    def grow(self):
        for _ in range(NODES // A_CALL):
            self.rpc("addNodes", count=A_CALL, connect=True)

    def nodes(self):
        return [n for n in self.rpc("listNodes")["nodes"] if n["connected"]]

    def links_up(self):
        """Pairs of names."""
        return {frozenset((t["a_name"], t["b_name"]))
                for t in self.rpc("listAllTransports")["transports"]
                if t["status"].lower() == "connected"}

    def app_socket(self, name):
        return os.path.join(self.manager.state_dir, "nodes", name, "app.sock")

    def serve(self, name):
        self.run("crowd", f"echo-{name}", os.path.join(bin_dir(), "echo"), "server",
                 "--node", self.app_socket(name), "--id", f"echo-{name}")

    def echo(self, name, server):
        """What the client at `name` says of its messages to the server at another node."""
        out = sh(os.path.join(bin_dir(), "echo"), "client", "--node", self.app_socket(name), "--to",
                 f"echo-{server['name']}@{server['id']}", "--size", BYTES, "--count", MESSAGES,
                 "--timeout", 40, "--wait", "--json", check=False, timeout=50)
        return json.loads(out.splitlines()[-1]) if out.strip() else {}


@pytest.fixture(scope="module")
def crowd():
    lab = Crowd()
    try:
        yield lab
    finally:
        lab.close()
        assert not lab.problems and not lab.leaks()


def test_they_register(crowd):
    began = time.monotonic()
    crowd.grow()
    wait(lambda: len(crowd.nodes()) == NODES, 60, "all register", 0.2)
    print(f"{NODES} nodes registered after {time.monotonic() - began:.1f} s")


def connected_to(first, links):
    """Names that can be reached over the links."""
    neighbours = {}
    for a, b in map(tuple, links):
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)
    seen, todo = {first}, [first]
    while todo:
        new = neighbours.get(todo.pop(), set()) - seen
        seen |= new
        todo += new
    return seen


def test_they_pair(crowd):
    def whole():
        return len(connected_to("node-1", crowd.links_up())) == NODES
    wait(whole, 60, "all are in one mesh", 0.2)


def test_each_has_something_echoed(crowd):
    nodes = crowd.nodes()
    servers = nodes[::NODES // SERVERS]
    for server in servers:
        crowd.serve(server["name"])
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        # Never itself: the next server's.
        answers = list(pool.map(crowd.echo, [n["name"] for n in nodes],
                                [servers[(i // (NODES // SERVERS) + 1) % SERVERS]
                                 for i in range(NODES)]))
    failed = [n["name"] for n, a in zip(nodes, answers) if a.get("received") != MESSAGES]
    assert not failed, f"{len(failed)} of {NODES} without an echo: {failed[:10]}"
    print(f"{NODES} echoes took {time.monotonic() - began:.1f} s")


def test_all_are_still_there(crowd):
    """Nothing was lost under it, and the manager is small."""
    assert len(crowd.nodes()) == NODES
    assert crowd.manager.rss_kb() < 64 * 1024, "the manager has grown"
    if crowd.manager.log().count("\n") > 200:
        raise LabError("the manager complains\n" + crowd.manager.log()[-2000:])
