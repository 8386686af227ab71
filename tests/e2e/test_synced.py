"""Promise: on copies of a spool that a tool makes equal later, each drop runs once, and its result is seen in each copy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooldadd.placement import winner
from tests.support import SPOOLDADD, end_processes_of, result_of, until

pytestmark = pytest.mark.slow
NODES = ("alpha", "beta")
EACH = 50


class Copies:
    """The copies of one synced spool, on as many nodes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workers: list[subprocess.Popen[bytes]] = []
        self.run("alpha", "init", "--kind", "synced", "--nodes", ",".join(NODES), str(self.path("alpha")))
        shutil.copytree(self.path("alpha"), self.path("beta"))

    def path(self, node: str) -> Path:
        return self.root / node

    def environ(self, node: str) -> dict[str, str]:
        found = {"SPOOLDADD_NODE": node, "SPOOLDADD_SPOOL": str(self.path(node)), "RAN": str(self.root / "ran")}
        found |= {"SPOOLDADD_WORK_DIR": str(self.root / "work"), "TEST_WORK_DIR": str(self.root / "work")}
        return {**os.environ, **found, "SPOOLDADD_INTAKE__SETTLE": "100ms", "SPOOLDADD_INTAKE__SCAN_INTERVAL": "1s"}

    def run(self, node: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [SPOOLDADD, *arguments]
        done = subprocess.run(command, env=self.environ(node), capture_output=True, text=True, timeout=120, check=False)
        assert not check or done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done

    def start(self, node: str) -> None:
        log = (self.root / f"{node}.log").open("ab")
        with log:
            command = [SPOOLDADD, "worker", str(self.path(node))]
            started = subprocess.Popen(command, env=self.environ(node), stderr=log, stdin=subprocess.DEVNULL)
        self.workers.append(started)
        until(lambda: "event=worker-started" in self.said(node), f"the worker of {node} starts")

    def said(self, node: str) -> str:
        return (self.root / f"{node}.log").read_text(errors="replace")

    def drain(self, node: str) -> str:
        return self.run(node, "worker", str(self.path(node)), "--drain").stderr

    def drop(self, node: str, name: str, text: str) -> None:
        temporary = self.path(node) / f".{name.replace('/', '-')}.part"
        temporary.write_text(text)
        (self.path(node) / name).parent.mkdir(exist_ok=True)
        temporary.rename(self.path(node) / name)

    def sync(self) -> None:
        """Bring all that is new from each copy to the other, and remove nothing, as people do who are careful."""
        for source, target in (NODES, NODES[::-1]):
            # 24: some files vanished while it looked, which is what claims do.
            done = subprocess.run(["rsync", "-auF", f"{self.path(source)}/", f"{self.path(target)}/"], check=False)
            assert done.returncode in (0, 24)

    def finished(self, node: str) -> list[Path]:
        return [path for state in ("done", "failed") for path in sorted((self.path(node) / state).iterdir())]

    def owner(self, name: str) -> str:
        told = json.loads(self.run("alpha", "explain", name, "--json").stdout)
        return next(node["node"] for node in told["nodes"] if "hash" not in [rule["rule"] for rule in node["reasons"]])

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        end_processes_of(self.root / "work")


@pytest.fixture
def copies() -> Iterator[Copies]:
    root = Path(tempfile.mkdtemp(prefix="spooldadd-synced-"))
    copies = Copies(root)
    try:
        yield copies
    finally:
        copies.close()
        shutil.rmtree(root, ignore_errors=True)


needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync")


@needs_rsync
def test_what_is_dropped_on_either_side_runs_once_while_rsync_goes_both_ways(copies: Copies) -> None:
    for node in NODES:
        copies.start(node)
    for number in range(EACH):
        for node in NODES:
            name = f"{node}-{number}"
            copies.drop(node, f"{name}.toml", f"command = 'echo {name} >> \"$RAN\"'\n")
        if number % 10 == 9:
            copies.sync()

    def has_all() -> bool:
        copies.sync()
        return all(len(copies.finished(node)) == 2 * EACH for node in NODES)

    until(has_all, "all results are in both copies", 120)
    copies.sync()  # whatever came back meanwhile has to be recognised, too
    until(lambda: not any(list(copies.path(node).glob("*.toml")) for node in NODES), "no copy shows a drop that has run")
    ran = Counter((copies.root / "ran").read_text().split())
    assert set(ran.values()) == {1}
    assert len(ran) == 2 * EACH
    assert {result_of(path)["node"] for path in copies.finished("alpha")} == set(NODES)
    assert all(not list(copies.path(node).rglob("*conflict*")) for node in NODES)


def test_a_node_that_is_not_in_the_list_is_refused(copies: Copies) -> None:
    done = copies.run("gamma", "worker", str(copies.path("alpha")), check=False)
    assert done.returncode == 78
    assert "`gamma`" in done.stderr
    assert "`alpha`, `beta`" in done.stderr


def test_a_drop_that_comes_back_is_set_aside_and_another_name_runs(copies: Copies) -> None:
    spec = 'command = "true"\n[place]\nnode = "alpha"\n'
    copies.drop("alpha", "nightly.toml", spec)
    copies.drain("alpha")
    copies.drop("alpha", "nightly.toml", spec)
    log = copies.drain("alpha")
    (job,) = [path.name for path in copies.finished("alpha")]
    assert f"event=set-aside file=nightly.toml job={job}" in log
    doctor = copies.run("alpha", "doctor", check=False)
    assert "set aside" in doctor.stdout + doctor.stderr
    shutil.rmtree(copies.path("alpha") / "done" / job)
    copies.drop("alpha", "nightly.toml", spec)  # the ledger outlives the record
    copies.drop("alpha", "nightly-2.toml", spec)
    copies.drop("alpha", "@alpha/nightly.toml", spec)
    copies.drain("alpha")
    assert len(copies.finished("alpha")) == 2
    copies.drop("alpha", "nightly.toml", spec + "# changed\n")
    copies.drain("alpha")
    assert len(copies.finished("alpha")) == 3


def test_a_drop_stays_with_its_node_also_while_that_is_away(copies: Copies) -> None:
    names = [f"{number}.toml" for number in range(8)]
    for name in names:
        copies.drop("alpha", name, 'command = "true"\n')
    copies.drop("alpha", "@beta/inbox.toml", 'command = "true"\n')
    others = [name for name in names if winner(name, NODES) == "beta"]
    assert copies.owner(others[0]) == "beta"
    copies.drain("alpha")
    assert sorted(path.name for path in copies.path("alpha").glob("*.toml")) == sorted(others)
    assert (copies.path("alpha") / "@beta" / "inbox.toml").exists()
    assert len(copies.finished("alpha")) == len(names) - len(others)


def test_a_place_is_decided_by_names_and_what_the_winner_lacks_is_told(copies: Copies) -> None:
    copies.drop("alpha", "named.toml", 'command = "true"\n[place]\nnode = "bet?"\n')
    copies.drop("alpha", "nobody.toml", 'command = "true"\n[place]\nnode = "web-*"\n')
    copies.drop("alpha", "gpu.toml", 'command = "true"\n[place]\nnode = "alpha"\nlabels = ["gpu"]\n')
    winner = copies.owner("nobody.toml")
    copies.drain(winner) if winner == "alpha" else shutil.move(copies.path("alpha") / "nobody.toml", copies.path("beta"))
    copies.drain("alpha")
    copies.drain("beta")
    reasons = {path.name.split(".")[0]: result_of(path)["reason"] for node in NODES for path in copies.finished(node)}
    assert "its name does not match `web-*`" in reasons["nobody"]
    assert "it has no label `gpu`" in reasons["gpu"]
    assert (copies.path("alpha") / "named.toml").exists()


def test_another_node_neither_cancels_nor_retries_nor_holds(copies: Copies) -> None:
    copies.drop("beta", "theirs.toml", 'command = "exit 1"\n[place]\nnode = "beta"\n')
    copies.drop("alpha", "waits.toml", 'command = "true"\n[place]\nnode = "beta"\n')
    for act in ("hold", "cancel"):
        done = copies.run("alpha", act, "waits.toml", check=False)
        assert "belongs to node `beta` of this synced spool" in done.stderr
    assert (copies.path("alpha") / "waits.toml").exists()
    copies.drain("beta")
    (record,) = copies.finished("beta")
    shutil.copytree(record, copies.path("alpha") / "failed" / record.name)
    assert "belongs to node `beta`" in copies.run("alpha", "retry", record.name, check=False).stderr
    copies.run("beta", "retry", record.name)
    assert not (copies.path("beta") / "failed" / record.name).exists()


def test_conflict_copies_are_reported_wherever_they_are(copies: Copies) -> None:
    copies.drop("alpha", "a.sync-conflict-20261121-101500-ABCDEFG.toml", 'command = "true"\n')
    copies.drop("alpha", "one.toml", 'command = "true"\n[place]\nnode = "alpha"\n')
    copies.drain("alpha")
    (record,) = copies.finished("alpha")
    (record / "result.sync-conflict-20261121-101500-ABCDEFG.toml").write_text("")
    (copies.path("alpha") / ".spool/nodes/alpha.sync-conflict-20261121-101500-ABCDEFG.toml").write_text('node = "x"\n')
    (copies.path("alpha") / ".spool" / "claimed").rename(copies.root / "forgotten")  # so that it looks at the record again
    log = copies.drain("alpha")
    assert "result.sync-conflict-" in log
    assert "alpha.sync-conflict-" in log
    assert "1 conflict copy of a sync tool" in copies.run("alpha", "status").stdout
    doctor = copies.run("alpha", "doctor", check=False)
    assert "2 conflict copies" in doctor.stdout + doctor.stderr
