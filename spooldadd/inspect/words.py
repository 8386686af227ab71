"""Write for people: durations, sizes, times, and text of unknown origin so that a terminal takes no harm.

Light, unlike `units`, which reads such words too.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # not from `typing`: that import alone would take a tenth of the time of `status`
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_GAP = "  "
COLOURS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}


def duration(seconds: float) -> str:
    """Write a duration with two units at most: `0.4 s`, `25 s`, `3 min 20 s`, `2 h 5 min`, `3 d`."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 0.095 else f"{seconds * 1000:.0f} ms"
    whole = round(seconds)
    place = next(index for index, (_, unit_s) in enumerate(_UNITS) if whole >= unit_s)
    parts = []
    for name, unit_s in _UNITS[place : place + 2]:
        amount, whole = divmod(whole, unit_s)
        parts += [f"{amount} {name}"] if amount else []
    return " ".join(parts)


def size(size_bytes: int) -> str:
    """Write a size in powers of 1024: `812 bytes`, `1.5 MiB`."""
    if size_bytes < 1024:
        return counted(size_bytes, "byte")
    number = size_bytes / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.4g} TiB"


def counted(number: int, one: str, many: str = "") -> str:
    """Write a number with its noun: `1 job`, `2 jobs`."""
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"


def show(text: object) -> str:
    """Return text on one line, with everything that a terminal would act on replaced by something visible."""
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(char if char.isprintable() else _visible(ord(char)) for char in shown)


def show_lines(text: str) -> str:
    """Return text of many lines like `show`, its line ends and tabs kept."""
    return "\n".join("\t".join(map(show, line.split("\t"))) for line in text.split("\n"))


def cut(text: str, width: int | None) -> str:
    """Cut text to this many characters; None is as wide as it likes."""
    if width is None or len(text) <= width:
        return text
    return text[: max(0, width - 1)] + "…"


def columns(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Set rows in columns, without those that are empty; lines are cut to the width."""
    widest = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)] if rows else []
    lines = []
    for row in rows:
        cells = [cell.ljust(most) for cell, most in zip(row, widest, strict=False) if most]
        lines.append(cut(_GAP.join([*cells, row[-1]]).rstrip(), width))
    return lines


def pairs(fields: Iterable[tuple[str, str]]) -> list[str]:
    """Set names and values in two columns; a value of several lines stays in its column."""
    rows = [(name, value) for name, value in fields if value]
    widest = max((len(name) for name, _ in rows), default=0)
    indent = "\n" + " " * (widest + len(_GAP))
    return [f"{name.ljust(widest)}{_GAP}{value.replace(chr(10), indent)}" for name, value in rows]


class Screen:
    """What we print to: how wide it is, and whether it shows colours. A pipe or a file is as wide as it likes."""

    __slots__ = ("has_colour", "width")

    def __init__(self, stream: TextIO, environ: dict[str, str] | os._Environ[str]) -> None:
        is_terminal = stream.isatty()
        self.has_colour = is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self.width = _terminal_width(stream, environ) if is_terminal else None

    def paint(self, text: str, colour: str) -> str:
        """Return text in this colour where there is any."""
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self.has_colour and colour else text


def _terminal_width(stream: TextIO, environ: dict[str, str] | os._Environ[str]) -> int:
    given = environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80


def _visible(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # a byte of a file name that is no text
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "�"
