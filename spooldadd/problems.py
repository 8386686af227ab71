"""Say what is wrong with a file: where, which line, and what to do about it. Pure.

A `Problem` is one thing that a person must change; `render` shows all of them as a good compiler does, `summary` says
it in one sentence, for the reason of a job.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from spooldadd.tomltext import key

# What is left of a terminal of 120 columns after the margin of line numbers.
_SHOWN_COLUMNS: Final = 100
# A reason stands in a mail's subject and in a table: long enough for any message of ours, too short to flood one.
_SUMMARY_CHARACTERS: Final = 400
_TABLE: Final = {code: chr(0x2400 + code) for code in range(32)} | {9: " ", 127: "␡"}


class Problem(NamedTuple):
    """One thing to change. Lines and columns count from 1, in characters.

    Line 0 says that there is no line to show; `origin` stands for the file's name where something else is to blame,
    such as an environment variable.
    """

    message: str
    key: str = ""
    line: int = 0
    column: int = 0
    text: str = ""
    hint: str | None = None
    origin: str | None = None


def render(problems: Iterable[Problem], source_name: str) -> str:
    """Show all problems in the order of their places, each with its line, a mark below the place, and the remedy."""
    return "".join(_block(problem, visible(source_name)) for problem in in_order(problems))


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sort by place; of equal places, by key and message, so that the same file always reads the same."""
    return tuple(sorted(problems, key=lambda problem: (problem.line, problem.column, problem.key, problem.message)))


def dotted(path: Iterable[str | int]) -> str:
    """Write the path of a key as people do: `limits.timeout`, `command[1]`, `env."odd key"`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{key(part)}" for part in path)
    return text.removeprefix(".")


def summary(problems: Sequence[Problem], source_name: str) -> str:
    """Say in one sentence which file, how many problems, and the first one with its place."""
    first = in_order(problems)[0]
    count = f"{len(problems)} problems, the first" if len(problems) > 1 else "a problem"
    place = f" at line {first.line}, column {first.column}" if first.line else ""
    place = f" in `{first.origin}`" if first.origin else place
    sentence = f"`{visible(source_name)}` has {count}{place}: {visible(first.message)}"
    return sentence if len(sentence) <= _SUMMARY_CHARACTERS else sentence[: _SUMMARY_CHARACTERS - 1] + "…"


def visible(text: str) -> str:
    """Replace what a terminal would act on, or not show, by one visible character each, so that columns stay."""
    if text.isprintable():
        return text
    return "".join(_visible_character(character) for character in text)


def _visible_character(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return _TABLE.get(ord(character), "�")


def _block(problem: Problem, source_name: str) -> str:
    margin = " " * 6 + "|"
    lines = [_headline(problem, source_name)]
    if problem.line:
        shown, column = _cut(problem.text.rstrip("\r\n"), problem.column)
        lines.append(f"{problem.line:>5} | {shown}".rstrip())
        lines.append(f"{margin} {' ' * _width(shown[: column - 1])}^")
    if problem.hint:
        lines.append(f"{' ' * 6}= {visible(problem.hint)}")
    return "\n".join(lines) + "\n"


def _headline(problem: Problem, source_name: str) -> str:
    message = visible(problem.message)
    place = f":{problem.line}:{problem.column}" if problem.line else ""
    return f"{visible(problem.origin or source_name)}{place}: {message}"


def _cut(line: str, column: int) -> tuple[str, int]:
    """Give the part of a line around a column, visible, and the column within it."""
    start = max(0, column - 1 - _SHOWN_COLUMNS // 2) if len(line) > _SHOWN_COLUMNS else 0
    start = min(start, max(0, len(line) - _SHOWN_COLUMNS))
    shown = visible(line[start : start + _SHOWN_COLUMNS])
    before = "…" if start else ""
    after = "…" if start + _SHOWN_COLUMNS < len(line) else ""
    return before + shown + after, column - start + len(before)


def _width(text: str) -> int:
    """Count terminal cells: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )
