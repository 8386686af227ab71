"""What the parsers of the command line know, as plain values: for completion scripts and for the manual page.

Everything is taken from the parsers that run, so nothing can be forgotten here.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

from spooldadd.cli import COMMANDS, load
from spooldadd.cli.parsers import command_parser

# What the placeholder of a value says about it. Any other value is free text.
FILE, DIRECTORY, JOB, TEXT = "file", "directory", "job", "text"
KINDS = {"FILE": FILE, "SPEC": FILE, "DIR": DIRECTORY, "JOB": JOB}
GLOBAL = frozenset({"--help", "--spool", "--config"})


@dataclass(frozen=True)
class Value:
    """What follows an option, or stands alone: its placeholder, its kind, the words it may be."""

    metavar: str
    kind: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """One option: its spellings, its value where it takes one, and its help."""

    flags: tuple[str, ...]
    value: Value | None
    help: str


@dataclass(frozen=True)
class Positional:
    """One argument without a name."""

    value: Value
    help: str


@dataclass(frozen=True)
class Shape:
    """One command."""

    name: str
    summary: str
    usage: str
    text: str
    options: tuple[Option, ...]
    positionals: tuple[Positional, ...]


def all_shapes() -> list[Shape]:
    """Return every command of this installation, in the order of the overview."""
    present = [name for name in COMMANDS if importlib.util.find_spec(f"spooldadd.cli.{name}_command")]
    return [_shape(name, command_parser(name, load(name))) for name in present]


def _shape(name: str, parser: argparse.ArgumentParser) -> Shape:
    actions = [action for action in _actions(parser) if action.help != argparse.SUPPRESS]
    options = [
        Option(tuple(action.option_strings), _value(action), _help(action)) for action in actions if action.option_strings
    ]
    positionals = [
        Positional(_value(action) or _text(action), _help(action)) for action in actions if not action.option_strings
    ]
    usage = " ".join(parser.format_usage().split()).removeprefix("usage: ")
    return Shape(name, COMMANDS[name], usage, parser.epilog or "", tuple(options), tuple(positionals))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Return what was added. argparse offers no public list; this attribute is as old as the module."""
    yield from parser._actions


def _value(action: argparse.Action) -> Value | None:
    if action.nargs == 0:
        return None
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices:
        choices = tuple(map(str, action.choices))
        return Value(f"{{{','.join(choices)}}}", TEXT, choices)
    return Value(metavar, KINDS.get(metavar, TEXT))


def _text(action: argparse.Action) -> Value:
    return Value(action.dest.upper(), TEXT)


def _help(action: argparse.Action) -> str:
    return (action.help or "") % {**vars(action), "prog": "spooldadd"}
