"""Plain values in, a finished mail out. Pure but for reading templates.

Each event has three templates: `<kind>.subject`, `<kind>.txt` and `<kind>.html`. An operator's directory comes first; a
template there that fails is replaced by ours, and the mail says so, because a mistake in a template must not cost a mail.

Secrets are hidden in every text before a template sees it, and the log before it is cut, so that no half of one stays.
"""

from __future__ import annotations

import dataclasses
import datetime
import gzip
import hashlib
import json
import os
import re
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from typing import TypeVar, assert_never, cast

from jinja2 import FileSystemLoader, StrictUndefined, TemplateNotFound
from jinja2.sandbox import SandboxedEnvironment

from spooldadd.erroremail import DARK, LOOKS, MONO, SANS, WRAP, Mailbox, clean, clip, one_line, without_ansi
from spooldadd.mail.events import Digest, Event, Failure, HeldBack, Late, Recovery, Success, Trial
from spooldadd.mail.explain import explain, readable_size
from spooldadd.mail.redact import Hide
from spooldadd.mail.result import Result
from spooldadd.mail.traceback import find_traceback

TEMPLATES = os.path.join(os.path.dirname(__file__), "templates")
SUBJECT_CHARS = 200
TAIL_LINES = 60  # in the body: the attachment has the rest
TAIL_CHARS = 8_000
TRACEBACK_CHARS = 12_000
SPEC_CHARS = 4_000
DOMAIN_CHARS = 30  # of the sender's domain in an id: an id must fit on one line, because folding would break it
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Letterhead:
    """Who writes to whom, and from which node. `now` is when the mail is composed."""

    sender: Mailbox
    recipients: tuple[Mailbox, ...]
    node: str
    now: datetime.datetime


class Composer:
    """Makes mails from events with templates: the operator's where there are any, else ours."""

    def __init__(self, directory: str | None = None) -> None:
        self._own = _environment(TEMPLATES)
        self._operators = _environment(directory, TEMPLATES) if directory else self._own

    def compose(self, event: Event, head: Letterhead, hide: Hide) -> EmailMessage:
        """Make the mail of an event. `hide` is applied to every text of it: see `redact.redactor_for`."""
        kind = kind_of(event)
        shown = hidden(event, hide)
        faults: list[str] = []
        context = _context(shown, head)
        subject, plain, page = (self._render(f"{kind}.{part}", context, faults) for part in ("subject", "txt", "html"))
        mail = _addressed(event, head)
        mail["Subject"] = clip(one_line(hide(subject)).replace("=?", "= ?"), SUBJECT_CHARS)  # no encoded word of others
        if faults:
            plain = plain.rstrip("\n") + "\n\n" + "\n".join(f"({one_line(hide(fault))})" for fault in faults) + "\n"
        mail.set_content(clean(plain), cte="quoted-printable")
        mail.add_alternative(clean(page), subtype="html", cte="quoted-printable")
        if isinstance(shown, Failure) and shown.log_tail:
            packed = gzip.compress(clean(shown.log_tail).encode(), mtime=0)
            mail.add_attachment(packed, "application", "gzip", filename=f"{_file_name(shown.log_name)}.gz")
        return mail

    def _render(self, name: str, context: dict[str, object], faults: list[str]) -> str:
        try:
            return self._operators.get_template(name).render(context)
        except Exception as fault:
            if self._operators is self._own:
                raise
            why = f"{fault.name} is not found" if isinstance(fault, TemplateNotFound) else f"{type(fault).__name__}: {fault}"
            faults.append(f"the template `{name}` cannot be used, so this is the built-in one: {why}")
            return self._own.get_template(name).render(context)


def kind_of(event: Event) -> str:
    """Return the event's name, as in `[notify] on` and in the names of the templates."""
    match event:
        case Failure():
            return "lost" if event.result.outcome == "lost" else "failure"
        case Recovery():
            return "recovery"
        case Success():
            return "success"
        case Late():
            return "late"
        case Digest():
            return "digest"
        case HeldBack():
            return "held"
        case Trial():
            return "trial"
    assert_never(event)


def webhook_body(event: Event, node: str, hide: Hide) -> bytes:
    """Return the JSON object that a webhook gets: the event's kind, its node, and all its fields but the log and spec."""
    fields = dataclasses.asdict(hidden(event, hide))
    for long in ("log_tail", "spec"):
        fields.pop(long, None)
    table = {"schema": 1, "event": kind_of(event), "node": node, **fields}
    return json.dumps(table, ensure_ascii=False, allow_nan=False, default=str).encode("utf-8", "backslashreplace")


def hidden(value: T, hide: Hide) -> T:
    """Return a copy of an event with the secrets in each of its texts hidden."""
    if isinstance(value, str):
        return cast(T, hide(value))
    if isinstance(value, tuple):
        return cast(T, tuple(hidden(part, hide) for part in value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: hidden(getattr(value, field.name), hide) for field in dataclasses.fields(value)}
        return cast(T, dataclasses.replace(value, **parts))
    return value


def _environment(*directories: str) -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        loader=FileSystemLoader(directories),
        undefined=StrictUndefined,
        autoescape=lambda name: name is not None and name.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(one_line=one_line, indent_all=_indent)
    environment.globals.update(look=LOOKS, sans=SANS, mono=MONO, wrap=WRAP, dark=DARK)
    return environment


def _indent(text: str, by: int = 2) -> str:
    return "\n".join(" " * by + line for line in str(text).splitlines())


def _context(event: Event, head: Letterhead) -> dict[str, object]:
    """Return what the templates may use: the event's fields, and what can be concluded from them."""
    context: dict[str, object] = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    context.update(event=event, node=head.node, now=head.now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    if isinstance(event, (Failure, Recovery, Success)):
        context["facts"] = _facts(event)
        context["explanation"] = explain(event.result)
        context["kind"] = "lost" if event.result.outcome == "lost" else event.result.outcome
    if isinstance(event, Failure):
        context.update(_log_context(event))
        context["spec"] = clip(event.spec, SPEC_CHARS)
    if isinstance(event, Digest):
        context["count"] = event.count
    return context


def _log_context(failure: Failure) -> dict[str, object]:
    log = without_ansi(failure.log_tail)
    if failure.is_log_cut:
        log = log.partition("\n")[2]  # half a line may be half a secret, which no rule knows
    found = find_traceback(log)
    lines = log.rstrip("\n").split("\n") if log.strip() else []
    tail = "\n".join(lines[-TAIL_LINES:])
    return {
        "traceback": clip(clean(found.text), TRACEBACK_CHARS) if found is not None and found.kind != "shell" else "",
        "tail": clean(tail[-TAIL_CHARS:]),
        "tail_lines": min(len(lines), TAIL_LINES),
        "has_more": len(lines) > TAIL_LINES or len(tail) > TAIL_CHARS,
    }


def _facts(event: Failure | Recovery | Success) -> list[tuple[str, str]]:
    """Return the circumstances as (label, value), without those that are not known."""
    result = event.result
    failing_since = event.failing_since if isinstance(event, (Failure, Recovery)) else ""
    facts = [
        ("job", result.job),
        ("node", result.node),
        ("queue", result.queue),
        ("attempt", str(result.attempt) if result.attempt > 1 else ""),
        ("submitted", result.submitted_at),
        ("started", result.started_at),
        ("finished", result.finished_at),
        ("took", readable_duration(result.duration_s)),
        ("failing since", failing_since),
        ("last success", event.last_success_at if isinstance(event, Failure) else ""),
        ("ended", _ended(result)),
        ("CPU time", readable_duration(result.cpu_s)),
        ("peak memory", readable_size(result.max_rss_bytes) if result.max_rss_bytes else ""),
        ("cause", event.cause.id if isinstance(event, Failure) else ""),
        ("record", event.record),
    ]
    return [(label, one_line(value)) for label, value in facts if value]


def _ended(result: Result) -> str:
    if result.signal is not None:
        return f"{result.outcome}, signal {result.signal}"
    if result.exit_code is not None:
        return f"{result.outcome}, exit code {result.exit_code}"
    return result.outcome


def readable_duration(seconds: float | None) -> str:
    """Return a duration as a person reads it; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _addressed(event: Event, head: Letterhead) -> EmailMessage:
    """Return a mail with all headers but the subject."""
    boxes = (head.sender, *head.recipients)
    mail = EmailMessage(SMTP if all(box.address.isascii() for box in boxes) else SMTPUTF8)
    domain = _domain(head)
    kind = kind_of(event)
    mail["From"] = head.sender.header()
    mail["To"] = [box.header() for box in head.recipients]
    mail["Date"] = format_datetime(head.now)
    mail["Message-ID"] = f"<{kind}.{_fingerprint(event, head)}@{domain}>"
    mail["References"] = f"<{_thread(event, head)}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    node = re.sub(r"[^a-z0-9-]+", "-", head.node.lower()).strip("-")[:40] or "node"
    mail["List-Id"] = f"<spooldadd.{node}.{domain}>"
    mail["X-Spooldadd-Event"] = kind
    if isinstance(event, (Failure, Recovery, Success)):
        mail["X-Spooldadd-Name"] = _token(event.result.name)
    if isinstance(event, Failure):
        mail["X-Spooldadd-Cause"] = _token(event.cause.id)
    return mail


def _token(text: str) -> str:
    """Return a name as something that fits into a header whole, for the filters of a mail program."""
    return re.sub(r"[^\w.@+-]", "-", text, flags=re.ASCII)[:60]


def _domain(head: Letterhead) -> str:
    domain = head.sender.address.rpartition("@")[2]
    return domain if re.fullmatch(r"[a-z0-9.-]+", domain) and len(domain) <= DOMAIN_CHARS else "spooldadd.invalid"


def _fingerprint(event: Event, head: Letterhead) -> str:
    """Return what is the same whenever this event is told, so that a second copy can be known as one."""
    if isinstance(event, (Failure, Recovery, Success)):
        return _digest(event.result.job, str(event.result.attempt), head.node)
    return _digest(repr(event), head.node, "" if not isinstance(event, Trial) else head.now.isoformat())


def _thread(event: Event, head: Letterhead) -> str:
    """Return what makes mails one thread: the job's name and the cause; a recovery joins the failures that it ends."""
    if isinstance(event, (Failure, Recovery)):
        return "thread." + _digest(event.result.name, event.cause.id if event.cause else "")
    return "thread." + _digest(kind_of(event), head.node)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:20]


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "-", os.path.basename(name), flags=re.ASCII)[:60] or "log"


Compose = Callable[[Event, Letterhead, Hide], EmailMessage]
