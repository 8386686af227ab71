"""Jobs whose supervisors end before they have begun: claimed again less and less often, not several times a second.

If we die here: the next worker begins anew, with a short wait.
"""

from __future__ import annotations

from collections.abc import Mapping

from spooldadd import names
from spooldadd.crew import Report
from spooldadd.log import Log
from spooldadd.recovery import Found

# The first time it may be chance; then the machine or the job is at fault, and neither is mended within a second.
FIRST_S, MOST_S = 1.0, 60.0


class Faltering:
    """Remembers them by job: how often in a row, and until when to leave them alone."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._gone: set[str] = set()  # records whose supervisor ended without a word
        self._times: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def heed(self, report: Report) -> None:
        """Take note of the end of an attempt."""
        if report.is_gone:
            self._gone.add(report.record)
        elif self._times and (parsed := names.parse_record_name(report.record)) is not None:
            self._times.pop(parsed.job, None)
            self._until.pop(parsed.job, None)

    def note(self, ended: Mapping[str, Found], now: float) -> None:
        """Take note of what became of records that were looked after."""
        for record, found in ended.items():
            parsed = names.parse_record_name(record)
            if record not in self._gone or parsed is None:
                continue
            self._gone.discard(record)
            if found is Found.NEVER_STARTED:
                self._wait(parsed.job, now)

    def until(self, key: str) -> float:
        """Return when, by the monotonic clock, this waiting record may be claimed again."""
        return self._until.get(key, 0.0)

    def _wait(self, job: str, now: float) -> None:
        times = self._times[job] = self._times.get(job, 0) + 1
        wait_s = min(MOST_S, FIRST_S * 2.0 ** min(times - 1, 30))
        self._until[job] = now + wait_s
        self._log.warning(
            "supervisor-gone",
            job=job,
            reason="it ended before it had begun; nothing was started, and the attempt is not counted",
            then=f"trying again in {wait_s:g} s",
        )
