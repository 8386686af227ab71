"""One attempt at one job: make its place, run it, judge and file it, and claim what follows. Light: the launcher loads it.

Imports nothing after the fork, so it can finish while the installed package is replaced.

If we die here: the job goes on, holding the lease; when it ends too, the record is in `running/` with its lease free. With
a result any worker files it, without one its node calls the attempt lost.
"""

from __future__ import annotations

import errno
import os
import time

from spooldadd import (
    building,
    cgroup,
    claiming,
    durable,
    fence,
    filing,
    jobprocess,
    kit,
    layout,
    lifecycle,
    names,
    notice,
    place,
    process,
    record,
    spawn,
    together,  # noqa: F401  `durable` asks for it late, and nothing is imported here after the fork
    workdir,
)
from spooldadd.ending import Ending, add_to_log, cut_logs, exit_fields, header, judge, open_logs, times_and_use
from spooldadd.errors import ClaimLost, SpoolError
from spooldadd.guard import CLAIM_LOST, Eye, Verdict, nothing
from spooldadd.handover import Handover
from spooldadd.log import Log
from spooldadd.offered import Held, Left, Offered
from spooldadd.plan import Plan
from spooldadd.relief import Relief
from spooldadd.spares import Spares
from spooldadd.tree import forget_signals

# While the spool is away or full an attempt waits: soon at first, because most troubles are short.
RETRY_S, RETRY_MAX_S = 0.5, 30.0
# What the node does to every job alike, and what passes: no reason to call one of them failed.
NODE_TROUBLES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
BIRTHS = process.Births()

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    T = TypeVar("T")


class Attempt:
    """One attempt at one job."""

    def __init__(self, plan: Plan, held: Held, log: Log, own_start: int, spares: Spares | None = None) -> None:
        self.plan = plan
        self.held = held
        self.lease = lease = held.lease
        self.log = log
        self.own_start = own_start
        self.places = layout.of(plan.root, plan.spool_id)
        self.record = f"{self.places.running}/{plan.record}"
        self.deletion = fence.Deletion(self.places, lease)
        self.handover = Handover(self.places, plan.record, plan.node, lease)
        self.place = place.of(plan, spares)
        self.built = building.Built()
        self.is_told = self.has_left = False  # word for the notifier; a claim that recovery has to put right
        self.filed = ""  # where its record is now
        self.spares, self.spare_lock = spares, ""
        self.is_tidy = False  # the job has ended by itself, and left no process that could hold the lease
        self.tick = 0
        self.eye = Eye(f"{self.record}/{layout.CANCEL}")
        self.result: dict[str, object] = {}
        self.relief: Relief | None = None  # starts the job for us
        self.on_wait: Callable[[], None] = nothing  # called before what may take long
        self.started_at_s, self.started = time.time(), time.monotonic()

    def run(self) -> dict[str, object]:
        """Run the job, write its result, file it; return what the worker wants to know.

        To be followed by `go_on`, which makes it last, and only then to be said.
        """
        result = self.result
        state = CLAIM_LOST
        try:
            self._hold_lease()
            result = self.result = self._attempt()
            state = self._write_and_file(result)
        except ClaimLost as error:
            self.log.info("claim-lost", job=self.plan.job, attempt=self.plan.attempt, reason=str(error))
            self.is_tidy = False
        return {"record": self.plan.record, "state": state, "outcome": result.get("outcome", ""), "is_told": self.is_told}

    def go_on(self, offered: Offered) -> Plan | None:
        """Claim the next job under our lease, where one is offered, or let go of the lease; then clean up."""
        following = None
        try:
            following = self._claim_next(offered)
            if following is None:
                self._let_go()
            else:
                self._say_claimed(following, offered.source)
        except (Left, ClaimLost) as error:
            durable.close(self.lease)
            self.has_left = True
            job = error.job if isinstance(error, Left) else self.plan.job
            self.log.info("claim-lost", job=job, reason=str(error), then="recovery puts it right")
        if following is None:
            offered.forget()
        self._clean_up(self.result, is_followed=following is not None)
        return following

    def _claim_next(self, offered: Offered) -> Plan | None:
        """Claim what is offered; that we no longer run, and that it is claimed, lasts before either is said or it starts.

        Raises: Left where the claim is not as it has to be; ClaimLost where the spool was deleted.
        """
        plan, following, left = self.plan, None, None
        # Only on a spool of this machine alone, and where no other process can hold the lease when the next job has it. And
        # where there is nobody to be told: if the worker is gone, we are who tells, now, and not after the next job.
        is_simple = self.is_tidy and not (plan.is_shared or plan.is_far or plan.account or self.handover.is_beside)
        goes_on = is_simple and not self.is_told
        if self.filed and plan.sync and not (goes_on and offered.draft(self.places, os.path.dirname(self.filed))):
            self._persist("filing-waits", lambda: filing.make_new_name_last(self.filed))
        if goes_on:
            try:
                following = offered.claim(self.places, self.held)
            except Left as error:
                left = error
        if self.filed and plan.sync:
            left = self._make_last(following, is_claim_last=offered.is_last) or left
        if self.filed:
            self._say_filed(self.result)
        if left is not None:
            raise left
        return following

    def _make_last(self, following: Plan | None, *, is_claim_last: bool) -> Left | None:
        """Make the next claim last, and with it `running/`, which our record has left. Where there is none, that alone.

        Not before our record's new name lasts: without a journal, ext4 writes `running/` with `claim.toml`. Return why the
        claim may not last. Raises: ClaimLost.
        """
        left: Left | None = None
        if following is not None:
            try:
                claiming.make_last(f"{self.places.running}/{following.record}", with_claim=not is_claim_last, at_once=True)
            except OSError as error:
                left = Left(following.job, str(error))
            else:
                return None
        self._persist("filing-waits", lambda: filing.make_old_name_last(self.places, self.filed))
        return left

    def going_on(self, plan: Plan | None, offered: Offered) -> dict[str, object]:
        """Return what the worker wants to know of how we go on."""
        if plan is None:
            return {"following": "", "spare": self.spare_lock, "has_left": self.has_left}
        return {"following": plan.record, "source": offered.source, "queue": plan.queue, "signature": offered.signature}

    def _persist(self, event: str, step: Callable[[], T]) -> T:
        """Repeat a step until the host allows it: a full disk, a share that is away, a read-only remount all end one day.

        Raises: ClaimLost where the record has become somebody else's, or the spool was deleted.
        """
        wait_s = RETRY_S
        while True:
            try:
                return step()
            except SpoolError as error:
                trouble = error
            except OSError as error:
                explained = filing.explain_failure(self.places, self.plan.record, error)
                if isinstance(explained, ClaimLost):
                    raise explained from error
                trouble = explained
            fence.refuse_lost(self.deletion.look())
            self.on_wait()
            self.log.warning(event, job=self.plan.job, reason=str(trouble), then=f"trying again in {wait_s:g} s")
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_MAX_S)

    def _hold_lease(self) -> None:
        """Say in the lock file who we are; without it, a worker would take the attempt for one that never started."""
        if self.plan.account is None:  # another user could unlock it for all of us, and write into it
            os.set_inheritable(self.lease, True)
        pid, start = (os.getpid(), self.own_start) if self.relief is None else self.relief.holder
        own = {"supervisor_pid": pid, "supervisor_start": start}
        self._persist("spool-trouble", lambda: self._note_holder(own))

    def _note_holder(self, lines: Mapping[str, object]) -> None:
        is_asked = self.plan.is_shared and self.plan.sync  # if anything was started: by another node, when we are no more
        self.handover.note(lines, sync=is_asked)

    def _attempt(self) -> dict[str, object]:
        forget_signals()
        try:
            self._persist("spool-trouble", self._make_work_dir)
        except workdir.CannotMake as error:
            return self._conclude(lifecycle.BUILD, str(error), Ending())
        plan, names = self.plan, self._log_names()
        logs = self._persist("spool-trouble", lambda: open_logs(self.record, names, self.place.hand_over))
        self.eye = fence.eye_of(self.places, plan.record, names, self.deletion, is_shared=plan.is_shared, is_far=plan.is_far)
        self.eye.on_wait = self.on_wait
        try:
            return self._run_job(logs)
        finally:
            self.eye.close()
            kit.release(self.plan)
            for fd in {*logs, *self.built.hold_fds}:
                durable.close(fd)

    def _run_job(self, logs: tuple[int, int]) -> dict[str, object]:
        ending = Ending()
        built = self._build()
        if isinstance(built, Verdict):
            fence.refuse_lost(built)
            return self._conclude(built.outcome, built.sentence, ending)
        self.plan.environ = self.plan.environ | built.environ
        self.built = built
        ending.oom_kills = jobprocess.OUT_OF_MEMORY.kills()
        leaf = cgroup.of_plan(self.plan, self.log)
        try:
            return self._run_command(logs, ending, leaf)
        finally:
            if leaf is not None:
                leaf.remove()  # what cannot be removed now, a worker removes

    def _run_command(self, logs: tuple[int, int], ending: Ending, leaf: cgroup.Leaf | None) -> dict[str, object]:
        paths = (self.record, self.plan.work_dir)
        if self.plan.is_shared:
            fence.refuse_lost(self.eye.look())  # a build may have taken long
        try:
            pid = self._persist("spool-trouble", lambda: self._start_command(logs, paths, leaf, ending.oom_kills))
        except spawn.CannotStart as error:
            ending.status = error.exit_code << 8 if error.exit_code else None
            add_to_log(logs[1], f"{error}\n")
            return self._conclude(error.outcome, str(error), ending)
        self._say_started(pid)
        if self.relief is not None:
            self.relief.leave(self)
        jobprocess.watch(self.plan, pid, logs, self.eye, ending, leaf)
        return self._judge(logs, ending)

    def _judge(self, logs: tuple[int, int], ending: Ending) -> dict[str, object]:
        fence.refuse_lost(ending.verdict)
        self.is_tidy = ending.verdict is None and not ending.left
        cut_logs(self.plan.limits, logs, ending)
        building.put_edits_aside(self.plan, self.built, self.log)
        return self._conclude(*judge(self.plan.limits, ending), ending)

    def _start_command(self, logs: tuple[int, int], paths: tuple[str, str], leaf: cgroup.Leaf | None, kills: int) -> int:
        self.tick = process.ticks_since_boot()
        starter = spawn.spawn if self.relief is None else self.relief.starter(self, logs, kills)
        return jobprocess.start(self.plan, logs, paths, leaf, starter)

    def _build(self) -> building.Built | Verdict:
        """Build what the spec asks for; where all of it is ready, only hold it."""
        plan = self.plan
        if plan.build is None:
            return building.Built()
        environ = jobprocess.whole_environ(plan, self.record)
        ready = building.ready(plan, environ)
        if ready is not None:
            return ready
        self.log.info("building", job=plan.job, attempt=plan.attempt, node=plan.node)
        self.on_wait()
        log = self._persist("spool-trouble", lambda: building.open_log(self.record))
        try:
            return building.build(plan, environ, log, self.eye)
        except (spawn.CannotStart, OSError) as error:
            return Verdict(lifecycle.BUILD, f"its build cannot be started: {error}")
        finally:
            os.close(log)

    def _say_started(self, pid: int) -> None:
        plan = self.plan
        self.log.info("started", job=plan.job, attempt=plan.attempt, node=plan.node, pid=pid)
        try:
            self._note_holder({"job_pid": pid, "job_start": BIRTHS.tick_of(pid, self.tick)})
        except OSError as error:  # a hint only: the job holds the lease
            self.log.warning("spool-trouble", job=plan.job, error=str(error), then="it runs all the same")

    def _make_work_dir(self) -> None:
        """Make it. Raises: SpoolError where the node is in trouble; CannotMake where waiting would not help."""
        path = self.plan.work_dir
        try:
            self.place.make()
        except OSError as error:
            sentence = f"its work directory `{path}` cannot be made: {error.strerror}"
            if error.errno in NODE_TROUBLES:
                raise SpoolError(sentence) from error
            raise workdir.CannotMake(sentence) from error

    def _log_names(self) -> tuple[str, ...]:
        return (layout.STDOUT_LOG, layout.STDERR_LOG) if self.plan.split_output else (layout.OUTPUT_LOG,)

    def _conclude(self, outcome: str, sentence: str, ending: Ending) -> dict[str, object]:
        plan = self.plan
        duration_s = (ending.ended or time.monotonic()) - self.started
        kept = self._persist("filing-waits", self._keep)
        if outcome != lifecycle.SUCCESS and durable.is_listed(os.path.join(self.record, layout.CANCEL)):
            outcome, sentence = lifecycle.CANCELLED, "it was cancelled while it ran"  # it ended by itself a moment before
        chance = 0.0 if outcome == lifecycle.SUCCESS else names.chance()
        decision = lifecycle.decide(outcome, plan.attempt, plan.policy, chance)
        result = header(plan, decision.state, outcome, kit.hide(plan, sentence)) | exit_fields(ending.status)
        result |= times_and_use(plan, ending, self.started_at_s, duration_s)
        result |= {
            "kept": [kit.hide(plan, name) for name in kept] or None,
            "workdir": plan.work_dir if self._stays(outcome) else None,
            "environment": self.built.environment or None,
        }
        if decision.state == lifecycle.WAITING:
            result["next_attempt_at"] = record.written(time.time() + decision.delay_s)
        self.log.info("finished", job=plan.job, attempt=plan.attempt, node=plan.node, outcome=outcome, elapsed_s=duration_s)
        return result

    def _stays(self, outcome: str) -> bool:
        wish = self.plan.keep_workdir
        return (wish == "always" or (wish == "failure" and outcome != lifecycle.SUCCESS)) and self.place.is_there()

    def _keep(self) -> list[str]:
        if not self.plan.keep_files or not self.place.is_there():
            return []
        kept, refused = self.place.keep(self.record)
        for sentence in refused:
            self.log.warning("not-kept", job=self.plan.job, reason=sentence)
        return kept

    def _write_and_file(self, result: dict[str, object]) -> str:
        plan, state = self.plan, str(result["state"])
        self._persist("filing-waits", lambda: self._write_result(result))
        if notice.is_wanted(plan.telling, result):
            self.is_told = self._persist("filing-waits", lambda: self._leave_notice(state))
        self.filed = self._persist("filing-waits", lambda: filing.file_record(self.places, plan.record, state, sync=False))
        return state

    def _leave_notice(self, state: str) -> bool:
        """Leave word for the notifier. Raises: OSError where filing could not go on either; all else costs a mail only."""
        plan = self.plan
        try:
            notice.leave(self.places, plan.node, plan.record, sync=plan.sync)
        except OSError as error:
            if error.errno in NODE_TROUBLES or not filing.is_spool_here(self.places):
                raise
            self.log.warning("mail-failed", job=plan.job, error=str(error), then="filing it without a mail")
            return False
        if state == lifecycle.FAILED:
            notice.mark_failing(plan.telling)
        return True

    def _write_result(self, result: dict[str, object]) -> None:
        if not self.plan.sync:
            record.write_result(self.record, result, sync=False)
            return
        lost = self._write_last(result, self._log_names())
        if lost:
            for name in lost:
                result["reason"] = f"{result['reason']}; a part of `{name}` may be missing: the disk reported an error"
            self._write_last(result, ())

    def _write_last(self, result: Mapping[str, object], logs: tuple[str, ...]) -> list[str]:
        left = [self.plan.source_directory] if self.plan.source_directory else []
        return record.write_last_result(self.record, result, logs, directories=left, at_once=not self.plan.is_far)

    def _say_claimed(self, plan: Plan, source: str) -> None:
        shown = durable.printable(source)
        self.log.info("claimed", job=plan.job, attempt=plan.attempt, node=plan.node, queue=plan.queue, source=shown)

    def _say_filed(self, result: dict[str, object]) -> None:
        plan, said = self.plan, {key: result[key] for key in ("state", "outcome", "reason")}
        self.log.info("filed", job=plan.job, attempt=plan.attempt, node=plan.node, **said)

    def _let_go(self) -> None:
        plan = self.plan
        self.handover.forget()
        if self.spares is not None and not (plan.is_shared or plan.is_far or plan.account):  # what only this node knows
            self.spare_lock = self.spares.keep_lock(self.places, self.held.record)
        if not self.spare_lock:
            filing.remove_lock(self.places, self.held.record)
        durable.close(self.lease)

    def _clean_up(self, result: dict[str, object], *, is_followed: bool) -> None:
        if "workdir" in result and result["workdir"] is not None:
            return
        try:
            self.place.remove(is_followed=is_followed)
        except OSError as error:
            if error.errno != errno.ENOENT:
                self.log.warning("work-dir-removed", job=self.plan.job, error=str(error), then="left for the worker")
