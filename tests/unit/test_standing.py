"""When the watchdog is fed: by progress, or by waiting for the kernel; never by spinning, nor by a lock of our own."""

import os
import threading
import time
from types import SimpleNamespace

import pytest

from spooldadd import process
from spooldadd.standing import Pulse, Standing
from tests.support import until


class Said:
    """A manager that keeps what it heard."""

    def __init__(self, watchdog_s=None, *, is_deaf=False):
        self.is_there, self.watchdog_s, self.is_deaf, self.heard = True, watchdog_s, is_deaf, []

    def send(self, message):
        if not self.is_deaf:
            self.heard.append(message)
        return not self.is_deaf

    def reloading(self):
        return self.send("RELOADING=1")


def loop(thread_id=0, **fields):
    known = {"thread_id": thread_id, "turns": 1, "sleeps_until": 0.0, "is_up": True, "summary": "serving"}
    return SimpleNamespace(**{**known, **fields})


@pytest.fixture
def waits_for():
    """Start a thread that runs this; it ends when the test does."""
    ends = []

    def start(work, end):
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        ends.append((thread, end))
        return thread.native_id

    yield start
    for thread, end in ends:
        end()
        thread.join(10)


def is_waiting(thread_id):
    pulse = Pulse()
    pulse.is_waiting(loop(thread_id))  # the first look only learns how much processor it has used
    return pulse.is_waiting(loop(thread_id))


def test_a_thread_in_a_call_that_the_kernel_answers_waits(waits_for):
    read, write = os.pipe()  # stands in for a file system that does not answer
    thread_id = waits_for(lambda: os.read(read, 1), lambda: os.write(write, b"."))
    until(lambda: is_waiting(thread_id), "it waits in the kernel")


@pytest.mark.skipif(not process.thread_wait(os.getpid()) and not os.path.exists("/proc/self/wchan"), reason="no wchan here")
def test_a_thread_that_waits_for_a_lock_of_ours_does_not_count_as_waiting(waits_for):
    lock = threading.Lock()
    lock.acquire()
    thread_id = waits_for(lock.acquire, lock.release)
    until(lambda: process.thread_wait(thread_id).startswith("futex"), "it waits for the lock")
    assert not is_waiting(thread_id)


def test_a_thread_that_spins_does_not_count_as_waiting(waits_for):
    is_over = threading.Event()

    def spin():
        while not is_over.is_set():
            pass

    thread_id = waits_for(spin, is_over.set)
    pulse = Pulse()
    until(lambda: process.thread_state(thread_id)[1] > 2, "it uses the processor")
    assert not pulse.is_waiting(loop(thread_id))


def test_a_thread_that_works_between_short_calls_does_not_count_as_waiting(waits_for):
    is_over = threading.Event()

    def work():
        while not is_over.is_set():
            sum(range(20_000))
            time.sleep(0.002)  # where it is seen most of the time

    thread_id = waits_for(work, is_over.set)
    pulse = Pulse()
    for _ in range(5):
        used = process.thread_state(thread_id)[1]
        until(lambda: process.thread_state(thread_id)[1] > used + 1, "it uses the processor")
        assert not pulse.is_waiting(loop(thread_id))


def test_ready_is_said_once_it_is_up_and_again_until_it_was_heard():
    manager = Said(is_deaf=True)
    standing = Standing(manager)
    standing.tell(loop(is_up=False))
    assert manager.heard == []
    standing.tell(loop())
    manager.is_deaf = False
    standing.tell(loop())
    standing.tell(loop())
    assert manager.heard == ["READY=1", "STATUS=serving"]


def test_a_status_is_told_when_it_changes():
    manager = Said()
    standing = Standing(manager)
    for summary in ("one", "one", "two"):
        standing.tell(loop(summary=summary))
    assert manager.heard == ["READY=1", "STATUS=one", "STATUS=two"]


def test_a_loop_that_makes_progress_is_alive_and_one_that_stands_still_is_not():
    manager = Said(watchdog_s=0.3)
    standing = Standing(manager)
    standing.tell(loop(turns=1))
    assert manager.heard.count("WATCHDOG=1") == 1
    end = time.monotonic() + 0.2
    until(lambda: time.monotonic() > end, "more than half of the watchdog's time passes")
    standing.tell(loop(turns=1))  # no thread of that number: it waits for nothing
    assert manager.heard.count("WATCHDOG=1") == 1
    standing.tell(loop(turns=2))
    assert manager.heard.count("WATCHDOG=1") == 2


def test_a_loop_that_sleeps_until_its_next_duty_does_not_stand_still():
    """With a `WatchdogSec` of a few seconds an idle worker was ended over and over: it has something to do every 10 s."""
    pulse = Pulse()
    assert pulse.stood_still_s(loop(), 100.0) == 0.0
    assert pulse.stood_still_s(loop(sleeps_until=109.0), 108.0) == 0.0
    assert pulse.stood_still_s(loop(sleeps_until=109.0), 112.0) == 4.0  # it has slept in
    assert pulse.stood_still_s(loop(), 113.0) == 5.0


def test_the_end_of_a_reload_is_told_with_what_came_of_it():
    manager = Said()
    standing = Standing(manager)
    standing.tell(loop())
    standing.reloading()
    standing.reloaded("refused")
    standing.tell(loop())
    standing.reloaded()
    standing.tell(loop())
    assert manager.heard[2:] == ["RELOADING=1", "READY=1", "STATUS=serving; refused", "READY=1", "STATUS=serving"]
