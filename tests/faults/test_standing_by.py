"""Promise: a job after a rest does not wait until a supervisor is made; one that is lost meanwhile costs nothing."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from contextlib import suppress

import pytest

from spooldadd import crew
from spooldadd.errors import Outdated, SpoolError
from tests.faults.chaos import LAUNCHER, SUPERVISOR, name_of
from tests.support import Node, processes_of, until

SAYS_ITS_PARENT = "command = 'echo $PPID'\n"


def standing_by(node: Node) -> set[int]:
    return {pid for pid in processes_of(node.work) if name_of(pid) == SUPERVISOR}


def parent_of(node: Node, name: str) -> int:
    node.drop(f"{name}.toml", SAYS_ITS_PARENT)
    return int((node.wait_finished(name) / "output.log").read_text())


def test_a_supervisor_waits_for_the_first_job(node: Node) -> None:
    node.start()
    before = until(lambda: standing_by(node), "one stands by")
    assert parent_of(node, "first") in before


def test_where_it_was_killed_a_job_runs_all_the_same(node: Node) -> None:
    node.start()
    killed = until(lambda: standing_by(node), "one stands by")
    for pid in killed:
        with suppress(ProcessLookupError):  # where the fork is gone, its supervisor ends
            os.kill(pid, signal.SIGKILL)
    until(lambda: not killed & standing_by(node), "it is gone")
    assert parent_of(node, "first") > 0
    assert "supervisor-gone" not in node.said()  # it had nothing in hand


def test_it_ends_with_the_launcher(node: Node) -> None:
    """To end the launcher's scope took 90 s, and a job that came meanwhile began in it, and was killed with it."""
    node.start()
    before = until(lambda: standing_by(node), "one stands by")
    (launcher,) = (pid for pid in processes_of(node.work) if name_of(pid) == LAUNCHER)
    os.kill(launcher, signal.SIGTERM)
    until(lambda: not before & standing_by(node), "it ends, too")
    assert parent_of(node, "first") not in before


def test_it_ends_with_a_worker_that_is_killed(node: Node) -> None:
    worker = node.start()
    before = until(lambda: standing_by(node), "one stands by")
    worker.kill()
    until(lambda: not standing_by(node), "it ends, too")
    node.start()
    assert parent_of(node, "first") not in before


class Forks(crew.Crew):
    """Makes channels only, and fails where it is told to."""

    error: Exception | None = None

    def _fork(self) -> int:
        if self.error is not None:
            raise self.error
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.close()
        self._selector.register(ours, selectors.EVENT_READ, self)
        self._supervisors[ours.fileno()] = crew._Supervisor(ours)
        return ours.fileno()


@pytest.fixture
def forks():
    with selectors.DefaultSelector() as selector:
        made = Forks(selector, {}, ["plain", "info"], None)
        yield made
        made.close()


def test_one_stays_until_it_has_had_a_job_and_then_goes_after_a_rest(forks):
    now = time.monotonic()
    forks.stand_by(now)
    forks.stand_by(now)
    assert len(forks._supervisors) == 1
    forks.trim(now + 10 * crew.IDLE_S)
    assert len(forks._supervisors) == 1
    (entry,) = forks._supervisors.values()
    entry.since = now
    forks.trim(now + crew.IDLE_S / 2)
    assert len(forks._supervisors) == 1
    forks.trim(now + crew.IDLE_S * 2)
    assert not forks._supervisors


@pytest.mark.parametrize("error", [SpoolError("no room for a process"), Outdated("another release")])
def test_where_none_can_be_made_whoever_launches_a_job_is_told_and_not_an_idle_worker(forks, error):
    forks.error = error
    now = time.monotonic()
    forks.stand_by(now)
    forks.error = None
    forks.stand_by(now + crew.IDLE_S / 2)
    assert not forks._idle
    forks.stand_by(now + crew.IDLE_S * 2)
    assert forks._idle


def test_one_that_was_let_go_is_not_heard_any_more(forks):
    """Its end and the launcher's may be told in one round."""
    forks.stand_by(time.monotonic())
    (entry,) = forks._supervisors.values()
    forks._let_idle_go()
    assert forks.on_readable(entry.channel) == []


def test_after_one_that_came_to_nothing_another_is_not_tried_at_once(forks):
    """On a machine without room for a process the launcher says so each time that it is asked."""
    now = time.monotonic()
    forks.stand_by(now)
    (entry,) = forks._supervisors.values()
    assert forks.on_readable(entry.channel) == []  # its other end was closed
    forks.stand_by(now + crew.IDLE_S / 2)
    assert not forks._supervisors
    forks.stand_by(now + crew.IDLE_S * 2)
    assert forks._supervisors
