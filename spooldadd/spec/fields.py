"""What the value of a key may be: durations, sizes, names, words for a command.

The spec and the configuration share these. Each type carries its validator, which raises `refuse(…)`, and its part of
the JSON Schema.
"""

from __future__ import annotations

import datetime
import math
import os
import re
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    PlainValidator,
    Tag,
)
from pydantic import WithJsonSchema as Shown

from spooldadd.bounds import INTEGERS, MAX_WORD_BYTES, MIN_MEMORY_BYTES, NAME_PATTERN
from spooldadd.complaints import kind, refuse
from spooldadd.tomlpos import MAX_DEPTH, Path
from spooldadd.units import DURATION_PATTERN, SIZE_PATTERN, BadUnit, parse_duration, parse_size

Scalar = str | int | float | bool | datetime.datetime | datetime.date | datetime.time

# A name becomes part of a file name, together with a time and random characters: well below the 255 bytes of most
# file systems, so that nothing has to be cut.
MAX_NAME_CHARACTERS: Final = 100


def _duration(value: object) -> float:
    return _read_duration(value, allow_zero=False)


def _delay(value: object) -> float:
    return _read_duration(value, allow_zero=True)


def _read_duration(value: object, *, allow_zero: bool) -> float:
    try:
        return parse_duration(value, allow_zero=allow_zero)
    except BadUnit as error:
        raise refuse(f"has a bad value: {error.message}", error.remedy) from error


def _size(value: object) -> int:
    return _read_size(value, at_least=1)


def _memory_size(value: object) -> int:
    return _read_size(value, at_least=MIN_MEMORY_BYTES)


def _read_size(value: object, *, at_least: int) -> int:
    try:
        return parse_size(value, at_least=at_least)
    except BadUnit as error:
        raise refuse(f"has a bad value: {error.message}", error.remedy) from error


_DURATION_SCHEMA: Final = {
    "title": "duration",
    "anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"type": "number", "minimum": 0}],
}
_SIZE_SCHEMA: Final = {
    "title": "size",
    "anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 0}],
}
Duration = Annotated[float, BeforeValidator(_duration), Shown(_DURATION_SCHEMA)]
Delay = Annotated[float, BeforeValidator(_delay), Shown(_DURATION_SCHEMA)]
Size = Annotated[int, BeforeValidator(_size), Shown(_SIZE_SCHEMA)]
MemorySize = Annotated[int, BeforeValidator(_memory_size), Shown(_SIZE_SCHEMA)]
CpuQuota = Annotated[float, Field(ge=0.01, le=10_000)]  # below, the kernel takes no quota
Tasks = Annotated[int, Field(ge=1, le=4_194_304)]  # the most that any kernel has
OpenFiles = Annotated[int, Field(ge=16, le=1_048_576)]  # below, few programs start; above, the kernel refuses


def _name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN.strip("^$"), value, re.ASCII):
        raise refuse(
            "is not a usable name",
            f"use 1 to {MAX_NAME_CHARACTERS} letters, digits, `.`, `_` or `-`, and begin with none of `.` and `-`",
        )
    return value


Name = Annotated[str, AfterValidator(_name), Shown({"title": "name", "type": "string", "pattern": NAME_PATTERN})]


def executable(value: str) -> str:
    """Check that a text can be handed to a new program: no NUL, no lone surrogate, and not too long for the kernel."""
    try:
        size_bytes = len(value.encode())
    except UnicodeEncodeError as error:
        raise refuse("holds half of a surrogate pair, which is no character") from error
    if "\0" in value:
        raise refuse("must not hold a NUL character: no program can be given one")
    if size_bytes > MAX_WORD_BYTES:
        raise refuse("is longer than the 128 KiB that the kernel passes to a program", "use `stdin` or a file instead")
    return value


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise refuse("holds half of a surrogate pair, which is no character") from error
    return value


Word = Annotated[str, AfterValidator(executable)]
Text = Annotated[str, AfterValidator(_encodable)]


def _line(value: str) -> str:
    if not value.strip():
        raise refuse("must not be empty", 'write what to run: `command = ["python3", "load.py"]`')
    return value


def _words(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not value[0]:
        raise refuse("must name a program first", 'write what to run: `command = ["python3", "load.py"]`')
    return value


def _command(value: object) -> object:
    if not isinstance(value, str | list | tuple):
        raise refuse(f"must be a list of strings or one string, not {kind(value)}", 'write `command = ["program", "…"]`')
    return value


def _command_kind(value: object) -> str:
    return "line" if isinstance(value, str) else "words"


_COMMAND_SCHEMA: Final = {
    "oneOf": [{"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "string", "minLength": 1}]
}
Command = Annotated[
    Annotated[tuple[Word, ...], Field(strict=False), AfterValidator(_words), Tag("words")]
    | Annotated[Word, AfterValidator(_line), Tag("line")],
    Discriminator(_command_kind),
    BeforeValidator(_command),
    Shown(_COMMAND_SCHEMA),
]


def _scalar(value: object) -> Scalar:
    if not isinstance(value, Scalar):
        raise refuse(f"must be a single value, not {kind(value)}", "nested data belongs in `[config]`")
    if isinstance(value, int) and value not in INTEGERS:
        raise refuse("is beyond 64 bits", "put it into quotes, as a text")
    return value


_SCALAR_SCHEMA: Final = {"title": "value", "type": ["string", "number", "boolean"]}
Variable = Annotated[Scalar, PlainValidator(_scalar), Shown(_SCALAR_SCHEMA)]


def _variable_name(name: str) -> str:
    if not name or name.startswith("SPOOLDADD_") or "=" in name:
        raise refuse(
            "is no name for an environment variable of a job",
            "leave out `=`, and do not begin with `SPOOLDADD_`, which is for what this program tells the job",
        )
    return executable(name)


Environ = Mapping[Annotated[str, AfterValidator(_variable_name)], Word]


def _json(value: object) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise refuse(f"must be a table, not {kind(value)}")
    return {name: _json_ready(part, (name,)) for name, part in value.items()}


def _json_ready(value: object, path: Path) -> JsonValue:
    """Make a value fit for JSON: dates become ISO 8601 texts."""
    if len(path) > MAX_DEPTH:
        raise refuse(f"is nested deeper than {MAX_DEPTH} levels", within=path[:MAX_DEPTH])
    if isinstance(value, dict):
        return {name: _json_ready(part, (*path, name)) for name, part in value.items()}
    if isinstance(value, list):
        return [_json_ready(part, (*path, index)) for index, part in enumerate(value)]
    return _json_scalar(value, path)


def _json_scalar(value: object, path: Path) -> JsonValue:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise refuse("must be finite: JSON has no `inf` and no `nan`", "put it into quotes", within=path)
    if isinstance(value, int) and value not in INTEGERS:
        raise refuse("is beyond 64 bits", "put it into quotes, as a text", within=path)
    if not isinstance(value, str | int | float):
        raise refuse(f"cannot be written as JSON: it is {kind(value)}", within=path)
    return value


JsonTable = Annotated[Mapping[str, JsonValue], PlainValidator(_json), Shown({"title": "table", "type": "object"})]


def _moment(value: object) -> object:
    if isinstance(value, datetime.datetime) and value.tzinfo is None:
        raise refuse("has no time zone", "add `Z` for UTC, or an offset such as `+02:00`")
    if not isinstance(value, datetime.datetime):
        raise refuse(f"must be a date with time and zone, not {kind(value)}", "write `2026-11-22T01:00:00Z`, unquoted")
    return value


_MOMENT_SCHEMA: Final = {"title": "date with time and zone", "type": "string", "format": "date-time"}
Moment = Annotated[AwareDatetime, BeforeValidator(_moment), Shown(_MOMENT_SCHEMA)]


def _pattern(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        raise refuse("leads out of the work directory", "write a path relative to it, without `..`")
    if not value.strip("./"):
        raise refuse("names no file", 'write a pattern such as `"out/*.csv"`')
    return value


FilePattern = Annotated[Word, AfterValidator(_pattern), Shown({"title": "path pattern", "type": "string"})]


def _node_pattern(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.*?!\[\]-]+", value, re.ASCII):
        raise refuse(
            "matches no name of a node",
            'node names have letters, digits, `.`, `_` and `-`; `*`, `?` and `[…]` stand for some of them: `"etl-*"`',
        )
    return value


def _node_patterns(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple):
        raise refuse(f"must be a name or a list of names, not {kind(value)}", 'write `node = "etl-*"`')
    return tuple(value)


NodePattern = Annotated[Word, AfterValidator(_node_pattern), Shown({"title": "pattern", "type": "string"})]
_NODE_PATTERNS_SCHEMA: Final = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
NodePatterns = Annotated[tuple[NodePattern, ...], BeforeValidator(_node_patterns), Shown(_NODE_PATTERNS_SCHEMA)]
# A thousandth of a processor is what is counted; a million of them is no machine of today.
MIN_CPUS: Final = 0.001
MAX_CPUS: Final = 1_000_000.0
MAX_GPUS: Final = 4096
Cpus = Annotated[float, Field(ge=MIN_CPUS, le=MAX_CPUS)]
Gpus = Annotated[int, Field(ge=0, le=MAX_GPUS)]


def _directory(value: str) -> str:
    if not os.path.isabs(value):
        raise refuse("must be an absolute path", "begin it with `/`, or with `~/` for your home directory")
    if "\0" in value:
        raise refuse("must not hold a NUL character")
    return os.path.normpath(value)


Directory = Annotated[str, AfterValidator(_directory), Shown({"title": "absolute path", "type": "string"})]


def _address(value: str) -> str:
    """A cheap check for slips; what stands in a mail is parsed in full by `erroremail`, which is heavy to import."""
    if not re.fullmatch(r"[^\x00-\x1f\x7f]*[^\s@<>,;:]+@[^\s@<>,;:]+>?", value) or ("<" in value) != value.endswith(">"):
        raise refuse("is no mail address", 'write `"ops@example.org"` or `"Operations <ops@example.org>"`, each on its own')
    return value


Address = Annotated[Word, AfterValidator(_address), Shown({"title": "mail address", "type": "string"})]
