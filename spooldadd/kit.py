"""What an attempt is given beyond its plan: secrets as files, a sandbox around its command. Light: the launcher loads it.

Secrets are files in the supervisor's memory. The job finds links to them in a directory beside its work directory; in a
sandbox, the files themselves in a directory that is nowhere else. They end with the supervisor, however that ends: no disk
ever had them, and there is nothing to remove.

If we die here: a directory of links that lead nowhere; the worker removes it with old work directories.
"""

from __future__ import annotations

import fcntl
import os

from spooldadd import confine, durable, lifecycle, secret, spawn, workdir
from spooldadd.bare import signal
from spooldadd.guard import Guard, Verdict
from spooldadd.plan import Equipment, Limits
from spooldadd.tree import Tree

SUFFIX = ".secrets"
# Shorter ones would be found in any text.
MIN_HIDDEN = 4
HIDDEN = "[hidden]"

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from spooldadd.ending import Ending
    from spooldadd.plan import Plan


class CannotEquip(spawn.CannotStart):
    """A secret is missing, or the sandbox cannot be made: the command was not started at all."""

    outcome = lifecycle.BUILD

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, 0)


class Kit(Equipment):
    """The secrets and the sandbox of one attempt."""

    __slots__ = ("cell", "directory", "fds", "values")

    def __init__(self, work_top: str) -> None:
        self.directory = work_top + SUFFIX
        self.fds: dict[str, int] = {}
        self.values: dict[str, bytes] = {}
        self.cell: confine.Cell | None = None

    def close(self) -> None:
        """Let go of all of it."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds, self.values = {}, {}
        if self.cell is not None:
            self.cell.close()
            self.cell = None
        try:
            workdir.remove(self.directory)
        except OSError:
            pass  # nearly always it is not there; else the worker removes it


def equip(plan: Plan, environ: dict[str, str], paths: tuple[str, str], streams: spawn.Streams) -> tuple[str, list[str]]:
    """Return the program and the words to start, with all that the spec asks for made ready.

    Changes `environ` and `streams` to what the process that is started gets. Raises: CannotStart, CannotEquip; OSError.
    """
    if not plan.secrets and plan.sandbox is None:
        return _program(plan, environ), plan.command
    release(plan)
    kit = plan.kit = Kit(plan.work_top)
    _read_secrets(plan, kit, os.path.join(paths[0], "cancel"))
    environ |= _variables(plan, kit)
    if plan.sandbox is None:
        if plan.account is None:
            _link(kit)
        else:
            os.mkdir(kit.directory, 0o711)  # empty for all but the job: see `shown`
        return _program(plan, environ), plan.command
    return _confine(plan, kit, environ, (paths[0], streams))


def shown(plan: Plan) -> tuple[str, dict[str, bytes]] | None:
    """Return what a job of another user is to see where nobody else sees anything: a directory, and its files."""
    kit = _of(plan)
    return (kit.directory, kit.values) if kit is not None and kit.values and kit.cell is None else None


def passed(plan: Plan) -> tuple[int, ...]:
    """Return the descriptors that the process that is started has to inherit, beside its streams."""
    kit = _of(plan)
    return kit.cell.fds if kit is not None and kit.cell is not None else ()


def started(plan: Plan) -> None:
    """Keep to ourselves again what only the process that was just started was to inherit."""
    kit = _of(plan)
    if kit is not None and kit.cell is not None:
        kit.cell.pass_on(is_passed=False)


def settle(plan: Plan, ending: Ending) -> None:
    """Say of a command in a sandbox how it ended itself, and of a sandbox that could not be made why."""
    kit = _of(plan)
    cell = kit.cell if kit is not None else None
    if cell is None:
        return
    noted = cell.noted()
    if "status" in noted:
        ending.status = noted["status"]
    elif "error" in noted:
        ending.status = spawn.NOT_FOUND << 8
        ending.verdict = Verdict(lifecycle.EXIT, _not_started(plan, noted["error"]))
    elif "started" in noted:
        ending.status = signal.SIGKILL  # the first process heeds no other, so all in there were killed
    elif ending.verdict is None:
        ending.status = None
        sentence = f"its sandbox could not be made, and it was not run without: {cell.complaint()}; {confine.REMEDY}"
        ending.verdict = Verdict(lifecycle.BUILD, sentence)


def release(plan: Plan) -> None:
    """Let go of what the attempt was given."""
    kit = _of(plan)
    if kit is not None:
        kit.close()
        plan.kit = None


def hide(plan: Plan, text: str) -> str:
    """Return a text without the values of the job's secrets."""
    kit = _of(plan)
    if kit is None:
        return text
    for value in sorted(kit.values.values(), key=len, reverse=True):
        shown = value.decode("utf-8", "replace").strip()
        if len(shown) >= MIN_HIDDEN:
            text = text.replace(shown, HIDDEN)
    return text


def _program(plan: Plan, environ: dict[str, str]) -> str:
    """Find it by our own rights; by those of another user only a process of his can."""
    return spawn.find_program(plan.command, environ) if plan.account is None else ""


def _of(plan: Plan) -> Kit | None:
    return plan.kit if isinstance(plan.kit, Kit) else None


# -- secrets


def _read_secrets(plan: Plan, kit: Kit, cancel: str) -> None:
    sources = secret.from_table(plan.secret_sources) if plan.secrets else secret.Sources()

    def run(words: list[str], timeout_s: float) -> bytes:
        return _printed(words, timeout_s, cancel, sources)

    for key, name, _ in plan.secrets:
        try:
            kit.values[key] = secret.read(name, sources, run)
        except secret.NoSecret as error:
            raise CannotEquip(str(error)) from error
        kit.fds[key] = _sealed(key, kit.values[key])


def _sealed(name: str, data: bytes) -> int:
    """Return a file in memory that nobody can change, not even its owner."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    durable.write_all(fd, data)
    os.fchmod(fd, 0o400)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def _variables(plan: Plan, kit: Kit) -> dict[str, str]:
    found = {"SPOOLDADD_SECRETS": kit.directory} if plan.secrets else {}
    for key, name, is_in_environ in plan.secrets:
        found[f"{key.upper()}_FILE"] = os.path.join(kit.directory, key)
        if is_in_environ:
            data = kit.values[key].removesuffix(b"\n").removesuffix(b"\r")
            if b"\0" in data:
                raise CannotEquip(f"the secret `{name}` holds a NUL, so it cannot be a variable; use `${key.upper()}_FILE`")
            found[key.upper()] = os.fsdecode(data)
    return found


def _link(kit: Kit) -> None:
    os.mkdir(kit.directory, 0o700)
    for key, fd in kit.fds.items():
        os.symlink(f"/proc/{os.getpid()}/fd/{fd}", os.path.join(kit.directory, key))


def _printed(words: list[str], timeout_s: float, cancel: str, sources: secret.Sources) -> bytes:
    """Return what a command prints; nothing of it, nor of its complaints, is ever shown."""
    environ = dict(os.environ)
    if sources.credentials:
        environ["CREDENTIALS_DIRECTORY"] = sources.credentials
    nothing, printed = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), os.memfd_create("printed")
    limits = Limits()
    limits.timeout_s, limits.output_bytes, limits.kill_after_s = timeout_s, secret.MAX_BYTES, 1.0
    try:
        program = spawn.find_program(words, environ)
        tree = Tree(spawn.spawn(program, words, environ, spawn.Streams(nothing, printed, nothing)))
        guard = Guard(tree, limits, [printed], cancel)
        verdict = guard.watch()
        tree.end(limits.kill_after_s, guard.is_flooded)
        if verdict is not None:
            raise secret.NoSecret(f"`{words[0]}` was ended: {verdict.sentence}")
        if tree.status:
            raise secret.NoSecret(f"`{' '.join(words)}` failed with exit code {os.waitstatus_to_exitcode(tree.status)}")
        return os.pread(printed, secret.MAX_BYTES + 1, 0)
    except spawn.CannotStart as error:
        raise secret.NoSecret(str(error)) from error
    finally:
        os.close(nothing)
        os.close(printed)


# -- the sandbox


def _confine(plan: Plan, kit: Kit, environ: dict[str, str], where: tuple[str, spawn.Streams]) -> tuple[str, list[str]]:
    record, streams = where
    assert plan.sandbox is not None
    rules = confine.from_table(plan.sandbox)
    rules.shown = [*rules.shown, *confine.interpreter_of(environ)]
    missing = next((path for path in (*rules.read, *rules.write) if not os.path.exists(path)), None)
    if missing and plan.account is None:  # to others we do not say what is there
        raise CannotEquip(f"`{missing}`, which `[sandbox]` names, is not on this node; make it, or leave it out")
    try:
        own_environ = None if plan.account is None else plan.account.environ
        cell = kit.cell = confine.Cell(rules, plan.work_dir, record, own_environ)
    except confine.CannotConfine as error:
        raise CannotEquip(f"{error}; it was not run without") from error
    if kit.fds:
        os.mkdir(kit.directory, 0o700)
        cell.add_secrets(kit.directory, kit.fds)
    own = {name: value for name, value in environ.items() if name.startswith("SPOOLDADD_")}
    words = cell.command(plan.command, environ, streams.stderr, own)
    environ.clear()
    environ |= cell.environ
    streams.stderr = cell.stderr
    cell.pass_on(is_passed=True)
    return words[0], words


def _not_started(plan: Plan, number: int) -> str:
    where = "what its sandbox shows it of the system, `[sandbox]` says"
    return f"the command `{plan.command[0]}` cannot be started in its sandbox: {os.strerror(number)}; {where}"
