"""The place of one attempt on the node's own disk, by the rights of whoever the job runs as. Light: the launcher loads it.

A job of the worker's own user has a work directory of ours, and we do with it what is to be done. The work directory of any
other user is in a place that belongs to him; we make and remove that place, from outside, and deputies do all the rest.

If we die here: a place without a running record; a worker removes it when it is old enough.
"""

from __future__ import annotations

import errno
import os

from spooldadd import deputy, keeping, workdir
from spooldadd.account import Account
from spooldadd.plan import Plan
from spooldadd.spares import Spares

# A work directory of millions of files takes minutes to empty, and the deputy has nothing to say meanwhile.
REMOVE_PATIENCE_S = 900.0


class Place:
    """The work directory of a job that runs as the worker's own user."""

    def __init__(self, plan: Plan, spares: Spares | None = None) -> None:
        self._plan = plan
        self._spares = spares

    def make(self) -> None:
        """Make it, with what the spec puts into it. Raises: OSError, after which it is not there."""
        give = self._spares.give_directory if self._spares is not None else None
        workdir.make(self._plan.work_dir, self._plan.config, self._plan.script, give)

    def is_there(self) -> bool:
        """Tell whether it is still there: the job may have removed it."""
        return os.path.isdir(self._plan.work_dir)

    def keep(self, record: str) -> tuple[list[str], list[str]]:
        """Copy what `[keep]` names into the record; return the names, and sentences about what was not. Raises: OSError."""
        plan = self._plan
        return workdir.keep(plan.work_dir, record, plan.keep_files, sync=plan.sync)

    def remove(self, *, is_followed: bool = False) -> None:
        """Remove it, or keep it for the next job where this one has left it as it was. Raises: OSError.

        `is_followed`: the next job is there already.
        """
        if self._spares is None or not self._spares.keep_directory(self._plan.work_dir, under_own_name=is_followed):
            workdir.remove(self._plan.work_dir)

    def hand_over(self, logs: tuple[int, ...]) -> None:
        """Let the job have its logs: by whatever name it opens its own output, it may write there."""


class OwnersPlace(Place):
    """The same for a job that runs as another user."""

    def __init__(self, plan: Plan, account: Account) -> None:
        super().__init__(plan)
        self._account = account

    def make(self) -> None:
        """Make a place that is his, and have him make the work directory in it. Raises: OSError."""
        plan = self._plan
        workdir.make_top(plan.work_top, self._account.uid, self._account.gid)
        try:
            deputy.act(self._account, lambda: workdir.make(plan.work_dir, plan.config, plan.script))
        except OSError:
            self.remove()
            raise

    def is_there(self) -> bool:
        """Tell whether it is still there, as he sees it."""
        try:
            return bool(deputy.act(self._account, lambda: os.path.isdir(self._plan.work_dir)))
        except OSError:
            return False

    def keep(self, record: str) -> tuple[list[str], list[str]]:
        """Have him read what `[keep]` names, and write it ourselves. Raises: OSError, of the spool."""
        plan = self._plan
        try:
            return keeping.keep(self._account, plan.work_dir, record, plan.keep_files, sync=plan.sync)
        except OSError as error:
            if error.errno in workdir.SPOOL_TROUBLES or not os.path.isdir(record):
                raise
            return [], [f"the files to keep could not be read: {error}"]

    def remove(self, *, is_followed: bool = False) -> None:
        """Have him empty his place, then remove it. What others have put there stays, and so does it. Raises: OSError."""
        top = self._plan.work_top
        try:
            os.rmdir(top)
            return
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
        deputy.act(self._account, lambda: workdir.empty(top), REMOVE_PATIENCE_S)
        os.rmdir(top)

    def hand_over(self, logs: tuple[int, ...]) -> None:
        """Give him the log files themselves; the record that they are in stays ours: he can put nothing in their place."""
        for fd in set(logs):
            os.fchown(fd, self._account.uid, self._account.gid)
            os.fchmod(fd, 0o644)  # who may come so far is for the record to say


def of(plan: Plan, spares: Spares | None = None) -> Place:
    """Return the place of this attempt; `spares` holds what an earlier one has left for it."""
    return Place(plan, spares) if plan.account is None else OwnersPlace(plan, plan.account)
