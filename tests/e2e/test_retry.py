"""`spooldadd retry`: what failed runs again on a person's word, and nothing of the earlier attempts is lost."""

from __future__ import annotations

import datetime

import pytest

from tests.support import result_of, until

# Fails until somebody mends it.
UNTIL_MENDED = 'command = "cat mended || test -e {mark}"\n'


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "mended"


def attempt_of(record) -> int:
    return result_of(record)["attempt"]


def test_a_failed_job_runs_again_under_its_id_and_keeps_what_it_left(node, mark):
    node.start()
    node.drop("load.toml", UNTIL_MENDED.format(mark=mark))
    failed = node.wait_finished("load")
    mark.touch()
    assert node.run("retry", "load").stdout.strip() == failed.name
    done = until(lambda: node.records("done", "load"), "it is done")[0]
    assert done.name == failed.name
    assert attempt_of(done) == 2
    assert result_of(done / "attempts" / "1")["outcome"] == "exit"
    assert "No such file" in (done / "attempts" / "1" / "output.log").read_text()


def test_a_job_whose_attempts_are_used_up_runs_once_more_and_only_once(node):
    node.start()
    node.drop("load.toml", 'command = "false"\n[retry]\nattempts = 2\nbackoff = "0.05s"')
    record = node.wait_finished("load")
    assert attempt_of(record) == 2
    node.run("retry", "load")
    until(lambda: node.records("failed", "load") and attempt_of(node.records("failed", "load")[0]) == 3, "it ran once more")
    assert not node.records("waiting")


def test_a_job_between_attempts_does_not_wait_for_its_time(node, mark):
    node.start()
    node.drop("load.toml", UNTIL_MENDED.format(mark=mark) + '[retry]\nattempts = 2\nbackoff = "1h"')
    until(lambda: node.records("waiting", "load"), "it waits for its next attempt")
    mark.touch()
    node.run("retry", "load")
    assert attempt_of(node.wait_finished("load")) == 2


def test_all_that_failed_runs_again(node, mark):
    node.start("--jobs", "2")
    for number in range(3):
        node.drop(f"load{number}.toml", UNTIL_MENDED.format(mark=mark))
    until(lambda: len(node.records("failed")) == 3, "all have failed")
    node.drop("other.toml", UNTIL_MENDED.format(mark=mark) + '[retry]\nattempts = 2\nbackoff = "1h"')
    until(lambda: node.records("waiting", "other"), "another waits for its next attempt")
    mark.touch()
    assert len(node.run("retry", "--all-failed").stdout.split()) == 3
    until(lambda: len(node.records("done")) == 3, "all are done")
    assert node.run("retry", "--all-failed", "--now").stdout.startswith("other.")
    node.wait_finished("other")


def test_only_what_failed_since_then_runs_again(node):
    node.drop("old.toml", 'command = "false"')
    node.drain()
    since = datetime.datetime.now(datetime.UTC).isoformat()
    node.drop("new.toml", 'command = "false"')
    node.drain()
    assert [job.split(".")[0] for job in node.run("retry", "--all-failed", "--since", since).stdout.split()] == ["new"]
    assert node.run("retry", "--all-failed", "--since", "2100-01-01").stderr == "spooldadd: nothing has failed since then\n"


def test_a_successful_job_needs_force(node):
    node.drop("load.toml", 'command = "true"')
    node.drain()
    refused = node.run("retry", "load", check=False)
    assert refused.returncode == 1
    assert "was successful" in refused.stderr
    node.run("retry", "--force", "load")
    node.drain()
    assert attempt_of(node.records("done", "load")[0]) == 2


def test_an_unknown_job_keeps_the_known_ones_from_being_retried(node):
    node.drop("load.toml", 'command = "false"')
    node.drain()
    assert node.run("retry", "load", "no-such-job", check=False).returncode == 3
    assert node.records("failed", "load")


def test_a_retry_by_hand_does_the_same(node):
    node.start()
    node.drop("load.toml", 'command = "false"')
    failed = node.wait_finished("load")
    failed.rename(node.spool / "waiting" / failed.name)
    until(lambda: node.records("failed") and attempt_of(node.records("failed")[0]) == 2, "it ran once more")


@pytest.mark.parametrize(
    "arguments", [(), ("load", "--all-failed"), ("load", "--since", "2h"), ("--all-failed", "--since", "x")]
)
def test_a_command_line_that_makes_no_sense_is_refused(node, arguments):
    assert node.run("retry", *arguments, check=False).returncode == 2
