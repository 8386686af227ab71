"""What a job leaves empty is renamed for the next one: its work directory and its lock file. Light: the launcher loads it.

ext4 passes over inodes that were deleted within the last minutes, one by one, whenever it makes a file: where a thousand
jobs a minute each delete two, making one took thirty times as long (measured: 20 us, then 300 to 1,200). A rename costs
15 us and leaves nothing to pass over.

Only between jobs that follow each other at once: after `KEEP_S` without a next job a supervisor removes both, so an idle
node has none. If we die here: an empty directory `.spare-PID`, or a lock file of that name; a worker removes them.
"""

from __future__ import annotations

import os
import select
import stat

from spooldadd import layout, process, workdir
from spooldadd.bare import socket

# Longer than it takes to claim the next job, shorter than anybody looks.
KEEP_S = 0.05
PREFIX = ".spare-"
DRAFT = ".claim"  # after the pid: the claim of a next job, written before that is claimed (`offered`)
_OWN_XATTRS = "security."  # that of SELinux is on everything


class Spares:
    """The work directory and the lock file that one supervisor keeps for its next attempt."""

    __slots__ = ("_directory", "_lock")

    def __init__(self) -> None:
        self._directory = self._lock = ""

    def give_directory(self, path: str) -> bool:
        """Give the work directory that is kept this name; return whether there was one."""
        spare, self._directory = self._directory, ""
        try:
            if spare and spare.rpartition("/")[0] == path.rpartition("/")[0]:
                os.rename(spare, path)
                return True
        except OSError:
            pass
        return False

    def keep_directory(self, path: str, *, under_own_name: bool = False) -> bool:
        """Keep this work directory, if it is as if it were new; return whether it was kept.

        Under the name that it has where the next attempt is about to be given it. If we die here then: a work directory
        whose attempt is filed, as if we had died before.
        """
        spare = path if under_own_name else os.path.join(os.path.dirname(path), f"{PREFIX}{os.getpid()}")
        try:
            if not _is_as_new(path):
                return False
            if spare != path:
                os.rename(path, spare)
        except OSError:
            return False
        self._directory = spare
        return True

    def keep_lock(self, places: layout.Layout, record: str) -> str:
        """Keep the lock file of a record that is filed, to be called before its lease is let go; return its path."""
        spare = self._lock = os.path.join(places.locks, f"{PREFIX}{os.getpid()}")
        try:
            os.rename(places.lock(record), spare)
        except OSError:
            return ""
        return spare

    def wait(self, channel: socket.socket) -> None:
        """Wait until there is something to read; remove what is kept where that takes long."""
        if (self._directory or self._lock) and not select.select([channel], [], [], KEEP_S)[0]:
            self.drop()

    def drop(self) -> None:
        """Remove what is kept."""
        directory, lock = self._directory, self._lock
        self._directory = self._lock = ""
        try:
            if lock:
                os.unlink(lock)
        except OSError:
            pass  # the worker has given it to a record
        try:
            if directory:
                workdir.remove(directory)
        except OSError:
            pass  # left for the worker


def clear(locks: list[str], work_root: str) -> None:
    """Remove what supervisors keep that were let go, and that they are about to remove: nobody is to find it meanwhile."""
    for path in locks:
        for left, remove in ((path, os.unlink), (os.path.join(work_root, os.path.basename(path)), os.rmdir)):
            try:
                remove(left)
            except OSError:
                pass


def is_left(name: str) -> bool:
    """Tell whether this is the name of something that was kept by a process that is gone."""
    pid = name.removeprefix(PREFIX).removesuffix(DRAFT)
    is_spare = name.startswith(PREFIX) and pid.isascii() and pid.isdigit()
    return is_spare and process.start_ticks(int(pid)) is None


def _is_as_new(path: str) -> bool:
    """Nothing in it, and its owner, its mode and its attributes as `workdir` makes them: a job may change its directory."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or stat.S_IMODE(status.st_mode) != workdir.MODE or status.st_uid != os.geteuid():
        return False
    if os.listdir(path):
        return False
    try:
        return all(name.startswith(_OWN_XATTRS) for name in os.listxattr(path, follow_symlinks=False))
    except OSError:  # a file system that knows none
        return True
