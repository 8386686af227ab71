"""The loop: wake, scan, claim, launch, recover, drain.

Disposable: all truth is in the spool, and recovery is the normal start. `serving.py` runs this loop beside the one that
answers signals, because a call on a network file system may block for a minute.

If we die here: running jobs go on under their supervisors; what was claimed and not started goes back when the next worker
starts; nothing else is held here.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from spooldadd import layout, names, recovery, spares, spool
from spooldadd.adopted import Adopted
from spooldadd.config import Config
from spooldadd.crew import Crew, Report
from spooldadd.errors import NotASpool, SpoolError
from spooldadd.faltering import Faltering
from spooldadd.grouping import Grouping
from spooldadd.launching import Launching
from spooldadd.log import Log
from spooldadd.nodefile import NodeTaken
from spooldadd.notifying import Notifying
from spooldadd.offering import Offering
from spooldadd.presence import Presence
from spooldadd.queueing import Queueing
from spooldadd.remote.courier import Courier
from spooldadd.room import Room
from spooldadd.sharing import Sharing
from spooldadd.sources import Sources
from spooldadd.starting import Starting
from spooldadd.timers import ADOPTED_S, AWAY_S, HOUSEKEEPING_S, PAUSED_S, RECOVER_S, Timers
from spooldadd.upkeeping import Upkeeping
from spooldadd.watch import Watch

# After these there may be a record in `waiting/`, and a work directory that nobody has removed.
LEAVES_TRACES = frozenset({recovery.Found.LOST, recovery.Found.NEVER_STARTED, recovery.Found.FINISHED})


@dataclass
class Settings:
    """What `spooldadd worker` was asked for, beside the configuration."""

    jobs: int
    is_draining: bool = False
    is_drain_at_end: bool = False
    environ: dict[str, str] = field(default_factory=dict)
    log_arguments: list[str] = field(default_factory=list)
    at_scan: Callable[[], bool] | None = None  # carries out what users have asked for; returns whether there is more


class Worker:
    """Serves one spool until it is told to stop, or, with drain, until nothing is left to run."""

    def __init__(self, the_spool: spool.Spool, config: Config, settings: Settings, log: Log) -> None:
        self.spool = the_spool
        self.config = config
        self.settings = settings
        self.log = log
        self.is_stopping = False
        self.state = "starting"
        self.turns = 0  # a main thread that watches this loop counts them
        self.sleeps_until = 0.0  # and knows until when it has nothing to do, by the monotonic clock; 0 while it works
        self.is_up = False
        self.on_up: Callable[[], None] = lambda: None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_read, selectors.EVENT_READ, "wake")
        self._timers = Timers()
        self._is_in_doubt = False  # a record could not be recovered yet
        self._grouping = Grouping(config.control_groups, the_spool.places.root, log)
        self._crew = Crew(self._selector, settings.environ, settings.log_arguments, self._grouping)
        self._launching = Launching(the_spool, config, log)
        self._notifying = Notifying(self._selector, self._launching.notices, log)
        self._sharing = Sharing(the_spool, config, settings.jobs, log)
        self._context = self._sharing.context(self._launching.recovery)
        self._adopted = Adopted(self._context, log)
        self._room = Room(the_spool.places, settings.jobs, config.queues, self._adopted, log)
        spread = self._sharing.spread
        self._sources = Sources(the_spool.places, config, self._launching, spread, self._selector, log)
        self._faltering = Faltering(log)
        self._queueing = Queueing(self._sources, self._sharing, self._faltering)
        offering_to = (self._crew, self._launching, self._queueing, self._sources, self._sharing, self._room)
        self._offering = Offering(the_spool, config, *offering_to)
        parts = (self._queueing, self._sources, self._sharing, self._launching, self._room, self._crew, self._timers)
        self._starting = Starting(the_spool, log, *parts, self._offering)
        self._presence = Presence(the_spool, config, settings.jobs, self._sharing.rule)
        self._upkeeping = Upkeeping(the_spool, config, log, settings.log_arguments)
        self._courier = Courier(the_spool, config, log, settings.log_arguments)

    # -- told from outside

    def stop(self) -> None:
        """Stop as soon as the step in hand is done. Safe to call from another thread."""
        self.is_stopping = True
        self.wake()

    def drain(self) -> None:
        """Claim nothing more; end when what runs has ended. Safe to call from another thread."""
        self.settings.is_draining = True
        self.wake()

    def wake(self) -> None:
        """Make the loop look around. Safe to call from another thread."""
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:
            pass

    @property
    def _waiting(self) -> int:
        return len(self._queueing) + len(self._offering) + self._sources.unopened

    @property
    def summary(self) -> str:
        """What it does, in one line for a person."""
        state = "draining" if self.settings.is_draining else self.state
        return f"{state} `{self.spool.places.root}`: {len(self._room)} running, {self._waiting} waiting"

    # -- the loop

    def serve(self) -> None:
        """Serve until stopped or drained. Raises: NotASpool where there is none at the start."""
        if not self.spool.is_here():
            raise NotASpool(f"`{self.spool.places.root}` is not a spool: it has no `.spool/format.toml`")
        self._sharing.begin(lambda: self.is_stopping)
        self._appear()
        self._say_started()
        try:
            self._crew.start()  # now, and not with the first job: until then another release may be installed
            self.is_up = True
            self.on_up()
            while not self.is_stopping and self._turn():
                pass
        finally:
            self._leave()

    def _turn(self) -> bool:
        """One round: what is due, then what may run, then sleep until something happens. Returns whether to go on."""
        self.turns += 1
        try:
            self._do_due(time.monotonic())
            if self.state != "away" and not self.settings.is_draining:
                self._starting.turn(lambda: self.is_stopping)
            self._notifying.turn(time.monotonic())
            self._courier.turn(time.monotonic())
            if self._is_done() and self._courier.is_through(time.monotonic()):
                return False
            self._sleep()
        except NodeTaken as error:
            self.log.error("name-taken", node=self.spool.holder.node, reason=str(error), then="ending; running jobs go on")
            raise
        except (SpoolError, OSError) as error:
            self._note_trouble(error)
        return True

    def _do_due(self, now: float) -> None:
        if now < self._timers.trouble:
            return
        if not self._is_spool_here(now):
            return
        if now >= self._timers.recover:
            self._recover(now)
        if now >= self._sources.scan_at:
            self._scan(now)
        if now >= self._timers.adopted:
            self._check_adopted(now)
        if now >= self._timers.housekeeping:
            self._timers.housekeeping = now + HOUSEKEEPING_S
            self._keep_house()
        self._queueing.examine(now)
        self._offering.void(now)
        self._end_trouble()
        if now >= self._timers.beat:
            self._beat(now)

    def _is_spool_here(self, now: float) -> bool:
        if self.state != "away" and now < self._sources.scan_at:
            return True
        if self.spool.is_here():
            if self.state == "away":
                self._come_back()
            return True
        if self.state != "away":
            self.state = "away"
            self._sources.stop_watching()
            self.log.warning(
                "spool-away",
                spool=self.spool.places.root,
                id=self.spool.places.id,
                then="waiting for it, not for another one in its place; running jobs go on, none is started",
            )
        self._timers.trouble = now + AWAY_S
        return False

    def _come_back(self) -> None:
        self.log.info("spool-back", spool=self.spool.places.root)
        self.state = "serving"
        self._timers.recover = self._sources.scan_at = 0.0

    def _scan(self, now: float) -> None:
        """Find what is new, and forget what is gone."""
        entries = self._sources.scan(now, has_backlog=self._has_backlog())
        self._queueing.take_in(entries, now)
        self._queueing.forget_gone()
        if self.settings.at_scan is not None and self.settings.at_scan():
            self._sources.scan_at = 0.0

    def _has_backlog(self) -> bool:
        return self._room.free <= 0 and self._queueing.has_ready(lambda _queue: True)

    # -- hearing of ends

    def _sleep(self) -> None:
        self.sleeps_until = self._next_at()
        found = self._selector.select(max(0.0, self.sleeps_until - time.monotonic()))
        self.sleeps_until = 0.0
        for key, _events in found:
            if key.data == "wake":
                self._drain_pipe()
            elif key.data is self._notifying:
                self._notifying.on_readable()
            elif isinstance(key.data, Watch):
                self._queueing.take_in(self._sources.heed(key.data), time.monotonic())
            else:
                for report in self._crew.on_readable(key.fileobj):
                    self._hear(report)
                self._launching.usage.changed()
                self._courier.heed(time.monotonic())

    def _next_at(self) -> float:
        now = time.monotonic()
        timers = self._timers
        if now < timers.trouble:
            return timers.trouble
        times = [self._sources.next_at, timers.beat, timers.recover, self._queueing.next_at(now), self._notifying.next_at]
        times += [self._courier.next_at, self._offering.next_at]
        if len(self._adopted):
            times.append(timers.adopted)
        if self._room.has_pause:
            times.append(now + PAUSED_S)
        return min(times)

    def _hear(self, report: Report) -> None:
        self._room.leave(report.record)
        if report.following:
            self._adopted.forget(report.following)
            self._room.enter(report.following, report.queue)
        elif report.is_gone or report.has_left:
            self._timers.recover = 0.0  # also where its offers were taken back: it may have claimed one of them before
        self._offering.heed(report)
        if report.spare:
            self.spool.spares.append(report.spare)
        self._faltering.heed(report)
        if report.is_told:
            self._notifying.heed()
        if report.is_gone:
            self.log.warning("supervisor-gone", record=report.record, then="looking what became of it")
            self._adopted.add_record(report.record)
            self._timers.adopted = 0.0
        elif report.state == layout.WAITING:
            entry = self._sources.waiting.add(names.job_of(report.record))
            if entry is not None:
                self._queueing.add(entry)

    def _drain_pipe(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass

    # -- recovery and housekeeping

    def _recover(self, now: float) -> None:
        found = recovery.recover_all(self._context, skip=frozenset(self._crew.records))
        self._faltering.note(found, now)
        self._sharing.recovered()
        self._sharing.inherit(self._launching.notices, now)
        for name, what in found.items():
            if what in (recovery.Found.RUNNING, recovery.Found.ENDING):
                self._adopted.notice(name)
        what_was_found = set(found.values())
        self._is_in_doubt = recovery.Found.IN_TROUBLE in what_was_found
        self._timers.recover = now + (self._timers.back_off() if self._is_in_doubt else RECOVER_S)
        if what_was_found & LEAVES_TRACES:
            self._sources.scan_at = self._timers.housekeeping = 0.0

    def _check_adopted(self, now: float) -> None:
        ended = self._adopted.check()
        if ended:
            self._faltering.note(ended, now)
            self._sources.scan_at = self._timers.housekeeping = 0.0
        self._timers.adopted = now + ADOPTED_S

    def _keep_house(self) -> None:
        recovery.remove_stale_locks(self._context)
        self._grouping.sweep(self.spool.format.id, self.spool.places.running)
        self._launching.prune_work_dirs(time.time())

    def _beat(self, now: float) -> None:
        self._timers.beat = now + self._sharing.next_beat_s()
        self._crew.trim(now)
        self._upkeeping.turn(time.time())
        state = "draining" if self.settings.is_draining else self.state
        self._write_entry(state)
        if self._sharing.look(now, self._queueing.backlog, self._sources, takes_jobs=state == "serving"):
            self._timers.recover = now
        if state == "serving" and self._room.free > 0:
            self._crew.stand_by(now)  # last: where the launcher has to be started again, that may take seconds

    # -- trouble

    def _note_trouble(self, error: Exception) -> None:
        timers = self._timers
        if not self.spool.is_here():
            self._sources.scan_at = 0.0
            timers.trouble = time.monotonic()
            return
        wait_s = timers.back_off()
        self.log.warning("spool-trouble", error=str(error), then=f"trying again in {wait_s:g} s")
        timers.trouble = time.monotonic() + wait_s
        # A step that failed half-way is put right then.
        self._sources.scan_at = timers.recover = timers.housekeeping = 0.0
        self.state = "troubled"

    def _end_trouble(self) -> None:
        if self.state in ("troubled", "starting"):
            self.state = "serving"

    # -- the end

    def _is_done(self) -> bool:
        """Tell whether there is nothing to wait for. Only with drain."""
        if not (self.settings.is_draining or self.settings.is_drain_at_end):
            return False
        if len(self._room) or self.state != "serving":
            return False
        if self.settings.is_draining:
            return True
        if not self._has_nothing_left():
            return False
        self._scan(time.monotonic())  # once more before leaving: something may have been dropped since the last scan
        return self._has_nothing_left()

    def _has_nothing_left(self) -> bool:
        return not self._is_in_doubt and self._queueing.has_nothing_left(self._room.is_open)

    def _leave(self) -> None:
        running = self._room.ours
        self._notifying.leave()
        self._crew.close()
        spares.clear(self.spool.spares, self._launching.work_root)
        self._sources.stop_watching()
        self._presence.leave()
        self.log.info("worker-stopped", node=self.spool.holder.node, running=running, waiting=self._waiting)

    # -- saying

    def _appear(self) -> None:
        """Write our entry: who is told that we have started finds it, and `submit` does not say that nobody ever served."""
        try:
            self._write_entry(self.state)
        except OSError:
            pass  # the loop tries it again, and says what is wrong

    def _write_entry(self, state: str) -> None:
        """Raises: OSError, NodeTaken."""
        taken = self._launching.usage.taken
        self._presence.beat(self._sources, taken, state=state, running=len(self._room), waiting=self._waiting)

    def _say_started(self) -> None:
        self.log.info(
            "worker-started",
            spool=self.spool.places.root,
            node=self.spool.holder.node,
            pid=os.getpid(),
            jobs=self.settings.jobs,
            events="inotify" if self._sources.events_work else "none",
        )
