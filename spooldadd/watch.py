"""Sleep until there may be something to see. Events are hints: what was missed, the next scan finds.

Uses watchdog's inotify layer without its threads: the descriptor goes into the worker's own poll, so that a drop is
noticed after one wake-up instead of three, and our own renames out of the directory are not asked for at all (watchdog's
observer would hold back what follows them for half a second).

A watch can go deaf: after an unmount, a remount or a swapped directory it is silent for ever. So it is replaced whenever a
scan finds another directory under the path, finds a file that was never announced, or the kernel dropped events.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watchdog.observers.inotify_c import InotifyEvent, InotifyFD, WatchDescriptor

CREATED, CLOSED, MOVED = "created", "closed", "moved"


@dataclass(frozen=True)
class Hint:
    """An event: this name appeared, was closed after writing, or was moved in."""

    name: str
    kind: str


@dataclass
class _Ears:
    """Collects what the kernel says about one directory; implements watchdog's `WatchCallback`."""

    hints: list[Hint] = field(default_factory=list)
    is_deaf: bool = False
    has_overflown: bool = False

    def on_event(self, event: InotifyEvent) -> None:
        from watchdog.observers.inotify_c import InotifyConstants as Mask  # late: only a worker watches

        if event.mask & (Mask.IN_DELETE_SELF | Mask.IN_MOVE_SELF | Mask.IN_UNMOUNT):
            self.is_deaf = True
            return
        kind = CREATED
        if event.mask & Mask.IN_MOVED_TO:
            kind = MOVED
        elif event.mask & Mask.IN_CLOSE_WRITE:
            kind = CLOSED
        self.hints.append(Hint(os.fsdecode(event.name), kind))

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        del wd
        self.is_deaf = True

    def on_queue_overflow(self) -> None:
        self.has_overflown = True


class Watch:
    """The events of one directory, without its subdirectories."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._inotify: InotifyFD | None = None
        self._ears = _Ears()
        self._identity = (0, 0)

    @property
    def is_on(self) -> bool:
        """Tell whether events are asked for now."""
        return self._inotify is not None

    @property
    def fd(self) -> int:
        """The descriptor that becomes readable when there is a hint. Only while it is on."""
        assert self._inotify is not None
        return self._inotify._inotify_fd  # watchdog offers it to its own thread only

    def start(self) -> None:
        """Begin to listen. Scan afterwards: what came before is not told.

        Raises: OSError where the directory is gone or the user's inotify watches are used up.
        """
        from watchdog.observers.inotify_c import (  # late: only a worker watches
            CallbackId,
            InotifyConstants,
            InotifyFD,
            Mask,
        )

        mask = Mask(
            InotifyConstants.IN_CREATE
            | InotifyConstants.IN_CLOSE_WRITE
            | InotifyConstants.IN_MOVED_TO
            | InotifyConstants.IN_DELETE
            | InotifyConstants.IN_DELETE_SELF
            | InotifyConstants.IN_MOVE_SELF
            | InotifyConstants.IN_ONLYDIR
        )
        _silence_library()
        status = os.stat(self.path)
        inotify = InotifyFD()
        self._ears = _Ears()
        try:
            inotify.add_callback(os.fsencode(self.path), mask, self._ears, CallbackId(0))
        except OSError:
            _close(inotify)
            raise
        self._identity = (status.st_dev, status.st_ino)
        self._inotify = inotify

    def stop(self) -> None:
        """Stop listening; nothing is collected meanwhile."""
        if self._inotify is not None:
            _close(self._inotify)
            self._inotify = None

    def read(self) -> list[Hint]:
        """Return the hints since the last call. Only to be called when the descriptor is readable."""
        if self._inotify is None:
            return []
        for event in self._inotify.read_events():
            self._inotify.handle_event(event)
        hints, self._ears.hints = self._ears.hints, []
        return hints

    def trouble(self, status: os.stat_result) -> str | None:
        """Return why this watch has to be replaced, given what the path leads to now, or None."""
        if self._inotify is None:
            return None
        if self._ears.has_overflown:
            return "the kernel dropped events"
        if self._ears.is_deaf or self._identity != (status.st_dev, status.st_ino):
            return "the directory was replaced or unmounted"
        return None


def _silence_library() -> None:
    """What watchdog has to say we say ourselves; without a handler its words would stand among our log's lines."""
    import logging  # late: watchdog has imported it by now

    logger = logging.getLogger("watchdog")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _close(inotify: InotifyFD) -> None:
    """Close an instance whose thread never ran."""
    inotify._is_reading = False  # or `close` would wait for the thread to do it
    inotify.close()
