"""The command line and configuration contract, the same for every daemon (no network is made)."""
import os
import re
import subprocess

import pytest

from lab import TOP, bin_dir

DAEMONS = ("nodemanager", "node", "apptracker", "gatewayd", "subscriberd")


def run(daemon, *args, timeout=10, env=None):
    return subprocess.run([os.path.join(bin_dir(), daemon), *args], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=timeout,
                          env={"PATH": os.environ["PATH"], **(env or {})})


def check(daemon, tmp_path, text):
    path = tmp_path / "test.cfg"
    path.write_text(text)
    p = run(daemon, "-f", str(path), "--check")
    return p.returncode, p.stderr + p.stdout


@pytest.fixture(params=DAEMONS)
def daemon(request):
    return request.param


def test_version_and_help(daemon):
    version = run(daemon, "--version")
    assert version.returncode == 0 and re.search(r"\d+\.\d+", version.stdout)
    usage = run(daemon, "--help")
    assert usage.returncode == 0
    for option in ("-f", "-o", "--check", "-d", "--version"):
        assert option in usage.stdout


def test_the_example_is_accepted(daemon):
    p = run(daemon, "-f", os.path.join(TOP, "etc/meshnet-example.cfg"), "--check")
    assert p.returncode == 0, p.stderr


def documented_configurations():
    """The indented blocks of README.md and docs/running.md that are configuration."""
    for path in ("README.md", "docs/running.md"):
        with open(os.path.join(TOP, path), encoding="utf-8") as f:
            blocks = re.findall(r"(?:^(?:    .*)?\n)+", f.read(), re.M)
        for block in blocks:
            text = re.sub(r"^    ", "", block, flags=re.M).strip()
            if re.match(r"(#.*\n)?\[\w+\]", text):
                # A command that follows in the same block is not part of it.
                yield re.split(r"\n\n", text)[0] + "\n"


def test_what_the_documents_show_is_accepted(daemon, tmp_path):
    shown = [text for text in documented_configurations() if "..." not in text]
    assert len(shown) >= 6
    for text in shown:
        status, out = check(daemon, tmp_path, text)
        assert status == 0, text + out


def test_empty_file_is_accepted(daemon, tmp_path):
    assert check(daemon, tmp_path, "")[0] == 0


def test_names_are_compared_without_case_and_underscores(daemon, tmp_path):
    status, out = check(daemon, tmp_path, "[MsgSrv]\nSTART_port = 16000\n[general]\nlog_level=warn\n")
    assert status == 0, out


@pytest.mark.parametrize("text, line, wanted", [
    ("[msgsrv]\nStartPort = 70000\n", 2, ("StartPort", "1024", "65000")),
    ("[msgsrv]\n\nStartPort = 12x\n", 3, ("StartPort", "1024", "65000")),
    ("[msgsrv]\nStartPort = -1\n", 2, ("StartPort", "1024", "65000")),
    ("[msgsrv]\nStartPort =\n", 2, ("StartPort", "1024", "65000")),
    ("[msgsrv]\nStartPort = 99999999999999999999999\n", 2, ("StartPort", "1024", "65000")),
    ("[node]\n# a comment\nNaem = x\n", 3, ("Naem",)),
    ("[nood]\nName = x\n", None, ("nood",)),
    ("[node]\nConnect = perhaps\n", 2, ("Connect", "yes", "no")),
    ("[node]\nManagerAddr = nowhere\n", 2, ("ManagerAddr",)),
    ("[node]\nManagerKey = 1234\n", 2, ("ManagerKey", "64")),
    ("[general]\nLogLevel = loud\n", 2, ("LogLevel", "error", "warn", "info", "debug")),
    ("[gateway]\nPool4 = 10.0.0.0/99\n", 2, ("Pool4",)),
    ("[node\nName = x\n", 1, ()),
])
def test_a_bad_line_is_named(daemon, tmp_path, text, line, wanted):
    status, out = check(daemon, tmp_path, text)
    assert status == 1
    assert "test.cfg" in out
    if line:
        assert re.search(rf"\b{line}\b", out), out
    for word in wanted:
        assert word.lower() in out.lower(), out


def test_every_fault_is_told(daemon, tmp_path):
    status, out = check(daemon, tmp_path, "[node]\nNaem = x\nMaxApps = 0\n[msgsrv]\nTimeUnit = no\n")
    assert status == 1
    assert all(word in out for word in ("Naem", "MaxApps", "TimeUnit")), out


def test_options_win_over_the_file(daemon, tmp_path):
    path = tmp_path / "test.cfg"
    path.write_text("[msgsrv]\nStartPort = 16000\n")
    p = run(daemon, "-f", str(path), "-o", "msgsrv.StartPort=80", "--check")
    assert p.returncode == 1 and "StartPort" in p.stderr and "65000" in p.stderr
    assert run(daemon, "-f", str(path), "-o", "msgsrv.StartPort=17000", "--check").returncode == 0


def test_a_file_that_is_named_must_be_there(daemon, tmp_path):
    p = run(daemon, "-f", str(tmp_path / "absent.cfg"), "--check")
    assert p.returncode == 1 and "absent.cfg" in p.stderr


def test_bad_arguments(daemon):
    assert run(daemon, "--nonsense").returncode == 2
    assert run(daemon, "stray").returncode == 2
    assert run(daemon, "-o", "nothing", "--check").returncode in (1, 2)


def test_hostile_files_do_not_crash(daemon, tmp_path):
    for text in ("[" * 5000, "=" * 5000, "[node]\n" + "Name = " + "x" * 100000 + "\n",
                 "\x01\x02\x03", "[node]\nName = \x1b[31m\n", "[node]\n" * 20000,
                 "[node]\nName = a\nName = b\n"):
        status, _ = check(daemon, tmp_path, text)
        assert status in (0, 1), text[:20]


def test_rpc_port_of_the_environment():
    p = run("nodemanager", "--check", "-f", "/dev/null", env={"MESH_RPC_PORT": "70000"})
    assert p.returncode == 1 and "MESH_RPC_PORT" in p.stderr and "65535" in p.stderr
    assert run("nodemanager", "--check", "-f", "/dev/null",
               env={"MESH_RPC_PORT": "4321"}).returncode == 0
