"""The mails of the daemon: what stands in them, that they are valid, and that they thread."""

import dataclasses
import datetime
import email
import email.policy
import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd.erroremail import Mailbox
from spooldadd.mail.cause import Cause
from spooldadd.mail.compose import Composer, Letterhead, kind_of, readable_duration, webhook_body
from spooldadd.mail.events import (
    Change,
    Digest,
    Failure,
    HeldBack,
    Late,
    Recovery,
    Repeat,
    Success,
    Trial,
    find_changes,
)
from spooldadd.mail.redact import redactor_for
from spooldadd.mail.result import Result
from tests.unit.test_mail_traceback import PYTHON

NOW = datetime.datetime(2026, 11, 21, 10, 15, tzinfo=datetime.UTC)
HEAD = Letterhead(Mailbox("Jobs", "jobs@example.org"), (Mailbox("Zoë", "ops@example.org"),), "etl-1", NOW)
RESULT = Result(
    job="nightly.20261121T101500Z.abcde",
    name="nightly",
    outcome="exit",
    queue="etl",
    state="failed",
    reason="it ended with exit code 137",
    exit_code=137,
    attempt=2,
    node="etl-1",
    started_at="2026-11-21T10:00:00Z",
    duration_s=754.0,
    max_rss_bytes=2_100_000_000,
)
CAUSE = Cause("0123456789ab", "ValueError: bad day")
FAILURE = Failure(
    result=RESULT,
    cause=CAUSE,
    log_tail="".join(f"line {number}\n" for number in range(500)) + PYTHON,
    record="/srv/spool/failed/nightly.20261121T101500Z.abcde",
    spec='command = ["python", "load.py"]\n',
    changes=(Change("requirements", "pandas 2.3.1", "pandas 2.3.2"), Change("env.TZ", "", "UTC")),
    last_success_at="2026-11-20T10:15:00Z",
    commands=("spooldadd logs nightly.20261121", "spooldadd retry nightly.20261121"),
)
REPEATS = (Repeat(CAUSE, 996, ("nightly", "hourly"), 3, "2026-11-21T10:00:00Z", "2026-11-21T10:01:00Z", "nightly.x"),)
EVENTS = [
    FAILURE,
    dataclasses.replace(FAILURE, result=dataclasses.replace(RESULT, outcome="lost", exit_code=None)),
    Recovery(RESULT, "2026-11-20T10:15:00Z", 3, CAUSE),
    Success(RESULT),
    Late("nightly", "did not arrive in time", "2026-11-21T06:00:00Z", "2026-11-20T06:10:00Z", ("spooldadd status",)),
    Digest(REPEATS),
    HeldBack(12, 20, REPEATS, ("hourly",)),
    Trial("root"),
]


def plain(text):
    return text


def mail_of(event, *, head=HEAD, hide=plain, directory=None):
    """Compose, put on the wire, check what every wire wants, and parse back."""
    data = Composer(directory).compose(event, head, hide).as_bytes()
    assert max(map(len, data.split(b"\r\n"))) <= 998
    read = email.message_from_bytes(data, policy=email.policy.default)
    assert all(part.defects == [] for part in read.walk())
    return read


def text_of(mail, kind="plain"):
    return mail.get_body((kind,)).get_content()


@pytest.mark.parametrize("event", EVENTS, ids=kind_of)
def test_every_kind_of_event_makes_a_valid_mail_with_two_parts(event):
    mail = mail_of(event)
    assert mail["Subject"].startswith("[etl-1] ")
    assert mail["To"].addresses[0].display_name == "Zoë"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["List-Id"] == "<spooldadd.etl-1.example.org>"
    assert mail["Date"].datetime == NOW
    assert mail["X-Spooldadd-Event"] == kind_of(event)
    for kind in ("plain", "html"):
        assert len(text_of(mail, kind)) > 50
        assert "{{" not in text_of(mail, kind) and "{%" not in text_of(mail, kind)
    assert "\n\n\n" not in text_of(mail)


@pytest.mark.parametrize("event", EVENTS, ids=kind_of)
def test_the_message_id_is_the_same_whenever_an_event_is_told(event):
    assert mail_of(event)["Message-ID"] == mail_of(event)["Message-ID"]
    ids = {mail_of(each)["Message-ID"] for each in EVENTS}
    assert len(ids) == len(EVENTS)


def test_a_failure_says_what_where_why_and_what_to_do():
    mail = mail_of(FAILURE)
    assert mail["Subject"] == "[etl-1] nightly failed: ValueError: bad day"
    for kind in ("plain", "html"):
        text = text_of(mail, kind)
        for words in (
            "it ended with exit code 137",
            "memory ran out",
            "2.1 GB",
            "12 min 34 s",
            "2026-11-20T10:15:00Z",
            "pandas 2.3.1",
            "pandas 2.3.2",
            "(absent)",
            "invalid literal for int()",
            "The traceback in output.log",
            "cleaning up",
            "line 499",
            "spooldadd retry nightly.20261121",
            "/srv/spool/failed/nightly.20261121T101500Z.abcde",
            "load.py",
        ):
            assert words in text, words
        assert "line 400\n" not in text


def test_the_end_of_the_log_is_attached_compressed_and_intact():
    (attachment,) = mail_of(FAILURE).iter_attachments()
    assert attachment.get_filename() == "output.log.gz"
    assert gzip.decompress(attachment.get_content()).decode() == FAILURE.log_tail


def test_a_failure_without_a_log_has_no_attachment_and_says_so():
    mail = mail_of(dataclasses.replace(FAILURE, log_tail=""))
    assert list(mail.iter_attachments()) == []
    assert "output.log is empty" in text_of(mail)


def test_a_log_of_control_characters_and_colours_is_shown_as_text():
    mail = mail_of(dataclasses.replace(FAILURE, log_tail="\x1b[31mred\x1b[0m\x00\x07\udcff\u202e 10%\r20%\r\nend"))
    assert "red\\x00\\x07\\udcff\\u202e 10%" not in text_of(mail)
    assert "20%" in text_of(mail) and "10%" not in text_of(mail)
    for kind in ("plain", "html"):
        assert not set("\x1b\x00\x07\u202e") & set(text_of(mail, kind))


def test_half_a_line_at_the_beginning_of_a_log_that_was_cut_is_not_shown():
    mail = mail_of(dataclasses.replace(FAILURE, log_tail="half-of-a-secret\nwhole line\n", is_log_cut=True))
    assert "half-of-a-secret" not in text_of(mail) and "whole line" in text_of(mail)


def test_failures_of_one_name_and_cause_thread_and_their_recovery_joins_them():
    again = dataclasses.replace(FAILURE, result=dataclasses.replace(RESULT, job="nightly.other"))
    other = dataclasses.replace(FAILURE, cause=Cause("other", "x"))
    threads = [mail_of(event)["References"] for event in (FAILURE, again, EVENTS[2], other)]
    assert threads[0] == threads[1] == threads[2] != threads[3]
    assert mail_of(again)["Message-ID"] != mail_of(FAILURE)["Message-ID"]


def test_a_planted_secret_is_in_no_part_of_any_mail():
    hide = redactor_for({"DB_PASSWORD": "hunter2secret"}, secrets=["file-secret"])
    bad = "hunter2secret and file-secret and https://u:url-secret@example.org"
    failure = dataclasses.replace(
        FAILURE,
        result=dataclasses.replace(RESULT, reason=bad),
        cause=Cause("x", bad),
        log_tail=f"{bad}\n" + "x\n" * 500 + bad,
        spec=f'api_token = "spec-secret"\n# {bad}',
        changes=(Change("env", bad, bad),),
        commands=(bad,),
    )
    for event in (failure, Recovery(failure.result, "", 1, failure.cause), Digest((Repeat(failure.cause, 1, (bad,)),))):
        mail = mail_of(event, hide=hide)
        attached = [gzip.decompress(part.get_content()).decode() for part in mail.iter_attachments()]
        for text in (mail["Subject"], text_of(mail), text_of(mail, "html"), *attached):
            for secret in ("hunter2secret", "file-secret", "url-secret", "spec-secret"):
                assert secret not in text
        assert not any(secret in webhook_body(event, "etl-1", hide).decode() for secret in ("hunter2secret", "url-secret"))


HOSTILE = st.text(max_size=80) | st.sampled_from(["a\nBcc: x@example.org", "=?utf-8?q?a=0ABcc:x?=", "{{ 7*7 }}", "<script>"])


@settings(max_examples=40, deadline=None)
@given(HOSTILE, HOSTILE, HOSTILE)
def test_no_text_of_a_job_breaks_a_mail(name, reason, log):
    result = Result(job=name or "j", name=name, outcome="exit", reason=reason, exit_code=1)
    mail = mail_of(Failure(result, Cause("c", reason), log_tail=log, log_name=name, changes=(Change(name, reason, log),)))
    assert mail["Bcc"] is None
    assert "<script>" not in text_of(mail, "html")
    assert "49" not in mail["Subject"] or "49" in name + reason


def test_a_foreign_node_name_and_a_long_domain_make_valid_headers():
    head = Letterhead(Mailbox("", f"jobs@{'x' * 60}.example.org"), HEAD.recipients, "Büro 7 (links)\nX: y", NOW)
    mail = mail_of(FAILURE, head=head)
    assert mail["X"] is None
    assert mail["List-Id"] == "<spooldadd.b-ro-7-links-x-y.spooldadd.invalid>"


def test_an_operators_template_is_used_and_may_include_ours(tmp_path):
    (tmp_path / "failure.subject").write_text("OPS {{ result.name | upper }}")
    (tmp_path / "facts.txt").write_text("our own facts: {{ facts | length }}\n")
    mail = mail_of(FAILURE, directory=str(tmp_path))
    assert mail["Subject"] == "OPS NIGHTLY"
    assert "our own facts" in text_of(mail)


@pytest.mark.parametrize(
    "template", ["{{ nope }}", "{% if %}", "{{ result.name.x.y }}", "{% include 'nope.txt' %}", "{{ 1/0 }}"]
)
def test_a_mistake_in_an_operators_template_costs_no_mail_and_is_told(tmp_path, template):
    (tmp_path / "failure.txt").write_text(template)
    text = text_of(mail_of(FAILURE, directory=str(tmp_path)))
    assert "memory ran out" in text
    assert "the template `failure.txt` cannot be used" in text


def test_a_template_cannot_reach_into_the_program(tmp_path):
    (tmp_path / "failure.txt").write_text("{{ result.__class__.__mro__ }}")
    assert "cannot be used" in text_of(mail_of(FAILURE, directory=str(tmp_path)))


def test_a_webhook_gets_the_fields_but_not_the_log():
    table = json.loads(webhook_body(FAILURE, "etl-1", plain))
    assert (table["schema"], table["event"], table["node"]) == (1, "failure", "etl-1")
    assert table["result"]["job"] == RESULT.job and table["cause"]["id"] == CAUSE.id
    assert "log_tail" not in table


def test_changes_are_what_differs_with_the_path_of_keys():
    before = {"command": ["a"], "env": {"TZ": "UTC", "A": "1"}, "vars": {}}
    after = {"command": ["b"], "env": {"TZ": "UTC"}, "vars": {"day": 3}}
    assert find_changes(before, after) == (
        Change("command", "['a']", "['b']"),
        Change("env.A", "1", ""),
        Change("vars.day", "", "3"),
    )
    assert find_changes(before, before) == ()


def test_durations_are_readable():
    assert [readable_duration(each) for each in (None, 1.26, 61, 7384.0)] == ["", "1.3 s", "1 min 1 s", "2 h 3 min"]
