"""Wait until jobs have ended.

Exits with 0 where all of them are in `done/`, with 1 where one is in `failed/`, with 3 where one is unknown or was removed,
with 5 where the time was over first. A file that still waits in the spool may be named, too. Nothing else needs to run:
this looks at the directories, as anybody could.

examples:
  spooldadd wait nightly.20261121T101500Z.bcdfg
  spooldadd wait nightly.toml --timeout 2h
  spooldadd wait $(spooldadd submit a.toml b.toml) --any
  spooldadd wait nightly --json | jq '.jobs[0].outcome'
"""

from __future__ import annotations

from spooldadd import layout
from spooldadd.cli import FAILED, FINE, TIMED_OUT, common, moments
from spooldadd.inspect import jobs, words, workers
from spooldadd.inspect.following import Follower, wait
from spooldadd.inspect.job import Job
from spooldadd.inspect.opening import open_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("jobs", metavar="JOB", nargs="+", help="which jobs: ids, beginnings of ids, files")
    parser.add_argument(
        "--timeout", type=moments.duration, metavar="D", help="give up after this time: 90s, 1h30m (default: never)"
    )
    parser.add_argument("--any", action="store_true", help="end as soon as one of them has ended")
    common.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Wait, then say what became of the jobs."""
    places = open_places(common.spool_path(options))
    suffixes = workers.suffixes(workers.all_nodes(places))
    followers = [Follower(jobs.find(places, text, suffixes)) for text in options.jobs]
    has_ended = wait(followers, timeout_s=options.timeout, for_any=options.any)
    seen = [follower.job for follower in followers]
    ended = [job for job in seen if job.is_finished]
    if options.json:
        common.print_json({"timed_out": not has_ended, "jobs": [job.table() for job in seen]})
    else:
        _print(seen, has_ended=has_ended)
    return _exit_code(ended, has_ended=has_ended)


def _exit_code(ended: Sequence[Job], *, has_ended: bool) -> int:
    if not has_ended:
        return TIMED_OUT
    return FAILED if any(job.state == layout.FAILED for job in ended) else FINE


def _print(seen: Sequence[Job], *, has_ended: bool) -> None:
    for job in seen:
        if job.is_finished:
            print(f"{words.show(job.id)} {ending(job)}")
    waiting = [f"`{words.show(job.id)}` is {job.state}" for job in seen if not job.is_finished]
    if not has_ended:
        common.say(f"spooldadd: the time is over: {', '.join(waiting)}; `spooldadd explain JOB` says why")


def ending(job: Job) -> str:
    """Say how a job ended: `done`, or `failed (exit): it ended with exit code 3`."""
    if job.state == layout.DONE:
        return job.state
    return words.show(f"{job.state} ({job.result().get('outcome', 'unknown')}): {job.reason()}")
