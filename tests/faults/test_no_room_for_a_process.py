"""A machine that is out of processes or memory for a moment fails no job."""

from __future__ import annotations

import errno
import os
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooldadd.tomltext import dumps
from tests.faults.bench import LINE, Bench
from tests.faults.steps import ONCE, run_attempt
from tests.support import Node, result_of, until


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOMEM])
@pytest.mark.parametrize(
    ("call", "spec"), [("posix_spawn", ONCE), ("fork", ONCE + "[limits]\nopen_files = 64\n")], ids=["spawn", "fork"]
)
def test_a_job_waits_until_it_can_be_started(bench: Bench, call: str, spec: str, code: int):
    """It was filed as `exit` 126, or, where limits of the kernel need a fork, ended its supervisor and was `lost`."""
    bench.drop(spec)

    def run() -> None:
        step, real = run_attempt(bench), getattr(os, call)

        def fail_once(*arguments, **options):
            setattr(os, call, real)
            raise OSError(code, os.strerror(code))

        setattr(os, call, fail_once)
        step()

    assert bench.in_fork(run) == 0, bench.said()
    assert bench.problems() == []
    assert bench.attempts_run() == [1]
    assert "no room for another process" in bench.said()


def test_a_work_directory_that_somebody_removed_is_a_reason(bench: Bench):
    bench.drop(f"command = '{LINE}'\n")

    def run() -> None:
        from spooldadd import jobprocess

        step, real = run_attempt(bench), jobprocess.whole_environ

        def remove_first(plan, *rest):
            shutil.rmtree(plan.work_dir)
            return real(plan, *rest)

        jobprocess.whole_environ = remove_first
        step()

    assert bench.in_fork(run) == 0, bench.said()
    (record,) = (bench.spool_path / "failed").iterdir()
    assert "work directory" in result_of(record)["reason"]
    assert bench.attempts_run() == []


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM])
def test_a_worker_without_descriptors_calls_no_spec_invalid(bench: Bench, code: int):
    """It could not open the spec that it had claimed, and filed it as one that nobody may read."""
    bench.drop(ONCE)

    def serve() -> None:
        worker, real = bench.worker(), os.open

        def fail_once(path, *rest, **options):
            if "/running/" in str(path) and str(path).endswith("spec.toml"):
                os.open = real
                raise OSError(code, os.strerror(code), path)
            return real(path, *rest, **options)

        os.open = fail_once
        worker.serve()

    assert bench.in_fork(serve) == 0, bench.said()
    assert bench.problems() == []
    assert bench.attempts_run() == [1]
    assert "event=spool-trouble" in bench.said()


def test_a_spec_on_a_bad_sector_is_filed_with_what_the_disk_said(bench: Bench):
    bench.drop(ONCE)

    def serve() -> None:
        worker, real = bench.worker(), os.open

        def fail(path, *rest, **options):
            if "/running/" in str(path) and str(path).endswith("spec.toml"):
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
            return real(path, *rest, **options)

        os.open = fail
        worker.serve()

    assert bench.in_fork(serve) == 0, bench.said()
    (record,) = (bench.spool_path / "failed").iterdir()
    assert "cannot be read: Input/output error" in result_of(record)["reason"]
    assert (record / "spec.toml").read_text() == ONCE


# Takes all processes that its user may have, and gives them back when the gate opens.
HOG = """
import os, sys, time
def wait():
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.05)
try:
    while True:
        if os.fork() == 0:
            wait()
            os._exit(0)
except BlockingIOError:
    open(sys.argv[1] + ".up", "w").close()
wait()
"""


@pytest.fixture
def poor() -> Iterator[Node]:
    """A worker of a user who may have 16 processes, and has no others."""
    python, package = "/usr/bin/python3", Path(__file__).resolve().parents[2]
    path = ":".join([str(package), *site.getsitepackages()])
    uid = str(60_000 + os.getpid() % 5_000)
    user = ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "prlimit", "--nproc=16"]
    own = {"PYTHONPATH": path, "HOME": "/nonexistent", "SPOOLDADD_INTAKE__SETTLE": "0s", "PYTHONDONTWRITEBYTECODE": "1"}
    proof = [*user, python, "-c", "import sys, spooldadd.worker; print(sys.version_info[:2])"]
    try:
        proven = subprocess.run(proof, env={**os.environ, **own}, capture_output=True, text=True, check=False, cwd="/")
    except OSError:
        pytest.skip("needs the capability to start programs as another user (root, setpriv, prlimit)")
    if os.geteuid() or proven.stdout.strip() != str(sys.version_info[:2]):
        pytest.skip("needs the capability to start programs as another user (root, setpriv, prlimit)")
    root = Path(tempfile.mkdtemp(prefix="spooldadd-test-"))
    node = Node(root, environ=own)
    try:
        for each in (root, *root.rglob("*")):
            os.chown(each, int(uid), int(uid))
        node.command = [*user, python, "-m", "spooldadd"]
        yield node
    finally:
        node.close()
        shutil.rmtree(root, ignore_errors=True)


def test_a_user_who_has_no_process_left_loses_no_job(poor: Node):
    """What one job takes, the others wait for."""
    gate = poor.spool.parent / "gate"
    worker = poor.start("--jobs", "3")
    poor.drop("hog.toml", dumps({"command": ["/usr/bin/python3", "-c", HOG, str(gate)]}))
    until(Path(f"{gate}.up").exists, "it has taken all")
    for number in range(3):
        poor.drop(f"ok{number}.toml", "command = ['true']\n")

    def is_said() -> bool:
        """By the worker; or by the launcher, where the worker was quicker to hand a job over than that to fail."""
        said = poor.said()
        return "out of processes or memory" in said or (os.strerror(errno.EAGAIN) in said and "event=put-back" in said)

    until(is_said, "somebody says what is missing")
    assert all(poor.finished(f"ok{number}") is None for number in range(3)), poor.said()
    gate.touch()
    for name in ("hog", "ok0", "ok1", "ok2"):
        result = result_of(poor.wait_finished(name))
        assert (result["outcome"], result["attempt"]) == ("success", 1)
    assert worker.poll() is None
