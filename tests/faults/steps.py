"""The steps of a job's life, each as a scene: what is there before, the step itself, and what may come of it."""

from __future__ import annotations

import marshal
import os
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from spooldadd import filing, layout, lifecycle, mark, nursery, offering, record, supervisor
from spooldadd.ahead import plan_ahead
from spooldadd.attempt import Attempt
from spooldadd.channel import hand_over, offer
from spooldadd.launching import Refused
from spooldadd.offered import Held, Offered
from spooldadd.plan import to_wire
from spooldadd.spares import Spares
from spooldadd.tomltext import flat
from tests.faults.bench import DEAD_PID, LINE, Bench

ONCE = f"""command = '{LINE}'\n"""
FAILS = f"""command = '{LINE}; echo partial > kept.txt; exit 3'\n[keep]\nfiles = ["kept.txt"]\n"""
AGAIN = f"""command = '{LINE}; test "$SPOOLDADD_ATTEMPT" -ge 2'\n[retry]\nattempts = 3\nbackoff = "10ms"\n"""
RESTARTABLE = f"""command = '{LINE}'\nrestartable = true\n[config]\nkey = "value"\n"""
NEEDS_GPU = f"""command = '{LINE}; test "$SPOOLDADD_GPUS" = 0'\n[place]\nrequires = {{ gpus = 1 }}\n"""
BEFORE = """command = ["true"]\n"""
INVALID = """command = ["true"]\ncomand = 1\n"""

SUCCESS, LOST, EXIT, INVALID_OUTCOME = lifecycle.SUCCESS, lifecycle.LOST, lifecycle.EXIT, lifecycle.INVALID


@dataclass(frozen=True)
class Scene:
    """`before` makes the state; `begin` runs unharmed in the doomed process and returns the step."""

    name: str
    spec: str
    begin: Callable[[Bench], Callable[[], object]]
    outcomes: frozenset[str]
    before: Callable[[Bench], object] = field(default=lambda bench: None)
    runs: frozenset[int] = frozenset({1})  # how often the job may have run in the end
    key: str = "one.toml"  # where it is dropped
    kind: str = mark.LOCAL
    durability: str = "power"

    def problems(self, bench: Bench) -> list[str]:
        """What is wrong when all is over."""
        found = bench.problems()
        finished = [*(bench.spool_path / "done").iterdir(), *(bench.spool_path / "failed").iterdir()]
        if not found:
            outcome = (record.read_table(str(finished[0] / "result.toml")) or {})["outcome"]
            if outcome not in self.outcomes:
                found.append(f"the outcome is {outcome}")
            count = len(bench.attempts_run())
            if count not in self.runs and not (count == 0 and outcome == LOST):
                found.append(f"it ran {count} times")
        return found


def run_attempt(bench: Bench) -> Callable[[], object]:
    """The supervisor's whole duty, with a claimed job in its hands."""
    launching = bench.launching()
    entry = bench.entry()
    claimed = launching.claim(entry)
    return _serve(bench, launching.plan(claimed, entry), claimed.lease)


def _serve(bench: Bench, plan, lease: int) -> Callable[[], object]:
    os.environ["LINES"] = str(bench.lines_path)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    hand_over(ours, to_wire(plan), lease)
    os.close(lease)
    ours.shutdown(socket.SHUT_WR)
    return lambda: supervisor.serve(theirs, bench.log)


def go_on(bench: Bench, *, is_whole: bool = False) -> Callable[[], object]:
    """What a supervisor does that has filed an attempt and was offered a job; `is_whole`: with that attempt, which stays."""
    os.environ["LINES"] = str(bench.lines_path)
    (bench.spool_path / "before.toml").write_text(BEFORE)
    launching, entry = bench.launching(), bench.entry("before.toml")
    claimed = launching.claim(entry)
    plan, own_start, spares = launching.plan(claimed, entry), supervisor.begin(), Spares()
    before = Attempt(plan, Held(claimed.lease, plan.record), bench.log, own_start, spares)
    if not is_whole:
        before.run()
        (filed,) = (bench.spool_path / "done").iterdir()
        shutil.rmtree(filed)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ahead = plan_ahead(bench.open(), bench.config, launching, bench.entry())
    assert ahead is not None
    said = offering.message(bench.open(), time.monotonic() + 60.0, [(bench.key, ahead)])
    assert offer(ours, marshal.dumps(said))

    def take() -> None:
        if is_whole:
            before.run()
        offered = Offered(theirs)
        if offered.nursery.is_slow:
            offered.nursery.look(before.places)
        following = before.go_on(offered)
        ours.close()
        if following is not None:
            attempt = Attempt(following, before.held, bench.log, own_start, spares)
            attempt.run()
            attempt.go_on(offered)
        spares.drop()

    return take


def _claim(bench: Bench) -> Callable[[], object]:
    launching, entry = bench.launching(), bench.entry()
    return lambda: launching.plan(launching.claim(entry), entry)


def _in_a_nursery(begin: Callable[[Bench], Callable[[], object]]) -> Callable[[Bench], Callable[[], object]]:
    """Do as on a disk on which records are made slowly in place."""

    def begin_there(bench: Bench) -> Callable[[], object]:
        nursery.IN_A_ROW, nursery.MAKE_AT, nursery._spread = 0, 0, lambda path: None
        return begin(bench)

    return begin_there


def _claim_waiting(bench: Bench) -> Callable[[], object]:
    launching, entry = bench.launching(), bench.waiting_entry()
    return lambda: launching.plan(launching.claim(entry), entry)


def _run_once(bench: Bench) -> None:
    """Leave the record of a failed first attempt in `waiting/`."""
    bench.in_fork(lambda: run_attempt(bench)())


def _refuse(bench: Bench) -> Callable[[], object]:
    launching, entry = bench.launching(), bench.entry()

    def refuse() -> None:
        claimed = launching.claim(entry)
        try:
            launching.plan(claimed, entry)
        except Refused as refused:
            launching.refuse(claimed, refused)

    return refuse


def _put_back(bench: Bench) -> Callable[[], object]:
    launching = bench.launching()
    claimed = launching.claim(bench.entry())
    return lambda: launching.put_back(claimed, "a test wants it")


def _requeue(bench: Bench) -> Callable[[], object]:
    launching = bench.launching()
    claimed = launching.claim(bench.entry())
    return lambda: launching._spool.requeue(claimed.record, claimed.lease)


def _recover(bench: Bench) -> Callable[[], object]:
    return bench.recover


# -- what a crash leaves


def _leave_nursery(bench: Bench) -> None:
    (bench.spool_path / layout.INTERNAL / nursery.DIRECTORY / "1").mkdir(parents=True)


def _leave_old_nursery(bench: Bench) -> None:
    """One in which nothing is made any more, and something is left."""
    old = bench.spool_path / layout.INTERNAL / nursery.DIRECTORY / "1"
    (old / "left.1.abcde").mkdir(parents=True)
    old.chmod(0o2755)


def _leave_claimed(bench: Bench) -> None:
    bench.in_fork(bench.claim)


def _leave_unclaimed(bench: Bench) -> None:
    """The claimer died between making the record and renaming the spec into it."""
    name = "one.20261121T101500Z.bcdfg.1.hjkmn"
    lock, path = bench.spool_path / ".spool" / "locks" / f"{name}.lock", bench.spool_path / "running" / name
    lock.touch()
    path.mkdir()
    record.write_claim(str(path), {"job": name[:-8], "attempt": 1, "node": "here"}, sync=False)
    (path / ".tmp-77-claim.toml").write_text("half")


def _leave_dead(bench: Bench) -> None:
    """A supervisor took the job, and is dead with it."""

    def die() -> None:
        os.write(bench.claim().lease, flat({"supervisor_pid": DEAD_PID, "supervisor_start": 1}).encode())

    bench.in_fork(die)


def _leave_result(bench: Bench) -> None:
    """The job ended and the result was written, then the supervisor died."""

    def finish() -> None:
        step = run_attempt(bench)
        filing.file_record = lambda *_, **__: os._exit(0)
        step()

    bench.in_fork(finish)


def _leave_half_rotated(bench: Bench) -> None:
    """A second attempt's claimer died while it put the first one's files aside."""
    _run_once(bench)

    def die() -> None:
        entry = bench.waiting_entry()
        real, count = os.rename, [0]

        def rename(source: str, target: str) -> None:
            count[0] += 1
            if count[0] == 3:
                os._exit(0)
            real(source, target)

        os.rename = rename
        bench.launching().claim(entry)

    bench.in_fork(die)


ONLY_SUCCESS = frozenset({SUCCESS})
IN_INBOX = "@here/one.toml"
SCENES = [
    Scene("claim", ONCE, _claim, ONLY_SUCCESS),
    Scene("claim-for-a-second-attempt", AGAIN, _claim_waiting, ONLY_SUCCESS, _run_once, frozenset({2})),
    Scene("run-and-file-a-success", ONCE, run_attempt, frozenset({SUCCESS, LOST})),
    Scene("run-and-file-a-failure", FAILS, run_attempt, frozenset({EXIT, LOST})),
    Scene("run-and-file-for-a-retry", AGAIN, run_attempt, frozenset({SUCCESS, LOST}), runs=frozenset({1, 2})),
    Scene("run-what-may-run-again", RESTARTABLE, run_attempt, ONLY_SUCCESS, runs=frozenset({1, 2})),
    Scene("go-on-with-what-was-offered", ONCE, go_on, frozenset({SUCCESS, LOST})),
    Scene("go-on-with-what-may-run-again", RESTARTABLE, go_on, ONLY_SUCCESS, runs=frozenset({1, 2})),
    Scene("a-claim-in-a-nursery", ONCE, _in_a_nursery(_claim), ONLY_SUCCESS, _leave_nursery, durability="process"),
    Scene("go-on-in-a-nursery", ONCE, _in_a_nursery(go_on), frozenset({SUCCESS, LOST}), durability="process"),
    Scene(
        "go-on-in-the-next-nursery",
        ONCE,
        _in_a_nursery(go_on),
        frozenset({SUCCESS, LOST}),
        _leave_old_nursery,
        durability="process",
    ),
    Scene("refuse", INVALID, _refuse, frozenset({INVALID_OUTCOME}), runs=frozenset({0})),
    Scene("put-back", ONCE, _put_back, ONLY_SUCCESS),
    Scene("claim-from-an-inbox", ONCE, _claim, ONLY_SUCCESS, key=IN_INBOX),
    Scene("put-back-into-an-inbox", ONCE, _put_back, ONLY_SUCCESS, key=IN_INBOX),
    Scene("claim-in-a-synced-spool", ONCE, _claim, ONLY_SUCCESS, kind=mark.SYNCED),
    Scene("refuse-in-a-synced-spool", INVALID, _refuse, frozenset({INVALID_OUTCOME}), runs=frozenset({0}), kind=mark.SYNCED),
    Scene("claim-what-takes-a-gpu", NEEDS_GPU, _claim, ONLY_SUCCESS),
    Scene("claim-again-for-one-node", AGAIN, _claim_waiting, ONLY_SUCCESS, _run_once, frozenset({2}), IN_INBOX),
    Scene("requeue", ONCE, _requeue, ONLY_SUCCESS),
    Scene("recover-what-was-never-started", ONCE, _recover, ONLY_SUCCESS, _leave_claimed),
    Scene("recover-what-was-never-claimed", ONCE, _recover, ONLY_SUCCESS, _leave_unclaimed),
    Scene("recover-what-is-lost", ONCE, _recover, frozenset({LOST}), _leave_dead, frozenset({0})),
    Scene("recover-what-may-run-again", RESTARTABLE, _recover, ONLY_SUCCESS, _leave_dead),
    Scene("recover-what-was-not-filed", ONCE, _recover, ONLY_SUCCESS, _leave_result),
    Scene("recover-what-was-half-rotated", AGAIN, _recover, ONLY_SUCCESS, _leave_half_rotated, frozenset({2})),
]
