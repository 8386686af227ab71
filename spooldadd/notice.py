"""Leave word that the end of an attempt is to be told: one empty file, made before the record is filed. Light.

`.spool/notify/<node>/<name of the running record>`: the notifier of that node removes it when the letter is in the outbox.
So nobody ever looks through `done/` for what was not told yet.

If we die here: before the file is made, the record has a result and is filed by recovery, which makes the file then; after
it, the notifier waits until the record is filed.
"""

from __future__ import annotations

import os

from spooldadd import durable, lifecycle
from spooldadd.bare import signal
from spooldadd.layout import Layout

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Mapping

FAILURES = frozenset({"failure", "lost", "recovery"})  # for a recovery the failure has to be known


class Telling:
    """What is to be told of a job, and the program that tells it."""

    __slots__ = ("command", "environ", "failing", "on")

    def __init__(self) -> None:
        self.on: list[str] = []  # nothing is told where it is empty
        self.failing = ""  # exists while jobs of this name fail
        self.command: list[str] = []  # the notifier's; only a supervisor without a worker needs it
        self.environ: dict[str, str] = {}  # for it, on top of our own


def is_wanted(telling: Telling, result: Mapping[str, object]) -> bool:
    """Tell whether somebody is to hear of this end. A success costs one system call."""
    if not telling.on or result.get("outcome") == lifecycle.CANCELLED:
        return False
    if result.get("state") == lifecycle.FAILED:
        return not FAILURES.isdisjoint(telling.on)
    if result.get("state") != lifecycle.DONE:
        return False  # there will be another attempt
    return "success" in telling.on or os.access(telling.failing, os.F_OK)


def path_of(places: Layout, node: str, record: str) -> str:
    """Return the path of the file for this running record."""
    return os.path.join(places.notify, node, record)


def leave(places: Layout, node: str, record: str, *, sync: bool) -> None:
    """Make the file, where it is not there yet. Raises: OSError."""
    path = path_of(places, node, record)
    try:
        _make(path, sync=sync)
    except FileNotFoundError:
        # Never the spool itself: where it is away, nothing may look like it.
        for directory in (places.notify, os.path.dirname(path)):
            _make_directory(directory, sync=sync)
        _make(path, sync=sync)


def mark_failing(telling: Telling) -> None:
    """Let the next success of this name be told, also when it comes before the notifier has looked. A hint only."""
    try:
        os.close(os.open(telling.failing, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except OSError:
        pass


def become_notifier(telling: Telling, places: Layout, own: tuple[str, str]) -> None:
    """Become the notifier, where word of ours (node, record) is still unheard. Returns where that is not so or cannot be.

    Never started as a child: a supervisor that took another job would end it together with that job's processes.
    """
    if not os.path.lexists(path_of(places, *own)):
        return
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execve(telling.command[0], telling.command, {**os.environ, **telling.environ})
    except OSError:
        pass  # this Python is gone: the next worker tells it


def _make(path: str, *, sync: bool) -> None:
    try:
        durable.write_new(path, b"", sync=False)
    except FileExistsError:
        return
    if sync:
        durable.sync_directory(os.path.dirname(path))


def _make_directory(path: str, *, sync: bool) -> None:
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    if sync:
        durable.sync_directory(os.path.dirname(path))
