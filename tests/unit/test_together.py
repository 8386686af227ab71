import errno
import os

import pytest

from spooldadd import durable, together


@pytest.fixture
def fds(tmp_path):
    """Three files and the directory they are in."""
    opened = [os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT) for number in range(3)]
    opened.append(os.open(tmp_path, os.O_RDONLY))
    for fd in opened[:3]:
        os.write(fd, b"x")
    yield opened
    for fd in opened:
        os.close(fd)


@pytest.fixture
def alone(monkeypatch):
    """Which files were asked for one by one."""
    asked = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (asked.append(fd), real(fd)))
    return asked


def test_files_and_directories_are_made_last_together(fds, alone):
    together.sync(fds[:2])
    if not together._KERNEL._queue.value:
        pytest.skip("needs the capability to ask the kernel for many at once")
    alone.clear()
    assert together.sync(fds) == [0, 0, 0, 0]
    assert alone == []


def test_each_is_told_its_own_error(fds):
    reader, writer = os.pipe()  # of which nothing can last
    assert together.sync([fds[0], reader, fds[1]]) == [0, errno.EINVAL, 0]
    os.close(reader)
    assert together.sync([reader, fds[0]]) == [errno.EBADF, 0]
    os.close(writer)


def test_where_the_kernel_knows_no_such_call_they_are_asked_for_one_by_one(fds, alone, monkeypatch):
    monkeypatch.setattr(together, "NUMBERS", {})
    monkeypatch.setattr(together, "_KERNEL", together._Kernel())
    assert together.sync(fds) == [0, 0, 0, 0]
    assert alone == fds


def test_one_alone_and_what_a_server_may_keep_waiting_are_no_matter_for_a_queue(fds, alone):
    together.sync(fds[:1])
    together.sync(fds, at_once=False)
    assert alone == [fds[0], *fds]


def test_a_second_thread_does_not_wait_for_the_first(fds, alone):
    with together._KERNEL._lock:
        assert together.sync(fds) == [0, 0, 0, 0]
    assert alone == fds


def test_a_fork_has_a_queue_of_its_own(fds):
    together.sync(fds)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if together.sync(fds) == [0, 0, 0, 0] and together._KERNEL._pid == os.getpid() else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_log_that_is_none_any_more_keeps_no_result_waiting(tmp_path):
    """A job that put a link or a pipe in the place of its log was never filed: each look at it failed."""
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    others = [str(tmp_path / name) for name in ("link", "pipe", "gone")]
    assert durable.write_beside(str(tmp_path / "result"), b"done", others, at_once=True) == []
    assert (tmp_path / "result").read_bytes() == b"done"


def test_a_directory_that_a_drop_has_left_lasts_with_the_result_and_may_be_gone(tmp_path, alone):
    """An inbox that was removed while its job ran would else keep the result waiting for ever."""
    (tmp_path / "root").mkdir()
    (tmp_path / "@file").touch()  # in the place of an inbox
    left = [str(tmp_path / name) for name in ("root", "@gone", "@file")]
    assert durable.write_beside(str(tmp_path / "result"), b"done", [], directories=left, at_once=False) == []
    assert len(alone) == 3  # the one that is there, the result, and its directory
    assert (tmp_path / "result").read_bytes() == b"done"


def test_a_log_that_holds_nothing_is_not_waited_for(tmp_path, alone):
    (tmp_path / "log").touch()
    assert durable.write_beside(str(tmp_path / "result"), b"done", [str(tmp_path / "log")], at_once=False) == []
    assert len(alone) == 2  # the result, and the directory


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_nothing_is_put_in_place_while_something_beside_it_is_lost(tmp_path, monkeypatch, number):
    (tmp_path / "log").write_bytes(b"log")
    real = os.fsync

    def fail(fd):
        if os.readlink(f"/proc/self/fd/{fd}").endswith("log"):
            raise OSError(number, os.strerror(number))
        real(fd)

    monkeypatch.setattr(together, "MOST", 0)
    monkeypatch.setattr(os, "fsync", fail)
    paths = [str(tmp_path / "log")]
    if number == errno.EIO:  # which the kernel says once
        assert durable.write_beside(str(tmp_path / "result"), b"done", paths, at_once=True) == paths
    else:
        with pytest.raises(OSError, match="No space"):
            durable.write_beside(str(tmp_path / "result"), b"done", paths, at_once=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]
