"""A node that takes over a lost one's record dies at each of its steps, or a call fails once: one result is left."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from spooldadd import lifecycle, mark, recovery, spool
from spooldadd.claim import Holder
from spooldadd.log import Log
from spooldadd.takeover import Lost
from spooldadd.tomltext import flat
from tests.faults import sweeping
from tests.faults.bench import DEAD_PID, LINE, Bench
from tests.faults.faulty import KILL, Faults

pytestmark = pytest.mark.slow

ONCE = f"""command = '{LINE}'\n"""
AGAIN = f"""command = '{LINE}'\nrestartable = true\n"""


class Shared(Bench):
    """A spool on which the node `there` has claimed a job and is gone; this one is `here`."""

    def __init__(self, text: str, *, is_started: bool) -> None:
        super().__init__()
        text_of_mark = (self.spool_path / ".spool" / "format.toml").read_text()
        (self.spool_path / ".spool" / "format.toml").write_text(text_of_mark.replace('"local"', f'"{mark.SHARED}"'))
        self.drop(text)
        seen_there = spool.open_spool(str(self.spool_path), Holder("there", "another-boot", DEAD_PID, 1))
        claimed = seen_there.claim_drop("one.toml", "one", "default")
        if is_started:
            os.write(claimed.lease, f"\n{flat({'supervisor_pid': DEAD_PID, 'supervisor_start': 1})}".encode())
        os.close(claimed.lease)

    def take_over(self) -> None:
        context = replace(self.launching().recovery, lost=lambda node: Lost(node, f"`{node}` is dead"))
        recovery.recover_all(context)
        recovery.remove_stale_locks(context)

    def found(self) -> dict[str, list[str]]:
        places = {state: sorted(os.listdir(self.spool_path / state)) for state in ("running", "waiting", "done", "failed")}
        return places | {"locks": os.listdir(self.spool_path / ".spool" / "locks")}


def strikes(text: str, error: int, *, is_started: bool) -> Iterator[tuple[Shared, str]]:
    for at in range(1, sweeping.MOST):
        bench = Shared(text, is_started=is_started)
        try:
            call, _status = sweeping._strike(bench, lambda bench=bench: bench.take_over, Faults(at, error))
            bench.in_fork(bench.take_over)
            if not call:
                assert at > 5, "no call was struck"
                return
            yield bench, call
        finally:
            bench.close()


CASES = [
    pytest.param(ONCE, True, "failed", id="lost"),
    pytest.param(AGAIN, True, "waiting", id="lost-and-restartable"),
    pytest.param(ONCE, False, "waiting", id="never-started"),
]


@pytest.mark.parametrize("error", [KILL, errno.EIO], ids=["killed", "failed"])
@pytest.mark.parametrize(("text", "is_started", "state"), CASES)
def test_one_record_is_left_where_it_belongs(text: str, state: str, error: int, is_started: bool) -> None:
    for bench, call in strikes(text, error, is_started=is_started):
        found = bench.found()
        assert len(found.pop(state)) == 1, (call, found, bench.said())
        assert not any(found.values()), (call, found, bench.said())


def test_the_late_supervisor_can_file_nothing_after_the_first_step() -> None:
    bench = Shared(ONCE, is_started=True)
    try:
        (record,) = os.listdir(bench.spool_path / "running")
        bench.take_over()
        late = spool.open_spool(str(bench.spool_path), Holder("there", "another-boot", DEAD_PID, 1))
        with pytest.raises(recovery.ClaimLost):
            late.file_held(record, lifecycle.DONE)
        assert not os.listdir(bench.spool_path / "done")
        assert len(os.listdir(bench.spool_path / "failed")) == 1
    finally:
        bench.close()
    assert isinstance(bench.log, Log)
