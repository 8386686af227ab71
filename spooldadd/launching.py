"""From an entry of the backlog to a plan that a supervisor can run, or to a reason why not."""

from __future__ import annotations

import os
import stat
import time

from spooldadd import (
    discarding,
    durable,
    filesystem,
    forms,
    intake,
    layout,
    lifecycle,
    looking,
    mark,
    names,
    owning,
    planning,
    problems,
    record,
    recovery,
    spares,
    spool,
    trust,
)
from spooldadd.account import Account
from spooldadd.admission import Admission, Admitted, NotAdmitted, bind
from spooldadd.backlog import Entry
from spooldadd.bundle import Brought
from spooldadd.config import Config
from spooldadd.errors import ClaimLost
from spooldadd.kit import SUFFIX as SECRETS
from spooldadd.log import Log
from spooldadd.notices import Notices
from spooldadd.placement import ANYWHERE, NOTHING, Offer, Place, objections
from spooldadd.plan import Plan
from spooldadd.planning import make_plan, policy
from spooldadd.repeats import Repeats
from spooldadd.spec import InvalidSpec, Peek, Spec, parse_file, peek, peek_script
from spooldadd.synced import Synced, is_synced
from spooldadd.units import format_size
from spooldadd.usage import Usage

DAY_S = 86400.0
KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symbolic link; copy the file itself"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


# What only a fault of ours raises. Trouble of the host is an OSError, and is waited for.
FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class NotQuiet(Exception):
    """Somebody still writes to this spec."""


class Refused(Exception):
    """This spec cannot be run as it is. The message is the reason; `details` is for the file beside it."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


class Launching:
    """Claims entries and makes plans, for one spool and one configuration."""

    def __init__(self, the_spool: spool.Spool, config: Config, log: Log) -> None:
        self._spool = the_spool
        self._config = config
        self._log = log
        self.trust = trust.of_config(config.trust.owners, config.trust.groups)
        base = planning.base_environ(config, os.environ) if os.geteuid() == 0 else {}
        self._owning = owning.of_spool(the_spool, config, base, log)
        self.work_root = the_spool.work_root(config.work_dir)
        self._is_far = filesystem.is_network(filesystem.kind(the_spool.places.root))
        self._offer = Offer(config.node, frozenset(config.labels), config.capacity.needs())
        self.usage = Usage(the_spool.places, config.node, self._offer.capacity)
        self.admission = Admission(the_spool.places, config, sync=the_spool.sync)
        self._synced: Synced | None = None
        if is_synced(the_spool.format):
            self._synced = Synced(the_spool, log, config.intake.suffixes, time.time)
        self.repeats = Repeats()
        self.notices = Notices(the_spool, config, log)
        self.recovery = recovery.Context(the_spool, log, read_policy, self.work_root, note=self.notices.leave)

    def entry_of(self, drop: intake.Drop) -> Entry:
        """Return what queueing needs to know about a drop."""
        name, queue, priority, not_before, place = drop.peek
        not_before_s = not_before.timestamp() if not_before else None
        needs = NOTHING if place is ANYWHERE or not self.fits(place) else place.needs
        return Entry(drop.key, False, name, queue, priority, drop.modified_at_s, not_before_s, needs, drop.data)

    def peek_record(self, spec_path: str) -> Peek:
        """Return what queueing needs to know about a record's spec."""
        found = looking.look(spec_path)
        if found is None or found.data is None:
            return peek(b"")
        return peek_script(found.data) if forms.is_script(found.member or spec_path) else peek(found.data)

    def may_run(self, path: str, seen: Peek) -> bool:
        """Tell whether this node may run the job of a waiting record."""
        try:
            bound = layout.bound_nodes(os.listdir(path))
        except OSError:
            return False  # somebody has just claimed it, or it is no directory
        if self._synced is not None:
            return self._config.node in (bound or [self._synced.owner_of(os.path.basename(path), seen.place)])
        return (not bound or self._config.node in bound) and self.fits(seen.place)

    def may_claim(self, drop: intake.Drop) -> bool:
        """Tell whether this node may run the job of a drop. Raises: OSError.

        What fits another node only stays where it is. In a synced spool nobody else would ever take what belongs to us: it
        is claimed, and refused where it does not fit.
        """
        if self._synced is not None:
            return self._synced.is_ours(drop.key, drop.peek.place)
        return self.fits(drop.peek.place)

    def look_around(self, now: float) -> None:
        """Look at what other copies of the spool have brought, where there are any. Raises: OSError."""
        if self._synced is not None:
            self._synced.look(now)

    def fits(self, place: Place) -> bool:
        """Tell whether this node could ever run a job of that place."""
        return place is ANYWHERE or not objections(place, self._offer)

    def claim(self, entry: Entry) -> spool.Claim:
        """Claim the job of this entry. Raises: ClaimLost, SpoolError; NoRoom where others have taken what it needs."""
        with self.usage.taking(entry.needs) as taken:
            if entry.is_record:
                claimed = self._spool.claim_waiting(entry.key, entry.queue, taken.table())
            else:
                claimed = self._spool.claim_drop(entry.key, entry.name, entry.queue, taken.table())
        self._log.info(
            "claimed",
            job=claimed.job,
            attempt=claimed.attempt,
            node=self._spool.holder.node,
            queue=entry.queue,
            source=None if entry.is_record else durable.printable(entry.key),
        )
        return claimed

    def plan(self, claimed: spool.Claim, entry: Entry) -> Plan:
        """Read the claimed spec once; those bytes are what runs.

        Raises: NotQuiet where it is still written to; Refused where it cannot be run; ClaimLost where it is gone.
        """
        owner, account = ("", None) if self._owning is None else self._owned(self._owning, claimed, entry)
        path = claimed.spec or layout.find_spec(claimed.path)
        found = self._look(claimed, entry, path)
        try:
            spec, plan = self.planned(claimed, found, path, account)
            self._refuse_misplaced(spec)
            admitted = self._admitted(claimed, found, spec.queue)
        except InvalidSpec as error:
            raise self._invalid(error) from error
        except FAULTS as error:  # one spec that we cannot cope with must not end the worker, again at each start
            raise Refused(f"spooldadd itself failed on it, please report this: {type(error).__name__}: {error}") from error
        if self._synced is not None:
            self._synced.claimed(claimed.job, claimed.path)
        plan.owner = owner
        self.complete(plan, spec, claimed)
        if admitted is not None:
            bind(plan, admitted)
        return plan

    def complete(self, plan: Plan, spec: Spec, claimed: spool.Claim) -> None:
        """Add what the spool and the configuration say about every plan."""
        plan.sync, plan.source_directory = self._spool.sync, self._spool.source_left(claimed)
        plan.spool_id = self._spool.format.id
        plan.is_shared, plan.is_far = self._spool.format.kind == mark.SHARED, self._is_far
        plan.telling = self.notices.telling(spec, plan.job)

    def planned(self, claimed: spool.Claim, found: looking.Look, path: str, account: Account | None) -> tuple[Spec, Plan]:
        """Read and plan; what was seen before only once. Raises: InvalidSpec."""
        data = found.data or b""
        is_toml = account is None and not found.member and not forms.is_script(path)
        repeated = self.repeats.find(data, claimed, self.work_root) if is_toml else None
        if repeated is not None:
            return repeated
        spec = self._parsed(claimed, found, path)
        brought = Brought(path, found.status) if found.member else None
        came = planning.Came(brought, account)
        plan = make_plan(spec, claimed, self._spool.places.root, self.work_root, self._config, came)
        if is_toml:
            self.repeats.keep(data, spec, plan)
        return spec, plan

    def put_back(self, claimed: spool.Claim, reason: str) -> None:
        """Give up a claim whose spec is not ready. Raises: SpoolError."""
        self._spool.put_back(claimed)
        self._log.info("put-back", job=claimed.job, attempt=claimed.attempt, reason=reason)

    def refuse(self, claimed: spool.Claim, refused: Refused) -> None:
        """File a job that cannot run, with every error beside it. Raises: SpoolError; recovery puts it back then."""
        now_s = time.time()
        result = {
            "job": claimed.job,
            "name": claimed.job.rsplit(".", 2)[0],
            "queue": claimed.queue,
            "state": lifecycle.FAILED,
            "outcome": lifecycle.INVALID,
            "reason": str(refused),
            "attempt": claimed.attempt,
            "node": self._spool.holder.node,
            "submitted_at": record.moment(claimed.submitted_at_s),
            "claimed_at": record.moment(claimed.claimed_at_s),
            "finished_at": record.moment(now_s),
        }
        try:
            if self._synced is not None:
                self._synced.claimed(claimed.job, claimed.path)
            if refused.details:
                details = os.path.join(claimed.path, layout.PROBLEMS)
                durable.write(details, refused.details.encode("utf-8", "backslashreplace"), sync=self._spool.sync)
            record.write_result(claimed.path, result, sync=self._spool.sync)
        except OSError as error:
            os.close(claimed.lease)
            raise self._spool.trouble(error) from error
        self.notices.leave(claimed.record, claimed.path, result)
        self._spool.file(claimed.record, claimed.lease, layout.FAILED)
        self._log.info(
            "filed", job=claimed.job, attempt=claimed.attempt, state="failed", outcome="invalid", reason=str(refused)
        )

    def prune_work_dirs(self, now_s: float) -> None:
        """Remove work directories that nobody needs any more: those that were to go, and old ones of no running record."""
        self._forget_signatures(now_s)
        for path in self.surplus_work_dirs(now_s):
            try:
                discarding.remove(path)
                self._log.info("work-dir-removed", path=path)
            except OSError as error:
                self._log.warning("work-dir-removed", path=path, error=str(error), then="trying again in an hour")

    def _forget_signatures(self, now_s: float) -> None:
        try:
            self.admission.prune(now_s)
        except OSError as error:
            self._log.debug("removed", error=str(error), then="trying again in an hour")

    def surplus_work_dirs(self, now_s: float) -> list[str]:
        """Return the work directories that nobody needs any more."""
        root, keep_s = self.work_root, self._config.keep.work_days * DAY_S
        found = []
        try:
            entries = os.listdir(root)
        except OSError:
            return []
        for entry in entries:
            path = os.path.join(root, entry)
            try:
                is_young = now_s - os.lstat(path).st_mtime < keep_s
            except OSError:
                continue
            if entry.endswith(SECRETS):  # links that have led nowhere since the supervisor ended
                found += [] if self._is_running(entry.removesuffix(SECRETS)) else [path]
            elif spares.is_left(entry) or (not self._is_running(entry) and (not is_young or self._was_to_go(entry))):
                found.append(path)
        return found

    def _is_running(self, record_name: str) -> bool:
        return os.path.lexists(os.path.join(self._spool.places.running, record_name))

    def _was_to_go(self, record_name: str) -> bool:
        """Tell whether a result of this attempt is filed that does not keep the directory: who filed it died too early."""
        parsed = names.parse_record_name(record_name)
        if parsed is None:
            return False
        for state in (layout.DONE, layout.FAILED, layout.WAITING):
            path = os.path.join(self._spool.places.state_directory(state), parsed.job)
            earlier = os.path.join(path, layout.ATTEMPTS, str(parsed.attempt))
            result = record.read_result(path, parsed.attempt) or record.read_result(earlier, parsed.attempt)
            if result is not None:
                return "workdir" not in result
        return False

    def _owned(self, owning_: owning.Owning, claimed: spool.Claim, entry: Entry) -> tuple[str, Account | None]:
        """Make the bytes of the spec ours, before a word of them is read. Raises: NotQuiet, Refused, ClaimLost, OSError."""
        try:
            return owning_.take(claimed, None if entry.is_record else entry.since_s)
        except owning.NotReady as error:
            raise NotQuiet(str(error)) from error
        except owning.NotOwned as error:
            raise Refused(f"`{self._shown(claimed)}` {error}") from error
        except FileNotFoundError as error:
            os.close(claimed.lease)
            raise ClaimLost(f"the spec of `{claimed.record}` is gone") from error

    def _look(self, claimed: spool.Claim, entry: Entry, path: str) -> looking.Look:
        found = looking.look(path)
        if found is None:
            os.close(claimed.lease)
            raise ClaimLost(f"the spec of `{claimed.record}` is gone")
        objection = self.objection(found, looking.most_bytes(path))
        if objection:
            raise Refused(f"`{self._shown(claimed)}` {objection}")
        if found.writer:
            raise NotQuiet("somebody has it open for writing")
        if not entry.is_record and found.status.st_mtime != entry.since_s:
            raise NotQuiet("it was changed while it waited")
        if found.fault:
            raise Refused(f"`{self._shown(claimed)}` {found.fault}")
        return found

    def _admitted(self, claimed: spool.Claim, found: looking.Look, queue: str) -> Admitted | None:
        """Look at the signature of the bytes that run. Raises: Refused; OSError."""
        try:
            return self.admission.admit(found.data or b"", queue, (claimed.job, claimed.path, claimed.attempt))
        except NotAdmitted as error:
            raise Refused(f"`{self._shown(claimed, found)}` {error}") from error

    def _refuse_misplaced(self, spec: Spec) -> None:
        """Raises: Refused. Only a synced spool gives us what does not fit: there it is ours, and nobody else's, for good."""
        found = objections(spec.place.place(), self._offer) if self._synced is not None else []
        if found:
            why = "; ".join(objection.sentence for objection in found)
            raise Refused(
                f"in this synced spool it belongs to the node `{self._config.node}`, which cannot run it: {why}; name the "
                "nodes that can in `[place] node`, or submit it with `--node NAME`"
            )

    @property
    def is_simple(self) -> bool:
        """Tell whether this is a spool of one machine and one user, and no copy of another."""
        is_local = self._spool.format.kind == mark.LOCAL and not self._is_far
        return is_local and self._owning is None and self._synced is None

    def _parsed(self, claimed: spool.Claim, found: looking.Look, path: str) -> Spec:
        own_name = found.member or record.own_name(claimed.path, claimed.job, path)
        return parse_file(found.data or b"", source=self._shown(claimed, found), own_name=own_name)

    def objection(self, found: looking.Look, most_bytes: int) -> str | None:
        """Say why what was dropped is no spec, whatever it says; None where it may be one."""
        mode = found.status.st_mode
        if not stat.S_ISREG(mode):
            for is_kind, what in KINDS:
                if is_kind(mode):
                    return f"is {what}, not a file"
        if found.status.st_size > most_bytes:
            size, most = format_size(found.status.st_size), format_size(most_bytes)
            return f"is {size} long; such a spec has at most {most}: put data into files of their own"
        objection = self.trust.objection(found.status, "")
        if objection:
            return objection.strip()
        if found.data is None and not found.fault:
            return f"cannot be read: {found.refusal}; are its permissions and its disk right?"
        return None

    def _shown(self, claimed: spool.Claim, found: looking.Look | None = None) -> str:
        """Return how messages call the spec: as it was dropped, and with its name in the bundle."""
        name = claimed.source or os.path.basename(layout.find_spec(claimed.path))
        return durable.printable(os.path.join(name, found.member) if found and found.member else name)

    def _invalid(self, error: InvalidSpec) -> Refused:
        return Refused(str(error), problems.render(error.problems, error.source))


def read_policy(spec_path: str) -> lifecycle.Policy:
    """Return what the spec at this path says about further attempts; an unreadable one says nothing."""
    found = looking.look(spec_path)
    try:
        own_name = (found.member if found else "") or os.path.basename(spec_path)
        return policy(parse_file((found.data if found else None) or b"", source=own_name, own_name=own_name))
    except InvalidSpec:
        return lifecycle.Policy()
