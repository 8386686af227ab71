import errno
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd import intake
from spooldadd.fresh import Parts
from spooldadd.intake import CLOSE_GRACE_S, Intake, Rule, is_candidate, is_conflict_copy, is_unexpected
from spooldadd.looking import look
from spooldadd.watch import CLOSED, CREATED, MOVED, Hint

SPEC = 'command = ["true"]\n'
SETTLE_S = 2.0
TOML = (".toml",)


class Root:
    """A directory with an intake, and a clock that the test moves."""

    def __init__(self, path):
        self.path = path
        self.now = 100.0
        # So far ahead that no file has stood still under the wall clock, unless a test says so.
        self.wall_s = 0.0
        self.intake = Intake(str(path), Rule(SETTLE_S, TOML, is_local=True))

    def put(self, name="a.toml", text=SPEC):
        (self.path / name).write_text(text)
        return self.path / name

    def hint(self, kind, name="a.toml"):
        return self.names([self.intake.hint(Hint(name, kind), self.now, self.wall_s)])

    def scan(self, after_s=0.0):
        """Scan and examine all; return the names that are quiet."""
        self.now += after_s
        self.intake.scan(self.now)
        drops = self.intake.due(self.now)
        while self.intake.has_fresh:
            drops += self.intake.examine(self.now, self.wall_s, 10)
        return self.names(drops)

    def due(self, after_s):
        self.now += after_s
        return self.names(self.intake.due(self.now))

    @staticmethod
    def names(drops):
        return sorted(drop.key for drop in drops if drop is not None)


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path)


# -- names


@pytest.mark.parametrize("name", ["a.toml", "a b.toml", "-rf.toml", "a.toml.toml", "ä.toml", "a\n.toml", "x.held.toml"])
def test_a_name_with_the_suffix_could_be_a_specs(name):
    assert is_candidate(name, TOML)


@pytest.mark.parametrize(
    "name",
    ["a.txt", ".a.toml", ".toml", "~a.toml", "#a.toml#", "a.toml~", "a.toml.held", "a.TOML", "a.toml.swp", ".a.toml.Ab12",
     "a.sync-conflict-20261121-101500-ABCDEFG.toml", "a (conflicted copy 2026-11-21).toml", "a_conflict-20261121.toml"],
)  # fmt: skip
def test_a_name_of_another_kind_is_none_of_a_spec(name):
    assert not is_candidate(name, TOML)


@given(st.text())
def test_a_name_is_run_or_reported_or_neither_and_never_both(name):
    assert not (is_candidate(name, TOML) and (is_conflict_copy(name) or is_unexpected(name, TOML)))


@pytest.mark.parametrize("name", ["notes.txt", "a.TOML", "README"])
def test_a_file_that_nobody_will_look_at_is_reported(name):
    assert is_unexpected(name, TOML)


@pytest.mark.parametrize("name", ["paused", "paused.etl", "a.toml.held", ".hidden", "a.toml~", "#a#"])
def test_files_that_mean_something_are_not_reported(name):
    assert not is_unexpected(name, TOML)


# -- quiet


def test_a_file_that_was_moved_in_is_quiet_at_once(root):
    root.put()
    assert root.hint(MOVED) == ["a.toml"]
    assert root.intake.knows("a.toml")


def test_a_file_that_was_closed_is_quiet_when_tools_have_set_its_times(root):
    root.put()
    assert root.hint(CREATED) == []
    assert root.hint(CLOSED) == []
    assert root.due(CLOSE_GRACE_S * 0.9) == []
    assert root.due(CLOSE_GRACE_S * 0.2) == ["a.toml"]


@pytest.mark.parametrize("kind", [MOVED, CLOSED])
@pytest.mark.parametrize("text", ["", "command = [", "\0"])
def test_what_does_not_parse_yet_has_to_settle(root, kind, text):
    root.put(text=text)
    assert root.hint(kind) == []
    assert root.due(SETTLE_S * 0.9) == []
    assert root.due(SETTLE_S * 0.2) == ["a.toml"]


def test_a_file_that_was_only_created_has_to_settle(root):
    """As by `ln`: nobody closes it."""
    root.put()
    assert root.hint(CREATED) == []
    assert root.due(SETTLE_S * 0.9) == []
    assert root.due(SETTLE_S * 0.2) == ["a.toml"]


def test_a_file_without_events_is_quiet_when_it_stood_still_between_two_looks(root):
    root.put()
    assert root.scan() == []
    assert root.scan(SETTLE_S * 0.9) == []
    assert root.scan(SETTLE_S * 0.2) == ["a.toml"]
    assert root.scan(100) == []  # it is told once


def test_a_file_that_changes_begins_to_settle_anew(root):
    root.put()
    root.scan()
    root.put(text=SPEC + "priority = 1\n")
    assert root.scan(SETTLE_S * 0.9) == []
    assert root.scan(SETTLE_S * 0.2) == []
    assert root.scan(SETTLE_S) == ["a.toml"]


def test_a_file_with_a_writer_is_not_quiet_however_long_it_stands_still(root):
    path = root.put()
    with path.open("a"):
        if look(str(path)).writer is None:
            pytest.skip("needs the capability to ask for a lease (fcntl, F_SETLEASE)")
        assert root.hint(MOVED) == []
        for _ in range(5):
            assert root.scan(SETTLE_S) == []
    assert root.scan(SETTLE_S) == ["a.toml"]


def test_a_file_that_was_there_long_before_us_is_quiet_at_the_first_look(root):
    path = root.put()
    root.wall_s = path.stat().st_ctime + SETTLE_S
    if look(str(path)).writer is None:
        pytest.skip("needs the capability to ask for a lease (fcntl, F_SETLEASE)")
    assert root.scan() == ["a.toml"]


@pytest.mark.parametrize("behind_s", [SETTLE_S * 0.9, -3600.0])
def test_a_clock_that_was_set_back_makes_nothing_quiet(root, behind_s):
    root.wall_s = root.put().stat().st_ctime + behind_s
    assert root.scan() == []


def test_on_a_network_file_system_the_clock_of_others_says_nothing(root, tmp_path):
    root.intake = Intake(str(tmp_path), Rule(SETTLE_S, TOML, is_local=False))
    root.wall_s = root.put().stat().st_ctime + 1000
    assert root.scan() == []


def test_an_empty_file_is_not_quiet_at_the_first_look(root):
    """As `touch` leaves it before an editor fills it."""
    root.wall_s = root.put(text="").stat().st_ctime + 1000
    assert root.scan() == []
    assert root.scan(SETTLE_S) == ["a.toml"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("nowhere", path)])
def test_what_is_no_file_settles_and_is_handed_out_to_be_refused(root, make):
    make(root.path / "a.toml")
    root.wall_s = 1e12
    assert root.hint(MOVED) == []
    assert root.scan() == []
    assert root.scan(SETTLE_S) == ["a.toml"]


# -- what becomes of it


def test_a_file_that_is_gone_is_forgotten(root):
    path = root.put()
    root.hint(MOVED)
    path.unlink()
    root.scan()
    assert not root.intake.knows("a.toml")
    root.put(name="b.toml")
    root.hint(CREATED, "b.toml")
    (root.path / "b.toml").unlink()
    assert root.due(SETTLE_S) == []
    assert root.intake.unsettled == 0


def test_a_name_that_was_claimed_may_be_dropped_again(root):
    root.put()
    root.hint(MOVED)
    root.intake.forget("a.toml")
    assert root.hint(MOVED) == ["a.toml"]


def test_a_file_in_doubt_settles_from_then_on(root):
    root.put()
    root.hint(MOVED)
    root.intake.doubt("a.toml", root.now)
    assert not root.intake.knows("a.toml")
    assert root.due(SETTLE_S * 0.9) == []
    assert root.due(SETTLE_S * 0.2) == ["a.toml"]


@pytest.mark.parametrize("kind", [MOVED, CLOSED, None])
def test_a_file_that_is_edited_while_it_waits_is_handed_out_again(root, kind):
    """It went on waiting for what its first version had said: a date, or a queue that is closed."""
    root.put()
    assert root.hint(MOVED) == ["a.toml"]
    root.put(text=SPEC + "priority = 5\n")
    if kind is None:
        root.scan()
        assert root.scan(SETTLE_S) == ["a.toml"]
    else:
        assert root.hint(kind) + root.due(CLOSE_GRACE_S) == ["a.toml"]


def test_an_event_about_a_file_that_is_known_as_it_is_says_nothing_new(root):
    root.put()
    root.wall_s = 1e12
    assert root.scan() == ["a.toml"]
    assert root.hint(MOVED) == []
    assert root.hint(CREATED) == []
    assert root.intake.knows("a.toml")


def test_all_that_wait_are_looked_at_again_in_turn(root, monkeypatch):
    monkeypatch.setattr(intake, "LOOK_AGAIN", 2)
    names = [f"{number}.toml" for number in range(5)]
    for name in names:
        root.put(name)
        root.hint(MOVED, name)
    for name in names:
        root.put(name, SPEC + "priority = 1\n")
    for _ in range(3):
        root.scan()
    assert root.scan(SETTLE_S) == names


def test_new_files_are_looked_at_a_few_at_a_time(root):
    for number in range(10):
        root.put(f"{number}.toml")
    root.intake.scan(root.now)
    root.intake.examine(root.now, 1e12, 4)
    assert sum(root.intake.knows(f"{number}.toml") for number in range(10)) == 4
    assert root.intake.has_fresh


def test_a_drop_says_what_queueing_needs_to_know(root):
    root.put(text='command = ["true"]\nqueue = "etl"\npriority = 3\n')
    drop = root.intake.hint(Hint("a.toml", MOVED), root.now, root.wall_s)
    assert (drop.peek.queue, drop.peek.priority) == ("etl", 3)
    assert drop.modified_at_s == (root.path / "a.toml").stat().st_mtime


def test_the_next_look_is_when_the_first_can_be_quiet(root):
    assert root.intake.next_at is None
    root.put()
    root.hint(CLOSED)
    assert root.intake.next_at == root.now + CLOSE_GRACE_S
    root.put("b.toml")
    root.hint(CREATED, "b.toml")
    assert root.intake.next_at == root.now + CLOSE_GRACE_S


def test_conflicts_and_strangers_are_told_apart(root):
    for name in ("a (conflicted copy 1).toml", "notes.txt", "paused", "running", ".spool", "x.toml.held"):
        root.put(name)
    root.scan()
    assert root.intake.conflicts == {"a (conflicted copy 1).toml"}
    assert root.intake.unexpected == {"notes.txt"}


def test_what_may_not_even_be_looked_at_is_no_drop(root, monkeypatch):
    """A user who mounts a file system of his own on his file keeps root out of it; all others' files went unseen then."""
    root.put("a.toml")
    root.put("b.toml")
    real = os.lstat

    def refuse(path, *rest, **options):
        if str(path).endswith("b.toml"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *rest, **options)

    assert root.scan() == []
    assert root.scan(SETTLE_S) == ["a.toml", "b.toml"]
    monkeypatch.setattr(os, "lstat", refuse)
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: refuse(path) and opened(path, *rest))
    assert look(str(root.path / "b.toml")) is None
    assert root.scan(SETTLE_S) == []  # and it is forgotten
    assert root.intake.knows("a.toml")


def test_what_went_without_being_claimed_is_told_once_and_what_came_back_is_not(root):
    for name in ("a.toml", "b.toml", "c.toml"):
        root.put(name)
        root.hint(MOVED, name)
    (root.path / "a.toml").unlink()
    root.put("b.toml", SPEC + "priority = 1\n")
    root.intake.forget("c.toml")
    root.scan()
    assert sorted(root.intake.take_lost()) == ["a.toml", "b.toml"]
    root.put("c.toml", SPEC + "priority = 1\n")
    root.hint(MOVED, "c.toml")
    root.put("c.toml", SPEC + "priority = 2\n")
    root.hint(MOVED, "c.toml")
    assert root.intake.take_lost() == []


def test_what_may_have_become_quiet_is_looked_at_a_few_at_a_time(root):
    for number in range(5):
        root.put(f"{number}.toml")
    assert root.scan() == []
    root.now += SETTLE_S
    assert len(root.intake.due(root.now, 3)) == 3
    assert root.intake.next_at == root.now
    assert len(root.intake.due(root.now, 3)) == 2
    assert root.intake.next_at is None


def test_with_no_settle_time_a_file_with_a_writer_is_looked_at_once_a_turn(root, tmp_path):
    root.intake = Intake(str(tmp_path), Rule(0.0, TOML, is_local=True))
    path = root.put()
    with path.open("a"):
        if look(str(path)).writer is None:
            pytest.skip("needs the capability to ask for a lease (fcntl, F_SETLEASE)")
        assert root.scan() == []
        assert root.due(0.0) == []
    assert root.due(0.0) == ["a.toml"]


def test_what_came_last_is_looked_at_before_a_long_line(root):
    for number in range(10):
        root.put(f"{number}.toml")
    root.intake.scan(root.now)
    root.put("late.toml")
    root.intake.scan(root.now)
    root.intake.examine(root.now, 1e12, 1)
    assert root.intake.knows("late.toml")


def test_what_was_due_when_a_look_failed_is_due_again(root, monkeypatch):
    for name in ("a.toml", "b.toml", "c.toml"):
        root.put(name)
    root.scan()
    failing = iter([None, OSError(errno.ESTALE, "the share is away")])

    def fail(path):
        error = next(failing)
        if error:
            raise error
        return look(path)

    monkeypatch.setattr(intake, "look", fail)
    with pytest.raises(OSError, match="away"):
        root.due(SETTLE_S)
    monkeypatch.undo()
    found = root.scan()
    assert sorted(found + root.due(SETTLE_S)) == ["a.toml", "b.toml", "c.toml"]


# -- what is another node's part

LEAVE_S = 0.5


@pytest.fixture
def theirs(tmp_path):
    """A directory in which all is another node's part, and the wall clock is the machine's."""
    root = Root(tmp_path)
    root.intake = Intake(str(tmp_path), Rule(SETTLE_S, TOML, is_local=True), parts=Parts(lambda _: False, lambda _: 0.0))
    return root


def others(root, after_s=0.0):
    """Return the names that may be taken now, and those that are to be left to their node for a moment."""
    root.now += after_s
    found = root.intake.examine_others(root.now, time.time(), 10, LEAVE_S, newest=0)
    return tuple(root.names(drops) for drops in found)


@pytest.mark.parametrize("kind", [MOVED, CLOSED])
def test_what_was_announced_complete_is_not_looked_at_before_its_node_had_time_for_it(theirs, kind, monkeypatch):
    theirs.put()
    theirs.wall_s = time.time() + 1
    monkeypatch.setattr(intake, "look", None)  # whoever calls it fails
    assert theirs.hint(kind) == []
    assert others(theirs, LEAVE_S * 0.9) == ([], [])
    monkeypatch.undo()
    assert others(theirs, LEAVE_S * 0.2) == (["a.toml"], [])
    assert theirs.scan() == []
    assert not theirs.intake.unopened


def test_what_was_changed_since_it_was_announced_has_to_settle(theirs):
    theirs.wall_s = time.time() - 10
    theirs.put()
    theirs.hint(MOVED)
    assert others(theirs, LEAVE_S) == ([], [])
    assert theirs.due(SETTLE_S) == ["a.toml"]


def test_what_was_announced_and_is_not_whole_has_to_settle(theirs):
    theirs.put(text='command = ["tr')
    theirs.wall_s = time.time() + 1
    theirs.hint(MOVED)
    assert others(theirs, LEAVE_S) == ([], [])
    assert theirs.due(SETTLE_S) == ["a.toml"]


def test_what_another_node_has_claimed_meanwhile_is_gone_without_a_word(theirs):
    path = theirs.put()
    theirs.wall_s = time.time() + 1
    theirs.hint(MOVED)
    path.unlink()
    assert others(theirs, LEAVE_S) == ([], [])
    assert not theirs.intake.unopened


def test_what_a_scan_found_is_left_to_its_node_from_when_it_was_seen(theirs):
    theirs.intake = Intake(str(theirs.path), Rule(0.0, TOML, is_local=True), parts=Parts(lambda _: False, lambda _: 0.0))
    theirs.put("a.toml")
    theirs.put("b.toml")
    theirs.scan()
    assert others(theirs) == ([], ["a.toml", "b.toml"])
    theirs.put("c.toml")
    theirs.scan()
    assert others(theirs, LEAVE_S) == (["c.toml"], [])
