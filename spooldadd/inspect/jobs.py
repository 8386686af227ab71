"""The jobs of a spool: find one, list many, count all. Only reads, and loads little.

The state of a job is the directory that it is in; what a file says about the state is history. A job may move while we
look, so whoever looks for one looks in the order in which jobs move, and once more before saying that it is missing.
"""

from __future__ import annotations

import os

from spooldadd import layout, names
from spooldadd.errors import NoSuchJob
from spooldadd.inspect import drops, tables
from spooldadd.inspect.tables import Table
from spooldadd.layout import Layout

TYPE_CHECKING = False  # not from `typing`: that import alone would take a tenth of the time of `status`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FINISHED = (layout.DONE, layout.FAILED)
# An ambiguous prefix names this many of the jobs that it could mean: more would hide the sentence.
CANDIDATES = 10
# In the order in which a person reads them; what a newer release adds comes after.
_ORDER = (
    "job", "name", "queue", "state", "outcome", "reason", "exit_code", "signal", "attempt", "node", "submitted_at",
    "claimed_at", "started_at", "finished_at", "next_attempt_at", "duration_s", "cpu_s", "max_rss_bytes", "held",
    "source", "supervisor_pid", "job_pid", "workdir", "kept",
)  # fmt: skip
_FROM_CLAIM = ("queue", "node", "submitted_at", "claimed_at", "source")


class AmbiguousJob(NoSuchJob):
    """A prefix that several jobs share; the message lists them."""


class Job:
    """One job as it was when we looked: a drop in the root, or a record. Read-only.

    Not a dataclass: importing `dataclasses` would double the time that `status` takes.
    """

    __slots__ = ("_claim", "_result", "attempt_claimed", "id", "is_drop", "name", "path", "places", "state")

    def __init__(self, places: Layout, state: str, path: str, job_id: str, *, is_drop: bool = False) -> None:
        self.places = places
        self.state = state
        self.path = path
        self.id = job_id
        self.is_drop = is_drop
        self.name = drops.job_name(job_id) if is_drop else names.job_name(job_id)
        running = names.parse_record_name(os.path.basename(path)) if state == layout.RUNNING else None
        self.attempt_claimed = running.attempt if running else 0
        self._claim: Table | None = None
        self._result: Table | None = None

    def __repr__(self) -> str:
        return f"Job({self.id!r}, {self.state})"

    @property
    def record(self) -> str:
        """The path of the record directory; of a drop, the file's."""
        return self.path

    @property
    def record_name(self) -> str:
        """The name of the file or directory, which for a running job is the name of its claim."""
        return os.path.basename(self.path)

    @property
    def is_held(self) -> bool:
        """Tell whether a person holds it: a drop by its suffix, a waiting record by a file in it."""
        if self.is_drop:
            return drops.is_held(self.id)
        return self.state == layout.WAITING and os.path.lexists(os.path.join(self.path, layout.HOLD))

    @property
    def is_finished(self) -> bool:
        """Tell whether it is in `done/` or `failed/`."""
        return self.state in FINISHED

    @property
    def spec_path(self) -> str:
        """The path of its spec."""
        return self.path if self.is_drop else os.path.join(self.path, layout.SPEC)

    def claim(self) -> Table:
        """Return who claimed the last attempt, where and when; empty where nobody did or the file cannot be read."""
        if self._claim is None:
            self._claim = self._current(layout.CLAIM)
        return self._claim

    def result(self) -> Table:
        """Return how the last attempt ended; empty where none has ended or the file cannot be read."""
        if self._result is None:
            self._result = self._current(layout.RESULT)
        return self._result

    def attempt(self) -> int:
        """Return the number of the attempt that runs, or that ran last; 0 where none has begun."""
        if self.attempt_claimed:
            return self.attempt_claimed
        number = self.result().get("attempt") or self.claim().get("attempt")
        return number if isinstance(number, int) else 0

    def source(self) -> str:
        """Return the name of the file that was dropped, as its first claim noted it."""
        for place in ("", os.path.join(layout.ATTEMPTS, "1")):
            found = self.claim() if not place else tables.read(os.path.join(self.path, place, layout.CLAIM)) or {}
            source = found.get("source")
            if isinstance(source, str) and source:
                return source
        return self.id if self.is_drop else ""

    def holder(self) -> Table:
        """Return what the lock file of a running job says: which processes it was handed to."""
        if self.state != layout.RUNNING:
            return {}
        return tables.read(self.places.lock(self.record_name)) or {}

    def table(self) -> dict[str, object]:
        """Return the job object in JSON: of DESIGN 14, the state by directory, what does not apply absent."""
        found = {"job": self.id, "name": self.name, **self._claimed_fields(), **self._ended_fields()}
        found |= {"job": self.id, "state": self.state, "record": self.path}
        if self.attempt():
            found["attempt"] = self.attempt()
        if self.is_held:
            found["held"] = True
        found.pop("schema", None)
        order = {key: place for place, key in enumerate(_ORDER)}
        return {key: tables.plain(found[key]) for key in sorted(found, key=lambda key: order.get(key, len(order)))}

    def _current(self, name: str) -> Table:
        """A record between two attempts shows the last one; a running one never shows an earlier one's files."""
        if self.is_drop:
            return {}
        found = tables.read(os.path.join(self.path, name)) or {}
        return {} if self.attempt_claimed and found.get("attempt") != self.attempt_claimed else found

    def _claimed_fields(self) -> Table:
        if self.is_drop:
            return _drop_fields(self.path)
        found = {key: self.claim()[key] for key in _FROM_CLAIM if key in self.claim()}
        pids = {key: value for key, value in self.holder().items() if key in ("supervisor_pid", "job_pid") and value}
        return {**found, **pids}

    def _ended_fields(self) -> Table:
        if self.is_drop or self.result():
            return self.result()
        path = os.path.join(self.path, layout.RESULT)
        if os.path.lexists(path) and not self.attempt_claimed:
            return {"reason": f"`{layout.RESULT}` cannot be read: it is damaged; the record is kept as it is"}
        return {"reason": f"it has no `{layout.RESULT}`: nobody noted how it ended"} if self.is_finished else {}


def list_jobs(places: Layout, states: Iterable[str] | None = None, limit: int | None = None) -> list[Job]:
    """Return the jobs: running, then waiting (drops first), both oldest first, then finished ones, newest first.

    `limit` is how many finished jobs at most. No file is opened; times are those in the ids.
    """
    wanted = tuple(layout.STATES if states is None else states)
    # In the order in which jobs move, so that none is missed; one that was seen twice is where it was seen last.
    waiting = [*_drops(places), *_records(places, layout.WAITING)] if layout.WAITING in wanted else []
    running = _records(places, layout.RUNNING) if layout.RUNNING in wanted else []
    finished = _finished(places, [state for state in FINISHED if state in wanted], limit)
    ended = {job.id for job in finished}
    running = [job for job in running if job.id not in ended]
    later = ended | {job.id for job in running}
    return [*running, *(job for job in waiting if job.id not in later), *finished]


def count(places: Layout, suffixes: tuple[str, ...] = drops.SUFFIXES) -> dict[str, int]:
    """Return how many jobs are in each state, by the names of their files alone."""
    counts = {state: len(_job_names(places.state_directory(state))) for state in layout.STATES}
    counts[layout.RUNNING] = sum(1 for name in _names(places.running) if names.parse_record_name(name))
    counts[layout.WAITING] += sum(1 for name in _names(places.root) if drops.is_drop(name, suffixes))
    return counts


def find(places: Layout, text: str, suffixes: tuple[str, ...] = drops.SUFFIXES) -> Job:
    """Return the job that a person means by `text`.

    That is: a file that waits in the root by its name, a job by its id, by a unique prefix of its id, or, where the file is
    no longer there, the newest job that was made of it. A path is as good as the last part of it.

    Raises: NoSuchJob; AmbiguousJob where several ids begin so.
    """
    wanted = os.path.basename(text.rstrip("/")) or text
    running = names.parse_record_name(wanted)
    wanted = running.job if running else wanted
    for look in (_find_exact, _find_exact, _find_prefix, _find_prefix, _find_source):
        job = look(places, wanted, suffixes)
        if job is not None:
            return job
    raise NoSuchJob(f"no job is called `{text}`, and no id in `{places.root}` begins so; `spooldadd status` lists them")


def find_id(places: Layout, job_id: str) -> Job | None:
    """Return the job of exactly this id, in whatever state it is, or None. Looks twice: it may be on its way."""
    return _find_exact(places, job_id, drops.SUFFIXES) or _find_exact(places, job_id, drops.SUFFIXES)


def id_stamp(job_id: str) -> str:
    """Return the time in a job id, which sorts as text; empty where there is none."""
    return job_id[-22:-6] if _looks_like_id(job_id) else ""


def _find_exact(places: Layout, wanted: str, suffixes: tuple[str, ...]) -> Job | None:
    """Look in the order in which jobs move."""
    is_id = names.parse_job_id(wanted) is not None
    files = [wanted, *(wanted + suffix for suffix in suffixes if is_id)]
    for name in (*files, *(file + layout.HELD_SUFFIX for file in files)):
        if drops.is_drop(name, suffixes) and os.path.lexists(os.path.join(places.root, name)):
            return _drop(places, name)
    return _find_record(places, wanted) if is_id else None


def _find_record(places: Layout, job_id: str) -> Job | None:
    # By listing, not by stat: over NFS a stat may deny for half a minute what a listing shows.
    for state in layout.STATES:
        for name in _names(places.state_directory(state)):
            if name.startswith(job_id):
                job = _record(places, state, name)
                if job is not None and job.id == job_id:
                    return job
    return None


def _find_prefix(places: Layout, wanted: str, suffixes: tuple[str, ...]) -> Job | None:
    found: dict[str, Job] = {}
    for job in _all(places, suffixes, lambda name: name.startswith(wanted)):
        found[job.id] = job  # of a job that moved while we looked, the later sight counts
    if len(found) > 1:
        raise AmbiguousJob(_ambiguity(wanted, list(found.values())))
    return next(iter(found.values()), None)


def _ambiguity(wanted: str, found: list[Job]) -> str:
    newest = sorted(found, key=lambda job: (id_stamp(job.id) or "~", job.id), reverse=True)
    lines = [f"  {job.id}  {job.state}" for job in newest[:CANDIDATES]]
    if len(found) > CANDIDATES:
        lines.append(f"  and {len(found) - CANDIDATES} more")
    return f"{len(found)} jobs begin with `{wanted}`; type more of the one you mean:\n" + "\n".join(lines)


def _find_source(places: Layout, wanted: str, suffixes: tuple[str, ...]) -> Job | None:
    """Find the newest job that was made of a file of this name; jobs named like the file are asked first."""
    if not wanted.endswith(suffixes):
        return None
    name = names.safe_name(os.path.splitext(wanted)[0])
    jobs = [job for job in _all(places, suffixes, lambda _name: True) if not job.is_drop]
    likely = [job for job in jobs if job.name == name]
    return _newest_of(likely, wanted) or _newest_of([job for job in jobs if job.name != name], wanted)


def _newest_of(jobs: list[Job], source: str) -> Job | None:
    """Ids tell the second; among jobs of one second their claims decide."""
    best: Job | None = None
    for job in sorted(jobs, key=lambda job: id_stamp(job.id), reverse=True):
        if best is not None and id_stamp(job.id) != id_stamp(best.id):
            return best
        if job.source() == source and (best is None or _claimed_at(job) > _claimed_at(best)):
            best = job
    return best


def _claimed_at(job: Job) -> str:
    return str(tables.plain(job.claim().get("claimed_at", "")))


def _all(places: Layout, suffixes: tuple[str, ...], is_wanted: Callable[[str], bool]) -> Iterator[Job]:
    """Yield every job whose file or record has a name that is wanted, in the order in which jobs move."""
    for name in _names(places.root):
        if is_wanted(name) and drops.is_drop(name, suffixes):
            yield _drop(places, name)
    for state in layout.STATES:
        for name in _names(places.state_directory(state)):
            job = _record(places, state, name) if is_wanted(name) else None
            if job is not None:
                yield job


def _drops(places: Layout, suffixes: tuple[str, ...] = drops.SUFFIXES) -> list[Job]:
    return [_drop(places, name) for name in sorted(_names(places.root)) if drops.is_drop(name, suffixes)]


def _records(places: Layout, state: str) -> list[Job]:
    jobs = (_record(places, state, name) for name in _names(places.state_directory(state)))
    return sorted((job for job in jobs if job is not None), key=lambda job: (id_stamp(job.id), job.id))


def _finished(places: Layout, states: list[str], limit: int | None) -> list[Job]:
    found = [(name, state) for state in states for name in _job_names(places.state_directory(state))]
    found.sort(key=lambda pair: pair[0][-22:-6], reverse=True)
    jobs = (_record(places, state, name) for name, state in found[:limit])
    return [job for job in jobs if job is not None]


def _drop(places: Layout, name: str) -> Job:
    return Job(places, layout.WAITING, os.path.join(places.root, name), name, is_drop=True)


def _record(places: Layout, state: str, name: str) -> Job | None:
    path = os.path.join(places.state_directory(state), name)
    if state == layout.RUNNING:
        parsed = names.parse_record_name(name)
        return Job(places, state, path, parsed.job) if parsed else None
    return Job(places, state, path, name) if names.parse_job_id(name) else None


def _job_names(directory: str) -> list[str]:
    """Tell job ids by the places of their dots: the full check would take longer than the listing."""
    return [name for name in _names(directory) if _looks_like_id(name)]


def _looks_like_id(name: str) -> bool:
    return name[-7:-5] == "Z." and name[-23:-22] == "." and name[0] != "."


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _drop_fields(path: str) -> Table:
    """A rename into the root sets the change time, whatever tool did it."""
    import datetime

    try:
        changed_s = os.lstat(path).st_ctime
    except OSError:
        return {}
    return {"submitted_at": datetime.datetime.fromtimestamp(round(changed_s, 3), datetime.UTC)}
