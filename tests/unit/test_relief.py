from __future__ import annotations

import os
import socket
from types import SimpleNamespace

import pytest

from spooldadd.plan import Plan
from spooldadd.relief import Relief
from spooldadd.spawn import Streams


@pytest.fixture
def attempt(tmp_path):
    plan = Plan()
    plan.work_dir = str(tmp_path)
    lease, log = (os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("lease", "log"))
    built = SimpleNamespace(hold_fds=(), environment="")
    given = SimpleNamespace(
        on_wait=lambda: None,
        spares=None,
        plan=plan,
        lease=lease,
        record=str(tmp_path),
        built=built,
        started_at_s=0.0,
        started=0.0,
        log=log,
    )
    yield given
    os.close(lease)
    os.close(log)


def start(relief: Relief, attempt) -> int:
    streams = Streams(os.open(os.devnull, os.O_RDONLY), attempt.log, attempt.log)
    try:
        return relief.starter(attempt, (attempt.log, attempt.log), 0)("/bin/true", ["true"], dict(os.environ), streams)
    finally:
        os.close(streams.stdin)


def test_a_fork_whose_supervisor_is_gone_starts_the_job_itself(attempt):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with ours:
        relief = Relief(ours, os.getppid())
        assert os.waitpid(start(relief, attempt), 0)[1] == 0
        assert not relief.has_started


def test_a_fork_that_cannot_know_whether_the_job_was_started_ends_without_starting_a_twin(attempt, tmp_path):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        theirs.close()
        start(Relief(ours, os.getppid()), attempt)
        os._exit(0)
    ours.close()
    assert theirs.recv(65536)
    theirs.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_what_is_too_long_to_be_said_is_started_by_the_fork(attempt):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        attempt.plan.keep_files = ["x" * 100_000]
        assert os.waitpid(start(Relief(ours, os.getppid()), attempt), 0)[1] == 0


def test_a_job_whose_secrets_or_limits_are_held_by_who_prepares_it_stays_there():
    ours, theirs = socket.socketpair()
    relief = Relief(ours, os.getppid())
    plain, secret, limited, built = Plan(), Plan(), Plan(), Plan()
    secret.secrets = [("a", "b", False)]
    limited.limits.open_files = 10
    built.build = b"{}"
    assert [relief.suits(plan) for plan in (plain, secret, limited, built)] == [True, False, False, False]
    built.environment = "ready"
    assert relief.suits(built)
    ours.close()
    theirs.close()


def test_a_supervisor_that_is_gone_starts_nothing():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not Relief(ours, 4194303).suits(Plan())
