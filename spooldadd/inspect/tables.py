"""Read small tables fast: those of the plain forms that we write ourselves, line by line; everything else by `tomllib`.

`tomllib` alone takes longer to import than `status` may take to answer, and ten times longer for a result. So lines of the
plain forms that we write ourselves are read here; at the first line of any other form the whole file goes to `tomllib`.
What is read here is therefore exactly what `tomllib` reads, and a test says so over arbitrary tables.
"""

from __future__ import annotations

import os

from spooldadd.baretime import datetime

Table = dict[str, object]

_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_DIGITS = frozenset("0123456789")
_STAMP_LENGTHS = (20, 27)  # `2026-11-21T10:15:00Z`, and the same with microseconds
# Far beyond any table of ours: what is larger was put there by somebody else, and is not worth a reader's memory.
MAX_BYTES = 1 << 20


class _Unusual(Exception):
    """A line that only `tomllib` can judge."""


def read(path: str) -> Table | None:
    """Return the table in this file, or None where it is missing, cut short, or not TOML."""
    # A job can write into its record: neither a link nor a pipe may catch a reader.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = _read_all(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    return None if len(data) > MAX_BYTES else parse(data)


def parse(data: bytes) -> Table | None:
    """Return the table in these bytes, or None where they are not TOML."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    try:
        return _parse_flat(text)
    except _Unusual:
        return _parse_any(text)


def rfc3339(moment: datetime.datetime) -> str:
    """Write a time as `2026-11-21T10:15:00.250Z`: UTC, in milliseconds. A time without a zone is taken for UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    text = aware.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def plain(value: object) -> object:
    """Return a value of a table as JSON has it: times as RFC 3339 in UTC."""
    if isinstance(value, datetime.datetime):
        return rfc3339(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, list):
        return [plain(element) for element in value]
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return value


def _read_all(fd: int) -> bytes:
    data = b""
    while len(data) <= MAX_BYTES and (part := os.read(fd, MAX_BYTES + 1)):
        data += part
    return data


def _parse_flat(text: str) -> Table:
    table: Table = {}
    section = table
    lines = text.split("\n")
    if lines.pop():
        raise _Unusual  # no newline at the end: it may be cut short
    for line in lines:
        if line[:1] == "[":
            section = _open_section(table, line)
        elif line[:1] == "#" and line.isprintable():
            continue  # a note in a spec
        elif line:
            key, equals, value = line.partition(" = ")
            if not equals or not key or not _BARE.issuperset(key) or key in section:
                raise _Unusual
            section[key] = _value(value)
    return table


def _open_section(table: Table, line: str) -> Table:
    name = line[1:-1]
    if line[-1] != "]" or not name or not _BARE.issuperset(name) or name in table:
        raise _Unusual
    section: Table = {}
    table[name] = section
    return section


def _value(text: str) -> object:
    if text[:1] == '"':
        return _string(text)
    if text in ("true", "false"):
        return text == "true"
    if text[-1:] == "Z":
        return _moment(text)
    if text[:1] == "[":
        return _strings(text)
    return _number(text)


def _strings(text: str) -> list[str]:
    if text == "[]":
        return []
    if text[:2] != '["' or text[-2:] != '"]' or len(text) < 4:
        raise _Unusual
    return [_string(f'"{part}"') for part in text[2:-2].split('", "')]


def _string(text: str) -> str:
    inside = text[1:-1]
    if len(text) < 2 or text[-1] != '"' or '"' in inside or "\\" in inside or not inside.isprintable():
        raise _Unusual
    return inside


def _moment(text: str) -> datetime.datetime:
    # `fromisoformat` knows more forms than TOML, weeks and commas among them.
    marks = text[4:5] + text[7:8] + text[10:11] + text[13:14] + text[16:17] + text[19:20]
    if len(text) not in _STAMP_LENGTHS or marks not in ("--T::Z", "--T::.") or not text.isascii():
        raise _Unusual
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise _Unusual from error


def _number(text: str) -> int | float:
    whole, point, part = text.partition(".")
    digits = whole.removeprefix("-")
    is_canonical = digits and _DIGITS.issuperset(digits) and (digits[0] != "0" or digits == "0")
    if not is_canonical or (point and (not part or not _DIGITS.issuperset(part))) or len(text) > 30:
        raise _Unusual
    return float(text) if point else int(text)


def _parse_any(text: str) -> Table | None:
    import tomllib  # late: most readers never come here

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None
