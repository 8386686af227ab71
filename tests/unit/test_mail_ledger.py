"""The state of the flood rules on disk: shared, kept over restarts, and never in the way of a mail."""

import json
import multiprocessing

import pytest

from spooldadd.mail.cause import Cause
from spooldadd.mail.events import Digest
from spooldadd.mail.flood import HOUR_S, Fact, Rules, State, Verdict
from spooldadd.mail.ledger import Ledger, state_from_table, table_from_state

FACT = Fact("nightly", "nightly.1", Cause("a", "label"))


class Clock:
    now_s = 1_800_000_000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(tmp_path, clock):
    return Ledger(str(tmp_path / "mail"), now=clock, sync=False)


def fail(ledger, fact=FACT):
    with ledger.session() as session:
        return session.fail(fact)


def test_what_one_session_decided_the_next_knows(ledger, tmp_path, clock):
    assert fail(ledger) is Verdict.SEND
    assert fail(Ledger(str(tmp_path / "mail"), now=clock)) is Verdict.COUNT
    clock.now_s += HOUR_S
    with ledger.session() as session:
        assert session.next_due_s() is not None
        (digest,) = session.tell()
        assert isinstance(digest, Digest) and digest.count == 1
        assert session.succeed("nightly")[0] is Verdict.SEND


def test_a_session_that_fails_decides_nothing(ledger):
    with pytest.raises(RuntimeError), ledger.session() as session:
        assert session.fail(FACT) is Verdict.SEND
        raise RuntimeError("the outbox is full")
    assert fail(ledger) is Verdict.SEND


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"schema": 2}', b'{"schema": 1}', b"\x00" * 50, b'{"schema":1,"causes":[]}']
)
def test_a_state_that_cannot_be_read_is_put_aside_and_mails_go_on(ledger, tmp_path, data):
    fail(ledger)
    (tmp_path / "mail" / "flood.json").write_bytes(data)
    assert fail(ledger) is Verdict.SEND
    assert (tmp_path / "mail" / "flood.json.broken").read_bytes() == data


def test_the_state_goes_to_disk_and_back_unchanged(ledger):
    for number in range(30):
        fail(ledger, Fact(f"name {number}", f"job {number}", Cause(f"cause {number % 25}", "lä\nbel")))
    with ledger.session() as session:
        session.succeed("name 3")
        state = session.state
    assert ledger.read() == state
    assert state_from_table(json.loads(json.dumps(table_from_state(state)))) == state != State()


def _fail_often(directory, count, sent):
    ledger = Ledger(directory, Rules(), sync=False)
    for number in range(count):
        if fail(ledger, Fact(f"name {number}", "job", Cause(f"cause {number % 3}", "label"))) is Verdict.SEND:
            with sent.get_lock():
                sent.value += 1


def test_many_processes_together_send_one_mail_of_each_cause(tmp_path):
    sent = multiprocessing.Value("i", 0)
    processes = [multiprocessing.Process(target=_fail_often, args=(str(tmp_path), 50, sent)) for _ in range(4)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(60)
        assert each.exitcode == 0
    assert sent.value == 3
    state = Ledger(str(tmp_path)).read()
    assert sum(known.counted.count for known in state.causes.values()) == 197
