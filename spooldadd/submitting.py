"""Put specs into a spool: validate, freeze what options changed, drop.

A drop is written under a temporary name that holds the job's id, made durable, and renamed. The temporary name is made
exclusively, so of two submitters that draw one id only one looks whether the name behind it is free: no drop overwrites
another.

If we die here: a temporary name (`.tmp-…`) in the root, which no worker looks at; the doctor reports it when it is old.
"""

from __future__ import annotations

import datetime
import os
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from spooldadd import durable, layout, names
from spooldadd.errors import SpoolError
from spooldadd.layout import Layout

if TYPE_CHECKING:
    from spooldadd.problems import Problem
    from spooldadd.spec import Spec
    from spooldadd.tomlpos import Path

SUFFIX = ".toml"
# Two draws of one id within one second are a matter of 1 in 14 million; a hundred in a row are a broken random source.
MAX_DRAWS = 100


class PartlyDropped(SpoolError):
    """The spool failed on the way: `jobs` holds the ids of those that were dropped before, the others were not."""

    def __init__(self, message: str, jobs: list[str]) -> None:
        super().__init__(message)
        self.jobs = jobs


class Unfrozen(NamedTuple):
    """One key that an option sets: how the option reads, the path of the key, and its value."""

    option: str
    path: tuple[str, ...]
    value: object


@dataclass(frozen=True)
class Changes:
    """What options of `submit` change in a spec. None and empty mean: as the spec says."""

    variables: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    queue: str | None = None
    priority: int | None = None
    not_before: datetime.datetime | None = None

    def keys(self) -> list[Unfrozen]:
        """Return the keys that are set, without the variables."""
        at = self.not_before.isoformat() if self.not_before else ""
        every = (
            Unfrozen(f"--name {self.name}", ("name",), self.name),
            Unfrozen(f"--queue {self.queue}", ("queue",), self.queue),
            Unfrozen(f"--priority {self.priority}", ("priority",), self.priority),
            Unfrozen(f"--not-before {at}", ("run", "not_before"), self.not_before),
        )
        return [one for one in every if one.value is not None]


@dataclass(frozen=True)
class Prepared:
    """A valid spec, ready to be dropped: the bytes as they will lie in the spool, and the name of its job."""

    source: str
    data: bytes
    spec: Spec
    name: str
    warnings: tuple[str, ...] = ()


# -- dropping


def drop(places: Layout, data: bytes, name: str, *, sync: bool) -> str:
    """Drop one spec as a new job of this name; return the job's id. `sync` makes it survive a power cut.

    Raises: SpoolError where the spool cannot be written; then nothing was dropped.
    """
    return drop_all(places, [(name, data)], sync=sync)[0]


def drop_all(places: Layout, specs: Iterable[tuple[str, bytes]], *, sync: bool, is_held: bool = False) -> list[str]:
    """Drop specs, given as job name and bytes, in this order; return the ids of their jobs.

    Raises: PartlyDropped, a SpoolError, with those that were dropped before the spool failed.
    """
    suffix = SUFFIX + layout.HELD_SUFFIX if is_held else SUFFIX
    jobs: list[str] = []
    try:
        for name, data in specs:
            jobs.append(_drop_one(places, name, data, suffix, sync=sync))
        if sync:
            durable.sync_directory(places.root)
    except OSError as error:
        raise PartlyDropped(_trouble(places, error), jobs) from error
    return jobs


def _drop_one(places: Layout, name: str, data: bytes, suffix: str, *, sync: bool) -> str:
    for _ in range(MAX_DRAWS):
        job = names.new_job_id(name, time.time(), names.random_part())
        temporary = os.path.join(places.root, f"{durable.TEMPORARY}{job}{SUFFIX}")
        try:
            durable.write_new(temporary, data, sync=sync)
        except FileExistsError:
            continue
        try:
            if not _is_known(places, job):
                os.rename(temporary, os.path.join(places.root, job + suffix))
                return job
        except OSError:
            os.unlink(temporary)
            raise
        os.unlink(temporary)
    raise SpoolError(f"no free job id for `{name}` in `{places.root}` after {MAX_DRAWS} draws")


def _is_known(places: Layout, job: str) -> bool:
    """Tell whether this id is in use. Looks in the order in which a job moves, so none slips through while it moves on."""
    root, running = places.root, places.running
    for suffix in (SUFFIX, SUFFIX + layout.HELD_SUFFIX):
        if os.path.lexists(os.path.join(root, job + suffix)):
            return True
    if any(entry.startswith(f"{job}.") for entry in os.listdir(running)):
        return True
    return any(os.path.lexists(os.path.join(parent, job)) for parent in (places.waiting, places.done, places.failed))


def _trouble(places: Layout, error: OSError) -> str:
    where = os.fsdecode(error.filename2 or error.filename or places.root)
    return f"`{places.root}` cannot be written: {error.strerror} (`{where}`)"


# -- preparing


def load(path: str, changes: Changes) -> Prepared:
    """Read a spec's file and prepare it. Raises: InvalidSpec with every problem, that it cannot be read among them."""
    from spooldadd.problems import Problem  # late: `drop` alone needs no validation
    from spooldadd.spec import MAX_SPEC_BYTES, InvalidSpec

    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        problem = Problem(f"cannot be read: {error.strerror}", hint="is the path right?")
        raise InvalidSpec((problem,), path) from error
    return prepare(data, path, changes)


def prepare(data: bytes, source: str, changes: Changes) -> Prepared:
    """Check a spec, templates included, with the changes made. What no option changes stays as it is, to the byte.

    Raises: InvalidSpec with every problem; those of options name the option.
    """
    from spooldadd.reading import Unreadable, read
    from spooldadd.spec import MAX_SPEC_BYTES, InvalidSpec, parse
    from spooldadd.spec.reading import checked

    unfrozen = changes.keys()
    if not unfrozen and not changes.variables:
        spec = parse(data, source=source)
        return _checked(Prepared(source, data, spec, _job_name(spec, source)))
    problems: list[Problem] = []
    try:
        text, table = read(data, source, max_bytes=MAX_SPEC_BYTES)
        unfrozen += _variables(table, changes.variables, problems)
        frozen = _frozen(table, unfrozen)
        spec = checked(text, frozen)
    except Unreadable as error:
        problems += [_blamed(problem, unfrozen) for problem in error.problems]
        raise InvalidSpec(tuple(problems), source) from error
    if problems:
        raise InvalidSpec(tuple(problems), source)
    if frozen != table:
        data = _written(frozen, source, unfrozen)
    warnings = _unused(text.text, table, changes.variables)
    return _checked(Prepared(source, data, spec, _job_name(spec, source), warnings))


def _checked(prepared: Prepared) -> Prepared:
    """Raise what only a look at the templates and at the finished bytes tells."""
    from spooldadd.problems import Problem
    from spooldadd.spec import MAX_SPEC_BYTES, InvalidSpec
    from spooldadd.template import check_templates

    problems = check_templates(prepared.spec)
    if len(prepared.data) > MAX_SPEC_BYTES:
        message = f"with the options written into it, it is longer than {MAX_SPEC_BYTES} bytes"
        problems = (*problems, Problem(message, hint="put data into files of their own"))
    if problems:
        raise InvalidSpec(problems, prepared.source)
    return prepared


def _job_name(spec: Spec, source: str) -> str:
    """Name the job as its spec does, else after the file; a file that carries a job id already gives its name only."""
    if spec.name:
        return spec.name
    directory, file_name = os.path.split(os.path.abspath(source))
    stem = file_name.removesuffix(layout.HELD_SUFFIX)
    if stem == layout.SPEC and names.parse_job_id(os.path.basename(directory)):
        return names.job_name(os.path.basename(directory))
    return names.job_name(os.path.splitext(stem)[0])


def _variables(table: Mapping[str, object], variables: Mapping[str, str], problems: list[Problem]) -> list[Unfrozen]:
    """Give each variable the type that it has in the spec; note in `problems` those that cannot have it."""
    from spooldadd.problems import Problem

    given = table.get("vars")
    known = given if isinstance(given, dict) else {}
    found = []
    for name, text in variables.items():
        option = f"--var {name}={text}"
        try:
            found.append(Unfrozen(option, ("vars", name), _as_type_of(known.get(name), text)))
        except ValueError as error:
            problems.append(Problem(str(error), f"vars.{name}", origin=option))
    return found


def _as_type_of(known: object, text: str) -> object:
    """Read a text as the type of a value in the spec. Raises: ValueError where it is none of that type."""
    from spooldadd.complaints import kind

    if known is None or isinstance(known, str | list | dict):
        return text
    try:
        table = tomllib.loads(f"value = {text}")
    except ValueError:
        table = {}
    value = table.get("value")
    if type(value) is int and isinstance(known, float):
        value = float(value)
    if len(table) != 1 or type(value) is not type(known):
        raise ValueError(f"must be {kind(known)}, as in the spec, not `{text}`")
    return value


def _frozen(table: Mapping[str, object], unfrozen: Iterable[Unfrozen]) -> dict[str, object]:
    frozen = {name: dict(value) if isinstance(value, dict) else value for name, value in table.items()}
    for _, path, value in unfrozen:
        inner: object = frozen if len(path) == 1 else frozen.setdefault(path[0], {})
        if isinstance(inner, dict):  # where the spec has no table there, the check says so
            inner[path[-1]] = value
    return frozen


def _written(frozen: Mapping[str, object], source: str, unfrozen: Iterable[Unfrozen]) -> bytes:
    from spooldadd import tomltext
    from spooldadd.problems import visible

    options = " ".join(one.option for one in unfrozen)
    return f"# {visible(source)}, changed by `spooldadd submit` {visible(options)}\n{tomltext.dumps(frozen)}".encode()


def _blamed(problem: Problem, unfrozen: Iterable[Unfrozen]) -> Problem:
    """Name the option where the value did not come from the file."""
    from spooldadd.problems import Problem, dotted

    for option, path, _ in unfrozen:
        key: Path = path
        if problem.key == dotted(key):
            return Problem(problem.message, problem.key, hint=problem.hint, origin=option)
    return problem


def _unused(text: str, table: Mapping[str, object], variables: Mapping[str, str]) -> tuple[str, ...]:
    given = table.get("vars")
    known = given if isinstance(given, dict) else {}
    return tuple(
        f"`--var {name}`: nothing in the spec speaks of `{name}`"
        for name in variables
        if name not in known and name not in text
    )


# -- who will take it


def unserved(places: Layout) -> str | None:
    """Say that nobody takes what is dropped here, or return None where somebody does, or where we cannot know."""
    from spooldadd import filesystem  # late, both: `drop` alone asks neither
    from spooldadd.inspect import workers

    found = workers.all_nodes(places)
    serving = [node for node in found if node.is_serving]
    if any(not node.suffixes or SUFFIX in node.suffixes for node in serving):
        return None
    if serving:
        return f"no worker of `{places.root}` takes `{SUFFIX}` files, which is how a submitted spec is called"
    remedy = f"the job waits until one does: `spooldadd worker {places.root}`"
    if not found:
        return f"no worker has ever served `{places.root}`; {remedy}"
    if filesystem.is_network(filesystem.kind(places.root)):
        return None
    return f"no worker serves `{places.root}` now; {remedy}"
