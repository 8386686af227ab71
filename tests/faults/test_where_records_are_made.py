"""Who makes a nursery, who goes there, and on which spools nobody does: `nursery` itself is tested alone."""

from __future__ import annotations

import os

import pytest

from spooldadd import layout, mark, nursery
from tests.faults.bench import Bench
from tests.faults.steps import ONCE, go_on, run_attempt


@pytest.fixture
def slow(monkeypatch):
    """Every record is made slowly, on a file system that knows the mark."""
    monkeypatch.setattr(nursery, "IN_A_ROW", 0)
    monkeypatch.setattr(nursery, "MAKE_AT", 0)
    monkeypatch.setattr(nursery, "_spread", lambda path: None)


@pytest.fixture
def brought_up(monkeypatch):
    """The directories of records that came from a nursery."""
    found: list[str] = []
    rename = os.rename

    def watched(source, target, **where):
        if f"/{nursery.DIRECTORY}/" in str(source):
            found.append(str(target))
        rename(source, target, **where)

    monkeypatch.setattr(os, "rename", watched)
    return found


def top_of(bench: Bench):
    return bench.spool_path / layout.INTERNAL / nursery.DIRECTORY


@pytest.mark.parametrize(
    ("durability", "kind", "comes_from_it"),
    [
        ("process", mark.LOCAL, True),
        ("power", mark.LOCAL, False),
        ("process", mark.SHARED, False),
        ("process", mark.SYNCED, False),
    ],
)
def test_a_worker_uses_a_nursery_only_on_a_local_spool_that_survives_no_power_cut(
    slow, brought_up, durability, kind, comes_from_it
):
    bench = Bench(durability, kind)
    try:
        (top_of(bench) / "1").mkdir(parents=True)
        bench.drop(ONCE)
        claimed = bench.claim()
        assert brought_up == [claimed.path] * comes_from_it
        os.close(claimed.lease)
    finally:
        bench.close()


@pytest.mark.parametrize(("durability", "comes_from_it"), [("process", True), ("power", False)])
def test_a_supervisor_that_goes_on_uses_one_only_where_no_power_cut_is_survived(slow, durability, comes_from_it):
    bench = Bench(durability)
    seen = bench.root / "seen"
    try:
        bench.drop(ONCE)

        def step() -> None:
            go, before, rename = go_on(bench), os.rename, os.rename

            def watched(source, target):
                if f"/{nursery.DIRECTORY}/" in str(source):
                    seen.write_text(str(target))
                before(source, target)

            os.rename = watched
            try:
                go()
            finally:
                os.rename = rename

        assert bench.in_fork(step) == 0, bench.said()
        assert seen.exists() == comes_from_it, bench.said()
    finally:
        bench.close()


def test_a_supervisor_makes_a_nursery_when_a_job_has_ended(slow):
    bench = Bench("process")
    try:
        bench.drop(ONCE)
        assert bench.in_fork(lambda: run_attempt(bench)()) == 0, bench.said()
        assert [path.name for path in top_of(bench).iterdir()] == ["1"]
        assert not bench.problems(), bench.said()
    finally:
        bench.close()
