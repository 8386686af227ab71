"""Unpack an archive so that nothing is ever written outside, whatever it holds. Standard library only.

It is unpacked into a new directory beside the destination, and only then moved in: a refused archive leaves nothing.
Kept are names, the three mode digits (without write for group and others), and a tar's times; owners are not. Refused,
with the member named: absolute names, `..`, anything below a link, links that leave, hard links to anything but an
earlier file of the archive, devices and fifos, setuid and setgid files, two names that are one on this file system,
and bombs.

If we die here: a directory `.unpack-…` in the work directory, which goes with it. While the tree is moved in, a part
of it may be there: the build has failed then, and no job runs in that work directory.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from spooldadd.environment import archives
from spooldadd.environment.archives import Kind, Member
from spooldadd.environment.links import check_links, read_links
from spooldadd.errors import BuildError

_CHUNK_BYTES: Final = 1 << 20
PREFIX: Final = ".unpack-"
# What Linux takes for one path. Deeper nesting would also be beyond what `makedirs` can recurse into.
MAX_PATH: Final = 4096


@dataclass(frozen=True)
class Limits:
    """How much may come out of an archive before it is called a bomb."""

    total_bytes: int = 256 << 30  # more than the disk of most nodes; who needs more says so by not packing it
    members: int = 1_000_000  # a large data set of small files; 250 bytes of header each make 250 MB of memory at most
    ratio: int = 250  # text packs to 1/10, logs to 1/100, zeros by gzip to 1/1030
    ratio_from_bytes: int = 256 << 20  # below this no ratio is a danger: a sparse file of zeros is a fair thing to pack


@dataclass(frozen=True)
class Unpacked:
    """What came out."""

    members: int
    size_bytes: int


@dataclass(frozen=True)
class _Guard:
    limits: Limits
    archive_bytes: int

    def check(self, total_bytes: int) -> None:
        if total_bytes > self.limits.total_bytes:
            raise BuildError(f"more than {self.limits.total_bytes} bytes come out: refused as a bomb")
        if total_bytes > max(self.limits.ratio_from_bytes, self.limits.ratio * self.archive_bytes):
            ratio = self.limits.ratio
            raise BuildError(f"{self.archive_bytes} bytes grow to more than {ratio} times that: refused as a bomb")


@dataclass
class _Tree:
    """What the archive made so far, below `root`. Paths are relative and normal."""

    root: str
    guard: _Guard
    is_folding: bool
    kinds: dict[str, Kind] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    culprits: dict[str, str] = field(default_factory=dict)
    folded: dict[str, str] = field(default_factory=dict)
    times: list[tuple[str, float]] = field(default_factory=list)
    directory_modes: dict[str, int] = field(default_factory=dict)
    members: int = 0
    size_bytes: int = 0


def unpack(
    archive: str, boundary: str, place: str = ".", *, strip: int = 0, limits: Limits | None = None, name: str = ""
) -> Unpacked:
    """Unpack into `place` below the directory `boundary`; what is there already stays, files are replaced.

    `strip` removes that many leading directories from each name and skips what has no more. Links may lead to anything
    below `boundary`. Raises: `BuildError` with the archive and the member named.
    """
    boundary = os.path.realpath(boundary)
    destination = os.path.realpath(os.path.join(boundary, place))
    if os.path.commonpath((boundary, destination)) != boundary:
        raise BuildError(f"`{place}` leads out of the work directory: refused")
    temporary = tempfile.mkdtemp(prefix=PREFIX, dir=boundary)
    guard = _Guard(limits or Limits(), os.path.getsize(archive))
    tree = _Tree(temporary, guard, is_folding(temporary))
    try:
        with _named(name or os.path.basename(archive)):
            _read(archive, tree, strip)
            _check_all_links(tree, destination, boundary)
            _finish(tree)
            _check_places(temporary, destination)
            os.makedirs(destination, exist_ok=True)
            _merge(temporary, destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Unpacked(tree.members, tree.size_bytes)


@contextmanager
def _named(archive: str) -> Iterator[None]:
    """Say which archive it was, and make one error of all that damaged input can raise."""
    try:
        yield
    except BuildError as error:
        raise BuildError(f"`{archive}`: {error}") from error
    except archives.DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise BuildError(f"`{archive}`: cannot be unpacked: {error}") from error
        raise BuildError(f"`{archive}` is damaged: {error or type(error).__name__}") from error


def is_folding(directory: str) -> bool:
    """Tell whether this file system takes `A` and `a`, or two spellings of `é`, for one name."""
    probe = os.path.join(directory, "Probe-\u00e9")
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        others = (probe.lower(), os.path.join(directory, "Probe-e\u0301"))
        return any(os.path.lexists(other) for other in others)
    finally:
        os.unlink(probe)


def _read(archive: str, tree: _Tree, strip: int) -> None:
    with archives.open_members(archive, tree.guard.check) as members:
        for member in members:
            tree.members += 1
            if tree.members > tree.guard.limits.members:
                raise BuildError(f"more than {tree.guard.limits.members} members: refused as a bomb")
            path = _path_of(member, member.name, strip)
            if path:
                _add(tree, member, path, strip)


def _path_of(member: Member, name: str, strip: int) -> str:
    """Return the normal relative path of a name, empty where nothing is left of it. Raises: `BuildError`."""
    if len(name) > MAX_PATH:
        raise BuildError(f"`{member.name[:60]}…`: a name of {len(name)} characters is refused")
    if name.startswith("/") or "\0" in name:
        raise BuildError(f"`{member.name}`: `{name}` is an absolute path, which is refused")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BuildError(f"`{member.name}`: `{name}` contains `..`, which is refused")
    return "/".join(parts[strip:])


def _add(tree: _Tree, member: Member, path: str, strip: int) -> None:
    _check_mode(member)
    _check_parents(tree, member, path)
    _check_collision(tree, member, path)
    if member.kind is Kind.DIRECTORY:
        _add_directory(tree, member, path)
        return
    if tree.kinds.get(path) is Kind.DIRECTORY:
        raise BuildError(f"`{member.name}` is a {member.kind.value}, but a directory of that name came before it")
    _drop_earlier(tree, path)
    os.makedirs(os.path.dirname(os.path.join(tree.root, path)), exist_ok=True)
    if member.kind is Kind.FILE:
        _add_file(tree, member, path)
    elif member.kind is Kind.HARD_LINK:
        _add_hard_link(tree, member, path, strip)
    else:
        tree.links[path] = member.target
    tree.culprits[path] = member.name
    tree.kinds[path] = Kind.LINK if member.kind is Kind.LINK else Kind.FILE


def _check_mode(member: Member) -> None:
    if member.kind is Kind.FILE and member.mode & (stat.S_ISUID | stat.S_ISGID):
        raise BuildError(f"`{member.name}` has a setuid or setgid bit, which is refused")


def _check_parents(tree: _Tree, member: Member, path: str) -> None:
    """Refuse what would lie below a file or a link of the archive; note each directory on the way."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        parent = "/".join(parts[:depth])
        kind = tree.kinds.setdefault(parent, Kind.DIRECTORY)
        if kind is not Kind.DIRECTORY:
            raise BuildError(f"`{member.name}` lies below the {kind.value} `{parent}`, which is refused")
        _check_collision(tree, member, parent)


def _check_collision(tree: _Tree, member: Member, path: str) -> None:
    if not tree.is_folding:
        return
    key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
    other = tree.folded.setdefault(key, path)
    if other != path:
        raise BuildError(f"`{member.name}` and `{other}` are one name on this file system: refused")


def _add_directory(tree: _Tree, member: Member, path: str) -> None:
    if tree.kinds.setdefault(path, Kind.DIRECTORY) is not Kind.DIRECTORY:
        raise BuildError(f"`{member.name}` is a directory, but a {tree.kinds[path].value} of that name came before it")
    os.makedirs(os.path.join(tree.root, path), exist_ok=True)
    tree.directory_modes[path] = member.mode & 0o755 | 0o700


def _drop_earlier(tree: _Tree, path: str) -> None:
    """A later member of the same name replaces the earlier one: by removing it, never by writing through it."""
    tree.links.pop(path, None)
    try:
        os.unlink(os.path.join(tree.root, path))
    except FileNotFoundError:
        pass


def _add_file(tree: _Tree, member: Member, path: str) -> None:
    full = os.path.join(tree.root, path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(full, flags, 0o600)
    with os.fdopen(fd, "wb") as target, member.open() as source:
        while chunk := source.read(_CHUNK_BYTES):
            tree.size_bytes += len(chunk)
            tree.guard.check(tree.size_bytes)
            target.write(chunk)
        os.fchmod(fd, member.mode & 0o755 | 0o600)
    if member.modified_s > 0:
        tree.times.append((full, member.modified_s))


def _add_hard_link(tree: _Tree, member: Member, path: str, strip: int) -> None:
    target = _path_of(member, member.target, strip)
    if tree.kinds.get(target) is not Kind.FILE:
        raise BuildError(f"`{member.name}` is a hard link to `{member.target}`, which is no earlier file: refused")
    os.link(os.path.join(tree.root, target), os.path.join(tree.root, path), follow_symlinks=False)


def _check_all_links(tree: _Tree, destination: str, boundary: str) -> None:
    """Judge the links of the archive together with those that stand in the work directory: each can bend the other."""
    if not tree.links:
        return
    place = os.path.relpath(destination, boundary)
    new = {os.path.normpath(os.path.join(place, path)): target for path, target in tree.links.items()}
    names = {os.path.normpath(os.path.join(place, path)): tree.culprits[path] for path in tree.links}
    check_links({**read_links(boundary), **new}, names)


def _finish(tree: _Tree) -> None:
    """Make the links last, so that nothing could be written through one, then times and modes from the leaves up."""
    for path, target in tree.links.items():
        os.symlink(target, os.path.join(tree.root, path))
    for full, modified_s in tree.times:
        if os.path.lexists(full):
            _set_time(full, modified_s)
    for path in sorted(tree.directory_modes, reverse=True):
        os.chmod(os.path.join(tree.root, path), tree.directory_modes[path])


def _set_time(path: str, modified_s: float) -> None:
    try:
        os.utime(path, (modified_s, modified_s), follow_symlinks=False)
    except (OverflowError, ValueError, OSError):
        pass  # a time that this file system cannot hold; the file is right all the same


def _check_places(source: str, target: str) -> None:
    """Refuse, before anything moves, what cannot take its place: a directory where a file is, or a file for one."""
    for name, is_directory in _entries(source):
        new = os.path.join(target, name)
        is_there = os.path.isdir(new) and not os.path.islink(new)
        if is_directory and is_there:
            _check_places(os.path.join(source, name), new)
        elif is_directory and os.path.lexists(new):
            raise BuildError(f"`{name}` is a directory in the archive, but a file or link stands there already")
        elif is_there:
            raise BuildError(f"`{name}` is no directory in the archive, but a directory stands there already")


def _merge(source: str, target: str) -> None:
    """Move what is in one directory into another. A directory joins one that is there; a file or link replaces one."""
    for name, is_directory in _entries(source):
        old, new = os.path.join(source, name), os.path.join(target, name)
        if is_directory and os.path.isdir(new):
            _merge(old, new)
        else:
            os.rename(old, new)


def _entries(directory: str) -> list[tuple[str, bool]]:
    with os.scandir(directory) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
