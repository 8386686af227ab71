"""Find the place for the control groups of jobs: a scope of the service manager, our own group, or none.

One scope for each launcher, not one for each job: it costs one call over D-Bus when the worker starts, and from then on a
job's group is a directory in it. The launcher moves there before it forks anything, so no supervisor and no job is ever in
the group of the service, and stopping, restarting or removing the service touches none of them. systemd removes a scope with
all that is in it when its last process has ended.

If we die here: a scope with the launcher in it, which ends with us; then it is gone, or stays for the jobs in it.

Source: decision record 0052; org.freedesktop.systemd1(5), Delegate= in systemd.resource-control(5).
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass

from spooldadd import cgroup, names, process
from spooldadd.log import Log

AUTO, SCOPE, LEAF, OFF = "auto", "scope", "leaf", "off"
WISHES = (AUTO, SCOPE, LEAF, OFF)
CREW = "crew"  # the group of the launcher, the supervisors, and the jobs that need none of their own
CONTROLLERS = ("cpu", "memory", "pids")
SLICE = "spooldadd.slice"
# The manager answers in milliseconds. One that is busy with a boot must not hold up the jobs.
CALL_S, MOVE_S, TICK_S = 10.0, 10.0, 0.005
BOOTED = "/run/systemd/system"  # sd_booted(3)
NO_LIMIT = str(2**64 - 1)


@dataclass(frozen=True)
class Place:
    """Where jobs get their groups. Without a base there is none, and the process tree has to do."""

    kind: str = "tree"
    base: str = ""
    controllers: tuple[str, ...] = ()
    why: str = ""  # why it is nothing better

    @property
    def sentence(self) -> str:
        """What is in force, for a person."""
        if not self.base:
            return f"process tree ({self.why})" if self.why else "process tree"
        kept = ", ".join(self.controllers) or "none"
        why = f" ({self.why})" if self.why else ""
        return f"{self.kind} `{self.base}`, limits that the kernel keeps: {kept}{why}"


class Grouping:
    """Places the launcher of one worker, and removes what dead supervisors left."""

    def __init__(self, wish: str, spool_root: str, log: Log) -> None:
        self._wish = wish
        self._root = spool_root
        self._log = log
        self.place = Place()

    def take_in(self, launcher: int) -> None:
        """Put a launcher that has forked nothing yet where its jobs shall be."""
        self.place = find(self._wish, launcher, self._root)
        self._log.info(
            "control-groups", in_force=self.place.kind, base=self.place.base or None, reason=self.place.why or None
        )

    def sweep(self, spool_id: str, running: str) -> None:
        """Remove the groups of attempts that are over, also below the scopes of earlier workers."""
        base = self.place.base
        for one in [base, *_sibling_scopes(base)] if base else []:
            cgroup.sweep(one, spool_id, running)


def find(wish: str, launcher: int, spool_root: str) -> Place:
    """Put the launcher into a scope where one may be made; else look for a place in our own group; else say why not."""
    if wish == OFF:
        return Place(why='`control_groups = "off"`')
    own = own_group()
    if own is None:
        return Place(why="no cgroup v2 is mounted here")
    why = ""
    if wish in (AUTO, SCOPE):
        try:
            return _scope(launcher, spool_root)
        except OSError as error:
            why = f"no scope: {error.strerror or error}"
    if wish in (AUTO, LEAF):
        return _leaf(own, why)
    return Place(why=why)


def in_force(launcher: int, wish: str) -> Place:
    """Return the place that a living launcher has got, or would get for its jobs. Changes nothing."""
    own = own_group(launcher)
    if wish == OFF or own is None:
        return find(OFF if own else wish, launcher, "")
    scope = os.path.dirname(own)
    if os.path.basename(own) == CREW and scope.endswith(".scope"):
        return Place(SCOPE, scope, _enabled(scope))
    base, why = _own_base(own)
    return Place(why=why) if why else Place(LEAF, base, _enabled(base))


def own_group(pid: int | str = "self") -> str | None:
    """Return the directory of a process's group in the mounted tree of cgroup v2; None where there is none."""
    lines = process.read_text(f"/proc/{pid}/cgroup").splitlines()
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    mounted = _mount_point()
    if path is None or mounted is None:
        return None
    root, point = mounted
    if root != "/":
        path = "/" + os.path.relpath(path, root)
    found = os.path.normpath(point + path)
    return found if os.path.isdir(found) else None


def unit_of(group: str) -> str | None:
    """Return the service in whose group this one is, as its manager calls it."""
    parts = [part for part in group.split("/") if part.endswith(".service")]
    return parts[-1] if parts else None


def bus_of(group: str, uid: int) -> list[str] | None:
    """Return how to reach the manager that may make a scope for a process of this group; None where none may.

    A user's manager is asked for a user's service only: it ends with the last session, and would take the jobs along.
    """
    if not os.path.isdir(BOOTED):
        return None
    if f"/user@{uid}.service/" in group + "/":
        return ["--user"]
    return [] if uid == 0 else None


def _scope(launcher: int, spool_root: str) -> Place:
    """Make a scope around the launcher. Raises: OSError that says why not."""
    bus = bus_of(own_group() or "", os.getuid())
    if bus is None:
        raise OSError(0, "no service manager makes one for this process")
    unit = f"spooldadd-{names.safe_name(spool_root.strip('/'))[:60]}-{launcher}-{names.random_part()}.scope"
    _call(bus, unit, launcher, spool_root)
    base = _wait_for_move(launcher, unit)
    crew = os.path.join(base, CREW)
    os.mkdir(crew)
    _write(os.path.join(crew, "cgroup.procs"), str(launcher))
    return Place(SCOPE, base, _enable(base))


def _call(bus: list[str], unit: str, launcher: int, spool_root: str) -> None:
    properties = [
        *("PIDs", "au", "1", str(launcher)),
        *("Delegate", "b", "true"),
        *("Slice", "s", SLICE),
        *("Description", "s", f"jobs of the spool {spool_root}"),
        *("TasksMax", "t", NO_LIMIT),
        # Ended before what the spool lies on goes away, at the end of the machine only.
        *("After", "as", "2", "local-fs.target", "remote-fs.target"),
        *("CollectMode", "s", "inactive-or-failed"),
    ]
    command = [
        *("busctl", "--quiet", *bus, "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"),
        *("org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))"),
        *(unit, "fail", "7", *properties, "0"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_S, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired as error:
        raise OSError(0, f"the service manager did not answer within {CALL_S:g} s") from error
    if done.returncode != 0:
        raise OSError(0, f"busctl: {done.stderr.strip() or done.returncode}")


def _wait_for_move(launcher: int, unit: str) -> str:
    """The manager has only noted the wish when the call returns."""
    deadline = time.monotonic() + MOVE_S
    while time.monotonic() < deadline:
        group = own_group(launcher) or ""
        if os.path.basename(group) == unit:
            return group
        time.sleep(TICK_S)
    raise OSError(0, f"`{unit}` was asked for and does not hold the launcher")


def _leaf(own: str, why: str) -> Place:
    base, objection = _own_base(own)
    if objection:
        return Place(why=", and ".join(filter(None, [why, objection])))
    # Controllers are only enabled where systemd never puts a process: it could not start the service again while a job runs.
    return Place(LEAF, base, _enable(base) if base != own else _enabled(base), why)


def _own_base(own: str) -> tuple[str, str]:
    """Find a place in our own group, or why there is none: beside us where the unit has a subgroup for us, else below us."""
    parent = os.path.dirname(own)
    base = parent if parent.endswith((".service", ".scope")) else own  # `DelegateSubgroup=`, systemd 254
    if not os.access(base, os.W_OK) or not os.access(os.path.join(base, "cgroup.procs"), os.W_OK):
        return base, f"`{base}` is not ours to write"
    if os.path.isdir(BOOTED) and not _is_delegated(base):
        return base, f"`{base}` is the service manager's (no `Delegate=`)"
    return base, ""


def _is_delegated(base: str) -> bool:
    try:
        return os.getxattr(base, "user.delegate") == b"1"
    except OSError:
        return False


def _enable(base: str) -> tuple[str, ...]:
    for name in CONTROLLERS:
        try:
            _write(os.path.join(base, "cgroup.subtree_control"), f"+{name}")
        except OSError:
            continue
    return _enabled(base)


def _enabled(base: str) -> tuple[str, ...]:
    found = process.read_text(os.path.join(base, "cgroup.subtree_control")).split()
    return tuple(name for name in CONTROLLERS if name in found)


def _sibling_scopes(base: str) -> list[str]:
    """Return the scopes of other launchers, where ours is one."""
    directory, own = os.path.split(base)
    if not own.endswith(".scope"):
        return []
    try:
        entries = os.listdir(directory)
    except OSError:
        return []
    return [
        os.path.join(directory, entry)
        for entry in entries
        if entry.startswith("spooldadd-") and entry.endswith(".scope") and entry != own
    ]


def _mount_point() -> tuple[str, str] | None:
    """Return which part of the tree of cgroup v2 is mounted, and where."""
    for line in process.read_text("/proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.startswith("cgroup2 "):
            parts = fields.split()
            return parts[3], parts[4]
    return None


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
