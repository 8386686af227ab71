"""Keys of the configuration set from outside the file: `SPOOLDADD_INTAKE__SETTLE=1s`, or an option such as `--jobs`.

A variable is the prefix and the key in capitals, with two underscores for a dot. Lists are separated by commas, or
written as in the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from spooldadd.complaints import near
from spooldadd.config.models import Config
from spooldadd.problems import Problem, dotted
from spooldadd.spec.describing import entry_shape, schema_of
from spooldadd.tomlpos import Path

PREFIX: Final = "SPOOLDADD_"
# Those that stand in for options, and those that a job finds in its environment, so that a command which a job runs
# does not complain. `SPOOLDADD_NODE`, which a job finds too, is at once the key `node`, with a value that fits.
OTHER_VARIABLES: Final = frozenset(
    PREFIX + name
    for name in ("SPOOL", "CONFIG", "JOB", "ATTEMPT", "RECORD", "CLAIM", "WORKDIR", "GPUS", "SECRETS", "SIGNING_KEY")
)
_BOOLEANS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
# Texts, which a service manager or a shell sets most. To know what all the others may hold takes the whole schema: 13 ms.
_TEXTS: Final = {
    "NODE": ("node",),
    "WORK_DIR": ("work_dir",),
    "CACHE_DIR": ("cache_dir",),
    "SECRETS_DIR": ("secrets_dir",),
    "INTAKE__SETTLE": ("intake", "settle"),
}
_EXPECTED: Final = {"integer": "a whole number", "number": "a number", "boolean": "`true` or `false`"}


class Override(NamedTuple):
    """One value from outside the file; `origin` names the variable or the option."""

    path: Path
    value: object
    origin: str


class Found(NamedTuple):
    """What the environment holds for the configuration."""

    overrides: list[Override]
    problems: list[Problem]
    warnings: list[str]


def from_environ(environ: Mapping[str, str], table: Mapping[str, object]) -> Found:
    """Find the keys that environment variables set. `table` is the file's data, for the spelling of queues in it.

    A value that cannot be read is a problem; a variable that nobody knows is a warning.
    """
    found = Found([], [], [])
    variables = sorted(name for name in environ if name.startswith(PREFIX) and name not in OTHER_VARIABLES)
    if not variables:
        return found
    texts = [(_TEXTS.get(name.removeprefix(PREFIX)), name) for name in variables]
    if all(path for path, _ in texts):
        return found._replace(overrides=[Override(path, environ[name], name) for path, name in texts if path])
    shapes = dict(_shapes(schema_of(Config, ""), ()))
    for variable in variables:
        path = _path(variable, shapes, table)
        if path is None:
            found.warnings.append(_unknown(variable, shapes))
            continue
        try:
            value = _value(environ[variable], shapes.get(path) or entry_shape(shapes[path[:-1]]))
        except ValueError as error:
            found.problems.append(Problem(str(error), dotted(path), origin=variable))
        else:
            found.overrides.append(Override(path, value, variable))
    return found


def from_options(options: Mapping[str, object]) -> list[Override]:
    """Take options by dotted key; one that is None was not given."""
    return [Override(tuple(key.split(".")), value, f"option {key}") for key, value in options.items() if value is not None]


def _shapes(shown: Mapping[str, Any], path: Path, root: Mapping[str, Any] | None = None) -> Iterator[tuple[Path, Any]]:
    """Give the part of the schema for each key that is no table of fixed keys."""
    root = root or shown
    for name, part in shown["properties"].items():
        inner = root["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        if "properties" in inner:
            yield from _shapes(inner, (*path, name), root)
        else:
            yield (*path, name), inner


def _path(variable: str, shapes: Mapping[Path, Any], table: Mapping[str, object]) -> Path | None:
    name = variable.removeprefix(PREFIX)
    for path, shown in shapes.items():
        if name == _in_capitals(path):
            return path if shown.get("type") != "object" else None
        entry = name.removeprefix(_in_capitals(path) + "__")
        if shown.get("type") == "object" and entry not in ("", name):
            return (*path, _spelling(path, entry, table))
    return None


def _in_capitals(path: Path) -> str:
    return "__".join(str(part).upper() for part in path)


def _spelling(path: Path, entry: str, table: Mapping[str, object]) -> str:
    """Spell a queue as the file does, else in small letters; a variable for jobs keeps its spelling."""
    if path != ("queues",):
        return entry
    queues = table.get("queues")
    known = queues if isinstance(queues, dict) else {}
    return next((queue for queue in known if _as_variable(queue) == entry.upper()), entry.lower())


def _as_variable(queue: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in queue.upper())


def _unknown(variable: str, shapes: Mapping[Path, Any]) -> str:
    suggested = near(variable, [PREFIX + _in_capitals(path) for path in shapes])
    question = f"; did you mean `{suggested}`?" if suggested else ""
    return f"the environment variable `{variable}` is no key of the configuration and is ignored{question}"


def _value(text: str, shown: Mapping[str, Any]) -> object:
    """Read a text as the type that the key has; durations, sizes and names stay texts."""
    wanted = shown.get("type")
    if wanted == "array":
        return _listed(text)
    try:
        if wanted == "integer":
            return int(text)
        if wanted == "number":
            return float(text)
        return _BOOLEANS[text.strip().lower()] if wanted == "boolean" else text
    except (ValueError, KeyError) as error:
        raise ValueError(f"must be {_EXPECTED[str(wanted)]}, not `{text[:40]}`") from error


def _listed(text: str) -> list[object]:
    """Read `a, b`, and a list as the file has it."""
    if text.strip().startswith("["):
        try:
            return list(tomllib.loads(f"list = {text.strip()}")["list"])
        except ValueError as error:
            raise ValueError(
                f"must be words with commas between them, or a list as in the file, not `{text[:40]}`"
            ) from error
    return [part.strip() for part in text.split(",") if part.strip()]
