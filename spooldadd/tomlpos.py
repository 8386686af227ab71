"""Find the line and column of every key and list element of a valid TOML text. Pure.

`tomllib` says where a syntax error is, but not where a key stands that it read well. This walks over the same text
once more, only as deep as needed to know where keys and values begin. It is called when there is something to complain
about, so a good file never pays for it. It does not recurse: a text as deep as `tomllib` takes it is no problem.
"""

from __future__ import annotations

import bisect
import contextlib
import re
import tomllib
from functools import cache
from typing import Final, NamedTuple

Path = tuple[str | int, ...]


# Each path holds all keys above it, so without a bound a text of one megabyte and one key, dotted half a million times,
# would take gigabytes. Nothing that people write is nested half as deep.
MAX_DEPTH: Final = 64


class Place(NamedTuple):
    """Where something begins, both counted from 1, in characters."""

    line: int
    column: int


# Each of these takes a text of any length in one go. Possessive groups would say so, but in Python 3.11.2 they match
# wrongly. A string that has no end matches up to where it must have ended: to look for its end again from every quote
# within would take minutes.
_BLANK: Final = r"[ \t\r\n]*(?:#[^\n]*[ \t\r\n]*)*"
_SPACE: Final = r"[ \t]*"
_BARE_KEY: Final = r"[A-Za-z0-9_-]+"
STRING: Final = (
    r'"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*(?:"{3,5}|\\?\Z)'
    r"|'''[^']*(?:'(?!'')[^']*)*(?:'{3,5}|\Z)"
    r'|"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*(?:"|\\?(?=\n|\Z))'
    r"|'[^'\n]*(?:'|(?=\n)|\Z)"
)
_SCALAR: Final = rf"{STRING}|[^,\]}}#\n]+"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile it when it is first needed: of most files nobody asks for a place, and `submit` is to be quick."""
    return re.compile(pattern, re.DOTALL)


def positions(text: str) -> dict[Path, Place]:
    """Map the path of every key and list element, such as `("build", 0, "command")`, to the place of its first mention.

    A list element begins at its value, an element of `[[table]]` at the key in its header. What lies deeper than
    `MAX_DEPTH` is left out. For a text that is not valid TOML the answer ends where the walk was lost.
    """
    scanner = _Scanner(text)
    # The walk relies on a valid text and checks nothing; these are the ways in which it falls over another.
    with contextlib.suppress(IndexError, AttributeError, tomllib.TOMLDecodeError):
        scanner.document()
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    return {path: _place(starts, offset) for path, offset in scanner.offsets.items()}


def _place(starts: list[int], offset: int) -> Place:
    line = bisect.bisect_right(starts, offset)
    return Place(line, offset - starts[line - 1] + 1)


def _unquoted(part: str) -> str:
    if part[0] == "'" or "\\" not in part:
        return part[1:-1]
    text: str = tomllib.loads(f"k = {part}")["k"]
    return text


class _Open:
    """A list (`count` elements so far) or an inline table (`count` is None) whose end is not reached."""

    def __init__(self, path: Path, count: int | None) -> None:
        self.path = path
        self.count = count


class _Scanner:
    """One walk over a text: where it is, what it found, and how many tables each `[[list]]` has."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.offsets: dict[Path, int] = {}
        self.last_table: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while self._skip(_BLANK) < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._value(self._key_before_value(table))

    def _skip(self, pattern: str) -> int:
        match = _compiled(pattern).match(self.text, self.at)
        if match is None:
            raise IndexError(self.at)
        self.at = match.end()
        return self.at

    def _header(self) -> Path:
        is_list = self.text.startswith("[[", self.at)
        self.at += 2 if is_list else 1
        parts = self._key()
        self.at += 2 if is_list else 1
        path = self._descend((), parts[:-1])
        name, offset = parts[-1]
        path = self._mark((*path, name), offset)
        if is_list:
            self.last_table[path] = self.last_table.get(path, -1) + 1
            return self._mark((*path, self.last_table[path]), offset)
        return self._into_last_table(path)

    def _descend(self, path: Path, parts: list[tuple[str, int]]) -> Path:
        for name, offset in parts:
            path = self._into_last_table(self._mark((*path, name), offset))
        return path

    def _into_last_table(self, path: Path) -> Path:
        return (*path, self.last_table[path]) if path in self.last_table else path

    def _mark(self, path: Path, offset: int) -> Path:
        if len(path) > MAX_DEPTH:
            return path[:MAX_DEPTH]
        self.offsets.setdefault(path, offset)
        return path

    def _key(self) -> list[tuple[str, int]]:
        """Read a dotted key and the white space after it; give each part with its offset."""
        parts = []
        while True:
            start = self._skip(_SPACE)
            quoted = self.text[start] in "\"'"
            end = self._skip(_SCALAR if quoted else _BARE_KEY)
            part = self.text[start:end]
            parts.append((_unquoted(part) if quoted else part, start))
            if not self.text.startswith(".", self._skip(_SPACE)):
                return parts
            self.at += 1

    def _key_before_value(self, table: Path) -> Path:
        path = self._descend(table, self._key())
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        return path

    def _value(self, path: Path) -> None:
        """Step over one value and everything in it."""
        containers: list[_Open] = []
        following: Path | None = path
        while following is not None:
            self._begin(following, containers)
            following = self._following(containers)

    def _begin(self, path: Path, containers: list[_Open]) -> None:
        character = self.text[self.at]
        if character in "[{":
            self.at += 1
            containers.append(_Open(path, 0 if character == "[" else None))
        else:
            self._skip(_SCALAR)

    def _following(self, containers: list[_Open]) -> Path | None:
        """Go to the next value within the open containers, closing those that end; None when all are closed."""
        while containers:
            self._skip(_BLANK)
            if self.text[self.at] == ",":
                self.at += 1
                self._skip(_BLANK)
            if self.text[self.at] not in "]}":
                return self._next_in(containers[-1])
            self.at += 1
            containers.pop()
        return None

    def _next_in(self, container: _Open) -> Path:
        if container.count is None:
            return self._key_before_value(container.path)
        container.count += 1
        return self._mark((*container.path, container.count - 1), self.at)
