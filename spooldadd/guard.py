"""Watch a running job: end it when it breaks a limit or somebody cancels it. Light: the launcher loads it.

The supervisor sleeps until a process ends. It wakes by itself only to look at limits: soon after the start, then less and
less often, at last once in `HEARTBEAT_S`; more often again while the job prints a lot.
"""

from __future__ import annotations

import os
import time

from spooldadd import durable, lifecycle, process
from spooldadd.plan import Limits
from spooldadd.tree import Tree

FIRST_TICK_S = 0.02
# The longest time between two looks: a cancel that was only touched waits that long, a limit is exceeded by that much.
HEARTBEAT_S = 1.0
# A disk takes about 2 GB/s: a job is seen before it has printed 100 MB beyond its limit.
BUSY_TICK_S = 0.05
# Growth within one tick that makes the next one short.
BUSY_BYTES = 1 << 20
# The outcome of a job whose record somebody else has taken over. Never in a result: nothing is filed then.
CLAIM_LOST = "claim-lost"

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Verdict:
    """Why the supervisor ended the job: an outcome, and the sentence that says so."""

    __slots__ = ("outcome", "sentence")

    def __init__(self, outcome: str, sentence: str) -> None:
        self.outcome = outcome
        self.sentence = sentence


def nothing() -> None:
    """Nobody has asked to be called."""


class Eye:
    """Sees what a limit cannot say: that a person wants the job to end. `fence` has those that see more, or from afar."""

    __slots__ = ("_cancel", "on_wait")

    def __init__(self, cancel: str) -> None:
        self._cancel = cancel
        self.on_wait: Callable[[], None] = nothing  # called before each look, the first of which is a moment after the start

    def look(self) -> Verdict | None:
        """Return why the job has to end, or None."""
        if durable.is_listed(self._cancel):
            return Verdict(lifecycle.CANCELLED, "it was cancelled while it ran")
        return None

    def printed(self, logs: Sequence[int], before: int) -> int:
        """Return how much was printed into these descriptors; `before` is what was seen before."""
        try:
            return sum(os.fstat(fd).st_size for fd in logs)
        except OSError:  # the share that the log is on is away; the job runs on, and so do we
            return before

    def close(self) -> None:
        """Look no more."""


class Guard:
    """Looks at one job until its main process ends."""

    __slots__ = ("_active_at", "_cpu_ticks", "_limits", "_logs", "_printed", "_started", "_tick", "_tree", "eye")

    def __init__(self, tree: Tree, limits: Limits, logs: list[int], cancel: str | Eye) -> None:
        self._tree = tree
        self._limits = limits
        self._logs = logs
        self.eye = Eye(cancel) if isinstance(cancel, str) else cancel
        self._tick = FIRST_TICK_S
        self._printed = 0
        self._cpu_ticks = 0
        self._started = self._active_at = time.monotonic()

    def go_on(self, started: float) -> None:
        """Watch a job that was started at this time, by the monotonic clock, beginning with a look."""
        self._started, self._tick = started, 0.0

    def watch(self) -> Verdict | None:
        """Wait until the main process ended by itself (None) or has to be ended, and why."""
        while True:
            self._tree.wait(self._sleep_s())
            if self._tree.status is not None:
                return None
            self.eye.on_wait()
            verdict = self._look()
            if verdict is not None:
                return verdict

    def is_flooded(self) -> bool:
        """Tell whether what the job prints while it is asked to end is as much again as it may print at all."""
        limit_bytes = self._limits.output_bytes
        return limit_bytes is not None and self._size() > 2 * limit_bytes

    def _sleep_s(self) -> float:
        limit_s = self._limits.timeout_s
        if limit_s is None:
            return self._tick
        return min(self._tick, self._started + limit_s - time.monotonic())

    def _look(self) -> Verdict | None:
        now = time.monotonic()
        usage = self._tree.sample()
        self._note_activity(now, usage)
        for rule in _RULES:
            verdict = rule(self._limits, now - self._started, self, usage)
            if verdict is not None:
                return verdict
        return self.eye.look()

    def _note_activity(self, now: float, usage: process.Usage) -> None:
        printed = self._size()
        if printed != self._printed or usage.cpu_ticks != self._cpu_ticks:
            self._active_at = now
        is_busy = printed - self._printed > BUSY_BYTES or self._limits.memory_bytes is not None
        self._tick = BUSY_TICK_S if is_busy else min(max(self._tick * 2, FIRST_TICK_S), self._longest_tick_s())
        self._printed, self._cpu_ticks = printed, usage.cpu_ticks

    def _size(self) -> int:
        return self.eye.printed(self._logs, self._printed)

    def _longest_tick_s(self) -> float:
        """A stall is noticed within a fifth of its limit."""
        stall_s = self._limits.stall_s
        return HEARTBEAT_S if stall_s is None else min(HEARTBEAT_S, max(stall_s / 5, FIRST_TICK_S))

    @property
    def printed(self) -> int:
        """Bytes printed up to the last look."""
        return self._printed

    @property
    def cpu_s(self) -> float:
        """Processor time of all processes up to the last look, ended ones included."""
        return self._cpu_ticks / process.TICKS_A_SECOND + self._tree.cpu_s

    def idle_s(self, now_s: float) -> float:
        """Return for how long the job has neither printed nor used the processor."""
        return now_s - (self._active_at - self._started)


def _break_timeout(limits: Limits, now_s: float, _guard: Guard, _usage: process.Usage) -> Verdict | None:
    if limits.timeout_s is None or now_s < limits.timeout_s:
        return None
    return Verdict(lifecycle.TIMEOUT, f"it ran longer than its `timeout` of {seconds(limits.timeout_s)}")


def _break_stall(limits: Limits, now_s: float, guard: Guard, _usage: process.Usage) -> Verdict | None:
    if limits.stall_s is None or guard.idle_s(now_s) < limits.stall_s:
        return None
    sentence = f"it printed nothing and used no processor for its `stall` limit of {seconds(limits.stall_s)}"
    return Verdict(lifecycle.STALL, sentence)


def _break_output(limits: Limits, _now_s: float, guard: Guard, _usage: process.Usage) -> Verdict | None:
    if limits.output_bytes is None or guard.printed <= limits.output_bytes:
        return None
    return Verdict(lifecycle.OUTPUT, output_sentence(limits.output_bytes))


def _break_memory(limits: Limits, _now_s: float, _guard: Guard, usage: process.Usage) -> Verdict | None:
    if limits.memory_bytes is None or usage.memory_bytes <= limits.memory_bytes:
        return None
    return Verdict(lifecycle.OOM, memory_sentence(usage.memory_bytes, limits.memory_bytes))


def _break_cpu_time(limits: Limits, _now_s: float, guard: Guard, _usage: process.Usage) -> Verdict | None:
    if limits.cpu_time_s is None or guard.cpu_s < limits.cpu_time_s:
        return None
    return Verdict(lifecycle.TIMEOUT, cpu_sentence(limits.cpu_time_s))


if TYPE_CHECKING:
    Rule = Callable[[Limits, float, Guard, process.Usage], Verdict | None]
_RULES: tuple[Rule, ...] = (_break_timeout, _break_memory, _break_output, _break_cpu_time, _break_stall)


def output_sentence(limit_bytes: int) -> str:
    """Say that a job printed too much."""
    return f"it printed more than its `output` limit of {size(limit_bytes)}"


def memory_sentence(used_bytes: int, limit_bytes: int) -> str:
    """Say that a job used too much memory."""
    return f"it used {size(used_bytes)} of memory; its `memory` limit is {size(limit_bytes)}"


def cpu_sentence(limit_s: float) -> str:
    """Say that a job used too much processor time."""
    return f"it used more than its `cpu_time` limit of {seconds(limit_s)}"


def seconds(value: float) -> str:
    """Return a duration for a person. `units` does it better, but is too heavy for the launcher."""
    if value < 120:
        return f"{value:g} s"
    return f"{value / 60:g} min" if value < 7200 else f"{value / 3600:g} h"


def size(value: int) -> str:
    """Return a size for a person, in powers of 1024."""
    number = float(value)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.4g} {unit}"
        number /= 1024
    return f"{number:.4g} TiB"
