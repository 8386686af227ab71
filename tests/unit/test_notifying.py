"""One notifier at a time, at once for the first word, and with a rest where word comes all the time."""

import os
import selectors
import sys
import time

import pytest

from spooldadd.notifying import LEAST_REST_S, LOOK_S, Notifying
from tests.unit.spools import Events


class Notices:
    """What `Notifying` asks; a run writes a line."""

    def __init__(self, root):
        self.is_on = True
        self.has_news = False
        self.directory = str(root / "notify")
        self.runs = root / "runs"
        self.places = self
        self.next = str(root / "next")
        self.code = "print(1, file=open(sys.argv[1], 'a'))"

    def command(self):
        return [sys.executable, "-I", "-S", "-c", f"import sys; {self.code}", str(self.runs)]

    def count(self):
        return len(self.runs.read_text().splitlines()) if self.runs.exists() else 0


class Desk:
    def __init__(self, root):
        os.mkdir(root / "notify")
        self.selector = selectors.DefaultSelector()
        self.notices = Notices(root)
        self.log = Events()
        self.notifying = Notifying(self.selector, self.notices, self.log)

    def turn(self, later_s=0.0):
        self.notifying.turn(time.monotonic() + later_s)

    def wait(self):
        """Let the notifier end, as the worker hears of it."""
        ((key, _),) = self.selector.select(30.0)
        key.data.on_readable()

    def is_running(self):
        return bool(self.selector.get_map())


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    if desk.is_running():
        desk.wait()
    desk.selector.close()


def after_first(desk):
    """The start of a worker looks once, whatever there is."""
    desk.turn()
    desk.wait()
    return desk


def test_a_start_tells_what_others_have_left(desk):
    after_first(desk)
    assert desk.notices.count() == 1
    desk.turn(LEAST_REST_S)
    assert not desk.is_running()


def test_word_is_told_after_a_rest_and_by_one_notifier_for_all(desk):
    """It was started anew at once, again and again, where jobs failed all the time."""
    after_first(desk)
    for _ in range(3):
        desk.notifying.heed()
        desk.notices.has_news = True
        desk.turn()
        assert not desk.is_running()
    wait_s = desk.notifying.next_at - time.monotonic()
    assert 0 < wait_s <= LOOK_S
    desk.turn(wait_s + 0.01)
    desk.wait()
    assert (desk.notices.count(), desk.notices.has_news) == (2, False)


def test_while_one_runs_there_is_no_second(desk):
    desk.notices.code = "sys.stdin.read()"
    desk.turn()
    desk.notifying.heed()
    desk.turn(LOOK_S * 2)
    assert len(desk.selector.get_map()) == 1
    desk.wait()
    assert desk.notices.has_news


def test_word_of_one_that_could_start_none_is_found_by_looking(desk):
    after_first(desk)
    open(os.path.join(desk.notices.directory, "x"), "w").close()
    desk.turn()
    assert not desk.is_running()
    desk.turn(LOOK_S + 1)
    desk.wait()
    assert desk.notices.count() == 2


def test_a_letter_that_is_due_starts_it_in_time(desk):
    after_first(desk)
    with open(desk.notices.next, "w", encoding="ascii") as file:
        file.write(f"{time.time() + 3:.3f}")
    desk.turn(LOOK_S + 1)
    assert not desk.is_running()
    assert desk.notifying.next_at - (time.monotonic() + LOOK_S + 1) <= 4.0


def test_one_that_fails_is_told_and_one_that_cannot_start_too(desk):
    desk.notices.code = "sys.exit(3)"
    after_first(desk)
    desk.notices.command = lambda: ["/nonexistent/program"]
    desk.notifying.heed()
    desk.turn(LOOK_S)
    assert [event for event in desk.log.names() if event == "mail-failed"] == ["mail-failed"] * 2


def test_one_that_hangs_is_ended_after_its_time(desk):
    desk.notices.code = "import time; time.sleep(600)"
    desk.turn()
    desk.turn(1801.0)
    desk.wait()
    assert desk.log.names() == ["mail-failed"]


def test_switched_off_it_never_wakes_the_loop(desk):
    desk.notices.is_on = False
    desk.turn(LOOK_S * 2)
    assert (desk.notifying.next_at, desk.is_running()) == (float("inf"), False)
