"""`ErrorEmail` against real mail servers: what arrives, and what happens when the server does not do its part."""

import email.policy
import logging
import pathlib
import subprocess
import sys
import textwrap
import time

import pytest

from spooldadd.erroremail import ErrorEmail, ErrorEmailHandler
from tests.e2e.mail_servers import (
    Certificates,
    MailServer,
    ScriptedServer,
    check_login,
    die_after_data,
    drip,
    free_port,
    hang,
    take_and_die,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
FAILED_S = 5.0  # how long a hand-over with a time limit of one second may take on a busy machine


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def server():
    with MailServer() as running:
        yield running


def config_of(server, **changes):
    address = {"SERVER": "127.0.0.1", "PORT": server if isinstance(server, int) else server.port, "TIMEOUT_S": 10}
    return {**address, "TO": "ops@example.org", "FROM": "jobs@example.org", **changes}


def fail_with(config, text="bad day"):
    """Fail under this configuration, check that the failure goes on, and return how long that took."""
    error = ValueError(text)
    begun = time.monotonic()
    with pytest.raises(ValueError) as caught, ErrorEmail(config):
        raise error
    assert caught.value is error
    return time.monotonic() - begun


def test_a_mail_arrives_whole_and_can_be_read_back(server, capsys):
    fail_with(config_of(server, TO=["Zoë <ops@example.org>", "dev@exämple.org"], SUBJECT="jobs: {message}"), "naïve ☃\nday")
    (got,) = server.deliveries
    assert got.sender == "jobs@example.org"
    assert got.recipients == ["ops@example.org", "dev@xn--exmple-cua.org"]
    assert got.mail["Subject"] == "jobs: ValueError: naïve ☃ day"
    assert got.mail["To"].addresses[0].display_name == "Zoë"
    assert "ValueError: naïve ☃\nday" in got.text("plain")
    assert "naïve ☃" in got.text("html")
    assert max(map(len, got.data.split(b"\r\n"))) <= 998
    assert all(part.defects == [] for part in got.mail.walk())
    assert capsys.readouterr().err == ""


def test_a_line_that_begins_with_a_dot_arrives_with_its_dot(server):
    fail_with(config_of(server), "x\n.\n..two\nQUIT\n")
    assert "x\n.\n..two\nQUIT" in server.deliveries[0].text("plain")


def test_addresses_outside_ascii_go_by_smtputf8(server):
    fail_with(config_of(server, TO="Zoë <zoë@exämple.org>"))
    (got,) = server.deliveries
    assert got.recipients == ["zoë@xn--exmple-cua.org"]
    assert got.mail["To"].addresses[0].username == "zoë"


def test_a_server_without_smtputf8_is_told_on_stderr(capsys):
    with MailServer(enable_SMTPUTF8=False) as server:
        fail_with(config_of(server, TO="zoë@example.org"))
        assert "SMTPUTF8" in capsys.readouterr().err
        assert server.deliveries == []


def test_starttls_with_a_certificate_of_an_authority_of_ones_own(certificates):
    context = certificates.context()
    with MailServer(tls_context=context, require_starttls=True) as server:
        fail_with(config_of(server, TLS="starttls", CA_FILE=certificates.ca_file))
        (got,) = server.deliveries
    assert got.is_secure


def test_tls_from_the_first_byte(certificates):
    with MailServer(tls=certificates.context()) as server:
        fail_with(config_of(server, TLS="ssl", CA_FILE=certificates.ca_file))
        assert len(server.deliveries) == 1


def test_login_over_starttls(certificates):
    options = {"authenticator": check_login, "auth_required": True, "tls_context": certificates.context()}
    with MailServer(**options) as server:
        login = {"USERNAME": "jobs", "PASSWORD": "hunter2", "TLS": "starttls", "CA_FILE": certificates.ca_file}
        fail_with(config_of(server, **login))
        assert len(server.deliveries) == 1
        assert b"hunter2" not in server.deliveries[0].data


def test_a_wrong_password_is_told_on_stderr_without_the_password(certificates, capsys):
    with MailServer(authenticator=check_login, auth_required=True, tls_context=certificates.context()) as server:
        login = {"USERNAME": "jobs", "PASSWORD": "wr0ng-one", "TLS": "starttls", "CA_FILE": certificates.ca_file}
        fail_with(config_of(server, **login))
        assert server.deliveries == []
    said = capsys.readouterr().err
    assert "535" in said and "wr0ng-one" not in said


@pytest.mark.parametrize("kind", ["expired", "unknown authority", "another name"])
def test_a_certificate_that_does_not_hold_stops_the_mail(certificates, capsys, tmp_path, kind):
    context = {
        "expired": certificates.expired_context,
        "unknown authority": Certificates(tmp_path).context,
        "another name": certificates.context,
    }[kind]()
    with MailServer(tls=context) as server:
        name = "localhost" if kind != "another name" else "127.0.0.2"
        fail_with(config_of(server, SERVER=name, TLS="ssl", CA_FILE=certificates.ca_file, TIMEOUT_S=3))
        assert server.deliveries == []
    assert capsys.readouterr().err.startswith("erroremail: no mail was sent: ")


def test_a_server_that_offers_no_starttls_gets_no_mail(server, capsys):
    fail_with(config_of(server, TLS="starttls"))
    assert server.deliveries == []
    assert "STARTTLS" in capsys.readouterr().err


def test_a_refused_connection_is_told(capsys):
    fail_with(config_of(free_port()))
    assert "refused" in capsys.readouterr().err


@pytest.mark.parametrize("talk", [hang, drip])
def test_a_server_that_hangs_costs_no_more_than_the_time_limit(capsys, talk):
    with ScriptedServer(talk) as server:
        took_s = fail_with(config_of(server, TIMEOUT_S=1))
    assert 0.4 < took_s < FAILED_S
    assert "no answer in time" in capsys.readouterr().err


def test_a_server_that_answers_later_is_told_with_its_answer(server, capsys):
    server.handler.answers["ops@example.org"] = "451 4.7.1 greylisted, try again later"
    fail_with(config_of(server))
    assert "451" in (said := capsys.readouterr().err) and "greylisted" in said and said.count("\n") == 1
    server.handler.answers.clear()
    server.handler.data_answers = ["452 4.2.2 mailbox full"]
    fail_with(config_of(server))
    assert "452" in capsys.readouterr().err
    fail_with(config_of(server))
    assert len(server.deliveries) == 1


def test_those_who_are_taken_get_the_mail_and_those_who_are_not_are_told(server, capsys):
    server.handler.answers["gone@example.org"] = "550 5.1.1 no such user"
    fail_with(config_of(server, TO=["ops@example.org", "gone@example.org"]))
    assert server.deliveries[0].recipients == ["ops@example.org"]
    assert "gone@example.org: 550" in capsys.readouterr().err


def test_a_server_that_dies_after_the_data_is_told(capsys):
    with ScriptedServer(die_after_data) as server:
        fail_with(config_of(server))
    assert "no mail was sent" in capsys.readouterr().err


def test_a_server_that_dies_after_taking_the_mail_has_taken_it(capsys):
    with ScriptedServer(take_and_die) as server:
        fail_with(config_of(server))
    assert capsys.readouterr().err == ""


def test_sendmail_takes_over_in_time_when_the_server_hangs(tmp_path, capsys):
    script = tmp_path / "sendmail"
    script.write_text(f'#!/bin/sh\ncd {tmp_path}\nprintf "%s " "$@" > args\ncat > mail.eml\n')
    script.chmod(0o755)
    with ScriptedServer(hang) as server:
        took_s = fail_with(config_of(server, SENDMAIL=str(script), TIMEOUT_S=2))
    assert took_s < FAILED_S
    assert capsys.readouterr().err == ""
    assert (tmp_path / "args").read_text() == "-i -f jobs@example.org -- ops@example.org "
    data = (tmp_path / "mail.eml").read_bytes()
    assert b"\r" not in data
    assert email.message_from_bytes(data, policy=email.policy.default)["Subject"] == "ErrorEmail: ValueError: bad day"


def test_the_rate_limit_holds_back_and_the_next_mail_says_so(server, tmp_path, capsys):
    config = config_of(server, RATE="2/0.02", RATE_FILE=str(tmp_path / "count"))
    for _ in range(10):
        fail_with(config)
    sent = len(server.deliveries)
    assert sent < 10
    assert "RATE allows 2" in capsys.readouterr().err
    deadline = time.monotonic() + 20
    while len(server.deliveries) == sent and time.monotonic() < deadline:
        fail_with(config)
    told = server.deliveries[sent].text("plain")
    assert "not mailed, because of the rate limit" in told


def test_the_logging_handler_delivers(server):
    logger = logging.Logger("etl")
    logger.addHandler(ErrorEmailHandler(config_of(server)))
    logger.error("no rows in %s", "sales")
    assert server.deliveries[0].mail["Subject"] == "ErrorEmail: no rows in sales"


def test_a_script_that_nobody_guards_mails_its_end_and_its_threads(server):
    script = f"""
        import threading
        from spooldadd.erroremail import ErrorEmail
        ErrorEmail({config_of(server)!r}).install()
        def work():
            raise KeyError("in a thread")
        thread = threading.Thread(target=work, name="loader")
        thread.start()
        thread.join()
        raise ValueError("at the end")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 2 and "erroremail:" not in done.stderr
    assert sorted(got.mail["Subject"] for got in server.deliveries) == [
        "ErrorEmail: KeyError: 'in a thread'",
        "ErrorEmail: ValueError: at the end",
    ]


def test_a_hanging_server_does_not_keep_the_interpreter_from_ending():
    with ScriptedServer(drip) as server:
        script = f"""
            from spooldadd.erroremail import ErrorEmail
            with ErrorEmail({config_of(server, TIMEOUT_S=0.5)!r}):
                raise ValueError("bad day")
        """
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert time.monotonic() - begun < FAILED_S
    assert done.returncode == 1 and "no answer in time" in done.stderr
