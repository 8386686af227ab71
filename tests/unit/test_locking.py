import errno
import fcntl
import os
import threading

import pytest

from spooldadd import locking


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "directory" / "the.lock")


def test_one_alone_has_the_lock(path):
    with locking.Alone(path) as is_ours:
        assert is_ours
        with locking.Alone(path) as is_ours_too:
            assert not is_ours_too
    with locking.Alone(path) as is_ours:
        assert is_ours


def test_who_is_patient_waits_for_it(path):
    got = threading.Event()

    def wait():
        with locking.Alone(path, is_patient=True) as is_ours:
            assert is_ours
            got.set()

    with locking.Alone(path):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not got.wait(0.2)
    assert got.wait(60)
    waiting.join()


def test_shared_locks_bear_each_other(path):
    with locking.Alone(path):
        pass
    first, second = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    assert locking.try_lock(first, is_shared=True)
    assert locking.try_lock(second, is_shared=True)
    os.close(first)
    os.close(second)


@pytest.mark.parametrize(("number", "answer"), [(errno.EAGAIN, False), (errno.EACCES, False), (errno.EIO, None)])
def test_held_is_called_differently_by_file_systems(path, monkeypatch, number, answer):
    """SMB says EACCES; taken for trouble, no node would ever prove another one's lock."""

    def refuse(_fd, _operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    try:
        assert locking.try_lock(0) is answer
    except OSError as error:
        assert (error.errno, answer) == (number, None)
