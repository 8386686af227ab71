"""Every step of a job's life, killed or failed at each file-changing system call in turn.

`SPOOLDADD_LONG=1` fails each call with each error; else they take turns. `sweep.py` does the same to the real programs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spooldadd import durable, mark, spool, submitting
from spooldadd.nodefile import NodeFile
from tests.faults import sweeping
from tests.faults.bench import Bench
from tests.faults.faulty import KILL, Faults
from tests.faults.steps import ONCE, SCENES, Scene

pytestmark = pytest.mark.slow

SCENE = pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])
EIO, ENOSPC = (lambda at: errno.EIO), (lambda at: errno.ENOSPC)
IN_TURN = lambda at: (errno.EIO, errno.ENOSPC)[at % 2]  # noqa: E731
ERRORS = {"EIO": EIO, "ENOSPC": ENOSPC} if os.environ.get("SPOOLDADD_LONG") else {"EIO-or-ENOSPC": IN_TURN}
ERROR = pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
# What a worker does by itself, without a supervisor's step before.
SERVED = [scene for scene in SCENES if scene.name.startswith(("claim", "refuse", "recover"))]


@SCENE
def test_a_step_that_is_killed_at_any_call_is_recovered(scene: Scene) -> None:
    verdicts = sweeping.sweep(lambda at: sweeping.killed_at(scene, at))
    assert verdicts, "no call was struck"
    assert not sweeping.bad(verdicts), sweeping.bad(verdicts)


@ERROR
@SCENE
def test_a_step_whose_call_fails_once_comes_to_the_same_end(scene: Scene, error: Callable[[int], int]) -> None:
    verdicts = sweeping.sweep(lambda at: sweeping.failed_at(scene, at, error(at)))
    assert verdicts, "no call was struck"
    assert not sweeping.bad(verdicts), sweeping.bad(verdicts)


@ERROR
@pytest.mark.parametrize("scene", SERVED, ids=[scene.name for scene in SERVED])
@pytest.mark.slow
def test_a_worker_whose_call_fails_once_goes_on_by_itself(scene: Scene, error: Callable[[int], int]) -> None:
    verdicts = sweeping.sweep(lambda at: sweeping.serving_failed_at(scene, at, error(at)))
    assert verdicts, "no call was struck"
    assert not sweeping.bad(verdicts), sweeping.bad(verdicts)


# -- steps that need no worker


def strike(bench: Bench, step: Callable[[], object], at: int, error: int) -> tuple[str, int]:
    return sweeping._strike(bench, lambda: step, Faults(at, error))


def strikes(step: Callable[[Bench], object], error: int = KILL) -> Iterator[tuple[Bench, str, int]]:
    """Yield what each strike left, until one hits nothing."""
    for at in range(1, sweeping.MOST):
        bench = Bench()
        try:
            call, status = strike(bench, lambda bench=bench: step(bench), at, error)
            if not call:
                assert at > 1, "no call was struck"
                return
            yield bench, call, status
        finally:
            bench.close()


def submit(bench: Bench) -> None:
    submitting.drop(bench.open().places, ONCE.encode(), "one", sync=True)


def drops(bench: Bench) -> list[Path]:
    """What a worker would look at."""
    return [path for path in bench.spool_path.glob("*.toml") if not path.name.startswith(".")]


def test_a_submission_that_is_killed_is_dropped_whole_or_not_at_all() -> None:
    seen = set()
    for bench, call, _status in strikes(submit):
        dropped = drops(bench)
        assert [path.read_bytes() for path in dropped] in ([], [ONCE.encode()]), call
        seen.add(len(dropped))
        if dropped:
            bench.dropped = ONCE.encode()
            assert bench.drain() == 0
            assert bench.problems() == []
        left = [name for name in os.listdir(bench.spool_path) if name.startswith(".") and name != ".spool"]
        assert all(durable.is_temporary(name) for name in left), call
    assert 0 in seen


@ERROR
def test_a_submission_whose_call_fails_says_so_and_leaves_nothing_half(error: Callable[[int], int]) -> None:
    for bench, call, status in strikes(submit, error(1)):
        dropped = drops(bench)
        assert [path.read_bytes() for path in dropped] in ([], [ONCE.encode()]), call
        assert status != 0, f"{call}: it failed, and nobody was told"
        if not call.startswith("unlink"):
            assert not [name for name in os.listdir(bench.spool_path) if durable.is_temporary(name)], call


def test_making_a_spool_may_be_killed_and_done_again() -> None:
    for bench, call, _status in strikes(lambda bench: mark.create(f"{bench.root}/other")):
        other = Path(bench.root, "other")
        mark.create(str(other))
        assert spool.open_spool(str(other)).format.id, call
        assert {path.name for path in other.iterdir()} == {".spool", "done", "failed", "running", "waiting"}, call


def test_what_a_worker_that_died_had_not_finished_writing_about_its_node_is_removed() -> None:
    def beat(bench: Bench) -> None:
        NodeFile(bench.open().places, "here").beat({"node": "here"})

    for bench, call, _status in strikes(beat):
        stranger = bench.spool_path / ".spool" / "nodes" / ".tmp-7-not-here.toml"
        stranger.touch()
        beat(bench)
        assert sorted(os.listdir(stranger.parent)) == [stranger.name, "here.lock", "here.toml"], call
