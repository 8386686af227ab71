"""The logs of an attempt, and how it ended: outcome, reason, what the kernel said. Light: the launcher loads it."""

from __future__ import annotations

import os

from spooldadd import cgroup, durable, lifecycle, process, record
from spooldadd.bare import signal
from spooldadd.guard import Verdict, cpu_sentence, memory_sentence, output_sentence, size
from spooldadd.plan import Limits, Plan

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Ending:
    """How the job ended: what the kernel said, and what we did to it."""

    __slots__ = (
        "at_most_rss_bytes",
        "cpu_s",
        "ended",
        "group_oom_kills",
        "left",
        "max_rss_bytes",
        "memory_peak_bytes",
        "oom_kills",
        "printed",
        "status",
        "stopped",
        "verdict",
    )

    def __init__(self) -> None:
        self.status: int | None = None
        self.verdict: Verdict | None = None
        self.cpu_s = 0.0
        self.max_rss_bytes = 0
        self.at_most_rss_bytes = 0
        self.memory_peak_bytes: int | None = None
        self.group_oom_kills = 0
        self.printed = 0
        self.left = 0
        self.oom_kills = 0
        self.stopped = False
        self.ended: float | None = None  # by the monotonic clock; when the main process ended

    def note_group(self, leaf: cgroup.Leaf | None) -> None:
        """Note what the job's control group has counted; that leaves nothing out."""
        if leaf is None:
            return
        self.cpu_s = max(self.cpu_s, leaf.cpu_s() or 0.0)
        self.memory_peak_bytes = leaf.peak_bytes()
        self.group_oom_kills = leaf.oom_kills()


def judge(limits: Limits, ending: Ending) -> tuple[str, str]:
    """Return the outcome, and the sentence that says why."""
    if ending.verdict is not None:
        return ending.verdict.outcome, ending.verdict.sentence
    if ending.group_oom_kills > 0 and limits.memory_bytes is not None:
        return lifecycle.OOM, f"the kernel ended it at its `memory` limit of {size(limits.memory_bytes)}"
    if limits.memory_bytes is not None and ending.max_rss_bytes > limits.memory_bytes:
        return lifecycle.OOM, memory_sentence(ending.max_rss_bytes, limits.memory_bytes)
    if ending.status is None:
        return lifecycle.LOST, "its main process could not be ended: the kernel does not let go of it"
    if os.WIFSIGNALED(ending.status):
        return _judge_signal(limits, ending, os.WTERMSIG(ending.status))
    code = os.waitstatus_to_exitcode(ending.status)
    return (lifecycle.SUCCESS, "it ended with exit code 0") if code == 0 else (lifecycle.EXIT, _exit_sentence(code))


def _judge_signal(limits: Limits, ending: Ending, number: int) -> tuple[str, str]:
    name = process.signal_name(number)
    if number == signal.SIGXCPU and limits.cpu_time_s is not None:
        return lifecycle.TIMEOUT, cpu_sentence(limits.cpu_time_s)
    if number == signal.SIGKILL and ending.oom_kills > 0:
        return lifecycle.OOM, "the kernel killed it (SIGKILL) because the machine or its control group had no memory left"
    if ending.stopped and number in (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP):
        return lifecycle.LOST, f"it was killed by {name} together with its supervisor: the machine was shutting down"
    return lifecycle.SIGNAL, f"it was killed by {name} (signal {number})"


def _exit_sentence(code: int) -> str:
    """A shell reports a command's death by a signal as 128 plus its number."""
    name = process.signal_name(code - 128)
    if code > 128 and name.startswith("SIG"):
        probably = "; probably out of memory" if code == 137 else ""
        return f"it ended with exit code {code}: a command in it was killed by {name}{probably}"
    return f"it ended with exit code {code}"


def exit_fields(status: int | None) -> dict[str, object]:
    """Return `exit_code` or `signal`, whichever applies."""
    if status is None:
        return {}
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    return {"exit_code": os.waitstatus_to_exitcode(status)}


def cut_logs(limits: Limits, logs: tuple[int, int], ending: Ending) -> None:
    """Cut what was printed beyond the limit before the job was ended."""
    fds = sorted(set(logs))
    try:
        sizes = [os.fstat(fd).st_size for fd in fds]
    except OSError:  # the share that they are on was away; there is nothing that we could cut
        return
    ending.printed = sum(sizes)
    if limits.output_bytes is None or ending.printed <= limits.output_bytes:
        return
    if ending.verdict is None:
        ending.verdict = Verdict(lifecycle.OUTPUT, output_sentence(limits.output_bytes))
    for fd, printed in zip(fds, sizes, strict=True):
        if printed > limits.output_bytes // len(fds):
            os.ftruncate(fd, limits.output_bytes // len(fds))
            add_to_log(fd, f"\n[spooldadd: cut here, at the limit; {printed} bytes had been printed]\n")


def add_to_log(fd: int, text: str) -> None:
    """Add a sentence of ours for the reader's comfort. The result says the same, so a full disk may have its way."""
    try:
        durable.write_all(fd, text.encode())
    except OSError:
        pass


def header(plan: Plan, state: str, outcome: str, reason: str) -> dict[str, object]:
    """Return the first fields of a result, in the order in which a person reads them."""
    return {
        "job": plan.job,
        "name": plan.name,
        "queue": plan.queue,
        "state": state,
        "outcome": outcome,
        "reason": reason,
        "attempt": plan.attempt,
        "node": plan.node,
        **({"owner": plan.owner} if plan.owner else {}),
        **({"signed_by": plan.signed_by} if plan.signed_by else {}),
    }


def times_and_use(plan: Plan, ending: Ending, started_at_s: float, duration_s: float) -> dict[str, object]:
    """Return the fields of a result that say when the attempt ran, and what it used."""
    return {
        "submitted_at": record.written(plan.submitted_at_s),
        "claimed_at": record.written(plan.claimed_at_s),
        "started_at": record.written(started_at_s),
        "finished_at": record.written(started_at_s + duration_s),
        "duration_s": round(duration_s, 3),
        "cpu_s": round(ending.cpu_s, 3),
        "max_rss_bytes": ending.max_rss_bytes or ending.at_most_rss_bytes or None,
        "memory_peak_bytes": ending.memory_peak_bytes,
    }


def open_logs(record_path: str, names: Iterable[str], hand_over: Callable[[tuple[int, ...]], None]) -> tuple[int, int]:
    """Open the logs of an attempt; return where its output and its errors go. Raises: OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    fds: list[int] = []
    try:
        for name in names:
            fds.append(os.open(f"{record_path}/{name}", flags, 0o644))
        hand_over(tuple(fds))
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    return fds[0], fds[-1]
