"""What a build prints: lines for the build log, progress that does not flood it, and no secret in either."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

# Often enough to see that a download lives, seldom enough that 2 GB over a slow line are a screenful.
LOG_EVERY_S: Final = 5.0
HIDDEN: Final = "[hidden]"


@dataclass
class Report:
    """Where lines of the build go. Everything that leaves passes `hide`."""

    write: Callable[[str], None]
    every_s: float = LOG_EVERY_S
    clock: Callable[[], float] = time.monotonic
    secrets: list[str] = field(default_factory=list)

    def line(self, text: str) -> None:
        """Write one line."""
        self.write(self.hide(text))

    def hide(self, text: str) -> str:
        """Replace every secret that was read in this build. Longest first: one may be part of another."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text

    def keep_secret(self, *secrets: str) -> None:
        """Hide these from now on."""
        self.secrets.extend(secret for secret in secrets if secret and secret not in self.secrets)

    def progress(self, name: str, total_bytes: int | None) -> Progress:
        """Begin to report on a transfer."""
        return Progress(self, name, total_bytes, self.clock(), self.clock())


@dataclass
class Progress:
    """One transfer: a line now and then, none for what is fast."""

    report: Report
    name: str
    total_bytes: int | None
    started_s: float
    spoken_s: float

    def at(self, done_bytes: int) -> None:
        """Note how far it is."""
        now = self.report.clock()
        if now - self.spoken_s < self.report.every_s:
            return
        self.spoken_s = now
        total = f" of {megabytes(self.total_bytes)} ({100 * done_bytes // self.total_bytes} %)" if self.total_bytes else ""
        speed = done_bytes / max(now - self.started_s, 0.001)
        self.report.line(f"{self.name}: {megabytes(done_bytes)}{total}, {megabytes(speed)}/s")


def megabytes(size_bytes: float) -> str:
    """Write a size for people."""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 100_000 else f"{size_bytes:.0f} bytes"
