"""What the service manager and the kernel do for jobs here: where their control groups are, and a restart, tried out.

If we die here while a restart is tried: a probe job that ends by its timeout, and its gate below `.spool/`, which is of no
use to anybody then.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from spooldadd import claim, durable, grouping, installing, layout, names, process, record
from spooldadd.doctor.model import Check, Subject, failed, ok, warned
from spooldadd.inspect import workers
from spooldadd.launcher import COMM
from spooldadd.tomltext import dumps

# A quiet file is taken after some seconds, on a share after more; systemd restarts in less.
WAIT_S, TICK_S = 120.0, 0.1
PROBE_TIMEOUT = "15m"
T = TypeVar("T")


def check_control_groups(subject: Subject) -> Iterator[Check]:
    """Where do jobs with limits get a control group, and what does the kernel keep there?"""
    pids = _workers_here(subject.places)
    if not pids:
        yield ok("control-groups", "no worker of this machine serves here, so none is in force")
    for pid in pids:
        place = grouping.in_force(_launcher_of(pid), subject.config.control_groups)
        limits = subject.config.limits
        lost = [name for name in ("cpus", "tasks") if getattr(limits, name) is not None and not _keeps(place, name)]
        sentence = f"in force for the worker {pid}: {place.sentence}"
        if lost:
            remedy = "run the worker as a service: `spooldadd service install`; or take them out of the configuration"
            yield warned("control-groups", f"{sentence}; nobody keeps `limits.{lost[0]}`", remedy)
        else:
            yield ok("control-groups", sentence)


def prove_restart(places: layout.Layout) -> Iterator[Check]:
    """Run a probe job, restart the service of the worker meanwhile, and say what became of both."""
    pids = _workers_here(places)
    group = (grouping.own_group(pids[0]) if pids else None) or ""
    target = installing.Target(is_user=f"/user@{os.getuid()}.service/" in group)
    unit = grouping.unit_of(group)
    if unit is None or not _is_main_process(target, unit, pids[0]):
        what = "the worker is no service of systemd" if pids else "no worker of this machine serves here"
        remedy = (
            "`spooldadd service install --now`; without a service, stop and start the worker by hand and see its jobs go on"
        )
        yield failed("restart", f"{what}, so a restart of it cannot be tried", remedy)
        return
    name = f"doctor-restart-{names.random_part()}"
    gate = os.path.join(places.internal, f"tmp-{name}")
    try:
        yield from _try(places, target, (unit, name, gate), pids[0])
    finally:
        durable.write(gate, b"", sync=False)  # whatever happened, the probe may go
        _until(lambda: _record(places, (layout.DONE, layout.FAILED), name))
        os.unlink(gate)
        for path in filter(None, [_record(places, (layout.DONE, layout.FAILED), name)]):
            shutil.rmtree(path, ignore_errors=True)


def _is_main_process(target: installing.Target, unit: str, pid: int) -> bool:
    """A worker may run within a service that is none of its own, such as cron: that is not ours to restart."""
    return target.is_live and target.systemctl("show", "--value", "--property=MainPID", unit).stdout.strip() == str(pid)


def _try(places: layout.Layout, target: installing.Target, probe: tuple[str, str, str], worker: int) -> Iterator[Check]:
    unit, name, gate = probe
    _drop(places, name, gate)
    job = _until(lambda: _job_of(places, name))
    if not job:
        yield failed("restart", f"the probe `{name}` was not started within {WAIT_S:g} s", f"`spooldadd explain {name}`")
        return
    start, where = process.start_ticks(job), grouping.own_group(job) or "no group"
    target.must("restart", unit)
    now = _until(lambda: next((pid for pid in _workers_here(places) if pid != worker), 0))
    if not now:
        yield failed("restart", f"`{unit}` was restarted, and no new worker serves here", f"`systemctl status {unit}`")
    elif start is None or not process.is_alive(job, start):
        yield failed(
            "restart", f"the probe job {job} did not live through it", "see KillMode= of the unit: it must be `process`"
        )
    else:
        durable.write(gate, b"", sync=False)
        filed = _until(lambda: _record(places, (layout.DONE, layout.FAILED), name))
        result = (record.read_table(os.path.join(filed, layout.RESULT)) if filed else None) or {}
        yield _judge(
            f"`{unit}` was restarted (worker {worker}, now {now}); the probe job {job} in `{where}` went on", result
        )


def _judge(sentence: str, result: dict[str, object]) -> Check:
    if (result.get("outcome"), result.get("attempt")) == ("success", 1):
        return ok("restart", f"{sentence} and was filed: success, attempt 1")
    remedy = "please report this, with the log of the worker"
    return failed("restart", f"{sentence}, but was filed as {result.get('outcome', 'nothing')}", remedy)


def _drop(places: layout.Layout, name: str, gate: str) -> None:
    """Drop the probe as the spool's owner would."""
    spec = {
        "command": ["/bin/sh", "-c", 'until test -e "$1"; do sleep 0.1; done', "sh", gate],
        "limits": {"timeout": PROBE_TIMEOUT, "memory": "256M", "tasks": 64},
        "keep": {"workdir": "never"},
        "notify": {"on": []},
    }
    path = os.path.join(places.root, f"{name}.toml")
    durable.write(path, dumps(spec).encode(), sync=False)
    owner = os.stat(places.root)
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)


def _job_of(places: layout.Layout, name: str) -> int:
    running = _record(places, (layout.RUNNING,), name)
    return claim.read_holder(places, os.path.basename(running)).job_pid if running else 0


def _record(places: layout.Layout, states: tuple[str, ...], name: str) -> str:
    for state in states:
        directory = places.state_directory(state)
        for entry in os.listdir(directory):
            if entry.startswith(f"{name}."):
                return os.path.join(directory, entry)
    return ""


def _until(find: Callable[[], T]) -> T:
    """Return what is found, or the last empty answer when the time is over."""
    deadline = time.monotonic() + WAIT_S
    while not (found := find()) and time.monotonic() < deadline:
        time.sleep(TICK_S)
    return found


def _workers_here(places: layout.Layout) -> list[int]:
    """Return the workers that serve from this machine."""
    boot_id = process.boot_id()
    serving = [node.table for node in workers.all_nodes(places) if node.is_serving]
    return [int(str(table["pid"])) for table in serving if table.get("boot_id") == boot_id and "pid" in table]


def _launcher_of(worker: int) -> int:
    """Return the launcher of a worker; jobs are where it is."""
    for pid in process.children(worker):
        if process.read_text(f"/proc/{pid}/comm").strip() == COMM:
            return pid
    return worker


def _keeps(place: grouping.Place, limit: str) -> bool:
    return {"cpus": "cpu", "tasks": "pids"}[limit] in place.controllers


CHECKS = {"control-groups": check_control_groups}
