"""Take in records that arrived from other spools: each by one rename, when it is whole and was looked through.

They arrive in `.spool/incoming/<node>.<spool>/<job>.<digest>/`, where no reader takes them for jobs, and the manifest comes
last. Whoever finds one that has its manifest takes it in, under a lock: the worker's courier, `collect`, or a reading
command.

| it is | what is done |
|---|---|
| a record that nobody here has | renamed to `done/` or `failed/` |
| the very record that was taken in before | removed |
| a later attempt of a job that was taken in | put in the place of the earlier one, whose files it has in `attempts/` |
| an earlier attempt than the one that is here | removed |
| of a job whose id somebody else's job has here | taken in under another id, which its spool and job give |
| not what its manifest says | put aside in `.spool/damaged/` |

If we die here: before the rename it is still in `incoming/` with its manifest, and taken in by the next one; what is to be
removed is renamed to `.trash-…` first, and the next one removes it. Where a later attempt ended otherwise than the earlier
one, or the file system cannot exchange two names, it may be in `incoming/` with nothing in its place, until it is taken in.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from spooldadd import durable, layout, locking, names
from spooldadd.layout import Layout
from spooldadd.remote import manifest as manifests
from spooldadd.remote.manifest import Damaged, Manifest, Newer

NEW, REPLACED, KNOWN, OLDER = "new", "replaced", "known", "older"
PULLED = ".pull-"  # what `collect` has not finished; its own business
TRASH = ".trash-"
DAMAGED = "damaged"
LOCK = ".lock"
# What has no manifest after this time, nobody goes on with: a node tries again for days, not for weeks.
ABANDONED_S = 30 * 86_400.0
_RENAME_EXCHANGE = 2  # linux/fs.h


class Took(NamedTuple):
    """What became of one arrival, and where its record is now."""

    manifest: Manifest
    path: str
    what: str


@dataclass
class Arrivals:
    """What one look at `incoming/` brought."""

    took: list[Took] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @property
    def news(self) -> list[Took]:
        """Those that changed what is to be seen here."""
        return [took for took in self.took if took.what in (NEW, REPLACED)]


def origin_of(node: str, spool: str) -> str:
    """Return the name of the directory for what comes from this node of this spool."""
    return f"{names.safe_name(node or 'node')}.{names.safe_name(spool or 'spool')}"


def entry_of(manifest: Manifest) -> str:
    """Return the name under which this record arrives. Another content has another name: none is changed under a reader."""
    return f"{manifest.job}.{manifest.digest[:12]}"


def whole(places: Layout) -> list[str]:
    """Return the paths of arrivals that have their manifest. Cheap: whoever serves or reads the spool asks often."""
    found = []
    for origin in _entries(places.incoming):
        if not origin.startswith("."):
            directory = os.path.join(places.incoming, origin)
            paths = (os.path.join(directory, entry) for entry in sorted(_entries(directory)))
            found += [path for path in paths if os.path.lexists(os.path.join(path, layout.MANIFEST))]
    return found


def take_in_all(places: Layout, *, sync: bool, is_patient: bool) -> Arrivals:
    """Take in all that is whole; who is not patient leaves it to whoever is at it already. Raises: OSError."""
    arrivals = Arrivals()
    if not os.path.isdir(places.incoming):
        return arrivals
    with locking.Alone(os.path.join(places.incoming, LOCK), is_patient=is_patient) as is_ours:
        if is_ours:
            _sweep(places)
            for path in whole(places):
                _take(places, path, arrivals, sync=sync)
    return arrivals


def take_in(places: Layout, path: str, *, sync: bool) -> Arrivals:
    """Take in this one, which has its manifest. Raises: OSError."""
    arrivals = Arrivals()
    with locking.Alone(os.path.join(places.incoming, LOCK), is_patient=True):
        _take(places, path, arrivals, sync=sync)
    return arrivals


def find(places: Layout, spool: str, job: str) -> tuple[str, Manifest] | None:
    """Return where the record of this job of that spool is here, with its manifest, or None."""
    for name in (job, other_id(spool, job)):
        for state in (layout.DONE, layout.FAILED):
            path = os.path.join(places.state_directory(state), name)
            found = _manifest(path)
            if found is not None and found.origin == (spool, job):
                return path, found
    return None


def other_id(spool: str, job: str) -> str:
    """Return the id that a job gets here whose own is another's: always the same, so that it is known again."""
    digest = hashlib.sha256(f"{spool}\n{job}".encode()).digest()
    random = "".join(names.ALPHABET[byte % len(names.ALPHABET)] for byte in digest[: names.RANDOM_LENGTH])
    return f"{job.rpartition('.')[0]}.{random}"


# -- one arrival


def _take(places: Layout, path: str, arrivals: Arrivals, *, sync: bool) -> None:
    try:
        manifest = manifests.read(path)
        if manifest is None:
            return
        manifests.check(path, manifest, sync=sync)
        arrivals.took.append(_place(places, path, manifest, sync=sync))
    except Newer as error:
        arrivals.troubles.append(f"`{path}`: {error}")
    except Damaged as error:
        aside = _put_aside(places, path)
        remedy = f"on its node, remove `{layout.UPLOADED}` from the record to send it again, or collect it again"
        arrivals.troubles.append(f"`{os.path.basename(path)}` arrived damaged: {error}; it is in `{aside}` now; {remedy}")
    except OSError as error:
        arrivals.troubles.append(f"`{path}` cannot be taken in: {error.strerror} (`{error.filename}`); it stays there")


def _place(places: Layout, path: str, manifest: Manifest, *, sync: bool) -> Took:
    here = find(places, manifest.spool, manifest.job)
    if here is None:
        target = os.path.join(places.state_directory(manifest.state), _free_id(places, manifest))
        durable.move(path, target, sync=sync)
        return Took(manifest, target, NEW)
    old, known = here
    if known.digest == manifest.digest:
        _discard(places, path)
        return Took(manifest, old, KNOWN)
    if (manifest.attempt, manifest.finished_at) < (known.attempt, known.finished_at):
        _discard(places, path)
        return Took(manifest, old, OLDER)
    target = os.path.join(places.state_directory(manifest.state), os.path.basename(old))
    if target == old and _exchange(path, old):
        _discard(places, path)
    else:
        _discard(places, old)
        os.rename(path, target)
    if sync:
        durable.sync_directory(os.path.dirname(target))
    return Took(manifest, target, REPLACED)


def _free_id(places: Layout, manifest: Manifest) -> str:
    """Raises: FileExistsError where both names are taken, by two other jobs."""
    for name in (manifest.job, other_id(manifest.spool, manifest.job)):
        if not _is_taken(places, name):
            return name
    raise FileExistsError(errno.EEXIST, "other jobs have its id here", manifest.job)


def _is_taken(places: Layout, name: str) -> bool:
    if any(entry.startswith(f"{name}.") for entry in _entries(places.running)):
        return True
    return any(os.path.lexists(os.path.join(parent, name)) for parent in (places.waiting, places.done, places.failed))


def _manifest(path: str) -> Manifest | None:
    try:
        return manifests.read(path)
    except Damaged:
        return None


def _exchange(one: str, other: str) -> bool:
    """Let two names change places in one step; return whether that was done. Source: renameat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        at = durable.AT_FDCWD
        return bool(libc.renameat2(at, os.fsencode(one), at, os.fsencode(other), _RENAME_EXCHANGE) == 0)
    except AttributeError:  # a C library before glibc 2.28 or musl 1.2.6
        return False


# -- what is in the way


def _discard(places: Layout, path: str) -> None:
    """Remove a record at once for every reader, and then its files."""
    trash = os.path.join(places.incoming, f"{TRASH}{names.random_part()}{names.random_part()}")
    os.rename(path, trash)
    shutil.rmtree(trash, ignore_errors=True)


def _put_aside(places: Layout, path: str) -> str:
    directory = os.path.join(places.internal, DAMAGED)
    target = os.path.join(directory, f"{os.path.basename(path)}.{names.random_part()}")
    try:
        os.makedirs(directory, exist_ok=True)
        os.rename(path, target)
    except OSError:
        return path
    return target


def _sweep(places: Layout) -> None:
    """Remove what was to be removed, and what nobody goes on with. Under the lock."""
    for origin in _entries(places.incoming):
        directory = os.path.join(places.incoming, origin)
        if origin.startswith(TRASH):
            shutil.rmtree(directory, ignore_errors=True)
        if origin.startswith("."):
            continue
        for entry in _entries(directory):
            path = os.path.join(directory, entry)
            if not os.path.lexists(os.path.join(path, layout.MANIFEST)) and _is_abandoned(path):
                _discard(places, path)


def _is_abandoned(path: str) -> bool:
    try:
        return time.time() - os.lstat(path).st_ctime > ABANDONED_S
    except OSError:
        return False


def _entries(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
