"""From the bytes of a dropped file to a `Spec`, or to every problem in it. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from spooldadd import forms
from spooldadd.bounds import MAX_SPEC_BYTES
from spooldadd.errors import SpecError
from spooldadd.problems import Problem, dotted, summary
from spooldadd.reading import Source, Unreadable, read, validate
from spooldadd.spec.templated import SAMPLE_NAMES, templates

if TYPE_CHECKING:
    from spooldadd.spec.models import Spec


class InvalidSpec(SpecError):
    """The bytes are no valid spec. `problems` holds everything that is wrong; the message is one sentence."""

    def __init__(self, problems: tuple[Problem, ...], source: str) -> None:
        super().__init__(summary(problems, source))
        self.problems = problems
        self.source = source


def parse(data: bytes, *, source: str) -> Spec:
    """Read a spec. `source` is the file's name, for messages only.

    Raises: `InvalidSpec` with all problems, whatever the bytes are; nothing else.
    """
    try:
        text, table = read(data, source, max_bytes=MAX_SPEC_BYTES)
        if not table:
            raise Unreadable([_empty(text)])
        return checked(text, table)
    except Unreadable as error:
        raise InvalidSpec(error.problems, source) from error


def parse_script(data: bytes, *, source: str, own_name: str, arguments: Sequence[str] = ()) -> Spec:
    """Read a script with inline metadata as the spec that it is. `own_name` is its name in the work directory.

    Raises: `InvalidSpec` with all problems, each at its place in the script.
    """
    # Late: the models, as they are wherever a spec may be known without them, and what only scripts need.
    from spooldadd.spec.models import Script
    from spooldadd.spec.script import read_script

    try:
        text, table = read_script(data, source, own_name, arguments, max_bytes=MAX_SPEC_BYTES)
        return checked(text, table).with_source(text, Script(own_name, data))
    except Unreadable as error:
        raise InvalidSpec(error.problems, source) from error


def parse_file(data: bytes, *, source: str, own_name: str, arguments: Sequence[str] = ()) -> Spec:
    """Read a spec in the form that its file's name says: `own_name` is that of a script, or of a TOML file.

    Raises: `InvalidSpec` with all problems.
    """
    if forms.is_script(own_name):
        return parse_script(data, source=source, own_name=own_name, arguments=arguments)
    if arguments:
        raise InvalidSpec((no_arguments(arguments),), source)
    return parse(data, source=source)


def no_arguments(arguments: Sequence[str]) -> Problem:
    """Say that a TOML file takes no arguments."""
    option = f"-- {shlex.join(arguments)}"
    return Problem("only a script takes arguments", hint="put them into the `command`", origin=option)


def checked(source: Source, table: dict[str, object]) -> Spec:
    """Check data that was read from this text, and perhaps changed since.

    Raises: `Unreadable` with all problems.
    """
    return _valid(source, table).with_source(source)


def _valid(source: Source, table: dict[str, object]) -> Spec:
    """Check against the model, and raise what is wrong there together with the faults of templates."""
    # Late: pydantic and the models take longer to come up than all the rest of `submit`, which often needs neither.
    from spooldadd.environment.models import UNRENDERED
    from spooldadd.spec.models import Spec

    try:
        spec = validate(Spec, table, source, UNRENDERED)
    except Unreadable as error:
        # Nobody will render this one, so what that would find is said now: all errors of a file at once.
        raise Unreadable([*error.problems, *_template_faults(source, table, is_last_look=True)]) from error
    faults = _template_faults(source, table)
    if faults:
        raise Unreadable(faults)
    return spec


def _template_faults(source: Source, table: dict[str, object], *, is_last_look: bool = False) -> list[Problem]:
    """Check the syntax of templates, where there are some; at the last look also what they name, by sample values."""
    found = templates(table)
    if not found:
        return []
    # Late, because most specs have no template and Jinja2 takes longer to import than they take to run.
    from spooldadd.sandbox import Sandbox, TemplateFault

    given = table.get("vars", {})
    sandbox = Sandbox({**SAMPLE_NAMES, "vars": given if isinstance(given, dict) else {}})
    look = sandbox.render if is_last_look and isinstance(given, dict) else sandbox.check
    faults = []
    for path, text in found:
        try:
            look(text)
        except TemplateFault as fault:
            faults.append(source.problem(path, f"template of `{dotted(path)}`: {fault.message}", fault.hint))
    return faults


def _empty(source: Source) -> Problem:
    what = "holds only comments" if source.text.strip() else "is empty"
    return source.problem((), f"the file {what}", 'a spec needs at least `command = ["program", "argument"]`')
