"""`spooldadd cancel`: over is over, with everything the job had started."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from spooldadd import acting, spool
from spooldadd.errors import NoSuchJob
from spooldadd.inspect import jobs
from tests.support import result_of, until


def children_of(node, name: str) -> list[int]:
    """Return the processes that a job noted."""
    return [int(word) for path in node.spool.glob(f"running/{name}.*/output.log") for word in path.read_text().split()]


def is_running(pid: int) -> bool:
    return Path("/proc", str(pid)).exists()


def test_a_running_job_ends_with_everything_it_started(node):
    node.start()
    node.drop("long.toml", 'command = "sleep 600 & echo $!; setsid sleep 600 & echo $!; wait"')
    pids = until(lambda: len(children_of(node, "long")) == 2 and children_of(node, "long"), "it has started")
    started = time.monotonic()
    assert node.run("cancel", "long").stdout.startswith("long.")
    assert time.monotonic() - started < 30
    assert not any(map(is_running, pids))
    result = result_of(node.records("failed", "long")[0])
    assert (result["outcome"], result["state"]) == ("cancelled", "failed")


def test_a_job_that_waits_in_the_root_never_starts(node):
    node.drop("later.toml", 'command = "true"')
    node.run("cancel", "later.toml")
    log = node.drain()
    (record,) = node.records("failed")
    assert result_of(record)["reason"] == "it was cancelled before it started"
    assert "event=started" not in log
    assert not (record / "output.log").exists()


def test_a_job_between_attempts_is_over(node):
    node.start()
    node.drop("load.toml", 'command = "false"\n[retry]\nattempts = 3\nbackoff = "1h"')
    until(lambda: node.records("waiting", "load"), "it waits for its next attempt")
    node.run("cancel", "load")
    assert result_of(node.records("failed", "load")[0])["outcome"] == "cancelled"
    assert not node.records("waiting")


def test_a_cancelled_job_is_not_retried_by_itself(node):
    node.start()
    node.drop("load.toml", 'command = "sleep 600"\n[retry]\nattempts = 5\nbackoff = "0s"')
    until(lambda: "event=started" in node.said(), "it has started")
    node.run("cancel", "load")
    assert node.records("failed", "load")


def test_who_does_not_wait_is_back_before_the_job_has_ended(node):
    node.start()
    node.drop(
        "stubborn.toml", """command = "trap '' TERM; echo ready; while :; do sleep 0.1; done"\n[limits]\nkill_after = '1h'"""
    )
    until(lambda: any("ready" in path.read_text() for path in node.spool.glob("running/*/output.log")), "it ignores TERM")
    node.run("cancel", "--no-wait", "stubborn")
    assert node.records("running", "stubborn")


def test_who_waits_in_vain_leaves_with_5(node):
    node.start()
    node.drop(
        "stubborn.toml", """command = "trap '' TERM; echo ready; while :; do sleep 0.1; done"\n[limits]\nkill_after = '1h'"""
    )
    until(lambda: any("ready" in path.read_text() for path in node.spool.glob("running/*/output.log")), "it ignores TERM")
    done = node.run("cancel", "--timeout", "0.3s", "stubborn", check=False)
    assert done.returncode == 5
    assert "has not yet" in done.stderr


def test_a_job_that_has_ended_cannot_be_cancelled(node):
    node.drop("quick.toml", 'command = "true"')
    node.drain()
    done = node.run("cancel", "quick", check=False)
    assert done.returncode == 1
    assert "has ended already: it is in `done/`" in done.stderr


def test_a_job_ends_though_no_worker_is_there(node):
    worker = node.start()
    node.drop("long.toml", 'command = "sleep 600"')
    until(lambda: "event=started" in node.said(), "it has started")
    worker.send_signal(signal.SIGTERM)
    worker.wait()
    node.run("cancel", "long")
    assert result_of(node.records("failed", "long")[0])["outcome"] == "cancelled"


def test_a_file_in_the_record_made_by_hand_does_the_same(node):
    node.start()
    node.drop("long.toml", 'command = "sleep 600"')
    (record,) = until(lambda: "event=started" in node.said() and node.records("running"), "it has started")
    (record / "cancel").touch()
    assert result_of(node.wait_finished("long"))["outcome"] == "cancelled"


def test_a_cancel_and_a_worker_that_race_for_a_drop_leave_one_record_each(node):
    """Whoever wins the rename files the job: cancelled or run, never both. In this process, to be as fast as the worker."""
    node.start("--jobs", "4")
    the_spool = spool.open_spool(str(node.spool))
    count = 60
    for number in range(count):
        name = f"race{number}.toml"
        node.drop(name, f'command = "echo {number}; sleep 0.05"')
        try:
            acting.cancel(the_spool, jobs.find(the_spool.places, name))
        except (acting.NotPossible, NoSuchJob):
            pass  # it was too quick
    until(lambda: len(node.records("done")) + len(node.records("failed")) == count, "every job is filed once")
    assert {record.name.split(".")[0] for state in ("done", "failed") for record in node.records(state)} == {
        f"race{number}" for number in range(count)
    }
    for record in node.records("failed"):
        assert result_of(record)["outcome"] == "cancelled"
    until(lambda: not os.listdir(node.spool / "running"), "nothing is left behind")
