"""A process whose N-th file-changing system call kills it, or fails once: the whole sweep in seconds, without strace.

To be armed in a fork only, and only once: it replaces functions of `os` and `fcntl` for good.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from collections.abc import Callable

from spooldadd import together

# What changes a name, a byte, or a lock. `fsync` and `close` change nothing that the death of a process would undo, but
# they are where a disk or a network file system reports that earlier writes failed.
KILLING = ("open", "write", "rename", "link", "unlink", "mkdir", "rmdir", "ftruncate", "sendfile", "flock")
FAILING = (*KILLING, "fsync", "close")
CHANGING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
KILL = 0
# Do the call, and answer as a network file system does that has repeated it: what was done cannot be done again.
LIE = -1
LIES = {"rename": errno.ENOENT, "unlink": errno.ENOENT, "rmdir": errno.ENOENT, "mkdir": errno.EEXIST, "link": errno.EEXIST}
LOG = "log"


class Faults:
    """Counts file-changing calls; at number `at` the process dies (`error` is 0) or the call fails with `error`."""

    def __init__(self, at: int, error: int = KILL, *, note: int = -1) -> None:
        self.at = at
        self.error = error
        self.count = 0
        self._note = note  # a pipe, told which call it was
        self._write = os.write
        self._pid = os.getpid()

    def arm(self) -> None:
        """From here on calls are counted. Children are not: in a fork of ours the count stands still."""
        one_by_one()
        for name in KILLING if self.error == KILL else FAILING:
            module = fcntl if name == "flock" else os
            if self.error != LIE or name in LIES or name == "open":
                setattr(module, name, self._counting(name, getattr(module, name)))

    def _counting(self, name: str, real: Callable) -> Callable:
        def call(*arguments, **options):
            if os.getpid() == self._pid and _is_changing(name, arguments) and self._may_strike(name, arguments):
                self.count += 1
                if self.count == self.at:
                    self._strike(name, real, arguments)
            return real(*arguments, **options)

        return call

    def _may_strike(self, name: str, arguments: tuple) -> bool:
        return self.error != LIE or name != "open" or bool(arguments[1] & os.O_EXCL)

    def _strike(self, name: str, real: Callable, arguments: tuple) -> None:
        shown = ", ".join(repr(argument)[:120] for argument in arguments[:2])
        if self._note >= 0:
            self._write(self._note, f"{name}({shown})".encode())
        if self.error == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "close":
            real(*arguments)  # the kernel closes it even when it reports an error
        if self.error == LIE:
            if name != "open":
                real(*arguments)
            elif arguments[1] & os.O_EXCL:
                os.close(real(*arguments))
            number = LIES.get(name, errno.EEXIST)
            raise OSError(number, os.strerror(number), arguments[0])
        path = arguments[0] if arguments and isinstance(arguments[0], str | bytes) else None
        raise OSError(self.error, os.strerror(self.error), path)


def one_by_one(*, is_backwards: bool = False) -> None:
    """Ask by `os.fsync`, one after the other, for what lasts in no order: what the kernel is asked for is not seen."""
    together.MOST = 0
    if is_backwards:
        real = together.sync
        together.sync = lambda fds, **options: list(reversed(real(list(reversed(fds)), **options)))


def _is_changing(name: str, arguments: tuple) -> bool:
    if name == "open":
        return bool(arguments[1] & CHANGING_FLAGS) and arguments[0] != os.devnull
    if name in ("write", "close", "fsync"):
        return _is_file(arguments[0]) and (name != "close" or _has_written(arguments[0]))
    return True


def _is_file(fd: int) -> bool:
    """Pipes, sockets and terminals change no file, and nothing depends on the log."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) != LOG


def _has_written(fd: int) -> bool:
    """Only where something was written there is something to be told at the end."""
    is_writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    return is_writable and not os.readlink(f"/proc/self/fd/{fd}").endswith(".lock")
