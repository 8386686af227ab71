"""What the jobs that run on this node take of it: counted from their claims, ours, adopted ones, and a second worker's.

A claim says what its job takes, and is written before anybody can see it; so the directory `running/` is the account, and
no restart loses it. Two workers of one node must not give the same GPU twice: who claims a job that takes something holds a
lock of the node from its count to its claim.

If we die here: the lock is free again. A claim that was written counts until its record is out of `running/`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from filelock import lock_descriptor

from spooldadd import claim, layout, names, record
from spooldadd.errors import SpooldaddError, SpoolError
from spooldadd.layout import Layout
from spooldadd.placement import MILLI, NOTHING, Needs, free_of

# What a second worker's jobs give back is noticed within this time; ours are told at once.
LOOK_S = 1.0


class NoRoom(SpooldaddError):
    """Somebody else has just taken what this job needs, or is about to; it stays in line."""


@dataclass(frozen=True)
class Taken:
    """What one job takes, and which GPUs."""

    needs: Needs = NOTHING
    gpus: tuple[int, ...] = ()

    def table(self) -> dict[str, object]:
        """Return it as it stands in a claim; nothing where nothing is taken."""
        if self.needs == NOTHING:
            return {}
        table = {"cpus": self.needs.millicpus / MILLI, "memory_bytes": self.needs.memory_bytes}
        found: dict[str, object] = {key: value for key, value in table.items() if value}
        return {**found, "gpus": [str(gpu) for gpu in self.gpus]} if self.gpus else found


class Usage:
    """The account of one node."""

    def __init__(self, places: Layout, node: str, capacity: Needs) -> None:
        self._places = places
        self._node = node
        self.capacity = capacity
        self._known: dict[str, Taken] = {}  # by record; a claim does not change
        self._free = capacity
        self._look_at = 0.0  # by the monotonic clock

    def free(self) -> Needs:
        """Return what is left, as of a moment ago. Raises: OSError."""
        now = time.monotonic()
        if now >= self._look_at:
            self._count()
            self._look_at = now + LOOK_S
        return self._free

    def changed(self) -> None:
        """A job of ours has ended or was claimed: count anew when somebody asks."""
        self._look_at = 0.0

    @property
    def taken(self) -> Needs:
        """What is taken now."""
        return self.capacity.minus(self.free())

    @contextmanager
    def taking(self, needs: Needs) -> Iterator[Taken]:
        """Take this of the node, for a claim that is made meanwhile. Raises: NoRoom, SpoolError."""
        if needs == NOTHING:
            yield Taken()
            return
        lock = self._lock()
        try:
            self._count_all()
            if not needs.fits_in(self._free):
                raise NoRoom("what the job needs has just been taken")
            used = {gpu for taken in self._known.values() for gpu in taken.gpus}
            gpus = [gpu for gpu in range(self.capacity.gpus) if gpu not in used][: needs.gpus]
            if len(gpus) < needs.gpus:
                raise NoRoom("GPUs that this node no longer has are still in use")
            yield Taken(needs, tuple(gpus))
        finally:
            os.close(lock)
            self.changed()

    def _lock(self) -> int:
        path = os.path.join(self._places.locks, f"{layout.inbox(self._node)}.lock")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, claim.LOCK_MODE)
        except OSError as error:
            raise SpoolError(f"`{path}` cannot be opened: {error.strerror}") from error
        try:
            is_ours = lock_descriptor(fd, blocking=False)
        except OSError as error:
            os.close(fd)
            raise SpoolError(f"`{path}` cannot be locked: {error.strerror}") from error
        if not is_ours:
            os.close(fd)
            raise NoRoom(f"another worker of node `{self._node}` is about to claim a job")
        return fd

    def _count_all(self) -> None:
        try:
            self._count()
        except OSError as error:
            raise SpoolError(f"`{self._places.running}` cannot be read: {error.strerror}") from error

    def _count(self) -> None:
        entries = os.listdir(self._places.running)
        self._known = {name: taken for name in entries if (taken := self._known.get(name) or self._read(name)) is not None}
        self._free = free_of(self.capacity, (taken.needs for taken in self._known.values()))

    def _read(self, name: str) -> Taken | None:
        """Return what the claim of a record says; None where there is none yet."""
        parsed = names.parse_record_name(name)
        table = record.read_claim(os.path.join(self._places.running, name), parsed.attempt) if parsed else None
        if table is None:
            return None
        return taken_by(table) if table.get("node") == self._node else Taken()


def taken_by(claim_table: dict[str, object]) -> Taken:
    """Return what a claim says that its job takes. What is damaged takes nothing."""
    cpus, memory, gpus = (claim_table.get(key) for key in ("cpus", "memory_bytes", "gpus"))
    numbers = tuple(int(gpu) for gpu in gpus if str(gpu).isdigit()) if isinstance(gpus, list) else ()
    millicpus = round(cpus * MILLI) if isinstance(cpus, (int, float)) else 0
    return Taken(Needs(millicpus, memory if isinstance(memory, int) else 0, len(numbers)), numbers)
