"""The root that the other tests of this folder work in."""
import pytest

from base import Root, Unavailable


def test_bare_root_takes_packages():
    try:
        with Root("base") as root:
            assert "12" in root.run("cat", "/etc/debian_version").stdout
            assert root.run("apt-get", "update").returncode == 0
            assert "Candidate: 2." in root.run("apt-cache", "policy", "libc6").stdout
    except Unavailable as e:
        pytest.skip(str(e))
