"""End what a lost attempt left running on this machine without its lease, and wait for nothing meanwhile.

A job's processes are known by their environment, which names the spool by its id and the record by its name: so they are
found under whatever path the spool was mounted when they were started. Jobs of older releases are known by the record's
path.

If we die here: processes that were asked to end; the next worker finds those that stay, and asks them again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from spooldadd import layout, ownership, process
from spooldadd.log import Log

# How long they get between TERM and KILL. Their supervisor is dead, so the spec's own `kill_after` is out of reach; ten
# seconds is its default.
STRAYS_S = 10.0
# What the kernel cannot kill, a process in a hung call for one, is left to it after this time.
UNKILLABLE_S = 5.0


class Strays:
    """What is being ended: since when, by record. Each look costs a pass over the machine's processes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_at: dict[str, float] = {}
        self._killed_at: dict[str, float] = {}

    def are_gone(self, places: layout.Layout, record: str, log: Log) -> bool:
        """Ask what is left of this record to end, or force it; return whether nothing is left, or nothing can be done."""
        left = find(places, record)
        if not left:
            self._forget(record)
            return True
        now = self._clock()
        if record not in self._asked_at:
            self._asked_at[record] = now
            log.warning("left-processes", record=record, count=len(left), then="ending them")
            process.send(left, 15)
            process.send(left, 18)  # a stopped process would never hear it
        if now - self._asked_at[record] < STRAYS_S:
            return False
        process.send(left, 9)
        if now - self._killed_at.setdefault(record, now) < UNKILLABLE_S:
            return False
        log.warning("left-processes", record=record, count=len(left), then="the kernel does not end them; going on")
        self._forget(record)
        return True

    def _forget(self, record: str) -> None:
        self._asked_at.pop(record, None)
        self._killed_at.pop(record, None)


def find(places: layout.Layout, record: str) -> list[int]:
    """Return the processes on this machine that belong to this record."""
    markers = (
        f"SPOOLDADD_CLAIM={claim_mark(places.id, record)}",
        f"SPOOLDADD_RECORD={os.path.join(places.running, record)}",
    )
    # Of others we do not look: another user could keep it from ever being called lost.
    uids = ownership.users_of(os.path.join(places.running, record)) if places.is_common else None
    return process.marked([os.fsencode(marker) for marker in markers], uids)


def claim_mark(spool_id: str, record: str) -> str:
    """Return what a job's environment says of its claim: the spool's id and the running record's name."""
    return f"{spool_id}/{record}"
