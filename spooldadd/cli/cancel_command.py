"""End jobs, running or not.

A job that has not started is filed in `failed/` with the outcome `cancelled`. A running one is asked to end with
everything it started: TERM, and KILL after its `kill_after`. Waits until each is over and prints its id then.

By hand: `touch running/JOB.1.TOKEN/cancel`.

examples:
  spooldadd cancel nightly
  spooldadd cancel nightly --no-wait
  spooldadd cancel nightly report --timeout 5m   # exit 5 where one of them has not ended by then
"""

from __future__ import annotations

import time

from spooldadd import acting, layout, spool
from spooldadd.acting import NotPossible
from spooldadd.cli import TIMED_OUT, choosing, moments
from spooldadd.cli.common import say, spool_path
from spooldadd.cli.configured import holder
from spooldadd.inspect import jobs
from spooldadd.inspect.jobs import Job
from spooldadd.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

# Above the default `kill_after` of 10 s, below the patience of who sits there.
TIMEOUT_S = 60.0
LOOK_S = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("jobs", metavar="JOB", nargs="+", help="a job's id, or the beginning of one, or a file in the spool")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until running jobs have ended")
    parser.add_argument(
        "--timeout", metavar="TIME", type=moments.duration, default=TIMEOUT_S, help="wait no longer than this (default: 60s)"
    )


def run(options: argparse.Namespace) -> int:
    """Cancel each, then wait for those that ran."""
    root = spool_path(options)
    the_spool = spool.open_spool(root, holder(choosing.config_of(options, root).node))
    found = choosing.find_all(the_spool, options.jobs)
    is_failed = False
    asked = []
    for job in found:
        try:
            running = acting.cancel(the_spool, job)
            if running is None or options.no_wait:
                choosing.print_id(job)
            else:
                asked.append(running)
        except NotPossible as error:
            say(f"spooldadd: {error}")
            is_failed = True
    left = _wait(the_spool, asked, time.monotonic() + options.timeout)
    for job in left:
        say(f"spooldadd: `{job.id}` was asked to end and has not yet; `spooldadd explain {job.id}` says more")
    return TIMED_OUT if left else int(is_failed)


def _wait(the_spool: Spool, asked: list[Job], deadline: float) -> list[Job]:
    """Wait for all of them; return those that have not ended at the deadline."""
    while asked:
        asked = [job for job in asked if not _is_over(the_spool, job)]
        if not asked or time.monotonic() >= deadline:
            break
        time.sleep(LOOK_S)
    return asked


def _is_over(the_spool: Spool, job: Job) -> bool:
    now = jobs.find_id(the_spool.places, job.id)
    if now is None or now.is_finished:
        outcome = now.result().get("outcome") if now else None
        if now and outcome != "cancelled":
            say(f"spooldadd: `{job.id}` ended by itself meanwhile: {now.result().get('reason', outcome)}")
        choosing.print_id(job)
        return True
    if now.state == layout.WAITING:  # its attempt failed before it was asked to end, and another was to follow
        try:
            acting.cancel(the_spool, now)
        except NotPossible:
            pass  # it has ended: the next look says so
    return False
