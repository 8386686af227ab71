"""Hand one letter over: SMTP with its kinds of security, LMTP, sendmail, a Maildir, a command, a webhook.

Every transport is back within its `timeout_s`, whatever the other side does. It answers for each recipient, or raises
`Unreachable`; it never changes the outbox. A login or a certificate that does not hold is `Unreachable` and no refusal,
because the operator can mend it and the letters should still go.

If we die here: the letter may have been taken. The outbox sends it again, with the same Message-ID; a Maildir knows its id
and takes it once.
"""

from __future__ import annotations

import os
import re
import signal
import smtplib
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from typing import IO, Protocol

from spooldadd import durable
from spooldadd.erroremail import DEFAULT_SENDMAIL, Line, Server, explain, one_line, open_smtp, run_bounded
from spooldadd.mail.letter import Answer, Fate, Letter, Unreachable

TIMEOUT_S = 30.0
ANSWER_CHARS = 300
# sysexits(3): what is wrong with the letter or its addresses, and stays so
LASTING_EXITS = frozenset({64, 65, 67, 68})
LASTING_STATUS = frozenset(range(300, 500)) - {401, 403, 404, 407, 408, 423, 425, 429}  # those may be mended, so they wait


class Transport(Protocol):
    """Hands letters over."""

    def send(self, letter: Letter) -> dict[str, Answer]:
        """Hand one letter over and return the answer for each of its recipients.

        Raises: Unreachable when nobody answers there.
        """
        ...


# --- SMTP and LMTP


@dataclass(frozen=True)
class Smtp:
    """A mail server, by SMTP with the security that `server.tls` says."""

    server: Server
    timeout_s: float = TIMEOUT_S

    def send(self, letter: Letter) -> dict[str, Answer]:
        """Hand a letter over. Raises: Unreachable."""
        deadline = time.monotonic() + self.timeout_s
        line = Line()

        def talk() -> dict[str, Answer]:
            client = open_smtp(self.server, deadline, line)
            try:
                return _converse(client, letter, has_answer_each=False)
            finally:
                line.end(client)

        return _reach(f"{self.server.host}:{self.server.port}", lambda: run_bounded(talk, deadline, line.cut))


@dataclass(frozen=True)
class Lmtp:
    """A local delivery agent by LMTP, at a host and port or at a socket whose path begins with `/`."""

    host: str
    port: int = 24
    timeout_s: float = TIMEOUT_S

    def send(self, letter: Letter) -> dict[str, Answer]:
        """Hand a letter over. Raises: Unreachable."""
        deadline = time.monotonic() + self.timeout_s
        line = Line()

        def talk() -> dict[str, Answer]:
            client = smtplib.LMTP(self.host, self.port, "localhost", timeout=self.timeout_s / 2)
            line.client = client
            try:
                return _converse(client, letter, has_answer_each=True)
            finally:
                line.end(client)

        return _reach(self.host, lambda: run_bounded(talk, deadline, line.cut))


class _Talk(Protocol):
    def __call__(self) -> dict[str, Answer]: ...


def _reach(where: str, talk: _Talk) -> dict[str, Answer]:
    """Talk; everything that goes wrong with the connection, the login or the protocol means that nobody can be reached."""
    try:
        return talk()
    except OSError as error:  # smtplib's, ssl's and socket's errors, and TimeoutError, are all of this kind
        raise Unreachable(f"`{where}`: {explain(error)}") from error


def _converse(client: smtplib.SMTP, letter: Letter, *, has_answer_each: bool) -> dict[str, Answer]:
    """Say MAIL, RCPT and DATA. Raises: OSError, of which smtplib's errors are a kind."""
    client.ehlo_or_helo_if_needed()
    options: list[str] = []
    if letter.is_wide:
        if not client.has_extn("smtputf8"):
            return dict.fromkeys(letter.recipients, Answer(Fate.REFUSED, "it takes no addresses outside ASCII (SMTPUTF8)"))
        options = ["SMTPUTF8", "BODY=8BITMIME"]
    code, said = client.mail(letter.sender, options)
    if code == 421:
        raise smtplib.SMTPSenderRefused(code, said, letter.sender)
    if code != 250:
        return dict.fromkeys(letter.recipients, _answer(code, said))
    answers = {address: _answer(*client.rcpt(address)) for address in letter.recipients}
    taken = [address for address, answer in answers.items() if answer.fate is Fate.SENT]
    if taken:
        answers.update(_hand_data(client, letter.data, taken, has_answer_each=has_answer_each))
    return answers


def _hand_data(client: smtplib.SMTP, data: bytes, taken: Sequence[str], *, has_answer_each: bool) -> dict[str, Answer]:
    """Send the text; by LMTP each recipient has an answer of its own, by SMTP all have the same."""
    broken = Answer(Fate.WAITING, "the connection broke at the text: it may have arrived all the same")
    answers = dict.fromkeys(taken, broken)
    try:
        answers.update(dict.fromkeys(taken, _answer(*client.data(data))))
        if has_answer_each:
            answers.update(dict.fromkeys(taken[1:], broken))
            for address in taken[1:]:
                answers[address] = _answer(*client.getreply())
    except smtplib.SMTPDataError as error:
        return dict.fromkeys(taken, _answer(error.smtp_code, error.smtp_error))
    except smtplib.SMTPServerDisconnected:
        return answers  # those that were answered stay answered
    return answers


def _answer(code: int, said: bytes | str) -> Answer:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    fate = Fate.SENT if 200 <= code < 300 else Fate.REFUSED if 500 <= code < 600 else Fate.WAITING
    return Answer(fate, one_line(f"{code} {text}")[:ANSWER_CHARS])


# --- programs


@dataclass(frozen=True)
class Sendmail:
    """A program that takes what sendmail takes."""

    command: tuple[str, ...] = (DEFAULT_SENDMAIL,)
    timeout_s: float = TIMEOUT_S

    def send(self, letter: Letter) -> dict[str, Answer]:
        """Hand a letter over. Raises: Unreachable."""
        command = [*self.command, "-i", "-f", letter.sender, "--", *letter.recipients]
        answer = _run(command, letter.data.replace(b"\r\n", b"\n"), self.timeout_s, {})
        return dict.fromkeys(letter.recipients, answer)


@dataclass(frozen=True)
class Command:
    """Any program: the letter on its standard input, the addresses in `SPOOLDADD_MAIL_FROM` and `SPOOLDADD_MAIL_TO`."""

    command: tuple[str, ...]
    timeout_s: float = TIMEOUT_S

    def send(self, letter: Letter) -> dict[str, Answer]:
        """Hand a letter over. Raises: Unreachable."""
        addresses = {"SPOOLDADD_MAIL_FROM": letter.sender, "SPOOLDADD_MAIL_TO": " ".join(letter.recipients)}
        answer = _run(list(self.command), letter.data, self.timeout_s, {**addresses, "SPOOLDADD_MAIL_ID": letter.id})
        return dict.fromkeys(letter.recipients, answer)


def _run(command: Sequence[str], data: bytes, timeout_s: float, more_environ: Mapping[str, str]) -> Answer:
    """Run a program in a session of its own, of which nothing outlives the time limit.

    What it leaves behind when it ends in time lives on: Exim as sendmail delivers in the background. For the same reason
    its errors go to a file and not to a pipe, whose end we would have to wait for.
    Raises: Unreachable when it cannot be started or took too long.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, **more_environ},
                start_new_session=True,
            )
        except OSError as error:
            raise Unreachable(f"`{command[0]}` cannot be run: {error.strerror}") from error
        with child:
            try:
                child.communicate(data, timeout_s)
            except subprocess.TimeoutExpired as error:
                _kill_session(child.pid)
                raise Unreachable(f"`{command[0]}` took longer than {timeout_s:g} s") from error
        errors.seek(0)
        said = errors.read(10_000).decode("utf-8", "replace")
    if child.returncode == 0:
        return Answer(Fate.SENT)
    text = one_line(said)[-ANSWER_CHARS:]
    fate = Fate.REFUSED if child.returncode in LASTING_EXITS else Fate.WAITING
    return Answer(fate, f"`{command[0]}` ended with {child.returncode}" + (f": {text}" if text else ""))


def _kill_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # the usual case: it has ended, and left nobody


# --- Maildir


@dataclass(frozen=True)
class Maildir:
    """A mailbox that is a directory. Every letter is one file, whoever its recipients are.

    Source: the description of maildir by its author: written in `tmp`, then moved to `new`; a name is never used twice.
    """

    directory: str
    sync: bool = True

    def send(self, letter: Letter) -> dict[str, Answer]:
        """Put a letter in, unless it is in already. Raises: Unreachable."""
        try:
            self._put(letter)
        except OSError as error:
            raise Unreachable(f"`{self.directory}`: {error.strerror or error}") from error
        return dict.fromkeys(letter.recipients, Answer(Fate.SENT))

    def _put(self, letter: Letter) -> None:
        places = {name: os.path.join(self.directory, name) for name in ("tmp", "new", "cur")}
        for place in (self.directory, *places.values()):
            if not os.path.isdir(place):
                os.makedirs(place, mode=0o700, exist_ok=True)
        unique = re.sub(r"[^\w.@-]", "-", letter.id, flags=re.ASCII)
        if self._has(places, unique):
            return
        temporary = os.path.join(places["tmp"], f"{unique}.{os.getpid()}")
        durable.write_new(temporary, letter.data.replace(b"\r\n", b"\n"), sync=self.sync, mode=0o600)
        durable.move(temporary, os.path.join(places["new"], unique), sync=self.sync)

    def _has(self, places: Mapping[str, str], unique: str) -> bool:
        """Tell whether a crash between taking and marking left it here: then it is not taken again."""
        names = [name for place in ("new", "cur") for name in os.listdir(places[place])]
        return any(name.partition(":")[0] == unique for name in names)


# --- webhook


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would turn the POST into a GET, or carry the headers to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow nothing."""


@dataclass(frozen=True)
class Webhook:
    """A URL that takes JSON by POST. `headers` may hold a secret, so they are shown nowhere."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = TIMEOUT_S

    def send(self, letter: Letter) -> dict[str, Answer]:
        """Hand a letter over. Raises: Unreachable."""
        deadline = time.monotonic() + self.timeout_s
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "spooldadd",
            "X-Spooldadd-Id": letter.id,
            **self.headers,
        }
        request = urllib.request.Request(self.url, data=letter.data, headers=headers, method="POST")
        opener = urllib.request.build_opener(_NoRedirect)

        def post() -> Answer:
            with opener.open(request, timeout=self.timeout_s) as response:
                return Answer(Fate.SENT, f"{response.status}")

        host = urllib.parse.urlsplit(self.url).hostname or "webhook"
        try:
            answer = run_bounded(post, deadline, lambda: None)
        except urllib.error.HTTPError as error:
            with error:
                fate = Fate.REFUSED if error.code in LASTING_STATUS else Fate.WAITING
                answer = Answer(fate, one_line(f"{error.code} {error.reason}")[:ANSWER_CHARS])
        except (OSError, HTTPException) as error:
            raise Unreachable(f"`{host}`: {one_line(str(getattr(error, 'reason', error)))}") from error
        return dict.fromkeys(letter.recipients, answer)
