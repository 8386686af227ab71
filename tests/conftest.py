"""Fixtures, and the rule that in CI nothing is skipped but for a capability that the machine lacks."""

from __future__ import annotations

import compileall
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support import Node, temporary_node

# Each of several workers reads all tests: what is compiled once need not be again, whatever `PYTHONDONTWRITEBYTECODE` says.
sys.dont_write_bytecode = False

# How quickly an example is made says how busy the machine is.
hypothesis.settings.register_profile("shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("shared")

PACKAGE = Path(__file__).parents[1] / "spooldadd"
# A reason for a skip that CI accepts says which capability is missing, in these words.
CAPABILITY = "needs the capability"


def pytest_configure(config: pytest.Config) -> None:
    """Heed the signals that `nohup` or a background shell had us ignore: all that we start inherits it."""
    _pass_by_shims()
    os.kill = _kill_one
    if not hasattr(config, "workerinput"):  # once, before there are several of us
        _forget_fake_clocks()
        compileall.compile_dir(PACKAGE, quiet=2)  # or each command does, where `PYTHONDONTWRITEBYTECODE` is set
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _kill_one(pid: int, number: int, _real: Callable[[int, int], None] = os.kill) -> None:
    """Refuse what means more than one process: a pid that was not noted yet ended all tests, and who had started them."""
    assert pid > 0, pid
    _real(pid, number)


def _forget_fake_clocks() -> None:
    """Remove what faketime leaves of a worker that was killed: it starts nothing under a pid that has such a file."""
    for path in Path("/dev/shm").glob("*faketime_*_*"):
        if not Path("/proc", path.name.rpartition("_")[2]).exists():
            path.unlink(missing_ok=True)


def _pass_by_shims() -> None:
    """Let jobs find the interpreter itself where `python3` is a script that looks for one: that takes six times as long."""
    found = shutil.which("python3")
    own = Path(sys.executable).resolve().parent
    if found and Path(found).read_bytes()[:2] == b"#!" and (own / "python3").exists():
        os.environ["PATH"] = f"{own}:{os.environ['PATH']}"


@pytest.fixture
def make_node() -> Iterator[Callable[..., Node]]:
    """Make spools with workers; all their processes are gone at the end."""
    nodes: list[Node] = []

    def make(**options) -> Node:
        root = Path(tempfile.mkdtemp(prefix="spooldadd-test-"))
        nodes.append(Node(root, **options))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    """One spool."""
    return make_node()


@pytest.fixture(scope="module")
def served() -> Iterator[Node]:
    """One spool with a worker, for all tests of a file that need no other: its start takes longer than most jobs."""
    with temporary_node() as node:
        node.start("--jobs", "4")
        yield node


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI a skip is a failure, unless it names a capability that the machine lacks."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if CAPABILITY not in reason:
            report.outcome = "failed"
            report.longrepr = f"skipped in CI: {reason}"
