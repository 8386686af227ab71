"""The Python API: submit, look, wait, act, from a program that starts nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import spooldadd
from spooldadd import NoSuchJob, NotASpool, NotPossible, SpecError, Spool
from tests.support import until


@pytest.fixture
def spool(served) -> Spool:
    """Give one that a worker serves; `unserved` gives one of the test's own that nobody does."""
    return Spool(served.spool)


@pytest.fixture
def unserved(node) -> Spool:
    return Spool(node.spool)


def test_a_submitted_mapping_runs_and_its_result_comes_back(spool):
    job = spool.submit({"command": ["sh", "-c", "echo hello $NAME"], "env": {"NAME": 'a "b"'}}, name="greet")
    assert job.id.startswith("greet.")
    result = job.wait(timeout_s=60)
    assert (result["outcome"], result["state"], job.state) == ("success", "done", "done")
    assert job.log() == 'hello a "b"\n'
    assert Path(job.log_path).read_text() == job.log()
    assert job.result["finished_at"] >= job.result["started_at"]


@pytest.mark.parametrize("kind", ["text", "line", "bytes", "path", "path as text"])
def test_every_kind_of_spec_is_taken(spool, tmp_path, kind):
    text = 'command = ["echo", "{{ vars.day }}"]\n[vars]\nday = "monday"\n'
    line = 'command = ["echo", "monday"]'
    path = tmp_path / "nightly.toml"
    path.write_text(text)
    specs = {"text": text, "line": line, "bytes": text.encode(), "path": path, "path as text": str(path)}
    job = spool.submit(specs[kind])
    job.wait(60)
    assert job.log() == "monday\n"
    assert job.id.startswith("nightly." if kind.startswith("path") else "spec.")


def test_variables_queue_and_priority_are_written_into_the_spec(spool):
    text = 'command = ["echo", "{{ vars.day }} {{ vars.count + 1 }}"]\n[vars]\nday = "monday"\ncount = 1\n'
    job = spool.submit(text, vars={"day": "friday", "count": 41}, queue="etl", priority=3)
    job.wait(60)
    assert job.log() == "friday 42\n"
    assert job.result["queue"] == "etl"


def test_a_wrong_spec_is_refused_with_every_problem_and_nothing_is_dropped(node, unserved):
    before = sorted(node.spool.iterdir())
    with pytest.raises(SpecError) as caught:
        unserved.submit({"comand": ["true"], "priority": "high"})
    assert [problem.key for problem in caught.value.problems] == ["comand", "priority"]
    with pytest.raises(SpecError, match="cannot be written as TOML"):
        unserved.submit({"command": ["true"], "config": {"when": object()}})
    with pytest.raises(SpecError, match="cannot be read"):
        unserved.submit(Path("nothing.toml"))
    assert sorted(node.spool.iterdir()) == before


def test_a_job_moves_through_its_states_under_the_eyes_of_its_handle(node, unserved):
    job = unserved.submit({"command": ["sh", "-c", "echo begun; exec sleep 60"]})
    assert (job.state, job.result, job.log(), job.log_path) == ("waiting", None, "", None)
    with pytest.raises(TimeoutError, match=r"is waiting after 0\.05 s"):
        job.wait(timeout_s=0.05)
    node.start()
    until(lambda: job.state == "running" and job.log() == "begun\n", "it runs")
    job.cancel()
    assert job.wait(timeout_s=60)["outcome"] == "cancelled"
    with pytest.raises(NotPossible):
        job.cancel()


def test_a_failed_job_can_be_tried_again(spool, tmp_path):
    job = spool.submit({"command": ["test", "-e", str(tmp_path / "there")]})
    assert job.wait(60)["outcome"] == "exit"
    assert job.reason == "it ended with exit code 1"
    (tmp_path / "there").touch()
    job.retry()
    until(lambda: job.state == "done", "it runs again")
    assert job.result["attempt"] == 2


def test_jobs_are_found_by_id_by_its_beginning_and_by_state(node, unserved):
    good = unserved.submit({"command": ["true"]}, name="good")
    bad = unserved.submit({"command": ["false"]}, name="bad")
    node.drain()
    assert unserved.job(good.id).state == "done"
    assert unserved.job("bad").id == bad.id
    assert [job.id for job in unserved.jobs(state="failed")] == [bad.id]
    assert {job.id for job in unserved.jobs()} == {good.id, bad.id}
    assert unserved.counts() == {"waiting": 0, "running": 0, "done": 1, "failed": 1}
    with pytest.raises(NoSuchJob):
        unserved.job("nothing")


def test_a_directory_that_is_no_spool_is_refused(tmp_path):
    with pytest.raises(NotASpool):
        Spool(tmp_path)


def test_the_package_offers_its_public_names_and_no_others():
    for name in spooldadd.__all__:
        assert getattr(spooldadd, name) is not None
    assert set(spooldadd.__all__) <= set(dir(spooldadd))
    with pytest.raises(AttributeError, match="has no attribute `nothing`"):
        spooldadd.nothing


def test_importing_the_package_imports_nothing_else():
    """The launcher imports it, and every fork pays for what that brings along."""
    program = "import sys; before = set(sys.modules); import spooldadd; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert set(done.stdout.split()) == {"spooldadd", "spooldadd.release"}
