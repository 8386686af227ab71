"""The process tree of one job: wait for it, end it, add up what it used. Light: the launcher loads it.

The supervisor is a subreaper, so whatever the job starts stays below it, however often it forks away. `wait4` saying that
no child is left is therefore the proof that nothing of the job runs any more.

If we die here: the job's processes go on, holding the lease; a worker finds them by the record's name in their environment.
"""

from __future__ import annotations

import os
import resource
import time

from spooldadd import process
from spooldadd.bare import signal
from spooldadd.cgroup import Leaf

SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1)
# Between two looks at a tree that is being ended: short against any sensible `kill_after`, long against a look (50 us).
END_TICK_S = 0.05
# What the kernel cannot kill (a hung network file system) must not keep the record for ever. Far above any I/O timeout
# of a disk, below the patience of the person who waits for the result.
UNKILLABLE_S = 120.0

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable


class Tree:
    """All processes of one job, seen from its supervisor."""

    __slots__ = (
        "_own",
        "_own_rss_kib",
        "at_most_rss_bytes",
        "cpu_s",
        "is_empty",
        "is_told_to_stop",
        "is_woken",
        "leaf",
        "left",
        "main",
        "max_rss_bytes",
        "status",
    )

    def __init__(self, main: int, leaf: Leaf | None = None) -> None:
        self.main = main
        self.leaf = leaf  # the control group that it runs in, if it has one
        self.status: int | None = None  # of the main process, as `waitpid` gives it
        self.cpu_s = 0.0  # of all that ended
        self.max_rss_bytes = 0
        self.at_most_rss_bytes = 0  # what the kernel says of processes that were no larger than we are
        self.left = 0  # processes that the main process left behind
        self.is_told_to_stop = False
        self.is_woken = False
        self.is_empty = False  # no process of the job was left when we looked last
        self._own = os.getpid()
        self._own_rss_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def go_on(self, own_rss_kib: int, max_rss_bytes: int, *, is_told_to_stop: bool) -> None:
        """Take note of how large we were when we started it, and of what was seen since."""
        self._own_rss_kib, self.max_rss_bytes, self.is_told_to_stop = own_rss_kib, max_rss_bytes, is_told_to_stop

    def wait(self, timeout_s: float) -> None:
        """Sleep until something happens or the time is over, and collect every process that ended."""
        self._note(signal.sigtimedwait(SIGNALS, max(timeout_s, 0.0)))
        self.reap()

    def reap(self) -> bool:
        """Collect what ended; return whether any process of the job is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self.is_empty = True  # nobody but us could make another one
                return False
            if pid == 0:
                return True
            self.note_end(pid, status, usage)

    def note_end(self, pid: int, status: int, usage: resource.struct_rusage) -> None:
        """Note what the kernel said of a process that was collected."""
        self.cpu_s += usage.ru_utime + usage.ru_stime
        # At exec the kernel counts what the caller had as the new program's peak: up to our own size it says nothing.
        self.at_most_rss_bytes = max(self.at_most_rss_bytes, usage.ru_maxrss * 1024)
        if usage.ru_maxrss > self._own_rss_kib:
            self.max_rss_bytes = max(self.max_rss_bytes, usage.ru_maxrss * 1024)
        if pid == self.main:
            self.status = status

    def members(self) -> list[int]:
        """Return the processes of the job that live now."""
        return process.descendants(self._own)

    def sample(self) -> process.Usage:
        """Return what the living use now; the largest memory seen counts for the result."""
        usage = process.usage(self.members())
        self.max_rss_bytes = max(self.max_rss_bytes, usage.memory_bytes)
        return usage

    def end(self, kill_after_s: float, is_urgent: Callable[[], bool]) -> bool:
        """Ask every process to end, then force it; return whether all are gone.

        TERM at once, KILL after `kill_after_s` seconds, or as soon as `is_urgent()`. Returns within two minutes after that
        even where the kernel cannot end one of them.
        """
        self._send(signal.SIGTERM)
        if self._wait_for_all(time.monotonic() + kill_after_s, is_urgent):
            return True
        return self.kill()

    def kill(self) -> bool:
        """Force every process to end, new ones too until none is left; return whether all are gone."""
        deadline = time.monotonic() + UNKILLABLE_S
        while time.monotonic() < deadline:
            if self.leaf is None or not self.leaf.kill():
                self._send(signal.SIGKILL)
            if self._wait_for_all(time.monotonic() + END_TICK_S):
                return True
        return False

    def _send(self, number: int) -> None:
        process.send(self.members(), number)
        if number == signal.SIGTERM:
            process.send(self.members(), signal.SIGCONT)  # a stopped process would never hear it

    def _wait_for_all(self, deadline: float, is_urgent: Callable[[], bool] = lambda: False) -> bool:
        while self.reap():
            rest = deadline - time.monotonic()
            if rest <= 0 or is_urgent():
                return False
            self._note(signal.sigtimedwait(SIGNALS, min(rest, END_TICK_S)))
        return True

    def _note(self, info: signal.struct_siginfo | None) -> None:
        if info is None:
            return
        self.is_told_to_stop |= info.si_signo == signal.SIGTERM
        self.is_woken |= info.si_signo == signal.SIGUSR1


def forget_signals() -> None:
    """Drop what is pending from before: it was not meant for the next job."""
    while signal.sigtimedwait(SIGNALS, 0) is not None:
        pass
