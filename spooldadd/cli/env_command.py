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

from spooldadd.cli import store
from spooldadd.cli.common import say
from spooldadd.cli.store import Kept
from spooldadd.environment.environments import Environment, Environments
from spooldadd.environment.report import Report
from spooldadd.environment.upkeep import Bounds, prune_environments
from spooldadd.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    store.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """List, verify or prune."""
    return store.run(options, _Environments)


class _Environments:
    """The Python environments of one cache."""

    plural = "environments"
    fate = "damaged"

    def __init__(self, cache_dir: str) -> None:
        self._cache_dir = cache_dir
        self._environments = Environments(cache_dir, Report(say))

    def entries(self) -> list[Kept]:
        return [self._kept(entry) for entry in self._environments.entries()]

    def damaged(self) -> list[tuple[str, dict[str, object]]]:
        found = self._environments.verify()
        return [(entry.key, {"environment": entry.key, "path": entry.path, "problem": text}) for entry, text in found]

    def surplus(self, bounds: Bounds) -> list[Kept]:
        found = self._environments.surplus(max_bytes=bounds.max_bytes, max_age_s=bounds.max_age_s)
        return [self._kept(entry) for entry in found]

    def prune(self, bounds: Bounds) -> tuple[int, int]:
        done = prune_environments(self._cache_dir, bounds, Report(say), Log(2, level="warning"))
        return done.removed, done.freed_bytes

    def _kept(self, entry: Environment) -> Kept:
        more: dict[str, object] = {
            "environment": entry.key,
            "path": entry.path,
            "interpreter": entry.interpreter,
            "built_at": entry.built_at,
            "packages": list(entry.packages),
        }
        is_used = self._environments.is_used(entry.key)
        return Kept(entry.key, entry.size_bytes, entry.used_at_s, is_used, ", ".join(entry.packages), more)
