"""That the mail is valid and harmless, whatever stands in it."""

import email
import email.policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd.erroremail import clip, compose, draft_error, draft_text, one_line, parse_settings, without_ansi

CONFIG = {"SERVER": "localhost", "TO": ["Ägidius <ops@example.org>", "dev@example.org"], "FROM": "Jobs <jobs@example.org>"}


def mail_of(error=None, *, extra=None, held=0, **changes):
    """Compose, put on the wire, check what every wire wants, and parse back."""
    config = parse_settings({**CONFIG, **changes})
    data = compose(config, draft_error(error or ValueError("bad day"), config, extra or {}), held).as_bytes()
    assert max(map(len, data.split(b"\r\n"))) <= 998
    assert b"\n" not in data.replace(b"\r\n", b"") and b"\r" not in data.replace(b"\r\n", b"")
    read = email.message_from_bytes(data, policy=email.policy.default)
    for part in read.walk():
        assert part.defects == []
    return read


def test_the_headers_say_who_when_and_that_no_person_wrote_it():
    mail = mail_of()
    assert mail["Subject"] == "ErrorEmail: ValueError: bad day"
    assert mail["From"].addresses[0].addr_spec == "jobs@example.org"
    assert mail["To"].addresses[0].display_name == "Ägidius"
    assert [each.addr_spec for each in mail["To"].addresses] == ["ops@example.org", "dev@example.org"]
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime.utcoffset().total_seconds() == 0
    assert mail["Message-ID"].endswith("@example.org>")
    assert mail["MIME-Version"] == "1.0"
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


def test_the_subject_takes_the_message_the_extra_values_and_a_few_of_our_own():
    mail = mail_of(SUBJECT="[{queue}] {type} {message}", extra={"queue": "etl"})
    assert mail["Subject"] == "[etl] ValueError ValueError: bad day"


@pytest.mark.parametrize("template", ["{nope} {message}", "{message!x}", "{message", "{0}", "{message.__class__.y}", "{}"])
def test_a_mistake_in_the_subject_costs_no_mail(template):
    assert mail_of(SUBJECT=template)["Subject"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x00"])
def test_no_line_break_of_any_kind_gets_into_a_header(end):
    error = ValueError(f"bad{end}Bcc: all@example.org{end}{end}body")
    mail = mail_of(error, SUBJECT=f"{{message}} {{queue}}{end}X: y", extra={"queue": f"etl{end}Cc: a@example.org"})
    assert mail["Bcc"] is None and mail["Cc"] is None and mail["X"] is None
    assert "Bcc: all@example.org" in mail["Subject"]


def test_an_encoded_word_in_a_message_is_not_decoded_into_a_line_break():
    mail = mail_of(ValueError("=?utf-8?q?a=0D=0ABcc:_all@example.org?="), SUBJECT="{message} =?utf-8?q?=0D=0AX:_y?=")
    assert mail["Bcc"] is None and mail["X"] is None
    assert "= ?utf-8?q?a=0D=0ABcc" in mail["Subject"]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_message_gives_a_valid_mail_whose_subject_comes_back(text):
    mail = mail_of(ValueError(text))
    assert len(mail["Subject"]) <= 320
    shown = mail.get_body(("plain",)).get_content()
    assert "ValueError" in shown


@pytest.mark.parametrize(
    "text",
    [
        "ä" * 500,
        "x" * 5000,
        "日本語のとても長い題名 " * 30,
        "\ud800 alone",
        "\U0001f525" * 200,
    ],
)
def test_long_and_foreign_subjects_survive(text):
    subject = mail_of(ValueError(text))["Subject"]
    assert subject.startswith("ErrorEmail: ValueError: ")
    if "\ud800" not in text:
        assert subject.removeprefix("ErrorEmail: ValueError: ")[:20].replace(" ", "") == text[:20].replace(" ", "")


def test_long_lines_and_control_characters_stay_within_the_limits_of_the_wire():
    mail = mail_of(ValueError("long " + "y" * 10_000 + "\x1b[31mred\x00\x07\u202e"))
    text = mail.get_body(("plain",)).get_content()
    assert "y" * 5_000 in text
    assert "\x00" not in text and "\x1b" not in text and "\u202e" not in text


def test_markup_in_a_message_is_text():
    html = mail_of(ValueError("<script>alert(1)</script>&amp;")).get_body(("html",)).get_content()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;" in html


def test_addresses_outside_ascii_make_a_mail_for_smtputf8():
    config = parse_settings({**CONFIG, "TO": "Zoë <zoë@exämple.org>"})
    data = compose(config, draft_text("title", "text", config, {})).as_bytes()
    assert "zoë@xn--exmple-cua.org".encode() in data
    read = email.message_from_string(data.decode(), policy=email.policy.SMTPUTF8)
    assert read["To"].addresses[0].username == "zoë"


def test_a_long_sender_domain_does_not_break_the_ids():
    domain = ".".join(["sub" * 15] * 3) + ".example.org"
    mail = mail_of(FROM=f"jobs@{domain}")
    assert mail["Message-ID"].endswith("@erroremail.invalid>")
    assert "=?" not in mail["References"]


def test_held_back_failures_are_told_in_both_parts():
    mail = mail_of(held=17)
    for kind in ("plain", "html"):
        assert "17 earlier failures were not mailed" in mail.get_body((kind,)).get_content()


def test_terminal_codes_and_overwritten_progress_are_removed():
    text = "\x1b[1;31mred\x1b[0m 10%\r20%\r\n\x1b]0;title\x07done \x1b(B\x1b]8;;x\x1b\\link\nlast\r"
    assert without_ansi(text) == "20%\ndone link\nlast"


def test_a_text_is_cut_in_the_middle_and_says_by_how_much():
    assert clip("a" * 10 + "b" * 10, 8) == "aaaa [... 12 characters left out ...] bbbb"
    assert clip("short", 8) == "short"


def test_one_line_is_one_line():
    assert len(one_line("a\nb\r\nc\u2028d\x85e\x1cf\x00g").splitlines()) == 1
