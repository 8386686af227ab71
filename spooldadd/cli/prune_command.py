"""Remove what nobody needs any more: old records, work directories, environments, downloads, letters.

Without options it removes what the `[keep]` table of the configuration lets go, of every kind, or of those that are named:

  records        finished records, by age, number and size; failed ones have bounds of their own. Unset, none ever goes
  work           work directories of this node, of attempts that are over, after `work_days`
  environments   Python environments of this node, by `cache_days` and `cache_size`, as `spooldadd env prune` does
  cache          downloads of this node, likewise, as `spooldadd cache prune` does
  mail           letters that were sent a week ago, or refused 90 days ago
  leftovers      small files that outlived what they were for

With one of the options about records, only these count, and only records are removed where no kind is named. A record never
goes while a file `hold` is in it, while its mail is not sent, or while it waits to be sent to the `[master]`. A worker does
the same once an hour. Prints what went, one a line. A kind that cannot be pruned now is named, and the others are pruned all
the same: exit code 75 where another process prunes the records, 4 where something is in the way.

examples:
  spooldadd prune --dry-run
  spooldadd prune --done-older 30d --failed-older 90d
  spooldadd prune --keep 1000                    # of the successful and of the failed ones each, the newest
  spooldadd prune --max-size 20G                 # the oldest go first, successful ones before failed ones
  spooldadd prune --done-older 0s --queue etl
  spooldadd prune work mail --json
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from spooldadd import durable, pruning, retention, spool
from spooldadd.cli import choosing, store
from spooldadd.cli.common import UsageError, add_json, print_json, say, spool_path
from spooldadd.cli.configured import holder
from spooldadd.cli.plain import unfit
from spooldadd.inspect import words
from spooldadd.log import Log
from spooldadd.pruning import KINDS, Gone, Scope
from spooldadd.retention import Ages, Bounds, Tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

TROUBLE, LATER = 4, 75
PROGRESS_S = 2.0
# In JSON so many names are shown of each kind; a million would be no answer.
MOST_NAMES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("what", metavar="WHAT", nargs="*", help=f"which kinds: {', '.join(KINDS)} (default: all)")
    parser.add_argument("--done-older", metavar="AGE", type=store.duration, help="records of successes so long ago")
    parser.add_argument("--failed-older", metavar="AGE", type=store.duration, help="records of failures so long ago")
    parser.add_argument("--keep", metavar="N", type=_count, help="keep the N newest records of each, done and failed")
    parser.add_argument("--max-size", metavar="SIZE", type=store.size, help="remove the oldest until so much is left")
    parser.add_argument("--queue", metavar="NAME", help="with one of the above: only records of this queue")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would go")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Prune."""
    kinds = _kinds(options)
    root = spool_path(options)
    config = choosing.config_of(options, root)
    the_spool = spool.open_spool(root, holder(config.node))
    bounds = _bounds(options) or pruning.bounds_of(config.keep)
    names: dict[str, list[str]] = {kind: [] for kind in kinds}
    scope = Scope(
        the_spool, config, bounds, Log(2, level="warning"), options.dry_run, _teller(options, names), Progress(options).show
    )
    found = {kind: _prune(kind, scope) for kind in kinds}
    if options.json:
        tables = {kind: _table(part.gone, names[kind]) | part.told() for kind, part in found.items()}
        print_json({"spool": root, "dry_run": options.dry_run, "kinds": tables})
    sys.stdout.flush()
    for kind, part in found.items():
        if part.left:
            say(f"spooldadd: {kind}: {part.left}")
        elif not options.json:
            _say_what_went(kind, part.gone, is_dry=options.dry_run)
    # What is in trouble weighs more than what only has to wait.
    return min((part.code for part in found.values() if part.code), default=0)


@dataclass(frozen=True)
class Part:
    """What came of one kind: what went, or why it was left as it is, and the exit code that says so."""

    gone: Gone
    left: str = ""
    code: int = 0

    def told(self) -> dict[str, str]:
        """Return what JSON says besides what went."""
        return {"left": self.left} if self.left else {}


def _prune(kind: str, scope: Scope) -> Part:
    """Prune one kind. What is wrong with it is no reason to leave the others."""
    try:
        return Part(KINDS[kind](scope))
    except retention.Busy as error:
        return Part(Gone(), f"left as they are: {error}", LATER)
    except OSError as error:
        return Part(Gone(), f"left as they are: {error.strerror} (`{error.filename}`); look at the rights there", TROUBLE)


class Progress:
    """Says how far it is, every few seconds, where it takes that long."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._verb = "would go" if options.dry_run else "removed"
        self._next = time.monotonic() + PROGRESS_S

    def show(self, tally: Tally) -> None:
        """Say it, where it is time."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_S
            say(
                f"spooldadd: {tally.looked} records looked at, {tally.removed} {self._verb}, {words.size(tally.freed_bytes)}"
            )


def _kinds(options: argparse.Namespace) -> list[str]:
    unknown = [word for word in options.what if word not in KINDS]
    if unknown:
        raise UsageError(f"`{unknown[0]}` is nothing that can be pruned; choose from {', '.join(KINDS)}")
    has_bounds = _bounds(options) is not None
    if options.queue is not None and not has_bounds:
        raise UsageError("`--queue` goes with `--done-older`, `--failed-older`, `--keep` or `--max-size`")
    if has_bounds and options.what and "records" not in options.what:
        raise UsageError("`--done-older`, `--failed-older`, `--keep` and `--max-size` are about `records`")
    if options.what:
        return [kind for kind in KINDS if kind in options.what]
    return ["records"] if has_bounds else list(KINDS)


def _bounds(options: argparse.Namespace) -> Bounds | None:
    """Return the bounds that the options set, None where they set none."""
    given = (options.done_older, options.failed_older, options.keep, options.max_size)
    if all(value is None for value in given):
        return None
    ages = Ages(options.done_older, options.failed_older)
    return Bounds(ages, options.keep, options.keep, options.max_size, only_queue=options.queue or "")


def _teller(options: argparse.Namespace, names: dict[str, list[str]]) -> Callable[[str, str], None]:
    def tell(kind: str, name: str) -> None:
        if not options.json:
            print(durable.printable(name))
        elif len(names[kind]) < MOST_NAMES:
            names[kind].append(durable.printable(name))

    return tell


def _table(gone: Gone, names: list[str]) -> dict[str, object]:
    table: dict[str, object] = {
        "removed": gone.removed,
        "freed_bytes": gone.freed_bytes,
        "kept": dict(gone.kept),
        "names": names,
    }
    return {**table, "names_left_out": gone.removed - len(names)} if gone.removed > len(names) else table


def _say_what_went(kind: str, gone: Gone, *, is_dry: bool) -> None:
    verb = "would go" if is_dry else "removed"
    say(f"spooldadd: {kind}: {gone.removed} {verb}, {words.size(gone.freed_bytes)}")
    reasons = {
        retention.HELD: "held",
        retention.UNTOLD: "their mail is not sent yet",
        retention.NOT_UPLOADED: "they wait to be sent to the master",
        retention.CHANGED: "they ran again meanwhile, or were held",
        retention.STUCK: "they cannot be removed: look at the rights in `.spool/trash/` and in the work directories",
    }
    for why, count in sorted(gone.kept.items()):
        say(f"spooldadd: {kind}: {count} stay: {reasons[why]}")


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise unfit(f"`{text}` is no number of records; write it as `1000`")
    return number
