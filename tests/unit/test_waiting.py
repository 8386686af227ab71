import datetime
import os

import pytest

from spooldadd import layout, record
from spooldadd.spec import Peek
from spooldadd.waiting import WaitingRecords, due_at_s

JOB = "a.20261121T100000Z.bcdfg"
LATER = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


class Shelf:
    """A `waiting/` directory whose specs say what the test wants."""

    def __init__(self, root):
        self.places = layout.Layout(str(root))
        os.mkdir(self.places.waiting)
        self.peek = Peek()
        self.is_ours = True
        self.records = WaitingRecords(self.places, lambda _path: self.peek, lambda _path, _peek: self.is_ours)
        self.clock_ns = 10**18

    def put(self, job=JOB, *files):
        path = os.path.join(self.places.waiting, job)
        os.makedirs(path, exist_ok=True)
        for name in files:
            open(os.path.join(path, name), "w").close()
        self.touch(path)
        return path

    def touch(self, path):
        """Change the time for sure: two changes may fall into one tick of the kernel's clock."""
        self.clock_ns += 10**9
        os.utime(path, ns=(self.clock_ns, self.clock_ns))


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


def test_a_record_is_told_once_until_something_in_it_changes(shelf):
    path = shelf.put()
    (entry,) = shelf.records.scan()
    assert (entry.key, entry.name, entry.is_record, entry.since_s) == (JOB, "a", True, 1_795_255_200.0)
    assert shelf.records.scan() == []
    shelf.touch(path)
    assert len(shelf.records.scan()) == 1


def test_an_entry_says_what_the_spec_says(shelf):
    shelf.peek = Peek("other", "etl", 7, LATER)
    shelf.put()
    (entry,) = shelf.records.scan()
    assert (entry.queue, entry.priority, entry.not_before_s) == ("etl", 7, LATER.timestamp())


def test_a_held_record_may_not_be_claimed(shelf):
    path = shelf.put(JOB, "hold")
    assert shelf.records.scan() == []
    assert shelf.records.known == set()
    os.unlink(os.path.join(path, "hold"))
    shelf.touch(path)
    assert [entry.key for entry in shelf.records.scan()] == [JOB]


def test_a_hold_that_comes_later_is_a_change(shelf):
    """A file in a record makes no event in `waiting/`: without another look it was claimed all the same."""
    shelf.put()
    shelf.records.scan()
    assert not shelf.records.has_changed(JOB)
    shelf.put(JOB, "hold")
    assert shelf.records.has_changed(JOB)
    assert shelf.records.add(JOB) is None
    assert shelf.records.known == set()


def test_a_hold_within_the_same_tick_of_the_clock_is_seen_too(shelf):
    path = shelf.put()
    before = os.stat(path)
    shelf.records.scan()
    open(os.path.join(path, "hold"), "w").close()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert shelf.records.has_changed(JOB)
    assert shelf.records.add(JOB) is None


def test_a_record_that_is_gone_is_forgotten(shelf):
    path = shelf.put()
    shelf.records.scan()
    os.rmdir(path)
    assert shelf.records.has_changed(JOB)
    assert shelf.records.scan() == []
    assert shelf.records.known == set()
    shelf.put()
    assert len(shelf.records.scan()) == 1


def test_what_is_no_record_is_left_alone(shelf):
    os.mkdir(os.path.join(shelf.places.waiting, "stranger"))
    open(os.path.join(shelf.places.waiting, JOB), "w").close()
    os.symlink("/etc", os.path.join(shelf.places.waiting, "b.20261121T100000Z.bcdfg"))
    assert shelf.records.scan() == []


def test_the_next_attempt_is_due_when_the_last_result_says(shelf):
    path = shelf.put()
    assert due_at_s(path) is None
    record.write_result(path, {"attempt": 1, "next_attempt_at": LATER}, sync=False)
    assert due_at_s(path) == LATER.timestamp()
    shelf.put(JOB, "now")
    assert due_at_s(path) is None


def test_the_later_of_two_times_counts(shelf):
    path = shelf.put()
    record.write_result(path, {"attempt": 1, "next_attempt_at": LATER}, sync=False)
    shelf.touch(path)
    for start in (LATER - datetime.timedelta(days=1), LATER + datetime.timedelta(days=1)):
        shelf.peek = Peek(not_before=start)
        shelf.touch(path)
        (entry,) = shelf.records.scan()
        assert entry.not_before_s == max(start, LATER).timestamp()


@pytest.mark.parametrize("damage", ["next_attempt_at = 0001-01-01T00:00:00\n", "next_attempt_at = 'soon'\n", "[[["])
def test_a_damaged_result_delays_nothing(shelf, damage):
    path = shelf.put()
    with open(os.path.join(path, "result.toml"), "w") as file:
        file.write(damage)
    assert due_at_s(path) is None


def test_a_record_for_another_node_is_not_known(shelf):
    shelf.is_ours = False
    shelf.put()
    assert shelf.records.scan() == []
    assert not shelf.records.known
