"""Go on with a job that was started and waited for as `relief` does. Light: the launcher loads it.

If we die here: as in `supervisor`.
"""

from __future__ import annotations

import marshal

from spooldadd import cgroup, durable, jobprocess, supervisor
from spooldadd.attempt import Attempt
from spooldadd.ending import Ending
from spooldadd.fence import eye_of
from spooldadd.guard import Guard
from spooldadd.offered import Held
from spooldadd.plan import from_wire
from spooldadd.tree import Tree

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from spooldadd.bare import socket
    from spooldadd.log import Log
    from spooldadd.relief import Taken


class Relieved(Attempt):
    """An attempt whose job runs already, or has ended by now."""

    def __init__(self, taken: Taken, log: Log) -> None:
        wire, started_at_s, started, environment, oom_kills = marshal.loads(taken.rest)
        plan = from_wire(wire)
        super().__init__(plan, Held(taken.fds[0], plan.record), log, own_start=0)
        self.started_at_s, self.started = started_at_s, started
        self.built.environment = environment
        self._taken = taken
        self._ending = Ending()
        self._ending.oom_kills = oom_kills

    def _hold_lease(self) -> None:
        """That was said when the job was started."""

    def _attempt(self) -> dict[str, object]:
        plan, taken, ending = self.plan, self._taken, self._ending
        names = self._log_names()
        logs = taken.fds[-len(names)], taken.fds[-1]
        self.eye = eye_of(self.places, plan.record, names, self.deletion, is_shared=plan.is_shared, is_far=plan.is_far)
        tree = Tree(taken.job)
        ended, is_told_to_stop, used_bytes = taken.seen
        tree.go_on(taken.own_rss_kib, used_bytes, is_told_to_stop=is_told_to_stop)
        for pid, status, usage in ended:
            tree.note_end(pid, status, usage)
        guard = Guard(tree, cgroup.watched(plan.limits, None), sorted(set(logs)), self.eye)
        guard.go_on(taken.started)
        try:
            ending.verdict = guard.watch() if tree.status is None else None
            jobprocess.see_to_end(plan, tree, guard, ending)
            return self._judge(logs, ending)
        finally:
            self.eye.close()
            for fd in taken.fds[1:]:
                durable.close(fd)


def go_on(channel: socket.socket, log: Log, taken: Taken) -> None:
    """See the job to its end, file it, and take the next one, as every supervisor does."""
    supervisor.serve(channel, log, first=Relieved(taken, log))
