"""What `explain` answers with, whatever state the job is in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rule:
    """One rule that may keep a job waiting, with the value it saw."""

    rule: str
    keeps_waiting: bool
    value: object
    sentence: str

    def table(self) -> dict[str, object]:
        """Return what JSON says about it."""
        return {
            "rule": self.rule,
            "keeps_waiting": self.keeps_waiting,
            "value": self.value,
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Explanation:
    """One sentence that answers, the facts behind it for a program, and the lines behind it for a person."""

    sentence: str
    facts: Mapping[str, object] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
