"""A control group for one attempt: its limits kept by the kernel, its end by one write, its usage counted. Light.

A leaf is a directory in the tree of cgroup v2, made by the supervisor below a place that the worker has found, and removed
when nothing is left in it. Only attempts whose limits need one get one: it costs as much again as a short job. A limit for
which the kernel has no file here is named in `missing`, and is watched where it can be.

If we die here: a leaf, empty or with the job in it. A worker removes it, and ends what is in it, once the record is filed.

Source: Documentation/admin-guide/cgroup-v2.rst of the kernel; decision record 0052.
"""

from __future__ import annotations

import os
import time

from spooldadd import process
from spooldadd.log import Log
from spooldadd.plan import Limits, Plan

PREFIX = "job-"
# Of the spool's id: enough to keep the spools of one machine apart, short enough for a name with a record's in it.
ID_CHARACTERS = 12
PERIOD_US = 100_000  # the kernel's own default
# A leaf is empty some microseconds after its last process was collected.
REMOVE_TRIES, REMOVE_TICK_S = 50, 0.002
NEEDS = ("memory_bytes", "cpus", "tasks")


class Leaf:
    """The group of one attempt."""

    __slots__ = ("kept", "missing", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.kept: list[str] = []
        self.missing: list[str] = []

    def limit(self, limits: Limits) -> None:
        """Have the kernel keep what it can of these limits."""
        wanted = {
            "memory_bytes": ("memory.max", limits.memory_bytes),
            "cpus": ("cpu.max", f"{round((limits.cpus or 0) * PERIOD_US)} {PERIOD_US}" if limits.cpus else None),
            "tasks": ("pids.max", limits.tasks),
        }
        for name, (file, value) in wanted.items():
            if value is not None:
                (self.kept if self._write(file, str(value)) else self.missing).append(name)
        if "memory_bytes" in self.kept:
            self._write("memory.swap.max", "0")  # or the limit would only move the job to the disk
            self._write("memory.oom.group", "1")  # all of the job or nothing, as without a group

    def open(self) -> int:
        """Open the file into which a process writes `0` to enter. Raises: OSError."""
        return os.open(os.path.join(self.path, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)

    def kill(self) -> bool:
        """Kill all that is in it at once, what is being forked too; return whether the kernel can (since 5.14)."""
        return self._write("cgroup.kill", "1")

    def cpu_s(self) -> float | None:
        """Return the processor time that it has used."""
        used_us = self._table("cpu.stat").get("usage_usec")
        return None if used_us is None else used_us / 1e6

    def peak_bytes(self) -> int | None:
        """Return the most memory that it had, with what it kept of files, where the kernel says so (since 5.19)."""
        text = process.read_text(os.path.join(self.path, "memory.peak")).strip()
        return int(text) if text.isdigit() else None

    def oom_kills(self) -> int:
        """Return how many of its processes were killed because it was at its limit of memory."""
        return self._table("memory.events").get("oom_kill", 0)

    def remove(self) -> bool:
        """Remove it; return whether it is gone. One in which something lives stays."""
        for _ in range(REMOVE_TRIES):
            try:
                os.rmdir(self.path)
            except FileNotFoundError:
                return True
            except OSError:
                time.sleep(REMOVE_TICK_S)
            else:
                return True
        return False

    def _write(self, file: str, value: str) -> bool:
        try:
            fd = os.open(os.path.join(self.path, file), os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.write(fd, value.encode())
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def _table(self, file: str) -> dict[str, int]:
        rows = [line.split() for line in process.read_text(os.path.join(self.path, file)).splitlines()]
        return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def is_needed(limits: Limits) -> bool:
    """Tell whether a control group would keep one of these limits."""
    return any(getattr(limits, name) is not None for name in NEEDS)


def make(base: str, spool_id: str, record: str, limits: Limits) -> Leaf | None:
    """Make the leaf of an attempt, with its limits; None where it needs none, or none can be made."""
    if not base or not is_needed(limits):
        return None
    leaf = Leaf(os.path.join(base, leaf_name(spool_id, record)))
    try:
        os.mkdir(leaf.path, 0o755)
    except FileExistsError:  # of a supervisor that died before it had started anything
        pass
    except OSError:
        return None
    leaf.limit(limits)
    return leaf


def of_plan(plan: Plan, log: Log) -> Leaf | None:
    """Make the leaf of a plan's attempt; say which of its limits nobody keeps here."""
    leaf = make(plan.control_group, plan.spool_id, plan.record, plan.limits)
    missing = not_kept(plan.limits, leaf)
    if missing:
        log.warning("limit-not-kept", job=plan.job, limits=", ".join(missing), then="running it without; ask `doctor`")
    return leaf


def watched(limits: Limits, leaf: Leaf | None) -> Limits:
    """Return the limits that are left for the supervisor to watch: not those that the kernel keeps."""
    if leaf is None or "memory_bytes" not in leaf.kept:
        return limits
    rest = Limits()
    for name in Limits.__slots__:
        setattr(rest, name, getattr(limits, name))
    rest.memory_bytes = None
    return rest


def not_kept(limits: Limits, leaf: Leaf | None) -> list[str]:
    """Return the keys of the limits that nobody keeps here. Memory is watched where the kernel does not keep it."""
    wanted = [name for name in ("cpus", "tasks") if getattr(limits, name) is not None]
    return [name for name in wanted if leaf is None or name not in leaf.kept]


def leaf_name(spool_id: str, record: str) -> str:
    """Name the leaf of an attempt."""
    return f"{PREFIX}{spool_id[:ID_CHARACTERS]}-{record}"


def sweep(base: str, spool_id: str, running: str) -> int:
    """End and remove the leaves of this spool's attempts that are no longer in `running`; return how many went."""
    prefix = leaf_name(spool_id, "")
    removed = 0
    for entry in _entries(base):
        if entry.startswith(prefix) and not os.path.lexists(os.path.join(running, entry.removeprefix(prefix))):
            leaf = Leaf(os.path.join(base, entry))
            leaf.kill()
            removed += leaf.remove()
    return removed


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
