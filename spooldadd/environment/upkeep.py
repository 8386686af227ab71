"""Keep a node's cache small: what `cache prune` and `env prune` do, any time, beside running builds.

A worker starts this as a program of its own now and then (`spooldadd.upkeeping`).

If we die here: some of it is removed, the rest is as it was.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass
from typing import Final

from spooldadd.environment import edits, ready
from spooldadd.environment.blobs import GRACE_S, Blobs, Pruned
from spooldadd.environment.environments import Environments
from spooldadd.environment.installers import PRIVATE, find_uv
from spooldadd.environment.python import SCRATCH
from spooldadd.environment.records import DiskRecords
from spooldadd.environment.report import Report
from spooldadd.environment.tool import Tool, run_tool
from spooldadd.errors import BuildError
from spooldadd.log import Log

_DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Bounds:
    """What may stay. Both hold: older goes, and above the size the least recently used goes."""

    max_bytes: int = 50 << 30
    max_age_s: float = 90 * _DAY_S


def prune_files(cache_dir: str, bounds: Bounds) -> Pruned:
    """Remove fetched files that nobody used for long or that are too many, and what is known about lost ones."""
    blobs = Blobs(cache_dir)
    done = blobs.prune(max_bytes=bounds.max_bytes, max_age_s=bounds.max_age_s)
    records = DiskRecords(os.path.join(cache_dir, "urls"))
    left = {blob.sha256 for blob in blobs.entries()}
    for key in list(records.keys()):
        record = records.read(key)
        if record is None or record.sha256 not in left:
            records.delete(key)
    return done


def prune_environments(cache_dir: str, bounds: Bounds, report: Report, log: Log) -> Pruned:
    """Remove environments that nobody used for long or that are too many, never one in use, and all that led to them."""
    environments = Environments(cache_dir, report)
    # By a job whose supervisor could not look any more, or will not before the job has ended: then it finds this done, and
    # is silent. So it is told here, as loud as there.
    for path in environments.retire_edited():
        log.warning("environment-edited", path=path, then=edits.THEN)
    done = environments.prune(max_bytes=bounds.max_bytes, max_age_s=bounds.max_age_s)
    oldest_s = time.time() - bounds.max_age_s
    left = {entry.key for entry in environments.entries()}
    _remove_older(os.path.join(cache_dir, ready.POINTERS), oldest_s if left else time.time() - GRACE_S)
    _remove_older(os.path.join(cache_dir, "resolutions"), oldest_s)
    _remove_older(os.path.join(cache_dir, "wheels"), oldest_s)
    for name in _names(cache_dir):
        if name.startswith(SCRATCH):
            _remove_if_older(os.path.join(cache_dir, name), time.time() - _DAY_S)
    private = os.path.join(cache_dir, PRIVATE)
    _remove_older(private, oldest_s)
    for path in [os.path.join(cache_dir, "uv"), *(os.path.join(private, name) for name in _names(private))]:
        _prune_uv(path, report)
    return done


def _remove_older(directory: str, oldest_s: float) -> None:
    for name in _names(directory):
        _remove_if_older(os.path.join(directory, name), oldest_s)


def _remove_if_older(path: str, oldest_s: float) -> None:
    try:
        if os.lstat(path).st_mtime >= oldest_s:
            return
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    except OSError:
        pass  # gone meanwhile, or to stay: nobody needs it to be gone


def _prune_uv(directory: str, report: Report) -> None:
    """Let uv remove from its cache what it could not use again."""
    program = find_uv()
    if program is None or not os.path.isdir(directory) or not os.path.basename(directory).startswith("uv"):
        return
    try:
        run_tool(Tool([program, "cache", "prune", "--quiet"], {**os.environ, "UV_CACHE_DIR": directory}), report)
    except BuildError as error:
        report.line(f"uv's cache was not pruned: {error}")


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def main(arguments: list[str]) -> int:
    """Prune everything: `CACHE_DIR MAX_AGE_S MAX_BYTES LOG_FORMAT LOG_LEVEL`."""
    cache_dir, log = arguments[0], Log(2, *arguments[3:5])
    bounds = Bounds(max_age_s=float(arguments[1]), max_bytes=int(arguments[2]))
    report = Report(lambda text: log.debug("cache-pruned", reason=text))
    os.nice(10)
    try:
        files, environments = prune_files(cache_dir, bounds), prune_environments(cache_dir, bounds, report, log)
    except OSError as error:
        log.warning("cache-pruned", path=cache_dir, error=str(error), then="trying again tomorrow")
        return 1
    if files.removed or environments.removed:
        freed = files.freed_bytes + environments.freed_bytes
        log.info("cache-pruned", files=files.removed, environments=environments.removed, freed_bytes=freed)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
