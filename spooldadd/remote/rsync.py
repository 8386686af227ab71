"""Run rsync and ssh, and say in a sentence what went wrong, with their own words at the end.

The user's own configuration of ssh applies. `[remote] ssh` is the command to use instead of `ssh`, as with `rsync -e`; where
it is not set, rsync's own `RSYNC_RSH` counts. Nothing here waits for ever: rsync gives up when nothing moves for the time
limit, and a command on the other side has a limit of its own.

If we die here: rsync goes on or ends by itself. It puts a file in place when all of it is there, so what it leaves is whole
files, and its own temporary ones, which nobody takes for specs.

Source: rsync(1), "EXIT VALUES"; ssh(1).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

from spooldadd.errors import SpooldaddError
from spooldadd.remote.targets import COMMAND, Target

PROGRAM = "rsync"
PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('spooldadd', run_name='__main__', alter_sys=True)"
)
# What was half received is kept here, within the directory that it belongs to, and continued the next time.
PARTIAL = ".rsync-partial"
TIMEOUT_S = 120.0
_SYNTAX, _PARTIAL_TRANSFER, _VANISHED = 1, 23, 24
# Of rsync's own words, these are only the echo of the others.
_ECHOES = ("rsync error:", "rsync: connection unexpectedly closed", "rsync: [sender] write error", "@@@")
_ENOUGH = 3


class Unreachable(SpooldaddError):
    """The person who asked must act, perhaps later: a program could not do what it was asked; the message says why.

    `is_transient` says that it may be otherwise in a moment, without anybody's doing.
    """

    def __init__(self, message: str, *, is_transient: bool = False) -> None:
        super().__init__(message)
        self.is_transient = is_transient


@dataclass(frozen=True)
class Answer:
    """What a program said."""

    code: int
    out: str
    err: str

    @property
    def is_partial(self) -> bool:
        """Tell whether all was done but some files, which vanished or could not be read."""
        return self.code in (_PARTIAL_TRANSFER, _VANISHED)


@dataclass
class Rsync:
    """How to reach other machines: the ssh command (empty: as rsync itself chooses) and the limit on silence."""

    ssh: str = ""
    timeout_s: float = TIMEOUT_S
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    _refuses_fsync: set[str] = field(default_factory=set)

    def copy(self, arguments: Iterable[str], target: Target, *, names: Iterable[bytes] | None = None) -> Answer:
        """Run rsync with these arguments; `names` are the files to take, below the source. Raises: Unreachable.

        What only some files suffered from is no error here: the answer says `is_partial`.
        """
        answer = self.run(arguments, target, names=names)
        if answer.code and not answer.is_partial:
            raise trouble(answer, target)
        return answer

    def send(self, arguments: Iterable[str], target: Target, *, names: Iterable[bytes] | None = None) -> Answer:
        """Do as `copy` does, and let the other side make the files last, where its rsync can. Raises: Unreachable."""
        words, given = list(arguments), None if names is None else list(names)
        if _knows_fsync() and target.address not in self._refuses_fsync:
            answer = self.run(["--fsync", *words], target, names=given)
            if "--fsync" not in answer.err:
                if answer.code and not answer.is_partial:
                    raise trouble(answer, target)
                return answer
            self._refuses_fsync.add(target.address)  # an rsync before 3.2.4
        return self.copy(words, target, names=given)

    def run(self, arguments: Iterable[str], target: Target, *, names: Iterable[bytes] | None = None) -> Answer:
        """Run rsync; return what it said. Raises: Unreachable where it is not installed."""
        command = [PROGRAM, *self._shell(target), f"--timeout={max(1, round(self.timeout_s))}"]
        given = None
        if names is not None:
            command += ["--from0", "--files-from=-"]
            given = b"\0".join(names)
        return _run([*command, *arguments], given, self._environ(), None)

    def ask(self, target: Target, *arguments: str) -> Answer:
        """Run the other side's own `spooldadd` on its spool. Raises: Unreachable where that takes too long."""
        return self._ask(target, arguments, self.timeout_s)

    def ask_patiently(self, target: Target, *arguments: str) -> Answer:
        """Do as `ask` does, for as long as it takes. Raises: Unreachable."""
        return self._ask(target, arguments, None)

    def stream(self, target: Target, *arguments: str, timeout_s: float | None = None) -> int | None:
        """Do the same, and let it write to our own streams; return its exit code, or None after this time.

        Raises: Unreachable where it cannot be started.
        """
        command = self._command(target, arguments)
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False, env=self._environ(), timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None
        except OSError as error:
            raise Unreachable(f"`{command[0]}` cannot be started: {error.strerror}") from error
        return done.returncode

    def _ask(self, target: Target, arguments: Iterable[str], timeout_s: float | None) -> Answer:
        return _run(self._command(target, arguments), b"", self._environ(), timeout_s)

    def _command(self, target: Target, arguments: Iterable[str]) -> list[str]:
        if not target.host and target.command == COMMAND:  # the very program that asks, wherever it is installed
            return [sys.executable, "-I", "-c", START, PACKAGE_PARENT, "--spool", target.path, *arguments]
        if not target.host:
            return ["/bin/sh", "-c", target.on_host(*arguments)]
        host = target.host.replace("[", "").replace("]", "")  # rsync wants them around an address, ssh does not
        return [*self.shell_words(), host, target.on_host(*arguments)]

    def shell_words(self) -> list[str]:
        """Return the ssh command, as words."""
        return shlex.split(self.ssh or self.environ.get("RSYNC_RSH", "")) or ["ssh"]

    def _shell(self, target: Target) -> list[str]:
        return ["-e", self.ssh] if self.ssh and target.host else []

    def _environ(self) -> dict[str, str]:
        # `explain` reads what is said, and times in listings are compared with ours.
        return {**self.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _run(command: list[str], given: bytes | None, environ: dict[str, str], timeout_s: float | None) -> Answer:
    try:
        done = subprocess.run(
            command,
            input=given if given is not None else b"",
            capture_output=True,
            check=False,
            env=environ,
            timeout=timeout_s,
        )
    except FileNotFoundError as error:
        remedy = "install the package `rsync`" if command[0] == PROGRAM else "install it, or correct `[remote] ssh`"
        raise Unreachable(f"`{command[0]}` is not installed on this machine; {remedy}") from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"no answer within {timeout_s:g} s", is_transient=True) from error
    except OSError as error:
        raise Unreachable(f"`{command[0]}` cannot be started: {error.strerror}") from error
    return Answer(done.returncode, _text(done.stdout), _text(done.stderr))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@cache
def _knows_fsync() -> bool:
    try:
        done = subprocess.run([PROGRAM, "--help"], capture_output=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"--fsync" in done.stdout


# -- what went wrong


_Test = Callable[[Answer], bool]


def _says(*texts: str) -> _Test:
    return lambda answer: any(text in answer.err for text in texts)


# The first that fits counts: each names the trouble, and what to do about it.
_AWAY = _says("Connection refused", "timed out", "No route to host", "is unreachable", "io timeout", "timeout waiting")
_BROKEN = _says("Connection closed", "Connection reset", "closed by remote host", "Broken pipe", "unexpectedly closed")
_TROUBLES: tuple[tuple[_Test, str], ...] = (
    (
        _says("REMOTE HOST IDENTIFICATION HAS CHANGED", "Host key verification failed"),
        "its host key is not the one that ssh knows; if that is right, `ssh-keygen -R {host}`, then log in once with ssh",
    ),
    (
        _says(
            "Permission denied (publickey", "Permission denied (password", "Too many authentication", "Permission denied,"
        ),
        "ssh refuses the login; see that `ssh {host} true` works for this user without a question",
    ),
    (
        _says("Could not resolve", "Name or service not known", "Temporary failure in name resolution"),
        "no machine of this name is known; is `{host}` spelled right?",
    ),
    (_AWAY, "it cannot be reached now; is it up, and does its sshd listen?"),
    (
        _says("No space left on device", "Disk quota exceeded", "File too large"),
        "there is no space on the other side; make room there, then do it again",
    ),
    (_says("Read-only file system"), "the file system on the other side is read-only; mend that, then do it again"),
    (
        _says("rrsync", "SSH_ORIGINAL_COMMAND"),
        "the key is restricted there and does not allow this; the directory that it allows must be the spool",
    ),
    (
        lambda answer: answer.code == 127 or ("rsync" in answer.err and "not found" in answer.err),
        "rsync is not installed on the other side; install it there",
    ),
    (
        _says("Permission denied (13)", "Operation not permitted"),
        "the user has no right to do this; see owner and mode there",
    ),
    (_says("No such file or directory", "change_dir"), "the directory is not there; is it mounted, and spelled right?"),
    (_BROKEN, "the connection broke; try again"),
    (lambda answer: answer.code == 255, "ssh failed; see that `ssh {host} true` works for this user without a question"),
)
_TRANSIENT = (_AWAY, _BROKEN, lambda answer: answer.code in (10, 12, 30, 35))


def trouble(answer: Answer, target: Target) -> Unreachable:
    """Return what went wrong, to be raised."""
    return Unreachable(explain(answer, target), is_transient=any(fits(answer) for fits in _TRANSIENT))


def explain(answer: Answer, target: Target) -> str:
    """Return one sentence with the trouble, the remedy, and what rsync or ssh said."""
    host = target.host.rpartition("@")[2] or "this machine"
    found = next((said for fits, said in _TROUBLES if fits(answer)), "rsync failed")
    return f"{found.format(host=host)} ({own_words(answer)})"


def own_words(answer: Answer) -> str:
    """Return what a program said, short enough for a sentence."""
    lines = [line.strip() for line in answer.err.splitlines()]
    telling = [line for line in lines if line and not line.startswith(_ECHOES)] or [line for line in lines if line]
    if not telling:
        return f"exit code {answer.code}"
    return "; ".join(dict.fromkeys(telling[:_ENOUGH])).encode("utf-8", "backslashreplace").decode()
