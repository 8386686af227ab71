"""What every measurement shares: a row of the table, interleaved rounds, the machine."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from spooldadd import filesystem


@dataclass(frozen=True)
class Row:
    """One line of the table. A target is a bound on the value: `at_least` from below, else from above."""

    what: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Tell whether the target is met, where there is one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def table(self) -> dict[str, object]:
        """Return it for `--json`."""
        return {**asdict(self), "met": self.is_met}

    def line(self) -> str:
        """Return it for people."""
        target = "" if self.target is None else f"{'>=' if self.at_least else '<='} {self.target:g}"
        verdict = {None: "", True: "met", False: "MISSED"}[self.is_met]
        return f"{self.what:<58} {self.value:>10.4g} {self.unit:<12} {target:<10} {verdict:<7} {self.note}".rstrip()


def interleaved(kinds: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure each kind once a round, in turn: what disturbs the machine disturbs all alike."""
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(rounds):
        for name in sorted(kinds, reverse=bool(number % 2)):
            found[name].append(kinds[name]())
    return found


def ratio(found: Mapping[str, list[float]], above: str, below: str) -> float:
    """Return the median of the ratios of each round: the two stood next to each other in time."""
    return statistics.median(a / b for a, b in zip(found[above], found[below], strict=True))


def quantile(values: list[float], part: float) -> float:
    """Return the value that this part of all stays at or below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def machine(directory: str) -> dict[str, object]:
    """Describe what it was measured on."""
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "file_system": filesystem.kind(directory),
        "load": round(os.getloadavg()[0], 1),
    }
