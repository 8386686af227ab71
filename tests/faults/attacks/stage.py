"""Where attacks take place: a mount namespace with three users of its own, one spool, one worker of root."""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from tests.support import SPOOLDADD, end_processes_of, result_of, until

NAMES = ("victim", "attacker", "bystander")
FIRST_UID = 60001
SHELL = "/bin/sh"
# In the worker's environment, in a file of root's, in a file of the victim's: nobody else may ever see one of these words.
ROOTS_WORD, ROOTS_FILE, VICTIMS_WORD = "word-in-roots-environment", "word-in-roots-file", "word-of-the-victim"
INSIDE = "SPOOLDADD_TEST_INSIDE"  # the directory for all of it
_LIBC = ctypes.CDLL(None, use_errno=True)
_BIND = ctypes.c_ulong(0x1000 | 0x4000)  # MS_BIND, MS_REC


class Worked(AssertionError):
    """An attack has got what it should not."""


def missing_capability() -> str:
    """Say what this machine does not let us do, as a skip has to name it; empty where it lets us do all."""
    if os.geteuid() != 0:
        return "needs the capability of root"
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return "needs the capability to make a mount namespace (util-linux)"
    done = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "needs the capability to make a mount namespace (CAP_SYS_ADMIN)"


def run_inside(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run this package in a mount namespace of its own, where mounting changes nothing for anybody else.

    Its directory is removed out here, where none of those mounts is: who removes a tree with a mount in it removes what is
    mounted there.
    """
    scratch = tempfile.mkdtemp(prefix="spooldadd-attacks-")
    command = ["unshare", "-m", "--propagation", "private", sys.executable, "-m", "tests.faults.attacks", *arguments]
    environ = {**os.environ, INSIDE: scratch}
    repository = Path(__file__).resolve().parents[3]
    try:
        return subprocess.run(command, cwd=repository, env=environ, text=True, stdout=subprocess.PIPE, check=False)
    finally:
        assert scratch not in Path("/proc/self/mountinfo").read_text(), f"something is mounted below {scratch}"
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass(frozen=True)
class User:
    """One of the three."""

    name: str
    uid: int
    home: Path

    def does(self, step: Callable[[], object], *, seconds: float = 60.0) -> object:
        """Do a step in a process of his that has nothing of root; return what it returned. Raises: what it raised."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            signal.alarm(int(seconds))
            code = 1
            try:
                self.become()
                with os.fdopen(writer, "wb") as file:
                    file.write(pickle.dumps(_outcome_of(step)))
                code = 0
            finally:
                os._exit(code)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            data = file.read()
        os.waitpid(pid, 0)
        assert data, "the process of this user was ended"
        value, error = pickle.loads(data)
        if error is not None:
            raise error
        return value

    def runs(self, *arguments: str) -> tuple[int, str]:
        """Run a command of spooldadd as this user; return its exit code and all that it printed."""

        def run() -> tuple[int, str]:
            from spooldadd import cli

            said = io.StringIO()
            with redirect_stdout(said), redirect_stderr(said):
                try:
                    code = cli.main(list(arguments))
                except SystemExit as error:
                    code = int(error.code or 0)
            return code, said.getvalue()

        return self.does(run)  # type: ignore[return-value]

    def is_refused(self, step: Callable[[], object], what: str) -> str:
        """Try a step that the kernel has to refuse; return its word."""
        try:
            self.does(step)
        except (PermissionError, FileNotFoundError, ProcessLookupError) as error:
            return error.strerror or str(error)
        except OSError as error:
            return error.strerror or str(error)
        raise Worked(f"{self.name} could {what}")

    def starts(self, step: Callable[[], object]) -> int:
        """Start something that goes on by itself; return its process, for the caller to kill."""
        pid = os.fork()
        if pid == 0:
            try:
                self.become()
                step()
            finally:
                os._exit(0)
        return pid

    def become(self) -> None:
        """Become this user, for good, with an environment like that of a login."""
        os.setgroups([])
        os.setresgid(self.uid, self.uid, self.uid)
        os.setresuid(self.uid, self.uid, self.uid)
        os.environ.clear()
        os.environ.update(HOME=str(self.home), USER=self.name, PATH="/usr/local/bin:/usr/bin:/bin")
        os.umask(0o022)
        os.chdir("/")


def _outcome_of(step: Callable[[], object]) -> tuple[object, BaseException | None]:
    try:
        return step(), None
    except Exception as error:  # raised again at the other end
        return None, error


class Stage:
    """The spool, its worker, and the three."""

    def __init__(self) -> None:
        self.root = Path(os.environ[INSIDE])
        self.root.chmod(0o755)
        self.spool, self.log = self.root / "spool", self.root / "worker.log"
        self._worker: subprocess.Popen[bytes] | None = None
        self.rounds = 20  # how often a race is run
        self.victim, self.attacker, self.bystander = (self._user(number) for number in range(3))
        self._show_users()
        _open_interpreter()
        self.canary = self.root / "canary"
        self.canary.mkdir(mode=0o755)
        (self.canary / "precious").write_text(ROOTS_FILE)
        (self.canary / "precious").chmod(0o600)
        self.environ = {
            **os.environ,
            "SPOOLDADD_WORK_DIR": str(self.root / "work"),
            "SPOOLDADD_CACHE_DIR": str(self.root / "cache"),
            "SPOOLDADD_SECRETS_DIR": str(self.root / "secrets"),
            "SPOOLDADD_INTAKE__SETTLE": "0.3s",
            "TEST_WORK_DIR": str(self.root / "work"),
            "ROOTS_WORD": ROOTS_WORD,
        }
        self._make_secrets()
        self.command("init", str(self.spool), "--many-users", "--durability", "process")

    def __enter__(self) -> Stage:
        with self.log.open("ab") as log:
            self._worker = subprocess.Popen(
                [SPOOLDADD, "worker", str(self.spool), "--jobs", "4"],
                stderr=log, stdout=log, stdin=subprocess.DEVNULL, env=self.environ, start_new_session=True,
            )  # fmt: skip
        until(lambda: "event=worker-started" in self.said(), "the worker starts")
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.terminate()
            self._worker.wait(30)
        end_processes_of(self.root / "work")

    @property
    def is_serving(self) -> bool:
        """Tell whether the worker lives."""
        return self._worker is not None and self._worker.poll() is None

    def said(self) -> str:
        """Return what the worker has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as root."""
        done = subprocess.run(
            [SPOOLDADD, *arguments], env=self.environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert not check or done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done

    def wake(self) -> None:
        """Have the worker look at once, as every command does."""
        os.close(os.open(self.spool / ".wake", os.O_WRONLY))

    # -- jobs

    def drop(self, user: User, name: str, text: str, mode: int = 0o600) -> Path:
        """Drop a spec as this user, complete at once."""
        path = self.spool / name

        def put() -> None:
            part = self.spool / f".{name}.part"
            part.write_text(text)
            part.chmod(mode)
            part.rename(path)

        user.does(put)
        return path

    def job(self, user: User, name: str, command: str, more: str = "") -> Path:
        """Run a job as this user to its end; return its record."""
        self.drop(user, f"{name}.toml", f"command = '''{command}'''\n{more}")
        return self.ended(name)

    def ended(self, name: str) -> Path:
        """Wait until the job of this name has ended; return its record."""
        return until(
            lambda: self.record(name, "done") or self.record(name, "failed"), f"`{name}` ends\n{self.said()[-2000:]}"
        )

    def running(self, name: str) -> Path:
        """Wait until the job of this name runs and has said `ready`; return its record."""

        def look() -> Path | None:
            found = self.record(name, "running")
            log = found / "output.log" if found else None
            return found if log and log.exists() and "ready" in log.read_text() else None

        return until(look, f"`{name}` runs\n{self.said()[-2000:]}")

    def record(self, name: str, state: str) -> Path | None:
        """Return the record of this name in this state."""
        return next((path for path in (self.spool / state).iterdir() if path.name.startswith(f"{name}.")), None)

    def output(self, record: Path) -> str:
        """Return what a job has printed, and its build."""
        logs = [record / "build.log", record / "output.log"]
        return "".join(log.read_text(errors="replace") for log in logs if log.exists())

    def reason(self, record: Path) -> str:
        """Return why a job ended as it did."""
        return str(result_of(record)["reason"])

    # -- the place

    def _user(self, number: int) -> User:
        home = self.root / "home" / NAMES[number]
        home.mkdir(parents=True, mode=0o755)
        home.chmod(0o700)
        home.parent.chmod(0o755)
        os.chown(home, FIRST_UID + number, FIRST_UID + number)
        return User(NAMES[number], FIRST_UID + number, home)

    def _show_users(self) -> None:
        """Let this namespace have a user database of its own, with three more."""
        for file in ("passwd", "group"):
            copy = self.root / file
            lines = Path("/etc", file).read_text()
            for user in (self.victim, self.attacker, self.bystander):
                rest = f"{user.uid}::{user.home}:{SHELL}" if file == "passwd" else ""
                lines += f"{user.name}:x:{user.uid}:{rest}\n"
            copy.write_text(lines)
            copy.chmod(0o644)
            subprocess.run(["mount", "--bind", copy, f"/etc/{file}"], check=True)
        assert pwd.getpwuid(FIRST_UID).pw_name == NAMES[0]

    def _make_secrets(self) -> None:
        own = self.root / "secrets" / "users" / self.victim.name
        own.mkdir(parents=True)
        for path, word in ((own / "password", VICTIMS_WORD), (self.root / "secrets" / "roots", ROOTS_FILE)):
            path.write_text(word)
            path.chmod(0o600)
        (self.root / "secrets").chmod(0o700)


def _open_interpreter() -> None:
    """Let users run the interpreter that we run, also where it is installed in the home of root: in this namespace only."""
    for closed in {part for path in _link_chain(Path(sys.executable)) for part in path.parents if not _is_open(part)}:
        if _is_open(closed):  # one above it was opened before
            continue
        below = {path.relative_to(closed).parts[0] for path in _link_chain(Path(sys.executable)) if closed in path.parents}
        held = {name: os.open(closed / name, os.O_PATH | os.O_DIRECTORY) for name in below}
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", closed], check=True)
        for name, fd in held.items():
            (closed / name).mkdir()
            source, target = f"/proc/self/fd/{fd}".encode(), os.fsencode(closed / name)
            assert _LIBC.mount(source, target, None, _BIND, None) == 0, os.strerror(ctypes.get_errno())


def _link_chain(path: Path) -> list[Path]:
    """Return this path and all that it leads to by links."""
    found = [path]
    while path.is_symlink():
        path = Path(os.path.normpath(path.parent / path.readlink()))
        found.append(path)
    return found


def _is_open(directory: Path) -> bool:
    return bool(directory.stat().st_mode & 0o001)


def soon(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    """Give something that must not happen its time; tell whether it did."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False
