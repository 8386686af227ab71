import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from spooldadd import claim, process, record, recovery, spool, strays
from spooldadd.claim import Holder
from spooldadd.lifecycle import Policy
from spooldadd.recovery import Found, recover, recover_all
from spooldadd.takeover import Lost
from tests.unit.spools import Bench, shift


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture(autouse=True)
def no_descriptor_is_left():
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


def orphan(bench, *lines, result=None, name="a.toml"):
    """Leave a claimed record behind as a dead worker or supervisor does; `lines` is what the lock file said last."""
    claimed = bench.claim(name)
    for line in lines:
        os.write(claimed.lease, f"{line}\n".encode())
    if result is not None:
        record.write_result(claimed.path, {"attempt": 1, **result}, sync=False)
    os.close(claimed.lease)
    return claimed


DEAD = ("supervisor_pid = 4194303", "supervisor_start = 1")


# -- one test for each row of the table


def test_a_record_whose_lease_is_held_is_running(bench):
    claimed = bench.claim()
    assert recover(bench.context, claimed.record) is Found.RUNNING
    assert bench.tree() == shift(claimed, "claim.toml", "spec.toml")
    os.close(claimed.lease)


@pytest.mark.parametrize("source", ["a\0/b", "/etc/passwd", "../../x.toml", "@here/../x.toml", ".", "x/y.toml", ""])
def test_a_source_that_a_job_wrote_into_its_claim_leads_nowhere(bench, source):
    """One with a NUL ended the worker, and after that each one at its start."""
    claimed = orphan(bench, *DEAD)
    record.write_claim(claimed.path, {"job": claimed.job, "attempt": 1, "node": "here", "source": source}, sync=False)
    assert recover(bench.context, claimed.record) is Found.LOST


def test_a_spec_that_a_power_cut_shows_in_the_root_as_well_is_not_claimed_by_another_node_of_this_machine(bench):
    """It may have run: its claimer waits with the root until the result. Of two nodes the other one may look first."""
    claimed = orphan(bench)
    os.link(claimed.spec, bench.root / "a.toml")
    held = claim.take_existing(bench.places, claimed.record)
    other = spool.Spool(bench.places.root, bench.spool.format, Holder("other", "after-the-cut", os.getpid(), 1))
    context = recovery.Context(other, bench.log, lambda _path: Policy())
    assert recover(context, claimed.record) is Found.FOREIGN
    assert os.path.exists(bench.root / "a.toml"), "somebody works on it, and may be putting it back"
    os.close(held)
    context.alone.clear()
    assert recover(context, claimed.record) is Found.FOREIGN
    assert not os.path.exists(bench.root / "a.toml")
    assert os.path.exists(claimed.spec)
    bench.drop("a.toml")  # of that name, but another file
    context.alone.clear()
    assert recover(context, claimed.record) is Found.FOREIGN
    assert os.path.exists(bench.root / "a.toml")


@pytest.mark.parametrize("left", [[], ["claim.toml"], [".tmp-1-claim.toml"], ["claim.toml", "cancel"]])
def test_a_record_without_a_spec_was_never_claimed(bench, left):
    claimed = orphan(bench)
    shutil.rmtree(claimed.path)
    os.mkdir(claimed.path)
    for name in left:
        open(os.path.join(claimed.path, name), "w").close()
    assert recover(bench.context, claimed.record) is Found.UNCLAIMED
    assert (bench.tree(), bench.locks()) == ([], [])


def test_a_record_without_a_spec_that_holds_something_is_not_removed(bench):
    claimed = orphan(bench, *DEAD)
    os.unlink(os.path.join(claimed.path, "spec.toml"))
    open(os.path.join(claimed.path, "output.log"), "w").close()
    assert recover(bench.context, claimed.record) is Found.LOST
    assert f"failed/{claimed.job}/output.log" in bench.tree()


@pytest.mark.parametrize("state", ["done", "failed", "waiting"])
def test_a_finished_record_is_filed_as_its_result_says(bench, state):
    claimed = orphan(bench, *DEAD, result={"state": state, "outcome": "exit"})
    assert recover(bench.context, claimed.record) is Found.FINISHED
    assert os.listdir(bench.root / state) == [claimed.job]
    assert bench.locks() == []


def test_a_result_that_names_no_state_is_filed_as_failed(bench):
    claimed = orphan(bench, *DEAD, result={"state": "../.."})
    recover(bench.context, claimed.record)
    assert os.listdir(bench.root / "failed") == [claimed.job]


def test_a_result_of_an_earlier_attempt_is_none(bench):
    claimed = orphan(bench, *DEAD)
    record.write_result(claimed.path, {"attempt": 7, "state": "done"}, sync=False)
    assert recover(bench.context, claimed.record) is Found.LOST


def test_a_claim_that_no_supervisor_took_goes_back_uncounted(bench):
    claimed = orphan(bench)
    assert recover(bench.context, claimed.record) is Found.NEVER_STARTED
    assert bench.tree() == [f"waiting/{claimed.job}/spec.toml"]
    assert bench.locks() == []


def test_a_record_that_was_moved_and_got_no_claim_goes_back_uncounted(bench):
    claimed = orphan(bench, *DEAD)
    os.unlink(os.path.join(claimed.path, "claim.toml"))
    assert recover(bench.context, claimed.record) is Found.NEVER_STARTED
    assert bench.tree() == [f"waiting/{claimed.job}/spec.toml"]


def test_a_job_that_lives_without_its_lease_is_running(bench):
    """Its descriptor was closed, as daemons do; its process is there all the same."""
    start = process.start_ticks(os.getpid())
    claimed = orphan(bench, *DEAD, f"job_pid = {os.getpid()}", f"job_start = {start}")
    assert recover(bench.context, claimed.record) is Found.RUNNING
    assert not claim.is_held(bench.places, claimed.record)
    assert bench.tree() == shift(claimed, "claim.toml", "spec.toml")


def test_a_job_whose_supervisor_died_is_lost(bench):
    claimed = orphan(bench, *DEAD)
    assert recover(bench.context, claimed.record) is Found.LOST
    result = record.read_result(str(bench.root / "failed" / claimed.job), 1)
    assert (result["state"], result["outcome"], result["node"], result["queue"]) == ("failed", "lost", "here", "default")
    assert "its supervisor on `here` ended without a result" in result["reason"]
    assert "`restartable = true`" in result["reason"]
    assert result["submitted_at"].timestamp() == pytest.approx(claimed.submitted_at_s, abs=0.001)


def test_a_lost_job_that_is_restartable_waits_for_another_attempt(bench):
    bench.policy = Policy(restartable=True)
    claimed = orphan(bench, *DEAD)
    assert recover(bench.context, claimed.record) is Found.LOST
    assert os.listdir(bench.root / "waiting") == [claimed.job]
    again = bench.spool.claim_waiting(claimed.job, "default")
    assert again.attempt == 2
    os.close(again.lease)


def test_a_lost_job_that_was_cancelled_is_cancelled(bench):
    bench.policy = Policy(restartable=True)
    claimed = orphan(bench, *DEAD)
    open(os.path.join(claimed.path, "cancel"), "w").close()
    recover(bench.context, claimed.record)
    assert record.read_result(str(bench.root / "failed" / claimed.job), 1)["outcome"] == "cancelled"


# -- boots and nodes


def other_node(bench, node="there", boot_id="boot-9"):
    """Return the same spool as another node, or as this one after it was started again, sees it."""
    seen = spool.open_spool(str(bench.root), Holder(node, boot_id, 20, 200))
    return recovery.Context(seen, bench.log, lambda _path: bench.policy)


def test_after_a_reboot_a_started_job_is_lost_with_its_machine(bench):
    start = process.start_ticks(os.getpid())
    claimed = orphan(bench, f"supervisor_pid = {os.getpid()}", f"supervisor_start = {start}")
    assert recover(other_node(bench, "here"), claimed.record) is Found.LOST
    reason = record.read_result(str(bench.root / "failed" / claimed.job), 1)["reason"]
    assert "the machine `here` went down" in reason


def test_after_a_reboot_nobody_knows_whether_a_claim_had_started(bench):
    """What the lock file said about the supervisor may not have reached the disk."""
    claimed = orphan(bench)
    assert recover(other_node(bench, "here"), claimed.record) is Found.LOST


def test_records_of_another_node_are_left_alone(bench):
    for result in (None, {"state": "done"}):
        claimed = orphan(bench, *DEAD, result=result)
        before = bench.tree()
        assert recover(other_node(bench), claimed.record) is Found.FOREIGN
        assert bench.tree() == before


def test_records_of_a_node_that_a_person_calls_dead_are_recovered(bench):
    claimed = orphan(bench, *DEAD)
    context = other_node(bench)
    context = recovery.Context(
        context.spool,
        bench.log,
        context.policy,
        lost=lambda node: Lost(node, f"a person says that `{node}` is dead") if node == "here" else None,
    )
    assert recover(context, claimed.record) is Found.LOST


# -- leftovers


def test_the_claimed_specs_other_name_in_the_root_is_removed(bench):
    """As btrfs shows it after a power cut."""
    claimed = orphan(bench)
    os.link(os.path.join(claimed.path, "spec.toml"), bench.root / "a.toml")
    recover(bench.context, claimed.record)
    assert bench.tree() == [f"waiting/{claimed.job}/spec.toml"]


def test_the_claimed_specs_other_name_in_an_inbox_is_removed(bench):
    claimed = orphan(bench, name="@here/a.toml")
    os.link(os.path.join(claimed.path, "spec.toml"), bench.root / "@here" / "a.toml")
    recover(bench.context, claimed.record)
    assert bench.tree() == ["@here/", f"waiting/{claimed.job}/@here", f"waiting/{claimed.job}/spec.toml"]


def test_another_file_of_the_claimed_name_stays(bench):
    claimed = orphan(bench)
    bench.drop()
    recover(bench.context, claimed.record)
    assert "a.toml" in bench.tree()


def test_a_lock_file_without_a_record_is_removed(bench):
    claimed = orphan(bench)
    shutil.rmtree(claimed.path)
    held = bench.claim("b.toml")
    shutil.rmtree(held.path)
    kept = bench.claim("c.toml")
    open(os.path.join(bench.places.locks, "strange.lock"), "w").close()
    assert recovery.remove_stale_locks(bench.context) == 1
    assert bench.locks() == sorted([f"{held.record}.lock", f"{kept.record}.lock", "strange.lock"])
    os.close(held.lease)
    os.close(kept.lease)


def test_notes_beside_a_lock_file_count_as_what_it_says(bench):
    """Where locks are mandatory, SMB for one, a supervisor cannot write into the lock file."""
    claimed = orphan(bench)
    notes = Path(bench.spool.places.notes(claimed.record))
    notes.write_text('node = "here"\nboot_id = "boot-1"\nsupervisor_pid = 4194303\nsupervisor_start = 1\n')
    assert recover(bench.context, claimed.record) is Found.LOST
    assert notes.exists()
    recovery.remove_stale_locks(bench.context)
    assert not notes.exists()


def test_notes_of_a_running_record_stay(bench):
    claimed = bench.claim()
    notes = Path(bench.spool.places.notes(claimed.record))
    notes.touch()
    recovery.remove_stale_locks(bench.context)
    assert notes.exists()
    os.close(claimed.lease)


def test_a_record_that_is_gone_is_told_and_its_lock_removed(bench):
    claimed = orphan(bench)
    shutil.rmtree(claimed.path)
    assert recover(bench.context, claimed.record) is Found.GONE
    assert bench.locks() == []


def test_what_is_no_record_is_left_alone(bench):
    os.mkdir(os.path.join(bench.places.running, "stranger"))
    assert recover(bench.context, "stranger") is Found.FOREIGN
    assert bench.locks() == []


def test_a_record_in_trouble_does_not_keep_the_others_from_recovery(bench):
    good = orphan(bench, name="b.toml")
    bad = "a.20260101T000000Z.bcdfg.1.bcdfg"
    open(os.path.join(bench.places.running, bad), "w").close()  # a file where a record should be
    found = recover_all(bench.context, frozenset())
    assert found[good.record] is Found.NEVER_STARTED
    assert "lost" in bench.log.names()  # it is filed, with the reason


def test_records_that_are_in_hand_are_skipped(bench):
    claimed = orphan(bench)
    assert recover_all(bench.context, frozenset({claimed.record})) == {}
    assert bench.tree() == shift(claimed, "claim.toml", "spec.toml")


def test_recovery_may_be_repeated(bench):
    bench.policy = Policy(restartable=True)
    orphan(bench, *DEAD)
    orphan(bench, name="b.toml")
    recover_all(bench.context)
    before = bench.tree()
    assert recover_all(bench.context) == {}
    assert bench.tree() == before


def test_what_a_lost_attempt_left_running_is_ended_before_another_begins(bench, monkeypatch):
    monkeypatch.setattr(strays, "STRAYS_S", 0.0)
    claimed = orphan(bench, *DEAD)
    context = recovery.Context(
        spool.open_spool(str(bench.root), Holder("here", "boot-1", 10, 100)), bench.log, lambda _path: bench.policy
    )
    stray = subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, env={"SPOOLDADD_RECORD": claimed.path, "PATH": os.environ["PATH"]}
    )
    while strays.find(bench.places, claimed.record) != [stray.pid]:
        pass
    assert recover(context, claimed.record) is Found.ENDING
    assert stray.wait() in (-9, -15)
    assert recover(context, claimed.record) is Found.LOST
    stray.stdin.close()
    assert "left-processes" in bench.log.names()


def test_what_a_half_done_takeover_renamed_is_ended_by_the_name_that_it_was_started_under(bench, monkeypatch):
    """The node that was taken for lost is back: its job lives on, and knows of no other name."""
    monkeypatch.setattr(strays, "STRAYS_S", 0.0)
    claimed = orphan(bench, *DEAD)
    started_as = "a.20261121T100000Z.bcdfg.1.zzzzz"
    claim_path = Path(claimed.path, "claim.toml")
    claim_path.write_text(f'{claim_path.read_text()}taken_from = "{started_as}"\ntaken_over_by = "there"\n')
    context = recovery.Context(
        spool.open_spool(str(bench.root), Holder("here", "boot-1", 10, 100)), bench.log, lambda _path: bench.policy
    )
    marker = strays.claim_mark(bench.places.id, started_as)
    stray = subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={"SPOOLDADD_CLAIM": marker, "PATH": os.environ["PATH"]})
    while strays.find(bench.places, started_as) != [stray.pid]:
        pass
    assert recover(context, claimed.record) is Found.ENDING
    assert stray.wait() in (-9, -15)
    assert recover(context, claimed.record) is Found.LOST
    stray.stdin.close()


def test_a_record_that_a_job_replaced_by_a_file_is_filed_with_the_reason_and_told_once(bench):
    """It was tried again at every look, and the log was told of it each time."""
    claimed = bench.claim()
    os.close(claimed.lease)
    path = Path(claimed.path)
    shutil.rmtree(path)
    path.write_text("mine now")
    context = bench.context
    assert recovery.recover_all(context) == {claimed.record: Found.LOST}
    assert recovery.recover_all(context) == {}
    (left,) = (bench.root / "failed").iterdir()
    assert (left / "record").read_text() == "mine now"
    assert "its record was damaged" in (left / "result.toml").read_text()
    assert bench.log.names() == ["lost"]
    assert bench.locks() == []


def test_a_record_in_trouble_is_told_once_however_often_it_is_looked_at(bench, monkeypatch):
    claimed = bench.claim()
    os.close(claimed.lease)

    def refuse(*_arguments):
        raise PermissionError(errno.EACCES, "Permission denied", claimed.path)

    monkeypatch.setattr(recovery.record, "remove_temporaries", refuse)
    context = bench.context
    for _ in range(3):
        assert recovery.recover_all(context) == {claimed.record: Found.IN_TROUBLE}
    assert bench.log.names() == ["spool-trouble"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_a_job_put_in_the_place_of_its_attempts_is_put_aside_at_the_next_claim(bench, tmp_path, kind):
    """A file there kept the job from ever being claimed again; a link led what was moved there out of the spool."""
    claimed = bench.claim()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    attempts = Path(claimed.path, "attempts")
    attempts.write_text("mine") if kind == "file" else attempts.symlink_to(elsewhere)
    record.write_result(claimed.path, {"state": "waiting", "attempt": 1}, sync=False)
    bench.spool.file(claimed.record, claimed.lease, "waiting")
    again = bench.spool.claim_waiting(claimed.job, "default")
    os.close(again.lease)
    assert sorted(os.listdir(f"{again.path}/attempts/1")) == ["claim.toml", "result.toml"]
    assert not list(elsewhere.iterdir())
    assert [name for name in os.listdir(again.path) if name.startswith("attempts.")]


@pytest.mark.parametrize("way", ["requeue", "put_back"])
def test_a_claim_that_is_given_up_after_a_cancel_is_filed_and_does_not_run(bench, way):
    """Back in the queue the word would be lost: the next claim takes it away, and the job ran although it was cancelled."""
    claimed = bench.claim()
    Path(claimed.path, "cancel").touch()
    if way == "requeue":
        bench.spool.requeue(claimed.record, claimed.lease)
    else:
        bench.spool.put_back(claimed)
    assert recover(bench.context, claimed.record) is not Found.RUNNING
    result = record.read_result(str(bench.root / "failed" / claimed.job), 1)
    assert result is not None
    assert result["outcome"] == "cancelled"
