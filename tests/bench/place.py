"""A spool to measure on, filled and served by the real command, and what its processes cost."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spooldadd import process
from tests.support import Node, processes_of

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
SPEC = 'command = ["/bin/true"]\n'


@contextmanager
def spool(durability: str, directory: str | None, **options: Any) -> Iterator[Node]:
    """Give a fresh spool on the disk that is measured; nothing of it is left when all was measured.

    Not before: ext4 makes files up to fifty times slower beside thousands that were deleted within the last minutes.
    """
    root = tempfile.mkdtemp(prefix="spooldadd-bench-", dir=directory)
    atexit.register(_remove, root)
    node = Node(Path(root), durability=durability, settle=None, **options)
    try:
        yield node
    finally:
        node.end()


def _remove(root: str) -> None:
    """Remove what was measured on, and say so: a million records take minutes, on a disk that discards an hour."""
    if not _removed:
        print("removing what was made; what is left when this is interrupted is called `spooldadd-bench-…`", file=sys.stderr)
    _removed.append(root)
    try:
        shutil.rmtree(root, ignore_errors=True)
    except KeyboardInterrupt:
        print(f"interrupted; remove what is left of `{root}`", file=sys.stderr)


_removed: list[str] = []


def fill(node: Node, jobs: int, text: str = SPEC) -> None:
    """Drop that many specs, each by a rename, as a submitter does; `{number}` in the text is which it is."""
    for number in range(jobs):
        temporary = node.spool / ".part"
        temporary.write_text(text.replace("{number}", str(number)))
        temporary.rename(node.spool / f"job-{number}.toml")


def wait_for(condition: Callable[[], bool], deadline_s: float = 900.0, look_s: float = 0.01) -> float:
    """Wait for a condition; return when it held, by `perf_counter`. Raises: TimeoutError."""
    end = time.perf_counter() + deadline_s
    while not condition():
        if time.perf_counter() > end:
            raise TimeoutError(f"not within {deadline_s:g} s")
        time.sleep(look_s)
    return time.perf_counter()


def count(directory: Path) -> int:
    """Count what is in a directory; of a large one the kernel's link count tells it without a walk, where it does."""
    links = directory.stat().st_nlink - 2
    return links if links >= 0 else len(os.listdir(directory))


def cpu_of(pids: list[int]) -> tuple[float, float]:
    """Return the CPU seconds of these processes, and those of their children that were reaped."""
    own = reaped = 0.0
    for pid in pids:
        try:
            fields = Path("/proc", str(pid), "stat").read_text().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        own += (int(fields[11]) + int(fields[12])) * TICK_S
        reaped += (int(fields[13]) + int(fields[14])) * TICK_S
    return own, reaped


def run_s(pids: list[int]) -> float:
    """Return how long these processes have run, to the nanosecond.

    `cpu_of` counts ticks, and one that wakes up with the timer's tick is charged the whole of it: ten times what it used.
    """
    total = 0
    for pid in pids:
        for task in Path("/proc", str(pid), "task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def pss_bytes(pids: list[int]) -> int:
    """Return the memory of these processes, what they share counted once (proportional set size)."""
    total = 0
    for pid in pids:
        try:
            text = Path("/proc", str(pid), "smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def wakeups(pids: list[int]) -> int:
    """Return how often these processes have been given a processor because they waited for something."""
    total = 0
    for pid in pids:
        try:
            found = [(task / "status").read_text() for task in Path("/proc", str(pid), "task").iterdir()]
        except OSError:  # it has ended, as idle supervisors do
            continue
        for line in "".join(found).splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def ours(node: Node) -> list[int]:
    """Return worker, launcher and supervisors; not the jobs."""
    return [pid for pid in processes_of(node.work) if _is_ours(pid)]


def _is_ours(pid: int) -> bool:
    try:
        command = Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return False
    return b"spooldadd" in command and process.start_ticks(pid) is not None
