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


def test_timeout_asks_first_and_tells_how_the_job_ended(served: Node) -> None:
    polite = "trap 'echo bye; exit 7' TERM; while :; do sleep 0.05; done"
    served.drop("polite.toml", dumps({"command": polite, "limits": {"timeout": "0.5s"}}))
    served.drop("stopped.toml", dumps({"command": "kill -STOP $$; sleep 300", "limits": {"timeout": "0.5s"}}))
    record = served.wait_finished("polite")
    assert result_of(record)["outcome"] == "timeout"
    assert result_of(record)["exit_code"] == 7
    assert "bye" in (record / "output.log").read_text()
    stopped = result_of(served.wait_finished("stopped"))
    assert (stopped["outcome"], stopped["signal"]) == ("timeout", signal.SIGTERM)
    assert stopped["duration_s"] < 5  # a stopped process hears TERM only when it is continued


def test_kill_after_is_how_long_a_job_gets_to_end(served: Node) -> None:
    command = "trap 'sleep 1; echo done' TERM; while :; do sleep 0.05; done"
    for name, kill_after in (("short", "0.2s"), ("none", 0), ("long", "20s")):
        ends = command.replace("echo done", "echo done; exit 0")
        served.drop(f"{name}.toml", dumps({"command": ends, "limits": {"timeout": "0.3s", "kill_after": kill_after}}))
    records = {name: served.wait_finished(name) for name in ("short", "none", "long")}
    ended_by_itself = ["done" in (record / "output.log").read_text() for record in records.values()]
    assert ended_by_itself == [False, False, True]
    assert result_of(records["none"])["duration_s"] < 1.0
    assert [result_of(record)["outcome"] for record in records.values()] == ["timeout"] * 3


def test_stall_is_neither_output_nor_processor_time(served: Node) -> None:
    stall = {"limits": {"stall": "1s", "timeout": "30s"}}
    served.drop("idle.toml", dumps({"command": "echo begin; sleep 300", **stall}))
    served.drop("prints.toml", dumps({"command": "for i in 1 2 3 4 5 6; do echo $i; sleep 0.4; done", **stall}))
    served.drop("computes.toml", dumps({"command": ["python3", "-c", COMPUTES.format(2.4)], **stall}))
    served.drop("grandchild.toml", dumps({"command": f"python3 -c '{COMPUTES.format(2.4)}' & wait", **stall}))
    idle = result_of(served.wait_finished("idle"))
    assert idle["outcome"] == "stall"
    assert "`stall` limit of 1 s" in idle["reason"]
    assert 0.9 < idle["duration_s"] < 5
    for name in ("prints", "computes", "grandchild"):
        assert result_of(served.wait_finished(name))["outcome"] == "success", name


COMPUTES = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end: pass"


def test_memory_limit_holds_for_a_process_that_fills_it(served: Node) -> None:
    fills = script(served, "fills.py", FILLS)
    memory = {"limits": {"memory": "100M"}}
    served.drop("slowly.toml", dumps({"command": ["python3", fills, "1000", "0.02"], **memory}))
    served.drop("quickly.toml", dumps({"command": ["python3", "-c", "x = b'x' * (400 << 20)"], **memory}))
    served.drop("fits.toml", dumps({"command": ["python3", fills, "5", "0.02"], **memory}))
    served.drop("many.toml", dumps({"command": f"for i in 1 2 3 4; do python3 {fills} 4 0.4 & done; wait", **memory}))
    for name in ("slowly", "quickly", "many"):
        result = result_of(served.wait_finished(name))
        assert result["outcome"] == "oom", (name, result)
        assert "`memory` limit is 100 MiB" in result["reason"]
        assert result["max_rss_bytes"] > 100 << 20
    assert result_of(served.wait_finished("slowly"))["signal"] == signal.SIGKILL
    assert result_of(served.wait_finished("slowly"))["max_rss_bytes"] < 300 << 20
    assert result_of(served.wait_finished("fits"))["outcome"] == "success"


def test_kernel_limits_reach_the_job_and_its_children(served: Node) -> None:
    served.drop("files.toml", dumps({"command": "ulimit -n; sh -c 'ulimit -Hn'", "limits": {"open_files": 77}}))
    served.drop("free.toml", dumps({"command": "ulimit -n"}))
    assert (served.wait_finished("files") / "output.log").read_text().split() == ["77", "77"]
    assert (served.wait_finished("free") / "output.log").read_text() != "77\n"


def test_cpu_time_counts_all_processes_and_not_the_waiting(served: Node) -> None:
    spin = "while :; do :; done"
    cpu = {"limits": {"cpu_time": "1s", "kill_after": "1s", "timeout": "100s"}}
    served.drop("one.toml", dumps({"command": spin, **cpu}))
    served.drop("two.toml", dumps({"command": f"({spin}) & ({spin}) & wait", **cpu}))
    short = ["python3", "-c", "import time\nwhile time.process_time() < 0.3: pass"]
    served.drop("children.toml", dumps({"command": f"while :; do {shlex.join(short)}; done", **cpu}))
    served.drop("sleeps.toml", dumps({"command": "sleep 1.5", **cpu}))
    for name in ("one", "two", "children"):
        result = result_of(served.wait_finished(name))
        assert result["outcome"] == "timeout"
        assert "`cpu_time` limit of 1 s" in result["reason"]
        assert 0.8 < result["cpu_s"] < 40  # on a busy machine the guard looks late; not at all would be 100 s
    assert result_of(served.wait_finished("sleeps"))["outcome"] == "success"


def test_output_limit_counts_both_logs(served: Node) -> None:
    limits = {"limits": {"output": "10K"}, "run": {"split_output": True}}
    served.drop("both.toml", dumps({"command": "yes | head -c 9000; yes | head -c 9000 >&2; sleep 300", **limits}))
    served.drop("as-much.toml", dumps({"command": "yes | head -c 10240", "limits": {"output": "10K"}}))
    served.drop("more.toml", dumps({"command": "yes | head -c 10241; exit 5", "limits": {"output": "10K"}}))
    assert result_of(served.wait_finished("both"))["outcome"] == "output"
    fits, over = served.wait_finished("as-much"), served.wait_finished("more")
    assert result_of(fits)["outcome"] == "success"
    assert (fits / "output.log").stat().st_size == 10240
    # On a busy machine the guard may look, and end the shell, between its last byte and its `exit`.
    assert (result_of(over)["outcome"], result_of(over).get("exit_code", 5)) == ("output", 5)


def test_configured_limits_hold_where_the_spec_has_none(make_node: Callable[..., Node]) -> None:
    node = make_node(environ={"SPOOLDADD_LIMITS__TIMEOUT": "0.5s", "SPOOLDADD_LIMITS__OUTPUT": "1K"})
    node.drop("times-out.toml", dumps({"command": "sleep 300"}))
    node.drop("prints.toml", dumps({"command": "yes | head -c 5000"}))
    node.drop("own.toml", dumps({"command": "sleep 1", "limits": {"timeout": "20s"}}))
    node.drain("--jobs", "3")
    assert result_of(node.finished("times-out"))["outcome"] == "timeout"
    assert result_of(node.finished("prints"))["outcome"] == "output"
    assert result_of(node.finished("own"))["outcome"] == "success"


def test_cancel_file_ends_a_running_job(served: Node) -> None:
    served.drop("endless.toml", dumps({"command": "trap 'echo asked; exit 1' TERM; while :; do sleep 0.05; done"}))
    (record,) = until(lambda: served.records("running", "endless"), "the job runs")
    until(lambda: "event=started job=" + record.name.rsplit(".", 2)[0] in served.said(), "its process is there")
    (record / "cancel").touch()
    record = served.wait_finished("endless")
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
