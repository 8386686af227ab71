import errno
import os
import shutil

import pytest

from spooldadd import filing
from spooldadd.errors import ClaimLost, SpoolError
from tests.unit.spools import Bench


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def claimed(bench):
    made = bench.claim()
    yield made
    os.close(made.lease)


def file(bench, claimed, state="done"):
    return filing.file_record(bench.places, claimed.record, state, sync=False)


@pytest.mark.parametrize("state", ["done", "failed", "waiting"])
def test_a_record_is_filed_under_its_job(bench, claimed, state):
    path = file(bench, claimed, state)
    assert path == os.path.join(bench.root, state, claimed.job)
    assert bench.tree() == [f"{state}/{claimed.job}/claim.toml", f"{state}/{claimed.job}/spec.toml"]


def test_filing_may_be_repeated(bench, claimed):
    """The answer of a network file system may be lost after the rename was done."""
    assert file(bench, claimed) == file(bench, claimed)


def test_a_record_that_somebody_else_moved_is_theirs(bench, claimed):
    shutil.move(claimed.path, bench.root / "gone")
    with pytest.raises(ClaimLost, match="somebody else has it"):
        file(bench, claimed)


def test_another_claims_record_of_the_same_job_is_not_taken_for_ours(bench, claimed):
    shutil.move(claimed.path, bench.root / "done" / claimed.job)
    text = (bench.root / "done" / claimed.job / "claim.toml").read_text()
    (bench.root / "done" / claimed.job / "claim.toml").write_text(text.replace(claimed.name.token, "zzzzz"))
    with pytest.raises(ClaimLost):
        file(bench, claimed)


@pytest.mark.parametrize("other", ["directory", "file"])
def test_a_record_of_that_id_which_stands_already_stays(bench, claimed, other):
    """Two nodes may have drawn one id."""
    stands = bench.root / "done" / claimed.job
    if other == "directory":
        stands.mkdir()
        (stands / "spec.toml").write_text("another")
    else:
        stands.write_text("another")
    path = file(bench, claimed)
    assert path != str(stands)
    assert os.path.basename(path).rpartition(".")[0] == claimed.job.rpartition(".")[0]
    assert os.path.exists(os.path.join(path, "spec.toml"))
    assert "another" in (stands / "spec.toml" if other == "directory" else stands).read_text()


def test_a_missing_state_is_trouble_and_no_loss(bench, claimed):
    (bench.root / "done").rmdir()
    with pytest.raises(SpoolError, match="cannot be written"):
        file(bench, claimed)
    (bench.root / "done").mkdir()
    file(bench, claimed)


def test_a_spool_that_is_away_is_trouble_and_no_loss(bench, claimed):
    bench.root.rename(bench.root.parent / "away")
    with pytest.raises(SpoolError):
        file(bench, claimed)
    bench.root.mkdir()  # an empty mount point looks as if the record were gone
    with pytest.raises(SpoolError):
        file(bench, claimed)
    bench.root.rmdir()
    (bench.root.parent / "away").rename(bench.root)
    file(bench, claimed)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_any_other_failure_is_trouble(bench, claimed, monkeypatch, number):
    def fail(source, target):
        raise OSError(number, os.strerror(number), source, None, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(SpoolError, match=os.strerror(number)):
        file(bench, claimed)


def test_a_lock_that_is_gone_cannot_be_removed_and_harms_nobody(bench, claimed):
    filing.remove_lock(bench.places, claimed.record)
    filing.remove_lock(bench.places, claimed.record)
    assert bench.locks() == []
