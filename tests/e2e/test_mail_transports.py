"""Each transport against a real server or program, good and bad: what arrives, and what is answered for each recipient."""

import email.policy
import http.server
import json
import os
import shlex
import threading
import time

import pytest

from spooldadd.erroremail import Server
from spooldadd.errors import ConfigError
from spooldadd.mail.configured import transport_from
from spooldadd.mail.letter import Answer, Fate, Letter, Unreachable
from spooldadd.mail.transport import Command, Lmtp, Maildir, Sendmail, Smtp, Webhook
from tests.e2e.mail_servers import (
    Certificates,
    LmtpServer,
    MailServer,
    ScriptedServer,
    check_login,
    die_after_data,
    drip,
    free_port,
    hang,
    take_and_die,
)

DATA = b"Subject: x\r\nMessage-ID: <one@example.org>\r\n\r\n.text\r\n.\r\nend\r\n"
LETTER = Letter("20261121T101500.000000Z-abc", "ops", "jobs@example.org", ("a@example.org", "b@example.org"), DATA)
FAILED_S = 5.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def server():
    with MailServer() as running:
        yield running


def smtp(server, timeout_s=10.0, **fields):
    return Smtp(Server(**{"host": "127.0.0.1", "port": server.port, **fields}), timeout_s)


def fates(answers):
    return {address[0]: answer.fate.value for address, answer in answers.items()}


# --- SMTP


def test_smtp_delivers_the_octets_to_all_recipients(server):
    assert fates(smtp(server).send(LETTER)) == {"a": "sent", "b": "sent"}
    (got,) = server.deliveries
    assert (got.sender, got.recipients, got.data) == (LETTER.sender, list(LETTER.recipients), DATA)


def test_smtp_answers_for_each_recipient(server):
    server.handler.answers = {"a@example.org": "550 5.1.1 no such user", "b@example.org": "450 4.2.1 later"}
    three = Letter("id", "ops", LETTER.sender, ("a@example.org", "b@example.org", "c@example.org"), DATA)
    answers = smtp(server).send(three)
    assert fates(answers) == {"a": "refused", "b": "waiting", "c": "sent"}
    assert answers["a@example.org"].text == "550 5.1.1 no such user"
    assert server.deliveries[0].recipients == ["c@example.org"]


@pytest.mark.parametrize(("said", "fate"), [("451 4.3.0 later", "waiting"), ("554 5.7.1 spam", "refused")])
def test_smtp_passes_on_the_answer_to_the_text(server, said, fate):
    server.handler.data_answers = [said]
    answers = smtp(server).send(LETTER)
    assert fates(answers) == {"a": fate, "b": fate}
    assert said in answers["a@example.org"].text
    assert fates(smtp(server).send(LETTER)) == {"a": "sent", "b": "sent"}


def test_smtp_with_starttls_and_login(certificates):
    with MailServer(authenticator=check_login, auth_required=True, tls_context=certificates.context()) as server:
        security = {"tls": "starttls", "ca_file": certificates.ca_file}
        assert fates(smtp(server, username="jobs", password="hunter2", **security).send(LETTER)) == {
            "a": "sent",
            "b": "sent",
        }
        assert server.deliveries[0].is_secure
        with pytest.raises(Unreachable, match="535") as caught:
            smtp(server, username="jobs", password="wr0ng-one", **security).send(LETTER)
        assert "wr0ng-one" not in str(caught.value)


def test_smtps_and_an_expired_certificate(certificates):
    with MailServer(tls=certificates.context()) as server:
        smtp(server, tls="ssl", ca_file=certificates.ca_file).send(LETTER)
        assert len(server.deliveries) == 1
    with MailServer(tls=certificates.expired_context()) as server, pytest.raises(Unreachable, match="certificate"):
        smtp(server, tls="ssl", ca_file=certificates.ca_file, timeout_s=3).send(LETTER)


def test_addresses_outside_ascii_go_by_smtputf8_or_are_refused_where_nobody_knows_it(server):
    wide = Letter("id", "ops", "jobs@example.org", ("zoë@example.org",), "To: zoë@example.org\r\n\r\nx\r\n".encode())
    assert fates(smtp(server).send(wide)) == {"z": "sent"}
    assert server.deliveries[0].recipients == ["zoë@example.org"]
    with MailServer(enable_SMTPUTF8=False) as old:
        assert smtp(old).send(wide)["zoë@example.org"].fate is Fate.REFUSED


@pytest.mark.parametrize("talk", [hang, drip])
def test_a_server_that_hangs_is_unreachable_within_the_time_limit(talk):
    with ScriptedServer(talk) as server:
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="no answer in time"):
            smtp(server, timeout_s=1).send(LETTER)
        assert time.monotonic() - begun < FAILED_S


def test_a_server_that_is_down_is_unreachable():
    with pytest.raises(Unreachable, match="refused"):
        Smtp(Server("127.0.0.1", free_port()), 5).send(LETTER)


def test_a_server_that_dies_after_the_text_may_have_it_and_one_that_says_so_has():
    with ScriptedServer(die_after_data) as server:
        answers = smtp(server).send(LETTER)
        assert fates(answers) == {"a": "waiting", "b": "waiting"}
        assert "may have arrived" in answers["a@example.org"].text
    with ScriptedServer(take_and_die) as server:
        assert fates(smtp(server).send(LETTER)) == {"a": "sent", "b": "sent"}


# --- LMTP


def test_lmtp_has_an_answer_for_each_recipient_after_the_text():
    with LmtpServer() as server:
        assert fates(Lmtp("127.0.0.1", server.port, 10).send(LETTER)) == {"a": "sent", "b": "sent"}
        assert server.deliveries[0].data == DATA


@pytest.mark.parametrize(
    ("said", "fate"), [(b"250 taken\r\n552 5.2.2 over quota\r\n", "refused"), (b"250 taken\r\n", "waiting")]
)
def test_lmtp_keeps_the_answers_apart_also_when_the_server_dies_between_them(said, fate):
    def talk(server, connection):
        connection.sendall(b"220 mx.example.org LMTP\r\n")
        with connection.makefile("rb") as lines:
            for line in lines:
                if line.upper().startswith(b"DATA"):
                    break
                connection.sendall(b"250 OK\r\n")
            connection.sendall(b"354 go on\r\n")
            for line in lines:
                if line == b".\r\n":
                    connection.sendall(said)
                    return

    with ScriptedServer(talk) as server:
        answers = Lmtp("127.0.0.1", server.port, 10).send(LETTER)
    assert fates(answers) == {"a": "sent", "b": fate}


# --- programs


def program(tmp_path, body):
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\ncd {shlex.quote(str(tmp_path))}\n{body}\n")
    path.chmod(0o755)
    return (str(path),)


def test_sendmail_gets_the_addresses_and_the_text_with_plain_line_ends(tmp_path):
    sendmail = Sendmail(program(tmp_path, 'printf "%s\\n" "$@" > args; cat > mail'))
    assert fates(sendmail.send(LETTER)) == {"a": "sent", "b": "sent"}
    args = (tmp_path / "args").read_text().split()
    assert args == ["-i", "-f", "jobs@example.org", "--", "a@example.org", "b@example.org"]
    assert (tmp_path / "mail").read_bytes() == DATA.replace(b"\r\n", b"\n")


@pytest.mark.parametrize(("code", "fate"), [(75, "waiting"), (67, "refused"), (1, "waiting"), (78, "waiting")])
def test_an_exit_code_says_whether_to_try_again(tmp_path, code, fate):
    command = Command(program(tmp_path, f"echo went wrong >&2; exit {code}"))
    answers = command.send(LETTER)
    assert fates(answers) == {"a": fate, "b": fate}
    assert "went wrong" in answers["a@example.org"].text and f"ended with {code}" in answers["a@example.org"].text


def test_a_command_finds_the_letter_and_the_addresses(tmp_path):
    command = Command(
        program(tmp_path, 'cat > mail; echo "$SPOOLDADD_MAIL_FROM $SPOOLDADD_MAIL_TO $SPOOLDADD_MAIL_ID" > env')
    )
    command.send(LETTER)
    assert (tmp_path / "mail").read_bytes() == DATA
    assert (tmp_path / "env").read_text().split() == [LETTER.sender, *LETTER.recipients, LETTER.id]


def test_a_program_that_hangs_or_is_not_there_is_unreachable_and_leaves_nobody(tmp_path):
    command = Command(program(tmp_path, "sleep 300 & echo $! > pid; wait"), timeout_s=1)
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="longer than 1 s"):
        command.send(LETTER)
    assert time.monotonic() - begun < FAILED_S
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(Unreachable, match="cannot be run"):
        Command(("/nonexistent/program",)).send(LETTER)


def test_what_a_program_leaves_behind_lives_on_and_is_not_waited_for(tmp_path):
    # Exim as sendmail delivers in a process that it leaves behind; we killed it, and the mail stayed in its queue.
    sendmail = Sendmail(program(tmp_path, "(while [ ! -e go ]; do sleep 0.02; done; touch delivered) & exit 0"))
    begun = time.monotonic()
    assert fates(sendmail.send(LETTER)) == {"a": "sent", "b": "sent"}
    assert time.monotonic() - begun < FAILED_S
    (tmp_path / "go").touch()
    deadline = time.monotonic() + 20
    while not (tmp_path / "delivered").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


# --- Maildir


def test_a_maildir_is_made_and_gets_a_letter_once(tmp_path):
    maildir = Maildir(str(tmp_path / "Maildir"))
    assert fates(maildir.send(LETTER)) == {"a": "sent", "b": "sent"}
    (path,) = (tmp_path / "Maildir" / "new").iterdir()
    assert email.message_from_bytes(path.read_bytes(), policy=email.policy.default)["Message-ID"] == "<one@example.org>"
    assert os.listdir(tmp_path / "Maildir" / "tmp") == []
    path.rename(tmp_path / "Maildir" / "cur" / f"{path.name}:2,S")  # a reader has seen it
    maildir.send(LETTER)
    assert os.listdir(tmp_path / "Maildir" / "new") == []


def test_a_maildir_that_cannot_be_written_is_unreachable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable):
        Maildir(str(tmp_path / "file" / "Maildir")).send(LETTER)


# --- webhook


class Hook(http.server.BaseHTTPRequestHandler):
    """Answers with `server.status`, and remembers what it got."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        if self.server.status is None:
            self.server.done.wait(20)
            return
        self.send_response(self.server.status)
        if 300 <= self.server.status < 400:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *args):
        pass


@pytest.fixture
def hook():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.daemon_threads = True
    server.got, server.status, server.done = [], 200, threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.done.set()
    server.shutdown()
    server.server_close()
    thread.join(20)


def webhook(hook, **fields):
    return Webhook(f"http://127.0.0.1:{hook.server_port}/in?key=s3cret", {"X-Token": "s3cret"}, **fields)


NOTE = Letter("id-1", "hook", "", ("hook",), json.dumps({"event": "failure"}).encode())


def test_a_webhook_gets_json_by_post(hook):
    assert webhook(hook).send(NOTE) == {"hook": Answer(Fate.SENT, "200")}
    ((path, headers, body),) = hook.got
    assert path == "/in?key=s3cret" and json.loads(body) == {"event": "failure"}
    assert headers["Content-Type"] == "application/json" and headers["X-Token"] == "s3cret"
    assert headers["X-Spooldadd-Id"] == "id-1"
    assert "s3cret" not in repr(webhook(hook))


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (204, "sent"),
        (302, "refused"),
        (400, "refused"),
        (410, "refused"),
        (404, "waiting"),
        (429, "waiting"),
        (503, "waiting"),
    ],
)
def test_a_status_says_whether_to_try_again_and_no_redirect_is_followed(hook, status, fate):
    hook.status = status
    assert webhook(hook).send(NOTE)["hook"].fate.value == fate
    assert len(hook.got) == 1


def test_a_webhook_that_hangs_or_is_down_is_unreachable(hook):
    hook.status = None
    begun = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        webhook(hook, timeout_s=0.5).send(NOTE)
    assert time.monotonic() - begun < FAILED_S and "s3cret" not in str(caught.value)
    with pytest.raises(Unreachable, match="127"):
        Webhook(f"http://127.0.0.1:{free_port()}/").send(NOTE)


# --- configuration


@pytest.mark.parametrize(
    ("table", "transport"),
    [
        ({"kind": "smtp", "server": "mx.example.org"}, Smtp(Server("mx.example.org", 25))),
        (
            {"kind": "smtp", "server": "mx.example.org", "tls": "ssl", "username": "u", "password": "p", "timeout_s": 5},
            Smtp(Server("mx.example.org", 465, "ssl", "u", "p"), 5.0),
        ),
        ({"kind": "lmtp", "server": "/run/lmtp"}, Lmtp("/run/lmtp")),
        ({"kind": "sendmail"}, Sendmail()),
        ({"kind": "sendmail", "command": ["msmtp", "-a", "x"]}, Sendmail(("msmtp", "-a", "x"))),
        ({"kind": "maildir", "directory": "/srv/mail"}, Maildir("/srv/mail")),
        ({"kind": "command", "command": ["page"]}, Command(("page",))),
        ({"kind": "webhook", "url": "https://hook.example.org/"}, Webhook("https://hook.example.org/")),
    ],
)
def test_a_table_of_the_configuration_makes_a_transport(table, transport):
    assert transport_from("ops", table) == transport


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "`kind` must be one of"),
        ({"kind": "smtp"}, "`server` is missing"),
        ({"kind": "smtp", "servr": "x", "port": 0, "tls": "yes"}, "did you mean `server`"),
        ({"kind": "smtp", "server": "x", "port": "25"}, "`port` must be of type int"),
        ({"kind": "smtp", "server": "x", "port": 70000}, "between 1 and 65535"),
        ({"kind": "smtp", "server": "x", "username": "u"}, "belong together"),
        ({"kind": "smtp", "server": "x", "username": "u", "password": "p"}, "in clear"),
        ({"kind": "command", "command": []}, "not empty"),
        ({"kind": "command", "command": "page ops"}, "must be of type list"),
        ({"kind": "webhook", "url": "file:///etc/passwd"}, "https://"),
        ({"kind": "webhook", "url": "https://x", "headers": {"A": "b\r\nC: d"}}, "line break"),
        ({"kind": "smtp", "server": "x", "timeout_s": 0}, "between 0.1 and 600"),
        ({"kind": "smtp", "server": "x", "timeout_s": True}, "must be of type float"),
    ],
)
def test_every_fault_of_a_table_is_told(table, words):
    with pytest.raises(ConfigError, match="mail transport `ops`") as caught:
        transport_from("ops", table)
    assert words in str(caught.value)
    assert "password" not in table or table["password"] not in str(caught.value).split()
