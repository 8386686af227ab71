import errno
import os
import tomllib

import pytest

from spooldadd import claim, claiming, durable, mark, names, record, spool, together
from spooldadd.errors import ClaimLost, NotASpool, SpoolError, TakenBefore
from tests.unit.spools import SPEC, Bench, shift


@pytest.fixture(params=["process", "power"])
def bench(tmp_path, request):
    return Bench(tmp_path, durability=request.param)


@pytest.fixture(autouse=True)
def no_descriptor_is_left():
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


def let_go(claimed):
    os.close(claimed.lease)


# -- the spool itself


def test_a_spool_is_made_complete_and_making_it_again_changes_nothing(tmp_path):
    root = tmp_path / "a" / "b"
    mark.create(str(root))
    before = (root / ".spool" / "format.toml").read_bytes()
    (root / "done").rmdir()
    mark.create(str(root), durability="process")
    assert (root / ".spool" / "format.toml").read_bytes() == before
    assert {path.name for path in root.iterdir()} == {".spool", "done", "failed", "running", "waiting"}
    assert spool.open_spool(str(root)).sync


def test_a_directory_that_is_no_spool_is_refused_with_the_remedy(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotASpool, match="is the share mounted"):
            spool.open_spool(str(path))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("format = 2\n", "format 2; this release understands 1"),
        ("", "format None"),
        ("format = 1\ndurability = 'forever'\n", "it must be `power` or `process`"),
        ("nonsense", "damaged"),
    ],
)
def test_a_spool_that_is_not_understood_is_left_alone(tmp_path, text, sentence):
    mark.create(str(tmp_path))
    (tmp_path / ".spool" / "format.toml").write_text(text)
    with pytest.raises(SpoolError, match=sentence):
        spool.open_spool(str(tmp_path))


def test_spools_of_one_node_keep_their_work_directories_apart(tmp_path):
    roots = []
    for name in ("a", "b"):
        mark.create(str(tmp_path / name / "spool"))
        roots.append(spool.open_spool(str(tmp_path / name / "spool")).work_root("/work"))
    assert roots[0] != roots[1]


# -- claims of drops


def test_a_claimed_drop_is_a_record_whose_lease_is_held(bench):
    claimed = bench.claim()
    assert bench.tree() == shift(claimed, "claim.toml", "spec.toml")
    assert claim.is_held(bench.places, claimed.record)
    assert (claimed.attempt, names.job_name(claimed.job)) == (1, "a")
    table = tomllib.loads((bench.root / "running" / claimed.record / "claim.toml").read_text())
    expected = {
        "job": claimed.job,
        "attempt": 1,
        "node": "here",
        "worker": "10.100",
        "boot_id": "boot-1",
        "source": "a.toml",
    }
    assert {key: table[key] for key in expected} == expected
    let_go(claimed)


def test_a_job_is_as_old_as_its_arrival_and_not_as_its_file(bench):
    """`rsync -a` brings a file's own times along."""
    path = bench.drop()
    os.utime(path, (1_000_000_000, 1_000_000_000))
    claimed = bench.spool.claim_drop("a.toml", "a", "default")
    assert claimed.submitted_at_s > 1_700_000_000
    let_go(claimed)


def test_what_is_gone_already_is_not_claimed_at_all(bench):
    """Of forty workers' claims one in seven began so at the end of a queue; that costs a look, and is no lost claim."""
    with pytest.raises(TakenBefore):
        bench.spool.claim_drop("a.toml", "a", "default")
    assert (bench.tree(), bench.locks()) == ([], [])


def test_of_two_claimers_one_wins_and_the_other_leaves_nothing(bench, monkeypatch):
    bench.drop()
    real = record.write_first_claim

    def let_another_win(path, table, *, sync):
        monkeypatch.setattr(record, "write_first_claim", real)
        winners.append(bench.spool.claim_drop("a.toml", "a", "default"))
        real(path, table, sync=sync)

    winners = []
    monkeypatch.setattr(record, "write_first_claim", let_another_win)
    with pytest.raises(ClaimLost, match="somebody else has it") as lost:
        bench.spool.claim_drop("a.toml", "a", "default")
    assert not isinstance(lost.value, TakenBefore)
    (winner,) = winners
    assert bench.tree() == shift(winner, "claim.toml", "spec.toml")
    assert bench.locks() == [f"{winner.record}.lock"]
    let_go(winner)


def test_a_rename_that_is_said_to_have_failed_and_was_done_is_won(bench, monkeypatch):
    """NFS was seen to answer that there is no such file for a rename that had happened."""
    bench.drop()
    real = os.rename

    def lie(source, target):
        real(source, target)
        if target.endswith("spec.toml"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", source)

    monkeypatch.setattr(os, "rename", lie)
    claimed = bench.spool.claim_drop("a.toml", "a", "default")
    assert os.path.exists(os.path.join(claimed.path, "spec.toml"))
    let_go(claimed)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("step", ["mkdir", "rename"])
def test_a_claim_that_fails_leaves_the_drop_and_no_record(bench, monkeypatch, step, number):
    bench.drop()

    def fail(*arguments, **_options):
        raise OSError(number, os.strerror(number), arguments[0])

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(SpoolError, match=os.strerror(number)):
            bench.spool.claim_drop("a.toml", "a", "default")
    assert bench.tree() == ["a.toml"]
    assert bench.locks() == []


def test_a_drop_that_is_gone_is_not_claimed(bench):
    with pytest.raises(ClaimLost):
        bench.spool.claim_drop("a.toml", "a", "default")
    assert (bench.tree(), bench.locks()) == ([], [])


def test_a_submitted_file_keeps_its_id_unless_a_job_has_it(bench):
    job = "a.20261121T100000Z.bcdfg"
    for state in ("", "running", "waiting", "done", "failed"):
        if state == "running":
            os.mkdir(os.path.join(bench.places.running, f"{job}.1.bcdfg"))
        elif state:
            os.mkdir(os.path.join(bench.root, state, job))
        claimed = bench.claim(f"{job}.toml")
        assert (claimed.job == job) == (state == "")
        let_go(claimed)
        bench.spool.file(claimed.record, os.dup(0), "done")
        for path in (bench.root / "done" / claimed.job, bench.root / (state or "x") / job):
            if path.is_dir():
                for entry in path.iterdir():
                    entry.unlink()
                path.rmdir()
        if state == "running":
            os.rmdir(os.path.join(bench.places.running, f"{job}.1.bcdfg"))


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9.toml"), "a\nb.toml", "x" * 250 + ".toml", "..a...toml"])
def test_a_drop_of_any_name_is_claimed_and_can_be_put_back(bench, name):
    claimed = bench.claim(name)
    assert names.parse_record_name(claimed.record) == claimed.name
    bench.spool.put_back(claimed)
    assert bench.tree() == [name]


# -- put back


def test_a_claim_that_is_put_back_leaves_no_trace(bench):
    path = bench.drop()
    before = path.stat()
    claimed = bench.spool.claim_drop("a.toml", "a", "default")
    bench.spool.put_back(claimed)
    assert (bench.tree(), bench.locks()) == (["a.toml"], [])
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_claim_whose_name_was_dropped_again_waits_beside_it(bench):
    claimed = bench.claim()
    bench.drop(text="the second")
    bench.spool.put_back(claimed)
    assert bench.tree() == ["a.toml", f"waiting/{claimed.job}/spec.toml"]
    assert (bench.root / "a.toml").read_text() == "the second"
    assert (bench.root / "waiting" / claimed.job / "spec.toml").read_text() == SPEC


def test_a_claim_that_cannot_be_put_back_waits_in_its_record(bench, monkeypatch):
    """On a file system that has neither a rename to a free name nor links."""
    claimed = bench.claim()

    def fail(*_arguments, **_options):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(durable, "_rename_no_replace", lambda _source, _target: errno.EINVAL)
    monkeypatch.setattr(os, "link", fail)
    bench.spool.put_back(claimed)
    assert bench.tree() == [f"waiting/{claimed.job}/spec.toml"]


# -- records that wait


def wait(bench, claimed):
    bench.spool.requeue(claimed.record, claimed.lease)
    return claimed.job


def test_an_attempt_that_never_started_is_not_counted(bench):
    job = wait(bench, bench.claim())
    assert bench.tree() == [f"waiting/{job}/spec.toml"]
    claimed = bench.spool.claim_waiting(job, "default")
    assert claimed.attempt == 1
    let_go(claimed)


def test_the_next_attempt_has_a_new_name_and_the_job_its_age(bench):
    first = bench.claim()
    record.write_result(first.path, {"attempt": 1, "state": "waiting"}, sync=False)
    bench.spool.file(first.record, first.lease, "waiting")
    second = bench.spool.claim_waiting(first.job, "default")
    assert (second.attempt, second.job) == (2, first.job)
    assert second.record != first.record
    assert second.submitted_at_s == pytest.approx(first.submitted_at_s, abs=0.001)
    assert bench.tree() == shift(second, "attempts/1/claim.toml", "attempts/1/result.toml", "claim.toml", "spec.toml")
    assert bench.locks() == [f"{second.record}.lock"]
    let_go(second)


def test_a_record_that_somebody_else_claimed_is_theirs(bench):
    job = wait(bench, bench.claim())
    winner = bench.spool.claim_waiting(job, "default")
    with pytest.raises(ClaimLost):
        bench.spool.claim_waiting(job, "default")
    assert bench.locks() == [f"{winner.record}.lock"]
    let_go(winner)


def test_a_record_that_ran_and_came_back_between_look_and_claim_is_not_run_under_an_old_number(bench, monkeypatch):
    job = wait(bench, bench.claim())
    real = record.last_attempt

    def run_meanwhile(path):
        monkeypatch.setattr(record, "last_attempt", real)
        number = real(path)
        other = bench.spool.claim_waiting(job, "default")
        bench.spool.file(other.record, other.lease, "waiting")
        return number

    monkeypatch.setattr(record, "last_attempt", run_meanwhile)
    with pytest.raises(ClaimLost, match="another attempt"):
        bench.spool.claim_waiting(job, "default")
    assert os.listdir(bench.places.waiting) == [job]
    assert os.listdir(bench.places.running) == []
    again = bench.spool.claim_waiting(job, "default")
    assert again.attempt == 2
    let_go(again)


def test_a_drop_that_was_held_is_still_held_after_it_came_back(bench):
    bench.drop("a.toml.held")
    claimed = bench.spool.claim_drop("a.toml.held", "a", "default")
    wait(bench, claimed)
    assert bench.tree() == [f"waiting/{claimed.job}/hold", f"waiting/{claimed.job}/spec.toml"]


def test_what_survives_a_power_cut_is_made_to_last_before_the_claim_is_told(tmp_path, monkeypatch):
    bench = Bench(tmp_path, durability="power")
    synced = []
    real = os.fsync
    monkeypatch.setattr(together, "MOST", 0)  # else not all of it is asked for by name
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
    claimed = bench.claim()
    claim_path = os.path.join(claimed.path, "claim.toml")
    assert synced == [claim_path, claimed.path, bench.places.running]
    assert bench.spool.source_left(claimed) == bench.places.root, "which lasts with the result"
    let_go(claimed)


def test_a_spool_that_survives_processes_only_asks_the_disk_for_nothing(tmp_path, monkeypatch):
    bench = Bench(tmp_path, durability="process")

    def fail(_fd):
        raise AssertionError("fsync")

    monkeypatch.setattr(os, "fsync", fail)
    claimed = bench.claim()
    bench.spool.file(claimed.record, claimed.lease, "done")
    again = bench.claim()
    bench.spool.put_back(again)


def test_a_record_with_something_in_it_is_not_removed(bench):
    claimed = bench.claim()
    with pytest.raises(OSError, match="not empty"):
        claiming.remove_unclaimed(claimed.path)
    assert os.path.exists(os.path.join(claimed.path, "spec.toml"))
    let_go(claimed)


@pytest.mark.parametrize("name", ["a.toml", "@here/a.toml"])
@pytest.mark.parametrize("end", ["requeue_held", "file_held"])
def test_a_drop_has_left_the_root_for_good_before_its_record_stops_running(tmp_path, monkeypatch, name, end):
    """Its claimer died before that, it was recovered, and then the power went: the spec was there twice."""
    bench = Bench(tmp_path, durability="power")
    claimed = bench.claim(name)
    events = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "rename", lambda source, target: (events.append(source), rename(source, target)))
    getattr(bench.spool, end)(claimed.record, *(["failed"] if end == "file_held" else []))
    left = os.path.dirname(os.path.join(bench.places.root, name))
    assert left in events[: events.index(claimed.path)]
    os.close(claimed.lease)
