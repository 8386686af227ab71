"""A process is killed at every step of the outbox: no letter is lost, and a second copy comes from one step only."""

import multiprocessing
import os
import signal

import pytest

from spooldadd.mail.letter import Answer, Fate
from spooldadd.mail.outbox import REFUSED, SENT, Outbox, Parcel
from spooldadd.mail.transport import Maildir

pytestmark = pytest.mark.slow

PARCEL = Parcel("file", "jobs@example.org", ("ops@example.org",), b"Message-ID: <one@example.org>\r\n\r\ntext\r\n")
STEPS = ("written", "put", "before-sending", "sent", "marked", "filed")


class ToFile:
    """Counts what was handed over in a file, because the process that hands over dies."""

    def __init__(self, path):
        self.path = path

    def send(self, letter):
        with open(self.path, "a") as stream:
            stream.write(letter.id + "\n")
        return dict.fromkeys(letter.recipients, Answer(Fate.SENT))

    @property
    def sent(self):
        return open(self.path).read().split() if os.path.exists(self.path) else []


def _put_and_flush(directory, transport, deadly):
    def at(step):
        if step == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    outbox = Outbox(directory, at=at)
    outbox.put(PARCEL)
    outbox.flush({"file": transport})


def die_at(step, directory, transport):
    child = multiprocessing.get_context("fork").Process(target=_put_and_flush, args=(directory, transport, step))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("step", STEPS)
def test_a_letter_survives_the_death_of_its_sender_at(step, tmp_path):
    directory, transport = str(tmp_path / "outbox"), ToFile(str(tmp_path / "sent"))
    die_at(step, directory, transport)
    outbox = Outbox(directory)
    outbox.flush({"file": transport}, is_forced=True)
    expected = {"written": 0, "sent": 2}.get(step, 1)  # `written`: nothing was promised; `sent`: the documented second copy
    assert len(transport.sent) == expected
    assert outbox.entries("waiting", REFUSED) == []
    assert len(outbox.entries(SENT)) == (0 if step == "written" else 1)


@pytest.mark.parametrize("step", STEPS[1:])
def test_a_maildir_takes_a_letter_once_wherever_its_sender_died(step, tmp_path):
    directory, transport = str(tmp_path / "outbox"), Maildir(str(tmp_path / "Maildir"))
    die_at(step, directory, transport)
    Outbox(directory).flush({"file": transport}, is_forced=True)
    assert len(os.listdir(tmp_path / "Maildir" / "new")) == 1


def _flush_all(directory, path, start):
    start.wait(30)
    Outbox(directory, sync=False).flush({"file": ToFile(path)})


def test_processes_that_flush_at_once_send_each_letter_once(tmp_path):
    directory, path = str(tmp_path / "outbox"), str(tmp_path / "sent")
    outbox = Outbox(directory, sync=False)
    names = sorted(outbox.put(PARCEL) for _ in range(60))
    context = multiprocessing.get_context("fork")
    start = context.Event()
    flushers = [context.Process(target=_flush_all, args=(directory, path, start)) for _ in range(4)]
    for each in flushers:
        each.start()
    start.set()
    for each in flushers:
        each.join(60)
        assert each.exitcode == 0
    assert sorted(ToFile(path).sent) == names
    assert len(outbox.entries(SENT)) == 60
