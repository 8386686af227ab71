"""Promise 2: even replacing the installed package does not touch a running job."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import spooldadd
from tests.support import Node, processes_of, result_of, until

BROKEN = 'raise ImportError("this release is being installed")\n'
SCRIPT = """#!{python}
import sys
from spooldadd.cli import main
sys.exit(main())
"""


class Installation:
    """The package in a place of its own, with the console command as an installer writes it."""

    def __init__(self, root: Path) -> None:
        self.library = root / "lib"
        self.command = root / "bin" / "spooldadd"
        self.install()
        self.command.parent.mkdir()
        self.command.write_text(SCRIPT.format(python=sys.executable))
        self.command.chmod(0o755)

    @property
    def environ(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.library)}

    def install(self) -> None:
        """Put a good package in place, and nothing of an earlier one."""
        shutil.rmtree(self.library, ignore_errors=True)
        source = Path(spooldadd.__file__).parent
        shutil.copytree(source, self.library / "spooldadd")

    def break_it(self) -> None:
        """Replace each module by one that raises on import."""
        shutil.rmtree(self.library)
        source = Path(spooldadd.__file__).parent
        for path in source.rglob("*.py"):
            target = self.library / "spooldadd" / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(BROKEN)

    def remove(self) -> None:
        """Take it away altogether."""
        shutil.rmtree(self.library)


@pytest.fixture
def installed(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def start_job(node: Node, gate: Path, name: str = "long", more: str = "") -> None:
    lines = gate.with_name("lines")
    script = f"echo {name} >> {lines}; until test -e {gate}; do sleep 0.05; done; echo the last line"
    node.drop(f"{name}.toml", f"""command = "{script}"\n{more}""")
    until(lambda: lines.exists() and name in lines.read_text().split(), "it runs")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("change", [Installation.break_it, Installation.remove], ids=["broken", "removed"])
def test_a_job_is_filed_by_its_supervisor_while_the_package_is_replaced(
    make_node, installed: Installation, tmp_path: Path, change: Callable[[Installation], None], number: int
):
    node: Node = make_node(command=[str(installed.command)], environ=installed.environ)
    gate = tmp_path / "gate"
    worker = node.start()
    start_job(node, gate, "kept", '[keep]\nfiles = ["*.csv"]\n')
    worker.send_signal(number)
    worker.wait(20)
    change(installed)
    if change is Installation.break_it:
        assert node.run("status", check=False).returncode != 0, "the command works although its package does not"

    gate.touch()
    record = node.wait_finished("kept")
    assert (record.parent.name, result_of(record)["outcome"]) == ("done", "success")
    assert (record / "output.log").read_text() == "the last line\n"
    until(lambda: not processes_of(node.work), "its supervisor ends")
    assert os.listdir(node.spool / ".spool" / "locks") == []

    installed.install()
    shown = json.loads(node.run("status", "--json").stdout)
    assert shown["counts"]["done"] == 1
    node.start()
    node.drop("next.toml", "command = 'echo next'\n")
    assert result_of(node.wait_finished("next"))["outcome"] == "success"
    assert (tmp_path / "lines").read_text().split() == ["kept"]


def test_a_failing_job_is_filed_with_its_reason_while_the_package_is_broken(make_node, installed, tmp_path: Path):
    node: Node = make_node(command=[str(installed.command)], environ=installed.environ)
    worker = node.start()
    gate = tmp_path / "gate"
    node.drop("fails.toml", f"""command = "touch {gate}.up; until test -e {gate}; do sleep 0.05; done; kill -11 $$"\n""")
    until(Path(f"{gate}.up").exists, "it runs")
    worker.terminate()
    worker.wait(20)
    installed.break_it()
    gate.touch()
    result = result_of(node.wait_finished("fails"))
    assert (result["state"], result["outcome"], result["signal"]) == ("failed", "signal", 11)
    assert "SIGSEGV" in result["reason"]


def test_a_job_runs_into_its_timeout_while_the_package_is_broken(make_node, installed, tmp_path: Path):
    node: Node = make_node(command=[str(installed.command)], environ=installed.environ)
    worker = node.start()
    started = tmp_path / "started"
    spec = f"""command = "touch {started}; sleep 600"\n[limits]\ntimeout = "3s"\nkill_after = "1s"\n"""
    node.drop("slow.toml", spec)
    until(started.exists, "it runs")
    worker.kill()
    worker.wait(20)
    installed.break_it()
    assert result_of(node.wait_finished("slow"))["outcome"] == "timeout"


def test_a_worker_that_stays_while_the_package_is_replaced_goes_on(make_node, installed: Installation):
    """It and its launcher have everything in memory that a job without a build needs."""
    node: Node = make_node(command=[str(installed.command)], environ=installed.environ)
    node.start()
    node.drop("before.toml", "command = 'echo before'\n")
    node.wait_finished("before")
    installed.break_it()
    node.drop("during.toml", "command = 'echo during'\n")
    assert result_of(node.wait_finished("during"))["outcome"] == "success"


def test_the_real_installation_is_a_console_command():
    """The other tests write that script themselves; this is the one that pip wrote."""
    command = Path(sys.executable).parent / "spooldadd"
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"spooldadd {spooldadd.__version__}"
