"""Promises 2 and 3: a running job is nobody's hostage, and nobody starts its twin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from spooldadd import claim, process, record
from spooldadd.layout import Layout
from spooldadd.tomltext import flat
from tests.faults.bench import DEAD_PID, LINE, Bench
from tests.faults.chaos import LAUNCHER, SUPERVISOR, holder_of, name_of, send
from tests.support import Node, processes_of, result_of, until


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Jobs wait until this file exists, so no test has to guess how long one runs."""
    return tmp_path / "gate"


def job(gate: Path, **keys: object) -> str:
    """A job that says that it runs, and ends when the gate opens."""
    lines = gate.with_name("lines")
    script = f"""echo "$SPOOLDADD_JOB $SPOOLDADD_ATTEMPT" >> {lines}; until test -e {gate}; do sleep 0.05; done; echo end"""
    return flat({"command": script, **keys})


def runs(gate: Path) -> list[str]:
    lines = gate.with_name("lines")
    return lines.read_text().splitlines() if lines.exists() else []


def places_of(node: Node) -> Layout:
    return Layout(str(node.spool))


def holder(node: Node, path: Path, key: str) -> int:
    """A process from the lock file of a running record."""
    return until(lambda: holder_of(node.spool, path.name).get(key), f"the lock file names the {key}")


def start_one(node: Node, gate: Path, name: str = "long", **keys: object) -> Path:
    node.drop(f"{name}.toml", job(gate, **keys))
    until(lambda: any(line.startswith(f"{name}.") for line in runs(gate)), f"`{name}` runs")
    return next(path for path in node.records("running") if path.name.startswith(f"{name}."))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_job_outlives_its_worker_and_is_filed_by_its_supervisor(node: Node, gate: Path, number: int):
    worker = node.start()
    start_one(node, gate)
    worker.send_signal(number)
    assert worker.wait(20) == (-9 if number == signal.SIGKILL else 0)
    gate.touch()
    result = result_of(node.wait_finished("long"))
    assert (result["outcome"], result["attempt"], result["exit_code"]) == ("success", 1, 0)
    until(lambda: not processes_of(node.work), "its supervisor ends, too")
    assert len(runs(gate)) == 1
    assert os.listdir(node.spool / ".spool" / "locks") == []


def test_a_new_worker_counts_the_jobs_of_a_dead_one(node: Node, gate: Path):
    first = node.start("--jobs", "2")
    start_one(node, gate, "first")
    start_one(node, gate, "second")
    first.kill()
    first.wait()
    node.drop("third.toml", job(gate))
    node.drop("fourth.toml", job(gate))
    node.start("--jobs", "2", environ={"SPOOLDADD_INTAKE__SETTLE": "0s"})
    until(lambda: status_of(node) == "waiting=2 running=2", "the new worker has seen all four")
    assert {path.name.split(".")[0] for path in node.records("running")} == {"first", "second"}
    gate.touch()
    for name in ("first", "second", "third", "fourth"):
        assert result_of(node.wait_finished(name))["outcome"] == "success"
    assert len(runs(gate)) == len(set(runs(gate))) == 4


def status_of(node: Node) -> str:
    """What the worker last said about itself, in one line."""
    paths = (node.spool / ".spool" / "nodes").glob("[!.]*.toml")  # and not what is being written
    found = [tomllib.loads(path.read_text()) for path in paths]
    return " ".join(f"waiting={table['waiting']} running={table['running']}" for table in found)


def test_a_killed_launcher_is_replaced_and_its_supervisors_go_on(node: Node, gate: Path):
    node.start("--jobs", "2")
    start_one(node, gate)
    (launcher,) = [pid for pid in processes_of(node.work) if name_of(pid) == LAUNCHER]
    send(launcher, signal.SIGKILL)
    node.drop("next.toml", "command = 'echo next'\n")
    assert result_of(node.wait_finished("next"))["outcome"] == "success"
    gate.touch()
    assert result_of(node.wait_finished("long"))["outcome"] == "success"
    assert len(runs(gate)) == 1


def test_a_job_whose_supervisor_was_killed_lives_on_without_a_twin_and_ends_lost(node: Node, gate: Path):
    node.start()
    path = start_one(node, gate)
    holder(node, path, "job_pid")  # it notes the job after it has started it
    send(holder(node, path, "supervisor_pid"), signal.SIGKILL)
    until(lambda: "event=supervisor-gone" in node.said(), "the worker notices")
    node.drop("other.toml", "command = 'true'\n")
    node.wait_finished("other")
    job_pid, start = holder(node, path, "job_pid"), holder(node, path, "job_start")
    assert process.is_alive(job_pid, start)
    assert claim.is_held(places_of(node), path.name)
    gate.touch()
    finished = node.wait_finished("long")
    result = result_of(finished)
    assert (finished.parent.name, result["outcome"]) == ("failed", "lost")
    assert "restartable = true" in result["reason"]
    assert len(runs(gate)) == 1
    assert (finished / "output.log").read_text() == "end\n"


def test_a_restartable_job_whose_supervisor_was_killed_runs_again_when_it_has_ended(node: Node, gate: Path):
    node.start()
    path = start_one(node, gate, restartable=True)
    send(holder(node, path, "supervisor_pid"), signal.SIGKILL)
    until(lambda: "event=supervisor-gone" in node.said(), "the worker notices")
    assert len(runs(gate)) == 1
    gate.touch()
    finished = node.wait_finished("long")
    assert (finished.parent.name, result_of(finished)["attempt"]) == ("done", 2)
    assert result_of(finished / "attempts" / "1")["outcome"] == "lost"
    assert [line.split()[1] for line in runs(gate)] == ["1", "2"]


def test_a_job_that_kills_its_supervisor_is_lost_and_harms_no_other(node: Node, gate: Path):
    node.start("--jobs", "2")
    start_one(node, gate, "other")
    node.drop("killer.toml", "command = 'kill -9 $PPID; echo done it'\n")
    assert result_of(node.wait_finished("killer"))["outcome"] == "lost"
    gate.touch()
    assert result_of(node.wait_finished("other"))["outcome"] == "success"


def test_a_supervisor_ends_with_its_worker_when_it_has_nothing_to_do(node: Node):
    worker = node.start()
    node.drop("one.toml", "command = 'true'\n")
    node.wait_finished("one")
    until(lambda: any(name_of(pid) == SUPERVISOR for pid in processes_of(node.work)), "it waits for the next job")
    worker.kill()
    worker.wait()
    until(lambda: not processes_of(node.work), "nothing is left")


def test_what_a_lost_attempt_left_running_is_ended_before_the_next(node: Node, gate: Path):
    """A child that closed the lease is found by its environment."""
    detached = "import os, time; os.closerange(3, 100); open('%s', 'w').write(str(os.getpid())); time.sleep(600)"
    pid_file = gate.with_name("pid")
    start = f'{sys.executable} -c "{detached % pid_file}" &'
    script = f"""{start} until test -s {pid_file}; do sleep 0.05; done; kill -9 $PPID"""
    node.start()
    node.drop("leaky.toml", flat({"command": script}))
    assert result_of(node.wait_finished("leaky"))["outcome"] == "lost"
    assert process.start_ticks(int(pid_file.read_text())) is None


# -- what only a lock file tells


def leave_running(bench: Bench, spec: str, supervisor: dict[str, object], holder: claim.Holder | None = None) -> None:
    """Leave a record whose attempt somebody took who is not there any more."""

    def die() -> None:
        the_spool = bench.open()
        the_spool.holder = holder or the_spool.holder
        claimed = the_spool.claim_drop("one.toml", "one", "default")
        os.write(claimed.lease, flat(supervisor).encode())

    bench.drop(spec)
    assert bench.in_fork(die) == 0, bench.said()


def finished_result(bench: Bench) -> dict:
    (path,) = [*(bench.spool_path / "done").iterdir(), *(bench.spool_path / "failed").iterdir()]
    return result_of(path)


def test_a_pid_that_was_given_out_again_is_nobodys_supervisor(bench: Bench):
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        start = process.start_ticks(sleeper.pid)
        assert start
        old = {"supervisor_pid": sleeper.pid, "supervisor_start": start - 1, "job_pid": sleeper.pid, "job_start": start - 2}
        leave_running(bench, f"command = '{LINE}'\n", old)
        bench.recover()
        assert finished_result(bench)["outcome"] == "lost"
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_supervisor_that_lives_is_left_alone_though_its_lease_is_free(bench: Bench):
    """A job may close every descriptor, and its supervisor be killed: then only the pids tell."""
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        own = {"supervisor_pid": DEAD_PID, "supervisor_start": 1}
        own |= {"job_pid": sleeper.pid, "job_start": process.start_ticks(sleeper.pid)}
        leave_running(bench, f"command = '{LINE}'\nrestartable = true\n", own)
        bench.recover()
        assert len(os.listdir(bench.spool_path / "running")) == 1
    finally:
        sleeper.kill()
        sleeper.wait()
    bench.recover()
    assert bench.drain() == 0
    assert bench.problems() == []
    assert bench.attempts_run() == [2]


@pytest.mark.parametrize("restartable", [False, True])
def test_after_a_reboot_pids_mean_nothing(bench: Bench, *, restartable: bool):
    """The pid and the start time fit a living process, but the boot id says that they are another's."""
    own = os.getpid()
    before = claim.Holder("here", "11111111-2222-3333-4444-555555555555", own, process.start_ticks(own) or 0)
    mine = {"supervisor_pid": own, "supervisor_start": process.start_ticks(own)}
    spec = f"command = '{LINE}'\nrestartable = {str(restartable).lower()}\n"
    leave_running(bench, spec, mine, before)
    bench.recover()
    assert bench.drain() == 0
    assert bench.problems() == []
    result = finished_result(bench)
    if restartable:
        assert (result["outcome"], result["attempt"]) == ("success", 2)
    else:
        assert result["outcome"] == "lost"
        assert "the machine `here` went down" in result["reason"]


def test_a_record_of_another_node_is_left_alone(bench: Bench):
    leave_running(bench, f"command = '{LINE}'\n", {"supervisor_pid": DEAD_PID}, claim.Holder("there", "boot", 1, 1))
    bench.recover()
    assert len(os.listdir(bench.spool_path / "running")) == 1
    assert bench.attempts_run() == []


def test_a_lock_file_that_a_person_removed_starts_no_twin(bench: Bench):
    """Without it nobody knows whether the attempt had started, so it counts as one that had."""
    leave_running(bench, f"command = '{LINE}'\n", {})
    (lock,) = (bench.spool_path / ".spool" / "locks").iterdir()
    lock.unlink()
    bench.recover()
    assert finished_result(bench)["outcome"] == "lost"
    assert bench.problems() == []


def test_a_line_that_was_cut_short_in_a_lock_file_hides_no_other(bench: Bench):
    """On a full disk a line is written in part, then again. TOML as a whole was unreadable then, and the job `lost`."""
    own = {"supervisor_pid": os.getpid(), "supervisor_start": process.start_ticks(os.getpid())}
    leave_running(bench, f"command = '{LINE}'\n", {})
    (lock,) = (bench.spool_path / ".spool" / "locks").iterdir()
    with lock.open("a") as file:
        file.write(f"supervisor_pid = {own['supervisor_pid']}\nsupervisor_st\n{flat(own)}")
    held = claim.read_holder(bench.open().places, lock.name.removesuffix(".lock"))
    assert held.has_live_process()
    assert held.node == "here"
    bench.recover()
    assert len(os.listdir(bench.spool_path / "running")) == 1


def test_an_error_in_the_middle_of_a_recovery_keeps_no_lease(bench: Bench):
    """It stayed open in the worker, so the record was `running` until the worker ended."""
    from spooldadd import recovery

    leave_running(bench, f"command = '{LINE}'\n", {"supervisor_pid": DEAD_PID, "supervisor_start": 1})
    (name,) = os.listdir(bench.spool_path / "running")

    def broken_policy(_path: str):
        raise OSError(5, "Input/output error")

    context = bench.context()
    broken = recovery.Context(context.spool, context.log, broken_policy)
    assert recovery.recover_all(broken) == {name: recovery.Found.IN_TROUBLE}
    assert not claim.is_held(bench.open().places, name)
    assert recovery.recover_all(context) == {name: recovery.Found.LOST}
    assert record.read_result(str(bench.spool_path / "failed" / name.rsplit(".", 2)[0]), 1)
