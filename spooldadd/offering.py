"""What a worker offers to supervisors that run short jobs, so that they go on without asking. `offered` is the other side.

Only what is claimed in the simplest way: a drop in the root of a spool of this machine, as TOML, whose plan depends on its
bytes and the configuration alone, in a queue without a width, needing nothing of the node, to be signed by nobody. All
else is claimed by the worker. Only while no place is free, so nothing is offered to one that another could start at once.

If we die here: an offer is no claim; supervisors see that we are gone, and take none any more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from spooldadd import claim
from spooldadd.ahead import Ahead, plan_ahead
from spooldadd.backlog import Entry
from spooldadd.config import Config
from spooldadd.crew import Crew, Report
from spooldadd.launching import Launching
from spooldadd.queueing import Queueing
from spooldadd.room import Room
from spooldadd.sharing import Sharing
from spooldadd.sources import Sources
from spooldadd.spool import Spool

# For how long a supervisor may take an offer: no longer than a pause, a higher priority or a drain may go unheard anyway.
VALID_S = 0.05
# After that, and the time that a claim may take, what was not taken goes back in line. Whoever is late then finds it gone.
GRACE_S = 0.02
# Jobs longer than this gain nothing.
SHORT_S = VALID_S / 2
# How many are offered to one supervisor at most, and how many it has left when it is offered more.
MOST, FEW = 16, 12
# A packet holds no more than this of them, with their bytes.
MOST_BYTES = 16384


@dataclass
class _Offers:
    """What one supervisor has been offered and has not answered: entries by the names of their records, in order."""

    entries: dict[str, Entry] = field(default_factory=dict)
    until: float = 0.0  # of the last ones


@dataclass
class Offering:
    """The offers of one worker."""

    the_spool: Spool
    config: Config
    crew: Crew
    launching: Launching
    queueing: Queueing
    sources: Sources
    sharing: Sharing
    room: Room
    _given: dict[int, _Offers] = field(default_factory=dict)
    _unfit: str = ""  # the key of what came up last and is to be claimed here: nothing that comes after it may overtake it

    def __len__(self) -> int:
        return sum(len(offers.entries) for offers in self._given.values())

    @property
    def next_at(self) -> float:
        """When an offer is void that nobody has taken, by the monotonic clock."""
        return min((offers.until + GRACE_S for offers in self._given.values() if offers.entries), default=math.inf)

    def turn(self, is_stopping: Callable[[], bool]) -> None:
        """Offer what is next in line to supervisors that will soon be done. Raises: OSError."""
        if not self._is_simple or self.room.free != 0 or is_stopping():
            return
        for channel, took_s in self.crew.busy().items():
            left = self._given.get(channel)
            count = len(left.entries) if left else 0
            wanted = min(MOST, int(SHORT_S / max(took_s, 1e-6)))
            if count <= min(FEW, wanted - 1) and not self._offer(channel, wanted - count):
                return

    def void(self, now: float) -> None:
        """Put back in line what was not taken in time. For good: a supervisor that is so slow is offered no more."""
        for channel, offers in self._given.items():
            if offers.entries and now >= offers.until + GRACE_S:
                self._put_back(offers)
                self.crew.is_slow(channel)

    def take_back(self) -> bool:
        """Put all back in line, because a place is free; return whether there was any. Who was quicker has it."""
        has_any = len(self) > 0
        for offers in self._given.values():
            self._put_back(offers)
        return has_any

    def heed(self, report: Report) -> None:
        """Hear what a supervisor has claimed, and that it has forgotten all where it claimed nothing."""
        following, offers = report.following, self._given.get(report.channel)
        if offers is not None and not following:
            self._put_back(offers)
        elif offers is not None and following in offers.entries:
            while (name := next(iter(offers.entries))) != following:
                self._return(offers.entries.pop(name))  # it was passed over: it is not as it was
            del offers.entries[following]
        if following and self.sources.forget_drop(report.source, report.signature):
            self.queueing.backlog.discard(report.source, is_record=False)  # where it was put back meanwhile

    # -- offering

    @property
    def _is_simple(self) -> bool:
        return self.launching.is_simple and self.sharing.spread.is_alone

    def _offer(self, channel: int, count: int) -> bool:
        """Offer so many to this supervisor; return whether there may be more."""
        found: list[tuple[Entry, Ahead]] = []
        is_open, size = cache(self.room.is_open), 0  # while a packet is filled, no queue is opened or closed
        while len(found) < count and size < MOST_BYTES:
            entry = self.queueing.pop(is_open, self.launching.usage.free)
            if entry is None:
                break
            ahead = self._ahead(entry)
            if ahead is None:
                self._unfit = entry.key
                self.queueing.add(entry)
                break
            found.append((entry, ahead))
            size += len(ahead.data)
        until = time.monotonic() + VALID_S
        if not found or not self.crew.offer(channel, self._said(until, found)):
            for entry, _ in found:
                self.queueing.add(entry)
            return False
        offers = self._given.setdefault(channel, _Offers())
        offers.entries.update((ahead.record, entry) for entry, ahead in found)
        offers.until = until
        return entry is not None

    def _ahead(self, entry: Entry) -> Ahead | None:
        return None if entry.key == self._unfit else plan_ahead(self.the_spool, self.config, self.launching, entry)

    def _said(self, until: float, found: list[tuple[Entry, Ahead]]) -> dict[str, object]:
        return message(self.the_spool, until, [(entry.key, ahead) for entry, ahead in found], self.crew.control_group)

    def _put_back(self, offers: _Offers) -> None:
        for entry in offers.entries.values():
            self._return(entry)
        offers.entries.clear()

    def _return(self, entry: Entry) -> None:
        if (False, entry.key) not in self.queueing.backlog:  # else another one was dropped under this name meanwhile
            self.queueing.add(entry)


def message(the_spool: Spool, until: float, found: list[tuple[str, Ahead]], control_group: str = "") -> dict[str, object]:
    """Return what `offered` reads: drops by their keys, each with its plan. `marshal` writes what they share once."""
    return {
        "until": until,
        "claimer": the_spool.claimer,
        "holder": claim.line_of(the_spool.holder),
        "control_group": control_group,
        "offers": [(key, ahead.signature, ahead.data, *ahead.table) for key, ahead in found],
    }
