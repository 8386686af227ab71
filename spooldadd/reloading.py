"""Read the configuration again while the worker serves, beside the thread that answers signals.

The file may lie on the spool, and a spool that hangs must not keep the main thread from answering. What was read makes a new
worker, which takes over where the old one leaves off, as after a restart: running jobs are left to their supervisors and are
counted by the new one. One that cannot be used is told, and the old one stays in force.

If we die here: nothing was changed; the next start reads the configuration anyway.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from spooldadd import problems
from spooldadd.errors import SpooldaddError
from spooldadd.log import Log
from spooldadd.worker import Worker

Reread = Callable[[], tuple[Worker, Log]]


class Rereading(threading.Thread):
    """Makes a worker of the configuration as it is now; wakes the main thread then."""

    def __init__(self, reread: Reread, wake: Callable[[], None]) -> None:
        super().__init__(name="reload", daemon=True)
        self._reread = reread
        self._wake = wake
        self.found: tuple[Worker, Log] | None = None
        self.refusal: Exception | None = None
        self.is_done = False

    def run(self) -> None:
        """Read, and keep what came of it."""
        try:
            self.found = self._reread()
        except (SpooldaddError, OSError) as error:
            self.refusal = error
        finally:
            self.is_done = True
            self._wake()


def explain(error: Exception) -> None:
    """Show every problem with its place, as at a start."""
    found = getattr(error, "problems", None)
    if found:
        sys.stderr.write(problems.render(found, getattr(error, "source", "configuration")))
        sys.stderr.flush()


def has_terminal() -> bool:
    """Tell whether we were started from a terminal: then its end is a hang-up, and ours."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
    except OSError:
        return False
    return True
