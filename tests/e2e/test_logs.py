"""`logs`: what a job printed, byte for byte, also while it runs."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import DEADLINE_S, SPOOLDADD, until

GATED = """
command = '''
echo "attempt $SPOOLDADD_ATTEMPT"
while [ ! -e "{gate}.$SPOOLDADD_ATTEMPT" ]; do sleep 0.02; done
echo "end $SPOOLDADD_ATTEMPT"
test "$SPOOLDADD_ATTEMPT" = 2
'''
[retry]
attempts = 2
backoff = "100ms"
"""


@contextmanager
def following(node, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Follow a job's log; a test that fails must not wait for the follower."""
    command = [SPOOLDADD, "logs", "--follow", *arguments]
    with subprocess.Popen(command, env=node.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follower:
        timer = threading.Timer(DEADLINE_S, follower.kill)  # a `readline` has no deadline of its own
        timer.start()
        try:
            yield follower
        finally:
            timer.cancel()
            follower.kill()


def logs(node, *arguments: str) -> bytes:
    return node.run("logs", *arguments, text=False).stdout


def test_bytes_come_out_as_they_went_in(served):
    program = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 300)"
    served.ran("bytes", f'command = ["python3", "-c", "{program}"]\n')
    assert logs(served, "bytes") == bytes(range(256)) * 300


def test_a_job_is_followed_from_waiting_through_its_attempts_to_its_end(node, tmp_path):
    node.drop("gated.toml", GATED.format(gate=tmp_path / "gate"))
    with following(node, "gated.toml") as command:
        assert b"`gated.toml` waits; following it when it starts" in command.stderr.readline()
        node.start()
        assert command.stdout.readline() == b"attempt 1\n"  # while it runs
        (tmp_path / "gate.1").touch()
        assert command.stdout.readline() == b"end 1\n"
        assert command.stdout.readline() == b"attempt 2\n"
        (tmp_path / "gate.2").touch()
        assert command.stdout.read() == b"end 2\n"
        assert command.wait(60) == 0
        said = command.stderr.read().decode()
    assert "attempt 1 of" in said and said.endswith("done\n")


def test_following_a_job_that_has_ended_prints_its_last_attempt_and_ends(served, tmp_path):
    (tmp_path / "gate.1").touch()
    (tmp_path / "gate.2").touch()
    served.ran("gated", GATED.format(gate=tmp_path / "gate"))
    with following(served, "gated") as command:
        assert command.stdout.read() == b"attempt 2\nend 2\n"
        assert command.wait(60) == 0
    with following(served, "gated", "--attempt", "1") as command:
        assert command.stdout.read() == b"attempt 1\nend 1\nattempt 2\nend 2\n"


def test_each_attempt_can_be_asked_for(served, tmp_path):
    (tmp_path / "gate.1").touch()
    (tmp_path / "gate.2").touch()
    served.ran("tried", GATED.format(gate=tmp_path / "gate"))
    assert logs(served, "tried") == b"attempt 2\nend 2\n"
    assert logs(served, "tried", "--attempt", "1") == logs(served, "tried", "--previous") == b"attempt 1\nend 1\n"
    assert logs(served, "tried", "-n", "1") == b"end 2\n"
    assert logs(served, "tried", "-n", "0") == b""
    missing = served.run("logs", "tried", "--attempt", "7", check=False)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "has no attempt 7; its last one is 2" in missing.stderr


def test_split_output_goes_where_it_belongs(served):
    served.ran("split", 'command = "echo out; echo err >&2"\n[run]\nsplit_output = true\n')
    served.ran("whole", 'command = "echo out; echo err >&2"\n')
    both = served.run("logs", "split")
    assert (both.stdout, both.stderr) == ("out\n", "err\n")
    assert logs(served, "split", "--stderr") == b"err\n"
    assert logs(served, "split", "--stdout") == b"out\n"
    assert logs(served, "whole") == b"out\nerr\n"
    refused = served.run("logs", "whole", "--stderr", check=False)
    assert refused.returncode == 1 and "does not split its output" in refused.stderr


def test_a_job_that_has_not_started_has_printed_nothing_yet(node):
    node.drop("later.toml", 'command = ["true"]\n')
    done = node.run("logs", "later.toml")
    assert done.stdout == "" and "it has printed nothing yet" in done.stderr


def test_an_invalid_spec_left_no_log_but_a_reason(served):
    served.ran("wrong", "comand = []\n")
    done = served.run("logs", "wrong")
    assert done.stdout == "" and "left no log: `wrong.toml` has" in done.stderr


def test_a_reader_that_goes_away_ends_it_quietly(served):
    served.ran("long", 'command = "yes | head -c 3000000"\n')
    with subprocess.Popen(
        [SPOOLDADD, "logs", "long"], env=served.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        command.stdout.read(10)
        command.stdout.close()
        assert command.wait(60) == 1
        assert command.stderr.read() == b""


def test_the_end_of_a_huge_log_is_there_at_once(served):
    log = served.ran("huge", 'command = ["true"]\n') / "output.log"
    with log.open("wb") as file:
        file.truncate(1 << 40)  # a hole of a terabyte: reading it would take an hour
        file.seek(0, os.SEEK_END)
        file.write(b"\nthe end\n")
    assert logs(served, "huge", "-n", "1") == b"the end\n"


def test_an_unknown_job_has_its_own_exit_code(node):
    assert node.run("logs", "nothing", check=False).returncode == 3


def test_a_job_that_is_killed_ends_the_follower(node):
    node.drop("long.toml", 'command = "echo begun; exec sleep 60"\n')
    node.start()
    with following(node, "long.toml") as command:
        assert command.stdout.readline() == b"begun\n"
        pid = until(lambda: _job_pid(node), "the job's process is known")
        os.kill(pid, 9)
        assert command.wait(60) == 0
        assert b"failed (signal): it was killed by SIGKILL" in command.stderr.read()


def _job_pid(node) -> int:
    for lock in (node.spool / ".spool" / "locks").iterdir():
        lines = [line for line in lock.read_text().splitlines() if line.startswith("job_pid = ")]
        if lines:
            return int(lines[0].split()[-1])
    return 0
