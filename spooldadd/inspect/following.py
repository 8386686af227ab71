"""Follow jobs while they move, to their end. Looks by name, often at first and then less; nothing needs to run for it.

While a job stays where it is, a look is one `stat`. Now and then it is a listing, because over NFS a `stat` may show for
half a minute what is no longer so.
"""

from __future__ import annotations

import os
import time

from spooldadd import layout
from spooldadd.baretime import datetime
from spooldadd.errors import NoSuchJob
from spooldadd.inspect import drops, jobs, listing
from spooldadd.inspect.job import Job

TYPE_CHECKING = False  # not from `typing`: readers are to start fast
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FIRST_S, LONGEST_S, GROWTH = 0.02, 0.5, 1.3
LISTING_S = 2.0
# A job that is on its way between two directories is missing for an instant; one that is missing for so long was removed.
GONE_S = 3.0
# Times in claims are cut to milliseconds, and a drop's own is the file system's.
CLOCKS_S = 1.0


class Follower:
    """Follows one job; `job` is how it was last seen."""

    def __init__(self, job: Job, clock: Callable[[], float] = time.monotonic) -> None:
        self.job = job
        self._clock = clock
        self._listed = clock()
        self._missed: float | None = None  # since when it is in no place where we look
        self._id = drops.carried_job_id(job.id) if job.is_drop else job.id
        self._since = job.since()

    def look(self) -> Job:
        """Return the job as it is now. Raises: NoSuchJob where it was removed."""
        if self._is_in_place():
            self._missed = None
            return self.job
        found = self._find()
        if found is None:
            return self._miss()
        self._listed, self._missed = self._clock(), None
        self.job = found
        self._id = self._id if found.is_drop else found.id
        return found

    def _miss(self) -> Job:
        now = self._clock()
        self._missed = now if self._missed is None else self._missed
        if now - self._missed > GONE_S:
            raise NoSuchJob(f"`{self.job.id}` is gone: it was last seen in `{os.path.dirname(self.job.path)}`")
        return self.job

    def _is_in_place(self) -> bool:
        now = self._clock()
        if now - self._listed < LISTING_S:
            return os.path.lexists(self.job.path)
        self._listed = now
        return self.job.record_name in listing.entries(os.path.dirname(self.job.path))

    def _find(self) -> Job | None:
        if self._id is not None:
            return jobs.find_id(self.job.places, self._id)
        name = self.job.id.removesuffix(layout.HELD_SUFFIX)
        for file in (name, name + layout.HELD_SUFFIX):
            if os.path.lexists(os.path.join(self.job.places.root, file)):
                return listing.drop(self.job.places, file)
        return self._find_made_of(name)

    def _find_made_of(self, name: str) -> Job | None:
        """A job that was claimed before we saw the file was made of an earlier file of the same name."""
        found = jobs.find_source(self.job.places, name)
        claimed_at = found.first_claim().get("claimed_at") if found else None
        if self._since is None or not isinstance(claimed_at, datetime.datetime):
            return found
        return found if claimed_at.timestamp() >= self._since.timestamp() - CLOCKS_S else None


class Pace:
    """How long to sleep between two looks: short at first and after each change, longer while nothing happens."""

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        self._longest_s = longest_s
        self._next_s = FIRST_S

    def restart(self) -> None:
        """Look often again."""
        self._next_s = FIRST_S

    def sleep(self, at_most_s: float | None = None) -> None:
        """Sleep until the next look."""
        time.sleep(self._next_s if at_most_s is None else max(0.0, min(self._next_s, at_most_s)))
        self._next_s = min(self._next_s * GROWTH, self._longest_s)


def wait(followers: Sequence[Follower], *, timeout_s: float | None = None, for_any: bool = False) -> bool:
    """Wait until all jobs, or any of them, have ended; return whether they have before the time was over.

    Raises: NoSuchJob where one was removed.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pace = Pace()
    while True:
        ended = [follower.look().is_finished for follower in followers]
        if all(ended) or (for_any and any(ended)):
            return True
        left_s = None if deadline is None else deadline - time.monotonic()
        if left_s is not None and left_s <= 0:
            return False
        pace.sleep(left_s)
