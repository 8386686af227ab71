import errno
import os

import pytest

from spooldadd import writers
from spooldadd.looking import look

SPEC = 'command = ["true"]\n'


def test_a_look_at_what_is_gone_is_none_and_at_what_is_large_has_no_data(tmp_path):
    assert look(str(tmp_path / "missing")) is None
    path = tmp_path / "a.toml"
    path.write_text("x" * (1 << 20))
    assert look(str(path)).data is not None
    path.write_text("x" * ((1 << 20) + 1))
    assert look(str(path)).data is None


def test_a_refused_lease_is_no_writer_where_the_server_gives_leases(tmp_path, monkeypatch):
    # Two nodes on NFS 4.2 put one job back again and again: "somebody has it open for writing", and nobody had.
    path = tmp_path / "a.toml"
    with path.open("w") as writer, path.open() as reader:
        assert writers.has_writer(reader.fileno()) is True
        monkeypatch.setattr(writers.filesystem, "asks_server_for_leases", lambda _device: True)
        assert writers.has_writer(reader.fileno()) is None
        assert writer.writable()


@pytest.mark.parametrize("call", ["open", "read"])
@pytest.mark.parametrize("number", [errno.EHOSTDOWN, errno.ENOTCONN, errno.EBADF, errno.EMFILE])
def test_a_share_in_trouble_says_nothing_about_a_file(tmp_path, monkeypatch, call, number):
    """SMB answered so while it had to connect anew, and a good spec was filed as one that cannot be read."""
    (tmp_path / "a.toml").write_text(SPEC)

    def refuse(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError) as caught:
        look(str(tmp_path / "a.toml"))
    assert caught.value.errno == number


@pytest.mark.parametrize("number", [errno.EBUSY, errno.ETXTBSY, errno.EAGAIN])
def test_what_nobody_else_may_open_is_still_written_to(tmp_path, monkeypatch, number):
    (tmp_path / "a.toml").write_text(SPEC)

    def refuse(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    found = look(str(tmp_path / "a.toml"))
    assert found is not None
    assert (found.writer, found.refusal) == (True, "")


def test_a_look_takes_five_system_calls(tmp_path, monkeypatch):
    """With 100,000 specs in line the looks compete with the claims."""
    (tmp_path / "a.toml").write_text(SPEC)
    made = []
    for name in ("open", "fstat", "lstat", "stat", "read", "close"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *rest, real=real, name=name, **options: (made.append(name), real(*rest, **options))[1]
        )
    asked = writers.fcntl.fcntl
    monkeypatch.setattr(writers.fcntl, "fcntl", lambda *rest: (made.append("fcntl"), asked(*rest))[1])
    assert look(str(tmp_path / "a.toml")).data == SPEC.encode()
    assert made == ["open", "fcntl", "fstat", "read", "close"]
