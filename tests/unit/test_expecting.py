"""When a job is expected: the text of a rule in, moments out."""

import datetime
import os
import time

import pytest

from spooldadd.expecting import BadRule, last_deadlines, next_deadline, parse

UTC = datetime.UTC


@pytest.fixture(autouse=True)
def zone(monkeypatch):
    """A place whose clocks skip an hour on 29 March and repeat one on 25 October 2026."""
    monkeypatch.setitem(os.environ, "TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(*fields):
    return datetime.datetime(*fields).astimezone()


@pytest.mark.parametrize(
    ("rule", "before", "now", "after"),
    [
        ("daily 06:00 +30m", (2026, 11, 20, 6, 30), (2026, 11, 21, 6, 29), (2026, 11, 21, 6, 30)),
        ("daily 06:00", (2026, 11, 21, 6, 30), (2026, 11, 21, 6, 30), (2026, 11, 22, 6, 30)),
        ("hourly :15 +10m", (2026, 11, 21, 6, 25), (2026, 11, 21, 7, 24), (2026, 11, 21, 7, 25)),
        ("hourly +0s", (2026, 11, 21, 7, 0), (2026, 11, 21, 7, 24), (2026, 11, 21, 8, 0)),
        ("weekdays 6:05 +1h", (2026, 11, 20, 7, 5), (2026, 11, 22, 12, 0), (2026, 11, 23, 7, 5)),
        ("weekly monday 06:00 +2h", (2026, 11, 16, 8, 0), (2026, 11, 23, 7, 59), (2026, 11, 23, 8, 0)),
        ("weekly sun 23:00 +3d", (2026, 11, 18, 23, 0), (2026, 11, 21, 0, 0), (2026, 11, 25, 23, 0)),
    ],
)
def test_the_deadlines_around_a_moment(rule, before, now, after):
    found = parse(rule)
    assert last_deadlines(found, at(*now))[0] == at(*before)
    assert next_deadline(found, at(*now)) == at(*after)


def test_the_one_before_the_last_is_a_rhythm_earlier():
    last, before = last_deadlines(parse("weekly mon 06:00 +0s"), at(2026, 11, 21, 12, 0))
    assert (last, before) == (at(2026, 11, 16, 6, 0), at(2026, 11, 9, 6, 0))


def test_an_hour_that_the_clocks_skip_is_the_hour_after_it():
    assert next_deadline(parse("daily 02:30 +0s"), at(2026, 3, 29, 0, 0)) == datetime.datetime(
        2026, 3, 29, 1, 30, tzinfo=UTC
    )


def test_a_day_with_an_hour_more_has_one_deadline():
    rule, now = parse("daily 02:30 +0s"), at(2026, 10, 25, 0, 0)
    first = next_deadline(rule, now)
    assert next_deadline(rule, first) - first == datetime.timedelta(days=1, hours=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dayly 06:00", "none of"),
        ("daily 24:00", "none of"),
        ("daily 06:60", "none of"),
        ("hourly :75", "none of"),
        ("weekly 06:00", "none of"),
        ("weekly day 06:00", "`day` is no day"),
        ("daily 06:00 +soon", "soon"),
        ("daily 06:00 +-5m", "-5m"),
        (6, "none of"),
        ("", "none of"),
    ],
)
def test_what_says_no_time_is_refused_with_the_forms(text, said):
    with pytest.raises(BadRule) as caught:
        parse(text)
    assert said in str(caught.value)


def test_a_rule_is_shown_as_it_was_written():
    assert str(parse("  Daily 06:00 + 30m ")) == "Daily 06:00 + 30m"
