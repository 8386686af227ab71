"""A network file system repeats a call whose answer was lost, and says that what it has just done cannot be done."""

from __future__ import annotations

import pytest

from tests.faults import sweeping
from tests.faults.faulty import LIE
from tests.faults.steps import SCENES, Scene

# What a job's own directory loses on the node's disk is no file that several machines see; offers are for one machine.
STEPS = [scene for scene in SCENES if not scene.name.startswith(("run-", "go-on-"))]


@pytest.mark.parametrize("scene", STEPS, ids=[scene.name for scene in STEPS])
def test_a_call_that_is_answered_twice_comes_to_the_same_end(scene: Scene) -> None:
    verdicts = sweeping.sweep(lambda at: sweeping.failed_at(scene, at, LIE))
    assert verdicts, "no call was struck"
    assert not sweeping.bad(verdicts), sweeping.bad(verdicts)
