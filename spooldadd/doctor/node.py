"""Checks of this machine: where jobs run, what the kernel allows, who serves, which programs there are."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import tempfile
from collections.abc import Iterator

from spooldadd import confine, filesystem
from spooldadd.doctor.model import Check, Subject, failed, listed, ok, warned
from spooldadd.inspect import workers
from spooldadd.release import __version__
from spooldadd.spec.models import Sandbox

# A worker has about twenty files open, and some for each running job: its supervisor's channel, its lease while it is
# handed over, its log while somebody reads it.
FILES, FILES_A_JOB = 100, 4
# Of the user's inotify instances: above this share the next program may get none.
MOST = 0.9
PROGRAMS = {"uv": "builds Python environments faster", "rsync": "brings specs to nodes", "ssh": "is what rsync goes over"}


def check_work_directory(subject: Subject) -> Iterator[Check]:
    """Can jobs run where the configuration says?"""
    path = subject.config.work_dir
    if os.path.commonpath([os.path.realpath(path), os.path.realpath(subject.root)]) == os.path.realpath(subject.root):
        yield failed("work-directory", f"`{path}` is inside the spool", "set `work_dir` to a place on the node's own disk")
        return
    made = _first_missing(path)
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="tmp-doctor-", dir=path) as probe:
            is_runnable = _can_run(probe)
    except OSError as error:
        remedy = "set `work_dir`, or let this user write there"
        yield failed("work-directory", f"`{path}` cannot be used: {error.strerror}", remedy)
        return
    finally:
        _remove_made(made, path)
    kind = filesystem.kind(path if os.path.isdir(path) else os.path.dirname(made or path))
    if not is_runnable:
        remedy = "mount it without `noexec`, or set `work_dir`; jobs cannot run programs that they build"
        yield warned("work-directory", f"programs in `{path}` cannot be run", remedy)
    elif filesystem.is_network(kind):
        yield warned("work-directory", f"`{path}` is on a network file system ({kind})", "set `work_dir` to a local disk")
    else:
        yield ok("work-directory", f"jobs can run in `{path}`")


def check_open_files(subject: Subject) -> Iterator[Check]:
    """May a process have as many files open as a worker needs?"""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES + FILES_A_JOB * subject.config.jobs
    if soft == resource.RLIM_INFINITY:
        yield ok("open-files", "a process may have any number of files open")
    elif soft < needed:
        sentence = f"a process may have {soft} files open; {subject.config.jobs} jobs at once need {needed}"
        yield warned("open-files", sentence, f"`ulimit -n {needed}`, or `LimitNOFILE=` in the service's unit")
    else:
        yield ok("open-files", f"a process may have {soft} files open")


def check_inotify(subject: Subject) -> Iterator[Check]:
    """Are the user's inotify instances nearly used up?"""
    most = _number("/proc/sys/fs/inotify/max_user_instances")
    used = _inotify_instances()
    if not subject.config.intake.events or most is None:
        return
    if used >= most * MOST:
        sentence = f"this user has {used} of {most} inotify instances in use"
        yield warned("inotify", sentence, "`sysctl fs.inotify.max_user_instances=1024`, or set `intake.events = false`")
    else:
        yield ok("inotify", f"this user has {used} of {most} inotify instances in use")


def check_workers(subject: Subject) -> Iterator[Check]:
    """Does somebody serve the spool?"""
    nodes = workers.all_nodes(subject.places)
    serving = [node for node in nodes if node.is_serving]
    for node in serving:
        release = node.table.get("release")
        if node.state in ("away", "troubled"):
            yield warned("worker", f"the worker of `{node.name}` says that it is {node.state}", "look into its log")
        elif release != __version__:
            yield warned(
                "worker", f"the worker of `{node.name}` is of release {release}, this is {__version__}", "restart it"
            )
        else:
            yield ok("worker", f"the worker of `{node.name}` is {node.state}, {node.jobs} jobs at once")
    if not serving:
        before = f"; {listed([node.name for node in nodes])} did before" if nodes else ""
        yield warned(
            "worker", f"nobody serves this spool, as far as this machine sees{before}", "`spooldadd worker` serves it"
        )


def check_software(subject: Subject) -> Iterator[Check]:
    """Which releases, which programs?"""
    del subject
    yield ok("release", f"spooldadd {__version__}, Python {platform.python_version()}, Linux {platform.release()}")
    found = [name for name in PROGRAMS if shutil.which(name)]
    missing = [f"`{name}` ({PROGRAMS[name]})" for name in PROGRAMS if name not in found]
    without = f"; not here: {', '.join(missing)}" if missing else ""
    yield ok("programs", f"found {listed(found) if found else 'none of the helpful ones'}{without}")


def check_sandbox(subject: Subject) -> Iterator[Check]:
    """Can jobs be put into a sandbox? Only a node whose configuration asks for one cannot do without."""
    try:
        confine.prove()
    except confine.CannotConfine as error:
        if subject.config.sandbox == Sandbox():
            yield ok("sandbox", f"no sandbox can be made, and the configuration asks for none ({error})")
        else:
            yield failed("sandbox", f"no job can be run: {error}", confine.NAMESPACES_REMEDY)
        return
    yield ok("sandbox", "a sandbox can be made for jobs")


def _first_missing(path: str) -> str | None:
    """Return the topmost directory that is missing on the way to this one."""
    missing = None
    while not os.path.lexists(path):
        missing, path = path, os.path.dirname(path)
    return missing


def _remove_made(made: str | None, path: str) -> None:
    """Leave no directory that was not there before."""
    while made is not None and os.path.isdir(path):
        try:
            os.rmdir(path)
        except OSError:
            return
        if path == made:
            return
        path = os.path.dirname(path)


def _can_run(directory: str) -> bool:
    return not os.statvfs(directory).f_flag & os.ST_NOEXEC


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _inotify_instances() -> int:
    """Count those that processes of this user hold. A descriptor that several processes share counts for each."""
    count = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        directory = f"/proc/{pid}/fd"
        try:
            if os.stat(directory).st_uid == os.geteuid():
                count += sum(_leads_to_inotify(os.path.join(directory, fd)) for fd in os.listdir(directory))
        except OSError:
            continue  # it has ended, or is not ours to look at
    return count


def _leads_to_inotify(path: str) -> bool:
    try:
        return "inotify" in os.readlink(path)
    except OSError:
        return False


CHECKS = {
    "work-directory": check_work_directory,
    "open-files": check_open_files,
    "inotify": check_inotify,
    "worker": check_workers,
    "sandbox": check_sandbox,
    "software": check_software,
}
