"""Have the cache pruned once a day, by a program of its own beside the loop, which never waits for it.

All workers of a node share a cache: a file in it notes when one of them had it pruned last, so none does so again that day.

If we die here: the program goes on by itself; the next one that is due starts another.
"""

from __future__ import annotations

import os
import subprocess
import sys

from spooldadd.config import Config
from spooldadd.log import Log

PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Runs the package that lies beside us, however it was installed, and nothing from the current directory.
START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('spooldadd.environment.upkeep', run_name='__main__', alter_sys=True)"
)
STAMP = "pruned"
# What grows is removed by days and gigabytes: looking more often would find nothing.
EVERY_S = 86_400.0
_DAY_S = 86_400.0


class Upkeeping:
    """The upkeep of one worker's cache."""

    def __init__(self, config: Config, log: Log, log_arguments: list[str]) -> None:
        self._cache_dir = config.cache_dir
        self._bounds = [str(config.keep.cache_days * _DAY_S), str(config.keep.cache_size_bytes)]
        self._log = log
        self._log_arguments = log_arguments
        self._process: subprocess.Popen[bytes] | None = None

    def turn(self, now_s: float) -> None:
        """Collect the program that ended; start another where it is due."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        if self._process is not None or not self._take_turn(now_s):
            return
        command = [sys.executable, "-I", "-c", START, PACKAGE_PARENT, self._cache_dir, *self._bounds, *self._log_arguments]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, cwd="/"
            )
        except OSError as error:
            self._log.warning("cache-pruned", path=self._cache_dir, error=str(error), then="trying again tomorrow")

    def _take_turn(self, now_s: float) -> bool:
        """Tell whether it is due, and note it at once. A node without a cache has nothing to prune."""
        stamp = os.path.join(self._cache_dir, STAMP)
        try:
            if 0 <= now_s - os.stat(stamp).st_mtime < EVERY_S:
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
        finally:
            os.close(fd)
        return True
