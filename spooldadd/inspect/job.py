"""One job as it was when we looked: what its files say. Only reads, and loads little.

The state of a job is the directory that it is in; what a file says about the state is history.
"""

from __future__ import annotations

import os

from spooldadd import layout, names
from spooldadd.baretime import datetime
from spooldadd.inspect import drops, tables
from spooldadd.inspect.tables import Table
from spooldadd.layout import Layout

FINISHED = (layout.DONE, layout.FAILED)
# In the order in which a person reads them; what a newer release adds comes after.
_ORDER = (
    "job", "name", "queue", "state", "outcome", "reason", "exit_code", "signal", "attempt", "node", "owner", "signed_by",
    "submitted_at", "claimed_at", "started_at", "finished_at", "next_attempt_at", "duration_s", "cpu_s", "max_rss_bytes",
    "held", "source", "came_from", "job_there", "supervisor_pid", "job_pid", "workdir", "kept",
)  # fmt: skip
_FROM_CLAIM = ("queue", "node", "signed_by", "submitted_at", "claimed_at", "source")


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
        self._claim: Table = {}
        self._result: Table = {}

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
    def is_closed(self) -> bool:
        """Tell whether only others may look into it: on a spool for many users, its owner and root."""
        if self.is_drop:
            return os.path.isfile(self.path) and not os.access(self.path, os.R_OK)
        return os.path.isdir(self.path) and not os.access(self.path, os.R_OK | os.X_OK)

    @property
    def spec_path(self) -> str:
        """The path of its spec."""
        return self.path if self.is_drop else layout.find_spec(self.path)

    def claim(self) -> Table:
        """Return who claimed the last attempt, where and when; empty where nobody did or the file cannot be read."""
        if not self._claim:  # one that is not there may yet come
            self._claim = self._current(layout.CLAIM)
        return self._claim

    def result(self) -> Table:
        """Return how the last attempt ended; empty where none has ended or the file cannot be read."""
        if not self._result:
            self._result = self._current(layout.RESULT)
        return self._result

    def attempt(self) -> int:
        """Return the number of the attempt that runs, or that ran last; 0 where none has begun."""
        if self.attempt_claimed:
            return self.attempt_claimed
        numbers = (self.result().get("attempt"), self.claim().get("attempt"))
        given = [number for number in numbers if isinstance(number, int)]
        return max(given) if given else _last_put_aside(self.path)

    def reason(self) -> str:
        """Return why it is where it is, as its last attempt noted it; where that is lost, say so."""
        noted = self.result().get("reason")
        if isinstance(noted, str) or self.is_drop:
            return str(noted or "")
        if self.is_closed:
            return "it belongs to another user"
        if os.path.lexists(os.path.join(self.path, layout.RESULT)) and not self.attempt_claimed and not self.result():
            return f"`{layout.RESULT}` cannot be read: it is damaged; nothing else in the record was touched"
        return f"it has no `{layout.RESULT}`: nobody noted how it ended" if self.is_finished else ""

    def since(self) -> datetime.datetime | None:
        """Return since when it runs; of any other job, when it was submitted."""
        at = self.claim().get("claimed_at" if self.state == layout.RUNNING else "submitted_at")
        at = _dropped_at(self.path) if self.is_drop else at
        if isinstance(at, datetime.datetime):
            return at
        stamp = id_stamp(self.id)
        return datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC) if stamp else None

    def first_claim(self) -> Table:
        """Return the claim of the first attempt, the only one that knows the dropped file; empty where nobody claimed it."""
        if self.is_drop or self.claim().get("source"):
            return self.claim()
        return tables.read(os.path.join(self.path, layout.ATTEMPTS, "1", layout.CLAIM)) or {}

    def source(self) -> str:
        """Return the name of the file that was dropped, as its first claim noted it."""
        return self.id if self.is_drop else str(self.first_claim().get("source", ""))

    def holder(self) -> Table:
        """Return what the lock file of a running job says: which processes it was handed to."""
        if self.state != layout.RUNNING:
            return {}
        noted = tables.read(self.places.lock(self.record_name)) or {}
        if not noted.get("supervisor_pid"):
            noted |= tables.read(self.places.notes(self.record_name)) or {}
        return noted

    def table(self) -> dict[str, object]:
        """Return the job object in JSON: of DESIGN 14, the state by directory, what does not apply absent."""
        found = {"job": self.id, "name": self.name, **self._claimed_fields(), **self._ended_fields()}
        found |= {"job": self.id, "state": self.state, "record": self.path}
        if self.attempt():
            found["attempt"] = self.attempt()
        if self.is_held:
            found["held"] = True
        if self.is_finished:
            found |= self._came_from()
        found.pop("schema", None)
        order = {key: place for place, key in enumerate(_ORDER)}
        return {key: tables.plain(found[key]) for key in sorted(found, key=lambda key: order.get(key, len(order)))}

    def _came_from(self) -> Table:
        """Of a record that arrived from another spool: of which node it was collected or sent, and what the job is there."""
        came = tables.read(os.path.join(self.path, layout.MANIFEST)) or {}
        node = came.get("address") or came.get("node")
        return {"came_from": node, "job_there": came.get("job")} if node else {}

    def _current(self, name: str) -> Table:
        """A record between two attempts shows the last one; a running one never shows an earlier one's files."""
        if self.is_drop:
            return {}
        found = tables.read(os.path.join(self.path, name)) or {}
        return {} if self.attempt_claimed and found.get("attempt") != self.attempt_claimed else found

    def _claimed_fields(self) -> Table:
        if self.is_drop:
            at = _dropped_at(self.path)
            return {"submitted_at": at} if at else {}
        found = {key: self.claim()[key] for key in _FROM_CLAIM if key in self.claim()}
        pids = {key: value for key, value in self.holder().items() if key in ("supervisor_pid", "job_pid") and value}
        return {**found, **pids}

    def _ended_fields(self) -> Table:
        found = {} if self.is_drop else self.result()
        return found if found or not self.reason() else {"reason": self.reason()}


def id_stamp(job_id: str) -> str:
    """Return the time in a job id, which sorts as text; empty where there is none."""
    parts = names.parse_job_id(job_id)
    return parts[1] if parts else ""


def _last_put_aside(path: str) -> int:
    """A claim that was given up leaves neither claim nor result; the attempts before it count all the same."""
    try:
        names_in = os.listdir(os.path.join(path, layout.ATTEMPTS))
    except OSError:
        return 0
    return max((int(name) for name in names_in if name.isascii() and name.isdigit()), default=0)


def _dropped_at(path: str) -> datetime.datetime | None:
    """A rename into the root sets the change time, whatever tool did it."""
    try:
        changed_s = os.lstat(path).st_ctime
    except OSError:
        return None
    return datetime.datetime.fromtimestamp(round(changed_s, 3), datetime.UTC)
