"""`prune` is killed, or fails, at each of its calls; two of them work on one spool at once, locks or no locks."""

from __future__ import annotations

import datetime
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spooldadd import layout, retention
from spooldadd.retention import Bounds, Guards, Pruner, Telling
from spooldadd.tomltext import flat
from tests.faults import sweeping
from tests.faults.bench import Bench
from tests.faults.faulty import KILL, Faults

# With an end: without, its age counts from the last change of the directory, and one that is put back was changed just now.
RESULT = flat({"attempt": 1, "finished_at": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)})
FILES = {layout.SPEC: "command = 'true'\n", layout.OUTPUT_LOG: "some output\n", layout.RESULT: RESULT}


def fill(bench: Bench, count: int = 3) -> None:
    for number in range(count):
        path = bench.spool_path / "failed" / f"j{number}.20260101T00000{number}Z.bcdfg"
        (path / "attempts" / "1").mkdir(parents=True)
        for name, text in FILES.items():
            (path / name).write_text(text)
            (path / "attempts" / "1" / name).write_text(text)


def prune(bench: Bench, keep: int = 1) -> None:
    the_spool = bench.open()
    Pruner(the_spool.places, Bounds(failed_count=keep), Guards(), sync=True).run(Telling())


def problems(bench: Bench) -> list[str]:
    """Whatever stands in `failed/` is whole, and the newest is there."""
    found = []
    left = sorted((bench.spool_path / "failed").iterdir())
    for path in left:
        for place in (path, path / "attempts" / "1"):
            found += [f"{place} is not whole" for name, text in FILES.items() if (place / name).read_text() != text]
    return found + ([] if left and left[-1].name.startswith("j2.") else ["the newest record is gone"])


def strikes(error: int) -> Iterator[tuple[Bench, str]]:
    for at in range(1, sweeping.MOST):
        bench = Bench()
        try:
            fill(bench)
            call, _status = sweeping._strike(bench, lambda bench=bench: lambda: prune(bench), Faults(at, error))
            if not call:
                assert at > 1, "no call was struck"
                return
            yield bench, call
        finally:
            bench.close()


@pytest.mark.parametrize("error", [KILL, errno.EIO, errno.ENOSPC], ids=["killed", "EIO", "ENOSPC"])
def test_a_prune_that_is_stopped_at_any_call_leaves_whole_records_and_the_next_one_ends_it(error: int) -> None:
    for bench, call in strikes(error):
        assert problems(bench) == [], call
        prune(bench)
        assert problems(bench) == [], call
        assert len(os.listdir(bench.spool_path / "failed")) == 1, call
        assert not retention.has_trash(bench.open().places), call


@pytest.mark.parametrize("count", [40])
def test_two_that_prune_at_once_remove_each_record_once_and_no_more_than_they_may(count: int) -> None:
    """Without the lock, as where a network file system's locks keep nobody out."""
    bench = Bench()
    try:
        fill(bench, 3)
        for number in range(count):
            path = bench.spool_path / "done" / f"d{number}.20260101T0000{number:02}Z.bcdfg"
            path.mkdir()
            (path / layout.RESULT).write_text(FILES[layout.RESULT])

        def run(place: Path) -> Callable[[], None]:
            gone: list[str] = []

            def step() -> None:
                the_spool = bench.open()
                telling = Telling(lambda _state, name: gone.append(name))
                bounds = Bounds(retention.Ages(done_s=0.0), failed_count=1)
                Pruner(the_spool.places, bounds, Guards(), sync=False).run(telling)
                place.write_text("\n".join(gone))

            return step

        lists = [bench.root / "first", bench.root / "second"]
        pids = []
        for place in lists:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    run(place)()
                    code = 0
                finally:
                    os._exit(code)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
        removed = [name for place in lists for name in place.read_text().split()]
        assert len(removed) == len(set(removed)) == count + 2
        assert problems(bench) == []
    finally:
        bench.close()
