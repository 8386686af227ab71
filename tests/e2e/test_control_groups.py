"""Limits that the kernel keeps, for a worker in a subgroup of its service, where the controllers of cgroup v2 can be had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooldadd import cgroup, grouping, names
from spooldadd.tomltext import dumps
from tests.support import Node, result_of

CONTROLLERS = ("cpu", "memory", "pids")


def enable(group: Path) -> None:
    for name in CONTROLLERS:
        (group / "cgroup.subtree_control").write_text(f"+{name}")


@pytest.fixture
def service() -> Iterator[Path]:
    """A group that looks like a delegated service; the worker goes into its subgroup, as `DelegateSubgroup=` has it."""
    own = grouping.own_group()
    if own is None or os.getuid() != 0:
        pytest.skip("needs the capability: a tree of cgroup v2 that this user can write")
    group = Path(own, f"test-{names.random_part()}.service")
    try:
        enable(Path(own))
        (group / "worker").mkdir(parents=True)
        os.setxattr(group, "user.delegate", b"1")
    except OSError:
        for path in (group / "worker", group):
            cgroup.Leaf(str(path)).remove()
        pytest.skip("needs the capability: the controllers cpu, memory and pids of cgroup v2, below our own group")
    yield group
    cgroup.Leaf(str(group)).kill()
    left = [path.name for path in group.iterdir() if path.name.startswith(cgroup.PREFIX)]
    for path in (*group.glob("job-*"), group / "worker", group):
        cgroup.Leaf(str(path)).remove()
    assert left == []


def drain_in(node: Node, service: Path) -> str:
    """Run a worker in the subgroup until nothing is left to run; return its log."""
    enter = (service / "worker" / "cgroup.procs").write_text
    done = node.run("worker", str(node.spool), "--drain", preexec_fn=lambda: enter("0"), timeout=600)
    return done.stderr


def test_the_kernel_ends_all_of_a_job_at_its_limit_of_memory(node: Node, service: Path):
    greedy = "data = []\nwhile True: data.append(bytearray(4 << 20))"
    child = "python3 -c 'data = bytearray(400 << 20)'; echo survived"
    limits = {"limits": {"memory": "100M"}}
    node.drop("greedy.toml", dumps({"command": ["python3", "-c", greedy], **limits}))
    node.drop("child.toml", dumps({"command": child, **limits}))
    assert "in_force=leaf" in drain_in(node, service)
    for name in ("greedy", "child"):
        result = result_of(node.finished(name))
        assert (result["outcome"], result["memory_peak_bytes"]) == ("oom", 100 << 20), result
        assert result["reason"] == "the kernel ended it at its `memory` limit of 100 MiB"
    assert "survived" not in (node.finished("child") / "output.log").read_text()


def test_the_kernel_refuses_a_fork_beyond_the_limit_of_tasks_and_holds_back_a_loop(node: Node, service: Path):
    bomb = {"command": "for i in $(seq 100); do sleep 600 & done", "limits": {"tasks": 20, "kill_after": 0}}
    loop = {"command": ["timeout", "6", "sh", "-c", "while :; do :; done"], "limits": {"cpus": 0.2}}
    node.drop("bomb.toml", dumps(bomb))
    node.drop("loop.toml", dumps(loop))
    assert "limit-not-kept" not in drain_in(node, service)
    assert "fork" in (node.finished("bomb") / "output.log").read_text()
    looped = result_of(node.finished("loop"))
    assert looped["cpu_s"] < looped["duration_s"] / 2
