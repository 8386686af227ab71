"""Which expected jobs are late: each deadline is told once, with what is missing."""

import datetime
import os

import pytest

from spooldadd import expecting, record
from spooldadd.mail.lateness import Lateness
from spooldadd.mail.places import Places
from tests.unit.spools import SPEC, Bench

NOW = datetime.datetime(2026, 11, 21, 12, 0).astimezone()
DAY = datetime.timedelta(days=1)
RULES = {"nightly": expecting.parse("daily 06:00 +30m")}
BEFORE_S = datetime.datetime(2026, 11, 20, 6, 30).astimezone().timestamp()


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


class Desk:
    def __init__(self, root):
        self.bench = Bench(root)
        os.makedirs(root / "mail")
        self.places = Places(str(root / "mail"), str(root / "mail"))

    def lateness(self, now=NOW, rules=None):
        return Lateness(self.bench.places, self.places, RULES if rules is None else rules, now)

    def known_since_yesterday(self):
        self.lateness(NOW - DAY).note()

    def missing(self, now=NOW):
        return [event.what for event, _ in self.lateness(now).due()]

    def filed(self, state, finished, name="nightly"):
        path = self.bench.root / state / f"{name}.20261120T050000Z.bcdfg"
        path.mkdir()
        (path / "spec.toml").write_text(SPEC)
        outcome = {"done": "success", "failed": "exit"}.get(state)
        table = {"job": path.name, "name": name, "state": state, "outcome": outcome, "attempt": 1}
        record.write_result(str(path), {**table, "finished_at": record.moment(finished.timestamp())}, sync=False)


def test_a_new_expectation_begins_with_its_next_deadline(desk):
    assert desk.missing() == []
    desk.lateness().note()
    assert desk.missing() == []
    assert desk.missing(NOW + DAY) == ["has not arrived"]


def test_each_deadline_is_told_once(desk):
    desk.known_since_yesterday()
    assert desk.missing() == ["has not arrived"]
    desk.lateness().note()
    assert desk.missing() == []


def test_a_success_since_the_deadline_before_is_in_time(desk):
    desk.known_since_yesterday()
    desk.filed("done", datetime.datetime(2026, 11, 21, 5, 0).astimezone())
    assert desk.missing() == []


def test_a_success_of_the_round_before_is_none_of_this_one(desk):
    desk.known_since_yesterday()
    desk.filed("done", datetime.datetime.fromtimestamp(BEFORE_S - 60).astimezone())
    ((event, deadline_s),) = desk.lateness().due()
    assert event.what == "has not arrived"
    assert event.last_success_at
    assert deadline_s == datetime.datetime(2026, 11, 21, 6, 30).astimezone().timestamp()


def test_a_failure_is_named_and_another_name_does_not_count(desk):
    desk.known_since_yesterday()
    desk.filed("failed", datetime.datetime(2026, 11, 21, 5, 0).astimezone())
    desk.filed("done", datetime.datetime(2026, 11, 21, 5, 0).astimezone(), name="nightly2")
    assert desk.missing() == ["has not succeeded in time: it failed"]


def test_what_runs_or_waits_is_said_so(desk):
    desk.known_since_yesterday()
    desk.bench.drop("nightly.toml")
    assert desk.missing() == ["has not finished in time: it waits"]
    claimed = desk.bench.spool.claim_drop("nightly.toml", "nightly", "default")
    assert desk.missing() == ["has not finished in time: it still runs"]
    desk.bench.spool.requeue(claimed.record, claimed.lease)
    assert desk.missing() == ["has not finished in time: it waits"]


@pytest.mark.parametrize("damage", [b"", b"[1, 2]", b"\xff", b'{"nightly": "soon"}'])
def test_a_damaged_note_begins_anew(desk, damage):
    desk.known_since_yesterday()
    with open(desk.places.expected, "wb") as file:
        file.write(damage)
    assert desk.missing() == []


def test_the_next_deadline_of_all_is_when_to_look_again(desk):
    rules = {**RULES, "often": expecting.parse("hourly :15 +0s")}
    assert desk.lateness(rules=rules).next_s() == datetime.datetime(2026, 11, 21, 12, 15).astimezone().timestamp()
    assert desk.lateness(rules={}).next_s() is None
