"""Let held jobs, a queue or everything go.

Releasing what is not held changes nothing. `--all` ends a `hold --all`; jobs and queues that are held by themselves stay so.

By hand: `mv nightly.toml.held nightly.toml`, `rm waiting/JOB/hold`, `rm paused`, `rm paused.QUEUE`.

examples:
  spooldadd release nightly
  spooldadd release --queue etl
  spooldadd release --all
"""

from __future__ import annotations

import argparse

from spooldadd import acting
from spooldadd.cli import choosing
from spooldadd.cli.hold_command import refuse_mixture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("jobs", metavar="JOB", nargs="*", help="a job's id, or the beginning of one, or a file in the spool")
    parser.add_argument("--queue", metavar="QUEUE", help="the jobs of this queue")
    parser.add_argument("--all", action="store_true", help="everything")


def run(options: argparse.Namespace) -> int:
    """Release what was named."""
    refuse_mixture(options)
    the_spool = choosing.open_for(options)
    if not options.jobs:
        acting.resume(the_spool, options.queue)
        return 0
    found = choosing.find_all(the_spool, options.jobs)
    done = choosing.act_on_each(found, lambda job: acting.release(the_spool, job))
    return 0 if len(done) == len(found) else 1
