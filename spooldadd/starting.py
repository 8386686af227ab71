"""From the head of the line to a running supervisor: claim, plan, hand over.

If we die here: a claim whose lease is free and whose attempt never started; recovery puts it back, its attempt not counted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from spooldadd import spool
from spooldadd.backlog import Entry
from spooldadd.crew import Crew
from spooldadd.errors import ClaimLost, Outdated, SpoolError, TakenBefore
from spooldadd.launching import Launching, NotQuiet, Refused
from spooldadd.log import Log
from spooldadd.offering import Offering
from spooldadd.plan import Plan
from spooldadd.queueing import Queueing
from spooldadd.room import Room
from spooldadd.sharing import Sharing
from spooldadd.sources import Sources
from spooldadd.timers import NO_ROOM_S, TROUBLE_S, Timers
from spooldadd.usage import NoRoom


@dataclass(frozen=True)
class Starting:
    """Starts the jobs of one worker, as far as there is room."""

    the_spool: spool.Spool
    log: Log
    queueing: Queueing
    sources: Sources
    sharing: Sharing
    launching: Launching
    room: Room
    crew: Crew
    timers: Timers
    offering: Offering

    def turn(self, is_stopping: Callable[[], bool]) -> None:
        """Start what may run now. Raises: SpoolError, OSError, Outdated."""
        if time.monotonic() < self.timers.trouble:
            return
        if self.sources.pause_was_touched:  # before a drop that came in the same breath is claimed
            self.sources.pause_was_touched = False
            self.room.look_at = 0.0
        while self.room.free > 0 and not is_stopping():
            entry = self.queueing.pop(self.room.is_open, self.launching.usage.free)
            if entry is None:
                if self.offering.take_back():
                    continue
                return
            if self.sources.has_changed(entry):
                self.queueing.take_in(self.sources.look_again(entry), time.monotonic())
                continue
            self._try_to_start(entry)
        self.offering.turn(is_stopping)

    def _try_to_start(self, entry: Entry) -> None:
        try:
            self._start(entry)
        except ClaimLost as error:
            self.sources.forget(entry)
            self.sources.distrust_list()
            if not isinstance(error, TakenBefore):  # our list was old: that cost a look
                self.log.debug("claim-lost", job=entry.key, reason=str(error))
        except NoRoom:
            self.queueing.put_off(entry, time.monotonic() + NO_ROOM_S)
        except (SpoolError, OSError):
            # For twice as long as all wait: where it is this one alone that cannot be claimed, the others come first.
            self.queueing.put_off(entry, time.monotonic() + 2 * self.timers.trouble_s)
            raise

    def _start(self, entry: Entry) -> None:
        claimed = self.launching.claim(entry)
        self.sources.forget(entry)
        self.sharing.spread.took(entry)
        try:
            plan = self.launching.plan(claimed, entry)
        except NotQuiet as error:
            self._put_back(entry, claimed, str(error))
        except Refused as error:
            self.launching.refuse(claimed, error)
        except OSError:
            os.close(claimed.lease)  # recovery finds a claim that never started, and puts it back
            raise
        else:
            self._hand_over(claimed, plan)

    def _put_back(self, entry: Entry, claimed: spool.Claim, reason: str) -> None:
        """Look again when it may have settled; a record that is still written to must not be claimed over and over."""
        self.launching.put_back(claimed, reason)
        if entry.is_record:
            self.sources.waiting.add(entry.key)
            self.queueing.put_off(entry, time.monotonic() + self.sources.settle_s)
        else:
            self.sources.doubt(entry, time.monotonic())

    def _hand_over(self, claimed: spool.Claim, plan: Plan) -> None:
        try:
            self.crew.launch(plan, claimed.lease)
        except (SpoolError, Outdated):
            self.the_spool.requeue(claimed.record, claimed.lease)
            raise
        self.room.enter(claimed.record, plan.queue)
        os.close(claimed.lease)
        self.timers.trouble_s = TROUBLE_S
