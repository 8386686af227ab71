"""A dropped Python script with inline metadata is a job: from outside, by the command line and the files on disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.e2e import cached_node
from tests.e2e.environment_index import Index
from tests.e2e.environment_web import Web
from tests.support import result_of, temporary_node, until

cache, node, SETTLE_S = cached_node.cache, cached_node.node, cached_node.SETTLE_S


@pytest.fixture(scope="module")
def served(cache):
    """One spool with a worker, for all tests that need no other."""
    with temporary_node(environ={"SPOOLDADD_CACHE_DIR": str(cache)}) as node:
        node.start("--jobs", "4")
        yield node


@pytest.fixture(scope="module")
def index():
    with Web() as web:
        index = Index(web)
        index.add("alpha", "1.0")
        yield index


def script(*keys, body="import sys\nprint(sys.argv)\n"):
    """Return a script with these keys in its `[tool.spooldadd]`; the body begins two lines after them."""
    told = "".join(f"# {key}\n" for key in ("[tool.spooldadd]", *keys))
    return f"# /// script\n{told}# ///\n\n{body}"


def output(record):
    return (record / "output.log").read_text()


def test_a_dropped_script_runs_with_its_dependencies_under_its_own_name(served, index):
    text = (
        '# /// script\n# dependencies = ["alpha"]\n# requires-python = ">=3.11"\n'
        f'# [tool.spooldadd]\n# queue = "etl"\n# args = ["--day", "{{{{ vars.day }}}}"]\n# vars.day = "2026-11-20"\n'
        f'# python.index_url = "{index.url}"\n# ///\n'
        "import os, sys, alpha\nprint(alpha.VERSION, sys.argv, os.listdir('.'))\n"
    )
    served.drop("backfill.py", text)
    record = served.wait_finished("backfill")
    result = result_of(record)
    assert result["outcome"] == "success", (record / "build.log").read_text()
    assert output(record) == "1.0 ['backfill.py', '--day', '2026-11-20'] ['backfill.py']\n"
    assert (record / "spec.py").read_text() == text
    assert not (record / "spec.toml").exists()
    assert (result["queue"], result["name"]) == ("etl", "backfill")
    assert "environment" in result


def test_a_script_without_dependencies_runs_in_the_interpreter_of_the_worker_and_sees_none_of_its_packages(served):
    body = "import sys\nprint(sys.version_info[:3])\nimport pydantic\n"
    served.drop("bare.py", script(body=body))
    record = served.wait_finished("bare")
    assert output(record).startswith(f"{sys.version_info[:3]}\n")
    assert "No module named 'pydantic'" in output(record)
    assert f'bare.py", line {len(script(body=body).splitlines())}' in output(record)


def test_the_second_job_of_a_script_starts_no_builder(served):
    for name in ("first", "second"):
        served.drop(f"{name}.py", script())
        record = served.wait_finished(name)
    assert not (record / "build.log").exists()


def test_a_python_that_no_node_has_is_a_build_failure_that_says_so(served):
    served.drop("late.py", '# /// script\n# requires-python = ">=3.99"\n# ///\n')
    result = result_of(served.wait_finished("late"))
    assert result["outcome"] == "build"
    assert "no Python >=3.99 is installed" in result["reason"]


# -- which Python files are specs


def test_a_python_file_without_metadata_is_left_alone_and_another_spec_may_name_it(node):
    node.start()
    node.drop("load.py", "print('loaded')\n")
    until(lambda: "event=ignored file=load.py" in node.said(), "it is said")
    node.drop("job.toml", 'command = ["python3", "load.py"]\n[[files]]\npath = "load.py"\n')
    record = node.wait_finished("job")
    assert output(record) == "loaded\n", result_of(record)
    assert (node.spool / "load.py").exists()
    assert "no line `# /// script`" in node.said()
    assert json.loads(node.run("status", "--json").stdout)["counts"]["waiting"] == 0
    assert node.run("explain", "load.py", check=False).returncode == 3
    assert "`load.py`" in next(line for line in node.run("doctor").stdout.splitlines() if "ignored-names" in line)


def test_a_python_file_becomes_a_spec_when_it_gets_its_metadata(served):
    served.drop("load.py", "print('loaded')\n")
    until(lambda: "event=ignored file=load.py" in served.said(), "it is said")
    (served.spool / "load.py").write_text(script())
    served.wait_finished("load")


def test_a_node_that_takes_no_scripts_leaves_them_alone(node):
    node.environ["SPOOLDADD_INTAKE__SUFFIXES"] = ".toml"
    node.drop("backfill.py", script())
    assert "event=ignored file=backfill.py" in node.drain()
    assert (node.spool / "backfill.py").exists()


def test_a_link_a_directory_a_pipe_and_a_hidden_file_are_no_scripts(node, tmp_path):
    (tmp_path / "x.py").write_text(script())
    (node.spool / "link.py").symlink_to(tmp_path / "x.py")
    (node.spool / "dir.py").mkdir()
    os.mkfifo(node.spool / "pipe.py")
    node.drop(".hidden.py", script())
    node.drain()
    assert not node.records("failed")
    assert not node.records("done")
    assert node.run("status").returncode == 0


# -- mistakes


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (script('queu = "etl"'), ":3:3", "did you mean `queue`?"),
        (script('limits.timeout = "soon"'), ":3:10", "is not a duration"),
        (script("priority = high"), ":3:14", "this is no value"),
        (script('args = ["{{ vars.gone }}"]'), ":3:11", "gone"),
        ("# /// script\n# dependencies = 3\n# ///\n", ":2:3", "`dependencies` must be a list of strings"),
        ("print(1)\n# /// script\n# x = 1\nprint(2)\n", ":2:1", "has no end"),
        (script() + script(), ":7:1", "a second block"),
    ],
)
def test_a_mistake_has_its_place_in_the_script(served, tmp_path, text, place, words):
    name = f"wrong{place.replace(':', '-')}"
    served.drop(f"{name}.py", text)
    record = served.wait_finished(name)
    assert result_of(record)["outcome"] == "invalid"
    assert (record / "spec.py").read_text() == text
    errors = (record / "errors.txt").read_text()
    assert f"{name}.py{place}: " in errors
    assert words in errors
    (tmp_path / "wrong.py").write_text(text)
    checked = served.run("check", str(tmp_path / "wrong.py"), check=False)
    assert checked.returncode == 1
    assert f"wrong.py{place}: " in checked.stdout
    assert f"{name}.py" in served.run("explain", name).stdout


def test_a_script_without_metadata_cannot_be_submitted(node, tmp_path):
    (tmp_path / "load.py").write_text("print(1)\n")
    done = node.run("submit", str(tmp_path / "load.py"), check=False)
    assert done.returncode == 1
    assert "no inline script metadata" in done.stderr


def test_a_script_over_the_limit_is_filed_with_the_reason(served):
    served.drop("large.py", script() + "#" * (1 << 20))
    assert "1M" in result_of(served.wait_finished("large"))["reason"]


# -- submit, run, check


def test_what_was_submitted_runs_whatever_is_edited_afterwards(node, tmp_path):
    path = tmp_path / "backfill.py"
    path.write_text(script(body="print('as submitted')\n"))
    (job,) = node.run("submit", str(path)).stdout.split()
    assert (node.spool / f"{job}.py").read_bytes() == path.read_bytes()
    path.write_text(script(body="print('edited')\n"))
    node.drain()
    assert output(node.finished("backfill")) == "as submitted\n"


def test_arguments_behind_the_dashes_go_to_the_script(node, tmp_path):
    path = tmp_path / "backfill.py"
    path.write_text(
        script('args = ["--day", "{{ vars.day }}"]', 'vars.day = "1"', body="import sys\nprint(sys.argv)\n1 / 0\n")
    )
    done = node.run("submit", str(path), "--var", "day=2", "--queue", "etl", "--", "a b", "--force", "--", "x", check=True)
    (job,) = done.stdout.split()
    assert "in queue `etl`" in node.run("explain", job).stdout
    node.drain()
    record = node.finished("backfill")
    assert "['backfill.py', '--day', '2', 'a b', '--force', '--', 'x']" in output(record)
    assert f'backfill.py", line {len(path.read_text().splitlines())}' in output(record)  # the lines are the author's
    assert result_of(record)["queue"] == "etl"
    run = node.run("run", str(path), "--", "a b", check=False)
    assert run.stdout == "['backfill.py', '--day', '1', 'a b']\n"
    assert run.returncode == 1


def test_arguments_are_for_one_script(node, tmp_path):
    (tmp_path / "a.toml").write_text('command = "true"')
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(script())
    for names, code, words in (
        (["a.toml"], 1, "only a script takes arguments"),
        (["a.py", "b.py"], 2, "go with one script"),
    ):
        done = node.run("submit", *(str(tmp_path / name) for name in names), "--", "x", check=False)
        assert (done.returncode, done.stdout) == (code, "")
        assert words in done.stderr
    assert node.run("run", str(tmp_path / "a.toml"), "--", "x", check=False).returncode == 1
    assert node.run("check", str(tmp_path / "a.py"), "--", "{{ gone }}", check=False).returncode == 1


def test_a_script_whose_job_has_another_name_keeps_its_own(served, tmp_path):
    text = script(
        'name = "nightly"', "retry.attempts = 2", 'retry.backoff = "0.1s"', body="import sys\nsys.exit(sys.argv[0])\n"
    )
    (tmp_path / "backfill.py").write_text(text)
    served.run("submit", str(tmp_path / "backfill.py"))
    served.drop("dropped.py", text.replace("nightly", "daily"))
    assert output(served.wait_finished("nightly")) == "backfill.py\n"
    record = served.wait_finished("daily")
    assert (result_of(record)["attempt"], output(record)) == (2, "dropped.py\n")


def test_readers_know_a_waiting_script(node):
    node.drop("backfill.py", script('queue = "etl"', "priority = 7"))
    listed = json.loads(node.run("status", "--json").stdout)
    assert [job["job"] for job in listed["jobs"]] == ["backfill.py"]
    assert "in queue `etl`, with priority 7" in node.run("explain", "backfill.py").stdout
    assert "backfill.py" in node.run("status").stdout


def test_a_program_may_submit_a_script(node, tmp_path):
    (tmp_path / "backfill.py").write_text(script())
    told = f"from spooldadd import Spool; print(Spool({str(node.spool)!r}).submit({str(tmp_path / 'backfill.py')!r}).id)"
    job = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout.strip()
    assert (node.spool / f"{job}.py").exists()


# -- the life of a job is the same


def test_retry_runs_the_same_script_again(served):
    body = "import os, sys\nprint(sys.argv)\nsys.exit(os.environ['SPOOLDADD_ATTEMPT'] == '1')\n"
    served.drop("flaky.py", script(body=body))
    assert result_of(served.wait_finished("flaky"))["outcome"] == "exit"
    served.run("retry", "flaky")
    (record,) = until(lambda: served.records("done", "flaky"), "it is done")
    assert result_of(record)["attempt"] == 2
    assert output(record) == "['flaky.py']\n"
    assert sorted(entry.name for entry in (record / "attempts" / "1").iterdir() if entry.name != "build.log") == [
        "claim.toml", "output.log", "result.toml",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a.py", "a.tar"])
def test_hold_release_and_cancel_know_every_form(node, tmp_path, name):
    path = tmp_path / name
    (tmp_path / "a.py").write_text(script())
    if name == "a.tar":
        subprocess.run(["tar", "-cf", path, "a.py"], cwd=tmp_path, check=True)
    shutil.copy(path, node.spool)
    node.run("hold", name)
    assert (node.spool / f"{name}.held").exists()
    node.drain()
    assert not node.finished("a")
    node.run("release", f"{name}.held")
    node.run("hold", name)
    node.run("cancel", f"{name}.held")
    record = node.finished("a")
    assert result_of(record)["outcome"] == "cancelled"
    assert (record / f"spec{path.suffix}").read_bytes() == path.read_bytes()
    node.run("retry", "a")
    node.drain()
    assert output(node.finished("a")) == "['a.py']\n"


def test_a_running_script_is_nobodys_hostage(node, tmp_path):
    worker, gate = node.start(), tmp_path / "gate"
    waits = f"while not os.path.exists({str(gate)!r}):\n    time.sleep(0.05)\n"
    node.drop("long.py", script(body=f"import os, time\nprint('begun', flush=True)\n{waits}print('done')\n"))
    until(lambda: list(node.spool.glob("running/long.*/output.log")), "it runs")
    until(lambda: "begun" in next(node.spool.glob("running/long.*/output.log")).read_text(), "it runs")
    worker.kill()
    worker.wait()
    gate.touch()
    record = node.wait_finished("long")
    assert output(record) == "begun\ndone\n"


def test_a_worker_that_died_before_it_started_a_script_loses_nothing(node):
    """As a claim leaves it whose worker died at once: the next one puts it back, and runs it."""
    text = script()
    node.drop("early.py", text)
    told = (
        "import sys\nfrom spooldadd import claim, process, spool\n"
        "own = claim.Holder(sys.argv[2], process.boot_id(), 1, 1)\n"
        "spool.open_spool(sys.argv[1], own).claim_drop('early.py', 'early', 'default')\n"
    )
    node.environ["SPOOLDADD_NODE"] = "here"
    subprocess.run([sys.executable, "-c", told, str(node.spool), "here"], check=True)
    (record,) = node.records("running")
    assert (record / "spec.py").read_text() == text
    node.drain()
    assert output(node.finished("early")) == "['early.py']\n"


# -- ways in


def test_a_script_that_is_written_slowly_is_taken_whole(node):
    node.start()
    lines = script(body="".join(f"print({number})\n" for number in range(6))).splitlines(keepends=True)
    with (node.spool / "slow.py").open("w") as file:
        for line in lines:
            file.write(line)
            file.flush()
            time.sleep(SETTLE_S * 0.7)
    assert output(node.wait_finished("slow")) == "0\n1\n2\n3\n4\n5\n"


@pytest.mark.parametrize("tool", ["cp", "rsync", "rsync --inplace"])
def test_any_way_of_copying_submits_a_script(served, tmp_path, tool):
    program, *options = tool.split()
    if not shutil.which(program):
        pytest.skip(f"needs the capability {program}")
    name = tool.replace(" ", "")
    (tmp_path / f"{name}.py").write_text(script())
    subprocess.run([program, *options, str(tmp_path / f"{name}.py"), str(served.spool)], check=True)
    assert output(served.wait_finished(name)) == f"['{name}.py']\n"


def test_a_name_of_255_bytes_is_a_name(served):
    name = "n" * 252 + ".py"
    served.drop("x", script())  # the name that it is written under first would be too long
    (served.spool / "x").rename(served.spool / name)
    (record,) = until(lambda: list(served.spool.glob("done/nnn*")), "it is done")
    assert output(record) == f"['{name}']\n"


@pytest.mark.parametrize(("name", "argument"), [("-c.py", "./-c.py"), ("with space.py",) * 2, ("ünï.py",) * 2])
def test_odd_names_are_names(served, name, argument):
    before = set(served.records("done"))
    served.drop(name, script())
    (record,) = until(lambda: set(served.records("done")) - before, "it is done")
    assert output(record) == f"[{argument!r}]\n"
