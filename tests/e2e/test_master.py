"""Nodes send finished records to their master by themselves: over a real sshd that goes away, and into a directory."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.ssh_server import stoppable_ssh_server
from tests.support import Node, result_of, temporary_node, until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("rsync") is None, reason="needs the capability rsync")]
ENVIRON = {"SPOOLDADD_INTAKE__SETTLE": "100ms"}
NODES = ("n1", "n2", "n3")
WORKS, FAILS = 'command = ["echo", "good"]\n', 'command = "echo bad; exit 3"\n'


@pytest.fixture
def master():
    with temporary_node(environ=ENVIRON) as node:
        yield node


@pytest.fixture
def make_node(tmp_path):
    """Make a node whose worker sends to a master, with more lines for its configuration."""
    made = []

    def make(name, target, more="") -> Node:
        (tmp_path / name).mkdir()
        node = Node(tmp_path / name, environ=ENVIRON)
        made.append(node)
        config = f'node = "{name}"\n{more}\n[master]\ntarget = "{target}"\nretry = "1s"\n'
        (node.spool / ".spool" / "worker.toml").write_text(config + 'upload = "all"\n')
        return node

    yield make
    for node in made:
        node.close()


def names_here(master):
    return sorted(record.name for state in ("done", "failed") for record in master.records(state))


def test_what_ends_while_the_master_is_away_arrives_afterwards_once(master, make_node):
    with stoppable_ssh_server() as server:
        more = f'[remote]\nssh = "{server.command}"\ntimeout = "20s"'
        nodes = {name: make_node(name, f"node:{master.spool}", more) for name in NODES}
        server.stop()
        workers = {name: node.start("--jobs", "2") for name, node in nodes.items()}
        expected = []
        for node in nodes.values():
            node.drop("good.toml", WORKS)
            node.drop("bad.toml", FAILS)
        for node in nodes.values():
            expected += [node.wait_finished(name).name for name in ("good", "bad")]
            until(lambda node=node: "event=upload-waits" in node.said(), "the worker says that its master is away")
        first = nodes["n1"]
        said = until(lambda: _waiting(first, 2), "status counts both")
        assert "cannot be reached now" in said
        checks = json.loads(first.run("doctor", "--json", check=False).stdout)["checks"]
        assert [check["status"] for check in checks if check["check"] == "uploads"] == ["warn"]
        workers["n2"].kill()  # it and its uploader are gone in the middle; the next worker goes on
        nodes["n2"].start("--jobs", "2")
        server.start()
        until(lambda: all(_is_sent(node) for node in nodes.values()), "everything was sent")
        assert master.records("done") == master.records("failed") == []
        shown = json.loads(master.run("status", "--json").stdout)["jobs"]  # who looks takes in
        assert sorted(job["job"] for job in shown) == sorted(expected)
        assert names_here(master) == sorted(expected)
        assert [node.said().count("event=upload-waits") for node in (nodes["n1"], nodes["n3"])] == [1, 1]
        assert not _waiting(first, 2)
        assert {"n1", "n2", "n3"} == {result_of(record)["node"] for record in master.records("failed")}
        assert len(json.loads(master.run("failures", "--json").stdout)["causes"]) == 1


def _waiting(node, count):
    text = node.run("status").stdout
    return text if f"{count} records wait" in text else ""


def _is_sent(node):
    records = [*node.records("done"), *node.records("failed")]
    return records and all((record / "uploaded.toml").exists() for record in records)


def test_a_worker_on_the_master_takes_in_what_arrives_and_sends_no_mail_about_it(master, make_node):
    letters = master.spool.parent / "letters"
    config = f'[mail]\nto = ["ops@example.org"]\n[transport.box]\nkind = "maildir"\ndirectory = "{letters}"\n'
    (master.spool / ".spool" / "worker.toml").write_text(config)
    worker = master.start("--node", "m")
    node = make_node("n1", master.spool)
    node.drop("bad.toml", FAILS)
    node.run("worker", "--drain")
    job = node.records("failed")[0].name
    until(lambda: names_here(master) == [job], "the worker takes it in")
    worker.send_signal(signal.SIGTERM)
    worker.wait()
    assert "event=arrived" in master.said()
    master.run("mail", "flush")
    assert not list(Path(letters).rglob("*.*")) if letters.exists() else True
    master.run("retry", "--here", job)
    assert [path.name.split(".")[0] for path in master.spool.glob("*.toml")] == ["bad"]


def test_only_failures_are_sent_where_nothing_else_is_said_and_a_later_success_follows(master, make_node, tmp_path):
    node = make_node("n1", master.spool)
    config = node.spool / ".spool" / "worker.toml"
    config.write_text(config.read_text().replace('upload = "all"\n', ""))
    fixed = tmp_path / "fixed"
    node.drop("good.toml", WORKS)
    node.drop("mend.toml", f"command = 'test -e \"{fixed}\"'\n")
    node.run("worker", "--drain")
    job = node.records("failed")[0].name
    master.run("collect")
    assert names_here(master) == [job]
    assert result_of(master.spool / "failed" / job)["attempt"] == 1
    fixed.touch()
    node.run("retry", job)
    node.run("worker", "--drain")
    master.run("status")
    assert names_here(master) == [job]
    assert result_of(master.spool / "done" / job)["attempt"] == 2
    assert (master.spool / "done" / job / "attempts" / "1" / "result.toml").exists()


def test_what_is_sent_twice_or_was_cancelled_before_it_started(master, make_node):
    node = make_node("n1", master.spool)
    node.drop("good.toml", WORKS)
    node.drop("never.toml", WORKS)
    node.run("cancel", "never.toml")
    node.run("worker", "--drain")
    assert sorted(name.split(".")[0] for name in _after_status(master)) == ["good", "never"]
    for record in [*node.records("done"), *node.records("failed")]:
        (record / "uploaded.toml").unlink()
    before = names_here(master)
    node.run("worker", "--drain")
    assert _after_status(master) == before
    assert list((master.spool / ".spool" / "incoming").glob("n1*/*")) == []


def _after_status(master):
    master.run("status")
    return names_here(master)


def test_a_damaged_arrival_is_put_aside_and_comes_whole_the_next_time(master, make_node):
    node = make_node("n1", master.spool)
    node.drop("good.toml", WORKS)
    node.run("worker", "--drain")
    (arrived,) = (master.spool / ".spool" / "incoming").glob("n1*/*")
    (arrived / "output.log").write_text("bent")
    done = master.run("collect", check=False)
    assert done.returncode == 1
    assert "output.log" in done.stderr
    assert names_here(master) == []
    assert "arrived damaged" in master.run("status").stdout
    (record,) = node.records("done")
    (record / "uploaded.toml").unlink()
    node.run("worker", "--drain")
    assert master.run("collect").stdout.split() == [record.name]


def test_two_nodes_with_one_id_overwrite_nothing(master, make_node):
    job = "twin.20261121T101500Z.bcdfg"
    for name in ("n1", "n2"):
        node = make_node(name, master.spool)
        node.drop(f"{job}.toml", f'command = ["echo", "{name}"]\n')
        node.run("worker", "--drain")
        assert node.records("done")[0].name == job
    master.run("collect")
    logs = {(record / "output.log").read_text().strip(): record.name for record in master.records("done")}
    assert sorted(logs) == ["n1", "n2"]
    assert len(set(logs.values())) == 2
    assert all(name.startswith("twin.20261121T101500Z.") for name in logs.values())


def test_a_master_that_is_no_spool_gets_nothing_and_the_records_wait(make_node, tmp_path):
    empty = tmp_path / "mount"
    empty.mkdir()
    node = make_node("n1", empty)
    node.drop("good.toml", WORKS)
    began = time.monotonic()
    node.run("worker", "--drain")
    assert time.monotonic() - began < 60  # it does not wait for the master
    assert list(empty.iterdir()) == []
    assert "1 record waits" in node.run("status").stdout
    assert "not a spool" in node.run("status").stdout
