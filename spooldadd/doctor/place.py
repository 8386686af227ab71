"""Checks of the directories of a spool and of the file system that they are on."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from spooldadd import filesystem, layout, mark, owning, spool, trust
from spooldadd.doctor.model import Check, Subject, failed, listed, ok, warned
from spooldadd.errors import NotASpool, SpooldaddError, SpoolError
from spooldadd.units import format_size

# Below these a worker runs into a full disk soon: a job's log may have 100 MB, each job takes about ten inodes.
LITTLE_BYTES, LITTLE_SHARE = 1 << 30, 0.05
NO_BYTES, NO_INODES = 16 << 20, 100
# These live in memory.
FLEETING = frozenset({"tmpfs", "ramfs"})


def check_format(subject: Subject) -> Iterator[Check]:
    """Is it a spool that this release understands?"""
    try:
        found = mark.read(subject.root)
    except NotASpool as error:
        yield failed("spool", str(error), f"`spooldadd init {subject.root}` makes one, if this is the right directory")
    except SpooldaddError as error:
        yield failed("spool", str(error), "where it is damaged: the file never changes, so any backup has the same")
    else:
        yield ok(
            "spool", f"`{subject.root}` is a {found.kind} spool of format {mark.FORMAT}, durability `{found.durability}`"
        )


def _directories(subject: Subject) -> list[str]:
    places = subject.places
    states = [places.state_directory(state) for state in layout.STATES]
    return [places.root, *states, places.internal, places.locks, places.nodes]


def check_directories(subject: Subject) -> Iterator[Check]:
    """Are all of them there, and directories, not links that lead elsewhere?"""
    missing = [path for path in _directories(subject) if not os.path.lexists(path)]
    present = [path for path in _directories(subject) if path not in missing]
    other = [path for path in present[1:] if not stat.S_ISDIR(os.lstat(path).st_mode)]
    if missing:
        yield failed("directories", f"{listed(missing)} missing", f"`spooldadd init {subject.root}` completes a spool")
    if other:
        yield failed(
            "directories", f"{listed(other)}: no directory", "move it away, then `spooldadd init` completes the spool"
        )
    if not missing and not other:
        yield ok("directories", "all directories are there")


def check_rights(subject: Subject) -> Iterator[Check]:
    """May this user write there, and nobody else whom the worker does not trust?"""
    if mark.is_common(subject.root):
        yield _check_common(subject)
        return
    settings = subject.config.trust
    rule = trust.of_config(settings.owners, settings.groups)
    present = [path for path in _directories(subject) if os.path.isdir(path)]
    objections = [rule.objection(os.stat(path), f"`{path}`") for path in present]
    closed = [path for path in present if not os.access(path, os.R_OK | os.W_OK | os.X_OK)]
    if closed:
        user = trust.user_name(os.geteuid())
        yield failed(
            "rights", f"`{user}` may not write to {listed(closed)}", "run as the user who serves this spool, or `chown`"
        )
    for objection in filter(None, objections):
        yield failed("rights", objection, "a worker refuses what somebody else could have put there")
    if not closed and not any(objections):
        yield ok("rights", f"owners and modes are fine for `{trust.user_name(os.geteuid())}`")


def _check_common(subject: Subject) -> Check:
    """A spool for many users is root's, and so is every directory on the way to it."""
    try:
        owning.refuse_unsafe(spool.open_spool(subject.root), subject.config)
    except SpoolError as error:
        return failed("rights", str(error), "a worker refuses what one of its users could change")
    return ok("rights", "everybody may drop here, and nobody but root changes anything else")


def check_one_filesystem(subject: Subject) -> Iterator[Check]:
    """A rename between two file systems is a copy, and no step of ours is."""
    root_device = os.stat(subject.root).st_dev
    present = [path for path in _directories(subject) if os.path.isdir(path)]
    elsewhere = [path for path in present if os.stat(path).st_dev != root_device]
    if elsewhere:
        yield failed(
            "one-filesystem",
            f"{listed(elsewhere)}: on another file system than `{subject.root}`, so nothing can be renamed into it",
            "unmount it, or make a spool whose directories are all in one place",
        )
    else:
        yield ok("one-filesystem", "all directories are on one file system")


def check_kind(subject: Subject) -> Iterator[Check]:
    """What follows from the file system."""
    kind = filesystem.kind(subject.root)
    durability = mark.read(subject.root).durability
    if kind == "fuse.sshfs":
        yield warned(
            "filesystem",
            "sshfs: two nodes can hold one lock, and neither is told",
            "let one node only serve this spool; others may drop into it",
        )
    elif kind == "nfs":
        remedy = "mount it with `vers=4.2`"
        yield warned("filesystem", "NFS before version 4: a lock call may hang, new files show after half a minute", remedy)
    elif kind in FLEETING and durability == "power":
        remedy = "move the spool to a disk, or make it with `--durability process`"
        yield warned("filesystem", f"{kind}: in memory, so everything is gone after a power cut or a reboot", remedy)
    elif filesystem.is_network(kind):
        yield ok("filesystem", f"{kind}: no events from other machines, so a drop is found by scanning, every few seconds")
    else:
        events = "events tell of a drop at once" if subject.config.intake.events else "events are off (`intake.events`)"
        yield ok("filesystem", f"{kind or 'unknown'}: {events}; files that nobody announced are taken after 2 s")


def check_space(subject: Subject) -> Iterator[Check]:
    """Room for bytes and for names, in the spool and where jobs run."""
    for what, path in (("spool", subject.root), ("work directory", _existing(subject.config.work_dir))):
        yield from _space(f"the {what}", path)


def _space(what: str, path: str) -> Iterator[Check]:
    found = os.statvfs(path)
    free_bytes = found.f_bavail * found.f_frsize
    share = found.f_bavail / found.f_blocks if found.f_blocks else 1.0
    sentence = f"{what} has {format_size(free_bytes)} left ({share:.0%})"
    remedy = f"make room where `{path}` is"
    if free_bytes < NO_BYTES:
        yield failed("space", sentence, remedy)
    elif free_bytes < LITTLE_BYTES and share < LITTLE_SHARE:
        yield warned("space", sentence, remedy)
    else:
        yield ok("space", sentence)
    if found.f_files and found.f_favail < max(NO_INODES, found.f_files * 0.01):  # btrfs counts none
        is_over = found.f_favail < NO_INODES
        yield (failed if is_over else warned)(
            "space", f"{what} has {found.f_favail} inodes left", "remove many small files there"
        )


def _existing(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


CHECKS = {
    "directories": check_directories,
    "rights": check_rights,
    "one-filesystem": check_one_filesystem,
    "filesystem": check_kind,
    "space": check_space,
}
