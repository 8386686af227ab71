"""Several releases on one spool: they understand each other's files, or refuse with one clear sentence."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import spooldadd
from tests.e2e import mail_node
from tests.support import SPOOLDADD, Node, result_of, until

FIXTURES = Path(__file__).parent.parent / "fixtures"
JOB = "old.20261121T101500Z.bcdfg"
READERS = (["status"], ["status", JOB], ["explain", JOB], ["logs", JOB], ["failures"], ["nodes"], ["wait", JOB])
WRITERS = (["submit", "x.toml"], ["retry", JOB], ["cancel", JOB], ["hold", "--all"], ["recover"], ["worker", "--drain"])
NEWER_RESULT = """schema = 2
job = "{job}"
name = "old"
state = "{state}"
outcome = "evaporated"
reason = "it was too warm"
attempt = 1
weather = {{ wind = "north", force = [1, 2] }}
submitted_at = 2026-11-21T10:15:00Z
"""


def another_release(root: Path) -> Path:
    """Copy the package with another number, records of schema 2 and keys that nobody knows here."""
    package = root / "spooldadd"
    shutil.copytree(Path(spooldadd.__file__).parent, package)
    release = package / "release.py"
    release.write_text(release.read_text().replace(spooldadd.__version__, "99.0"))
    record = package / "record.py"
    text = record.read_text()
    changed = text.replace("\nSCHEMA = 1\n", "\nSCHEMA = 2\n").replace(
        '{"schema": SCHEMA, **', '{"schema": SCHEMA, "weather": "fine", **'
    )
    assert changed.count('"weather"') == 2, "claim and result carry a key that we do not know"
    record.write_text(changed)
    return root


def put_record(node: Node, state: str, text: str, name: str = JOB) -> Path:
    path = node.spool / state / name
    path.mkdir()
    (path / "spec.toml").write_text('command = ["true"]\n')
    (path / "claim.toml").write_text(f'schema = 2\njob = "{JOB}"\nattempt = 1\nnode = "far"\nmood = "good"\n')
    (path / "result.toml").write_text(text)
    return path


def test_two_releases_serve_one_spool_at_once_and_run_each_job_once(make_node: Callable[..., Node], tmp_path: Path) -> None:
    node = make_node(durability="process")
    mark = node.spool / ".spool" / "format.toml"
    mark.write_text(mark.read_text().replace('"local"', '"shared"'))
    lines = tmp_path / "lines"
    for number in range(100):
        place = {0: '[place]\nnode = "ours"\n', 1: '[place]\nnode = "newer"\n'}.get(number % 4, "")
        node.drop(f"j{number}.toml", f'command = "echo j{number} >> {lines}"\n{place}')
    node.start("--node", "ours")
    node.command = [sys.executable, "-m", "spooldadd"]
    node.start("--node", "newer", environ={"PYTHONPATH": str(another_release(tmp_path / "newer")), "PYTHONSAFEPATH": "1"})
    node.command = [SPOOLDADD]
    until(lambda: len(node.records("done")) + len(node.records("failed")) == 100, "all are filed", 120)
    assert sorted(lines.read_text().split()) == sorted(f"j{number}" for number in range(100))
    assert node.records("failed") == []
    schemas = {result_of(record)["node"]: result_of(record)["schema"] for record in node.records("done")}
    assert schemas == {"ours": 1, "newer": 2}
    shown = json.loads(node.run("status", "--json", "--all").stdout)
    assert shown["counts"]["done"] == 100
    assert {job["outcome"] for job in shown["jobs"]} == {"success"}
    nodes = {entry["node"]: entry for entry in json.loads(node.run("nodes", "--json").stdout)["nodes"]}
    assert (nodes["newer"]["release"], nodes["newer"]["is_other_release"]) == ("99.0", True)


@pytest.mark.parametrize("command", [*READERS, *WRITERS], ids=" ".join)
def test_spool_of_a_newer_format_is_refused_by_name_and_left_as_it_is(
    make_node: Callable[..., Node], tmp_path: Path, command: list[str]
) -> None:
    node = make_node()
    mark = node.spool / ".spool" / "format.toml"
    mark.write_text(mark.read_text().replace("format = 1", "format = 2"))
    (tmp_path / "x.toml").write_text('command = ["true"]\n')
    before = sorted(path.relative_to(node.spool) for path in node.spool.rglob("*"))
    done = node.run(*command, check=False, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "says format 2; this release understands 1: use a newer release" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.relative_to(node.spool) for path in node.spool.rglob("*")) == before


def test_finished_record_of_a_newer_release_is_shown_with_all_that_it_says(make_node: Callable[..., Node]) -> None:
    node = make_node()
    put_record(node, "failed", NEWER_RESULT.format(job=JOB, state="failed"))
    table = json.loads(node.run("status", JOB, "--json").stdout)
    assert (table["outcome"], table["state"], table["weather"]["wind"]) == ("evaporated", "failed", "north")
    for command in (["status"], ["explain", JOB], ["failures"]):
        done = node.run(*command, check=False)
        assert "Traceback" not in done.stderr
        assert "too warm" in done.stdout or "evaporated" in done.stdout, command
    assert node.run("wait", JOB, check=False).returncode == 1
    node.run("retry", JOB)
    node.drain()
    assert result_of(node.finished("old"))["outcome"] == "success"


def test_running_record_whose_result_names_an_unknown_state_is_filed_and_not_lost(make_node: Callable[..., Node]) -> None:
    node = make_node()
    record = put_record(node, "running", NEWER_RESULT.format(job=JOB, state="parked"), f"{JOB}.1.bcdfg")
    claim = record / "claim.toml"
    claim.write_text(claim.read_text().replace('"far"', '"here"'))
    node.drain("--node", "here")
    filed = node.finished("old")
    assert filed is not None
    assert filed.parent.name == "failed"
    assert result_of(filed)["outcome"] == "evaporated"
    assert (filed / "spec.toml").exists()


@pytest.mark.parametrize("release", sorted(path.name for path in FIXTURES.glob("release-*")))
def test_spool_of_an_earlier_release_is_read_and_served(make_node: Callable[..., Node], release: str) -> None:
    node = make_node()
    shutil.rmtree(node.spool)
    shutil.copytree(FIXTURES / release, node.spool)
    for state in ("running", "waiting"):  # git keeps no empty directory
        (node.spool / state).mkdir(exist_ok=True)
    (node.spool / ".spool" / "locks").mkdir(exist_ok=True)
    shown = json.loads(node.run("status", "--json", "--all").stdout)
    assert {
        job["name"]: (job["state"], job["outcome"])
        for job in shown["jobs"]
        if "outcome" in job and job["state"] != "waiting"
    } == {
        "good": ("done", "success"),
        "came": ("done", "success"),
        "bad": ("failed", "exit"),
        "wrong": ("failed", "invalid"),
    }
    assert node.run("logs", "good").stdout == "hello\n"
    assert "exit code 3" in node.run("explain", "bad").stdout
    assert "etl-1" in node.run("nodes", "--watch", "0s").stdout
    (came,) = (job for job in shown["jobs"] if job["name"] == "came")
    assert (came["came_from"], came["job_there"]) == ("far-1:/var/spool/spooldadd", came["job"])
    assert json.loads(node.run("nodes", "--watch", "0s", "--json").stdout)["nodes"][0]["locks"] == "shared"
    mail_node.configure(node)
    node.run("recover", "--node", "etl-1", "--force-dead")
    assert result_of(node.finished("lost"))["outcome"] == "lost"
    assert not (node.spool / ".spool" / "locks" / "lost.20261121T231557Z.m5w9d.1.t6k2p.lock").exists()
    node.drain()
    until(lambda: {"bad", "lost"} <= _told(node), "both are told")
    assert result_of(node.finished("again"))["attempt"] == 2
    assert tomllib.loads((node.finished("again") / "attempts" / "1" / "result.toml").read_text())["outcome"] == "exit"


def _told(node: Node) -> set[str]:
    return {word for mail in mail_node.mails(node) for word in mail["Subject"].replace("`", " ").replace(":", " ").split()}
