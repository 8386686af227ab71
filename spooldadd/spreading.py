"""Which of several nodes takes which waiting job, so that forty of them do not fight over one file.

Pure, but for what it remembers. Every key belongs to one of the nodes that serve, by its checksum, wider nodes have more of
them; all nodes that see the same nodes reckon alike, and those that see others only lose a claim now and then. Within a
priority a node takes its own first, oldest first. Those of others it takes

- when it has none of its own, after they were left to their node for a moment, in an order that differs by node;
- when it has passed them over for a while: their node is full, or stuck. Then they stand among its own, by age.

A node that serves alone keeps the exact order.
"""

from __future__ import annotations

import heapq
import math
import zlib
from collections.abc import Iterable, Sequence

from spooldadd import layout
from spooldadd.backlog import Entry, Rank

# How long an entry may be passed over before others than its node take it, and as much again, spread by node and key.
PATIENCE_S = 10.0


class Spread:
    """What this node takes first."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._members: list[tuple[str, int]] = []
        self._slots: list[str] = []
        self._reached: tuple[int, float] = (-(2**63), -math.inf)  # priority and age of the youngest that we took
        self._passed: dict[str, float] = {}
        self._now = 0.0
        self._later: list[tuple[float, int, Entry]] = []  # a heap: the time for which they are left differs
        self._count = 0

    def meet(self, members: Sequence[tuple[str, int]]) -> bool:
        """Take note of all nodes that serve, ours included, and how wide each is; return whether that is news."""
        found = sorted(members)
        if found == self._members:
            return False
        self._members = found
        self._slots = [name for name, width in found for _ in range(width)]
        return True

    @property
    def is_alone(self) -> bool:
        """Tell whether no other node serves."""
        return len(self._members) < 2

    @property
    def count(self) -> int:
        """How many nodes serve."""
        return max(1, len(self._members))

    def is_part_of_ours(self, key: str) -> bool:
        """Tell whether what is called so belongs to us."""
        return self.is_alone or self._node_of(key) == self._own

    def chance(self, key: str) -> float:
        """Return a number in [0, 1) by which we take what belongs to others: for each node another, the same each time."""
        return _chance(self._own, key)

    def is_mine(self, entry: Entry) -> bool:
        """Tell whether this entry is ours to take first."""
        if self.is_alone or (not entry.is_record and layout.drop_node(entry.key)):  # we see no inbox but our own
            return True
        return self.is_part_of_ours(entry.key) or self._is_overdue(entry)

    def order(self, entry: Entry) -> Rank:
        """Return what the backlog sorts by."""
        if self.is_mine(entry):
            return -2 * entry.priority, entry.since_s, entry.key
        return -2 * entry.priority + 1, _chance(self._own, entry.key), entry.key

    def took(self, entry: Entry) -> None:
        """We claimed this one: what is older and still waits was passed over."""
        self._reached = max(self._reached, _age(entry))
        self._passed.pop(entry.key, None)

    def age(self, entries: Iterable[Entry], now: float) -> None:
        """Note which entries of others we have passed over, and since when. To be followed by a new order."""
        self._now = now
        passed = [] if self.is_alone else [entry.key for entry in entries if _age(entry) < self._reached]
        self._passed = {key: self._passed.get(key, now) for key in passed}

    # -- what is left to others for a moment

    def sift(self, entries: Iterable[Entry], now: float, leave_s: float) -> list[Entry]:
        """Return what may be taken now; keep the entries of others back for that time."""
        mine = []
        for entry in entries:
            if self.is_mine(entry):
                mine.append(entry)
            else:
                self._count += 1
                heapq.heappush(self._later, (now + leave_s, self._count, entry))
        return mine

    def ripe(self, now: float) -> list[Entry]:
        """Take out what was kept back for long enough."""
        found = []
        while self._later and self._later[0][0] <= now:
            found.append(heapq.heappop(self._later)[2])
        return found

    @property
    def kept_back(self) -> int:
        """How many are kept back."""
        return len(self._later)

    @property
    def next_at(self) -> float:
        """When the next of them is ripe."""
        return self._later[0][0] if self._later else math.inf

    def _node_of(self, key: str) -> str:
        return self._slots[zlib.crc32(key.encode("utf-8", "surrogateescape")) % len(self._slots)]

    def _is_overdue(self, entry: Entry) -> bool:
        since = self._passed.get(entry.key)
        if since is None:
            return False
        return self._now - since > PATIENCE_S * (1.0 + _chance(self._own, entry.key))


def _chance(node: str, key: str) -> float:
    """Return a number in [0, 1) that is different for each node, and the same each time."""
    return zlib.crc32(f"{node}\0{key}".encode("utf-8", "surrogateescape")) / 2**32


def _age(entry: Entry) -> tuple[int, float]:
    return -entry.priority, entry.since_s
