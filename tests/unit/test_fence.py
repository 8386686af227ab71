import os
import shutil
import subprocess
import threading
import time

import pytest

from spooldadd import fence, lifecycle
from spooldadd.guard import CLAIM_LOST, Guard
from spooldadd.plan import Limits
from spooldadd.tree import Tree
from tests.unit.spools import Bench


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def hung():
    """A look that hangs, as one at a share whose server does not answer."""
    answers = threading.Event()
    yield lambda: answers.wait() and None
    answers.set()


def limits(**given):
    found = Limits()
    for name, value in given.items():
        setattr(found, name, value)
    return found


def watch(command, eye, given, tmp_path):
    with open(tmp_path / "output.log", "ab") as log:
        job = subprocess.Popen(["/bin/sh", "-c", command], stdout=log, start_new_session=True)
        tree = Tree(job.pid)
        try:
            return Guard(tree, given, [log.fileno()], eye).watch()
        finally:
            tree.kill()
            eye.close()
            job.returncode = 0


# -- near


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_deleted_spool_ends_its_jobs_after_a_while(bench, is_shared):
    """A supervisor tried for ever to file into a spool that somebody had removed, and its job ran on for nobody."""
    claimed = bench.claim()
    patient = fence.Deletion(bench.places, claimed.lease)
    at_once = fence.Deletion(bench.places, claimed.lease, 0.0)
    eyes = [
        fence.eye_of(bench.places, claimed.record, [], each, is_shared=is_shared, is_far=False)
        for each in (patient, at_once)
    ]
    assert [eye.look() for eye in eyes] == [None, None]
    shutil.rmtree(bench.places.root)
    assert eyes[0].look() is None
    verdict = eyes[1].look()
    assert verdict.outcome == CLAIM_LOST
    assert "was deleted" in verdict.sentence
    os.close(claimed.lease)


def test_a_spool_that_is_away_is_not_deleted(bench):
    claimed = bench.claim()
    deletion = fence.Deletion(bench.places, claimed.lease, 0.0)
    os.rename(bench.places.root, f"{bench.places.root}.elsewhere")
    assert deletion.look() is None
    os.rename(f"{bench.places.root}.elsewhere", bench.places.root)
    os.unlink(bench.places.lock(claimed.record))  # by hand: the spool is there
    assert deletion.look() is None
    os.close(claimed.lease)


def test_a_record_that_is_ours_is_left_in_peace(bench):
    claimed = bench.claim()
    assert fence.Fence(bench.places, claimed.record, fence.Deletion(bench.places, claimed.lease)).look() is None
    os.close(claimed.lease)


def test_a_cancel_is_seen(bench):
    claimed = bench.claim()
    open(os.path.join(claimed.path, "cancel"), "w").close()
    assert (
        fence.Fence(bench.places, claimed.record, fence.Deletion(bench.places, claimed.lease)).look().outcome
        == lifecycle.CANCELLED
    )
    os.close(claimed.lease)


def test_a_record_that_was_taken_over_is_lost(bench):
    claimed = bench.claim()
    os.rename(claimed.path, claimed.path[:-5] + "zzzzz")
    assert (
        fence.Fence(bench.places, claimed.record, fence.Deletion(bench.places, claimed.lease)).look().outcome == CLAIM_LOST
    )
    os.close(claimed.lease)


def test_a_spool_that_is_away_is_waited_for(bench):
    claimed = bench.claim()
    os.rename(bench.root, str(bench.root) + "-away")
    assert fence.Fence(bench.places, claimed.record, fence.Deletion(bench.places, claimed.lease)).look() is None
    os.close(claimed.lease)


def test_another_spool_in_its_place_says_nothing_of_our_record(bench):
    claimed = bench.claim()
    os.rename(bench.root, str(bench.root) + "-away")
    (bench.root / "running").mkdir(parents=True)
    (bench.root / ".spool").mkdir()
    (bench.root / ".spool" / "format.toml").write_text('id = "another"\n')
    assert fence.Fence(bench.places, claimed.record, fence.Deletion(bench.places, claimed.lease)).look() is None
    os.close(claimed.lease)


def test_where_nobody_takes_over_nothing_but_a_cancel_is_looked_for(bench):
    claimed = bench.claim()
    deletion = fence.Deletion(bench.places, claimed.lease)
    eye = fence.eye_of(bench.places, claimed.record, ["output.log"], deletion, is_shared=False, is_far=False)
    before = threading.active_count()
    os.rename(claimed.path, claimed.path[:-5] + "zzzzz")
    assert eye.look() is None
    assert threading.active_count() == before
    os.close(claimed.lease)


# -- from afar


def test_a_timeout_is_kept_while_a_look_hangs(hung, tmp_path):
    eye = fence.Lookout(hung, [], every_s=0.01)
    assert watch("sleep 600", eye, limits(timeout_s=0.3), tmp_path).outcome == lifecycle.TIMEOUT


def test_a_stall_is_noticed_while_a_look_hangs(hung, tmp_path):
    eye = fence.Lookout(hung, [], every_s=0.01)
    assert watch("sleep 600", eye, limits(stall_s=0.3), tmp_path).outcome == lifecycle.STALL


def test_what_is_printed_is_no_stall_and_is_counted_while_a_look_hangs(hung, tmp_path):
    eye = fence.Lookout(hung, [], every_s=0.01)
    command = "while :; do echo 0123456789; sleep 0.02; done"
    assert watch(command, eye, limits(stall_s=60.0, output_bytes=100), tmp_path).outcome == lifecycle.OUTPUT


def test_what_the_thread_has_found_ends_the_job(tmp_path):
    eye = fence.Lookout(lambda: fence.Verdict(CLAIM_LOST, "gone"), [], every_s=0.01)
    assert watch("sleep 600", eye, limits(), tmp_path).outcome == CLAIM_LOST


def test_the_thread_ends_with_the_job():
    seen = []
    eye = fence.Lookout(lambda: seen.append(1), [], every_s=0.01)
    while not seen:
        time.sleep(0.01)
    eye.close()
    eye.close()  # twice does no harm
    deadline = time.monotonic() + 30
    count = -1
    while count != len(seen):
        assert time.monotonic() < deadline
        count = len(seen)
        time.sleep(0.2)
