"""The command line: one file per command. Only the module of the command that was asked for is imported.

A command's module has `add_arguments(parser)`, `run(options) -> int`, and a docstring: its first line is the summary, the
rest the help, examples last. `status` has to answer in a blink, so nothing heavy is imported here.
"""

from __future__ import annotations

import gc
import os
import sys

from spooldadd.cli.common import UsageError
from spooldadd.cli.plain import Declared, NotPlain, Options
from spooldadd.errors import ConfigError, NoSuchJob, Outdated, SpooldaddError, SpoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from types import ModuleType

FINE, FAILED, USAGE, NO_SUCH_JOB, UNUSABLE, TIMED_OUT, LATER, CONFIGURATION = 0, 1, 2, 3, 4, 5, 75, 78
EXIT_CODES = """exit codes:
  0 fine; 1 what was asked about failed; 2 usage; 3 no such job; 4 spool unusable; 5 wait timed out;
  75 try again later; 78 configuration. `run` and `submit --wait` exit as the job did: 124 for a timeout,
  128+n for a signal."""

# The first that fits counts, so a class stands before the one that it is a kind of.
CODES: tuple[tuple[type[Exception], int], ...] = (
    (UsageError, USAGE),
    (NoSuchJob, NO_SUCH_JOB),
    (ConfigError, CONFIGURATION),
    (Outdated, LATER),
    (SpoolError, UNUSABLE),
    (Exception, FAILED),
)

# In the order of the overview: to begin with, to use, to look, to act, to look after. One line each; the module says more.
COMMANDS = {
    "demo": "see it work: a spool in a temporary place, a worker, real jobs; ends by itself",
    "init": "make a spool, a commented configuration, an example",
    "worker": "serve a spool",
    "run": "run one spec in the foreground, without a spool",
    "submit": "validate specs and drop them into the spool",
    "check": "show every error of a spec",
    "sign": "sign specs with an ssh key",
    "verify": "tell who signed specs, and whether the signatures hold",
    "schema": "print the JSON Schema of a spec or of the configuration",
    "lock": "print exactly what a spec's Python environment consists of",
    "migrate": "turn a spec of Dadd into a spec",
    "status": "show the jobs, or one job",
    "explain": "say why a job waits, or why it died",
    "logs": "print what a job printed",
    "wait": "wait until jobs have ended",
    "shell": "open a shell where a job ran, or runs, with its environment",
    "failures": "show what has failed, one entry for each cause",
    "retry": "run finished jobs again, or waiting ones now",
    "cancel": "end jobs, running or not",
    "hold": "keep jobs, a queue or everything from being started",
    "release": "let held jobs, a queue or everything go",
    "push": "bring specs to the spools of other machines",
    "collect": "fetch finished records from other machines",
    "nodes": "show who serves a spool: alive or silent, load, clock, release",
    "recover": "bring back what a dead worker or node left behind",
    "doctor": "examine a spool and this node",
    "prune": "remove what nobody needs any more: old records, work directories, downloads",
    "service": "make a worker a service of systemd, and look after it",
    "env": "list, verify or prune this node's Python environments",
    "cache": "list, verify or prune this node's downloads",
    "mail": "look after the mail of this node: try it out, list, send",
    "config": "show the configuration and where each value comes from",
    "completion": "print the completion script for a shell",
    "man": "print the manual page",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code. Without arguments it is this process's own, and the process ends with it."""
    if arguments is not None:
        return _run(arguments)
    try:
        return _run(sys.argv[1:])
    finally:
        gc.freeze()  # or the interpreter looks through all that lives for garbage at its end: a tenth of a heavy command


def _run(words: list[str]) -> int:
    _open_standard_streams()
    options = read(words)
    return USAGE if options.command is None else _guarded(load(options.command), options)


def read(words: list[str]) -> Options:
    """Return what the words say. Where they ask for help or are wrong, the process ends with it."""
    try:
        return read_plainly(words)
    except NotPlain:
        pass
    from spooldadd.cli import parsers  # late: `argparse` takes as long as the start of the interpreter

    return parsers.read(words)


def read_plainly(words: list[str]) -> Options:
    """Return what these words say. Raises: NotPlain."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 1 if "=" in words[at] else 2
    if at >= len(words) or words[at] not in COMMANDS:
        raise NotPlain
    options, before, after = Options(), Declared(), Declared()
    add_global_options(before)
    before.read(words[:at], options)
    options.command, options.rest = words[at], words[at + 1 :]
    module = load(options.command)
    rest, options.arguments = split(module, options.rest)
    add_global_options(after)
    module.add_arguments(after)
    after.read(rest, options)
    return options


def add_global_options(parser: ArgumentParser | Declared) -> None:
    """Add the options that stand before or after the command."""
    parser.add_argument("--spool", metavar="DIR", help="the spool (default: $SPOOLDADD_SPOOL)")
    parser.add_argument("--config", metavar="FILE", help="the configuration (default: $SPOOLDADD_CONFIG)")


def load(command: str) -> ModuleType:
    """Import the module of this command."""
    return import_quickly(f"spooldadd.cli.{command}_command")


def import_quickly(name: str) -> ModuleType:
    """Import a module and what it needs. None of that is garbage, and to look for some takes a tenth of the time."""
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        __import__(name)  # not by `importlib`: to import that takes 0.5 ms
        return sys.modules[name]
    finally:
        if is_collecting:
            gc.enable()


def split(module: ModuleType, words: list[str]) -> tuple[list[str], list[str]]:
    """Take off what stands behind `--` where a command hands that on to a script."""
    if not getattr(module, "TAKES_ARGUMENTS", False) or "--" not in words[1:]:
        return words, []
    at = words.index("--", 1)
    return words[:at], words[at + 1 :]


def _open_standard_streams() -> None:
    """A closed stream's number goes to the next file that is opened, and what was meant for the stream into that file."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, os.fdopen(fd, mode, closefd=False))


def _guarded(module: ModuleType, options: Options) -> int:
    """Turn what went wrong into one sentence and an exit code."""
    try:
        return int(module.run(options))
    except (UsageError, SpooldaddError) as error:
        return _complain(error, next(code for kind, code in CODES if isinstance(error, kind)))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains once more at its end
        return FAILED
    except KeyboardInterrupt:
        return 130


def _complain(error: Exception, code: int) -> int:
    problems = getattr(error, "problems", None)
    if problems and code == CONFIGURATION:
        from spooldadd.problems import render  # late: nothing is wrong nearly always

        print(render(problems, getattr(error, "source", "configuration")), file=sys.stderr)
    print(f"spooldadd: {error}", file=sys.stderr)
    return code
