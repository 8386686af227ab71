"""Show the configuration and where each value comes from.

What a worker started here and now would use: the file, single keys overridden by environment variables such as
`SPOOLDADD_INTAKE__SETTLE=1s`. Prints TOML; with `--origin` each line says where its value came from.

examples:
  spooldadd config
  spooldadd config --origin
  spooldadd --spool /srv/spool config --json
  spooldadd config --example > spooldadd.toml    # every key, explained
  spooldadd config --check                       # print nothing but what is wrong
"""

from __future__ import annotations

import os
import sys
from importlib.resources import files

from spooldadd import problems
from spooldadd.cli import CONFIGURATION
from spooldadd.cli.common import UsageError, add_json, print_json, say, spool_path
from spooldadd.config import Config, InvalidConfig, Setting, effective, find_config, load
from spooldadd.errors import SpoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

# Beyond this, origins are not put under each other: a long value would push all of them off the screen.
ALIGNED_COLUMNS = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_json(parser)
    parser.add_argument("--origin", action="store_true", help="say where each value comes from")
    parser.add_argument("--example", action="store_true", help="print an example with every key explained")
    parser.add_argument("--check", action="store_true", help="only say whether it can be used")


def run(options: argparse.Namespace) -> int:
    """Print what is in effect."""
    if options.example and (options.json or options.origin):
        raise UsageError("`--example` prints a file; it has no other form")
    if options.example:
        sys.stdout.write(files("spooldadd").joinpath("templates", "worker.toml").read_text(encoding="utf-8"))
        return 0
    file = getattr(options, "config", None) or find_config(_spool(options), environ=os.environ, uid=os.getuid())
    try:
        config = load(file, environ=os.environ)
    except InvalidConfig as error:
        say(problems.render(error.problems, error.source).rstrip())
        return CONFIGURATION
    for warning in config.warnings:
        say(f"spooldadd: warning: {warning}")
    if options.check:
        return 0
    source = os.fspath(file) if file is not None else None
    if options.json:
        print_json(_table(config, source))
    else:
        sys.stdout.write(_text(effective(config), source, with_origin=options.origin))
    return 0


def _spool(options: argparse.Namespace) -> str | None:
    """Return the spool, whose own configuration counts; without one the system's or the user's does."""
    try:
        return spool_path(options)
    except SpoolError:
        return None


def _table(config: Config, source: str | None) -> dict[str, object]:
    settings = {one.key: {"value": one.value, "origin": one.origin} for one in effective(config)}
    return {"file": source, "settings": settings, "warnings": list(config.warnings)}


def _text(settings: list[Setting], source: str | None, *, with_origin: bool) -> str:
    """What is unset has no form in TOML, so it is a comment: the output is a valid configuration."""
    lines = [f"# {source}" if source else "# no configuration file: defaults and the environment"]
    assignments = [_assignment(one) for one in settings]
    width = max(len(text) for text in assignments if len(text) <= ALIGNED_COLUMNS)
    for one, text in zip(settings, assignments, strict=True):
        lines.append(f"{text:<{width}}  # {one.origin}" if with_origin else text)
    return "\n".join(lines) + "\n"


def _assignment(one: Setting) -> str:
    return f"# {one.key} is unset" if one.value == "unset" else f"{one.key} = {one.value}"
