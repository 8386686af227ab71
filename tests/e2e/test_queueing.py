"""Which waiting job runs next, and what keeps one from running."""

from __future__ import annotations

import datetime
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spooldadd.process import descendants
from spooldadd.tomltext import dumps
from tests.bench.place import run_s
from tests.support import Node, result_of, stop, until

TRUE = 'command = ["true"]\n'


class Gate:
    """A job that occupies a place until the test opens it."""

    def __init__(self, node: Node, name: str = "gate", **spec) -> None:
        self.path = node.spool.parent / f"{name}.open"
        node.drop(f"{name}.toml", dumps({"command": f"until [ -e {self.path} ]; do sleep 0.02; done", **spec}))
        until(lambda: node.records("running", name), f"`{name}` runs")

    def open(self) -> None:
        self.path.touch()


def notes(node: Node) -> list[str]:
    """Return what the jobs of `noting` wrote, in order."""
    path = node.spool.parent / "notes"
    return path.read_text().split() if path.exists() else []


def noting(node: Node, name: str, **spec) -> None:
    """Drop a job that notes its name when it runs."""
    node.drop(f"{name}.toml", dumps({"command": f"echo {name} >> {node.spool.parent}/notes", **spec}))


def at(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time() + seconds, datetime.UTC)


def test_higher_priority_goes_first_then_the_older(node: Node) -> None:
    ages_s = {"old": 300, "older": 400, "young": 200, "low": 900, "high": 100, "highest": 0}
    priorities = {"low": -5, "high": 1, "highest": 1_000_000}
    for name, age_s in ages_s.items():
        noting(node, name, priority=priorities.get(name, 0))
        os.utime(node.spool / f"{name}.toml", (time.time() - age_s,) * 2)
    node.drain("--jobs", "1")
    assert notes(node) == ["highest", "high", "older", "old", "young", "low"]


def test_the_first_of_hundreds_is_the_one_of_the_highest_priority(node: Node) -> None:
    """A worker looked at 256 before its first claim, in no order, and began with the best of those."""
    for number in range(1000):
        node.drop(f"{number}.toml", 'command = "true"\n')
    noting(node, "urgent", priority=1)
    dropped_at = (node.spool / "urgent.toml").stat().st_ctime
    until(lambda: time.time() > dropped_at + 0.4, "all have settled")
    node.start("--jobs", "1")
    until(lambda: "event=claimed" in node.said(), "one is claimed")
    assert re.findall(r"event=claimed job=(\w+)", node.said())[0] == "urgent"


def test_order_holds_for_what_arrives_while_the_node_is_full(node: Node) -> None:
    node.start("--jobs", "1")
    gate = Gate(node)
    for name, priority in (("a", 0), ("b", 0), ("c", 5), ("d", -1)):
        noting(node, name, priority=priority)
    gate.open()
    until(lambda: len(notes(node)) == 4, "all have run")
    assert notes(node) == ["c", "a", "b", "d"]


def test_no_more_jobs_run_than_the_node_has_places(node: Node) -> None:
    node.start("--jobs", "3")
    gates = [Gate(node, f"gate-{number}") for number in range(3)]
    noting(node, "next")
    late = time.monotonic() + 1.0
    until(lambda: time.monotonic() > late, "there was time to start it")
    assert (notes(node), len(node.records("running"))) == ([], 3)
    gates[1].open()
    until(lambda: notes(node), "the place that is free is taken")
    for gate in gates:
        gate.open()


def test_full_queue_does_not_hold_up_the_others(make_node: Callable[..., Node]) -> None:
    node = make_node(environ={"SPOOLDADD_QUEUES__NARROW": "1", "SPOOLDADD_QUEUES__CLOSED": "0"})
    node.start("--jobs", "4")
    gate = Gate(node, queue="narrow", priority=9)
    noting(node, "second", queue="narrow", priority=9)
    noting(node, "never", queue="closed", priority=9)
    noting(node, "other", queue="wide")
    until(lambda: notes(node) == ["other"], "the other queue goes on")
    gate.open()
    until(lambda: notes(node) == ["other", "second"], "the narrow queue goes on")
    assert (node.spool / "never.toml").exists()


def test_job_waits_for_its_time(node: Node) -> None:
    node.start()
    noting(node, "soon", run={"not_before": at(2.0)})
    noting(node, "much-later", run={"not_before": at(7200)})
    noting(node, "past", run={"not_before": at(-7200)})
    until(lambda: notes(node), "one runs")
    assert notes(node) == ["past"]
    until(lambda: len(notes(node)) > 1, "another runs")
    result = result_of(node.wait_finished("soon"))
    assert notes(node) == ["past", "soon"]
    assert 1.5 < (result["started_at"] - result["submitted_at"]).total_seconds() < 8
    assert (node.spool / "much-later.toml").exists()


@pytest.mark.parametrize("way", ["written", "replaced"])
def test_spec_that_is_edited_while_it_waits_is_looked_at_anew(make_node: Callable[..., Node], way: str) -> None:
    """What it waited for was read once: a date that was taken out, or a closed queue, went on to hold it back."""
    node = make_node(environ={"SPOOLDADD_QUEUES__CLOSED": "0"})
    node.start()
    for name, spec in {"dated": {"run": {"not_before": at(7200)}}, "queued": {"queue": "closed"}}.items():
        noting(node, name, **spec)
    noting(node, "known")  # what came before it has been looked at by now
    until(lambda: notes(node) == ["known"], "the worker has seen them all")
    for name in ("dated", "queued"):
        text = dumps({"command": f"echo {name} >> {node.spool.parent}/notes"})
        if way == "written":
            (node.spool / f"{name}.toml").write_text(text)
        else:
            node.drop(f"{name}.toml", text)
    until(lambda: len(notes(node)) == 3, "they run", 15)
    assert sorted(notes(node)) == ["dated", "known", "queued"]


def test_paused_file_stops_claiming_until_it_is_gone(node: Node) -> None:
    node.start()
    (node.spool / "paused").touch()
    noting(node, "a")
    until(lambda: "event=paused" in node.said(), "the pause is noticed")
    assert notes(node) == []
    (node.spool / "paused").unlink()
    until(lambda: notes(node) == ["a"], "it goes on")
    assert node.said().count("event=resumed") == 1


def test_running_job_goes_on_while_the_spool_is_paused(node: Node) -> None:
    node.start()
    gate = Gate(node)
    (node.spool / "paused").mkdir()  # of any kind: `mkdir` is as good as `touch`
    gate.open()
    assert result_of(node.wait_finished("gate"))["outcome"] == "success"


def test_pause_of_one_queue_leaves_the_others(node: Node) -> None:
    (node.spool / "paused.etl").touch()
    node.start("--jobs", "4")
    noting(node, "load", queue="etl", priority=5)
    noting(node, "mail", queue="mail")
    until(lambda: notes(node) == ["mail"], "the other queue goes on")
    (node.spool / "paused.etl").unlink()
    until(lambda: notes(node) == ["mail", "load"], "the queue goes on")


def test_held_file_waits_until_it_has_its_name_back(node: Node) -> None:
    node.start()
    held = node.spool / "a.toml.held"
    held.write_text(dumps({"command": f"echo a >> {node.spool.parent}/notes"}))
    noting(node, "b")
    until(lambda: notes(node) == ["b"], "the other runs")
    held.rename(node.spool / "a.toml")
    until(lambda: notes(node) == ["b", "a"], "it runs")


def test_drain_leaves_what_cannot_run_now(make_node: Callable[..., Node]) -> None:
    node = make_node(environ={"SPOOLDADD_QUEUES__CLOSED": "0"})
    (node.spool / "paused.resting").touch()
    noting(node, "runs")
    noting(node, "later", run={"not_before": at(7200)})
    noting(node, "closed", queue="closed")
    noting(node, "resting", queue="resting")
    node.drop("held.toml.held", TRUE)
    node.drain(timeout_s=30)
    assert notes(node) == ["runs"]
    waiting = {path.name for path in node.spool.iterdir() if path.suffix in (".toml", ".held")}
    assert waiting == {"later.toml", "closed.toml", "resting.toml", "held.toml.held"}


def test_drain_runs_what_is_dropped_while_it_runs(node: Node) -> None:
    spec = dumps({"command": f"echo second >> {node.spool.parent}/notes"})
    (node.spool.parent / "second.toml").write_text(spec)
    node.drop("first.toml", dumps({"command": f"sleep 0.3; mv {node.spool.parent}/second.toml {node.spool}/"}))
    node.drain()
    assert notes(node) == ["second"]


def test_signal_drains_a_worker(node: Node) -> None:
    worker = node.start("--jobs", "1")
    gate = Gate(node)
    noting(node, "left")
    worker.send_signal(signal.SIGUSR1)
    until(lambda: "event=draining" in node.said(), "it heard")
    gate.open()
    assert worker.wait(20) == 0
    assert (notes(node), len(node.records("done", "gate"))) == ([], 1)
    assert (node.spool / "left.toml").exists()


def test_jobs_of_a_previous_worker_take_up_room(make_node: Callable[..., Node]) -> None:
    node = make_node(environ={"SPOOLDADD_QUEUES__NARROW": "1"})
    first = node.start("--jobs", "2")
    narrow, wide = Gate(node, "narrow", queue="narrow"), Gate(node, "wide")
    first.kill()
    first.wait()
    node.start("--jobs", "3")
    noting(node, "queued", queue="narrow")
    noting(node, "free")
    until(lambda: notes(node), "there is one place left")
    until(lambda: node.finished("free"), "the other queue's job is filed")
    assert notes(node) == ["free"]
    noting(node, "queued-too", queue="narrow")
    narrow.open()
    until(lambda: len(notes(node)) == 3, "the narrow queue goes on")
    assert notes(node) == ["free", "queued", "queued-too"]
    wide.open()
    for name in ("narrow", "wide"):
        assert result_of(node.wait_finished(name))["outcome"] == "success"


def test_file_moved_out_before_it_starts_does_not_run(node: Node) -> None:
    node.start("--jobs", "1")
    gate = Gate(node)
    noting(node, "taken-back")
    noting(node, "stays")
    (node.spool / "taken-back.toml").rename(node.spool.parent / "taken-back.toml")
    gate.open()
    until(lambda: notes(node), "the next runs")
    node.wait_finished("stays")
    assert notes(node) == ["stays"]
    assert not node.records("running")


def test_two_workers_of_one_spool_share_its_jobs(node: Node) -> None:
    for number in range(60):
        noting(node, f"job-{number}")
    for _ in range(2):
        node.start("--jobs", "2")
    until(lambda: len(node.records("done")) == 60, "all are done")
    assert len(notes(node)) == len(set(notes(node))) == 60


# -- what it costs to wait


def wake_ups(pids: list[int]) -> int:
    """Return how often these processes, with all their threads, went to sleep so far."""
    count = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            count += int(status.read_text().partition("voluntary_ctxt_switches:")[2].split()[0])
    return count


def test_idle_worker_sleeps(node: Node) -> None:
    worker = node.start()
    noting(node, "first")
    node.wait_finished("first")
    (node.spool / "later.toml").write_text(dumps({"command": "true", "run": {"not_before": at(7200)}}))
    until(lambda: "event=filed" in node.said(), "there is nothing more to do")
    settled = time.monotonic() + 1.0
    until(lambda: time.monotonic() > settled, "it has settled")
    members, seconds = [worker.pid, *descendants(worker.pid)], 4.0
    assert len(members) >= 3  # worker, launcher, an idle supervisor
    before, begun = wake_ups(members), time.monotonic()
    until(lambda: time.monotonic() > begun + seconds, "some time of idleness")
    assert wake_ups(members) - before <= seconds


def test_idle_worker_that_is_paused_sleeps(node: Node) -> None:
    """It looks for the end of the pause once a second where no event tells, and does nothing else."""
    worker = node.start()
    (node.spool / "paused").touch()
    noting(node, "a")
    until(lambda: "event=paused" in node.said(), "the pause is noticed")
    members, seconds = [worker.pid, *descendants(worker.pid)], 3.0
    before, begun = wake_ups(members), time.monotonic()
    until(lambda: time.monotonic() > begun + seconds, "some time of idleness")
    assert wake_ups(members) - before <= 2 * seconds + 2


def test_drop_by_rename_starts_at_once(node: Node) -> None:
    node.start()
    took_s = []
    for number in range(5):
        noting(node, f"drop-{number}")
        result = result_of(node.wait_finished(f"drop-{number}"))
        took_s.append((result["started_at"] - result["submitted_at"]).total_seconds())
    assert sorted(took_s)[2] < 0.25, took_s


def test_drop_that_no_event_tells_of_is_found_by_a_scan(make_node: Callable[..., Node]) -> None:
    node = make_node(environ={"SPOOLDADD_INTAKE__EVENTS": "false", "SPOOLDADD_INTAKE__SCAN_INTERVAL": "0.5s"})
    node.start()
    assert "events=none" in node.said()
    noting(node, "a")
    until(lambda: notes(node) == ["a"], "it is found")


def test_watch_is_replaced_when_the_directory_is_swapped(node: Node) -> None:
    node.start()
    away = node.spool.parent / "away"
    node.spool.rename(away)
    until(lambda: "event=spool-away" in node.said(), "the spool is missed")
    away.rename(node.spool)
    until(lambda: "event=spool-back" in node.said(), "the spool is back")
    noting(node, "a")
    until(lambda: notes(node) == ["a"], "events are heard again", 10)


def test_other_spool_in_the_place_is_not_served_and_the_right_one_is_when_it_is_back(node: Node) -> None:
    """As when two shares change places: what lies in the other one is none of this worker's business."""
    node.start()
    other, away = node.spool.parent / "other", node.spool.parent / "away"
    node.run("init", str(other))
    node.spool.rename(away)
    other.rename(node.spool)
    noting(node, "foreign")
    until(lambda: "event=spool-away" in node.said(), "the right spool is missed")
    node.spool.rename(other)
    away.rename(node.spool)
    until(lambda: "event=spool-back" in node.said(), "the right spool is back")
    noting(node, "own")
    until(lambda: notes(node) == ["own"], "events are heard", 20)
    assert (other / "foreign.toml").exists()


@pytest.mark.slow
def test_burst_of_drops_is_run_to_the_last(make_node: Callable[..., Node]) -> None:
    node = make_node(durability="process")
    source = node.spool.parent / "source"
    source.mkdir()
    names = [f"job-{number}.toml" for number in range(1500)]
    for name in names:
        (source / name).write_text(TRUE)
    worker = node.start("--jobs", "2")
    noting(node, "first")
    node.wait_finished("first")
    stop(worker.pid)  # it hears of all of them at once
    for name in names:
        (source / name).rename(node.spool / name)
    os.kill(worker.pid, signal.SIGCONT)
    until(lambda: len(os.listdir(node.spool / "done")) == len(names) + 1, "all are done", 180)
    assert not node.records("failed")


def test_dropped_events_are_made_up_for(node: Node) -> None:
    limit = Path("/proc/sys/fs/inotify/max_queued_events")
    if not os.access(limit, os.W_OK):
        pytest.skip("needs the capability to lower fs.inotify.max_queued_events")
    before = limit.read_text()
    try:
        limit.write_text("16")
        worker = node.start()
        noting(node, "first")
        node.wait_finished("first")  # so it listens by now
        stop(worker.pid)
        for number in range(100):
            noting(node, f"job-{number}")
        os.kill(worker.pid, signal.SIGCONT)
        until(lambda: len(node.records("done")) == 101, "all are done", 20)
    finally:
        limit.write_text(before)
    assert 'reason="the kernel dropped events"' in node.said()
    assert all(" event=" in line for line in node.said().splitlines())  # and no library says it in words of its own


@pytest.mark.parametrize("is_draining", [False, True], ids=["full", "draining"])
def test_a_worker_sleeps_though_the_time_of_a_job_has_come_that_it_cannot_start(make_node, is_draining):
    node = make_node()
    worker = node.start("--jobs", "2" if is_draining else "1")
    gate = Gate(node)
    due_s = time.time() + 1.5
    noting(node, "later", run={"not_before": at(1.5)})
    until(lambda: time.time() > due_s - 0.5, "the worker knows of it")
    if is_draining:
        worker.send_signal(signal.SIGUSR1)
    until(lambda: time.time() > due_s + 0.1, "its time has come")
    before = run_s([worker.pid])
    time.sleep(2)
    assert run_s([worker.pid]) - before < 0.5, "of two seconds; one that has nothing to do over and over takes what it gets"
    gate.open()
    node.wait_finished("gate")
