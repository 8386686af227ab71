"""From a rename into an idle spool to the job's first instruction, against a bare spawn of the same program."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from spooldadd.tomltext import dumps
from tests.bench import bare, place
from tests.bench.measure import Row, quantile
from tests.support import Node

DATE = "/bin/date"  # on every machine, and starts in a millisecond
FORM = "+%s%N"
FIRSTS = 5
REST_S = 3.0  # until a worker has started, done its first round, and rests


def rows(jobs: int, directory: str | None) -> list[Row]:
    """Drop one job after the other into an idle spool, a bare spawn in between."""
    ours_s, bare_s = [], []
    with place.spool("process", directory) as node:
        node.start("--jobs", "2")
        one(node, "first")
        for number in range(jobs):
            bare_s.append(bare.latency_s(DATE, [FORM]))
            ours_s.append(one(node, f"job-{number}"))
    middle_s, bare_middle_s = statistics.median(ours_s), statistics.median(bare_s)
    return [
        Row("bare spawn to first instruction, median", bare_middle_s * 1e3, "ms"),
        Row("rename to first instruction beyond bare, median", (middle_s - bare_middle_s) * 1e3, "ms", 4),
        Row("… 99th of a hundred", (quantile(ours_s, 0.99) - quantile(bare_s, 0.99)) * 1e3, "ms", 10),
        Row("a worker's first job with power: the same, median", (first_s(directory) - bare_middle_s) * 1e3, "ms", 10),
    ]


def first_s(directory: str | None) -> float:
    """Return how long the first job of a worker takes to begin, on a spool as `init` makes it."""
    found_s = []
    for _ in range(FIRSTS):
        with place.spool("power", directory) as node:
            node.start("--jobs", "2")
            time.sleep(REST_S)
            found_s.append(one(node, "first"))
    return statistics.median(found_s)


def one(node: Node, name: str) -> float:
    """Drop a job that notes the clock; return the seconds from the rename to its note, once the worker is idle again."""
    temporary = node.spool / ".part"
    temporary.write_text(dumps({"command": [DATE, FORM]}))
    started_ns = time.time_ns()
    temporary.rename(node.spool / f"{name}.toml")
    found: list[Path] = []
    place.wait_for(lambda: bool(found or found.extend(node.records("done", name)) or found), look_s=0.002)
    time.sleep(0.02)  # what follows the filing is done, so the next drop meets an idle worker
    return (int((found[0] / "output.log").read_text()) - started_ns) / 1e9
