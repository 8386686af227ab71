"""Bring back what a crash left behind: one row of the crash table for each state a record can be in.

Recovery is the normal start of a worker, and runs again whenever one of its supervisors ends early. Every step is taken
under the record's lease, so that two workers never recover one record, and each step leaves a state that is a row again.

| in `running/` | meaning | what is done |
|---|---|---|
| lease held | running | nothing |
| no spec, nothing of a job | the claim never happened | removed |
| a result of this attempt | finished, not filed | filed |
| no claim of this attempt, or no supervisor took it on this boot | never started | back to `waiting/`, not counted |
| lease free, a process of it alive | running; its descriptor was closed | nothing |
| else | lost | `failed/`, or `waiting/` where the spec says so |
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from spooldadd import claim, filing, layout, lifecycle, names, process, record, spool
from spooldadd.errors import ClaimLost, SpoolError
from spooldadd.lifecycle import Policy
from spooldadd.log import Log

# How long left-over processes of a lost attempt get between TERM and KILL. Their supervisor is dead, so the spec's own
# `kill_after` is out of reach; ten seconds is its default.
STRAYS_S = 10.0


class Found(Enum):
    """What recovery found a record to be."""

    RUNNING = "running"
    UNCLAIMED = "unclaimed"
    FINISHED = "finished"
    NEVER_STARTED = "never-started"
    LOST = "lost"
    FOREIGN = "foreign"
    GONE = "gone"
    IN_TROUBLE = "in-trouble"


@dataclass(frozen=True)
class Context:
    """What recovery needs besides the record: the spool as this node sees it, and how to read a spec's policy."""

    spool: spool.Spool
    log: Log
    policy: Callable[[str], Policy]  # from the path of a spec, valid or not
    work_root: str = ""  # where this node's work directories of this spool are, if it is known
    note: Callable[[str, str, Mapping[str, object]], None] = lambda _name, _path, _result: None  # before a record is filed
    dead_node: str | None = None  # records of this node too, on a person's word that it is dead

    @property
    def places(self) -> layout.Layout:
        """The paths of the spool."""
        return self.spool.places


def recover_all(context: Context, skip: frozenset[str] = frozenset()) -> dict[str, Found]:
    """Recover every record in `running/` but those in `skip`; return what each was found to be.

    A record in trouble is logged and left; the others do not suffer.
    """
    found = {}
    for entry in sorted(os.listdir(context.places.running)):
        if entry in skip:
            continue
        try:
            found[entry] = recover(context, entry)
        except ClaimLost:
            found[entry] = Found.GONE
        except (SpoolError, OSError) as error:
            context.log.warning("spool-trouble", record=entry, error=str(error), then="trying again later")
            found[entry] = Found.IN_TROUBLE
    return found


def recover(context: Context, name: str) -> Found:
    """Find out what this record is, and bring it back to a known state. Raises: ClaimLost, SpoolError, OSError."""
    parsed = names.parse_record_name(name)
    if parsed is None:
        context.log.debug("foreign", record=name)
        return Found.FOREIGN
    lease = claim.take_existing(context.places, name)
    if lease is None:
        return Found.RUNNING
    try:
        if os.path.lexists(os.path.join(context.places.running, name)):
            return _recover_held(context, parsed)
        filing.remove_lock(context.places, name)
        return Found.GONE
    finally:
        os.close(lease)


def remove_stale_locks(context: Context) -> int:
    """Remove lock files whose record is filed; return how many. A claim that is just being made holds its lock."""
    removed = 0
    for entry in os.listdir(context.places.locks):
        name = entry.removesuffix(".lock")
        if names.parse_record_name(name) is None or os.path.lexists(os.path.join(context.places.running, name)):
            continue
        lease = claim.take_existing(context.places, name)
        if lease is None:
            continue
        if not os.path.lexists(os.path.join(context.places.running, name)):
            filing.remove_lock(context.places, name)
            removed += 1
        os.close(lease)
    return removed


def _recover_held(context: Context, name: names.RecordName) -> Found:
    """Decide under the lease."""
    path = os.path.join(context.places.running, str(name))
    holder = claim.read_holder(context.places, str(name))
    claimed = record.read_claim(path, name.attempt)
    here = context.spool.holder
    if (claimed or {}).get("node", holder.node or here.node) not in (here.node, context.dead_node):
        return Found.FOREIGN
    if spool.spec_status(path) is None and _holds_nothing(path):
        return _remove(context, name)
    record.remove_temporaries(path)
    _remove_twin(context, path, claimed or {})
    result = record.read_result(path, name.attempt)
    if result is not None:
        return _file_finished(context, name, result)
    same_boot = holder.is_here(here.node, here.boot_id)
    if same_boot and holder.has_live_process():
        return Found.RUNNING
    if claimed is None or (same_boot and not holder.supervisor_pid):
        return _requeue(context, name)
    if here.boot_id == claimed.get("boot_id"):  # not as the lock file says, which may be lost or damaged
        end_strays(context, path)
    return _file_lost(context, name, claimed)


def _holds_nothing(path: str) -> bool:
    return all(spool.is_of_claimer(entry) or entry.startswith(".") for entry in os.listdir(path))


def _remove(context: Context, name: names.RecordName) -> Found:
    spool.remove_unclaimed(os.path.join(context.places.running, str(name)))
    filing.remove_lock(context.places, str(name))
    context.log.info("removed", job=name.job, attempt=name.attempt, reason="it was never claimed")
    return Found.UNCLAIMED


def _remove_twin(context: Context, path: str, claimed: dict[str, object]) -> None:
    """After a power cut btrfs may show the spec in the root as well as in the record: one file, two names."""
    source = claimed.get("source")
    inside = spool.spec_status(path)
    if not isinstance(source, str) or not source or inside is None:
        return
    twin = os.path.join(context.places.root, source)
    try:
        outside = os.lstat(twin)
    except OSError:
        return
    if (outside.st_dev, outside.st_ino) == (inside.st_dev, inside.st_ino):
        os.unlink(twin)
        context.log.info("removed", job=claimed.get("job"), source=source, reason="it is the claimed spec itself")


def _file_finished(context: Context, name: names.RecordName, result: dict[str, object]) -> Found:
    state = str(result.get("state", layout.FAILED))
    if state not in (layout.DONE, layout.FAILED, layout.WAITING):
        state = layout.FAILED
    context.note(str(name), os.path.join(context.places.running, str(name)), {**result, "state": state})
    context.spool.file_held(str(name), state)
    context.log.info("recovered", job=name.job, attempt=name.attempt, state=state, outcome=result.get("outcome"))
    return Found.FINISHED


def _requeue(context: Context, name: names.RecordName) -> Found:
    context.spool.requeue_held(str(name))
    context.log.info("put-back", job=name.job, attempt=name.attempt, reason="it was claimed and never started")
    return Found.NEVER_STARTED


def end_strays(context: Context, path: str) -> None:
    """End what the lost attempt left running without its lease: another attempt must not meet it."""
    marker = f"SPOOLDADD_RECORD={path}".encode()
    deadline = time.monotonic() + STRAYS_S
    strays = process.marked(marker)
    if strays:
        context.log.warning("left-processes", record=os.path.basename(path), count=len(strays), then="ending them")
    process.send(strays, 15)
    while strays and time.monotonic() < deadline:
        time.sleep(0.05)
        strays = process.marked(marker)
    process.send(strays, 9)


def _file_lost(context: Context, name: names.RecordName, claimed: dict[str, object]) -> Found:
    path = os.path.join(context.places.running, str(name))
    policy = context.policy(layout.find_spec(path))
    outcome = lifecycle.CANCELLED if os.path.lexists(os.path.join(path, layout.CANCEL)) else lifecycle.LOST
    decision = lifecycle.decide(outcome, name.attempt, policy, random.random())
    reason = "it was cancelled while it ran"
    if outcome == lifecycle.LOST:
        reason = _lost_sentence(context, claimed, policy, decision)
    now_s = time.time()
    result = {
        "job": name.job,
        "name": names.job_name(name.job),
        "queue": claimed.get("queue"),
        "state": decision.state,
        "outcome": outcome,
        "reason": reason,
        "attempt": name.attempt,
        "node": claimed.get("node"),
        "submitted_at": claimed.get("submitted_at"),
        "claimed_at": claimed.get("claimed_at"),
        "finished_at": record.moment(now_s),
        "workdir": _work_dir_left(context, name),
        "next_attempt_at": record.moment(now_s) if decision.state == lifecycle.WAITING else None,
    }
    record.rotate(path, name.attempt, sync=context.spool.sync)
    record.write_result(path, result, sync=context.spool.sync)
    context.note(str(name), path, result)
    context.spool.file_held(str(name), decision.state)
    context.log.error(
        "lost", job=name.job, attempt=name.attempt, node=claimed.get("node"), state=decision.state, reason=reason
    )
    return Found.LOST


def _work_dir_left(context: Context, name: names.RecordName) -> str | None:
    path = os.path.join(context.work_root, str(name))
    return path if context.work_root and os.path.isdir(path) else None


def _lost_sentence(context: Context, claimed: dict[str, object], policy: Policy, decision: lifecycle.Decision) -> str:
    node = claimed.get("node")
    if claimed.get("boot_id") != context.spool.holder.boot_id and node == context.spool.holder.node:
        what = f"the machine `{node}` went down while it ran"
    else:
        what = f"its supervisor on `{node}` ended without a result"
    if decision.state == lifecycle.WAITING:
        return f"{what}; it is restartable, so it runs again"
    if policy.restartable:
        return f"{what}; it is restartable, but no attempts are left"
    return f"{what}; nobody knows how far it got, and its spec does not say `restartable = true`"
