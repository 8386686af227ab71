"""The jobs of a spool: find one, list many, count all. Only reads, and loads little.

A job may move while we look, so whoever looks for one looks in the order in which jobs move, and once more before saying
that it is missing.
"""

from __future__ import annotations

import os

from spooldadd import durable, layout, names
from spooldadd.errors import NoSuchJob
from spooldadd.inspect import drops, listing, tables
from spooldadd.inspect.job import FINISHED, Job, id_stamp
from spooldadd.inspect.listing import Listing
from spooldadd.layout import Layout

TYPE_CHECKING = False  # not from `typing`: that import alone would take a tenth of the time of `status`
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FINISHED", "AmbiguousJob", "Job", "count", "find", "find_id", "find_source", "id_stamp", "list_jobs"]

# An ambiguous prefix names this many of the jobs that it could mean: more would hide the sentence.
CANDIDATES = 10


class AmbiguousJob(NoSuchJob):
    """A prefix that several jobs share; the message lists them."""


def list_jobs(
    places: Layout,
    states: Iterable[str] | None = None,
    limit: int | None = None,
    suffixes: tuple[str, ...] = drops.SUFFIXES,
) -> list[Job]:
    """Return the jobs: running, then waiting (drops first), both oldest first, then finished ones, newest first.

    `limit` is how many finished jobs at most. No file is opened but Python files in the root; times are those in the ids.
    """
    return Listing(places, suffixes, states).jobs(limit)


def count(places: Layout, suffixes: tuple[str, ...] = drops.SUFFIXES) -> dict[str, int]:
    """Return how many jobs are in each state, by the names of their files alone."""
    return Listing(places, suffixes).counts()


def find(places: Layout, text: str, suffixes: tuple[str, ...] = drops.SUFFIXES) -> Job:
    """Return the job that a person means by `text`.

    That is: a file that waits in the root by its name, one in an inbox by its key or by its name, a job by its id, by a
    unique prefix of its id, or, where the file is no longer there, the newest job that was made of it. A path is as good as
    the last part of it. Of two files of one name the one in the root is meant; the key tells the other.

    Raises: NoSuchJob; AmbiguousJob where several ids begin so.
    """
    wanted = _last_part(text)
    running = names.parse_record_name(wanted)
    wanted = running.job if running else wanted
    for look in (_find_exact, _find_exact, _find_prefix, _find_prefix, find_source):
        job = look(places, wanted, suffixes)
        if job is not None:
            return job
    raise NoSuchJob(f"no job is called `{text}`, and no id in `{places.root}` begins so; `spooldadd status` lists them")


def find_id(places: Layout, job_id: str) -> Job | None:
    """Return the job of exactly this id, in whatever state it is, or None. Looks twice: it may be on its way."""
    return _find_exact(places, job_id, drops.SUFFIXES) or _find_exact(places, job_id, drops.SUFFIXES)


def _find_exact(places: Layout, wanted: str, suffixes: tuple[str, ...]) -> Job | None:
    """Look in the order in which jobs move."""
    is_id = names.parse_job_id(wanted) is not None
    files = [wanted, *(wanted + suffix for suffix in suffixes if is_id)]
    for name in (*files, *(file + layout.HELD_SUFFIX for file in files)):
        if os.path.lexists(os.path.join(places.root, name)) and drops.is_waiting(places.root, name, suffixes):
            # A drop that carries the id of a record becomes a job of another id: anybody can write any id into a name.
            return (_find_record(places, wanted) if is_id else None) or listing.drop(places, name)
    # Inboxes last, because it takes a listing of the root to know them; what has moved on meanwhile the second look finds.
    return (_find_record(places, wanted) if is_id else None) or _find_in_inboxes(places, wanted, suffixes)


def _last_part(text: str) -> str:
    head, _, last = text.rstrip("/").rpartition("/")
    inbox = os.path.basename(head)
    return f"{inbox}/{last}" if last and layout.inbox_node(inbox) else last or text


def _find_in_inboxes(places: Layout, wanted: str, suffixes: tuple[str, ...]) -> Job | None:
    """By the name of the file, or by the id that it carries."""
    if "/" in wanted:
        return None
    keys = [key for key in drops.in_inboxes(places.root, wanted, suffixes) if wanted in _names_of(key)]
    if len(keys) > 1:
        raise AmbiguousJob(_ambiguity(wanted, [listing.drop(places, key) for key in keys]))
    return listing.drop(places, keys[0]) if keys else None


def _names_of(key: str) -> tuple[str, ...]:
    name = os.path.basename(key)
    return name, layout.bare_name(name), drops.carried_job_id(key) or name


def _find_record(places: Layout, wanted: str) -> Job | None:
    """Look in the order in which jobs move; among those that have ended, where it would be before a listing of a million.

    That it is there is true even of a far spool; that it is not there, a listing alone can tell.
    """
    for state in (layout.WAITING, layout.RUNNING):
        if (job := _find_listed(places, state, wanted)) is not None:
            return job
    for state in FINISHED:
        if os.path.lexists(os.path.join(places.state_directory(state), wanted)):
            return listing.record(places, state, wanted)
    return _find_listed(places, layout.DONE, wanted) or _find_listed(places, layout.FAILED, wanted)


def _find_listed(places: Layout, state: str, wanted: str) -> Job | None:
    for name in listing.entries(places.state_directory(state)):
        if name.startswith(wanted) and listing.job_id(state, name) == wanted and _is_job(places, state, name):
            return listing.record(places, state, name)
    return None


def _find_prefix(places: Layout, wanted: str, suffixes: tuple[str, ...]) -> Job | None:
    found = _beginning_with(places, wanted, suffixes)
    if len(found) > 1:
        # A drop and its own record may both have been seen: what has moved on meanwhile is not meant.
        found = [job for job in found if len(found) > CANDIDATES or os.path.lexists(job.path)]
    if len(found) > 1:
        raise AmbiguousJob(_ambiguity(wanted, found))
    return found[0] if found else None


def _ambiguity(wanted: str, found: list[Job]) -> str:
    newest = sorted(found, key=lambda job: (id_stamp(job.id) or "~", job.id), reverse=True)
    lines = [f"  {job.id}  {job.state}" for job in newest[:CANDIDATES]]
    if len(found) > CANDIDATES:
        lines.append(f"  and {len(found) - CANDIDATES} more")
    return f"{len(found)} jobs begin with `{wanted}`; type more of the one you mean:\n" + "\n".join(lines)


def find_source(places: Layout, file_name: str, suffixes: tuple[str, ...] = drops.SUFFIXES) -> Job | None:
    """Return the newest job that was made of a file of this name; jobs named like the file are asked first."""
    if not file_name.endswith(suffixes):
        return None
    source = durable.printable(file_name)  # as the claim notes it
    name = names.safe_name(os.path.splitext(os.path.basename(file_name))[0])
    jobs = [job for job in _beginning_with(places, "", suffixes) if not job.is_drop]
    likely = [job for job in jobs if job.name == name]
    return _newest_of(likely, source) or _newest_of([job for job in jobs if job.name != name], source)


def _newest_of(jobs: list[Job], source: str) -> Job | None:
    """Ids tell the second; among jobs of one second their claims decide."""
    best: Job | None = None
    for job in sorted(jobs, key=lambda job: id_stamp(job.id), reverse=True):
        if best is not None and id_stamp(job.id) != id_stamp(best.id):
            return best
        if source in (job.source(), os.path.basename(job.source())) and (
            best is None or _claimed_at(job) > _claimed_at(best)
        ):
            best = job
    return best


def _claimed_at(job: Job) -> str:
    return str(tables.plain(job.claim().get("claimed_at", "")))


def _beginning_with(places: Layout, start: str, suffixes: tuple[str, ...]) -> list[Job]:
    """Return the jobs whose id or file name begins so. Of one that moved while we looked, the later sight counts."""
    found: dict[str, Job] = {}
    keys = drops.keys(places.root, start)
    if start and not start.startswith(layout.INBOX):
        keys += drops.in_inboxes(places.root, start, suffixes)
    for name in keys:
        if drops.is_waiting(places.root, name, suffixes):
            found[drops.carried_job_id(name) or name] = listing.drop(places, name)
    for state in layout.STATES:
        for name in listing.entries(places.state_directory(state)):
            job_id = listing.job_id(state, name) if name.startswith(start) else None
            if job_id is not None and _is_job(places, state, name):
                found[job_id] = listing.record(places, state, name)
    return list(found.values())


def _is_job(places: Layout, state: str, name: str) -> bool:
    return state != layout.RUNNING or listing.is_claimed(os.path.join(places.running, name))
