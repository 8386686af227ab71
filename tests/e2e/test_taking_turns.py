"""Which of several nodes takes a job: its own part first, and the part of a node that is busy without being asked to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spooldadd.spreading import Spread
from tests.bench.place import run_s
from tests.e2e.test_shared import proofs
from tests.support import Node, result_of, until

QUICK = {"SPOOLDADD_INTAKE__SETTLE": "0s", "SPOOLDADD_TAKEOVER__AFTER": "30s"}
LONG = 'command = "until test -e {gate}; do sleep 0.05; done"\n'


def part_of(node: str, count: int) -> list[str]:
    """Return names of drops that are the part of this one of the nodes a and b, each one job wide."""
    spread = Spread(node)
    spread.meet([("a", 1), ("b", 1)])
    names = (f"job-{number}" for number in range(10 * count + 20))
    return [name for name in names if spread.is_part_of_ours(f"{name}.toml")][:count]


def fill(node: Node, name: str) -> Path:
    """Have this node run a job until the file that is returned is there."""
    gate = node.spool.parent / "gate"
    (node.spool / f"@{name}").mkdir(exist_ok=True)
    node.drop(f"@{name}/long.toml", LONG.format(gate=gate))
    until(lambda: list(node.spool.glob("running/long.*/output.log")), f"{name} is full")
    return gate


def met(node: Node) -> bool:
    """Each has heard of the other: it has seen whether the other's locks reach it."""
    return all(proofs(node, name) for name in "ab")


@pytest.fixture(params=[True, False], ids=["events", "scans"])
def busy(make_node: Callable[..., Node], request: pytest.FixtureRequest) -> Node:
    """A spool that a and b serve; b is full until the file `gate` is there."""
    node = make_node(environ={**QUICK, "SPOOLDADD_INTAKE__EVENTS": str(request.param).lower()}, kind="shared")
    for name in "ab":
        node.start("--node", name, "--jobs", "1", environ={"SPOOLDADD_INTAKE__SCAN_INTERVAL": "500ms"})
    until(lambda: met(node), "they have met")
    fill(node, "b")
    return node


def test_an_idle_node_takes_the_part_of_a_full_one(busy: Node) -> None:
    names = part_of("b", 8)
    for name in names:
        busy.drop(f"{name}.toml", 'command = ["true"]\n')
    for name in names:
        assert result_of(busy.wait_finished(name))["node"] == "a"
    (busy.spool.parent / "gate").touch()
    busy.wait_finished("long")


def test_a_node_sleeps_when_what_it_has_left_unopened_is_gone(make_node: Callable[..., Node]) -> None:
    node = make_node(environ=QUICK, kind="shared")
    workers = [node.start("--node", name, "--jobs", "1") for name in "ab"]
    until(lambda: met(node), "they have met")
    for name in part_of("b", 30):
        node.drop(f"{name}.toml", 'command = ["true"]\n')
    until(lambda: len(os.listdir(node.spool / "done")) == 30, "all are done")
    time.sleep(1)  # for what was left to b for a moment
    before = [run_s([worker.pid]) for worker in workers]
    time.sleep(2)
    ran = [run_s([worker.pid]) - ran_s for worker, ran_s in zip(workers, before, strict=True)]
    assert max(ran) < 0.5, "of two seconds; one that finds nothing to do over and over takes what it gets"


def test_what_is_urgent_is_taken_first_though_it_is_the_part_of_a_full_node(busy: Node) -> None:
    """While a has a long line of its own, it looks at what is b's part now and then, at the newest first."""
    for name in part_of("a", 150):
        busy.drop(f"{name}.toml", 'command = ["sleep", "0.05"]\n')
    until(lambda: os.listdir(busy.spool / "done"), "a is at work on its own")
    *others, urgent = part_of("b", 40)
    for name in others:
        busy.drop(f"{name}.toml", 'command = ["true"]\n')
    busy.drop(f"{urgent}.toml", 'priority = 10\ncommand = ["true"]\n')
    assert result_of(busy.wait_finished(urgent))["node"] == "a"
    assert len(os.listdir(busy.spool / "done")) < 130
    (busy.spool.parent / "gate").touch()


def test_a_worker_that_drains_does_not_end_before_the_part_of_others_is_done(make_node: Callable[..., Node]) -> None:
    node = make_node(environ=QUICK, kind="shared")
    for name in "ab":
        node.start("--node", name, "--jobs", "1")
    until(lambda: met(node), "they have met, so that each leaves the other its part")
    gate = fill(node, "a")
    node.workers[-1].kill()
    for name in [*part_of("a", 5), *part_of("b", 5)]:
        node.drop(f"{name}.toml", 'command = ["true"]\n')
    drained = node.start("--node", "b", "--jobs", "1", "--drain")
    assert drained.wait(60) == 0
    assert len(os.listdir(node.spool / "done")) == 10
    gate.touch()
    node.wait_finished("long")
