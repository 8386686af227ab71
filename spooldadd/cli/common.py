"""What several commands share: which spool, how to print. Light: `status` loads it."""

from __future__ import annotations

import os
import sys

from spooldadd.errors import SpooldaddError, SpoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

SCHEMA = 1


class UsageError(SpooldaddError):
    """The command line does not fit; the message says how."""


def spool_path(options: argparse.Namespace, positional: str | None = None) -> str:
    """Return the spool that was asked for: argument, `--spool`, `$SPOOLDADD_SPOOL`, or the current directory if it is one.

    Raises: SpoolError where none was named.
    """
    named = positional or getattr(options, "spool", None) or os.environ.get("SPOOLDADD_SPOOL")
    if named:
        return os.path.abspath(named)
    if os.path.exists(os.path.join(".spool", "format.toml")):
        return os.getcwd()
    raise SpoolError("no spool was named: use `--spool DIR` or set `SPOOLDADD_SPOOL`")


def print_json(table: dict[str, object]) -> None:
    """Print one documented object, the schema's number first."""
    import json  # late: not every answer is one

    json.dump({"schema": SCHEMA, **table}, sys.stdout, indent=2, ensure_ascii=True, default=str)
    sys.stdout.write("\n")


def say(sentence: str) -> None:
    """Tell the person something that is no data."""
    print(sentence, file=sys.stderr)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
