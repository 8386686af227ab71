"""The `[[build]]` steps: commands in the work directory, in the job's environment, each with its own time limit.

What a step starts ends with the step, at the latest at its time limit, however often it forks away: the builder adopts
what is orphaned. Steps stay in the builder's process group, so that who ends the builder ends them.

If we die here: the step goes on until the supervisor, which adopts it in turn, ends the tree. The job has not started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from spooldadd import confine, process
from spooldadd.environment.models import BuildStep
from spooldadd.environment.report import Report
from spooldadd.errors import BuildError
from spooldadd.units import format_duration

# Between asking and killing. A compiler removes its half-written output within moments.
END_AFTER_S: Final = 5.0
_TICK_S: Final = 0.05
# What the kernel cannot kill hangs in a call that nobody can end; the build has failed anyway.
_GIVE_UP_S: Final = 30.0


@dataclass(frozen=True)
class Bench:
    """Where steps run. `keep_fds` stay open in them: the hold on the environment."""

    work_dir: str
    environ: Mapping[str, str] = field(repr=False)
    report: Report
    output_fd: int
    keep_fds: tuple[int, ...] = ()
    rules: confine.Rules | None = None  # of the sandbox that steps run in, where there is one


def run_step(step: BuildStep, bench: Bench) -> None:
    """Run one step to its end. Raises: `BuildError` with the command and how it ended."""
    shown = step.command if isinstance(step.command, str) else " ".join(step.command)
    bench.report.line(f"step: {shown}")
    started_s = time.monotonic()
    child = _start(step, bench, shown)
    try:
        child.wait(step.timeout_s)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"the step `{shown}` took longer than {format_duration(step.timeout_s)}") from error
    finally:
        end_descendants(child)
    if child.returncode:
        raise BuildError(f"the step `{shown}` {_how(child.returncode)}")
    bench.report.line(f"step: done after {time.monotonic() - started_s:.1f} s")


def _start(step: BuildStep, bench: Bench, shown: str) -> subprocess.Popen[bytes]:
    command = ["/bin/sh", "-c", step.command] if isinstance(step.command, str) else list(step.command)
    environ = {**bench.environ, **step.env}
    if bench.rules is not None:
        return _start_confined(command, environ, bench, bench.rules)
    try:
        return subprocess.Popen(
            [_program(command[0], environ, bench.work_dir), *command[1:]],
            cwd=bench.work_dir,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=bench.output_fd,
            stderr=bench.output_fd,
            pass_fds=bench.keep_fds,
        )
    except OSError as error:
        raise BuildError(f"the step `{shown}` cannot be started: {error.strerror}") from error


def _start_confined(
    command: list[str], environ: Mapping[str, str], bench: Bench, rules: confine.Rules
) -> subprocess.Popen[bytes]:
    """Start a step in the sandbox of its job. Raises: `BuildError` where there is none."""
    rules.shown = [*rules.shown, *confine.interpreter_of(environ)]
    try:
        cell = confine.Cell(rules, bench.work_dir, "")
    except confine.CannotConfine as error:
        raise BuildError(f"{error}; no step was run without") from error
    try:
        own = {name: value for name, value in environ.items() if name.startswith("SPOOLDADD_")}
        words = cell.command(command, environ, bench.output_fd, own)
        return subprocess.Popen(
            words,
            env=cell.environ,
            stdin=subprocess.DEVNULL,
            stdout=bench.output_fd,
            stderr=bench.output_fd,
            pass_fds=(*bench.keep_fds, *cell.fds),
        )
    except OSError as error:
        raise BuildError(f"the sandbox of a step cannot be started: {error.strerror}") from error
    finally:
        cell.close()


def _program(name: str, environ: Mapping[str, str], work_dir: str) -> str:
    """Look a program up as the step's own environment would: Python's default is the builder's PATH."""
    if "/" in name:
        return name
    for directory in environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(work_dir, directory, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return name


def end_descendants(child: subprocess.Popen[bytes] | None = None) -> None:
    """End all that this process has started: ask, then kill, until nothing lives; they are looked for anew each time.

    `child` is the one whose exit code is still wanted. The process must be a subreaper, else what forked away is missed.
    """
    started_s = time.monotonic()
    asked = False
    while left := _living(child):
        elapsed_s = time.monotonic() - started_s
        if elapsed_s > _GIVE_UP_S:
            return
        if not asked or elapsed_s > END_AFTER_S:
            process.send(left, signal.SIGTERM if not asked else signal.SIGKILL)
            asked = True
        time.sleep(_TICK_S)


def _living(child: subprocess.Popen[bytes] | None) -> list[int]:
    """Return the descendants that run, having collected those that ended."""
    if child:
        child.poll()
    for pid in process.children(os.getpid()):
        if child is None or pid != child.pid:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
    return [pid for pid in process.descendants(os.getpid()) if not _is_zombie(pid)]


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(") ")[2][:1] in ("Z", "X")
    except OSError:
        return True


def _how(code: int) -> str:
    return f"ended with {code}" if code > 0 else f"was killed by signal {-code} ({signal.Signals(-code).name})"
