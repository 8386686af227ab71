"""Which jobs are late: those that the node expects and that have not succeeded in time. Each deadline is told once."""

from __future__ import annotations

import datetime
import json
import os

from spooldadd import durable, expecting, layout, names
from spooldadd.expecting import Expected
from spooldadd.inspect import drops, tables
from spooldadd.layout import Layout
from spooldadd.mail import ended
from spooldadd.mail.events import Late
from spooldadd.mail.flood import timestamp
from spooldadd.mail.places import Places


class Lateness:
    """The expectations of one spool on one node."""

    def __init__(self, spool: Layout, places: Places, rules: dict[str, Expected], now: datetime.datetime) -> None:
        self._spool = spool
        self._path = places.expected
        self._rules = rules
        self._now = now

    def next_s(self) -> float | None:
        """Return when the next deadline is, in seconds since the epoch."""
        return min((expecting.next_deadline(rule, self._now).timestamp() for rule in self._rules.values()), default=None)

    def due(self) -> list[tuple[Late, float]]:
        """Return what is late and not told yet, and each one's deadline. A new expectation begins with its next deadline."""
        seen = self._read()
        late = []
        for name, rule in self._rules.items():
            last, before = expecting.last_deadlines(rule, self._now)
            if name in seen and seen[name] < last.timestamp():
                what = self._what_is_missing(name, before.timestamp())
                if what:
                    success = ended.last_success(self._spool, name, self._now.timestamp())
                    last_success_at = timestamp(success.finished_s) if success else ""
                    commands = (f"spooldadd --spool {self._spool.root} status",)
                    event = Late(name, what, f"{rule.text} (by {timestamp(last.timestamp())})", last_success_at, commands)
                    late.append((event, last.timestamp()))
        return late

    def note(self) -> None:
        """Remember which deadlines were looked at. Raises: OSError."""
        last = {name: expecting.last_deadlines(rule, self._now)[0].timestamp() for name, rule in self._rules.items()}
        if last != self._read():
            durable.write(self._path, json.dumps(last).encode(), sync=False, mode=0o600)

    def _read(self) -> dict[str, float]:
        try:
            with open(self._path, "rb") as file:
                return {str(name): float(at_s) for name, at_s in json.load(file).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _what_is_missing(self, name: str, since_s: float) -> str | None:
        """Say what completes the sentence `NAME …`; None where it has succeeded since then."""
        success = ended.last_success(self._spool, name, self._now.timestamp() + 1)
        if success is not None and success.finished_s > since_s:
            return None
        if self._of_name(layout.RUNNING, name):
            return "has not finished in time: it still runs"
        if self._of_name(layout.WAITING, name) or self._is_dropped(name):
            return "has not finished in time: it waits"
        if any(self._ended_s(entry) > since_s for entry in self._of_name(layout.FAILED, name)):
            return "has not succeeded in time: it failed"
        return "has not arrived"

    def _is_dropped(self, name: str) -> bool:
        dropped = [entry for entry in drops.keys(self._spool.root) if drops.is_drop(entry, drops.SUFFIXES)]
        return any(drops.job_name(entry) == names.safe_name(name) for entry in dropped)

    def _of_name(self, state: str, name: str) -> list[str]:
        directory = self._spool.state_directory(state)
        found = []
        for entry in os.listdir(directory):
            running = names.parse_record_name(entry)
            if names.job_name(running.job if running else entry) == names.safe_name(name):
                found.append(os.path.join(directory, entry))
        return found

    def _ended_s(self, path: str) -> float:
        at = (tables.read(os.path.join(path, layout.RESULT)) or {}).get("finished_at")
        return at.timestamp() if isinstance(at, datetime.datetime) else 0.0
