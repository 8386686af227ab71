"""The attempts of one job: how each ended, and where its files are."""

from __future__ import annotations

import os

from spooldadd import layout
from spooldadd.inspect import tables
from spooldadd.inspect.job import Job
from spooldadd.inspect.tables import Table

LOGS = (layout.OUTPUT_LOG, layout.STDOUT_LOG, layout.STDERR_LOG)


class Attempt:
    """One try at a job: its number, the directory of its files, and how it ended (empty while it runs)."""

    __slots__ = ("number", "path", "result")

    def __init__(self, number: int, path: str, result: Table) -> None:
        self.number = number
        self.path = path
        self.result = result

    def logs(self) -> list[str]:
        """Return the paths of what it printed: one log, or two where the spec splits them."""
        paths = (os.path.join(self.path, name) for name in LOGS)
        return [path for path in paths if os.path.lexists(path)]

    def table(self) -> dict[str, object]:
        """Return what JSON says about it."""
        wanted = ("outcome", "reason", "exit_code", "signal", "node", "started_at", "finished_at", "duration_s")
        found = {key: tables.plain(self.result[key]) for key in wanted if key in self.result}
        return {"attempt": self.number, **found, "path": self.path}


def earlier(job: Job) -> list[Attempt]:
    """Return the attempts whose files were put aside, the first one first."""
    if job.is_drop:
        return []
    directory = os.path.join(job.path, layout.ATTEMPTS)
    try:
        numbers = sorted(int(name) for name in os.listdir(directory) if name.isascii() and name.isdigit())
    except OSError:
        return []
    paths = [(number, os.path.join(directory, str(number))) for number in numbers]
    return [Attempt(number, path, tables.read(os.path.join(path, layout.RESULT)) or {}) for number, path in paths]


def last(job: Job) -> Attempt | None:
    """Return the attempt that runs or ran last, or None where none has begun.

    A record that was just claimed again still holds the files of the attempt before, until its claim is written.
    """
    if job.state == layout.RUNNING and not job.claim():
        return None
    return Attempt(job.attempt(), job.path, job.result()) if job.attempt() and not job.is_drop else None


def every(job: Job) -> list[Attempt]:
    """Return all attempts, the first one first."""
    newest = last(job)
    return [*(one for one in earlier(job) if newest is None or one.number != newest.number), *([newest] if newest else [])]
