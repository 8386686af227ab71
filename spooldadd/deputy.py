"""Do a step, or start a program, as another user: in a child that has let go of all that root has. Light.

The supervisor of a job that runs as its owner stays root, and touches nothing that the owner can change: no path in his
directories, no file that he wrote. A deputy does, with his rights and no more, so no link and no race leads it anywhere that
he could not go himself. The kernel keeps his other processes from looking into it or at its descriptors; he can kill it, or
stop it, which costs him his own attempt.

If we die here: a deputy ends with its step; the program that was started is the job, and goes on.
"""

from __future__ import annotations

import errno
import fcntl
import marshal
import os
import resource
import select

from spooldadd import account, durable, spawn, tmpfs
from spooldadd.account import Account
from spooldadd.bare import signal
from spooldadd.cgroup import Leaf
from spooldadd.errors import SpoolError

# A step that says nothing for so long was stopped, or hangs in a file system of the user's own making.
PATIENCE_S = 60.0
# Of what a step returns. The longest is a list of names.
MAX_ANSWER_BYTES = 16 << 20
_PIPE = 3  # where a deputy finds the way back, the only descriptor that it is left
_ENDLESS = 1 << 20  # above any limit of open files; the kernel closes what there is in one call

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


class Start:
    """What is started as another user, and how."""

    __slots__ = (
        "account",
        "command",
        "environ",
        "hold",
        "leaf",
        "limits",
        "passed",
        "program",
        "secrets",
        "streams",
        "work_dir",
    )

    def __init__(self, who: Account, command: list[str], environ: dict[str, str], streams: spawn.Streams) -> None:
        self.account = who
        self.command = command
        self.environ = environ
        self.streams = streams
        self.program = ""  # found by the user's own rights where it is not given
        self.work_dir = "/"
        self.limits: dict[int, tuple[int, int]] = {}
        self.leaf: Leaf | None = None
        self.passed: tuple[int, ...] = ()
        self.hold = ""  # a file whose shared lock is held as long as the program runs
        self.secrets: tuple[str, dict[str, bytes]] | None = None  # a directory, and what only the program sees in it


# -- steps


def act(who: Account, step: Callable[[], object], patience_s: float = PATIENCE_S) -> object:
    """Do a step as this user; return what it returned, which is plain values. Raises: OSError, its own and ours."""

    def answer(way_back: int) -> None:
        try:
            said: tuple[Any, ...] = (True, step())
        except OSError as error:
            said = (False, error.errno, error.strerror or str(error), os.fsdecode(error.filename or ""))
        durable.write_all(way_back, marshal.dumps(said))

    deputy = Deputy(who, answer, patience_s)
    try:
        data = deputy.rest(MAX_ANSWER_BYTES)
    finally:
        deputy.end()
    if not data:
        raise OSError(errno.EINTR, f"the process that did this as `{who.name}` was ended")
    said = marshal.loads(data)
    if not said[0]:
        raise OSError(said[1], said[2], said[3] or None)
    return said[1]


class Deputy:
    """A child that does something as another user and writes into a pipe; this is its end of the pipe."""

    def __init__(self, who: Account, work: Callable[[int], None], patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._fd, way_back = os.pipe()
        try:
            self.pid = os.fork()
        except OSError:
            os.close(self._fd)
            os.close(way_back)
            raise
        if self.pid == 0:
            _be_deputy(who, work, way_back)
        os.close(way_back)

    def read(self, size: int) -> bytes:
        """Return what it wrote, no more than `size`; nothing when it has ended. Raises: OSError where it is stuck."""
        ready, _, _ = select.select([self._fd], [], [], self._patience_s)
        if not ready:
            sentence = f"the process that did this as another user said nothing for {self._patience_s:g} s"
            raise OSError(errno.ETIMEDOUT, sentence)
        return os.read(self._fd, size)

    def rest(self, most: int) -> bytes:
        """Return all that it writes. Raises: OSError where it is stuck, or that is more than `most`."""
        parts = []
        size = 0
        while part := self.read(1 << 16):
            parts.append(part)
            size += len(part)
            if size > most:
                raise OSError(errno.EMSGSIZE, "the process that did this as another user said too much")
        return b"".join(parts)

    def end(self) -> None:
        """End it, whatever it does, and collect it."""
        os.close(self._fd)
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def _be_deputy(who: Account, work: Callable[[int], None], way_back: int) -> None:
    try:
        os.dup2(way_back, _PIPE)
        os.closerange(_PIPE + 1, _ENDLESS)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(_PIPE):
            os.dup2(nothing, number)
        os.close(nothing)
        os.chdir("/")
        account.become(who)
        work(_PIPE)
    finally:
        os._exit(0)


# -- programs


def launch(start: Start) -> int:
    """Start a program as another user, in a session of its own; return its pid.

    Raises: CannotStart; SpoolError where the machine has no room for it now.
    """
    report, report_child = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(report)
        raise spawn.cannot_start(start.command[0], error) from error
    else:
        if pid == 0:
            _be_program(start, report_child)
    finally:
        os.close(report_child)
    with open(report, "rb") as file:
        said = file.read()
    if said:
        os.waitpid(pid, 0)
        raise _refusal(start, marshal.loads(said))
    return pid


def _be_program(start: Start, report: int) -> None:
    try:
        _prepare(start, report)
        program = start.program or spawn.find_program(start.command, start.environ)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(program, start.command, start.environ)
    except spawn.CannotStart as error:
        os.write(report, marshal.dumps(("refused", str(error), error.exit_code)))
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        os.write(report, marshal.dumps(("failed", str(error), number or 0)))
    finally:
        os._exit(spawn.NOT_EXECUTABLE)


def _prepare(start: Start, report: int) -> None:
    """Do in the child, in this order: what needs root, let go of root, what the user may be led astray by."""
    os.setsid()
    if start.leaf is not None:
        group = start.leaf.open()
        os.write(group, b"0")  # before it is the job, so that none of it was ever outside
    for number, fd in enumerate((start.streams.stdin, start.streams.stdout, start.streams.stderr)):
        os.dup2(fd, number, inheritable=True)
    for kind, values in start.limits.items():
        resource.setrlimit(kind, values)
    _show_secrets(start)
    _close_all_but({*start.passed, report})
    account.become(start.account)
    try:
        os.chdir(start.work_dir)
    except OSError as error:
        sentence = f"its work directory `{start.work_dir}` cannot be entered: {error.strerror}"
        raise spawn.CannotStart(sentence, spawn.NOT_EXECUTABLE) from error
    if start.hold:
        _hold(start.hold)
    for number in spawn.RESET_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _show_secrets(start: Start) -> None:
    if start.secrets is None:
        return
    try:
        tmpfs.show(*start.secrets, (start.account.uid, start.account.gid))
    except OSError as error:
        remedy = "the worker needs the right to mount (CAP_SYS_ADMIN)"
        sentence = f"its secrets cannot be shown to it, and to nobody else: {error.strerror}; {remedy}"
        raise spawn.CannotStart(sentence, spawn.NOT_EXECUTABLE) from error


def _close_all_but(kept: Iterable[int]) -> None:
    """The streams stay as well. What of root's is open here was meant to close by itself; this is the second lock."""
    low = 3
    for fd in sorted(fd for fd in kept if fd >= low):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, _ENDLESS)


def _hold(path: str) -> None:
    """Have the program hold the shared lock of a file until it ends; where that cannot be had it runs all the same."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.set_inheritable(fd, True)
    except OSError:
        pass


def _refusal(start: Start, said: tuple[str, str, int]) -> spawn.CannotStart | SpoolError:
    kind, sentence, number = said
    if kind == "refused":
        return spawn.CannotStart(sentence, number)
    error = OSError(number, os.strerror(number) if number else sentence)
    return spawn.cannot_start(start.program or start.command[0], error)
