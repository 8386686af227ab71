"""What the templates of one spec may still do, how long values are, and what is refused before it is done. Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Final

from jinja2.runtime import Undefined

from spooldadd.complaints import kind

# All that templates may write for one spec, and so the most that any single value may have: as much as a whole spec.
MAX_CHARACTERS: Final = 2**20
# About two seconds on a slow machine. A value such as `{{ vars.day }}` takes about 450 of them, most to compile it.
MAX_STEPS: Final = 1_000_000
STEPS_TO_COMPILE: Final = 400
STEPS_PER_CHARACTER: Final = 2  # of a template's source, to compile it
_STEPS_PER_OPERATION: Final = 10  # the call of a filter takes as long as that many nodes of a loop's body
_CHARACTERS_PER_STEP: Final = 64  # of a value that an operation reads
# Wider than any column or rounding that people ask for, and too narrow for a number of that length to matter.
_MAX_NUMBER_ARGUMENT: Final = 10_000
_MAX_INTEGER_BITS: Final = 4_096
_NUMBERS_IN_FORMAT: Final = re.compile(r"\d+")


class TemplateFault(Exception):
    """A template cannot be used: what is wrong, and the remedy where there is one."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Names:
    """Names below one word, such as `vars.day`. Has no method, so that a variable may be called `items`."""

    __slots__ = ("_table", "_word")

    def __init__(self, word: str, table: Mapping[str, object]) -> None:
        self._word = word
        self._table = table

    def __getitem__(self, name: str) -> object:
        return self._table[name]

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __str__(self) -> str:
        raise TemplateFault(f"`{self._word}` is no single value", f"write `{self._word}.NAME`")


class Budget:
    """Counts down what the templates of one spec may still do and write."""

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps
        self.steps = max_steps
        self.characters = MAX_CHARACTERS

    def spend(self, steps: int) -> None:
        """Count down.

        Raises: `TemplateFault` when nothing is left.
        """
        self.steps -= steps
        if self.steps < 0:
            raise TemplateFault(f"takes more than {self.max_steps:,} steps", "let the job itself do long computations")

    def read(self, *values: object) -> int:
        """Pay for an operation that reads values, and give their length as text."""
        length, count = _measure(*values)
        self.spend(_STEPS_PER_OPERATION + count + length // _CHARACTERS_PER_STEP)
        return length

    def listed(self, values: Iterable[object], steps: int) -> list[object]:
        """Pay so many steps for each value before the first of them is used, as for the rounds of a loop."""
        listed = []
        for value in values:
            self.spend(steps)
            listed.append(value)
        return listed

    def write(self, chunk: str) -> str:
        """Count a piece of the result, and pass it on."""
        self.characters -= len(chunk)
        require_room(0 if self.characters >= 0 else MAX_CHARACTERS + 1)
        return chunk


def require_room(characters: int) -> None:
    """Refuse what would make too long a text."""
    if characters > MAX_CHARACTERS:
        raise TemplateFault(f"makes a text of more than {MAX_CHARACTERS:,} characters")


def _measure(*values: object) -> tuple[int, int]:
    """Give about the length that values have as text, and how many single values they hold.

    Ends early: a list that holds one list twice, which holds one list twice, and so on, would take for ever.
    """
    total = count = 0
    stack: list[object] = list(values)
    while stack:
        count += 1
        value = stack.pop()
        if isinstance(value, dict):
            stack += (value.keys(), value.values())
        elif isinstance(value, list | tuple | set | KeysView | ValuesView | ItemsView):
            total += 2 * len(value)
            stack += value if total <= MAX_CHARACTERS else ()
        else:
            total += _length_of_scalar(value)
        require_room(total)
    return total, count


def _length_of_scalar(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, int):
        return value.bit_length() // 3 + 2
    return 8 * len(value) if isinstance(value, range) else 32


def as_text(value: object) -> str:
    """Write a single value as TOML does: `true` for True, dates in ISO 8601.

    Raises: `TemplateFault` for lists and whatever else is no single value.
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Undefined | Names):
        return str(value)
    if value is None:
        raise TemplateFault("`none` cannot be written", "give it a value, such as `| default('…', true)`")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise TemplateFault(f"{kind(value)} cannot be written as it is", "use `| join(', ')` or `| tojson`")


def require_room_for_product(left: object, right: object) -> None:
    """Refuse a multiplication whose result would be too long: of numbers, or of a text or a list by a number."""
    if isinstance(left, int) and isinstance(right, int):
        _require_bits(left.bit_length() + right.bit_length())
        return
    for repeated, times in ((left, right), (right, left)):
        if isinstance(times, int) and not isinstance(repeated, float | Undefined):
            require_room(_measure(repeated)[0] * times)


def require_room_for_power(left: object, right: object) -> None:
    """Refuse a power with too many digits."""
    if isinstance(left, int) and isinstance(right, int):
        _require_bits(left.bit_length() * right)


def _require_bits(bits: int) -> None:
    if bits > _MAX_INTEGER_BITS:
        raise TemplateFault(f"makes a number of more than {_MAX_INTEGER_BITS:,} bits")


def measure_call(budget: Budget, name: str, owner: object, arguments: tuple[object, ...]) -> None:
    """Refuse a method call or a filter whose result would be out of proportion to what goes in."""
    length = budget.read(owner, *arguments)
    for argument in arguments:
        if isinstance(argument, int) and abs(argument) > _MAX_NUMBER_ARGUMENT:
            raise TemplateFault(f"`{name}` with a number above {_MAX_NUMBER_ARGUMENT:,}")
    if name == "replace" and isinstance(owner, str) and len(arguments) >= 2:
        old, new = str(arguments[0]), str(arguments[1])
        require_room(length + owner.count(old) * len(new))
    if name == "join" and arguments:
        require_room(length + len(str(owner)) * _count(arguments[0]))


def _count(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict | range | set) else 1


def formatted(pattern: str, values: tuple[object, ...], length: int) -> str:
    """Format as `%` does, without names and without widths that come from values."""
    if "*" in pattern or "%(" in pattern:
        raise TemplateFault("a format with `*` or `%(name)` is not available to templates")
    # The longest escape of a character, as `%r` writes it, has ten; `require_room` has bounded the digits themselves.
    widths = sum(int(number[:8]) for number in _NUMBERS_IN_FORMAT.findall(pattern))
    require_room(10 * length + widths)
    return pattern % tuple(_formattable(value) for value in values)


def _formattable(value: object) -> object:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else as_text(value)
