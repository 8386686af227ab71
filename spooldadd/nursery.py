"""Where the directory of a record is made while that takes long beside the others. Light: the launcher loads it.

ext4 without a journal passes over inodes that were deleted within the last five minutes, one by one, whenever it makes a
file. It makes the files of a directory near that directory, and that near its parent. So where ten thousand files were
deleted near `running/`, each file takes 300 to 500 us, and 15 elsewhere on the same disk (measured). What is made in a
directory that is marked as the top of unrelated ones, `chattr +T`, is spread over the disk: there a nursery is made, records
are made in it as long as that is quick, and each is renamed into `running/` before anything is in it. Source: chattr(1), and
`find_inode_bit` and `find_group_orlov` in `fs/ext4/ialloc.c` of Linux.

Only where no power cut has to be survived: after one, the disk could show a record in both places, and `fsck` would take it
out of one of them. Other file systems know no such mark, and there everything is made where it belongs.

If we die here: an empty directory with the name of a record, which means nothing to anybody; who makes the next nursery
removes it.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import time

from spooldadd import claiming

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from spooldadd.layout import Layout

DIRECTORY = "nursery"  # below `.spool/`
# To make a directory takes 15 to 30 us. When it took longer so often in a row, which is no chance any more, another process
# may have made a nursery already.
SLOW_S, IN_A_ROW = 100e-6, 4
# We look again after twice as many, and from here on make one: where the disk has to be read for it, that takes
# 10 to 300 ms, about as long as the slow ones until then.
MAKE_AT, MOST_IN_A_ROW, NEVER = 16, 1024, -1
# From <linux/fs.h>, for an argument of eight bytes, of which the kernel uses four; where they mean nothing, nothing happens.
_GET_FLAGS, _SET_FLAGS, _TOP = 0x80086601, 0x40086602, 0x00020000


class Nursery:
    """Where one process makes its records. A process that others wait for makes no nursery, and only goes where one is."""

    __slots__ = ("_directory", "_may_make", "_patience", "_slow")

    def __init__(self, *, may_make: bool) -> None:
        self._may_make = may_make
        self._directory = ""  # in which they are made; empty while that is `running/`
        self._slow, self._patience = 0, IN_A_ROW

    def make(self, places: Layout, path: str, mode: int) -> None:
        """Make this directory in `running/`, as `claiming.make_own` does. Raises: OSError."""
        if self._slow == self._patience:
            self._move(places)
        began = time.perf_counter()
        if not (self._directory and self._bring_up(path, mode)):
            claiming.make_own(path, mode)
        if time.perf_counter() - began > SLOW_S:
            self._slow += 1
        elif self._slow:
            self._slow, self._patience = 0, IN_A_ROW

    def _bring_up(self, path: str, mode: int) -> bool:
        inside = f"{self._directory}/{path.rpartition('/')[2]}"
        try:
            os.mkdir(inside, mode)
            os.rename(inside, path)
        except OSError:
            self._directory = ""  # another process has made the next one, and removed this
            return False
        return True

    def _move(self, places: Layout) -> None:
        may_make = self._may_make and self._patience >= MAKE_AT
        self._slow, self._patience = 0, min(2 * self._patience, MOST_IN_A_ROW)
        top = f"{places.internal}/{DIRECTORY}"
        try:
            if _hands_down(places.running):
                raise PermissionError(f"what is made in `{places.running}` differs from what is renamed into it")
            numbers = _numbers(top)
            newest = f"{top}/{numbers[-1]}" if numbers else ""
            if newest != self._directory:
                self._directory = newest
            elif may_make:
                self._directory = _next(places, top, numbers)
        except OSError:
            self._directory, self._patience = "", NEVER


def _numbers(top: str) -> list[int]:
    """Return the numbers of all nurseries, the newest last. Raises: OSError."""
    try:
        return sorted(int(entry) for entry in os.listdir(top) if entry.isascii() and entry.isdigit())
    except FileNotFoundError:
        return []


def _next(places: Layout, top: str, numbers: list[int]) -> str:
    """Make a nursery and remove those of these numbers; return where it is. Raises: OSError where there can be none."""
    _make(top)
    if _hands_down(top):
        raise PermissionError(f"what is made in `{top}` differs from what is made in `{places.running}`")
    _spread(top)
    path = f"{top}/{numbers[-1] + 1 if numbers else 1}"
    _make(path)
    for number in numbers:
        _remove(f"{top}/{number}")
    return path


def _make(path: str) -> None:
    try:
        os.mkdir(path)
    except FileExistsError:
        pass  # by another process, at the same time


def _remove(path: str) -> None:
    """Remove a nursery, and what a process that was killed has left there. Who is just making something begins anew."""
    try:
        for entry in os.listdir(path):
            os.rmdir(f"{path}/{entry}")
        os.rmdir(path)
    except OSError:
        pass  # left for the next time


def _hands_down(path: str) -> bool:
    """Tell whether what is made in this directory gets its group or its permissions from it. Raises: OSError."""
    return bool(os.stat(path).st_mode & stat.S_ISGID) or "system.posix_acl_default" in os.listxattr(path)


def _spread(path: str) -> None:
    """Have what is made in this directory spread over the disk. Raises: OSError where the file system knows no such mark."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = int.from_bytes(fcntl.ioctl(fd, _GET_FLAGS, bytes(8))[:4], sys.byteorder)
        if not flags & _TOP:
            fcntl.ioctl(fd, _SET_FLAGS, (flags | _TOP).to_bytes(4, sys.byteorder) + bytes(4))
    finally:
        os.close(fd)
