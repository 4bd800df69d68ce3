"""Degree = N: nodes find together by themselves."""
import time

from lab import rpc, wait


def neighbours(lab):
    """name -> names, over transports that are up."""
    found = {}
    for t in rpc(lab["one"], 1234, "listAllTransports")["transports"]:
        if t["status"] == "connected":
            found.setdefault(t["a_name"], set()).add(t["b_name"])
            found.setdefault(t["b_name"], set()).add(t["a_name"])
    return found


def is_whole(lab, names, degree):
    """Each of these has so many of the others, and all of them hang together."""
    near = {n: others & names for n, others in neighbours(lab).items() if n in names}
    seen, todo = set(), [min(names)]
    while todo:
        n = todo.pop()
        if n not in seen:
            seen.add(n)
            todo += near.get(n, ())
    return seen == names and all(len(near[n]) >= degree for n in names)


def test_degree(empty):
    """Twelve nodes find together by themselves; three die, and the others close the gaps."""
    empty.add("one")
    empty.daemon("one", "nodemanager", {"nodemanager": {"Degree": 3}})
    wait(lambda: 1234 in [p for _, p in empty["one"].listening()], 10, "the manager listens")
    nodes = {}
    for i in range(12):
        keys = {"Name": f"n{i}", "AppTalkAddr": f"127.0.0.1:{17100 + i}"}
        nodes[f"n{i}"] = empty.daemon("one", "node", {"node": keys}, name=f"n{i}")
    wait(lambda: is_whole(empty, set(nodes), 3), 30, "each has three links, and all are joined", 0.2)
    time.sleep(5)
    links = sum(map(len, neighbours(empty).values())) / 2
    assert links <= 12 * 3, "more links than are good for anything"
    for n in ("n0", "n5", "n7"):
        nodes.pop(n).kill()
    wait(lambda: is_whole(empty, set(nodes), 3), 60, "the gaps are closed", 0.2)
