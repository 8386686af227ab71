"""A spool that vanishes is waited for, and never taken for an empty queue."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.faults.places import NEEDS_MOUNT
from tests.support import SPOOLDADD, Node, processes_of, result_of, until


def gated(gate: Path, more: str = "") -> str:
    return f"""command = "touch {gate}.up; until test -e {gate}; do sleep 0.05; done; echo end"\n{more}"""


def is_away(node: Node) -> bool:
    return node.said().count("event=spool-away") > node.said().count("event=spool-back")


def test_a_spool_that_is_renamed_away_and_back_under_a_job_loses_nothing(node: Node, tmp_path: Path):
    """The job ends while it is away; nothing may be made in its place, or it could not come back."""
    gate, elsewhere = tmp_path / "gate", node.spool.with_name("elsewhere")
    node.start()
    spec = gated(gate, '[keep]\nfiles = ["deep/*.csv"]\n').replace("echo end", "mkdir deep; echo 1 > deep/a.csv")
    node.drop("one.toml", spec)
    until(Path(f"{gate}.up").exists, "it runs")
    node.spool.rename(elsewhere)
    until(lambda: is_away(node), "the worker says that it is away")
    gate.touch()
    until(lambda: "event=filing-waits" in node.said(), "the supervisor waits for it")
    assert not node.spool.exists()
    (elsewhere / "two.toml").write_text("command = 'echo two'\n")
    elsewhere.rename(node.spool)
    record = node.wait_finished("one")
    assert (record.parent.name, result_of(record)["outcome"]) == ("done", "success")
    assert (record / "deep" / "a.csv").read_text() == "1\n"
    assert result_of(node.wait_finished("two"))["outcome"] == "success"
    assert "event=spool-back" in node.said()
    assert "claim-lost" not in node.said()


def test_a_spool_that_comes_back_while_nothing_runs_is_served_again(node: Node):
    elsewhere = node.spool.with_name("elsewhere")
    node.start()
    node.spool.rename(elsewhere)
    until(lambda: is_away(node), "the worker says that it is away")
    elsewhere.rename(node.spool)
    until(lambda: not is_away(node), "it is back")
    node.drop("one.toml", "command = 'echo one'\n")
    assert result_of(node.wait_finished("one"))["outcome"] == "success"


def test_a_worker_ends_at_once_though_its_spool_is_away(node: Node):
    worker = node.start()
    node.spool.rename(node.spool.with_name("elsewhere"))
    until(lambda: is_away(node), "the worker says that it is away")
    worker.terminate()
    assert worker.wait(20) == 0


def test_an_unmounted_share_is_refused_at_the_start(tmp_path: Path):
    """What is left is an empty directory; a worker that served it would make a second spool below the mount."""
    done = subprocess.run([SPOOLDADD, "worker", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 4
    assert "is not a spool" in done.stderr
    assert "is the share mounted?" in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_spool_without_its_marker_is_refused_at_the_start(node: Node):
    (node.spool / ".spool" / "format.toml").unlink()
    node.drop("one.toml", "command = 'true'\n")
    done = node.run("worker", str(node.spool), check=False)
    assert done.returncode == 4
    assert (node.spool / "one.toml").exists()


@NEEDS_MOUNT
def test_a_share_that_is_unmounted_under_a_job_is_waited_for(node: Node, tmp_path: Path):
    gate, real = tmp_path / "gate", node.spool.with_name("real")
    node.spool.rename(real)
    node.spool.mkdir()
    subprocess.run(["mount", "--bind", real, node.spool], check=True)
    try:
        node.start(environ={"SPOOLDADD_INTAKE__SCAN_INTERVAL": "500ms"})  # no event tells of it
        node.drop("one.toml", gated(gate))
        until(Path(f"{gate}.up").exists, "it runs")
        subprocess.run(["umount", "-l", node.spool], check=True)
        until(lambda: is_away(node), "the worker says that it is away")
        gate.touch()
        until(lambda: "event=filing-waits" in node.said(), "the supervisor waits for it")
        assert os.listdir(node.spool) == []
        subprocess.run(["mount", "--bind", real, node.spool], check=True)
        record = node.wait_finished("one")
        assert (record.parent.name, result_of(record)["outcome"]) == ("done", "success")
        node.drop("two.toml", "command = 'echo two'\n")
        assert result_of(node.wait_finished("two"))["outcome"] == "success"
    finally:
        node.close()
        subprocess.run(["umount", "-l", node.spool], check=False, capture_output=True)
        subprocess.run(["rm", "-rf", node.spool.parent], check=True)


def test_another_spool_in_its_place_is_not_taken_for_it(node: Node, tmp_path: Path):
    """A supervisor that found a spool, but not its record, took the record for somebody else's and dropped the result."""
    gate, elsewhere, other = tmp_path / "gate", node.spool.with_name("elsewhere"), node.spool.with_name("other")
    node.run("init", str(other))
    (other / "stranger.toml").write_text("command = 'true'\n")
    node.start()
    node.drop("one.toml", gated(gate))
    until(Path(f"{gate}.up").exists, "it runs")
    node.spool.rename(elsewhere)
    other.rename(node.spool)
    until(lambda: is_away(node), "the worker says that its own is away")
    gate.touch()
    until(lambda: "event=filing-waits" in node.said(), "the supervisor waits for it")
    assert (node.spool / "stranger.toml").exists()
    node.spool.rename(other)
    elsewhere.rename(node.spool)
    record = node.wait_finished("one")
    assert (record.parent.name, result_of(record)["outcome"]) == ("done", "success")


def test_a_copy_of_the_spool_in_its_place_is_served(node: Node):
    """As after a move to a larger disk: the same spool, in another directory under the same name."""
    node.start()
    copy = node.spool.with_name("copy")
    subprocess.run(["cp", "-a", node.spool, copy], check=True)
    node.spool.rename(node.spool.with_name("old"))
    copy.rename(node.spool)
    node.drop("one.toml", "command = 'echo one'\n")
    assert result_of(node.wait_finished("one"))["outcome"] == "success"


@pytest.mark.slow
def test_a_spool_that_was_deleted_keeps_no_job_and_no_supervisor(node: Node):
    """It takes a minute until that is taken for certain; the job ran on for ever before, and its supervisor with it."""
    worker = node.start()
    node.drop("one.toml", "command = 'exec sleep 86400'\n")
    until(lambda: "event=started" in node.said(), "it runs")
    worker.terminate()
    worker.wait(60)
    shutil.rmtree(node.spool)
    until(lambda: "was deleted" in node.said(), "its supervisor says so", 300)
    until(lambda: not processes_of(node.work), "nothing is left of it", 60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_hangs_at_its_start_ends_at_a_signal(node: Node, number: int):
    """A call on a hung share ends only where the kernel's own answer to the signal stands: Python's waits for the call."""
    marked = node.spool / ".spool" / "format.toml"
    marked.unlink()
    os.mkfifo(marked)  # nobody writes: to read it hangs
    command = [*node.command, "worker", str(node.spool)]
    worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=node.environ)
    until(lambda: _is_asleep_in_open(worker.pid), "it hangs")
    caught = int(_status(worker.pid, "SigCgt"), 16)
    assert not caught & (1 << (number - 1)), "it would wait for the call"
    worker.send_signal(number)
    assert worker.wait(60) == -number


def _status(pid: int, field: str) -> str:
    text = Path("/proc", str(pid), "status").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.startswith(f"{field}:"))


def _is_asleep_in_open(pid: int) -> bool:
    """In `openat`, of a fifo without a writer. Source: proc_pid_syscall(5)."""
    return Path("/proc", str(pid), "wchan").read_text() in ("wait_for_partner", "fifo_open") or (
        _status(pid, "State") == "S" and Path("/proc", str(pid), "syscall").read_text().startswith("257 ")
    )
