"""Run finished jobs again, or waiting ones now.

A failed job goes back to `waiting/` with its spec, the same id, and the next attempt's number; what its earlier attempts
left is kept in `attempts/`. It runs whatever its retry limit says. A job that waits for its next attempt does not wait for
its time. Prints the id of each job that will run.

A job whose record came from another machine (`collect`, `[master]`) goes back there: its spec is pushed to its node, as a
new job, and the record stays, with a note of that; `--here` drops the spec into this spool instead. Prints the new job's id.

By hand: `mv failed/JOB waiting/`, or `touch waiting/JOB/now`, then `touch .wake`.

examples:
  spooldadd retry nightly.20261121T101500Z.k3x9q
  spooldadd retry nightly                        # any unique prefix
  spooldadd retry --all-failed --since 2h        # everything that failed in the last two hours
  spooldadd retry --all-failed --now             # and what waits for its next attempt
  spooldadd retry --cause 9f773dd86de3           # every failed job of a cause, as `spooldadd failures` lists them
  spooldadd retry --force nightly                # again, though it was successful
  spooldadd retry --all-failed --node web-1      # what has failed on this node
  spooldadd retry --here nightly                 # in this spool, though it came from another machine
"""

from __future__ import annotations

import datetime
import os

from spooldadd import acting, layout
from spooldadd.cli import choosing, moments
from spooldadd.cli.common import UsageError, say
from spooldadd.errors import NoSuchJob
from spooldadd.inspect import jobs
from spooldadd.inspect.jobs import Job
from spooldadd.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("jobs", metavar="JOB", nargs="*", help="a job's id, or the beginning of one")
    parser.add_argument("--all-failed", action="store_true", help="every job in `failed/`")
    parser.add_argument(
        "--since",
        metavar="WHEN",
        type=moments.past,
        help="with --all-failed: only what failed since then (`2h`, a day, a time)",
    )
    parser.add_argument(
        "--now", action="store_true", help="with --all-failed: also every job that waits for its next attempt"
    )
    parser.add_argument("--cause", metavar="ID", help="every job in `failed/` of this cause")
    parser.add_argument("--node", metavar="NAME", help="with --all-failed: only what failed on this node")
    parser.add_argument("--here", action="store_true", help="run in this spool what came from another one")
    parser.add_argument("--force", action="store_true", help="also jobs that were successful, or were sent back before")


def run(options: argparse.Namespace) -> int:
    """Find all, then send each on its way."""
    if [bool(options.jobs), options.all_failed, options.cause is not None].count(True) != 1:
        raise UsageError("name the jobs, or use `--all-failed`, or `--cause ID`")
    if (options.since or options.node) and not options.all_failed:
        raise UsageError("`--since` and `--node` go with `--all-failed`")
    the_spool = choosing.open_for(options)
    if options.cause is not None:
        found = _of_cause(the_spool, options)
    elif options.all_failed:
        found = _failed(the_spool, options.since, and_waiting=options.now)
        found = [job for job in found if options.node in (None, job.result().get("node"))]
        found = [job for job in found if options.force or not _was_sent_back(job)]
    else:
        found = choosing.find_all(the_spool, options.jobs)
    own = [job for job in found if not _is_foreign(job)]
    done = choosing.act_on_each(own, lambda job: acting.retry(the_spool, job, is_forced=options.force))
    is_all_sent = len(own) == len(found) or _send_back(the_spool, [job for job in found if job not in own], options)
    if not found:
        say("spooldadd: nothing has failed" + (" since then" if options.since else ""))
    return 0 if len(done) == len(own) and is_all_sent else 1


def _is_foreign(job: Job) -> bool:
    return job.is_finished and os.path.lexists(os.path.join(job.path, layout.MANIFEST))


def _was_sent_back(job: Job) -> bool:
    return os.path.lexists(os.path.join(job.path, layout.RETURNED))


def _send_back(the_spool: Spool, found: list[Job], options: argparse.Namespace) -> bool:
    """Send the specs of jobs that ran elsewhere on their way; return whether all went."""
    from spooldadd.cli import sending_back  # late: only records of other machines need rsync

    return sending_back.send_back(the_spool, found, options)


def _of_cause(the_spool: Spool, options: argparse.Namespace) -> list[Job]:
    """Oldest first. Raises: NoSuchJob where no failed job has this cause."""
    from spooldadd import failures  # late: heavy, and only this way of choosing needs it

    places = the_spool.places
    causes = failures.by_cause(places, choosing.config_of(options, places.root), os.environ)
    found = [each for each in causes if options.cause and each.cause.id.startswith(options.cause)]
    if len(found) != 1:
        many = f"{len(found)} causes begin with" if found else "no failed job has the cause"
        raise NoSuchJob(f"{many} `{options.cause}`; `spooldadd failures` lists them")
    return sorted(found[0].jobs, key=_ended_at)


def _failed(the_spool: Spool, since: datetime.datetime | None, *, and_waiting: bool) -> list[Job]:
    """Oldest first, so that they run in the order in which they failed."""
    states = (layout.FAILED, layout.WAITING) if and_waiting else (layout.FAILED,)
    found = [job for job in jobs.list_jobs(the_spool.places, states) if not job.is_drop and not job.is_held]
    return sorted((job for job in found if since is None or _ended_at(job) >= since), key=_ended_at)


def _ended_at(job: Job) -> datetime.datetime:
    at = job.result().get("finished_at")
    if isinstance(at, datetime.datetime):
        return at if at.tzinfo else at.replace(tzinfo=datetime.UTC)
    try:  # its result is damaged: the time in its id is the best that is left
        return datetime.datetime.strptime(jobs.id_stamp(job.id), "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        return datetime.datetime.min.replace(tzinfo=datetime.UTC)
