"""That secrets are hidden by name, by value and by shape, and that ordinary text stays as it is."""

import base64
import contextlib
import email
import email.policy
import time
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd.erroremail import HIDDEN, ErrorEmail, Redactor, compose, draft_error, parse_settings, secret_values

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAabcdefgh\nqrstuvwx12345678\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("postgres://etl:hunter2@db.example.org/dwh", "hunter2"),
        ("redis://:hunter2@cache.example.org", "hunter2"),
        ("amqp://a:p@ss:w0rd@mq.example.org//", "w0rd"),
        ("https://ghtoken123456@git.example.org/x", "ghtoken123456"),
        ("GET /x?api_key=hunter2&day=1", "hunter2"),
        ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
        ("sent bearer abcdef0123456789==", "abcdef0123456789"),
        ("{'Authorization': 'Basic aHVudGVyMjpodW50ZXIy'}", "aHVudGVyMjpodW50ZXIy"),
        ("Cookie: session=hunter2; theme=dark", "hunter2"),
        ("Set-Cookie: id=hunter2", "hunter2"),
        ("key AKIAIOSFODNN7EXAMPLE here", "AKIAIOSFODNN7EXAMPLE"),
        ("and wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY here", "wJalrXUtnFEMI"),
        (PEM, "MIIEowIBAAKCAQEAabcdefgh"),
        (repr(PEM), "MIIEowIBAAKCAQEAabcdefgh"),
        (PEM[:60], "MIIEowIBAAKCAQEA"),
        (PEM[40:], "qrstuvwx12345678"),
        (f"got {JWT}.", "eyJzdWIiOiIxMjM0NTY3ODkwIn0"),
        ("password=hunter2", "hunter2"),
        ("DB_PASSWORD: hunter2", "hunter2"),
        ("{'password': 'hunter2', 'user': 'etl'}", "hunter2"),
        ('{"api_key": "hun\\"ter2"}', "ter2"),
        ("Config(secret_key=b'hunter2')", "hunter2"),
        ("os.environ['TOKEN'] = 'hunter2'", "hunter2"),
        ("dbPassword => hunter2", "hunter2"),
        ("load --password hunter2 --day 1", "hunter2"),
        ("load --api-token=hunter2", "hunter2"),
        ("curl -u etl:hunter2 example.org", "hunter2"),
        ("auth=('etl', 'hunter2')", "hunter2"),
        ("pass='hunter2'", "hunter2"),
        ("smtp_pass: hunter2", "hunter2"),
        ("ghp_" + "a1B2" * 9, "a1B2a1B2"),
        ("xoxb-1234567890-abcdef", "1234567890-abcdef"),
    ],
)
def test_a_secret_is_hidden_by_its_shape(text, secret):
    hidden = Redactor()(text)
    assert secret not in hidden
    assert HIDDEN in hidden
    assert Redactor()(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org:8080/path?day=2026-11-20",
        "ssh://git@git.example.org/repo",
        "commit fd1f30612c7b4a7e9a5d2f7a1b0c3d4e5f60718a",
        "12 passed, 1 failed in 0.5s",
        "the author: Jane",
        "def login(user: str, password: str) -> None:",
        "login(password=None)",
        "compass = 3",
        "if token == other:",
        "/usr/lib/python3.11/site-packages/x.py",
        "PASS: test_load",
        "tokenizer ready",
    ],
)
def test_ordinary_text_stays_as_it_is(text):
    assert Redactor()(text) == text


def test_a_value_is_hidden_in_all_the_ways_in_which_it_may_be_written():
    value = 'pä"ss wörd\\&1'
    hide = Redactor(values=[value])
    for written in (
        value,
        repr(value),
        urllib.parse.quote(value),
        urllib.parse.quote_plus(value),
        base64.b64encode(value.encode()).decode(),
    ):
        assert "rd" not in hide(f"<<{written}>>"), written


@given(st.text(min_size=4).filter(lambda text: len(text.strip()) >= 4), st.text(), st.text())
def test_a_learned_value_never_survives(value, before, after):
    hide = Redactor(values=[value])
    stripped = value.strip()
    if stripped.lower() not in ("true", "false", "none", "null", "string", "bytes", "optional", "default", "required"):
        assert stripped not in hide(f"{before} {value} {after}").replace(HIDDEN, "")


def test_short_and_plain_values_are_not_looked_for():
    hide = Redactor(values=["abc", "true", "None", ""])
    assert hide("abc true None") == "abc true None"


def test_further_names_may_have_stars():
    hide = Redactor(["kunden*", "PIN_CODE"])
    assert hide.is_secret_name("KUNDENNUMMER") and hide.is_secret_name("pin_code")
    assert not hide.is_secret_name("name")
    assert hide("kundennr=12345 pin_code: 9911 name=x") == f"kundennr={HIDDEN} pin_code: {HIDDEN} name=x"


@pytest.mark.parametrize("name", ["password", "DB_PASSWORD", "apiKey", "access_key", "smtp_pass", "pw", "client_secret"])
def test_these_names_are_secret(name):
    assert Redactor().is_secret_name(name)


@pytest.mark.parametrize("name", ["PWD", "OLDPWD", "author", "passenger", "compass", "key", "user"])
def test_these_names_are_not_secret(name):
    assert not Redactor().is_secret_name(name)


def test_secrets_are_found_in_nested_values_without_running_their_code():
    class Settings:
        def __init__(self):
            self.password = "in-attribute"
            self.parts = [{"token": b"in-bytes"}]

        @property
        def secret(self):
            raise AssertionError("ran a property")

        def __getattr__(self, name):
            raise AssertionError("ran __getattr__")

    class Slotted:
        __slots__ = ("api_key",)

    slotted = Slotted()
    slotted.api_key = "in-slot"
    found = secret_values({"a": Settings(), "b": slotted, "c": ["ftp://u:in-url@example.org"]}, Redactor())
    assert sorted(found) == ["in-attribute", "in-bytes", "in-slot", "in-url"]


def test_values_that_contain_themselves_and_huge_ones_are_searched_in_bounded_time():
    loop = []
    loop.append(loop)
    begun = time.process_time()
    secret_values([loop, [list(range(1000)) for _ in range(1000)]], Redactor())
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("text", ["a" * 400_000, "password" * 50_000, "-" * 400_000, "A1b/" * 100_000, "://a:" * 80_000])
def test_redacting_takes_bounded_time_on_text_made_to_be_slow(text):
    begun = time.process_time()
    Redactor()(text)
    assert time.process_time() - begun < 3


MODULE_TOKEN = "module-level-token"


def test_a_planted_secret_is_nowhere_in_the_mail(monkeypatch):
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "environ-secret")
    monkeypatch.setenv("DATABASE_URL", "postgres://etl:url-secret@db.example.org/x")
    monkeypatch.setenv("CUSTOMER", "named-secret")
    settings = parse_settings(
        {
            "SERVER": "localhost",
            "TO": "ops@example.org",
            "FROM": "jobs@example.org",
            "USERNAME": "jobs",
            "PASSWORD": "config-secret",
            "LOCALS": True,
            "REDACT": "customer",
            "SUBJECT": "{run}: {message}",
        }
    )

    class Connection:
        def __init__(self, password):
            self.password = password

        def __repr__(self):
            return f"<connected with {self.password}>"

    def work(password):
        connection = Connection("object-secret")
        options = {"token": "dict-secret", "day": 1}
        url = "http://u:local-url-secret@example.org"
        text = "y" * 290 + password + "y" * 2000  # stands where a local is cut
        raise ValueError(
            f"{password} {connection} {options} {url} {len(text)} environ-secret url-secret named-secret config-secret "
            "module-level-token"
        )

    try:
        work("local-secret")
    except ValueError as error:
        error.add_note("note with environ-secret")
        mail = compose(settings, draft_error(error, settings, {"run": "run local-secret", "secret": "extra-secret"}))
    read = email.message_from_bytes(mail.as_bytes(), policy=email.policy.default)
    shown = [str(read["Subject"]), *(read.get_body((kind,)).get_content() for kind in ("plain", "html"))]
    for text in shown:
        assert HIDDEN in text
        for secret in ("-secret", "local-sec", "module-level-token"):
            source_names = text.replace("config-secret", "") if secret == "-secret" else text
            assert secret not in source_names.replace("add_note", ""), text[max(0, text.find(secret) - 80) :][:200]


def test_no_secret_is_in_the_line_on_stderr(capsys):
    config = {"SENDMAIL": ["sh", "-c", "echo cannot log in with hunter2secret >&2; exit 1"]}
    password = "hunter2secret"
    with contextlib.suppress(ValueError), ErrorEmail({**config, "TO": "a@example.org", "FROM": "b@example.org"}):
        raise ValueError(password)
    said = capsys.readouterr().err
    assert "cannot log in" in said and "hunter2secret" not in said
