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


def attempts(node, name: str, state: str = "failed") -> list[int]:
    """Return the number of the last attempt of each job of this name that has ended so."""
    return [attempt_of(record) for record in node.records(state, name)]


def test_a_failed_job_runs_again_under_its_id_and_keeps_what_it_left(served, mark):
    failed = served.ran("load", UNTIL_MENDED.format(mark=mark))
    mark.touch()
    assert served.run("retry", "load").stdout.strip() == failed.name
    done = until(lambda: served.records("done", "load"), "it is done")[0]
    assert done.name == failed.name
    assert attempt_of(done) == 2
    assert result_of(done / "attempts" / "1")["outcome"] == "exit"
    assert "No such file" in (done / "attempts" / "1" / "output.log").read_text()


def test_a_job_whose_attempts_are_used_up_runs_once_more_and_only_once(served):
    assert attempt_of(served.ran("spent", 'command = "false"\n[retry]\nattempts = 2\nbackoff = "0.05s"')) == 2
    served.run("retry", "spent")
    until(lambda: attempts(served, "spent") == [3], "it ran once more")
    assert not served.records("waiting", "spent")


def test_a_job_between_attempts_does_not_wait_for_its_time(served, mark):
    served.drop("between.toml", UNTIL_MENDED.format(mark=mark) + '[retry]\nattempts = 2\nbackoff = "1h"')
    until(lambda: served.records("waiting", "between"), "it waits for its next attempt")
    mark.touch()
    served.run("retry", "between")
    assert attempt_of(served.wait_finished("between")) == 2


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


def test_a_successful_job_needs_force(served):
    served.ran("good", 'command = "true"')
    refused = served.run("retry", "good", check=False)
    assert refused.returncode == 1
    assert "was successful" in refused.stderr
    served.run("retry", "--force", "good")
    until(lambda: attempts(served, "good", "done") == [2], "it ran once more")


def test_an_unknown_job_keeps_the_known_ones_from_being_retried(served):
    served.ran("known", 'command = "false"')
    assert served.run("retry", "known", "no-such-job", check=False).returncode == 3
    assert attempts(served, "known") == [1]


def test_a_retry_by_hand_does_the_same(served):
    failed = served.ran("moved", 'command = "false"')
    failed.rename(served.spool / "waiting" / failed.name)
    until(lambda: attempts(served, "moved") == [2], "it ran once more")


@pytest.mark.parametrize(
    "arguments", [(), ("load", "--all-failed"), ("load", "--since", "2h"), ("--all-failed", "--since", "x")]
)
def test_a_command_line_that_makes_no_sense_is_refused(node, arguments):
    assert node.run("retry", *arguments, check=False).returncode == 2
