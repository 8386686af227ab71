"""Another release is installed under a running worker: the two sides of a channel must never speak two languages."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import spooldadd
from spooldadd import process
from tests.support import Node, result_of, until


def test_worker_whose_launcher_died_after_an_upgrade_asks_to_be_started_again(
    make_node: Callable[..., Node], tmp_path: Path
) -> None:
    """The launcher was once started with the first job, from whatever lay on disk by then: its reports broke the worker."""
    package = tmp_path / "spooldadd"
    shutil.copytree(Path(spooldadd.__file__).parent, package)
    node = make_node(
        command=[sys.executable, "-m", "spooldadd"], environ={"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    )
    worker = node.start()
    node.drop("before.toml", 'command = "echo before"')
    node.wait_finished("before")
    plan = package / "plan.py"
    replaced = plan.with_suffix(".new")
    replaced.write_text(plan.read_text() + "\n# another release\n")
    replaced.rename(plan)
    node.drop("with-the-old-launcher.toml", 'command = "echo old"')
    assert result_of(node.wait_finished("with-the-old-launcher"))["outcome"] == "success"
    launcher_and_supervisors = process.descendants(worker.pid)
    assert launcher_and_supervisors
    process.send(launcher_and_supervisors, signal.SIGKILL)
    until(lambda: not process.descendants(worker.pid), "the launcher and its idle supervisors are gone")
    node.drop("after.toml", 'command = "echo after"')
    assert until(lambda: worker.poll() is not None, "the worker ends") and worker.returncode == 75
    assert "another release was installed" in node.said()
    node.start()
    assert result_of(node.wait_finished("after"))["attempt"] == 1


def test_spec_on_which_we_fail_ourselves_is_filed_and_the_next_one_runs(
    make_node: Callable[..., Node], tmp_path: Path
) -> None:
    """A fault of ours in planning ended the worker once, and again at each start, because the spec was still there."""
    package = tmp_path / "spooldadd"
    shutil.copytree(Path(spooldadd.__file__).parent, package)
    planning = package / "planning.py"
    broken = planning.read_text().replace("    plan = Plan()\n", "    plan = Plan()\n    1 / (spec.priority - 7)\n", 1)
    assert broken != planning.read_text()
    planning.write_text(broken)
    environ = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    node = make_node(command=[sys.executable, "-m", "spooldadd"], environ=environ)
    node.drop("cursed.toml", 'command = "echo cursed"\npriority = 7\n')
    node.drop("next.toml", 'command = "echo next"\n')
    node.drain()
    assert "ZeroDivisionError" in result_of(node.finished("cursed"))["reason"]
    assert result_of(node.finished("next"))["outcome"] == "success"
