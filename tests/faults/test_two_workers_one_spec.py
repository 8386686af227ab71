"""Promise 3: of several workers that want one spec, one gets it, whatever the rename answers."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from spooldadd import names
from spooldadd.errors import ClaimLost, SpoolError
from tests.faults.bench import Bench
from tests.faults.faulty import Faults
from tests.faults.steps import AGAIN, ONCE, _run_once, run_attempt
from tests.support import Node, until

SPECS = 150


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


def test_three_workers_run_each_of_many_specs_once(node: Node, tmp_path: Path):
    lines = tmp_path / "lines"
    for _ in range(3):
        node.start("--jobs", "4")
    for number in range(SPECS):
        node.drop(f"job-{number}.toml", f"""command = "echo job-{number} >> '{lines}'"\n""")
    until(lambda: len(node.records("done")) + len(node.records("failed")) >= SPECS, "all are filed")
    assert sorted(lines.read_text().split()) == sorted(f"job-{number}" for number in range(SPECS))
    assert len(node.records("done")) == SPECS


def lying_rename(*, does_it: bool, code: int) -> Callable[[str, str], None]:
    """A network file system's: the answer says nothing about what was done."""
    real = os.rename

    def rename(source: str, target: str) -> None:
        if does_it and ".tmp-" not in source:
            real(source, target)
        elif ".tmp-" in source:
            real(source, target)
            return
        raise OSError(code, os.strerror(code), source, None, target)

    return rename


def in_fork_with_rename(bench: Bench, rename: Callable[[str, str], None], step: Callable[[], object]) -> int:
    def doomed() -> None:
        os.rename = rename
        step()

    return os.waitstatus_to_exitcode(bench.in_fork(doomed))


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EIO, errno.ESTALE])
def test_a_claim_whose_rename_was_done_is_ours_whatever_the_answer(bench: Bench, code: int):
    bench.drop(ONCE)
    entry, launching = bench.entry(), bench.launching()
    assert in_fork_with_rename(bench, lying_rename(does_it=True, code=code), lambda: launching.claim(entry)) == 0
    (record,) = os.listdir(bench.spool_path / "running")
    assert names.parse_record_name(record)
    bench.recover()
    assert bench.drain() == 0
    assert bench.problems() == []


def test_a_claim_whose_rename_was_not_done_is_somebody_elses(bench: Bench):
    bench.drop(ONCE)
    entry, launching = bench.entry(), bench.launching()

    def claim() -> None:
        with pytest.raises(ClaimLost):
            launching.claim(entry)

    assert in_fork_with_rename(bench, lying_rename(does_it=False, code=errno.ENOENT), claim) == 0
    assert os.listdir(bench.spool_path / "running") == []
    assert os.listdir(bench.spool_path / ".spool" / "locks") == []


def test_a_claim_whose_rename_failed_leaves_the_spec_where_it_is(bench: Bench):
    bench.drop(ONCE)
    entry, launching = bench.entry(), bench.launching()

    def claim() -> None:
        with pytest.raises(SpoolError):
            launching.claim(entry)

    assert in_fork_with_rename(bench, lying_rename(does_it=False, code=errno.EIO), claim) == 0
    assert (bench.spool_path / "one.toml").exists()
    assert os.listdir(bench.spool_path / "running") == []


def test_a_record_whose_filing_was_done_is_filed_whatever_the_answer(bench: Bench):
    """NFS was seen to answer ENOENT for a rename that had happened: the supervisor called its own record somebody else's."""

    bench.drop(ONCE)

    def run() -> None:
        step = run_attempt(bench)
        os.rename = lying_rename(does_it=True, code=errno.ENOENT)
        step()

    assert bench.in_fork(run) == 0
    assert bench.problems() == []
    assert "event=filed" in bench.said()
    assert "claim-lost" not in bench.said()


def test_a_record_that_had_another_attempt_meanwhile_is_not_run_under_its_number(bench: Bench):
    """A claimer that sleeps between its look and its rename held a number that had been used, and overwrote its result."""
    bench.drop(AGAIN.replace("-ge 2", "-ge 3"))
    _run_once(bench)
    entry, launching = bench.waiting_entry(), bench.launching()

    def claim_late() -> None:
        real, other = os.rename, bench.launching()

        def rename(source: str, target: str) -> None:
            os.rename = real
            bench.in_fork(lambda: _attempt(bench, other))
            real(source, target)

        os.rename = rename
        with pytest.raises(ClaimLost):
            launching.claim(entry)

    assert os.waitstatus_to_exitcode(bench.in_fork(claim_late)) == 0, bench.said()
    assert bench.attempts_run() == [1, 2]
    assert bench.drain() == 0
    assert bench.attempts_run() == [1, 2, 3]
    assert bench.problems() == []


def _attempt(bench: Bench, launching) -> None:
    from tests.faults.steps import _serve

    entry = bench.waiting_entry()
    claimed = launching.claim(entry)
    _serve(bench, launching.plan(claimed, entry), claimed.lease)()


def test_a_new_lock_that_was_removed_as_stale_is_no_lease(bench: Bench):
    """Between making a lock file and locking it, another worker's recovery took it for stale: the lease led nowhere."""
    import fcntl

    bench.drop(ONCE)
    entry, launching, other = bench.entry(), bench.launching(), bench.context()

    def claim() -> None:
        from spooldadd import recovery

        real = fcntl.flock

        def flock(fd: int, operation: int) -> None:
            fcntl.flock = real
            assert recovery.remove_stale_locks(other) == 1
            real(fd, operation)

        fcntl.flock = flock
        with pytest.raises(SpoolError):
            launching.claim(entry)

    assert os.waitstatus_to_exitcode(bench.in_fork(claim)) == 0, bench.said()
    assert (bench.spool_path / "one.toml").exists()
    assert os.listdir(bench.spool_path / "running") == []
    assert os.listdir(bench.spool_path / ".spool" / "locks") == []


@pytest.mark.parametrize("at", range(1, 12))
def test_a_spec_that_was_put_back_by_a_worker_that_died_runs_once_though_another_takes_it_first(bench: Bench, at: int):
    """Linked back and not yet unlinked, it lay in two places: another worker ran the one, recovery the other."""
    bench.drop(ONCE)

    def die() -> None:
        launching = bench.launching()
        claimed = launching.claim(bench.entry())
        Faults(at).arm()
        launching.put_back(claimed, "a test wants it")

    bench.in_fork(die)
    if (bench.spool_path / "one.toml").exists():
        bench.in_fork(lambda: run_attempt(bench)())
    bench.recover()
    assert bench.drain() == 0
    assert bench.problems() == []
    assert bench.attempts_run() == [1]


def test_a_spec_is_put_back_beside_what_was_dropped_meanwhile(bench: Bench):
    bench.drop(ONCE)
    launching = bench.launching()
    claimed = launching.claim(bench.entry())
    (bench.spool_path / "one.toml").write_text("command = 'true'\n")
    launching.put_back(claimed, "a test wants it")
    assert (bench.spool_path / "one.toml").read_text() == "command = 'true'\n"
    assert os.listdir(bench.spool_path / "waiting") == [claimed.job]
