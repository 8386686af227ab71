"""List what a configuration amounts to: each key, its value as one would write it, and where it came from. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydantic import BaseModel

from spooldadd.config.models import Config
from spooldadd.config.notify import shown_table
from spooldadd.expecting import Expected
from spooldadd.problems import dotted
from spooldadd.spec.describing import value_text
from spooldadd.tomlpos import Path
from spooldadd.units import write_duration, write_size


class Setting(NamedTuple):
    """One key in effect. `origin` is `default`, `FILE:LINE`, the environment variable, or the option."""

    key: str
    value: str
    origin: str


def effective(config: Config) -> list[Setting]:
    """List every key with its value; a table of free keys has a row for each of them."""
    return [Setting(dotted(path), text, config.origins.get(dotted(path), "default")) for path, text in _values(config, ())]


def _values(model: BaseModel, path: Path) -> Iterator[tuple[Path, str]]:
    for name, field in type(model).model_fields.items():
        key = (*path, field.alias or name)
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _values(value, key)
        elif isinstance(value, Mapping):
            yield from _entries(value, key)
        else:
            yield key, _text(name, value)


def _entries(table: Mapping[str, object], path: Path) -> Iterator[tuple[Path, str]]:
    """List a table of free keys; of what is a table again, each key that is set."""
    for name, part in table.items():
        if isinstance(part, BaseModel):
            given = [key for key in type(part).model_fields if key in part.model_fields_set]
            yield from (((*path, name, key), _text(key, getattr(part, key))) for key in given)
        elif isinstance(part, Mapping):
            yield from (((*path, name, key), value_text(value)) for key, value in shown_table(part).items())
        else:
            yield (*path, name), value_text(str(part) if isinstance(part, Expected) else part)


def _text(name: str, value: object) -> str:
    """Write a value as in the file; the unit is in the attribute's name."""
    if value is None:
        return "unset"
    if name.endswith("_s") and isinstance(value, float):
        return value_text(write_duration(value))
    if name.endswith("_bytes") and isinstance(value, int):
        return value_text(write_size(value))
    return value_text(list(value) if isinstance(value, tuple) else value)
