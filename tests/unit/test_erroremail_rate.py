"""The rate limit: at most N mails in M minutes, counted in a file by all processes together."""

import fcntl
import json
import multiprocessing
import os
import stat
import threading

import pytest

from spooldadd.erroremail import HeldBack, Rate, RateCounter, parse_settings

SETTINGS = parse_settings({"SERVER": "localhost", "TO": "ops@example.org", "FROM": "jobs@example.org"})


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def counter(tmp_path, clock):
    return RateCounter(Rate(2, 10.0, str(tmp_path / "count.json")), SETTINGS, clock)


def read(path):
    with open(path) as stream:
        return json.load(stream)


def held(counter):
    with pytest.raises(HeldBack):
        counter.take()


def test_no_more_than_the_limit_is_let_through_and_the_next_learns_how_many_were_not(counter, clock):
    assert (counter.take(), counter.take()) == (0, 0)
    for _ in range(3):
        held(counter)
    clock.now += 600.1
    told = counter.take()
    assert told == 3
    counter.note_told(told)
    assert counter.take() == 0


def test_what_was_held_back_is_told_again_when_the_mail_about_it_failed(counter, clock):
    counter.take(), counter.take(), held(counter)
    clock.now += 601
    assert counter.take() == 1
    counter.note_failed()
    assert counter.take() == 2


def test_the_window_slides(counter, clock):
    counter.take()
    clock.now += 400
    counter.take()
    clock.now += 201
    counter.take()
    held(counter)


def test_a_clock_that_was_set_back_does_not_silence_mails(counter, clock):
    counter.take(), counter.take()
    clock.now -= 100_000
    assert counter.take() == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sent": 1}', '{"sent": ["x"], "held": 0}', "\x00" * 100])
def test_a_broken_file_counts_as_empty(counter, text):
    with open(counter.path, "w") as stream:
        stream.write(text)
    assert counter.take() == 0
    assert len(read(counter.path)["sent"]) == 1


def test_a_file_that_cannot_be_used_lets_mails_through_and_says_so(clock, capsys):
    counter = RateCounter(Rate(1, 10.0, "/nonexistent/count.json"), SETTINGS, clock)
    assert (counter.take(), counter.take()) == (0, 0)
    assert "not counted" in capsys.readouterr().err


def test_a_link_is_not_followed(tmp_path, counter, capsys):
    (tmp_path / "other").write_text("precious")
    os.symlink(tmp_path / "other", counter.path)
    assert counter.take() == 0
    assert (tmp_path / "other").read_text() == "precious"


def test_a_stuck_lock_does_not_hold_up_a_mail(counter, capsys, monkeypatch):
    monkeypatch.setattr("spooldadd.erroremail.LOCK_WAIT_S", 0.05)
    with open(counter.path, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert counter.take() == 0
    assert "not counted" in capsys.readouterr().err


def test_a_count_waits_for_the_lock_of_another_process(counter):
    with open(counter.path, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        taking = threading.Thread(target=counter.take)
        taking.start()
        taking.join(0.1)
        assert taking.is_alive()
        fcntl.flock(stream, fcntl.LOCK_UN)
        taking.join(20)
        assert not taking.is_alive()


def test_the_default_file_is_in_a_directory_of_our_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    counter = RateCounter(Rate(1, 10.0), SETTINGS)
    counter.take()
    (directory,) = tmp_path.iterdir()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    directory.chmod(0o777)
    assert RateCounter(Rate(1, 10.0), SETTINGS).take() == 0
    assert "not counted" in capsys.readouterr().err


def _take_many(path, tries, let_through):
    counter = RateCounter(Rate(20, 10.0, path), SETTINGS)
    for _ in range(tries):
        try:
            counter.take()
        except HeldBack:
            continue
        with let_through.get_lock():
            let_through.value += 1


def test_many_processes_together_keep_the_limit(tmp_path):
    path = str(tmp_path / "count.json")
    let_through = multiprocessing.Value("i", 0)
    processes = [multiprocessing.Process(target=_take_many, args=(path, 25, let_through)) for _ in range(4)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(30)
        assert each.exitcode == 0
    assert let_through.value == 20
    assert read(path)["held"] == 80
