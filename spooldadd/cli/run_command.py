"""Run one spec in the foreground, without a spool.

The job prints to this terminal, under the limits of its spec, in a fresh work directory. Exits as the job did: its own exit
code, 124 for a timeout, 128+n for a signal. Ctrl-C ends the job with everything it started. What the spec brings along is
built first; a terminal sees how far that is, elsewhere its log is shown only where it fails.

examples:
  spooldadd run nightly.toml
  spooldadd run - < nightly.toml
  spooldadd run backfill.py -- --day 2026-11-20
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from spooldadd import bundle, foreground, forms, preparing, problems
from spooldadd.cli.common import say
from spooldadd.cli.configured import load_config
from spooldadd.errors import SpecError
from spooldadd.spec import InvalidSpec, Spec, parse, parse_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

TAKES_ARGUMENTS = True  # behind `--`, for a script


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("spec", metavar="SPEC", help="the spec; `-` reads standard input")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not say how it ended")


def run(options: argparse.Namespace) -> int:
    """Run it, and exit as it did."""
    config = load_config(options, None)
    try:
        spec, path = read(options.spec, options.arguments)
        if spec.place.model_fields_set and not options.quiet:
            say("spooldadd: its `[place]` does not count here: `run` runs it on this machine, now")
        ended = foreground.run(spec, path, config)
    except InvalidSpec as error:
        say(problems.render(error.problems, options.spec))
        return 1
    except OSError as error:
        say(f"spooldadd: `{error.filename}`: {error.strerror}")
        return 1
    if not options.quiet and ended.outcome != "success":
        say(f"spooldadd: {ended.outcome}: {ended.sentence}")
        if ended.work_dir:
            say(f"spooldadd: its work directory stays: {ended.work_dir}")
    return ended.exit_code


def read(path: str, arguments: Sequence[str] = ()) -> tuple[Spec, str]:
    """Read a spec; return it and its path; `-` is standard input, here. Raises: InvalidSpec; SpecError; OSError."""
    if path == "-":
        return parse(sys.stdin.buffer.read(), source="standard input"), "stdin.toml"
    with open(path, "rb") as file:
        if not forms.is_bundle(path):
            return parse_file(file.read(), source=path, own_name=preparing.own_name(path), arguments=arguments), path
        try:
            found = bundle.find_spec(file.fileno())
        except bundle.NoBundle as error:
            raise SpecError(f"`{path}` {error}") from error
    shown = os.path.join(path, found.name)
    return parse_file(found.data, source=shown, own_name=found.name, arguments=arguments), path
