"""Start the builder for one attempt and take its answer. Light: the launcher loads it.

The builder is a fresh program, so it is always of the installed release, and what is heavy (HTTP, archives, package
installers) is never in a supervisor. It reads its plan from standard input, prints the build log, and leaves an answer.

If we die here: the kernel tells the builder, which ends with all that it started; what it had half-made is of no use to
anybody, and the attempt is lost as any other.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys

from spooldadd import deputy, durable, layout, lifecycle, process, spawn, workdir
from spooldadd.account import Account
from spooldadd.environment import edits
from spooldadd.guard import CLAIM_LOST, Eye, Guard, Verdict
from spooldadd.log import Log
from spooldadd.plan import Limits, Plan
from spooldadd.tree import Tree

PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Runs the package that lies beside us, however it was installed, and nothing from the current directory.
START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('spooldadd.environment', run_name='__main__')"
)

# The builder's own bound on a reason, and what an answer may be: an environment of the longest PATH is some kilobytes.
MAX_REASON, MAX_ANSWER_BYTES = 1_200, 1 << 20


class Built:
    """What the builder answered: process variables for the job, and a hold on its Python environment."""

    __slots__ = ("environ", "environment", "hold_fd")

    def __init__(self) -> None:
        self.environ: dict[str, str] = {}
        self.environment = ""
        self.hold_fd: int | None = None

    @property
    def hold_fds(self) -> tuple[int, ...]:
        """The descriptors to keep open until the job has ended."""
        return () if self.hold_fd is None else (self.hold_fd,)


def ready(plan: Plan, environ: dict[str, str]) -> Built | None:
    """Hold the environment that the worker found ready; None where there is none, or it went meanwhile."""
    if not plan.environment:
        return None
    built = Built()
    built.hold_fd = hold(plan.environment_marker(plan.environment))
    if built.hold_fd is None:
        return None
    search = os.path.join(plan.environment_environ["VIRTUAL_ENV"], "bin") + os.pathsep + environ.get("PATH", os.defpath)
    built.environ = {**plan.environment_environ, "PATH": search}
    built.environment = plan.environment
    return built


def open_log(record: str) -> int:
    """Open the build log of an attempt. Raises: OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(os.path.join(record, layout.BUILD_LOG), flags, 0o644)


def build(plan: Plan, environ: dict[str, str], log: int, cancel: str | Eye) -> Built | Verdict:
    """Build what the plan asks for, in its work directory; return what the job needs, or why there is nothing to run.

    What is printed goes to the descriptor `log`; the build ends when the file `cancel` appears. Raises: OSError;
    CannotStart where Python itself is gone.
    """
    answer_path = f"{plan.work_dir}.built"
    if plan.account is not None:
        return _build_as(plan, plan.account, environ, (log, cancel, answer_path))
    try:
        verdict, status = _run(plan, environ, log, cancel, answer_path)
        return _judge_answer(plan, _read_answer(answer_path), status) if verdict is None else verdict
    finally:
        durable.unlink_if_there(answer_path)
        _remove_bundle(plan)


def _build_as(plan: Plan, who: Account, environ: dict[str, str], rest: tuple[int, str | Eye, str]) -> Built | Verdict:
    """Do the same as another user: with a cache of his own, and an answer that he could have written himself."""
    log, cancel, answer_path = rest
    workdir.make_private(plan.cache_dir, who.uid, who.gid)
    verdict, status = _run(plan, environ, log, cancel, answer_path)
    if verdict is not None:
        return verdict

    def take() -> bytes:
        with open(answer_path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            data = file.read(MAX_ANSWER_BYTES)
        os.unlink(answer_path)
        return data

    try:
        data = deputy.act(who, take)
    except OSError:
        data = b""
    return _judge_answer(plan, data if isinstance(data, bytes) else b"", status)


def _remove_bundle(plan: Plan) -> None:
    """A builder that was killed has left it there."""
    try:
        workdir.remove(plan.work_dir + workdir.BUNDLE_SUFFIX)
    except OSError:
        pass  # the worker removes it when it is old


def _run(
    plan: Plan, environ: dict[str, str], log: int, cancel: str | Eye, answer_path: str
) -> tuple[Verdict | None, int | None]:
    """Run the builder to its end; return why it was ended, if it was, and its status."""
    told = os.memfd_create("build")
    try:
        durable.write_all(told, plan.build or b"")
        os.lseek(told, 0, os.SEEK_SET)
        command = [sys.executable, "-I", "-c", START, PACKAGE_PARENT, "-", answer_path]
        tree = Tree(_start(plan, command, environ, spawn.Streams(told, log, log)))
    finally:
        os.close(told)
    guard = Guard(tree, _limits(plan), [log], cancel)
    verdict = guard.watch()
    tree.end(plan.limits.kill_after_s, guard.is_flooded)
    if verdict is not None:
        is_ours = verdict.outcome not in (lifecycle.CANCELLED, CLAIM_LOST)
        verdict = Verdict(lifecycle.BUILD, f"its build: {verdict.sentence}") if is_ours else verdict
    return verdict, tree.status


def _start(plan: Plan, command: list[str], environ: dict[str, str], streams: spawn.Streams) -> int:
    """Raises: CannotStart; SpoolError."""
    if plan.account is None:
        return spawn.spawn(sys.executable, command, environ, streams)
    start = deputy.Start(plan.account, command, environ, streams)
    start.program = sys.executable
    return deputy.launch(start)


def _limits(plan: Plan) -> Limits:
    """A build has limits of its own for downloads and steps; only a flood of output is common to both."""
    limits = Limits()
    limits.output_bytes = plan.limits.output_bytes
    limits.kill_after_s = plan.limits.kill_after_s
    return limits


def _read_answer(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _judge_answer(plan: Plan, data: bytes, status: int | None) -> Built | Verdict:
    """Take nothing on trust: a step of the build, as the same user, could have written it as well."""
    try:
        answer = json.loads(data)
        is_ok, reason = bool(answer["ok"]), str(answer["reason"])
        environ = {str(name): str(value) for name, value in answer["environ"].items()}
        key = str(answer["environment"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Verdict(lifecycle.BUILD, f"its build ended without an answer ({_ended(status)}); see `{layout.BUILD_LOG}`")
    if not is_ok:
        shown = "".join(letter if letter.isprintable() else " " for letter in reason[:MAX_REASON])
        return Verdict(lifecycle.BUILD, f"its build failed: {shown}")
    built = Built()
    built.environ = environ
    built.environment = key if key.isalnum() else ""
    if built.environment and plan.account is None:
        built.hold_fd = hold(plan.environment_marker(built.environment))
    elif built.environment:
        plan.environment = built.environment  # the job itself holds it, see `deputy`: the file is the user's own
    return built


def hold(marker: str) -> int | None:
    """Hold a Python environment while the job runs, so that no clean-up takes it; None where it cannot be held."""
    try:
        fd = os.open(marker, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    os.set_inheritable(fd, True)
    return fd


def put_edits_aside(plan: Plan, built: Built, log: Log) -> None:
    """Where the job has edited its Python environment, let no further job use that: the next one has it built anew.

    Whoever puts it aside tells it: another job's supervisor, or the upkeep, may have been quicker.
    """
    if not built.environment:
        return
    root = os.path.dirname(plan.environment_marker(built.environment))

    def put_aside() -> str:
        name = edits.first_edit(root)
        return name if name and edits.put_aside(root) else ""

    try:
        name = put_aside() if plan.account is None else str(deputy.act(plan.account, put_aside))
        if name:
            log.warning("environment-edited", job=plan.job, path=os.path.join(root, name), then=edits.THEN)
    except OSError as error:  # nobody else's environment is ours to judge
        log.debug("environment-edited", job=plan.job, path=root, error=str(error))


def _ended(status: int | None) -> str:
    if status is not None and os.WIFSIGNALED(status):
        return f"killed by {process.signal_name(os.WTERMSIG(status))}"
    return "no exit code" if status is None else f"exit code {os.waitstatus_to_exitcode(status)}"
