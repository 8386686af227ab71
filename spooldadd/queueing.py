"""What waits and may be claimed here: put off, left to other nodes for a moment, or in line.

If we die here: nothing is held that a scan does not find again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from spooldadd.backlog import FEW, Backlog, Entry, PutOff
from spooldadd.faltering import Faltering
from spooldadd.placement import Needs
from spooldadd.sharing import Sharing
from spooldadd.sources import Sources
from spooldadd.usage import LOOK_S


class Queueing:
    """The line of one worker. Times are of the monotonic clock."""

    def __init__(self, sources: Sources, sharing: Sharing, faltering: Faltering) -> None:
        self._sources = sources
        self._sharing = sharing
        self._faltering = faltering
        self._put_off = PutOff()
        self.backlog = Backlog()

    def __len__(self) -> int:
        return len(self.backlog) + self._sharing.spread.kept_back

    def examine(self, now: float) -> None:
        """Look at what is new, and queue what may run; queue what was put off or left to others until now."""
        self.take_in(self._sources.examine(now, len(self.backlog)), now)
        left, others = self._sources.examine_others(now, len(self.backlog))
        self.take_in(others, now)
        self._let_go_of_bytes(left)
        self._queue(left, now)
        self._let_due_in(now)

    def take_in(self, entries: list[Entry], now: float) -> None:
        """Queue what was found: at once what is ours to take, in a moment what another node may want first."""
        if entries:
            self._let_go_of_bytes(entries)
            self._queue(self._sharing.sift(entries, self._sources, now), now)

    def _let_go_of_bytes(self, entries: list[Entry]) -> None:
        for entry in entries[max(0, FEW - len(self)) :]:
            entry.data = None

    def _queue(self, entries: list[Entry], now: float) -> None:
        now_s = time.time()
        for entry in entries:
            until = self._faltering.until(entry.key)
            if until > now:
                self._put_off.add(entry, until)
            else:
                self.backlog.add(entry, now_s)

    def add(self, entry: Entry) -> None:
        """Queue an entry that may have been out of line for a while, unless it is claimed or gone meanwhile."""
        if self._sources.knows(entry):
            self.backlog.add(entry, time.time())

    def put_off(self, entry: Entry, until: float) -> None:
        """Keep an entry that could not be claimed until then."""
        self._put_off.add(entry, until)

    def _let_due_in(self, now: float) -> None:
        """Put in line what is due by its own time, though nothing may be free, and what was kept back and is still here."""
        self.backlog.promote(time.time())
        for entry in [*self._put_off.due(now), *self._sharing.spread.ripe(now)]:
            self.add(entry)

    def forget_gone(self) -> None:
        """After a scan: drop what it did not find any more."""
        for key in self._sources.take_lost():
            self.backlog.discard(key, is_record=False)
        for key in self.backlog.keys(is_record=True) - self._sources.waiting.known:
            self.backlog.discard(key, is_record=True)

    def pop(self, is_open: Callable[[str], bool], free: Callable[[], Needs] | None = None) -> Entry | None:
        """Take out what may run first, or None; None too where we have to scan before we touch the part of another node."""
        entry = self.backlog.pop(time.time(), is_open, free)
        if entry is None:
            self._sources.look_further()
            return None
        if self._sharing.is_stale(entry, self._sources):
            self.add(entry)
            self._sources.list_before_claim()
            return None
        return entry

    def has_ready(self, is_open: Callable[[str], bool]) -> bool:
        """Tell whether `pop` would find an entry."""
        return self.backlog.has_ready(time.time(), is_open)

    def has_nothing_left(self, is_open: Callable[[str], bool]) -> bool:
        """Tell whether there is nothing to wait for."""
        if not self._sources.is_settled or self._put_off or self._sharing.spread.kept_back:
            return False
        return not self.backlog.has_later_record() and not self.has_ready(is_open)

    def next_at(self, now: float) -> float:
        """When there is something to do here."""
        later_s = self.backlog.next_at_s()
        times = [self._put_off.next_at, self._sharing.spread.next_at]
        if self.backlog.is_lacking:
            times.append(now + LOOK_S)  # another worker of this node may give back what is lacking
        return min(times if later_s is None else [*times, now + later_s - time.time()])
