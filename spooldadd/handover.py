"""Note in the lock file to whom a lease was handed: the supervisor, then the job. Light: the launcher loads it.

Where locks are mandatory (SMB), only the process that took the lease can read or write what it has locked; a process that
it was handed to gets an error, through the same descriptor too. There the notes go into a file of their own beside it, which
nobody locks; `claim.read_holder` knows both.

If we die here: a file of notes without a record; a worker removes it with the stale lock files.
"""

from __future__ import annotations

import os

from spooldadd import durable, layout, process
from spooldadd.tomltext import flat

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Mapping


class Handover:
    """The notes of one attempt: each supervisor has one."""

    __slots__ = ("_lease", "_node", "_places", "_record", "is_beside")

    def __init__(self, places: layout.Layout, record: str, node: str, lease: int) -> None:
        self._places = places
        self._record = record
        self._node = node
        self._lease = lease
        self.is_beside = False

    def note(self, lines: Mapping[str, object], *, sync: bool) -> None:
        """Add these lines. To be repeated until it succeeds: a part of them may stand there already. Raises: OSError."""
        # On a line of its own, also where a try before was cut short by a full disk.
        data = f"\n{flat(lines)}".encode()
        if not self.is_beside:
            try:
                durable.append(self._lease, self._places.lock(self._record), data, sync=sync)
                return
            except PermissionError:
                self.is_beside = True
        self._note_beside(data, sync=sync)

    def forget(self) -> None:
        """Remove the notes that stand beside the lock file: the record is filed."""
        if self.is_beside:
            try:
                os.unlink(self._places.notes(self._record))
            except OSError:
                pass  # left for the worker's next recovery; it harms nobody

    def _note_beside(self, data: bytes, *, sync: bool) -> None:
        path = self._places.notes(self._record)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, durable.FILE_MODE)
        try:
            if not os.fstat(fd).st_size:
                durable.write_all(fd, flat({"node": self._node, "boot_id": process.boot_id()}).encode())
            durable.write_all(fd, data)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        if sync:
            durable.sync_directory(self._places.locks)
