"""A mail server that is down, hangs or says later: the letters wait, and arrive once when it is back."""

import time

from spooldadd.erroremail import Server
from spooldadd.mail.outbox import REFUSED, SENT, WAITING, Outbox, Parcel
from spooldadd.mail.transport import Smtp
from tests.e2e.mail_servers import MailServer, ScriptedServer, free_port, hang


class Clock:
    now_s = 1_800_000_000.0

    def __call__(self):
        return self.now_s


def outbox_of(tmp_path, count):
    outbox = Outbox(str(tmp_path / "outbox"), now=Clock(), sync=False)
    for number in range(count):
        data = f"Message-ID: <{number}@example.org>\r\nSubject: {number}\r\n\r\ntext\r\n".encode()
        outbox.put(Parcel("ops", "jobs@example.org", ("ops@example.org",), data))
    return outbox


def ops(port, timeout_s=5.0):
    return {"ops": Smtp(Server("127.0.0.1", port), timeout_s)}


def subjects(server):
    return sorted(int(got.mail["Subject"]) for got in server.deliveries)


def test_letters_of_an_outage_arrive_once_when_the_server_is_back(tmp_path):
    outbox, port = outbox_of(tmp_path, 20), free_port()
    for _ in range(3):
        assert len(outbox.flush(ops(port)).waiting) == 20
        outbox._now.now_s += 61
    with MailServer(port=port) as server:
        assert len(outbox.flush(ops(port), is_forced=True).sent) == 20
        assert outbox.flush(ops(port), is_forced=True).sent == ()
        assert subjects(server) == list(range(20))
    assert len(outbox.entries(SENT)) == 20 and outbox.entries(WAITING, REFUSED) == []


def test_a_hanging_server_costs_one_time_limit_and_not_one_for_each_letter(tmp_path):
    outbox = outbox_of(tmp_path, 50)
    with ScriptedServer(hang) as server:
        begun = time.monotonic()
        assert len(outbox.flush(ops(server.port, timeout_s=0.5)).waiting) == 50
        assert time.monotonic() - begun < 5
    with MailServer() as server:
        outbox.flush(ops(server.port), is_forced=True)
        assert subjects(server) == list(range(50))


def test_a_server_that_says_later_gets_the_letter_later(tmp_path):
    outbox = outbox_of(tmp_path, 1)
    with MailServer() as server:
        server.handler.answers["ops@example.org"] = "450 4.7.1 greylisted"
        assert len(outbox.flush(ops(server.port)).waiting) == 1
        server.handler.answers.clear()
        assert len(outbox.flush(ops(server.port)).waiting) == 1 and server.deliveries == []
        outbox._now.now_s += 61
        assert len(outbox.flush(ops(server.port)).sent) == 1
        assert subjects(server) == [0]


def test_a_server_that_refuses_for_good_leaves_its_answer_with_the_letter(tmp_path):
    outbox = outbox_of(tmp_path, 1)
    with MailServer() as server:
        server.handler.data_answers = ["554 5.7.1 looks like spam"]
        outbox.flush(ops(server.port))
    (entry,) = outbox.entries(REFUSED)
    assert "looks like spam" in entry.answers["ops@example.org"].text
