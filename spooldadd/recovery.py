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

A record of another node is left alone, unless that node is lost (`takeover` says when, or a person): then it gets a name of
our own first (`seizing`), which shuts out whoever may still work on it, and is a row of the same table.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from spooldadd import claim, damage, durable, filing, layout, lifecycle, mark, names, notice, record, seizing, spares, spool
from spooldadd.claiming import is_of_claimer, remove_unclaimed
from spooldadd.errors import ClaimLost, SpoolError
from spooldadd.lifecycle import Policy
from spooldadd.log import Log
from spooldadd.strays import Strays
from spooldadd.takeover import Lost
from spooldadd.twins import remove_twin, remove_twin_by_lease


class Found(Enum):
    """What recovery found a record to be."""

    RUNNING = "running"
    ENDING = "ending"  # lost, but some of its processes are left and are being ended: look again in a moment
    UNCLAIMED = "unclaimed"
    FINISHED = "finished"
    NEVER_STARTED = "never-started"
    LOST = "lost"
    FOREIGN = "foreign"
    GONE = "gone"
    IN_TROUBLE = "in-trouble"


@dataclass(frozen=True)
class Owner:
    """Whose a record is: the node and the boot that claimed it; empty where nothing says so."""

    node: str
    boot_id: str


@dataclass(frozen=True)
class Context:
    """What recovery needs besides the record: the spool as this node sees it, and how to read a spec's policy."""

    spool: spool.Spool
    log: Log
    policy: Callable[[str], Policy]  # from the path of a spec, valid or not
    work_root: str = ""  # where this node's work directories of this spool are, if it is known
    note: Callable[[str, str, Mapping[str, object]], None] = lambda _name, _path, _result: None  # before a record is filed
    lost: Callable[[str], Lost | None] = lambda _node: None  # whether records of another node may be taken over, and why
    is_own_boot: Callable[[str], bool] = lambda _boot_id: True  # or a machine that uses our name has that one
    strays: Strays = field(default_factory=Strays)
    owners: dict[str, Owner] = field(default_factory=dict)  # of the records that we have met: it never changes
    alone: set[str] = field(default_factory=set)  # those of others that were asked about a twin of their spec
    told: dict[str, str] = field(default_factory=dict)  # the trouble with single records that the log has heard of

    @property
    def places(self) -> layout.Layout:
        """The paths of the spool."""
        return self.spool.places


def recover_all(context: Context, skip: frozenset[str] = frozenset()) -> dict[str, Found]:
    """Recover every record in `running/` but those in `skip`; return what each was found to be.

    A record in trouble is told once and left, or filed where it is wrecked; the others do not suffer.
    """
    found = {}
    entries = sorted(os.listdir(context.places.running))
    for known in (context.owners, context.told):
        for name in known.keys() - set(entries):
            del known[name]
    context.alone.intersection_update(entries)
    for entry in entries:
        if entry in skip:
            continue
        try:
            found[entry] = recover(context, entry)
        except ClaimLost:
            found[entry] = Found.GONE
        except (SpoolError, OSError) as error:
            found[entry] = _note_trouble(context, entry, error)
    return found


def _note_trouble(context: Context, entry: str, error: Exception) -> Found:
    """Say once what keeps a record from being recovered; one that is itself at fault will never be, and is filed."""
    name = names.parse_record_name(entry)
    if name is not None and damage.is_own_fault(error):
        try:
            return _set_aside(context, name, error)
        except (SpoolError, ClaimLost, OSError) as more:
            error = more
    if context.told.get(entry) != str(error):
        context.told[entry] = str(error)
        context.log.warning("spool-trouble", record=entry, error=str(error), then="trying again, and saying no more of it")
    return Found.IN_TROUBLE


def _set_aside(context: Context, name: names.RecordName, error: Exception) -> Found:
    """Raises: SpoolError, ClaimLost, OSError."""
    lease = claim.take_existing(context.places, str(name))
    if lease is None:
        return Found.RUNNING
    try:
        reason = damage.set_aside(context.spool, name, error)
    finally:
        os.close(lease)
    context.log.error("lost", job=name.job, attempt=name.attempt, state=layout.FAILED, reason=reason)
    return Found.LOST


def recover(context: Context, name: str) -> Found:
    """Find out what this record is, and bring it back to a known state. Raises: ClaimLost, SpoolError, OSError."""
    parsed = names.parse_record_name(name)
    if parsed is None:
        context.log.debug("foreign", record=name)
        return Found.FOREIGN
    lost = None
    owner = _owner(context, parsed)  # before its lease is tried: of forty nodes each looks at the records of all
    if not _is_ours(context, owner):
        lost = None if owner.node == context.spool.holder.node else context.lost(owner.node)
        if lost is None:
            if _may_have_twin(context, parsed, owner):
                remove_twin_by_lease(context.places, parsed, context.log)
            return Found.FOREIGN
    lease = claim.take_existing(context.places, name)
    if lease is None:
        return Found.RUNNING
    try:
        if os.path.lexists(os.path.join(context.places.running, name)):
            return _recover_held(context, parsed, lease) if lost is None else _take_over(context, parsed, lost, lease)
        filing.remove_lock(context.places, name)
        return Found.GONE
    finally:
        os.close(lease)


def remove_stale_locks(context: Context) -> int:
    """Remove lock files whose record is filed; return how many. A claim that is just being made holds its lock."""
    removed = 0
    for entry in os.listdir(context.places.locks):
        if spares.is_left(entry):
            durable.unlink_if_there(os.path.join(context.places.locks, entry))
            continue
        if entry.endswith(layout.NOTES_SUFFIX):
            _remove_stale_notes(context, entry)
            continue
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


def _remove_stale_notes(context: Context, entry: str) -> None:
    """Notes are made under the lease of a record that is there."""
    name = entry.removesuffix(layout.NOTES_SUFFIX)
    if names.parse_record_name(name) is not None and not os.path.lexists(os.path.join(context.places.running, name)):
        durable.unlink_if_there(os.path.join(context.places.locks, entry))


def _may_have_twin(context: Context, name: names.RecordName, owner: Owner) -> bool:
    """Tell whether another node of this machine had this record before the last boot; each is asked about once.

    We would else claim its spec in the root before that node looks.
    """
    is_old = bool(owner.node) and owner.boot_id != context.spool.holder.boot_id
    if not is_old or context.spool.format.kind != mark.LOCAL or str(name) in context.alone:
        return False
    context.alone.add(str(name))
    return True


def _owner(context: Context, name: names.RecordName) -> Owner:
    """Return whose this record is: as its claim says, or, before that is written, as its lock file does."""
    known = context.owners.get(str(name))
    if known is not None:
        return known
    claimed = record.read_claim(os.path.join(context.places.running, str(name)), name.attempt)
    if claimed is None:
        holder = claim.read_holder(context.places, str(name))
        return Owner(holder.node, holder.boot_id)
    owner = Owner(str(claimed.get("node", "")), str(claimed.get("boot_id", "")))
    context.owners[str(name)] = owner
    return owner


def _is_ours(context: Context, owner: Owner) -> bool:
    here = context.spool.holder
    if not owner.node:  # where others may claim, too, somebody may just be about to say who he is
        return context.spool.format.kind == mark.LOCAL
    return owner.node == here.node and (owner.boot_id == here.boot_id or context.is_own_boot(owner.boot_id))


def _recover_held(context: Context, name: names.RecordName, lease: int) -> Found:
    """Decide under the lease on a record of our own."""
    path = os.path.join(context.places.running, str(name))
    holder = claim.read_holder(context.places, str(name), lease)
    claimed = record.read_claim(path, name.attempt)
    here = context.spool.holder
    found = _put_right(context, name, claimed)
    if found is not None:
        return found
    same_boot = holder.is_here(here.node, here.boot_id)
    if same_boot and holder.has_live_process():
        return Found.RUNNING
    if claimed is None or _is_unstarted(holder, same_boot=same_boot):
        return _requeue(context, name)
    # The claim says where it ran, and not the lock file, which may be lost or damaged.
    old_name = _name_of_old(name, claimed)
    if here.boot_id == claimed.get("boot_id") and not context.strays.are_gone(context.places, old_name, context.log):
        return Found.ENDING
    return _file_lost(context, name, claimed)


def _take_over(context: Context, name: names.RecordName, lost: Lost, held: int) -> Found:
    """Decide under the lease on a record of a lost node: make it ours, then do as with our own."""
    path = os.path.join(context.places.running, str(name))
    holder = claim.read_holder(context.places, str(name), held)
    claimed = record.read_claim(path, name.attempt)
    if _runs_here(context, name, holder, claimed):
        return Found.RUNNING
    taken, lease = seizing.seize(context.spool, name, holder, claimed)
    context.log.warning(
        "taken-over", job=name.job, attempt=name.attempt, node=lost.node, record=str(taken), silent_s=lost.silent_s
    )
    try:
        found = _put_right(context, taken, claimed, lost)
        if found is not None:
            return found
        if claimed is None or _is_unstarted(holder, same_boot=False):
            return _requeue(context, taken)
        return _file_lost(context, taken, claimed, lost)
    finally:
        os.close(lease)


def _runs_here(context: Context, name: names.RecordName, holder: claim.Holder, claimed: Mapping[str, object] | None) -> bool:
    """Tell whether anything of another node's record lives on this very machine. Of other machines nothing is known."""
    if context.spool.holder.boot_id != (claimed or {}).get("boot_id", holder.boot_id):
        return False
    return holder.has_live_process() or not context.strays.are_gone(context.places, _name_of_old(name, claimed), context.log)


def _name_of_old(name: names.RecordName, claimed: Mapping[str, object] | None) -> str:
    """Return what the record was called when its job was started: a takeover that died half-way has left another name."""
    taken_from = str((claimed or {}).get("taken_from", ""))
    return taken_from if names.parse_record_name(taken_from) is not None else str(name)


def _put_right(
    context: Context, name: names.RecordName, claimed: dict[str, object] | None, lost: Lost | None = None
) -> Found | None:
    """Do what needs no look at processes: remove what was never claimed, file what has a result. Else None."""
    path = os.path.join(context.places.running, str(name))
    if spool.spec_status(path) is None and _holds_nothing(path):
        return _remove(context, name)
    record.remove_temporaries(path)
    remove_twin(context.places, path, claimed or {}, context.log)
    result = record.read_result(path, name.attempt)
    return None if result is None else _file_finished(context, name, result, lost)


def _is_unstarted(holder: claim.Holder, *, same_boot: bool) -> bool:
    """Tell whether nothing can have been started. Of another boot or machine only where that is noted on disk first."""
    return not holder.supervisor_pid and (same_boot or bool(holder.notes_first))


def _holds_nothing(path: str) -> bool:
    return all(is_of_claimer(entry) or entry.startswith(".") for entry in os.listdir(path))


def _remove(context: Context, name: names.RecordName) -> Found:
    remove_unclaimed(os.path.join(context.places.running, str(name)))
    filing.remove_lock(context.places, str(name))
    context.log.info("removed", job=name.job, attempt=name.attempt, reason="it was never claimed")
    return Found.UNCLAIMED


def _file_finished(context: Context, name: names.RecordName, result: dict[str, object], lost: Lost | None = None) -> Found:
    state = str(result.get("state", layout.FAILED))
    if state not in (layout.DONE, layout.FAILED, layout.WAITING):
        state = layout.FAILED
    path = os.path.join(context.places.running, str(name))
    context.note(str(name), path, {**result, "state": state})
    _silence(context, path, name, lost)
    context.spool.file_held(str(name), state)
    context.log.info("recovered", job=name.job, attempt=name.attempt, state=state, outcome=result.get("outcome"))
    return Found.FINISHED


def _requeue(context: Context, name: names.RecordName) -> Found:
    path = os.path.join(context.places.running, str(name))
    claimed = record.read_claim(path, name.attempt)
    if claimed is not None and os.path.lexists(os.path.join(path, layout.CANCEL)):
        return _file_lost(context, name, claimed)  # it would run although a person has cancelled it
    context.spool.requeue_held(str(name))
    context.log.info("put-back", job=name.job, attempt=name.attempt, reason="it was claimed and never started")
    return Found.NEVER_STARTED


def _silence(context: Context, path: str, name: names.RecordName, lost: Lost | None) -> None:
    """We tell of this end now: what the lost node had left for its own notifier would be a second mail."""
    if lost is None:
        return
    taken_from = str((record.read_claim(path, name.attempt) or {}).get("taken_from", ""))
    if names.parse_record_name(taken_from) is not None:
        durable.unlink_if_there(notice.path_of(context.places, lost.node, taken_from))


def _file_lost(context: Context, name: names.RecordName, claimed: dict[str, object], lost: Lost | None = None) -> Found:
    path = os.path.join(context.places.running, str(name))
    policy = context.policy(layout.find_spec(path))
    outcome = lifecycle.CANCELLED if os.path.lexists(os.path.join(path, layout.CANCEL)) else lifecycle.LOST
    decision = lifecycle.decide(outcome, name.attempt, policy, random.random())
    reason = "it was cancelled while it ran"
    if outcome == lifecycle.LOST:
        reason = _lost_sentence(_what_happened(context, claimed, lost), policy, decision)
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
        "workdir": _work_dir_left(context, name) if lost is None else None,
        "next_attempt_at": record.moment(now_s) if decision.state == lifecycle.WAITING else None,
    }
    record.rotate(path, name.attempt, sync=context.spool.sync)
    record.write_result(path, result, sync=context.spool.sync)
    context.note(str(name), path, result)
    _silence(context, path, name, lost)
    context.spool.file_held(str(name), decision.state)
    context.log.error(
        "lost", job=name.job, attempt=name.attempt, node=claimed.get("node"), state=decision.state, reason=reason
    )
    return Found.LOST


def _work_dir_left(context: Context, name: names.RecordName) -> str | None:
    path = os.path.join(context.work_root, str(name))
    return path if context.work_root and os.path.isdir(path) else None


def _what_happened(context: Context, claimed: dict[str, object], lost: Lost | None) -> str:
    node = claimed.get("node")
    if lost is not None:
        return lost.words
    if claimed.get("boot_id") != context.spool.holder.boot_id:
        return f"the machine `{node}` went down while it ran"
    return f"its supervisor on `{node}` ended without a result"


def _lost_sentence(what: str, policy: Policy, decision: lifecycle.Decision) -> str:
    if decision.state == lifecycle.WAITING:
        return f"{what}; it is restartable, so it runs again"
    if policy.restartable:
        return f"{what}; it is restartable, but no attempts are left"
    return f"{what}; nobody knows how far it got, and its spec does not say `restartable = true`"
