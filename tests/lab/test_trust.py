"""Who is let in: keys configured, keys trusted on first use, keys that changed."""
import contextlib
import os
import shutil
import time

import lab as tools
from lab import wait
from topology import MANAGER_PORT


def test_a_node_refuses_a_manager_with_another_key(network):
    network.start_tracker()
    network.start_manager()
    wait(lambda: network.nodes() == [], 10, "the manager answers")
    _, other = tools.new_key()
    node = network.start_node("r1", ManagerKey=other)
    node.wait_log(r"(?i)key", 10)
    time.sleep(2)
    assert "r1" not in network.registered()
    assert node.alive()
    assert len(node.log().splitlines()) < 20, "a refusal must not flood the log"


def test_the_right_key_is_accepted(network):
    network.d["r1-node"].stop()
    network.start_node("r1")
    wait(lambda: "r1" in network.registered(), 10, "r1 registers")


def test_first_use_is_told_once_and_pinned(network):
    node = network.start_node("r2", ManagerKey="")
    wait(lambda: "r2" in network.registered(), 10, "r2 registers")
    assert network.manager_key[:8] in node.log() or "first use" in node.log()
    node.restart()
    wait(lambda: "r2" in network.registered(), 10, "r2 registers again")
    assert node.log().lower().count("first use") <= 1


def test_a_changed_manager_key_is_refused_ever_after(network):
    """Somebody else takes the manager's address: neither node registers, pinned or configured."""
    manager = network.d["mgr-nodemanager"]
    assert manager.stop()[0] == 0
    key_path = os.path.join(manager.state_dir, "nodemanager.key")
    shutil.copy2(key_path, key_path + ".real")
    secret, _ = tools.new_key()
    with open(key_path, "w", encoding="ascii") as f:
        f.write(secret + "\n")
    for suffix in (".db", ".db-wal", ".db-shm"):
        path = os.path.join(manager.state_dir, "nodemanager" + suffix)
        if os.path.exists(path):
            os.rename(path, path + ".real")
    manager.start()
    wait(lambda: network.nodes() is not None, 10, "the false manager answers")
    time.sleep(4)
    assert network.registered() == set()
    manager.stop()
    shutil.move(key_path + ".real", key_path)
    for suffix in (".db", ".db-wal", ".db-shm"):
        path = os.path.join(manager.state_dir, "nodemanager" + suffix)
        if os.path.exists(path):
            os.unlink(path)
        if os.path.exists(path + ".real"):
            os.rename(path + ".real", path)
    manager.start()
    wait(lambda: network.registered() >= {"r1", "r2"}, 20, "both come back to the real manager")


def test_a_manager_refuses_a_tracker_with_another_key(network):
    manager = network.d["mgr-nodemanager"]
    manager.stop()
    _, other = tools.new_key()
    manager.config["apptracker"] = {"PublicKey": other}
    manager.write_config()
    manager.start()
    wait(lambda: network.registered() >= {"r1", "r2"}, 20, "nodes register without a tracker")
    manager.wait_log(r"(?i)tracker.*key|key.*tracker", 10)
    manager.stop()
    del manager.config["apptracker"]
    manager.write_config()
    manager.start()
    wait(lambda: network.manager("listApps") is not None, 20, "the tracker is back")


def test_admission_by_token(network):
    manager = network.d["mgr-nodemanager"]
    manager.stop()
    manager.config["nodemanager"].update(Admission="token", Tokens="open-sesame")
    manager.write_config()
    manager.start()
    stranger = network.start_node("r3")
    stranger.wait_log(r"(?i)refused|token|admission", 10)
    time.sleep(1)
    assert "r3" not in network.registered()
    stranger.stop()
    stranger.config["node"]["Token"] = "open-sesame"
    stranger.write_config()
    stranger.start()
    wait(lambda: "r3" in network.registered(), 20, "r3 registers with the token")


def test_key_files_are_private(network):
    for daemon in network.d.values():
        keys = [f for f in os.listdir(daemon.state_dir) if f.endswith(".key")]
        assert keys, daemon.name
        for f in keys:
            assert os.stat(os.path.join(daemon.state_dir, f)).st_mode & 0o077 == 0, f


def test_the_control_channel_is_encrypted(network):
    """Neither name nor key of a node crosses the wire in the clear when it registers."""
    ns, node = network["r1"], network.d["r1-node"]
    node.stop()
    node.config["node"]["Name"] = "a-name-worth-hiding"
    node.config["node"]["Token"] = "open-sesame"
    node.write_config()
    sniffer = ns.socket(tools.socket.AF_PACKET, tools.socket.SOCK_RAW, tools.socket.ntohs(3))
    sniffer.bind((ns.links["mgr"][0], 0))
    sniffer.settimeout(0.2)
    node.start()
    wait(lambda: "a-name-worth-hiding" in network.registered(), 20, "it registers")
    seen = b""
    with contextlib.closing(sniffer), contextlib.suppress(TimeoutError):
        while True:
            seen += sniffer.recv(65536)
    assert MANAGER_PORT.to_bytes(2, "big") in seen, "the capture saw the channel"
    assert b"a-name-worth-hiding" not in seen
    for n in network.nodes():
        assert bytes.fromhex(n["id"]) not in seen
