"""One line per change of state, in a fixed order, that an operator can grep. Light: the launcher loads it.

`event=claimed job=… attempt=2 node=…`; every event is one of `EVENTS`. A line is one write, so lines of several
processes do not mix. A reader that went away stops nobody.
"""

from __future__ import annotations

import os
import time

from spooldadd.names import SECONDS
from spooldadd.tomltext import quote

LEVELS = {"debug": 7, "info": 6, "warning": 4, "error": 3}  # the numbers of syslog(3), as journald reads them
FORMATS = ("plain", "json", "journal")
EVENTS = frozenset({
    "worker-started", "worker-stopping", "worker-stopped", "draining", "config-warning", "paused", "resumed",
    "reloading", "reloaded", "reload-refused", "control-groups", "limit-not-kept",
    "claimed", "claim-lost", "put-back", "building", "started", "finished", "filed", "lost", "recovered", "removed",
    "supervisor-gone", "left-processes", "spool-away", "spool-back", "spool-trouble", "watch-replaced",
    "clock-set-back", "conflict-copy", "inbox-refused", "set-aside",
    "ignored", "filing-waits", "work-dir-removed", "not-kept", "foreign", "failed",
    "no-access-lists", "request-done", "request-refused",
    "mail-queued", "mail-held", "mail-sent", "mail-failed", "mail-off", "mail-inherited",
    "environment-edited", "cache-pruned", "pruned",
    "taken-over", "not-taken-over", "locks-proven", "locks-private", "guarantees", "probe", "name-watched", "name-taken",
    "uploaded", "upload-waits", "upload-back", "arrived", "arrived-damaged",
})  # fmt: skip
MOST_SHOWN = 64
Value = "str | int | float | bool | None"


class Log:
    """Writes lines to a descriptor. A frozen set of settings: a fork may use it at once."""

    __slots__ = ("_fd", "_form", "_level")

    def __init__(self, fd: int = 2, format: str = "plain", level: str = "info") -> None:
        self._fd = fd
        self._form = _FORMATTERS[format]
        self._level = LEVELS[level]

    def debug(self, event: str, **fields: object) -> None:
        """Say what a low module did."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Say that a state changed."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Say that something is wrong and how we go on."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Say that a person is needed."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        if LEVELS[level] > self._level:
            return
        line = self._form(level, event, fields)
        try:
            os.write(self._fd, line.encode("utf-8", "replace"))
        except OSError:
            pass  # the terminal or the pipe is gone; the work goes on


def timestamp(at_s: float) -> str:
    """Return seconds since the epoch as RFC 3339 in UTC, with milliseconds."""
    second, part = divmod(int(at_s * 1000), 1000)
    return f"{SECONDS[second]}.{part:03d}Z"


def _plain(level: str, event: str, fields: dict[str, object]) -> str:
    return f"{timestamp(time.time())} {level} {_pairs(event, fields)}"


def _journal(level: str, event: str, fields: dict[str, object]) -> str:
    return f"<{LEVELS[level]}>{_pairs(event, fields)}"


def _json(level: str, event: str, fields: dict[str, object]) -> str:
    entries = {"at": timestamp(time.time()), "level": level, "event": event, **fields}
    pairs = [f"{quote(key)}: {_json_value(value)}" for key, value in entries.items() if value is not None]
    return "{" + ", ".join(pairs) + "}\n"


def _pairs(event: str, fields: dict[str, object]) -> str:
    line = f"event={event}"
    for key, value in fields.items():
        if value is not None:
            line += f" {key}={_SHOWN[value] if type(value) is str else _plain_value(value)}"
    return f"{line}\n"


class _Shown(dict[str, str]):
    """Texts as they stand in a line: a job's id, its node and its queue are in several."""

    def __missing__(self, text: str) -> str:
        if len(self) >= MOST_SHOWN:
            self.clear()
        found = self[text] = _plain_text(text)
        return found


_SHOWN = _Shown()


def _plain_value(value: object) -> str:
    if type(value) is int:
        return str(value)
    return _plain_text(f"{value:.3f}" if isinstance(value, float) else str(value))


def _plain_text(text: str) -> str:
    # Six looks at the whole text: a walk over its characters would cost as much as all the rest of the line.
    is_plain = text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
    return text if is_plain and text and " " not in text and "=" not in text else quote(text)


def _json_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return f"{value:.3f}" if isinstance(value, float) else quote(str(value))


_FORMATTERS = {"plain": _plain, "journal": _journal, "json": _json}
