"""Where the directory of a record is made while that takes long beside the others. Light: the launcher loads it.

ext4 without a journal passes over inodes that were deleted within the last five minutes, one by one, whenever it makes a
file. It makes the files of a directory near that directory, and that near its parent. So where ten thousand files were
deleted near `running/`, each file takes 300 to 500 us, and 15 elsewhere on the same disk (measured). What is made in a
directory that is marked as the top of unrelated ones, `chattr +T`, is spread over the disk: there a nursery is made, records
are made in it as long as that is quick, and each is renamed into `running/` before anything is in it. Source: chattr(1), and
`find_inode_bit` and `find_group_orlov` in `fs/ext4/ialloc.c` of Linux.

Only where a record gets the same from both directories, and where no power cut has to be survived: after one, the disk could
show a record in both places, and `fsck` would take it out of one of them. Other file systems know no such mark, and there
everything is made where it belongs.

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
# To make a directory takes 15 to 30 us. When it took longer so often in a row, which is no chance any more, we go where
# another process has made a nursery already.
SLOW_S, IN_A_ROW = 100e-6, 4
# When it took longer so often we make one: where the disk has to be read for it, that takes 10 to 300 ms, about as long as
# the slow ones until then; and no more than this part of the time.
MAKE_AT, MAKE_SHARE = 16, 0.05
# Where there can be none, it is tried again after this time; whether records still come out alike is looked at so often.
AGAIN_S, CHECK_S = 60.0, 1.0
# From <linux/fs.h>, for an argument of eight bytes, of which the kernel uses four; where they mean nothing, nothing happens.
_GET_FLAGS, _SET_FLAGS, _TOP = 0x80086601, 0x40086602, 0x00020000
_OF_ITS_OWN = _TOP | 0x00001000 | 0x00080000 | 0x10000000  # how the directory itself is stored: index, extents, inline data

_AS_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Nursery:
    """Where one process makes its records. A process that others wait for makes no nursery, and only goes where one is."""

    __slots__ = ("_again_at", "_bad", "_checked_at", "_directory", "_may_make", "_slow")

    def __init__(self, *, may_make: bool) -> None:
        self._may_make = may_make
        self._directory = ""  # in which they are made; empty while that is `running/`
        self._bad = ""  # one that was of no use
        self._slow = 0  # in a row
        self._again_at = self._checked_at = 0.0

    @property
    def is_slow(self) -> bool:
        """Tell whether to look for a better place before the next record: `look`."""
        return self._slow in (IN_A_ROW, MAKE_AT)

    def look(self, places: Layout) -> None:
        """Look for a better place. May take long: not to be called where somebody waits for a claim that is in our hands."""
        began, is_tried = time.perf_counter(), self._slow == MAKE_AT
        top = f"{places.internal}/{DIRECTORY}"
        try:
            numbers = _numbers(top)
            newest = f"{top}/{numbers[-1]}" if numbers else ""
            if newest not in ("", self._directory, self._bad) and _are_alike(places.running, newest):
                self._directory = newest
            elif is_tried:
                self._directory = ""
                if self._may_make and began >= self._again_at:
                    self._directory = _next(places, top, numbers)
                    now = time.perf_counter()
                    self._again_at = now + (now - began) / MAKE_SHARE
        except OSError:  # no such mark on this file system, or a disk in trouble
            self._directory, self._again_at = "", began + AGAIN_S
        if is_tried:
            self._slow = 0

    def make(self, places: Layout, path: str, mode: int) -> None:
        """Make this directory in `running/`, as `claiming.make_own` does. Raises: OSError."""
        began = time.perf_counter()
        if not (self._directory and self._bring_up(places, path, mode, began)):
            claiming.make_own(path, mode)
        self._slow = self._slow + 1 if time.perf_counter() - began > SLOW_S else 0

    def _bring_up(self, places: Layout, path: str, mode: int, now: float) -> bool:
        inside = f"{self._directory}/{path.rpartition('/')[2]}"
        try:
            if self._is_of_use(places, now):
                os.mkdir(inside, mode)
                os.rename(inside, path)
                return True
        except OSError:  # mostly because another process has made the next one, and removed this
            _rmdir(inside)
        self._bad, self._directory = self._directory, ""
        return False

    def _is_of_use(self, places: Layout, now: float) -> bool:
        if now <= self._checked_at + CHECK_S:
            return True
        self._checked_at = now
        return _are_alike(places.running, self._directory)


def _numbers(top: str) -> list[int]:
    """Return the numbers of all nurseries, the newest last. Raises: OSError."""
    try:
        return sorted(int(entry) for entry in os.listdir(top) if entry.isascii() and entry.isdigit() and entry[0] != "0")
    except FileNotFoundError:
        return []


def _next(places: Layout, top: str, numbers: list[int]) -> str:
    """Make a nursery and remove those of these numbers; return where it is. Raises: OSError where there can be none."""
    path = f"{top}/{numbers[-1] + 1 if numbers else 1}"
    _make(top)
    try:
        _spread(top)
        _make(path)
        if not _are_alike(places.running, path):
            raise PermissionError(f"what is made in `{path}` would differ from what is made in `{places.running}`")
    except OSError:
        _rmdir(path)
        _rmdir(top)
        raise
    for number in numbers:
        _remove(f"{top}/{number}")
    return path


def _make(path: str) -> None:
    try:
        os.mkdir(path)
    except FileExistsError:
        pass  # by another process, at the same time


def _rmdir(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        pass  # not there, or somebody uses it


def _remove(path: str) -> None:
    """Remove a nursery, and what a process that was killed has left there. Who is just making something begins anew."""
    try:
        for entry in os.listdir(path):
            _rmdir(f"{path}/{entry}")
    except OSError:
        pass  # left for the next time
    _rmdir(path)


def _are_alike(one: str, other: str) -> bool:
    """Tell whether what is made in these directories gets the same from them."""
    try:
        return _heritage(one) == _heritage(other)
    except OSError:
        return False


def _heritage(path: str) -> tuple[int, int, int, dict[str, bytes]]:
    """Return what a directory may hand down: group, flags, access list, label. Raises: OSError."""
    fd = os.open(path, _AS_DIRECTORY)
    try:
        status = os.fstat(fd)
        attributes = {name: os.getxattr(fd, name) for name in os.listxattr(fd)}
        return status.st_mode & stat.S_ISGID, status.st_gid, _flags(fd) & ~_OF_ITS_OWN, attributes
    finally:
        os.close(fd)


def _flags(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, _GET_FLAGS, bytes(8))[:4], sys.byteorder)


def _spread(path: str) -> None:
    """Have what is made in this directory spread over the disk. Raises: OSError where the file system knows no such mark."""
    fd = os.open(path, _AS_DIRECTORY)
    try:
        flags = _flags(fd)
        if not flags & _TOP:
            fcntl.ioctl(fd, _SET_FLAGS, (flags | _TOP).to_bytes(4, sys.byteorder) + bytes(4))
    finally:
        os.close(fd)
