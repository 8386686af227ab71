"""What waits, in the order in which it may run: queues with a width, priority first, then age; and room on the node.

Pure. Nothing here is linear in the number of waiting jobs but what is added: in each queue the jobs that need the same of
the node are a heap, and entries that are gone are dropped when they come up.

Nothing is overtaken for ever. The first job of each such heap that finds too little keeps what it needs for itself: who
comes behind it gets what is left then. So jobs that need something else go on, and what it waits for only grows.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from spooldadd.placement import NOTHING, Needs

Rank = tuple[int, float, str]

# While fewer wait than this, the bytes of a drop are kept with it, up to this length: who plans it need not read it again,
# which takes as long as a tenth of all that a worker does for a short job. 8 MB at most.
FEW = 4096
# So many jobs with needs of different amounts are looked at before the rest of them has to wait for those: a look costs a
# microsecond or two, and is made for every job that is started.
MOST_LACKING: Final = 16


@dataclass(slots=True, eq=False)
class Entry:
    """A job that waits: a drop by its key, which is the file's name, or a record in `waiting/` by its job id.

    Never changed, but that it may let go of its bytes. Not frozen, and equal to itself alone: one is made for every drop, in
    a fourth of the time.
    """

    key: str
    is_record: bool
    own_name: str | None  # where the spec says one
    queue: str
    priority: int
    since_s: float
    not_before_s: float | None = None
    needs: Needs = NOTHING
    data: bytes | None = None  # of a drop, as they were when it was looked at; None where they are not kept

    @property
    def name(self) -> str:
        """What the job is called: as its spec says, else as its file. Not kept: with 100,000 in line that is 6 MB."""
        file_name = self.key.rpartition("/")[2]
        return self.own_name or file_name.rpartition(".")[0] or file_name

    @property
    def rank(self) -> Rank:
        """What sorts first runs first."""
        return -self.priority, self.since_s, self.key


def rank_of(entry: Entry) -> Rank:
    """Return what entries are sorted by where no other node takes some of them."""
    return entry.rank


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


# Rank, a count so that no two are equal, and the entry, which so is never compared. One tuple for each: they are what a long
# queue costs.
_Item = tuple[int, float, str, int, Entry]


@dataclass
class _Queue:
    """The entries of one queue that are ready: a heap for those that need nothing, and one for each amount of needs.

    `fronts` says where the latter begin: each that is not empty has a front at or before its first entry. Others are stale.
    """

    plain: list[_Item] = field(default_factory=list)
    needy: dict[Needs, list[_Item]] = field(default_factory=dict)
    fronts: list[tuple[_Item, Needs]] = field(default_factory=list)

    def heap(self, needs: Needs) -> list[_Item]:
        """Return the heap of those that need this."""
        return self.needy.setdefault(needs, []) if needs != NOTHING else self.plain

    def push(self, item: _Item, needs: Needs) -> None:
        """Put an entry where it belongs."""
        heap = self.heap(needs)
        heapq.heappush(heap, item)
        if heap is not self.plain and heap[0] is item:
            heapq.heappush(self.fronts, (item, needs))


@dataclass
class Backlog:
    """All entries that wait, by queue; those whose time has not come are kept apart."""

    _entries: tuple[dict[str, Entry], dict[str, Entry]] = field(default_factory=lambda: ({}, {}))  # by `is_record`
    _ready: dict[str, _Queue] = field(default_factory=dict)
    _later: list[tuple[float, int, Entry]] = field(default_factory=list)
    _count: int = 0
    order: Callable[[Entry], Rank] = rank_of  # what sorts first runs first; to be followed by `reorder` where it is changed
    is_lacking: bool = False  # the last `pop` passed over a job for which there is too little of something now

    def __len__(self) -> int:
        return sum(map(len, self._entries))

    def __contains__(self, key: tuple[bool, str]) -> bool:
        return key[1] in self._entries[key[0]]

    def add(self, entry: Entry, now_s: float) -> None:
        """Add an entry, or replace the one of that key."""
        self._entries[entry.is_record][entry.key] = entry
        if entry.not_before_s is not None and entry.not_before_s > now_s:
            self._count += 1
            heapq.heappush(self._later, (entry.not_before_s, self._count, entry))
        else:
            self._push(entry)

    def discard(self, key: str, *, is_record: bool) -> None:
        """Forget an entry: it was claimed, here or elsewhere, or is gone."""
        self._entries[is_record].pop(key, None)

    def keys(self, *, is_record: bool) -> set[str]:
        """Return the keys of all entries of one kind."""
        return set(self._entries[is_record])

    def pop(self, now_s: float, is_open: Callable[[str], bool], free: Callable[[], Needs] | None = None) -> Entry | None:
        """Take out the entry that may run first among the queues that are open, or None.

        `free` says what the node has left; it is asked only where an entry needs something. Without it there is enough.
        """
        if self._later:
            self.promote(now_s)
        entry = self._choose(is_open, free)
        if entry is not None:
            heapq.heappop(self._ready[entry.queue].heap(entry.needs))
            del self._entries[entry.is_record][entry.key]
        return entry

    def has_ready(self, now_s: float, is_open: Callable[[str], bool]) -> bool:
        """Tell whether `pop` would find an entry if there were enough of everything."""
        self.promote(now_s)
        return any(self._has_any(queue) and is_open(name) for name, queue in self._ready.items())

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
        return iter([entry for kind in self._entries for entry in kind.values()])

    def reorder(self) -> None:
        """Sort anew what is ready: the order has changed."""
        heaps = [heap for queue in self._ready.values() for heap in (queue.plain, *queue.needy.values())]
        ready = [item[-1] for heap in heaps for item in heap if self._is_current(item[-1])]
        self._ready.clear()
        for entry in ready:
            self._push(entry)

    # -- choosing

    def _choose(self, is_open: Callable[[str], bool], free: Callable[[], Needs] | None) -> Entry | None:
        """Return the first entry that needs nothing, or one before it that finds enough."""
        self.is_lacking = False
        plain: _Item | None = None
        with_needs: list[_Queue] = []
        for name, queue in self._ready.items():
            if not self._has_any(queue) or not is_open(name):
                continue
            head = self._head(queue.plain)
            if head is not None and (plain is None or head < plain):
                plain = head
            if queue.fronts:
                with_needs.append(queue)
        found = self._choose_needy(with_needs, plain, free) if with_needs else None  # most nodes have none
        return found if found is not None or plain is None else plain[-1]

    def _choose_needy(self, queues: list[_Queue], plain: _Item | None, free: Callable[[], Needs] | None) -> Entry | None:
        """Return the first entry with needs that finds enough and comes before `plain`, or None."""
        taken: list[tuple[_Queue, _Item, Needs]] = []
        needy = heapq.merge(*(self._needy(queue, taken) for queue in queues))
        found = self._first_with_room(itertools.islice(needy, MOST_LACKING), plain, free)
        for queue, item, needs in taken:
            heapq.heappush(queue.fronts, (item, needs))
        return found

    def _first_with_room(
        self, needy: Iterable[_Item], plain: _Item | None, free: Callable[[], Needs] | None
    ) -> Entry | None:
        left: Needs | None = None
        for item in needy:
            entry = item[-1]
            if plain is not None and plain < item:
                return None
            if free is None:
                return entry
            left = free() if left is None else left
            if entry.needs.fits_in(left):
                return entry
            self.is_lacking = True
            left = left.minus(entry.needs)  # kept for this one, whoever comes behind it
            if max(left) <= 0:
                return None
        return None

    def _needy(self, queue: _Queue, taken: list[tuple[_Queue, _Item, Needs]]) -> Iterator[_Item]:
        """Yield the first entry of each heap of those with needs, in order; `taken` is what has to go back to the fronts."""
        seen = set()
        while queue.fronts:
            front, needs = heapq.heappop(queue.fronts)
            head = self._head(queue.needy.get(needs, []))
            if head is None:
                queue.needy.pop(needs, None)
            elif head > front:
                heapq.heappush(queue.fronts, (head, needs))
            elif needs not in seen:
                seen.add(needs)
                taken.append((queue, head, needs))
                yield head

    def _has_any(self, queue: _Queue) -> bool:
        if self._head(queue.plain) is not None:
            return True
        taken: list[tuple[_Queue, _Item, Needs]] = []
        has_any = next(self._needy(queue, taken), None) is not None
        for _, item, needs in taken:
            heapq.heappush(queue.fronts, (item, needs))
        return has_any

    def promote(self, now_s: float) -> None:
        """Put in line what may run from now on. To be done though nothing can run, or `next_at_s` stays in the past."""
        while self._later and self._later[0][0] <= now_s:
            entry = heapq.heappop(self._later)[2]
            if self._is_current(entry):
                self._push(entry)

    def _push(self, entry: Entry) -> None:
        self._count += 1
        queue = self._ready.get(entry.queue)
        if queue is None:
            queue = self._ready[entry.queue] = _Queue()
        queue.push((*self.order(entry), self._count, entry), entry.needs)

    def _head(self, heap: list[_Item]) -> _Item | None:
        while heap and not self._is_current(heap[0][-1]):
            heapq.heappop(heap)
        return heap[0] if heap else None

    def _is_current(self, entry: Entry) -> bool:
        return self._entries[entry.is_record].get(entry.key) is entry
