"""A bundle: a plain tar of a spec and the files that it names. Find the spec in one; write one.

Finding is for a worker that has to look at thousands, and for readers, so it reads headers only, no more of them than
`MAX_LOOKED_AT`, and brings its own few lines for that: `tarfile` has no such bounds, and takes 10 ms to import. Nothing is
unpacked here; `environment.unpack` does that, by rules of its own.

The spec is the member `spec.toml`, else the first Python file at the top that has inline metadata.

Source: tar(5); pax(1) of POSIX.1-2017, "ustar Interchange Format" and "pax Extended Header".
"""

from __future__ import annotations

import io
import os
from functools import partial

from spooldadd import forms
from spooldadd.errors import SpecError

TYPE_CHECKING = False  # not from `typing`: readers are to start fast
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from tarfile import TarFile
    from typing import BinaryIO

    from _typeshed import WriteableBuffer

    Readable = BinaryIO | io.RawIOBase

SPEC = "spec.toml"
# A bundle lies in the spool, travels with it, and stays in the record as long as that. What is larger belongs on a server:
# as a `url` with its `sha256` it is fetched once per node, ever.
MAX_BUNDLE_BYTES = 1 << 30
# A header takes 10 us; a spec behind so many is found in 3 ms, and nothing that is no bundle takes longer to refuse.
MAX_LOOKED_AT = 256
# Each costs a read of `forms.HEAD_BYTES`.
MAX_SCRIPTS = 8
# As `spec.reading.MAX_SPEC_BYTES`, which is too heavy here.
MAX_SPEC_BYTES = 1 << 20
# How many members one may have in all; a check of so many headers takes a second.
MAX_MEMBERS = 100_000
BLOCK_BYTES = 512
# The longest name that Linux takes (PATH_MAX), and what a pax record needs around it.
MAX_HEADER_BYTES = 64 * 1024
_END = b"\0" * BLOCK_BYTES
_LONG_NAME, _PAX, _SKIPPED = b"L", b"x", (b"g", b"K", b"X")
_REGULAR = (b"0", b"\0", b"7")
_MAGICS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
)


class NoBundle(SpecError):
    """This is no bundle that can be run. The message is a predicate: it follows the file's name."""


class Member:
    """One member, as its header tells."""

    __slots__ = ("at", "kind", "mode", "name", "size_bytes")

    def __init__(self, name: str, kind: bytes, at: int, size_bytes: int, mode: int) -> None:
        self.name = name
        self.kind = kind
        self.at = at
        self.size_bytes = size_bytes
        self.mode = mode

    @property
    def is_file(self) -> bool:
        """Tell whether it is a regular file."""
        return self.kind in _REGULAR and not self.name.endswith("/")


class Found:
    """The spec in a bundle: its name there, and its bytes."""

    __slots__ = ("data", "name")

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data


class Brought:
    """The bundle that a claimed spec came in, and the state that it had then."""

    __slots__ = ("path", "state")

    def __init__(self, path: str, status: os.stat_result) -> None:
        self.path = path
        self.state = state(status)


def find_spec(fd: int) -> Found:
    """Return the spec in the bundle that is open here. Raises: NoBundle, with the remedy; OSError."""
    scripts: list[Member] = []
    deeper = ""
    for member in members(fd, most=MAX_LOOKED_AT):
        name = plain_name(member.name)
        if member.is_file and name == SPEC:
            return Found(SPEC, _read(fd, member))
        if member.is_file and forms.is_script(name) and "/" not in name and len(scripts) < MAX_SCRIPTS:
            scripts.append(member)
        if name.endswith(f"/{SPEC}"):
            deeper = name
    for member in scripts:
        if forms.opens_block(os.pread(fd, min(member.size_bytes, forms.HEAD_BYTES), member.at)):
            return Found(plain_name(member.name), _read(fd, member))
    raise NoBundle(_nothing_found(deeper))


def _nothing_found(deeper: str) -> str:
    if deeper:
        directory = os.path.dirname(deeper)
        return f"has its spec in `{deeper}`; it belongs at the top: `tar cf JOB.tar -C {directory} .`"
    remedy = f"put `{SPEC}`, or a script with inline metadata, first: `tar cf JOB.tar {SPEC} FILES`"
    return f"holds no spec at the top among its first {MAX_LOOKED_AT} headers: {remedy}"


def is_whole(fd: int) -> bool:
    """Tell by its end whether a tar is all there: it ends with two empty blocks, however it was made."""
    size = os.fstat(fd).st_size
    return size % BLOCK_BYTES == 0 and os.pread(fd, 2 * BLOCK_BYTES, max(0, size - 2 * BLOCK_BYTES)) == 2 * _END


def state(status: os.stat_result) -> tuple[int, int, int]:
    """Return what changes when a bundle is written to or replaced."""
    return status.st_size, status.st_mtime_ns, status.st_ino


def members(fd: int, *, most: int = MAX_MEMBERS) -> Iterator[Member]:
    """Read header after header, at most `most`, those of names included, and nothing of what lies between them.

    Raises: NoBundle where it is no plain tar, or damaged, or cut; OSError.
    """
    size = os.fstat(fd).st_size
    at = 0
    name: str | None = None  # from an extended header, for the member that follows
    for _ in range(most):
        block = os.pread(fd, BLOCK_BYTES, at)
        if block == _END:
            return
        header = _header(block, at)
        at += BLOCK_BYTES
        if at + header.size_bytes > size:
            raise NoBundle("is cut, or damaged: it ends within a member")
        if header.kind in (_LONG_NAME, _PAX):
            name = _extended_name(fd, header) or name
        elif header.kind not in _SKIPPED:
            yield Member(header.name if name is None else name, header.kind, at, header.size_bytes, header.mode)
            name = None
        at += -(-header.size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def plain_name(name: str) -> str:
    """Return a member's name as people mean it: without a leading `./`."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def check(fd: int) -> None:
    """Look at every header before anything is unpacked. Raises: NoBundle; OSError."""
    if os.fstat(fd).st_size > MAX_BUNDLE_BYTES:
        raise NoBundle(too_large(os.fstat(fd).st_size))
    for count, _ in enumerate(members(fd, most=2 * MAX_MEMBERS + 2)):
        if count >= MAX_MEMBERS:
            raise NoBundle(f"has more than {MAX_MEMBERS} members")


class Item:
    """What is to be written into a bundle: a regular file, opened when its turn comes."""

    __slots__ = ("mode", "name", "opened", "size_bytes")

    def __init__(self, name: str, size_bytes: int, opened: Callable[[], Readable], mode: int = 0o644) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self.opened = opened
        self.mode = mode


def item_of_bytes(name: str, data: bytes, mode: int = 0o644) -> Item:
    """Return a file of this content."""
    return Item(name, len(data), lambda: io.BytesIO(data), mode)


def items_of(path: str) -> dict[str, Item]:
    """Return the regular files in the bundle of this path, by name. Raises: NoBundle; OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = [member for member in members(fd) if member.is_file]
    finally:
        os.close(fd)
    named = {plain_name(member.name): member for member in found}
    return {name: Item(name, one.size_bytes, partial(_Part, path, one), one.mode) for name, one in named.items()}


class _Part(io.RawIOBase):
    """The content of one member."""

    def __init__(self, path: str, member: Member) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._at, self._end = member.at, member.at + member.size_bytes

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read on, to the end of the member."""
        data = os.pread(self._fd, min(len(memoryview(buffer)), self._end - self._at), self._at)
        memoryview(buffer)[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Close it."""
        if not self.closed:
            os.close(self._fd)
        super().close()


def write(fd: int, spec: Item, files: Iterable[Item]) -> None:
    """Write the bundle of a spec and its files: of the same content always the same bytes, whoever writes it, and when.

    Raises: NoBundle where a file was changed or removed meanwhile; OSError.
    """
    import tarfile  # late, here and below: readers write no bundle

    with open(fd, "wb", closefd=False) as target:
        with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for item in (spec, *sorted(files, key=lambda item: os.fsencode(item.name))):
                _add(tar, item)
        if target.tell() > MAX_BUNDLE_BYTES:
            raise NoBundle(too_large(target.tell()))


def _add(tar: TarFile, item: Item) -> None:
    from tarfile import TarInfo

    info = TarInfo(item.name)
    info.size = item.size_bytes
    info.mode = 0o755 if item.mode & 0o100 else 0o644
    try:
        opened = item.opened()
    except OSError as error:
        raise NoBundle(f"cannot be made: `{item.name}` cannot be read: {error.strerror}") from error
    with opened as source:
        before = _state(source)
        try:
            tar.addfile(info, source)
        except OSError as error:
            if error.errno is not None:
                raise
            raise NoBundle(_changed(item)) from error
        if source.read(1) or _state(source) != before:
            raise NoBundle(_changed(item))


def _state(source: Readable) -> tuple[int, int] | None:
    """Return what changes when this file is written to; None for one in memory, which nobody can write to."""
    try:
        status = os.fstat(source.fileno())
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _changed(item: Item) -> str:
    return f"cannot be made: `{item.name}` was changed while it was read; submit again"


def too_large(size_bytes: int) -> str:
    """Say so, with the remedy, as a predicate."""
    most = f"the {MAX_BUNDLE_BYTES >> 30} GiB that a bundle may have"
    return f"is {size_bytes} bytes long, more than {most}: put what is large on a server, and name its `url` and `sha256`"


def _read(fd: int, member: Member) -> bytes:
    """Return one byte more than a spec may have of one that is too long: who parses it says so."""
    return os.pread(fd, min(member.size_bytes, MAX_SPEC_BYTES + 1), member.at)


def _header(block: bytes, at: int) -> Member:
    is_good = _number(block[148:156]) == sum(block[:148]) + sum(b" " * 8) + sum(block[156:])
    if not at and not is_good:
        raise NoBundle(_other_kind(block))
    if len(block) < BLOCK_BYTES:
        raise NoBundle("is cut: it does not end as a tar does")
    if not is_good:
        raise NoBundle("is damaged: a header has a wrong checksum")
    kind = block[156:157]
    if kind == b"S":
        raise NoBundle("holds a sparse file; pack it without `--sparse`")
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    name = _text(block[:100])
    mode = _number(block[100:108]) or 0
    return Member(f"{prefix}/{name}" if prefix else name, kind, at + BLOCK_BYTES, _size(block, kind), mode)


def _size(block: bytes, kind: bytes) -> int:
    """A directory, a link, a device has nothing behind its header, whatever that says."""
    if kind in b"123456":
        return 0
    size = _number(block[124:136])
    if size is None or size < 0:
        raise NoBundle("is damaged: a header has no size")
    return size


def _other_kind(block: bytes) -> str:
    kind = next((kind for magic, kind in _MAGICS if block.startswith(magic)), None)
    if kind is None:
        return "is no tar" if block else "is empty"
    return f"is packed with {kind}; a bundle is a plain tar: `tar cf JOB.tar {SPEC} FILES`"


def _number(field: bytes) -> int | None:
    """Read a number: octal digits, or, with the first bit set, the bytes as they are."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0")
    return int(text, 8) if text and all(48 <= byte < 56 for byte in text) else None


def _extended_name(fd: int, header: Member) -> str | None:
    if header.size_bytes > MAX_HEADER_BYTES:
        raise NoBundle(f"has a header of {header.size_bytes} bytes, which no honest name needs")
    data = os.pread(fd, header.size_bytes, header.at)
    if header.kind == _LONG_NAME:
        return _text(data)
    name = None
    while data:
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or len(length) > 5 or not len(length) + 1 < int(length) <= len(data):
            raise NoBundle("is damaged: an extended header cannot be read")
        key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        if key.startswith(b"GNU.sparse") or key == b"size":
            raise NoBundle("holds a sparse or a very large file; pack it without `--sparse`")
        name = _text(value) if key == b"path" else name
        data = data[int(length) :]
    return name


def _text(data: bytes) -> str:
    return os.fsdecode(data.split(b"\0", 1)[0])
