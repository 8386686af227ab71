"""Read the specs that a command was given, and show what is wrong with them. Shared by `submit`, `push` and `check`."""

from __future__ import annotations

import sys
from typing import NamedTuple

from spooldadd import preparing, problems
from spooldadd.bounds import MAX_SPEC_BYTES
from spooldadd.cli import moments
from spooldadd.cli.common import UsageError
from spooldadd.cli.plain import unfit
from spooldadd.preparing import Changes, Prepared
from spooldadd.spec.reading import InvalidSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

STDIN = "-"
STDIN_NAME = "standard input"


class Read(NamedTuple):
    """One file that was named: ready to be dropped, or what is wrong with it."""

    source: str
    prepared: Prepared | None
    error: InvalidSpec | None

    def table(self) -> dict[str, object]:
        """Return what `--json` shows of it."""
        found = self.error.problems if self.error else ()
        return {
            "file": self.source,
            "valid": self.error is None,
            "problems": [_problem_table(problem) for problem in found],
        }

    def render(self) -> str:
        """Return every problem with its place, for a person."""
        return problems.render(self.error.problems, self.source) if self.error else ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the specs and `--var`."""
    parser.add_argument("specs", metavar="SPEC", nargs="+", help="a file; `-` reads standard input")
    add_variables(parser)


def add_variables(parser: argparse.ArgumentParser) -> None:
    """Add `--var`."""
    parser.add_argument(
        "--var",
        dest="variables",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=_variable,
        help="set a variable of the spec's `[vars]`; may be repeated",
    )


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add the options that change a spec."""
    parser.add_argument("--name", metavar="NAME", help="what the job is called (default: as the spec says, else the file)")
    parser.add_argument("--queue", metavar="QUEUE", help="the queue it waits in")
    parser.add_argument("--priority", metavar="N", type=int, help="higher goes first")
    parser.add_argument(
        "--not-before",
        metavar="WHEN",
        type=moments.future,
        help="do not start earlier: a duration from now (`2h`), a day, a time",
    )


def changes_of(options: argparse.Namespace) -> Changes:
    """Return what the options change."""
    arguments = tuple(options.arguments)
    return Changes(dict(options.variables), options.name, options.queue, options.priority, options.not_before, arguments)


def read_all(paths: list[str], changes: Changes, spool_root: str | None = None) -> list[Read]:
    """Read and check each of them. Raises: UsageError where standard input is named twice."""
    if paths.count(STDIN) > 1:
        raise UsageError("`-` stands for standard input, which can be read only once")
    if changes.arguments and len(paths) > 1:
        raise UsageError("arguments behind `--` go with one script")
    return [_read(path, changes, spool_root) for path in paths]


def _read(path: str, changes: Changes, spool_root: str | None) -> Read:
    source = STDIN_NAME if path == STDIN else path
    try:
        if path == STDIN:
            return Read(source, preparing.prepare(sys.stdin.buffer.read(MAX_SPEC_BYTES + 1), source, changes), None)
        return Read(source, preparing.load(path, changes, spool_root), None)
    except InvalidSpec as error:
        return Read(source, None, error)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise unfit(f"`{text}` is no assignment; write `NAME=VALUE`")
    return name, value


def _problem_table(problem: problems.Problem) -> dict[str, object]:
    """A problem without a place in the file has no line; one that an option caused names the option as its origin."""
    return {key: value for key, value in problem._asdict().items() if value}
