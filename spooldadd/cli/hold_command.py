"""Keep jobs, a queue or everything from being started.

What runs goes on. Holding a held job changes nothing. `spooldadd release` lets go again.

By hand: `mv nightly.toml nightly.toml.held`, `touch waiting/JOB/hold`, `touch paused`, `touch paused.QUEUE`.

examples:
  spooldadd hold nightly
  spooldadd hold --queue etl                     # nothing more of this queue is started
  spooldadd hold --all                           # nothing more at all
"""

from __future__ import annotations

import argparse
import re

from spooldadd import acting
from spooldadd.cli import choosing
from spooldadd.cli.common import UsageError, say

# As a spec's `queue` may be called; the pattern of `spec.fields`, which would bring pydantic along.
QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", re.ASCII)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("jobs", metavar="JOB", nargs="*", help="a job's id, or the beginning of one, or a file in the spool")
    parser.add_argument("--queue", metavar="QUEUE", help="every job of this queue, those to come too")
    parser.add_argument("--all", action="store_true", help="every job, those to come too")


def run(options: argparse.Namespace) -> int:
    """Hold what was named."""
    refuse_mixture(options)
    the_spool = choosing.open_for(options)
    if not options.jobs:
        acting.pause(the_spool, options.queue)
        say(f"spooldadd: nothing more is started{_of(options.queue)} until `spooldadd release {_option(options.queue)}`")
        return 0
    found = choosing.find_all(the_spool, options.jobs)
    done = choosing.act_on_each(found, lambda job: acting.hold(the_spool, job))
    return 0 if len(done) == len(found) else 1


def refuse_mixture(options: argparse.Namespace) -> None:
    """Refuse anything but one of: jobs, a queue, all. Raises: UsageError."""
    if sum((bool(options.jobs), options.queue is not None, options.all)) != 1:
        raise UsageError("name jobs, or a queue with `--queue`, or everything with `--all`")
    if options.queue is not None and not QUEUE.fullmatch(options.queue):
        raise UsageError(f"`{options.queue}` cannot be the name of a queue: letters, digits, `.`, `_` and `-` make one")


def _of(queue: str | None) -> str:
    return "" if queue is None else f" of the queue `{queue}`"


def _option(queue: str | None) -> str:
    return "--all" if queue is None else f"--queue {queue}"
