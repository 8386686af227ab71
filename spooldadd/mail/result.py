"""The fields of a finished job that mail speaks of: those of `result.toml`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True)
class Result:
    """One finished attempt, as in `result.toml`. What does not apply is None or empty; times are RFC 3339 texts."""

    job: str
    name: str
    outcome: str
    queue: str = ""
    state: str = ""
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    attempt: int = 1
    node: str = ""
    submitted_at: str = ""
    claimed_at: str = ""
    started_at: str = ""
    finished_at: str = ""
    duration_s: float | None = None
    cpu_s: float | None = None
    max_rss_bytes: int | None = None

    @classmethod
    def from_table(cls, table: Mapping[str, object]) -> Self:
        """Read the table of a `result.toml` of any release: unknown keys are passed over, wrong types count as absent.

        Raises: KeyError when `job`, `name` or `outcome` is missing.
        """
        known: dict[str, object] = {key: str(table[key]) for key in ("job", "name", "outcome")}
        for each in fields(cls):
            value = table.get(each.name)
            if each.name not in known and value is not None:
                fitted = _fit(str(each.type), value)
                if fitted is not None:
                    known[each.name] = fitted
        return cls(**known)  # type: ignore[arg-type]  # each value was fitted to its field's type


def _fit(kind: str, value: object) -> str | int | float | None:
    if kind == "str":
        return value.isoformat() if hasattr(value, "isoformat") else str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if kind.startswith("float") else int(value)
