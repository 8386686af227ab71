"""Write TOML: the only place of this project that does.

`quote` and `flat` need nothing but the interpreter, because the launcher and its supervisors load this module and a
fork takes longer with every import. `dumps`, for anything nested, goes through the `toml` package, which is imported
then. What is written here reads back with `tomllib` as exactly the same data.
"""

from __future__ import annotations

# What a type checker knows by this name; `typing` itself would double the import time of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from toml import TomlEncoder


_SURROGATES = range(0xD800, 0xE000)
_ESCAPED_BYTES = range(0xDC80, 0xDD00)  # what `surrogateescape` makes of the bytes 0x80 to 0xFF
MOST_KEYS = 256  # ours are fewer; those of specs may be any number
_BARE_KEY = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class _Escapes(dict[int, str]):
    """A table for `str.translate` that answers for all 2,048 surrogates without listing them."""

    def __missing__(self, code: int) -> str:
        if code in _ESCAPED_BYTES:
            return f"\\\\x{code - 0xDC00:02x}"
        if code in _SURROGATES:
            return "�"
        raise LookupError(code)


_ESCAPES = _Escapes({code: f"\\u{code:04x}" for code in (*range(0x20), 0x7F)})
_ESCAPES.update({8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"})


class Written(str):
    """The text of a value as it stands in TOML: not quoted again."""

    __slots__ = ()


def quote(text: str) -> str:
    """Write a text as a TOML basic string that is a JSON string as well.

    Every `str` has a form: a byte 0xNN that `surrogateescape` brought in is shown as the four characters `\\xNN`, any
    other lone surrogate as U+FFFD, since neither format can hold it.
    """
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'  # nearly every text; the table costs ten times as much
    return f'"{text.translate(_ESCAPES)}"'


def flat(table: Mapping[str, object]) -> str:
    """Write a table of plain values and lists of texts, one line each, in order. A value of None is left out.

    Raises: `TypeError` for any other value, a date without a time included: nested data is for `dumps`.
    """
    # Look-ups, and no call but to write a value: each job writes fifty, under the same names.
    lines = [f"{_KEYS[name]}{_WRITERS[type(value)](value)}\n" for name, value in table.items() if value is not None]
    return "".join(lines)


class _Keys(dict[str, str]):
    """The beginnings of lines, by the name that stands there."""

    def __missing__(self, name: str) -> str:
        text = f"{key(name)} = "
        if len(self) < MOST_KEYS:
            self[name] = text
        return text


_KEYS = _Keys()


def key(name: str) -> str:
    """Write a key: bare where TOML allows it, else quoted."""
    return name if name and _BARE_KEY.issuperset(name) else quote(name)


def _flat_value(value: object) -> str:
    if isinstance(value, list | tuple):
        if not all(isinstance(element, str) for element in value):
            raise TypeError("a flat table holds lists of texts only")
        return f"[{', '.join(map(quote, value))}]"
    return _scalar(value)


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    return _moment(value)


def _moment(value: object) -> str:
    # Nobody has such a value without having imported `datetime`, so this costs a look-up and no import.
    import datetime

    if isinstance(value, datetime.datetime):
        offset = value.utcoffset()
        if offset is not None and offset % datetime.timedelta(minutes=1):
            value = value.astimezone(datetime.UTC)  # TOML has no seconds in an offset
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, datetime.time):
        return value.replace(tzinfo=None).isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise TypeError(f"TOML has no form for a value of type `{type(value).__name__}`")


class _Writers(dict["type", "Callable[[Any], str]"]):
    """How to write a value, by its type. A subclass of what is listed takes the longer way."""

    def __missing__(self, kind: type) -> Callable[[Any], str]:
        return _flat_value


# What nearly every value is.
_WRITERS = _Writers({
    str: quote,
    Written: str.__str__,
    int: int.__repr__,
    float: float.__repr__,
    bool: lambda value: "true" if value else "false",
})  # fmt: skip


def dumps(table: Mapping[str, object]) -> str:
    """Write any nested data that TOML can hold: tables become sections, lists of tables become `[[…]]`.

    Keys whose value is None are left out, in lists None is refused.

    Raises: `TypeError` for values without a form in TOML.
    """
    # Late, because the launcher loads this module and must stay small.
    import toml

    return toml.dumps(dict(table), encoder=_encoder())


def _encoder() -> TomlEncoder[dict[str, object]]:
    """Make an encoder that writes every kind of value itself.

    Release 0.10.2 of the package corrupts backslashes, control characters, keys that end in a newline and tables in
    lists in lists, and takes one empty table used twice for a circle. So it is given nothing to do but to call us.
    """
    import toml

    class Encoder(toml.TomlEncoder):  # type: ignore[type-arg]
        """Hands the package the finished text of the whole document, and no section to go on with."""

        def dump_sections(self, o: Mapping[str, object], sup: str) -> tuple[str, dict[str, object]]:
            return "".join(_section(o, sup)).lstrip("\n"), {}

    return Encoder()


def _section(table: Mapping[str, object], header: str) -> list[str]:
    """Write a table's own values first, then its sections: after a header, TOML has no way back up."""
    lines, sections = [], []
    for name, value in table.items():
        path = f"{header}.{key(name)}" if header else key(name)
        if isinstance(value, dict):
            sections += [f"\n[{path}]\n", *_section(value, path)]
        elif _is_list_of_tables(value):
            for element in value:  # type: ignore[attr-defined]
                sections += [f"\n[[{path}]]\n", *_section(element, path)]
        elif value is not None:
            lines.append(f"{key(name)} = {_inline(value)}\n")
    return lines + sections


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(element, dict) for element in value)


def _inline(value: object) -> str:
    if isinstance(value, dict):
        pairs = [f"{key(name)} = {_inline(part)}" for name, part in value.items() if part is not None]
        return "{ " + ", ".join(pairs) + " }" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_inline, value))}]"
    return _scalar(value)
