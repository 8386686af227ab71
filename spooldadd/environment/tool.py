"""Run another program for the build: its lines go to the build log as they come, its last ones into the error.

If we die here: the program goes on without us until the builder's process group is ended. What it may write to is
chosen so that this harms nobody (`environments`).
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from spooldadd.environment.report import Report
from spooldadd.errors import BuildError

# What fits into a reason: a resolver's explanation takes some ten lines.
TAIL_LINES: Final = 12


@dataclass(frozen=True)
class Tool:
    """A program to run. `keep_fds` stay open in it: a lock that lives as long as it does."""

    command: Sequence[str]
    environ: Mapping[str, str] = field(repr=False)
    directory: str = "/"
    stdin: str = ""
    keep_fds: tuple[int, ...] = ()
    is_talk: bool = False  # what it prints on stdout is no answer, but goes where stderr goes


class ToolFailed(BuildError):
    """A program ended with an error; the message holds its own last lines."""


def run_tool(tool: Tool, report: Report) -> list[str]:
    """Run to the end and return the lines it printed on stdout; those on stderr go to the report.

    Raises: `ToolFailed`; `BuildError` where the program cannot be started.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = _start(tool, output.fileno())
        try:
            tail = _talk(process, tool.stdin, report)
        except BaseException:  # we are told to stop: so is what we started
            process.kill()
            process.wait()
            raise
        output.seek(0)
        lines = output.read().splitlines()
    if process.returncode:
        raise ToolFailed(_sentence(tool, process.returncode, [*tail] or lines[-TAIL_LINES:], report))
    return lines


def _start(tool: Tool, stdout: int) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            list(tool.command),
            env=dict(tool.environ),
            cwd=tool.directory,
            stdin=subprocess.PIPE if tool.stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE if tool.is_talk else stdout,
            stderr=subprocess.STDOUT if tool.is_talk else subprocess.PIPE,
            pass_fds=tool.keep_fds,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise BuildError(f"`{tool.command[0]}` cannot be started: {error.strerror}; is it installed?") from error


def _talk(process: subprocess.Popen[str], text: str, report: Report) -> deque[str]:
    """Hand over the input, which is short, and report what the program says until it ends."""
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    if process.stdin:
        try:
            process.stdin.write(text)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended without reading; its exit code says why
    words = process.stderr or process.stdout
    for line in words or ():
        if line.strip():
            report.line(line.rstrip())
            tail.append(line.rstrip())
    if words:
        words.close()
    process.wait()
    return tail


def _sentence(tool: Tool, code: int, tail: Sequence[str], report: Report) -> str:
    name = tool.command[0].rsplit("/", 1)[-1]
    how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
    said = "\n".join(tail)
    return report.hide(f"`{name}` {how}" + (f":\n{said}" if said else ", and said nothing"))
