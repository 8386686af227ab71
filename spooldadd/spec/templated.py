"""Which values of a spec may hold a template, and how to go through them. Pure; knows nothing of Jinja2."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Final

from spooldadd.bounds import has_template
from spooldadd.tomlpos import Path

# By the keys of the file. `vars` is missing on purpose: a variable that could hold a template could hold itself.
TEMPLATED: Final[tuple[tuple[str, ...], ...]] = (
    ("command",),
    ("stdin",),
    ("env",),
    ("config",),
    ("keep", "files"),
    ("python",),
    ("files",),
    ("build",),
)

# What templates see besides `vars` where a spec is checked before there is a job.
SAMPLE_NAMES: Final[Mapping[str, Mapping[str, object]]] = {
    "job": {
        "id": "sample.20261121T101500Z.bcdfg",
        "name": "sample",
        "attempt": 1,
        "queue": "default",
        "submitted_at": datetime.datetime(2026, 11, 21, 10, 15, tzinfo=datetime.UTC),
    },
    "node": {"name": "node"},
}

Change = Callable[[Path, str], str]


def templates(table: Mapping[str, object]) -> list[tuple[Path, str]]:
    """List the templates in a spec's data, valid or not, with their paths."""
    found: list[tuple[Path, str]] = []

    def collect(path: Path, text: str) -> str:
        found.append((path, text))
        return text

    with_templates(table, collect)
    return found


def with_templates(table: Mapping[str, object], change: Change) -> dict[str, object]:
    """Return a spec's data with each template replaced by what `change` makes of it."""
    changed = dict(table)
    for path in TEMPLATED:
        _change_below(changed, path, (), change)
    return changed


def _change_below(table: dict[str, object], path: Path, above: Path, change: Change) -> None:
    key = str(path[0])
    value = table.get(key)
    if len(path) == 1:
        if value is not None:
            table[key] = _changed(value, (*above, key), change)
    elif isinstance(value, dict):
        table[key] = inner = dict(value)
        _change_below(inner, path[1:], (*above, key), change)


def _changed(value: object, path: Path, change: Change) -> object:
    if isinstance(value, str):
        return change(path, value) if has_template(value) else value
    if isinstance(value, dict):
        return {key: part if _is_raw(path, key) else _changed(part, (*path, key), change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(part, (*path, index), change) for index, part in enumerate(value)]
    return value


def _is_raw(path: Path, key: str) -> bool:
    """The content of a file is a text of its own: `template = true` beside it says that the builder is to render it."""
    return path[0] == "files" and key == "content"
