"""One line per change of state, in a fixed order, that an operator or a program can read."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from spooldadd.log import EVENTS
from spooldadd.tomltext import dumps
from tests.support import Node, result_of, until

LINE = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (debug|info|warning|error) "
    r"event=([a-z-]+)( [a-z_]+=(\"([^\"\\]|\\.)*\"|\S+))*"
)


def drop_life(node: Node) -> None:
    """Drop jobs that go through every change of state."""
    command = '[ "$SPOOLDADD_ATTEMPT" = 2 ]'
    node.drop("life.toml", dumps({"command": command, "retry": {"attempts": 2, "backoff": "0.1s"}}))
    node.drop('ünd "quotes"\n.toml', dumps({"command": "exit 3"}))
    node.drop("invalid.toml", "nonsense")
    (node.spool / "notes.txt").touch()


def events_of(lines: list[str], job: str) -> list[str]:
    return [re.search(r"event=(\S+)", line)[1] for line in lines if f"job={job}" in line]


def test_whole_life_of_a_job_can_be_grepped(node: Node) -> None:
    drop_life(node)
    lines = node.drain("--log-format", "plain").splitlines()
    job = node.finished("life").name
    once = ["claimed", "started", "finished", "filed"]
    assert events_of(lines, job) == once + once
    filed = [line for line in lines if f"event=filed job={job}" in line]
    assert "attempt=1 " in filed[0]
    assert " state=waiting outcome=exit " in filed[0]
    assert "attempt=2 " in filed[1]
    assert " state=done outcome=success " in filed[1]
    assert events_of(lines, node.finished("invalid").name) == ["claimed", "filed"]


def test_each_line_has_the_form_and_a_known_event(node: Node) -> None:
    drop_life(node)
    lines = node.drain("--log-format", "plain").splitlines()
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches), [line for line, match in zip(lines, matches, strict=True) if not match]
    assert {match[3] for match in matches} <= EVENTS
    stamps = [match[1] for match in matches]
    assert stamps == sorted(stamps)
    assert (matches[0][3], matches[-1][3]) == ("worker-started", "worker-stopped")


def test_json_lines_parse_and_say_the_same(node: Node) -> None:
    drop_life(node)
    lines = [json.loads(line) for line in node.drain("--log-format", "json").splitlines()]
    assert all(line["event"] in EVENTS and line["level"] in ("info", "warning", "error") for line in lines)
    job = node.finished("life").name
    assert [line["event"] for line in lines if line.get("job") == job].count("filed") == 2
    (strange,) = [line for line in lines if line["event"] == "claimed" and "quotes" in line.get("source", "")]
    assert strange["source"] == 'ünd "quotes"\n.toml'
    assert all(isinstance(line["attempt"], int) for line in lines if "attempt" in line)


def test_journal_lines_begin_with_their_priority(node: Node) -> None:
    drop_life(node)
    (node.spool / "x (conflicted copy 1).toml").touch()
    node.environ["JOURNAL_STREAM"] = "8:1"  # as systemd sets it for a service
    lines = node.drain("--log-format", "auto").splitlines()
    assert all(re.match(r"<[3467]>event=[a-z-]+ ", line) for line in lines)
    (conflict,) = [line for line in lines if "event=conflict-copy" in line]
    assert conflict.startswith("<4>")


def test_log_level_of_the_configuration_is_heeded(node: Node) -> None:
    drop_life(node)
    (node.spool / "x (conflicted copy 1).toml").touch()
    node.environ["SPOOLDADD_LOG__LEVEL"] = "warning"
    (line,) = node.drain().splitlines()
    assert " warning event=conflict-copy " in line


def test_secrets_of_a_spec_are_not_logged(node: Node) -> None:
    node.drop("secret.toml", dumps({"command": "exit 1", "env": {"PASSWORD": "hunter2"}, "config": {"key": "hunter3"}}))
    said = node.drain()
    assert "hunter" not in said


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_worker_without_a_place_to_log_works_all_the_same(node: Node, closed: str) -> None:
    """Where the standard streams are closed, the next file that is opened gets their number, and would get the log."""
    node.drop("a.toml", dumps({"command": "echo out; echo err >&2; cat; exit 3", "stdin": "in\n"}))
    node.drop("b.toml", dumps({"command": "ls -l /proc/self/fd/2 | grep -c output.log", "limits": {"open_files": 50}}))
    command = f"exec {' '.join(node.command)} worker --drain {node.spool} {closed}"
    environ = {**node.environ, **node.quick}
    done = subprocess.run(["sh", "-c", command], env=environ, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    record = node.finished("a")
    assert result_of(record)["exit_code"] == 3
    assert (record / "output.log").read_text() == "out\nerr\nin\n"
    assert (node.finished("b") / "output.log").read_text() == "1\n"
    strange = [path for path in node.spool.rglob("*") if path.is_file() and b"event=" in path.read_bytes()]
    assert strange == []


def test_reader_of_the_log_that_goes_away_stops_nobody(node: Node) -> None:
    reading, writing = os.pipe()
    worker = subprocess.Popen(
        [*node.command, "worker", str(node.spool)],
        env=node.environ,
        stderr=writing,
        stdout=writing,
        stdin=subprocess.DEVNULL,
    )
    node.workers.append(worker)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert b"event=worker-started" in pipe.readline()
    node.drop("a.toml", dumps({"command": "true"}))
    assert result_of(node.wait_finished("a"))["outcome"] == "success"
    node.drop("b.toml", dumps({"command": "kill -9 $PPID"}))
    assert result_of(node.wait_finished("b"))["outcome"] == "lost"
    assert worker.poll() is None


def test_file_that_is_ignored_is_told_of_once(node: Node) -> None:
    node.environ["SPOOLDADD_INTAKE__SCAN_INTERVAL"] = "0.1s"
    (node.spool / "notes.txt").touch()
    node.start()
    for number in range(5):
        node.drop(f"job-{number}.toml", dumps({"command": "true"}))
        node.wait_finished(f"job-{number}")
    until(lambda: "event=ignored" in node.said(), "it is told")
    assert node.said().count("event=ignored") == 1
