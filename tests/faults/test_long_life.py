"""A short one of the lives that `python3 -m tests.faults.soak` lets a worker live."""

from __future__ import annotations

from pathlib import Path

from tests.faults.soak import Soak
from tests.support import until


def test_of_many_jobs_of_all_kinds_none_is_left_over(tmp_path: Path) -> None:
    life = Soak(tmp_path, 150)
    try:
        life.run()
        until(lambda: not life.left(), "the last records are filed, and their locks gone")
        assert life.has_all()
        assert life.outcomes["cancelled"] == 1
    finally:
        life.close()
