"""What waits, in the order in which it may run: queues with a width, priority first, then age.

Pure. Nothing here is linear in the number of waiting jobs but what is added: each queue is a heap, and entries that are
gone are dropped when they come up.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Rank = tuple[int, float, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """A job that waits: a drop in the root by its file name, or a record in `waiting/` by its job id."""

    key: str
    is_record: bool
    name: str
    queue: str
    priority: int
    since_s: float
    not_before_s: float | None = None

    @property
    def rank(self) -> Rank:
        """What sorts first runs first."""
        return -self.priority, self.since_s, self.key


class PutOff:
    """Entries that could not be claimed, each until its time. By the monotonic clock: nobody sets it back."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, Entry]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry, until: float) -> None:
        """Keep an entry until then."""
        self._entries.append((until, entry))

    def due(self, now: float) -> list[Entry]:
        """Take out those whose time has come."""
        due = [entry for until, entry in self._entries if until <= now]
        self._entries = [(until, entry) for until, entry in self._entries if until > now]
        return due

    @property
    def next_at(self) -> float:
        """When the next one's time comes; infinitely late where there is none."""
        return min((until for until, _ in self._entries), default=math.inf)


@dataclass
class Backlog:
    """All entries that wait, by queue; those whose time has not come are kept apart."""

    _entries: dict[tuple[bool, str], Entry] = field(default_factory=dict)
    _ready: dict[str, list[tuple[Rank, int, Entry]]] = field(default_factory=dict)
    _later: list[tuple[float, int, Entry]] = field(default_factory=list)
    _count: int = 0  # so that two entries of one rank are never compared

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: tuple[bool, str]) -> bool:
        return key in self._entries

    def add(self, entry: Entry, now_s: float) -> None:
        """Add an entry, or replace the one of that key."""
        self._entries[entry.is_record, entry.key] = entry
        if entry.not_before_s is not None and entry.not_before_s > now_s:
            self._count += 1
            heapq.heappush(self._later, (entry.not_before_s, self._count, entry))
        else:
            self._push(entry)

    def discard(self, key: str, *, is_record: bool) -> None:
        """Forget an entry: it was claimed, here or elsewhere, or is gone."""
        self._entries.pop((is_record, key), None)

    def keys(self, *, is_record: bool) -> set[str]:
        """Return the keys of all entries of one kind."""
        return {key for kind, key in self._entries if kind == is_record}

    def pop(self, now_s: float, is_open: Callable[[str], bool]) -> Entry | None:
        """Take out the entry that may run first among the queues that are open, or None."""
        best = self._best_queue(now_s, is_open)
        if best is None:
            return None
        entry = heapq.heappop(self._ready[best])[2]
        del self._entries[entry.is_record, entry.key]
        return entry

    def has_ready(self, now_s: float, is_open: Callable[[str], bool]) -> bool:
        """Tell whether `pop` would find an entry."""
        return self._best_queue(now_s, is_open) is not None

    def has_later_record(self) -> bool:
        """Tell whether a record waits for the time of its next attempt."""
        return any(entry.is_record and self._is_current(entry) for _, _, entry in self._later)

    def next_at_s(self) -> float | None:
        """Return when the next entry's time comes, in seconds since the epoch, or None."""
        while self._later and not self._is_current(self._later[0][2]):
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def entries(self) -> Iterator[Entry]:
        """Return all entries, in no order."""
        return iter(list(self._entries.values()))

    def _best_queue(self, now_s: float, is_open: Callable[[str], bool]) -> str | None:
        self._promote(now_s)
        queues = [queue for queue in self._ready if self._head(queue) is not None and is_open(queue)]
        return min(queues, key=lambda queue: self._ready[queue][0][0], default=None)

    def _promote(self, now_s: float) -> None:
        while self._later and self._later[0][0] <= now_s:
            entry = heapq.heappop(self._later)[2]
            if self._is_current(entry):
                self._push(entry)

    def _push(self, entry: Entry) -> None:
        self._count += 1
        heapq.heappush(self._ready.setdefault(entry.queue, []), (entry.rank, self._count, entry))

    def _head(self, queue: str) -> Entry | None:
        heap = self._ready[queue]
        while heap and not self._is_current(heap[0][2]):
            heapq.heappop(heap)
        return heap[0][2] if heap else None

    def _is_current(self, entry: Entry) -> bool:
        return self._entries.get((entry.is_record, entry.key)) is entry
