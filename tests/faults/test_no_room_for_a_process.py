"""A machine that is out of processes or memory for a moment fails no job."""

from __future__ import annotations

import errno
import os
import shutil

import pytest

from tests.faults.bench import LINE, Bench
from tests.faults.steps import ONCE, run_attempt
from tests.support import result_of


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
