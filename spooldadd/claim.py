"""The exclusive right to a job: the lease, and who holds it.

A lease is a kernel lock on a lock file of its own. The descriptor is handed on to the supervisor and by it to the job, so
the lease lives exactly as long as they do. It is closed, never unlocked, by those who hand it on: unlocking would free it
for all copies. It is not a `filelock.FileLock`, because such an object lets go at exit and at a fork.

The lock file says who holds it, in lines that only grow: first the claimer, then the supervisor, then the job. That is a
hint for people and for finding processes; the lock alone is the right.

Where a lock keeps others from reading and writing, too (SMB), supervisor and job are noted in a file beside it.

If we die here: a lock file that nobody holds. With a record it is what recovery looks for; without one it is removed.
"""

from __future__ import annotations

import errno
import os
import tomllib
from dataclasses import dataclass

from spooldadd import durable, process
from spooldadd.layout import Layout
from spooldadd.tomltext import flat

LOCK_MODE = 0o600
MAX_BYTES = 1 << 16  # far beyond what anybody notes there


@dataclass(frozen=True)
class Holder:
    """Who took a lease, and which processes it was handed to. Zero where that did not happen yet."""

    node: str = ""
    boot_id: str = ""
    worker_pid: int = 0
    worker_start: int = 0
    supervisor_pid: int = 0
    supervisor_start: int = 0
    job_pid: int = 0
    job_start: int = 0
    notes_first: int = 0  # 1: whoever it is handed to says so on disk before anything starts

    def is_here(self, node: str, boot_id: str) -> bool:
        """Tell whether its processes could be alive on this machine."""
        return self.node == node and self.boot_id == boot_id

    def has_live_process(self) -> bool:
        """Tell whether the supervisor or the job's first process lives. Only to be asked where `is_here`."""
        pairs = ((self.supervisor_pid, self.supervisor_start), (self.job_pid, self.job_start))
        return any(process.is_alive(pid, start) for pid, start in pairs)


_NUMBERS = frozenset(name for name, kind in Holder.__annotations__.items() if kind == "int")


def take_new(places: Layout, record: str, holder: Holder, spares: list[str] | None = None) -> int:
    """Make the lock file of a record that does not exist yet, and take its lease; return the descriptor.

    One of `spares` that can be used is taken out and gets the name. Raises: OSError; then no lock file is left.
    """
    path = places.lock(record)
    while spares:
        lease = _take_spare(spares.pop(), path, holder)
        if lease is not None:
            return lease
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | os.O_EXCL, LOCK_MODE)
    except FileExistsError:  # nobody else draws this name: our own call was repeated, and its first answer lost
        fd = os.open(path, flags, LOCK_MODE)
    if os.fstat(fd).st_size:
        os.close(fd)
        raise FileExistsError(errno.EEXIST, "this lock file is somebody else's", path)
    try:
        if not try_lock(fd) or not _leads_to(path, fd):
            # Whoever removes stale locks came between our open and our lock, and removes it.
            raise BlockingIOError(errno.EAGAIN, "this lock file is new, and yet somebody took it", path)
        durable.write_all(fd, line_of(holder))
    except OSError:
        if _leads_to(path, fd):
            durable.unlink_if_there(path)
        os.close(fd)
        raise
    return fd


def _take_spare(spare: str, path: str, holder: Holder) -> int | None:
    """Take the lease of a lock file that nobody needs, and give it this name; None where that cannot be done.

    If we die here: a spare whose supervisor removes it, or a lock file that nobody holds.
    """
    try:
        # Not to append: what the last holders noted is overwritten. All who are handed the lease share its offset.
        fd = os.open(spare, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # its supervisor had waited for too long, and removed it
        return None
    try:
        if try_lock(fd):  # else something that its job has left behind still holds it
            durable.overwrite(fd, line_of(holder))
            os.rename(spare, path)
            if _leads_to(path, fd):
                return fd
    except OSError:
        pass
    os.close(fd)
    return None


_last_said: list[tuple[Holder, bytes]] = []


def line_of(holder: Holder) -> bytes:
    """Return the line of a claimer, which is the same for all that one worker claims."""
    if not _last_said or _last_said[0][0] is not holder:
        _last_said[:] = [(holder, flat({key: value for key, value in vars(holder).items() if value}).encode())]
    return _last_said[0][1]


def take_existing(places: Layout, record: str) -> int | None:
    """Take the lease of a record that somebody claimed; return the descriptor, or None while it is held.

    A missing lock file is made again: who held it removed it, or a person did. The caller looks at the record afterwards.
    Raises: OSError.
    """
    path = places.lock(record)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, LOCK_MODE)
        try:
            if not try_lock(fd):
                os.close(fd)
                return None
        except OSError:
            os.close(fd)
            raise
        if _leads_to(path, fd):
            return fd
        os.close(fd)  # its last holder removed it between our open and our lock


def try_lock(fd: int) -> bool:
    """Return whether we have the lock of this open file now. Raises: OSError."""
    from filelock import lock_descriptor  # late: commands that only look at claims load this module, and take no lock

    return lock_descriptor(fd, blocking=False)


def is_held(places: Layout, record: str) -> bool:
    """Tell whether somebody holds the lease of this record now. Changes nothing."""
    try:
        fd = os.open(places.lock(record), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(fd)
    finally:
        os.close(fd)


def read_holder(places: Layout, record: str, lease: int | None = None) -> Holder:
    """Return what the lock file says; an empty answer where it is missing or damaged.

    Who holds the lease passes it on: where locks are mandatory (SMB), only its own descriptor can read the file then. There
    supervisor and job are noted beside it (`handover`).
    """
    table = _read_lines(_text(places.lock(record), lease).splitlines())
    if not table.get("supervisor_pid"):
        table |= _read_lines(_text(places.notes(record)).splitlines())
    numbers = {name: value for name, value in table.items() if isinstance(value, int) and name in _NUMBERS}
    return Holder(str(table.get("node", "")), str(table.get("boot_id", "")), **numbers)


def _text(path: str, lease: int | None = None) -> str:
    try:
        if lease is not None:
            return os.pread(lease, MAX_BYTES, 0).decode("utf-8", "replace")
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(MAX_BYTES)
    except OSError:
        return ""


def _read_lines(lines: list[str]) -> dict[str, object]:
    """Read each line by itself: on a full disk one may be cut short and written again."""
    table: dict[str, object] = {}
    for line in lines:
        try:
            table.update(tomllib.loads(line))
        except ValueError:
            continue
    return table


def _leads_to(path: str, fd: int) -> bool:
    try:
        seen, own = os.stat(path), os.fstat(fd)
    except OSError:
        return False
    return (seen.st_dev, seen.st_ino) == (own.st_dev, own.st_ino)
