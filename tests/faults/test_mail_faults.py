"""Whoever dies between the end of a job and its mail, the mail comes, and comes once."""

from __future__ import annotations

import os
import signal

import pytest

from spooldadd import claim, names, notice, process, spool
from spooldadd.config import load
from spooldadd.layout import Layout
from spooldadd.log import Log
from spooldadd.mail import ledger, notifier, outbox
from tests.e2e.mail_node import configure, kinds, mails, wait_mails
from tests.support import stop, until

LONG = 'command = "until test -e {go}; do sleep 0.05; done; echo error: went wrong; exit 1"'


class Died(BaseException):
    """Stands for a kill at this very place: nothing that catches exceptions goes on after it."""


@pytest.fixture
def node(make_node):
    node = make_node(durability="process")
    configure(node)
    return node


def start_long(node):
    """Start a job that fails when `go` is there; return that path and its supervisor."""
    go = node.spool.parent / "go"
    node.drop("long.toml", LONG.format(go=go))
    until(lambda: "event=started" in node.said(), "it runs")
    table = next(node.spool.glob(".spool/locks/long.*.lock")).read_text()
    return go, int(table.split("supervisor_pid = ")[1].split()[0])


def test_the_worker_is_killed_before_the_job_ends_and_its_supervisor_sees_to_the_mail(node):
    worker = node.start()
    go, supervisor = start_long(node)
    worker.kill()
    worker.wait()
    go.touch()
    (mail,) = wait_mails(node, 1)
    assert mail["X-Spooldadd-Name"] == "long"
    until(lambda: not process.is_alive(supervisor, process.start_ticks(supervisor) or 0), "the supervisor is gone")
    node.drain()
    assert kinds(node) == ["failure"]


def test_the_worker_is_killed_between_filing_and_mail_and_the_next_one_sends_it(node):
    node.environ["SPOOLDADD_INTAKE__SETTLE"] = "0.1s"
    worker = node.start()
    go, supervisor = start_long(node)
    stop(worker.pid)  # it hears of nothing any more
    go.touch()
    node.wait_finished("long")
    os.kill(supervisor, signal.SIGKILL)
    worker.kill()
    worker.wait()
    assert len(list(node.spool.glob(".spool/notify/*/long.*"))) == 1 and mails(node) == []
    node.start()
    wait_mails(node, 1)
    until(lambda: not list(node.spool.glob(".spool/notify/*/*")), "the word is taken")
    node.drain()
    assert kinds(node) == ["failure"]


def test_a_record_with_a_result_that_nobody_filed_is_filed_and_mailed(node):
    node.environ["SPOOLDADD_INTAKE__SETTLE"] = "0.1s"
    worker = node.start()
    _, supervisor = start_long(node)
    worker.kill()
    worker.wait()
    (record,) = node.records("running")
    pid = int(next(node.spool.glob(".spool/locks/long.*.lock")).read_text().split("job_pid = ")[1].split()[0])
    os.kill(supervisor, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    parsed = names.parse_record_name(record.name)
    text = f'schema = 1\njob = "{parsed.job}"\nname = "long"\nstate = "failed"\noutcome = "exit"\n'
    (record / "result.toml").write_text(text + 'reason = "planted"\nattempt = 1\n')
    node.drain()
    (mail,) = wait_mails(node, 1)
    assert "planted" in mail["Subject"]


def test_a_notifier_that_cannot_run_costs_a_later_mail_only(node):
    """As when the installed package is replaced: the job is filed, and the mail comes with the next notifier that works."""
    config = node.spool.parent / "worker.toml"
    good = config.read_text()
    node.start()
    until(lambda: list(node.spool.parent.glob("mail/spools/*/next")), "the first notifier has ended")
    config.write_text("jobs = [")
    node.drop("bad.toml", 'command = "echo error: x; exit 1"')
    node.wait_finished("bad")
    until(lambda: "the notifier ended with 78" in node.said(), "the worker heard of it")
    assert mails(node) == []
    config.write_text(good)
    node.drop("other.toml", 'command = "echo error: y; exit 1"')
    assert {mail["X-Spooldadd-Name"] for mail in wait_mails(node, 2)} == {"bad", "other"}


STEPS = [
    (outbox.Outbox, "put"),
    (ledger.Ledger, "_write"),
    (notifier.durable, "unlink_if_there"),
    (outbox.Outbox, "flush"),
    (outbox.Outbox, "_file"),
]


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[step for _, step in STEPS])
def test_a_notifier_that_dies_at_any_step_loses_nothing_and_doubles_nothing(node, monkeypatch, owner, step, is_after):
    for second, name in enumerate(("one", "two")):
        file_failed(node, name, second)
    the_spool = spool.open_spool(str(node.spool), claim.Holder("n"))
    config = load(node.environ["SPOOLDADD_CONFIG"], environ={**node.environ, "SPOOLDADD_NODE": "n"})
    original = getattr(owner, step)

    def die(*arguments, **options):
        if is_after:
            original(*arguments, **options)
        raise Died

    monkeypatch.setattr(owner, step, die)
    with pytest.raises(Died):
        notifier.Notifier(config, the_spool, Log(2, level="warning"), {}).run()
    monkeypatch.undo()
    for _ in range(2):
        notifier.Notifier(config, the_spool, Log(2, level="warning"), {}).run(is_forced=True)
    assert kinds(node) == ["failure"]
    (state,) = node.spool.parent.glob("mail/spools/*/readers/*/flood.json")
    assert state.read_text().count('"failures": 1') == 2 and '"count": 1' in state.read_text()
    assert not list(node.spool.glob(".spool/notify/*/*"))


def file_failed(node, name: str, second: int) -> None:
    """Make a failed record and the word that its supervisor left, as they are when a notifier begins."""
    job = f"{name}.20261121T10150{second}Z.bcdfg"
    record = node.spool / "failed" / job
    record.mkdir()
    (record / "spec.toml").write_text('command = "exit 1"\n')
    (record / "output.log").write_text("error: the same\n")
    (record / "result.toml").write_text(
        f'schema = 1\njob = "{job}"\nname = "{name}"\nqueue = "default"\nstate = "failed"\noutcome = "exit"\n'
        f'reason = "it ended with exit code 1"\nattempt = 1\nexit_code = 1\nfinished_at = 2026-11-21T10:15:0{second}Z\n'
    )
    notice.leave(Layout(str(node.spool)), "n", f"{job}.1.bcdfg", sync=False)
