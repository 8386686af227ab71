"""Promise: a job runs where its `[place]` says, takes what it says it takes, and keeps nobody waiting who can run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Node, result_of, temporary_node, until

TWO_GPUS = {"SPOOLDADD_CAPACITY__GPUS": "2", "SPOOLDADD_JOBS": "4", "SPOOLDADD_NODE": "etl-1"}
QUICK = {"SPOOLDADD_INTAKE__SETTLE": "100ms"}
# Fails where another job has the same GPU: a directory can be made once.
OWN_GPU = """command = '''
mkdir "$TURNS/$SPOOLDADD_GPUS" || exit 9
test "$CUDA_VISIBLE_DEVICES" = "$SPOOLDADD_GPUS" || exit 8
sleep 0.2
rmdir "$TURNS/$SPOOLDADD_GPUS"
'''
[place]
requires = { gpus = 1 }
"""
WAITS_FOR_FILE = """command = 'touch "$TURNS/up-$SPOOLDADD_GPUS"; while [ ! -e "$TURNS/go" ]; do sleep 0.05; done'
[place]
requires = { gpus = 1, memory = "1M", cpus = 0.5 }
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with temporary_node(environ={"TURNS": str(tmp_path), **TWO_GPUS, **QUICK}) as node:
        yield node


def states(node: Node) -> dict[str, int]:
    return {state: len(node.records(state)) for state in ("running", "done", "failed")}


def test_two_workers_of_a_node_give_each_job_a_gpu_of_its_own(node: Node) -> None:
    for number in range(8):
        node.drop(f"job-{number}.toml", OWN_GPU)
    node.start("--drain")
    node.drain()
    until(lambda: states(node) == {"running": 0, "done": 8, "failed": 0}, "all have had a GPU", 60)


def test_a_restarted_worker_counts_what_runs_already(node: Node, tmp_path: Path) -> None:
    for number in range(3):
        node.drop(f"job-{number}.toml", WAITS_FOR_FILE)
    worker = node.start()
    until(lambda: len(list(tmp_path.glob("up-*"))) == 2, "two have a GPU each")  # a claim that is not started goes back
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    node.start()
    node.drop("plain.toml", 'command = "true"\n')
    node.wait_finished("plain")  # the third waits, and keeps nobody who needs no GPU
    assert states(node)["running"] == 2
    told = json.loads((node.run("explain", "job-2.toml", "--json")).stdout) if (node.spool / "job-2.toml").exists() else None
    (tmp_path / "go").touch()
    until(lambda: states(node)["done"] == 4, "all end")
    assert told is None or any(rule["rule"] == "place-busy" for rule in told["rules"])


def test_what_fits_another_node_only_is_left_to_it(node: Node) -> None:
    place = {
        "name": 'node = ["web-*", "db-1"]',
        "label": 'labels = ["gpu"]',
        "size": "requires = { gpus = 3 }",
    }
    for name, line in place.items():
        node.drop(f"{name}.toml", f'command = "true"\npriority = 9\n[place]\n{line}\n')
    node.drop("any.toml", 'command = "true"\n')
    node.drain()
    assert states(node) == {"running": 0, "done": 1, "failed": 0}
    more = {**node.environ, "SPOOLDADD_NODE": "web-7", "SPOOLDADD_LABELS": "gpu,big", "SPOOLDADD_CAPACITY__GPUS": "3"}
    node.run("worker", str(node.spool), "--drain", env=more)
    assert states(node) == {"running": 0, "done": 4, "failed": 0}
    assert {result_of(path)["node"] for path in node.records("done")} == {"etl-1", "web-7"}


def test_another_attempt_goes_to_a_node_that_fits(node: Node) -> None:
    spec = 'command = "exit 1"\n[retry]\nattempts = 2\nbackoff = "10ms"\n[place]\nrequires = { gpus = 1 }\n'
    node.drop("again.toml", spec)
    node.drain("--node", "etl-2")
    record = node.finished("again")
    assert result_of(record)["attempt"] == 2
    assert 'gpus = ["0"]' in (record / "claim.toml").read_text()
    assert not list((node.spool / ".spool" / "locks").glob("again*"))


def test_a_wrong_place_is_told_at_once_and_run_says_that_it_does_not_count(node: Node, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('command = "true"\n[place]\nlabel = "gpu"\nrequires = { memory = "lots" }\n')
    checked = node.run("check", str(wrong), check=False)
    assert checked.returncode == 1
    assert "unknown key `place.label`; did you mean `labels`?" in checked.stderr + checked.stdout
    node.drop("wrong.toml", wrong.read_text())
    node.drain()
    assert result_of(node.finished("wrong"))["outcome"] == "invalid"
    wrong.write_text('command = "true"\n[place]\nnode = "elsewhere"\n')
    done = node.run("run", str(wrong))
    assert "its `[place]` does not count here" in done.stderr
