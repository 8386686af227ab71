"""Which drops this node of a synced spool knows to have been made into jobs, here or elsewhere, and for how long.

The records themselves say it (`origin`). The ledger outlives them: it is a file for each month below `.spool/claimed/`, a
line for each job, and stays at home. A line is written when an attempt is about to start or its spec was refused, never
before: a drop that is put back must not look like one that came back. What a crash keeps from being written is read from the
record at the next look.

If we die here: a line that was cut short, which is skipped; the record it is about is looked at again.
"""

from __future__ import annotations

import os
import time

from spooldadd import claim, layout, names, origin
from spooldadd.layout import Layout

# A drop is known for as long as its record is in this copy of the spool, and at least this many whole months longer. A node
# that was offline brings back what others have long forgotten; a quarter is longer than anybody is away unnoticed.
MONTHS = 3


class Ledger:
    """The drops that one node knows. Lines that another worker of the node writes are read before each answer."""

    def __init__(self, places: Layout, node: str) -> None:
        self._places = places
        self._directory = places.claimed
        self._node = node
        self._jobs: dict[str, str] = {}  # by mark
        self._seen: set[str] = set()  # jobs whose line we have
        self._nameless: dict[str, int] = {}  # records that do not say what they were made of, and their time then
        self._read_bytes: dict[str, int] = {}  # by name of file

    def load(self, now_s: float) -> None:
        """Read what is remembered, and forget what is old enough. Raises: OSError."""
        os.makedirs(self._directory, exist_ok=True)
        oldest = _month(now_s, -MONTHS)
        for name in sorted(os.listdir(self._directory)):
            node, _, month = name.removesuffix(".txt").rpartition(".")
            if node != self._node or not name.endswith(".txt"):
                continue
            if month < oldest:
                os.unlink(os.path.join(self._directory, name))
            else:
                self._read_on(name)

    def note(self, job: str, found: origin.Origin, now_s: float) -> None:
        """Remember that this drop was made into a job. Raises: OSError."""
        if job in self._seen:
            return
        self._learn(found.mark(), job)
        path = os.path.join(self._directory, self._file(now_s))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, f"\n{found.mark()} {job}\n".encode())  # a line of its own also after one that was cut short
        finally:
            os.close(fd)

    def job_of(self, found: origin.Origin, now_s: float) -> str | None:
        """Return the job that was made of this very drop, or None where none is known. Raises: OSError."""
        self._read_on(self._file(now_s))
        return self._jobs.get(found.mark())

    def look(self, now_s: float) -> list[str]:
        """Learn of records that were not seen before, those that a sync tool brought included; return their paths."""
        new = []
        for state in (layout.WAITING, layout.DONE, layout.FAILED, layout.RUNNING):
            directory = self._places.state_directory(state)
            for name in os.listdir(directory):
                job = _job(state, name)
                if job is None or job in self._seen or not self._has_begun(state, name):
                    continue
                path = os.path.join(directory, name)
                if self._nameless.get(job) == _changed_ns(path):
                    continue
                found = origin.of_record(path)
                if found is not None:
                    self.note(job, found, now_s)
                else:  # not all of it has arrived, or it was made by hand
                    self._nameless[job] = _changed_ns(path)
                new.append(path)
        return new

    def _has_begun(self, state: str, name: str) -> bool:
        """Tell whether a job in `running/` was handed to a supervisor: before, its drop may still be put back."""
        return state != layout.RUNNING or bool(claim.read_holder(self._places, name).supervisor_pid)

    def _learn(self, mark: str, job: str) -> None:
        self._jobs[mark] = job
        self._seen.add(job)

    def _read_on(self, name: str) -> None:
        """Read what was added to a file since we last did."""
        path, begin = os.path.join(self._directory, name), self._read_bytes.get(name, 0)
        try:
            if os.stat(path).st_size <= begin:
                return
            with open(path, "rb") as file:
                file.seek(begin)
                data = file.read()
        except FileNotFoundError:
            return
        whole, _, _ = data.rpartition(b"\n")
        self._read_bytes[name] = begin + len(whole)
        for line in whole.decode("ascii", "replace").split("\n"):
            mark, _, job = line.partition(" ")
            if len(mark) == 32 and names.parse_job_id(job):
                self._learn(mark, job)

    def _file(self, now_s: float) -> str:
        return f"{self._node}.{_month(now_s)}.txt"


def _changed_ns(path: str) -> int:
    """Not by the time of modification: rsync gives a directory that of its source before the files are in it."""
    try:
        return os.lstat(path).st_ctime_ns
    except FileNotFoundError:
        return 0


def _job(state: str, name: str) -> str | None:
    if state != layout.RUNNING:
        return name if names.parse_job_id(name) else None
    parsed = names.parse_record_name(name)
    return parsed.job if parsed else None


def _month(at_s: float, more: int = 0) -> str:
    """Return a month as `2026-11`, so many months later."""
    at = time.gmtime(at_s)
    year, month = divmod(at.tm_year * 12 + at.tm_mon - 1 + more, 12)
    return f"{year:04}-{month + 1:02}"
