"""Which local files a spec names, so that `submit` can put them into its bundle: what is edited afterwards does not run.

Only files below the spec's own directory, and what they include, are taken. One that is not there may lie in the spool;
it stays there, and the job gets it as it is then. So does one whose name is known only when the job runs.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from spooldadd import bundle
from spooldadd.bundle import Item
from spooldadd.environment.locks import Form, form_of, logical_lines
from spooldadd.environment.ready import included
from spooldadd.problems import Problem
from spooldadd.spec import Spec
from spooldadd.template import SAMPLE, Context, render
from spooldadd.tomlpos import Path
from spooldadd.units import format_size

# What differs between any two jobs, so that a name that stays the same is known before there is one.
OTHER = Context(
    dataclasses.replace(SAMPLE.job, id="other.20270101T000000Z.zzzzz", name="other", attempt=2, queue="other"), "other"
)
# A requirements file is text; a larger one is none, and is not searched for what it includes.
MAX_REQUIREMENTS_BYTES = 1 << 20


@dataclass
class Frozen:
    """The files to put into the bundle, by name, and what was wrong or strange on the way."""

    items: dict[str, Item] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def freeze(spec: Spec, directory: str, spool_root: str | None) -> Frozen:
    """Find the local files that a spec from this directory names. Its templates must be in order.

    `spool_root` is the spool that the job will be dropped into, where it is known: files may lie there as well.
    """
    found = Frozen()
    for path, name in _named(spec, found):
        if _take(found, directory, name, spec, path):
            continue
        if spool_root is None:
            found.warnings.append(f"`{name}` is not beside the spec; the job will need it in the spool")
        elif not os.path.isfile(os.path.join(spool_root, name)):
            message = f"`{name}` is not there: it is looked for beside the spec and in the spool"
            found.problems.append(spec.source.problem(path, message))
    total = sum(item.size_bytes for item in found.items.values())
    if total > bundle.MAX_BUNDLE_BYTES:
        most = bundle.MAX_BUNDLE_BYTES
        message = f"the files that it names are {total} bytes; at most {most} ({format_size(most)}) go with a spec"
        found.problems.append(Problem(message, hint="put what is large on a server, and name its `url` and `sha256`"))
    return found


def _named(spec: Spec, found: Frozen) -> Iterator[tuple[Path, str]]:
    """Yield what the spec names, with the place where it does."""
    one, other = render(spec, SAMPLE), render(spec, OTHER)
    for index, (entry, again) in enumerate(zip(one.files, other.files, strict=True)):
        if entry.source != again.source:
            found.warnings.append(
                f"`{spec.files[index].source}` is known only when the job runs; the file must be in the spool"
            )
        elif entry.source is not None:
            yield ("files", index), os.path.normpath(entry.source)
    python = one.python
    if python is not None and isinstance(python.requirements, str) and not python.is_url:
        yield ("python", "requirements"), os.path.normpath(python.requirements)


def _take(found: Frozen, directory: str, name: str, spec: Spec, path: Path) -> bool:
    """Take a file, and what it includes where it is a list of requirements; return whether it is there."""
    file = os.path.join(directory, name)
    if not os.path.lexists(file):
        return False
    objection = _objection(directory, file)
    if objection:
        found.problems.append(spec.source.problem(path, f"`{name}` {objection}"))
        return True
    status = os.stat(file)
    found.items[name] = Item(name, status.st_size, partial(_opened, file), status.st_mode)
    if path[0] == "python":
        _take_beside(found, directory, name, spec, path)
    return True


def _take_beside(found: Frozen, directory: str, name: str, spec: Spec, path: Path) -> None:
    """Take what a requirements file cannot do without."""
    content = _text_of(os.path.join(directory, name))
    for wheel in _wheels(content.decode("utf-8", "replace")):
        message = f"`{name}` names the local file `{wheel}`, which nobody could tell from a later one of that name"
        hint = "name the wheel itself in `requirements`, or put it on an index"
        found.problems.append(spec.source.problem(path, message, hint))
    for included_name in _included(name, content):
        if included_name not in found.items and not _take(found, directory, included_name, spec, path):
            found.problems.append(spec.source.problem(path, f"`{name}` names `{included_name}`, which is not there"))


def _objection(directory: str, file: str) -> str | None:
    root = os.path.realpath(directory)
    real = os.path.realpath(file)
    if not real.startswith(root.rstrip(os.sep) + os.sep):
        return "leaves the directory of the spec; copy the file there, or use a `file:` URL"
    if os.path.relpath(file, directory) == bundle.SPEC:
        return f'has the name of the spec in a bundle; rename it, and give it `path = "{bundle.SPEC}"`'
    if not stat.S_ISREG(os.stat(real).st_mode):
        return "is not a regular file"
    return None if os.access(real, os.R_OK) else "cannot be read; are its permissions right?"


def _opened(file: str) -> BinaryIO:
    return open(file, "rb")


def _text_of(file: str) -> bytes:
    """Return what a requirements file says; nothing for what is none."""
    if form_of(file) is not Form.REQUIREMENTS or file.endswith(".whl") or os.path.getsize(file) > MAX_REQUIREMENTS_BYTES:
        return b""
    with open(file, "rb") as source:
        return source.read()


def _included(name: str, content: bytes) -> Iterator[str]:
    """Yield the files that a requirements file includes, and the project that a lock is of."""
    here = os.path.dirname(name)
    if form_of(name) is Form.UV_LOCK:
        yield os.path.join(here, "pyproject.toml")
    for one in included(content):
        if "://" not in one and not os.path.isabs(one):
            yield os.path.normpath(os.path.join(here, one))


def _wheels(text: str) -> Iterator[str]:
    for line in logical_lines(text):
        first = line.split()[0]
        if first.endswith(".whl") and "://" not in first:
            yield first
