"""Measure how quick we are, as ratios against a bare spawn loop in the same run.

    python3 run.py bench [NAME …] [--quick] [--json] [--peers] [--directory DIR]

What is named, or all but the peers. Prints a table; never passes or fails.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench import flow, latency, many_workers, peers, resting, scale, submitting
from tests.bench.measure import Row, machine
from tests.support import SPOOLDADD


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    jobs: int = 2000
    rounds: int = 5
    drops: int = 200
    files: int = 1000
    idle_s: float = 60.0
    running: int = 1000
    sleep_s: float = 60.0
    waiting: int = 100_000
    finished: int = 1_000_000
    starts: int = 20
    workers: int = 40


QUICK = Sizes(500, 3, 40, 200, 10.0, 100, 15.0, 10_000, 20_000, 7, 8)


def main() -> None:
    """Measure what was named."""
    parser = argparse.ArgumentParser(prog="run.py bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(_kinds(QUICK, None))} (default: all but peers)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller: minutes instead of an hour")
    parser.add_argument("--peers", action="store_true", help="other spoolers too, those that are installed")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    parser.add_argument("--directory", help="where the spools are made: the disk that is measured")
    options = parser.parse_args()
    if not os.path.exists(SPOOLDADD):
        parser.error(f"there is no `{SPOOLDADD}` to measure; `python3 run.py bench` installs it")
    if options.directory and not (os.path.isdir(options.directory) and os.access(options.directory, os.W_OK | os.X_OK)):
        parser.error(f"`{options.directory}` is no directory that we may write to; make it, or name another")
    directory = os.path.abspath(options.directory) if options.directory else None
    kinds = _kinds(QUICK if options.quick else Sizes(), directory)
    unknown = [name for name in options.names if name not in kinds]
    if unknown:
        parser.error(f"`{unknown[0]}` is none of: {', '.join(kinds)}")
    wanted = [*(options.names or [name for name in kinds if name != "peers"]), *(["peers"] if options.peers else [])]
    about = machine(directory or tempfile.gettempdir())
    if not options.json:
        print("  ".join(f"{key}: {value}" for key, value in about.items()), flush=True)
    found: list[Row] = []
    for name in dict.fromkeys(wanted):
        for row in kinds[name]():
            found.append(row)
            if not options.json:
                print(row.line(), flush=True)
    if options.json:
        json.dump({"schema": 1, "machine": about, "rows": [row.table() for row in found]}, sys.stdout, indent=2)
        print()


def _kinds(sizes: Sizes, directory: str | None) -> dict[str, Callable[[], list[Row]]]:
    return {
        "flow": lambda: flow.rows(sizes.jobs, sizes.rounds, directory),
        "latency": lambda: latency.rows(sizes.drops, directory),
        "submit": lambda: submitting.rows(sizes.files, sizes.rounds, directory),
        "idle": lambda: resting.idle_rows(sizes.idle_s, directory),
        "running": lambda: resting.running_rows(sizes.running, sizes.sleep_s, directory),
        "waiting": lambda: scale.waiting_rows(sizes.waiting, sizes.rounds, directory),
        "finished": lambda: scale.finished_rows(sizes.finished, sizes.rounds, directory),
        "growth": lambda: scale.growth_rows(sizes.waiting, directory),
        "workers": lambda: many_workers.rows(sizes.workers, sizes.jobs, sizes.rounds, directory),
        "cold": lambda: scale.cold_rows(sizes.starts, directory),
        "peers": lambda: peers.rows(sizes.jobs, sizes.rounds, directory),
    }


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
