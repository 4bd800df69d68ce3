"""Fixtures of the lab: a whole mesh per module, closed and checked for leaks at its end."""
import signal

import pytest

from hoststate import unchanged  # noqa: F401  (a fixture)
from lab import Lab
from topology import COMMUNITY, MeshLab


def pytest_configure(config):
    # pytest tears fixtures down after an interrupt: let a SIGTERM be one.
    def interrupt(*_):
        raise KeyboardInterrupt
    for s in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, interrupt)


def finish(lab, request):
    failed = getattr(request.session, "testsfailed", 0)
    if failed:
        print(lab.tail_logs())
    lab.close()
    faults = lab.problems + lab.leaks()
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="module")
def empty(request):
    """A lab with nothing in it yet."""
    lab = Lab()
    yield lab
    finish(lab, request)


@pytest.fixture(scope="module")
def network(request):
    """The demo's network; the test starts what it needs."""
    lab = MeshLab()
    yield lab
    finish(lab, request)


@pytest.fixture(scope="module")
def overlay(request):
    """The demo's network with manager, tracker and all nodes linked; no gateways."""
    lab = MeshLab()
    try:
        lab.start_overlay()
        yield lab
    finally:
        finish(lab, request)


@pytest.fixture(scope="module")
def mesh(request):
    """Everything runs and the subscriber is online."""
    lab = MeshLab()
    try:
        lab.clean = {name: lab[name].host_state() for name in COMMUNITY}
        lab.start_all()
        yield lab
    finally:
        finish(lab, request)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """What the daemons said last goes into the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and call.when != "teardown":
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Lab) and not value.closed:
                report.sections.append(("daemons", value.tail_logs(12)))
