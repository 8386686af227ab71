"""The steps of a first claim, which a worker makes, and a supervisor that goes on by itself. Light: the launcher loads it.

Both hold the lease before the first of them and until after the last.

If we die here: a lock file that nobody holds, with no record, with one that has no spec, or with a claim that never
started; `recovery` has a row for each.
"""

from __future__ import annotations

import errno
import fcntl
import os

from spooldadd import durable, layout, names, record

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Mapping


def table(
    claimer: Mapping[str, str],
    name: names.RecordName,
    queue: str,
    source: str,
    moments: tuple[float, float],
    taken: Mapping[str, object],
) -> dict[str, object]:
    """Return what a claim says; `moments` are when the job was submitted and when it was claimed.

    `claimer` is node, worker and boot id, the worker's also where a supervisor of its own claims for it.
    """
    return {
        "job": name.job,
        "attempt": name.attempt,
        "token": name.token,
        "queue": queue,
        **claimer,
        "submitted_at": record.written(moments[0]),
        "claimed_at": record.written(moments[1]),
        "source": source,
        **taken,
    }


def signature(status: os.stat_result) -> tuple[int, int, int]:
    """Return what changes when a file is written or replaced."""
    return status.st_size, status.st_mtime_ns, status.st_ino


def has_writer_until_closed(fd: int) -> bool | None:
    """Tell whether somebody has this file open for writing, as the kernel says it; None where it does not say.

    Asks for a read lease, which the kernel refuses while there is a writer, and keeps it: closing the descriptor gives it
    back. `writers` knows where the answer is not to be believed. Source: fcntl(2), F_SETLEASE.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def make_own(path: str, mode: int) -> None:
    """Make a directory of a name that only we know; one that is there and empty is our own call, repeated."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if os.listdir(path):
            raise


def rename_in(source: str, target: str) -> bool:
    """Rename to a name that only we know; return whether it is ours now. Raises: OSError where nobody can tell."""
    try:
        os.rename(source, target)
    except OSError as error:
        if os.path.lexists(target):
            return True
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
    return True


def make_last(record_path: str, *, with_claim: bool, at_once: bool) -> None:
    """Make the claim of a drop last, `with_claim` also what the claim file says. Raises: OSError.

    Nothing of the job may start before. On a journal all of it is one commit. Where each name lasts by itself, the claim
    comes first, because it says what the spec was called in the root, and what holds the spec now comes before what it has
    left. If the power goes earlier, the spec is in the root, or in a record whose claim may be missing, and goes back;
    nothing was started. If it goes later, the spec may be in the root, too, until that lasts: a twin, which recovery knows
    by the claim and by the file itself. So the root has to last before the record leaves `running/`, and no sooner.
    """
    if with_claim:
        durable.sync_file(os.path.join(record_path, layout.CLAIM))
    durable.sync_directories([record_path, os.path.dirname(record_path)], at_once=at_once)


def remove_unclaimed(path: str) -> None:
    """Remove a record that holds no spec and nothing of a job. Raises: OSError, ENOTEMPTY where it holds more."""
    for entry in os.listdir(path):
        if is_of_claimer(entry) or durable.is_temporary(entry):
            durable.unlink_if_there(os.path.join(path, entry))
    try:
        os.rmdir(path)
    except FileNotFoundError:  # our own call was repeated, and its first answer lost
        pass


def is_of_claimer(entry: str) -> bool:
    """Tell whether this entry of a record says nothing of a job, only of who claimed it or means to."""
    return entry in (layout.CLAIM, layout.CANCEL, layout.OWNER) or bool(layout.inbox_node(entry))
