"""`doctor --peer` with two paths to one spool on a local disk, and with two nodes on it."""

import json
import os
import signal
import subprocess
import tomllib

import pytest

from tests.support import Node, until

pytestmark = pytest.mark.slow


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path, environ={"SPOOLDADD_NODE": "left"})
    (tmp_path / "again").symlink_to(node.spool)
    yield node
    node.close()


def start(node, name, *arguments):
    return subprocess.Popen(
        [*node.command, "doctor", *arguments, "--json"],
        env={**node.environ, "SPOOLDADD_NODE": name},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sessions(node):
    probe = node.spool / ".spool" / "probe"
    return sorted(os.listdir(probe)) if probe.exists() else []


def test_another_path_to_the_spool_is_examined_and_the_verdict_written_down(node, tmp_path):
    done = node.run("doctor", "--peer", str(tmp_path / "again"), "--json")
    said = json.loads(done.stdout)
    checks = {check["check"]: check["status"] for check in said["checks"]}
    assert {"renames", "locks", "locks-killed", "sight", "events", "features"} <= checks.keys()
    assert checks["renames"] == checks["locks"] == "ok"
    assert said["peer"]["measured"]["locks"] == "shared"
    written = tomllib.loads((node.spool / ".spool" / "proofs" / "left.toml").read_text())
    assert written["peers"] == {"*": "shared"}
    assert written["seen"]["*"]["renames_exclude"] is True
    assert sessions(node) == []


def test_another_spool_is_refused(node, tmp_path):
    node.run("init", str(tmp_path / "other"))
    done = node.run("doctor", "--peer", str(tmp_path / "other"), check=False)
    assert done.returncode == 4
    assert "another spool" in done.stderr


def test_two_nodes_that_examine_each_other_say_the_same_and_both_write_it_down(node):
    both = [start(node, "left", "--peer", "right"), start(node, "right", "--peer", "left")]
    answers = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    said = [json.loads(stdout) for stdout, _ in answers]
    assert [table["peer"]["measured"]["locks"] for table in said] == ["shared", "shared"]
    for name, other in (("left", "right"), ("right", "left")):
        assert tomllib.loads((node.spool / ".spool" / "proofs" / f"{name}.toml").read_text())["peers"] == {other: "shared"}
    assert sessions(node) == []


def test_what_can_never_answer_is_refused_at_once(node, tmp_path):
    for word, said in (("left", "is this node itself"), ("a b", "no node name"), ("", "no node name")):
        done = node.run("doctor", "--peer", word, check=False)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    done = node.run("doctor", "--peer", "again", "--timeout", "0.1s", check=False, cwd=tmp_path)
    assert "`--peer ./again`" in done.stderr


def test_a_node_that_does_not_answer_is_given_up(node):
    done = node.run("doctor", "--peer", "nobody", "--timeout", "1s", check=False)
    assert done.returncode == 4
    assert "`spooldadd doctor --peer left`" in done.stderr
    assert sessions(node) == []


def test_an_examination_that_is_killed_leaves_nothing(node):
    process = start(node, "left", "--peer", "nobody")
    until(lambda: sessions(node), "it began")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until(lambda: not sessions(node), "its side removed what it had made")


def test_the_worker_of_the_other_node_answers(node):
    mark = node.spool / ".spool" / "format.toml"
    mark.write_text(mark.read_text().replace('kind = "local"', 'kind = "shared"'))
    node.start("--node", "right")
    done = node.run("doctor", "--peer", "right", "--json")
    assert json.loads(done.stdout)["peer"]["measured"]["locks"] == "shared"
    assert "event=probe node=left" in node.said()
    proofs = node.spool / ".spool" / "proofs"
    until(lambda: (proofs / "right.toml").exists(), "the other side wrote it down, too")
    assert "locks were proven shared with `right`" in node.run("doctor", check=False).stdout
