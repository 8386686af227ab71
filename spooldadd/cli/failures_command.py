"""Show what has failed, one entry for each cause.

A cause is the type of the error, its message without numbers, times and names, and the job's own frames; without a
traceback, the last line of the log that speaks of an error. So a thousand failures of three causes are three entries. Each
has the id that stands in its mail; `spooldadd retry --cause ID` runs all its jobs again. What was sent back to its node to
be run again does not count any more, as what waits for another attempt here does not.

examples:
  spooldadd failures
  spooldadd failures --limit 200       # only among the newest
  spooldadd failures --node web-1      # of records that came from several nodes
  spooldadd failures --json
"""

from __future__ import annotations

import os

from spooldadd import failures
from spooldadd.cli import choosing
from spooldadd.cli.common import add_json, print_json, say, spool_path
from spooldadd.failures import Failures
from spooldadd.inspect.opening import open_places
from spooldadd.log import timestamp
from spooldadd.spool import open_spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

NAMES_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--limit", type=int, metavar="N", help="look at the newest N failed jobs only (default: all)")
    parser.add_argument("--node", metavar="NAME", help="only what failed on this node")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Look at the failed jobs and sum them up."""
    root = spool_path(options)
    open_places(root)
    places = open_spool(root).places
    found = failures.by_cause(places, choosing.config_of(options, root), os.environ, options.limit, options.node)
    if options.json:
        print_json({"spool": root, "causes": [_table(each) for each in found]})
        return 0
    for each in found:
        print(f"{each.cause.id}  {len(each.jobs)} x {each.cause.label}")
        print(f"  {_when(each)}; {_names(each)}; for example {each.jobs[0].id}")
    if not found:
        say("spooldadd: nothing has failed")
    return 0


def _table(each: Failures) -> dict[str, object]:
    return {
        "cause": each.cause.id,
        "label": each.cause.label,
        "count": len(each.jobs),
        "names": sorted(each.names),
        "first_at": timestamp(each.first_s),
        "last_at": timestamp(each.last_s),
        "example": each.jobs[0].id,
    }


def _when(each: Failures) -> str:
    first, last = (timestamp(at_s)[:19] + "Z" for at_s in (each.first_s, each.last_s))
    return f"at {first}" if len(each.jobs) == 1 else f"from {first} to {last}"


def _names(each: Failures) -> str:
    shown = sorted(each.names)[:NAMES_SHOWN]
    more = len(each.names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
