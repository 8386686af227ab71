from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from spooldadd import acting, claim, layout, mark, process, record, recovery, spool
from spooldadd.acting import NotPossible
from spooldadd.errors import NoSuchJob
from spooldadd.inspect import jobs
from spooldadd.launching import read_policy
from spooldadd.log import Log

JOB = "nightly.20261121T101500Z.bcdfg"


@pytest.fixture
def the_spool(tmp_path: Path) -> spool.Spool:
    root = str(tmp_path / "spool")
    mark.create(root, durability="process")
    start = process.start_ticks(os.getpid()) or 0
    return spool.open_spool(root, claim.Holder("node-1", process.boot_id(), os.getpid(), start))


def root(the_spool: spool.Spool) -> Path:
    return Path(the_spool.places.root)


def put_record(the_spool: spool.Spool, place: str, *, attempt: int = 1) -> Path:
    """Make the record of a job, as an attempt leaves it."""
    path = root(the_spool) / place
    path.mkdir()
    (path / layout.SPEC).write_text('command = "false"\n')
    record.write_claim(str(path), {"job": JOB, "attempt": attempt, "node": "node-1"}, sync=False)
    if not place.startswith("running/"):
        record.write_result(str(path), {"job": JOB, "attempt": attempt, "state": "failed", "outcome": "exit"}, sync=False)
    return path


def put_drop(the_spool: spool.Spool, name: str) -> Path:
    path = root(the_spool) / name
    path.write_text('command = "true"\nqueue = "etl"\n')
    return path


def find(the_spool: spool.Spool, text: str = JOB) -> jobs.Job:
    return jobs.find(the_spool.places, text)


def result(path: Path) -> dict[str, object]:
    return tomllib.loads((path / layout.RESULT).read_text())


# -- retry


def test_a_failed_job_goes_back_to_waiting_in_one_piece(the_spool):
    path = put_record(the_spool, f"failed/{JOB}", attempt=3)
    before = sorted(os.listdir(path))
    acting.retry(the_spool, find(the_spool))
    assert not path.exists()
    assert sorted(os.listdir(root(the_spool) / "waiting" / JOB)) == before


def test_a_retried_job_is_due_at_once_though_its_attempts_are_used_up(the_spool):
    put_record(the_spool, f"failed/{JOB}", attempt=3)
    acting.retry(the_spool, find(the_spool))
    claimed = the_spool.claim_waiting(JOB, "default")
    os.close(claimed.lease)
    assert claimed.attempt == 4


def test_a_successful_job_runs_again_only_when_forced(the_spool):
    put_record(the_spool, f"done/{JOB}")
    with pytest.raises(NotPossible, match="was successful"):
        acting.retry(the_spool, find(the_spool))
    acting.retry(the_spool, find(the_spool), is_forced=True)
    assert find(the_spool).state == "waiting"


def test_a_job_between_attempts_does_not_wait_for_its_time_when_retried(the_spool):
    path = put_record(the_spool, f"waiting/{JOB}")
    acting.retry(the_spool, find(the_spool))
    assert (path / layout.NOW).exists()


@pytest.mark.parametrize("place", [f"running/{JOB}.1.bcdfg", f"waiting/{JOB}"])
def test_a_running_or_held_job_cannot_be_retried(the_spool, place):
    path = put_record(the_spool, place)
    (path / layout.HOLD).touch()
    with pytest.raises(NotPossible, match=r"runs now|is held"):
        acting.retry(the_spool, find(the_spool))


def test_a_retried_job_is_held_no_more(the_spool):
    (put_record(the_spool, f"failed/{JOB}") / layout.HOLD).touch()
    acting.retry(the_spool, find(the_spool))
    assert not find(the_spool).is_held


def test_a_retry_overwrites_no_other_record(the_spool):
    put_record(the_spool, f"failed/{JOB}")
    job = find(the_spool)
    put_record(the_spool, f"waiting/{JOB}")
    with pytest.raises(NotPossible, match="is there already"):
        acting.retry(the_spool, job)
    assert (root(the_spool) / "failed" / JOB).exists()


def test_a_job_that_slipped_away_is_not_retried(the_spool):
    path = put_record(the_spool, f"failed/{JOB}")
    job = find(the_spool)
    path.rename(root(the_spool) / "done" / JOB)
    with pytest.raises(NotPossible, match="moved"):
        acting.retry(the_spool, job)


# -- cancel


def test_a_drop_is_filed_as_cancelled_with_its_spec(the_spool):
    put_drop(the_spool, "nightly.toml")
    assert acting.cancel(the_spool, find(the_spool, "nightly.toml")) is None
    (path,) = (root(the_spool) / "failed").iterdir()
    assert path.name.startswith("nightly.")
    assert result(path)["outcome"] == "cancelled"
    assert result(path)["reason"] == "it was cancelled before it started"
    assert result(path)["queue"] == "etl"
    assert "etl" in (path / layout.SPEC).read_text()
    assert not os.listdir(the_spool.places.locks)


@pytest.mark.parametrize("suffix", ["", ".held"])
def test_a_submitted_job_keeps_its_id_when_it_is_cancelled(the_spool, suffix):
    put_drop(the_spool, f"{JOB}.toml{suffix}")
    acting.cancel(the_spool, find(the_spool))
    assert result(root(the_spool) / "failed" / JOB)["job"] == JOB


def test_a_job_between_attempts_is_filed_as_cancelled_with_what_it_left(the_spool):
    put_record(the_spool, f"waiting/{JOB}")
    acting.cancel(the_spool, find(the_spool))
    path = root(the_spool) / "failed" / JOB
    assert result(path)["outcome"] == "cancelled"
    assert result(path / "attempts" / "1")["outcome"] == "exit"


def test_a_running_job_is_asked_by_a_file_in_its_record(the_spool):
    path = put_record(the_spool, f"running/{JOB}.1.bcdfg")
    asked = acting.cancel(the_spool, find(the_spool))
    assert asked is not None
    assert asked.id == JOB
    assert (path / layout.CANCEL).exists()


def test_a_finished_job_cannot_be_cancelled(the_spool):
    put_record(the_spool, f"done/{JOB}")
    with pytest.raises(NotPossible, match="has ended already"):
        acting.cancel(the_spool, find(the_spool))


def test_a_job_that_was_started_meanwhile_is_asked_to_end(the_spool):
    drop = put_drop(the_spool, f"{JOB}.toml")
    seen = find(the_spool)
    path = put_record(the_spool, f"running/{JOB}.1.bcdfg")
    drop.unlink()
    assert acting.cancel(the_spool, seen) is not None
    assert (path / layout.CANCEL).exists()


def test_whose_job_is_found_by_the_id_in_a_drops_name_is_asked_again(the_spool):
    """Who removed his drop between look and claim had another's running job cancelled, whose id he had written there."""
    decoy = put_drop(the_spool, f"{JOB}.toml")
    seen = find(the_spool, decoy.name)
    decoy.unlink()
    path = put_record(the_spool, f"running/{JOB}.1.zzzzz")

    def require_drop(job: jobs.Job) -> None:
        if not job.is_drop:
            raise NotPossible("it is not yours")

    with pytest.raises(NotPossible, match="not yours"):
        acting.cancel(the_spool, seen, require_drop)
    assert not (path / layout.CANCEL).exists()


def test_a_job_that_is_gone_cannot_be_cancelled(the_spool):
    drop = put_drop(the_spool, "nightly.toml")
    seen = find(the_spool, "nightly.toml")
    drop.unlink()
    with pytest.raises(NoSuchJob):
        acting.cancel(the_spool, seen)


def test_a_spool_opened_without_a_node_still_claims_in_the_name_of_one(the_spool):
    """A claim without a node would be recovered by nobody."""
    put_drop(the_spool, f"{JOB}.toml")
    anonymous = spool.open_spool(the_spool.places.root)
    acting.cancel(anonymous, find(anonymous))
    path = root(the_spool) / "failed" / JOB
    assert tomllib.loads((path / layout.CLAIM).read_text())["node"]


def test_a_held_drop_whose_cancel_died_half_way_stays_held(the_spool):
    """A cancel claims the drop and writes the result; recovery after a death in between must not start a held job."""
    put_drop(the_spool, f"{JOB}.toml.held")
    claimed = the_spool.claim_drop(f"{JOB}.toml.held", "nightly", "default")
    os.close(claimed.lease)
    recovery.recover_all(recovery.Context(the_spool, Log(2, level="error"), read_policy))
    job = find(the_spool)
    assert job.state == "waiting"
    assert job.is_held


# -- hold, release


def test_a_held_drop_has_another_name_and_gets_its_own_back(the_spool):
    path = put_drop(the_spool, "nightly.toml")
    acting.hold(the_spool, find(the_spool, "nightly.toml"))
    assert not path.exists()
    assert (root(the_spool) / "nightly.toml.held").exists()
    acting.release(the_spool, find(the_spool, "nightly.toml.held"))
    assert path.exists()


def test_hold_and_release_overwrite_nothing(the_spool):
    put_drop(the_spool, "nightly.toml")
    drop = find(the_spool, "nightly.toml")
    (root(the_spool) / "nightly.toml.held").write_text("another")
    with pytest.raises(NotPossible, match="is in the spool already"):
        acting.hold(the_spool, drop)
    with pytest.raises(NotPossible, match="is in the spool already"):
        acting.release(the_spool, find(the_spool, "nightly.toml.held"))
    assert (root(the_spool) / "nightly.toml.held").read_text() == "another"


def test_a_waiting_record_is_held_by_a_file_in_it(the_spool):
    path = put_record(the_spool, f"waiting/{JOB}")
    acting.hold(the_spool, find(the_spool))
    assert (path / layout.HOLD).exists()
    acting.release(the_spool, find(the_spool))
    assert not (path / layout.HOLD).exists()


@pytest.mark.parametrize("place", ["nightly.toml", f"waiting/{JOB}"])
def test_holding_twice_and_releasing_twice_change_nothing_more(the_spool, place):
    put_record(the_spool, place) if "/" in place else put_drop(the_spool, place)
    for act, is_held in ((acting.hold, True), (acting.hold, True), (acting.release, False), (acting.release, False)):
        act(the_spool, find(the_spool, "nightly"))
        assert find(the_spool, "nightly").is_held is is_held


@pytest.mark.parametrize("place", [f"running/{JOB}.1.bcdfg", f"done/{JOB}", f"failed/{JOB}"])
def test_what_runs_or_has_ended_cannot_be_held_or_released(the_spool, place):
    put_record(the_spool, place)
    for act in (acting.hold, acting.release):
        with pytest.raises(NotPossible, match="already"):
            act(the_spool, find(the_spool))


def test_a_drop_that_was_claimed_meanwhile_is_not_held(the_spool):
    drop = put_drop(the_spool, "nightly.toml")
    seen = find(the_spool, "nightly.toml")
    drop.unlink()
    with pytest.raises(NotPossible, match="has just been started"):
        acting.hold(the_spool, seen)


@pytest.mark.parametrize(("queue", "name"), [(None, "paused"), ("etl", "paused.etl")])
def test_a_pause_is_a_file_and_a_resume_removes_it(the_spool, queue, name):
    acting.pause(the_spool, queue)
    acting.pause(the_spool, queue)
    assert (root(the_spool) / name).exists()
    acting.resume(the_spool, queue)
    acting.resume(the_spool, queue)
    assert not (root(the_spool) / name).exists()


def test_every_act_wakes_the_workers(the_spool):
    put_record(the_spool, f"failed/{JOB}")
    acting.retry(the_spool, find(the_spool))
    assert (root(the_spool) / layout.WAKE).exists()


def test_rename_new_leaves_what_is_there(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(FileExistsError):
        acting.rename_new(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_text() == "b"
