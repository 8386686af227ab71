"""Where jobs come from: drops in the root and in our inbox, records in `waiting/`. Found by scans, and sooner by events."""

from __future__ import annotations

import math
import os
import selectors
import time

from spooldadd import filesystem, forms, intake, layout, proof
from spooldadd.backlog import Entry
from spooldadd.config import Config
from spooldadd.fresh import Parts
from spooldadd.inbox import Inbox
from spooldadd.intake import Intake
from spooldadd.launching import Launching
from spooldadd.layout import Layout
from spooldadd.log import Log
from spooldadd.spreading import Spread
from spooldadd.waiting import WaitingRecords
from spooldadd.watch import Watch

# While jobs wait for a place nobody needs events: a scan of 100,000 names takes 45 ms, so this costs 2 %.
BUSY_SCAN_S = 2.0
# A scan never takes more than this part of the time.
SCAN_SHARE = 0.05
# What others have claimed is in our list until we look again. Before their part is touched, the list is no older than this.
FRESH_S = 0.05
# Events are hints: what they missed is found within this time. On a network file system there are none from others.
QUIET_SCAN_S, NETWORK_SCAN_S = 30.0, 3.0
SETTLE_S, NETWORK_SETTLE_S = 2.0, 5.0
# How long what is another node's part is left to it before we look at it or take it.
LEAVE_S = 0.5
# A file that another node still writes seems to stand still for as long as its growth is not seen here: half as much more.
UNSEEN_SHARE, MOST_SETTLE_S = 1.5, 60.0
# Above what a time service corrects at once while it slews, below what a person notices in a retry.
CLOCK_STEP_S = 2.0
# Before the first of many is claimed, at least so many are looked at, and as many as can be in this time: 20 us each, so up
# to about 5,000 the order is exact from the first claim on.
HEAD_START, HEAD_START_S = 1024, 0.1
# How many new files are looked at between two claims: a claim waits no longer than 5 ms for them.
EXAMINE_AT_ONCE = 256
# While this many are in line already, a look at new ones takes no more than a fraction of what a short job takes.
IN_LINE, EXAMINE_MEANWHILE = 64, 8
# While jobs are claimed this soon one after the other, the looks take no more than this part of the time: 100,000 are known
# within a minute of short jobs. Where long ones take all places nothing is lost by looking: then it takes two seconds.
CLAIMS_S, EXAMINE_SHARE = 0.1, 0.05
# How much of the time all nodes together spend on looks at what is the part of another, while they have something else to
# run. So urgent ones are found and nothing is left lying, and one server is not asked forty times for each job.
OTHERS_SHARE = 0.05
# How many of those are looked at when there is nothing else: more than one, because the first may not be the most urgent.
OTHERS_AT_ONCE = 64
# A look may hang where a server is away. However long that took, the next ones come within this time.
MOST_REST_S = 30.0


def settle_s_of(slowest_s: float, *, is_network: bool) -> float:
    """Return how long a file must stand still; `slowest_s` is what `doctor --peer` saw growth take until it was seen."""
    usual_s = NETWORK_SETTLE_S if is_network else SETTLE_S
    return max(usual_s, min(slowest_s * UNSEEN_SHARE, MOST_SETTLE_S))


def _rested(began: float, times: float) -> float:
    """Return when to go on, for what has begun then to take no more than one in so many parts of the time."""
    now = time.monotonic()
    return now + min((now - began) * (times - 1), MOST_REST_S)


class Sources:
    """Follows the root, our inbox and `waiting/` of one spool. The selector gets each watch, as its own data."""

    def __init__(
        self,
        places: Layout,
        config: Config,
        launching: Launching,
        spread: Spread,
        selector: selectors.BaseSelector,
        log: Log,
    ) -> None:
        self._places = places
        self._config = config
        self._launching = launching
        self._spread = spread
        self._selector = selector
        self._log = log
        is_network = filesystem.is_network(filesystem.kind(places.root))
        self._is_local = not is_network
        self.events_work = config.intake.events and not is_network
        self.scan_s = config.intake.scan_interval_s or (QUIET_SCAN_S if self.events_work else NETWORK_SCAN_S)
        usual_s = settle_s_of(proof.slowest_s(places, config.node), is_network=is_network)
        self.settle_s = usual_s if config.intake.settle_s is None else config.intake.settle_s
        rule = intake.Rule(self.settle_s, config.intake.suffixes, is_local=not is_network)
        self._inbox = Inbox(places, config.node, launching.trust, log)
        self._is_inbox_ready = True
        root = Intake(places.root, rule, parts=Parts(spread.is_part_of_ours, spread.chance))
        self._intakes = (root, Intake(places.root, rule, self._inbox.name))
        self.waiting = WaitingRecords(places, launching.peek_record, launching.may_run)
        self._drop_watches = {Watch(places.root): self._intakes[0], Watch(self._inbox.path): self._intakes[1]}
        self._waiting_watch = Watch(places.waiting)
        self._noticed: set[str] = set()
        self._claimed_at = self._examine_at = self._others_at = 0.0
        self._is_idle = False  # there was nothing that could be run, and nothing was claimed since
        self.scan_at = 0.0  # by the monotonic clock; set to 0 to scan at once
        self._list_is_old_at = 0.0
        self.pause_was_touched = False
        self._clock_offset_s = time.time() - time.monotonic()

    def scan(self, now: float, *, has_backlog: bool) -> list[Entry]:
        """List the root, our inbox and the waiting records; return the records that are new. New drops come from `examine`.

        Raises: OSError where the spool cannot be listed.
        """
        self._is_inbox_ready = self._inbox.is_ready()
        self._look_after_watches(is_wanted=not has_backlog)
        for found in self._intakes:
            if self._is_inbox_ready or found is self._intakes[0]:
                found.scan(now)
            else:
                found.forget_all()
        entries = self.waiting.scan()
        self._launching.look_around(now)
        self._say_unexpected()
        rest_s = (time.monotonic() - now) / SCAN_SHARE
        interval_s = self.scan_s if self.is_watching else min(self.scan_s, BUSY_SCAN_S)
        self.scan_at = now + max(interval_s, rest_s)
        self._list_is_old_at = now + max(FRESH_S, rest_s)
        return entries

    def examine(self, now: float, in_line: int = 0) -> list[Entry]:
        """Return the drops that are quiet now, of those that were due and of some that are new; of few where many wait.

        Raises: OSError; then none is handed out.
        """
        if in_line >= IN_LINE and now < self._examine_at:
            return []
        began, wall_s = time.monotonic(), time.time()
        self._heed_clock(wall_s - began)
        drops: list[intake.Drop] = []
        try:
            if not in_line:
                self._examine(drops, now, wall_s, HEAD_START)
                while self._has_fresh and time.monotonic() < began + HEAD_START_S:
                    self._examine(drops, now, wall_s, EXAMINE_AT_ONCE)
            else:
                self._examine(drops, now, wall_s, EXAMINE_AT_ONCE if in_line < IN_LINE else EXAMINE_MEANWHILE)
            entries = self._entries(drops)
        except OSError:
            self._give_back(drops)
            raise
        self._say_no_specs()
        is_busy = in_line >= IN_LINE and began < self._claimed_at + CLAIMS_S
        self._examine_at = _rested(began, 1 / EXAMINE_SHARE) if is_busy else 0.0
        return entries

    def examine_others(self, now: float, in_line: int = 0) -> tuple[list[Entry], list[Entry]]:
        """Look at some of what is other nodes' part: at many where we have nothing to run, else at few, now and then.

        Returns those that were left to their node for this time already, and those that were not. Raises: OSError.
        """
        root = self._intakes[0]
        if not root.unopened:
            return [], []
        leave_s = self.leave_s
        is_wanted = self._is_idle or (in_line < IN_LINE and self._needs_a_head_start)
        if now < root.others_at(leave_s) or (now < self._others_at and not is_wanted):
            return [], []
        began = time.monotonic()
        most, newest = (OTHERS_AT_ONCE, 0) if is_wanted else (EXAMINE_MEANWHILE, EXAMINE_MEANWHILE // 2)
        left, others = root.examine_others(now, time.time(), most, leave_s, newest=newest)
        if not is_wanted:
            self._others_at = _rested(began, self._spread.count / OTHERS_SHARE)
        return self._entries(left), self._entries(others)

    @property
    def _needs_a_head_start(self) -> bool:
        """Tell whether others' part has to settle under our eyes before we could take it, and little of it does so yet."""
        return not self._is_local and self._intakes[0].unsettled + self._spread.kept_back < OTHERS_AT_ONCE

    @property
    def leave_s(self) -> float:
        """How long what is another node's part is left to it: it hears of it by an event, or with its next scan."""
        if self.is_watching:
            return LEAVE_S
        return LEAVE_S + (BUSY_SCAN_S if self.events_work else self.scan_s)  # where events work it hears, unless it is busy

    def share_out(self, now: float) -> None:
        """Other nodes serve than before."""
        self._intakes[0].share_out(now)
        self._others_at = 0.0

    def _examine(self, drops: list[intake.Drop], now: float, wall_s: float, most: int) -> None:
        for found in self._intakes:
            drops += found.due(now, most)
            drops += found.examine(now, wall_s, most)

    def _give_back(self, drops: list[intake.Drop]) -> None:
        """The looks have failed half-way: what they had found counts as new again."""
        for drop in drops:
            self._intake_of(drop.key).forget(drop.key)

    def heed(self, watch: Watch) -> list[Entry]:
        """Take the hints of a watch that became readable; return the drops that they make quiet. Raises: OSError."""
        now, wall_s = time.monotonic(), time.time()
        hints = watch.read()
        if watch is self._waiting_watch or watch.trouble(os.stat(watch.path)):
            self.scan_at = 0.0
        if watch is self._waiting_watch:
            return []
        drops: list[intake.Drop] = []
        try:
            for hint in hints:
                if hint.name == layout.WAKE:
                    self.scan_at = 0.0
                self.pause_was_touched |= hint.name.startswith(layout.PAUSED)
                drop = self._drop_watches[watch].hint(hint, now, wall_s)
                if drop is not None:
                    drops.append(drop)
            return self._entries(drops)
        except OSError:
            self._give_back(drops)
            raise

    def has_changed(self, entry: Entry) -> bool:
        """Tell whether this is a record that is not as it was when it was queued. A drop is looked at after the claim."""
        return entry.is_record and self.waiting.has_changed(entry.key)

    def look_again(self, entry: Entry) -> list[Entry]:
        """Return the entry of a record as it is now, if it may still be claimed."""
        again = self.waiting.add(entry.key)
        return [] if again is None else [again]

    def forget(self, entry: Entry) -> None:
        """This entry was claimed, here or elsewhere."""
        self._note_claim()
        if entry.is_record:
            self.waiting.forget(entry.key)
        else:
            self._intake_of(entry.key).forget(entry.key)

    def forget_drop(self, key: str, claimed: intake.Signature) -> bool:
        """This drop was claimed, a moment ago; return whether no other of that name was handed out meanwhile."""
        self._note_claim()
        return self._intake_of(key).forget(key, claimed)

    def doubt(self, entry: Entry, now: float) -> None:
        """Wait for this drop to settle from now on: it turned out to be unfinished."""
        self._intake_of(entry.key).doubt(entry.key, now)

    def knows(self, entry: Entry) -> bool:
        """Tell whether this entry is still what the last look showed, and neither claimed nor gone."""
        return entry.key in self.waiting.known if entry.is_record else self._intake_of(entry.key).knows(entry.key)

    def take_lost(self) -> list[str]:
        """Return the keys of the drops that were handed out and are gone since, or are no longer what they were."""
        return [key for found in self._intakes for key in found.take_lost()]

    def look_further(self) -> None:
        """There is nothing to run: from here on events, and looks at what is others' part, are worth more than they cost."""
        self._is_idle = True
        if self._next_others_at <= time.monotonic() and self.is_list_old:
            self.scan_at = 0.0  # most of it is gone by now: a listing tells that with one call
        if self.events_work and not self.is_watching:
            self.scan_at = 0.0

    @property
    def unopened(self) -> int:
        """How many names are known that nobody here has looked at, because they are other nodes' part."""
        return self._intakes[0].unopened

    @property
    def is_list_old(self) -> bool:
        """Tell whether other nodes may have claimed much since the last scan."""
        return time.monotonic() > self._list_is_old_at

    def list_before_claim(self) -> None:
        """There is something to run, but our list is old: scan at once, and look no further before that was claimed."""
        self.scan_at, self._is_idle = 0.0, False

    def distrust_list(self) -> None:
        """Another node has claimed what we had in our list."""
        self._list_is_old_at = 0.0

    def stop_watching(self) -> None:
        """Ask for no more events."""
        for watch in self._watches:
            self._stop(watch)

    @property
    def is_watching(self) -> bool:
        """Tell whether events are asked for now."""
        return self._waiting_watch.is_on

    @property
    def is_settled(self) -> bool:
        """Tell whether nothing that was seen has still to be looked at or to settle."""
        return not self._has_fresh and not any(found.unopened or found.unsettled for found in self._intakes)

    @property
    def _has_fresh(self) -> bool:
        return any(found.has_fresh for found in self._intakes)

    @property
    def next_at(self) -> float:
        """When, by the monotonic clock, there is something to do here without an event."""
        times = [0.0 if found.has_fresh else found.next_at for found in self._intakes]
        times_after = [max(at, self._examine_at) for at in times if at is not None]
        return min(self.scan_at, self._next_others_at, *times_after)

    @property
    def _next_others_at(self) -> float:
        if not self._intakes[0].unopened:
            return math.inf
        return max(0.0 if self._is_idle else self._others_at, self._intakes[0].others_at(self.leave_s))

    @property
    def _watches(self) -> tuple[Watch, ...]:
        return (*self._drop_watches, self._waiting_watch)

    def _note_claim(self) -> None:
        self._claimed_at, self._is_idle = time.monotonic(), False

    def _entries(self, drops: list[intake.Drop]) -> list[Entry]:
        """Return those that this node may run. The others stay where they are, for whoever may."""
        return [self._launching.entry_of(drop) for drop in drops if self._launching.may_claim(drop)]

    def _intake_of(self, key: str) -> Intake:
        return self._intakes["/" in key]  # we look into no inbox but our own

    def _look_after_watches(self, *, is_wanted: bool) -> None:
        """Listen while idle; replace a watch that went deaf."""
        if not self.events_work:
            return
        for watch in self._watches:
            if watch.path == self._inbox.path and not self._is_inbox_ready:
                self._stop(watch)
                continue
            trouble = watch.trouble(os.stat(watch.path)) if watch.is_on else None
            if trouble:
                self._log.warning("watch-replaced", path=watch.path, reason=trouble, then="listening anew")
            if trouble or not is_wanted:
                self._stop(watch)
            if is_wanted and not watch.is_on:
                self._listen(watch)

    def _listen(self, watch: Watch) -> None:
        try:
            watch.start()
        except OSError as error:
            self.events_work = False
            self.scan_s = min(self.scan_s, NETWORK_SCAN_S)
            self._log.warning("spool-trouble", path=watch.path, error=str(error), then=f"scanning every {self.scan_s:g} s")
            return
        self._selector.register(watch.fd, selectors.EVENT_READ, watch)

    def _stop(self, watch: Watch) -> None:
        if watch.is_on:
            self._selector.unregister(watch.fd)
            watch.stop()

    def _heed_clock(self, offset_s: float) -> None:
        """Where the clock was set back, read anew when records may run, or they would wait until it is that late again."""
        if offset_s < self._clock_offset_s - CLOCK_STEP_S:
            back_s = self._clock_offset_s - offset_s
            self._log.warning("clock-set-back", elapsed_s=back_s, then="reading anew what waits for its time")
            self.waiting.read_again()
            self._intakes[0].distrust_clock()
            self.scan_at = 0.0
        self._clock_offset_s = offset_s

    def _say_unexpected(self) -> None:
        """Say once of each file that nobody will look at it."""
        conflicts = set().union(*(found.conflicts for found in self._intakes))
        unexpected = set().union(*(found.unexpected for found in self._intakes))
        for name in sorted(conflicts - self._noticed):
            self._log.warning("conflict-copy", file=name, then="it is not run; compare and remove it")
        for name in sorted(unexpected - self._noticed):
            reason = f"its name does not end in {', '.join(self._config.intake.suffixes)}"
            if name.startswith(layout.INBOX) and "/" not in name:
                reason += ", and it is no inbox, because no node can be called so"
            self._log.info("ignored", file=name, reason=reason)
        self._noticed |= conflicts | unexpected

    def _say_no_specs(self) -> None:
        """A Python file that another spec names may lie in the spool; who meant it as a spec has to hear of it."""
        for found in self._intakes:
            if found.no_specs:
                for name in sorted(found.no_specs - self._noticed):
                    self._log.info("ignored", file=name, reason=f"it has no line `{forms.OPENING}`, so it is no spec")
                self._noticed |= found.no_specs
