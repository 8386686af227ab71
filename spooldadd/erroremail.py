"""Mail a person when a script fails, and never make the failure worse.

One file, standard library only, Python 3.8 or newer. Import it from the package, or copy it next to any script:

    with ErrorEmail({"SERVER": "localhost", "TO": "ops@example.org", "FROM": "jobs@example.org"}):
        load_everything()

The exception always goes on unchanged. When no mail can be sent, one line on stderr says why, and the hand-over takes
no longer than `TIMEOUT_S`. `python erroremail.py -- command ...` does the same for any command. `docs/erroremail.md` in
the project has every setting and the limits.

What is promised, and what is not:
- no secret is shown that is known by its name, its value or its shape; a secret that nothing gives away is shown;
- `KeyboardInterrupt`, `SystemExit` (of any status: it is a decision of the script), `GeneratorExit` and asyncio's
  `CancelledError` are no failures and send nothing. One that arrives while a mail is being handed over wins;
- the exception object gets one private attribute, so that nested uses do not mail it twice.

If we die here: the mail is not sent, and nothing is left behind but the count in the rate file.
"""

# This file is longer than the 400 lines that others may have, because it must work when it is copied alone; and its
# syntax is that of Python 3.8, so the rules that want newer spellings are off.
# ruff: noqa: UP006, UP007, UP017, UP035, UP036, UP045

from __future__ import annotations

import argparse
import base64
import contextlib
import datetime
import difflib
import email.headerregistry
import email.message
import email.policy
import email.utils
import fnmatch
import functools
import getpass
import hashlib
import html
import inspect
import json
import linecache
import logging
import os
import platform
import re
import reprlib
import selectors
import shlex
import signal
import smtplib
import socket
import ssl
import stat
import string
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
import types
import urllib.parse
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import (
    Any,
    AsyncIterator,
    Callable,
    Deque,
    Dict,
    Generator,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
    Type,
    TypeVar,
    Union,
    cast,
)

if sys.version_info >= (3, 11):
    import tomllib
if sys.platform != "win32":
    import fcntl

__all__ = ["ConfigError", "ErrorEmail", "ErrorEmailHandler", "Redactor", "erroremail", "main"]

HIDDEN = "[hidden]"
MARK = "_erroremail_done"  # the attribute of an exception that lists the configurations that dealt with it
ENVIRON_PREFIX = "ERROREMAIL_"
DEFAULT_SUBJECT = "ErrorEmail: {message}"

SUBJECT_CHARS = 200  # as encoded words still far below the 998 octets of a line
TEXT_CHARS = 120_000  # of a plain part: below what mail servers take, and more than anyone reads
RAW_CHARS = 400_000  # searched for secrets; far above TEXT_CHARS, so that what is cut in two here is not shown
VALUE_CHARS = 600  # of one local variable
RAW_VALUE_CHARS = 20_000  # searched for secrets; far above VALUE_CHARS, as above
LINE_CHARS = 300  # of one source line in the HTML part
LINKS_SHOWN = 25  # exceptions in the HTML part; the plain part has all
FRAMES_SHOWN = 60  # frames in the HTML part, all exceptions together: mail programs cut at 100 kB
CONTEXT_LINES = 3  # source lines above and below the failing one
SECRET_CHARS = 4  # a shorter value would blank out half of every text that it occurs in
SECRETS_KEPT = 1_000
NODES_SEEN = 20_000  # values looked at in search of secrets: some 20 ms
LOCK_WAIT_S = 2.0  # for the rate file: a stuck process must not hold up a mail
TAIL_BYTES = 256 * 1024  # of a command's output kept for the mail; above --tail's lines of usual length
QUIET_S = 0.2  # how long a pipe stays silent before we believe that only a left-behind process holds it open

CAUSE = "The above exception was the direct cause of the following exception:"
CONTEXT = "During handling of the above exception, another exception occurred:"
NOT_FAILURES = (KeyboardInterrupt, SystemExit, GeneratorExit)  # and asyncio's cancellation

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Source = Union[Mapping[str, Any], str, "os.PathLike[str]", None]
Fact = Tuple[str, str]


class ConfigError(ValueError):
    """The configuration cannot be used; `faults` has one sentence for each thing that is wrong with it."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = list(faults)


class HandoverError(Exception):
    """Nobody took the mail; the message says what each answered."""


class HeldBack(Exception):
    """The rate limit says that this mail must not be sent."""


# --- What a script uses ---------------------------------------------------------------------------------------------


class ErrorEmail:
    """Mail the exceptions that pass through: a context manager, a decorator, and a hook for what nobody caught.

    `config` is a mapping, the path of a TOML file, or None for the environment (`ERROREMAIL_SERVER` ...). It is read
    when something fails and not before. The `extra` values can be used in `SUBJECT` and stand in the mail. Nothing here
    raises an exception of its own, except `settings`.
    """

    def __init__(self, config: Source = None, **extra: object) -> None:
        self.config = os.path.abspath(os.fspath(config)) if isinstance(config, (str, os.PathLike)) else config
        self.extra_info = extra
        self._previous: Optional[Tuple[Any, Any]] = None
        self._is_active = False

    def settings(self) -> Settings:
        """Read the configuration.

        Raises: ConfigError with every fault that it has.
        """
        return parse_settings(load_config(self.config))

    def check(self) -> List[str]:
        """Return a sentence for each fault and each doubtful key of the configuration; nothing when all is well."""
        try:
            raw = load_config(self.config)
        except ConfigError as fault:
            return fault.faults
        doubts = doubtful_keys(raw)
        try:
            parse_settings(raw)
        except ConfigError as fault:
            return fault.faults + doubts
        return doubts

    def report(self, error: BaseException, **facts: object) -> bool:
        """Mail one exception now; return whether it was taken. What was dealt with before is not sent again."""
        send = self._prepare_error(error, facts)
        return send is not None and send()

    def send(self, title: str, text: str, **facts: object) -> bool:
        """Mail a text of the caller's own by the same rules; return whether it was taken."""
        send = self._prepare(lambda settings: draft_text(title, text, settings, {**self.extra_info, **facts}))
        return send is not None and send()

    def install(self) -> ErrorEmail:
        """Mail what ends the program, or a thread, because nobody caught it. The hooks that were there run first."""
        if self._previous is None:
            self._previous = (sys.excepthook, threading.excepthook)
            sys.excepthook = self._on_exception
            threading.excepthook = self._on_thread_exception
        self._is_active = True
        return self

    def uninstall(self) -> None:
        """Undo `install`. Where somebody has put a hook on top of ours, ours stays and only passes on."""
        self._is_active = False
        if self._previous is None:
            return
        if sys.excepthook == self._on_exception and threading.excepthook == self._on_thread_exception:
            sys.excepthook, threading.excepthook = self._previous
            self._previous = None

    def __enter__(self) -> ErrorEmail:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: object) -> None:
        if error is not None:
            self.report(error)

    async def __aenter__(self) -> ErrorEmail:
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: object) -> None:
        if error is None:
            return
        send = self._prepare_error(error, {})  # here and not in a thread: the locals may belong to this one
        if send is not None:
            await _call_in_thread(send)

    def __call__(self, function: F) -> F:
        """Wrap a function, a coroutine function or a generator function, so that what it raises is mailed."""
        if inspect.iscoroutinefunction(function):
            wrapper = self._wrap_coroutine(function)
        elif inspect.isasyncgenfunction(function):
            wrapper = self._wrap_async_generator(function)
        elif inspect.isgeneratorfunction(function):
            wrapper = self._wrap_generator(function)
        else:
            wrapper = self._wrap_function(function)
        return cast(F, functools.wraps(function)(wrapper))

    def _prepare_error(self, error: BaseException, facts: Mapping[str, object]) -> Optional[Callable[[], bool]]:
        if not is_failure(error):
            return None
        return self._prepare(lambda settings: draft_error(error, settings, {**self.extra_info, **facts}), error)

    def _prepare(
        self, draft: Callable[[Settings], Draft], error: Optional[BaseException] = None
    ) -> Optional[Callable[[], bool]]:
        """Do all that touches the caller's objects; return what is left to do, or None when there is nothing."""
        try:
            settings = self.settings()
            if error is not None and not mark(error, settings):
                return None
            ready = draft(settings)
        except Exception as fault:  # noqa: BLE001 - whatever fails here must not hide the failure we report
            complain(fault)
            return None
        return functools.partial(_deliver_or_complain, settings, ready)

    def _on_exception(self, kind: Type[BaseException], error: BaseException, trace: Optional[types.TracebackType]) -> None:
        try:
            if self._previous is not None:
                self._previous[0](kind, error, trace)  # first: a slow server must not delay the traceback on stderr
        finally:
            if self._is_active and error is not None:
                self.report(error)

    def _on_thread_exception(self, args: Any) -> None:
        try:
            if self._previous is not None:
                self._previous[1](args)
        finally:
            if self._is_active and args.exc_value is not None:
                self.report(args.exc_value, thread=getattr(args.thread, "name", "unknown"))

    def _wrap_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return call

    def _wrap_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with self:
                return (yield from function(*args, **kwargs))

        return generate

    def _wrap_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            async with self:
                return await function(*args, **kwargs)

        return call

    def _wrap_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def generate(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async with self:
                inner = function(*args, **kwargs)
                step = inner.__anext__()
                while True:
                    try:
                        value = await step
                    except StopAsyncIteration:
                        return
                    try:
                        sent = yield value
                    except GeneratorExit:
                        await inner.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001 - thrown in by the consumer: the generator's to handle
                        step = inner.athrow(error)
                    else:
                        step = inner.asend(sent)

        return generate


def erroremail(config: Source = None, **extra: object) -> ErrorEmail:
    """Return a decorator that mails what the decorated function raises: `@erroremail(config)`."""
    return ErrorEmail(config, **extra)


class ErrorEmailHandler(logging.Handler):
    """Mail log records, by default from ERROR on: with their traceback where there is one.

    It hands over in the thread that logs, for up to `TIMEOUT_S`; put a `logging.handlers.QueueHandler` before it where
    that is too long, and a `RATE` into the configuration.
    """

    def __init__(self, config: Source = None, level: Union[int, str] = logging.ERROR, **extra: object) -> None:
        super().__init__(level)
        self.mailer = ErrorEmail(config, **extra)

    def emit(self, record: logging.LogRecord) -> None:
        """Mail one record."""
        try:
            title = record.getMessage()
        except Exception as fault:  # noqa: BLE001 - a bad format string is no reason to lose the record
            title = f"{record.msg} (its arguments do not fit: {describe(fault)})"
        facts = {
            "logger": record.name,
            "level": record.levelname,
            "where": f"{record.pathname}:{record.lineno} in {record.funcName}",
        }
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not is_failure(error):
            self.mailer.send(title, "\n".join(filter(None, [title, record.exc_text, record.stack_info])), **facts)
        else:
            self.mailer.report(error, log=title, **facts)


async def _call_in_thread(call: Callable[[], object]) -> None:
    """Call in a thread, so that an event loop goes on while a server is slow; without asyncio, call at once."""
    import asyncio  # late: it takes longer to import than all the rest, and who has no loop needs none of it
    import concurrent.futures

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        call()
        return
    pool = concurrent.futures.ThreadPoolExecutor(1)  # of our own: the default one may be full of stuck calls
    try:
        await loop.run_in_executor(pool, call)
    finally:
        pool.shutdown(wait=False)


def _deliver_or_complain(settings: Settings, draft: Draft) -> bool:
    try:
        deliver(settings, draft)
    except Exception as fault:  # noqa: BLE001 - whatever fails here must not hide the failure we report
        complain(fault, draft.redactor)
        return False
    return True


def is_failure(error: BaseException) -> bool:
    """Tell whether an exception is worth a mail: a group is when any of its members is."""
    members = _members(error)
    if members:
        return any(is_failure(member) for member in members)
    cancelled = getattr(sys.modules.get("asyncio"), "CancelledError", None)  # who never imported it has none to catch
    return not isinstance(error, (*NOT_FAILURES, cancelled) if cancelled else NOT_FAILURES)


def mark(error: BaseException, settings: Settings) -> bool:
    """Note on the exception that this configuration deals with it; return False when that was noted before."""
    own = hashlib.sha256(repr((settings.server, settings.recipients, settings.subject)).encode()).hexdigest()[:16]
    try:
        done = error.__dict__.get(MARK, ())
        if own in done:
            return False
        error.__dict__[MARK] = (*done, own)
    except Exception:  # noqa: BLE001 - an exception that cannot be marked may be mailed twice, which is better than never
        return True
    return True


def complain(fault: BaseException, redact: Optional[Redactor] = None) -> None:
    """Say in one line on stderr why no mail was sent. Never raises."""
    with contextlib.suppress(Exception):
        why = str(fault) if isinstance(fault, (ConfigError, HandoverError, HeldBack)) else describe(fault)
        line = one_line((redact or Redactor(values=secret_values(os.environ, Redactor())))(why))
        stream = sys.stderr or sys.__stderr__
        if stream is not None:
            encoding = getattr(stream, "encoding", None) or "utf-8"
            text = f"erroremail: no mail was sent: {line[:2000]}\n"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()


# --- Configuration --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mailbox:
    """One address, its domain in ASCII; `name` is what is shown before it."""

    name: str
    address: str

    def header(self) -> email.headerregistry.Address:
        """Return it in the form that an address header takes."""
        local, _, domain = self.address.rpartition("@")
        if not local:
            local, domain = domain, ""
        return email.headerregistry.Address(self.name, local, domain)


@dataclass(frozen=True)
class Server:
    """A mail server and how to greet it. `tls` is empty, `starttls` or `ssl`."""

    host: str
    port: int
    tls: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""


@dataclass(frozen=True)
class Rate:
    """At most `count` mails in `minutes`; `path` is the file that counts them, or empty for one of our own."""

    count: int
    minutes: float
    path: str = ""


@dataclass(frozen=True)
class Settings:
    """A configuration that was read and found good."""

    server: Optional[Server]
    sendmail: Tuple[str, ...]
    recipients: Tuple[Mailbox, ...]
    sender: Mailbox
    subject: str = DEFAULT_SUBJECT
    timeout_s: float = 30.0
    with_locals: bool = False
    redact: Tuple[str, ...] = ()
    rate: Optional[Rate] = None


KEYS = (
    "SERVER", "PORT", "TO", "FROM", "SUBJECT", "TLS", "USERNAME", "PASSWORD", "CA_FILE", "TIMEOUT_S", "SENDMAIL",
    "LOCALS", "REDACT", "RATE", "RATE_FILE",
)  # fmt: skip
DEFAULT_PORTS = {"": 25, "starttls": 587, "ssl": 465}
DEFAULT_SENDMAIL = "/usr/sbin/sendmail"
YES = ("1", "true", "yes", "on")
NO = ("0", "false", "no", "off", "")


def load_config(source: Source) -> Dict[str, Any]:
    """Return the configuration with upper-case keys.

    Raises: ConfigError when the file cannot be read or the source is of another kind.
    """
    if source is None:
        return _load_environ(os.environ)
    if isinstance(source, (str, os.PathLike)):
        return _upper(_load_toml(os.fspath(source)))
    if isinstance(source, Mapping):
        return _upper(source)
    raise ConfigError([f"the configuration is neither a mapping nor a path but {type(source).__name__}"])


def _upper(raw: Mapping[str, Any]) -> Dict[str, Any]:
    return {str(key).upper(): value for key, value in raw.items() if value is not None}


def _load_environ(environ: Mapping[str, str]) -> Dict[str, Any]:
    """Read `ERROREMAIL_*`; `ERROREMAIL_CONFIG` names a TOML file, over which the other variables win."""
    size = len(ENVIRON_PREFIX)
    own = {key[size:]: value for key, value in environ.items() if key.startswith(ENVIRON_PREFIX)}
    path = own.pop("CONFIG", "")
    base = _upper(_load_toml(path)) if path else {}
    return {**base, **{key.upper(): value for key, value in own.items() if value}}


def _load_toml(path: str) -> Mapping[str, Any]:
    if sys.version_info < (3, 11):
        raise ConfigError([f"reading `{path}` needs Python 3.11; pass a mapping or use the environment"])
    else:  # noqa: RET506 - so that mypy sees that tomllib is there
        try:
            with open(path, "rb") as stream:
                raw = tomllib.load(stream)
        except (OSError, ValueError) as fault:
            raise ConfigError([f"cannot read `{path}`: {fault}"]) from fault
        own = raw.get("erroremail", raw)
        if not isinstance(own, dict):
            raise ConfigError([f"`erroremail` in `{path}` is not a table"])
        return own


def doubtful_keys(raw: Mapping[str, Any]) -> List[str]:
    """Return a sentence for each key that looks like one of ours misspelled; other unknown keys are left alone."""
    doubts = []
    for key in sorted(set(raw) - set(KEYS)):
        near = difflib.get_close_matches(key, KEYS, 1, 0.75)
        if near:
            doubts.append(f"{key} is no setting; did you mean {near[0]}?")
    return doubts


def parse_settings(raw: Mapping[str, Any]) -> Settings:
    """Turn a configuration into settings.

    Raises: ConfigError with every fault that it has.
    """
    read = _Reader(raw)
    sendmail = read.sendmail()
    server = read.server()
    if server is None and not sendmail:
        read.faults.append("neither SERVER nor SENDMAIL is set")
    recipients = read.mailboxes("TO")
    senders = read.mailboxes("FROM")
    if len(senders) > 1:
        read.faults.append("FROM has more than one address")
    settings = Settings(
        server=server,
        sendmail=sendmail,
        recipients=recipients,
        sender=senders[0] if senders else Mailbox("", ""),
        subject=read.text("SUBJECT") or DEFAULT_SUBJECT,
        timeout_s=read.number("TIMEOUT_S", 30.0, 0.1),
        with_locals=read.flag("LOCALS"),
        redact=read.words("REDACT"),
        rate=read.rate(),
    )
    if read.faults:
        raise ConfigError(read.faults)
    return settings


class _Reader:
    """Reads the values of a configuration and gathers what is wrong with them."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.faults: List[str] = []

    def text(self, key: str) -> str:
        value = self.raw.get(key, "")
        if isinstance(value, (str, int, os.PathLike)) and not isinstance(value, bool):
            return str(value).strip()
        self.faults.append(f"{key} must be a text, not {type(value).__name__}")
        return ""

    def number(self, key: str, default: float, least: float) -> float:
        value = self.raw.get(key, default)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if isinstance(value, bool) or not least <= number < 1e6:
            self.faults.append(f"{key} must be a number of at least {least}")
            return default
        return number

    def flag(self, key: str) -> bool:
        value = str(self.raw.get(key, "")).strip().lower()
        if value not in YES + NO:
            self.faults.append(f"{key} must be true or false")
        return value in YES

    def words(self, key: str) -> Tuple[str, ...]:
        value = self.raw.get(key, ())
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple, set, frozenset)) or not all(isinstance(part, str) for part in parts):
            self.faults.append(f"{key} must be a text or a list of texts")
            return ()
        return tuple(part.strip() for part in parts if part.strip())

    def mailboxes(self, key: str) -> Tuple[Mailbox, ...]:
        value = self.raw.get(key, "")
        parts = [value] if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple, set, frozenset)) or not all(isinstance(part, str) for part in parts):
            self.faults.append(f"{key} must be an address or a list of addresses")
            return ()
        found = []
        for part in parts:
            try:
                found.extend(parse_mailboxes(part))
            except ValueError as fault:
                self.faults.append(f"{key}: {fault}")
        if not found and not any(fault.startswith(key + ":") for fault in self.faults):
            self.faults.append(f"{key} is missing")
        return tuple(found)

    def server(self) -> Optional[Server]:
        host = self.text("SERVER")
        tls = self.text("TLS").lower()
        if tls not in DEFAULT_PORTS:
            self.faults.append(f"TLS must be `starttls` or `ssl`, not `{one_line(tls)}`")
            tls = ""
        port = int(self.number("PORT", DEFAULT_PORTS[tls], 1))
        if port > 65535:
            self.faults.append("PORT must be at most 65535")
        username, password = self.text("USERNAME"), self.text("PASSWORD")
        if bool(username) != bool(password):
            self.faults.append("USERNAME and PASSWORD belong together, and only one is set")
        if not host:
            return None
        if username and not tls and host not in ("localhost", "127.0.0.1", "::1"):
            self.faults.append("a password is not sent in clear to another host: set TLS, or leave USERNAME out")
        return Server(host, port, tls, username, password, self.text("CA_FILE"))

    def sendmail(self) -> Tuple[str, ...]:
        value = self.raw.get("SENDMAIL", "")
        if isinstance(value, (list, tuple)):
            return tuple(str(part) for part in value)
        text = str(value).strip()
        if text.lower() in YES:
            return (DEFAULT_SENDMAIL,)
        try:
            return () if text.lower() in NO else tuple(shlex.split(text))
        except ValueError as fault:
            self.faults.append(f"SENDMAIL is no command: {fault}")
            return ()

    def rate(self) -> Optional[Rate]:
        value = self.raw.get("RATE", "")
        path = self.text("RATE_FILE")
        if value in ("", 0):
            return None
        parts = value.split("/") if isinstance(value, str) else value
        try:
            count, minutes = parts
            rate = Rate(int(count), float(minutes), path)
        except (TypeError, ValueError):
            rate = Rate(0, 0.0)
        if rate.count < 1 or not 0 < rate.minutes < 1e6:
            self.faults.append("RATE must be `N/M`: at most N mails in M minutes, for example `5/60`")
            return None
        return rate


ATOM = re.compile(r"[^\s\x00-\x20\x7f()<>\[\]:;@\\,\"\x80-\x9f\u2028\u2029\ud800-\udfff]{1,64}")


def parse_mailboxes(text: str) -> List[Mailbox]:
    """Parse one or more addresses with or without names. A bare local name, as in `root`, is one too.

    Raises: ValueError when any of them is no address; line breaks and control characters never are.
    """
    if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text):
        raise ValueError(f"`{one_line(text)}` has control characters")
    found = []
    for name, address in email.utils.getaddresses([text] if text.strip() else []):  # of "", old ones find one
        local, at, domain = address.rpartition("@")
        if not at:
            local, domain = address, ""
        if not ATOM.fullmatch(local) or local.startswith("-") or (at and not domain) or address not in text:
            raise ValueError(f"`{one_line(text)}` is no address")
        found.append(Mailbox(name, local + at + _ascii_domain(domain)))
    return found


def _ascii_domain(domain: str) -> str:
    try:
        name = domain.encode("idna").decode("ascii").lower() if domain else ""
    except UnicodeError as fault:
        raise ValueError(f"`{one_line(domain)}` is no domain") from fault
    if domain and not re.fullmatch(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?|\[[0-9a-f.:]+\]", name):
        raise ValueError(f"`{one_line(domain)}` is no domain")
    return name


# --- Text -----------------------------------------------------------------------------------------------------------

ANSI = re.compile(  # commands, titles and strings (ended or given up after 2000 characters), and short sequences
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]{0,2000}(?:\x07|\x1b\\)|[ -/]*[0-OQ-WYZ\\`-~])"
)
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def without_ansi(text: str) -> str:
    """Remove the escape sequences of terminals, and what a progress bar has overwritten."""
    plain = ANSI.sub("", text) if "\x1b" in text else text
    if "\r" not in plain:
        return plain
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in plain.split("\n"))


def clean(text: str) -> str:
    """Make control characters, direction marks and lone surrogates visible; line ends become `\\n`."""
    if text.isascii() and text.isprintable():
        return text
    unified = text.replace("\r\n", "\n").replace("\r", "\n")
    return UNSEEN.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), unified)


def one_line(text: str) -> str:
    """Put a text on one line: no character of it ends a line, in a header or anywhere else."""
    return clean(" ".join(clip(text, RAW_CHARS).split()))


def clip(text: str, limit: int) -> str:
    """Shorten a text to about `limit` characters by leaving out its middle, and say how much is missing."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} [... {len(text) - 2 * half:,} characters left out ...] {text[-half:]}"


def describe(error: BaseException) -> str:
    """Return `Type: message` as the last line of a traceback has it; never raises."""
    kind = type_name(error)
    try:
        text = str(error)
    except BaseException as fault:  # noqa: BLE001 - whatever an exception's own code does, we go on
        text = f"<its message cannot be had: {type(fault).__name__}>"
    return f"{kind}: {text}" if text else kind


def type_name(error: BaseException) -> str:
    """Return the name of an exception's type, with its module where it is not a built-in."""
    kind = type(error)
    module = str(getattr(kind, "__module__", ""))
    name = str(getattr(kind, "__qualname__", kind.__name__))
    return name if module in ("builtins", "__main__") else f"{module}.{name}"


# --- Secrets --------------------------------------------------------------------------------------------------------

SECRET_NAME = (
    r"(?:passw(?:or)?d|passphrase|(?:(?<=[_-])pass|(?<![A-Za-z])pass(?=['\"]?\s{0,3}=))(?![a-z])|pwd|secret|token"
    r"|api[_-]?key|access[_-]?key|private[_-]?key|credential|auth(?:orization)?(?![a-z])|cookie|session[_-]?id"
    r"|signature|dsn(?![a-z]))"
)
SECRET_WORDS = frozenset(["pass", "pw", "pin", "passcode"])  # names that are secret only as a whole
NOT_SECRET = frozenset(["PWD", "OLDPWD"])  # the shell's directories
PLAIN_VALUES = frozenset(["true", "false", "none", "null", "yes", "string", "bytes", "optional", "default", "required"])
VALUE = (
    r"(?:[bfru]{0,2}(?:\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?)|\([^()\n]{0,200}\)"
    r"|(?:bearer|basic|digest|token)\s+[^\s'\"]+"
    r"|(?!(?:none|true|false|null|str|bytes|int|float|bool|optional)(?:[\s,;)\]}]|$))[^\s,;&|)\]}\"'<>]+)"
)
ASSIGNED = r"({name}[\w-]{{0,40}}['\"]?\]?\s{{0,8}}(?:=>|:=|=(?!=)|:(?!:))\s{{0,8}})(?!\[hidden\]){value}"
BASE64_LINE = re.compile(r"\s*[A-Za-z0-9+/=]{8,}\s*")

SHAPES: Tuple[Tuple[str, str], ...] = (
    # private keys, whole or cut off
    (
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----"
        r"(?:[\s\S]{0,12000}?-----END [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----"
        r"|(?:\s|\\[rn]|[A-Za-z0-9+/=:,-]){0,12000})",
        HIDDEN,
    ),
    # a password in a URL; with a token in place of the name only where that is usual
    (r"([a-z][a-z0-9+.-]{1,30}://[^\s:/@'\"<>]{0,200}:)[^\s'\"<>]{1,500}@", r"\1" + HIDDEN + "@"),
    (r"(https?://)[^\s:/@'\"<>]{8,300}@", r"\1" + HIDDEN + "@"),
    # headers and tokens
    (r"((?:set-)?cookie:\s{0,8})(?!['\"])[^\n]+", r"\1" + HIDDEN),
    (r"\b(bearer|basic)\s+[a-z0-9._~+/-]{8,}=*", r"\1 " + HIDDEN),
    (r"\beyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?", HIDDEN),
    # (AWS key ids, then a 40 character secret: mixed case and digits, so that no git commit is one)
    (r"\b(?-i:(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA)[A-Z0-9]{16})\b", HIDDEN),
    (
        r"(?<![\w/+=.-])(?-i:(?=[A-Za-z0-9/+]{0,39}[a-z])(?=[A-Za-z0-9/+]{0,39}[A-Z])(?=[A-Za-z/+]{0,39}[0-9])"
        r"[A-Za-z0-9/+]{40})(?![\w/+=.-])",
        HIDDEN,
    ),
    (r"\b(?-i:gh[pousr]_\w{30,}|github_pat_\w{30,}|glpat-[\w-]{15,}|xox[abeprs]-[\w-]{10,}|sk-[\w-]{20,}"
     r"|AIza[\w-]{30,}|pypi-[\w-]{30,})", HIDDEN),
    # options: `--password x`, `-u name:x`
    (r"((?<![\w-])--?[\w-]{0,30}" + SECRET_NAME + r"[\w-]{0,30}\s+)(?![-=:]|\[hidden\])[^\s'\"]+", r"\1" + HIDDEN),
    (r"(\s(?:-u|--user)[ =]?[^\s:'\"]{1,100}:)[^\s'\"]+", r"\1" + HIDDEN),
)  # fmt: skip
SHAPE_PATTERNS = tuple((re.compile(shape, re.IGNORECASE), hidden) for shape, hidden in SHAPES)
URL_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]{1,30}://[^\s:/@'\"<>]{0,200}:([^\s'\"<>]{1,500})@", re.IGNORECASE)


class Redactor:
    """Hides secrets in text: by the name they stand beside, by their value, and by their shape.

    `names` are further secret names, with `*` for any letters; `values` are secrets themselves. Values below four
    characters are not looked for, because they would be found everywhere.
    """

    def __init__(self, names: Iterable[str] = (), values: Iterable[str] = ()) -> None:
        self.names = tuple(name.lower() for name in names)
        wanted = [SECRET_NAME]
        for name in self.names:
            wanted.append(r"(?<!\w)" + re.escape(name).replace(r"\*", r"[\w-]{0,40}"))
        self._assigned = re.compile(ASSIGNED.format(name="(?:" + "|".join(wanted) + ")", value=VALUE), re.IGNORECASE)
        self._name = re.compile(SECRET_NAME, re.IGNORECASE)
        self._values: Set[str] = set()
        self._pattern: Optional[Any] = None
        self.learn(values)

    def is_secret_name(self, name: str) -> bool:
        """Tell whether what has this name is a secret."""
        if name in NOT_SECRET:
            return False
        lower = name.lower()
        if lower in SECRET_WORDS or any(fnmatch.fnmatchcase(lower, wanted) for wanted in self.names):
            return True
        return self._name.search(name) is not None

    def learn(self, values: Iterable[str]) -> None:
        """Hide these values from now on, also where they are quoted, escaped or encoded in a usual way."""
        for value in values:
            if len(self._values) >= SECRETS_KEPT:
                break
            text = value.strip()
            if len(text) >= SECRET_CHARS and text.lower() not in PLAIN_VALUES:
                self._values.update(_spellings(text))
        self._pattern = None

    def __call__(self, text: str) -> str:
        """Return the text with its secrets hidden."""
        if self._values:
            if self._pattern is None:
                longest_first = sorted(self._values, key=len, reverse=True)
                self._pattern = re.compile("|".join(map(re.escape, longest_first)))
            text = self._pattern.sub(HIDDEN, text)
        for pattern, hidden in SHAPE_PATTERNS:
            text = pattern.sub(hidden, text)
        return _hide_key_end(self._assigned.sub(r"\1" + HIDDEN, text))


def _spellings(value: str) -> Set[str]:
    """Return the ways in which a value may be written: as it is, escaped, percent-encoded, in base64."""
    raw = value.encode("utf-8", "surrogatepass")
    forms = {
        value,
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        urllib.parse.quote(raw, safe=""),
        urllib.parse.quote_plus(raw),
        html.escape(value),
        base64.b64encode(raw).decode("ascii"),
    }
    forms.update(line.strip() for line in value.splitlines() if len(line.strip()) >= 12)
    return {form for form in forms if len(form) >= SECRET_CHARS}


def _hide_key_end(text: str) -> str:
    """Hide the end of a private key whose beginning is not in the text, as in the tail of a log."""
    found = re.search(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}(-----)?", text)
    if found is None:
        return text
    lines = text[: found.start()].split("\n")
    if lines and not lines[-1]:
        lines.pop()
    while lines and BASE64_LINE.fullmatch(lines[-1]):
        lines.pop()
    return "\n".join([*lines, HIDDEN]) + text[found.end() :]


def secret_values(source: object, redactor: Redactor) -> List[str]:
    """Return the secrets in a value, a mapping or an object: what stands under a secret name, and passwords in URLs."""
    return _SecretHunt(redactor).search(source)


class _SecretHunt:
    """Walks values and runs no code of theirs but a mapping's `items`: no property, `__getattr__` or `__repr__`."""

    def __init__(self, redactor: Redactor) -> None:
        self.redactor = redactor
        self.found: List[str] = []
        self.nodes_left = NODES_SEEN
        self.seen: Set[int] = set()

    def search(self, source: object) -> List[str]:
        self._walk(source, 4, False)
        return self.found

    def search_frame(self, frame: types.FrameType) -> None:
        self._walk(frame.f_locals, 4, False)
        names = [name for name in list(frame.f_globals) if isinstance(name, str) and self.redactor.is_secret_name(name)]
        for name in names:
            if not callable(frame.f_globals.get(name)):
                self._walk(frame.f_globals.get(name), 3, True)

    def _walk(self, value: object, depth: int, is_secret: bool) -> None:
        if self.nodes_left <= 0 or len(self.found) > SECRETS_KEPT:
            return
        self.nodes_left -= 1
        if _is_a(value, (str, bytes, bytearray)):
            self._take(cast(Union[str, bytes, bytearray], value), is_secret)
        elif depth > 0 and id(value) not in self.seen and not _is_a(value, (int, float, type, types.ModuleType)):
            self.seen.add(id(value))
            for name, part in _parts(value):
                is_named = _is_a(name, (str,)) and self.redactor.is_secret_name(str(name))
                self._walk(part, depth - 1, is_secret or is_named)

    def _take(self, value: Union[str, bytes, bytearray], is_secret: bool) -> None:
        if len(value) > 20_000:
            return
        text = value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
        if is_secret:
            self.found.append(str(text))
        elif "://" in text:
            self.found.extend(URL_PASSWORD.findall(text))


def _is_a(value: object, kinds: Tuple[Any, ...]) -> bool:
    """Do as `isinstance` does, without asking the object itself: a proxy's `__class__` may raise."""
    return issubclass(type(value), kinds)


def _parts(value: object) -> Iterator[Tuple[object, object]]:
    """Yield what a value consists of, as (name or None, part)."""
    if _is_a(value, (Mapping,)):
        with contextlib.suppress(Exception):  # a mapping of somebody's own, or one that another thread changes
            yield from list(cast(Mapping[object, object], value).items())[:2000]
    elif _is_a(value, (list, tuple, set, frozenset, deque)):
        with contextlib.suppress(Exception):
            yield from ((None, part) for part in list(cast(Iterable[object], value))[:200])
    elif not _is_a(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.FrameType)):
        with contextlib.suppress(Exception):
            attributes = object.__getattribute__(value, "__dict__")
            if isinstance(attributes, dict):
                yield from list(attributes.items())[:200]
        for slot in getattr(type(value), "__slots__", ()):
            with contextlib.suppress(Exception):
                yield (slot, object.__getattribute__(value, slot))


# --- What a mail says -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """One step of a traceback: where, the source around it as (number, text), and the locals where wanted."""

    path: str
    line: int
    function: str
    source: Tuple[Tuple[int, str], ...]
    variables: Tuple[Fact, ...]
    is_own: bool


@dataclass(frozen=True)
class Link:
    """One exception of a chain or group. `relation` says how it came after the one before; `depth` counts groups."""

    relation: str
    text: str
    frames: Tuple[Frame, ...]
    depth: int = 0


@dataclass(frozen=True)
class Draft:
    """What is to be said, before secrets are hidden; `cause` is the same for the same failure."""

    title: str
    kind: str
    facts: Tuple[Fact, ...]
    text: str
    cause: str
    redactor: Redactor
    links: Tuple[Link, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)


def draft_error(error: BaseException, settings: Settings, extra: Mapping[str, object]) -> Draft:
    """Gather what there is to say about an exception. Runs `repr` of local variables only where LOCALS asks for it."""
    redactor = Redactor(settings.redact)
    errors = chain(error)
    redactor.learn(_known_secrets(settings, redactor, extra, (each for each, _, _ in errors)))
    links = make_links(errors, settings, redactor)
    text = render_traceback(error)
    if settings.with_locals:
        text += render_variables(links)
    where = "\n".join(f"{os.path.basename(frame.path)}:{frame.function}" for frame in links[-1].frames)
    return Draft(
        title=describe(error),
        kind=type_name(error),
        facts=(*_extra_facts(extra), *_surroundings()),
        text=text,
        cause=_digest("\n".join([_script(), type_name(error), where])),
        redactor=redactor,
        links=links,
        extra=extra,
    )


def draft_text(title: str, text: str, settings: Settings, extra: Mapping[str, object]) -> Draft:
    """Gather what there is to say about something that is no exception."""
    redactor = Redactor(settings.redact)
    redactor.learn(_known_secrets(settings, redactor, extra, ()))
    facts = (*_extra_facts(extra), *_surroundings())
    cause = _digest("\n".join([_script(), re.sub(r"[0-9]+", "#", title)]))
    return Draft(title, "", facts, text, cause, redactor, extra=extra)


def _known_secrets(
    settings: Settings, redactor: Redactor, extra: Mapping[str, object], errors: Iterable[BaseException]
) -> List[str]:
    hunt = _SecretHunt(redactor)
    hunt.search(os.environ)
    hunt.search(extra)
    hunt.search(list(sys.argv))
    for error in errors:
        hunt.search(getattr(error, "args", ()))
        for frame, _ in traceback.walk_tb(error.__traceback__):
            hunt.search_frame(frame)
    own = [settings.server.password] if settings.server is not None else []
    return own + hunt.found


def _extra_facts(extra: Mapping[str, object]) -> Tuple[Fact, ...]:
    return tuple((name, safe_text(value)) for name, value in extra.items())


def safe_text(value: object) -> str:
    """Return `str(value)`, or what went wrong with it."""
    try:
        return str(value)
    except Exception as fault:  # noqa: BLE001 - the value's own code
        return f"<it cannot be shown: {type(fault).__name__}>"


def _surroundings() -> Tuple[Fact, ...]:
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    facts = [
        ("host", socket.gethostname()),
        ("user", _user()),
        ("command", shlex.join(sys.argv) if sys.argv else ""),
        ("directory", _directory()),
        ("process", str(os.getpid())),
        ("python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("time", now.isoformat().replace("+00:00", "Z")),
    ]
    return tuple((name, value) for name, value in facts if value)


def _user() -> str:
    try:
        return getpass.getuser()
    except Exception:  # noqa: BLE001 - KeyError, ImportError or OSError by version: a user without a name
        return str(os.getuid()) if hasattr(os, "getuid") else ""


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _script() -> str:
    return os.path.abspath(sys.argv[0]) if sys.argv and sys.argv[0] not in ("", "-c", "-m") else "python"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _members(error: BaseException) -> Tuple[BaseException, ...]:
    """Return the members of an exception group, also of the `exceptiongroup` package on older Pythons."""
    if not any(kind.__name__ == "BaseExceptionGroup" for kind in type(error).__mro__):
        return ()
    members = getattr(error, "exceptions", ())
    return tuple(each for each in members if isinstance(each, BaseException)) if isinstance(members, tuple) else ()


def chain(error: BaseException) -> List[Tuple[BaseException, str, int]]:
    """Return an exception with its causes and contexts, oldest first and each once, groups' members after their group.

    Each comes with how it relates to the one before it, and how deep in groups it is. At most `LINKS_SHOWN`, of which
    the newest are kept.
    """
    return _chain(error, 0, "", set())[-LINKS_SHOWN:]


def _chain(error: BaseException, depth: int, label: str, seen: Set[int]) -> List[Tuple[BaseException, str, int]]:
    newest_first: List[Tuple[BaseException, str]] = []
    current: Optional[BaseException] = error
    while current is not None and id(current) not in seen and len(seen) < 10 * LINKS_SHOWN:
        seen.add(id(current))
        older, relation = current.__cause__, CAUSE
        if older is None and not current.__suppress_context__:
            older, relation = current.__context__, CONTEXT
        newest_first.append((current, relation if older is not None and id(older) not in seen else label))
        current = older
    result = []
    for each, relation in reversed(newest_first):
        result.append((each, relation, depth))
        members = _members(each)
        for number, member in enumerate(members[:LINKS_SHOWN], 1):
            part = f"Part {number} of {len(members)}"
            result.extend(_chain(member, depth + 1, part, seen))
    return result


def make_links(errors: Sequence[Tuple[BaseException, str, int]], settings: Settings, redactor: Redactor) -> Tuple[Link, ...]:
    """Turn exceptions into what the HTML part and the list of variables are made of."""
    show = _Show(redactor) if settings.with_locals else None
    most = max(4, FRAMES_SHOWN // max(1, len(errors)))
    links = []
    for error, label, depth in errors:
        steps = list(traceback.walk_tb(error.__traceback__))
        kept = steps if len(steps) <= most else steps[: most // 4] + steps[-(most - most // 4) :]
        frames = tuple(make_frame(frame, line, show) for frame, line in kept)
        if not any(frame.is_own for frame in frames):  # everything happened in libraries: then that is what counts
            frames = tuple(Frame(f.path, f.line, f.function, f.source, f.variables, True) for f in frames)
        text = "\n".join([describe(error), *_notes(error)])
        cut = f" ({len(kept)} of {len(steps)} frames are shown)" if len(kept) < len(steps) else ""
        links.append(Link((label + cut).strip(), text, frames, depth))
    return tuple(links)


def _notes(error: BaseException) -> List[str]:
    notes = getattr(error, "__notes__", None)
    if not isinstance(notes, (list, tuple)):
        return []
    return [safe_text(note) for note in notes]


def make_frame(frame: types.FrameType, line: int, show: Optional[_Show]) -> Frame:
    """Describe one step of a traceback, with the source around it as far as it can be read."""
    path = frame.f_code.co_filename
    source = []
    for number in range(max(1, line - CONTEXT_LINES), line + CONTEXT_LINES + 1):
        text = linecache.getline(path, number, frame.f_globals)
        if text:
            source.append((number, text.rstrip("\n")))
    is_own = _is_own(path)
    variables = show.variables(frame.f_locals) if show is not None and is_own else ()
    name = str(getattr(frame.f_code, "co_qualname", frame.f_code.co_name))
    return Frame(path, line, name, tuple(source), variables, is_own)


def _is_own(path: str) -> bool:
    """Tell whether a source file is the script's own: not of the standard library, not of an installed package."""
    if path.startswith("<") or "site-packages" in path or "dist-packages" in path:
        return False
    return not path.startswith(os.path.join(sysconfig.get_path("stdlib"), ""))


def render_traceback(error: BaseException) -> str:
    """Return the traceback as Python prints it, with causes, contexts, groups and notes; never raises."""
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception as fault:  # noqa: BLE001 - the exception's own code, or a chain too long for an old Python
        steps = "".join(traceback.format_tb(error.__traceback__))
        why = f"(the rest cannot be shown: {type(fault).__name__})"
        text = f"Traceback (most recent call last):\n{steps}{describe(error)}\n{why}\n"
    if sys.version_info < (3, 11):  # this Python knows nothing of notes
        text += "".join(note + "\n" for note in _notes(error))
    return text


def render_variables(links: Sequence[Link]) -> str:
    """List the local variables of the script's own frames, for the plain part."""
    lines = []
    for link in links:
        for frame in link.frames:
            if frame.variables:
                lines.append(f'\nLocal variables in {frame.function}, "{frame.path}", line {frame.line}:')
                lines.extend(f"  {name} = {value}" for name, value in frame.variables)
    return "\n".join(lines) + "\n" if lines else ""


class _Show(reprlib.Repr):
    """Shows values in bounded space, whatever their `__repr__` does. Secrets go before anything is cut."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self.redactor = redactor
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple, self.maxset = 4, 20, 20, 20, 20

    def variables(self, scope: Mapping[str, object]) -> Tuple[Fact, ...]:
        shown = []
        for name, value in list(scope.items())[:100]:
            if name.startswith("__") or _is_a(value, (types.ModuleType, types.FunctionType, type)):
                continue
            text = HIDDEN if self.redactor.is_secret_name(name) else self._safe(value, self.repr)
            shown.append((name, clip(self.redactor(text), VALUE_CHARS)))
        return tuple(shown)

    def _safe(self, value: object, show: Callable[[object], str]) -> str:
        try:
            return show(value)
        except KeyboardInterrupt:
            raise
        except BaseException as fault:  # noqa: BLE001 - whatever somebody's `__repr__` raises, we go on
            return f"<{type(value).__name__} object, whose repr() raised {type(fault).__name__}>"

    def repr_str(self, value: str, level: int) -> str:
        return clip(repr(self.redactor(clip(value, RAW_VALUE_CHARS))), VALUE_CHARS)

    def repr_bytes(self, value: bytes, level: int) -> str:
        return clip("b" + repr(self.redactor(clip(value.decode("latin-1"), RAW_VALUE_CHARS))), VALUE_CHARS)

    def repr_instance(self, value: object, level: int) -> str:
        return self._safe(value, lambda value: clip(self.redactor(clip(repr(value), RAW_VALUE_CHARS)), VALUE_CHARS))


# --- The mail itself ------------------------------------------------------------------------------------------------


def compose(settings: Settings, draft: Draft, held: int = 0) -> email.message.EmailMessage:
    """Make the mail: secrets hidden, both parts, no line over 998 octets, nothing to inject a header with."""
    is_wide = not all(box.address.isascii() for box in (*settings.recipients, settings.sender))
    mail = email.message.EmailMessage(email.policy.SMTPUTF8 if is_wide else email.policy.SMTP)
    title = one_line(draft.redactor(clip(draft.title, RAW_CHARS)))
    mail["Subject"] = make_subject(settings.subject, draft, title)
    mail["From"] = settings.sender.header()
    mail["To"] = [box.header() for box in settings.recipients]
    mail["Date"] = email.utils.format_datetime(datetime.datetime.now(datetime.timezone.utc))
    domain = settings.sender.address.rpartition("@")[2]
    if not re.fullmatch(r"[a-z0-9.-]{1,30}", domain):
        domain = "erroremail.invalid"  # an id must fit on one line: folding would break it
    mail["Message-ID"] = f"<{draft.cause}.{uuid.uuid4().hex[:16]}@{domain}>"
    mail["References"] = f"<{draft.cause}@{domain}>"  # the same failure makes one thread
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail["X-ErrorEmail-Cause"] = draft.cause
    mail.set_content(render_plain(draft, title, held), cte="quoted-printable")
    mail.add_alternative(render_html(draft, title, held), subtype="html", cte="quoted-printable")
    return mail


def make_subject(template: str, draft: Draft, title: str) -> str:
    """Fill the subject's template with `{message}`, `{type}`, `{host}`, `{script}` and the extra values."""
    values: Dict[str, object] = {
        "type": draft.kind,
        "host": socket.gethostname(),
        "script": os.path.basename(_script()),
        **draft.extra,
        "message": clip(title, SUBJECT_CHARS),
    }
    try:
        subject = _Lenient().vformat(template, (), values)
    except Exception:  # noqa: BLE001 - a template of somebody's own, and values with code of their own
        subject = DEFAULT_SUBJECT.format(**values)
    line = one_line(draft.redactor(clip(subject, RAW_CHARS)))
    return clip(line.replace("=?", "= ?"), SUBJECT_CHARS + 60)  # an encoded word could bring a line break back in


class _Lenient(string.Formatter):
    """Leaves a name that it does not know as it stands, so that a mistake in a subject costs no mail."""

    def get_value(self, key: Union[int, str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return kwargs[key] if isinstance(key, str) and key in kwargs else "{" + str(key) + "}"


def _held_note(held: int) -> str:
    if not held:
        return ""
    failures = "1 earlier failure was" if held == 1 else f"{held:,} earlier failures were"
    return failures + " not mailed, because of the rate limit or because no server took the mail."


def render_plain(draft: Draft, title: str, held: int) -> str:
    """Return the plain part: what failed, the circumstances, then the whole text."""
    width = max((len(name) for name, _ in draft.facts), default=0) + 2
    facts = [f"  {name.ljust(width)}{one_line(draft.redactor(clip(value, RAW_VALUE_CHARS)))}" for name, value in draft.facts]
    note = _held_note(held)
    text = tidy(draft.text, draft.redactor)
    return "\n".join([clip(title, 1000), *(["", note] if note else []), "", *facts, "", text.rstrip("\n"), ""])


def tidy(text: str, redactor: Redactor, limit: int = TEXT_CHARS) -> str:
    """Hide secrets, make control characters visible, cut to size; in this order, so that no half of a secret stays."""
    return clip(clean(redactor(clip(text, RAW_CHARS))), limit)


# Colours come in pairs of text and ground, so that neither is ever seen on somebody else's; the style sheet serves the
# programs that read one and know dark mode, the inline styles all others.
DARK = (
    ":root{color-scheme:light dark}"
    "@media (prefers-color-scheme:dark){"
    ".page{background:#15181c!important;color:#e3e6ea!important}"
    ".soft{color:#a3abb5!important}"
    ".box{background:#1f242a!important;color:#e3e6ea!important;border-color:#3a424c!important}"
    ".here{background:#5b1f22!important;color:#ffe3e1!important}"
    ".head{background:#5b1f22!important;color:#ffe9e7!important}"
    ".note{background:#4a3a10!important;color:#ffeec2!important}}"
)
SANS = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;"
MONO = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
WRAP = "white-space:pre-wrap;word-break:break-word;overflow-wrap:anywhere;"
LOOKS = {
    "page": "background:#ffffff;color:#1c2127;",
    "soft": "color:#5b6570;",
    "box": "background:#f5f6f8;color:#1c2127;border:1px solid #d9dde2;",
    "here": "background:#f9c9c5;color:#5c0d0a;",
    "head": "background:#fbe4e2;color:#7a1512;",
    "note": "background:#fff3cd;color:#5c4400;",
}
PAGE = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    '<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">\n'
    '<title>{title}</title><style>{dark}</style></head>\n<body class="page" style="margin:0;padding:0;{page}{sans}">'
)


def render_html(draft: Draft, title: str, held: int) -> str:
    """Return the HTML part: tables and inline styles only, readable at phone width and in dark mode."""
    note = _held_note(held)
    top = "border-left:4px solid #c62828;padding:10px 12px;font-size:17px;font-weight:600;"
    body = [_block("head", top, clip(title, 1000))]
    if note:
        body.append(_block("note", "padding:8px 12px;margin-top:8px;", note))
    shown = [
        (clean(name), clip(one_line(draft.redactor(clip(value, RAW_VALUE_CHARS))), 1000)) for name, value in draft.facts
    ]
    body.append(_pairs(shown, "margin:12px 0;font-size:14px;", 92))
    if draft.links:
        body.extend(_html_link(link, draft.redactor) for link in draft.links)
    else:
        text = tidy(draft.text, draft.redactor, TEXT_CHARS // 2)
        body.append(_block("box", "padding:8px 10px;margin:8px 0;font-size:13px;line-height:1.4;" + MONO, text))
    column = _table("max-width:760px;", f'<tr><td style="font-size:15px;line-height:1.45;{SANS}">{"".join(body)}</td></tr>')
    page = _table(LOOKS["page"], f'<tr><td align="center" style="padding:12px;">{column}</td></tr>', "page")
    head = PAGE.format(title=html.escape(clip(title, SUBJECT_CHARS)), dark=DARK, page=LOOKS["page"], sans=SANS)
    return head + page + "</body></html>\n"


def _block(look: str, style: str, text: str) -> str:
    return f'<div class="{look}" style="text-align:left;{LOOKS[look]}{style}{WRAP}">{html.escape(text)}</div>\n'


def _table(style: str, rows: str, look: str = "") -> str:
    name = f' class="{look}"' if look else ""
    layout = 'role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0"'
    return f'<table{name} {layout} style="table-layout:fixed;{style}">{rows}</table>\n'


def _pairs(pairs: Iterable[Fact], style: str, width: int) -> str:
    """Return a table of names and values."""
    name_style = f"width:{width}px;padding:2px 10px 2px 0;text-align:left;vertical-align:top;{LOOKS['soft']}{WRAP}"
    value_style = f"padding:2px 0;text-align:left;vertical-align:top;{WRAP}"
    rows = [
        f'<tr><td class="soft" width="{width}" style="{name_style}">{html.escape(name)}</td>'
        f'<td style="{value_style}">{html.escape(value)}</td></tr>\n'
        for name, value in pairs
    ]
    return _table(style, "".join(rows))


def _html_link(link: Link, redactor: Redactor) -> str:
    parts = []
    if link.relation:
        parts.append(_block("soft", "margin:14px 0 6px;font-style:italic;", link.relation))
    parts.extend(_html_frame(frame, redactor) for frame in link.frames)
    text = tidy(link.text, redactor, 8000)
    parts.append(_block("head", "padding:8px 10px;margin:8px 0;font-size:13px;" + MONO, text))
    return '<div style="margin-left:{}px;">{}</div>'.format(10 * min(link.depth, 4), "".join(parts))


def _html_frame(frame: Frame, redactor: Redactor) -> str:
    place = html.escape(f"{clean(redactor(frame.path))}, line {frame.line}")
    name = html.escape(clean(redactor(frame.function)))
    head = (
        f'<div style="margin:10px 0 2px;font-size:13px;text-align:left;{WRAP}"><b>{name}</b> '
        f'<span class="soft" style="{LOOKS["soft"]}">{place}</span></div>\n'
    )
    source = frame.source if frame.is_own else tuple(row for row in frame.source if row[0] == frame.line)
    if not source:
        return head
    rows = [_html_source(number, text, number == frame.line, redactor) for number, text in source]
    table = _table(LOOKS["box"] + "font-size:12px;line-height:1.45;" + MONO, "".join(rows), "box")
    variables = [(clean(name), clean(value)) for name, value in frame.variables]
    return head + table + (_pairs(variables, "font-size:12px;margin-top:4px;" + MONO, 110) if variables else "")


def _html_source(number: int, text: str, is_failing: bool, redactor: Redactor) -> str:
    shown = html.escape(clip(clean(redactor(text.expandtabs(4))), LINE_CHARS))
    row = f' class="here" style="{LOOKS["here"]}font-weight:600;"' if is_failing else ""
    return (
        f'<tr{row}><td width="38" style="width:38px;padding:1px 6px 1px 0;text-align:right;vertical-align:top;">'
        f'{number}</td><td style="padding:1px 6px;text-align:left;vertical-align:top;{WRAP}">{shown}</td></tr>\n'
    )


# --- Handing over ---------------------------------------------------------------------------------------------------


def deliver(settings: Settings, draft: Draft) -> None:
    """Send what was drafted, unless the rate limit holds it back.

    Raises: HeldBack; HandoverError when nobody took the mail, or not all recipients' servers did.
    """
    if settings.rate is None:
        hand_over(settings, compose(settings, draft))
        return
    counter = RateCounter(settings.rate, settings)
    held = counter.take()
    try:
        hand_over(settings, compose(settings, draft, held))
    except Exception:
        counter.note_failed()
        raise
    counter.note_told(held)


def hand_over(settings: Settings, mail: email.message.EmailMessage) -> None:
    """Give a mail to the server, else to sendmail where one is set, all within `timeout_s`.

    Where both are set, the server gets two thirds of the time. sendmail is also tried when the connection broke after
    the mail's text was sent: then it may arrive twice, with the same Message-ID, which is better than never.
    Raises: HandoverError
    """
    deadline = time.monotonic() + settings.timeout_s
    reasons = []
    if settings.server is not None:
        limit_s = settings.timeout_s * (2 / 3 if settings.sendmail else 1)
        try:
            refused = send_by_smtp(settings.server, envelope_of(settings, mail), time.monotonic() + limit_s)
        except Exception as fault:  # noqa: BLE001 - smtplib, ssl and socket raise many kinds, and all mean the same here
            reasons.append(f"{settings.server.host}:{settings.server.port}: {explain(fault)}")
        else:
            if refused:
                raise HandoverError("only some recipients got it: " + _answers(refused))
            return
    if settings.sendmail:
        try:
            send_by_sendmail(settings.sendmail, envelope_of(settings, mail), deadline)
        except (OSError, subprocess.SubprocessError, HandoverError) as fault:
            reasons.append(f"`{settings.sendmail[0]}`: {explain(fault)}")
        else:
            return
    raise HandoverError("; ".join(reasons))


def explain(fault: BaseException) -> str:
    """Say in a few words why a hand-over failed, with the server's answer where it gave one."""
    if isinstance(fault, smtplib.SMTPRecipientsRefused):
        return "all recipients were refused: " + _answers(fault.recipients)
    if isinstance(fault, smtplib.SMTPResponseException):
        answer = fault.smtp_error
        text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)
        return f"it answered {fault.smtp_code} {one_line(text)}"
    is_smtplibs_timeout = isinstance(fault, smtplib.SMTPServerDisconnected) and "timed out" in str(fault)
    if is_smtplibs_timeout or isinstance(fault, (socket.timeout, TimeoutError, subprocess.TimeoutExpired)):
        return "no answer in time"
    if isinstance(fault, HandoverError):
        return str(fault)
    return "{} ({})".format(one_line(str(fault)) or "no reason given", type(fault).__name__)


def _answers(recipients: Mapping[str, Tuple[int, bytes]]) -> str:
    return ", ".join(
        "{}: {} {}".format(address, code, one_line(text.decode("utf-8", "replace") if isinstance(text, bytes) else text))
        for address, (code, text) in recipients.items()
    )


@dataclass(frozen=True)
class Envelope:
    """A mail ready for the wire: who sends, who receives, its octets with CRLF line ends."""

    sender: str
    recipients: Tuple[str, ...]
    data: bytes

    @property
    def is_wide(self) -> bool:
        """Tell whether an address needs SMTPUTF8."""
        return not all(address.isascii() for address in (self.sender, *self.recipients))


def envelope_of(settings: Settings, mail: email.message.EmailMessage) -> Envelope:
    """Return what goes over the wire."""
    return Envelope(settings.sender.address, tuple(box.address for box in settings.recipients), mail.as_bytes())


def send_by_smtp(server: Server, envelope: Envelope, deadline: float) -> Dict[str, Tuple[int, bytes]]:
    """Send by SMTP, wholly over by `deadline` (monotonic); return the recipients that were refused, with the answers.

    Raises: OSError (of which smtplib's are kinds), TimeoutError when the deadline passed.
    """
    line = Line()

    def talk() -> Dict[str, Tuple[int, bytes]]:
        client = open_smtp(server, deadline, line)
        try:
            refused = submit(client, envelope)
        finally:
            line.end(client)
        return refused

    return run_bounded(talk, deadline, line.cut)


class Line:
    """The connection of a hand-over, so that it can be cut from another thread when the time is over."""

    def __init__(self) -> None:
        self.client: Optional[smtplib.SMTP] = None

    def cut(self) -> None:
        """Make whatever waits on the connection fail at once."""
        if self.client is not None and self.client.sock is not None:
            with contextlib.suppress(OSError):
                self.client.sock.shutdown(socket.SHUT_RDWR)

    def end(self, client: smtplib.SMTP) -> None:
        """Say goodbye; the mail's fate is known by now, so what happens here does not count."""
        with contextlib.suppress(Exception):
            if client.sock is not None:
                client.sock.settimeout(1.0)
            client.quit()
        with contextlib.suppress(Exception):
            client.close()


def open_smtp(server: Server, deadline: float, line: Optional[Line] = None) -> smtplib.SMTP:
    """Connect, secure the connection and log in.

    Raises: OSError, which smtplib's and ssl's errors are.
    """
    left_s = max(0.1, deadline - time.monotonic())
    name = _own_name()
    if server.tls == "ssl":
        context = ssl.create_default_context(cafile=server.ca_file or None)
        client: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, name, timeout=left_s / 2, context=context)
    else:
        client = smtplib.SMTP(server.host, server.port, name, timeout=left_s / 2)
    if line is not None:
        line.client = client
    try:
        if client.sock is not None:
            client.sock.settimeout(max(0.1, deadline - time.monotonic()))
        if server.tls == "starttls":
            client.starttls(context=ssl.create_default_context(cafile=server.ca_file or None))
        if server.username:
            client.login(server.username, server.password)
    except BaseException:
        client.close()
        raise
    return client


def _own_name() -> str:
    """Return how we greet: our host's full name, if it has one. smtplib's way may wait for a dead name server."""
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name) else "[127.0.0.1]"


def submit(client: smtplib.SMTP, envelope: Envelope) -> Dict[str, Tuple[int, bytes]]:
    """Send one mail over an open connection; return the recipients that were refused, with the answers.

    Raises: smtplib.SMTPException when none took it.
    """
    options: List[str] = []
    client.ehlo_or_helo_if_needed()
    if envelope.is_wide:
        if not client.has_extn("smtputf8"):
            raise smtplib.SMTPNotSupportedError("it does not take addresses outside ASCII (SMTPUTF8)")
        options = ["SMTPUTF8", "BODY=8BITMIME"]
    return client.sendmail(envelope.sender, list(envelope.recipients), envelope.data, options)


def run_bounded(call: Callable[[], T], deadline: float, cut: Callable[[], None]) -> T:
    """Run `call` in a thread and be back by `deadline`, whatever it does: name servers hang where no timeout reaches.

    When it is not done by then, `cut` is called to make it fail soon, and the thread is left to end by itself.
    Raises: TimeoutError; whatever `call` raises.
    """
    answer: List[T] = []
    fault: List[BaseException] = []

    def work() -> None:
        try:
            answer.append(call())
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that waits
            fault.append(error)

    thread = threading.Thread(target=work, name="erroremail", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is shutting down and starts no threads: then each call has its own timeout
        return call()
    try:
        thread.join(max(0.0, deadline - time.monotonic()))
    finally:
        if thread.is_alive():
            cut()
    if answer:
        return answer[0]
    if fault:
        raise fault[0]
    raise TimeoutError("no answer in time")


def send_by_sendmail(command: Sequence[str], envelope: Envelope, deadline: float) -> None:
    """Give the mail to a program that takes what sendmail takes.

    Raises: OSError, subprocess.TimeoutExpired; HandoverError when it ended with another status than 0.
    """
    with tempfile.TemporaryFile() as errors:  # no pipe: Exim delivers in the background and would keep it open
        done = subprocess.run(
            [*command, "-i", "-f", envelope.sender, "--", *envelope.recipients],
            input=envelope.data.replace(b"\r\n", b"\n"),
            stdout=subprocess.DEVNULL,
            stderr=errors,
            timeout=max(0.1, deadline - time.monotonic()),
            check=False,
        )
        errors.seek(0)
        said = one_line(errors.read(10_000).decode("utf-8", "replace"))[-300:]
    if done.returncode:
        raise HandoverError(f"it ended with {done.returncode}{': ' + said if said else ''}")


# --- The rate limit -------------------------------------------------------------------------------------------------


class RateCounter:
    """Counts the mails of a configuration in a file that all its processes share.

    The file is locked while it is read and written. When it cannot be used, mails are sent uncounted: a flood is better
    than silence. Without `fcntl` (Windows) nothing is locked. Times are of the wall clock, and those from the future
    are forgotten.
    """

    def __init__(self, rate: Rate, settings: Settings, now: Callable[[], float] = time.time) -> None:
        self.rate = rate
        self.now = now
        self.path = rate.path or _own_rate_path(settings)

    def take(self) -> int:
        """Count one mail that is about to be sent; return how many failures were not mailed since the last one.

        Raises: HeldBack when there have been enough.
        """

        def change(state: Dict[str, Any]) -> None:
            now = self.now()  # under the lock: else the mails that others have just counted would be in the future
            state["sent"] = [at for at in state["sent"] if now - self.rate.minutes * 60 < at <= now]
            if len(state["sent"]) < self.rate.count:
                state["sent"].append(now)
                state["taken"] = True
            else:
                state["held"] += 1

        state = self._update(change)
        if not state.get("taken"):
            raise HeldBack(
                "RATE allows {} in {:g} minutes; it is counted ({} so far) and the next mail will say so".format(
                    self.rate.count, self.rate.minutes, state["held"]
                )
            )
        return int(state["held"])

    def note_failed(self) -> None:
        """Count a failure whose mail nobody took."""

        def change(state: Dict[str, Any]) -> None:
            state["held"] += 1

        self._update(change)

    def note_told(self, held: int) -> None:
        """Take off what a mail has told; what came in the meantime stays."""

        def change(state: Dict[str, Any]) -> None:
            state["held"] = max(0, state["held"] - held)

        if held:
            self._update(change)

    def _update(self, change: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        except OSError as fault:
            complain_of_rate(self.path, fault)
            return {"sent": [], "held": 0, "taken": True}
        try:
            _lock(handle)
            state = _parse_count(os.read(handle, 1_000_000))
            change(state)
            text = json.dumps({"sent": state["sent"], "held": state["held"]}).encode()
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, text)
            os.ftruncate(handle, len(text))
        except OSError as fault:
            complain_of_rate(self.path, fault)
            return {"sent": [], "held": 0, "taken": True}
        finally:
            os.close(handle)
        return state


def complain_of_rate(path: str, fault: OSError) -> None:
    """Say on stderr that mails are not counted."""
    with contextlib.suppress(Exception):
        sys.stderr.write(f"erroremail: mails are not counted: `{one_line(path)}`: {one_line(str(fault))}\n")


def _parse_count(data: bytes) -> Dict[str, Any]:
    """Read the rate file; one that makes no sense counts as empty."""
    try:
        raw = json.loads(data)
        return {"sent": [float(at) for at in raw["sent"]], "held": int(raw["held"])}
    except (ValueError, TypeError, KeyError):
        return {"sent": [], "held": 0}


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        return
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _own_rate_path(settings: Settings) -> str:
    """Return a file for this script and these recipients, in a directory that nobody else can write to."""
    user = str(os.getuid()) if hasattr(os, "getuid") else _user()
    directory = os.path.join(tempfile.gettempdir(), "erroremail-" + user)
    with contextlib.suppress(FileExistsError, OSError):
        os.mkdir(directory, 0o700)
    with contextlib.suppress(OSError):
        found = os.lstat(directory)
        is_ours = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
        if stat.S_ISDIR(found.st_mode) and is_ours:
            key = "\n".join([_script(), *(box.address for box in settings.recipients)])
            return os.path.join(directory, _digest(key) + ".json")
    return os.path.join(directory, "not-ours", "count.json")  # cannot be opened: somebody else made the directory


# --- The command line -----------------------------------------------------------------------------------------------


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run a command and mail its output and exit status when it failed; return the status to exit with."""
    options = _parse_arguments(sys.argv[1:] if arguments is None else arguments)
    mailer = ErrorEmail(_command_config(options))
    if options.check:
        faults = mailer.check()
        for fault in faults:
            sys.stderr.write(f"erroremail: {one_line(fault)}\n")
        return 78 if faults else 0
    run = run_command(options.command, options.tail)
    if run.status or options.always:
        facts = {"ran": shlex.join(options.command), "status": run.meaning, "took": _duration(run.took_s)}
        name = options.name or shlex.join(options.command)
        mailer.send(f"{name} {run.meaning}", run.tail or "(no output)\n", **facts)
    return run.status


def _parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="erroremail",
        usage="%(prog)s [options] -- command [argument ...]",
        description="Run a command, pass its output through, and mail the end of it when the command failed.",
        epilog="What is not given here is read from ERROREMAIL_SERVER, ERROREMAIL_TO and so on; ERROREMAIL_CONFIG "
        "names a TOML file. Exits as the command did; 128+n for signal n, 127 when it is not found, 126 when it cannot "
        "be run.",
    )
    parser.add_argument("--config", metavar="FILE", help="read the settings from this TOML file")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="set one setting; may be repeated")
    parser.add_argument("--always", action="store_true", help="mail also when the command succeeded")
    parser.add_argument("--tail", type=int, default=200, metavar="N", help="lines of output in the mail (default 200)")
    parser.add_argument("--name", help="what to call the command in the subject")
    parser.add_argument("--check", action="store_true", help="say what is wrong with the settings, and run nothing")
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.command[:1] == ["--"]:
        del options.command[0]
    if not options.command and not options.check:
        parser.error("no command; put it after `--`")
    for pair in options.set:
        if "=" not in pair:
            parser.error(f"--set takes KEY=VALUE, not `{pair}`")
    return options


def _command_config(options: argparse.Namespace) -> Source:
    """Merge environment, file and options; a fault is left for later, because the command must run all the same."""
    wanted = dict(pair.split("=", 1) for pair in options.set)
    if not wanted:
        return cast(Source, options.config)
    try:
        return {**load_config(options.config), **_upper(wanted)}
    except ConfigError:
        return cast(Source, options.config)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


@dataclass(frozen=True)
class Run:
    """What came of a command: the status to exit with, that in words, how long it took, the end of its output."""

    status: int
    meaning: str
    took_s: float
    tail: str


def run_command(command: Sequence[str], tail_lines: int) -> Run:
    """Run a command; its output goes on at once, and signals that we get go on to it."""
    begun = time.monotonic()
    with _Signals() as signals:
        try:
            child = subprocess.Popen(list(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as fault:
            status = 127 if isinstance(fault, (FileNotFoundError, NotADirectoryError)) else 126
            why = f"cannot be run: {fault.strerror or fault}"
            sys.stderr.write(f"erroremail: `{one_line(command[0])}` {why}\n")
            return Run(status, why, time.monotonic() - begun, "")
        signals.pass_to(child)
        kept = _pass_through(child)
        code = child.wait()
    took_s = time.monotonic() - begun
    status = code if code >= 0 else 128 - code
    return Run(status, _meaning(code), took_s, _last_lines(kept, tail_lines))


def _meaning(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}" if code else "succeeded"
    try:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was killed by signal {-code}"


class _Signals:
    """Passes signals on to a child, from before it starts until it has ended."""

    NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    FROM_TERMINAL = ("SIGINT", "SIGQUIT")  # Ctrl-C goes to the child by itself: it is in the same process group

    def __init__(self) -> None:
        self.child: Optional[subprocess.Popen[bytes]] = None
        self.early: List[int] = []
        self.before: Dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is not threading.main_thread():
            return self
        for name in self.NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # `nohup` stays in force
                self.before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def pass_to(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child
        for number in self.early:
            child.send_signal(number)

    def _on_signal(self, number: int, frame: object) -> None:
        if self.child is None:
            self.early.append(number)
        elif signal.Signals(number).name not in self.FROM_TERMINAL or not _is_in_foreground():
            self.child.send_signal(number)


def _is_in_foreground() -> bool:
    """Tell whether a terminal sends its signals to our process group."""
    try:
        handle = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(handle) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(handle)


def _pass_through(child: subprocess.Popen[bytes]) -> bytes:
    """Copy the child's output to ours until it ends; return the end of it, both streams as they came.

    A process that the command left behind may hold the pipes open for ever, so after the command's end a short silence
    is enough.
    """
    kept: Deque[bytes] = deque()
    size = 0
    with selectors.DefaultSelector() as waiting:
        for stream, ours in ((child.stdout, sys.stdout), (child.stderr, sys.stderr)):
            if stream is not None:
                waiting.register(stream, selectors.EVENT_READ, _Copy(ours))
        while waiting.get_map():
            ready = waiting.select(QUIET_S)
            if not ready and child.poll() is not None:
                break
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                if not data:
                    waiting.unregister(key.fileobj)
                    continue
                key.data.write(data)
                kept.append(data)
                size += len(data)
                while size - len(kept[0]) >= TAIL_BYTES:
                    size -= len(kept.popleft())
    return b"".join(kept)


class _Copy:
    """Writes bytes to a stream of ours; when nobody reads it any more, the command goes on without."""

    def __init__(self, stream: Any) -> None:
        self.stream = getattr(stream, "buffer", None)

    def write(self, data: bytes) -> None:
        if self.stream is None:
            return
        try:
            self.stream.write(data)
            self.stream.flush()
        except (OSError, ValueError):
            self.stream = None


def _last_lines(data: bytes, count: int) -> str:
    lines = without_ansi(data.decode("utf-8", "backslashreplace")).rstrip("\n").split("\n")
    if len(lines) <= count and len(data) < TAIL_BYTES:
        return "\n".join(lines) + "\n" if data else ""
    kept = lines[-count:] if count > 0 else []
    return "\n".join([f"(the last {len(kept)} lines)", *kept]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
