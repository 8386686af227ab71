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
from dataclasses import dataclass, field, replace

from spooldadd import __version__, filesystem, intake, layout, recovery, spool
from spooldadd.adopted import Adopted
from spooldadd.backlog import Backlog, Entry
from spooldadd.config import Config
from spooldadd.crew import Crew, Report
from spooldadd.errors import ClaimLost, NotASpool, SpoolError
from spooldadd.launching import Launching, NotQuiet, Refused
from spooldadd.log import Log
from spooldadd.nodes import NodeFile
from spooldadd.plan import Plan
from spooldadd.waiting import WaitingRecords
from spooldadd.watch import Watch

# How long the spool gets to recover before we try again: soon at first, because most troubles are short.
TROUBLE_S, TROUBLE_MAX_S = 0.5, 10.0
# A spool that is away is looked for this often.
AWAY_S = 1.0
# While jobs wait for a place nobody needs events: a scan of 100,000 names takes 45 ms, so this costs 2 %.
BUSY_SCAN_S = 2.0
# A scan never takes more than this part of the time.
SCAN_SHARE = 0.05
# Events are hints: what they missed is found within this time. On a network file system there are none from others.
QUIET_SCAN_S, NETWORK_SCAN_S = 30.0, 3.0
SETTLE_S, NETWORK_SETTLE_S = 2.0, 5.0
# The node's heartbeat, and the look at records that nobody of ours runs.
BEAT_S = 10.0
RECOVER_S = 30.0
HOUSEKEEPING_S = 3600.0
ADOPTED_S = 1.0
# How many new files are looked at between two claims: 20 us each, so a claim waits no longer than 5 ms for them.
EXAMINE_AT_ONCE = 256
# A paused queue goes on within this time where no event tells.
PAUSE_LOOK_S = 1.0


@dataclass
class _Timers:
    """When, by the monotonic clock, each duty is due."""

    scan: float = 0.0
    beat: float = 0.0
    recover: float = 0.0
    housekeeping: float = 0.0
    adopted: float = 0.0
    pause: float = 0.0
    trouble: float = 0.0
    trouble_s: float = TROUBLE_S


@dataclass
class Settings:
    """What `spooldadd worker` was asked for, beside the configuration."""

    jobs: int
    is_draining: bool = False
    is_drain_at_end: bool = False
    environ: dict[str, str] = field(default_factory=dict)
    log_arguments: list[str] = field(default_factory=list)


class Worker:
    """Serves one spool until it is told to stop, or, with drain, until nothing is left to run."""

    def __init__(self, the_spool: spool.Spool, config: Config, settings: Settings, log: Log) -> None:
        self.spool = the_spool
        self.config = config
        self.settings = settings
        self.log = log
        self.is_stopping = False
        self.state = "starting"
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_read, selectors.EVENT_READ, "wake")
        self._timers = _Timers()
        root = the_spool.places.root
        is_network = filesystem.is_network(filesystem.kind(root))
        self._events_work = config.intake.events and not is_network
        self._scan_s = config.intake.scan_interval_s or (QUIET_SCAN_S if self._events_work else NETWORK_SCAN_S)
        settle_s = config.intake.settle_s
        if settle_s is None:
            settle_s = NETWORK_SETTLE_S if is_network else SETTLE_S
        self._settle_s = settle_s
        self._intake = intake.Intake(
            root, settle_s=settle_s, suffixes=config.intake.suffixes, is_local=not is_network
        )
        self._watches = (Watch(root), Watch(the_spool.places.waiting))
        self._backlog = Backlog()
        self._crew = Crew(self._selector, settings.environ, settings.log_arguments)
        self._launching = Launching(the_spool, config, log)
        self._adopted = Adopted(self._launching.recovery, log)
        self._waiting = WaitingRecords(the_spool.places, self._launching.peek_record)
        self._node_file = NodeFile(the_spool.places, the_spool.holder.node)
        self._queues: dict[str, str] = {}  # record -> queue, of what we run
        self._paused: dict[str, bool] = {}
        self._noticed: set[str] = set()

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

    # -- the loop

    def serve(self) -> None:
        """Serve until stopped or drained. Raises: NotASpool where there is none at the start."""
        if not self.spool.is_here():
            raise NotASpool(f"`{self.spool.places.root}` is not a spool: it has no `.spool/format.toml`")
        self._say_started()
        try:
            while not self.is_stopping and not self._is_done():
                self._turn()
        finally:
            self._leave()

    def _turn(self) -> None:
        """One round: what is due, then what may run, then sleep until something happens."""
        try:
            self._do_due(time.monotonic())
            self._dispatch()
        except (SpoolError, OSError) as error:
            self._note_trouble(error)
        try:
            self._sleep()
        except (SpoolError, OSError) as error:
            self._note_trouble(error)

    def _do_due(self, now: float) -> None:
        if now < self._timers.trouble:
            return
        if not self._is_spool_here(now):
            return
        if now >= self._timers.recover:
            self._recover(now)
        if now >= self._timers.scan:
            self._scan(now)
        if now >= self._timers.adopted:
            self._check_adopted(now)
        if now >= self._timers.housekeeping:
            self._timers.housekeeping = now + HOUSEKEEPING_S
            self._keep_house()
        self._take_in(self._intake.due(now))
        if self._intake.has_fresh:
            self._take_in(self._intake.examine(now, time.time(), EXAMINE_AT_ONCE))
        if now >= self._timers.beat:
            self._beat(now)
        self._end_trouble()

    def _is_spool_here(self, now: float) -> bool:
        if self.state != "away" and now < self._timers.scan:
            return True
        if self.spool.is_here():
            if self.state == "away":
                self._come_back()
            return True
        if self.state != "away":
            self.state = "away"
            self._stop_watching()
            self.log.warning(
                "spool-away", spool=self.spool.places.root, then="waiting for it; running jobs go on, none is started"
            )
        self._timers.trouble = now + AWAY_S
        return False

    def _come_back(self) -> None:
        self.log.info("spool-back", spool=self.spool.places.root)
        self.state = "serving"
        self._timers.recover = self._timers.scan = 0.0

    def _scan(self, now: float) -> None:
        """List the root and the waiting records; replace a watch that went deaf."""
        self._look_after_watches()
        self._intake.scan()
        for key in self._backlog.keys(is_record=False) - self._intake.known:
            self._backlog.discard(key, is_record=False)
        for entry in self._waiting.scan():
            self._backlog.add(entry, time.time())
        for key in self._backlog.keys(is_record=True) - self._waiting.known:
            self._backlog.discard(key, is_record=True)
        self._say_unexpected()
        took_s = time.monotonic() - now
        interval_s = self._scan_s if self._watches[0].is_on else min(self._scan_s, BUSY_SCAN_S)
        self._timers.scan = now + max(interval_s, took_s / SCAN_SHARE)

    def _take_in(self, drops: list[intake.Drop]) -> None:
        for drop in drops:
            self._backlog.add(self._launching.entry_of(drop), time.time())

    def _look_after_watches(self) -> None:
        """Listen while idle; while jobs wait for a place, events would only cost."""
        if not self._events_work:
            return
        wanted = not self._has_backlog()
        for watch in self._watches:
            trouble = watch.trouble(os.stat(watch.path)) if watch.is_on else None
            if trouble:
                self.log.warning("watch-replaced", path=watch.path, reason=trouble, then="listening anew")
            if watch.is_on and (trouble or not wanted):
                self._selector.unregister(watch.fd)
                watch.stop()
            if wanted and not watch.is_on:
                self._listen(watch)

    def _listen(self, watch: Watch) -> None:
        try:
            watch.start()
        except OSError as error:
            self._events_work = False
            self._scan_s = min(self._scan_s, NETWORK_SCAN_S)
            self.log.warning("spool-trouble", path=watch.path, error=str(error), then=f"scanning every {self._scan_s:g} s")
            return
        self._selector.register(watch.fd, selectors.EVENT_READ, watch)

    def _stop_watching(self) -> None:
        for watch in self._watches:
            if watch.is_on:
                self._selector.unregister(watch.fd)
                watch.stop()

    def _has_backlog(self) -> bool:
        return self._free() <= 0 and self._backlog.has_ready(time.time(), lambda _queue: True)

    # -- claiming

    def _dispatch(self) -> None:
        """Start what may run now, as far as there is room."""
        if self.settings.is_draining or time.monotonic() < self._timers.trouble or self.state == "away":
            return
        while self._free() > 0 and not self.is_stopping:
            entry = self._backlog.pop(time.time(), self._is_open)
            if entry is None:
                self._listen_again()
                return
            try:
                self._start(entry)
            except ClaimLost as error:
                self._forget(entry.key, is_record=entry.is_record)
                self.log.debug("claim-lost", job=entry.key, reason=str(error))
            except (SpoolError, OSError):
                self._backlog.add(entry, time.time())
                raise

    def _listen_again(self) -> None:
        """The backlog is gone: from here on events are worth more than they cost."""
        if self._events_work and not self._watches[0].is_on:
            self._timers.scan = 0.0

    def _start(self, entry: Entry) -> None:
        claimed = self._launching.claim(entry)
        self._forget(entry.key, is_record=entry.is_record)
        try:
            plan = self._launching.plan(claimed, entry)
        except NotQuiet as error:
            self._put_back(entry, claimed, str(error))
        except Refused as error:
            self._launching.refuse(claimed, error)
        else:
            self._hand_over(claimed, plan)

    def _put_back(self, entry: Entry, claimed: spool.Claim, reason: str) -> None:
        """Look again when it may have settled; a record that is still written to must not be claimed over and over."""
        self._launching.put_back(claimed, reason)
        if entry.is_record:
            self._waiting.add(entry.key)
            settled_s = time.time() + self._settle_s
            self._backlog.add(replace(entry, not_before_s=settled_s), time.time())
        else:
            self._intake.doubt(entry.key, time.monotonic())

    def _hand_over(self, claimed: spool.Claim, plan: Plan) -> None:
        try:
            self._crew.launch(plan, claimed.lease)
        except SpoolError:
            self.spool.requeue(claimed.record, claimed.lease)
            self._timers.scan = 0.0
            raise
        os.close(claimed.lease)
        self._queues[claimed.record] = plan.queue
        self._timers.trouble_s = TROUBLE_S

    def _forget(self, key: str, *, is_record: bool) -> None:
        if is_record:
            self._waiting.forget(key)
        else:
            self._intake.forget(key)

    def _free(self) -> int:
        return self.settings.jobs - len(self._queues) - len(self._adopted)

    def _is_open(self, queue: str) -> bool:
        if self._is_paused(queue):
            return False
        width = self.config.queues.get(queue)
        return width is None or self._running_of(queue) < width

    def _running_of(self, queue: str) -> int:
        ours = sum(1 for running in self._queues.values() if running == queue)
        return ours + self._adopted.count(queue)

    def _is_paused(self, queue: str) -> bool:
        now = time.monotonic()
        if now >= self._timers.pause:
            self._paused.clear()
            self._timers.pause = now + PAUSE_LOOK_S
        if queue not in self._paused:
            is_paused = any(map(os.path.lexists, self.spool.places.pause_files(queue)))
            self._say_paused(queue, is_paused=is_paused)
            self._paused[queue] = is_paused
        return self._paused[queue]

    # -- hearing of ends

    def _sleep(self) -> None:
        timeout_s = max(0.0, self._next_at() - time.monotonic())
        for key, _events in self._selector.select(timeout_s):
            if key.data == "wake":
                self._drain_pipe()
            elif isinstance(key.data, Watch):
                self._heed(key.data)
            else:
                for report in self._crew.on_readable(key.fileobj):
                    self._hear(report)

    def _next_at(self) -> float:
        now = time.monotonic()
        timers = self._timers
        if now < timers.trouble:
            return timers.trouble
        if self._intake.has_fresh:
            return now
        times = [timers.scan, timers.beat, timers.recover]
        if len(self._adopted):
            times.append(timers.adopted)
        if self._intake.next_at is not None:
            times.append(self._intake.next_at)
        later_s = self._backlog.next_at_s()
        if later_s is not None:
            times.append(now + later_s - time.time())
        if any(self._paused.values()):
            times.append(timers.pause)
        return min(times)

    def _heed(self, watch: Watch) -> None:
        now = time.monotonic()
        hints = watch.read()
        if watch is self._watches[1]:
            self._timers.scan = 0.0
            return
        for hint in hints:
            if hint.name == layout.WAKE:
                self._timers.scan = 0.0
            if hint.name.startswith(layout.PAUSED):
                self._timers.pause = 0.0
            drop = self._intake.hint(hint, now)
            if drop is not None:
                self._take_in([drop])
        if watch.trouble(os.stat(watch.path)):
            self._timers.scan = 0.0

    def _hear(self, report: Report) -> None:
        self._queues.pop(report.record, None)
        if report.is_gone:
            self.log.warning("supervisor-gone", record=report.record, then="looking what became of it")
            self._adopted.add_record(report.record)
            self._timers.adopted = 0.0
        elif report.state == layout.WAITING:
            entry = self._waiting.add(report.record.rsplit(".", 2)[0])
            if entry is not None:
                self._backlog.add(entry, time.time())

    def _drain_pipe(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass

    # -- recovery and housekeeping

    def _recover(self, now: float) -> None:
        found = recovery.recover_all(self._launching.recovery, skip=frozenset(self._crew.records))
        for name, what in found.items():
            if what is recovery.Found.RUNNING:
                self._adopted.notice(name)
        self._timers.recover = now + RECOVER_S
        if any(what in (recovery.Found.LOST, recovery.Found.NEVER_STARTED) for what in found.values()):
            self._timers.scan = 0.0

    def _check_adopted(self, now: float) -> None:
        if self._adopted.check():
            self._timers.scan = 0.0
        self._timers.adopted = now + ADOPTED_S

    def _keep_house(self) -> None:
        recovery.remove_stale_locks(self._launching.recovery)
        self._launching.prune_work_dirs(time.time())

    def _beat(self, now: float) -> None:
        self._timers.beat = now + BEAT_S
        self._crew.trim(now)
        self._node_file.beat(self._node_table())

    def _node_table(self) -> dict[str, object]:
        holder = self.spool.holder
        return {
            "node": holder.node,
            "release": __version__,
            "pid": holder.worker_pid,
            "boot_id": holder.boot_id,
            "state": "draining" if self.settings.is_draining else self.state,
            "jobs": self.settings.jobs,
            "running": len(self._queues) + len(self._adopted),
            "waiting": len(self._backlog),
            "queues": dict(self.config.queues),
            "suffixes": list(self.config.intake.suffixes),
            "work_dir": self.config.work_dir,
        }

    # -- trouble

    def _note_trouble(self, error: Exception) -> None:
        timers = self._timers
        if not self.spool.is_here():
            timers.scan = 0.0
            timers.trouble = time.monotonic()
            return
        wait_s = timers.trouble_s
        self.log.warning("spool-trouble", error=str(error), then=f"trying again in {wait_s:g} s")
        timers.trouble = time.monotonic() + wait_s
        timers.trouble_s = min(wait_s * 2, TROUBLE_MAX_S)
        timers.scan = timers.recover = 0.0  # a step that failed half-way is put right then
        self.state = "troubled"

    def _end_trouble(self) -> None:
        if self.state in ("troubled", "starting"):
            self.state = "serving"

    # -- the end

    def _is_done(self) -> bool:
        """Tell whether there is nothing to wait for. Only with drain."""
        if not (self.settings.is_draining or self.settings.is_drain_at_end):
            return False
        if self._queues or len(self._adopted) or self.state != "serving":
            return False
        if self.settings.is_draining:
            return True
        if self._intake.has_fresh or self._intake.unsettled or self._backlog.has_later_record():
            return False
        if self._backlog.has_ready(time.time(), self._is_open):
            return False
        return self._found_nothing_new()

    def _found_nothing_new(self) -> bool:
        """Look once more before leaving: something may have been dropped since the last scan."""
        self._scan(time.monotonic())
        is_new = self._intake.has_fresh or self._backlog.has_ready(time.time(), self._is_open)
        return not is_new and not self._intake.unsettled and not self._backlog.has_later_record()

    def _leave(self) -> None:
        running = len(self._queues)
        self._crew.close()
        self._stop_watching()
        self._node_file.leave()
        self.log.info("worker-stopped", node=self.spool.holder.node, running=running, waiting=len(self._backlog))

    # -- saying

    def _say_started(self) -> None:
        self.log.info(
            "worker-started",
            spool=self.spool.places.root,
            node=self.spool.holder.node,
            pid=os.getpid(),
            jobs=self.settings.jobs,
            events="inotify" if self._events_work else "none",
        )

    def _say_paused(self, queue: str, *, is_paused: bool) -> None:
        key = f"paused {queue}"
        if is_paused and key not in self._noticed:
            self._noticed.add(key)
            self.log.info("paused", queue=queue)
        elif not is_paused and key in self._noticed:
            self._noticed.discard(key)
            self.log.info("resumed", queue=queue)

    def _say_unexpected(self) -> None:
        """Say once of each file that nobody will look at it."""
        for name in sorted(self._intake.conflicts - self._noticed):
            self.log.warning("conflict-copy", file=name, then="it is not run; compare and remove it")
        for name in sorted(self._intake.unexpected - self._noticed):
            suffixes = ", ".join(self.config.intake.suffixes)
            self.log.info("ignored", file=name, reason=f"its name does not end in {suffixes}")
        self._noticed |= self._intake.conflicts | self._intake.unexpected
