"""Which failures are the same one: a short id that stays the same over dates, numbers, hosts and temporary names. Pure.

Two failures with the same id are told together; so an id that is too coarse hides a failure, and one that is too fine makes
a flood. Line numbers do not count, because they move with every release.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from dataclasses import dataclass

from spooldadd.erroremail import one_line, without_ansi
from spooldadd.mail.explain import signal_name
from spooldadd.mail.result import Result
from spooldadd.mail.traceback import Found, find_traceback

LABEL_CHARS = 160
FRAMES_COUNTED = 8  # the innermost: below a common entry point, failures differ at the end
LINES_SEARCHED = 60
# How the sentence begins that stands for a log which is not shown: that is no error of the job's.
WITHHELD = "[the log is not shown"

LIBRARY = re.compile(
    r"site-packages|dist-packages|[/\\]lib[/\\](?:python|pypy)\d|^<|/usr/lib/|/usr/local/go/src/|node:internal|node_modules"
)
JAVA_LIBRARY = re.compile(r"(?:java|javax|jdk|sun|com\.sun|org\.junit|kotlin|scala)[./]")
ERROR_LINE = re.compile(
    r"\b(?:error|errors|fatal|fail(?:ed|ure)?|exception|panic|cannot|can't|could not|unable|denied|not found|no such|refused"
    r"|timed out|timeout|killed|abort(?:ed)?|invalid|missing|segmentation fault|out of memory|quota)\b",
    re.IGNORECASE,
)
REPLACEMENTS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), text)
    for pattern, text in (
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
        (r"\b\d{4}-?\d\d-?\d\d(?:[T ]\d\d:?\d\d(?::?\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?\b", "<time>"),
        (r"\b\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?\b", "<time>"),
        (r"([a-z][a-z0-9+.-]{1,20}://)(?:[^\s/@]{1,100}@)?([\w.-]{1,200})[^\s'\"<>)]{0,500}", r"\1\2"),
        (r"'[^'\n]{0,300}'|\"[^\"\n]{0,300}\"|`[^`\n]{0,300}`", "<value>"),
        (r"(?<![\w:])(?:~|\.{1,2})?/[\w.@+~-]*(?:/[\w.@+~-]*)+", "<path>"),
        (r"\b[a-z]:\\[\w.\\@+~-]+", "<path>"),
        (r"\b0x[0-9a-f]+\b", "<hex>"),
        (r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", "<hex>"),
        (r"[+-]?\d+(?:[.,:]\d+)*", "#"),
    )
)


@dataclass(frozen=True)
class Cause:
    """What makes failures the same: the id, and a line for a person."""

    id: str
    label: str


def find_cause(result: Result, log: str) -> Cause:
    """Return the cause of a failed attempt, from its result and the end of its log.

    The label is kept on disk and shown, so give a log whose secrets are hidden; always, or the ids differ.
    """
    if result.outcome in ("exit", "signal", "build") and not log.startswith(WITHHELD):
        found = find_traceback(log)
        if found is not None and found.kind != "shell" and (found.type or found.frames):
            return _from_traceback(found)
        line = last_error_line(log)
        if line:
            return _make(["line", exit_class(result), normalise(line)], line)
    return _from_outcome(result)


def normalise(text: str) -> str:
    """Return a message without what changes from one time to the next: numbers, times, ids, paths, quoted values."""
    plain = one_line(without_ansi(text[:4000]))
    for pattern, replacement in REPLACEMENTS:
        plain = pattern.sub(replacement, plain)
    return re.sub(r"\s+", " ", plain).strip().lower()[:300]


def own_frames(found: Found) -> list[str]:
    """Return the job's own frames, innermost last, as `file:function`; all of them where none is the job's own."""
    is_java = found.kind == "java"
    innermost_last = reversed(found.frames) if found.kind in ("java", "node", "go") else iter(found.frames)
    named = [(step, f"{posixpath.basename(step.path)}:{normalise(step.function)}") for step in innermost_last]
    own = [
        name for step, name in named if not LIBRARY.search(step.path) and not (is_java and JAVA_LIBRARY.match(step.function))
    ]
    return (own or [name for _, name in named])[-FRAMES_COUNTED:]


def exit_class(result: Result) -> str:
    """Return how an attempt ended, as far as it matters for its cause."""
    if result.signal is not None:
        return f"{result.outcome}:{signal_name(result.signal)}"
    if result.exit_code is not None:
        return f"{result.outcome}:{result.exit_code}"
    return result.outcome


def last_error_line(log: str) -> str:
    """Return the last line that speaks of an error, else the last line with anything in it."""
    lines = [line.strip() for line in without_ansi(log).splitlines() if line.strip()][-LINES_SEARCHED:]
    return next((line for line in reversed(lines) if ERROR_LINE.search(line)), lines[-1] if lines else "")


def _from_traceback(found: Found) -> Cause:
    label = f"{found.type}: {found.message}" if found.message else found.type
    if not found.type:
        label = f"a traceback that was cut off, in {found.frames[-1].function or found.frames[-1].path}"
    return _make(["traceback", found.type, normalise(found.message), *own_frames(found)], label)


def _from_outcome(result: Result) -> Cause:
    """Without a word in the log, the outcome is the cause; whose it is then depends on the outcome."""
    whose = result.node if result.outcome == "lost" else normalise(result.name)
    said = normalise(result.reason) if result.outcome in ("build", "invalid") else ""
    label = result.reason or exit_class(result)
    return _make(["outcome", exit_class(result), whose, said], label)


def _make(parts: list[str], label: str) -> Cause:
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return Cause(digest, one_line(without_ansi(label))[:LABEL_CHARS])
