"""Start the process of a job: find the program, open its streams, set its limits. Light: the launcher loads it.

`posix_spawn` shares the supervisor's memory with the child until it runs the program, so it costs the same however large
we are. Limits of the kernel have to be set inside the child, which takes a real fork; only jobs that ask for them pay.
"""

from __future__ import annotations

import errno
import os
import resource
import stat

from spooldadd import durable, lifecycle
from spooldadd.bare import signal
from spooldadd.cgroup import Leaf
from spooldadd.errors import SpoolError
from spooldadd.plan import Limits

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as a shell says it
# What passes, and is not the command's fault.
NO_ROOM = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
# All that can be: Python ignores some, `nohup` others; a job expects the default. What is blocked here is unblocked there.
RESET_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class CannotStart(Exception):  # it is an answer, not a fault of ours
    """The command cannot be started. `exit_code` is what a shell would give."""

    outcome = lifecycle.EXIT

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Streams:
    """The descriptors that become the job's standard input, output and error."""

    __slots__ = ("stderr", "stdin", "stdout")

    def __init__(self, stdin: int, stdout: int, stderr: int) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr

    def close(self) -> None:
        """Close what was opened for the job; the job has its own copies. Our own streams stay open."""
        for fd in {self.stdin, self.stdout, self.stderr}:
            if fd > 2:
                os.close(fd)


def open_stdin(data: bytes) -> int:
    """Return a descriptor from which a job reads these bytes, from memory."""
    if not data:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    fd = os.memfd_create("stdin")
    durable.write_all(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def kernel_limits(limits: Limits) -> dict[int, tuple[int, int]]:
    """Return those of a job's limits that the kernel keeps for each process: soft and hard."""
    found = {}
    if limits.open_files is not None:
        found[resource.RLIMIT_NOFILE] = (limits.open_files, limits.open_files)
    if limits.cpu_time_s is not None:
        soft = max(1, int(limits.cpu_time_s + 0.999))
        found[resource.RLIMIT_CPU] = (soft, soft + max(1, int(limits.kill_after_s)))
    return found


def find_program(command: list[str], environ: dict[str, str]) -> str:
    """Return the path of the program, as the shell would find it from the current directory.

    Raises: CannotStart, with the remedy.
    """
    name = command[0]
    if "/" in name:
        _check_program(name)
        return name
    path = environ.get("PATH", DEFAULT_PATH)
    candidates = [os.path.join(directory or ".", name) for directory in path.split(":")]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    for candidate in candidates:
        if os.path.exists(candidate):
            _check_program(candidate)
    hint = "; did you mean `python3`?" if name == "python" else ""
    raise CannotStart(f"the command `{name}` was not found on PATH ({path}){hint}", NOT_FOUND)


def spawn(program: str, command: list[str], environ: dict[str, str], streams: Streams) -> int:
    """Start the program in a session of its own, in the current directory; return its pid.

    Raises: CannotStart; SpoolError where the machine has no room for it now.
    """
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(_ordered(streams))]
    try:
        return os.posix_spawn(
            program, command, environ, file_actions=actions, setsid=True, setsigmask=(), setsigdef=RESET_SIGNALS
        )
    except OSError as error:
        raise cannot_start(program, error) from error


def spawn_limited(
    program: str,
    command: list[str],
    environ: dict[str, str],
    streams: Streams,
    limits: dict[int, tuple[int, int]],
    leaf: Leaf | None = None,
) -> int:
    """Do as `spawn` does, with these limits of the kernel (soft, hard) on the job, and in this control group.

    Raises: CannotStart; SpoolError where the machine has no room for it now.
    """
    try:
        group = None if leaf is None else leaf.open()
    except OSError as error:
        raise SpoolError(f"the control group of the job is gone: {error.strerror} (`{error.filename}`)") from error
    try:
        return _fork_limited(program, command, environ, streams, limits, group)
    finally:
        if group is not None:
            os.close(group)


def _fork_limited(
    program: str,
    command: list[str],
    environ: dict[str, str],
    streams: Streams,
    limits: dict[int, tuple[int, int]],
    group: int | None,
) -> int:
    report, report_child = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(report)
        os.close(report_child)
        raise cannot_start(program, error) from error
    if pid == 0:
        try:
            os.setsid()
            if group is not None:
                os.write(group, b"0")  # before it is the job, so that none of it was ever outside
            for number, fd in enumerate(_ordered(streams)):
                os.dup2(fd, number, inheritable=True)
            for kind, values in limits.items():
                resource.setrlimit(kind, _below_hard(kind, values))
            for number in RESET_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execve(program, command, environ)
        except OSError as error:
            os.write(report_child, str(error.errno).encode())
        finally:
            os._exit(NOT_EXECUTABLE)
    os.close(report_child)
    failure = os.read(report, 16)
    os.close(report)
    if failure:
        os.waitpid(pid, 0)
        raise cannot_start(program, OSError(int(failure), os.strerror(int(failure))))
    return pid


def _ordered(streams: Streams) -> tuple[int, int, int]:
    return streams.stdin, streams.stdout, streams.stderr


def _below_hard(kind: int, values: tuple[int, int]) -> tuple[int, int]:
    """Without rights nobody can raise a hard limit: stay below the one that stands."""
    hard = resource.getrlimit(kind)[1]
    if hard == resource.RLIM_INFINITY:
        return values
    return min(values[0], hard), min(values[1], hard)


def _check_program(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        raise CannotStart(f"the command `{path}` does not exist", NOT_FOUND) from None
    if stat.S_ISDIR(mode):
        raise CannotStart(f"the command `{path}` is a directory", NOT_EXECUTABLE)
    if not os.access(path, os.X_OK):
        raise CannotStart(f"the command `{path}` is not executable; `chmod +x` it", NOT_EXECUTABLE)


def cannot_start(program: str, error: OSError) -> CannotStart | SpoolError:
    """Say what it means that the kernel did not start this program."""
    if error.errno in NO_ROOM:
        return SpoolError(f"this machine has no room for another process now: {error.strerror}")
    if error.errno == errno.ENOENT:
        return CannotStart(f"the command `{program}` names an interpreter in its first line that is not there", NOT_FOUND)
    if error.errno == errno.ENOEXEC:
        return CannotStart(
            f"the command `{program}` is no program: a script needs a first line such as `#!/bin/sh`", NOT_EXECUTABLE
        )
    if error.errno == errno.E2BIG:
        return CannotStart(f"the arguments and `[env]` of `{program}` are longer than the system takes", NOT_EXECUTABLE)
    return CannotStart(f"the command `{program}` cannot be started: {error.strerror}", NOT_EXECUTABLE)
