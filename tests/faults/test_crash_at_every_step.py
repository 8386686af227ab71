"""Every step of a job's life, killed or failed at each file-changing system call in turn."""

from __future__ import annotations

import errno

import pytest

from tests.faults import sweeping
from tests.faults.steps import SCENES, Scene

SCENE = pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])
ERROR = pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])


@SCENE
def test_a_step_that_is_killed_at_any_call_is_recovered(scene: Scene) -> None:
    verdicts = sweeping.sweep(lambda at: sweeping.killed_at(scene, at))
    assert verdicts, "no call was struck"
    assert not sweeping.bad(verdicts), sweeping.bad(verdicts)


@ERROR
@SCENE
def test_a_step_whose_call_fails_once_comes_to_the_same_end(scene: Scene, error: int) -> None:
    verdicts = sweeping.sweep(lambda at: sweeping.failed_at(scene, at, error))
    assert verdicts, "no call was struck"
    assert not sweeping.bad(verdicts), sweeping.bad(verdicts)
