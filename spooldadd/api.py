"""Use a spool from a program: submit specs, look at jobs, wait for them, act on them. Starts nothing and runs no thread.

    from spooldadd import Spool, SpecError

    spool = Spool("/srv/spool")
    job = spool.submit({"command": ["python", "load.py"]}, name="load")
    result = job.wait(timeout_s=3600)
    print(result["outcome"], job.log())

Everything here is a look at the directory or a change in it, so a job may be submitted by one program, watched by another,
and run by a worker that is started later. A handle holds no connection: make it from the id again wherever it is needed.

If we die here: in `submit`, a temporary name (`.tmp-…`) in the root that no worker looks at, or a job that is submitted.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping

from spooldadd import acting, preparing, submitting
from spooldadd import spool as core
from spooldadd.errors import SpecError
from spooldadd.inspect import attempts, jobs, output, workers
from spooldadd.inspect.following import Follower, wait
from spooldadd.preparing import Changes

# A log is read whole into memory by `Job.log`; more than this of its end would be of no use to a caller.
MAX_LOG_BYTES = 64 << 20
# What a spec without a file is called in messages; a job that is named nowhere is named like it.
UNNAMED_SOURCE = "spec.toml"


class Spool:
    """A spool directory."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the spool in this directory. Raises: NotASpool, SpoolError."""
        self._core = core.open_spool(os.fspath(path))

    def __repr__(self) -> str:
        return f"Spool({self.path!r})"

    @property
    def path(self) -> str:
        """The directory."""
        return self._core.places.root

    def submit(
        self,
        spec: Mapping[str, object] | str | bytes | os.PathLike[str],
        *,
        name: str | None = None,
        vars: Mapping[str, object] | None = None,
        queue: str | None = None,
        priority: int | None = None,
        node: str | None = None,
    ) -> Job:
        """Check a spec, drop it, return its job.

        `spec` is a table, the text or bytes of a TOML file, or its path: a `str` with neither line end nor `=` is a path.
        The other arguments are written into the dropped spec, `vars` beside those that the spec has; but `node` names the
        only node that may run it, in whose inbox it is dropped.

        Raises: SpecError with every problem, SpoolError; in either case nothing was dropped.
        """
        variables = {key: _as_typed(value) for key, value in (vars or {}).items()}
        changes = Changes(variables, name, queue, priority)
        prepared = _prepare(spec, changes, self.path)
        (job_id,) = submitting.drop_all(self._core.places, [prepared], sync=self._core.sync, node=node)
        return self.job(job_id)

    def job(self, job_id: str) -> Job:
        """Return the job of this id, or of the only id that begins so. Raises: NoSuchJob."""
        return Job(self._core, jobs.find(self._core.places, job_id, self._suffixes()))

    def jobs(self, state: str | None = None, *, limit: int | None = None) -> list[Job]:
        """Return the jobs, or those in one state: running, then waiting, then finished ones, newest first.

        `limit` is how many finished jobs at most.
        """
        states = None if state is None else (state,)
        found = jobs.list_jobs(self._core.places, states, limit, self._suffixes())
        return [Job(self._core, job) for job in found]

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        return jobs.count(self._core.places, self._suffixes())

    def _suffixes(self) -> tuple[str, ...]:
        return workers.suffixes(workers.all_nodes(self._core.places))


class Job:
    """A job in a spool: a handle that looks anew each time it is asked."""

    def __init__(self, spool: core.Spool, job: jobs.Job) -> None:
        self._core = spool
        self._follower = Follower(job)

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    @property
    def id(self) -> str:
        """Its id; of a file that somebody dropped and no worker has taken yet, the file's name."""
        return acting.shown_id(self._follower.job)

    @property
    def state(self) -> str:
        """`waiting`, `running`, `done` or `failed`, as it is now. Raises: NoSuchJob where it was removed."""
        return self._follower.look().state

    @property
    def path(self) -> str:
        """Its record, or the file that still waits, as it is now."""
        return self._follower.look().path

    @property
    def result(self) -> dict[str, object] | None:
        """How it ended, as `result.toml` says, times as `datetime`; None while it has not."""
        job = self._follower.look()
        return dict(job.result()) | {"state": job.state} if job.is_finished else None

    @property
    def reason(self) -> str:
        """Why it is where it is, in one sentence; empty where its last attempt has noted nothing."""
        return self._follower.look().reason()

    def wait(self, timeout_s: float | None = None) -> dict[str, object]:
        """Wait until it has ended; return its result, successful or not.

        Raises: TimeoutError where the time is over first; NoSuchJob where it was removed.
        """
        if not wait([self._follower], timeout_s=timeout_s):
            raise TimeoutError(f"`{self.id}` is {self._follower.job.state} after {timeout_s:g} s")
        return self.result or {}

    @property
    def log_path(self) -> str | None:
        """The log of its last attempt as it is now, or None where there is none yet. It moves with the record."""
        paths = self._logs()
        return paths[0] if paths else None

    def log(self) -> str:
        """Return what its last attempt has printed; the end of it where that is very much. What is no UTF-8 is replaced."""
        parts = (output.last_lines(path, MAX_LOG_BYTES, MAX_LOG_BYTES) for path in self._logs())
        return b"".join(parts).decode("utf-8", "replace")

    def retry(self) -> None:
        """Run it again after a failure, or now where it waits for its next attempt. Raises: NotPossible, SpoolError."""
        acting.retry(self._core, self._follower.look())

    def cancel(self) -> None:
        """End it, running or not. Raises: NotPossible where it has ended; SpoolError."""
        acting.cancel(self._core, self._follower.look())

    def _logs(self) -> list[str]:
        newest = attempts.last(self._follower.look())
        return newest.logs() if newest else []


def _prepare(
    spec: Mapping[str, object] | str | bytes | os.PathLike[str], changes: Changes, spool_root: str
) -> preparing.Prepared:
    if isinstance(spec, os.PathLike):
        return preparing.load(os.fspath(spec), changes, spool_root)
    if isinstance(spec, str) and not ("\n" in spec or "=" in spec):
        return preparing.load(spec, changes, spool_root)
    data = _written(spec) if isinstance(spec, Mapping) else spec
    return preparing.prepare(data.encode() if isinstance(data, str) else data, UNNAMED_SOURCE, changes)


def _written(spec: Mapping[str, object]) -> str:
    from spooldadd.tomltext import dumps

    try:
        return dumps(spec)
    except TypeError as error:
        raise SpecError(f"the spec cannot be written as TOML: {error}") from error


def _as_typed(value: object) -> str:
    """Write a variable as one would on the command line; it takes the type that it has in the spec."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else str(value)
