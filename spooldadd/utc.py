"""The text of a second in UTC, made once for all that is said of it. Light: the launcher loads it.

Most of what is written falls into the second of what was written before, and to make the text takes as long as the line.
"""

from __future__ import annotations

import time

MOST_SECONDS = 16


class _Seconds(dict[int, str]):
    """The last few seconds since the epoch, as `2026-11-20T10:15:00`. Two threads at most make one twice."""

    def __missing__(self, second: int) -> str:
        if len(self) >= MOST_SECONDS:
            self.clear()
        text = self[second] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return text


SECONDS = _Seconds()
