"""Read the members of a tar or zip archive, one after the other, without trusting any of them.

Standard library only, and on Python 3.11.2, which has no `tarfile` filters. Tar is read as a stream, which cannot be
led backwards by an offset that the archive made up. What is written where is decided in `unpack`.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import IO, Final, cast

from spooldadd.errors import BuildError

# The longest extended header that is read into memory: holds a path of 4,096 characters and attributes many times over.
MAX_HEADER_BYTES: Final = 128 * 1024
# The longest link target that Linux takes (PATH_MAX).
MAX_LINK_BYTES: Final = 4096
_HEAD_BYTES: Final = 16
_HEADER_TYPES: Final = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
# What the decompressors raise for damaged input.
DAMAGE: Final = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, ValueError, OSError)


class Kind(Enum):
    """What a member becomes."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    HARD_LINK = "hard link"


@dataclass(frozen=True)
class Member:
    """One member as the archive tells it; nothing in it has been checked, except that its kind is one of ours."""

    name: str
    kind: Kind
    mode: int
    size_bytes: int
    modified_s: float
    target: str  # of a link, else empty
    open: Callable[[], IO[bytes]]


class Meter:
    """Counts what a decompressor gives, and stops it at a limit: the headers of an archive can be a bomb too."""

    def __init__(self, source: IO[bytes], check: Callable[[int], None]) -> None:
        self._source = source
        self._check = check
        self.total_bytes = 0

    def read(self, size: int = -1) -> bytes:
        """Read, count, and let the check raise."""
        data = self._source.read(size)
        self.total_bytes += len(data)
        self._check(self.total_bytes)
        return data


@contextmanager
def open_members(path: str, check: Callable[[int], None]) -> Iterator[Iterator[Member]]:
    """Open an archive by what its first bytes say. `check` gets the bytes that came out so far, and may raise.

    Raises: `BuildError` where it is no archive that we know, and while iterating where a member is of a refused kind.
    """
    with open(path, "rb") as raw:
        head = raw.read(_HEAD_BYTES)
        raw.seek(0)
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            with zipfile.ZipFile(raw) as archive:
                yield _zip_members(archive)
            return
        with _decompressed(raw, head) as plain:
            meter = cast("IO[bytes]", Meter(plain, check))
            with tarfile.open(fileobj=meter, mode="r|", tarinfo=_CarefulInfo) as tar:
                yield _tar_members(tar)


@contextmanager
def _decompressed(raw: IO[bytes], head: bytes) -> Iterator[IO[bytes]]:
    openers: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
        b"\x1f\x8b": lambda source: cast("IO[bytes]", gzip.GzipFile(fileobj=source)),
        b"BZh": lambda source: cast("IO[bytes]", bz2.BZ2File(source)),
        b"\xfd7zXZ\x00": lambda source: cast("IO[bytes]", lzma.LZMAFile(source)),  # noqa: SIM115
        b"\x28\xb5\x2f\xfd": _zstd,
    }
    for magic, opener in openers.items():
        if head.startswith(magic):
            with opener(raw) as plain:
                yield plain
            return
    yield raw


def _zstd(source: IO[bytes]) -> IO[bytes]:
    for name in ("compression.zstd", "backports.zstd", "pyzstd", "zstandard"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return cast("IO[bytes]", module.open(source, "rb"))
    raise BuildError("zst needs Python 3.14 or the `zstandard` package here; install that, or pack it as xz")


class _CarefulInfo(tarfile.TarInfo):
    """A header that may not ask for more memory than any honest one, nor end the archive by being damaged."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _CarefulInfo:
        """Read a header. tarfile takes any damaged one but the first for the end, and loses the rest in silence."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            problem = "it ends too early" if len(buf) < tarfile.BLOCKSIZE else str(error)
            raise BuildError(f"it is neither tar (plain, gz, bz2, xz, zst) nor zip, or damaged: {problem}") from error

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in _HEADER_TYPES and self.size > MAX_HEADER_BYTES):
            raise BuildError(f"`{self.name}`: a header of {self.size} bytes is refused")
        return cast("tarfile.TarInfo", super()._proc_member(tar))  # type: ignore[misc]


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    for info in tar:
        tar.members = []  # type: ignore[attr-defined]  # a stream would keep every header
        yield Member(
            name=info.name,
            kind=_tar_kind(info),
            mode=info.mode,
            size_bytes=info.size,
            modified_s=float(info.mtime),
            target=info.linkname,
            open=_tar_opener(tar, info),
        )


def _tar_opener(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    return lambda: cast("IO[bytes]", tar.extractfile(info))


def _tar_kind(info: tarfile.TarInfo) -> Kind:
    if info.isreg():
        return Kind.FILE
    if info.isdir():
        return Kind.DIRECTORY
    if info.issym():
        return Kind.LINK
    if info.islnk():
        return Kind.HARD_LINK
    names = {tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a fifo"}
    raise BuildError(f"`{info.name}` is {names.get(info.type, 'of an unknown kind')}, which is refused")


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        if info.flag_bits & 0x1:
            raise BuildError(f"`{info.filename}` is encrypted, which is refused")
        if "\\" in info.filename:
            raise BuildError(f"`{info.filename}` has `\\` in its name, which no zip archive may have")
        kind, mode = _zip_kind(info)
        yield Member(
            name=info.filename,
            kind=kind,
            mode=mode,
            size_bytes=info.file_size,
            modified_s=0.0,  # local time of an unknown zone: worth nothing
            target=_zip_target(archive, info) if kind is Kind.LINK else "",
            open=_zip_opener(archive, info),
        )


def _zip_opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        try:
            return archive.open(info)
        except (NotImplementedError, RuntimeError) as error:
            raise BuildError(f"`{info.filename}`: {error}") from error

    return opened


def _zip_kind(info: zipfile.ZipInfo) -> tuple[Kind, int]:
    """Tell kind and mode; archives from other systems than Unix say neither."""
    mode = info.external_attr >> 16
    if info.is_dir():
        return Kind.DIRECTORY, stat.S_IMODE(mode) or 0o755
    kind = stat.S_IFMT(mode)
    if kind in (0, stat.S_IFREG):
        return Kind.FILE, stat.S_IMODE(mode) or 0o644
    if kind == stat.S_IFLNK:
        return Kind.LINK, 0
    raise BuildError(f"`{info.filename}` is a device, fifo or socket, which is refused")


def _zip_target(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    with _zip_opener(archive, info)() as source:
        data = source.read(MAX_LINK_BYTES + 1)
    if len(data) > MAX_LINK_BYTES:
        raise BuildError(f"`{info.filename}`: a link target above {MAX_LINK_BYTES} bytes is refused")
    return data.decode("utf-8", "surrogateescape")
