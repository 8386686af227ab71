"""Who may start now: the node's width, the widths of queues, and what a person has paused."""

from __future__ import annotations

import time
from collections.abc import Mapping

from spooldadd import commons
from spooldadd.adopted import Adopted
from spooldadd.layout import Layout
from spooldadd.log import Log

# A pause file is looked at this often at most: with a full queue that is ten system calls a second instead of one a job.
PAUSE_LOOK_S = 0.1


class Room:
    """Counts what runs on this node, ours and adopted, against its widths."""

    def __init__(self, places: Layout, jobs: int, queues: Mapping[str, int], adopted: Adopted, log: Log) -> None:
        self._places = places
        self._jobs = jobs
        self._widths = queues
        self._adopted = adopted
        self._log = log
        self._queues: dict[str, str] = {}  # record -> queue, of what our supervisors run
        self._paused: dict[str, bool] = {}
        self._said: set[str] = set()
        self.look_at = 0.0  # by the monotonic clock; set to 0 to look at the pause files at once

    def __len__(self) -> int:
        return len(self._queues) + len(self._adopted)

    @property
    def ours(self) -> int:
        """How many jobs our own supervisors run."""
        return len(self._queues)

    @property
    def free(self) -> int:
        """How many more jobs this node may run; below zero where more were adopted than it is wide."""
        return self._jobs - len(self)

    def enter(self, record: str, queue: str) -> None:
        """A supervisor of ours has started this record."""
        self._queues[record] = queue

    def leave(self, record: str) -> None:
        """A supervisor of ours is done with this record."""
        self._queues.pop(record, None)

    def is_open(self, queue: str) -> bool:
        """Tell whether a job of this queue may start, as far as the queue goes."""
        if self._is_paused(queue):
            return False
        width = self._widths.get(queue)
        return width is None or self._running_of(queue) < width

    @property
    def has_pause(self) -> bool:
        """Tell whether a queue that has jobs is paused, so that somebody should look again."""
        return any(self._paused.values())

    def _running_of(self, queue: str) -> int:
        ours = sum(1 for running in self._queues.values() if running == queue)
        return ours + self._adopted.count(queue)

    def _is_paused(self, queue: str) -> bool:
        now = time.monotonic()
        if now >= self.look_at:
            self._paused.clear()
            self.look_at = now + PAUSE_LOOK_S
        if queue not in self._paused:
            self._paused[queue] = any(map(commons.is_paused_by, self._places.pause_files(queue)))
            self._say(queue)
        return self._paused[queue]

    def _say(self, queue: str) -> None:
        if self._paused[queue] and queue not in self._said:
            self._said.add(queue)
            self._log.info("paused", queue=queue)
        elif not self._paused[queue] and queue in self._said:
            self._said.discard(queue)
            self._log.info("resumed", queue=queue)
