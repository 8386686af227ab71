"""Wait for jobs of known ids to end, show what they print meanwhile, and exit as they did. Changes nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from spooldadd.cli import TIMED_OUT
from spooldadd.cli.common import print_json, say
from spooldadd.errors import NoSuchJob
from spooldadd.inspect import jobs, words
from spooldadd.inspect.following import Follower, wait
from spooldadd.inspect.job import Job
from spooldadd.inspect.output import Choice, Tail
from spooldadd.layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class Wish:
    """What whoever waits wants: how long at most, to see the logs, and the answer as JSON."""

    timeout_s: float | None = None
    is_following: bool = False
    as_json: bool = False

    @classmethod
    def of(cls, options: argparse.Namespace) -> Wish:
        """Read the options of `submit`."""
        return cls(options.timeout, options.follow, options.json)


class _TimeOver(Exception):
    """The time to wait has passed."""


def wait_for(places: Layout, ids: list[str], wish: Wish) -> int:
    """Wait until all of them have ended; return the exit code of the first that failed, in their order.

    Raises: NoSuchJob where one was removed.
    """
    followers = [Follower(_found(places, job_id)) for job_id in ids]
    if wish.is_following:
        _follow(followers, wish.timeout_s)
    else:
        wait(followers, timeout_s=wish.timeout_s)
    ended = [follower.job for follower in followers]
    if wish.as_json:
        print_json({"spool": places.root, "jobs": [job.table() for job in ended]})
    codes = [code for job in ended if (code := _exit_code(job))]
    return codes[0] if codes else 0


def _found(places: Layout, job_id: str) -> Job:
    job = jobs.find_id(places, job_id)
    if job is None:
        raise NoSuchJob(f"`{job_id}` is gone from the spool")
    return job


def _follow(followers: list[Follower], timeout_s: float | None) -> None:
    """Show the output of one after the other, so that no line of one stands in a line of another."""
    try:
        with _alarm(timeout_s):
            for follower in followers:
                Tail(follower, Choice(), 1, lambda text: say(f"spooldadd: {words.show(text)}")).follow()
    except _TimeOver:
        for follower in followers:
            follower.look()


@contextmanager
def _alarm(timeout_s: float | None) -> Iterator[None]:
    """Raise `_TimeOver` within when the time has passed. An alarm, because a follower sleeps and reads in turn."""
    if timeout_s is None:
        yield
        return

    def ring(_number: int, _frame: object) -> None:
        raise _TimeOver

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(timeout_s, 0.001))  # zero would switch it off
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _exit_code(job: Job) -> int:
    from spooldadd.foreground import exit_code_of  # late: heavy, and wanted only at the end

    name = words.show(job.id)
    if not job.is_finished:
        say(f"spooldadd: `{name}` is {job.state}: the time to wait is over; `spooldadd explain {name}` says more")
        return TIMED_OUT
    result = job.result()
    code = exit_code_of(str(result.get("outcome")), result)
    if code:
        say(f"spooldadd: `{name}` failed: {words.show(job.reason())}")
    return code
