"""A Python script as a spec: inline metadata (PEP 723), and a `[tool.spooldadd]` table for all other keys. Pure.

    # /// script
    # requires-python = ">=3.11"
    # dependencies = ["pandas==2.3.*"]
    #
    # [tool.spooldadd]
    # queue = "etl"
    # args = ["--day", "{{ vars.day }}"]
    # ///

The command is `python` with the script and its arguments, in an environment of its own: what is installed for the worker
is not the script's. Whatever is wrong has its line and column in the script.

Source: "Inline script metadata" of the Python packaging specifications.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from spooldadd import forms, tomlpos
from spooldadd.complaints import kind, near
from spooldadd.problems import Problem
from spooldadd.reading import Source, Unreadable, decode, load
from spooldadd.tomlpos import Path, Place
from spooldadd.tomltext import dumps

PYTHON: Final = "python"
STANDARD: Final = ("requires-python", "dependencies", "tool")
# Where the standard's keys go in a spec, and the table that holds ours.
_MOVED: Final[Mapping[Path, Path]] = {
    ("requires-python",): ("python", "version"),
    ("dependencies",): ("python", "requirements"),
    ("tool", "spooldadd", "args"): ("command",),
    ("tool", "spooldadd"): (),
}
_HINT: Final = "a block of comments from `# /// script` to `# ///` makes a Python file a spec"


def read_script(
    data: bytes, source: str, own_name: str, arguments: Sequence[str] = (), *, max_bytes: int
) -> tuple[Source, dict[str, object]]:
    """Return the spec that a script is: its text with the places of all keys in it, and the data as a TOML file has them.

    `own_name` is the script's name in the work directory; `arguments` go behind those that it names itself.

    Raises: `Unreadable` where there is no block, or more than one, or what is in it contradicts itself.
    """
    text = decode(data, max_bytes=max_bytes)
    block = _only_block(Source(source, text))
    told = _told(block, Source(source, text))
    places = _places(block)
    found = Source(source, text, places)
    problems = [*_unknown(told, block, found), *_wrong_types(told, found)]
    if problems:
        raise Unreadable(problems)
    return found, _table(told, own_name, arguments, found)


def metadata(text: str) -> Mapping[str, object]:
    """Return the `[tool.spooldadd]` table of a script for a look only: empty where anything about it is wrong."""
    found = [block for block in forms.blocks(text) if block.kind == "script"]
    if len(found) != 1:
        return {}
    try:
        told = load(Source("", found[0].toml()))
    except Unreadable:
        return {}
    return _own(told)


def script_toml(data: bytes) -> bytes:
    """Return that table as TOML."""
    return dumps(metadata(data.decode("utf-8-sig", "replace"))).encode()


def _only_block(source: Source) -> forms.Block:
    found = [block for block in forms.blocks(source.text) if block.kind == "script"]
    if len(found) == 1:
        return found[0]
    if found:
        place = Place(found[1].first, 1)
        raise Unreadable([source.problem_at(place, "a second block `# /// script`", "put the keys of both into one")])
    opening = next((at for at, line in enumerate(source.lines) if line.rstrip() == forms.OPENING), None)
    if opening is None:
        raise Unreadable([source.problem_at(Place(1, 1), "this Python file has no inline script metadata", _HINT)])
    hint = "no blanks behind the marks; each line between them is `#`, or begins with `# `; the last one is `# ///`"
    raise Unreadable([source.problem_at(Place(opening + 1, 1), "the block `# /// script` has no end", hint)])


def _told(block: forms.Block, source: Source) -> dict[str, object]:
    """Parse what is in the block; a problem is shown where it stands in the script."""
    try:
        return load(Source(source.name, block.toml()))
    except Unreadable as error:
        raise Unreadable([_in_script(problem, block, source) for problem in error.problems]) from error


def _in_script(problem: Problem, block: forms.Block, source: Source) -> Problem:
    line = problem.line + block.first
    place = Place(line, problem.column + 2)
    return source.problem_at(place, problem.message, problem.hint)._replace(key=problem.key)


def _places(block: forms.Block) -> dict[Path, Place]:
    """Find each key in the script: the block is put where it stands, its comment signs as blanks, so places stay true."""
    padded = "\n" * block.first + "\n".join(line.replace("#", " ", 1) for line in block.lines)
    found: dict[Path, Place] = {}
    for path, place in tomlpos.positions(padded).items():
        found.setdefault(_moved(path), place)
    return found


def _moved(path: Path) -> Path:
    for old, new in _MOVED.items():
        if path[: len(old)] == old:
            rest = path[len(old) :]
            if new == ("command",) and rest and isinstance(rest[0], int):
                rest = (rest[0] + 2, *rest[1:])  # behind `python` and the script
            return (*new, *rest)
    return path


def _unknown(told: Mapping[str, object], block: forms.Block, source: Source) -> list[Problem]:
    """The standard reserves all other keys for itself, so one of them is a mistake, and mostly a slip."""
    problems = []
    for key in told.keys() - set(STANDARD):
        meant = near(key.replace("_", "-"), STANDARD)
        hint = "the keys of a spec stand in `[tool.spooldadd]`; known here: " + ", ".join(f"`{name}`" for name in STANDARD)
        message = f"unknown key `{key}`" + (f"; did you mean `{meant}`?" if meant else "")
        problems.append(source.problem((key,), message, None if meant else hint))
    return problems


def _wrong_types(told: Mapping[str, object], source: Source) -> list[Problem]:
    """Say what the model could not say, because it never sees these keys, or would take another type for them."""
    tool = told.get("tool", {})
    own = tool.get("spooldadd", {}) if isinstance(tool, dict) else {}
    expected: list[tuple[Path, object, type, str]] = [
        (("python", "version"), told.get("requires-python", ""), str, "`requires-python` must be a string"),
        (("python", "requirements"), told.get("dependencies", []), list, "`dependencies` must be a list of strings"),
        (("tool",), tool, dict, "`tool` must be a table"),
        ((), own, dict, "`tool.spooldadd` must be a table"),
    ]
    if isinstance(own, dict):
        expected.append((("command",), own.get("args", []), list, "`args` must be a list of strings"))
    return [
        source.problem(path, f"{message}, not {kind(value)}")
        for path, value, wanted, message in expected
        if not isinstance(value, wanted)
    ]


def _own(told: Mapping[str, object]) -> dict[str, object]:
    tool = told.get("tool")
    own = tool.get("spooldadd") if isinstance(tool, dict) else None
    return dict(own) if isinstance(own, dict) else {}


def _table(told: Mapping[str, object], own_name: str, arguments: Sequence[str], source: Source) -> dict[str, object]:
    """Put all keys where a spec has them."""
    own = _own(told)
    problems: list[Problem] = []
    own["python"] = _python(told, own, problems, source)
    given = own.pop("args", [])
    assert isinstance(given, list)
    if "command" not in own:
        own["command"] = [PYTHON, shown_to_python(own_name), *given, *arguments]
    elif given:
        problems.append(source.problem(("command",), "`args` and `command` exclude each other", "keep one of the two"))
    elif arguments:
        option = f"-- {shlex.join(arguments)}"
        problems.append(Problem("goes with no script that has a `command` of its own", "command", origin=option))
    if problems:
        raise Unreadable(problems)
    return own


def _python(told: Mapping[str, object], own: Mapping[str, object], problems: list[Problem], source: Source) -> object:
    python = own.get("python", {})
    if not isinstance(python, dict):
        return python  # the model says what it must be
    for key, new in (("requires-python", "version"), ("dependencies", "requirements")):
        if key not in told:
            continue
        if new in python:
            message = f"both `{key}` and `tool.spooldadd.python.{new}` are given"
            problems.append(source.problem(("python", new), message, "keep one of the two"))
        python = {**python, new: told[key]}
    return python


def shown_to_python(own_name: str) -> str:
    """Return a script's name so that `python` takes it for no option."""
    return os.path.join(".", own_name) if own_name.startswith("-") else own_name
