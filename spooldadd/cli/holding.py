"""What `hold` and `release` share: jobs, a queue or everything, and never a mixture of them."""

from __future__ import annotations

import re
from collections.abc import Callable

from spooldadd.cli import choosing
from spooldadd.cli.common import UsageError
from spooldadd.inspect.job import Job
from spooldadd.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

# As a spec's `queue` may be called; the pattern of `spec.fields`, which would bring pydantic along.
QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", re.ASCII)


def add_arguments(parser: argparse.ArgumentParser, of_queue: str, of_all: str) -> None:
    """Add the arguments, with what this command says of `--queue` and `--all`."""
    parser.add_argument("jobs", metavar="JOB", nargs="*", help="a job's id, or the beginning of one, or a file in the spool")
    parser.add_argument("--queue", metavar="QUEUE", help=of_queue)
    parser.add_argument("--all", action="store_true", help=of_all)


def run(
    options: argparse.Namespace, on_job: Callable[[Spool, Job], None], on_queue: Callable[[Spool, str | None], None]
) -> int:
    """Do it to each job that was named, or to the queue, or to all."""
    _refuse_mixture(options)
    the_spool = choosing.open_for(options)
    if not options.jobs:
        on_queue(the_spool, options.queue)
        return 0
    found = choosing.find_all(the_spool, options.jobs)
    done = choosing.act_on_each(found, lambda job: on_job(the_spool, job))
    return 0 if len(done) == len(found) else 1


def _refuse_mixture(options: argparse.Namespace) -> None:
    """Refuse anything but one of: jobs, a queue, all. Raises: UsageError."""
    if sum((bool(options.jobs), options.queue is not None, options.all)) != 1:
        raise UsageError("name jobs, or a queue with `--queue`, or everything with `--all`")
    if options.queue is not None and not QUEUE.fullmatch(options.queue):
        raise UsageError(f"`{options.queue}` cannot be the name of a queue: letters, digits, `.`, `_` and `-` make one")
