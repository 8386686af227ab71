import errno
import fcntl
import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spooldadd import durable


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_is_put_in_place_with_its_mode_and_nothing_else_is_left(tmp_path, sync):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    durable.write(str(path), b"new", sync=sync, mode=0o600)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@given(st.binary(max_size=2000))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_are_written_as_they_are(tmp_path, data):
    durable.write(str(tmp_path / "file"), data, sync=False)
    assert (tmp_path / "file").read_bytes() == data


def test_a_reader_of_the_old_file_keeps_it(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with (tmp_path / "file").open("rb") as reader:
        durable.write(str(tmp_path / "file"), b"new", sync=False)
        assert reader.read() == b"old"


def test_what_a_process_of_our_number_left_is_written_over(tmp_path):
    left = tmp_path / f"{durable.TEMPORARY}{os.getpid()}-file"
    left.write_bytes(b"half")
    durable.write(str(tmp_path / "file"), b"new", sync=False)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not left.exists()


def test_a_link_in_the_place_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "file").symlink_to("precious")
    durable.write(str(tmp_path / "file"), b"new", sync=False)
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "file").is_symlink()


def test_after_a_failed_rename_no_part_is_left(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        durable.write(str(tmp_path / "file"), b"new", sync=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_contents_and_no_part_of_the_new(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"old")
    real = os.write

    def write_half(fd, data):
        if len(data) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", write_half)
    with pytest.raises(OSError, match="No space"):
        durable.write(str(tmp_path / "file"), b"x" * 100, sync=False)
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_write_that_stops_short_is_continued(monkeypatch):
    reading, writing = os.pipe()
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    durable.write_all(writing, b"0123456789")
    os.close(writing)
    assert os.read(reading, 100) == b"0123456789"
    os.close(reading)


def test_a_new_file_takes_nobodys_place(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        durable.write_new(str(tmp_path / "file"), b"new", sync=False)
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_move_is_made_last_in_the_target_before_the_source(tmp_path, monkeypatch):
    """On btrfs the other order leaves the file in both places after a power cut."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "x").touch()
    synced = []
    monkeypatch.setattr(durable, "sync_directory", synced.append)
    durable.move(str(tmp_path / "a" / "x"), str(tmp_path / "b" / "y"), sync=True)
    assert synced == [str(tmp_path / "b"), str(tmp_path / "a")]
    durable.move(str(tmp_path / "b" / "y"), str(tmp_path / "b" / "z"), sync=True)
    assert synced[2:] == [str(tmp_path / "b")]
    durable.move(str(tmp_path / "b" / "z"), str(tmp_path / "b" / "x"), sync=False)
    assert len(synced) == 3


@pytest.mark.parametrize("number", [0, errno.EINVAL, errno.ENOSYS], ids=["one step", "NFS", "old C library"])
def test_a_rename_to_a_free_name_takes_nobodys_place(tmp_path, monkeypatch, number):
    if number:
        monkeypatch.setattr(durable, "_rename_no_replace", lambda _source, _target: number)
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        durable.rename_new(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_text() == "b"
    durable.rename_new(str(tmp_path / "a"), str(tmp_path / "c"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]
    with pytest.raises(FileNotFoundError):
        durable.rename_new(str(tmp_path / "a"), str(tmp_path / "d"))


@pytest.mark.parametrize(("number", "is_passed_on"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_file_system_without_the_call_needs_none(tmp_path, monkeypatch, number, is_passed_on):
    def fail(_fd):
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", fail)
    if is_passed_on:
        with pytest.raises(OSError, match="no"):
            durable.sync_directory(str(tmp_path))
    else:
        durable.sync_directory(str(tmp_path))


def test_no_descriptor_is_left_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    durable.write(str(tmp_path / "file"), b"x", sync=True)
    durable.sync_file(str(tmp_path / "file"))
    with pytest.raises(FileNotFoundError):
        durable.write(str(tmp_path / "missing" / "file"), b"x", sync=True)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("raw", "shown"), [(b"plain", "plain"), ("größe".encode(), "größe"), (b"caf\xe9", "caf\\xe9")])
def test_bytes_that_are_no_text_are_shown_by_number(raw, shown):
    assert durable.printable(os.fsdecode(raw)) == shown


def test_a_name_is_listed_or_not_and_a_missing_directory_lists_nothing(tmp_path):
    (tmp_path / "here").touch()
    (tmp_path / "link").symlink_to("nowhere")
    assert durable.is_listed(str(tmp_path / "here"))
    assert durable.is_listed(str(tmp_path / "link"))
    assert not durable.is_listed(str(tmp_path / "there"))
    assert not durable.is_listed(str(tmp_path / "missing" / "here"))


def test_a_descriptor_that_is_bad_is_closed_without_a_word(tmp_path):
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    durable.close(fd)
    durable.close(fd)


def test_what_is_added_goes_to_the_name_where_the_descriptor_answers_no_more(tmp_path):
    # An sshfs that had connected anew answered EIO for a lease that was open before; its supervisor tried for ever.
    path = tmp_path / "lock"
    path.write_bytes(b"first\n")
    fd = os.open(path, os.O_RDONLY)
    try:
        durable.append(fd, str(path), b"second\n", sync=True)
    finally:
        os.close(fd)
    assert path.read_bytes() == b"first\nsecond\n"
    with pytest.raises(FileNotFoundError):
        durable.append(fd, str(tmp_path / "gone"), b"third\n", sync=False)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize(("number", "times"), [(errno.EACCES, 2), (errno.EBUSY, 3)])
def test_what_somebody_reads_just_now_is_replaced_a_moment_later(tmp_path, monkeypatch, number, times):
    """SMB refuses to replace a file that is open on this machine: heartbeats failed while another program read them."""
    real, asked = os.rename, []

    def refuse(source, target):
        asked.append(target)
        if len(asked) <= times:
            raise OSError(number, os.strerror(number))
        real(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    monkeypatch.setattr(durable, "REPLACE_PAUSES_S", (0.001,) * 4)
    durable.write(str(tmp_path / "a"), b"new", sync=False)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert len(asked) == times + 1


def test_what_is_locked_against_us_is_not_opened_once_more(tmp_path):
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, 1033, 8)  # F_ADD_SEALS, F_SEAL_WRITE
    (tmp_path / "a").touch()
    with pytest.raises(PermissionError):
        durable.append(fd, str(tmp_path / "a"), b"more", sync=False)
    os.close(fd)
    assert (tmp_path / "a").read_bytes() == b""
