"""Read a time as people type it on a command line: `2h`, `2026-11-20`, `2026-11-20T18:00`, RFC 3339."""

from __future__ import annotations

from spooldadd.baretime import datetime
from spooldadd.cli.plain import unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Apply = Callable[[datetime.timedelta, datetime.datetime], datetime.datetime]

FORMS = "write a duration such as `2h`, a day such as `2026-11-20`, or a time such as `2026-11-20T18:00:00Z`"


def past(text: str) -> datetime.datetime:
    """Read when something began: a duration counts back from now. For `type=` of an argument."""
    return _typed(text, lambda span, now: now - span)


def future(text: str) -> datetime.datetime:
    """Read when something may begin: a duration counts from now on. For `type=` of an argument."""
    return _typed(text, lambda span, now: now + span)


def duration(text: str) -> float:
    """Read a duration in seconds. For `type=` of an argument."""
    from spooldadd.units import BadUnit, parse_duration  # late: few command lines hold one

    try:
        return parse_duration(text, allow_zero=True)
    except BadUnit as error:
        raise unfit(str(error)) from error


def _typed(text: str, apply: Apply) -> datetime.datetime:
    try:
        return read(text, datetime.datetime.now(datetime.UTC), apply)
    except ValueError as error:
        raise unfit(f"`{text}` is no time; {FORMS}") from error


def read(text: str, now: datetime.datetime, apply: Apply) -> datetime.datetime:
    """Return the time in UTC. One without a zone is this machine's; a day begins at its midnight.

    Raises: ValueError.
    """
    from spooldadd.units import BadUnit, parse_duration

    try:
        span = datetime.timedelta(seconds=parse_duration(text, allow_zero=True))
    except BadUnit:
        return datetime.datetime.fromisoformat(text.strip()).astimezone(datetime.UTC)
    try:
        return apply(span, now)
    except OverflowError as error:
        raise ValueError(text) from error
