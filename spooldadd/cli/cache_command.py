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

from spooldadd.cli import store
from spooldadd.cli.store import Kept
from spooldadd.environment.blobs import Blob, Blobs
from spooldadd.environment.upkeep import Bounds, prune_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    store.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """List, verify or prune."""
    return store.run(options, _Files)


class _Files:
    """The stored files of one cache."""

    plural = "files"
    fate = "damaged and removed"

    def __init__(self, cache_dir: str) -> None:
        self._cache_dir = cache_dir
        self._blobs = Blobs(cache_dir)

    def entries(self) -> list[Kept]:
        return [self._kept(blob) for blob in self._blobs.entries()]

    def damaged(self) -> list[tuple[str, dict[str, object]]]:
        found = self._blobs.verify()
        return [(blob.sha256, {"sha256": blob.sha256, "path": blob.path, "problem": text}) for blob, text in found]

    def surplus(self, bounds: Bounds) -> list[Kept]:
        return [self._kept(blob) for blob in self._blobs.surplus(max_bytes=bounds.max_bytes, max_age_s=bounds.max_age_s)]

    def prune(self, bounds: Bounds) -> tuple[int, int]:
        done = prune_files(self._cache_dir, bounds)
        return done.removed, done.freed_bytes

    def _kept(self, blob: Blob) -> Kept:
        more: dict[str, object] = {"sha256": blob.sha256, "path": blob.path}
        return Kept(blob.sha256, blob.size_bytes, blob.used_at_s, self._blobs.is_used(blob), "", more)
