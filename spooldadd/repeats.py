"""Plans of specs that were seen before: the same bytes ask for the same, but for the job that they are.

A queue often holds one spec a thousand times. To read it, check it against the model and plan it costs as much as all the
rest that a worker does for a job. Only specs in which nothing is rendered, built, looked up or confined are kept: of these
the plan depends on the bytes and the configuration alone. A worker that reads its configuration again begins without any.

Nothing is held here that cannot be read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import NamedTuple, Protocol

from spooldadd.bounds import DEFAULT_QUEUE
from spooldadd.plan import Plan
from spooldadd.planning import NO_SANDBOX, gpu_environ
from spooldadd.spec import Spec
from spooldadd.spec.templated import templates
from spooldadd.spool import Claim

# So that the memory that they take is bounded: at most 64 times 16 KiB of text, and as much again for what it says.
MOST, MOST_BYTES = 64, 16384
# What differs from job to job, and goes into a plan as it is or not at all.
_FREE = frozenset({"name", "queue", "command", "env", "stdin", "priority", "vars"})
# Of a plan: what says something of one job alone, and what stands there of such differences.
_OWN = frozenset({"name", "record", "job", "submitted_at_s", "claimed_at_s", "work_dir", "work_top"})
_OWN_OF_SHAPE = frozenset({"queue", "command", "environ", "stdin"})


class Job(Protocol):
    """What tells one job from another of the same spec; a claim has it, and a drop before it is claimed."""

    @property
    def job(self) -> str:
        """Its id."""

    @property
    def record(self) -> str:
        """What its record is or would be called."""

    @property
    def submitted_at_s(self) -> float:
        """When it was dropped, in seconds since the epoch."""


class Table(NamedTuple):
    """A plan as a table in two parts, so that what many have in common is made and sent once. Neither is ever changed."""

    common: dict[str, object]
    own: dict[str, object]


class Repeats:
    """Specs and their plans, by their bytes."""

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[Spec, Plan]] = {}
        self._tables: dict[bytes, tuple[Spec, dict[str, object]]] = {}
        self._shapes: dict[str, dict[str, object]] = {}

    def find(self, data: bytes, claimed: Claim, work_root: str) -> tuple[Spec, Plan] | None:
        """Return the spec and its plan for this claim, where these very bytes were seen before."""
        found = self._kept.get(data)
        if found is None:
            return None
        spec, kept = found
        plan = Plan()
        vars(plan).update(vars(kept), **_own(spec.name, claimed, work_root))
        plan.attempt = claimed.attempt
        plan.claimed_at_s = claimed.claimed_at_s
        plan.environ = {**spec.env, **gpu_environ(claimed.taken)}
        return spec, plan

    def knows(self, data: bytes) -> bool:
        """Tell whether the plan of these bytes is kept: it depends on nothing but them and the configuration."""
        return data in self._kept

    def table(self, data: bytes, job: Job, work_root: str) -> Table | None:
        """Return the plan for this job as a table, where one of these very bytes was kept."""
        found = self._tables.get(data)
        if found is None:
            return None
        spec, common = found
        return Table(common, _own(spec.name, job, work_root))

    def keep_table(self, data: bytes, table: Mapping[str, object]) -> None:
        """Keep the table of a plan that is kept, and that says nothing of its job but what `table` replaces."""
        self._tables[data] = self._kept[data][0], _without(table, _OWN)

    def of_shape(self, spec: Mapping[str, object], job: Job, work_root: str) -> Table | None:
        """Return the plan of a plain spec as a table, where one was kept that asks for the same but for what it runs."""
        common = self._shapes.get(_shape(spec))
        if common is None:
            return None
        command = spec["command"]
        own = _own(spec.get("name"), job, work_root)
        own["queue"] = spec.get("queue", DEFAULT_QUEUE)
        own["command"] = ["/bin/sh", "-c", command] if isinstance(command, str) else command
        own["environ"] = spec.get("env", {})
        own["stdin"] = str(spec.get("stdin", "")).encode()
        return Table(common, own)

    def keep_shape(self, spec: Mapping[str, object], table: Mapping[str, object]) -> None:
        """Keep the table of the plan of a plain spec for all that ask for the same but for what `of_shape` replaces."""
        if len(self._shapes) >= MOST:
            self._shapes.clear()
        self._shapes[_shape(spec)] = _without(table, _OWN | _OWN_OF_SHAPE)

    def keep(self, data: bytes, spec: Spec, plan: Plan) -> None:
        """Keep a plan that was made of these bytes, if it may serve for others."""
        if len(data) > MOST_BYTES or not _is_plain(spec, plan):
            return
        if len(self._kept) >= MOST:
            self._kept.clear()
            self._tables.clear()
        self._kept[data] = spec, plan


def _own(name: object, job: Job, work_root: str) -> dict[str, object]:
    """Return what the plan of a repeated spec says of one job alone; `name` is what the spec calls it, if it does."""
    work_dir = f"{work_root}/{job.record}"
    return {
        "name": name or job.job.rsplit(".", 2)[0],
        "record": job.record,
        "job": job.job,
        "submitted_at_s": job.submitted_at_s,
        "work_dir": work_dir,
        "work_top": work_dir,
    }


def _without(table: Mapping[str, object], keys: Set[str]) -> dict[str, object]:
    return {key: value for key, value in table.items() if key not in keys}


def _shape(spec: Mapping[str, object]) -> str:
    """Return what a plain spec asks for beside what it runs: its limits, its further attempts, how it prints."""
    return repr([(key, spec[key]) for key in sorted(spec.keys() - _FREE)])


def _is_plain(spec: Spec, plan: Plan) -> bool:
    if plan.build is not None or plan.script is not None or plan.secrets or plan.sandbox is not None:
        return False
    return spec.sandbox == NO_SANDBOX and not templates(spec.model_dump(by_alias=True, exclude_unset=True))
