"""The blob store: files by their sha256, each kept once per node and never changed.

A blob's name is its sum and its size (`blobs/ab/abcd…-1234`): what was cut short or lost is noticed whenever it is
used, at the price of one look; damage that keeps the size is found by `verify`. A blob's modification time says when it
was used last. A blob is handed out as an open file or copied, so that no job ever writes into it.

If we die here: a name in `parts/`, which the next fetch of the same source continues or which `prune` removes; never a
part of a blob under a blob's name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Final

from filelock import FileLock

from spooldadd import durable

CHUNK_BYTES: Final = 1 << 20
# What was used so short ago is in use, or is about to be: longer than any build takes from a look to the copy.
GRACE_S: Final = 3_600.0
# An interrupted download that nobody came back for.
PART_DAYS: Final = 7
_NAME: Final = re.compile(r"([0-9a-f]{64})-(\d+)")


@dataclass(frozen=True)
class Blob:
    """One stored content."""

    sha256: str
    size_bytes: int
    path: str
    used_at_s: float = 0.0


@dataclass(frozen=True)
class Pruned:
    """What went."""

    removed: int
    freed_bytes: int


class Blobs:
    """All blobs below one directory. Needs no lock: a blob appears by one rename, and two of one sum are the same."""

    def __init__(self, root: str, *, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self._clock = clock

    def find(self, sha256: str) -> Blob | None:
        """Return a blob of the right size, and note its use. One of a wrong size is removed: a new fetch heals it."""
        for blob in self._named(sha256):
            if _size(blob.path) == blob.size_bytes:
                _touch(blob.path, self._clock())
                return blob
            _unlink(blob.path)
        return None

    def open(self, blob: Blob) -> IO[bytes] | None:
        """Open a blob to read; None where it is gone meanwhile."""
        try:
            return open(blob.path, "rb")
        except FileNotFoundError:
            return None

    def copy(self, blob: Blob, target: str, mode: int) -> None:
        """Write a new file with this content. Raises: OSError; FileNotFoundError where the blob is gone meanwhile."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(blob.path, "rb") as source, os.fdopen(os.open(target, flags, mode), "wb") as file:
            _copy_bytes(source, file)
            os.fchmod(file.fileno(), mode)

    def part(self, key: str) -> str:
        """Return the path where a content with this key of its source may be collected. Its directory exists then."""
        directory = os.path.join(self.root, "parts")
        os.makedirs(directory, exist_ok=True)
        return os.path.join(directory, key)

    def adopt(self, part: str, sha256: str, *, sync: bool = True) -> Blob:
        """Make a complete file on the same file system a blob. The caller has just computed its sum."""
        size_bytes = os.path.getsize(part)
        target = self._path(sha256, size_bytes)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.chmod(part, 0o444)
        if sync:
            durable.sync_file(part)
        durable.move(part, target, sync=sync)
        return Blob(sha256, size_bytes, target, self._clock())

    def add(self, chunks: Iterator[bytes]) -> Blob:
        """Store a content of unknown sum."""
        part = self.part(f"new-{os.getpid()}-{secrets.token_hex(4)}")
        digest = hashlib.sha256()
        try:
            with open(part, "xb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
            return self.adopt(part, digest.hexdigest())
        except OSError:
            _unlink(part)
            raise

    def lock(self, key: str) -> FileLock:
        """Return the lock for fetching from this source: one process at a time, all others find what it stored."""
        directory = os.path.join(self.root, "locks")
        os.makedirs(directory, exist_ok=True)
        return FileLock(os.path.join(directory, f"{key}.lock"), fallback_to_soft=False)

    def entries(self) -> Iterator[Blob]:
        """Yield every blob, as its name says."""
        top = os.path.join(self.root, "blobs")
        for prefix in sorted(_names(top)):
            yield from self._in(prefix)

    def verify(self) -> Iterator[tuple[Blob, str]]:
        """Read every blob; yield what is damaged with the reason, after removing it: the next use fetches it anew."""
        for blob in self.entries():
            problem = _problem(blob)
            if problem:
                _unlink(blob.path)
                yield blob, problem

    def prune(self, *, max_bytes: int, max_age_s: float) -> Pruned:
        """Remove blobs that nobody used for so long, then the least recently used until the rest fits."""
        removed = freed = 0
        for blob in self.surplus(max_bytes=max_bytes, max_age_s=max_age_s):
            _unlink(blob.path)
            removed += 1
            freed += blob.size_bytes
        self._prune_parts(self._clock())
        return Pruned(removed, freed)

    def surplus(self, *, max_bytes: int, max_age_s: float) -> Iterator[Blob]:
        """Yield what `prune` would remove."""
        blobs = sorted(self.entries(), key=lambda blob: blob.used_at_s)
        left = sum(blob.size_bytes for blob in blobs)
        for blob in blobs:
            if self.is_used(blob) or (left <= max_bytes and self._clock() - blob.used_at_s <= max_age_s):
                continue
            left -= blob.size_bytes
            yield blob

    def is_used(self, blob: Blob) -> bool:
        """Tell whether it was used so short ago that a build may be about to copy it."""
        return self._clock() - blob.used_at_s < GRACE_S

    def _prune_parts(self, now_s: float) -> None:
        """Locks stay: removing one that somebody is about to take would give two the right to fetch."""
        directory = os.path.join(self.root, "parts")
        for name in _names(directory):
            path = os.path.join(directory, name)
            if now_s - _used_at(path) > PART_DAYS * 86_400:
                _unlink(path)

    def _named(self, sha256: str) -> list[Blob]:
        return [blob for blob in self._in(sha256[:2]) if blob.sha256 == sha256]

    def _in(self, prefix: str) -> Iterator[Blob]:
        directory = os.path.join(self.root, "blobs", prefix)
        for name in _names(directory):
            match = _NAME.fullmatch(name)
            path = os.path.join(directory, name)
            if match:
                yield Blob(match[1], int(match[2]), path, _used_at(path))

    def _path(self, sha256: str, size_bytes: int) -> str:
        return os.path.join(self.root, "blobs", sha256[:2], f"{sha256}-{size_bytes}")


def sha256_of(path: str) -> str:
    """Return the sum of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problem(blob: Blob) -> str:
    if _size(blob.path) != blob.size_bytes:
        return f"has {_size(blob.path)} bytes instead of {blob.size_bytes}"
    try:
        found = sha256_of(blob.path)
    except OSError as error:
        return str(error)
    return "" if found == blob.sha256 else f"its content has the sha256 {found}"


def _copy_bytes(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy within the kernel, which shares the blocks on file systems that can, else through memory in pieces."""
    try:
        while os.copy_file_range(source.fileno(), target.fileno(), 1 << 30):
            pass
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise
        source.seek(0)
        target.truncate(0)
        target.seek(0)
        shutil.copyfileobj(source, target, CHUNK_BYTES)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return -1


def _used_at(path: str) -> float:
    try:
        return os.path.getmtime(path)
    except OSError:
        return 0.0


def _touch(path: str, now_s: float) -> None:
    try:
        os.utime(path, (now_s, now_s))
    except OSError:
        pass  # somebody else's store: used all the same, only not noted


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
