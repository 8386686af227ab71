"""What keeps a waiting job waiting, as far as a glance tells: held, paused, its time. `explain` knows more."""

from __future__ import annotations

import os

from spooldadd import commons, layout
from spooldadd.baretime import datetime
from spooldadd.inspect import words
from spooldadd.inspect.job import Job
from spooldadd.inspect.peeking import peek
from spooldadd.layout import Layout


def pause_file(places: Layout, queue: str) -> str | None:
    """Return the file that stops the claiming of this queue now, or None."""
    return next((path for path in places.pause_files(queue) if commons.is_paused_by(path)), None)


def next_attempt_at(job: Job) -> datetime.datetime | None:
    """Return when the next attempt of a waiting record is due, or None where it has no time to wait for."""
    if job.is_drop or os.path.lexists(os.path.join(job.path, layout.NOW)):
        return None
    at = job.result().get("next_attempt_at")
    return at if isinstance(at, datetime.datetime) else None


def at_a_glance(job: Job, now: datetime.datetime) -> str:
    """Say in a few words why a waiting job waits; empty where nothing but its turn keeps it."""
    spec = peek(job.spec_path)
    if job.is_held:
        return "held"
    paused = pause_file(job.places, spec.queue)
    if paused is not None:
        return "paused" if os.path.basename(paused) == layout.PAUSED else f"queue `{spec.queue}` is paused"
    if spec.not_before is not None and spec.not_before > now:
        return f"not before {moment(spec.not_before)}, in {words.duration((spec.not_before - now).total_seconds())}"
    return _between_attempts(job, now)


def _between_attempts(job: Job, now: datetime.datetime) -> str:
    last = job.result().get("reason")
    because = f"; the last one: {last}" if isinstance(last, str) and last else ""
    due = next_attempt_at(job)
    if due is not None and due > now:
        return f"next attempt in {words.duration((due - now).total_seconds())}{because}"
    return f"next attempt is due{because}" if job.result() else ""


def moment(at: datetime.datetime) -> str:
    """Write a time for people, in UTC and to the second: `2026-11-21 10:15:00Z`."""
    return at.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
