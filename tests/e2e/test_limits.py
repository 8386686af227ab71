"""Each limit ends the whole process tree of a job, and the result says which it was."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spooldadd.tomltext import dumps
from tests.support import Node, processes_of, result_of, until

QUICK = {"SPOOLDADD_INTAKE__SETTLE": "0.3s"}
# Ignores what can be ignored, and is a grandchild in a session of its own by the time its parent ends.
STUBBORN = """\
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(300)
    os._exit(0)
time.sleep(300)
"""
FILLS = """\
import sys, time
data = []
for _ in range(int(sys.argv[1])):
    data.append(b"x" * (10 << 20))
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    return make_node(environ=QUICK)


def script(node: Node, name: str, text: str) -> str:
    path = node.spool.parent / name
    path.write_text(text)
    return str(path)


def test_timeout_ends_a_stubborn_grandchild_too(node: Node) -> None:
    pid_file = node.spool.parent / "pid"
    command = ["python3", script(node, "stubborn.py", STUBBORN), str(pid_file)]
    node.drop("stubborn.toml", dumps({"command": command, "limits": {"timeout": "1s", "kill_after": "0.5s"}}))
    node.drain()
    result = result_of(node.finished("stubborn"))
    assert (result["outcome"], result["signal"]) == ("timeout", signal.SIGKILL)
    assert "`timeout` of 1 s" in result["reason"]
    assert 1.4 < result["duration_s"] < 5
    assert not os.path.exists(f"/proc/{pid_file.read_text()}")
    assert processes_of(node.work) == []


def test_timeout_asks_first_and_tells_how_the_job_ended(node: Node) -> None:
    polite = "trap 'echo bye; exit 7' TERM; while :; do sleep 0.05; done"
    node.drop("polite.toml", dumps({"command": polite, "limits": {"timeout": "0.5s"}}))
    node.drop("stopped.toml", dumps({"command": "kill -STOP $$; sleep 300", "limits": {"timeout": "0.5s"}}))
    node.drain()
    record = node.finished("polite")
    assert result_of(record)["outcome"] == "timeout"
    assert result_of(record)["exit_code"] == 7
    assert "bye" in (record / "output.log").read_text()
    stopped = result_of(node.finished("stopped"))
    assert (stopped["outcome"], stopped["signal"]) == ("timeout", signal.SIGTERM)
    assert stopped["duration_s"] < 5  # a stopped process hears TERM only when it is continued


def test_kill_after_is_how_long_a_job_gets_to_end(node: Node) -> None:
    command = "trap 'sleep 1; echo done' TERM; while :; do sleep 0.05; done"
    for name, kill_after in (("short", "0.2s"), ("none", 0), ("long", "20s")):
        ends = command.replace("echo done", "echo done; exit 0")
        node.drop(f"{name}.toml", dumps({"command": ends, "limits": {"timeout": "0.3s", "kill_after": kill_after}}))
    node.drain("--jobs", "3")
    ended_by_itself = ["done" in (node.finished(name) / "output.log").read_text() for name in ("short", "none", "long")]
    assert ended_by_itself == [False, False, True]
    assert result_of(node.finished("none"))["duration_s"] < 1.0
    assert [result_of(node.finished(name))["outcome"] for name in ("short", "none", "long")] == ["timeout"] * 3


def test_stall_is_neither_output_nor_processor_time(node: Node) -> None:
    stall = {"limits": {"stall": "1s", "timeout": "30s"}}
    node.drop("idle.toml", dumps({"command": "echo begin; sleep 300", **stall}))
    node.drop("prints.toml", dumps({"command": "for i in 1 2 3 4 5 6; do echo $i; sleep 0.4; done", **stall}))
    node.drop("computes.toml", dumps({"command": ["python3", "-c", COMPUTES.format(2.4)], **stall}))
    node.drop("grandchild.toml", dumps({"command": f"python3 -c '{COMPUTES.format(2.4)}' & wait", **stall}))
    node.drain("--jobs", "4")
    idle = result_of(node.finished("idle"))
    assert idle["outcome"] == "stall"
    assert "`stall` limit of 1 s" in idle["reason"]
    assert 0.9 < idle["duration_s"] < 5
    for name in ("prints", "computes", "grandchild"):
        assert result_of(node.finished(name))["outcome"] == "success", name


COMPUTES = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end: pass"


def test_memory_limit_holds_for_a_process_that_fills_it(node: Node) -> None:
    fills = script(node, "fills.py", FILLS)
    memory = {"limits": {"memory": "100M"}}
    node.drop("slowly.toml", dumps({"command": ["python3", fills, "1000", "0.02"], **memory}))
    node.drop("quickly.toml", dumps({"command": ["python3", "-c", "x = b'x' * (400 << 20)"], **memory}))
    node.drop("fits.toml", dumps({"command": ["python3", fills, "5", "0.02"], **memory}))
    node.drop("many.toml", dumps({"command": f"for i in 1 2 3 4; do python3 {fills} 4 0.4 & done; wait", **memory}))
    node.drain("--jobs", "4")
    for name in ("slowly", "quickly", "many"):
        result = result_of(node.finished(name))
        assert result["outcome"] == "oom", (name, result)
        assert "`memory` limit is 100 MiB" in result["reason"]
        assert result["max_rss_bytes"] > 100 << 20
    assert result_of(node.finished("slowly"))["signal"] == signal.SIGKILL
    assert result_of(node.finished("slowly"))["max_rss_bytes"] < 300 << 20
    assert result_of(node.finished("fits"))["outcome"] == "success"


def test_kernel_limits_reach_the_job_and_its_children(node: Node) -> None:
    node.drop("files.toml", dumps({"command": "ulimit -n; sh -c 'ulimit -Hn'", "limits": {"open_files": 77}}))
    node.drop("free.toml", dumps({"command": "ulimit -n"}))
    node.drain()
    assert (node.finished("files") / "output.log").read_text().split() == ["77", "77"]
    assert (node.finished("free") / "output.log").read_text() != "77\n"


def test_cpu_time_counts_all_processes_and_not_the_waiting(node: Node) -> None:
    spin = "while :; do :; done"
    cpu = {"limits": {"cpu_time": "1s", "kill_after": "1s", "timeout": "100s"}}
    node.drop("one.toml", dumps({"command": spin, **cpu}))
    node.drop("two.toml", dumps({"command": f"({spin}) & ({spin}) & wait", **cpu}))
    short = ["python3", "-c", "import time\nwhile time.process_time() < 0.3: pass"]
    node.drop("many.toml", dumps({"command": f"while :; do {shlex.join(short)}; done", **cpu}))
    node.drop("sleeps.toml", dumps({"command": "sleep 1.5", **cpu}))
    node.drain("--jobs", "4")
    for name in ("one", "two", "many"):
        result = result_of(node.finished(name))
        assert result["outcome"] == "timeout"
        assert "`cpu_time` limit of 1 s" in result["reason"]
        assert 0.8 < result["cpu_s"] < 40  # on a busy machine the guard looks late; not at all would be 100 s
    assert result_of(node.finished("sleeps"))["outcome"] == "success"


def test_output_limit_counts_both_logs(node: Node) -> None:
    limits = {"limits": {"output": "10K"}, "run": {"split_output": True}}
    node.drop("both.toml", dumps({"command": "yes | head -c 9000; yes | head -c 9000 >&2; sleep 300", **limits}))
    node.drop("fits.toml", dumps({"command": "yes | head -c 10240", "limits": {"output": "10K"}}))
    node.drop("over.toml", dumps({"command": "yes | head -c 10241; exit 5", "limits": {"output": "10K"}}))
    node.drain("--jobs", "3")
    assert result_of(node.finished("both"))["outcome"] == "output"
    fits, over = node.finished("fits"), node.finished("over")
    assert result_of(fits)["outcome"] == "success"
    assert (fits / "output.log").stat().st_size == 10240
    # On a busy machine the guard may look, and end the shell, between its last byte and its `exit`.
    assert (result_of(over)["outcome"], result_of(over).get("exit_code", 5)) == ("output", 5)


def test_configured_limits_hold_where_the_spec_has_none(make_node: Callable[..., Node]) -> None:
    node = make_node(environ={**QUICK, "SPOOLDADD_LIMITS__TIMEOUT": "0.5s", "SPOOLDADD_LIMITS__OUTPUT": "1K"})
    node.drop("times-out.toml", dumps({"command": "sleep 300"}))
    node.drop("prints.toml", dumps({"command": "yes | head -c 5000"}))
    node.drop("own.toml", dumps({"command": "sleep 1", "limits": {"timeout": "20s"}}))
    node.drain("--jobs", "3")
    assert result_of(node.finished("times-out"))["outcome"] == "timeout"
    assert result_of(node.finished("prints"))["outcome"] == "output"
    assert result_of(node.finished("own"))["outcome"] == "success"


def test_cancel_file_ends_a_running_job(node: Node) -> None:
    node.start()
    node.drop("long.toml", dumps({"command": "trap 'echo asked; exit 1' TERM; while :; do sleep 0.05; done"}))
    until(lambda: "event=started" in node.said(), "the job runs")
    (record,) = node.records("running")
    (record / "cancel").touch()
    record = node.wait_finished("long")
    assert result_of(record)["outcome"] == "cancelled"
    assert "asked" in (record / "output.log").read_text()


def test_fork_bomb_of_a_kind_is_ended(node: Node) -> None:
    """Each process starts the next and ends: none lives long enough to be met twice."""
    chain = script(
        node,
        "chain.py",
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "while True:\n    time.sleep(0.002)\n    if os.fork(): os._exit(0)\n",
    )
    limits = {"timeout": "1s", "kill_after": "0.2s"}
    node.drop("chain.toml", dumps({"command": f"python3 {chain}; sleep 300", "limits": limits}))
    node.drain()
    assert result_of(node.finished("chain"))["outcome"] == "timeout"
    assert processes_of(node.work) == []


def test_out_of_memory_kill_by_the_kernel_is_told_from_a_kill(node: Node) -> None:
    """A control group with little memory, where one can be made."""
    group = _make_group(64 << 20)
    try:
        fills = script(node, "fills.py", FILLS)
        command = f"echo $$ > {group}/cgroup.procs && exec python3 {fills} 100 0"
        node.drop("fills.toml", dumps({"command": command}))
        node.drop("killed.toml", dumps({"command": "kill -9 $$"}))
        node.drain("--jobs", "1")
        result = result_of(node.finished("fills"))
        assert (result["outcome"], result["signal"]) == ("oom", signal.SIGKILL)
        assert "no memory left" in result["reason"]
        assert result_of(node.finished("killed"))["outcome"] == "signal"
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
        group.rmdir()


def _make_group(memory_bytes: int) -> Path:
    name = f"spooldadd-test-{os.getpid()}-{time.monotonic_ns()}"
    root = Path("/sys/fs/cgroup")
    files = [(root / name, "memory.max"), (root / "memory" / name, "memory.limit_in_bytes")]
    for group, limit in files:
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / limit).exists():
            (group / limit).write_text(str(memory_bytes))
            return group
        group.rmdir()
    pytest.skip("needs the capability to make control groups with a memory limit")
