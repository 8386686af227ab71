"""A job that ends badly is one mail with the true reason, whatever ended it; and nobody waits for it."""

from __future__ import annotations

import gzip
import os
import signal
import time

import pytest

from tests.e2e.mail_node import Hook, configure, kinds, letters, maildir, mails, make_due, smtp, text_of, wait_mails
from tests.e2e.mail_servers import MailServer, ScriptedServer, free_port, hang
from tests.support import result_of, until

TRACE = 'command = ["python3", "-c", "def load(day): raise ValueError(\'bad day \' + str(day))\\nload(7)"]\n'
ENDS = {
    "segfault": ('command = "kill -SEGV $$"', ("SIGSEGV", "segmentation fault")),
    "memory": (
        'command = ["python3", "-c", "x = bytearray(300 << 20)\\nimport time\\ntime.sleep(60)"]\n[limits]\nmemory = "100M"',
        ("its `memory` limit is 100 MiB", "oom"),
    ),
    "build": ('command = "true"\n[[build]]\ncommand = "echo no compiler; exit 3"', ("build failed", "no compiler")),
    "mistaken": ('command = "true"\nnmae = "x"', ("did you mean `name`", "never started")),
    "timeout": (
        'command = "sleep 60"\n[limits]\ntimeout = "200ms"\nkill_after = "1s"',
        ("ran for longer than its limit `timeout`", "timeout"),
    ),
    "missing": ('command = ["no-such-program-1"]', ("was not found", "no-such-program-1")),
}


@pytest.fixture
def node(make_node):
    node = make_node(durability="process")
    configure(node)
    return node


def test_a_failing_job_is_one_mail_with_what_a_person_needs(node):
    node.start()
    node.drop("load.toml", TRACE)
    record = node.wait_finished("load")
    (mail,) = wait_mails(node, 1)
    text = text_of(mail)
    assert mail["To"] == "ops@example.org" and "load failed" in mail["Subject"]
    for part in ("ValueError: bad day 7", "exit code 1", record.name, str(record), "in load", f"retry {record.name}"):
        assert part in text, part
    assert result_of(record)["reason"] in text
    (log,) = list(mail.iter_attachments())
    assert gzip.decompress(log.get_content()) == (record / "output.log").read_bytes()
    assert "explain " + record.name in text and mail.get_body(("html",)) is not None
    node.run("explain", record.name)  # what the mail says to type


def test_each_way_to_end_is_its_own_mail_with_the_true_reason(node):
    node.start()
    for name, (spec, _) in ENDS.items():
        node.drop(f"{name}.toml", spec)
    found = {mail["X-Spooldadd-Name"]: mail for mail in wait_mails(node, len(ENDS))}
    for name, (_, parts) in ENDS.items():
        text = text_of(found[name])
        for part in parts:
            assert part in text, (name, part, text)
        assert result_of(node.finished(name))["reason"].split("\n")[0][:60] in text.replace("\n", " "), name


def test_a_killed_supervisor_is_a_mail_that_says_lost(node):
    node.start()
    node.drop("long.toml", 'command = "echo begun; exec sleep 600"')
    until(lambda: "event=started" in node.said(), "it runs")
    lock = next(node.spool.glob(".spool/locks/long.*.lock"))
    table = until(lambda: "job_pid = " in (text := lock.read_text()) and text, "its process is noted")
    pid = int(table.split("supervisor_pid = ")[1].split()[0])
    job = int(table.split("job_pid = ")[1].split()[0])
    os.kill(pid, signal.SIGKILL)
    os.kill(job, signal.SIGKILL)
    (mail,) = wait_mails(node, 1)
    assert mail["X-Spooldadd-Event"] == "lost"
    assert "ended without a result" in text_of(mail) and "begun" in text_of(mail)


def test_a_success_after_a_failure_is_one_recovery_and_later_ones_are_silent(node):
    node.start()
    flag = node.spool.parent / "flag"
    spec = f'name = "etl"\ncommand = "test -e {flag} || {{ echo error: no flag; exit 1; }}"\n'
    node.drop("first.toml", spec)
    wait_mails(node, 1)
    flag.touch()
    node.drop("second.toml", spec)
    recovery = wait_mails(node, 2)[1]
    assert recovery["X-Spooldadd-Event"] == "recovery" and "works again, after 1 failure" in text_of(recovery)
    assert recovery["References"] == mails(node)[0]["References"]
    until(lambda: not any(node.spool.parent.glob("mail/spools/*/failing/etl")), "nobody listens for successes any more")
    node.drop("third.toml", spec)
    until(lambda: len(node.records("done", "etl")) == 2, "it is done again")
    assert not list(node.spool.glob(".spool/notify/*/*"))
    assert kinds(node) == ["failure", "recovery"]


def test_what_changed_since_the_last_success_is_in_the_mail(node):
    node.start()
    node.drop("a.toml", 'name = "etl"\ncommand = "exit $CODE"\n[env]\nCODE = "0"\nAPI_TOKEN = "first-token-value"\n')
    until(lambda: node.records("done", "etl"), "it is done")
    node.drop("b.toml", 'name = "etl"\ncommand = "exit $CODE"\n[env]\nCODE = "3"\nAPI_TOKEN = "second-token-value"\n')
    (mail,) = wait_mails(node, 1)
    assert "spec.env.CODE: 0 -> 3" in text_of(mail)
    assert b"token-value" not in next(maildir(node).iterdir()).read_bytes()


def test_only_final_ends_are_mailed_and_cancelled_jobs_are_not(node):
    node.start()
    node.drop("tries.toml", 'command = "echo error: x; exit 1"\n[retry]\nattempts = 2\nbackoff = "200ms"\n')
    node.drop("stopped.toml", 'command = "sleep 600"')
    until(lambda: node.records("running", "stopped"), "it runs")
    node.run("cancel", "stopped")
    node.wait_finished("stopped")
    record = node.wait_finished("tries")
    assert (record / "attempts" / "1").exists()
    (mail,) = wait_mails(node, 1)
    assert "attempt       2" in text_of(mail)


def test_a_spec_and_a_queue_say_who_hears_of_what(node):
    configure(node, notify='[notify.queue.etl]\nemail = ["etl@example.org"]\n')
    node.start()
    node.drop("silent.toml", 'command = "exit 1"\n[notify]\non = []\n')
    node.drop("queue.toml", 'command = "echo error: one; exit 1"\nqueue = "etl"\n')
    node.drop("two.toml", 'command = "echo error: two; exit 1"\n[notify]\nemail = ["a@example.org", "Bö <b@example.org>"]\n')
    node.drop("every.toml", 'command = "true"\n[notify]\non = ["success"]\n')
    found = {mail["X-Spooldadd-Name"]: mail for mail in wait_mails(node, 3)}
    node.wait_finished("silent")
    assert found["queue"]["To"] == "etl@example.org"
    assert [box.addr_spec for box in found["two"]["To"].addresses] == ["a@example.org", "b@example.org"]
    assert found["every"]["X-Spooldadd-Event"] == "success"
    assert "silent" not in found


def test_a_webhook_gets_the_end_as_json(node):
    with Hook() as hook:
        configure(node, f'[transport.hook]\nkind = "webhook"\nurl = "{hook.url}"\n')
        node.start()
        node.drop("bad.toml", 'command = "echo error: x; exit 4"')
        until(lambda: hook.posted, "it was posted")
    (told,) = hook.posted
    assert (told["event"], told["result"]["name"], told["result"]["exit_code"]) == ("failure", "bad", 4)


def test_without_a_transport_a_wish_for_mail_is_a_warning(node):
    configure(node, "")
    node.start()
    node.drop("bad.toml", 'command = "exit 1"\n[notify]\nemail = ["a@example.org"]\n')
    node.wait_finished("bad")
    assert "event=mail-off" in node.said()
    assert not (node.spool / ".spool" / "notify").exists() and not (node.spool.parent / "mail").exists()


@pytest.mark.slow
def test_a_server_that_is_down_delays_no_job_and_gets_all_letters_once_when_it_is_back(node):
    port = free_port()
    configure(node, smtp(port))
    node.start()
    for number in range(5):
        node.drop(f"job{number}.toml", f'command = "echo error: cause {"abcde"[number] * 3}; exit 1"')
    for number in range(5):
        node.wait_finished(f"job{number}")
    until(lambda: node.said().count("event=mail-failed") >= 1, "it was tried")
    until(lambda: len(letters(node, "waiting")) == 5, "all wait")
    assert node.run("mail", "list").stdout.count(" waiting ") == 5
    with MailServer(port=port) as server:
        make_due(node)
        make_due(node)
        assert sorted(got.mail["X-Spooldadd-Name"] for got in server.deliveries) == [f"job{number}" for number in range(5)]
    assert node.run("mail", "list").stdout.count(" sent ") == 5


def test_a_server_that_hangs_delays_no_job(node):
    with ScriptedServer(hang) as server:
        configure(node, smtp(server.port, timeout_s=20))
        node.start()
        begun = time.monotonic()
        for number in range(8):
            node.drop(f"job{number}.toml", 'command = "echo error: x; exit 1"')
        for number in range(8):
            node.wait_finished(f"job{number}", 15)
        assert time.monotonic() - begun < 15
        worker = node.workers[0]
        worker.terminate()
        assert worker.wait(10) == 0


def test_mail_test_says_what_came_of_each_transport(node):
    configure(node, smtp(free_port()) + f'[transport.inbox]\nkind = "maildir"\ndirectory = "{maildir(node).parent}"\n')
    done = node.run("mail", "test", check=False)
    assert done.returncode == 1
    assert "waiting  ops (smtp)" in done.stdout and "sent     inbox (maildir)" in done.stdout
    (mail,) = mails(node)
    assert mail["X-Spooldadd-Event"] == "trial"


@pytest.mark.slow
def test_letters_are_listed_shown_and_sent_again(node):
    with MailServer() as server:
        server.handler.answers["ops@example.org"] = "550 5.1.1 no such user"
        configure(node, smtp(server.port))
        node.start()
        node.drop("bad.toml", 'command = "echo error: x; exit 1"')
        until(lambda: letters(node, "refused"), "it is refused")
        line = node.run("mail", "list").stdout
        assert "refused" in line
        assert "no such user" in line
        letter = line.split()[0]
        assert "bad failed" in node.run("mail", "show", letter).stdout
        server.handler.answers.clear()
        assert node.run("mail", "retry", letter).stdout.strip() == letter
        node.run("mail", "flush")
        assert len(server.deliveries) == 1
    assert node.run("mail", "show", "nothing", check=False).returncode == 1


def test_a_job_that_does_not_arrive_in_time_is_late(node):
    now = time.localtime(time.time() - 120)
    configure(node, notify=f'[notify.expect]\nnightly = "daily {now.tm_hour:02}:{now.tm_min:02} +30s"\n')
    node.run("mail", "flush")  # the expectation begins
    (path,) = node.spool.parent.glob("mail/spools/*/expected.json")
    path.write_text('{"nightly": 1.0}')  # as if the deadline before it had been the last that was looked at
    node.run("mail", "flush")
    node.run("mail", "flush")
    (mail,) = mails(node)
    assert mail["X-Spooldadd-Event"] == "late" and "nightly has not arrived" in text_of(mail)
