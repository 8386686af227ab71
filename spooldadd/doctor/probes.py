"""Checks of what the kernel and the file system really do here, by doing it in a directory of our own.

Manuals and mount options promise; a lock that two hold at once, or a rename that leaves both names, is seen only by trying.
"""

from __future__ import annotations

import os
import select
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import lock_descriptor

from spooldadd import durable, filesystem, writers
from spooldadd.doctor.model import Check, Subject, failed, ok, warned
from spooldadd.watch import Watch

PREFIX = "tmp-doctor-"
# Events of our own files come within a millisecond, on every file system that has them.
EVENT_S = 2.0
# A disk takes 1 to 20 ms for an fsync; above this each step of a job, of which there are about ten, is felt.
SLOW_FSYNC_S = 0.1
# Clocks that differ by less do no harm: nothing of ours compares them to the second.
CLOCK_S = 5.0


@contextmanager
def _directory(subject: Subject) -> Iterator[str]:
    """Make a directory for one probe; remove it, and what an examination that was killed left."""
    for name in os.listdir(subject.places.internal):
        if name.startswith(PREFIX):
            shutil.rmtree(os.path.join(subject.places.internal, name), ignore_errors=True)
    path = tempfile.mkdtemp(prefix=PREFIX, dir=subject.places.internal)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def check_rename(subject: Subject) -> Iterator[Check]:
    """One rename moves a record, with a file in it that somebody has open, and leaves nothing behind."""
    with _directory(subject) as path:
        source, target = os.path.join(path, "running", "record"), os.path.join(path, "done", "record")
        os.makedirs(source)
        os.mkdir(os.path.dirname(target))
        with open(os.path.join(source, "output.log"), "wb") as log:
            inode = os.fstat(log.fileno()).st_ino
            try:
                os.rename(source, target)
            except OSError as error:
                sentence = f"a record with an open log cannot be renamed: {error.strerror}"
                yield failed("rename", sentence, "use another file system for the spool")
                return
        moved = os.stat(os.path.join(target, "output.log")).st_ino == inode
        if not moved or os.path.lexists(source):
            yield failed("rename", "a rename left both names, or another file", "use another file system: this one lies")
            return
    yield ok("rename", "records can be renamed, open logs in them too")


def check_lock(subject: Subject) -> Iterator[Check]:
    """Of two descriptors one gets the lock, and it is free when that one is closed."""
    with _directory(subject) as path:
        first, second = _open_twice(os.path.join(path, "lock"), os.O_RDWR)
        try:
            is_taken, is_excluded = lock_descriptor(first, blocking=False), not lock_descriptor(second, blocking=False)
            os.close(first)
            is_freed = lock_descriptor(second, blocking=False)
        finally:
            os.close(second)
    if is_taken and is_excluded and is_freed:
        yield ok("lock", "locks exclude each other, on this machine")
    else:
        yield failed(
            "lock", "locks do not exclude each other here, so two workers could run one job", "use another file system"
        )


def check_lease(subject: Subject) -> Iterator[Check]:
    """Does the kernel tell who has a file open for writing?"""
    with _directory(subject) as path:
        writer, reader = _open_twice(os.path.join(path, "spec.toml"), os.O_RDONLY)
        seen = writers.has_writer(reader)
        os.close(writer)
        rest = writers.has_writer(reader)
        os.close(reader)
    if seen is True and rest is False:
        yield ok("lease", "a file that somebody still writes is recognised")
    else:
        yield warned(
            "lease",
            "the file system does not tell who has a file open for writing, so a slow writer is known only by its pauses",
            "drop by renaming (`mv`, `rsync`, `spooldadd submit`), or raise `intake.settle` above the longest pause",
        )


def check_events(subject: Subject) -> Iterator[Check]:
    """Does inotify tell of a new file?"""
    if not subject.config.intake.events:
        yield ok("events", "events are switched off (`intake.events`); scans find what is dropped")
        return
    with _directory(subject) as path:
        watch = Watch(path)
        try:
            watch.start()
        except OSError as error:
            remedy = "raise `fs.inotify.max_user_instances` or `fs.inotify.max_user_watches` with `sysctl`"
            yield warned("events", f"inotify cannot be used: {error.strerror}; a drop is found by scanning", remedy)
            return
        try:
            durable.write(os.path.join(path, "spec.toml"), b"", sync=False)
            is_told = bool(select.select([watch.fd], [], [], EVENT_S)[0])
        finally:
            watch.stop()
    if not is_told:
        yield warned("events", "inotify is silent here; a drop is found by scanning", "set `intake.events = false`")
    elif filesystem.is_network(filesystem.kind(subject.root)):
        yield ok("events", "inotify tells of this machine's own files; those of others are found by scanning")
    else:
        yield ok("events", "inotify tells of new files")


def check_fsync(subject: Subject) -> Iterator[Check]:
    """How long does it take to make a file last?"""
    with _directory(subject) as path:
        took_s = _timed(lambda: durable.write(os.path.join(path, "file"), b"x" * 4096, sync=True))
    if took_s > SLOW_FSYNC_S:
        remedy = "find out what writes to this disk; `--durability process` needs no fsync and survives no power cut"
        yield warned("fsync", f"making one small file last took {took_s * 1000:.0f} ms", remedy)
    else:
        yield ok("fsync", f"making one small file last took {took_s * 1000:.1f} ms")


def check_clock(subject: Subject) -> Iterator[Check]:
    """Does the file system's clock agree with ours?"""
    with _directory(subject) as path:
        file = os.path.join(path, "now")
        durable.write_new(file, b"", sync=False)
        ahead_s = os.stat(file).st_mtime - time.time()
    if abs(ahead_s) > CLOCK_S:
        word = "ahead of" if ahead_s > 0 else "behind"
        sentence = f"the file server's clock is {abs(ahead_s):.0f} s {word} this machine's"
        yield warned("clock", sentence, "let both follow one time server; times in results will not agree")
    else:
        yield ok("clock", "the file system's clock agrees with this machine's")


def _open_twice(path: str, flags: int) -> tuple[int, int]:
    first = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return first, os.open(path, flags | os.O_CLOEXEC)


def _timed(action: Callable[[], None]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


CHECKS = {
    "rename": check_rename,
    "lock": check_lock,
    "lease": check_lease,
    "events": check_events,
    "fsync": check_fsync,
    "clock": check_clock,
}
