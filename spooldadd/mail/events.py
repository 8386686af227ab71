"""What can be told by mail, as plain values: one frozen dataclass for each kind. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from spooldadd.mail.cause import Cause
from spooldadd.mail.result import Result

CHANGES_KEPT = 30
VALUE_CHARS = 200


@dataclass(frozen=True)
class Change:
    """One thing that is different from the last success; an empty side means that it was not there."""

    what: str
    before: str
    after: str


@dataclass(frozen=True)
class Failure:
    """A job that failed for good. `is_log_cut` says that `log_tail` may begin in the middle of a line."""

    result: Result
    cause: Cause
    log_tail: str = ""
    log_name: str = "output.log"
    is_log_cut: bool = False
    record: str = ""
    spec: str = ""
    changes: tuple[Change, ...] = ()
    last_success_at: str = ""
    failing_since: str = ""
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recovery:
    """A name that failed and has now succeeded."""

    result: Result
    failing_since: str
    failures: int
    cause: Cause | None = None
    record: str = ""


@dataclass(frozen=True)
class Success:
    """A job that succeeded, for those who want to hear of it."""

    result: Result
    record: str = ""


@dataclass(frozen=True)
class Late:
    """A job that did not arrive, or did not finish, when it was expected. `what` completes the sentence `NAME ...`."""

    name: str
    what: str
    expected_at: str
    last_success_at: str = ""
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repeat:
    """Failures of one cause that got no mail of their own. `names` may be fewer than there were."""

    cause: Cause
    count: int
    names: tuple[str, ...]
    names_left_out: int = 0
    first_at: str = ""
    last_at: str = ""
    example_job: str = ""


@dataclass(frozen=True)
class Digest:
    """The failures that were counted since the last digest."""

    repeats: tuple[Repeat, ...]

    @property
    def count(self) -> int:
        """Return how many failures these are."""
        return sum(each.count for each in self.repeats)


@dataclass(frozen=True)
class HeldBack:
    """What the hourly limit held back: `mails` that were not sent, and the failures that they would have told."""

    mails: int
    limit: int
    repeats: tuple[Repeat, ...] = ()
    recovered: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """A mail that somebody asked for, to see whether mails arrive."""

    asked_by: str = ""


Event = Failure | Recovery | Success | Late | Digest | HeldBack | Trial


def find_changes(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[Change, ...]:
    """Return what is different between two tables, nested ones by the path of keys: a spec, an environment, inputs."""
    old, new = dict(_flat(before)), dict(_flat(after))
    names = sorted(old.keys() | new.keys())
    changes = [Change(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)]
    return tuple(changes[:CHANGES_KEPT])


def _flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else repr(value)
            yield f"{prefix}{key}", text[:VALUE_CHARS]
