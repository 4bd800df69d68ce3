"""procd init scripts under ash, with a stand-in for /etc/rc.common that records what procd is told.
There is no OpenWrt here: that procd does what it is told is not tested."""
import os
import shutil
import subprocess

import pytest

from base import BUILD, TOP

FILES = os.path.join(TOP, "etc", "openwrt", "meshnet", "files")
DAEMONS = ("apptracker", "nodemanager", "node", "gatewayd", "subscriberd")

# As rc.common does: sources the script, then runs its function.  Each call to procd is a line.
RC_COMMON = r"""
script=$1 action=$2 log=$3 prog=$4 state=$5
for f in open_instance close_instance set_param append_param add_reload_trigger add_raw_trigger send_signal; do
	eval "procd_$f() { echo $f \"\$@\" >>\"$log\"; }"
done
logger() { echo "logger $*" >>"$log"; }
chown() { :; }
mkdir() { :; }
. "$script"
PROG=$prog STATE=$state CONFIG=$state/meshnet.cfg
$action
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "meshnet.cfg").write_text("[general]\nLogLevel = info\n", encoding="ascii")
    return tmp_path


def told(daemon, action, folder, expected=0):
    log = folder / "log"
    log.write_text("", encoding="ascii")
    program = os.path.join(BUILD, "bin", daemon)
    done = subprocess.run(["/bin/busybox", "sh", "-c", RC_COMMON, "rc.common",
                           os.path.join(FILES, f"meshnet-{daemon}.init"), action, log, program, folder],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == expected, done.stdout
    return log.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("daemon", DAEMONS)
def test_start(daemon, folder):
    program = os.path.join(BUILD, "bin", daemon)
    lines = told(daemon, "start_service", folder)
    assert lines[0] == "open_instance" and lines[-1] == "close_instance"
    params = dict(line.split(" ", 2)[1:] for line in lines[1:-1])
    assert params["command"] == f"{program} -f {folder}/meshnet.cfg -o general.StateDir={folder}"
    assert params["respawn"] == "3600 5 0"
    assert params["file"] == f"{folder}/meshnet.cfg"
    assert params["reload_signal"] == "HUP"
    assert params["stderr"] == "1"
    # The daemon takes the arguments that procd would give it.
    done = subprocess.run([*params["command"].split(), "--check"], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "configuration ok\n")


@pytest.mark.parametrize("daemon", DAEMONS)
def test_reload(daemon, folder):
    assert told(daemon, "reload_service", folder) == [f"send_signal meshnet-{daemon}"]
    assert told(daemon, "service_triggers", folder) == ["add_reload_trigger meshnet"]


def test_wrong_configuration(folder):
    (folder / "meshnet.cfg").write_text("[general]\nLogLevel = loud\n", encoding="ascii")
    assert ["logger"] == [line.split()[0] for line in told("node", "start_service", folder, 1)]
    assert told("node", "reload_service", folder, 1) == []


def test_headers_and_shellcheck():
    for d in DAEMONS:
        with open(os.path.join(FILES, f"meshnet-{d}.init"), encoding="ascii") as f:
            text = f.read()
        assert text.startswith("#!/bin/sh /etc/rc.common\n") and "\nUSE_PROCD=1\n" in text
        assert f"PROG=/usr/bin/meshnet-{d}\n" in text
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", "-s", "dash", *(os.path.join(FILES, f"meshnet-{d}.init") for d in DAEMONS)],
                          stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
