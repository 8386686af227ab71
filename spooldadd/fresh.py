"""Names of drops that nobody here has looked at yet: ours to look at now, and those that are other nodes' part.

A look is an open, a read and a reader of TOML; on a network file system it goes to the server and back. Forty nodes that all
look at every drop make forty looks for each job, at one server. But most of what is another node's part is gone before we
need it. So it is put aside, and looked at when we have nothing else to run, or a few at a time.

Pure.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Set
from typing import NamedTuple


class Parts(NamedTuple):
    """Tells of a name whether it is our part, and where in our own order it stands among the parts of others: in [0, 1)."""

    is_ours: Callable[[str], bool]
    chance: Callable[[str], float]


ALL_OURS = Parts(lambda _name: True, lambda _name: 0.0)


class Aside(NamedTuple):
    """When a name of another node's part was seen, by the monotonic clock.

    `complete_s` says when, by the wall clock, it had been moved in or closed under our eyes; None where no event said so.
    """

    seen_at: float
    complete_s: float | None


class Fresh:
    """The names in one directory. What an event has announced is left to its node for a moment before it can be taken."""

    def __init__(self, parts: Parts = ALL_OURS) -> None:
        self._parts = parts
        self._ours: list[str] = []
        self._others: dict[str, Aside] = {}
        self._left: deque[tuple[float, str]] = deque()  # announced, in the order in which they were seen
        self._ready: list[tuple[float, str]] = []  # a heap by chance, so that each node begins with others; may be stale

    @property
    def has_ours(self) -> bool:
        """Tell whether `take` has something to give."""
        return bool(self._ours)

    @property
    def aside(self) -> int:
        """How many names are put aside."""
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
        if self._others:
            self._others = {name: aside for name, aside in self._others.items() if name in names}
            self._ready = [item for item in self._ready if item[1] in self._others]
            heapq.heapify(self._ready)

    def add(self, names: Iterable[str], now: float) -> None:
        """Take in what a scan has found. Ours are taken from the end: what came last before what was in line."""
        for name in names:
            if self._parts.is_ours(name):
                self._ours.append(name)
            else:
                self._put_ready(name, Aside(now, None))

    def put_aside(self, name: str, now: float, complete_s: float | None) -> None:
        """Take in what an event has announced of another node's part, in place of what was known of it."""
        if complete_s is None:
            self._put_ready(name, Aside(now, None))
            return
        self._put(name, Aside(now, complete_s))
        self._left.append((now, name))

    def take(self, most: int) -> list[str]:
        """Take out no more than `most` of ours."""
        chunk = self._ours[-most:]
        del self._ours[-most:]  # from the end: to copy the rest each time would cost the more, the longer the queue is
        chunk.reverse()
        return chunk

    def take_others(self, now: float, most: int, leave_s: float, *, newest: int = 0) -> list[tuple[str, Aside]]:
        """Take out no more than `most` of what is put aside; first so many of the newest, which may be urgent."""
        while self._left and self._left[0][0] + leave_s <= now:
            at, announced = self._left.popleft()
            aside = self._others.get(announced)
            if aside is not None and aside.seen_at == at:
                heapq.heappush(self._ready, (self._parts.chance(announced), announced))
        found: list[tuple[str, Aside]] = []
        while self._others and len(found) < most:
            name = self._newest(now, leave_s) if len(found) < newest else None
            name = name or self._first_by_chance(now, leave_s)
            if name is None:
                break
            found.append((name, self._others.pop(name)))
        return found

    def others_at(self, leave_s: float) -> float:
        """Return when `take_others` may have something to give; infinitely late where nothing is put aside."""
        if self._ready:
            return -math.inf
        return self._left[0][0] + leave_s if self._left else math.inf

    def share_out(self, now: float) -> None:
        """Part ours and the others anew: there are other nodes."""
        ours, others = self._ours, self._others
        self.clear()
        self.add(ours, now)
        for name, aside in others.items():
            if self._parts.is_ours(name):
                self._ours.append(name)
            else:
                self.put_aside(name, aside.seen_at, aside.complete_s)

    def clear(self) -> None:
        """Forget everything."""
        self._ours, self._others, self._ready = [], {}, []
        self._left.clear()

    def _put_ready(self, name: str, aside: Aside) -> None:
        self._put(name, aside)
        heapq.heappush(self._ready, (self._parts.chance(name), name))

    def _put(self, name: str, aside: Aside) -> None:
        self._others.pop(name, None)  # or it would keep its place, and the newest be another
        self._others[name] = aside

    def _newest(self, now: float, leave_s: float) -> str | None:
        name = next(reversed(self._others))
        return name if _is_ready(self._others[name], now, leave_s) else None

    def _first_by_chance(self, now: float, leave_s: float) -> str | None:
        while self._ready:
            name = heapq.heappop(self._ready)[1]
            aside = self._others.get(name)
            if aside is not None and _is_ready(aside, now, leave_s):
                return name
        return None


def _is_ready(aside: Aside, now: float, leave_s: float) -> bool:
    return aside.complete_s is None or aside.seen_at + leave_s <= now
