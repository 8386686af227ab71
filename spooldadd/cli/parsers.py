"""The parsers of the command line: they read what is not plain, and help, completion and manual page come from them."""

from __future__ import annotations

import argparse
from types import ModuleType

from spooldadd.cli import COMMANDS, EXIT_CODES, add_global_options, load, split
from spooldadd.release import __version__

# Our own texts are written for it. To ask the terminal would cost an import of 4 ms in each command.
HELP_COLUMNS = 118
# It asks for a translation of each of its words as well, and looks for its files on disk each time; our own have none.
argparse._ = str  # type: ignore[attr-defined]


def read(words: list[str]) -> argparse.Namespace:
    """Return what the words say; without a command, print the help. Where they are wrong, the process ends with that."""
    parser = global_parser()
    options = parser.parse_args(words)
    if options.command is None:
        parser.print_help()
        return options
    module = load(options.command)
    rest, options.arguments = split(module, options.rest)
    command_parser(options.command, module).parse_intermixed_args(rest, namespace=options)
    return options


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help as it is written. `argparse` makes a formatter for each option it learns, and asks `shutil` how wide it is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=HELP_COLUMNS)


def global_parser() -> argparse.ArgumentParser:
    """Return the parser of what stands before a command's own arguments."""
    lines = "\n".join(f"  {name:<11} {summary}" for name, summary in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="spooldadd",
        usage="spooldadd [--spool DIR] [--config FILE] COMMAND ...",
        description="Drop a TOML spec into a directory, find it in done/ or failed/ with its logs and the reason.",
        epilog=f"commands:\n{lines}\n\n`spooldadd COMMAND --help` shows a command's options and examples.\n\n{EXIT_CODES}",
        formatter_class=_Help,
        allow_abbrev=False,
    )
    add_global_options(parser)
    parser.add_argument("--version", action="version", version=f"spooldadd {__version__}")
    parser.add_argument("command", nargs="?", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def command_parser(command: str, module: ModuleType) -> argparse.ArgumentParser:
    """Return the parser of one command, global options included."""
    summary, _, more = (module.__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog=f"spooldadd {command}",
        description=summary,
        epilog=more.strip("\n"),
        formatter_class=_Help,
        allow_abbrev=False,
    )
    add_global_options(parser)
    module.add_arguments(parser)
    return parser
