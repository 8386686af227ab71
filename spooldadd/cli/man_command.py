"""Print the manual page.

It is made from the same parsers and descriptions as `--help`, with the environment variables, files and exit codes.

examples:
  spooldadd man | man -l -
  spooldadd man > ~/.local/share/man/man1/spooldadd.1
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from spooldadd import layout
from spooldadd.cli import EXIT_CODES, roff, shapes
from spooldadd.cli.shapes import Shape
from spooldadd.release import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

SUMMARY = "drop a TOML spec into a directory, find it in done/ or failed/ with its logs and the reason"
ENVIRONMENT = {
    "SPOOLDADD_SPOOL": "the spool, where `--spool` is not given",
    "SPOOLDADD_CONFIG": "the configuration's file, where `--config` is not given",
    "SPOOLDADD_KEY": "overrides one key of the configuration: the key in capitals, two underscores for a dot, as in "
    "`SPOOLDADD_INTAKE__SETTLE=1s`; `spooldadd config --origin` shows what is in effect",
}
JOB_ENVIRONMENT = {
    "SPOOLDADD_JOB": "the job's id",
    "SPOOLDADD_ATTEMPT": "the number of the attempt, from 1",
    "SPOOLDADD_NODE": "the name of the node that runs it",
    "SPOOLDADD_RECORD": "the record of the job while it runs",
    "SPOOLDADD_CLAIM": "the spool's id and the name of that record: what the claim is called, wherever the spool is mounted",
    "SPOOLDADD_WORKDIR": "its work directory, which is its current directory at the start",
    "SPOOLDADD_SECRETS": "the directory with its secrets, a file each, where its spec names some",
    "APP_SETTINGS_JSON": "the file with the `[config]` of its spec, where it has one",
}
FILES = {
    "SPOOL/NAME.toml": "a spec that waits; copy or move it there",
    "SPOOL/NAME.toml.held": "the same, held",
    "SPOOL/running/, waiting/, done/, failed/": "records: one directory for each job, with its spec and its logs",
    f"…/{layout.RESULT}": "how the last attempt ended, and why",
    f"…/{layout.OUTPUT_LOG}": "what it printed",
    f"…/{layout.PROBLEMS}": "every error of a spec that could not be run",
    f"SPOOL/{layout.PAUSED}": "while it exists, nothing is started; `paused.QUEUE` stops one queue",
    "SPOOL/.spool/worker.toml": "the configuration of the spool's workers, before the two below",
    "/etc/spooldadd/spooldadd.toml": "the configuration for root",
    "~/.config/spooldadd/spooldadd.toml": "the configuration for other users",
}
EXAMPLES = (
    "spooldadd init /srv/spool",
    "spooldadd worker /srv/spool",
    "cp nightly.toml /srv/spool/",
    "spooldadd --spool /srv/spool submit nightly.toml --var day=2026-11-20 --wait",
    "spooldadd --spool /srv/spool status",
    "spooldadd --spool /srv/spool explain nightly",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments: it has none."""
    del parser


def run(options: argparse.Namespace) -> int:
    """Print it."""
    del options
    sys.stdout.write(page(shapes.all_shapes()))
    return 0


def page(commands: Sequence[Shape]) -> str:
    """Return the whole page."""
    return "".join((
        roff.title("spooldadd", f"spooldadd {__version__}", "User Commands"),
        roff.section("NAME"),
        f"spooldadd \\- {roff.escape(SUMMARY)}\n",
        roff.section("SYNOPSIS"),
        roff.running("`spooldadd` [`--spool` DIR] [`--config` FILE] COMMAND [ARGUMENT...]") + "\n",
        roff.section("DESCRIPTION"),
        _description(),
        roff.section("COMMANDS"),
        *(_command(shape) for shape in commands),
        roff.section("ENVIRONMENT"),
        *(roff.tagged(name, text) for name, text in ENVIRONMENT.items()),
        roff.paragraph("A job finds these in its environment:"),
        *(roff.tagged(name, text) for name, text in JOB_ENVIRONMENT.items()),
        roff.section("FILES"),
        *(roff.tagged(name, text) for name, text in FILES.items()),
        roff.section("EXIT STATUS"),
        *(roff.tagged(code, text) for code, text in _exit_codes()),
        roff.section("EXAMPLES"),
        roff.literal(EXAMPLES),
    ))  # fmt: skip


def _description() -> str:
    first = """A spool is a directory. A worker claims each TOML spec that is dropped into it, builds what it needs to
    run, runs it, and moves it to `done/` or `failed/` with its logs and the reason. There is no database, no broker, no
    server: `ls` shows the state and `mv` changes it."""
    second = """A job is named by its id, by any beginning of its id that no other job has, or by the file that was
    dropped. What a command found goes to standard output, everything else to standard error."""
    return roff.paragraph(first) + roff.paragraph(second)


def _command(shape: Shape) -> str:
    parts = [roff.subsection(shape.name), roff.paragraph(f"{shape.summary[:1].upper()}{shape.summary[1:]}.")]
    parts.append(roff.paragraph(_usage(shape)))
    described = [(one.value.metavar, one.help) for one in shape.positionals]
    for option in shape.options:
        if not shapes.GLOBAL.intersection(option.flags):
            value = f" {option.value.metavar}" if option.value else ""
            described.append((", ".join(option.flags) + value, option.help))
    parts += [roff.tagged(tag, text) for tag, text in described]
    parts.append(roff.prose(shape.text))
    return "".join(parts)


def _usage(shape: Shape) -> str:
    return shape.usage.replace(" [-h] [--spool DIR] [--config FILE]", "")


def _exit_codes() -> list[tuple[str, str]]:
    """Take them from the text of `--help`, which is `N what it means; N …`, then sentences."""
    text = " ".join(EXIT_CODES.split()).removeprefix("exit codes: ")
    codes, _, rest = text.partition(". ")
    pairs = [entry.partition(" ")[::2] for entry in codes.split("; ")]
    return [*((code, meaning) for code, meaning in pairs), ("other", rest)]
