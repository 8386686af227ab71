"""Look after the Python environments of this node.

`list` shows each with its size, when a job used it last, and its packages. `verify` reads every file of each: a damaged or
edited one is removed, or, where a job runs in it, given to no further job; the next one builds it anew. `prune` removes
those that no job used for long, then the least recently used until the rest fits; never one that a job uses, nor one that
was used within the last hour. The worker prunes once a day by itself, by `[keep] cache_days` and `cache_size`.

examples:
  spooldadd env list
  spooldadd env verify
  spooldadd env prune --dry-run
  spooldadd env prune --older-than 30d --max-size 10G
"""

from __future__ import annotations

import argparse
import sys

from spooldadd.cli import store
from spooldadd.cli.common import print_json, say
from spooldadd.cli.store import Kept
from spooldadd.config import Config
from spooldadd.environment.environments import Environment, Environments
from spooldadd.environment.report import Report
from spooldadd.environment.upkeep import prune_environments
from spooldadd.inspect import words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    store.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """List, verify or prune."""
    config = store.config_of(options)
    environments = Environments(config.cache_dir, Report(say))
    if options.action == store.PRUNE:
        return _prune(options, config, environments)
    if options.action == store.VERIFY:
        return _verify(options, config, environments)
    found = [_kept(entry, environments) for entry in environments.entries()]
    if options.json:
        print_json({"cache_dir": config.cache_dir, "environments": [one.table() for one in found]})
    else:
        print(*store.lines(found), sep="\n")
    return 0


def _kept(entry: Environment, environments: Environments) -> Kept:
    more: dict[str, object] = {
        "environment": entry.key,
        "path": entry.path,
        "interpreter": entry.interpreter,
        "built_at": entry.built_at,
        "packages": list(entry.packages),
    }
    is_used = environments.is_used(entry.key)
    return Kept(entry.key, entry.size_bytes, entry.used_at_s, is_used, ", ".join(entry.packages), more)


def _verify(options: argparse.Namespace, config: Config, environments: Environments) -> int:
    checked = len(list(environments.entries()))
    damaged = [{"environment": entry.key, "path": entry.path, "problem": text} for entry, text in environments.verify()]
    if options.json:
        print_json({"cache_dir": config.cache_dir, "checked": checked, "damaged": damaged})
    else:
        for one in damaged:
            print(words.show(f"{one['environment']}: {one['problem']}"))
        sys.stdout.flush()
        say(f"spooldadd: {checked} checked, {len(damaged)} damaged")
    return int(bool(damaged))


def _prune(options: argparse.Namespace, config: Config, environments: Environments) -> int:
    bounds = store.bounds_of(options, config)
    gone = [
        _kept(entry, environments) for entry in environments.surplus(max_bytes=bounds.max_bytes, max_age_s=bounds.max_age_s)
    ]
    freed = sum(one.size_bytes for one in gone)
    removed = len(gone)
    if not options.dry_run:
        done = prune_environments(config.cache_dir, bounds, Report(say))
        removed, freed = done.removed, done.freed_bytes
    if options.json:
        table = {"cache_dir": config.cache_dir, "dry_run": options.dry_run, "removed": removed, "freed_bytes": freed}
        print_json({**table, "environments": [one.table() for one in gone]})
        return 0
    for one in gone:
        print(one.name)
    sys.stdout.flush()
    say(f"spooldadd: {removed} {'would be' if options.dry_run else 'were'} removed, {words.size(freed)}")
    return 0
