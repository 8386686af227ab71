"""Many supervisors report failures at once: what arrives in a Maildir is a handful of mails that account for all."""

import datetime
import email
import email.policy
import multiprocessing
import re

import pytest

from spooldadd.erroremail import Mailbox
from spooldadd.mail.cause import find_cause
from spooldadd.mail.compose import Composer, Letterhead
from spooldadd.mail.events import Failure, Recovery
from spooldadd.mail.flood import Fact, Rules, Verdict, timestamp
from spooldadd.mail.ledger import Ledger
from spooldadd.mail.outbox import Outbox, Parcel
from spooldadd.mail.redact import redactor_for
from spooldadd.mail.result import Result
from spooldadd.mail.transport import Maildir

PROCESSES, EACH = 4, 250
ERRORS = ("ValueError: bad day {}", "KeyError: 'row-{}'", "OSError: disk {} is full")


class Notifier:
    """The pieces put together as the daemon will."""

    def __init__(self, directory, now_s):
        self.now_s = now_s
        self.ledger = Ledger(f"{directory}/state", Rules(), now=lambda: self.now_s, sync=False)
        self.outbox = Outbox(f"{directory}/outbox", sync=False)
        self.transports = {"ops": Maildir(f"{directory}/Maildir", sync=False)}
        self.composer = Composer()
        self.hide = redactor_for(secrets=["planted-secret"])

    def fail(self, result, log):
        cause = find_cause(result, self.hide(log))
        with self.ledger.session() as session:
            if session.fail(Fact(result.name, result.job, cause)) is Verdict.SEND:
                self.put(Failure(result, cause, log_tail=log))

    def succeed(self, result):
        with self.ledger.session() as session:
            verdict, failing = session.succeed(result.name)
            if verdict is Verdict.SEND and failing is not None:
                self.put(Recovery(result, timestamp(failing.since_s), failing.failures, failing.cause))

    def tell(self):
        with self.ledger.session() as session:
            for event in session.tell():
                self.put(event)

    def put(self, event):
        head = Letterhead(
            Mailbox("", "jobs@example.org"),
            (Mailbox("", "ops@example.org"),),
            "etl-1",
            datetime.datetime.fromtimestamp(self.now_s, datetime.UTC),
        )
        data = self.composer.compose(event, head, self.hide).as_bytes()
        self.outbox.put(Parcel("ops", "jobs@example.org", ("ops@example.org",), data))


def _fail_often(directory, first):
    notifier = Notifier(directory, 1_800_000_000.0)
    for number in range(first, first + EACH):
        name = f"job {number % 5}"
        error = ERRORS[number % 3].format(number)
        step = f'  File "/w/{number}/load.py", line {number}, in load'
        log = f"planted-secret\nTraceback (most recent call last):\n{step}\n{error}\n"
        notifier.fail(Result(f"{name}.{number}", name, "exit", exit_code=1), log)
        notifier.outbox.flush(notifier.transports)


@pytest.mark.slow
def test_a_thousand_failures_of_three_causes_are_a_handful_of_mails_and_then_one_recovery_each(tmp_path):
    directory = str(tmp_path)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fail_often, args=(directory, index * EACH)) for index in range(PROCESSES)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(120)
        assert each.exitcode == 0
    later = Notifier(directory, 1_800_003_700.0)
    later.tell()
    for number in range(5):
        later.succeed(Result(f"job {number}.ok", f"job {number}", "success"))
    later.outbox.flush(later.transports)

    texts = [path.read_bytes() for path in (tmp_path / "Maildir/new").iterdir()]
    mails = [email.message_from_bytes(text, policy=email.policy.default) for text in texts]
    kinds = [mail["X-Spooldadd-Event"] for mail in mails]
    assert sorted(kinds) == ["digest"] + ["failure"] * 3 + ["recovery"] * 5
    (digest,) = [mail for mail in mails if mail["X-Spooldadd-Event"] == "digest"]
    counted = sum(int(count) for count in re.findall(r"^(\d+) x ", digest.get_body(("plain",)).get_content(), re.M))
    assert counted + 3 == PROCESSES * EACH
    assert not any(b"planted-secret" in text for text in texts)
    assert b"planted-secret" not in (tmp_path / "state/flood.json").read_bytes()
    assert len({mail["Message-ID"] for mail in mails}) == 9
