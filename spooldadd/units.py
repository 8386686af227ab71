"""Read and write durations and sizes as people write them: `"1h30m"`, `"500ms"`, `"2G"`, `"1.5GB"`.

Durations become float seconds, sizes whole bytes. Pure, and free of other modules of this project.
"""

from __future__ import annotations

import math
import re
from typing import Final

# Ten years: longer than any job, and far below where a count of nanoseconds leaves 64 bits (292 years).
MAX_DURATION_S: Final = 10 * 365 * 86_400.0
# One EiB: more than any disk, and below what a resource limit can hold (2**63 - 1).
MAX_SIZE_BYTES: Final = 2**60

DURATION_FORMS: Final = 'write it as `"90s"`, `"1h30m"`, `"1.5h"`, `"500ms"`, `"2d"` or `"1w"`, or as a number of seconds'
SIZE_FORMS: Final = (
    'write it as `"100M"`, `"2G"` or `"1GiB"` (powers of 1024), `"1.5GB"` (powers of 1000), or as a number of bytes'
)

# Longer texts are no unit, and are not shown to the patterns, which would try every way to split their spaces.
_MAX_CHARACTERS: Final = 40

_NUMBER: Final = r"\d+(?:\.\d+)?"
# Largest first, each at most once: `"30m1h"` is more likely a slip than a wish. For editors too, so it stays within
# what JavaScript's regular expressions know.
DURATION_PATTERN: Final = (
    rf"^\s*(?=[\d])(?:({_NUMBER})w)?\s*(?:({_NUMBER})d)?\s*(?:({_NUMBER})h)?\s*(?:({_NUMBER})m)?\s*"
    rf"(?:({_NUMBER})s)?\s*(?:({_NUMBER})ms)?\s*$"
)
SIZE_PATTERN: Final = rf"^\s*({_NUMBER})\s*([KkMmGgTt](?:[Ii]?[Bb])?|[Bb])?\s*$"

_DURATION_UNITS_S: Final = (604_800.0, 86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_FACTORS: Final[dict[str, int]] = {
    "b": 1,
    **{f"{letter}{tail}": 1024**power for power, letter in enumerate("kmgt", 1) for tail in ("", "ib")},
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
}
_PLAIN_NUMBER: Final = rf"\s*{_NUMBER}\s*"


class BadUnit(ValueError):
    """A text or number that cannot be read; `remedy` shows the accepted forms."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.message = message
        self.remedy = remedy


def parse_duration(value: object, *, allow_zero: bool = False) -> float:
    """Read a duration: a text such as `"1h30m"`, or a number of seconds. Weeks are 7 days, days 24 hours.

    Raises: `BadUnit`, a `ValueError` that shows the accepted forms, for anything that is no duration, for zero
    unless `allow_zero`, and above `MAX_DURATION_S`.
    """
    seconds = _duration_of_text(value) if isinstance(value, str) else _seconds_of_number(value)
    if seconds == 0 and not allow_zero:
        raise BadUnit("a duration of zero makes no sense here", DURATION_FORMS)
    if seconds > MAX_DURATION_S:
        raise BadUnit("a duration above ten years cannot be meant", DURATION_FORMS)
    return seconds


def _duration_of_text(text: str) -> float:
    if len(text) <= _MAX_CHARACTERS and re.fullmatch(_PLAIN_NUMBER, text, re.ASCII):
        return float(text)
    match = re.match(DURATION_PATTERN, text, re.ASCII) if len(text) <= _MAX_CHARACTERS else None
    if match is None:
        raise BadUnit(f"{_shown(text)} is not a duration", DURATION_FORMS)
    amounts = (float(amount) if amount else 0.0 for amount in match.groups())
    return math.fsum(amount * unit for amount, unit in zip(amounts, _DURATION_UNITS_S, strict=True))


def _seconds_of_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadUnit("not a duration", DURATION_FORMS)
    if not value >= 0:  # so, and not as `value < 0`, because of `nan`
        raise BadUnit("a duration cannot be negative or `nan`", DURATION_FORMS)
    # Compared before it is converted: an integer of 400 digits has no float.
    return float(value) if value <= MAX_DURATION_S else math.inf


def parse_size(value: object, *, at_least: int = 1) -> int:
    """Read a size: a text such as `"100M"`, or a whole number of bytes. K, M, G, T and KiB… count in 1024, KB… in 1000.

    Raises: `BadUnit`, a `ValueError` that shows the accepted forms, for anything that is no size, below `at_least`
    bytes, and above `MAX_SIZE_BYTES`.
    """
    size_bytes = _size_of_text(value) if isinstance(value, str) else _bytes_of_number(value)
    if size_bytes < at_least:
        raise BadUnit(f"a size below {format_size(at_least)} makes no sense here", SIZE_FORMS)
    if size_bytes > MAX_SIZE_BYTES:
        raise BadUnit("a size above 1 EiB cannot be meant", SIZE_FORMS)
    return size_bytes


def _size_of_text(text: str) -> int:
    match = re.match(SIZE_PATTERN, text, re.ASCII) if len(text) <= _MAX_CHARACTERS else None
    if match is None:
        raise BadUnit(f"{_shown(text)} is not a size", SIZE_FORMS)
    number: str = match[1]
    factor = _FACTORS[(match[2] or "b").lower()]
    return int(number) * factor if number.isdigit() else round(float(number) * factor)


def _bytes_of_number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadUnit("not a size", SIZE_FORMS)
    if value < 0:
        raise BadUnit("a size cannot be negative", SIZE_FORMS)
    return value


def _shown(text: str) -> str:
    return f"`{text}`" if len(text) <= _MAX_CHARACTERS else f"`{text[:_MAX_CHARACTERS]}…`"


def format_duration(seconds: float) -> str:
    """Write a duration for people: `1h30m`, `2d`, `12.5s`, `500ms`. Exact to the second from a minute up."""
    if not math.isfinite(seconds):
        return str(seconds)
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if 0 < seconds < 0.9995:
        return f"{_short(seconds * 1000)}ms"
    if seconds < 59.95:
        return f"{_short(seconds)}s"
    return _format_whole_seconds(round(seconds))


def _short(number: float) -> str:
    """Write at most three significant digits, and no exponent."""
    return f"{float(f'{number:.3g}'):f}".rstrip("0").rstrip(".")


def _format_whole_seconds(seconds: int) -> str:
    parts = []
    for name, unit_s in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, unit_s)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts)


def write_duration(seconds: float) -> str:
    """Write a duration so that it reads back as the same number: `90s`, `1h30m`, `3661.5s`."""
    text = format_duration(seconds)
    return text if parse_duration(text, allow_zero=True) == seconds else f"{seconds!r}s"


def write_size(size_bytes: int) -> str:
    """Write a size so that it reads back as the same number: `2G`, `24684084K`, `1000B`."""
    for power, unit in ((4, "T"), (3, "G"), (2, "M"), (1, "K")):
        number, rest = divmod(size_bytes, 1024**power)
        if number and not rest:
            return f"{number}{unit}"
    return f"{size_bytes}B"


def format_size(size_bytes: int) -> str:
    """Write a size for people in powers of 1024: `100M`, `1.5G`, `512B`. One digit after the point at most."""
    size = float(size_bytes)
    for unit in ("B", "K", "M", "G"):
        if abs(size) < 1023.95:
            return f"{size:.1f}".removesuffix(".0") + unit
        size /= 1024
    return f"{size:.1f}".removesuffix(".0") + "T"
