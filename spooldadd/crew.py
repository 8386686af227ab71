"""The launcher and the supervisors of one worker: who is idle, who has which record. Holds nothing that must not be lost.

A supervisor that has filed its attempt stays for the next one, which saves the fork. One whose channel closes is gone; what
becomes of its record, recovery finds out.

If we die here: supervisors finish what they have in hand and end; the launcher ends at once.
"""

from __future__ import annotations

import marshal
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from spooldadd.channel import PACKET_BYTES, hand_over, offer
from spooldadd.errors import Outdated, SpoolError
from spooldadd.grouping import Grouping
from spooldadd.plan import Plan, to_wire

PACKAGE = os.path.dirname(os.path.abspath(__file__))
LAUNCHER = os.path.join(PACKAGE, "launcher.py")
# An idle supervisor costs no processor time; some two megabytes where it had a job, less than one where it is new.
# Longer than the gap between jobs of a busy hour's minute-by-minute work would be waste; shorter than a scan would fork for
# each job of a trickle.
IDLE_S = 30.0
# What the two sides of a channel must agree on. A launcher of another release than ours would speak another language.
SPOKEN = ("attempt.py", "channel.py", "launcher.py", "offered.py", "plan.py", "release.py", "supervisor.py")
# How long an attempt takes of which nothing is known.
NEVER_S = 3600.0
# A launcher ends within milliseconds of its control socket.
LEAVE_S = 2.0


class Report(NamedTuple):  # made for every job: a frozen dataclass takes three times as long
    """What a supervisor says when it has filed an attempt; `is_gone` where it ended without a word.

    `is_told` says that word was left for the notifier; `spare` is a lock file that may be used again; `following` is the
    record that it has claimed next of what was offered on `channel`, `source` and `signature` what that drop was called and
    told by. `has_left` says that it has left a claim to recovery, `is_last` that it ends now.
    """

    record: str
    state: str = ""
    outcome: str = ""
    is_gone: bool = False
    is_told: bool = False
    spare: str = ""
    following: str = ""
    source: str = ""
    signature: tuple[int, int, int] = (0, 0, 0)
    queue: str = ""
    has_left: bool = False
    is_last: bool = False
    channel: int = -1


@dataclass
class _Supervisor:
    channel: socket.socket
    record: str | None = None
    since: float = 0.0  # when it became idle, or began with its record, by the monotonic clock; 0 where it had none yet
    took_s: float = NEVER_S  # how long the attempt before took


class Crew:
    """Starts attempts and hears of their end. `selector` is the worker's; ours are registered with `self` as data."""

    def __init__(
        self, selector: selectors.BaseSelector, environ: Mapping[str, str], log_arguments: list[str], grouping: Grouping
    ) -> None:
        self._selector = selector
        self._grouping = grouping
        self._environ = dict(environ)
        self._log_arguments = log_arguments
        self._control: socket.socket | None = None
        self._launcher: subprocess.Popen[bytes] | None = None
        self._supervisors: dict[int, _Supervisor] = {}
        self._idle: list[int] = []
        self._none_before = 0.0  # nobody stands by before this, by the monotonic clock

    def start(self) -> None:
        """Start the launcher where none is running.

        Raises: SpoolError where the system does not let us; Outdated where another release was installed since we began.
        """
        if self._control is not None:
            return
        if _installed() != INSTALLED:
            raise Outdated("another release was installed since this worker began; start it again. Running jobs go on")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._launcher = self._start_launcher(theirs)
            except OSError as error:
                ours.close()
                what = f"the launcher cannot be started with `{sys.executable}`: {error.strerror}"
                raise SpoolError(f"{what}; may this user run it, and has the machine room for a process?") from error
        self._grouping.take_in(self._launcher.pid)
        self._control = ours
        self._selector.register(ours, selectors.EVENT_READ, self)

    def _start_launcher(self, channel: socket.socket) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", LAUNCHER, str(channel.fileno()), *self._log_arguments],
            stdin=subprocess.DEVNULL,
            stdout=2,
            env=self._environ,
            pass_fds=(channel.fileno(),),
            start_new_session=True,
            cwd="/",
        )

    def launch(self, plan: Plan, lease: int) -> None:
        """Hand an attempt and its lease to a supervisor. The caller closes its own copy of the lease.

        Raises: SpoolError where neither a supervisor nor a launcher can be had now.
        """
        while self._idle:
            fd = self._idle.pop()
            if self._give(fd, plan, lease):
                return
        if not self._give(self._fork(), plan, lease):
            raise SpoolError("a new supervisor ended at once: is this machine out of processes or memory?")

    def offer(self, channel: int, said: dict[str, object]) -> bool:
        """Tell the supervisor at this channel what it may claim when it is done; return whether that was said."""
        entry = self._supervisors.get(channel)
        return entry is not None and offer(entry.channel, marshal.dumps(said))

    def busy(self) -> dict[int, float]:
        """Return the channels of those that have an attempt in hand, and how long their last one took (seconds)."""
        return {fd: entry.took_s for fd, entry in self._supervisors.items() if entry.record is not None}

    def is_slow(self, channel: int) -> None:
        """Take note that this supervisor's attempt takes long: until it is done nobody knows how long."""
        entry = self._supervisors.get(channel)
        if entry is not None:
            entry.took_s = NEVER_S

    @property
    def control_group(self) -> str:
        """Where groups of jobs are made."""
        return self._grouping.place.base

    def on_readable(self, fileobj: object) -> list[Report]:
        """Take what the launcher or a supervisor says."""
        if fileobj is self._control:
            self._drop_launcher()
            self._let_idle_go()
            return []
        assert isinstance(fileobj, socket.socket)
        fd = fileobj.fileno()
        return self._hear(fd) if fd in self._supervisors else []  # it may have been let go in this same round

    def trim(self, now: float) -> None:
        """Let supervisors go that had nothing to do for a while, but none that had no job yet: that one stands by."""
        for fd in [fd for fd in self._idle if 0.0 < self._supervisors[fd].since < now - IDLE_S]:
            self._idle.remove(fd)
            self._close(fd)

    def stand_by(self, now: float) -> None:
        """Have a new supervisor ready where none is idle: a job after a rest starts sooner by that."""
        if self._idle or now < self._none_before:
            return
        try:
            self._idle.append(self._fork())
        except (SpoolError, Outdated):
            self._none_before = now + IDLE_S  # whoever launches a job is told

    def close(self) -> None:
        """Let go of all: those that run a job finish it and file it."""
        for fd in list(self._supervisors):
            self._close(fd)
        self._idle.clear()
        self._drop_launcher()

    @property
    def has_launcher(self) -> bool:
        """Tell whether the launcher lives, as far as we heard."""
        return self._control is not None

    @property
    def records(self) -> set[str]:
        """The records that our supervisors have in hand."""
        return {entry.record for entry in self._supervisors.values() if entry.record is not None}

    def _fork(self) -> int:
        for _ in range(2):
            try:
                self.start()
                return self._ask_launcher()
            except OSError:
                self._drop_launcher()
        raise SpoolError("the launcher cannot be started: is this machine out of processes or memory?")

    def _ask_launcher(self) -> int:
        assert self._control is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(self._control, [b"n"], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        self._selector.register(ours, selectors.EVENT_READ, self)
        self._supervisors[ours.fileno()] = _Supervisor(ours)
        return ours.fileno()

    def _give(self, fd: int, plan: Plan, lease: int) -> bool:
        plan.control_group = self._grouping.place.base  # of the launcher that runs by now
        try:
            hand_over(self._supervisors[fd].channel, to_wire(plan), lease)
        except OSError:
            self._close(fd)
            return False
        entry = self._supervisors[fd]
        entry.record, entry.since = plan.record, time.monotonic()
        return True

    def _hear(self, fd: int) -> list[Report]:
        entry = self._supervisors[fd]
        try:
            data = entry.channel.recv(PACKET_BYTES)
        except OSError:
            data = b""
        if not data:
            record = entry.record or ""
            if fd in self._idle:
                self._idle.remove(fd)
                self._none_before = time.monotonic() + IDLE_S  # there may be no room for one: the launcher says so
            self._close(fd)
            return [Report(record, is_gone=True, channel=fd)] if record else []
        now, said = time.monotonic(), [Report(channel=fd, **report) for report in marshal.loads(data)]
        last = said[-1]
        entry.record, entry.since, entry.took_s = last.following or None, now, (now - entry.since) / len(said)
        if last.is_last:
            self._close(fd)
        elif entry.record is None:
            self._idle.append(fd)
        return said

    def _let_idle_go(self) -> None:
        # Who ends the launcher's scope waits for all that is in it, and no job is to begin there any more.
        for fd in self._idle:
            self._close(fd)
        self._idle.clear()

    def _close(self, fd: int) -> None:
        channel = self._supervisors.pop(fd).channel
        self._selector.unregister(channel)
        channel.close()

    def _drop_launcher(self) -> None:
        if self._control is not None:
            self._selector.unregister(self._control)
            self._control.close()
            self._control = None
        if self._launcher is not None:
            try:
                self._launcher.wait(LEAVE_S)
            except subprocess.TimeoutExpired:  # it was stopped, or is stuck
                self._launcher.kill()
            self._launcher = None


def _installed() -> list[tuple[int, int] | None]:
    """Return what changes when another release is installed in our place."""
    return [_stamp(os.path.join(PACKAGE, name)) for name in SPOKEN]


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


# Seen before anything else was done: a worker whose configuration is read again is still of the release it began with.
INSTALLED = _installed()
