"""Files that a job of another user leaves, on their way into its record: read with his rights, written with ours. Light.

A deputy reads them and sends what is in them; whatever a link or a race leads it to, he could have read himself. What comes
here goes into the record, where only we can write, by names that are judged anew: what a deputy says is a user's word.

If we die here: a part of a file in the record, and no result; the attempt is lost as any other.
"""

from __future__ import annotations

import os
import stat
import struct

from spooldadd import durable, workdir
from spooldadd.account import Account
from spooldadd.deputy import Deputy

FILE, DATA, END, REFUSED = b"F", b"D", b"E", b"X"
CHUNK_BYTES = 1 << 20
_HEAD = struct.Struct("!cI")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class Garbled(OSError):
    """What came is not what a deputy of ours says."""


def keep(who: Account, work_dir: str, record: str, patterns: list[str], *, sync: bool) -> tuple[list[str], list[str]]:
    """Do as `workdir.keep` does, with the rights of this user. Raises: OSError."""
    deputy = Deputy(who, lambda way_back: _send(way_back, work_dir, patterns))
    try:
        return _Arrivals(deputy, record, sync=sync).take_in()
    finally:
        deputy.end()


# -- as the user


def _send(way_back: int, work_dir: str, patterns: list[str]) -> None:
    for name in workdir.matching(work_dir, patterns):
        try:
            fd = os.open(os.path.join(work_dir, name), _READ)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                continue
            _frame(way_back, FILE, os.fsencode(name))
            while data := os.read(fd, CHUNK_BYTES):
                _frame(way_back, DATA, data)
            _frame(way_back, END, b"")
            os.close(fd)
        except OSError as error:
            _frame(way_back, REFUSED, f"`{name}` was not kept: {error.strerror}".encode("utf-8", "surrogateescape"))


def _frame(fd: int, kind: bytes, data: bytes) -> None:
    durable.write_all(fd, _HEAD.pack(kind, len(data)) + data)


# -- as root


class _Arrivals:
    """Writes into a record what a deputy sends."""

    def __init__(self, deputy: Deputy, record: str, *, sync: bool) -> None:
        self._deputy = deputy
        self._record = record
        self._sync = sync
        self.kept: list[str] = []
        self.refused: list[str] = []

    def take_in(self) -> tuple[list[str], list[str]]:
        """Take in all of it. Raises: OSError."""
        while head := self._exactly(_HEAD.size, may_end=True):
            kind, size = _HEAD.unpack(head)
            data = self._exactly(size)
            if kind == FILE:
                self._take_file(os.fsdecode(data))
            elif kind == REFUSED:
                self.refused.append(data.decode("utf-8", "replace"))
            else:
                raise Garbled("what the deputy said cannot be understood")
        return self.kept, self.refused

    def _take_file(self, name: str) -> None:
        why = "" if is_plain(name) else "its name leads out of the work directory"
        why = why or workdir.reserved(name)
        try:
            writer = None if why else self._open(name)
        except OSError as error:
            if error.errno in workdir.SPOOL_TROUBLES or not os.path.isdir(self._record):
                raise
            writer, why = None, error.strerror or str(error)
        try:
            self._fill(writer)
        finally:
            if writer is not None:
                os.close(writer)
        if why:
            self.refused.append(f"`{name}` was not kept: {why}")
        else:
            self.kept.append(name)

    def _open(self, name: str) -> int:
        workdir.make_parents(self._record, name)
        return os.open(os.path.join(self._record, name), _WRITE, 0o644)

    def _fill(self, writer: int | None) -> None:
        while True:
            kind, size = _HEAD.unpack(self._exactly(_HEAD.size))
            data = self._exactly(size)
            if kind == REFUSED:  # it broke off on the way; what came is better than nothing, and is told
                self.refused.append(data.decode("utf-8", "replace"))
            if kind != DATA:
                break
            if writer is not None:
                durable.write_all(writer, data)
        if writer is not None and self._sync:
            os.fsync(writer)

    def _exactly(self, size: int, *, may_end: bool = False) -> bytes:
        if size > CHUNK_BYTES:
            raise Garbled("what the deputy said cannot be understood")
        parts = bytearray()
        while len(parts) < size:
            part = self._deputy.read(size - len(parts))
            if not part:
                if may_end and not parts:
                    return b""
                raise Garbled("the process that read the files to keep was ended")
            parts += part
        return bytes(parts)


def is_plain(name: str) -> bool:
    """Tell whether a relative name stays below where it is used."""
    parts = name.split("/")
    return bool(name) and "\0" not in name and not {"", ".", ".."} & set(parts)
