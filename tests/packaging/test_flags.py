"""What is built is built anew when it would be built otherwise, and only then."""
import os
import subprocess

import pytest

from base import TOP

OBJECT = "obj/common/base/ranges.o"


@pytest.fixture(name="build")
def fixture_build(tmp_path):
    def make(*variables):
        """True when the object was compiled."""
        path = f"{tmp_path}/{OBJECT}"
        before = os.stat(path).st_mtime_ns if os.path.exists(path) else 0
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "BUILD", "SAN", "CC")}
        subprocess.run(["make", "-s", f"BUILD={tmp_path}", *variables, path], cwd=TOP, env=env, check=True, timeout=60)
        return os.stat(path).st_mtime_ns != before
    return make


@pytest.mark.parametrize("other", [["OPT=-O0"], ["SAN=1"], ["EXTRA_CFLAGS=-DOTHER='\"a b\"'"], ["CRYPTO=sodium"],
                                   ["EXTRA_LDFLAGS=-Wl,-O2"]])
def test_other_flags_compile_anew(build, other):
    assert build()
    assert not build()
    assert build(*other)
    assert not build(*other)
    assert build()


def test_another_compiler_compiles_anew(build, tmp_path):
    """The same name, but another version, as after an upgrade."""
    compiler = f"{tmp_path}/cc"
    made = []
    for version in ("1", "1", "2"):
        with open(compiler, "w", encoding="ascii") as f:
            f.write(f'#!/bin/sh\n[ "$1" != --version ] || {{ echo version {version}; exit; }}\nexec gcc "$@"\n')
        os.chmod(compiler, 0o755)
        made.append(build(f"CC={compiler}"))
    assert made == [True, False, True]
