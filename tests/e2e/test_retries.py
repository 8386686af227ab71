"""Attempts that follow a failed one: when, how often, and what is kept of each."""

from __future__ import annotations

import os
import shutil
import signal
import time
import tomllib

import pytest

from spooldadd.tomltext import dumps
from tests.support import Node, result_of, until

# Fails until it has been called as often as its argument says.
NTH = 'echo attempt $SPOOLDADD_ATTEMPT; echo about $SPOOLDADD_ATTEMPT > note; [ "$SPOOLDADD_ATTEMPT" -ge {} ]'


def retry(attempts: int, backoff: str = "0.1s", **more) -> dict:
    return {"retry": {"attempts": attempts, "backoff": backoff, **more}}


def test_attempts_follow_until_one_succeeds_and_each_is_kept(served: Node) -> None:
    record = served.ran("third", dumps({"command": NTH.format(3), **retry(5), "keep": {"files": ["note"]}}))
    result = result_of(record)
    assert (record.parent.name, result["outcome"], result["attempt"]) == ("done", "success", 3)
    assert (record / "output.log").read_text() == "attempt 3\n"
    assert (record / "note").read_text() == "about 3\n"
    for number in (1, 2):
        earlier = record / "attempts" / str(number)
        assert (earlier / "output.log").read_text() == f"attempt {number}\n"
        assert (earlier / "note").read_text() == f"about {number}\n"
        assert (earlier / "claim.toml").exists()
        kept = result_of(earlier)
        assert (kept["attempt"], kept["outcome"], kept["state"], kept["exit_code"]) == (number, "exit", "waiting", 1)
    assert sorted(path.name for path in (record / "attempts").iterdir()) == ["1", "2"]
    assert result["submitted_at"] == result_of(record / "attempts" / "1")["submitted_at"]


def test_last_attempt_ends_in_failed(served: Node) -> None:
    record = served.ran("never", dumps({"command": "exit 4", **retry(3)}))
    assert (record.parent.name, result_of(record)["attempt"], result_of(record)["exit_code"]) == ("failed", 3, 4)
    assert "next_attempt_at" not in result_of(record)
    assert len(list((record / "attempts").iterdir())) == 2


def test_backoff_doubles_with_jitter(served: Node) -> None:
    record = served.ran("slow", dumps({"command": "exit 1", **retry(4, "0.2s")}))
    results = [*(result_of(record / "attempts" / str(number)) for number in (1, 2, 3)), result_of(record)]
    for number in range(3):
        wanted_s = 0.2 * 2**number
        planned_s = (results[number]["next_attempt_at"] - results[number]["finished_at"]).total_seconds()
        assert 0.9 * wanted_s - 0.01 <= planned_s <= 1.1 * wanted_s + 0.3
        assert results[number + 1]["claimed_at"] >= results[number]["next_attempt_at"]


def test_only_outcomes_that_are_named_are_retried(served: Node) -> None:
    on_timeout = retry(3, on=["timeout"])
    served.drop("exits.toml", dumps({"command": "exit 1", **on_timeout}))
    served.drop("hangs.toml", dumps({"command": "sleep 300", "limits": {"timeout": "0.2s"}, **on_timeout}))
    served.drop("prints.toml", dumps({"command": "yes | head -c 5000", "limits": {"output": "1K"}, **retry(3)}))
    served.drop("killed.toml", dumps({"command": "kill -9 $$", **retry(2)}))
    served.ran("invalid", "retry = 3\n")
    names = ("exits", "hangs", "prints", "killed", "invalid")
    attempts = {name: result_of(served.wait_finished(name))["attempt"] for name in names}
    assert attempts == {"exits": 1, "hangs": 3, "prints": 1, "killed": 2, "invalid": 1}


def test_place_is_free_while_a_job_waits_for_its_next_attempt(node: Node) -> None:
    node.start("--jobs", "1")
    node.drop("fails.toml", dumps({"command": "exit 1", **retry(2, "1h")}))
    until(lambda: node.records("waiting", "fails"), "it waits")
    node.drop("other.toml", 'command = ["true"]\n')
    node.wait_finished("other")
    (record,) = node.records("waiting", "fails")
    result = result_of(record)
    assert (result["state"], result["outcome"]) == ("waiting", "exit")
    assert 3000 < (result["next_attempt_at"] - result["finished_at"]).total_seconds() < 4000


def test_now_file_ends_the_wait(served: Node) -> None:
    served.drop("hurried.toml", dumps({"command": NTH.format(2), **retry(2, "1h")}))
    (record,) = until(lambda: served.records("waiting", "hurried"), "it waits")
    (record / "now").touch()
    (served.spool / ".wake").touch()
    assert result_of(served.wait_finished("hurried"))["attempt"] == 2


def test_hold_file_keeps_a_waiting_record_back(node: Node) -> None:
    node.start()
    node.drop("fails.toml", dumps({"command": NTH.format(2), **retry(2, "2s")}))
    (record,) = until(lambda: node.records("waiting", "fails"), "it waits")
    (record / "hold").touch()  # no event tells of it: the worker watches `waiting/` and not what is in a record
    due = result_of(record)["next_attempt_at"].timestamp() + 0.7
    until(lambda: time.time() > due, "its time has come")
    assert record.exists()
    (record / "hold").unlink()
    (node.spool / ".wake").touch()
    assert result_of(node.wait_finished("fails"))["attempt"] == 2


@pytest.mark.parametrize("is_running", [True, False], ids=["with a worker", "before a worker"])
def test_failed_record_moved_to_waiting_by_hand_runs_again(node: Node, is_running: bool) -> None:
    flag = node.spool.parent / "mended"
    node.drop("broken.toml", dumps({"command": f"test -e {flag}"}))
    node.drain()
    record = node.finished("broken")
    assert record.parent.name == "failed"
    flag.touch()
    if is_running:
        node.start()
    shutil.move(record, node.spool / "waiting")
    if not is_running:
        node.start()
    again = until(lambda: node.records("done", "broken"), "it runs again")[0]
    assert again.name == record.name
    assert result_of(again)["attempt"] == 2
    assert result_of(again / "attempts" / "1")["state"] == "failed"


@pytest.mark.slow
def test_record_may_run_many_times_by_hand(node: Node) -> None:
    node.drop("again.toml", dumps({"command": "exit $SPOOLDADD_ATTEMPT"}))
    for attempt in range(1, 4):
        node.drain()
        record = node.finished("again")
        assert (result_of(record)["attempt"], result_of(record)["exit_code"]) == (attempt, attempt)
        record.rename(node.spool / "waiting" / record.name)


def test_refused_spec_that_is_mended_in_place_runs_under_its_id(served: Node) -> None:
    record = served.ran("typo", 'comand = ["true"]\n')
    (record / "spec.toml").write_text('command = ["true"]\n')
    record.rename(served.spool / "waiting" / record.name)
    (again,) = until(lambda: served.records("done", "typo"), "it runs")
    assert again.name == record.name
    assert not (again / "errors.txt").exists()
    assert "comand" in (again / "attempts" / "1" / "errors.txt").read_text()


def test_done_record_copied_back_as_a_spec_is_another_job(served: Node) -> None:
    record = served.ran("report", 'command = ["true"]\n')
    shutil.copy(record / "spec.toml", served.spool / "report.toml")
    until(lambda: len(served.records("done", "report")) == 2, "it is done, too")


# -- lost and found


def _lose(node: Node, name: str, attempts_file: str, **spec) -> None:
    """Start a job and kill it together with its supervisor."""
    command = f"echo $SPOOLDADD_ATTEMPT >> {attempts_file}; [ $SPOOLDADD_ATTEMPT -gt 1 ] || exec sleep 300"
    node.drop(f"{name}.toml", dumps({"command": command, **spec}))
    until(lambda: os.path.exists(attempts_file) and os.path.getsize(attempts_file), "it runs")
    (record,) = node.records("running", name)
    lock = node.spool / ".spool" / "locks" / f"{record.name}.lock"
    until(lambda: "job_pid" in lock.read_text(), "its processes are noted")
    holder = tomllib.loads(lock.read_text())
    os.kill(holder["supervisor_pid"], signal.SIGKILL)
    os.kill(holder["job_pid"], signal.SIGKILL)


def test_restartable_job_whose_supervisor_was_lost_runs_again(node: Node) -> None:
    node.start()
    out = str(node.spool.parent / "attempts")
    _lose(node, "again", out, restartable=True)
    record = node.wait_finished("again")
    assert (result_of(record)["outcome"], result_of(record)["attempt"]) == ("success", 2)
    lost = result_of(record / "attempts" / "1")
    assert (lost["outcome"], lost["state"]) == ("lost", "waiting")
    assert "restartable, so it runs again" in lost["reason"]
    with open(out) as file:
        assert file.read().split() == ["1", "2"]


def test_job_that_is_not_restartable_is_lost_once_and_for_all(node: Node) -> None:
    node.start()
    out = str(node.spool.parent / "attempts")
    _lose(node, "once", out, **retry(5))
    record = node.wait_finished("once")
    result = result_of(record)
    assert (record.parent.name, result["outcome"], result["attempt"]) == ("failed", "lost", 1)
    assert "restartable = true" in result["reason"]
    assert (record / "output.log").exists()


def test_restartable_job_stops_at_its_attempts(node: Node) -> None:
    node.start()
    command = "kill -9 $PPID; exec sleep 0.1"
    node.drop("deadly.toml", dumps({"command": command, "restartable": True, **retry(2)}))
    record = node.wait_finished("deadly")
    assert (result_of(record)["outcome"], result_of(record)["attempt"]) == ("lost", 2)
    assert "no attempts are left" in result_of(record)["reason"]
