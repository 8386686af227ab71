"""`spooldadd submit`: nothing invalid gets in, what gets in is what was checked, and whoever waits learns how it ended."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest

from tests.support import until


@pytest.fixture
def spec(tmp_path: Path):
    """Write a spec beside the spool."""

    def write(text: str, name: str = "nightly.toml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def drops(node) -> list[str]:
    return sorted(entry for entry in os.listdir(node.spool) if ".toml" in entry)


def test_a_submitted_spec_runs_under_the_id_that_was_printed(served, spec):
    job = served.run("submit", spec('command = "echo hello"', "first.toml")).stdout.strip()
    assert served.wait_finished("first").name == job


def test_nothing_is_dropped_where_one_of_several_specs_is_invalid(node, spec):
    good = spec('command = "true"', "good.toml")
    bad = spec('comand = "true"\npriority = "high"', "bad.toml")
    done = node.run("submit", good, bad, "no-such-file.toml", check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert not drops(node)
    for part in (
        f"{bad}:1:1: unknown key `comand`; did you mean `command`?",
        f"{bad}:2:1",
        "no-such-file.toml: cannot be read",
    ):
        assert part in done.stderr
    assert "nothing was dropped" in done.stderr


def test_options_are_written_into_the_drop(node, spec):
    path = spec('command = ["echo", "{{ vars.day }}"]\n[vars]\nday = "x"\nrows = 1')
    options = ("--var", "day=2026-11-20", "--var", "rows=7", "--queue", "etl", "--priority", "5", "--name", "report")
    job = node.run("submit", path, *options).stdout.strip()
    table = tomllib.loads((node.spool / f"{job}.toml").read_text())
    assert job.startswith("report.")
    assert (table["queue"], table["priority"], table["name"]) == ("etl", 5, "report")
    assert table["vars"] == {"day": "2026-11-20", "rows": 7}


def test_a_spec_from_standard_input_is_dropped_as_it_came(node):
    text = '# a comment\ncommand = "true"\nname = "piped"\n'
    job = node.run("submit", "-", input=text).stdout.strip()
    assert (node.spool / f"{job}.toml").read_text() == text


def test_a_held_submission_waits_for_its_release(node, spec):
    node.start()
    job = node.run("submit", "--hold", spec('command = "true"')).stdout.strip()
    node.run("submit", spec('command = "true"', "other.toml"))
    node.wait_finished("other")
    assert drops(node) == [f"{job}.toml.held"]
    node.run("release", job)
    assert node.wait_finished("nightly").name == job


def test_a_submission_for_later_does_not_run_before(node, spec):
    node.start()
    node.run("submit", "--not-before", "1h", spec('command = "true"'))
    node.run("submit", spec('command = "true"', "other.toml"))
    node.wait_finished("other")
    assert len(drops(node)) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('command = "true"', 0),
        ('command = "exit 3"', 3),
        ('command = "kill -9 $$"', 137),
        ('command = "sleep 60"\n[limits]\ntimeout = "0.3s"', 124),
        ('command = ["/no/such/program"]', 127),
    ],
)
def test_who_waits_exits_as_the_job_did(served, spec, text, code):
    done = served.run("submit", "--wait", spec(text), check=False)
    assert done.returncode == code, done.stderr
    assert ("failed: " in done.stderr) == (code != 0)


def test_of_several_jobs_the_first_that_failed_decides_the_exit_code(served, spec):
    files = [spec(f'command = "exit {code}"', f"job{number}.toml") for number, code in enumerate((0, 5, 4))]
    assert served.run("submit", "--wait", *files, check=False).returncode == 5


def test_who_waits_no_longer_than_a_while_leaves_with_5(served, spec):
    done = served.run("submit", "--wait", "--timeout", "0.5s", spec('command = "sleep 60"'), check=False)
    assert done.returncode == 5
    assert "the time to wait is over" in done.stderr


def test_who_follows_sees_what_the_job_prints_and_exits_as_it_did(served, spec):
    text = 'command = "echo one; echo two >&2; exit 3"\n[retry]\nattempts = 2\nbackoff = "0.1s"'
    done = served.run("submit", "--follow", spec(text), check=False)
    assert done.returncode == 3
    assert done.stdout.split("\n")[1:] == ["one", "two", "one", "two", ""]


def test_a_follower_leaves_when_the_time_is_over(served, spec):
    done = served.run("submit", "--follow", "--timeout", "1s", spec('command = "echo begun; sleep 60"'), check=False)
    assert done.returncode == 5
    assert "begun" in done.stdout


def test_json_names_the_jobs_and_after_a_wait_how_they_ended(served, spec):
    path = spec('command = "exit 3"\nqueue = "etl"')
    dropped = json.loads(served.run("submit", "--json", path).stdout)
    assert dropped["schema"] == 1
    assert [(job["name"], job["queue"], job["file"]) for job in dropped["jobs"]] == [("nightly", "etl", path)]
    ended = json.loads(served.run("submit", "--json", "--wait", path, check=False).stdout)
    assert [(job["outcome"], job["exit_code"]) for job in ended["jobs"]] == [("exit", 3)]


def test_json_lists_the_problems_of_every_file(node, spec):
    done = node.run("submit", "--json", spec('command = 1\nqueue = ""'), check=False)
    (file,) = json.loads(done.stdout)["files"]
    assert [problem["key"] for problem in file["problems"]] == ["command", "queue"]


def test_a_spool_that_nobody_serves_is_told(node, spec):
    done = node.run("submit", spec('command = "true"'))
    assert "no worker has ever served" in done.stderr
    node.start()
    assert list((node.spool / ".spool" / "nodes").glob("*.toml")), "who says that it has started can be found"
    assert node.run("submit", spec('command = "true"')).stderr == ""


@pytest.mark.parametrize(
    "options",
    [
        ("--hold", "--wait"),
        ("--timeout", "1s"),
        ("--var", "novalue"),
        ("--not-before", "soon"),
        ("-", "-"),
        ("--json", "--follow"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused_before_anything_is_dropped(node, spec, options):
    done = node.run("submit", spec('command = "true"'), *options, check=False, input="")
    assert done.returncode == 2
    assert not drops(node)


def test_a_directory_that_is_no_spool_is_refused(node, spec, tmp_path):
    done = node.run("--spool", str(tmp_path), "submit", spec('command = "true"'), check=False)
    assert done.returncode == 4
    assert "is not a spool" in done.stderr


def test_options_may_stand_between_the_specs(node, spec):
    first, second = spec('command = "true"', "a.toml"), spec('command = "true"', "b.toml")
    assert len(node.run("submit", first, "--priority", "1", second).stdout.split()) == 2


def test_a_hundred_specs_in_one_call_all_run(node, spec):
    node.start("--jobs", "4")
    files = [spec('command = "true"', f"job{number}.toml") for number in range(100)]
    jobs = node.run("submit", *files).stdout.split()
    until(lambda: len(node.records("done")) == 100, "all are done")
    assert {path.name for path in node.records("done")} == set(jobs)
