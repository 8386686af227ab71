"""Print what a job printed, byte for byte.

Without options this is the output of the last attempt. With `--follow` it goes on while the job runs, moves and is tried
again, until it has ended; a job that still waits is waited for. What a job printed to two logs (`split_output = true`) goes
to stdout and stderr, too.

examples:
  spooldadd logs nightly
  spooldadd logs nightly --follow
  spooldadd logs nightly -n 50 --attempt 1
  spooldadd logs nightly --build
"""

from __future__ import annotations

import sys

from spooldadd import layout
from spooldadd.cli import common
from spooldadd.cli.plain import unfit
from spooldadd.cli.wait_command import ending
from spooldadd.inspect import jobs, output, words, workers
from spooldadd.inspect.following import Follower
from spooldadd.inspect.job import Job
from spooldadd.inspect.opening import open_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("job", metavar="JOB", help="which job: its id, the beginning of it, or a file")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    parser.add_argument("-n", "--lines", type=_lines, metavar="LINES", help="only the last lines")
    attempt = parser.add_mutually_exclusive_group()
    attempt.add_argument("--attempt", type=_number, metavar="N", help="of this attempt (default: the last one)")
    attempt.add_argument("--previous", action="store_true", help="of the attempt before the last one")
    log = parser.add_mutually_exclusive_group()
    log.add_argument("--build", dest="log", action="store_const", const=layout.BUILD_LOG, help="what the building printed")
    log.add_argument("--stdout", dest="log", action="store_const", const=layout.STDOUT_LOG, help="only its stdout, if split")
    log.add_argument("--stderr", dest="log", action="store_const", const=layout.STDERR_LOG, help="only its stderr, if split")


def run(options: argparse.Namespace) -> int:
    """Print the log, or follow it."""
    places = open_places(common.spool_path(options))
    job = jobs.find(places, options.job, workers.suffixes(workers.all_nodes(places)))
    sys.stdout.flush()  # from here on bytes go past it
    choice = output.Choice(options.log, options.lines)
    if options.follow:
        return _follow(job, choice, _attempt(options, job) or job.attempt() + 1)
    return _print(job, choice, _attempt(options, job))


def _lines(text: str) -> int:
    number = int(text)
    if number < 0:
        raise unfit("must be 0 or more")
    return number


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise unfit("attempts count from 1")
    return number


def _attempt(options: argparse.Namespace, job: Job) -> int:
    """Return the number of the attempt that was asked for; 0 where none has begun."""
    if options.attempt is not None:
        return int(options.attempt)
    return max(0, job.attempt() - 1) if options.previous else job.attempt()


def _print(job: Job, choice: output.Choice, attempt: int) -> int:
    directory = output.directory_of(job, attempt)
    try:
        if directory is not None and output.copy(directory, choice):
            return 0
    except PermissionError as error:
        common.say(f"spooldadd: the log of `{words.show(job.id)}` cannot be read: {error.strerror} (`{error.filename}`)")
        return 1
    if not attempt and not job.is_finished:
        common.say(f"spooldadd: `{words.show(job.id)}` is {job.state}: it has printed nothing yet")
        return 0
    return _say_missing(job, choice, attempt, is_attempt=directory is not None)


def _say_missing(job: Job, choice: output.Choice, attempt: int, *, is_attempt: bool) -> int:
    name = words.show(job.id)
    if not is_attempt:
        if job.is_closed:
            return _say_closed(job)
        common.say(f"spooldadd: `{name}` has no attempt {attempt}; its last one is {job.attempt()}")
        return 1
    if choice.wanted in (layout.STDOUT_LOG, layout.STDERR_LOG):
        common.say(f"spooldadd: attempt {attempt} of `{name}` has no `{choice.wanted}`: its spec does not split its output")
        return 1
    common.say(f"spooldadd: attempt {attempt} of `{name}` left no log: {words.show(job.reason() or job.state)}")
    return 0


def _say_closed(job: Job) -> int:
    name = words.show(job.id)
    common.say(f"spooldadd: `{name}` belongs to another user; only he and root may look into its record")
    return 1


def _follow(job: Job, choice: output.Choice, attempt: int) -> int:
    if job.is_closed:  # else its end would be all that is said
        return _say_closed(job)
    if job.state == layout.WAITING:
        common.say(f"spooldadd: `{words.show(job.id)}` waits; following it when it starts")
    ended = output.Tail(Follower(job), choice, attempt, lambda text: common.say(f"spooldadd: {words.show(text)}")).follow()
    common.say(f"spooldadd: `{words.show(ended.id)}` {ending(ended)}")
    return 0
