from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd import record
from spooldadd.inspect import jobs, output
from spooldadd.inspect.following import Follower
from tests.unit.inspect_records import MadeSpool, job_id


def tail_of(path, lines: int) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        data = path.read_bytes()
        return data[output.start_of_last(fd, len(data), lines) :]
    finally:
        os.close(fd)


@given(st.lists(st.sampled_from([b"a", b"\n", b"\0\x1b", b"long " * 20])), st.integers(0, 8), st.integers(1, 7))
def test_the_last_lines_are_those_that_reading_everything_would_give(tmp_path_factory, parts, lines, chunk_bytes):
    path = tmp_path_factory.mktemp("log") / "output.log"
    path.write_bytes(b"".join(parts))
    expected = b"".join(_lines(path.read_bytes())[-lines:]) if lines else b""
    before, output.CHUNK_BYTES = output.CHUNK_BYTES, chunk_bytes
    try:
        assert tail_of(path, lines) == expected
    finally:
        output.CHUNK_BYTES = before


def _lines(data: bytes) -> list[bytes]:
    """`bytes.splitlines` would end a line at a carriage return, too."""
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def test_the_tail_of_a_huge_log_is_read_from_its_end(tmp_path):
    path = tmp_path / "output.log"
    with path.open("wb") as log:
        log.truncate(1 << 40)  # a hole: reading all of it would take minutes
        log.seek(0, os.SEEK_END)
        log.write(b"\nlast but one\nlast\n")
    assert output.last_lines(str(path), 2) == b"last but one\nlast\n"


def test_no_more_than_so_many_bytes_of_one_endless_line_are_read(tmp_path):
    path = tmp_path / "output.log"
    path.write_bytes(b"x" * 100)
    assert output.last_lines(str(path), 5, most_bytes=10) == b"x" * 10


def test_a_log_that_is_not_there_has_no_lines(tmp_path):
    assert output.last_lines(str(tmp_path / "nothing"), 5) == b""


@pytest.fixture
def streamed(tmp_path):
    """A log, a stream that reads it, and what has come out."""
    log = tmp_path / "output.log"
    log.touch()
    read, write = os.pipe()
    os.set_blocking(read, False)
    stream = output.Stream(str(log), write)

    def came() -> bytes:
        stream.pump()
        try:
            return os.read(read, 1 << 16)
        except BlockingIOError:
            return b""

    yield log, came
    stream.close()
    os.close(read)
    os.close(write)


def test_a_stream_gives_each_byte_once_also_after_the_record_has_moved(streamed):
    log, came = streamed
    with log.open("ab") as writer:
        writer.write(b"one \x00\xff\n")
        writer.flush()
        assert came() == b"one \x00\xff\n"
        assert came() == b""
        log.rename(log.with_name("moved"))
        writer.write(b"two")
        writer.flush()
        assert came() == b"two"


def test_of_a_log_that_is_cut_at_its_limit_the_note_is_shown(streamed):
    log, came = streamed
    log.write_bytes(b"x" * 500)
    assert came() == b"x" * 500
    with log.open("r+b") as writer:
        writer.truncate(100)
        writer.seek(0, os.SEEK_END)
        writer.write(b"\n[spooldadd: cut here, at the limit; 500 bytes had been printed]\n")
    assert came() == b"\n[spooldadd: cut here, at the limit; 500 bytes had been printed]\n"


def test_what_an_earlier_attempt_left_in_a_claimed_record_is_not_taken_for_the_new_ones(tmp_path):
    """`logs --follow` printed the first attempt again: the record is renamed before its old files are put aside."""
    made = MadeSpool(tmp_path / "spool")
    path = made.add("running", job_id(), attempt=1)
    (path / "output.log").write_text("old\n")
    path = path.rename(made.root / "running" / f"{job_id()}.2.ccccc")
    job = jobs.find(made.places, job_id())
    assert output.directory_of(job, 2) is None
    record.rotate(str(path), 2, sync=False)
    record.write_claim(str(path), {"attempt": 2}, sync=False)
    assert output.directory_of(job, 2) == str(path)
    assert output.directory_of(job, 1) == str(path / "attempts" / "1")


def test_the_directory_of_each_attempt_is_known(tmp_path):
    made = MadeSpool(tmp_path / "spool")
    path = made.add("failed", job_id(), attempt=2)
    (path / "attempts" / "1").mkdir(parents=True)
    job = jobs.find(made.places, job_id())
    assert output.directory_of(job, 2) == str(path)
    assert output.directory_of(job, 1) == str(path / "attempts" / "1")
    assert output.directory_of(job, 3) is None


def test_a_follower_does_not_take_the_log_of_the_attempt_before_for_that_of_the_next(tmp_path, capfd):
    """A record is claimed by one rename, and the old files are put aside after it. A look in between opened the old log as
    the new one: `submit --follow` printed the first attempt twice and the second never, once in thirty runs."""
    made = MadeSpool(tmp_path / "spool")
    path = made.add("running", job_id(), attempt=2, claim={"attempt": 1})
    (path / "output.log").write_text("first\n")
    tail = output.Tail(Follower(jobs.find(made.places, job_id())), output.Choice(), 2, lambda _text: None)
    tail._take(tail._follower.look())
    assert capfd.readouterr().out == ""
    record.rotate(str(path), 2, sync=False)
    record.write_claim(str(path), {"attempt": 2}, sync=False)
    (path / "output.log").write_text("second\n")
    tail._take(tail._follower.look())
    assert capfd.readouterr().out == "second\n"
