"""The yardstick: `/bin/true` by `posix_spawn`, with no record, no log, no lease; measured in every run."""

from __future__ import annotations

import os
import time

TRUE = "/bin/true"


def rate(jobs: int, width: int) -> float:
    """Return how many jobs a second a loop starts and reaps, `width` at a time."""
    started = time.perf_counter()
    _run(jobs, width)
    return jobs / (time.perf_counter() - started)


def cpu_s(jobs: int, width: int) -> float:
    """Return the CPU seconds that one job costs, the loop's part and the job's own."""
    before = os.times()
    _run(jobs, width)
    after = os.times()
    return sum(b - a for a, b in zip(before[:4], after[:4], strict=True)) / jobs


def latency_s(program: str, arguments: list[str]) -> float:
    """Return how long one spawn takes until the program has noted the clock (nanoseconds) in its output."""
    read, write = os.pipe()
    started_ns = time.time_ns()
    pid = os.posix_spawn(program, [program, *arguments], {}, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
    os.close(write)
    with os.fdopen(read, "rb") as file:
        noted_ns = int(file.read())
    os.waitpid(pid, 0)
    return (noted_ns - started_ns) / 1e9


def _run(jobs: int, width: int) -> None:
    pids: set[int] = set()
    for _ in range(jobs):
        if len(pids) >= width:
            pid, _status = os.wait()
            pids.discard(pid)
        pids.add(os.posix_spawn(TRUE, ["true"], {}))
    while pids:
        pid, _status = os.wait()
        pids.discard(pid)
