"""What a check says, and what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spooldadd import durable
from spooldadd.config import Config
from spooldadd.layout import Layout
from spooldadd.problems import visible

OK, WARN, FAIL = "ok", "warn", "fail"
# A sentence names this many of the files that it is about.
NAMED = 5


@dataclass(frozen=True)
class Check:
    """The answer of one check. What is not ok has a remedy."""

    check: str
    status: str
    sentence: str
    remedy: str | None = None

    def table(self) -> dict[str, str]:
        """Return what `--json` shows."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Subject:
    """What is examined: a spool, as this node with this configuration uses it."""

    places: Layout
    config: Config
    now_s: float

    @property
    def root(self) -> str:
        """The directory of the spool."""
        return self.places.root


def ok(name: str, sentence: str) -> Check:
    """Say that this is as it should be."""
    return Check(name, OK, sentence)


def warned(name: str, sentence: str, remedy: str) -> Check:
    """Say what may do harm."""
    return Check(name, WARN, sentence, remedy)


def failed(name: str, sentence: str, remedy: str) -> Check:
    """Say what keeps the spool from working."""
    return Check(name, FAIL, sentence, remedy)


def listed(names: Sequence[str]) -> str:
    """Name the first few."""
    shown = ", ".join(f"`{visible(durable.printable(name))}`" for name in names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def counted(number: int, one: str, many: str) -> str:
    """Write a number with its noun: `1 file`, `2 files`."""
    return f"{number} {one if number == 1 else many}"
