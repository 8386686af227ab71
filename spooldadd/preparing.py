"""Make what `submit` drops: read a spec in any form, check it, write into it what options change, freeze its files.

What no option changes stays as it is, to the byte. A TOML file or a script is dropped alone where it needs nothing beside
it, else in a bundle with the local files that it names. A script that options change goes into a bundle too, unchanged
and beside the spec that it is with the changes: so the lines of its tracebacks are the lines of its author.
"""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from spooldadd import bundle, durable, forms, layout, names
from spooldadd.bounds import DEFAULT_QUEUE, MAX_SPEC_BYTES
from spooldadd.bundle import Item

if TYPE_CHECKING:
    import datetime

    from spooldadd.problems import Problem
    from spooldadd.reading import Source
    from spooldadd.spec import Spec
    from spooldadd.tomlpos import Path


COPY_BYTES = 1 << 20


class Unfrozen(NamedTuple):
    """One key that an option sets: how the option reads, the path of the key, and its value."""

    option: str
    path: tuple[str, ...]
    value: object


class Changes(NamedTuple):
    """What options of `submit` change in a spec. None and empty mean: as the spec says."""

    variables: Mapping[str, str] = MappingProxyType({})
    name: str | None = None
    queue: str | None = None
    priority: int | None = None
    not_before: datetime.datetime | None = None
    arguments: tuple[str, ...] = ()  # for a script, behind its own

    def keys(self) -> list[Unfrozen]:
        """Return the keys that are set, without the variables and the arguments."""
        at = self.not_before.isoformat() if self.not_before else ""
        every = (
            Unfrozen(f"--name {self.name}", ("name",), self.name),
            Unfrozen(f"--queue {self.queue}", ("queue",), self.queue),
            Unfrozen(f"--priority {self.priority}", ("priority",), self.priority),
            Unfrozen(f"--not-before {at}", ("run", "not_before"), self.not_before),
        )
        return [one for one in every if one.value is not None]

    def options(self) -> str:
        """Return the options as they were given, for people."""
        told = [one.option for one in self.keys()]
        told += [f"--var {name}={text}" for name, text in self.variables.items()]
        return " ".join([*told, *(["--", shlex.join(self.arguments)] if self.arguments else [])])


class Origin(NamedTuple):
    """Where the bytes of a spec come from: the file as messages call it, its own name, and what lies beside it."""

    shown: str
    own_name: str = bundle.SPEC
    directory: str | None = None  # None where there is none: standard input, a program's own table, a bundle


class Prepared(NamedTuple):
    """A valid spec, ready to be dropped: its bytes as they will lie in the spool, the name of its job, and its files."""

    source: str
    data: bytes
    name: str
    queue: str
    checked: Spec | None  # None where it was known to be right without the models
    warnings: tuple[str, ...] = ()
    own_name: str = bundle.SPEC  # what the spec is called in a bundle
    items: tuple[Item, ...] = ()
    as_is: str = ""  # the bundle that is dropped as it is

    @property
    def spec(self) -> Spec:
        """The whole spec, read for it where it was not needed before."""
        from spooldadd.spec import parse_file

        return self.checked or parse_file(self.data, source=self.source, own_name=self.own_name)

    @property
    def is_placed(self) -> bool:
        """Whether the spec says where it may run."""
        return self.checked is not None and bool(self.checked.place.model_fields_set)

    @property
    def suffix(self) -> str:
        """The suffix of the file that is dropped."""
        if not forms.is_script(self.own_name):
            return forms.BUNDLE if self.items or self.as_is else forms.TOML
        is_called_so = self.own_name == f"{self.name}{forms.SCRIPT}"  # else the name would be lost
        return forms.SCRIPT if is_called_so and not (self.items or self.as_is) else forms.BUNDLE

    def write(self, fd: int) -> None:
        """Write the file that is dropped. Raises: OSError; NoBundle where a file was changed or removed meanwhile."""
        if self.as_is:
            _copy(self.as_is, fd)
        elif self.suffix == forms.BUNDLE:
            bundle.write(fd, bundle.item_of_bytes(self.own_name, self.data), self.items)
        else:
            durable.write_all(fd, self.data)


def load(path: str, changes: Changes, spool_root: str | None = None) -> Prepared:
    """Read a spec's file and prepare it. `spool_root` is where it will be dropped, and where its files may lie as well.

    Raises: InvalidSpec with every problem, that it cannot be read among them.
    """
    from spooldadd.spec import InvalidSpec  # late: to import this module must cost a caller nothing

    try:
        if forms.is_bundle(layout.bare_name(path)):
            return _load_bundle(path, changes)
        with open(path, "rb") as file:
            data = file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        raise InvalidSpec((_unreadable(error),), path) from error
    origin = Origin(path, own_name(path), os.path.dirname(os.path.abspath(path)))
    return _prepared(data, origin, changes, spool_root)


def prepare(data: bytes, source: str, changes: Changes) -> Prepared:
    """Prepare the bytes of a TOML file that lies nowhere. Raises: InvalidSpec with every problem."""
    return _prepared(data, Origin(source), changes, None)


def own_name(path: str) -> str:
    """Return the name that a script is to have in its job's work directory; of any other spec, its name in a bundle."""
    directory, name = os.path.split(os.path.abspath(path))
    name = layout.bare_name(name)
    if not forms.is_script(name):
        return bundle.SPEC
    if name == layout.SPEC_SCRIPT and names.parse_job_id(os.path.basename(directory)):
        return names.job_name(os.path.basename(directory)) + forms.SCRIPT
    return names.job_name(name.removesuffix(forms.SCRIPT)) + forms.SCRIPT


def _unreadable(error: OSError) -> Problem:
    from spooldadd.problems import Problem

    return Problem(f"cannot be read: {error.strerror}", hint="is the path right?")


def _prepared(data: bytes, origin: Origin, changes: Changes, spool_root: str | None) -> Prepared:
    """Check a spec, templates included, with the changes made. Raises: InvalidSpec; problems of options name the option."""
    prepared = _unchanged(data, origin) if changes == Changes() else _changed(data, origin, changes)
    _check(prepared)
    return _with_files(prepared, origin.directory, spool_root) if origin.directory is not None else prepared


def _unchanged(data: bytes, origin: Origin) -> Prepared:
    from spooldadd.spec import parse_file

    table = None if forms.is_script(origin.own_name) else _plain(data)
    if table is not None:
        return _known(table, None, data, origin)
    spec = parse_file(data, source=origin.shown, own_name=origin.own_name)
    return _known({"name": spec.name, "queue": spec.queue}, spec, data, origin)


def _plain(data: bytes) -> dict[str, object] | None:
    """Return the data of a spec that is surely right, or None where the models have to be asked."""
    from spooldadd.reading import Unreadable, read
    from spooldadd.spec.plain import is_plain

    try:
        _, table = read(data, "", max_bytes=MAX_SPEC_BYTES)
    except Unreadable:
        return None
    return table if is_plain(table) else None


def _known(table: Mapping[str, object], spec: Spec | None, data: bytes, origin: Origin) -> Prepared:
    """Return a spec whose name and queue are right."""
    name, queue = table.get("name"), table.get("queue", DEFAULT_QUEUE)
    job_name = str(name) if name else _job_name(origin.shown)
    return Prepared(origin.shown, data, job_name, str(queue), spec, own_name=origin.own_name)


def _changed(data: bytes, origin: Origin, changes: Changes) -> Prepared:
    from spooldadd.reading import Unreadable
    from spooldadd.spec import InvalidSpec
    from spooldadd.spec.plain import is_plain
    from spooldadd.spec.reading import checked

    unfrozen = changes.keys()
    problems: list[Problem] = []
    try:
        text, table = _read(data, origin, changes)
        unfrozen += _variables(table, changes.variables, problems)
        frozen = _frozen(table, unfrozen)
        spec = None if is_plain(frozen) else checked(text, frozen)
    except Unreadable as error:
        problems += [_blamed(problem, unfrozen) for problem in error.problems]
        raise InvalidSpec(tuple(problems), origin.shown) from error
    if problems:
        raise InvalidSpec(tuple(problems), origin.shown)
    warnings = tuple(_unused(text.text, table, changes.variables))
    prepared = _known(frozen, spec, data, origin)._replace(warnings=warnings)
    if frozen == table and not changes.arguments:
        return prepared
    if not forms.is_script(origin.own_name):
        return prepared._replace(data=_written(frozen, origin.shown, changes))
    return _beside_its_script(prepared, frozen, changes)


def _beside_its_script(prepared: Prepared, frozen: dict[str, object], changes: Changes) -> Prepared:
    """Write down what a script is as a spec, and put the script itself beside it."""
    script = prepared.own_name
    given = frozen.get("files", [])
    frozen["files"] = [{"path": script}, *(given if isinstance(given, list) else [])]
    return prepared._replace(
        data=_written(frozen, prepared.source, changes),
        own_name=bundle.SPEC,
        items=(bundle.item_of_bytes(script, prepared.data),),
    )


def _read(data: bytes, origin: Origin, changes: Changes) -> tuple[Source, dict[str, object]]:
    from spooldadd.reading import Unreadable, read
    from spooldadd.spec.reading import no_arguments
    from spooldadd.spec.script import read_script

    if forms.is_script(origin.own_name):
        return read_script(data, origin.shown, origin.own_name, changes.arguments, max_bytes=MAX_SPEC_BYTES)
    if changes.arguments:
        raise Unreadable([no_arguments(changes.arguments)])
    return read(data, origin.shown, max_bytes=MAX_SPEC_BYTES)


def _check(prepared: Prepared) -> None:
    """Raise what only a look at the templates and at the finished bytes tells."""
    from spooldadd.problems import Problem
    from spooldadd.spec import InvalidSpec

    problems: tuple[Problem, ...] = ()
    if prepared.checked is not None:
        from spooldadd.template import check_templates

        problems = check_templates(prepared.checked)
    if len(prepared.data) > MAX_SPEC_BYTES:
        message = f"with the options written into it, it is longer than {MAX_SPEC_BYTES} bytes"
        problems = (*problems, Problem(message, hint="put data into files of their own"))
    if problems:
        raise InvalidSpec(problems, prepared.source)


def _with_files(prepared: Prepared, directory: str, spool_root: str | None) -> Prepared:
    """Put the local files that the spec names beside it. Raises: InvalidSpec."""
    spec = prepared.checked
    if spec is None or (spec.python is None and not spec.files):
        return prepared
    from spooldadd.freezing import freeze
    from spooldadd.spec import InvalidSpec

    found = freeze(spec, directory, spool_root)
    if found.problems:
        raise InvalidSpec(tuple(found.problems), prepared.source)
    there = {prepared.own_name, *(item.name for item in prepared.items)}
    items = (*prepared.items, *(item for name, item in found.items.items() if name not in there))
    return prepared._replace(items=items, warnings=(*prepared.warnings, *found.warnings))


def _job_name(source: str) -> str:
    """Name a job after its file; a file that carries a job id already gives its name only."""
    directory, file_name = os.path.split(os.path.abspath(source))
    stem = layout.bare_name(file_name)
    if stem in layout.SPECS and names.parse_job_id(os.path.basename(directory)):
        return names.job_name(os.path.basename(directory))
    return names.job_name(os.path.splitext(stem)[0])


# -- a bundle that is there


def _load_bundle(path: str, changes: Changes) -> Prepared:
    """Prepare a bundle: as it is where nothing is changed, else made anew with the changed spec."""
    from spooldadd.problems import Problem
    from spooldadd.spec import InvalidSpec

    try:
        found, items = _opened(path)
    except bundle.NoBundle as error:
        raise InvalidSpec((Problem(f"`{os.path.basename(path)}` {error}"),), path) from error
    prepared = _prepared(found.data, Origin(os.path.join(path, found.name), found.name), changes, None)
    prepared = prepared._replace(name=prepared.spec.name or _job_name(path))
    if prepared.data == found.data and not prepared.items:
        return prepared._replace(as_is=path)
    taken = {bundle.SPEC, prepared.own_name, *(item.name for item in prepared.items)}
    others = (item for name, item in items.items() if name not in taken)
    return prepared._replace(items=(*prepared.items, *others))


def _opened(path: str) -> tuple[bundle.Found, dict[str, Item]]:
    """Raises: NoBundle; OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        bundle.check(fd)
        found = bundle.find_spec(fd)
        if not bundle.is_whole(fd):
            raise bundle.NoBundle("is cut: it does not end as a tar does")
        return found, bundle.items_of(path)
    finally:
        os.close(fd)


def _copy(path: str, fd: int) -> None:
    with open(path, "rb") as source:
        while os.sendfile(fd, source.fileno(), None, COPY_BYTES):
            pass


# -- the changes


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


def _written(frozen: Mapping[str, object], source: str, changes: Changes) -> bytes:
    from spooldadd import tomltext
    from spooldadd.problems import visible

    return (
        f"# {visible(source)}, changed by `spooldadd submit` {visible(changes.options())}\n{tomltext.dumps(frozen)}".encode()
    )


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
