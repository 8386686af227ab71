"""What `env` and `cache` share: list, verify and prune one kind of thing in the cache of this node."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from spooldadd.cli.common import UsageError, add_json, print_json, say, spool_path
from spooldadd.cli.configured import load_config
from spooldadd.cli.plain import unfit
from spooldadd.config import Config
from spooldadd.environment.upkeep import Bounds
from spooldadd.errors import SpoolError
from spooldadd.inspect import words
from spooldadd.log import timestamp
from spooldadd.units import BadUnit, parse_duration, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

LIST, VERIFY, PRUNE = "list", "verify", "prune"
_DAY_S: Final = 86_400.0


class Kept(NamedTuple):
    """One thing in the cache, as a line and as a table."""

    name: str
    size_bytes: int
    used_at_s: float
    is_used: bool
    what: str
    more: dict[str, object]

    def table(self) -> dict[str, object]:
        """Return what `--json` shows of it."""
        return {**self.more, "size_bytes": self.size_bytes, "used_at": timestamp(self.used_at_s), "in_use": self.is_used}


class Shelf(Protocol):
    """All things of one kind in the cache."""

    plural: str  # what `--json` calls them
    fate: str  # what `verify` says of the damaged ones

    def entries(self) -> list[Kept]:
        """Return all of them."""

    def damaged(self) -> list[tuple[str, dict[str, object]]]:
        """Read all of them; return name and table of each that is not as it was made, and see to it."""

    def surplus(self, bounds: Bounds) -> list[Kept]:
        """Return what `prune` would remove."""

    def prune(self, bounds: Bounds) -> tuple[int, int]:
        """Remove it; return how many went, and how many bytes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action, and what bounds `prune`."""
    parser.add_argument("action", choices=(LIST, VERIFY, PRUNE), help="what to do")
    parser.add_argument("--older-than", metavar="AGE", type=duration, help="prune: not used for so long, such as `30d`")
    parser.add_argument("--max-size", metavar="SIZE", type=size, help="prune: remove the oldest until so much is left")
    parser.add_argument("-n", "--dry-run", action="store_true", help="prune: only say what would go")
    add_json(parser)


def run(options: argparse.Namespace, open_shelf: Callable[[str], Shelf]) -> int:
    """List, verify or prune what is on this shelf."""
    config = _config_of(options)
    shelf = open_shelf(config.cache_dir)
    if options.action == PRUNE:
        return _prune(options, config, shelf)
    if options.action == VERIFY:
        return _verify(options, config, shelf)
    found = shelf.entries()
    if options.json:
        print_json({"cache_dir": config.cache_dir, shelf.plural: [one.table() for one in found]})
    else:
        print(*_lines(found), sep="\n")
    return 0


def _verify(options: argparse.Namespace, config: Config, shelf: Shelf) -> int:
    checked = len(shelf.entries())
    damaged = shelf.damaged()
    if options.json:
        print_json({"cache_dir": config.cache_dir, "checked": checked, "damaged": [table for _, table in damaged]})
    else:
        for name, table in damaged:
            print(words.show(f"{name}: {table['problem']}"))
        sys.stdout.flush()
        say(f"spooldadd: {checked} checked, {len(damaged)} {shelf.fate}")
    return int(bool(damaged))


def _prune(options: argparse.Namespace, config: Config, shelf: Shelf) -> int:
    bounds = _bounds_of(options, config)
    gone = shelf.surplus(bounds)
    removed, freed = len(gone), sum(one.size_bytes for one in gone)
    if not options.dry_run:
        removed, freed = shelf.prune(bounds)
    if options.json:
        table = {"cache_dir": config.cache_dir, "dry_run": options.dry_run, "removed": removed, "freed_bytes": freed}
        print_json({**table, shelf.plural: [one.table() for one in gone]})
        return 0
    for one in gone:
        print(one.name)
    sys.stdout.flush()
    say(f"spooldadd: {removed} {'would be' if options.dry_run else 'were'} removed, {words.size(freed)}")
    return 0


def _config_of(options: argparse.Namespace) -> Config:
    """Return the configuration: the spool's own, where one is named, else the node's. Raises: ConfigError; UsageError."""
    bounds = [options.older_than, options.max_size, options.dry_run or None]
    if options.action != PRUNE and any(value is not None for value in bounds):
        raise UsageError("`--older-than`, `--max-size` and `--dry-run` belong to `prune`")
    try:
        root = spool_path(options)
    except SpoolError:
        root = None
    return load_config(options, root)


def _bounds_of(options: argparse.Namespace, config: Config) -> Bounds:
    """Return what may stay: as the options say, else as the node's configuration does."""
    age_s = config.keep.cache_days * _DAY_S if options.older_than is None else options.older_than
    size_bytes = config.keep.cache_size_bytes if options.max_size is None else options.max_size
    return Bounds(max_bytes=size_bytes, max_age_s=age_s)


def _lines(found: list[Kept]) -> list[str]:
    """Set them in columns, the least recently used first, and their sum below."""
    rows = []
    for one in sorted(found, key=lambda one: one.used_at_s):
        age = "in use" if one.is_used else f"{words.duration(max(0.0, time.time() - one.used_at_s))} ago"
        rows.append((one.name, words.size(one.size_bytes), age, words.show(one.what)))
    total = words.size(sum(one.size_bytes for one in found))
    return [*words.columns(rows, None), f"{len(found)} in all, {total}"]


def duration(text: str) -> float:
    """Read an age. Raises: ArgumentTypeError."""
    try:
        return parse_duration(text, allow_zero=True)
    except BadUnit as error:
        raise unfit(str(error)) from error


def size(text: str) -> int:
    """Read a size. Raises: ArgumentTypeError."""
    try:
        return parse_size(text, at_least=0)
    except BadUnit as error:
        raise unfit(str(error)) from error
