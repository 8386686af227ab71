"""A state machine over the life of jobs: whatever two nodes, a person and crashes do in whatever order, nothing is lost.

    python3 -m tests.faults.machine                          200 lives of up to 60 steps
    python3 -m tests.faults.machine --examples 5000 --steps 120

The real modules move real directories; what is played is who does what when: claims by two nodes, supervisors that start,
end, die before or after the result, come too late after another node took over, machines that boot again; a person who
cancels, holds, releases, tries again, and prunes. After each step: every spec is in exactly one place with its bytes, no job
has two holders, and an attempt has the number after the last one that counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from spooldadd import acting, filing, layout, mark, names, record, recovery, retention, spool, submitting
from spooldadd.claim import Holder
from spooldadd.errors import ClaimLost
from spooldadd.inspect import jobs
from spooldadd.lifecycle import Policy
from spooldadd.takeover import Lost
from spooldadd.tomltext import flat
from tests.faults.bench import DEAD_PID

NODES = ("one", "two")
ENDS = {"success": layout.DONE, "exit": layout.FAILED, "again": layout.WAITING}
MEMORY = "/dev/shm"  # where a thousand fsyncs take no time
ANY = st.integers(min_value=0, max_value=10**6)
SEEN: Counter[str] = Counter()


class Silent:
    """A log that nobody reads, and a world in which no process is left over."""

    def __getattr__(self, _level: str):
        return lambda *_words, **_fields: None

    def are_gone(self, *_where: object) -> bool:
        return True


@dataclass
class Held:
    """One attempt in somebody's hands."""

    claim: spool.Claim
    node: str
    started: bool = False
    lives: bool = True  # it holds its lease; else it is dead, or cut off and late
    result: str = ""  # written, and not filed
    cancelled: bool = False
    text: bytes = b""


class Life(RuleBasedStateMachine):
    """One spool, two nodes."""

    restartable = True

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="spooldadd-machine-", dir=MEMORY if os.path.isdir(MEMORY) else None))
        # So it is noted on disk before anything starts, and what never started is known for it after a boot, too.
        mark.create(str(self.root / "spool"), durability="power", kind=mark.SHARED)
        self.spool_path = self.root / "spool"
        self.boots = dict.fromkeys(NODES, 1)
        self.specs: set[bytes] = set()
        self.pruned: set[bytes] = set()
        self.counted: dict[bytes, int] = {}  # the number of the last attempt that counted
        self.held: list[Held] = []
        self.late: list[Held] = []  # their record was taken from them

    def teardown(self) -> None:
        for each in self.held:
            if each.lives:
                os.close(each.claim.lease)
        shutil.rmtree(self.root)

    # -- who looks

    def of(self, node: str) -> spool.Spool:
        return spool.open_spool(str(self.spool_path), Holder(node, f"boot-{node}-{self.boots[node]}", 77, 1))

    def context(self, node: str, lost: str = "") -> recovery.Context:
        gone = (lambda name: Lost(name, "it is lost") if name == lost else None) if lost else (lambda _name: None)
        policy = Policy(attempts=10**6, restartable=self.restartable)
        return recovery.Context(self.of(node), Silent(), lambda _path: policy, lost=gone, strays=Silent())

    def drops(self) -> list[str]:
        return sorted(path.name for path in self.spool_path.glob("*.toml"))

    def waiting(self, *, held: bool = False) -> list[str]:
        found = sorted((self.spool_path / layout.WAITING).iterdir())
        return [path.name for path in found if (path / layout.HOLD).exists() == held]

    def mine(self, **wanted: object) -> list[Held]:
        return [each for each in self.held if all(getattr(each, key) == value for key, value in wanted.items())]

    def jobs_in(self, *states: str) -> list[jobs.Job]:
        return jobs.list_jobs(self.of("one").places, states)

    # -- submitting and claiming

    @rule(by_hand=st.booleans())
    def drop(self, by_hand: bool) -> None:
        text = f'command = ["true"]  # {len(self.specs)}\n'.encode()
        if by_hand:
            temporary = self.root / "new"
            temporary.write_bytes(text)
            temporary.rename(self.spool_path / f"job{len(self.specs)}.toml")
        else:
            submitting.drop(self.of("one").places, text, f"job{len(self.specs)}", sync=False)
        self.specs.add(text)
        self.counted[text] = 0

    @precondition(lambda self: self.drops())
    @rule(node=st.sampled_from(NODES), which=ANY)
    def claim_drop(self, node: str, which: int) -> None:
        name = self.drops()[which % len(self.drops())]
        self._take(self.of(node).claim_drop(name, name.split(".")[0], "default"), node)
        for other in NODES:  # too late, each of them
            try:
                self.of(other).claim_drop(name, name.split(".")[0], "default")
                raise AssertionError("one drop, two claims")
            except ClaimLost:
                pass

    @precondition(lambda self: self.waiting())
    @rule(node=st.sampled_from(NODES), which=ANY)
    def claim_waiting(self, node: str, which: int) -> None:
        name = self.waiting()[which % len(self.waiting())]
        self._take(self.of(node).claim_waiting(name, "default"), node)
        for other in NODES:
            try:
                self.of(other).claim_waiting(name, "default")
                raise AssertionError("one record, two claims")
            except ClaimLost:
                pass

    def _take(self, claimed: spool.Claim, node: str) -> None:
        text = Path(layout.find_spec(claimed.path)).read_bytes()
        assert claimed.attempt == self.counted[text] + 1, f"attempt {claimed.attempt} after {self.counted[text]}"
        self.held.append(Held(claimed, node, text=text))
        SEEN["claims"] += 1

    @precondition(lambda self: self.mine(started=False, lives=True))
    @rule(which=ANY, is_requeue=st.booleans())
    def give_back(self, which: int, is_requeue: bool) -> None:
        each = self._one(which, started=False, lives=True)
        if each.cancelled:  # it is left to recovery, which files it
            each.lives = False
        else:
            self.held.remove(each)
        if is_requeue:
            self.of(each.node).requeue(each.claim.record, each.claim.lease)
        else:
            self.of(each.node).put_back(each.claim)

    # -- an attempt

    def _one(self, which: int, **wanted: object) -> Held:
        found = self.mine(**wanted)
        return found[which % len(found)]

    @precondition(lambda self: self.mine(started=False, lives=True))
    @rule(which=ANY)
    def start(self, which: int) -> None:
        each = self._one(which, started=False, lives=True)
        os.write(each.claim.lease, flat({"supervisor_pid": DEAD_PID, "supervisor_start": 1}).encode())
        self.counted[each.text] = each.claim.attempt
        each.started = True

    @precondition(lambda self: self.mine(started=True, lives=True))
    @rule(which=ANY, outcome=st.sampled_from(sorted(ENDS)), dies=st.booleans())
    def end(self, which: int, outcome: str, dies: bool) -> None:
        """Write the result, and file the record, or die in between."""
        each = self._one(which, started=True, lives=True)
        table = {"job": each.claim.job, "state": ENDS[outcome], "outcome": outcome, "attempt": each.claim.attempt}
        if not each.result:
            record.write_result(each.claim.path, {**table, "finished_at": record.moment(1.0)}, sync=False)
            each.result = ENDS[outcome]
        if dies:
            self._lose_lease(each)
            return
        self.held.remove(each)
        self.of(each.node).file(each.claim.record, each.claim.lease, each.result)
        SEEN["filed"] += 1

    @precondition(lambda self: self.mine(lives=True))
    @rule(which=ANY)
    def crash(self, which: int) -> None:
        self._lose_lease(self._one(which, lives=True))
        SEEN["crashes"] += 1

    def _lose_lease(self, each: Held) -> None:
        os.close(each.claim.lease)
        each.lives = False

    @precondition(lambda self: self.mine())
    @rule(node=st.sampled_from(NODES))
    def reboot(self, node: str) -> None:
        for each in self.mine(node=node, lives=True):
            self._lose_lease(each)
        self.boots[node] += 1
        SEEN["reboots"] += 1

    # -- recovery

    @precondition(lambda self: self.held)
    @rule(node=st.sampled_from(NODES))
    def recover(self, node: str) -> None:
        found = recovery.recover_all(self.context(node))
        self._forget(node, found)

    @precondition(lambda self: self.held)
    @rule(node=st.sampled_from(NODES))
    def take_over(self, node: str) -> None:
        """The other node is lost; of what it holds, nothing can be taken whose lease is held."""
        other = next(name for name in NODES if name != node)
        found = recovery.recover_all(self.context(node, lost=other))
        self._forget(node, found)
        self._forget(other, found)
        SEEN["takeovers"] += 1

    def _forget(self, node: str, found: dict[str, recovery.Found]) -> None:
        for each in self.mine(node=node):
            what = found[each.claim.record]
            assert (what is recovery.Found.RUNNING) == each.lives, (each, what)
            if not each.lives:
                wanted = recovery.Found.LOST if each.started or each.cancelled else recovery.Found.NEVER_STARTED
                assert what is (recovery.Found.FINISHED if each.result else wanted), (each, what)
                if each.cancelled and not each.started:
                    self.counted[each.text] += 1
                self.held.remove(each)
                self.late.append(each)
                SEEN[what.value] += 1

    @precondition(lambda self: self.late)
    @rule(which=ANY, state=st.sampled_from([layout.DONE, layout.FAILED, layout.WAITING]))
    def come_late(self, which: int, state: str) -> None:
        """A supervisor that was cut off is back, and wants to file what somebody else has recovered."""
        each = self.late[which % len(self.late)]
        before = self._tree()
        try:
            filing.file_record(self.of(each.node).places, each.claim.record, state, sync=False)
        except ClaimLost:
            SEEN["late"] += 1
        assert self._tree() == before, "a late supervisor has moved what was no longer its own"

    def _tree(self) -> list[str]:
        return sorted(str(path) for path in self.spool_path.rglob("*"))

    # -- a person

    @precondition(lambda self: self.jobs_in(layout.WAITING))
    @rule(which=ANY)
    def cancel(self, which: int) -> None:
        job = self._job(which, layout.WAITING)
        text = Path(job.spec_path).read_bytes()
        acting.cancel(self.of("one"), job)
        self.counted[text] += 1
        SEEN["cancels"] += 1

    @precondition(lambda self: self.mine(lives=True))
    @rule(which=ANY)
    def cancel_running(self, which: int) -> None:
        each = self._one(which, lives=True)
        (job,) = [job for job in self.jobs_in(layout.RUNNING) if job.id == each.claim.job]
        acting.cancel(self.of("one"), job)
        each.cancelled = True

    @precondition(lambda self: self.jobs_in(layout.WAITING))
    @rule(which=ANY)
    def hold_or_release(self, which: int) -> None:
        job = self._job(which, layout.WAITING)
        (acting.release if job.is_held else acting.hold)(self.of("one"), job)

    @precondition(lambda self: self.waiting())
    @rule(which=ANY)
    def now(self, which: int) -> None:
        (job,) = [job for job in self.jobs_in(layout.WAITING) if job.id == self.waiting()[which % len(self.waiting())]]
        acting.retry(self.of("one"), job)

    @precondition(lambda self: self.jobs_in(layout.DONE, layout.FAILED))
    @rule(which=ANY)
    def retry(self, which: int) -> None:
        job = self._job(which, layout.DONE, layout.FAILED)
        if not job.is_held:
            acting.retry(self.of("one"), job, is_forced=True)
            SEEN["retries"] += 1

    @precondition(lambda self: self.jobs_in(layout.DONE, layout.FAILED))
    @rule(most=st.integers(min_value=0, max_value=2))
    def prune(self, most: int) -> None:
        before = {Path(job.spec_path).read_bytes() for job in self.jobs_in(layout.DONE, layout.FAILED)}
        bounds = retention.Bounds(done_count=most, failed_count=most)
        retention.Pruner(self.of("one").places, bounds, retention.Guards(), sync=False).run(retention.Telling())
        left = {Path(job.spec_path).read_bytes() for job in self.jobs_in(layout.DONE, layout.FAILED)}
        self.pruned |= before - left
        SEEN["pruned"] += len(before - left)

    def _job(self, which: int, *states: str) -> jobs.Job:
        found = self.jobs_in(*states)
        return found[which % len(found)]

    # -- what always holds

    @invariant()
    def each_spec_is_in_exactly_one_place(self) -> None:
        found: Counter[bytes] = Counter()
        for path in [*self.spool_path.glob("*.toml"), *self.spool_path.glob("*.toml.held")]:
            found[path.read_bytes()] += 1
        for state in layout.STATES:
            for path in (self.spool_path / state).iterdir():
                found[(path / layout.SPEC).read_bytes()] += 1
        assert found == Counter(self.specs - self.pruned), "lost, or in two places"

    @invariant()
    def no_job_has_two_holders(self) -> None:
        held = Counter(each.claim.job for each in self.mine(lives=True))
        assert all(count == 1 for count in held.values()), held
        running = Counter(map(_job_of, os.listdir(self.spool_path / layout.RUNNING)))
        assert all(count == 1 for count in running.values()), running

    @invariant()
    def no_attempt_is_counted_twice(self) -> None:
        for state in (layout.WAITING, layout.DONE, layout.FAILED):
            for path in (self.spool_path / state).iterdir():
                text = (path / layout.SPEC).read_bytes()
                assert record.last_attempt(str(path)) <= self.counted[text], (path, self.counted[text])


class Once(Life):
    """The same with specs that do not say `restartable`."""

    restartable = False


def _job_of(name: str) -> str:
    parsed = names.parse_record_name(name)
    assert parsed is not None, name
    return parsed.job


def settings_of(examples: int, steps: int) -> settings:
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=slow,
        database=None,
        phases=[Phase.generate],  # to make a failing life shorter takes minutes, and its steps are short already
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    for machine in (Life, Once):
        run_state_machine_as_test(machine, settings=settings_of(options.examples, options.steps))
    print(f"{2 * options.examples} lives of up to {options.steps} steps: nothing lost, nothing twice")
    print(", ".join(f"{count} {what}" for what, count in sorted(SEEN.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
