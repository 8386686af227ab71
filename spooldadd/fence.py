"""Notice that a running record is no longer ours, or that a person wants its job to end. Light: the launcher loads it.

Another node may have taken the record over, because ours was silent for it: the name below `running/` is gone then, while
the spool is there, and stays gone at a second look. Its supervisor ends the job and files nothing.

Or the whole spool was deleted: our own lock file has no name any more, and no spool is in its place. Then nobody will ever
want the result. A spool that is only away, unmounted or out of reach, is waited for however long it takes.

On a network file system such a look can hang for a minute, and limits must be kept meanwhile. So there, and only there, a
thread of its own looks (`Lookout`), and how much was printed is read off the offset of the log's descriptor, which the
kernel tells without asking the file system.

If we die here: nothing is held here.
"""

from __future__ import annotations

import _thread
import os
import time

from spooldadd import filing, layout, lifecycle
from spooldadd.errors import ClaimLost
from spooldadd.guard import CLAIM_LOST, Eye, Verdict

# A node that was cut off is late by minutes; two seconds more change nothing, and spare the server.
LOOK_S = 2.0
# How long a spool must be seen to be deleted: who moves a copy of it into place takes no longer.
DELETED_S = 60.0

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Deletion:
    """Tells a spool that was deleted from one that is away, by our lease's descriptor: it outlives the name."""

    __slots__ = ("_after_s", "_lease", "_places", "_since")

    def __init__(self, places: layout.Layout, lease: int, after_s: float = DELETED_S) -> None:
        self._places = places
        self._lease = lease
        self._after_s = after_s
        self._since: float | None = None

    def look(self) -> Verdict | None:
        """Say that the spool is gone for good, once that was seen for long enough. To be asked when the record is missed."""
        if not self._is_deleted():
            self._since = None
            return None
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since < self._after_s:
            return None
        return Verdict(CLAIM_LOST, f"the spool `{self._places.root}` was deleted, and the record with it")

    def _is_deleted(self) -> bool:
        try:
            return not os.fstat(self._lease).st_nlink and not filing.is_spool_here(self._places)
        except OSError:  # the share is away
            return False


def eye_of(
    places: layout.Layout, record: str, logs: Sequence[str], deletion: Deletion, *, is_shared: bool, is_far: bool
) -> Eye:
    """Return what looks after a running record: by itself, or in a thread where a look may hang; `logs` are file names."""
    path = f"{places.running}/{record}"
    if not is_shared and not is_far:
        return Near(f"{path}/{layout.CANCEL}", deletion)
    fence = Fence(places, record, deletion)
    return Lookout(fence.look, [f"{path}/{name}" for name in logs]) if is_far else fence


def refuse_lost(verdict: Verdict | None) -> None:
    """Stop where the record has become somebody else's. Raises: ClaimLost."""
    if verdict is not None and verdict.outcome == CLAIM_LOST:
        raise ClaimLost(verdict.sentence)


class Near(Eye):
    """Looks at a record that only this machine serves: nobody takes it over."""

    __slots__ = ("_deletion", "_record_path")

    def __init__(self, cancel: str, deletion: Deletion) -> None:
        super().__init__(cancel)
        self._record_path = cancel.rpartition("/")[0]
        self._deletion = deletion

    def look(self) -> Verdict | None:
        """Return why the job has to end, or None: one listing, unless the record is gone."""
        try:
            entries = os.listdir(self._record_path)
        except OSError:
            return self._deletion.look()
        return Verdict(lifecycle.CANCELLED, "it was cancelled while it ran") if layout.CANCEL in entries else None


class Fence(Eye):
    """Looks at the record directly: one listing, as without a fence, unless it is gone."""

    __slots__ = ("_deletion", "_places", "_record")

    def __init__(self, places: layout.Layout, record: str, deletion: Deletion) -> None:
        super().__init__(os.path.join(places.running, record, layout.CANCEL))
        self._deletion = deletion
        self._places = places
        self._record = record

    def look(self) -> Verdict | None:
        """Return why the job has to end, or None."""
        try:
            entries = os.listdir(os.path.join(self._places.running, self._record))
        except FileNotFoundError:
            return self._confirm() or self._deletion.look()
        except OSError:  # the share is away, and may come back
            return None
        if layout.CANCEL in entries:
            return Verdict(lifecycle.CANCELLED, "it was cancelled while it ran")
        return None

    def _confirm(self) -> Verdict | None:
        if self._is_gone() and filing.is_spool_here(self._places) and self._is_gone():
            where = self._places.running
            return Verdict(CLAIM_LOST, f"`{self._record}` is no longer in `{where}`: somebody else has taken it over")
        return None

    def _is_gone(self) -> bool:
        """By listing: NFS remembers names for half a minute."""
        try:
            return self._record not in os.listdir(self._places.running)
        except OSError:
            return False


class Lookout(Eye):
    """Looks in a thread of its own, and tells what was seen last."""

    __slots__ = ("_end", "_found", "_look", "_paths", "_size")

    def __init__(self, look: Callable[[], Verdict | None], paths: Sequence[str], every_s: float = LOOK_S) -> None:
        super().__init__("")
        self._look = look
        self._paths = paths
        self._found: Verdict | None = None
        self._size = 0
        self._end = _thread.allocate_lock()
        self._end.acquire()
        _thread.start_new_thread(self._run, (every_s,))

    def look(self) -> Verdict | None:
        """Return what the thread has found, never waiting for it."""
        return self._found

    def printed(self, logs: Sequence[int], before: int) -> int:
        """Return how much was printed: the offset that our descriptors share with the job's, or what the thread saw."""
        return max(before, self._size, sum(map(offset, logs)))

    def close(self) -> None:
        """Let the thread end: at once, or when the call returns in which it hangs."""
        if self._end.locked():
            self._end.release()

    def _run(self, every_s: float) -> None:
        while not self._end.acquire(timeout=every_s):
            self._found = self._found or self._look()
            self._size = sum(map(_size_of, self._paths))


def offset(fd: int) -> int:
    """Return the offset of a descriptor, which all that share it move. Source: proc_pid_fdinfo(5).

    `lseek` would wait for a write that hangs, and `fstat` for the server.
    """
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb", buffering=0) as file:
            return int(file.read(256).split(b"\n", 1)[0].removeprefix(b"pos:"))
    except (OSError, ValueError):
        return 0


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
