import datetime
import errno
import os

import pytest

from spooldadd import record

JOB = "a.20261121T100000Z.bcdfg"


@pytest.fixture
def path(tmp_path):
    (tmp_path / "spec.toml").write_text('command = ["true"]\n')
    return str(tmp_path)


def claim(path, attempt, **more):
    record.write_claim(path, {"job": JOB, "attempt": attempt, **more}, sync=False)


def result(path, attempt, **more):
    record.write_result(path, {"job": JOB, "attempt": attempt, **more}, sync=False)


def names_in(*parts):
    return sorted(os.listdir(os.path.join(*parts)))


def test_a_result_belongs_to_its_attempt_alone(path):
    result(path, 2, outcome="exit", queue=None)
    assert record.read_result(path, 2) == {"schema": 1, "job": JOB, "attempt": 2, "outcome": "exit"}
    assert record.read_result(path, 3) is None
    assert record.read_claim(path, 2) is None


@pytest.mark.parametrize("content", ["", "attempt = ", "\0", "attempt = 1\nattempt = 1", "[" * 5000, "é\udc80"])
def test_a_table_that_cannot_be_read_is_none(path, content):
    with open(os.path.join(path, "result.toml"), "wb") as file:
        file.write(content.encode("utf-8", "surrogateescape"))
    assert record.read_result(path, 1) is None


def test_a_directory_in_the_place_of_a_result_steps_aside(path):
    """A job made one, and its supervisor tried for ever to put the result there."""
    os.makedirs(os.path.join(path, "result.toml", "x"))
    result(path, 1, outcome="success")
    assert record.read_result(path, 1)["outcome"] == "success"
    assert sum(name.startswith("result.toml.") for name in os.listdir(path)) == 1


def test_the_next_attempt_begins_with_a_clean_record(path):
    claim(path, 1)
    result(path, 1)
    for name in ("output.log", "kept.csv", "cancel", "now"):
        open(os.path.join(path, name), "w").close()
    open(os.path.join(path, "hold"), "w").close()
    record.rotate(path, 2, sync=True)
    assert names_in(path) == ["attempts", "hold", "spec.toml"]
    earlier = ["cancel", "claim.toml", "kept.csv", "now", "output.log", "result.toml"]
    assert names_in(path, "attempts", "1") == earlier
    claim(path, 2)
    record.rotate(path, 3, sync=False)
    assert names_in(path, "attempts") == ["1", "2"]


def test_an_attempt_that_has_its_claim_is_left_alone(path):
    claim(path, 1)
    open(os.path.join(path, "output.log"), "w").close()
    record.rotate(path, 1, sync=False)
    assert names_in(path) == ["claim.toml", "output.log", "spec.toml"]


def test_a_rotation_that_was_broken_off_is_finished(path):
    claim(path, 1)
    result(path, 1)
    os.makedirs(os.path.join(path, "attempts", "1"))
    os.rename(os.path.join(path, "result.toml"), os.path.join(path, "attempts", "1", "result.toml"))
    record.rotate(path, 2, sync=False)
    assert names_in(path, "attempts", "1") == ["claim.toml", "result.toml"]
    assert names_in(path) == ["attempts", "spec.toml"]


def test_until_all_else_has_moved_the_claim_says_whose_files_they_are(path, monkeypatch):
    claim(path, 3)
    result(path, 3)
    open(os.path.join(path, "zebra"), "w").close()
    real, moved = os.rename, []

    def stop_half_way(source, target):
        if moved:
            raise OSError(errno.EIO, "Input/output error")
        moved.append(source)
        real(source, target)

    monkeypatch.setattr(os, "rename", stop_half_way)
    with pytest.raises(OSError, match="Input/output"):
        record.rotate(path, 4, sync=False)
    monkeypatch.undo()
    assert "claim.toml" in names_in(path)
    record.rotate(path, 4, sync=False)
    assert names_in(path) == ["attempts", "spec.toml"]
    assert names_in(path, "attempts") == ["3"]


def test_a_fresh_record_is_not_rotated(path):
    record.rotate(path, 1, sync=True)
    assert names_in(path) == ["spec.toml"]


def test_attempts_are_counted_by_claims_and_by_what_earlier_ones_left(path):
    assert record.last_attempt(path) == 0
    claim(path, 1)
    assert record.last_attempt(path) == 1
    record.rotate(path, 2, sync=False)
    assert record.last_attempt(path) == 1
    os.mkdir(os.path.join(path, "attempts", "7"))
    assert record.last_attempt(path) == 7


@pytest.mark.parametrize("name", ["²", "٣", "-4", "x", "9" * 200, "1000000"])
def test_a_job_that_makes_attempts_up_does_not_stop_the_worker(path, name):
    """`int` takes fewer digits than `isdigit`: a directory of that name ended the worker, at each of its starts."""
    claim(path, 3)
    os.makedirs(os.path.join(path, "attempts", name))
    assert record.last_attempt(path) == 3


@pytest.mark.parametrize("number", [10**200, -1, 0, "5", 1.5])
def test_a_number_that_is_no_attempt_does_not_count(path, number):
    claim(path, number)
    assert record.last_attempt(path) == 0


def test_a_job_was_submitted_when_its_first_claim_says_so(path):
    at = datetime.datetime(2026, 11, 21, 9, 0, 0, 500_000, tzinfo=datetime.UTC)
    claim(path, 1, submitted_at=at)
    assert record.submitted_at_s(path, JOB) == at.timestamp()
    record.rotate(path, 2, sync=False)
    assert record.submitted_at_s(path, JOB) == at.timestamp()


def test_without_a_claim_the_id_says_when_it_was_submitted(path):
    assert record.submitted_at_s(path, JOB) == 1_795_255_200.0
    assert record.submitted_at_s(path, "strange") == 0.0


@pytest.mark.parametrize("at", [datetime.datetime(1, 1, 1), "yesterday", 5, datetime.date(2026, 1, 1)])
def test_a_time_without_a_zone_is_none(path, at):
    claim(path, 1, submitted_at=at)
    assert record.submitted_at_s(path, JOB) == 1_795_255_200.0


def test_an_id_with_an_impossible_time_is_as_old_as_can_be(path):
    """`mkdir waiting/x.99999999T999999Z.bcdfg` ended the worker."""
    assert record.submitted_at_s(path, "x.99999999T999999Z.bcdfg") == 0.0


def test_what_a_dead_process_had_not_finished_is_removed(path):
    open(os.path.join(path, ".tmp-1-result.toml"), "w").close()
    os.mkdir(os.path.join(path, ".tmp-of-a-job"))
    record.remove_temporaries(path)
    assert names_in(path) == [".tmp-of-a-job", "spec.toml"]


@pytest.mark.parametrize("at_s", [1_795_336_669.0185, 1_795_336_669.2895, 1_795_336_669.9996, 1_795_336_669.0])
def test_a_time_is_the_same_however_it_is_written(at_s):
    """Half a millisecond was rounded in two ways: result and claim of a refused spec differed by one."""
    assert datetime.datetime.fromisoformat(record.written(at_s)) == record.moment(at_s)
