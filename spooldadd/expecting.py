"""When a job is expected: `daily 06:00 +30m` in, moments out. Pure, but for the time zone of this machine.

The part after `+` is how late it may be; without it, 30 minutes. An hour that the clocks
skip is the hour after it.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from spooldadd.units import BadUnit, parse_duration

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
GRACE_S = 1800.0
# The longest rhythm is a week: a day more finds the moment before in any case.
LOOK_BACK_DAYS = 8
_FORM = re.compile(
    r"(?:(?P<hourly>hourly)(?:\s+:(?P<at>[0-5]\d))?"
    r"|(?P<every>daily|weekdays|weekly\s+(?P<day>[a-z]{3})[a-z]*)\s+(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d))"
    r"(?:\s*\+\s*(?P<grace>\S+))?",
    re.IGNORECASE,
)


class BadRule(ValueError):
    """A text that says no such time."""


@dataclass(frozen=True)
class Expected:
    """A rhythm: `text` as it was written, the days (0 is Monday), the hour or None for each, the minute, the grace."""

    text: str
    days: tuple[int, ...]
    hour: int | None
    minute: int
    grace_s: float

    def __str__(self) -> str:
        return self.text


def parse(text: object) -> Expected:
    """Read a rule. Raises: BadRule."""
    found = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or not isinstance(text, str):
        raise BadRule(f"`{text}` is none of `hourly :15`, `daily 06:00`, `weekdays 06:00`, `weekly mon 06:00`")
    try:
        grace_s = parse_duration(found["grace"], allow_zero=True) if found["grace"] else GRACE_S
    except BadUnit as error:
        raise BadRule(str(error)) from error
    if found["hourly"]:
        return Expected(text.strip(), tuple(range(7)), None, int(found["at"] or 0), grace_s)
    return Expected(text.strip(), _days(found), int(found["hour"]), int(found["minute"]), grace_s)


def _days(found: re.Match[str]) -> tuple[int, ...]:
    if found["day"] is None:
        return tuple(range(5 if found["every"].lower() == "weekdays" else 7))
    if found["day"].lower() not in DAYS:
        raise BadRule(f"`{found['day']}` is no day; the days are {', '.join(DAYS)}")
    return (DAYS.index(found["day"].lower()),)


def last_deadlines(rule: Expected, now: datetime.datetime) -> tuple[datetime.datetime, datetime.datetime]:
    """Return the last moment, not after `now`, by which the job had to be done, and the one before."""
    passed = [at for at in _deadlines(rule, now) if at <= now]
    return passed[-1], passed[-2]


def next_deadline(rule: Expected, now: datetime.datetime) -> datetime.datetime:
    """Return the first moment after `now` by which the job has to be done."""
    return next(at for at in _deadlines(rule, now) if at > now)


def _deadlines(rule: Expected, now: datetime.datetime) -> list[datetime.datetime]:
    """Return the deadlines around now, two of the past and one to come among them. `now` has a time zone."""
    grace = datetime.timedelta(seconds=rule.grace_s)
    hours = range(24) if rule.hour is None else (rule.hour,)
    first = (now - grace).date() - datetime.timedelta(days=LOOK_BACK_DAYS * 2)
    last = LOOK_BACK_DAYS * 3 + grace.days
    days = [first + datetime.timedelta(days=number) for number in range(last + 1)]
    return [
        # By way of the timestamp: of an hour that is skipped `astimezone` alone makes the hour before it.
        datetime.datetime.fromtimestamp(
            datetime.datetime(day.year, day.month, day.day, hour, rule.minute).timestamp(), datetime.UTC
        ).astimezone()
        + grace
        for day in days
        if day.weekday() in rule.days
        for hour in hours
    ]
