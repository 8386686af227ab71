"""What this worker says of its node, with each heartbeat: how wide it is, what it runs, how it looks at the spool.

If we die here: `nodes` says what becomes of the entry.
"""

from __future__ import annotations

import os
import time

from spooldadd import record, spool
from spooldadd.config import Config
from spooldadd.nodes import NodeFile
from spooldadd.placement import Needs
from spooldadd.release import __version__
from spooldadd.sources import Sources


class Presence:
    """The entry of this worker's node, and what stands in it."""

    def __init__(self, the_spool: spool.Spool, config: Config, jobs: int) -> None:
        self._holder = the_spool.holder
        self._config = config
        self._jobs = jobs
        self._started_at = record.moment(time.time())
        self._file = NodeFile(the_spool.places, the_spool.holder.node)

    def beat(self, sources: Sources, taken: Needs, *, state: str, running: int, waiting: int) -> bool:
        """Say how it stands; return whether the entry is ours to write. Raises: OSError."""
        return self._file.beat(
            {
                "node": self._holder.node,
                "release": __version__,
                "pid": self._holder.worker_pid,
                "boot_id": self._holder.boot_id,
                "state": state,
                "jobs": self._jobs,
                "running": running,
                "waiting": waiting,
                "queues": dict(self._config.queues),
                "suffixes": list(self._config.intake.suffixes),
                "labels": list(self._config.labels),
                "capacity": self._config.capacity.needs().table(),
                "taken": taken.table(),
                "work_dir": self._config.work_dir,
                "settle_s": sources.settle_s,
                "scan_s": sources.scan_s,
                "load": round(os.getloadavg()[0], 2),
                "started_at": self._started_at,
                "now": record.moment(time.time()),  # shown to people, never compared
            }
        )

    def leave(self) -> None:
        """Let go of the entry; the last words stay."""
        self._file.leave()
