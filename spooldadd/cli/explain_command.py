"""Say why a job waits, what it does, or why it died.

For a waiting job this names every rule that keeps it waiting, with the value it saw. For a running one it says since when,
within which limits, what it has printed, and whether its supervisor lives. For one that has ended it says what that end
means, shows the end of the log, and what to type next.

examples:
  spooldadd explain nightly.toml
  spooldadd explain nightly.20261121T101500Z
  spooldadd explain nightly --json | jq '.rules[] | select(.keeps_waiting)'
"""

from __future__ import annotations

import datetime
import os
import sys

from spooldadd import layout
from spooldadd.cli import common
from spooldadd.inspect import jobs, words, workers
from spooldadd.inspect.explanation import Explanation
from spooldadd.inspect.job import Job
from spooldadd.inspect.opening import open_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("job", metavar="JOB", help="which job: its id, the beginning of it, or a file")
    common.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Explain the job in the state it is in."""
    places = open_places(common.spool_path(options))
    job = jobs.find(places, options.job, workers.suffixes(workers.all_nodes(places)))
    found = explain(job)
    if options.json:
        common.print_json({**job.table(), "sentence": found.sentence, **found.facts})
    else:
        _print(job, found)
    return 0


def explain(job: Job) -> Explanation:
    """Ask the module for the job's state; each of them is heavier than what `status` may load."""
    now = datetime.datetime.now(datetime.UTC)
    if job.state == layout.WAITING:
        from spooldadd.inspect import waiting_rules

        return waiting_rules.explain(job, now)
    if job.state == layout.RUNNING:
        from spooldadd.inspect import running

        return running.explain(job, now)
    from spooldadd.inspect import ended

    return ended.explain(job)


def _print(job: Job, found: Explanation) -> None:
    screen = words.Screen(sys.stdout, os.environ)
    print(screen.paint(f"{words.show(job.id)}  {job.state}", "bold"))
    print(found.sentence)
    for line in found.lines:
        print(line)
    if found.commands:
        print("next:")
        for command in found.commands:
            print(screen.paint(f"  {words.show(command)}", "cyan"))
