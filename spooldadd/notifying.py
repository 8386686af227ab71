"""Start the notifier when there is something to tell: one at a time, beside the loop, which never waits for it.

If we die here: a notifier goes on by itself; what was not told yet is found at the next start.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from typing import IO

from spooldadd.log import Log
from spooldadd.notices import Notices

# How often to look whether letters are due, or word was left by one that could not start a notifier.
LOOK_S = 30.0
# Each try of a letter has a limit of its own. This one ends a notifier that hangs in a file system; it loses nothing.
LONGEST_S = 1800.0
# A fresh program costs a third of a second of processor. The first word is told at once; where jobs fail all the time the
# next notifier waits until the last one has had a tenth of the time, and tells all that came meanwhile. Below LOOK_S.
REST_PER_RUN, LEAST_REST_S = 9.0, 1.0


class Notifying:
    """The notifier of one worker. `selector` is the worker's; ours is registered with `self` as data."""

    def __init__(self, selector: selectors.BaseSelector, notices: Notices, log: Log) -> None:
        self._selector = selector
        self._notices = notices
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._end: IO[bytes] | None = None  # closed by the kernel when the notifier ends
        self._started = 0.0
        self._look_at = 0.0
        self._rest_until = 0.0
        self._is_first = True

    @property
    def next_at(self) -> float:
        """When to look again, by the monotonic clock."""
        return self._look_at if self._notices.is_on else float("inf")

    def heed(self) -> None:
        """Somebody has left word."""
        self._notices.has_news = True

    def turn(self, now: float) -> None:
        """Start the notifier where there is something to tell."""
        if not self._notices.is_on:
            return
        if self._process is not None:
            self._look_at = now + LOOK_S
            if now - self._started > LONGEST_S:
                self._process.kill()
            return
        if (self._notices.has_news and now >= self._rest_until) or (now >= self._look_at and self._is_due()):
            self._start(now)
        if now >= self._look_at:
            self._look_at = now + self._until_due_s()
        if self._notices.has_news:
            self._look_at = min(self._look_at, max(now, self._rest_until))

    def on_readable(self) -> None:
        """The notifier has ended."""
        assert self._process is not None
        assert self._end is not None
        self._selector.unregister(self._end)
        self._end.close()
        code = self._process.wait()
        self._process = self._end = None
        now = time.monotonic()
        self._look_at = now + self._until_due_s()
        self._rest_until = now + min(max(REST_PER_RUN * (now - self._started), LEAST_REST_S), LOOK_S)
        if code:
            self._log.warning("mail-failed", error=f"the notifier ended with {code}", then=f"trying again in {LOOK_S:g} s")

    def leave(self) -> None:
        """Let it end by itself; where word was left since it looked, start another one that nobody waits for."""
        if self._notices.is_on and self._notices.has_news:
            self._spawn(subprocess.DEVNULL)

    def _start(self, now: float) -> None:
        self._notices.has_news = self._is_first = False
        self._started = now
        self._process = self._spawn(subprocess.PIPE)
        if self._process is not None:
            self._end = self._process.stdout
            assert self._end is not None
            self._selector.register(self._end, selectors.EVENT_READ, self)

    def _spawn(self, stdout: int) -> subprocess.Popen[bytes] | None:
        try:
            return subprocess.Popen(
                self._notices.command(), stdin=subprocess.DEVNULL, stdout=stdout, start_new_session=True, cwd="/"
            )
        except OSError as error:
            self._log.warning("mail-failed", error=str(error), then=f"trying again in {LOOK_S:g} s")
            return None

    def _is_due(self) -> bool:
        """Look for word that was left, and for the time that the last notifier has noted."""
        if self._is_first or self._until_due_s() <= 0:
            return True
        try:
            return bool(os.listdir(self._notices.directory))
        except OSError:
            return False

    def _until_due_s(self) -> float:
        try:
            with open(self._notices.places.next, encoding="ascii") as file:
                wait_s = float(file.read()) - time.time()
        except (OSError, ValueError):
            return LOOK_S
        return min(max(wait_s, 0.0), LOOK_S)
