"""Records are made elsewhere while making them in place takes long, and nobody can tell by the record."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from spooldadd import filesystem, nursery
from spooldadd.layout import Layout
from spooldadd.nursery import IN_A_ROW, MAKE_AT, Nursery

# An access control list that lets a group write what is made in a directory: acl(5), `linux/posix_acl_xattr.h`.
DEFAULT_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry) for entry in ((1, 7, 2**32 - 1), (4, 7, 2**32 - 1), (0x20, 5, 2**32 - 1))
)


@pytest.fixture
def places(tmp_path):
    for name in ("running", ".spool"):
        (tmp_path / name).mkdir()
    return Layout(str(tmp_path))


@pytest.fixture
def spread(monkeypatch):
    """The paths that are marked, on a file system that knows the mark."""
    marked: list[str] = []
    monkeypatch.setattr(nursery, "_spread", marked.append)
    return marked


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setattr(nursery, "SLOW_S", -1.0)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(nursery, "SLOW_S", 60.0)


def maker() -> Nursery:
    return Nursery(may_make=True)


def make(where: Nursery, places: Layout, count: int, prefix: str = "job") -> None:
    for number in range(count):
        if where.is_slow:
            where.look(places)
        where.make(places, f"{places.running}/{prefix}-{number}", 0o777)


def nurseries(places: Layout) -> list[str]:
    top = Path(places.internal, nursery.DIRECTORY)
    return sorted(os.listdir(top)) if top.exists() else []


def test_records_that_are_made_quickly_are_made_in_place(places, spread, quick):
    make(maker(), places, 2 * MAKE_AT)
    assert not spread and not nurseries(places)


def test_a_single_slow_one_is_chance(places, spread, monkeypatch):
    where = maker()
    for turn in range(20):
        monkeypatch.setattr(nursery, "SLOW_S", 60.0 if turn % IN_A_ROW == 0 else -1.0)
        make(where, places, 1, str(turn))
    assert not spread


def test_records_that_are_made_slowly_come_from_a_nursery_and_look_the_same(places, spread, slow):
    make(maker(), places, MAKE_AT)
    assert not spread
    make(maker(), places, MAKE_AT + 1, "other")
    assert spread == [f"{places.internal}/{nursery.DIRECTORY}"] and nurseries(places) == ["1"]
    assert not os.listdir(f"{spread[0]}/1")
    made = [Path(places.running, name) for name in os.listdir(places.running)]
    assert len(made) == 2 * MAKE_AT + 1 and not any(os.listdir(path) for path in made)
    assert len({(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in made}) == 1


@pytest.mark.parametrize("may_make", [True, False])
def test_a_second_process_comes_to_the_same_nursery_soon(places, spread, slow, monkeypatch, may_make):
    make(maker(), places, MAKE_AT + 1)
    second = Nursery(may_make=may_make)
    make(second, places, IN_A_ROW, "other")
    renamed, rename = [], os.rename
    monkeypatch.setattr(os, "rename", lambda source, target: (renamed.append(source), rename(source, target)))
    make(second, places, 1, "last")
    assert renamed == [f"{places.internal}/{nursery.DIRECTORY}/1/last-0"] and nurseries(places) == ["1"]


def test_a_process_that_others_wait_for_makes_no_nursery(places, spread, slow):
    make(Nursery(may_make=False), places, 5 * MAKE_AT)
    assert not spread and not nurseries(places)


def test_from_a_slow_nursery_one_goes_to_the_next_and_the_old_one_is_removed_with_what_was_left_there(places, spread, slow):
    where = maker()
    make(where, places, MAKE_AT + 1)
    where._again_at = 0.0
    left = Path(places.internal, nursery.DIRECTORY, "1", "job-x.1.abcde")
    left.mkdir()
    make(where, places, 2 * MAKE_AT, "more")
    assert nurseries(places) == ["2"]


def test_a_nursery_that_somebody_has_removed_is_missed_by_nobody(places, spread, slow, monkeypatch):
    where = maker()
    make(where, places, MAKE_AT + 1)
    Path(places.internal, nursery.DIRECTORY, "1").rmdir()
    monkeypatch.setattr(nursery, "SLOW_S", 60.0)
    make(where, places, 5, "more")
    assert len(os.listdir(places.running)) == MAKE_AT + 6 and not nurseries(places)


def test_where_every_nursery_is_slow_the_time_to_make_them_is_bounded(places, spread, slow, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(nursery.time, "perf_counter", lambda: now[0])

    def take_long(path: str) -> None:
        spread.append(path)
        now[0] += 0.3

    monkeypatch.setattr(nursery, "_spread", take_long)
    where = maker()
    while now[0] < 200.0:
        make(where, places, 1, str(now[0]))
        now[0] += 0.05
    assert 2 <= len(spread) <= 1 + 100.0 * nursery.MAKE_SHARE / 0.3


def test_a_process_that_may_make_none_leaves_a_slow_one(places, spread, slow, monkeypatch):
    make(maker(), places, MAKE_AT + 1)
    where = Nursery(may_make=False)
    make(where, places, IN_A_ROW + 1, "joined")
    assert where._directory
    make(where, places, MAKE_AT - IN_A_ROW, "left")
    assert not where._directory


def test_a_file_system_without_the_mark_is_asked_once_a_minute_and_nothing_is_left_there(places, slow, monkeypatch):
    asked = []

    def refuse(path: str) -> None:
        asked.append(path)
        raise OSError(95, "Operation not supported", path)

    monkeypatch.setattr(nursery, "_spread", refuse)
    where = maker()
    for turn in range(5):
        make(where, places, 2 * MAKE_AT, f"slow-{turn}")
        monkeypatch.setattr(nursery, "SLOW_S", 60.0)
        make(where, places, 1, f"quick-{turn}")
        monkeypatch.setattr(nursery, "SLOW_S", -1.0)
    assert len(asked) == 1 and not os.listdir(places.internal)
    assert len(os.listdir(places.running)) == 5 * (2 * MAKE_AT + 1)


def test_what_hands_down_the_same_may_hand_it_down(places, spread, slow):
    os.chmod(places.running, 0o2775)
    os.chmod(places.internal, 0o2775)
    make(maker(), places, MAKE_AT + 1)
    assert nurseries(places) == ["1"]
    assert all(entry.stat().st_mode & stat.S_ISGID for entry in os.scandir(places.running))


@pytest.mark.parametrize("which", ["running", "internal"])
def test_where_only_one_hands_down_its_group_records_are_made_in_place(places, spread, slow, which):
    os.chmod(getattr(places, which), 0o2775)
    make(maker(), places, 2 * MAKE_AT)
    assert not os.listdir(places.internal)
    handed = {bool(entry.stat().st_mode & stat.S_ISGID) for entry in os.scandir(places.running)}
    assert handed == {which == "running"}


def test_where_running_hands_down_permissions_records_are_made_there(places, spread, slow):
    os.setxattr(places.running, "system.posix_acl_default", DEFAULT_ACL)
    make(maker(), places, 2 * MAKE_AT)
    assert not os.listdir(places.internal)
    assert all("system.posix_acl_default" in os.listxattr(entry.path) for entry in os.scandir(places.running))


def test_what_is_changed_in_running_holds_for_new_records(places, spread, slow, monkeypatch):
    where = maker()
    make(where, places, MAKE_AT + 1)
    monkeypatch.setattr(nursery, "SLOW_S", 60.0)
    monkeypatch.setattr(nursery, "CHECK_S", 0.0)
    os.chmod(places.running, 0o2775)
    make(where, places, 1, "later")
    assert os.stat(f"{places.running}/later-0").st_mode & stat.S_ISGID


def test_an_entry_that_is_no_nursery_keeps_nobody_from_making_one(places, spread, slow):
    top = Path(places.internal, nursery.DIRECTORY)
    top.mkdir()
    for name in ("9", "007", "x"):
        (top / name).touch()
    make(maker(), places, MAKE_AT + 1)
    assert (top / "10").is_dir()


def test_what_cannot_be_renamed_is_not_left_in_the_nursery(places, spread, slow, monkeypatch):
    where = maker()
    make(where, places, MAKE_AT + 1)

    def refuse(source: str, target: str) -> None:
        raise OSError(18, "Invalid cross-device link", source, None, target)

    monkeypatch.setattr(os, "rename", refuse)
    make(where, places, 5, "later")
    assert nurseries(places) == ["1"] and not os.listdir(f"{places.internal}/{nursery.DIRECTORY}/1")
    assert len(os.listdir(places.running)) == MAKE_AT + 6


def test_a_record_that_is_there_already_is_not_replaced(places, spread, slow):
    where = maker()
    make(where, places, MAKE_AT + 1)
    path = Path(places.running, "mine")
    path.mkdir()
    (path / "claim.toml").touch()
    with pytest.raises(FileExistsError):
        where.make(places, str(path), 0o777)
    assert (path / "claim.toml").exists()


def test_processes_that_take_the_nursery_from_each_other_lose_no_record(places, monkeypatch):
    monkeypatch.setattr(nursery, "_spread", lambda path: None)
    monkeypatch.setattr(nursery, "SLOW_S", -1.0)
    monkeypatch.setattr(nursery, "IN_A_ROW", 1)
    monkeypatch.setattr(nursery, "MAKE_AT", 2)
    monkeypatch.setattr(nursery, "MAKE_SHARE", 1.0)
    pids = []
    for child in range(4):
        pids.append(os.fork())
        if not pids[-1]:
            status = 1
            try:
                make(maker(), places, 200, f"child-{child}")
                status = 0
            finally:
                os._exit(status)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0, 0, 0]
    assert len(os.listdir(places.running)) == 4 * 200


def test_the_mark_is_set_on_the_file_systems_that_know_it(tmp_path):
    try:
        nursery._spread(str(tmp_path))
        nursery._spread(str(tmp_path))
    except OSError:
        assert not filesystem.kind(str(tmp_path)).startswith("ext")
    else:
        (tmp_path / "made").mkdir()
        assert (tmp_path / "made").is_dir()
