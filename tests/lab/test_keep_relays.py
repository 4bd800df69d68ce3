"""A node's own restart while the manager is away: with traffic running, every byte checked."""
import os
import time

import pytest

from keepline import (kept_rules, line, node_id, restart_log, rules_at_manager,  # noqa: F401
                      settled, stream)
from lab import wait
from meshapp import EchoStream


@pytest.mark.parametrize("name", ["r1", "r2"])
@pytest.mark.parametrize("away", [0.2, 6.0])
def test_relay_restarts_without_the_manager(line, stream, name, away):
    """For 0.2 s its neighbours hardly notice; after 6 s they have given it up."""
    relay, manager = line.d[f"{name}-node"], line.d["mgr-nodemanager"]
    before = rules_at_manager(line)
    assert len(before[name]) == 2
    manager.kill()
    relay.kill()
    time.sleep(away)
    relay.start()
    began = time.monotonic()
    wait(lambda: stream.times[-1] > began + 0.1, 8, "messages come back again", 0.02)
    back = next(t for t in stream.times if t > began) - began
    print(f"{name} away for {away} s without a manager: messages {back * 1000:.0f} ms after its start")
    assert back < 4
    time.sleep(2)
    assert restart_log(relay)[2:] == (2, 2)
    stream.check()
    # The manager comes back, and finds everything as it was.
    manager.start()
    settled(line)
    wait(lambda: rules_at_manager(line) == before, 10, "the manager knows the rules it knew")
    assert line.manager("status")["connections"] == 1
    assert kept_rules(line, name) == 2
    wait(lambda: stream.times[-1] > time.monotonic() - 0.2, 8, "messages come back again", 0.02)
    stream.finish()
    settled(line)
    wait(lambda: not any(rules_at_manager(line).values()), 8, "closed: no rule is left")
    assert kept_rules(line, name) == 0


@pytest.mark.parametrize("name", ["r1", "r2"])
def test_relay_restarts_under_its_manager(line, stream, name):
    """The same with the manager there: rules and transports stay what they are."""
    before, links = rules_at_manager(line), sorted(t["id"] for t in line.transports())
    began = time.monotonic()
    line.d[f"{name}-node"].kill()
    line.d[f"{name}-node"].start()
    wait(lambda: stream.times[-1] > began + 0.5, 8, "messages come back again", 0.02)
    time.sleep(1)
    pause = stream.pause_since(began)
    print(f"{name} restarted under its manager: pause {pause * 1000:.0f} ms")
    settled(line)
    assert rules_at_manager(line) == before
    assert sorted(t["id"] for t in line.transports()) == links
    stream.finish()
    assert pause < 4


def test_all_relays_restart_without_the_manager(line, stream):
    manager, relays = line.d["mgr-nodemanager"], [line.d[f"{n}-node"] for n in ("r1", "r2", "r3")]
    before = rules_at_manager(line)
    manager.kill()
    for relay in relays:
        relay.kill()
    for relay in relays:
        relay.start()
    began = time.monotonic()
    wait(lambda: stream.times[-1] > began + 0.1, 8, "messages come back again", 0.02)
    print(f"three relays restarted: {(stream.times[-1] - began) * 1000:.0f} ms after their start")
    manager.start()
    settled(line)
    wait(lambda: rules_at_manager(line) == before, 10, "the manager knows the rules it knew")
    stream.finish()


def test_end_of_a_connection_restarts(line, stream):
    """Its keys are gone with the process: the connection ends for its app, and leaves no rule."""
    line.d["mgr-nodemanager"].kill()
    line.d["gw1-node"].kill()
    line.d["gw1-node"].start()
    time.sleep(1)
    line.d["mgr-nodemanager"].start()
    wait(lambda: stream.fault, 15, "the app is told")
    assert "connection ended" in stream.fault
    stream.over = True
    settled(line)
    wait(lambda: not any(rules_at_manager(line).values()), 8, "no rule is left")
    assert line.manager("status")["connections"] == 0
    again = EchoStream(line["sub"], node_id(line, "gw1"))
    time.sleep(0.5)
    again.finish()


def test_damaged_file(line):
    node = line.d["r2-node"]
    path = os.path.join(node.state_dir, "node.state")
    assert os.stat(path).st_mode & 0o777 == 0o600
    node.kill()
    with open(path, "r+b") as f:
        f.seek(-20, os.SEEK_END)
        old = f.read(1)
        f.seek(-20, os.SEEK_END)
        f.write(bytes([old[0] ^ 1]))
    began = len(node.log())
    node.start()
    settled(line)
    said = node.log()[began:]
    assert said.count("damaged, or not written by this node; it is ignored") == 1
    assert "goes on with what was kept" not in said
    # That of another node is no better.
    time.sleep(1.5)
    node.kill()
    with open(os.path.join(line.d["r3-node"].state_dir, "node.state"), "rb") as f:
        foreign = f.read()
    with open(path, "wb") as f:
        f.write(foreign)
    began = len(node.log())
    node.start()
    settled(line)
    assert "it is ignored" in node.log()[began:]


def test_clean_end_leaves_nothing(line):
    node = line.d["r2-node"]
    time.sleep(1.5)
    status, _ = node.stop()
    assert status == 0
    node.start()
    settled(line)
    assert restart_log(node) == (0, 0, 0, 0)


def test_state_that_cannot_be_written(line):
    """Not a failure: it is said once, and the node goes on."""
    node = line.d["r3-node"]
    node.kill()
    blocker = os.path.join(node.state_dir, "node.state.new")
    os.makedirs(os.path.join(blocker, "x"))
    began = len(node.log())
    node.start()
    settled(line)
    line.manager("disconnectNodes", a="r2", b="r3")
    time.sleep(2.5)
    line.connect("r2", "r3")
    settled(line)
    assert node.log()[began:].count("cannot be written") == 1
    os.rmdir(os.path.join(blocker, "x"))
    os.rmdir(blocker)
    node.restart()
    settled(line)
