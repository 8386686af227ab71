"""One job's process: start it where it belongs, watch it to its end, note what the kernel said about it.

Light: the launcher loads it. If we die here: the job goes on, and holds the lease.
"""

from __future__ import annotations

import os
import time

from spooldadd import cgroup, deputy, kit, lifecycle, process, spawn, workdir
from spooldadd.account import Account
from spooldadd.bare import signal
from spooldadd.ending import Ending
from spooldadd.guard import Eye, Guard
from spooldadd.plan import Plan
from spooldadd.tree import Tree

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OUT_OF_MEMORY = process.OutOfMemory()
_kept: dict[str, str] = {}


def start(
    plan: Plan,
    logs: tuple[int, int],
    paths: tuple[str, str],
    leaf: cgroup.Leaf | None = None,
    starter: Callable[[str, list[str], dict[str, str], spawn.Streams], int] = spawn.spawn,
) -> int:
    """Start the job's process in its work directory and group with its streams; return its pid.

    `starter` does what `spawn.spawn` does, where nothing else can: it may have another process do it.

    Raises: CannotStart; SpoolError where the machine has no room for it now.
    """
    environ = whole_environ(plan, paths[0])
    limits = spawn.kernel_limits(plan.limits)
    if plan.account is not None:
        return _start_as(plan, plan.account, environ, (logs, paths, limits, leaf))
    try:
        os.chdir(plan.work_dir)
    except OSError as error:
        sentence = f"its work directory `{plan.work_dir}` cannot be entered: {error.strerror}"
        raise spawn.CannotStart(sentence, spawn.NOT_EXECUTABLE) from error
    streams = spawn.Streams(spawn.open_stdin(plan.stdin), *logs)
    try:
        program, command = kit.equip(plan, environ, paths, streams)
        if limits or leaf is not None:
            return spawn.spawn_limited(program, command, environ, streams, limits, leaf)
        return starter(program, command, environ, streams)
    finally:
        kit.started(plan)
        os.chdir("/")  # or nobody could remove the directory or unmount what it is on
        os.close(streams.stdin)


def _start_as(
    plan: Plan,
    who: Account,
    environ: dict[str, str],
    rest: tuple[tuple[int, int], tuple[str, str], dict[int, tuple[int, int]], cgroup.Leaf | None],
) -> int:
    """Do the same for another user, by whose rights the work directory is entered and the program is found."""
    logs, paths, limits, leaf = rest
    streams = spawn.Streams(spawn.open_stdin(plan.stdin), *logs)
    try:
        program, command = kit.equip(plan, environ, paths, streams)
        start = deputy.Start(who, command, environ, streams)
        start.program, start.work_dir, start.limits, start.leaf = program, plan.work_dir, limits, leaf
        start.passed, start.secrets = kit.passed(plan), kit.shown(plan)
        start.hold = plan.environment_marker(plan.environment) if plan.environment else ""
        return deputy.launch(start)
    finally:
        kit.started(plan)
        os.close(streams.stdin)


def keep_environ() -> None:
    """Take our environment as it is now for each job from now on: `os.environ` decodes every value each time it is asked.

    The launcher does it for all its forks: each of them would touch a quarter of a megabyte for it.
    """
    if not _kept:
        _kept.update(os.environ)


def whole_environ(plan: Plan, record_path: str, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the whole environment of the job, on top of our own, which is the worker's, or of another one."""
    if base is None:
        base = (_kept or os.environ) if plan.account is None else plan.account.environ
    found = dict(base)
    found.setdefault("PYTHONUNBUFFERED", "1")  # or the end of a log would be missing when the job is killed
    found.update(plan.environ)
    found["SPOOLDADD_JOB"] = plan.job
    found["SPOOLDADD_ATTEMPT"] = str(plan.attempt)
    found["SPOOLDADD_NODE"] = plan.node
    found["SPOOLDADD_RECORD"] = record_path
    found["SPOOLDADD_CLAIM"] = f"{plan.spool_id}/{plan.record}"  # by this, `strays` finds what is left of a lost attempt
    found["SPOOLDADD_WORKDIR"] = found["PWD"] = plan.work_dir
    if plan.config is not None:
        found["APP_SETTINGS_JSON"] = os.path.join(plan.work_dir, workdir.CONFIG)
    return found


def watch(
    plan: Plan, pid: int, logs: tuple[int, ...], cancel: str | Eye, ending: Ending, leaf: cgroup.Leaf | None = None
) -> None:
    """Wait for the job, end it where a limit or a person says so, and note what the kernel said about it."""
    tree = Tree(pid, leaf)
    guard = Guard(tree, cgroup.watched(plan.limits, leaf), sorted(set(logs)), cancel)
    ending.verdict = guard.watch()
    see_to_end(plan, tree, guard, ending)


def see_to_end(plan: Plan, tree: Tree, guard: Guard, ending: Ending) -> None:
    """End what is left of a job that has ended or has to end, and note what the kernel said about it."""
    if ending.verdict is None:
        ending.ended = time.monotonic()
        if not tree.is_empty and tree.reap():  # usually nothing is left, and looking for it would cost as much as the job
            ending.left = len(tree.members())
            guard.eye.on_wait()
            tree.end(plan.limits.kill_after_s, guard.is_flooded)
    elif ending.verdict.outcome == lifecycle.OOM:
        tree.kill()  # asking it to end would give it the time to take the rest of the memory
    else:
        tree.end(plan.limits.kill_after_s, guard.is_flooded)
    ending.status = tree.status
    kit.settle(plan, ending)
    ending.cpu_s = tree.cpu_s
    ending.max_rss_bytes, ending.at_most_rss_bytes = tree.max_rss_bytes, tree.at_most_rss_bytes
    ending.note_group(tree.leaf)
    ending.stopped = tree.is_told_to_stop
    ending.oom_kills = OUT_OF_MEMORY.kills(is_asked_anew=True) - ending.oom_kills if _is_killed(ending.status) else 0


def _is_killed(status: int | None) -> bool:
    return status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
