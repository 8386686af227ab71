import os
import select

import pytest

from spooldadd.watch import CLOSED, CREATED, MOVED, Hint, Watch


@pytest.fixture
def watch(tmp_path):
    (tmp_path / "spool").mkdir()
    made = Watch(str(tmp_path / "spool"))
    made.start()
    yield made
    made.stop()


def hints(watch):
    """Return what the kernel has to say by now; it says it before the call that caused it returns."""
    found = []
    while select.select([watch.fd], [], [], 0)[0]:
        found += watch.read()
    return found


def test_a_written_file_is_announced_and_then_closed(watch):
    with open(os.path.join(watch.path, "a"), "w") as file:
        assert hints(watch) == [Hint("a", CREATED)]
        file.write("x")
    assert hints(watch) == [Hint("a", CLOSED)]


def test_a_file_that_is_moved_in_is_complete(watch, tmp_path):
    (tmp_path / "a").touch()
    os.rename(tmp_path / "a", os.path.join(watch.path, "b"))
    assert hints(watch) == [Hint("b", MOVED)]


def test_a_rename_out_of_the_directory_makes_no_event(watch, tmp_path):
    """Each of our claims is one."""
    (tmp_path / "a").touch()
    os.rename(tmp_path / "a", os.path.join(watch.path, "a"))
    hints(watch)
    os.rename(os.path.join(watch.path, "a"), tmp_path / "a")
    assert hints(watch) == []


def test_a_link_is_announced(watch, tmp_path):
    (tmp_path / "a").touch()
    os.link(tmp_path / "a", os.path.join(watch.path, "a"))
    assert hints(watch) == [Hint("a", CREATED)]


def test_a_name_that_is_no_text_arrives_as_the_system_names_it(watch):
    name = os.fsdecode(b"caf\xe9")
    open(os.path.join(watch.path, name), "w").close()
    assert {hint.name for hint in hints(watch)} == {name}


def test_what_happens_below_is_not_told(watch):
    os.mkdir(os.path.join(watch.path, "inner"))
    hints(watch)
    open(os.path.join(watch.path, "inner", "a"), "w").close()
    assert hints(watch) == []


def test_a_watch_in_good_health_has_no_trouble(watch):
    assert watch.trouble(os.stat(watch.path)) is None


@pytest.mark.parametrize("end", ["moved", "removed"])
def test_a_directory_that_goes_away_is_trouble(watch, tmp_path, end):
    if end == "moved":
        os.rename(watch.path, tmp_path / "elsewhere")
    else:
        os.rmdir(watch.path)
    hints(watch)
    os.mkdir(watch.path)
    assert "replaced or unmounted" in watch.trouble(os.stat(watch.path))


def test_another_directory_in_the_place_is_trouble_even_when_nothing_was_told(watch, tmp_path):
    os.mkdir(tmp_path / "other")
    assert "replaced" in watch.trouble(os.stat(tmp_path / "other"))


def test_dropped_events_are_trouble(watch):
    watch._ears.on_queue_overflow()
    assert watch.trouble(os.stat(watch.path)) == "the kernel dropped events"
    watch.stop()
    watch.start()
    assert watch.trouble(os.stat(watch.path)) is None


def test_a_missing_directory_cannot_be_watched_and_leaves_nothing_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    watch = Watch(str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError):
        watch.start()
    assert not watch.is_on
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"[Nn]ot a directory"):
        Watch(str(tmp_path / "file")).start()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_watch_may_be_stopped_and_started_and_leaves_nothing_open(watch):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        watch.stop()
        assert not watch.is_on
        assert watch.read() == []
        watch.stop()
        watch.start()
    open(os.path.join(watch.path, "a"), "w").close()
    assert hints(watch) == [Hint("a", CREATED), Hint("a", CLOSED)]
    assert len(os.listdir("/proc/self/fd")) == before
