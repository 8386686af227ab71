"""Move a finished record to where it belongs: one rename, whose source name is the fence. Light: the launcher loads it.

If we die here: before the rename the record is in `running/` with a result, and any worker files it; after it, a lock
file without a record is left, and a worker removes it.
"""

from __future__ import annotations

import errno
import os

from spooldadd import durable, layout, names
from spooldadd.errors import ClaimLost, SpoolError

# What a call on our record says when it has another name. EIO: so NFS says that the server has given our lock away.
GONE = frozenset({errno.ENOENT, errno.ESTALE, errno.EIO})


def is_spool_here(places: layout.Layout) -> bool:
    """Tell whether the spool is mounted and in place, and is the one that these paths were made for."""
    try:
        with open(places.format, "rb") as file:
            return places.id.encode() in file.read()
    except OSError:
        return False


def file_record(places: layout.Layout, record: str, state: str, *, sync: bool) -> str:
    """Move `running/<record>` to the directory of this state; return where it is now. To be repeated until it succeeds.

    Without `sync` it is to be followed by `make_new_name_last` and `make_old_name_last` where a power cut is to be survived.
    Raises: ClaimLost where somebody else has moved it; SpoolError where the spool cannot be written now.
    """
    source = f"{places.running}/{record}"
    target = f"{places.root}/{state}/{names.job_of(record)}"
    try:
        target = _rename(source, target)
    except OSError as error:
        raise explain_failure(places, record, error) from error
    if sync:
        make_new_name_last(target)
        make_old_name_last(places, target)
    return target


def make_new_name_last(filed: str) -> None:
    """Make it last that this record is where it is. Raises: SpoolError."""
    _make_last(filed.rpartition("/")[0], filed)


def make_old_name_last(places: layout.Layout, filed: str) -> None:
    """Make it last that it is no longer running; not before its new name lasts, or it may have none. Raises: SpoolError."""
    _make_last(places.running, filed)


def _make_last(directory: str, filed: str) -> None:
    try:
        durable.sync_directory(directory)
    except OSError as error:  # it is filed, by us; only that it lasts is not known
        raise SpoolError(f"`{filed}` may not outlast a power cut: {error.strerror} (`{directory}`)") from error


def explain_failure(places: layout.Layout, record: str, error: OSError) -> ClaimLost | SpoolError:
    """Say what a failed call on our own record means: it is somebody else's now, or the spool is in trouble."""
    record_path = os.path.join(places.running, record)
    is_gone = error.errno in GONE and is_spool_here(places) and not os.path.lexists(record_path)
    if error.errno == errno.ENOTDIR and os.path.lexists(record_path) and not os.path.isdir(record_path):
        return ClaimLost(f"`{record_path}` is no directory any more: somebody has put something else in its place")
    if is_gone and is_spool_here(places):  # once more: it may have gone away just before the second look
        return ClaimLost(f"`{record}` is no longer in `{places.running}`: somebody else has it")
    return SpoolError(f"`{places.root}` cannot be written: {error.strerror} (`{error.filename}`)")


def remove_lock(places: layout.Layout, record: str) -> None:
    """Remove the lock file of a record that is filed. Its holder does this before it lets go of the lease."""
    try:
        os.unlink(places.lock(record))
    except OSError:
        pass  # left for the worker's next recovery; it harms nobody


def _rename(source: str, target: str) -> str:
    """Rename; where a record of that very job id stands already, file beside it: two nodes may have drawn one id."""
    own = _identity(source)
    for _ in range(10):
        try:
            os.rename(source, target)
        except OSError as error:
            if _is_filed(source, target) or (own is not None and _identity(target) == own and not _has_claim(target)):
                return target  # an earlier try did it, or the answer to this one lied
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            target = f"{target.rpartition('.')[0]}.{names.random_part()}"
        else:
            return target
    raise OSError(errno.EEXIST, "no free name", target)


def _has_claim(record: str) -> bool:
    """One that goes back unstarted has none; of all others the claim's token says whose they are."""
    return os.path.lexists(os.path.join(record, layout.CLAIM))


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_filed(source: str, target: str) -> bool:
    """Tell whether this very claim's record is there already: an earlier try did it, or the answer to this one lied."""
    parsed = names.parse_record_name(os.path.basename(source))
    assert parsed is not None, source
    try:
        with open(os.path.join(target, layout.CLAIM), "rb") as file:
            return f'\ntoken = "{parsed.token}"\n'.encode() in file.read()
    except OSError:
        return False
