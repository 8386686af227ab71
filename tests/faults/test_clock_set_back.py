"""The machine's clock is set back by an hour while a worker runs: nothing waits for that hour to pass again."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooldadd.backlog import Entry, PutOff
from tests.support import Node, result_of, until

LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="needs the capability to fake a process's clock (package faketime)")


class Clock:
    """The clock of one worker and of what it starts. Only the wall clock: the monotonic one cannot be set."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.environ = {
            "LD_PRELOAD": LIBRARIES[0] if LIBRARIES else "",
            "FAKETIME_TIMESTAMP_FILE": str(path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.set("+0")

    def set(self, offset: str) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text(offset)
        temporary.rename(self._path)


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Clock]:
    return Clock(tmp_path / "clock")


def test_a_drop_runs_and_its_times_are_those_of_the_new_clock(node: Node, clock: Clock):
    node.start(environ=clock.environ)
    node.drop("before.toml", "command = 'true'\n")
    before = result_of(node.wait_finished("before"))
    clock.set("-3600")
    node.drop("after.toml", "command = 'true'\n")
    after = result_of(node.wait_finished("after"))
    assert after["outcome"] == "success"
    assert after["finished_at"] < before["finished_at"]
    assert after["started_at"] <= after["finished_at"]


def test_a_job_that_runs_meanwhile_took_no_negative_time(node: Node, clock: Clock, tmp_path: Path):
    gate = tmp_path / "gate"
    node.start(environ=clock.environ)
    limits = """[limits]\ntimeout = "10m"\nstall = "10m"\n"""
    node.drop("one.toml", f"""command = "touch {gate}.up; until test -e {gate}; do sleep 0.05; done"\n{limits}""")
    until(Path(f"{gate}.up").exists, "it runs")
    clock.set("-3600")
    gate.touch()
    result = result_of(node.wait_finished("one"))
    assert result["outcome"] == "success"
    assert 0 <= result["duration_s"] < 60
    assert 0 <= (result["finished_at"] - result["started_at"]).total_seconds() < 60


def test_a_file_that_settles_settles_by_the_monotonic_clock(node: Node, clock: Clock):
    node.start(environ={**clock.environ, "SPOOLDADD_INTAKE__SETTLE": "1s"})
    clock.set("-3600")
    os.link(node.drop(".one.part", "command = 'true'\n"), node.spool / "one.toml")  # neither closed nor moved: it settles
    assert result_of(node.wait_finished("one"))["outcome"] == "success"


def test_a_worker_that_starts_after_the_clock_was_set_back_takes_what_is_there(node: Node, clock: Clock):
    """The file is of the future then: only standing still under its eyes tells that it is quiet."""
    node.drop("one.toml", "command = 'true'\n")
    clock.set("-3600")
    node.start(environ={**clock.environ, "SPOOLDADD_INTAKE__SETTLE": "1s"})
    assert result_of(node.wait_finished("one"))["outcome"] == "success"


def test_a_retry_does_not_wait_for_the_hour_to_pass_again(node: Node, clock: Clock):
    node.start(environ=clock.environ)
    node.drop("one.toml", """command = "test $SPOOLDADD_ATTEMPT = 2"\n[retry]\nattempts = 2\nbackoff = "2s"\n""")
    until(lambda: node.records("waiting", "one"), "the first attempt failed")
    clock.set("-3600")
    result = result_of(node.wait_finished("one", deadline_s=30.0))
    assert (result["outcome"], result["attempt"]) == ("success", 2)


def test_what_was_put_off_comes_back_by_the_monotonic_clock():
    entry, put_off = Entry("one.toml", False, "one", "default", 0, 0.0), PutOff()
    put_off.add(entry, until=100.0)
    assert put_off.due(99.0) == []
    assert put_off.next_at == 100.0
    assert put_off.due(100.0) == [entry]
    assert len(put_off) == 0
