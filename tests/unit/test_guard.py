import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd import guard, process
from spooldadd.guard import Guard
from spooldadd.plan import Limits


class FakeTree:
    """A job that does in each look what the test says; nothing runs and nobody sleeps."""

    def __init__(self, steps):
        self.steps = list(steps)
        self.status = None
        self.cpu_s = 0.0
        self.usage = process.Usage(0, 0)
        self.slept_s = []

    def wait(self, timeout_s):
        self.slept_s.append(timeout_s)
        if not self.steps:
            self.status = 0
            return
        step = self.steps.pop(0)
        step(self)

    def sample(self):
        return self.usage


def uses(cpu_ticks=0, memory_bytes=0):
    return lambda tree: setattr(tree, "usage", process.Usage(cpu_ticks, memory_bytes))


def limits(**given_limits):
    made = Limits()
    for name, value in given_limits.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def log(tmp_path):
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield fd
    os.close(fd)


def verdict_of(tree, log, tmp_path, **given_limits):
    return Guard(tree, limits(**given_limits), [log], str(tmp_path / "cancel")).watch()


def test_a_job_that_ends_by_itself_has_no_verdict(tmp_path, log):
    tree = FakeTree([uses(1, 1)] * 5)
    assert verdict_of(tree, log, tmp_path, timeout_s=1000.0, memory_bytes=100, output_bytes=10, stall_s=1000.0) is None
    assert tree.steps == []


def test_memory_above_the_limit_is_a_verdict(tmp_path, log):
    verdict = verdict_of(FakeTree([uses(0, 100), uses(0, 101)]), log, tmp_path, memory_bytes=100)
    assert verdict.outcome == "oom"
    assert "used 101 bytes of memory" in verdict.sentence


def test_output_above_the_limit_is_a_verdict(tmp_path, log):
    steps = [lambda _tree: os.write(log, b"x" * 10), lambda _tree: os.write(log, b"x")]
    assert verdict_of(FakeTree(steps), log, tmp_path, output_bytes=10).outcome == "output"


def test_processor_time_above_the_limit_is_a_verdict(tmp_path, log):
    ticks = process.TICKS_A_SECOND
    verdict = verdict_of(FakeTree([uses(ticks - 1), uses(ticks)]), log, tmp_path, cpu_time_s=1.0)
    assert verdict.outcome == "timeout"


def test_a_limit_of_time_that_is_over_is_a_verdict(tmp_path, log):
    verdict = verdict_of(FakeTree([uses()]), log, tmp_path, timeout_s=0.0)
    assert verdict.outcome == "timeout"


def test_a_cancel_file_is_a_verdict(tmp_path, log):
    verdict = verdict_of(FakeTree([uses(), lambda _tree: (tmp_path / "cancel").touch()]), log, tmp_path)
    assert verdict.outcome == "cancelled"


def test_a_job_is_idle_from_its_last_output_or_processor_time_on(tmp_path, log):
    watch = Guard(FakeTree([]), limits(stall_s=5.0), [log], str(tmp_path / "cancel"))
    start = watch._started
    watch._note_activity(start + 4, process.Usage(0, 0))
    assert watch.idle_s(4.0) == 4.0
    os.write(log, b"x")
    watch._note_activity(start + 5, process.Usage(0, 0))
    assert watch.idle_s(6.0) == pytest.approx(1.0)
    watch._note_activity(start + 7, process.Usage(1, 0))
    assert watch.idle_s(9.0) == pytest.approx(2.0)


def test_looks_become_rare_and_never_rarer_than_the_heartbeat(tmp_path, log):
    tree = FakeTree([uses()] * 12)
    verdict_of(tree, log, tmp_path)
    assert tree.slept_s == sorted(tree.slept_s)
    assert tree.slept_s[0] == guard.FIRST_TICK_S
    assert max(tree.slept_s) == guard.HEARTBEAT_S


def test_a_job_with_little_room_is_looked_at_often(tmp_path, log):
    tree = FakeTree([uses()] * 5)
    verdict_of(tree, log, tmp_path, memory_bytes=1 << 30)
    assert max(tree.slept_s) == guard.BUSY_TICK_S
    tree = FakeTree([lambda _tree: os.write(log, b"x" * (2 << 20))] * 5)
    verdict_of(tree, log, tmp_path)
    assert max(tree.slept_s) == guard.BUSY_TICK_S


def test_printing_as_much_again_while_it_is_asked_to_end_is_a_flood(tmp_path, log):
    watch = Guard(FakeTree([]), limits(output_bytes=10), [log], "")
    os.write(log, b"x" * 20)
    assert not watch.is_flooded()
    os.write(log, b"x")
    assert watch.is_flooded()
    assert not Guard(FakeTree([]), limits(), [log], "").is_flooded()


@pytest.mark.parametrize(
    ("value_s", "text"), [(0.5, "0.5 s"), (90, "90 s"), (120, "2 min"), (5400, "90 min"), (7200, "2 h"), (86400, "24 h")]
)
def test_a_duration_is_told_in_the_unit_that_fits(value_s, text):
    assert guard.seconds(value_s) == text


@given(st.integers(0, 2**70))
def test_a_size_is_told_shortly(size_bytes):
    text = guard.size(size_bytes)
    number, unit = text.split()
    assert unit in ("bytes", "KiB", "MiB", "GiB", "TiB")
    assert float(number) <= 1024 or unit == "TiB"


def test_a_log_on_a_share_that_is_away_does_not_end_the_watch(tmp_path):
    # A GlusterFS server that was restarted answered EBADFD for each descriptor that was open; the supervisor died of it.
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.close(fd)
    tree = FakeTree([uses(1, 1)] * 5)
    assert verdict_of(tree, fd, tmp_path, output_bytes=10) is None
    assert tree.steps == []
