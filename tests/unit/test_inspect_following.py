from __future__ import annotations

import pytest

from spooldadd.errors import NoSuchJob
from spooldadd.inspect import following, jobs
from spooldadd.inspect.following import Follower
from tests.unit.inspect_records import MadeSpool, job_id


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def made(tmp_path):
    return MadeSpool(tmp_path / "spool")


def test_a_job_is_followed_through_all_its_directories(made):
    made.drop(f"{job_id()}.toml")
    follower = Follower(jobs.find(made.places, job_id()))
    (made.root / f"{job_id()}.toml").unlink()
    path = made.add("running", job_id())
    assert follower.look().state == "running"
    path.rename(made.root / "waiting" / job_id())
    assert follower.look().state == "waiting"
    (made.root / "waiting" / job_id()).rename(made.root / "done" / job_id())
    assert follower.look().state == "done"


def test_another_attempt_is_noticed_although_both_run(made):
    first = made.add("running", job_id(), attempt=1)
    follower = Follower(jobs.find(made.places, job_id()))
    first.rename(made.root / "running" / f"{job_id()}.2.ccccc")
    assert follower.look().attempt_claimed == 2


def test_a_file_is_followed_to_the_job_that_was_made_of_it(made):
    made.drop("nightly.toml")
    follower = Follower(jobs.find(made.places, "nightly.toml"))
    since = follower.job.since()
    (made.root / "nightly.toml").unlink()
    made.add("running", job_id("renamed-by-its-spec"), claim={"source": "nightly.toml", "claimed_at": since})
    assert follower.look().id == job_id("renamed-by-its-spec")


def test_a_job_of_an_earlier_file_of_the_same_name_is_not_taken_for_it(made):
    made.add("done", job_id("nightly"), claim={"source": "nightly.toml"})  # claimed long ago
    made.drop("nightly.toml")
    follower = Follower(jobs.find(made.places, "nightly.toml"))
    (made.root / "nightly.toml").unlink()
    assert follower.look().is_drop


def test_a_file_that_is_held_and_released_is_followed(made):
    path = made.drop("nightly.toml")
    follower = Follower(jobs.find(made.places, "nightly.toml"))
    path.rename(made.root / "nightly.toml.held")
    assert follower.look().is_held
    (made.root / "nightly.toml.held").rename(path)
    assert not follower.look().is_held


def test_a_job_that_is_missing_for_long_was_removed(made):
    path = made.add("running", job_id())
    clock = Clock()
    follower = Follower(jobs.find(made.places, job_id()), clock)
    clock.now += 1000  # not looking for long says nothing
    path.rename(made.root / "elsewhere")
    assert follower.look().state == "running"
    clock.now += following.GONE_S + 0.1
    with pytest.raises(NoSuchJob, match="is gone: it was last seen in"):
        follower.look()


def test_a_job_that_comes_back_in_time_was_on_its_way(made):
    path = made.add("running", job_id())
    clock = Clock()
    follower = Follower(jobs.find(made.places, job_id()), clock)
    path.rename(made.root / "elsewhere")
    follower.look()
    clock.now += following.GONE_S / 2
    (made.root / "elsewhere").rename(made.root / "done" / job_id())
    assert follower.look().state == "done"


def test_waiting_ends_at_once_where_all_have_ended(made):
    made.add("done", job_id("a"))
    made.add("failed", job_id("b"))
    followers = [Follower(jobs.find(made.places, name)) for name in ("a", "b")]
    assert following.wait(followers, timeout_s=0)


def test_waiting_for_any_needs_only_one(made):
    made.add("done", job_id("a"))
    made.add("running", job_id("b"))
    followers = [Follower(jobs.find(made.places, name)) for name in ("a", "b")]
    assert following.wait(followers, timeout_s=0, for_any=True)
    assert not following.wait(followers, timeout_s=0)
