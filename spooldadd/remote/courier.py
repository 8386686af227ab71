"""Start the program that sends finished records to the master and takes in what arrived: beside the loop, which never waits.

One at a time. It is started when a job has ended, when something whole lies in `incoming/`, and again and again while
something is left, at growing intervals. A worker that drains gives it a moment at the end, because nobody may start another.

If we die here: a program goes on by itself; what is left is found at the next start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from spooldadd.config import Config
from spooldadd.log import Log
from spooldadd.remote import incoming, program
from spooldadd.spool import Spool
from spooldadd.timers import BEAT_S

PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Runs the package that lies beside us, however it was installed, and nothing from the current directory.
START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('spooldadd.remote.program', run_name='__main__', alter_sys=True)"
)
# Jobs that end together go together.
GATHER_S = 0.5
# How often to look for what arrived, whether the program has ended, and for what was filed without a word to the worker.
ARRIVED_S, ENDED_S, FILED_S = 5.0, 1.0, 30.0
# How often to look into every record: where a person removed `uploaded.toml`, no directory of ours tells.
ALL_S = 300.0
FIRST_RETRY_S = 2.0
# What a worker that drains waits for it at the end. A longer upload goes on by itself.
FAREWELL_S = 20.0


class Courier:
    """The courier of one worker."""

    def __init__(self, the_spool: Spool, config: Config, log: Log, log_arguments: list[str]) -> None:
        self._places = the_spool.places
        self._has_master = config.master.target is not None
        self._longest_retry_s = config.master.retry_s
        self._orders = {
            "spool": the_spool.places.root,
            "node": the_spool.holder.node,
            "target": config.master.target or "",
            "upload": config.master.upload,
            "ssh": config.remote.ssh or "",
            "timeout_s": config.remote.timeout_s,
            "log": log_arguments or ["plain", "info"],
        }
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._look_at = self._upload_at = 0.0
        self._retry_s = FIRST_RETRY_S
        self._seen: tuple[int, ...] = ()
        self._all_at = 0.0
        self._farewell_until = 0.0
        self._tried: list[str] = []
        self._try_again_at = 0.0

    @property
    def next_at(self) -> float:
        """When to look again, by the monotonic clock."""
        return min(self._look_at, self._upload_at) if self._has_master else self._look_at

    def heed(self, now: float) -> None:
        """A job has ended."""
        self._farewell_until = 0.0
        if self._has_master and self._retry_s == FIRST_RETRY_S:  # else the master is away, and has its own time
            self._upload_at = min(self._upload_at, now + GATHER_S)

    def turn(self, now: float) -> None:
        """Collect the program that ended; start another where it is due."""
        if self._process is not None:
            self._look_at = now + ENDED_S
            if self._process.poll() is None:
                return
            self._end(self._process.returncode, now)
        is_due = self._has_master and now >= self._upload_at and self._has_changed(now)
        if is_due or (now >= self._look_at and self._has_arrivals(now)):
            self._start(now)
        if now >= self._look_at:
            has_ever = os.path.isdir(self._places.incoming)
            self._look_at = now + (ARRIVED_S if has_ever else BEAT_S)  # with the heartbeat, no wake-up of its own

    def is_through(self, now: float) -> bool:
        """Tell a worker that drains whether it may go: what ended was sent, or there was a moment for it."""
        if not self._has_master:
            return self._process is None
        if not self._farewell_until:
            self._farewell_until = now + FAREWELL_S
            self._upload_at = now  # once more, whatever was tried before
        self.turn(now)
        self._look_at = min(self._look_at, now + GATHER_S / 5)
        return self._process is None or now > self._farewell_until

    def _has_arrivals(self, now: float) -> bool:
        """What could not be taken in, such as what a newer release has sent, is tried again now and then."""
        whole = incoming.whole(self._places)
        if not whole or (whole == self._tried and now < self._try_again_at):
            return False
        self._tried, self._try_again_at = whole, now + FILED_S
        return True

    def _has_changed(self, now: float) -> bool:
        """Tell whether anything was filed since the last look, or is left from it."""
        seen = tuple(_changed_at(path) for path in (self._places.done, self._places.failed))
        self._upload_at = now + FILED_S
        if seen == self._seen and now < self._all_at:
            return False
        self._seen, self._all_at = seen, now + ALL_S
        return True

    def _start(self, now: float) -> None:
        command = [sys.executable, "-I", "-c", START, PACKAGE_PARENT, json.dumps(self._orders)]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, cwd="/"
            )
        except OSError as error:
            self._end(program.LEFT, now)
            self._log.warning("upload-waits", error=str(error), then=f"trying again in {FIRST_RETRY_S:g} s")
        self._look_at = now + GATHER_S

    def _end(self, code: int, now: float) -> None:
        self._process = None
        if code == 0:
            self._retry_s = FIRST_RETRY_S
            return
        self._seen = ()
        self._upload_at = now + self._retry_s
        self._retry_s = min(self._retry_s * 2, self._longest_retry_s)


def _changed_at(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
