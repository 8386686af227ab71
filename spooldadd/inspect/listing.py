"""The names in a spool at one look: how many jobs there are, and which. Opens no file but Python files in the root.

Directories are listed in the order in which jobs move, so that none is missed; a job that was seen twice is where it was
seen last. Listing, not stat: over NFS a stat may deny for half a minute what a listing shows.
"""

from __future__ import annotations

import os

from spooldadd import durable, layout, names
from spooldadd.inspect import drops
from spooldadd.inspect.job import FINISHED, Job, id_stamp
from spooldadd.layout import Layout

TYPE_CHECKING = False  # not from `typing`: that import alone would take a tenth of the time of `status`
if TYPE_CHECKING:
    from collections.abc import Iterable


_TIME = slice(-22, -6)  # where an id tells its time


class Listing:
    """What one look at the directories of a spool showed."""

    __slots__ = ("_drops", "_entries", "_places")

    def __init__(
        self, places: Layout, suffixes: tuple[str, ...] = drops.SUFFIXES, states: Iterable[str] | None = None
    ) -> None:
        wanted = layout.STATES if states is None else tuple(states)
        self._places = places
        root = places.root
        named = drops.keys(root) if layout.WAITING in wanted else []
        self._drops = [name for name in named if drops.is_waiting(root, name, suffixes)]
        self._entries = {state: _records(places, state) for state in layout.STATES if state in wanted}

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        counts = {state: len(self._entries.get(state, ())) for state in layout.STATES}
        counts[layout.WAITING] += len(self._drops)
        return counts

    def jobs(self, limit: int | None = None) -> list[Job]:
        """Return running jobs, then waiting ones (drops first), oldest first, then finished ones, newest first.

        `limit` is how many finished ones at most. Times are those in the ids.
        """
        finished = self._finished(limit)
        running = self._unfinished(layout.RUNNING, {job.id for job in finished})
        later = {job.id for job in finished} | {job.id for job in running}
        waiting = [drop(self._places, name) for name in sorted(self._drops) if drops.carried_job_id(name) not in later]
        return [*running, *waiting, *self._unfinished(layout.WAITING, later), *finished]

    def _unfinished(self, state: str, later: set[str]) -> list[Job]:
        found = [record(self._places, state, name) for name in self._entries.get(state, ())]
        return sorted((job for job in found if job.id not in later), key=lambda job: (id_stamp(job.id), job.id))

    def _finished(self, limit: int | None) -> list[Job]:
        since = "" if limit is None else self._time_of(limit)
        found = [
            (name[_TIME], name, state)
            for state in FINISHED
            for name in self._entries.get(state, ())
            if name[_TIME] >= since  # before anything is made for it: of a million names a tuple each took 150 MB
        ]
        return [record(self._places, state, name) for _, name, state in sorted(found, reverse=True)[:limit]]

    def _time_of(self, limit: int) -> str:
        """Return the time in the id of the last of the newest so many; empty where there are not many more than these."""
        entries = [self._entries.get(state, []) for state in FINISHED]
        if limit * 4 > sum(map(len, entries)):
            return ""
        import heapq  # late: few spools need it
        import operator

        time = operator.itemgetter(_TIME)
        newest = heapq.nlargest(limit, (found for names in entries for found in map(time, names)))
        return newest[-1] if newest else "~"


def drop(places: Layout, name: str) -> Job:
    """Return the job of this file in the root, or in an inbox by its key."""
    return Job(places, layout.WAITING, os.path.join(places.root, name), name, is_drop=True)


def record(places: Layout, state: str, name: str) -> Job:
    """Return the job of the record of this name in the directory of this state."""
    return Job(places, state, os.path.join(places.state_directory(state), name), job_id(state, name) or name)


def job_id(state: str, name: str) -> str | None:
    """Return the id of the job whose record has this name, or None where it is no record's."""
    if state == layout.RUNNING:
        parsed = names.parse_record_name(name)
        return parsed.job if parsed else None
    return name if names.parse_job_id(name) else None


def is_claimed(path: str) -> bool:
    """Tell whether a record in `running/` has its job: the spec comes in last, and until then it waits where it was."""
    if os.path.lexists(layout.find_spec(path)) or is_closed(path):
        return True
    return any(entry != layout.CLAIM and not durable.is_temporary(entry) for entry in entries(path))


def entries(directory: str) -> list[str]:
    """Return the names in this directory; none where it is missing, or nobody but others may look in."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def is_closed(path: str) -> bool:
    """Tell whether this is a directory into which only others may look: the record of another user's job."""
    return os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK)


def _records(places: Layout, state: str) -> list[str]:
    found = entries(places.state_directory(state))
    if state == layout.RUNNING:
        return [name for name in found if names.parse_record_name(name) and is_claimed(os.path.join(places.running, name))]
    # By the places of the dots: the full check of ten thousand names would take longer than listing them.
    return [name for name in found if name[-7:-5] == "Z." and name[-23:-22] == "." and name[0] != "."]
