"""An ended attempt on disk, as the notifier reads it: its result, its spec, the end of its log; and the last success."""

from __future__ import annotations

import datetime
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from spooldadd import layout, lifecycle, looking, names
from spooldadd.inspect import tables
from spooldadd.layout import Layout
from spooldadd.mail.result import Result

TAIL_BYTES = 256 * 1024  # of a log: more than anybody reads in a mail
# What a job of this name left that ended well is looked for in so many records at most, newest first.
SUCCESSES_READ = 20


@dataclass(frozen=True)
class Ended:
    """One ended attempt. `record` is where the job is now, `log` the end of what was printed."""

    job: str
    attempt: int
    record: str
    table: dict[str, object]
    spec: bytes
    log: str
    log_name: str
    is_log_cut: bool

    @property
    def result(self) -> Result:
        """The result; what is missing in a damaged one is told by the job's id."""
        known = {"job": self.job, "name": names.job_name(self.job), "outcome": "unknown"}
        plain = {key: tables.plain(value) for key, value in self.table.items()}
        return Result.from_table({**known, **plain, "job": self.job})

    @property
    def finished_s(self) -> float:
        """When it ended, in seconds since the epoch; 0 where nobody knows."""
        at = self.table.get("finished_at")
        return at.timestamp() if isinstance(at, datetime.datetime) else 0.0

    def spec_table(self) -> dict[str, object]:
        """Return the spec's text as a table; empty where it is no TOML."""
        try:
            return tomllib.loads(self.spec.decode())
        except (ValueError, RecursionError):
            return {}

    def secret_names(self) -> list[str]:
        """Return the names of the secrets that the job got."""
        given = self.spec_table().get("secrets")
        uses = given if isinstance(given, dict) else {}
        found = [use.get("name") if isinstance(use, dict) else use for use in uses.values()]
        return [name for name in found if isinstance(name, str)]


def replaced(each: Ended, log: str) -> Ended:
    """Return the same attempt with another text for its log."""
    return replace(each, log=log)


def find(places: Layout, name: names.RecordName) -> Ended | None:
    """Return the attempt that ran as this running record, wherever the job is now; None where nothing is left of it."""
    for path in _records(places, name.job):
        for directory in (path, os.path.join(path, layout.ATTEMPTS, str(name.attempt))):
            table = tables.read(os.path.join(directory, layout.RESULT))
            if table is not None and table.get("attempt") == name.attempt:
                return read(path, directory, table)
    return None


def read(path: str, directory: str, table: dict[str, object]) -> Ended:
    """Return the attempt whose files are in this directory of this record."""
    log_name, log, is_cut = _log_of(directory, str(table.get("outcome")))
    attempt = table.get("attempt")
    return Ended(
        job=str(table.get("job", os.path.basename(path))),
        attempt=attempt if isinstance(attempt, int) else 1,
        record=path,
        table=table,
        spec=looking.read_toml(layout.find_spec(path)),
        log=log,
        log_name=log_name,
        is_log_cut=is_cut,
    )


def _records(places: Layout, job: str) -> Iterator[str]:
    """Yield where the record may be, in the order in which it would move on."""
    for directory in (places.failed, places.done, places.waiting):
        yield os.path.join(directory, job)
    for entry in os.listdir(places.running):
        if entry.startswith(f"{job}."):
            yield os.path.join(places.running, entry)


def _log_of(directory: str, outcome: str) -> tuple[str, str, bool]:
    """Return the name and the end of the log that says most about this outcome, and whether its beginning is missing."""
    wanted = {lifecycle.BUILD: (layout.BUILD_LOG,), lifecycle.INVALID: (layout.PROBLEMS,)}.get(outcome, ())
    for name in (*wanted, layout.OUTPUT_LOG, layout.STDERR_LOG, layout.STDOUT_LOG, layout.BUILD_LOG):
        data, is_cut = _tail(os.path.join(directory, name))
        if data:
            return name, data.decode("utf-8", "replace"), is_cut
    return wanted[0] if wanted else layout.OUTPUT_LOG, "", False


def _tail(path: str) -> tuple[bytes, bool]:
    """A job can write into its record: neither a link nor a pipe may catch us."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b"", False
    try:
        size = os.fstat(fd).st_size
        return os.pread(fd, TAIL_BYTES, max(0, size - TAIL_BYTES)), size > TAIL_BYTES
    except OSError:
        return b"", False
    finally:
        os.close(fd)


def last_success(places: Layout, name: str, before_s: float) -> Ended | None:
    """Return the newest job of this name that ended well before then. Lists `done/` once, and opens few records."""
    prefix = f"{names.safe_name(name)}."
    found = [entry for entry in os.listdir(places.done) if entry.startswith(prefix) and names.job_name(entry) == prefix[:-1]]
    newest: Ended | None = None
    for entry in sorted(found, key=lambda job: job[-22:], reverse=True)[:SUCCESSES_READ]:
        path = os.path.join(places.done, entry)
        table = tables.read(os.path.join(path, layout.RESULT))
        ended = read(path, path, table) if table else None
        if ended and ended.finished_s < before_s and (newest is None or ended.finished_s > newest.finished_s):
            newest = ended
    return newest
