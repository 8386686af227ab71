"""Carry out what users ask for, each for his own jobs: the worker's side of `request`.

Looked at with each scan, which who asks brings about by waking the worker. A request is removed when it was answered,
refused ones as well; so a worker that dies in between carries it out once more, which finds it done.

If we die here: a request that is done and not answered; the next worker says what it finds.
"""

from __future__ import annotations

import os
import time

from spooldadd import acting, commons, durable, names, ownership, request, trust
from spooldadd.errors import SpooldaddError
from spooldadd.inspect import drops, jobs
from spooldadd.inspect.jobs import Job
from spooldadd.log import Log
from spooldadd.permission import NotPossible
from spooldadd.request import Answer, Request
from spooldadd.spool import Spool

# So many at one look: a user who asks a million times must not keep others' jobs from being started.
AT_ONCE = 64
# Who asked has read the answer by then, or is gone. A request that is half written after an hour will never be whole.
ANSWERS_STAY_S, HALVES_STAY_S = 60.0, 3600.0
SWEEP_EVERY_S = 30.0
# Nor must one whose requests take long to look up: what is not done by then waits for the next look.
TURN_S = 0.1


class Requesting:
    """Takes the requests on one spool for many users."""

    def __init__(self, the_spool: Spool, log: Log) -> None:
        self._spool = the_spool
        self._log = log
        self._requests = os.path.join(the_spool.places.internal, commons.REQUESTS)
        self._answers = os.path.join(the_spool.places.internal, commons.ANSWERS)
        self._sweep_at = 0.0
        self._stuck: set[str] = set()  # what users have made there and we cannot remove

    def turn(self) -> bool:
        """Carry out what was asked for; return whether there is more. Raises: OSError where the spool is in trouble."""
        entries = os.listdir(self._requests)
        self._stuck.intersection_update(entries)
        asked = [entry for entry in entries if not durable.is_temporary(entry) and entry not in self._stuck]
        taken = self._take_some(asked)
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + SWEEP_EVERY_S
            _remove_older(self._answers, os.listdir(self._answers), ANSWERS_STAY_S)
            _remove_older(self._requests, [entry for entry in entries if entry not in asked], HALVES_STAY_S)
        return len(asked) > taken

    def _take_some(self, asked: list[str]) -> int:
        """Take so many of them that others' jobs need not wait; return how many."""
        until = time.monotonic() + TURN_S
        for count, entry in enumerate(asked):
            if count == AT_ONCE or (count and time.monotonic() >= until):
                return count
            self._take(entry)
        return len(asked)

    def _take(self, entry: str) -> None:
        path = os.path.join(self._requests, entry)
        try:
            found = request.read(path)
        except OSError as error:
            found = f"it cannot be read: {error.strerror}"
        if isinstance(found, Request):
            self._say(found, said := self._carry_out(found))
            if request.is_token(entry):
                request.answer(self._spool.places, entry, said)
        else:
            self._log.warning("request-refused", file=entry, reason=found, then="removing it")
        if not _is_removed(path):
            self._stuck.add(entry)  # of one user, and no trouble of the spool's: all others' jobs go on

    def _carry_out(self, asked: Request) -> Answer:
        try:
            return self._act(asked, jobs.find(self._spool.places, asked.job))
        except SpooldaddError as error:
            return Answer(is_done=False, said=str(error))

    def _act(self, asked: Request, job: Job) -> Answer:
        def require_own(job: Job) -> None:
            if asked.uid not in (0, owner_of(job)):
                raise NotPossible(f"`{acting.shown_id(job)}` is not yours: only its owner and root may do that")

        require_own(job)
        if asked.act == request.CANCEL:
            return Answer(is_done=True, is_running=acting.cancel(self._spool, job, require_own) is not None)
        if asked.act == request.RETRY:
            acting.retry(self._spool, job, is_forced=asked.is_forced)
        elif asked.act == request.HOLD:
            acting.hold(self._spool, job)
        else:
            acting.release(self._spool, job)
        return Answer(is_done=True)

    def _say(self, asked: Request, said: Answer) -> None:
        user, job = trust.user_name(asked.uid), durable.printable(asked.job)
        if said.is_done:
            self._log.info("request-done", job=job, act=asked.act, user=user)
        else:
            self._log.warning("request-refused", job=job, act=asked.act, user=user, reason=said.said, then="removing it")


def owner_of(job: Job) -> int:
    """Return whose job this is; -1 where nobody can tell, which is nobody's."""
    if not job.is_drop:
        found = ownership.read(job.path)
        return -1 if found is None else found
    if not drops.is_drop(job.id):
        return -1
    try:
        return os.lstat(os.path.join(job.places.root, job.id)).st_uid
    except OSError:
        return -1


def _remove_older(directory: str, entries: list[str], age_s: float) -> None:
    """Remove what users or we have left there. By the time of change, which nobody can set."""
    oldest_s = time.time() - age_s
    for entry in entries:
        path = os.path.join(directory, entry)
        try:
            is_old = os.lstat(path).st_ctime < oldest_s
        except OSError:  # gone, or a user has mounted something there
            continue
        if is_old:
            _is_removed(path)


def _is_removed(path: str) -> bool:
    """Remove it; return whether it is gone. A user can have made anything of that name, also what cannot be removed."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        try:
            os.rmdir(path)
        except OSError:
            return _is_put_aside(path)
    return True


def _is_put_aside(path: str) -> bool:
    """What is not empty stays, under a name that nobody is asked by; nothing can be done with what is mounted there."""
    directory, name = os.path.split(path)
    if durable.is_temporary(name):
        return True
    try:
        os.rename(path, os.path.join(directory, f"{durable.TEMPORARY}{names.random_part()}{names.random_part()}"))
    except OSError:
        return False
    return True
