"""Jobs that run on this node under no supervisor of ours: a dead worker's, or a dead supervisor's that left its job alive.

They take up room like our own, and somebody has to notice when they end.
"""

from __future__ import annotations

import os

from spooldadd import claim, durable, layout, process, record, recovery
from spooldadd.errors import ClaimLost, SpoolError
from spooldadd.log import Log


class Adopted:
    """The records to look after. Each look costs two system calls a record."""

    def __init__(self, context: recovery.Context, log: Log) -> None:
        self._context = context
        self._log = log
        self._queues: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._queues)

    def count(self, queue: str) -> int:
        """Return how many of them belong to this queue."""
        return sum(1 for other in self._queues.values() if other == queue)

    def notice(self, name: str) -> None:
        """Look after a running record, unless a living worker of this node or another node does."""
        if name in self._queues:
            return
        claimed = self._read_claim(name)
        own = self._context.spool.holder
        if claimed is None or claimed.get("node") != own.node:
            return
        pid, _, start = str(claimed.get("worker", "")).partition(".")
        is_own = (pid, start) == (str(own.worker_pid), str(own.worker_start))
        same_boot = claimed.get("boot_id") == own.boot_id
        if not is_own and same_boot and pid.isdigit() and start.isdigit() and process.is_alive(int(pid), int(start)):
            return
        self.add_record(name)

    def add_record(self, name: str) -> None:
        """Look after a record whose supervisor was ours."""
        claimed = self._read_claim(name) or {}
        self._queues[name] = str(claimed.get("queue", "default"))

    def forget(self, name: str) -> None:
        """A supervisor of ours looks after this record after all: it was claimed a moment before we heard of it."""
        self._queues.pop(name, None)

    def check(self) -> dict[str, recovery.Found]:
        """Recover what has ended; return what it was. A record in trouble is looked at again later."""
        ended: dict[str, recovery.Found] = {}
        for name in self._queues:
            try:
                found = recovery.recover(self._context, name)
                if found is recovery.Found.RUNNING:
                    self._heed_cancel(name)
                elif found is not recovery.Found.ENDING:
                    ended[name] = found
            except ClaimLost:
                ended[name] = recovery.Found.GONE
            except (SpoolError, OSError) as error:
                self._log.warning("spool-trouble", record=name, error=str(error), then="trying again later")
        for name in ended:
            del self._queues[name]
        return ended

    def _heed_cancel(self, name: str) -> None:
        """A supervisor hears of a cancel by itself; where it is dead, somebody else has to end the job."""
        path = os.path.join(self._context.places.running, name)
        if not durable.is_listed(os.path.join(path, layout.CANCEL)):
            return
        holder = claim.read_holder(self._context.places, name)
        if not process.is_alive(holder.supervisor_pid, holder.supervisor_start):
            self._context.strays.are_gone(self._context.places, name, self._log)

    def _read_claim(self, name: str) -> dict[str, object] | None:
        return record.read_table(os.path.join(self._context.places.running, name, layout.CLAIM))
