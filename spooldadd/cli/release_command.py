"""Let held jobs, a queue or everything go.

Releasing what is not held changes nothing. `--all` ends a `hold --all`; jobs and queues that are held by themselves stay so.

By hand: `mv nightly.toml.held nightly.toml`, `rm waiting/JOB/hold`, `rm paused`, `rm paused.QUEUE`.

examples:
  spooldadd release nightly
  spooldadd release --queue etl
  spooldadd release --all
"""

from __future__ import annotations

from spooldadd import acting
from spooldadd.cli import holding

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    holding.add_arguments(parser, "the jobs of this queue", "everything")


def run(options: argparse.Namespace) -> int:
    """Release what was named."""
    return holding.run(options, acting.release, acting.resume)
