"""Lists that are longer than one answer: thousands of simulated nodes and their transports."""
import json
import os
import subprocess

import pytest

from conftest import finish
from lab import Lab, LabError, bin_dir, rpc, wait

NODES, LINKS = 4500, 2000


class Crowd(Lab):
    """One manager, and nodes that are no more than a channel each."""

    def __init__(self):
        super().__init__()
        self.swarm = None
        try:
            self.add("s")
            self.daemon("s", "nodemanager", {"nodemanager": {"MaxNodes": NODES + 100},
                                             "general": {"LogLevel": "warn"}})
            wait(lambda: 5999 in [p for _, p in self["s"].listening()], 10, "the manager listens")
            program = os.path.join(os.path.dirname(bin_dir()), "bench-bin", "swarm")
            self.swarm = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self["s"].full, program,
                 "5999", str(NODES)], text=True, bufsize=1, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, env=self.environment)
            for command in ("register", f"links {LINKS}"):
                self.swarm.stdin.write(command + "\n")
                while self.swarm.stdout.readline().strip():  # an empty line at the end
                    pass
                assert self.swarm.poll() is None, command
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.swarm:
            self.swarm.kill()
            self.swarm.wait()
            self.swarm.stdin.close()
            self.swarm.stdout.close()
        super().close()

    def rpc(self, method, /, **params):
        return rpc(self["s"], 1234, method, params)


@pytest.fixture(scope="module")
def crowd(request):
    lab = Crowd()
    yield lab
    finish(lab, request)


def test_too_long_for_one_answer(crowd):
    with pytest.raises(LabError, match=f"{NODES} nodes do not fit.*offset, limit"):
        crowd.rpc("listNodes")


def test_pages(crowd):
    first = crowd.rpc("listNodes", limit=3)
    assert (len(first["nodes"]), first["total"], first["offset"]) == (3, NODES, 0)
    second = crowd.rpc("listNodes", offset=3, limit=3)
    ids = [n["id"] for n in first["nodes"] + second["nodes"]]
    assert len(set(ids)) == 6 and [n["number"] for n in second["nodes"]] == [4, 5, 6]
    last = crowd.rpc("listNodes", offset=NODES - 2, limit=1000)
    assert len(last["nodes"]) == 2
    assert crowd.rpc("listNodes", offset=NODES + 5)["nodes"] == []
    node = crowd.rpc("listAllTransports", limit=1)["transports"][0]["a"]
    whole = crowd.rpc("listTransports", node=node)
    assert whole["total"] == len(whole["transports"]) > 0
    rest = crowd.rpc("listTransports", node=node, offset=1)
    assert rest["transports"] == whole["transports"][1:] and rest["total"] == whole["total"]
    assert crowd.rpc("listRoutes", node=node, limit=5) == {"total": 0, "offset": 0, "routes": []}
    for wrong in ({"limit": 0}, {"limit": 100000}, {"offset": -1}, {"offset": "x"}):
        with pytest.raises(LabError, match="-32602"):
            crowd.rpc("listNodes", **wrong)


def test_meshctl_pages_by_itself(crowd):
    for command, key, count in (("list-nodes", "nodes", NODES),
                                ("list-all-transports", "transports", LINKS)):
        listed = json.loads(crowd.meshctl("s", "--json", command))
        assert listed["total"] == len(listed[key]) == len({n["id"] for n in listed[key]})
        assert count * 0.99 < listed["total"] <= count and "offset" not in listed
    assert crowd.meshctl("s", "list-nodes").count("\n") == NODES + 1


def test_completion_offers_them_all(crowd):
    """Page by page, as far as the half second for a Tab goes."""
    names = {n["name"] for n in json.loads(crowd.meshctl("s", "list-nodes", "--json"))["nodes"]}
    offered = crowd.meshctl("s", "complete", "--", "list-transports", "").split()
    assert set(offered) <= names and len(offered) > 500
