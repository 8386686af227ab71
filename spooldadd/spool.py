"""The directories of a spool, and every move between them. The one module that claims.

A claim makes the record first and renames the spec into it last, holding the lease all the while, so no reader ever finds
a claimed job that nobody holds. The return code of that rename does not say who won, because a network file system may
answer "no such file" for a rename that has happened: the one whose target exists has won.

If we die here: `recovery` has a row for each state in which a claim, a put-back or a filing can stop.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from spooldadd import claim, claiming, durable, filesystem, filing, layout, mark, names, origin, record
from spooldadd.errors import ClaimLost, SpoolError, TakenBefore
from spooldadd.nursery import Nursery


@dataclass(frozen=True)
class Claim:
    """A job that this process holds: its record below `running/`, and the descriptor of its lease."""

    name: names.RecordName
    path: str
    lease: int
    queue: str
    submitted_at_s: float
    claimed_at_s: float
    source: str
    spec: str = ""  # its path, where it is known
    taken: Mapping[str, object] = field(default_factory=dict)  # what it takes of its node, as the claim says it

    @property
    def job(self) -> names.JobId:
        """The job's id."""
        return self.name.job

    @property
    def record(self) -> str:
        """The record's name below `running/`."""
        return str(self.name)

    @property
    def attempt(self) -> int:
        """The number of the attempt that this claim is for."""
        return self.name.attempt


class Spool:
    """One spool, as a process on this node uses it. Holds no state but its paths: all truth is on disk."""

    def __init__(self, root: str, marked: mark.Format, holder: claim.Holder) -> None:
        self.places = layout.Layout(root, marked.id)
        self.places.is_common = marked.many_users
        self.format = marked
        self._nursery = Nursery(may_make=False)
        self.spares: list[str] = []  # paths of lock files that supervisors have left to be used again
        # Of a drop that only this node ever claims it is enough if its claim lasts before anything starts: without a claim
        # it goes back. Where others look for whose it is, its claim has to last before the spec is in it.
        self._claims_last_late = marked.kind == mark.LOCAL
        # And there the supervisor makes it last, with the result, that a drop has left its place: see `claiming.make_last`.
        self._leaves_late = self._claims_last_late and not marked.many_users
        # Another node may have to know whether anything was started: on a shared spool that is noted before it is.
        notes_first = marked.kind == mark.SHARED and marked.durability == "power"
        self.holder = replace(holder, notes_first=1) if notes_first else holder

    def work_root(self, work_dir: str) -> str:
        """Return where on the node's own disk the work directories of this spool's jobs are."""
        return os.path.join(work_dir, names.safe_name(self.format.id or os.path.basename(self.places.root)))

    @functools.cached_property
    def _is_near(self) -> bool:
        """Tell whether this is a disk of this machine, so that no call waits for a server."""
        return not filesystem.is_network(filesystem.kind(self.places.root))

    @property
    def claimer(self) -> dict[str, str]:
        """Who claims here, as it stands in a claim."""
        holder = self.holder
        worker = f"{holder.worker_pid}.{holder.worker_start}"
        return {"node": holder.node, "worker": worker, "boot_id": holder.boot_id}

    @property
    def sync(self) -> bool:
        """Tell whether moves here must survive a power cut."""
        return self.format.durability == "power"

    # -- claims

    def claim_drop(self, source: str, name: str, queue: str, taken: Mapping[str, object] | None = None) -> Claim:
        """Claim a spec that waits in the root or in an inbox, as a new job of this name.

        Raises: ClaimLost where somebody else took it or it is gone; SpoolError where the spool cannot be written.
        """
        submitted_at_s = self._dropped_at_s(source)
        of_job, token = names.random_parts()
        record_name = names.RecordName(self.job_of(source, name, submitted_at_s, of_job), 1, token)
        if self._nursery.is_slow:
            self._nursery.look(self.places)
        claimed = self._prepare(record_name, queue, submitted_at_s, source, taken)
        target = claimed.spec
        try:
            self._make_record(claimed.path)
            self._bind(claimed.path, source)
            is_waited_for = self.sync and not self._claims_last_late
            record.write_first_claim(claimed.path, self._claim_table(claimed), sync=is_waited_for)
            won = claiming.rename_in(os.path.join(self.places.root, source), target)
        except OSError as error:
            self._withdraw(claimed)
            raise self.trouble(error) from error
        if not won:
            self._withdraw(claimed)
            raise ClaimLost(f"`{source}` is no longer in `{self.places.root}`: somebody else has it")
        self._make_last(claimed)
        return claimed

    def claim_waiting(self, job: str, queue: str, taken: Mapping[str, object] | None = None) -> Claim:
        """Claim a record that waits for its next attempt.

        Raises: ClaimLost where somebody else took it; SpoolError where the spool cannot be written.
        """
        waiting = os.path.join(self.places.waiting, job)
        number = record.last_attempt(waiting) + 1
        record_name = names.RecordName(names.JobId(job), number, names.random_part())
        claimed = self._prepare(record_name, queue, record.submitted_at_s(waiting, job), "", taken)
        try:
            won = claiming.rename_in(waiting, claimed.path)
        except OSError as error:
            self.drop_lease(claimed)
            raise self.trouble(error) from error
        if not won:
            self.drop_lease(claimed)
            raise ClaimLost(f"`{job}` is no longer in `{self.places.waiting}`: somebody else has it")
        if record.last_attempt(claimed.path) >= number:
            self.file(claimed.record, claimed.lease, layout.WAITING)
            raise ClaimLost(f"`{job}` had another attempt between our look and our claim")
        try:
            if self.sync:
                durable.sync_move(waiting, claimed.path)
            record.rotate(claimed.path, number, sync=self.sync)
            record.write_claim(claimed.path, self._claim_table(claimed), sync=self.sync)
        except OSError as error:
            os.close(claimed.lease)  # recovery finds a claim that never started, and puts it back
            raise self.trouble(error) from error
        return claimed

    def put_back(self, claimed: Claim) -> None:
        """Return a claimed job that was not started: to its own name in the root while that is free, else to waiting.

        Raises: SpoolError; then the record stays in `running/` with a free lease, and recovery puts it back.
        """
        if self._is_left_cancelled(claimed.record, claimed.lease):
            return
        spec = layout.find_spec(claimed.path)
        try:
            if claimed.attempt == 1 and claimed.source and self._rename_back(spec, claimed.source):
                claiming.remove_unclaimed(claimed.path)
                self.drop_lease(claimed)
                return
        except OSError as error:
            os.close(claimed.lease)
            raise self.trouble(error) from error
        self.requeue(claimed.record, claimed.lease)

    def requeue(self, record_name: str, lease: int) -> None:
        """Put a claimed record whose attempt never started into `waiting/`, its attempt not counted.

        Takes over the lease and lets go of it. Raises: ClaimLost, SpoolError.
        """
        if self._is_left_cancelled(record_name, lease):
            return
        try:
            self.requeue_held(record_name)
        finally:
            os.close(lease)

    def _is_left_cancelled(self, record_name: str, lease: int) -> bool:
        """Leave a job that a person has cancelled meanwhile to recovery, which files it: back in the queue it would run."""
        is_cancelled = durable.is_listed(os.path.join(self.places.running, record_name, layout.CANCEL))
        if is_cancelled:
            os.close(lease)
        return is_cancelled

    def file(self, record_name: str, lease: int, state: str) -> str:
        """Move a record to the directory of this state, remove its lock, let go of its lease; return where it is.

        Raises: ClaimLost, SpoolError; the lease is let go of then, too.
        """
        try:
            return self.file_held(record_name, state)
        finally:
            os.close(lease)

    def requeue_held(self, record_name: str) -> str:
        """Do as `requeue` does, under a lease that the caller keeps. Raises: ClaimLost, SpoolError."""
        parsed = names.parse_record_name(record_name)
        assert parsed is not None, record_name
        path = os.path.join(self.places.running, record_name)
        self._make_source_last(record_name)
        try:
            claimed = record.read_claim(path, parsed.attempt)
            if claimed is not None:
                if str(claimed.get("source", "")).endswith(layout.HELD_SUFFIX):
                    durable.write(os.path.join(path, layout.HOLD), b"", sync=self.sync)  # it was held before, so it still is
                durable.unlink_if_there(os.path.join(path, layout.CLAIM))
        except OSError as error:
            raise self.trouble(error) from error
        return self.file_held(record_name, layout.WAITING)

    def file_held(self, record_name: str, state: str) -> str:
        """Do as `file` does, under a lease that the caller keeps. Raises: ClaimLost, SpoolError."""
        self._make_source_last(record_name)
        path = filing.file_record(self.places, record_name, state, sync=self.sync)
        filing.remove_lock(self.places, record_name)
        return path

    def drop_lease(self, claimed: Claim) -> None:
        """Remove the lock file of a claim that came to nothing, and let go of the lease."""
        filing.remove_lock(self.places, claimed.record)
        os.close(claimed.lease)

    # -- looking

    def job_of(self, source: str, name: str, submitted_at_s: float, random: str) -> names.JobId:
        """Return the id of the job that this drop becomes: the one in its name, while no job has that; else a new one."""
        bare = layout.bare_name(source).rpartition("/")[2]  # who cancels a held drop claims it too
        given = names.source_job_id(bare.rpartition(".")[0], "")
        if given is not None and not self.has_job(given):
            return given
        return names.new_job_id(name, submitted_at_s, random)

    def has_job(self, job: str) -> bool:
        """Tell whether a job of this id is known already, anywhere."""
        for state in (layout.WAITING, layout.DONE, layout.FAILED):
            if os.path.lexists(os.path.join(self.places.state_directory(state), job)):
                return True
        return any(entry.startswith(job + ".") for entry in os.listdir(self.places.running))

    def is_here(self) -> bool:
        """Tell whether the spool is mounted and in place."""
        return filing.is_spool_here(self.places)

    def trouble(self, error: OSError) -> SpoolError:
        """Say what a failed call means for the operator."""
        where = error.filename2 or error.filename or self.places.root
        return SpoolError(f"`{self.places.root}` cannot be used now: {error.strerror} (`{os.fsdecode(where)}`)")

    # -- steps of a claim

    def _dropped_at_s(self, source: str) -> float:
        """A rename into the root sets the change time, whatever tool did it and whatever times it gave the file."""
        try:
            return os.lstat(os.path.join(self.places.root, source)).st_ctime
        except FileNotFoundError as error:
            raise TakenBefore(f"`{source}` is no longer in `{self.places.root}`: somebody else has it") from error
        except OSError as error:
            raise self.trouble(error) from error

    def _prepare(
        self,
        record_name: names.RecordName,
        queue: str,
        submitted_at_s: float,
        source: str,
        taken: Mapping[str, object] | None,
    ) -> Claim:
        path = os.path.join(self.places.running, str(record_name))
        try:
            lease = claim.take_new(self.places, str(record_name), self.holder, self.spares)
        except OSError as error:
            raise self.trouble(error) from error
        spec = os.path.join(path, layout.spec_entry(source)) if source else ""
        return Claim(record_name, path, lease, queue, submitted_at_s, time.time(), source, spec, taken or {})

    def _make_record(self, path: str) -> None:
        if self.sync or not self._leaves_late:
            claiming.make_own(path, 0o700 if self.format.many_users else 0o777)
        else:
            self._nursery.make(self.places, path, 0o777)

    def _claim_table(self, claimed: Claim) -> dict[str, object]:
        moments = claimed.submitted_at_s, claimed.claimed_at_s
        return claiming.table(self.claimer, claimed.name, claimed.queue, claimed.source, moments, claimed.taken)

    def _bind(self, path: str, source: str) -> None:
        """Note in a new record that one node alone may run its job, now and later: an empty file of the inbox's name."""
        node, text = layout.drop_node(source), b""
        if self.format.kind == mark.SYNCED:  # a sync tool may bring it back: it is to be known then
            node, text = node or self.holder.node, origin.text(origin.of_drop(self.places.root, source))
        if node:
            durable.write(os.path.join(path, layout.inbox(node)), text, sync=self.sync)

    def _withdraw(self, claimed: Claim) -> None:
        """Remove a record that got no spec."""
        try:
            claiming.remove_unclaimed(claimed.path)
        except FileNotFoundError:
            self.drop_lease(claimed)  # it was not even made
        except OSError:
            os.close(claimed.lease)  # recovery removes a record without a spec; the lock file says whose it was
        else:
            self.drop_lease(claimed)

    def _make_last(self, claimed: Claim) -> None:
        """Make the claim of a drop last: nothing of the job may start before."""
        if not self.sync:
            return
        try:
            claiming.make_last(claimed.path, with_claim=self._claims_last_late, at_once=self._is_near)
            if not self._leaves_late:
                durable.sync_directory(self._directory_of(claimed.source))
        except OSError as error:
            os.close(claimed.lease)  # recovery finds a claim that never started, and puts it back
            raise self.trouble(error) from error

    def source_left(self, claimed: Claim) -> str:
        """Return the directory that a drop has left where this is still to be made last, before its record is filed."""
        is_left = self.sync and self._leaves_late and claimed.attempt == 1
        return self._directory_of(claimed.source) if is_left else ""

    def _directory_of(self, source: str) -> str:
        """Return the directory of a drop: the root, or an inbox in it, whatever a job wrote into its claim."""
        node = layout.drop_node(source)
        return os.path.join(self.places.root, layout.inbox(node)) if node else self.places.root

    def _make_source_last(self, record_name: str) -> None:
        """Make it last that a drop is not in the root any more, before its record leaves `running/`. Raises: SpoolError.

        Else a power cut now would show the spec in the root, too, and nobody would know any more that it is the same one.
        """
        parsed = names.parse_record_name(record_name)
        if not self.sync or parsed is None or parsed.attempt > 1:
            return
        path = os.path.join(self.places.running, record_name)
        source = str((record.read_claim(path, 1) or {}).get("source", ""))
        try:
            durable.sync_directory(self._directory_of(source))
        except FileNotFoundError:
            pass  # an inbox that is gone holds nothing
        except OSError as error:
            raise self.trouble(error) from error

    def _rename_back(self, spec: str, source: str) -> bool:
        """Never over what was dropped under this name meanwhile."""
        target = os.path.join(self.places.root, source)
        try:
            durable.rename_new(spec, target)
        except OSError as error:
            is_inbox_gone = error.errno == errno.ENOENT and not os.path.lexists(os.path.dirname(target))
            if is_inbox_gone or error.errno in (errno.EEXIST, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                return False
            raise
        if self.sync:
            durable.sync_move(spec, target)
        return True


def open_spool(root: str, holder: claim.Holder | None = None) -> Spool:
    """Return the spool in this directory.

    Raises: NotASpool where it is none; SpoolError where it is of a newer release or cannot be read.
    """
    root = os.path.abspath(root)
    return Spool(root, mark.read(root), holder or claim.Holder())


def spec_status(record_path: str) -> os.stat_result | None:
    """Return what is in the place of a record's spec, links not followed, or None where nothing is."""
    try:
        return os.lstat(layout.find_spec(record_path))
    except FileNotFoundError:
        return None


def is_plain_file(status: os.stat_result) -> bool:
    """Tell whether this is a regular file."""
    return stat.S_ISREG(status.st_mode)
