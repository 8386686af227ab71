"""Turn a spec of Dadd, in JSON or YAML, into a spec of this program.

The new spec goes to standard output, or to a file; what became of each key goes to standard error. YAML needs the `pyyaml`
package, as the extra `spooldadd[migrate]` brings it.

examples:
  spooldadd migrate old.json > new.toml
  spooldadd migrate old.yaml --output new.toml
  spooldadd migrate - < old.json
"""

from __future__ import annotations

import os
import sys

from spooldadd import durable
from spooldadd.cli.common import UsageError, say
from spooldadd.environment.migrate import Migration, migrate, read_old
from spooldadd.errors import SpecError
from spooldadd.spec import InvalidSpec, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

# As large as a spec may be; what is larger is no spec.
MAX_BYTES = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("old", metavar="FILE", help="the old spec, `.json` or `.yaml`; `-` reads standard input")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the new spec there; what is there stays")


def run(options: argparse.Namespace) -> int:
    """Print the new spec, and per key what became of it."""
    made = migrate(read_old(_text(options.old), options.old))
    toml = made.to_toml()
    _check(toml, made)
    if options.output is None:
        sys.stdout.write(toml)
        sys.stdout.flush()
    else:
        _write(options.output, toml)
    for note in made.notes:
        say(f"{note.key}: {note.became}")
    return 0


def _text(path: str) -> str:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SpecError(f"`{path}` is larger than 1 MiB, so it is no spec")
        return data.decode()
    except UnicodeDecodeError as error:
        raise SpecError(f"`{path}` is not UTF-8") from error
    except OSError as error:
        raise SpecError(f"`{path}`: {error.strerror}") from error


def _check(toml: str, made: Migration) -> None:
    """Say what the new spec still lacks: an old value may be one that is refused now, such as a login in a URL."""
    try:
        parse(toml.encode(), source="the new spec")
    except InvalidSpec as error:
        for problem in error.problems:
            made.note(problem.key or "the new spec", f"needs your hand: {problem.message}")


def _write(path: str, toml: str) -> None:
    if os.path.lexists(path):
        raise UsageError(f"`{path}` is there already; remove it, or name another file")
    try:
        durable.write_new(path, toml.encode(), sync=False)
    except OSError as error:
        raise SpecError(f"`{path}`: {error.strerror}") from error
