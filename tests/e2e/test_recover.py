"""`spooldadd recover`: what a dead worker or node left is brought back, and what lives is left alone."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import threading
from pathlib import Path

from spooldadd import claim, durable, layout, names, process, record, tomltext
from tests.support import result_of, until

LONG = 'command = "echo $$; exec sleep 600"\nrestartable = {restartable}\n'


def leave_orphan(node, *arguments: str, restartable: str = "false") -> str:
    """Run a job, then kill its worker, its supervisor and the job; return the record's name."""
    worker = node.start(*arguments)
    node.drop("long.toml", LONG.format(restartable=restartable))
    until(lambda: any(path.read_text() for path in node.spool.glob("running/*/output.log")), "it has started")
    (path,) = node.records("running")
    places = layout.Layout(str(node.spool))
    holder = until(lambda: (noted := claim.read_holder(places, path.name)).job_pid and noted, "both processes are noted")
    worker.kill()
    worker.wait()
    for pid in (holder.supervisor_pid, holder.job_pid):  # in this order, or the supervisor would file what it saw
        os.kill(pid, signal.SIGKILL)
    pairs = ((holder.supervisor_pid, holder.supervisor_start), (holder.job_pid, holder.job_start))
    until(lambda: not any(process.is_alive(*pair) for pair in pairs), "both are dead")
    return path.name


def found(node, *arguments: str) -> dict[str, str]:
    table = json.loads(node.run("recover", "--json", *arguments).stdout)
    return {record["record"]: record["found"] for record in table["records"]}


def test_an_orphan_is_filed_as_lost(node):
    orphan = leave_orphan(node)
    assert found(node) == {orphan: "lost"}
    assert result_of(node.records("failed", "long")[0])["outcome"] == "lost"
    assert not os.listdir(node.spool / ".spool" / "locks")


def test_an_orphan_that_may_run_again_waits(node):
    leave_orphan(node, restartable="true")
    assert "put back to `waiting/` where its spec says so" in node.run("recover").stdout
    assert node.records("waiting", "long")


def test_a_job_that_runs_is_left_alone(node):
    node.start()
    node.drop("long.toml", LONG.format(restartable="false"))
    (path,) = until(lambda: "event=started" in node.said() and node.records("running"), "it has started")
    assert found(node) == {path.name: "running"}
    assert path.exists()


def test_the_jobs_of_another_node_are_left_alone_until_it_is_named(node):
    orphan = leave_orphan(node, "--node", "web-3")
    assert found(node) == {orphan: "foreign"}
    assert found(node, "--node", "web-4") == {orphan: "foreign"}
    assert found(node, "--node", "web-3", "--watch", "0") == {orphan: "lost"}
    assert result_of(node.records("failed", "long")[0])["node"] == "web-3"


def test_a_node_that_serves_is_not_taken_for_dead(node):
    node.start("--node", "web-3")
    # its heartbeat is written within the first moments
    until(lambda: (node.spool / ".spool" / "nodes" / "web-3.toml").exists(), "the node has said who it is")
    done = node.run("recover", "--node", "web-3", check=False)
    assert done.returncode == 1
    assert "serves this spool now" in done.stderr
    node.run("recover", "--node", "web-3", "--force-dead")


def test_a_node_whose_heartbeat_moves_is_not_taken_for_dead(node):
    """On a network file system a lock held elsewhere may not be seen; the heartbeat is."""
    leave_orphan(node, "--node", "web-3")
    table = record.read_table(str(node.spool / ".spool" / "nodes" / "web-3.toml")) or {}
    stop = threading.Event()

    def beat() -> None:
        for heartbeat in itertools.count(1000):
            if stop.wait(0.1):
                return
            text = tomltext.dumps({**table, "heartbeat": heartbeat})
            durable.write(str(node.spool / ".spool" / "nodes" / "web-3.toml"), text.encode(), sync=False)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        done = node.run("recover", "--node", "web-3", "--watch", "60s", check=False)
    finally:
        stop.set()
        beating.join()
    assert done.returncode == 1
    assert "its heartbeat moves" in done.stderr
    assert node.records("running", "long")


def test_an_empty_spool_has_nothing_to_bring_back(node):
    assert "there is nothing to bring back" in node.run("recover").stderr


def test_a_record_without_a_spec_is_removed(node):
    name = names.RecordName(names.JobId("nightly.20261121T101500Z.bcdfg"), 1, "hjkmn")
    path = Path(node.spool, "running", str(name))
    path.mkdir()
    assert found(node) == {str(name): "unclaimed"}
    assert not path.exists()


def test_an_entry_removed_by_hand_makes_no_living_node_dead(node):
    """What remains of it is its heartbeat, which a living worker writes again: that is waited for."""
    leave_orphan(node, "--node", "web-3")
    path = node.spool / ".spool" / "nodes" / "web-3.toml"
    text = path.read_text()
    path.unlink()
    path.with_suffix(".lock").unlink()
    with subprocess.Popen(
        [*node.command, "recover", "--node", "web-3"], stderr=subprocess.PIPE, env=node.environ
    ) as recovering:
        assert recovering.stderr is not None
        said = [recovering.stderr.readline() for _ in range(2)]  # the second says that it watches
        path.write_text(text)
        said.append(recovering.stderr.read())
    assert b"its file is gone" in said[0]
    assert b"watching" in said[1]
    assert b"its heartbeat moves" in said[2]
    assert recovering.returncode == 1
    assert node.records("running")


def test_what_is_about_a_dead_node_names_it(node):
    for option in (["--force-dead"], ["--watch", "1s"]):
        done = node.run("recover", *option, check=False)
        assert done.returncode == 2
        assert "--node NAME" in done.stderr
