"""Which place a waiting job has in its queue: priority first, then age."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass

from spooldadd import layout
from spooldadd.inspect import holding
from spooldadd.inspect.job import Job
from spooldadd.inspect.listing import Listing
from spooldadd.inspect.peeking import Peek, peek

# Each waiting spec has to be opened. More than these take longer than a person waits for an answer.
MOST = 5000

Rank = tuple[int, float, str]


@dataclass(frozen=True)
class Turn:
    """How many ready jobs of its queue go first, of how many. None where there are too many to look at."""

    ahead: int | None
    ready: int


def of(job: Job, now: datetime.datetime) -> Turn:
    """Look at every waiting job of this job's queue that is ready to run."""
    own = peek(job.spec_path)
    others = [one for one in Listing(job.places, states=(layout.WAITING,)).jobs() if one.id != job.id]
    if len(others) > MOST:
        return Turn(None, len(others) + 1)
    ranks = [rank(one, spec) for one in others if _is_ready(one, spec := peek(one.spec_path), own.queue, now)]
    mine = rank(job, own)
    return Turn(sum(1 for other in ranks if other < mine), len(ranks) + 1)


def rank(job: Job, spec: Peek) -> Rank:
    """Return what sorts first and runs first, as the worker's backlog has it."""
    return -spec.priority, _since_s(job), job.id


def _is_ready(job: Job, spec: Peek, queue: str, now: datetime.datetime) -> bool:
    if spec.queue != queue or job.is_held or (spec.not_before is not None and spec.not_before > now):
        return False
    due = holding.next_attempt_at(job)
    return due is None or due <= now


def _since_s(job: Job) -> float:
    if job.is_drop:
        try:
            return os.lstat(job.path).st_mtime
        except OSError:
            return 0.0
    since = job.since()
    return since.timestamp() if since else 0.0
