"""meshctl as people and scripts use it: the prompt on a terminal, completion, --watch, events, exit
codes; and through `events` what each daemon tells."""
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import stat
import struct
import subprocess
import termios
import time

import pytest

import lab as tools
from lab import TOP, wait
from topology import GATEWAY_PORT, RPC_PORT

MESHCTL = os.path.join(tools.bin_dir(), "meshctl")
PROMPT = "mesh> "


@pytest.fixture(scope="module")
def served(network):
    network.start_internet()
    network.start_tracker()
    network.start_manager()
    for n in ("gw1", "sub", "r1"):
        network.start_node(n)
    wait(lambda: network.registered() >= {"gw1", "sub", "r1"}, 20, "the nodes register")
    return network


class Terminal:
    """A program on a terminal of 100 columns."""

    def __init__(self, lab, place, *argv, rows=40, **env):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 100, 0, 0))
        with lab[place].enter():
            self.popen = subprocess.Popen(
                argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                env={**lab.environment, "TERM": "xterm", **env})
        os.close(slave)
        self.text = ""

    def read(self, seconds=0.1):
        with contextlib.suppress(OSError):
            while select.select([self.master], [], [], seconds)[0]:
                chunk = os.read(self.master, 65536)
                if not chunk:
                    break
                self.text += chunk.decode(errors="replace")
                seconds = 0.02
        return self.text

    def expect(self, pattern, timeout=10):
        """Waits for it in what has not been looked at yet; forgets all up to its end."""
        deadline = time.monotonic() + timeout
        while not (m := re.search(pattern, self.text)):
            if time.monotonic() > deadline:
                raise AssertionError(f"/{pattern}/ did not come: {self.text!r}")
            self.read()
        self.text = self.text[m.end():]
        return m

    def type(self, text):
        os.write(self.master, text.encode())

    def close(self, timeout=5):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout)
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        if self.master >= 0:
            os.close(self.master)
        self.master = -1
        return self.popen.returncode


@pytest.fixture
def prompt(served):
    t = Terminal(served, "mgr", MESHCTL)
    t.expect(re.escape(PROMPT))
    yield t
    t.close(0)


def run(lab, place, *argv, env=None, timeout=30):
    """Exit status, output, errors."""
    with lab[place].enter():
        p = subprocess.run([MESHCTL, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           timeout=timeout, env={**lab.environment, **(env or {})})
    return p.returncode, p.stdout, p.stderr


# --- one-shot --------------------------------------------------------------------------------------

@pytest.mark.parametrize("argv, status, says", [
    (["list-nodes"], 0, ""),
    (["list_nodes"], 0, ""),
    (["connect", "nobody", "r1"], 1, "there is no node nobody"),
    (["disconnect-nodes", "gw1", "r1"], 1, "no link"),
    (["nonsense"], 2, "unknown command"),
    (["connect", "r1"], 2, "usage: connect A B"),
    (["connect", "r1", "gw1", "--watch"], 2, "--watch is for"),
    (["completion", "tcsh"], 2, "bash|zsh"),
    (["--token", "@/nonexistent", "list-nodes"], 2, "/nonexistent"),
    (["-p", "4", "list-nodes"], 3, "start it with `meshnet-nodemanager`"),
    (["gateways"], 3, "start it with `meshnet-subscriberd`"),
    (["-p", "4", "events"], 3, "start it with `meshnet-nodemanager`"),
    (["events", "gatewayd"], 3, "start it with `meshnet-gatewayd`"),
])
def test_exit_codes(served, argv, status, says):
    got, out, err = run(served, "mgr", *argv)
    assert got == status, (out, err)
    assert says in err and (status == 0) == (err == "")
    assert len(err.splitlines()) <= 1


def read_blocks(pipe, count, begins):
    """What comes until so many blocks began with that text, or ended with an empty line."""
    out, seen = "", 0
    while seen < count:
        line = pipe.readline()
        assert line, out
        seen += line.startswith(begins) if begins else line == "\n"
        out += line
    return out


def test_every_listing_has_json_and_watch(served):
    served.connect("r1", "gw1")
    for argv in (["list-nodes"], ["list-transports", "r1"], ["list-all-transports"],
                 ["list-routes", "r1"], ["apps"], ["status"], ["find-route", "r1", "gw1"]):
        assert json.loads(run(served, "mgr", "--json", *argv)[1]) is not None
        with served["mgr"].enter():
            p = subprocess.Popen([MESHCTL, *argv, "--watch", "0.2"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, env=served.environment)
        begins = "nodemanager at" if argv == ["status"] else None
        out = read_blocks(p.stdout, 2, begins)
        p.send_signal(signal.SIGINT)
        rest, err = p.communicate(timeout=10)
        out += rest
        assert p.returncode == 0 and err == ""
        blocks = out.split("\n\n") if argv != ["status"] else out.split("nodemanager at")[1:]
        assert len(blocks) >= 2, out
        assert "\033" not in out


def test_watch_redraws_a_terminal(served):
    t = Terminal(served, "mgr", MESHCTL, "list-nodes", "--watch", "0.3")
    t.expect(re.escape("\033[2J\033[H") + "list-nodes, every 0.3 s.*")
    t.expect("sub ")
    t.expect(re.escape("\033[H") + "list-nodes.*")
    t.expect(re.escape("\033[J"))
    assert "\033[2J" not in t.text
    t.type("\x03")
    assert t.close() == 0


def test_wide_names_stay_aligned(served):
    served.d["r1-node"].stop()
    served.start("r1", "node", {"node": {"Name": "東京-é", "AppTalkAddr": "127.0.0.1:17001",
                                         "ManagerAddr": f"{served.address('mgr')}:5999"}},
                 name="r1-wide")
    wait(lambda: "東京-é" in served.registered(), 10, "the node with the wide name")
    out = run(served, "mgr", "list-nodes")[1]
    width = {"東": 2, "京": 2}
    lines = [line for line in out.splitlines() if "gw1" in line or "東京" in line]

    def column(line):
        at = line.index("10.77.") if "10.77." in line else line.index("connected")
        return sum(width.get(c, 1) for c in line[:at])
    assert len(lines) == 2 and column(lines[0]) == column(lines[1]), out
    served.d["r1-wide"].stop()
    wait(lambda: run(served, "mgr", "forget-node", "東京-é")[0] == 0, 10, "it is forgotten")
    served.d["r1-node"].start()
    wait(lambda: "r1" in served.registered(), 10, "r1 is back")


# --- the prompt ----------------------------------------------------------------------------------------

def test_prompt_completes_on_tab(prompt):
    prompt.type("list-n\t")
    prompt.expect("odes ")
    prompt.type("\n")
    prompt.expect("gw1")
    prompt.expect(re.escape(PROMPT))
    prompt.type("connect g\t")  # a name, asked of the manager
    prompt.expect("w1 ")
    prompt.type("\x15list-\t\t")  # what is the same stands already: all are shown
    prompt.expect("list-nodes  list-transports  list-all-transports  list-routes")
    prompt.type("\x15connect-gateway --m\t")
    prompt.expect("ethod ")
    prompt.type("\x15exit\n")
    assert prompt.close() == 0


def test_prompt_edits_and_cancels(prompt):
    prompt.type("lst-nodes")
    prompt.type("\x01\x1b[C\x1b[Ci\x1b[D\x1b[D\x1b[D\x05 nonsense\x17\x03")  # Ctrl-C leaves the line
    time.sleep(0.3)
    prompt.read()
    prompt.type("xstatus\x01\x04\n")  # Ctrl-A, Ctrl-D deletes the x
    prompt.expect("nodes_connected: 3")
    prompt.expect(re.escape(PROMPT))
    assert prompt.popen.poll() is None
    prompt.type("nonsense\n")
    prompt.expect("unknown command 'nonsense'")
    prompt.expect(re.escape(PROMPT))
    prompt.type("\x04")  # the end of input
    assert prompt.close() == 2, "the status is that of the last command"


def test_prompt_watches_and_comes_back(prompt):
    prompt.type("list-nodes --watch 0.2\n")
    prompt.expect("every 0.2 s")
    prompt.expect("gw1")
    prompt.type("\x03")
    prompt.expect(re.escape(PROMPT))
    prompt.type("events\n")
    time.sleep(0.5)
    prompt.type("\x03")
    prompt.expect(re.escape(PROMPT))
    prompt.type("exit\n")
    assert prompt.close() == 0


def test_prompt_keeps_history(served):
    state = os.path.join(served.folder, "xdg")
    t = Terminal(served, "mgr", MESHCTL, XDG_STATE_HOME=state)
    t.expect(re.escape(PROMPT))
    for line in ("list-all-transports", "status --token hush"):
        t.type(line + "\n")
        t.expect(re.escape(PROMPT), 15)
    t.type("exit\n")
    t.close()
    path = os.path.join(state, "meshnet", "history")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    with open(path, encoding="utf-8") as f:
        kept = f.read()
    assert "list-all-transports" in kept and "hush" not in kept
    t = Terminal(served, "mgr", MESHCTL, XDG_STATE_HOME=state)
    t.expect(re.escape(PROMPT))
    t.type("\x1b[A\x1b[A\n")  # up, up: past `exit`
    t.expect("list-all-transports")
    t.expect("RETRANSMITS")
    t.type("exit\n")
    assert t.close() == 0


def test_prompt_without_a_terminal(served):
    with served["mgr"].enter():
        p = subprocess.run([MESHCTL], input="list-nodes\nnonsense\nlist-nodes\n", text=True,
                           capture_output=True, timeout=20, env=served.environment)
    assert p.returncode == 0 and p.stdout.count("gw1") == 2 and PROMPT not in p.stdout
    assert "unknown command" in p.stderr


# --- the shells ------------------------------------------------------------------------------------------

def complete(lab, shell, line):
    """What the shell's own completion makes of the words of `line`."""
    words = line.split(" ")
    script = (f'eval "$({MESHCTL} completion bash)"; COMP_WORDS=({MESHCTL} '
              + " ".join(f"'{w}'" for w in words) + f'); COMP_CWORD={len(words)}; _meshctl; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    with lab["mgr"].enter():
        p = subprocess.run([shell, "-c", script], capture_output=True, text=True, timeout=20,
                           env=lab.environment)
    assert p.returncode == 0 and p.stderr == ""
    return p.stdout.split()


def test_bash_completion(served):
    assert complete(served, "bash", "list-n") == ["list-nodes"]
    assert complete(served, "bash", "connect gw") == ["gw1"]
    assert set(complete(served, "bash", "connect gw1 ")) == {"gw1", "sub", "r1"}
    assert "--json" in complete(served, "bash", "list-nodes --")
    began = time.monotonic()
    assert complete(served, "bash", "--rpc 192.0.2.99 connect g") == []  # nobody there
    assert time.monotonic() - began < 5, "an absent manager must not hold the shell"


@pytest.fixture
def zsh(served):
    """A real one with its completion system, on a terminal; as a user has it, but for the prompt."""
    if not shutil.which("zsh"):
        pytest.skip("no zsh")
    home = os.path.join(served.folder, "zsh")
    os.makedirs(home, exist_ok=True)
    with open(os.path.join(home, ".zshrc"), "w", encoding="ascii") as f:
        f.write("PS1='ready> '; autoload -Uz compinit; compinit -u -d $ZDOTDIR/dump; "
                f"path=({os.path.dirname(MESHCTL)} $path); "
                'eval "$(meshctl completion zsh)"\n')
    t = Terminal(served, "mgr", "zsh", "-i", HOME=home, ZDOTDIR=home)
    t.expect("ready> ")
    yield t
    t.popen.kill()
    t.close()


def test_zsh_completion(zsh):
    def tab(line, wanted):
        """What stands on the line after a Tab, which no other way can put there; then it is cleared."""
        zsh.text = ""
        zsh.type(line + "\t")
        zsh.expect(wanted)
        zsh.type("\x03")
        zsh.expect("ready> ")
    # zsh writes a whole line anew where it changes.
    tab("meshctl list-n", "list-nodes")
    tab("meshctl connect g", "connect gw1")
    tab("meshctl connect gw1 s", "connect gw1 sub")  # a name, asked of the manager
    tab("meshctl list-nodes --js", "list-nodes --json")
    tab("meshctl connect gw1 ", r"(?s)(?=.*\bgw1\b)(?=.*\bsub\b)(?=.*\br1\b)")
    tab("meshctl list-", r"(?s)(?=.*list-nodes)(?=.*list-transports)(?=.*list-routes)")
    # A whole line by Tabs alone does what it says.
    zsh.text = ""
    zsh.type("meshctl --js\tlist-n\t\n")
    zsh.expect(r'"nodes"')
    zsh.type("exit\n")
    assert zsh.close() == 0


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_files_are_what_the_command_prints(served, shell):
    with open(os.path.join(TOP, "etc", "completion", f"meshctl.{shell}"), encoding="utf-8") as f:
        assert f.read() == run(served, "mgr", "completion", shell)[1]


# --- long work and events ----------------------------------------------------------------------------------

class Events:
    """`meshctl --json events` in a place."""

    def __init__(self, lab, place, *argv):
        with lab[place].enter():
            self.popen = subprocess.Popen([MESHCTL, "--json", "events", *argv], text=True,
                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                          env=lab.environment)
        os.set_blocking(self.popen.stdout.fileno(), False)
        self.seen, self.rest = [], ""

    def poll(self):
        with contextlib.suppress(BlockingIOError, TypeError):
            self.rest += os.read(self.popen.stdout.fileno(), 1 << 20).decode()
        *lines, self.rest = self.rest.split("\n")
        self.seen += [json.loads(line) for line in lines]
        return self.seen

    def wait(self, event, timeout=15, **data):
        def found():
            return next((e for e in self.poll() if e["event"] == event and
                         all(e["data"].get(k) == v for k, v in data.items())), None)
        return wait(found, timeout, f"event {event} {data} (seen: {[e['event'] for e in self.seen]})")

    def stop(self):
        self.popen.send_signal(signal.SIGINT)
        self.popen.communicate(timeout=10)
        return self.popen.returncode


@contextlib.contextmanager
def events(lab, place, *argv):
    e = Events(lab, place, *argv)
    time.sleep(0.5)
    try:
        yield e
        assert e.stop() == 0
    finally:
        if e.popen.poll() is None:
            e.popen.kill()
            e.popen.wait()


def test_events_of_nodemanager(served):
    with events(served, "mgr") as e:
        served.d["gw1-node"].stop()
        down = e.wait("node.down", name="gw1")
        e.wait("transport.down")
        served.d["gw1-node"].start()
        e.wait("node.up", name="gw1")
        up = e.wait("transport.up")
        assert {up["data"]["a_name"], up["data"]["b_name"]} == {"gw1", "r1"}
        # An app comes, another connects to it, both go.
        echo = served.run("gw1", "echo-server", os.path.join(tools.bin_dir(), "echo"), "server")
        assert e.wait("app.registered", name="gw1")["data"]["type"].startswith("echo")
        echo.stop()
        e.wait("app.gone", name="gw1")
        ids = [int(x["id"]) for x in e.poll()]
        assert ids == sorted(ids)
    # What came after an id is told again, and it ends by itself.
    status, out, _ = run(served, "mgr", "--json", "events", "--since", down["id"], "-n", "2")
    assert status == 0 and [json.loads(x)["event"] for x in out.splitlines()] == [
        x["event"] for x in e.seen if int(x["id"]) > int(down["id"])][:2]


def test_events_of_refused_admission(served):
    with events(served, "mgr") as e:
        other = served.start("r2", "node", {"node": {
            "Name": "gw1", "ManagerAddr": f"{served.address('mgr')}:5999"}}, name="r2-imposter")
        told = e.wait("admission.refused")
        assert "belongs to another key" in told["data"]["why"]
        other.stop()


def test_events_survive_a_restart_of_the_daemon(served):
    with events(served, "mgr") as e:
        served.d["mgr-nodemanager"].restart()
        e.wait("node.up", timeout=30, name="sub")
        assert e.popen.poll() is None


def test_events_of_gateway_and_subscriber(served):
    served.start_gateway("gw1", LeaseSeconds=6, UplinkInterval=1)
    wait(lambda: tools.rpc(served["gw1"], GATEWAY_PORT, "nodeInfo")["uplink"]["online"], 15,
         "the uplink is proved")
    wait(lambda: len(tools.rpc(served["mgr"], RPC_PORT, "listApps")["apps"]) >= 1, 15, "the app")
    served.connect("sub", "r1")
    served.start_subscriber(AutoConnect="no")
    wait(lambda: "gw1" in run(served, "sub", "gateways")[1], 20, "the gateway is found")
    with events(served, "gw1", "gatewayd") as gw, events(served, "sub", "subscriberd") as sub:
        status, _, err = run(served, "sub", "connect-gateway", "gw1", timeout=60)
        assert status == 0, err
        sub.wait("session.state", 30, to="online")
        states = [x["data"]["to"] for x in sub.seen if x["event"] == "session.state"]
        assert states[-3:] == ["requesting", "opening", "online"]
        assert gw.wait("lease.granted")["data"]["method"] == "mesh"
        gw.wait("lease.renewed", 40)
        assert run(served, "sub", "disconnect")[0] == 0
        gw.wait("lease.released")
        sub.wait("session.state", to="idle")
        served["gw1"].ip("route", "add", "blackhole", "198.51.100.80/32")
        gw.wait("uplink.offline", 20)
        served["gw1"].ip("route", "del", "blackhole", "198.51.100.80/32")
        gw.wait("uplink.online", 20)
    assert "gw1" in run(served, "sub", "complete", "--", "connect-gateway", "g")[1]


def test_add_nodes_shows_progress(served):
    t = Terminal(served, "mgr", MESHCTL, "add-nodes", "25", "connect")
    t.expect(r"\r(\d+) of 25 nodes", 30)
    t.expect(r"node-25 .*connected", 60)
    assert t.close() == 0
    status, out, err = run(served, "mgr", "--json", "add-nodes", "2")
    assert status == 0 and err == ""
    assert all(n["connected"] for n in json.loads(out)["nodes"])
    assert len(tools.rpc(served["mgr"], RPC_PORT, "listNodes")["nodes"]) >= 27
