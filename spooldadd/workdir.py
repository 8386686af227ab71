"""The place a job runs in, on the node's own disk: made, looked through for files to keep, removed. Light.

Nothing here follows a symbolic link: what the job puts into its directory must not lead us out of it.

If we die here: a work directory without a running record; a worker removes it when it is old enough.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import stat

from spooldadd import durable, layout
from spooldadd.names import random_part

CONFIG = "config.json"
# The files of a job's bundle are in a directory beside its work directory while it is built.
BUNDLE_SUFFIX = ".bundle"
COPY_BYTES = 1 << 20
MODE = 0o700
TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


# What a copy into a spool that is full, read-only or away ends with: to be tried again, not to be given up.
SPOOL_TROUBLES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE})


class CannotMake(Exception):  # it is an answer, not a fault of ours
    """The work directory cannot be made, and waiting would not change that."""


def make(
    path: str, config: bytes | None, script: tuple[str, bytes] | None = None, give: Callable[[str], bool] | None = None
) -> None:
    """Make a fresh, private work directory, with the spec's `[config]` in it, and the script that is the spec.

    `give` may have one that an earlier job has left empty. Raises: OSError, after which the directory is not there.
    """
    if give is None or not give(path):
        _make(path)
    given = [(CONFIG, config)] if config is not None else []
    given += [script] if script is not None else []
    try:
        for name, data in given:
            durable.write_new(os.path.join(path, name), data, sync=False, mode=0o600)
    except OSError:
        remove(path)
        raise


def _make(path: str) -> None:
    try:
        os.mkdir(path, MODE)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=MODE, exist_ok=True)
        os.mkdir(path, MODE)


def remove(path: str) -> None:
    """Remove a directory and what is in it; links go, what they lead to stays. Raises: OSError."""
    if os.path.islink(path) or not os.path.isdir(path):
        _unlink_if_there(path)
        return
    try:
        os.rmdir(path)  # most jobs leave nothing there, and a walk costs five times as much
        return
    except OSError:
        empty(path)
    os.rmdir(path)


def make_top(path: str, uid: int, gid: int) -> None:
    """Make the private place of another user's attempt, which he owns, below a directory of ours that he may cross.

    Raises: OSError, after which it is not there.
    """
    _open_way(os.path.dirname(path))
    os.mkdir(path, 0o700)
    try:
        os.chown(path, uid, gid, follow_symlinks=False)
    except OSError:
        os.rmdir(path)
        raise


def make_private(path: str, uid: int, gid: int) -> None:
    """Make a directory that is this user's alone, below directories of ours. Raises: OSError where it is somebody else's."""
    _open_way(os.path.dirname(path))
    try:
        os.mkdir(path, 0o700)
        os.chown(path, uid, gid, follow_symlinks=False)
    except FileExistsError:
        status = os.lstat(path)
        if status.st_uid == os.geteuid():  # who made it died before he gave it away; nobody else could enter it
            os.chown(path, uid, gid, follow_symlinks=False)
        elif status.st_uid != uid or not stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EPERM, "it is somebody else's", path) from None


def _open_way(directory: str) -> None:
    """Make a directory of ours that others may cross and not list, also where jobs of our own user have made it before."""
    os.makedirs(directory, mode=0o711, exist_ok=True)
    for path in (os.path.dirname(directory), directory):
        status = os.stat(path)
        if status.st_uid == os.geteuid() and not status.st_mode & stat.S_IXOTH:
            os.chmod(path, stat.S_IMODE(status.st_mode) | stat.S_IXGRP | stat.S_IXOTH)


def empty(path: str) -> None:
    """Remove what is in a directory, and not itself. Raises: OSError."""
    _make_enterable(path)
    top = os.open(path, _DIRECTORY)
    try:
        _empty(top, top)
        while subdirectories := os.listdir(top):
            for name in subdirectories:
                _remove_subdirectory(name, top)
    finally:
        os.close(top)


def keep(work_dir: str, record: str, patterns: list[str], *, sync: bool) -> tuple[list[str], list[str]]:
    """Copy the files that match a pattern into the record, under the same relative name.

    `*` and `?` stay within one directory, `**` goes through any number of them. Returns the names that were copied and
    sentences about those that were not. Raises: OSError where the spool is full, read-only or away.
    """
    kept: list[str] = []
    refused: list[str] = []
    for name in matching(work_dir, patterns):
        if why := reserved(name):
            refused.append(f"`{name}` was not kept: {why}")
            continue
        try:
            make_parents(record, name)
            _copy(os.path.join(work_dir, name), os.path.join(record, name), sync=sync)
            kept.append(name)
        except OSError as error:
            if error.errno in SPOOL_TROUBLES or not os.path.isdir(record):
                raise
            refused.append(f"`{name}` was not kept: {error.strerror}")
    return kept, refused


def matching(work_dir: str, patterns: list[str]) -> list[str]:
    """Return the relative names of the files that match a pattern."""
    wanted = [pattern.split("/") for pattern in patterns]
    return [name for name in sorted(_files(work_dir)) if any(matches(name.split("/"), pattern) for pattern in wanted)]


def reserved(name: str) -> str:
    """Say why a file of this name may not be put into a record; empty where it may."""
    is_ours = name.partition("/")[0] in layout.RESERVED or layout.inbox_node(name) or durable.is_temporary(name)
    return "the record has a file of that name itself" if is_ours else ""


def matches(parts: list[str], pattern: list[str]) -> bool:
    """Tell whether a relative path, taken apart at `/`, matches a pattern taken apart likewise."""
    used = {0}  # how many parts the pattern may have used up so far; so it takes no more than parts x pattern steps
    for piece in pattern:
        if piece == "**":
            used = set(range(min(used, default=len(parts) + 1), len(parts) + 1))
        else:
            used = {count + 1 for count in used if count < len(parts) and fnmatch.fnmatchcase(parts[count], piece)}
    return len(parts) in used


def _files(root: str) -> list[str]:
    """Return the regular files below, by relative name. What is too deep for a path could not be kept anyway."""
    found: list[str] = []
    todo = [] if os.path.islink(root) else [""]
    while todo:
        directory = todo.pop()
        try:
            entries = list(os.scandir(os.path.join(root, directory)))
        except OSError:
            continue
        names = {entry: os.path.join(directory, entry.name) for entry in entries}
        found += [name for entry, name in names.items() if entry.is_file(follow_symlinks=False)]
        todo += [name for entry, name in names.items() if entry.is_dir(follow_symlinks=False)]
    return found


def _remove_subdirectory(name: str, top: int) -> None:
    fd = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        _empty(fd, top)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=top)


def _empty(fd: int, top: int) -> None:
    """Remove the files of a directory and move its directories up to the top: a tree may be deeper than any recursion."""
    for entry in list(os.scandir(fd)):
        if not entry.is_dir(follow_symlinks=False):
            _unlink_if_there(entry.name, dir_fd=fd)
            continue
        _make_enterable(entry.name, dir_fd=fd)
        if fd != top:
            os.rename(entry.name, random_part() + random_part(), src_dir_fd=fd, dst_dir_fd=top)


def make_parents(record: str, name: str) -> None:
    """Make the directories below the record, never the record itself: where the spool is away, nothing may look like it."""
    path = record
    for part in name.split("/")[:-1]:
        path = os.path.join(path, part)
        try:
            os.mkdir(path)
        except FileExistsError:
            pass


def _copy(source: str, target: str, *, sync: bool) -> None:
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            while os.sendfile(writer, reader, None, COPY_BYTES):
                pass
            if sync:
                os.fsync(writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _unlink_if_there(name: str, dir_fd: int | None = None) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        pass


def _make_enterable(name: str, dir_fd: int | None = None) -> None:
    """A job may have left a directory that even its owner cannot enter or empty."""
    mode = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode
    if mode & stat.S_IRWXU == stat.S_IRWXU:
        return
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:  # of what was opened: by its name, a link could have taken its place meanwhile
        os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(mode) | stat.S_IRWXU)
    finally:
        os.close(fd)
