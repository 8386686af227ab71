"""The records in `waiting/`: when their next attempt is due, and whether somebody holds them."""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Callable

from spooldadd import durable, layout, names, record
from spooldadd.backlog import Entry
from spooldadd.spec import Peek


class WaitingRecords:
    """Follows the entries of `waiting/`. A record is read again only when something in it changed."""

    def __init__(
        self, places: layout.Layout, peek_record: Callable[[str], Peek], may_run: Callable[[str, Peek], bool]
    ) -> None:
        self._places = places
        self._may_run = may_run
        self._peek = peek_record
        self._seen: dict[str, int] = {}
        self.known: set[str] = set()  # what may be claimed: in `waiting/`, not held, and for this node

    def scan(self) -> list[Entry]:
        """Return an entry for each record that is new or changed and not held. Raises: OSError."""
        present = {name for name in os.listdir(self._places.waiting) if names.parse_job_id(name)}
        for job in self._seen.keys() - present:
            self.forget(job)
        return [entry for entry in map(self.add, present) if entry is not None]

    def add(self, job: str) -> Entry | None:
        """Return the entry of this record if it is new or changed, not held, and for this node."""
        path = os.path.join(self._places.waiting, job)
        changed_ns = self._changed_ns(job)
        if changed_ns is None:
            self.forget(job)
            return None
        if self._seen.get(job) == changed_ns:
            return None
        self._seen[job] = changed_ns
        peek = self._peek(layout.find_spec(path))
        if self._is_held(job) or not self._may_run(path, peek):
            self.known.discard(job)
            return None
        self.known.add(job)
        return self._entry(job, path, peek)

    def read_again(self) -> None:
        """Let the next scan return every entry anew."""
        self._seen.clear()

    def has_changed(self, job: str) -> bool:
        """Tell whether something in this record is not as it was when its entry was made: a hold, for one."""
        # A hold is looked for by itself: kernels before 6.13 give two changes within 4 ms the same time.
        return self._changed_ns(job) != self._seen.get(job) or self._is_held(job)

    def forget(self, job: str) -> None:
        """This record is no longer in `waiting/`."""
        self._seen.pop(job, None)
        self.known.discard(job)

    def _is_held(self, job: str) -> bool:
        return durable.is_listed(os.path.join(self._places.waiting, job, layout.HOLD))

    def _changed_ns(self, job: str) -> int | None:
        """Return when something in this record changed; None where there is none, or what is there is no directory."""
        try:
            status = os.lstat(os.path.join(self._places.waiting, job))
        except OSError:
            return None
        return status.st_mtime_ns if stat.S_ISDIR(status.st_mode) else None

    def _entry(self, job: str, path: str, peek: Peek) -> Entry:
        times = [due_at_s(path, time.time()), peek.not_before.timestamp() if peek.not_before else None]
        given = [at_s for at_s in times if at_s is not None]
        return Entry(
            key=job,
            is_record=True,
            own_name=names.job_name(job),
            queue=peek.queue,
            priority=peek.priority,
            since_s=record.submitted_at_s(path, job),
            not_before_s=max(given, default=None),
            needs=peek.place.needs,
        )


def due_at_s(path: str, now_s: float = math.inf) -> float | None:
    """Return when the next attempt of a waiting record may start, or None for at once.

    No later than as long from `now_s` as was asked for: the clock may have been set back since.
    """
    if durable.is_listed(os.path.join(path, layout.NOW)):
        return None
    result = record.read_table(os.path.join(path, layout.RESULT)) or {}
    at_s, ended_s = record.seconds(result.get("next_attempt_at")), record.seconds(result.get("finished_at"))
    if at_s is None or ended_s is None:
        return at_s
    return min(at_s, now_s + at_s - ended_s)
