"""Names of drops that nobody here has looked at yet: ours to look at now, and those that are other nodes' part.

A look is an open, a read and a reader of TOML; on a network file system it goes to the server and back. Forty nodes that all
look at every drop make forty looks for each job, at one server. But most of what is another node's part is gone before we
need it. So it stays unopened until we have nothing else to run, but for a few now and then: the oldest, because nobody else
may be able to run them, and the newest, because they may be urgent.

Pure.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Set
from typing import NamedTuple

# What was seen within the same half minute counts as equally old, or all nodes would begin with the same.
SAME_AGE_S = 30.0


class Parts(NamedTuple):
    """Tells of a name whether it is our part, and where in our own order it stands among the parts of others: in [0, 1)."""

    is_ours: Callable[[str], bool]
    chance: Callable[[str], float]


ALL_OURS = Parts(lambda _name: True, lambda _name: 0.0)


class Unopened(NamedTuple):
    """When a name of another node's part was seen, by the monotonic clock.

    `complete_s` says when, by the wall clock, it had been moved in or closed under our eyes; None where no event said so.
    `serial` tells it from what was known of the same name before.
    """

    seen_at: float
    complete_s: float | None
    serial: int


class Fresh:
    """The names in one directory. What an event has announced is left to its node for a moment before it can be taken.

    The lines in which a name of another's part stands may be stale: it counts if its serial number is still the same.
    """

    def __init__(self, parts: Parts = ALL_OURS) -> None:
        self._parts = parts
        self._ours: list[str] = []
        self._others: dict[str, Unopened] = {}
        self._serial = 0
        self._left: deque[tuple[str, int]] = deque()  # announced, in the order in which they were seen
        self._oldest: list[tuple[float, float, int, str]] = []  # may be taken: a heap by age, then by chance
        self._newest: list[tuple[str, int]] = []  # the same, in the order in which they came to it

    @property
    def has_ours(self) -> bool:
        """Tell whether `take` has something to give."""
        return bool(self._ours)

    @property
    def unopened(self) -> int:
        """How many names of others' part are here."""
        return len(self._others)

    def is_ours(self, name: str) -> bool:
        """Tell whether this name is our part."""
        return self._parts.is_ours(name)

    @property
    def known(self) -> tuple[Iterable[str], Iterable[str]]:
        """All names that are here."""
        return self._ours, self._others

    def keep(self, names: Set[str]) -> None:
        """Forget all but these. Linear in what is here."""
        self._ours = [name for name in self._ours if name in names]
        self._others = {name: unopened for name, unopened in self._others.items() if name in names}
        self._left = deque(item for item in self._left if self._counts(*item))
        self._newest = [item for item in self._newest if self._counts(*item)]
        self._oldest = [item for item in self._oldest if self._counts(item[3], item[2])]
        heapq.heapify(self._oldest)

    def add(self, names: Iterable[str], now: float) -> None:
        """Take in what a scan has found. Ours are taken from the end: what came last before what was in line."""
        for name in names:
            if self._parts.is_ours(name):
                self._ours.append(name)
            else:
                self._make_ready(name, self._put(name, now, None))

    def announce(self, name: str, now: float, complete_s: float | None) -> None:
        """Take in what an event has told of another node's part, in place of what was known of it.

        `complete_s` is None where it may still be written: mostly another event follows before anybody looks.
        """
        self._left.append((name, self._put(name, now, complete_s).serial))

    def take(self, most: int) -> list[str]:
        """Take out no more than `most` of ours."""
        chunk = self._ours[-most:]
        del self._ours[-most:]  # from the end: to copy the rest each time would cost the more, the longer the queue is
        chunk.reverse()
        return chunk

    def take_others(self, now: float, most: int, leave_s: float, *, newest: int = 0) -> list[tuple[str, Unopened]]:
        """Take out no more than `most` of others' part: first so many of the newest, then the oldest."""
        while self._left_until(leave_s) <= now:
            name, _serial = self._left.popleft()
            self._make_ready(name, self._others[name])
        found: list[tuple[str, Unopened]] = []
        while len(found) < most:
            taken = self._pop_newest() if len(found) < newest else self._pop_oldest()
            if taken is None:
                break
            found.append((taken, self._others.pop(taken)))
        return found

    def others_at(self, leave_s: float) -> float:
        """Return when `take_others` has something to give; infinitely late where nothing of others is here."""
        if self._has_ready():
            return -math.inf
        return self._left_until(leave_s)

    def share_out(self, now: float) -> None:
        """Part ours and the others anew: there are other nodes."""
        ours, others = self._ours, self._others
        self.clear()
        self.add(ours, now)
        for name, unopened in sorted(others.items(), key=lambda item: item[1].seen_at):
            if unopened.complete_s is None or self._parts.is_ours(name):
                self.add((name,), unopened.seen_at)
            else:
                self.announce(name, unopened.seen_at, unopened.complete_s)

    def distrust_clock(self) -> None:
        """The wall clock was set back: when something was complete can no longer be told."""
        self._others = {name: unopened._replace(complete_s=None) for name, unopened in self._others.items()}

    def clear(self) -> None:
        """Forget everything."""
        self._ours, self._others, self._newest, self._oldest = [], {}, [], []
        self._left.clear()

    def _put(self, name: str, now: float, complete_s: float | None) -> Unopened:
        self._serial += 1
        unopened = self._others[name] = Unopened(now, complete_s, self._serial)
        return unopened

    def _make_ready(self, name: str, unopened: Unopened) -> None:
        heapq.heappush(self._oldest, (unopened.seen_at // SAME_AGE_S, self._parts.chance(name), unopened.serial, name))
        self._newest.append((name, unopened.serial))

    def _counts(self, name: str, serial: int) -> bool:
        unopened = self._others.get(name)
        return unopened is not None and unopened.serial == serial

    def _left_until(self, leave_s: float) -> float:
        """Return when the first of those that are left to their nodes has been for long enough."""
        while self._left and not self._counts(*self._left[0]):
            self._left.popleft()
        return self._others[self._left[0][0]].seen_at + leave_s if self._left else math.inf

    def _has_ready(self) -> bool:
        while self._oldest and not self._counts(self._oldest[0][3], self._oldest[0][2]):
            heapq.heappop(self._oldest)
        return bool(self._oldest)

    def _pop_oldest(self) -> str | None:
        return heapq.heappop(self._oldest)[3] if self._has_ready() else None

    def _pop_newest(self) -> str | None:
        while self._newest:
            name, serial = self._newest.pop()
            if self._counts(name, serial):
                return name
        return None
