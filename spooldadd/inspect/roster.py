"""The nodes of a spool one by one: alive or silent and how that is known here, since when, what they say of themselves.

What is known here is the lock of a node, where it can be tried, and its counter, which takes two looks. A lock that is held
tells that somebody lives, wherever he is; a free one tells the contrary only on the same machine, or where locks were proven
to reach from node to node. Clocks are compared for information only: nothing is decided by them.

If we die here: a temporary file in `.spool/nodes/`, of the look at the file system's clock; the next look takes its name.
"""

from __future__ import annotations

import os
import time

from spooldadd import durable, nodes
from spooldadd.inspect import tables, workers
from spooldadd.layout import Layout

TYPE_CHECKING = False  # not from `typing`: that import alone would take a tenth of the time of `status`
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ALIVE, SILENT, STOPPED, UNKNOWN = "alive", "silent", "stopped", "unknown"
# What a node beats when its entry does not say, as the releases did that said nothing.
USUAL_BEAT_S = 10.0
# One late beat makes nobody silent.
SILENT_BEATS = 3
_LOOK_EVERY_S = 0.1
_CLOCK_FILE = f"{durable.TEMPORARY}clock"


class Seen:
    """One node: what it says, and what we made of it."""

    __slots__ = ("clock_s", "how", "locks", "moved", "name", "said_at_s", "state", "table")

    def __init__(self, name: str, table: Mapping[str, object], said_at_s: float | None) -> None:
        self.name = name
        self.table = table
        self.said_at_s = said_at_s  # when its entry changed last, as the spool's file system says
        self.state, self.how = UNKNOWN, ""
        self.moved = False
        self.locks = UNKNOWN
        self.clock_s: float | None = None

    @property
    def beat_s(self) -> float:
        """How often it says that it writes."""
        said = self.table.get("beat_s")
        return float(said) if isinstance(said, (int, float)) and said > 0 else USUAL_BEAT_S

    @property
    def mark(self) -> tuple[object, object, object]:
        """What changes with each of its beats."""
        return self.table.get("boot_id"), self.table.get("pid"), self.table.get("heartbeat")

    def settle(self, state: str, how: str) -> None:
        """Note what it is, and how we know."""
        self.state, self.how = state, how


def look(places: Layout, watch_s: float, only: str | None = None) -> list[Seen]:
    """Look at every node, or one; as long as `watch_s` at the counters of those whose lock does not tell."""
    found = _read(places, only)
    verdicts = _proofs(places)
    for seen in found:
        seen.locks = _locks(verdicts, seen.name)
        _try_lock(places, seen)
    _watch(places, [seen for seen in found if seen.state == UNKNOWN], watch_s)
    offset_s = file_system_clock_s(places, time.time)
    for seen in found:
        seen.clock_s = _clock(seen, offset_s)
    return found


def file_system_clock_s(places: Layout, clock: Callable[[], float]) -> float | None:
    """Return how far the spool's file system is ahead of our clock, or None where we cannot write there."""
    path = os.path.join(places.nodes, _CLOCK_FILE)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        before_s = clock()
        os.write(fd, b"\n")
        os.fsync(fd)  # so that the server has given it its time
        after_s = clock()
        written_s = os.fstat(fd).st_mtime
    except OSError:
        return None
    finally:
        os.close(fd)
        _remove(path)
    # A kernel stamps files with the time of its last tick, up to 10 ms ago.
    return 0.0 if before_s - 0.01 <= written_s <= after_s else written_s - (before_s + after_s) / 2


def records_of(places: Layout, node: str) -> list[str]:
    """Return the running records whose claim, or lock file, names this node."""
    found = []
    for entry in sorted(os.listdir(places.running)):
        claimed = tables.read(os.path.join(places.running, entry, "claim.toml")) or tables.read(places.lock(entry)) or {}
        if claimed.get("node") == node:
            found.append(entry)
    return found


def _read(places: Layout, only: str | None) -> list[Seen]:
    found = []
    for entry in sorted(os.listdir(places.nodes)):
        name = entry.removesuffix(".toml")
        if workers.is_entry(entry) and only in (None, name):
            path = os.path.join(places.nodes, entry)
            table = tables.read(path)
            found.append(Seen(name, table or {}, _changed_at_s(path)))
    return found


def _proofs(places: Layout) -> list[tuple[str, str, str]]:
    """Return who saw what of whose locks."""
    try:
        entries = sorted(os.listdir(places.proofs))
    except OSError:
        return []
    found = []
    for entry in entries:
        peers = (tables.read(os.path.join(places.proofs, entry)) or {}).get("peers") if entry.endswith(".toml") else None
        if isinstance(peers, dict):
            found += [(entry.removesuffix(".toml"), peer, str(seen)) for peer, seen in peers.items()]
    return found


def _locks(verdicts: list[tuple[str, str, str]], node: str) -> str:
    """One who saw them apart is believed."""
    about = {seen for observer, peer, seen in verdicts if node in (observer, peer)}
    return "private" if "private" in about else "shared" if "shared" in about else UNKNOWN


def _try_lock(places: Layout, seen: Seen) -> None:
    is_held = nodes.is_serving(places, seen.name)
    lock = os.path.join(places.nodes, f"{seen.name}.lock")
    is_shut = os.path.lexists(lock) and not os.access(lock, os.R_OK)
    granted = not is_held and os.access(lock, os.R_OK)
    if is_held:
        seen.settle(ALIVE, "its lock is held")
    elif is_shut and workers.is_serving(places, seen.name, seen.table):  # on a spool for many users it is for root alone
        seen.settle(ALIVE, "its process lives, on this machine")
    elif seen.table.get("state") == STOPPED:
        seen.settle(STOPPED, "it said so")
    elif granted and seen.table.get("boot_id") == _boot_id():
        seen.settle(SILENT, "its lock is free, on this machine")
    elif granted and seen.locks == "shared":
        seen.settle(SILENT, "its lock is free, and locks reach from node to node")


def _watch(places: Layout, doubtful: list[Seen], watch_s: float) -> None:
    """Look at counters until each has moved or the time is over. Time is ours alone."""
    began = time.monotonic()
    left = doubtful
    while left and time.monotonic() - began < watch_s:
        time.sleep(_LOOK_EVERY_S)
        for seen in left:
            path = os.path.join(places.nodes, f"{seen.name}.toml")
            now = Seen(seen.name, tables.read(path) or seen.table, None)
            if now.mark != seen.mark:
                seen.table, seen.said_at_s = now.table, _changed_at_s(path)
                seen.settle(ALIVE, "its heartbeat moves")
        left = [seen for seen in left if seen.state == UNKNOWN]
    for seen in left:
        watched = f"its heartbeat stood still for {watch_s:g} s"
        if watch_s >= SILENT_BEATS * seen.beat_s:
            seen.settle(SILENT, watched)
        else:
            seen.settle(UNKNOWN, watched + f"; it beats every {seen.beat_s:g} s")


def _clock(seen: Seen, offset_s: float | None) -> float | None:
    """Return how far its clock is ahead of ours: both against the file system's."""
    now = seen.table.get("now")
    if offset_s is None or seen.said_at_s is None or not hasattr(now, "timestamp"):
        return None
    return float(now.timestamp()) - seen.said_at_s + offset_s


def _changed_at_s(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""
