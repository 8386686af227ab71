"""Show every error of a spec.

All errors of all files at once, each with its line, column, the line itself and the remedy; the templates are tried out
with sample values. What is allowed and yet looks like a slip is a warning, on standard error. Exit 0 where every file is
valid, else 1.

examples:
  spooldadd check nightly.toml
  spooldadd check specs/*.toml
  spooldadd check nightly.toml --var day=2026-11-20
  spooldadd check --json - < nightly.toml
  spooldadd check backfill.py job.tar             # scripts and bundles as well
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import sys
from collections.abc import Iterator

from spooldadd.bounds import has_template
from spooldadd.cli import spec_files
from spooldadd.cli.common import add_json, print_json, say
from spooldadd.cli.spec_files import Read
from spooldadd.errors import ConfigError
from spooldadd.preparing import Changes
from spooldadd.spec import Spec
from spooldadd.units import format_duration

TAKES_ARGUMENTS = True  # behind `--`, for a script


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    spec_files.add_arguments(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Check each file and say what is wrong."""
    reads = spec_files.read_all(options.specs, Changes(dict(options.variables), arguments=tuple(options.arguments)))
    now = datetime.datetime.now(datetime.UTC)
    warnings = {read.source: list(_warnings_of(read, now)) for read in reads}
    if options.json:
        print_json({"files": [{**read.table(), "warnings": warnings[read.source]} for read in reads]})
    else:
        sys.stdout.write("".join(read.render() for read in reads))
        sys.stdout.flush()
        for source, sentences in warnings.items():
            for sentence in sentences:
                say(f"{source}: warning: {sentence}")
    return int(any(read.error for read in reads))


def _warnings_of(read: Read, now: datetime.datetime) -> Iterator[str]:
    if read.prepared is None:
        return
    yield from read.prepared.warnings
    yield from warnings(read.prepared.spec, now, os.environ.get("PATH", os.defpath))
    yield from _notify_warnings(read.prepared.spec)


def _notify_warnings(spec: Spec) -> Iterator[str]:
    """Where mail is asked for, look whether a worker started here could send any."""
    if not (spec.notify.email or spec.notify.via):
        return
    from spooldadd.cli.worker_command import load_config  # late: heavy, and few specs ask
    from spooldadd.mail.wishes import lacks_transport

    try:
        objection = lacks_transport(load_config(argparse.Namespace(), None), spec)
    except ConfigError:
        return  # `spooldadd config` says what is wrong with it
    if objection:
        yield f"{objection}; another node may have one"


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
