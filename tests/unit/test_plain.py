"""What is read without `argparse` is what `argparse` reads; whatever is not plain is left to it."""

from __future__ import annotations

import datetime
import functools
import io
from contextlib import redirect_stderr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd import cli
from spooldadd.cli import COMMANDS, parsers
from spooldadd.cli.plain import Declared, NotPlain, Options

VALUES = [
    "nightly", "etl.toml", "a=b", "day=1", "2h", "0", "7", "-5", "1G", "failed", "process", "shared", "spec", "bash", "list",
    "test", "a b", "", "-", "--", "-n", "-n5", "--limit=3", "--json", "-h", "--help", "--no-such", "status", "é",
]  # fmt: skip


BEFORE = [[], [], ["--spool", "s"], ["--spool=s", "--config", "c"], ["--spool"], ["--version"], ["--spo=s"], ["x"]]


@functools.cache
def parts(command: str) -> st.SearchStrategy[list[str]]:
    """Draw what may stand behind a command in one piece: its own options, right or wrong, and words of all kinds."""
    actions = parsers.command_parser(command, cli.load(command))._actions
    names = [name for action in actions for name in action.option_strings if name not in ("-h", "--help")]
    word = st.sampled_from([*VALUES, *(str(value) for action in actions for value in action.choices or ())])
    name = st.sampled_from(names)
    joined = st.tuples(name, word).map(lambda both: ["=".join(both)])
    short = st.sampled_from([name[:-1] for name in names]).map(lambda name: [name])
    return st.one_of(st.tuples(name).map(list), st.tuples(word).map(list), st.tuples(name, word).map(list), joined, short)


def shown(options: object) -> dict[str, object]:
    """Return what was read; a time that counts from now is another one each time."""
    table = vars(options)
    return {name: "a time" if isinstance(value, datetime.datetime) else value for name, value in table.items()}


@pytest.mark.parametrize("command", COMMANDS)
@settings(max_examples=40)
@given(data=st.data())
def test_what_is_read_plainly_is_what_argparse_reads(command, data):
    drawn = data.draw(st.lists(parts(command), max_size=5))
    words = [*data.draw(st.sampled_from(BEFORE)), command, *(word for part in drawn for word in part)]
    try:
        found = cli.read_plainly(words)
    except NotPlain:
        return
    assert shown(found) == shown(by_argparse(words))


def by_argparse(words: list[str]) -> object:
    """Read the words by `argparse`; what it objects to fails the test."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return parsers.read(words)
    except SystemExit as end:
        raise AssertionError(f"`argparse` ends with {end.code}: {said.getvalue()}") from end


@pytest.mark.parametrize("command", COMMANDS)
def test_the_arguments_of_every_command_are_understood(command):
    cli.load(command).add_arguments(Declared())


@pytest.mark.parametrize(
    "line",
    [
        "status",
        "--spool s status nightly --json",
        "status --spool=s --limit 3 --state failed --queue=etl",
        "logs nightly -n 5 --follow --build",
        "wait a b c --timeout 2h --any",
        "nodes --watch 0s",
        "submit a.toml b.toml --var day=1 --var=k=v --priority 3",
        "submit job.py --queue etl -- --day 1",
        "mail show a b",
        "worker",
        "hold --all",
    ],
)
def test_usual_lines_are_plain(line):
    """Else each would wait for `argparse` after all."""
    assert shown(cli.read_plainly(line.split())) == shown(by_argparse(line.split()))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--help",
        "--version",
        "statu",
        "status --help",
        "status -h",
        "status --jso",
        "status --json=1",
        "status --limit",
        "status --limit -1",
        "status --limit x",
        "status --limit 3 --all",
        "status --all --summary",
        "status --state no",
        "logs",
        "logs a b",
        "logs a -n5",
        "logs a -n=5",
        "wait",
        "wait a --timeout x",
        "submit -",
        "status -- a",
        "completion --list-jobs failed",
        "mail no",
        "schema no",
    ],
)
def test_what_is_wrong_or_doubtful_is_left_to_argparse(line):
    with pytest.raises(NotPlain):
        cli.read_plainly(line.split())


def test_an_argument_that_is_declared_in_a_way_that_is_not_known_is_left_to_argparse():
    for how in ({"required": True}, {"version": "1"}, {"type": int, "default": "3"}):
        with pytest.raises(NotPlain):
            Declared().add_argument("--new", **how)
    for how in ({"nargs": 2}, {"action": "count"}, {"action": "store_false"}):
        declared = Declared()
        declared.add_argument("--new", **how)
        with pytest.raises(NotPlain):
            declared.read(["--new", "a", "b"], Options())
