"""Supervisors that go on by themselves: each job once, nobody is kept waiting, and a person still has the last word."""

from __future__ import annotations

import errno
import fcntl
import marshal
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path
from threading import Thread

import pytest

from spooldadd import claim, claiming, layout, offering, record, recovery, supervisor, together
from spooldadd.ahead import plan_ahead
from spooldadd.attempt import Attempt
from spooldadd.backlog import FEW, Entry
from spooldadd.channel import offer, receive
from spooldadd.crew import Report
from spooldadd.offered import Held, Left, Offered
from spooldadd.plan import Plan
from spooldadd.spares import Spares
from tests.faults.bench import DEAD_PID, Bench
from tests.faults.chaos import LAUNCHER, SUPERVISOR, name_of
from tests.faults.steps import ONCE
from tests.support import Node, processes_of, result_of, until

OLD = "old.20261121T101500Z.bcdfg.1.hjkmn"
MANY = 300


class Scene:
    """A lease in hand, and a drop that was offered."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.places = bench.open().places
        lease = os.open(self.places.lock(OLD), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        assert claim.try_lock(lease)
        os.write(lease, b'node = "here"\nsupervisor_pid = 1\njob_pid = 1\n' * 9)
        self.held = Held(lease, OLD)
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.offered = Offered(theirs)
        self.drop = bench.spool_path / "one.toml"

    def offer(self, valid_s: float = 60.0) -> str:
        """Offer the drop; return the record that it would become."""
        ahead = plan_ahead(self.bench.open(), self.bench.config, self.bench.launching(), self.bench.entry())
        assert ahead is not None
        said = offering.message(self.bench.open(), time.monotonic() + valid_s, [("one.toml", ahead)])
        assert offer(self.ours, marshal.dumps(said))
        return ahead.record

    def claim(self):
        return self.offered.claim(self.places, self.held)

    def is_untouched(self) -> bool:
        return os.listdir(self.places.locks) == [f"{OLD}.lock"] and not os.listdir(self.places.running)


@pytest.fixture
def scene():
    bench = Bench(durability="process")
    bench.drop(ONCE)
    scene = Scene(bench)
    yield scene
    scene.ours.close()
    bench.close()


def test_what_was_offered_is_claimed_under_the_lease_that_is_held(scene):
    record = scene.offer()
    plan = scene.claim()
    assert plan.record == record == scene.held.record
    assert os.listdir(scene.places.locks) == [f"{record}.lock"]
    assert claim.is_held(scene.places, record)
    holder = claim.read_holder(scene.places, record)
    assert (holder.node, holder.supervisor_pid, holder.job_pid) == ("here", 0, 0), "what stood there of others is gone"
    assert not scene.drop.exists()
    assert (Path(scene.places.running) / record / layout.SPEC).read_text() == ONCE
    assert scene.claim() is None, "each offer is for once"


def test_who_notes_something_after_a_rename_of_its_lease_notes_it_behind_the_claimer(scene):
    record = scene.offer()
    scene.claim()
    os.write(scene.held.lease, b"\nsupervisor_pid = 77\n")
    assert claim.read_holder(scene.places, record).supervisor_pid == 77
    assert claim.read_holder(scene.places, record).node == "here"


def test_a_drop_that_is_gone_or_is_another_one_now_is_passed_over(scene):
    scene.offer()
    scene.bench.drop(ONCE + "# later\n")
    assert scene.claim() is None
    assert scene.is_untouched()
    scene.offer()
    scene.drop.unlink()
    assert scene.claim() is None
    assert scene.is_untouched()


def test_bytes_that_were_changed_without_a_trace_do_not_run_as_planned(scene):
    scene.offer()
    status = scene.drop.stat()
    with scene.drop.open("r+") as file:
        file.write("c0mmand")
    os.utime(scene.drop, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(Left, match="changed"):
        scene.claim()
    os.close(scene.held.lease)
    scene.bench.recover()
    assert len(os.listdir(scene.places.waiting)) == 1, "its claim never started, so it is in line again"


def test_what_somebody_has_open_for_writing_does_not_run_as_planned(scene):
    # A worker's own claim looks for a writer, too: he has changed nothing yet.
    scene.offer()
    with scene.drop.open("r+"), pytest.raises(Left, match="open for writing"):
        scene.claim()


def test_a_job_that_unlocks_what_it_inherits_does_not_take_the_lease_from_the_next_one(scene):
    fcntl.flock(scene.held.lease, fcntl.LOCK_UN)
    record = scene.offer()
    assert scene.claim() is not None
    assert claim.is_held(scene.places, record)


def test_an_offer_lasts_for_a_moment(scene):
    scene.offer(valid_s=0.0)
    assert scene.claim() is None
    assert scene.is_untouched()


def test_what_the_next_claim_will_say_is_written_before_it_is_made(scene):
    record_name = scene.offer()
    assert scene.offered.draft(scene.places, scene.places.done), "`done/` lasts"
    assert scene.drop.exists(), "nothing is claimed by that"
    assert not os.listdir(scene.places.running)
    assert scene.claim().record == record_name
    assert scene.offered.is_last
    assert os.listdir(scene.places.locks) == [f"{record_name}.lock"]
    claimed = record.read_claim(os.path.join(scene.places.running, record_name), 1)
    assert (claimed["source"], claimed["token"]) == ("one.toml", record_name.rpartition(".")[2])


def test_a_draft_that_comes_to_nothing_is_no_claim_of_the_next_job(scene):
    scene.offer()
    assert scene.offered.draft(scene.places, scene.places.done)
    scene.bench.drop(ONCE + "# later\n")
    record_name = scene.offer()
    assert scene.claim().record == record_name
    assert not scene.offered.is_last
    claimed = record.read_claim(os.path.join(scene.places.running, record_name), 1)
    assert claimed["token"] == record_name.rpartition(".")[2]
    scene.offered.forget()
    assert os.listdir(scene.places.locks) == [f"{record_name}.lock"]


def test_a_disk_that_loses_a_draft_has_the_claim_written_anew(scene, monkeypatch):
    def fail(fds, *, at_once):
        return [errno.EIO, 0]  # the draft, and `done/`

    record_name = scene.offer()
    monkeypatch.setattr(together, "sync", fail)
    assert scene.offered.draft(scene.places, scene.places.done)
    assert scene.claim().record == record_name
    assert not scene.offered.is_last
    assert record.read_claim(os.path.join(scene.places.running, record_name), 1)


def test_the_draft_of_a_supervisor_that_is_gone_is_removed(bench):
    places = bench.open().places
    left, kept = (os.path.join(places.locks, f".spare-{pid}.claim") for pid in (DEAD_PID, os.getpid()))
    for path in (left, kept):
        Path(path).touch()
    recovery.remove_stale_locks(bench.launching().recovery)
    assert os.listdir(places.locks) == [os.path.basename(kept)]


def test_nothing_is_claimed_for_a_worker_that_is_gone(scene):
    scene.offer()
    scene.ours.close()
    assert scene.claim() is None
    assert scene.is_untouched()


@pytest.mark.parametrize("spec", [
    'command = "true"\n[place]\nrequires = { cpus = 1 }\n',
    'command = "echo {{ job.id }}"\n',
    'command = "true"\n[python]\nrequirements = []\n',
    'command = ["true"]\ncomand = 1\n',
    f'command = "true"\n# {"x" * 3000}\n',
])  # fmt: skip
def test_what_is_not_of_the_simplest_kind_is_claimed_by_the_worker(scene, spec):
    scene.bench.drop(spec)
    assert plan_ahead(scene.bench.open(), scene.bench.config, scene.bench.launching(), scene.bench.entry()) is None


# -- the real programs


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path, durability="process")
    yield node
    node.close()


def line(node: Node) -> str:
    return f"""command = 'echo "$SPOOLDADD_JOB" >> {node.spool.parent}/lines'\n"""


def drop_many(node: Node, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        node.drop(f"job-{number}.toml", line(node))


def test_a_long_job_keeps_no_short_one_waiting(node):
    gate = node.spool.parent / "gate"
    drop_many(node, 40)
    node.drop("long.toml", f"command = 'until test -e {gate}; do sleep 0.05; done'\n")
    drop_many(node, 40, first=40)
    node.start("--jobs", "2")
    until(lambda: len(node.records("done")) == 80, "all short ones are done beside the long one")
    assert node.records("running", "long")
    gate.touch()
    node.wait_finished("long")


def test_a_pause_is_kept_between_two_jobs_of_one_supervisor(node):
    drop_many(node, 1500)
    node.start("--jobs", "2")
    until(lambda: len(node.records("done")) >= 30, "it is under way")
    (node.spool / layout.PAUSED).touch()
    until(lambda: "event=paused" in node.said() and not node.records("running"), "what ran has ended")
    time.sleep(0.2)  # longer than any offer lasts
    until(lambda: not node.records("running"), "what was offered before has ended")
    done = len(node.records("done"))
    assert done < 1500
    time.sleep(0.3)
    assert len(node.records("done")) == done
    (node.spool / layout.PAUSED).unlink()
    until(lambda: len(node.records("done")) == 1500, "it goes on")


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.parametrize("victim", ["worker", SUPERVISOR, LAUNCHER])
def test_whoever_is_killed_meanwhile_each_job_runs_once_or_is_called_lost(node, victim):
    drop_many(node, MANY)
    worker = node.start("--jobs", "2")
    for done in (20, 60, 100):
        until(lambda done=done: len(node.records("done")) >= done, "it is under way")
        if victim == "worker":
            worker.kill()
            worker.wait()
            worker = node.start("--jobs", "2")
            continue
        for pid in processes_of(node.work):
            if name_of(pid) == victim and name_of(parent_of(pid)) != SUPERVISOR:  # a job has that name until it is loaded
                os.kill(pid, signal.SIGKILL)
                break
    until(lambda: len(node.records("done")) + len(node.records("failed")) == MANY, f"all end\n{node.said()[-3000:]}")
    ran = Counter((node.spool.parent / "lines").read_text().split())
    assert all(count == 1 for count in ran.values()), ran.most_common(3)
    outcomes = {path.name: result_of(path)["outcome"] for path in (*node.records("done"), *node.records("failed"))}
    assert len({name.split(".")[0] for name in outcomes}) == MANY
    assert set(outcomes.values()) <= {"success", "lost"}
    assert {name for name, outcome in outcomes.items() if outcome == "success"} <= set(ran)
    until(lambda: not node.records("running"), "nothing is left")


# -- what a worker makes of what it hears


@pytest.fixture
def bench():
    bench = Bench(durability="process")
    yield bench
    bench.close()


def leave_claim(bench: Bench) -> None:
    """A claim that nobody holds any more, and of which nothing was started."""
    bench.drop(ONCE)
    os.close(bench.claim().lease)


@pytest.mark.parametrize(
    "report", [Report(OLD, is_gone=True, channel=9), Report(OLD, state="done", has_left=True, channel=9)]
)
def test_what_a_supervisor_may_have_claimed_unheard_is_looked_at_at_once(bench, report):
    # Found with one that was stopped until its offers were void, then killed: `--drain` ended with its claim in `running/`.
    worker = bench.worker()
    worker._do_due(time.monotonic())
    leave_claim(bench)
    worker._hear(report)
    worker._do_due(time.monotonic())
    assert not os.listdir(bench.spool_path / "running")
    assert len(worker._queueing) == 1


def test_a_claim_that_is_left_to_recovery_is_said_by_its_own_name(bench):
    os.environ["LINES"] = str(bench.lines_path)
    bench.drop(ONCE)
    launching, entry = bench.launching(), bench.entry()
    claimed = launching.claim(entry)
    attempt = Attempt(launching.plan(claimed, entry), Held(claimed.lease, claimed.record), bench.log, 0, Spares())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bench.drop(ONCE, "two.toml")
    ahead = plan_ahead(bench.open(), bench.config, launching, bench.entry())
    other = ahead._replace(data=b"other")
    assert offer(ours, marshal.dumps(offering.message(bench.open(), time.monotonic() + 60.0, [("two.toml", other)])))
    bench.in_fork(lambda: run_and_say(attempt, theirs, bench.root / "said"))
    assert marshal.loads((bench.root / "said").read_bytes())["has_left"]
    (said,) = [line for line in bench.log_path.read_text().splitlines() if "claim-lost" in line]
    assert ahead.table.own["job"] in said


def test_who_has_word_for_the_notifier_claims_nothing(scene):
    # Its worker may be gone before it hears of that: the mail would wait for the end of the next job, however long.
    scene.offer()
    attempt = Attempt(Plan(), scene.held, scene.bench.log, 0)
    attempt.places, attempt.is_tidy, attempt.is_told = scene.places, True, True
    assert attempt.go_on(scene.offered) is None
    assert not os.listdir(scene.places.running)


def test_offers_that_come_too_late_keep_no_spare_directory_on_an_idle_node(tmp_path):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    spares = Spares()
    (tmp_path / "empty").mkdir(0o700)
    assert spares.keep_directory(str(tmp_path / "empty"))
    assert offer(ours, b"late")
    idle = Thread(target=receive, args=(theirs, lambda: spares.wait(theirs)))
    idle.start()
    try:
        until(lambda: not os.listdir(tmp_path), "the spare is removed")
    finally:
        ours.close()
        idle.join()
        theirs.close()


def run_and_say(attempt: Attempt, channel: socket.socket, path: Path) -> None:
    supervisor.begin()
    attempt.run()
    offered = Offered(channel)
    path.write_bytes(marshal.dumps(attempt.going_on(attempt.go_on(offered), offered)))


def test_what_is_dropped_under_the_name_of_a_claimed_drop_before_we_hear_of_the_claim_is_not_forgotten(bench):
    # A job that drops its own name again: it was found by the next scan only, up to 30 s later.
    worker = bench.worker()
    bench.drop(ONCE)
    before = claiming.signature((bench.spool_path / "one.toml").stat())
    worker._do_due(time.monotonic())
    worker._queueing.pop(lambda queue: True)
    (bench.spool_path / "one.toml").unlink()
    bench.drop(ONCE + "# again")
    (watch,) = [watch for watch in worker._sources._watches if watch.path == str(bench.spool_path)]
    worker._queueing.take_in(worker._sources.heed(watch), time.monotonic())
    worker._hear(Report(OLD, following="x", source="one.toml", signature=before, queue="default", channel=9))
    assert len(worker._queueing) == 1
    now = claiming.signature((bench.spool_path / "one.toml").stat())
    worker._hear(Report("x", following="y", source="one.toml", signature=now, queue="default", channel=9))
    assert len(worker._queueing) == 0


def test_the_bytes_of_a_long_line_are_not_kept(bench):
    worker = bench.worker()
    entries = [Entry(f"{number}.toml", False, None, "default", 0, 0.0, data=b"x") for number in range(FEW + 5)]
    for some in (entries[:10], entries[10:-1], entries[-1:]):
        worker._queueing.take_in(some, time.monotonic())
    assert [entry.data for entry in entries] == [b"x"] * FEW + [None] * 5
