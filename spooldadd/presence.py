"""What this worker says of its node, with each heartbeat: how wide it is, what it runs, how it looks at the spool.

If we die here: `nodes` says what becomes of the entry.
"""

from __future__ import annotations

import os
import socket
import time

from spooldadd import record, spool
from spooldadd.config import Config
from spooldadd.errors import SpoolError
from spooldadd.nodefile import NodeFile
from spooldadd.placement import Needs
from spooldadd.release import __version__
from spooldadd.sources import Sources
from spooldadd.takeover import Rule


class Presence:
    """The entry of this worker's node, and what stands in it."""

    def __init__(self, the_spool: spool.Spool, config: Config, jobs: int, rule: Rule) -> None:
        self._holder = the_spool.holder
        self._config = config
        self._jobs = jobs
        self._started_at = record.moment(time.time())
        self._rule = rule
        self._file = NodeFile(the_spool.places, the_spool.holder.node, self._holder.boot_id if rule.is_shared else "")
        self._said: dict[str, object] = {}

    def beat(self, sources: Sources, taken: Needs, *, state: str, running: int, waiting: int) -> bool:
        """Say how it stands; return whether the entry is ours to write. Raises: OSError."""
        self._said = {
            "node": self._holder.node,
            "host": socket.gethostname(),
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
            "beat_s": round(self._rule.beat_s, 3),
            "takeover": self._rule.words,
            "load": round(os.getloadavg()[0], 2),
            "started_at": self._started_at,
            "now": record.moment(time.time()),  # shown to people, never compared
            "holds_lock": True,  # only who holds it writes
        }
        return self._file.beat(self._said)

    def leave(self) -> None:
        """Let go of the entry; the last words stay. Where other machines read them, they say that we have gone."""
        if self._rule.is_shared and self._file.is_ours:
            try:
                self._file.beat({**self._said, "now": record.moment(time.time()), "state": "stopped", "holds_lock": False})
            except (OSError, SpoolError):
                pass  # the others see our counter stand still
        self._file.leave()
