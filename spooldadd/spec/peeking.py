"""What queueing needs to know of a spec before anybody has claimed it, at the least cost. Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from pydantic import ValidationError

from spooldadd import forms
from spooldadd.bounds import DEFAULT_QUEUE, HIGHEST_PRIORITY, LOWEST_PRIORITY, MAX_SPEC_BYTES, NAME_PATTERN
from spooldadd.placement import ANYWHERE, Place
from spooldadd.reading import Unreadable, read
from spooldadd.spec.models import PlaceTable
from spooldadd.spec.script import metadata

# A key may hide behind an escape (`"\u006eame"`), so a text with one is looked at too.
_TELLING: Final = (b"name", b"queue", b"priority", b"not_before", b"place", b"\\u", b"\\U", b"\\x")
_NAME: Final = re.compile(NAME_PATTERN)
_PRIORITIES: Final = range(LOWEST_PRIORITY, HIGHEST_PRIORITY + 1)


class Peek(NamedTuple):
    """What decides the order of waiting specs. `is_valid_toml` is None where nobody had to look."""

    name: str | None = None
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    not_before: datetime.datetime | None = None
    is_valid_toml: bool | None = None
    place: Place = ANYWHERE


_NOTHING: Final = Peek()


def peek(data: bytes) -> Peek:
    """Look at a spec's bytes. A wrong value counts as absent: the full check comes after the claim and says why.

    Never raises. Costs a parse (about 0.1 ms) only where one of the keys may be there.
    """
    if len(data) > MAX_SPEC_BYTES or not any(word in data for word in _TELLING):
        return _NOTHING
    try:
        _, table = read(data, "", max_bytes=MAX_SPEC_BYTES)
    except Unreadable:
        return Peek(is_valid_toml=False)
    return _peeked(table)


def peek_script(data: bytes) -> Peek:
    """Look at a script's bytes likewise. Never raises."""
    if len(data) > MAX_SPEC_BYTES or not any(word in data for word in _TELLING):
        return _NOTHING
    return _peeked(metadata(data.decode("utf-8-sig", "replace")))


def has_whole_block(data: bytes) -> bool:
    """Tell whether the inline metadata of a script are there to their end."""
    return any(block.kind == "script" for block in forms.blocks(data.decode("utf-8-sig", "replace")))


def _peeked(table: Mapping[str, object]) -> Peek:
    return Peek(
        _name(table.get("name")),
        _name(table.get("queue")) or DEFAULT_QUEUE,
        _priority(table),
        _start(table),
        True,
        _place(table.get("place")),
    )


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


def _priority(table: Mapping[str, object]) -> int:
    value = table.get("priority")
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _PRIORITIES else 0


def _start(table: Mapping[str, object]) -> datetime.datetime | None:
    run = table.get("run")
    value = run.get("not_before") if isinstance(run, dict) else None
    return value if isinstance(value, datetime.datetime) and value.tzinfo is not None else None


def _place(value: object) -> Place:
    if not isinstance(value, dict) or not value:
        return ANYWHERE
    try:
        return PlaceTable.model_validate(value).place()
    except ValidationError:
        return ANYWHERE
