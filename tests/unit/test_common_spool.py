"""What is opened, held and ended on a spool that everybody may drop into."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
from pathlib import Path

import pytest

from spooldadd import (
    claim,
    commons,
    confine,
    deputy,
    discarding,
    locking,
    mark,
    nodefile,
    nodes,
    ownership,
    retention,
    spool,
    strays,
    workdir,
)
from spooldadd.config import load
from spooldadd.mail import ended, hiding
from spooldadd.mail.cause import WITHHELD

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")


@pytest.fixture
def the_spool(tmp_path: Path) -> spool.Spool:
    root = str(tmp_path / "spool")
    mark.create(root, durability="process", many_users=True)
    found = spool.open_spool(root, claim.Holder("here"))
    commons.open_to_all(found.places)
    return found


def test_no_lock_can_be_opened_and_so_held_by_others(the_spool):
    places = the_spool.places
    entry = nodefile.NodeFile(places, "here")
    entry.beat({"state": "serving"})
    with retention.alone(places, "a test"), locking.Alone(os.path.join(places.incoming, "some.lock")):
        locks = [nodes.lock_path_of(places, "here"), os.path.join(places.internal, retention.LOCK)]
        locks.append(os.path.join(places.incoming, "some.lock"))
        assert {stat.S_IMODE(os.stat(path).st_mode) for path in locks} == {0o600}
    entry.leave()


def test_on_any_other_spool_everybody_may_ask_who_serves(tmp_path):
    root = str(tmp_path / "spool")
    mark.create(root, durability="process")
    places = spool.open_spool(root, claim.Holder("here")).places
    nodefile.NodeFile(places, "here").beat({})
    assert os.stat(nodes.lock_path_of(places, "here")).st_mode & stat.S_IROTH


def test_what_is_left_of_a_job_is_looked_for_among_processes_of_its_owner_and_of_whom_it_ran_as(the_spool, monkeypatch):
    """With one user as whom all jobs run, none of a lost attempt was found, and the next one began beside it."""
    record = Path(the_spool.places.running, "a.20261121T101500Z.bcdfg.1.zzzzz")
    record.mkdir()
    looked: list[frozenset[int] | None] = []
    monkeypatch.setattr(strays.process, "marked", lambda _markers, uids: looked.append(uids) or [])
    strays.find(the_spool.places, record.name)
    ownership.note(str(record), 1001, "one", sync=False)
    strays.find(the_spool.places, record.name)
    ownership.note(str(record), 1001, "one", sync=False, runner=1002)
    strays.find(the_spool.places, record.name)
    assert looked == [None, frozenset({0, 1001}), frozenset({0, 1001, 1002})]
    assert ownership.read(str(record)) == 1001


@needs_root
def test_who_stops_the_process_that_removes_what_he_left_stops_the_worker_once(tmp_path, monkeypatch):
    places = [tmp_path / name for name in "ab"]
    for place in places:
        (place / "work").mkdir(parents=True)
        os.chown(place, NOBODY, NOBODY)
    monkeypatch.setattr(discarding, "PATIENCE_S", 0.1)
    monkeypatch.setattr(discarding, "_slow", {})
    monkeypatch.setattr(workdir, "empty", lambda _path: os.kill(os.getpid(), signal.SIGSTOP))
    began: list[int] = []
    real = deputy.act
    monkeypatch.setattr(deputy, "act", lambda who, *rest: began.append(who.uid) or real(who, *rest))
    for place in places:
        with pytest.raises(OSError) as caught:
            discarding.remove(str(place))
        assert caught.value.errno == errno.ETIMEDOUT
    assert began == [NOBODY]


@pytest.mark.skipif(shutil.which(confine.PROGRAM) is None, reason="needs bubblewrap")
@pytest.mark.parametrize("said", ["status 99999999999999999999", "status 127", "status 65535", "status -1", "status"])
def test_what_no_command_can_end_with_is_no_status(tmp_path, said):
    """Another process of the job's user can write where the first one in a sandbox does; the supervisor died of it."""
    cell = confine.Cell(confine.Rules(), str(tmp_path), "")
    try:
        os.write(cell.fds[0], f"started\nstatus 256\n{said}\n".encode())
        assert cell.noted()["status"] == 256
    finally:
        cell.close()


def test_no_secret_of_ours_hides_what_another_users_job_printed(the_spool):
    """A secret of root's of the same name was looked for in the log, and his own was shown."""
    path = Path(the_spool.places.failed, "a.20261121T101500Z.bcdfg")
    path.mkdir()
    (path / "spec.toml").write_text('command = "x"\n[secrets]\ndb = "password"\n')
    (path / "output.log").write_text("his word, or a guess at roots-own-word\n")
    hide = hiding.redactor(load(None, environ={"HOME": "/nowhere"}), {})
    each = ended.read(str(path), str(path), {"job": path.name, "outcome": "exit"})
    assert "his word" in hiding.hideable(each, lambda _name: "roots-own-word", hide).log
    ownership.note(str(path), 1001, "one", sync=False)
    assert (
        hiding.hideable(each, lambda _name: "roots-own-word", hide).log == f"{WITHHELD}: it may hold secrets of its owner]"
    )
