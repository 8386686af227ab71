"""Growth: a long queue of waiting specs, and a long history of finished records."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from spooldadd.names import random_part
from tests.bench import place
from tests.bench.measure import Row, quantile
from tests.support import Node

RESULT = (
    'schema = 1\njob = "{job}"\nname = "old"\nqueue = "default"\nstate = "done"\noutcome = "success"\nreason = "it ended"\n'
    'exit_code = 0\nattempt = 1\nnode = "here"\nfinished_at = 2026-01-01T00:00:00Z\n'
)

SLOW = 'command = ["/bin/sleep", "600"]\n'
SETTLED_S = 2.5  # after the default settle time a file that lay there before the worker is quiet at its first look

# A short queue is at its end after a thousand jobs, so no more are counted of a long one either; the first are left out,
# while supervisors are forked.
SHORT, WARM, COUNTED = 1000, 50, 900


@dataclass(frozen=True)
class Served:
    """What serving a queue for a while showed."""

    rate: float
    cpu_s: float  # the worker's own, for each job
    first_s: float
    memory_bytes: int


def waiting_rows(jobs: int, rounds: int, directory: str | None) -> list[Row]:
    """Serve long queues for a while, in turn with short ones: the first job, the rate, the worker's memory."""
    short: list[Served] = []
    long: list[Served] = []
    for _ in range(rounds):
        short.append(served_from(SHORT, COUNTED, directory))
        long.append(served_from(jobs, COUNTED, directory))
    pairs = list(zip(long, short, strict=True))
    rate = quantile([a.rate / b.rate for a, b in pairs], 0.5)
    cpu = quantile([a.cpu_s / b.cpu_s for a, b in pairs], 0.5)
    return [
        Row(f"{jobs} waiting: first job starts after", quantile([one.first_s for one in long], 0.5), "s", 1),
        Row(f"{jobs} waiting: throughput against 1,000 waiting", rate, "x", 0.9, at_least=True),
        Row(f"{jobs} waiting: worker's CPU for each job, against 1,000 waiting", cpu, "x"),
        Row(f"{jobs} waiting: worker's memory (PSS), all looked at", known_bytes(jobs, directory) / 1e6, "MB", 100),
    ]


def served_from(waiting: int, jobs: int, directory: str | None) -> Served:
    """Serve so many jobs of a queue of that length."""
    with place.spool("process", directory) as node:
        place.fill(node, waiting)
        done = node.spool / "done"
        time.sleep(SETTLED_S)
        os.sync()
        started = time.perf_counter()
        worker = node.start("--jobs", "2")
        first_s = place.wait_for(lambda: place.count(node.spool / "running") + place.count(done) > 0) - started
        warm = min(WARM, waiting // 10)
        begun_at = place.wait_for(lambda: place.count(done) >= warm, look_s=0.002)
        begun, cpu_s = place.count(done), place.cpu_of([worker.pid])[0]
        ended_at = place.wait_for(lambda: place.count(done) >= min(begun + jobs, waiting), look_s=0.002)
        ended = place.count(done) - begun
        cpu_s = place.cpu_of([worker.pid])[0] - cpu_s
        return Served(ended / (ended_at - begun_at), cpu_s / ended, first_s, place.pss_bytes([worker.pid]))


def known_bytes(waiting: int, directory: str | None) -> int:
    """Have long jobs take all places until the worker has looked at all that wait; return its memory then."""
    with place.spool("process", directory) as node:
        place.fill(node, waiting, SLOW)
        time.sleep(SETTLED_S)
        worker = node.start("--jobs", "2")
        place.wait_for(lambda: place.count(node.spool / "running") >= 2)
        used_s = -1.0
        while (now_s := place.cpu_of([worker.pid])[0]) > used_s:  # it rests when it has looked at all
            used_s = now_s
            time.sleep(1)
        return place.pss_bytes([worker.pid])


def growth_rows(most: int, directory: str | None) -> list[Row]:
    """Serve a thousand jobs of queues that get longer and longer: what one job takes must not grow with them."""
    lengths = [length for length in (100, 1000, 10_000, 100_000) if length <= most]
    return [
        Row(f"one job with {length} waiting", 1e3 / served_from(length, COUNTED, directory).rate, "ms") for length in lengths
    ]


def finished_rows(records: int, directory: str | None) -> list[Row]:
    """File one more job, ask for the status, start a worker, with a short and with a long history."""
    few, many = _with_history(1000, directory), _with_history(records, directory)
    return [
        Row(f"{records} finished: filing one more, against 1,000", many[0] / few[0], "x", 1.2),
        Row(f"{records} finished: start of a worker, against 1,000", many[1] / few[1], "x", 1.2),
        Row(f"{records} finished: `status`, against 1,000", many[2] / few[2], "x"),
    ]


def _with_history(records: int, directory: str | None) -> tuple[float, float, float]:
    with place.spool("process", directory) as node:
        _make_history(node, records)
        started = time.perf_counter()
        node.start("--jobs", "2")
        start_s = time.perf_counter() - started
        filings = [_filing_s(node, number) for number in range(21)]
        started = time.perf_counter()
        node.run("status")
        return quantile(filings, 0.5), start_s, time.perf_counter() - started


def _make_history(node: Node, records: int) -> None:
    for number in range(records):
        job = f"old.20260101T000000Z.{number % 100_000:05d}{random_part() if number >= 100_000 else ''}"
        path = node.spool / "done" / job
        path.mkdir()
        (path / "result.toml").write_text(RESULT.format(job=job))


def _filing_s(node: Node, number: int) -> float:
    """Drop one job; return the seconds until the log says that it is filed: to list that directory takes seconds."""
    before = node.log.stat().st_size
    temporary = node.spool / ".part"
    temporary.write_text(place.SPEC)
    started = time.perf_counter()
    temporary.rename(node.spool / f"more-{number}.toml")
    ended = place.wait_for(lambda: f"event=filed job=more-{number}." in node.said(before), look_s=0.0005)
    time.sleep(0.02)
    return ended - started


def start_s(command: list[str], environ: dict[str, str], rounds: int) -> float:
    """Return the median of the seconds that a command takes from start to end."""
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=True)
        found.append(time.perf_counter() - started)
    return quantile(found, 0.5)


def cold_rows(rounds: int, directory: str | None) -> list[Row]:
    """Start reading commands cold, against a bare interpreter."""
    with place.spool("process", directory) as node:
        place.fill(node, 3)
        node.drain()
        python = str(Path(node.command[0]).parent / "python")
        bare_s = start_s([python, "-I", "-S", "-c", ""], node.environ, rounds)
        found = [Row("bare interpreter, start to end, median", bare_s * 1e3, "ms")]
        job = node.records("done")[0].name
        for name, arguments, target in (("status", [], 3), ("logs", [job], None), ("submit", ["--help"], None)):
            seconds = start_s([*node.command, name, *arguments], node.environ, rounds)
            shown = " ".join([name, *arguments]).replace(job, "JOB")
            found.append(Row(f"`{shown}`", seconds / bare_s, "x bare", target))
        return found
