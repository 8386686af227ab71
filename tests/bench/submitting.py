"""What handing in costs: in a loop from Python, a thousand files by one command, and one command for one file."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from spooldadd import durable
from spooldadd.api import Spool
from tests.bench import place
from tests.bench.measure import Row, interleaved, ratio
from tests.support import Node


def rows(files: int, rounds: int, directory: str | None) -> list[Row]:
    """Measure against a plain loop of write, fsync, rename, fsync of the directory."""
    with place.spool("power", directory) as node:
        sources = [node.spool.parent / f"spec-{number}.toml" for number in range(files)]
        for path in sources:
            path.write_text(place.SPEC)
        spool = Spool(str(node.spool))
        kinds: dict[str, Callable[[], float]] = {
            "plain": lambda: _timed(lambda: _plain(node, files)),
            "loop": lambda: _timed(lambda: [spool.submit(place.SPEC, name="job") for _ in range(files)]),
            "command": lambda: _timed(lambda: node.run("submit", *map(str, sources))),
        }
        found = interleaved(kinds, rounds)
        one_s = [_timed(lambda: node.run("submit", str(sources[0]))) for _ in range(10 * rounds)]
    return [
        Row("`Spool.submit` in a loop, against write-fsync-rename", ratio(found, "loop", "plain"), "x", 1.5),
        Row(f"`spooldadd submit` with {files} files, against the same", ratio(found, "command", "plain"), "x", 2),
        Row("one `spooldadd submit`, median", statistics.median(one_s) * 1e3, "ms", 150),
    ]


def _plain(node: Node, files: int) -> None:
    for number in range(files):
        target = node.spool / f"plain-{number}.toml"
        with Path(f"{target}.part").open("w") as file:
            file.write(place.SPEC)
            file.flush()
            os.fsync(file.fileno())
        Path(f"{target}.part").rename(target)
        durable.sync_directory(str(node.spool))


def _timed(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started
