"""What has failed, by cause: from the records in `failed/`, with the same causes as in the mails. Only reads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from spooldadd import layout, lifecycle
from spooldadd.asking import reader
from spooldadd.config import Config
from spooldadd.inspect import jobs, tables
from spooldadd.inspect.jobs import Job
from spooldadd.layout import Layout
from spooldadd.mail import ended
from spooldadd.mail.cause import Cause
from spooldadd.mail.explaining import cause_of
from spooldadd.mail.hiding import hideable, redactor


@dataclass
class Failures:
    """The failed jobs of one cause, newest first."""

    cause: Cause
    jobs: list[Job] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    first_s: float = 0.0
    last_s: float = 0.0

    def add(self, job: Job, finished_s: float) -> None:
        """Add a job of this cause."""
        self.jobs.append(job)
        self.names.add(job.name)
        self.first_s = min(self.first_s or finished_s, finished_s)
        self.last_s = max(self.last_s, finished_s)


def by_cause(
    places: Layout, config: Config, environ: Mapping[str, str], limit: int | None = None, node: str | None = None
) -> list[Failures]:
    """Return the causes of the newest `limit` failed jobs, the most frequent first. Cancelled jobs did not fail.

    What is hidden is what this process can know of: a secret in the worker's environment alone is not known here, and a
    cause whose message holds one has another id than in the mail. With a node, only what failed there is looked at.
    """
    found: dict[str, Failures] = {}
    read = reader(config, environ)
    for job, each in _failed(places, limit, node):
        hide = redactor(config, environ, each.spec_table(), read=read)
        cause = cause_of(hideable(each, read, hide), hide)
        found.setdefault(cause.id, Failures(cause)).add(job, each.finished_s)
    return sorted(found.values(), key=lambda failures: (-len(failures.jobs), -failures.last_s))


def _failed(places: Layout, limit: int | None, node: str | None) -> Iterator[tuple[Job, ended.Ended]]:
    """What was sent back to its node to be run again is no failure any more."""
    for job in jobs.list_jobs(places, (layout.FAILED,), limit):
        table = tables.read(os.path.join(job.path, layout.RESULT))
        if (
            table is None
            or node not in (None, table.get("node"))
            or os.path.lexists(os.path.join(job.path, layout.RETURNED))
        ):
            continue
        if table.get("outcome") != lifecycle.CANCELLED:
            yield job, ended.read(job.path, job.path, table)
