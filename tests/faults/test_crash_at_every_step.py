"""Every step of a job's life, killed or failed at each file-changing system call in turn.

`SPOOLDADD_LONG=1` fails each call with each error; else they take turns. `sweep.py` does the same to the real programs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from tests.faults import sweeping
from tests.faults.steps import SCENES, Scene

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
def test_a_worker_whose_call_fails_once_goes_on_by_itself(scene: Scene, error: Callable[[int], int]) -> None:
    verdicts = sweeping.sweep(lambda at: sweeping.serving_failed_at(scene, at, error(at)))
    assert verdicts, "no call was struck"
    assert not sweeping.bad(verdicts), sweeping.bad(verdicts)
