from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from spooldadd import commons, mark, request, requesting
from spooldadd.errors import SpoolError
from spooldadd.inspect import jobs
from spooldadd.layout import Layout
from spooldadd.log import Log
from spooldadd.request import Request
from spooldadd.requesting import Requesting, owner_of
from spooldadd.spool import open_spool

WHOLE = 'schema = 1\nact = "hold"\njob = "a.toml"\nforced = false\n'


@pytest.fixture
def places(tmp_path: Path) -> Layout:
    root = str(tmp_path / "spool")
    mark.create(root, durability="process", many_users=True)
    found = Layout(root)
    commons.open_to_all(found)
    return found


def put(places: Layout, text: str | bytes, name: str = "a" * 20) -> Path:
    path = Path(places.internal, commons.REQUESTS, name)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_request_is_whose_file_it_is(places):
    found = request.read(str(put(places, WHOLE + "uid = 12345\n")))
    assert isinstance(found, Request)
    assert (found.act, found.job, found.uid) == ("hold", "a.toml", os.geteuid())


@pytest.mark.parametrize(
    "text", ["", "x", b"\xff", WHOLE.replace("hold", "rm"), WHOLE.replace("= 1", "= 2"), WHOLE.replace('"a.toml"', "7")]
)
def test_what_is_no_request_is_not_carried_out(places, text):
    assert isinstance(request.read(str(put(places, text))), str)


def test_a_file_with_a_second_name_is_no_request(places):
    path = put(places, WHOLE)
    os.link(path, f"{path}.again")
    assert isinstance(request.read(str(path)), str)


def test_a_request_is_carried_out_answered_and_removed(places):
    drop = Path(places.root, "a.toml")
    drop.write_text('command = "true"\n')
    log = Log(level="error")
    worker = Requesting(open_spool(places.root), log)
    stop = threading.Event()

    def serve() -> None:
        while not stop.wait(0.01):
            worker.turn()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        done = request.ask(places, Request(request.HOLD, "a.toml"))
        refused = request.ask(places, Request(request.HOLD, "nothing"))
    finally:
        stop.set()
        thread.join()
    assert done.is_done
    assert Path(places.root, "a.toml.held").exists()
    assert not refused.is_done
    assert "no job is called" in refused.said
    assert os.listdir(Path(places.internal, commons.REQUESTS)) == []


def test_a_drop_belongs_to_whoever_owns_the_file(places):
    Path(places.root, "a.toml").write_text('command = "true"\n')
    assert owner_of(jobs.find(places, "a.toml")) == os.geteuid()


def test_a_pause_file_of_somebody_else_does_not_count(tmp_path):
    paused = tmp_path / "paused"
    paused.touch()
    assert commons.is_paused_by(str(paused))
    tmp_path.chmod(0o1777)
    assert commons.is_paused_by(str(paused))
    if os.geteuid() != 0:
        pytest.skip("needs the capability of root")
    os.chown(paused, 65534, 65534)
    assert not commons.is_paused_by(str(paused))
    tmp_path.chmod(0o755)
    assert commons.is_paused_by(str(paused))


def test_a_spool_for_many_users_is_a_local_one(tmp_path):
    root = str(tmp_path / "spool")
    mark.create(root, kind="shared", many_users=True)
    with pytest.raises(SpoolError, match="local"):
        mark.read(root)


def test_what_cannot_be_removed_keeps_nobody_else_waiting(places, monkeypatch):
    """One user's directory, of a name that could not be put aside, was trouble of the whole spool."""
    box = Path(places.internal, commons.REQUESTS)
    for name in ("é" * 127, "a" * 20, "a" * 255):
        (box / name / "full").mkdir(parents=True)
    Path(places.root, "a.toml").write_text('command = "true"\n')
    put(places, WHOLE, "b" * 255)  # answered under no name: that would be too long for the file beside it
    worker = Requesting(open_spool(places.root), Log(level="error"))
    assert not worker.turn()
    assert Path(places.root, "a.toml.held").exists()
    assert all(name.startswith(".tmp-") for name in os.listdir(box))

    (box / "mounted" / "full").mkdir(parents=True)
    put(places, WHOLE.replace("hold", "release"), "c" * 20)
    real = os.rename
    monkeypatch.setattr(os, "rename", lambda source, target: real(source, target) if "mounted" not in source else _busy())
    assert not worker.turn()
    assert not worker.turn()
    assert Path(places.root, "a.toml").exists()


def _busy() -> None:
    raise OSError(errno.EBUSY, "Device or resource busy")


def test_what_takes_long_to_look_up_waits_for_the_next_look(places, monkeypatch):
    for number in range(3):
        put(places, WHOLE.replace("a.toml", "nothing"), f"{number:020d}")
    monkeypatch.setattr(requesting, "TURN_S", 0.0)
    worker = Requesting(open_spool(places.root), Log(level="error"))
    assert [worker.turn() for _ in range(3)] == [True, True, False]
