"""Many workers, one queue: jobs of `/bin/true` a second, and how many claims are lost to another worker once they began.

Each worker is a process of its own under a node name of its own, one job wide, on one directory of kind `shared`. The same
jobs are run by one worker first. Every worker is let settle before the jobs are dropped, all at once, as a burst.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from spooldadd import mark
from tests.bench.measure import Row
from tests.support import Node, until

SPEC = 'command = ["/bin/true"]\n'
ENVIRON = {"SPOOLDADD_INTAKE__SETTLE": "0s", "SPOOLDADD_INTAKE__SCAN_INTERVAL": "3s", "SPOOLDADD_TAKEOVER__AFTER": "30s"}


def rows(workers: int, jobs: int, directory: str | None) -> list[Row]:
    """Have one worker run the jobs, then so many."""
    (_, one_rate, _), (start_s, rate, lost) = (run(count, jobs, directory) for count in (1, workers))
    return [
        Row(f"{workers} workers on one spool: throughput against one worker's", rate / one_rate, "x", 1, at_least=True),
        Row(f"{workers} workers on one spool: claims lost to another", 100 * lost, "%", 5),
        Row(f"{workers} workers on one spool: all have started and met after", start_s, "s"),
    ]


def run(workers: int, jobs: int, directory: str | None) -> tuple[float, float, float]:
    """Return how long it took until all had started and met, jobs a second, and the part of claims that were lost."""
    root = Path(tempfile.mkdtemp(prefix="spooldadd-bench-", dir=directory))
    node = Node(root, environ=ENVIRON, kind=mark.SHARED, durability="process", settle=None)
    try:
        (node.spool / "paused").touch()
        began = time.monotonic()
        for number in range(workers):
            start(node, f"node-{number}")
        until(lambda: node.said().count("event=worker-started") == workers, "all have started", 300)
        until(
            lambda: len(list((node.spool / ".spool" / "proofs").glob("*.toml"))) == workers or workers == 1, "all met", 300
        )
        start_s = time.monotonic() - began
        staging = root / "staging"
        staging.mkdir()
        for number in range(jobs):
            (staging / f"job-{number}.toml").write_text(SPEC)
        for path in sorted(staging.iterdir()):
            path.rename(node.spool / path.name)
        began = time.monotonic()
        (node.spool / "paused").unlink()
        until(lambda: len(list((node.spool / "done").iterdir())) >= jobs, "all are done", 900)
        took_s = time.monotonic() - began
        said = node.said()
        lost, claimed = len(re.findall("event=claim-lost", said)), len(re.findall("event=claimed", said))
        names = [entry.name.split(".")[0] for state in ("done", "failed") for entry in (node.spool / state).iterdir()]
        assert claimed == len(names) == len(set(names)) == jobs, (claimed, len(names), len(set(names)), jobs)
        return start_s, jobs / took_s, lost / (claimed + lost)
    finally:
        node.close()
        shutil.rmtree(root, ignore_errors=True)


def start(node: Node, name: str) -> None:
    """Start a worker without waiting for it."""
    with node.log.open("ab") as log:
        command = [*node.command, "worker", str(node.spool), "--node", name, "--jobs", "1"]
        environ = {**node.environ, "SPOOLDADD_LOG__LEVEL": "debug"}
        worker = subprocess.Popen(
            command, stderr=log, stdout=log, stdin=subprocess.DEVNULL, env=environ, start_new_session=True
        )
    node.workers.append(worker)
