"""Make spools with jobs in every state by hand, for tests of what only reads."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from spooldadd import layout, mark, record

START = datetime(2026, 11, 21, 10, 15, 0, tzinfo=UTC)
START_S = START.timestamp()


class MadeSpool:
    """A spool whose jobs nobody runs."""

    def __init__(self, root: Path) -> None:
        mark.create(str(root), durability="process")
        self.root = root
        self.places = layout.Layout(str(root))

    def drop(self, name: str, text: str = 'command = ["true"]\n') -> Path:
        """Put a file into the root, or into the inbox that its name begins with."""
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def add(self, state: str, job: str, attempt: int = 1, claim: dict | None = None, result: dict | None = None) -> Path:
        """Make the record of a job; one that runs or has ended has a claim, one that has ended a result."""
        path = self.root / state / (f"{job}.{attempt}.bbbbb" if state == "running" else job)
        path.mkdir()
        (path / "spec.toml").write_text('command = ["true"]\n')
        claimed = {"job": job, "attempt": attempt, "queue": "default", "node": "n1", "source": "x.toml", **(claim or {})}
        claimed = {"submitted_at": START, "claimed_at": START, **claimed}
        record.write_claim(str(path), claimed, sync=False)
        if state in ("done", "failed") or result is not None:
            outcome = {"done": "success"}.get(state, "exit")
            ended = {"job": job, "name": job.split(".", maxsplit=1)[0], "queue": "default", "state": state}
            ended |= {"outcome": outcome, "reason": "it ended", "attempt": attempt, "node": "n1", "duration_s": 1.5}
            record.write_result(str(path), {**ended, "finished_at": START, **(result or {})}, sync=False)
        return path


def job_id(name: str = "nightly", second: int = 0, random: str = "bcdfg") -> str:
    """Return the id of a job that was submitted in this second of a minute."""
    return f"{name}.20261121T1015{second:02}Z.{random}"


def names_of(jobs) -> list[str]:
    """Return where each job is, in order."""
    return [f"{job.state}/{job.id}" for job in jobs]


def files_of(root: Path) -> dict[str, float]:
    """Return every file below a directory with its change time: to show that nothing was written."""
    return {str(path): os.lstat(path).st_ctime for path in sorted(root.rglob("*"))}
