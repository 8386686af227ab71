"""Print exactly what a spec's Python environment consists of: each package with its version and its hashes.

What `[python]` asks for is resolved as a job on this node would have it resolved, and what was resolved within `refresh` is
reused. Put the file beside the spec and write `requirements = "requirements.lock"`, and every job gets just that. For a
`uv.lock` the result is a `pylock.toml`.

examples:
  spooldadd lock report.toml
  spooldadd lock report.toml --output requirements.lock
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable

from spooldadd import durable, foreground, problems
from spooldadd.cli import FAILED
from spooldadd.cli.common import say
from spooldadd.cli.configured import load_config
from spooldadd.cli.run_command import read
from spooldadd.environment.builder import Build
from spooldadd.environment.plan import Plan
from spooldadd.environment.python import Resolution
from spooldadd.environment.report import Report
from spooldadd.errors import SpecError
from spooldadd.spec import InvalidSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("spec", metavar="SPEC", help="the spec; `-` reads standard input")
    parser.add_argument("-o", "--output", metavar="FILE", help="write it there, in place of what is there")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not show how it is resolved")


def run(options: argparse.Namespace) -> int:
    """Resolve, and write it down."""
    config = load_config(options, None)
    try:
        spec, path = read(options.spec)
        told = foreground.make_plan_of(spec, path, config).build if spec.python else None
    except InvalidSpec as error:
        say(problems.render(error.problems, options.spec))
        return FAILED
    except OSError as error:
        raise SpecError(f"`{options.spec}`: {error.strerror}") from error
    if told is None:
        raise SpecError(f"`{options.spec}` has no `[python]` table, so there is nothing to resolve")
    try:
        resolution = _resolve(told, _ignore if options.quiet else say)
        _write(resolution, options.output)
    except OSError as error:
        raise SpecError(f"`{error.filename}`: {error.strerror}") from error
    version = ".".join(map(str, resolution.interpreter.version))
    say(f"spooldadd: {len(resolution.lock.packages)} packages, for Python {version} of this node")
    return 0


def _resolve(told: bytes, write: Callable[[str], None]) -> Resolution:
    """Resolve in a work directory that goes again."""
    with tempfile.TemporaryDirectory(prefix="spooldadd-lock-") as scratch:
        plan = Plan.model_validate({**json.loads(told), "work_dir": scratch})
        return Build(plan, Report(write)).resolve()


def _ignore(text: str) -> None:
    del text


def _write(resolution: Resolution, output: str | None) -> None:
    text = resolution.lock.text
    if output is not None:
        durable.write(os.path.abspath(output), text.encode(), sync=False)
        return
    sys.stdout.write(text)
    sys.stdout.flush()
