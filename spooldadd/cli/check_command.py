"""Show every error of a spec.

All errors of all files at once, each with its line, column, the line itself and the remedy; the templates are tried out
with sample values. What is allowed and yet looks like a slip is a warning, on standard error, and so is what a node with
the configuration at hand would add to a spec or refuse: its sandbox, its demand for signatures. Exit 0 where every file
is valid, else 1.

examples:
  spooldadd check nightly.toml
  spooldadd check specs/*.toml
  spooldadd check nightly.toml --var day=2026-11-20
  spooldadd check --json - < nightly.toml
  spooldadd check backfill.py job.tar             # scripts and bundles as well
"""

from __future__ import annotations

import datetime
import os
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from spooldadd.bounds import has_template
from spooldadd.cli import spec_files
from spooldadd.cli.common import add_json, print_json, say
from spooldadd.cli.spec_files import Read
from spooldadd.preparing import Changes
from spooldadd.units import format_duration

if TYPE_CHECKING:
    import argparse

    from spooldadd.cli.foreseeing import Foresight
    from spooldadd.spec import Spec

TAKES_ARGUMENTS = True  # behind `--`, for a script


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    spec_files.add_arguments(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Check each file and say what is wrong."""
    reads = spec_files.read_all(options.specs, Changes(dict(options.variables), arguments=tuple(options.arguments)))
    warnings = {read.source: list(found) for read, found in _all_warnings(reads, options)}
    if options.json:
        print_json({"files": [{**read.table(), "warnings": warnings[read.source]} for read in reads]})
    else:
        sys.stdout.write("".join(read.render() for read in reads))
        sys.stdout.flush()
        for source, sentences in warnings.items():
            for sentence in sentences:
                say(f"{source}: warning: {sentence}")
    return int(any(read.error for read in reads))


def _all_warnings(reads: list[Read], options: argparse.Namespace) -> Iterator[tuple[Read, Iterator[str]]]:
    from spooldadd.cli.foreseeing import Foresight  # late: heavy, and nothing of it is asked where no spec is valid

    now = datetime.datetime.now(datetime.UTC)
    foresight = Foresight(options) if any(read.prepared for read in reads) else None
    for read in reads:
        yield read, _warnings_of(read, now, foresight)


def _warnings_of(read: Read, now: datetime.datetime, foresight: Foresight | None) -> Iterator[str]:
    if read.prepared is None or foresight is None:
        return
    yield from read.prepared.warnings
    yield from warnings(read.prepared.spec, now, os.environ.get("PATH", os.defpath))
    yield from foresight.warnings(read.prepared, now)


def warnings(spec: Spec, now: datetime.datetime, search_path: str) -> Iterator[str]:
    """Say what is allowed and yet looks like a slip."""
    missing = _missing_program(spec, search_path)
    if missing:
        yield missing
    if "retry" in spec.model_fields_set and spec.retry.attempts in (None, 1):
        yield "`[retry]` without `attempts` above 1 changes nothing: there is only one attempt"
    limits = spec.limits
    if limits.timeout_s is not None and limits.stall_s is not None and limits.stall_s >= limits.timeout_s:
        stall, timeout = format_duration(limits.stall_s), format_duration(limits.timeout_s)
        yield f"`limits.stall` ({stall}) never ends the job, because `limits.timeout` ({timeout}) comes first"
    if spec.run.not_before is not None and spec.run.not_before < now:
        yield f"`run.not_before` ({spec.run.not_before.isoformat()}) is over, so the job starts at once"


def _missing_program(spec: Spec, search_path: str) -> str | None:
    """A relative path may lead to what the job's build makes; bare names and absolute paths are looked for."""
    if isinstance(spec.command, str):
        return None
    program = spec.command[0]
    if has_template(program):
        return None
    if os.path.isabs(program):
        return None if os.access(program, os.X_OK) else f"`{program}` is no program on this machine; the node may have it"
    own_path = spec.env.get("PATH", search_path)
    if "/" in program or has_template(own_path) or shutil.which(program, path=own_path):
        return None
    return f"`{program}` is not found on the `PATH` here; the node may have it"
