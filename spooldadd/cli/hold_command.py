"""Keep jobs, a queue or everything from being started.

What runs goes on. Holding a held job changes nothing. `spooldadd release` lets go again.

By hand: `mv nightly.toml nightly.toml.held`, `touch waiting/JOB/hold`, `touch paused`, `touch paused.QUEUE`.

examples:
  spooldadd hold nightly
  spooldadd hold --queue etl                     # nothing more of this queue is started
  spooldadd hold --all                           # nothing more at all
"""

from __future__ import annotations

from spooldadd import acting
from spooldadd.cli import holding
from spooldadd.cli.common import say
from spooldadd.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    holding.add_arguments(parser, "every job of this queue, those to come too", "every job, those to come too")


def run(options: argparse.Namespace) -> int:
    """Hold what was named."""
    return holding.run(options, acting.hold, _pause)


def _pause(the_spool: Spool, queue: str | None) -> None:
    acting.pause(the_spool, queue)
    say(f"spooldadd: nothing more is started{_of(queue)} until `spooldadd release {_option(queue)}`")


def _of(queue: str | None) -> str:
    return "" if queue is None else f" of the queue `{queue}`"


def _option(queue: str | None) -> str:
    return "--all" if queue is None else f"--queue {queue}"
