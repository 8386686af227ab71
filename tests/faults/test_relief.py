"""A new supervisor has its first job prepared by a fork, starts it, and waits for it: whoever dies, nothing is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from spooldadd import process
from tests.faults.chaos import SUPERVISOR, holder_of, name_of, send
from tests.support import Node, processes_of, result_of, until


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def waits(gate: Path) -> str:
    return f"""command = "echo begun; until test -e {gate}; do sleep 0.05; done; echo end"\n"""


def supervisors(node: Node) -> list[int]:
    return [pid for pid in processes_of(node.work) if name_of(pid) == SUPERVISOR]


def started(node: Node, name: str = "long") -> tuple[int, int]:
    """Wait until the job runs and its fork is gone; return supervisor and job."""
    path = until(lambda: node.records("running", name), f"`{name}` is claimed")[0]
    holder = until(lambda: (found := holder_of(node.spool, path.name)).get("job_pid") and found, "the job is noted")
    until(lambda: supervisors(node) == [holder["supervisor_pid"]], "one supervisor is left")
    return holder["supervisor_pid"], holder["job_pid"]


def test_the_process_that_waits_is_the_parent_of_the_job_and_prepared_nothing(node: Node, gate: Path):
    node.start()
    node.drop("long.toml", waits(gate))
    supervisor, job = started(node)
    until(lambda: process.children(supervisor) == [job], "its fork has ended, and was collected")
    gate.touch()
    finished = node.wait_finished("long")
    assert (finished.parent.name, (finished / "output.log").read_text()) == ("done", "begun\nend\n")
    result = result_of(finished)
    assert result["outcome"] == "success" and result["max_rss_bytes"] > 0 and result["duration_s"] > 0
    until(lambda: not list((node.spool / ".spool" / "locks").iterdir()), "its lock file is removed")


def test_a_supervisor_takes_its_next_job_itself(node: Node, gate: Path):
    node.start("--jobs", "1")
    node.drop("long.toml", waits(gate))
    supervisor, _job = started(node)
    gate.touch()
    node.wait_finished("long")
    node.drop("next.toml", 'command = "ps -o ppid= -p $$ || echo $PPID"\n')
    finished = node.wait_finished("next")
    assert int((finished / "output.log").read_text()) == supervisor


@pytest.mark.parametrize("keys", ["timeout = '1.5s'", "output = '1K'", "stall = '1s'"])
def test_limits_are_kept_by_the_one_that_waits(node: Node, keys: str):
    loop = "while :; do echo some more; done" if "output" in keys else "sleep 60"
    node.drop("long.toml", f'command = "{loop}"\n[limits]\nkill_after = "1s"\n{keys}\n')
    node.start()
    result = result_of(node.wait_finished("long"))
    assert result["outcome"] == keys.partition(" ")[0]


def test_a_cancel_reaches_the_one_that_waits_and_all_that_the_job_has_left(node: Node, gate: Path):
    node.start()
    stubborn = "(trap '' TERM; setsid sleep 61) &"
    limits = '[limits]\nkill_after = "1s"\n'
    node.drop("long.toml", f"""command = "{stubborn} until test -e {gate}; do sleep 0.05; done"\n{limits}""")
    started(node)
    node.run("cancel", "long")
    assert result_of(node.wait_finished("long"))["outcome"] == "cancelled"
    assert not [pid for pid in processes_of(node.work) if name_of(pid) == "sleep"]


def test_a_job_ends_well_when_the_worker_is_gone_while_a_supervisor_waits(node: Node, gate: Path):
    worker = node.start()
    node.drop("long.toml", waits(gate))
    started(node)
    worker.kill()
    worker.wait()
    gate.touch()
    assert result_of(node.wait_finished("long"))["outcome"] == "success"
    until(lambda: not supervisors(node), "the supervisor ends")


def test_a_command_that_cannot_be_started_is_filed_by_the_fork_and_the_next_job_runs(node: Node, gate: Path):
    (script := gate.with_name("script")).write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    node.start("--jobs", "1")
    node.drop("wrong.toml", f'command = ["{script}"]\n')
    finished = node.wait_finished("wrong")
    assert result_of(finished)["exit_code"] == 127
    assert "interpreter" in result_of(finished)["reason"]
    node.drop("long.toml", waits(gate))
    started(node)
    gate.touch()
    assert result_of(node.wait_finished("long"))["outcome"] == "success"


def test_a_fork_goes_on_alone_when_its_supervisor_was_killed_before_the_start(node: Node, gate: Path):
    """A job with a limit that is set in the child stays with the fork; the supervisor behind it is killed meanwhile."""
    node.start("--jobs", "1")
    node.drop("first.toml", waits(gate) + "[limits]\nopen_files = 100\n")
    path = until(lambda: node.records("running", "first"), "it is claimed")[0]
    holder = until(lambda: (found := holder_of(node.spool, path.name)).get("job_pid") and found, "the job is noted")
    (behind,) = set(supervisors(node)) - {holder["supervisor_pid"]}
    send(behind, signal.SIGKILL)
    until(lambda: supervisors(node) == [holder["supervisor_pid"]], "the fork is alone")
    gate.touch()
    assert result_of(node.wait_finished("first"))["outcome"] == "success"
    node.drop("second.toml", "command = 'true'\n")
    assert result_of(node.wait_finished("second"))["outcome"] == "success"
    assert "event=supervisor-gone" not in node.said()


def test_a_supervisor_ends_with_its_fork_and_its_job_runs_again(node: Node, gate: Path):
    node.start("--jobs", "1")
    node.drop("first.toml", "restartable = true\n" + waits(gate) + "[limits]\nopen_files = 100\n")
    path = until(lambda: node.records("running", "first"), "it is claimed")[0]
    holder = until(lambda: (found := holder_of(node.spool, path.name)).get("job_pid") and found, "the job is noted")
    before = supervisors(node)
    assert len(before) == 2
    send(holder["supervisor_pid"], signal.SIGKILL)
    until(lambda: not any(process.start_ticks(pid) for pid in before), "both are gone")
    os.kill(holder["job_pid"], signal.SIGKILL)
    gate.touch()
    finished = node.wait_finished("first")
    assert (finished.parent.name, result_of(finished)["attempt"]) == ("done", 2)
