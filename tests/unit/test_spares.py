"""What a job has left empty serves the next one, and nothing else does."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess

import pytest

from spooldadd import claim, recovery, spares, workdir
from spooldadd.claim import Holder
from tests.unit.spools import Bench

RECORD, NEXT = "a.20261121T101500Z.bcdfg.1.hjkmn", "b.20261121T101500Z.bcdfg.1.hjkmn"


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def place(tmp_path):
    path = tmp_path / "work" / RECORD
    workdir.make(str(path), None)
    return path


def test_an_empty_directory_is_given_to_the_next(place):
    kept, inode = spares.Spares(), place.stat().st_ino
    assert kept.keep_directory(str(place))
    assert not place.exists()
    following = place.with_name(NEXT)
    workdir.make(str(following), b"{}", None, kept.give_directory)
    assert following.stat().st_ino == inode
    assert os.listdir(following) == ["config.json"]
    assert not kept.give_directory(str(place)), "it was given away"


def spoil_file(path):
    (path / ".hidden").touch()


def spoil_mode(path):
    path.chmod(0o755)


def spoil_attribute(path):
    os.setxattr(path, "user.note", b"1")


def spoil_link(path):
    path.rmdir()
    path.symlink_to("/tmp")


@pytest.mark.parametrize("spoil", [spoil_file, spoil_mode, spoil_attribute, spoil_link, os.rmdir])
def test_a_directory_that_a_job_has_changed_is_not_kept(place, spoil):
    try:
        spoil(place)
    except OSError as error:
        pytest.skip(f"this file system has no attributes: {error}")
    assert not spares.Spares().keep_directory(str(place))
    assert not list(place.parent.glob(".spare-*"))


def test_a_lock_file_gets_the_name_of_the_next_and_its_holder(bench):
    lease = claim.take_new(bench.places, RECORD, Holder("here", "boot-1", 10, 100))
    os.write(lease, b"supervisor_pid = 77\n")
    path = spares.Spares().keep_lock(bench.places, RECORD)
    os.close(lease)
    inode, left = os.stat(path).st_ino, [path]
    lease = claim.take_new(bench.places, NEXT, Holder("there", "boot-2", 20, 200), left)
    assert (bench.locks(), left) == ([f"{NEXT}.lock"], [])
    assert os.fstat(lease).st_ino == inode
    assert claim.is_held(bench.places, NEXT)
    assert claim.read_holder(bench.places, NEXT) == Holder("there", "boot-2", 20, 200)
    os.close(lease)


def test_a_lock_file_that_a_job_still_holds_is_no_lease_for_the_next(bench):
    lease = claim.take_new(bench.places, RECORD, Holder("here"))
    with subprocess.Popen(["sleep", "60"], pass_fds=[lease]) as left_behind:
        path = spares.Spares().keep_lock(bench.places, RECORD)
        os.close(lease)
        inode = os.stat(path).st_ino
        lease = claim.take_new(bench.places, NEXT, Holder("here"), [path])
        assert os.fstat(lease).st_ino != inode
        left_behind.kill()
    assert claim.is_held(bench.places, NEXT)
    os.close(lease)


def test_a_spare_that_is_gone_is_no_trouble(bench):
    lease = claim.take_new(bench.places, NEXT, Holder("here"), [os.path.join(bench.places.locks, ".spare-1")])
    assert claim.is_held(bench.places, NEXT)
    os.close(lease)


def test_nothing_is_kept_while_nothing_comes(bench, place):
    kept = spares.Spares()
    lease = claim.take_new(bench.places, RECORD, Holder("here"))
    kept.keep_lock(bench.places, RECORD)
    os.close(lease)
    kept.keep_directory(str(place))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"next")
        kept.wait(ours)
        assert list(place.parent.iterdir()), "a job comes at once, so it is still there"
        ours.recv(4)
        kept.keep_directory(str(next(place.parent.iterdir())))
        kept.keep_lock(bench.places, RECORD)
        kept.wait(ours)
    assert list(place.parent.iterdir()) == []


def test_what_a_dead_supervisor_has_kept_is_removed(bench):
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid in (gone.pid, os.getpid()):
        with open(os.path.join(bench.places.locks, f".spare-{pid}"), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
    recovery.remove_stale_locks(bench.context)
    assert bench.locks() == [f".spare-{os.getpid()}"]
