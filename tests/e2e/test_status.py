"""`status`: what a spool holds, at a glance, without loading much."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

from tests.support import SPOOLDADD, until
from tests.unit.inspect_records import MadeSpool, job_id

TRUE = 'command = ["true"]\n'
HEAVY = ("watchdog", "filelock", "jinja2", "pydantic", "requests", "click", "rich", "toml", "psutil", "spooldadd.spec")
PROBE = """
import sys
from spooldadd.cli import main
code = main(sys.argv[1:])
print(code, *sorted(sys.modules), file=sys.stderr)
"""


def test_one_object_holds_the_counts_and_the_jobs_in_every_state(node):
    node.drop("good.toml", TRUE)
    node.drop("bad.toml", 'command = ["sh", "-c", "exit 3"]\n')
    node.drain()
    node.drop("later.toml", TRUE)
    status = json.loads(node.run("status", "--json").stdout)
    assert status["schema"] == 1
    assert status["spool"] == str(node.spool)
    assert status["counts"] == {"waiting": 1, "running": 0, "done": 1, "failed": 1}
    by_name = {job["name"]: job for job in status["jobs"]}
    assert by_name["later"]["job"] == "later.toml"
    assert (by_name["bad"]["outcome"], by_name["bad"]["exit_code"]) == ("exit", 3)
    assert by_name["good"]["record"] == str(node.records("done", "good")[0])


def test_a_running_job_shows_its_processes(node):
    node.drop("long.toml", 'command = ["sleep", "60"]\n')
    node.start()
    job = until(lambda: _job_with_pid(node), "the job runs")
    assert os.path.exists(f"/proc/{job['job_pid']}")
    assert os.path.exists(f"/proc/{job['supervisor_pid']}")
    assert (job["state"], job["attempt"]) == ("running", 1)


def _job_with_pid(node):
    found = [job for job in json.loads(node.run("status", "--json").stdout)["jobs"] if "job_pid" in job]
    return found[0] if found else None


def test_the_table_says_that_nobody_serves_and_that_it_is_paused(node):
    (node.spool / "paused").touch()
    node.drop("later.toml", TRUE)
    text = node.run("status").stdout
    assert "0 running, 1 waiting, 0 done, 0 failed" in text
    assert f"no worker serves this spool, as far as this machine can see; start one: `spooldadd worker {node.spool}`" in text
    assert "paused: nothing is started while the file `paused` exists" in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("later.toml")] == ["paused"]


def test_a_served_spool_is_not_said_to_be_unserved(node):
    node.start()
    until(lambda: "no worker" not in node.run("status").stdout, "the node has noted that it serves")


def test_one_job_shows_its_attempts_its_paths_and_its_errors(node):
    node.drop("bad.toml", 'command = ["sh", "-c", "exit 3"]\n[retry]\nattempts = 2\nbackoff = "100ms"\n')
    node.drop("wrong.toml", "comand = []\n")
    node.drain()
    text = node.run("status", "bad").stdout
    record = node.records("failed", "bad")[0]
    assert "failed (exit)" in text and "it ended with exit code 3" in text
    assert f"{record}/output.log" in text and f"{record}/attempts/1" in text
    assert "unknown key `comand`; did you mean `command`?" in node.run("status", "wrong").stdout
    job = json.loads(node.run("status", "bad", "--json").stdout)
    assert (job["schema"], job["state"], job["attempt"]) == (1, "failed", 2)
    assert node.run("status", "bad.toml").stdout.splitlines()[0] == text.splitlines()[0]


def test_an_unknown_job_an_ambiguous_one_and_a_directory_that_is_no_spool_have_their_exit_codes(node, tmp_path):
    node.drop("a1.toml", TRUE)
    node.drop("a2.toml", TRUE)
    assert node.run("status", "nothing", check=False).returncode == 3
    ambiguous = node.run("status", "a", check=False)
    assert ambiguous.returncode == 3
    assert "2 jobs begin with `a`; type more of the one you mean" in ambiguous.stderr
    unusable = node.run("--spool", str(tmp_path), "status", check=False)
    assert unusable.returncode == 4
    assert "is not a spool" in unusable.stderr


def test_filters_and_limits_choose_the_newest_that_fit(node):
    made = MadeSpool(node.spool)
    for second in range(30):
        queue = "etl" if second % 2 else "default"
        made.add("failed" if second < 20 else "done", job_id(second=second), claim={"queue": queue}, result={"queue": queue})
    made.drop("later.toml", 'command = ["true"]\nqueue = "etl"\n')

    def chosen(*options: str) -> list[str]:
        jobs = json.loads(node.run("status", "--json", *options).stdout)["jobs"]
        return [job["job"] if job["state"] == "waiting" else job["job"].split(".")[1][13:15] for job in jobs]

    assert chosen("--state", "failed", "--limit", "2") == ["19", "18"]
    assert chosen("--queue", "etl", "--limit", "2") == ["later.toml", "29", "27"]
    assert chosen("--state", "waiting") == ["later.toml"]
    assert len(chosen("--all")) == 31
    assert len(node.run("status").stdout.splitlines()) == 3 + 1 + 1 + 20  # notices, header, waiting, the newest twenty


def test_many_waiting_jobs_do_not_hide_what_has_ended(node):
    made = MadeSpool(node.spool)
    made.add("failed", job_id())
    for number in range(50):
        made.drop(f"w{number:02}.toml")
    text = node.run("status").stdout
    assert job_id() in text
    assert "and 30 more waiting; `--all` shows them" in text
    assert "w49.toml" in node.run("status", "--all").stdout


def test_names_that_would_move_the_cursor_are_shown_harmlessly(node):
    (node.spool / os.fsdecode(b"a\x1b[2J\xff.toml")).write_text(TRUE)
    text = node.run("status").stdout
    assert "a␛[2J\\xff.toml" in text
    assert json.loads(node.run("status", "--json").stdout)["counts"]["waiting"] == 1


def test_a_pipe_gets_no_colour_and_a_terminal_lines_that_fit(node):
    node.drop("bad.toml", 'command = ["sh", "-c", "exit 3"]\n')
    node.drain()
    assert "\x1b" not in node.run("status").stdout
    coloured = _on_terminal(node, {"COLUMNS": "60", "TERM": "xterm"})
    assert "\x1b[31m" in coloured
    plain = _on_terminal(node, {"COLUMNS": "60", "TERM": "xterm", "NO_COLOR": "1"})
    assert "\x1b" not in plain
    rows = plain.replace("\r", "").split("\n\n")[1].splitlines()
    assert all(len(row) <= 60 for row in rows) and rows[1].endswith("…")


def _on_terminal(node, environ: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen([SPOOLDADD, "status"], stdout=theirs, env={**node.environ, **environ}) as command:
        os.close(theirs)
        text = b""
        while part := _read(ours):
            text += part
        assert command.wait(60) == 0
    os.close(ours)
    return text.decode()


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # the other end is closed
        return b""


def test_status_loads_nothing_heavy_whatever_the_spool_holds(node):
    made = MadeSpool(node.spool)
    for second in range(20):
        made.add("done", job_id(second=second), result={"kept": ["out/a.csv"]})
    made.add("running", job_id("running"))
    made.add("waiting", job_id("waiting"), result={"outcome": "exit"})
    made.drop("later.toml")
    node.start()
    until(lambda: list((node.spool / ".spool" / "nodes").glob("*.toml")), "the node describes itself")
    for words in (["status"], ["status", "--json"], ["status", "running"]):
        done = subprocess.run(
            [sys.executable, "-c", PROBE, *words], env=node.environ, capture_output=True, text=True, check=True, timeout=60
        )
        code, *modules = done.stderr.splitlines()[-1].split()
        assert code == "0"
        loaded = {module for module in modules if module.split(".")[0] in HEAVY or module in HEAVY}
        assert not loaded
        slow = {"typing", "dataclasses", "tomllib", "inspect", "shutil"} & set(modules)
        assert not slow, f"status has become slower: {words}"
