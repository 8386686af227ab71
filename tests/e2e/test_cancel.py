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


def has_started(node, name: str) -> bool:
    return f"event=started job={name}." in node.said()


def start_stubborn(node, name: str) -> None:
    """Run a job that ends at no signal but the last, in an hour."""
    node.drop(
        f"{name}.toml", """command = "trap '' TERM; echo ready; while :; do sleep 0.1; done"\n[limits]\nkill_after = '1h'"""
    )
    logs = node.spool / "running"
    until(lambda: any("ready" in path.read_text() for path in logs.glob(f"{name}.*/output.log")), "it ignores TERM")


def is_running(pid: int) -> bool:
    return Path("/proc", str(pid)).exists()


def test_a_running_job_ends_with_everything_it_started(served):
    served.drop("forks.toml", 'command = "sleep 600 & echo $!; setsid sleep 600 & echo $!; wait"')
    pids = until(lambda: len(children_of(served, "forks")) == 2 and children_of(served, "forks"), "it has started")
    started = time.monotonic()
    assert served.run("cancel", "forks").stdout.startswith("forks.")
    assert time.monotonic() - started < 30
    assert not any(map(is_running, pids))
    result = result_of(served.records("failed", "forks")[0])
    assert (result["outcome"], result["state"]) == ("cancelled", "failed")


def test_a_job_that_waits_in_the_root_never_starts(node):
    node.drop("later.toml", 'command = "true"')
    node.run("cancel", "later.toml")
    log = node.drain()
    (record,) = node.records("failed")
    assert result_of(record)["reason"] == "it was cancelled before it started"
    assert "event=started" not in log
    assert not (record / "output.log").exists()


def test_a_job_between_attempts_is_over(served):
    served.drop("load.toml", 'command = "false"\n[retry]\nattempts = 3\nbackoff = "1h"')
    until(lambda: served.records("waiting", "load"), "it waits for its next attempt")
    served.run("cancel", "load")
    assert result_of(served.records("failed", "load")[0])["outcome"] == "cancelled"
    assert not served.records("waiting", "load")


def test_a_cancelled_job_is_not_retried_by_itself(served):
    served.drop("tries.toml", 'command = "sleep 600"\n[retry]\nattempts = 5\nbackoff = "0s"')
    until(lambda: has_started(served, "tries"), "it has started")
    served.run("cancel", "tries")
    assert served.records("failed", "tries")


def test_who_does_not_wait_is_back_before_the_job_has_ended(served):
    start_stubborn(served, "stubborn")
    served.run("cancel", "--no-wait", "stubborn")
    assert served.records("running", "stubborn")


def test_who_waits_in_vain_leaves_with_5(served):
    start_stubborn(served, "deaf")
    done = served.run("cancel", "--timeout", "0.3s", "deaf", check=False)
    assert done.returncode == 5
    assert "has not yet" in done.stderr


def test_a_job_that_has_ended_cannot_be_cancelled(served):
    served.ran("quick", 'command = "true"')
    done = served.run("cancel", "quick", check=False)
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


def test_a_file_in_the_record_made_by_hand_does_the_same(served):
    served.drop("long.toml", 'command = "sleep 600"')
    (record,) = until(lambda: has_started(served, "long") and served.records("running", "long"), "it has started")
    (record / "cancel").touch()
    assert result_of(served.wait_finished("long"))["outcome"] == "cancelled"


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
