"""`wait`: until jobs have ended, whatever becomes of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import SPOOLDADD, until

TRUE, FALSE = 'command = ["true"]\n', 'command = ["false"]\n'


@contextmanager
def waiting(node, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Wait in a process of its own; a test that fails must not wait for it."""
    command = [SPOOLDADD, "wait", *arguments]
    with subprocess.Popen(command, env=node.environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiter:
        try:
            yield waiter
        finally:
            waiter.kill()


def test_it_is_0_when_all_are_done_and_1_when_one_failed(served):
    served.ran("good", TRUE)
    served.ran("bad", FALSE)
    assert served.run("wait", "good").returncode == 0
    done = served.run("wait", "good", "bad", check=False)
    assert done.returncode == 1
    assert "failed (exit): it ended with exit code 1" in done.stdout


def test_a_file_that_still_waits_is_followed_to_its_end(node):
    node.drop("good.toml", 'name = "another"\ncommand = ["true"]\n')
    with waiting(node, "good.toml", "--timeout", "60s") as command:
        node.drain()
        assert command.wait(60) == 0
        assert command.stdout.read().startswith("another.")


def test_an_earlier_job_of_the_same_file_is_not_taken_for_it(node):
    node.drop("job.toml", FALSE)
    node.drain()
    node.drop("job.toml", TRUE)
    with waiting(node, "job.toml", "--timeout", "60s") as command:
        node.drain()
        assert command.wait(60) == 0


def test_a_submitted_job_is_followed_through_its_attempts(node):
    node.drop("bad.toml", 'command = ["false"]\n[retry]\nattempts = 3\nbackoff = "50ms"\n')
    node.start()
    done = node.run("wait", "bad.toml", "--json", check=False)
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["timed_out"]) == (1, False)
    assert [(job["state"], job["attempt"]) for job in answer["jobs"]] == [("failed", 3)]


def test_the_time_can_be_over_first(node):
    node.drop("later.toml", TRUE)
    done = node.run("wait", "later.toml", "--timeout", "100ms", check=False)
    assert done.returncode == 5
    assert "the time is over: `later.toml` is waiting" in done.stderr


def test_any_ends_with_the_first(served):
    served.drop("later.toml.held", TRUE)
    served.ran("first", TRUE)
    assert served.run("wait", "--any", "first", "later.toml", "--timeout", "60s").returncode == 0


def test_an_unknown_job_has_its_own_exit_code(node):
    assert node.run("wait", "nothing", check=False).returncode == 3


def test_a_record_that_a_person_moves_ends_the_wait(node):
    """`mv` changes the state; whoever waits goes by names alone."""
    node.drop("long.toml", 'command = ["sleep", "60"]\n')
    worker = node.start()
    until(lambda: "event=started" in node.said(), "it runs")
    (record,) = node.records("running", "long")
    with waiting(node, "long") as command:
        worker.kill()
        shutil.move(record, node.spool / "done" / record.name.rsplit(".", 2)[0])
        assert command.wait(60) == 0, command.stderr.read()
