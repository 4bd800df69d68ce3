"""A node of another CPU, under qemu-user, and one of this machine's, linked: what one sends, the other
answers.  Its messages, handshakes and packets are the same on both, whatever the byte order."""
import json
import os
import sys

import pytest

import test_cross
from base import BUILD, TOP

sys.path.insert(0, f"{TOP}/tests/lab")
from lab import Lab, rpc, wait  # noqa: E402


def emulated(folder, target):
    """A folder with programs of the other CPU that start by themselves."""
    os.makedirs(folder, exist_ok=True)
    for program in ("node", "echo"):
        path = os.path.join(folder, program)
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"#!/bin/sh\nexec env QEMU_LD_PREFIX={TOP}/build/cross/{target} "
                    f"{test_cross.emulator(target)} {test_cross.folder(target)}/bin/{program} \"$@\"\n")
        os.chmod(path, 0o755)
    return folder


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("target", test_cross.TARGETS)
def test_echo(target, tmp_path, monkeypatch):
    test_cross.build(target)
    native = os.path.abspath(os.path.join(BUILD, "bin"))
    if not os.path.exists(f"{native}/node"):
        pytest.skip("not built")
    other = emulated(str(tmp_path / "bin"), target)
    with Lab() as lab:
        lab.add("here", "there")
        lab.link("here", "there", "10.88.1.0/24")
        lab.settle()

        def start(where, ns, program, config=None):
            monkeypatch.setenv("MESHNET_BIN", where)
            lab.daemon(ns, program, config)

        def manager(method, **params):
            return rpc(lab["here"], 1234, method, params)

        start(native, "here", "apptracker")
        start(native, "here", "nodemanager")
        wait(lambda: 1234 in [p for _, p in lab["here"].listening()], 10, "the manager listens")
        start(native, "here", "node", {"node": {"Name": "here", "ManagerAddr": "127.0.0.1:5999"}})
        # The filter of calls would be one of the emulator's.
        start(other, "there", "node", {"node": {"Name": "there", "ManagerAddr": "10.88.1.1:5999"},
                                       "daemon": {"Sandbox": "no", "User": ""}})

        def ids():
            return {n["name"]: n["id"] for n in manager("listNodes")["nodes"] if n["connected"]}

        wait(lambda: len(ids()) == 2, 30, "both nodes register")
        manager("connectNodes", a="here", b="there")
        wait(lambda: [t["status"].lower() for t in manager("listAllTransports")["transports"]] ==
             ["connected"], 30, "the transport comes up")
        lab.run("there", "echo", f"{other}/echo", "server")
        wait(lambda: manager("listApps", kind="by_type", value="echo")["apps"], 20, "echo is offered")
        out = lab["here"].run(f"{native}/echo", "client", "--to", f"echo@{ids()['there']}", "--json", "--wait",
                              "--size", "200000", "--count", "20", "--timeout", "40", timeout=60)
        assert json.loads(out.splitlines()[-1])["received"] == 20
