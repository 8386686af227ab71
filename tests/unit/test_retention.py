"""Which finished records go, in which order, and what keeps them."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from spooldadd import layout, mark, retention
from spooldadd.layout import DONE, FAILED, Layout
from spooldadd.retention import Ages, Bounds, Busy, Guards, Pruner, Tally, Telling
from spooldadd.tomltext import flat

NOW = datetime.datetime(2026, 11, 21, 12, 0, 0, tzinfo=datetime.UTC)
DAY = 86400.0


class Bench:
    def __init__(self, root: Path) -> None:
        mark.create(str(root), durability="process")
        self.places = Layout(str(root))
        self.root = root

    def record(
        self, state: str, name: str, days: float, *, queue: str = "default", run_days: float = 0.0, size: int = 10
    ) -> str:
        """A record of a job that was submitted so many days ago, and ended `run_days` later."""
        submitted = NOW - datetime.timedelta(days=days)
        ended = submitted + datetime.timedelta(days=run_days)
        job = f"{name}.{submitted:%Y%m%dT%H%M%SZ}.bcdfg"
        path = self.root / state / job
        path.mkdir()
        table = {"schema": 1, "job": job, "queue": queue, "state": state, "attempt": 1, "finished_at": ended}
        (path / layout.RESULT).write_text(flat(table))
        (path / layout.OUTPUT_LOG).write_bytes(b"x" * size)
        return job

    def prune(self, bounds: Bounds, guards: Guards | None = None, **options) -> Tally:
        pruner = Pruner(self.places, bounds, guards or Guards(), sync=False, now_s=NOW.timestamp())
        return pruner.run(options.pop("telling", Telling()), **options)

    def left(self, state: str) -> list[str]:
        return sorted(name.split(".")[0] for name in os.listdir(self.root / state))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "spool")


def test_without_bounds_nothing_ever_goes(bench: Bench):
    bench.record(DONE, "old", 4000)
    assert bench.prune(Bounds()).removed == 0
    assert bench.left(DONE) == ["old"]


def test_records_go_by_the_time_of_their_end_failed_ones_by_a_bound_of_their_own(bench: Bench):
    bench.record(DONE, "old", 31)
    bench.record(DONE, "young", 29)
    bench.record(FAILED, "old", 31)
    bench.record(FAILED, "older", 91)
    tally = bench.prune(Bounds(Ages(30 * DAY, 90 * DAY)))
    assert (bench.left(DONE), bench.left(FAILED)) == (["young"], ["old"])
    assert (tally.removed, tally.freed_bytes > 20) == (2, True)


def test_a_job_that_was_submitted_long_ago_and_ended_yesterday_stays(bench: Bench):
    bench.record(DONE, "long", 100, run_days=99)
    assert bench.prune(Bounds(Ages(30 * DAY))).removed == 0


def test_of_each_state_the_newest_stay(bench: Bench):
    for number in range(5):
        bench.record(DONE, f"d{number}", number)
        bench.record(FAILED, f"f{number}", number)
    bench.prune(Bounds(done_count=2, failed_count=4))
    assert (bench.left(DONE), bench.left(FAILED)) == (["d0", "d1"], ["f0", "f1", "f2", "f3"])


def test_above_the_size_the_oldest_go_successful_ones_first(bench: Bench):
    for number in range(3):
        bench.record(DONE, f"d{number}", number, size=1000)
        bench.record(FAILED, f"f{number}", 10 + number, size=1000)
    bench.prune(Bounds(size_bytes=5000))
    assert (bench.left(DONE), bench.left(FAILED)) == (["d0"], ["f0", "f1", "f2"])
    bench.prune(Bounds(size_bytes=2500))
    assert (bench.left(DONE), bench.left(FAILED)) == ([], ["f0"]) or bench.left(FAILED) == ["f0", "f1"]


def test_a_queue_has_bounds_of_its_own(bench: Bench):
    bench.record(DONE, "etl", 10, queue="etl")
    bench.record(DONE, "other", 10)
    bench.prune(Bounds(Ages(30 * DAY), queues={"etl": Ages(7 * DAY)}))
    assert bench.left(DONE) == ["other"]
    bench.prune(Bounds(Ages(7 * DAY), queues={"default": Ages(365 * DAY)}))
    assert bench.left(DONE) == ["other"]


def test_only_records_of_the_queue_that_was_named_are_counted_and_go(bench: Bench):
    for number in range(3):
        bench.record(DONE, f"e{number}", number, queue="etl")
        bench.record(DONE, f"o{number}", number)
    bench.prune(Bounds(done_count=1, only_queue="etl"))
    assert bench.left(DONE) == ["e0", "o0", "o1", "o2"]


def test_what_is_held_untold_or_not_uploaded_stays_whatever_the_bound(bench: Bench):
    held, told, sent = (bench.record(FAILED, name, 100) for name in ("held", "told", "sent"))
    letter, free = bench.record(FAILED, "letter", 100), bench.record(FAILED, "free", 100)
    (bench.root / FAILED / held / layout.HOLD).touch()
    word = Path(bench.places.notify, "here", f"{told}.1.hjkmn")
    word.parent.mkdir(parents=True)
    word.touch()
    guards = Guards(lambda: frozenset([letter]), lambda path, _state: path.endswith(sent))
    for bounds in (Bounds(Ages(failed_s=0.0)), Bounds(failed_count=0), Bounds(size_bytes=1)):
        bench.prune(bounds, guards)
        assert bench.left(FAILED) == ["held", "letter", "sent", "told"]
    assert free
    tally = bench.prune(Bounds(failed_count=0), guards)
    assert tally.kept == {"held": 1, "mail-unsent": 2, "not-uploaded": 1}


def test_a_dry_run_says_the_same_and_changes_nothing(bench: Bench):
    for number in range(4):
        bench.record(DONE, f"d{number}", number)
    said: list[str] = []
    tally = bench.prune(Bounds(done_count=1), telling=Telling(lambda _state, name: said.append(name)), is_dry=True)
    assert (tally.removed, len(said), len(bench.left(DONE))) == (3, 3, 4)
    assert bench.prune(Bounds(done_count=1)).freed_bytes == tally.freed_bytes


@pytest.mark.parametrize("bounds", [Bounds(done_count=2), Bounds(size_bytes=2500)])
def test_a_dry_run_of_many_batches_says_the_same(bench: Bench, bounds: Bounds, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retention, "BATCH", 1)
    six(bench)
    bench.record(FAILED, "failed", 1)
    assert bench.prune(bounds, is_dry=True) == bench.prune(bounds)
    assert bench.left(DONE) == ["d0", "d1"]


def test_many_batches_go_on_where_the_last_one_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retention, "BATCH", 3)
    for number in range(10):
        job = bench.record(DONE, f"d{number}", number + 40)
        if number % 2:
            (bench.root / DONE / job / layout.HOLD).touch()
    tally = bench.prune(Bounds(Ages(30 * DAY)))
    assert (tally.removed, tally.looked, tally.kept["held"]) == (5, 10, 5)


def test_a_record_that_ran_again_between_look_and_rename_goes_back(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    job = bench.record(FAILED, "again", 100)
    real = os.rename

    def rename(source: str, target: str) -> None:
        if source.endswith(job):  # somebody tried it again, and it has just failed anew
            table = {"schema": 1, "job": job, "attempt": 2, "finished_at": NOW}
            fresh = Path(source, "fresh")
            fresh.write_text(flat(table))
            real(fresh, Path(source, layout.RESULT))
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    tally = bench.prune(Bounds(Ages(failed_s=30 * DAY)))
    assert (bench.left(FAILED), tally.removed, tally.kept["changed"]) == (["again"], 0, 1)
    assert not os.listdir(retention.trash_of(bench.places))


# Two that pruned at once took one record too many: the second had counted before the first removed, and listed after it.
# Without any second pruner, so did one during whose walk a failed job was tried again.


TWO_STAY = pytest.mark.parametrize(
    "bounds", [Bounds(done_count=2), Bounds(done_count=2, only_queue="default"), Bounds(size_bytes=2500)]
)


def six(bench: Bench) -> None:
    for number in range(6):
        bench.record(DONE, f"d{number}", number, size=1000)


def once(action: Callable[[], object]) -> Callable[[], None]:
    """What happens at the first call only."""
    left = [action]
    return lambda: left.pop()() and None if left else None


@TWO_STAY
def test_what_another_prunes_between_listing_and_look_is_no_reason_to_take_a_younger_one(bench: Bench, bounds: Bounds):
    six(bench)
    other = once(lambda: bench.prune(bounds))
    bench.prune(bounds, Guards(outbox_jobs=lambda: other() or frozenset()))
    assert bench.left(DONE) == ["d0", "d1"]


@TWO_STAY
def test_what_another_prunes_between_two_listings_is_no_reason_to_take_a_younger_one(
    bench: Bench, bounds: Bounds, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retention, "BATCH", 2)
    six(bench)
    other = once(lambda: bench.prune(bounds))
    bench.prune(bounds, telling=Telling(progress=lambda _tally: other()))
    assert bench.left(DONE) == ["d0", "d1"]


@TWO_STAY
def test_a_record_that_runs_again_during_the_walk_makes_no_younger_one_go(bench: Bench, bounds: Bounds):
    six(bench)
    [oldest] = [name for name in os.listdir(bench.root / DONE) if name.startswith("d5.")]
    again = once(lambda: (bench.root / DONE / oldest).rename(bench.root / "waiting" / oldest))
    bench.prune(bounds, Guards(outbox_jobs=lambda: again() or frozenset()))
    assert bench.left(DONE)[:2] == ["d0", "d1"]
    bench.prune(bounds)
    assert bench.left(DONE) == ["d0", "d1"]


def test_a_file_with_a_jobs_name_is_not_taken_for_a_record_that_is_gone(bench: Bench):
    six(bench)
    (bench.root / DONE / "file.20200101T000000Z.bcdfg").write_text("a file")
    for bounds in (Bounds(size_bytes=3500), Bounds(done_count=2, only_queue="default")):
        bench.prune(bounds)
    assert bench.left(DONE) == ["d0", "d1", "file"]


# Another that prunes, where locks keep nobody out, begins with the trash. It emptied what the first had not looked at again:
# that one ended with an error, or put back the half of a record, and one that was held by then was gone.


@pytest.mark.parametrize("is_held", [False, True])
def test_what_lies_in_the_trash_and_was_not_looked_at_again_is_put_back_by_another_that_prunes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_held: bool
):
    job = bench.record(DONE, "one", 100)
    real = os.rename
    other = once(lambda: bench.prune(Bounds()))

    def rename(source: str, target: str) -> None:
        real(source, target)
        if source.endswith(job):
            if is_held:
                Path(target, layout.HOLD).touch()
            other()

    monkeypatch.setattr(os, "rename", rename)
    told: list[str] = []
    tally = bench.prune(Bounds(Ages(0.0)), telling=Telling(lambda _state, name: told.append(name)))
    assert (bench.left(DONE), tally.removed, told) == (["one"], 0, [])
    assert (bench.root / DONE / job / layout.OUTPUT_LOG).read_bytes() == b"x" * 10
    assert bench.prune(Bounds(Ages(0.0))).removed == (0 if is_held else 1)


def test_what_another_removes_from_the_trash_is_told_once_and_no_trouble(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    job = bench.record(DONE, "one", 100)
    real = os.rename
    other = once(lambda: bench.prune(Bounds()))

    def rename(source: str, target: str) -> None:
        real(source, target)
        if f"{job}." in os.path.basename(source):
            other()

    monkeypatch.setattr(os, "rename", rename)
    told: list[str] = []
    tally = bench.prune(Bounds(Ages(0.0)), telling=Telling(lambda _state, name: told.append(name)))
    assert (bench.left(DONE), tally.removed, told, tally.kept) == ([], 1, [job], {})
    assert not retention.has_trash(bench.places)


def test_a_record_in_the_trash_whose_name_is_taken_again_stays_there(bench: Bench):
    job = bench.record(DONE, "one", 100)
    unseen = Path(retention.trash_of(bench.places), f"{job}.hjkmn.{DONE}")
    unseen.mkdir(parents=True)
    (unseen / layout.OUTPUT_LOG).write_text("x")
    assert bench.prune(Bounds()).kept == {"in-trouble": 1}
    assert (unseen.exists(), bench.left(DONE)) == (True, ["one"])


def test_what_one_who_died_left_in_the_trash_is_removed(bench: Bench):
    left = Path(retention.trash_of(bench.places), "one.20261001T000000Z.bcdfg.hjkmn")
    (left / "attempts" / "1").mkdir(parents=True)
    (left / "attempts" / "1" / "output.log").write_text("x")
    assert retention.has_trash(bench.places)
    bench.prune(Bounds())
    assert not retention.has_trash(bench.places)


def test_names_that_are_no_records_are_left_alone(bench: Bench):
    (bench.root / DONE / "notes.txt").write_text("mine")
    (bench.root / DONE / "backup.20200101T000000Z").mkdir()
    (bench.root / DONE / "file.20200101T000000Z.bcdfg").write_text("a file with a job's name")
    bench.prune(Bounds(Ages(0.0, 0.0), done_count=0, failed_count=0))
    assert len(os.listdir(bench.root / DONE)) == 3


def test_a_record_without_a_readable_end_counts_from_its_last_change(bench: Bench):
    job = bench.record(DONE, "broken", 100)
    (bench.root / DONE / job / layout.RESULT).write_text("half = ")
    assert bench.prune(Bounds(Ages(30 * DAY))).removed == 0
    assert bench.prune(Bounds(done_count=0)).removed == 1


def test_only_one_prunes_a_spool_at_a_time(bench: Bench):
    with (
        retention.alone(bench.places, "`one`"),
        pytest.raises(Busy, match="`one` prunes"),
        retention.alone(bench.places, "two"),
    ):
        pass
    with retention.alone(bench.places, "three"):
        pass
