"""The spec of a job as a worker would find it now: valid, or every problem in it. Heavy: only `explain` needs it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from spooldadd import durable, layout, looking, problems, record, template, writers
from spooldadd.inspect.job import Job
from spooldadd.problems import Problem
from spooldadd.spec import InvalidSpec, Spec, parse_file


@dataclass(frozen=True)
class Checked:
    """What one look at a spec showed. `spec` is None where it has problems or cannot be read."""

    look: looking.Look | None
    spec: Spec | None
    problems: tuple[Problem, ...]
    source: str

    def rendered(self) -> str:
        """Return all problems as `check` shows them; empty where there are none."""
        return problems.render(self.problems, self.source) if self.problems else ""


def check(job: Job) -> Checked:
    """Look at the spec of a job without changing anything."""
    writers.ignore_lease_breaks()  # a look asks for a lease, and a writer that comes then must not end us
    spec_path = job.spec_path
    own_name = layout.bare_name(os.path.basename(job.id)) if job.is_drop else record.own_name(job.path, job.id)
    source = durable.printable(job.id if job.is_drop else os.path.basename(spec_path))
    look = looking.look(spec_path)
    if look is None or look.data is None:
        return Checked(look, None, (Problem(look.fault),) if look and look.fault else (), source)
    if look.member:
        own_name, source = look.member, os.path.join(source, durable.printable(look.member))
    try:
        spec = parse_file(look.data, source=source, own_name=own_name)
    except InvalidSpec as error:
        return Checked(look, None, error.problems, source)
    found = tuple(template.check_templates(spec))
    return Checked(look, None if found else spec, found, source)
