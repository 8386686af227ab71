"""Look after the downloads of this node.

`list` shows each stored file with its sha256, its size and when a build used it last. `verify` reads all of them: a damaged
one is removed, and the next build that needs it fetches it anew. `prune` removes what no build used for long, then the least
recently used until the rest fits; never what was used within the last hour. Interrupted downloads go after a week. The
worker prunes once a day by itself, by `[keep] cache_days` and `cache_size`.

examples:
  spooldadd cache list
  spooldadd cache verify --json
  spooldadd cache prune --older-than 30d --dry-run
"""

from __future__ import annotations

import argparse
import sys

from spooldadd.cli import store
from spooldadd.cli.common import print_json, say
from spooldadd.cli.store import Kept
from spooldadd.config import Config
from spooldadd.environment.blobs import Blob, Blobs
from spooldadd.environment.upkeep import prune_files
from spooldadd.inspect import words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    store.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """List, verify or prune."""
    config = store.config_of(options)
    blobs = Blobs(config.cache_dir)
    if options.action == store.PRUNE:
        return _prune(options, config, blobs)
    if options.action == store.VERIFY:
        return _verify(options, config, blobs)
    found = [_kept(blob, blobs) for blob in blobs.entries()]
    if options.json:
        print_json({"cache_dir": config.cache_dir, "files": [one.table() for one in found]})
    else:
        print(*store.lines(found), sep="\n")
    return 0


def _kept(blob: Blob, blobs: Blobs) -> Kept:
    more: dict[str, object] = {"sha256": blob.sha256, "path": blob.path}
    return Kept(blob.sha256, blob.size_bytes, blob.used_at_s, blobs.is_used(blob), "", more)


def _verify(options: argparse.Namespace, config: Config, blobs: Blobs) -> int:
    checked = len(list(blobs.entries()))
    damaged = [{"sha256": blob.sha256, "path": blob.path, "problem": text} for blob, text in blobs.verify()]
    if options.json:
        print_json({"cache_dir": config.cache_dir, "checked": checked, "damaged": damaged})
    else:
        for one in damaged:
            print(words.show(f"{one['sha256']}: {one['problem']}"))
        sys.stdout.flush()
        say(f"spooldadd: {checked} checked, {len(damaged)} damaged and removed")
    return int(bool(damaged))


def _prune(options: argparse.Namespace, config: Config, blobs: Blobs) -> int:
    bounds = store.bounds_of(options, config)
    gone = [_kept(blob, blobs) for blob in blobs.surplus(max_bytes=bounds.max_bytes, max_age_s=bounds.max_age_s)]
    removed, freed = len(gone), sum(one.size_bytes for one in gone)
    if not options.dry_run:
        done = prune_files(config.cache_dir, bounds)
        removed, freed = done.removed, done.freed_bytes
    if options.json:
        table = {"cache_dir": config.cache_dir, "dry_run": options.dry_run, "removed": removed, "freed_bytes": freed}
        print_json({**table, "files": [one.table() for one in gone]})
        return 0
    for one in gone:
        print(one.name)
    sys.stdout.flush()
    say(f"spooldadd: {removed} {'would be' if options.dry_run else 'were'} removed, {words.size(freed)}")
    return 0
