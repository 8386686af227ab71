"""Sweeps: one trial for each N, many at a time, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.bench import Bench
from tests.faults.faulty import KILL, Faults
from tests.faults.steps import Scene

# Trials mostly wait for processes, so more run at once than there are processors.
AT_ONCE = 6
# A sweep that does not end by itself has a bug of its own.
MOST = 400


@dataclass(frozen=True)
class Verdict:
    """What came of one trial."""

    at: int
    call: str  # the one that was struck; empty where the step ended before
    problems: list[str]
    said: str

    def __str__(self) -> str:
        return f"#{self.at} {self.call}: {'; '.join(self.problems)}\n{self.said}"


def sweep(trial: Callable[[int], Verdict]) -> list[Verdict]:
    """Run `trial(1)`, `trial(2)`, … until one was not struck; return all that were."""
    verdicts: list[Verdict] = []
    for first in range(1, MOST, AT_ONCE):
        batch = _side_by_side(trial, range(first, first + AT_ONCE))
        verdicts += [verdict for verdict in batch if verdict.call]
        quiet = [verdict for verdict in batch if not verdict.call]
        if quiet:
            bad = [verdict for verdict in quiet if verdict.problems]
            assert not bad, f"the step goes wrong even unharmed: {bad[0]}"
            return verdicts
    raise AssertionError(f"no end after {MOST} calls")


def bad(verdicts: list[Verdict]) -> str:
    """Return the report of those with problems, empty where there is none."""
    return "\n".join(str(verdict) for verdict in verdicts if verdict.problems)


def killed_at(scene: Scene, at: int) -> Verdict:
    """Kill the step at its `at`-th call; then do as a new worker does."""
    bench = Bench(scene.durability, scene.kind)
    try:
        _prepare(scene, bench)
        call, status = _strike(bench, lambda: scene.begin(bench), Faults(at, KILL))
        found = [] if call or status == 0 else [f"the step ended with {status}"]
        return _judged(scene, bench, at, call, found)
    finally:
        bench.close()


def failed_at(scene: Scene, at: int, error: int) -> Verdict:
    """Let the `at`-th call of the step fail once, in the process that goes on; then do as a new worker does."""
    bench = Bench(scene.durability, scene.kind)
    try:
        _prepare(scene, bench)
        call, _status = _strike(bench, lambda: scene.begin(bench), Faults(at, error))
        return _judged(scene, bench, at, call, [])
    finally:
        bench.close()


def serving_failed_at(scene: Scene, at: int, error: int) -> Verdict:
    """Let the `at`-th call of a whole worker fail once: it has to go on by itself."""
    bench = Bench(scene.durability, scene.kind)
    try:
        _prepare(scene, bench)

        def begin() -> Callable[[], object]:
            signal.alarm(60)
            return bench.worker().serve

        call, status = _strike(bench, begin, Faults(at, error))
        found = [f"the worker ended with status {status}"] if status else []
        if call.startswith("unlink(") and call.endswith(".lock')"):
            bench.recover()  # a lock that could not be removed harms nobody; the next start removes it
        found += scene.problems(bench)
        return Verdict(at, call, found, bench.said() if found else "")
    finally:
        bench.close()


def _judged(scene: Scene, bench: Bench, at: int, call: str, found: list[str]) -> Verdict:
    """Do as a new worker does, and look at what it came to."""
    bench.recover()
    if bench.has_work_left():
        status = bench.drain()
        found += [f"draining ended with status {status}"] if status else []
    found += scene.problems(bench)
    return Verdict(at, call, found, bench.said() if found else "")


def _prepare(scene: Scene, bench: Bench) -> None:
    bench.drop(scene.spec, scene.key)
    scene.before(bench)


def _strike(bench: Bench, begin: Callable[[], Callable[[], object]], faults: Faults) -> tuple[str, int]:
    """Run the step in a doomed process; return the call that was struck, and how the process ended."""
    reader, writer = os.pipe()

    def doomed() -> None:
        step = begin()
        faults._note, faults._pid = writer, os.getpid()
        faults.arm()
        step()

    status = bench.in_fork(doomed)
    os.close(writer)
    call = os.read(reader, 4096).decode()
    os.close(reader)
    return call, status


def _side_by_side(trial: Callable[[int], Verdict], numbers: range) -> list[Verdict]:
    running = [(at, *_start(trial, at)) for at in numbers]
    return [_collect(at, pid, reader) for at, pid, reader in running]


def _start(trial: Callable[[int], Verdict], at: int) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            with os.fdopen(writer, "w") as pipe:
                json.dump(vars(trial(at)), pipe)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    return pid, reader


def _collect(at: int, pid: int, reader: int) -> Verdict:
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return Verdict(**json.loads(text)) if text else Verdict(at, "?", ["the trial itself broke"], "")
