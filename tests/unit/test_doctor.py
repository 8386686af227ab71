from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from spooldadd import claim, doctor, layout, mark, nodefile
from spooldadd.config import load
from spooldadd.doctor import FAIL, OK, WARN, Check, Subject

RECORD = "nightly.20261121T101500Z.bcdfg.1.hjkmn"
LONG_AGO_S = 3 * 86400
OF_THE_MACHINE = {"fsync", "space", "inotify"}  # other tests may use much of it


@pytest.fixture
def root(tmp_path: Path) -> Path:
    mark.create(str(tmp_path / "spool"))
    return tmp_path / "spool"


def examine(root: Path, **overrides: object) -> dict[str, Check]:
    """Examine; of several answers of one check, the worst counts."""
    overrides = {"work_dir": str(root.parent / "work"), "node": "node-1", **overrides}
    config = load(None, environ={"HOME": "/"}, overrides=overrides)
    checks = doctor.examine(Subject(layout.Layout(str(root)), config, time.time()))
    order = (OK, WARN, FAIL)
    return {check.check: check for check in sorted(checks, key=lambda check: order.index(check.status))}


def make_old(path: Path) -> Path:
    then_s = time.time() - LONG_AGO_S
    os.utime(path, (then_s, then_s))
    return path


def test_a_new_spool_needs_nothing_but_a_worker(root):
    found = {name for name, check in examine(root).items() if check.status != OK}
    assert found - OF_THE_MACHINE == {"worker"}


def test_what_is_not_ok_comes_with_a_remedy(root):
    (root / "paused").touch()
    (root / "done").rmdir()
    assert all(check.remedy for check in examine(root).values() if check.status != OK)


def test_an_examination_leaves_nothing_behind(root):
    def everything() -> list[str]:
        return sorted(str(path) for path in root.parent.rglob("*"))

    before = everything()
    examine(root)
    assert everything() == before


def test_what_an_examination_that_was_killed_left_is_removed(root):
    left = root / ".spool" / "tmp-doctor-abc"
    left.mkdir()
    examine(root)
    assert not left.exists()


def test_a_directory_that_is_no_spool_fails_and_only_the_node_is_examined(tmp_path):
    found = examine(tmp_path)
    assert found["spool"].status == FAIL
    assert "rename" not in found
    assert "work-directory" in found


def test_a_spool_of_a_newer_release_fails(root):
    (root / ".spool" / "format.toml").write_text("format = 99\n")
    assert "format 99" in examine(root)["spool"].sentence


@pytest.mark.parametrize("name", ["done", ".spool/locks"])
def test_a_missing_directory_fails(root, name):
    (root / name).rmdir()
    assert examine(root)["directories"].status == FAIL


def test_a_link_in_the_place_of_a_directory_fails(root, tmp_path):
    (root / "done").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (root / "done").symlink_to(tmp_path / "elsewhere")
    assert "no directory" in examine(root)["directories"].sentence


def test_a_directory_that_everybody_may_write_to_fails(root):
    (root / "failed").chmod(0o777)
    assert "changed by everybody" in examine(root)["rights"].sentence


def test_a_user_in_the_configuration_that_the_system_does_not_know_fails(root):
    found = examine(root, **{"trust.owners": ["nobody-has-this-name"]})
    assert found["rights"].status == FAIL


def test_a_directory_on_another_file_system_fails(root):
    elsewhere = next((path for path in ("/dev/shm", "/proc") if os.stat(path).st_dev != os.stat(root).st_dev), None)
    (root / "done").rmdir()
    (root / "done").symlink_to(elsewhere)
    assert examine(root)["one-filesystem"].status == FAIL


def test_a_record_that_nobody_holds_is_an_orphan(root):
    (root / "running" / RECORD).mkdir()
    make_old(root / "running" / RECORD)
    assert RECORD in examine(root)["running"].sentence


def test_a_record_that_somebody_holds_is_none(root):
    places = layout.Layout(str(root))
    (root / "running" / RECORD).mkdir()
    make_old(root / "running" / RECORD)
    lease = claim.take_new(places, RECORD, claim.Holder("node-1"))
    assert examine(root)["running"].status == OK
    os.close(lease)


def test_a_record_that_was_just_made_is_none(root):
    (root / "running" / RECORD).mkdir()
    assert examine(root)["running"].status == OK


def test_a_lock_of_a_record_that_is_filed_is_stale(root):
    make_old_lock = root / ".spool" / "locks" / f"{RECORD}.lock"
    make_old_lock.touch()
    make_old(make_old_lock)
    assert examine(root)["locks"].status == WARN


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("nightly.sync-conflict-20261121-101500-ABC.toml", "conflict-copies"),
        ("nightly.txt", "ignored-names"),
        ("nightly.toml~.txt", "ignored-names"),
    ],
)
def test_files_that_nobody_runs_are_told(root, name, check):
    (root / name).touch()
    assert name in examine(root)[check].sentence


@pytest.mark.parametrize("name", ["nightly.toml", "nightly.toml.held", ".nightly.toml.AbC123", "@web-3"])
def test_files_that_belong_there_are_not(root, name):
    (root / name).touch()
    assert examine(root)["names"].status == OK


def test_a_name_that_is_no_text_does_no_harm(root):
    Path(os.fsdecode(os.fsencode(root) + b"/\xff.txt")).touch()
    assert "\\xff.txt" in examine(root)["ignored-names"].sentence


@pytest.mark.parametrize("name", [".tmp-nightly.toml", ".nightly.toml.AbC123", "nightly.toml~"])
def test_a_temporary_file_is_told_when_it_is_old(root, name):
    (root / name).touch()
    assert examine(root)["temporary-files"].status == OK
    make_old(root / name)
    assert name in examine(root)["temporary-files"].sentence


def test_a_file_from_the_future_is_told(root):
    path = root / "nightly.toml"
    path.touch()
    os.utime(path, (time.time() + 3600, time.time() + 3600))
    assert examine(root)["future-files"].status == WARN


@pytest.mark.parametrize(("name", "option"), [("paused", "--all"), ("paused.etl", "--queue etl")])
def test_a_pause_is_told_with_what_ends_it(root, name, option):
    (root / name).touch()
    assert examine(root)["paused"].remedy == f"`spooldadd release {option}`"


def test_a_work_directory_inside_the_spool_fails(root):
    assert examine(root, work_dir=str(root / "work"))["work-directory"].status == FAIL


def test_a_work_directory_that_cannot_be_made_fails(root, tmp_path):
    (tmp_path / "file").touch()
    assert examine(root, work_dir=str(tmp_path / "file" / "work"))["work-directory"].status == FAIL


def test_a_limit_of_open_files_below_what_the_jobs_need_is_told(root):
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = examine(root, jobs=10_000)["open-files"]
    assert found.status == (WARN if 0 <= soft < 40_100 else OK)


def test_the_worker_that_serves_is_named(root):
    node = nodefile.NodeFile(layout.Layout(str(root)), "web-3")
    node.beat({"state": "serving", "jobs": 4, "release": "0"})
    assert "release 0" in examine(root)["worker"].sentence
    node.leave()
    assert "`web-3` did before" in examine(root)["worker"].sentence


def test_one_check_that_cannot_be_done_does_not_stop_the_others(root):
    (root / ".spool" / "locks").rmdir()
    found = examine(root)
    assert "could not be examined" in found["locks"].sentence
    assert found["names"].status == OK
