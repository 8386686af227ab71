"""What a person does to a job: run it again, end it, hold it, let it go.

Each act is one rename or one file made or removed, so a person can do the same with `mv`, `touch` and `rm`. After it the
workers are woken; one that does not hear it finds the change at its next scan.

A job moves on while somebody decides about it, so an act on a name that is gone is refused or tried again with what the
job is now, never guessed.

If we die here: in a cancel, between the claim of a job that had not started and its result. Recovery puts such a job back:
it was not cancelled. Every other act is done or not.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time

from spooldadd import (
    claim,
    durable,
    layout,
    lifecycle,
    mark,
    names,
    nodes,
    process,
    record,
    request,
    spool,
)
from spooldadd.errors import ClaimLost
from spooldadd.inspect import drops, jobs, listing
from spooldadd.inspect.jobs import Job
from spooldadd.inspect.peeking import peek
from spooldadd.layout import Layout
from spooldadd.permission import NotPossible, ask, must_ask, note_owner, require_root
from spooldadd.request import Request
from spooldadd.spool import Spool

TYPE_CHECKING = False  # not from `typing`, as in all that reading commands load
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NotPossible", "cancel", "hold", "pause", "release", "rename_new", "resume", "retry", "shown_id", "wake"]

# How often a job may slip away between the look and the act; each time it went on to its next state.
RACES = 5
MARKER_MODE = 0o644
# Everybody who may drop a spec may wake the workers.
WAKE_MODE = 0o664
_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # linux/fcntl.h, linux/fs.h


class _Moved(Exception):
    """The job is no longer where it was."""


def shown_id(job: Job) -> str:
    """Return the id that this job has or will have; of a file whose name carries none, the name."""
    return (drops.carried_job_id(job.id) or job.id) if job.is_drop else job.id


# -- again


def retry(the_spool: Spool, job: Job, *, is_forced: bool = False) -> None:
    """Run a failed job again, now, whatever its retry limit says; one between two attempts does not wait for its time.

    Raises: NotPossible for a running or held job, and for a successful one unless forced; SpoolError.
    """
    if must_ask(the_spool):
        ask(the_spool, Request(request.RETRY, job.id, is_forced=is_forced), wake)
        return
    _require_home(the_spool, job)
    if job.is_held:
        raise NotPossible(f"`{shown_id(job)}` is held; `spooldadd release {shown_id(job)}` lets it go")
    if job.is_drop:
        raise NotPossible(f"`{shown_id(job)}` has not run yet; `spooldadd explain {shown_id(job)}` says what it waits for")
    if job.state == layout.RUNNING:
        raise NotPossible(f"`{shown_id(job)}` runs now; `spooldadd cancel {shown_id(job)}` ends it")
    if job.state == layout.DONE and not is_forced:
        raise NotPossible(
            f"`{shown_id(job)}` was successful; `spooldadd retry --force {shown_id(job)}` runs it again all the same"
        )
    try:
        if job.state == layout.WAITING:
            _make_marker(the_spool, job, layout.NOW)
        else:
            _return_to_waiting(the_spool, job)
    except _Moved as error:
        raise NotPossible(
            f"`{shown_id(job)}` has just been moved by somebody else; `spooldadd status {shown_id(job)}`"
        ) from error
    wake(the_spool.places)


def _return_to_waiting(the_spool: Spool, job: Job) -> None:
    """One rename. Whoever claims the record moves what the earlier attempts left out of the way."""
    target = os.path.join(the_spool.places.waiting, job.id)
    _remove_marker(the_spool, job, layout.HOLD)
    try:
        os.rename(job.path, target)
        if the_spool.sync:
            durable.sync_move(job.path, target)
    except FileNotFoundError as error:
        raise _Moved from error
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise NotPossible(f"`{target}` is there already: two records of one job; move one of them away") from error
        raise the_spool.trouble(error) from error


# -- end


def cancel(the_spool: Spool, job: Job, require: Callable[[Job], None] | None = None) -> Job | None:
    """End a job: one that has not started is filed as cancelled; a running one is asked to end, and returned as it is now.

    `require` refuses what must not be ended. It is asked again of what is found where the job has moved on: that is known
    by the id in a drop's name, which is whatever somebody has written there.

    Raises: NotPossible where it is finished; NoSuchJob where it is gone; SpoolError; what `require` raises.
    """
    if must_ask(the_spool):
        return job if ask(the_spool, Request(request.CANCEL, job.id), wake).is_running else None
    for _ in range(RACES):
        try:
            if job.is_finished:
                raise NotPossible(f"`{shown_id(job)}` has ended already: it is in `{job.state}/`")
            _require_home(the_spool, job)
            if job.state == layout.RUNNING:
                _ask_to_end(the_spool, job)
                return job
            _cancel_unstarted(the_spool, job)
            return None
        except (_Moved, ClaimLost):
            job = jobs.find(the_spool.places, shown_id(job).removesuffix(layout.HELD_SUFFIX))
            if require is not None:
                require(job)
    raise NotPossible(f"`{shown_id(job)}` changes its state all the time; try again")


def _cancel_unstarted(the_spool: Spool, job: Job) -> None:
    """Claim it as a worker does, so that nobody starts it meanwhile, and file it. Raises: ClaimLost, SpoolError."""
    claimer = _as_claimer(the_spool, _home(the_spool, job))
    seen = peek(job.spec_path)
    if job.is_drop:
        claimed = claimer.claim_drop(job.id, seen.name or job.name, seen.queue)
    else:
        claimed = claimer.claim_waiting(job.id, seen.queue)
    when = "it started" if claimed.attempt == 1 else "its next attempt"
    if the_spool.format.many_users:
        note_owner(claimed)
    result = {
        "job": claimed.job,
        "name": names.job_name(claimed.job),
        "queue": claimed.queue,
        "state": lifecycle.FAILED,
        "outcome": lifecycle.CANCELLED,
        "reason": f"it was cancelled before {when}",
        "attempt": claimed.attempt,
        "node": claimer.holder.node,
        "submitted_at": record.moment(claimed.submitted_at_s),
        "claimed_at": record.moment(claimed.claimed_at_s),
        "finished_at": record.moment(time.time()),
    }
    try:
        record.write_result(claimed.path, result, sync=claimer.sync)
    except OSError as error:
        os.close(claimed.lease)  # recovery finds a claim that never started, and puts it back
        raise claimer.trouble(error) from error
    claimer.file(claimed.record, claimed.lease, layout.FAILED)


def _home(the_spool: Spool, job: Job) -> str:
    """Return the node to which a job of a synced spool belongs; empty in any other spool."""
    marked = the_spool.format
    if marked.kind != mark.SYNCED:
        return ""
    bound = list(filter(None, [layout.drop_node(job.id)])) if job.is_drop else layout.bound_nodes(listing.entries(job.path))
    if bound or not job.is_drop:
        return bound[0] if bound else ""
    from spooldadd.inspect import checked, placing  # late, as few spools are synced

    return placing.owner_of(job, checked.check(job).spec, marked.nodes)


def _require_home(the_spool: Spool, job: Job) -> None:
    """In a synced spool each path has one writing node; another one's act would come too late, or not at all.

    Raises: NotPossible on another node. Ours is the one whose worker holds its lock in this copy, or that is so configured.
    """
    home = _home(the_spool, job)
    if not home or home == the_spool.holder.node or nodes.is_serving(the_spool.places, home):
        return
    from spooldadd.config import find_config, load  # late: heavy

    root = the_spool.places.root
    here = load(find_config(root, environ=os.environ, uid=os.getuid()), environ=os.environ).node
    if here != home:
        said = f"`{shown_id(job)}` belongs to node `{home}` of this synced spool, and this is `{here}`; do it there"
        raise NotPossible(f"{said}, or set `node` in the configuration if this is `{home}`")


def _as_claimer(the_spool: Spool, home: str = "") -> Spool:
    """A claim names its node, or nobody would recover it."""
    if the_spool.holder.node and home in ("", the_spool.holder.node):
        return the_spool
    from spooldadd.config import default_node  # late: heavy, and the command line knows the node already

    pid = os.getpid()
    holder = claim.Holder(home or default_node(), process.boot_id(), pid, process.start_ticks(pid) or 0)
    return spool.Spool(the_spool.places.root, the_spool.format, holder)


def _ask_to_end(the_spool: Spool, job: Job) -> None:
    """Leave word in the record, and wake its supervisor where that is on this machine; elsewhere it looks every second."""
    _make_marker(the_spool, job, layout.CANCEL)
    holder = claim.read_holder(the_spool.places, job.record_name)
    is_here = holder.boot_id and holder.boot_id == process.boot_id()
    if is_here and process.is_alive(holder.supervisor_pid, holder.supervisor_start):
        process.send([holder.supervisor_pid], signal.SIGUSR1)
    wake(the_spool.places)


# -- hold, release


def hold(the_spool: Spool, job: Job) -> None:
    """Keep a job from being started. Nothing where it is held already. Raises: NotPossible once it runs; SpoolError."""
    if job.is_held:
        return
    _require_waiting(job)
    if must_ask(the_spool):
        ask(the_spool, Request(request.HOLD, job.id), wake)
        return
    _require_home(the_spool, job)
    try:
        if job.is_drop:
            _rename_drop(the_spool, job.path, job.path + layout.HELD_SUFFIX)
        else:
            _make_marker(the_spool, job, layout.HOLD)
    except _Moved as error:
        raise NotPossible(f"`{shown_id(job)}` has just been started; `spooldadd cancel {shown_id(job)}` ends it") from error
    wake(the_spool.places)


def release(the_spool: Spool, job: Job) -> None:
    """Let a held job go. Nothing where it is not held. Raises: NotPossible once it runs; SpoolError."""
    _require_waiting(job)
    if not job.is_held:
        return
    if must_ask(the_spool):
        ask(the_spool, Request(request.RELEASE, job.id), wake)
        return
    _require_home(the_spool, job)
    try:
        if job.is_drop:
            _rename_drop(the_spool, job.path, job.path.removesuffix(layout.HELD_SUFFIX))
        else:
            _remove_marker(the_spool, job, layout.HOLD)
    except _Moved as error:
        raise NotPossible(
            f"`{shown_id(job)}` has just been moved by somebody else; `spooldadd status {shown_id(job)}`"
        ) from error
    wake(the_spool.places)


def pause(the_spool: Spool, queue: str | None = None) -> None:
    """Let the workers start nothing more, of this queue or at all. What runs goes on. Raises: SpoolError."""
    require_root(the_spool)
    path = _pause_file(the_spool.places, queue)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, MARKER_MODE))
        _make_last(the_spool, the_spool.places.root)
    except OSError as error:
        raise the_spool.trouble(error) from error
    wake(the_spool.places)


def resume(the_spool: Spool, queue: str | None = None) -> None:
    """Let the workers start jobs again, of this queue or of those that are not paused themselves. Raises: SpoolError."""
    require_root(the_spool)
    try:
        os.unlink(_pause_file(the_spool.places, queue))
        _make_last(the_spool, the_spool.places.root)
    except FileNotFoundError:
        return
    except OSError as error:
        raise the_spool.trouble(error) from error
    wake(the_spool.places)


def wake(places: Layout) -> None:
    """Make the workers look at once. One that cannot be woken looks by itself a little later."""
    try:
        os.close(os.open(os.path.join(places.root, layout.WAKE), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, WAKE_MODE))
    except OSError:
        pass


def _require_waiting(job: Job) -> None:
    if job.state == layout.RUNNING:
        raise NotPossible(f"`{shown_id(job)}` runs already; `spooldadd cancel {shown_id(job)}` ends it")
    if job.is_finished:
        raise NotPossible(f"`{shown_id(job)}` has ended already: it is in `{job.state}/`")


def _pause_file(places: Layout, queue: str | None) -> str:
    for_all, for_queue = places.pause_files(queue or "")
    return for_all if queue is None else for_queue


def _rename_drop(the_spool: Spool, source: str, target: str) -> None:
    """Raises: _Moved where the drop is gone; NotPossible where the target is there already; SpoolError."""
    try:
        rename_new(source, target)
        _make_last(the_spool, os.path.dirname(target))
    except FileNotFoundError as error:
        raise _Moved from error
    except FileExistsError as error:
        name = os.path.basename(target)
        raise NotPossible(f"`{name}` is in the spool already; rename one of the two first") from error
    except OSError as error:
        raise the_spool.trouble(error) from error


def rename_new(source: str, target: str) -> None:
    """Rename to a name that is free. Where the file system cannot promise that (NFS), a look comes first.

    Raises: FileExistsError; FileNotFoundError; OSError. Source: renameat2(2).
    """
    call = getattr(_LIBC, "renameat2", None)
    if call is not None:
        if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(number, os.strerror(number), source, None, target)
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source, None, target)
    os.rename(source, target)


# -- markers in a record


def _make_marker(the_spool: Spool, job: Job, name: str) -> None:
    """Raises: _Moved where the record is gone; SpoolError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        os.close(os.open(os.path.join(job.path, name), flags, MARKER_MODE))
        _make_last(the_spool, job.path)
    except FileNotFoundError as error:
        raise _Moved from error
    except OSError as error:
        raise the_spool.trouble(error) from error


def _remove_marker(the_spool: Spool, job: Job, name: str) -> None:
    """Raises: _Moved where the record is gone; SpoolError."""
    try:
        os.unlink(os.path.join(job.path, name))
        _make_last(the_spool, job.path)
    except FileNotFoundError as error:
        if not os.path.lexists(job.path):
            raise _Moved from error
    except OSError as error:
        raise the_spool.trouble(error) from error


def _make_last(the_spool: Spool, directory: str) -> None:
    """Raises: OSError; FileNotFoundError where the record has moved on, and the marker with it."""
    if the_spool.sync:
        durable.sync_directory(directory)
