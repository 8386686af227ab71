"""What a node has for jobs that say what they take of it, and how much of that this process finds by itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from pydantic import Field

from spooldadd.placement import MILLI, Needs
from spooldadd.spec.fields import Cpus, Gpus, MemorySize
from spooldadd.spec.models import Table

CGROUPS = "/sys/fs/cgroup"


def default_cpus() -> float:
    """Count the processors that this process may use."""
    return float(len(os.sched_getaffinity(0)))


def default_memory_bytes(read: Callable[[str], str] | None = None) -> int:
    """Return the machine's memory, or the least that a control group of ours leaves of it.

    Source: proc(5), `/proc/meminfo` and `/proc/self/cgroup`; cgroups(7); the kernel's cgroup-v2, `memory.max`.
    """
    read = read or _read
    lines = read("/proc/meminfo").splitlines()
    total = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")), 0)
    return min([total or 2**30, *_limits(read)])


class Capacity(Table):
    """What this node has for jobs whose spec says what they take of it."""

    cpus: Cpus = Field(default_factory=default_cpus, description="Processors; unset, those that the worker may use.")
    memory_bytes: MemorySize = Field(
        default_factory=default_memory_bytes,
        alias="memory",
        description="Memory; unset, the machine's, or what the worker's control group leaves of it.",
    )
    gpus: Gpus = Field(default=0, description="GPUs; jobs get them by their numbers, from 0.")

    def needs(self) -> Needs:
        """Return it in the terms of those who count."""
        return Needs(round(self.cpus * MILLI), self.memory_bytes, self.gpus)


def _limits(read: Callable[[str], str]) -> Iterator[int]:
    """Yield the memory limit of each control group that we are in, from the innermost to the root."""
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            base, file = CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            base, file = os.path.join(CGROUPS, "memory"), "memory.limit_in_bytes"
        else:
            continue
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts), -1, -1):
            text = read(os.path.join(base, *parts[:depth], file)).strip()
            if text.isdigit() and int(text) >= 2**20:
                yield int(text)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
