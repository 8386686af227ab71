"""`prune` by hand and by the worker: what goes, what stays, what is said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from spooldadd import retention
from spooldadd.claim import Holder
from spooldadd.config import load
from spooldadd.layout import Layout
from spooldadd.mail.places import places_of
from spooldadd.spool import open_spool
from tests.support import Node, temporary_node, until


@pytest.fixture(scope="module")
def filled():
    """A spool with three records of successes and one of a failure."""
    with temporary_node(environ={"SPOOLDADD_INTAKE__SETTLE": "0s", "SPOOLDADD_CACHE_DIR": "/nonexistent/cache"}) as node:
        for number in range(3):
            node.drop(f"ok{number}.toml", "command = 'echo done'\nqueue = 'etl'\n")
        node.drop("bad.toml", "command = 'exit 3'\n")
        node.drain()
        yield node


@pytest.fixture
def spool(filled: Node, tmp_path: Path) -> Path:
    shutil.copytree(filled.spool, tmp_path / "spool")
    return tmp_path / "spool"


def prune(filled: Node, spool: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = filled.run("--spool", str(spool), "prune", *arguments, check=False)
    assert done.returncode == code, done
    return done


def names(spool: Path, state: str) -> list[str]:
    return sorted(os.listdir(spool / state))


def test_by_default_no_record_goes(filled: Node, spool: Path):
    done = prune(filled, spool)
    assert len(names(spool, "done")) == 3
    assert "records: 0 removed" in done.stderr


def test_by_age_of_each_kind_with_what_went_on_standard_output(filled: Node, spool: Path):
    done = prune(filled, spool, "--done-older", "0s")
    assert (names(spool, "done"), len(names(spool, "failed")), len(done.stdout.split())) == ([], 1, 3)
    assert all(line.startswith("done/ok") for line in done.stdout.split())
    prune(filled, spool, "--failed-older", "90d")
    assert len(names(spool, "failed")) == 1
    prune(filled, spool, "--failed-older", "0s")
    assert names(spool, "failed") == []
    assert not retention.has_trash(Layout(str(spool)))
    assert json.loads(filled.run("--spool", str(spool), "status", "--json").stdout)["counts"]["done"] == 0


def test_a_dry_run_in_json_says_what_would_go(filled: Node, spool: Path):
    table = json.loads(prune(filled, spool, "--keep", "1", "--dry-run", "--json").stdout)
    records = table["kinds"]["records"]
    assert (table["schema"], table["dry_run"], list(table["kinds"]), records["removed"]) == (1, True, ["records"], 2)
    assert len(records["names"]) == 2
    assert records["freed_bytes"] > 0
    assert len(names(spool, "done")) == 3


def test_a_queue_a_number_and_a_hold(filled: Node, spool: Path):
    (spool / "done" / names(spool, "done")[0] / "hold").touch()
    done = prune(filled, spool, "--keep", "0", "--queue", "etl")
    assert (len(names(spool, "done")), len(names(spool, "failed"))) == (1, 1)
    assert "1 stay: held" in done.stderr


def test_what_is_no_kind_and_bounds_without_records_are_refused(filled: Node, spool: Path):
    assert "`everything` is nothing that can be pruned" in prune(filled, spool, "everything", code=2).stderr
    assert "are about `records`" in prune(filled, spool, "mail", "--keep", "1", code=2).stderr
    assert "`--queue` goes with" in prune(filled, spool, "--queue", "etl", code=2).stderr
    assert "is no number of records" in prune(filled, spool, "--keep", "some", code=2).stderr


def test_all_kinds_by_the_configuration(filled: Node, spool: Path):
    config = spool / ".spool" / "worker.toml"
    config.write_text("[keep]\ndone_count = 0\n[keep.queue]\netl = { done_days = 365.0 }\n")
    table = json.loads(prune(filled, spool, "--json").stdout)
    assert list(table["kinds"]) == ["records", "work", "environments", "cache", "mail", "leftovers"]
    assert (names(spool, "done"), len(names(spool, "failed"))) == ([], 1)


def test_a_second_one_says_who_is_at_work_and_prunes_what_it_can(filled: Node, spool: Path, tmp_path: Path):
    """It once gave up all other kinds as well, because the records were another one's."""
    config = spool / ".spool" / "worker.toml"
    config.write_text(f'[keep]\ndone_count = 0\n[mail]\noutbox = "{tmp_path / "outbox"}"\n')
    old = Path(places_of(load(str(config), environ={}), open_spool(str(spool), Holder("web-1"))).failing, "nightly")
    old.parent.mkdir(parents=True)
    old.touch()
    os.utime(old, (0, 0))
    with retention.alone(Layout(str(spool)), "`web-1` (pid 7)"):
        would = json.loads(prune(filled, spool, "--json", "--dry-run").stdout)["kinds"]
        done = prune(filled, spool, "--json", code=75)
    assert "records: left as they are: `web-1` (pid 7) prunes" in done.stderr
    kinds = json.loads(done.stdout)["kinds"]
    assert "`web-1`" in kinds["records"]["left"]
    assert (len(names(spool, "done")), would["records"]["removed"]) == (3, 3)
    assert [kinds[kind].get("left") for kind in kinds if kind != "records"] == [None] * 5
    assert (would["leftovers"]["removed"], kinds["leftovers"]["removed"], old.exists()) == (1, 1, False)


def test_what_is_in_the_way_of_one_kind_is_named_and_the_others_are_pruned(filled: Node, spool: Path):
    shutil.rmtree(spool / "done")
    (spool / "done").write_text("no directory")
    (spool / ".spool" / "worker.toml").write_text("[keep]\ndone_count = 0\n")
    done = prune(filled, spool, code=4)
    assert "records: left as they are: Not a directory" in done.stderr
    assert "mail: 0 removed" in done.stderr


def test_records_wait_for_the_master(filled: Node, spool: Path, tmp_path: Path):
    config = spool / ".spool" / "worker.toml"
    config.write_text(f'[master]\ntarget = "{tmp_path / "master"}"\nupload = "all"\n')
    first = spool / "done" / names(spool, "done")[0]
    (first / "uploaded.toml").write_text("schema = 1\n")
    done = prune(filled, spool, "--done-older", "0s")
    assert "2 stay: they wait to be sent to the master" in done.stderr
    assert len(names(spool, "done")) == 2


def test_the_worker_prunes_by_itself_and_removes_what_a_crash_left(node: Node):
    trash = node.spool / ".spool" / "trash" / "one.20261001T000000Z.bcdfg.hjkmn"
    trash.mkdir(parents=True)
    (trash / "spec.toml").write_text("command = 'true'\n")
    old = node.spool / "done" / "old.20200101T000000Z.bcdfg"
    old.mkdir()
    (old / "result.toml").write_text("schema = 1\nfinished_at = 2020-01-01T00:00:00Z\n")
    node.start(environ={"SPOOLDADD_KEEP__DONE_DAYS": "30"})
    until(lambda: not old.exists() and not trash.exists(), "both are gone")
    until(lambda: "event=pruned" in node.said(), "it says so")
