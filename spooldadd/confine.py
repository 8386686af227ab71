"""Put a command into a sandbox: the words for bubblewrap, and a first process in it that says how the command ended. Light.

Bubblewrap itself starts with the worker's environment, never the job's: a `LD_PRELOAD` from a spec would otherwise run
before there is a sandbox. The job's environment goes in as a file in memory. Bubblewrap turns a signal into an exit code, so
a small program between the two starts the command and notes its wait status, in memory as well.

Nothing is ever run without the sandbox that was asked for: where it cannot be made, nothing starts.

Source: bwrap(1); namespaces(7).

If we die here: the sandbox lives as long as the job in it; its mounts go with its last process.
"""

from __future__ import annotations

import glob
import os
import sys

from spooldadd import durable, spawn

PROGRAM = "bwrap"
REMEDY = "install `bubblewrap` (0.5 or newer), and see `spooldadd doctor`"
# Devices that jobs compute with; of all others a read-only system shows none.
GPUS = ("/dev/nvidia*", "/dev/dri", "/dev/kfd")
# What a program needs of `/run` to find other hosts; all else there are doors to services of the system.
RESOLVERS = ("/run/systemd/resolve", "/run/NetworkManager/resolv.conf", "/run/resolvconf", "/run/nscd", "/run/netconfig")
# Starts the command, as its first process; `-I -S` keeps what the job set for its own Python away.
START = """
import os, signal, sys
note, environ, stderr, words = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
os.dup2(stderr, 2)
os.close(stderr)
os.set_inheritable(note, False)
data = os.pread(environ, os.fstat(environ).st_size, 0)
os.close(environ)
table = dict(entry.split(b"=", 1) for entry in data.split(b"\\0") if entry)
os.environb.pop(b"PATH", None)
if b"PATH" in table:
    os.environb[b"PATH"] = table[b"PATH"]
numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
for number in numbers - {signal.SIGCHLD}:
    signal.signal(number, signal.SIG_IGN)
try:
    pid = os.posix_spawnp(words[0], words, table, setsigmask=(), setsigdef=numbers)
except OSError as error:
    os.write(note, b"error %d\\n" % error.errno)
    os._exit(127)
os.write(note, b"started\\n")
status = os.waitpid(pid, 0)[1]
os.write(note, b"status %d\\n" % status)
code = os.waitstatus_to_exitcode(status)
os._exit(code if code >= 0 else 128 - code)
"""

MAX_DIGITS = 5  # of a wait status, or of an error's number
NAMESPACES_REMEDY = (
    "install `bubblewrap`, and let this user make namespaces: `sysctl kernel.unprivileged_userns_clone=1`, "
    "`user.max_user_namespaces`, `kernel.apparmor_restrict_unprivileged_userns=0`; in a container, its own rules"
)

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Mapping


class CannotConfine(Exception):
    """There is no sandbox. The message is a sentence with the remedy."""


class Rules:
    """What a sandbox lets through: all decided before, paths as they are on this node."""

    __slots__ = ("hidden", "home", "home_dir", "network", "processes", "read", "root", "shown", "system", "tmp", "write")

    def __init__(self) -> None:
        self.network = True
        self.system = "writable"  # or read-only
        self.tmp = "shared"  # or private
        self.processes = "shared"  # or private
        self.home = "writable"  # or read-only, or hidden
        self.home_dir = ""
        self.read: list[str] = []
        self.write: list[str] = []
        self.hidden: list[str] = []  # the node's own: secrets, mails, its configuration
        self.shown: list[str] = []  # the cache, read-only
        self.root = ""  # of the spool

    def table(self) -> dict[str, object]:
        """Return it as plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


def from_table(table: Mapping[str, object]) -> Rules:
    """Return the rules that `table` gave."""
    rules = Rules()
    for name, value in table.items():
        setattr(rules, name, value)
    return rules


class Cell:
    """One command in its sandbox, from its words to its end."""

    __slots__ = ("_fds", "_last", "_note", "_said", "environ", "words")

    def __init__(self, rules: Rules, work_dir: str, record: str, environ: Mapping[str, str] | None = None) -> None:
        """Without an environment, bubblewrap gets ours. Raises: CannotConfine where there is no bubblewrap; OSError."""
        self.environ = dict(os.environ if environ is None else environ)
        try:
            program = spawn.find_program([PROGRAM], {"PATH": os.environ.get("PATH", spawn.DEFAULT_PATH)})
        except spawn.CannotStart as error:
            raise CannotConfine(f"its sandbox cannot be made: `{PROGRAM}` is not installed; {REMEDY}") from error
        self.words = [program, *arguments(rules, work_dir, record)]
        # What is hidden is empty, and stays so: but only when all that lies in it is there.
        emptied = [path for path in (rules.root, os.path.dirname(work_dir)) if os.path.isdir(path)]
        self._last = [word for path in emptied for word in ("--remount-ro", path)]
        self._fds: list[int] = []
        self._note = self._memory("note", b"")
        self._said = self._memory("bwrap", b"")

    def add_secrets(self, directory: str, secrets: Mapping[str, int]) -> None:
        """Put files into a directory that exists in the sandbox's memory only: by their names, descriptors to read from."""
        self.words += ["--perms", "0700", "--tmpfs", directory]
        for name, fd in secrets.items():
            copy = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)  # with an offset of its own
            self._fds.append(copy)
            self.words += ["--perms", "0400", "--ro-bind-data", str(copy), os.path.join(directory, name)]

    def command(self, command: list[str], environ: Mapping[str, str], stderr: int, own: Mapping[str, str]) -> list[str]:
        """Return the words to start; `own` are variables by which bubblewrap itself is known as part of the job."""
        self.environ |= own
        told = b"\0".join(f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in environ.items())
        given = self._memory("environ", told)
        errors = os.dup(stderr)
        self._fds.append(errors)
        python = os.path.realpath(sys.executable)
        inner = [python, "-I", "-S", "-c", START, str(self._note), str(given), str(errors), *command]
        return [*self.words, *self._last, "--", *inner]

    @property
    def stderr(self) -> int:
        """Where bubblewrap complains."""
        return self._said

    @property
    def fds(self) -> tuple[int, ...]:
        """What the first process has to inherit."""
        return tuple(self._fds)

    def pass_on(self, *, is_passed: bool) -> None:
        """Let the next process that is started inherit them, or none any more."""
        for fd in self._fds:
            os.set_inheritable(fd, is_passed)

    def noted(self) -> dict[str, int]:
        """Return what the first process noted: `started`, `status`, `error`; what it did not is absent.

        A job that shares its user's processes can write there, too: what no command can end with is no status.
        """
        lines = os.pread(self._note, 4096, 0).decode("ascii", "replace").splitlines()
        found = {}
        for line in lines:
            word, _, number = line.partition(" ")
            is_number = number.isdigit() and len(number) <= MAX_DIGITS
            value = int(number) if is_number else 1
            if word != "status" or (is_number and (os.WIFEXITED(value) or os.WIFSIGNALED(value))):
                found[word] = value
        return found

    def complaint(self) -> str:
        """Return what bubblewrap said last, in one line."""
        lines = os.pread(self._said, 65536, 0).decode("utf-8", "replace").splitlines()
        return lines[-1].strip()[:300] if lines else "it said nothing"

    def close(self) -> None:
        """Let go of what is in memory."""
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def _memory(self, name: str, data: bytes) -> int:
        fd = os.memfd_create(name)
        durable.write_all(fd, data)
        self._fds.append(fd)
        return fd


def prove() -> None:
    """Make a sandbox with all that one can have, for nothing. Raises: CannotConfine."""
    import tempfile  # late: no supervisor asks

    with tempfile.TemporaryDirectory(prefix="spooldadd-doctor-") as scratch:
        work_dir = os.path.join(scratch, "work")
        os.mkdir(work_dir)
        _make_one(work_dir)


def _make_one(work_dir: str) -> None:
    import subprocess

    rules = Rules()
    rules.network, rules.system, rules.tmp, rules.processes = False, "read-only", "private", "private"
    cell = Cell(rules, work_dir, "")
    try:
        command = [*cell.words, "--", "/bin/sh", "-c", ":"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotConfine(f"`{PROGRAM}` cannot be started: {error}") from error
    finally:
        cell.close()
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise CannotConfine(said[-1])


def arguments(rules: Rules, work_dir: str, record: str) -> list[str]:
    """Return bubblewrap's arguments; of two that speak of one path the later one counts."""
    is_fixed = rules.system == "read-only"
    words = ["--ro-bind", "/", "/", *_devices(), *_run_directory(rules)] if is_fixed else ["--dev-bind", "/", "/"]
    if os.geteuid() == 0:
        words += ["--cap-drop", "ALL"]  # or it could mount what is hidden, and make writable what is not
    if not rules.network:
        words.append("--unshare-net")
    if rules.processes == "private":
        words += ["--unshare-pid", "--unshare-ipc", "--proc", "/proc"]
    words += ["--tmpfs", "/tmp", "--tmpfs", "/var/tmp"] if rules.tmp == "private" else []
    if rules.tmp == "shared" and is_fixed:
        words += ["--bind", "/tmp", "/tmp", "--bind", "/var/tmp", "/var/tmp"]
    words += _home(rules)
    words += _bound("--ro-bind", _python())
    words += _bound("--ro-bind", rules.read)
    words += _bound("--bind", rules.write)
    words += _bound("--ro-bind", [path for path in rules.shown if os.path.exists(path)])
    parent = os.path.dirname(work_dir)
    for path in (*rules.hidden, rules.root, parent):
        words += _hidden(path)
    words += ["--ro-bind", record, record] if _is_below(record, rules.root) else []
    return [*words, "--bind", work_dir, work_dir, "--chdir", work_dir]


def interpreter_of(environ: Mapping[str, str]) -> list[str]:
    """Return where the interpreter of the job's Python environment lies, which may be in a home that is hidden."""
    if "VIRTUAL_ENV" not in environ:
        return []
    program = os.path.realpath(os.path.join(environ["VIRTUAL_ENV"], "bin", "python"))
    prefix = os.path.dirname(os.path.dirname(program))
    return [] if prefix in ("/", "/usr") else [prefix]


def _devices() -> list[str]:
    words = ["--dev", "/dev"]
    for path in (found for pattern in GPUS for found in sorted(glob.glob(pattern))):
        words += ["--dev-bind-try", path, path]
    return words


def _run_directory(rules: Rules) -> list[str]:
    words = ["--tmpfs", "/run"]
    for path in RESOLVERS if rules.network else ():
        words += ["--ro-bind-try", path, path]
    return words


def _home(rules: Rules) -> list[str]:
    path = rules.home_dir
    if not path or path == "/" or not os.path.isdir(path):
        return []
    if rules.home == "hidden":
        return ["--tmpfs", path]
    if rules.home == "read-only":
        return ["--ro-bind", path, path]
    return ["--bind", path, path] if rules.system == "read-only" else []


def _python() -> list[str]:
    """Our interpreter has to be seen in there, wherever it was installed."""
    program = os.path.realpath(sys.executable)
    return [path for path in (sys.base_prefix, program) if not path.startswith(("/usr", "/bin", "/lib"))]


def _bound(option: str, paths: list[str]) -> list[str]:
    words = []
    for path in paths:
        how = option.replace("--bind", "--dev-bind") if _is_below(path, "/dev") else option
        words += [how, path, path]
    return words


def _hidden(path: str) -> list[str]:
    if os.path.isdir(path):
        return ["--tmpfs", path]
    return ["--ro-bind", os.devnull, path] if os.path.isfile(path) else []


def _is_below(path: str, directory: str) -> bool:
    return bool(directory) and (path == directory or path.startswith(directory.rstrip("/") + "/"))
