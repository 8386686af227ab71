"""Specs go to three nodes over a real sshd, results come back, and a failed job is sent to its node again."""

import json
import os
import shutil
import signal
import subprocess
from types import SimpleNamespace

import pytest

from tests.e2e.ssh_server import RRSYNC, stoppable_ssh_server
from tests.support import SPOOLDADD, Node, result_of, temporary_node, until

pytestmark = [
    pytest.mark.skipif(shutil.which("rsync") is None, reason="needs the capability rsync"),
    pytest.mark.slow,
]
NODES = ("n1", "n2", "n3")
ENVIRON = {"SPOOLDADD_INTAKE__SETTLE": "100ms"}
ODD = "two words"  # a path that a shell would split


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A collecting spool and three nodes behind a real sshd, each with a worker."""
    root = tmp_path_factory.mktemp("world")
    with stoppable_ssh_server() as server, temporary_node(environ=ENVIRON) as master:
        nodes = {}
        try:
            for name in NODES:
                (root / ODD / name).mkdir(parents=True)
                nodes[name] = Node(root / ODD / name, environ=ENVIRON)
                nodes[name].start("--node", name, "--jobs", "2")
            table = [f'{name} = {{ target = "node:{node.spool}", command = "{SPOOLDADD}" }}' for name, node in nodes.items()]
            config = master.spool / ".spool" / "worker.toml"
            config.write_text(f'[remote]\nssh = "{server.command}"\n[nodes]\n' + "\n".join(table) + "\n")
            yield SimpleNamespace(root=root, server=server, master=master, nodes=nodes)
        finally:
            for node in nodes.values():
                node.close()


@pytest.fixture
def spec(tmp_path):
    """Write a spec, and give its path."""

    def write(name, text):
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        return str(path)

    return write


def pushed(done):
    """Return node and id of each job that arrived."""
    return [tuple(line.split(" ")) for line in done.stdout.splitlines()]


def test_a_spec_and_its_files_reach_every_node_and_their_records_come_back_once(world, spec, tmp_path):
    (tmp_path / "grüße.txt").write_text("hello")
    path = spec("all", 'command = ["cat", "grüße.txt"]\n[[files]]\npath = "grüße.txt"\n')
    arrived = pushed(world.master.run("push", path, "--all"))
    assert sorted(node for node, _ in arrived) == sorted(NODES)
    assert len({job for _, job in arrived}) == 3
    for name in NODES:
        world.nodes[name].wait_finished("all")
    first = world.master.run("collect", "--all").stdout.split()
    assert sorted(first) == sorted(job for _, job in arrived)
    for name, job in arrived:
        record = world.master.spool / "done" / job
        assert (record / "output.log").read_bytes() == b"hello"
        assert result_of(record)["node"] == name
    assert world.master.run("collect", "--all").stdout == ""
    shown = json.loads(world.master.run("status", "--node", "n2", "--json").stdout)["jobs"]
    (found,) = (job for job in shown if job["name"] == "all")
    assert (found["job"], found["node"], found["job_there"]) == (dict(arrived)["n2"], "n2", dict(arrived)["n2"])
    assert found["came_from"]


def test_the_least_busy_of_the_nodes_that_live_gets_the_spec(world, spec):
    gate = world.root / "gate"
    busy = spec("busy", f"command = 'while [ ! -e \"{gate}\" ]; do sleep 0.05; done'\n")
    for _ in range(3):
        world.master.run("push", busy, "n1", "n3")
    try:
        for name in ("n1", "n3"):
            until(lambda name=name: len(world.nodes[name].records("running")) == 2, f"{name} is busy")
        ((node, job),) = pushed(world.master.run("push", spec("free", 'command = "true"\n'), "--least-busy"))
        assert node == "n2"
        asked = json.loads(
            world.master.run("push", spec("who", 'command = "true"\n'), "--least-busy", "n3", "--json").stdout
        )
        assert [(one["node"], one["width"], one["busy"]) for one in asked["asked"]] == [("n3", 2, 3)]
        assert world.nodes["n2"].wait_finished("free").name == job
    finally:
        gate.touch()
    world.nodes["n3"].wait_finished("who")


def test_a_failed_job_goes_back_to_its_node_and_only_once(world, spec):
    fixed = world.root / "fixed"
    path = spec("mend", f"command = 'echo broken; test -e \"{fixed}\"'\n")
    ((_, job),) = pushed(world.master.run("push", path, "n2"))
    world.nodes["n2"].wait_finished("mend")
    assert world.master.run("collect", "n2", "--failed").stdout.split() == [job]
    assert "broken" in world.master.run("logs", job).stdout
    fixed.touch()
    again = world.master.run("retry", job).stdout.strip()
    until(lambda: (world.nodes["n2"].spool / "done" / again).exists(), "the job runs again on its node")
    refused = world.master.run("retry", job, check=False)
    assert refused.returncode == 1
    assert again in refused.stderr
    assert again in world.master.run("status", job).stdout
    explained = world.master.run("explain", job).stdout
    assert again in explained
    assert f"spooldadd retry {job}" not in explained
    assert json.loads(world.master.run("failures", "--node", "n2", "--json").stdout)["causes"] == []
    here = world.master.run("retry", "--here", "--force", job).stdout.strip()
    assert (world.master.spool / f"{here}.toml").exists()
    (world.master.spool / f"{here}.toml").unlink()


def test_a_node_that_is_away_gets_its_job_back_later(world, spec):
    ((_, job),) = pushed(world.master.run("push", spec("later", 'command = "false"\n'), "n2"))
    world.nodes["n2"].wait_finished("later")
    world.master.run("collect", "n2")
    world.server.stop()
    try:
        away = world.master.run("retry", job, check=False)
    finally:
        world.server.start()
    assert away.returncode == 1
    assert "cannot be reached now" in away.stderr
    assert "--here" in away.stderr
    assert world.master.run("retry", "--all-failed", "--node", "n2").stdout.startswith("later.")


def test_wait_says_how_a_job_ended_on_its_node(world, spec):
    bad = world.master.run("push", spec("bad", 'command = "exit 3"\n'), "n1", "--wait", "--json", check=False)
    assert bad.returncode == 1
    assert [one["ended"] for one in json.loads(bad.stdout)["pushed"]] == ["failed"]
    assert world.master.run("push", spec("good", 'command = "true"\n'), "n1", "--wait", "--timeout", "1m").returncode == 0


def test_a_directory_of_this_machine_is_waited_for_though_no_path_names_the_program(world, spec):
    there = str(world.nodes["n1"].spool)
    done = world.master.run("push", spec("near", 'command = "true"\n'), there, "--wait", "--timeout", "1m", check=False)
    assert (done.returncode, "done" in done.stderr) == (0, True), done.stderr


def test_who_pushes_may_see_what_the_job_prints_and_exits_as_it_does(world, spec):
    path = spec("seen", 'command = "echo first; sleep 0.5; echo second; exit 7"\n')
    done = world.master.run("push", path, "n1", "--follow", check=False)
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines()[1:] == ["first", "second"]
    good = spec("fine", 'command = "echo well"\n')
    assert world.master.run("push", good, "n1", "--follow", "--timeout", "1m").stdout.endswith("well\n")
    slow = world.master.run(
        "push", spec("slow", 'command = "sleep 5"\n'), "n1", "--follow", "--timeout", "10ms", check=False
    )
    assert slow.returncode == 5
    many = world.master.run("push", good, "n1", "n2", "--follow", check=False)
    assert (many.returncode, "one node" in many.stderr) == (2, True)


def test_what_cannot_be_reached_is_named_with_the_remedy_and_the_others_do_not_suffer(world, spec, tmp_path):
    path = spec("partly", 'command = "true"\n')
    world.server.know("other_key.pub")
    empty = tmp_path / "mount point"
    empty.mkdir()
    spools = world.nodes["n3"].spool
    targets = [f"stranger:{spools}", f"known:{spools}", f"node:{empty}", f"nowhere.invalid:{spools}"]
    done = world.master.run("push", path, *targets, "n3", check=False)
    assert done.returncode == 1
    assert [node for node, _ in pushed(done)] == ["n3"]
    said = {target: line for line in done.stderr.splitlines() for target in targets if f"`{target}`" in line}
    assert "ssh refuses the login" in said[targets[0]]
    assert "Permission denied (publickey" in said[targets[0]]
    assert "ssh-keygen -R known" in said[targets[1]]
    assert "not a spool" in said[targets[2]]
    assert "no machine of this name" in said[targets[3]]
    assert list(empty.iterdir()) == []


@pytest.mark.skipif(RRSYNC is None, reason="needs the capability rrsync")
def test_a_node_that_allows_only_rsync_is_watched_pushed_to_and_collected_from(world, spec):
    node = world.nodes["n3"]
    world.server.restrict(node.spool)
    done = world.master.run("push", spec("limited", 'command = "true"\n'), "--least-busy", "restricted:/")
    assert "was watched, not asked" in done.stderr
    ((_, job),) = pushed(done)
    record = node.wait_finished("limited")
    assert record.name == job
    assert job in world.master.run("collect", "restricted:/").stdout.split()
    assert (world.master.spool / "done" / job / "manifest.toml").exists()
    shown = json.loads(world.master.run("status", job, "--json").stdout)
    assert ("restricted" in shown["came_from"], shown["job_there"]) == (True, job)
    assert job not in world.master.run("collect", "n3").stdout.split()


def test_collected_records_are_removed_from_the_node_when_asked(world, spec):
    ((_, job),) = pushed(world.master.run("push", spec("gone", 'command = "true"\n'), "n1"))
    world.nodes["n1"].wait_finished("gone")
    os.symlink("/etc/passwd", world.nodes["n1"].spool / "done" / job / "link")
    assert job in world.master.run("collect", "n1", "--delete").stdout.split()
    assert not (world.nodes["n1"].spool / "done" / job).exists()
    assert not os.path.lexists(world.master.spool / "done" / job / "link")
    assert world.nodes["n1"].records("done") == world.nodes["n1"].records("failed") == []
    shutil.rmtree(world.master.spool / "done" / job)
    assert world.master.run("collect", "n1").stdout == ""


def test_nobody_takes_a_dead_node_for_an_idle_one(world, spec, tmp_path):
    dead = Node(tmp_path / "dead", environ=ENVIRON)
    try:
        worker = dead.start("--node", "dead")
        worker.kill()
        worker.wait()
        target = f"node:{dead.spool}"
        done = world.master.run("push", spec("dead", 'command = "true"\n'), "--least-busy", target, check=False)
        assert done.returncode == 1
        assert f"`{target}`" in done.stderr
        assert list(dead.spool.glob("*.toml")) == []
    finally:
        dead.close()


def test_rsync_that_is_missing_is_named(world, spec, tmp_path):
    python = tmp_path / "bin"
    python.mkdir()
    done = subprocess.run(
        [SPOOLDADD, "push", spec("none", 'command = "true"\n'), str(world.nodes["n1"].spool)],
        env={**world.master.environ, "PATH": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "install the package `rsync`" in done.stderr


def test_an_interrupt_leaves_one_clean_line(make_node, tmp_path):
    """Ctrl-C reaches rsync and its ssh as well as us."""
    node = make_node()
    up = tmp_path / "up"
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ntouch {up}\nexec sleep 600\n")
    ssh.chmod(0o755)
    config = tmp_path / "c.toml"
    config.write_text(f'[remote]\nssh = "{ssh}"\n[nodes]\nslow = {{ target = "slow:/spool" }}\n')
    command = [*node.command, "--config", str(config), "collect", "slow"]
    collecting = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=node.environ,
        start_new_session=True,
    )  # fmt: skip
    until(up.exists, "it asks the node")
    os.killpg(collecting.pid, signal.SIGINT)
    out, err = collecting.communicate(timeout=60)
    assert (collecting.returncode, out) == (130, ""), err
    assert "spooldadd: interrupted; what was fetched is kept" in err
    assert "Traceback" not in err
