"""How the worker stands, as its service manager hears it: ready, one line of status, alive.

The main thread tells it. Alive means that the loop beside it makes progress, or waits for a file system, which no new worker
could hurry: a share that hangs must not get the worker killed over and over. A loop that burns processor time without an end
to its turn, or waits for a lock of its own, is not alive.

Source: decision record 0051; proc(5).
"""

from __future__ import annotations

import time
from typing import Protocol

from spooldadd import process
from spooldadd.sdnotify import ServiceManager, status

# How old the line of status may be. Each look costs microseconds, and nothing is sent where nothing changed.
STATUS_S = 2.0
# Without a manager the main thread only waits for signals; it looks around all the same, lest a lost wake-up hang it.
IDLE_S = 60.0
# Between two looks until the worker is up, which takes milliseconds.
STARTING_S = 0.05
# Where a thread sleeps that waits for another thread of ours, or for an event that the loop's timeout should have ended.
OWN_WAITS = ("futex", "ep_poll", "do_epoll", "do_select", "do_poll", "poll_schedule")


class Loop(Protocol):
    """What is watched: a thread that counts its turns."""

    @property
    def thread_id(self) -> int:
        """The kernel's number of the thread."""

    @property
    def turns(self) -> int:
        """How many turns it has begun."""

    @property
    def sleeps_until(self) -> float:
        """Until when it has nothing to do, by the monotonic clock; 0 while it works."""

    @property
    def is_up(self) -> bool:
        """Whether the spool was opened and the launcher runs."""

    @property
    def summary(self) -> str:
        """One line for a person."""


class Pulse:
    """Tells whether a loop lives, by its turns and by what the kernel says of its thread."""

    def __init__(self) -> None:
        self._turns = -1
        self._moved_at = 0.0
        self._cpu_ticks = -1

    def stood_still_s(self, loop: Loop, now: float) -> float:
        """Return for how long it has begun no turn that was due: one that sleeps until then lacks nothing."""
        if loop.turns != self._turns or now < loop.sleeps_until:
            self._turns, self._moved_at = loop.turns, now
        return now - self._moved_at

    def is_waiting(self, loop: Loop) -> bool:
        """Tell whether its thread is in a call that only the kernel can end, and used no processor since the last look."""
        state, ticks = process.thread_state(loop.thread_id)
        is_busy = ticks != self._cpu_ticks
        self._cpu_ticks = ticks
        if is_busy or state not in ("S", "D"):
            return False
        return not process.thread_wait(loop.thread_id).startswith(OWN_WAITS)


class Standing:
    """Says what changed, and keeps the watchdog content as long as the loop lives."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self._pulse = Pulse()
        self._said = ""
        self._note = ""  # what a person should know besides, until the next reload
        self._owed: str | None = None  # READY=1, until it was taken
        self._is_up = False
        self._ping_at = 0.0

    @property
    def wait_s(self) -> float:
        """How long the main thread may wait for a signal before it comes back here."""
        if not self._manager.is_there:
            return IDLE_S
        if not self._is_up or self._owed:
            return STARTING_S
        return min(STATUS_S, self._ping_every_s)

    def tell(self, loop: Loop) -> None:
        """Tell what there is to tell now."""
        if not self._manager.is_there:
            return
        now = time.monotonic()
        still_s = self._pulse.stood_still_s(loop, now)
        if loop.is_up and not self._is_up:
            self._is_up, self._owed = True, "READY=1"
        if self._owed and self._manager.send(self._owed):
            self._owed = None
        if self._is_up:
            self._say_status(loop, still_s)
            self._ping(loop, now, still_s)

    def reloading(self) -> None:
        """Say that the configuration is read again."""
        self._manager.reloading()

    def reloaded(self, sentence: str = "") -> None:
        """Say that a configuration is in force again, the old or the new one."""
        self._owed = "READY=1"
        self._note = sentence

    def stopping(self) -> None:
        """Say that the end was asked for."""
        self._manager.send("STOPPING=1\n" + status("stopping; running jobs go on by themselves"))

    @property
    def _ping_every_s(self) -> float:
        """A third of the time: one look may come late, and a message may be lost."""
        return (self._manager.watchdog_s or 3 * STATUS_S) / 3

    def _say_status(self, loop: Loop, still_s: float) -> None:
        line = loop.summary
        if still_s > self._ping_every_s and self._pulse.is_waiting(loop):
            line = "waiting for the file system of the spool, which does not answer"
        if self._note:
            line = f"{line}; {self._note}"
        if line != self._said and self._manager.send(status(line)):
            self._said = line

    def _ping(self, loop: Loop, now: float, still_s: float) -> None:
        if self._manager.watchdog_s is None or now < self._ping_at:
            return
        if still_s < self._manager.watchdog_s / 2 or self._pulse.is_waiting(loop):
            self._manager.send("WATCHDOG=1")
            self._ping_at = now + self._ping_every_s
