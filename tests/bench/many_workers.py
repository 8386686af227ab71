"""Many workers, one queue: jobs of `/bin/true` a second, and how many claims are lost to another worker once they began.

Each worker is a process of its own under a node name of its own, one job wide, on one directory of kind `shared`. The same
jobs are run by one worker, in turn. Every worker is let settle before the jobs are dropped, all at once, as a burst.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from spooldadd import mark
from tests.bench import place
from tests.bench.measure import Row, interleaved, quantile, ratio
from tests.support import Node, until

EARLY_S = 6.0  # a worker's first beats come faster, so that the others know it soon
ENVIRON = {"SPOOLDADD_INTAKE__SETTLE": "0s", "SPOOLDADD_INTAKE__SCAN_INTERVAL": "3s", "SPOOLDADD_TAKEOVER__AFTER": "30s"}


class Run(NamedTuple):
    """How long it took until all had started and met, jobs a second, and the part of claims that were lost."""

    start_s: float
    rate: float
    lost: float


def rows(workers: int, jobs: int, rounds: int, directory: str | None) -> list[Row]:
    """Have one worker and so many run the jobs, in turn."""
    runs: dict[int, list[Run]] = {1: [], workers: []}

    def rate(count: int) -> float:
        runs[count].append(run(count, jobs, directory))
        return runs[count][-1].rate

    found = interleaved({"one": partial(rate, 1), "many": partial(rate, workers)}, rounds)
    start_s, _, lost = (quantile(list(values), 0.5) for values in zip(*runs[workers], strict=True))
    return [
        Row(
            f"{workers} workers on one spool: throughput against one worker's",
            ratio(found, "many", "one"),
            "x",
            1,
            at_least=True,
        ),
        Row(f"{workers} workers on one spool: claims lost to another", 100 * lost, "%", 5),
        Row(f"{workers} workers on one spool: all have started and met after", start_s, "s"),
    ]


def run(workers: int, jobs: int, directory: str | None) -> Run:
    """Have so many workers, each one job wide, run so many jobs."""
    with place.spool("process", directory, environ=ENVIRON, kind=mark.SHARED) as node:
        (node.spool / "paused").touch()
        began = time.monotonic()
        for number in range(workers):
            start(node, f"node-{number}")
        until(lambda: node.said().count("event=worker-started") == workers, "all have started", 300)
        until(lambda: len(_proofs(node)) == workers or workers == 1, "all met", 300)
        start_s = time.monotonic() - began
        time.sleep(EARLY_S)
        staging = node.spool.parent / "staging"
        staging.mkdir()
        for number in range(jobs):
            (staging / f"job-{number}.toml").write_text(place.SPEC)
        for path in sorted(staging.iterdir()):
            path.rename(node.spool / path.name)
        began = time.monotonic()
        (node.spool / "paused").unlink()
        until(lambda: len(os.listdir(node.spool / "done")) >= jobs, "all are done", 900)
        took_s = time.monotonic() - began
        return Run(start_s, jobs / took_s, _lost(node, jobs))


def _proofs(node: Node) -> list[Path]:
    return list((node.spool / ".spool" / "proofs").glob("*.toml"))


def _lost(node: Node, jobs: int) -> float:
    """Return the part of claims that were lost; each job was claimed once and filed once."""
    said = node.said()
    lost, claimed = len(re.findall("event=claim-lost", said)), len(re.findall("event=claimed", said))
    names = [name.split(".")[0] for state in ("done", "failed") for name in os.listdir(node.spool / state)]
    assert claimed == len(names) == len(set(names)) == jobs, (claimed, len(names), len(set(names)), jobs)
    return lost / (claimed + lost)


def start(node: Node, name: str) -> None:
    """Start a worker without waiting for it."""
    with node.log.open("ab") as log:
        command = [*node.command, "worker", str(node.spool), "--node", name, "--jobs", "1"]
        environ = {**node.environ, "SPOOLDADD_LOG__LEVEL": "debug"}
        worker = subprocess.Popen(
            command, stderr=log, stdout=log, stdin=subprocess.DEVNULL, env=environ, start_new_session=True
        )
    node.workers.append(worker)
