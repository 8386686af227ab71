"""From the bytes of a TOML file to a valid model, or to every problem with its line, column and remedy. Pure.

The steps, each usable alone: `decode` (bytes to text), `load` (text to data, by `tomllib`), `validate` (data to a
pydantic model). Each raises `Unreadable` with all the problems it can know. Specs and the configuration share this.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

from spooldadd import tomlpos
from spooldadd.errors import SpooldaddError
from spooldadd.problems import Problem, dotted, in_order
from spooldadd.tomlpos import MAX_DEPTH, Path, Place
from spooldadd.units import format_size

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound="BaseModel")

# More than a person mends before the next try, few enough that a file of 100,000 unknown keys is refused at once.
MAX_PROBLEMS: Final = 100
# A key may be as long as the file; a message about it is for reading.
_MESSAGE_CHARACTERS: Final = 500
_BYTE_ORDER_MARKS: Final = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_UTF_8_MARK: Final = b"\xef\xbb\xbf"
# Those that only a file with a fault needs are compiled for it.
_AT: Final = r" \(at (?:line (\d+), column (\d+)|end of document)\)$"
_STRING_OR_COMMENT: Final = rf"{tomlpos.STRING}|#[^\n]*"
# The look-behind keeps the search from beginning anew at each letter of a long word.
_LONG_KEY: Final = re.compile(r"(?<![\w-])(?:(?:[\w-]+|\"[^\"\n]*\"|'[^'\n]*')[ \t]*\.[ \t]*)" f"{{{MAX_DEPTH}}}", re.ASCII)
_LONG_NUMBER: Final = r"(?<![\w.])[+-]?\d(?:_?\d){4299,}"
# What `tomllib` says, what we say instead, and the remedy.
_SYNTAX_ERRORS: Final = (
    ("Unescaped '\\'", "a backslash in a string", "write each backslash twice, or put the text into single quotes"),
    ("Illegal character '\\n'", "the string does not end on its line", 'close it, or use `"""` for several lines'),
    ("Illegal character", "a control character in a string", "write it as an escape, such as `\\t` or `\\u001b`"),
    ("Found invalid character", "a control character", "remove it, or write it as an escape in double quotes"),
    ("Unterminated string", "a string has no end", "close it with the quotes that opened it"),
    ("Expected \"'", "a string has no end", "close it with the quotes that opened it"),
    ("Invalid value", "this is no value", 'texts stand in quotes: `key = "text"`; yes and no are `true` and `false`'),
    ("Invalid date", "there is no such date", None),
    ("Invalid initial character", "this is no key", "keys are letters, digits, `_` and `-`; others stand in quotes"),
    ("Invalid statement", "this is no key", "each line is `key = value`, `[table]` or `# comment`"),
    ("Expected '='", "a key without a value", "write `key = value`"),
    ("Unclosed array", "a list has no end", "put a comma between the elements and `]` at the end"),
    ("Unclosed inline table", "an inline table has no end", "commas between the keys, `}` at the end, all on one line"),
    ("Cannot declare", "a table that is there already", "put the keys of both into one"),
    ("Cannot redefine", "a table that is there already", "put the keys of both into one"),
    ("Cannot mutate", "a table or list cannot be added to after its closing bracket", "put all of it into one place"),
    ("Cannot overwrite", "a key that has a value already", "keep one of the two"),
    ("Duplicate inline table key", "a key that has a value already", "keep one of the two"),
    ("Expected newline", "something follows where the line should end", "quotes within a text need a `\\` before them"),
    ("Expected ']", "a table's name without its closing bracket", "write `[table]`, or `[[table]]` for a list of them"),
)


class Unreadable(SpooldaddError):
    """The bytes are no valid file of their kind; `problems` holds all that is known, in order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__(self.problems[0].message)


class Source:
    """A text with its file's name, which knows the places in it.

    Two are always equal, so that models read from different texts are compared by their values alone. Not a dataclass:
    `submit` needs none, and to import them takes longer than to read its spec.
    """

    def __init__(self, name: str = "", text: str = "", known_places: Mapping[Path, Place] | None = None) -> None:
        self.name = name
        self.text = text
        self.known_places = known_places  # of a text that is no TOML itself

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source)

    def __hash__(self) -> int:
        return hash(Source)

    @cached_property
    def places(self) -> Mapping[Path, Place]:
        """The place of each key and element."""
        return tomlpos.positions(self.text) if self.known_places is None else self.known_places

    @cached_property
    def lines(self) -> list[str]:
        """The lines as TOML counts them: other characters that break lines for Python do not."""
        return self.text.split("\n")

    def problem(self, path: Path, message: str, hint: str | None = None) -> Problem:
        """Make a problem at the place of a key, or of the nearest table above it."""
        above = path
        while above and above not in self.places:
            above = above[:-1]
        place = self.places.get(above, Place(1, 1))
        return self.problem_at(place, message, hint)._replace(key=dotted(path))

    def problem_at(self, place: Place, message: str, hint: str | None = None) -> Problem:
        """Make a problem at a place; one behind the end of the text stands at its end."""
        line = min(place.line, len(self.lines))
        message = message if len(message) <= _MESSAGE_CHARACTERS else message[: _MESSAGE_CHARACTERS - 1] + "…"
        text = self.lines[line - 1].removesuffix("\r")
        return Problem(message, "", line, min(place.column, len(text) + 1), text, hint)

    def place_at(self, offset: int) -> Place:
        """Find line and column of an offset in the text."""
        before = self.text[:offset]
        return Place(before.count("\n") + 1, offset - before.rfind("\n"))

    def end(self) -> Place:
        """Give the place behind the last character that is no white space."""
        return self.place_at(len(self.text.rstrip()))


def read(data: bytes, name: str, *, max_bytes: int) -> tuple[Source, dict[str, object]]:
    """Decode and parse: the source for places, and the data.

    Raises: `Unreadable` for bytes over the limit, no text, and no TOML.
    """
    source = Source(name, decode(data, max_bytes=max_bytes))
    return source, load(source)


def decode(data: bytes, *, max_bytes: int) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Raises: `Unreadable` for too many bytes, another encoding, or what is no text at all.
    """
    if len(data) > max_bytes:
        raise _refused(data[:200], 0, *_too_large(len(data), max_bytes))
    if encoding := _other_encoding(data):
        hint = f"save the file as UTF-8, for example `iconv -f {encoding} -t UTF-8`"
        raise Unreadable([Problem(f"the file is {encoding}, and TOML is UTF-8", "", 1, 1, "", hint)])
    data = data.removeprefix(_UTF_8_MARK)
    if (at := data.find(0)) >= 0:
        raise _refused(data, at, f"this is not text: byte {at} is NUL", "submit a TOML file, not a program or an archive")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        message = f"byte {error.start} (0x{data[error.start]:02x}) is not valid UTF-8"
        hint = "save the file as UTF-8; if it is Latin-1, `iconv -f LATIN1 -t UTF-8` does it"
        raise _refused(data, error.start, message, hint) from error


def _too_large(size_bytes: int, max_bytes: int) -> tuple[str, str]:
    message = f"the file is too large: {format_size(size_bytes)}, where {format_size(max_bytes)} is the limit"
    return message, "put what is large into a file of its own, and its path into this one"


def _other_encoding(data: bytes) -> str | None:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return encoding
    # Without a mark: ASCII text gives itself away by the place of its zeros.
    if len(data) >= 4 and data[0] and data[1:2] == b"\0" and data[2] and data[3:4] == b"\0":
        return "UTF-16LE"
    if len(data) >= 4 and data[:1] == b"\0" and data[1] and data[2:3] == b"\0" and data[3]:
        return "UTF-16BE"
    return None


def _refused(data: bytes, at: int, message: str, hint: str) -> Unreadable:
    """Make the error for one byte that cannot be; what cannot be decoded around it is replaced."""
    start = data.rfind(b"\n", 0, at) + 1
    end = data.find(b"\n", at)
    line = data[start : end if end >= 0 else len(data)].decode(errors="replace")
    column = len(data[start:at].decode(errors="replace")) + 1
    return Unreadable([Problem(message, "", data.count(b"\n", 0, at) + 1, column, line, hint)])


def load(source: Source) -> dict[str, object]:
    """Parse the text. `tomllib` is the only reader.

    Raises: `Unreadable` for what is not TOML, and for nesting deeper than `MAX_DEPTH`.
    """
    if _has_long_key(source.text):
        raise Unreadable([_too_deep(source)])
    try:
        data: dict[str, object] = tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        raise Unreadable([_syntax_problem(source, str(error))]) from error
    except ValueError as error:
        raise Unreadable([_long_number(source)]) from error
    except RecursionError as error:
        raise Unreadable([_too_deep(source)]) from error
    if _is_too_deep(data):
        raise Unreadable([_too_deep(source)])
    return data


def _has_long_key(text: str) -> bool:
    """Find a key of very many parts, for which `tomllib` takes time in the square of their number (minutes a megabyte).

    Only dots outside strings and comments make such keys, but those are looked for only where there is a suspicion.
    """
    return bool(_LONG_KEY.search(text) and _LONG_KEY.search(re.sub(_STRING_OR_COMMENT, '""', text, flags=re.DOTALL)))


def _is_too_deep(data: dict[str, object]) -> bool:
    level: list[object] = [data]
    for _ in range(MAX_DEPTH):
        inner: list[object] = [child for parent in level for child in _children(parent) if isinstance(child, dict | list)]
        if not inner:
            return False
        level = inner
    return True


def _children(parent: object) -> Iterable[object]:
    if isinstance(parent, dict):
        return parent.values()
    return parent if isinstance(parent, list) else ()


def _too_deep(source: Source) -> Problem:
    deepest = max(source.places, key=len, default=())
    message = f"nested deeper than {MAX_DEPTH} levels"
    return source.problem_at(source.places.get(deepest, Place(1, 1)), message, "use fewer levels")


def _long_number(source: Source) -> Problem:
    # The one error that `tomllib` passes on from `int`, without a place.
    match = re.search(_LONG_NUMBER, source.text)
    place = source.place_at(match.start()) if match else Place(1, 1)
    return source.problem_at(place, "a number of so many digits cannot be read", "put it into quotes, as a text")


def _syntax_problem(source: Source, text: str) -> Problem:
    """Turn the words of `tomllib`, which hold the place, into a problem."""
    match = re.search(_AT, text)
    message = text[: match.start()] if match else text
    place = Place(int(match[1]), int(match[2])) if match and match[1] else source.end()
    known = ((ours, hint) for theirs, ours, hint in _SYNTAX_ERRORS if message.startswith(theirs))
    ours, hint = next(known, (f"{message[:1].lower()}{message[1:]}", None))
    return source.problem_at(place, f"this is not TOML: {ours}", hint)


def validate(model: type[Model], data: dict[str, object], source: Source, context: object = None) -> Model:
    """Check data against a model, by the keys as they stand in the file. The validators of the model see the context.

    Raises: `Unreadable` with every problem, each at the place of its key.
    """
    from pydantic import ValidationError  # late: who only reads the data needs no pydantic

    try:
        return model.model_validate(data, by_alias=True, by_name=False, context=context)
    except ValidationError as error:
        raise Unreadable(_problems(model, data, source, error)) from error


def _problems(model: type[BaseModel], data: dict[str, object], source: Source, error: ValidationError) -> list[Problem]:
    from spooldadd.complaints import complaints

    errors = error.errors(include_url=False)
    shown = [
        source.problem(complaint.path, complaint.message, complaint.hint)
        for complaint in complaints(model, data, errors[:MAX_PROBLEMS])
    ]
    if (more := len(errors) - MAX_PROBLEMS) > 0:
        shown.append(source.problem_at(source.end(), f"and {more} more problems"))
    return shown
