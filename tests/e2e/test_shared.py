"""Several nodes' workers on one shared directory: what a lost one left is taken over, and what lives is left alone."""

from __future__ import annotations

import os
import signal
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from spooldadd import claim, durable, layout, process, record
from tests.e2e import mail_node
from tests.support import Node, result_of, stop, until

QUICK = {"SPOOLDADD_TAKEOVER__AFTER": "2s", "SPOOLDADD_INTAKE__SETTLE": "0s", "SPOOLDADD_INTAKE__SCAN_INTERVAL": "500ms"}
LONG = 'command = "echo $$; exec sleep 600"\nrestartable = {restartable}\nname = "{name}"\n'


@pytest.fixture
def shared(make_node: Callable[..., Node]) -> Node:
    return make_node(environ=QUICK, kind="shared")


def entry(node: Node, name: str) -> dict:
    return record.read_table(str(node.spool / ".spool" / "nodes" / f"{name}.toml")) or {}


def proofs(node: Node, observer: str) -> dict:
    table = record.read_table(str(node.spool / ".spool" / "proofs" / f"{observer}.toml")) or {}
    return dict(table.get("peers", {}))


def serve(node: Node, name: str, *arguments: str, environ: dict[str, str] | None = None):
    return node.start("--node", name, *arguments, environ=environ)


def run_on(node: Node, name: str, job: str, *, restartable: str = "false") -> Path:
    """Have a long job run on this node alone; return its record."""
    (node.spool / f"@{name}").mkdir(exist_ok=True)
    temporary = node.spool / f".{job}.part"
    temporary.write_text(LONG.format(restartable=restartable, name=job))
    temporary.rename(node.spool / f"@{name}" / f"{job}.toml")
    until(lambda: any(path.read_text() for path in node.spool.glob(f"running/{job}.*/output.log")), f"{job} has started")
    (path,) = node.records("running", job)
    until(lambda: all(pid for pid, _start in processes(node, path)), "its processes are noted: it may print before")
    return path


def processes(node: Node, path: Path) -> list[tuple[int, int]]:
    holder = claim.read_holder(layout.Layout(str(node.spool)), path.name)
    return [(holder.supervisor_pid, holder.supervisor_start), (holder.job_pid, holder.job_start)]


def holds_lease(pid: int, path: Path) -> bool:
    """Tell whether this process has the lock file of this record open: a lease lives as long as any copy of it."""
    opened = Path("/proc", str(pid), "fd")
    while True:
        try:
            return any(os.readlink(fd).endswith(f"/locks/{path.name}.lock") for fd in opened.iterdir())
        except FileNotFoundError:  # closed between the listing and the look
            continue


def kill_all(node: Node, worker, *paths: Path) -> None:
    """As a machine dies: the worker, the supervisors, the jobs, in an order in which nobody files anything."""
    worker.kill()
    worker.wait()
    pairs = [pair for path in paths for pair in processes(node, path)]
    for pid, _start in pairs:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(process.is_alive(*pair) for pair in pairs), "all of it is dead")


def test_the_jobs_of_a_lost_node_are_taken_over_where_locks_were_proven(shared: Node) -> None:
    serve(shared, "b")
    worker = serve(shared, "a")
    until(lambda: proofs(shared, "b").get("a") == "shared", "b has seen the lock of a")
    once, again = run_on(shared, "a", "once"), run_on(shared, "a", "again", restartable="true")
    kill_all(shared, worker, once, again)
    result = result_of(shared.wait_finished("once"))
    assert (result["outcome"], result["node"]) == ("lost", "a")
    assert "its node `a` was silent for" in result["reason"]
    assert "as seen from `b`, which took it over" in result["reason"]
    until(lambda: shared.records("waiting", "again"), "what may run again waits for its node, whose inbox it came by")
    assert shared.said().count("event=taken-over") == 2
    assert not shared.records("running")
    until(lambda: not os.listdir(shared.spool / ".spool" / "locks"), "no lock is left")


def test_a_node_whose_locks_nobody_has_seen_is_not_taken_over_and_the_log_says_what_to_type(shared: Node) -> None:
    worker = serve(shared, "a")
    path = run_on(shared, "a", "once")
    kill_all(shared, worker, path)
    serve(shared, "b")
    until(lambda: "event=not-taken-over node=a" in shared.said(), "b says why not")
    assert "spooldadd recover --node a" in shared.said()
    assert path.exists()
    job = path.name.rsplit(".", 2)[0]
    for arguments in (["status"], ["explain", job], ["nodes"]):
        done = shared.run(*arguments)
        told = done.stdout + done.stderr
        assert "nobody has seen a lock of `a`" in told, arguments
        assert "spooldadd recover --node a" in told, arguments
    shared.run("recover", "--node", "a", "--watch", "0")
    assert result_of(shared.wait_finished("once"))["outcome"] == "lost"


def test_private_locks_forbid_it(shared: Node) -> None:
    serve(shared, "b")
    worker = serve(shared, "a")
    until(lambda: proofs(shared, "b").get("a") == "shared", "b has seen the lock of a")
    path = run_on(shared, "a", "once")
    kill_all(shared, worker, path)
    (shared.spool / ".spool" / "proofs" / "b.toml").write_text('[peers]\na = "private"\n')
    until(lambda: "event=not-taken-over node=a" in shared.said(), "b says why not")
    assert path.exists()


def test_a_stopped_worker_whose_supervisor_holds_the_lease_keeps_its_job(shared: Node) -> None:
    serve(shared, "b")
    worker = serve(shared, "a")
    until(lambda: proofs(shared, "b").get("a") == "shared", "b has seen the lock of a")
    path = run_on(shared, "a", "once")
    other = run_on(shared, "a", "other")
    until(lambda: not holds_lease(worker.pid, other), "its worker has let go of the lease: a job may print before")
    stop(worker.pid)
    try:
        for pid, _start in processes(shared, other):
            os.kill(pid, signal.SIGKILL)
        shared.wait_finished("other")  # so b has looked at both
        assert path.exists()
        assert all(process.is_alive(*pair) for pair in processes(shared, path))
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    shared.run("cancel", path.name.rsplit(".", 2)[0])
    assert result_of(shared.wait_finished("once"))["outcome"] == "cancelled"
    assert len(shared.records("failed", "other")) == 1


def test_a_whole_node_that_was_stopped_for_longer_than_the_lease_goes_on_and_files_its_job_once(shared: Node) -> None:
    """As a virtual machine that is paused: all of its processes stand still, and the kernel keeps their locks."""
    ran, gate = shared.spool.parent / "ran", shared.spool.parent / "gate"
    serve(shared, "b")
    worker = serve(shared, "a")
    until(lambda: proofs(shared, "b").get("a") == "shared", "b has seen the lock of a")
    (shared.spool / "@a").mkdir(exist_ok=True)
    script = f"echo $$ >> {ran}; until test -e {gate}; do sleep 0.05; done"
    (shared.spool / "@a" / "once.toml").write_text(f"command = {script!r}\nrestartable = true\n")
    until(ran.exists, "it runs")
    (path,) = shared.records("running", "once")
    until(lambda: all(pid for pid, _start in processes(shared, path)), "its supervisor has noted it")
    stopped = [worker.pid, *(pid for pid, _start in processes(shared, path)), *children(worker.pid)]
    for pid in stopped:
        stop(pid)
    try:
        before = entry(shared, "b")["heartbeat"]
        until(lambda: entry(shared, "b")["heartbeat"] > before + 14, "b has looked for twice the lease")
        assert path.exists()
        assert "its lease is held" not in shared.run("explain", path.name.rsplit(".", 2)[0]).stdout  # its worker's lock, too
        again = serve(shared, "a")  # the same name on the same machine: it finds the lease held
        assert path.exists()
        again.terminate()
        assert again.wait(60) == 0
    finally:
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
    gate.touch()
    result = result_of(shared.wait_finished("once"))
    assert (result["outcome"], result["node"], result["attempt"]) == ("success", "a", 1)
    until(lambda: not shared.records("running"), "nothing is left over")
    assert (len(ran.read_text().split()), len(shared.records("done", "once"))) == (1, 1)
    assert "event=taken-over" not in shared.said()


def children(pid: int) -> list[int]:
    return [int(child) for path in Path("/proc", str(pid), "task").glob("*/children") for child in path.read_text().split()]


def test_a_worker_of_another_machine_with_our_name_is_refused_while_that_one_moves(shared: Node) -> None:
    worker = serve(shared, "a")
    until(lambda: entry(shared, "a"), f"it has said who it is\n{shared.said()}")
    path = shared.spool / ".spool" / "nodes" / "a.toml"
    # This machine cannot have two boots: the living one's entry is made to look like another's.
    other = path.read_text().replace(entry(shared, "a")["boot_id"], "another-boot").encode()
    stop(worker.pid)
    try:
        durable.write(str(path), other, sync=False)
        done = shared.run("worker", str(shared.spool), "--node", "a", check=False)
        assert done.returncode == 4, done.stderr
        assert f"the machine `{entry(shared, 'a')['host']}`" in done.stderr
        assert "--node NAME" in done.stderr
    finally:
        os.kill(worker.pid, signal.SIGCONT)

    def has_ended_while_the_other_beats() -> bool:
        durable.write(str(path), other, sync=False)  # it may have been stopped just before it wrote its own over this
        return worker.poll() is not None

    until(has_ended_while_the_other_beats, "it sees another's boot in its own entry")
    assert worker.returncode == 4
    assert "event=name-taken" in shared.said()


def test_a_deleted_entry_is_written_again(shared: Node) -> None:
    serve(shared, "a")
    path = shared.spool / ".spool" / "nodes" / "a.toml"
    until(path.exists, "it has said who it is")
    before = tomllib.loads(path.read_text())["heartbeat"]
    path.unlink()
    until(lambda: path.exists() and tomllib.loads(path.read_text())["heartbeat"] > before, "it says so again")


def test_recover_ends_with_1_where_a_record_is_in_trouble(shared: Node) -> None:
    worker = serve(shared, "a")
    path = run_on(shared, "a", "once")
    kill_all(shared, worker, path)
    (path / "result.toml").mkdir()
    (shared.spool / "failed").rename(shared.spool / "failed-away")
    (shared.spool / "failed").write_text("no directory")
    done = shared.run("recover", "--node", "a", "--watch", "0", check=False)
    assert done.returncode == 1, (done.stdout, done.stderr)


def test_a_supervisor_whose_record_was_taken_over_ends_its_job_and_files_nothing(shared: Node) -> None:
    serve(shared, "a")
    path = run_on(shared, "a", "once")
    pairs = processes(shared, path)
    work = next(shared.work.glob(f"*/{path.name}"))
    taken = path.with_name(path.name[:-5] + "zzzzz")
    path.rename(taken)
    until(lambda: "event=claim-lost" in shared.said(), "the supervisor notices")
    until(lambda: not process.is_alive(*pairs[1]), "its job is ended")
    until(lambda: not work.exists(), "its work directory is gone")
    assert taken.exists()
    assert "result.toml" not in os.listdir(taken)
    assert not shared.finished("once")


@pytest.mark.parametrize("way", ["takeover", "recover"])
def test_mail_that_a_lost_node_had_not_sent_is_sent_by_another_one(shared: Node, way: str) -> None:
    """Its jobs had failed and were filed; nobody heard of it before that node was back, which may be never."""
    worker = serve(shared, "gone")
    shared.drop("one.toml", 'command = ["false"]\n')
    failed = shared.wait_finished("one")
    worker.kill()
    worker.wait()
    token = tomllib.loads((failed / "claim.toml").read_text())["token"]
    word = shared.spool / ".spool" / "notify" / "gone" / f"{failed.name}.1.{token}"
    word.parent.mkdir(parents=True, exist_ok=True)
    word.touch()  # as its supervisor had left it
    mail_node.configure(shared)
    if way == "takeover":
        proven = shared.spool / ".spool" / "proofs" / "here.toml"
        proven.parent.mkdir(exist_ok=True)
        proven.write_text('schema = 1\nobserver = "here"\n[peers]\ngone = "shared"\n')
    else:
        shared.run("recover", "--node", "gone", "--force-dead", env={**shared.environ, "SPOOLDADD_NODE": "here"})
        assert not word.exists()
    serve(shared, "here")
    (mail,) = mail_node.wait_mails(shared, 1)
    assert "one" in mail["Subject"]
    assert not word.exists()
