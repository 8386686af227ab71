"""Render the templates in a spec, value by value after parsing, so that no value can break the TOML. Pure.

Templates may use `vars` (the spec's own), `job` and `node`; nothing of the environment. A value without a template is not
touched, and Jinja2 is imported only when some value has one.
"""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass
from typing import Final

from spooldadd.problems import Problem, dotted
from spooldadd.reading import Unreadable, validate
from spooldadd.spec.models import Spec
from spooldadd.spec.reading import InvalidSpec
from spooldadd.spec.templated import SAMPLE_NAMES, templates, with_templates
from spooldadd.tomlpos import Path


@dataclass(frozen=True)
class JobFacts:
    """What templates see as `job`."""

    id: str
    name: str
    attempt: int
    queue: str
    submitted_at: datetime.datetime


@dataclass(frozen=True)
class Context:
    """What templates see besides `vars`; `node` is the node's name, in templates `node.name`."""

    job: JobFacts
    node: str


# Stands in where a spec is checked before there is a job.
SAMPLE: Final = Context(JobFacts(**SAMPLE_NAMES["job"]), str(SAMPLE_NAMES["node"]["name"]))  # type: ignore[arg-type]


def render(spec: Spec, context: Context) -> Spec:
    """Return the spec with its templates rendered, checked once more; the same object where it has none.

    Raises: `InvalidSpec` with every problem: unknown names, what the sandbox forbids or bounds, and values that are not
    valid once rendered.
    """
    table = spec.model_dump(by_alias=True, exclude_unset=True)
    if not templates(table):
        return spec
    problems: list[Problem] = []
    rendered = _rendered(spec, table, context, problems)
    if problems:
        raise InvalidSpec(tuple(problems), spec.source.name)
    try:
        return validate(Spec, rendered, spec.source).with_source(spec.source, spec.script)
    except Unreadable as error:
        raise InvalidSpec(error.problems, spec.source.name) from error


def _rendered(spec: Spec, table: dict[str, object], context: Context, problems: list[Problem]) -> dict[str, object]:
    # Late, because most specs have no template and Jinja2 takes longer to import than they take to run.
    from spooldadd.sandbox import Sandbox, TemplateFault

    names = {"vars": spec.vars, "job": dataclasses.asdict(context.job), "node": {"name": context.node}}
    sandbox = Sandbox(names)

    def rendered(path: Path, text: str) -> str:
        try:
            return sandbox.render(text)
        except TemplateFault as fault:
            problems.append(spec.source.problem(path, f"template of `{dotted(path)}`: {fault.message}", fault.hint))
            return text

    return with_templates(table, rendered)


def check_templates(spec: Spec, context: Context = SAMPLE) -> tuple[Problem, ...]:
    """Render for nothing but the problems, as `spooldadd check` does: unknown names in what a first attempt would reach."""
    try:
        render(spec, context)
    except InvalidSpec as error:
        return error.problems
    return ()
