"""Have things pruned that nobody needs any more, by a program of its own beside the loop, which never waits for it.

The cache once a day: all workers of a node share it, and a file in it notes when one of them had it pruned last. The records
of the spool once an hour, where `[keep]` bounds them, or where somebody died while removing some: all nodes of a spool share
that, and a file in `.spool/` notes it. Nothing is walked here.

If we die here: the program goes on by itself; the next one that is due starts another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from spooldadd import retention
from spooldadd.config import Config
from spooldadd.log import Log
from spooldadd.spool import Spool

PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Runs the package that lies beside us, however it was installed, and nothing from the current directory.
START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('spooldadd.pruning', run_name='__main__', alter_sys=True)"
)
STAMP = "pruned"
# What grows is removed by days and gigabytes: looking more often would find nothing.
CACHE_EVERY_S = 86_400.0
# A bound on numbers or bytes is overrun by what an hour brings.
RECORDS_EVERY_S = 3_600.0


class Upkeeping:
    """The upkeep of one worker's cache, and of its spool's records."""

    def __init__(self, the_spool: Spool, config: Config, log: Log, log_arguments: list[str]) -> None:
        self._places = the_spool.places
        self._cache_dir = config.cache_dir
        self._bounds_records = config.keep.bounds_records
        self._orders: dict[str, object] = {
            "node": the_spool.holder.node,
            "config": config.file,
            "log": log_arguments or ["plain", "info"],
        }
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def turn(self, now_s: float) -> None:
        """Collect the program that ended; start another where it is due."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        if self._process is not None:
            return
        is_cache_due = _take_turn(os.path.join(self._cache_dir, STAMP), now_s, CACHE_EVERY_S)
        is_spool_due = self._is_spool_due(now_s)
        if not is_cache_due and not is_spool_due:
            return
        orders = {**self._orders, "cache": is_cache_due, "spool": self._places.root if is_spool_due else ""}
        command = [sys.executable, "-I", "-c", START, PACKAGE_PARENT, json.dumps(orders)]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, cwd="/"
            )
        except OSError as error:
            self._log.warning("pruned", error=str(error), then="trying again when it is due again")

    def _is_spool_due(self, now_s: float) -> bool:
        if not self._bounds_records and not retention.has_trash(self._places):
            return False
        return _take_turn(os.path.join(self._places.internal, STAMP), now_s, RECORDS_EVERY_S)


def _take_turn(stamp: str, now_s: float, every_s: float) -> bool:
    """Tell whether it is due, and note it at once. Where the directory of the stamp is missing, nothing ever is."""
    try:
        if 0 <= now_s - os.stat(stamp).st_mtime < every_s:
            return False
    except FileNotFoundError:
        pass
    except OSError:
        return False
    try:
        fd = os.open(stamp, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError:
        return False  # there is no cache, or it is somebody else's
    try:
        os.utime(fd, (now_s, now_s))
    except OSError:
        return False  # a shared spool whose stamp another user made: that one's node prunes it
    finally:
        os.close(fd)
    return True
