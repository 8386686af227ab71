"""What queueing needs to know of a spec before anybody has claimed it, at the least cost. Pure."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple

from pydantic import ValidationError

from spooldadd import forms
from spooldadd.bounds import DEFAULT_QUEUE, HIGHEST_PRIORITY, LOWEST_PRIORITY, MAX_SPEC_BYTES, NAME_PATTERN
from spooldadd.placement import ANYWHERE, Place
from spooldadd.reading import Unreadable, read
from spooldadd.spec.models import PlaceTable
from spooldadd.spec.script import metadata

_NAME: Final = re.compile(NAME_PATTERN)
# One line that is whole in itself: blank, a comment, or a bare key with a value of one line and no escapes. A line that
# opens a list or a text of several lines is none of them.
_TEXT: Final = rb'"[^"\\\x00-\x08\x0a-\x1f\x7f]*"|\'[^\'\x00-\x08\x0a-\x1f\x7f]*\''
_LIST: Final = rb"\[[ \t]*(?:(?:" + _TEXT + rb")[ \t]*(?:,[ \t]*)?)*\]"
_VALUE: Final = rb"(" + _TEXT + rb"|-?(?:0|[1-9][0-9]{0,8})|true|false|" + _LIST + rb")"
_LINE: Final = re.compile(rb"[ \t]*(?:([A-Za-z0-9_-]+)[ \t]*=[ \t]*" + _VALUE + rb"[ \t]*)?(?:#[^\n]*)?\r?(?:\n|\Z)")
_PRIORITIES: Final = range(LOWEST_PRIORITY, HIGHEST_PRIORITY + 1)


class Peek(NamedTuple):
    """What decides the order of waiting specs."""

    name: str | None = None
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    not_before: datetime.datetime | None = None
    place: Place = ANYWHERE


_NOTHING: Final = Peek()
_TABLE: Final = ord("[")


def peek(data: bytes) -> Peek:
    """Look at a spec's bytes. A wrong value counts as absent: the full check comes after the claim and says why.

    Never raises. Parses (about 0.1 ms) only where one of the keys may be there and its place is not plain to see.
    """
    if len(data) > MAX_SPEC_BYTES or not _is_telling(data):
        return _NOTHING
    glanced = _glance(data)
    if glanced is not None:
        return glanced
    try:
        _, table = read(data, "", max_bytes=MAX_SPEC_BYTES)
    except Unreadable:
        return _NOTHING
    return _peeked(table)


def peek_script(data: bytes) -> Peek:
    """Look at a script's bytes likewise. Never raises."""
    if len(data) > MAX_SPEC_BYTES or not _is_telling(data):
        return _NOTHING
    return _peeked(metadata(data.decode("utf-8-sig", "replace")))


def has_whole_block(data: bytes) -> bool:
    """Tell whether the inline metadata of a script are there to their end."""
    return any(block.kind == "script" for block in forms.blocks(data.decode("utf-8-sig", "replace")))


def _is_telling(data: bytes) -> bool:
    """Tell whether one of the keys may be there.

    Written out: a loop over them takes ten times as long, and `in` twice as long: it first takes each for a number, in vain.
    """
    find = data.find
    return find(b"name") >= 0 or find(b"queue") >= 0 or find(b"priority") >= 0 or _may_hide(data)


def _may_hide(data: bytes) -> bool:
    """Tell whether one of the keys may stand where a glance does not see it: in a table, or behind an escape (`\\u006e`)."""
    find = data.find
    if find(b"not_before") >= 0 or find(b"place") >= 0:
        return True
    return find(b"\\") >= 0 and (find(b"\\u") >= 0 or find(b"\\U") >= 0 or find(b"\\x") >= 0)


def _glance(data: bytes) -> Peek | None:
    """Read the keys above the first table where each line is plain; None where it takes a parser to know.

    A tenth of the time of a parse: with 100,000 specs in line these looks compete with the claims. What stands below the
    first table is none of ours. Where that is no TOML, what stands above counts all the same until the full check.
    """
    if _may_hide(data):
        return None
    name, queue, priority, at = None, DEFAULT_QUEUE, 0, 0
    while at < len(data) and data[at] != _TABLE:
        line = _LINE.match(data, at)
        if line is None:
            return None
        at = line.end()
        key, value = line.groups()
        if key == b"name":
            name = _name(_unquoted(value))
        elif key == b"queue":
            queue = _queue(_unquoted(value))
        elif key == b"priority":
            priority = _priority({"priority": int(value)}) if value[-1:].isdigit() else 0
    return Peek(name, queue, priority)


def _unquoted(value: bytes) -> str | None:
    return value[1:-1].decode(errors="replace") if value[:1] in (b'"', b"'") else None


def _peeked(table: Mapping[str, object]) -> Peek:
    return Peek(
        _name(table.get("name")),
        _queue(table.get("queue")),
        _priority(table),
        _start(table),
        _place(table.get("place")),
    )


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


def _queue(value: object) -> str:
    """Return the one text for each queue: of 100,000 waiting specs most name the same few."""
    return sys.intern(_name(value) or DEFAULT_QUEUE)


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
