"""Growth: a long queue of waiting specs, and a long history of finished records."""

from __future__ import annotations

import functools
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from spooldadd.names import random_part
from tests.bench import place
from tests.bench.measure import Row, interleaved, quantile, ratio
from tests.support import Node

RESULT = (
    'schema = 1\njob = "{job}"\nname = "old"\nqueue = "default"\nstate = "done"\noutcome = "success"\nreason = "it ended"\n'
    'exit_code = 0\nattempt = 1\nnode = "here"\nfinished_at = 2026-01-01T00:00:00Z\n'
)

SLOW = 'command = ["/bin/sleep", "600"]\n'
SETTLED_S = 2.5  # after the default settle time a file that lay there before the worker is quiet at its first look
FEW = 1000
FIRST_S = 1_767_225_600  # the beginning of 2026
MOST_LINKS = 50_000  # ext4 allows 65,000

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


def finished_rows(records: int, rounds: int, directory: str | None) -> list[Row]:
    """Start a worker, file more jobs, ask for the status: with a short and with a long history, in turn."""
    found: dict[int, list[tuple[float, ...]]] = {FEW: [], records: []}
    with place.spool("process", directory) as short, place.spool("process", directory) as long:
        nodes = {FEW: short, records: long}
        for number, node in nodes.items():
            _make_history(node, number)
        for turn in range(rounds):
            for number, node in nodes.items():
                found[number].append(_with_history(node, turn))
    start, filing, status = (
        quantile([a[part] / b[part] for a, b in zip(found[records], found[FEW], strict=True)], 0.5) for part in range(3)
    )
    return [
        Row(f"{records} finished: filing one more, against {FEW}", filing, "x", 1.2),
        Row(f"{records} finished: start of a worker, against {FEW}", start, "x", 1.2),
        Row(f"{records} finished: `status`, against {FEW}", status, "x"),
        Row(f"{records} finished: `status`", 1e3 * quantile([one[2] for one in found[records]], 0.5), "ms"),
    ]


def _with_history(node: Node, turn: int) -> tuple[float, ...]:
    """Return the seconds that a start, the filing of one job, and the status take."""
    started = time.perf_counter()
    node.start("--jobs", "2")
    start_s = time.perf_counter() - started
    filings = [_filing_s(node, 100 * turn + number) for number in range(21)]
    started = time.perf_counter()
    node.run("status")
    status_s = time.perf_counter() - started
    node.end()
    return start_s, quantile(filings, 0.5), status_s


def _make_history(node: Node, records: int) -> None:
    """Make finished records, a directory and a link each: a million files would take minutes."""
    done = node.spool / "done"
    for number in range(records):
        at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(FIRST_S + 20 * number))
        path = done / f"old.{at}.{random_part()}"
        path.mkdir()
        if number % MOST_LINKS == 0:
            result = path / "result.toml"
            result.write_text(RESULT.format(job=path.name))
        else:
            os.link(result, path / "result.toml")


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


def start_s(command: list[str], environ: dict[str, str]) -> float:
    """Return the seconds that a command takes from start to end."""
    started = time.perf_counter()
    subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def cold_rows(rounds: int, directory: str | None) -> list[Row]:
    """Start reading commands cold, against a bare interpreter."""
    with place.spool("process", directory) as node:
        place.fill(node, 3)
        node.drain()
        python = str(Path(node.command[0]).parent / "python")
        job = node.records("done")[0].name
        commands = {
            "bare": [python, "-I", "-S", "-c", ""],
            "status": [*node.command, "status"],
            "logs JOB": [*node.command, "logs", job],
            "submit --help": [*node.command, "submit", "--help"],
        }
        kinds = {name: functools.partial(start_s, command, node.environ) for name, command in commands.items()}
        found = interleaved(kinds, rounds)
        rows = [Row("bare interpreter, start to end, median", quantile(found["bare"], 0.5) * 1e3, "ms")]
        for name, target in (("status", 3), ("logs JOB", None), ("submit --help", None)):
            rows.append(Row(f"`{name}`", ratio(found, name, "bare"), "x bare", target))
        return rows
