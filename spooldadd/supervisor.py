"""Take attempts, one after the other, and say how they ended. A fork of the launcher; needs no worker.

A supervisor that has filed an attempt takes the next one from its channel, or claims one that it was offered there. It never
has two, and one whose worker is gone ends after the attempt in hand.

If we die here: see `attempt`. What was not said of attempts that are filed, the worker finds out.
"""

from __future__ import annotations

import marshal
import os
import time

from spooldadd import jobprocess, notice, process
from spooldadd.attempt import Attempt
from spooldadd.bare import signal, socket
from spooldadd.channel import receive
from spooldadd.log import Log
from spooldadd.offered import Held, Offered
from spooldadd.plan import Plan
from spooldadd.relief import Relief
from spooldadd.spares import Spares
from spooldadd.tree import SIGNALS

COMM = "spooldadd-job"
# To wake the worker for each end costs both as much as to claim a job. So it hears of several at once, where none is its
# business: the place that one leaves is taken by the next. Of no more than are still offered, so that there is always one
# left when more are.
REPORTS = 8
# One that has had a job for so long ends: to make a new one costs a hundredth of that, and waiting for the next long job
# costs that half of the memory.
LONG_S = 1.0


class Reports:
    """What the worker has still to hear."""

    __slots__ = ("_channel", "_unsaid")

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._unsaid: list[dict[str, object]] = []

    def add(self, report: dict[str, object], *, most: int) -> None:
        """Say it, with others as soon as there are so many."""
        self._unsaid.append(report)
        if len(self._unsaid) >= min(most, REPORTS):
            self.say()

    def say(self) -> None:
        """Say all. To be called before anything that may take long."""
        if not self._unsaid:
            return
        try:
            self._channel.send(marshal.dumps(self._unsaid))
        except OSError:
            pass  # the worker is gone: what we have claimed we run all the same, and then we hear of that again
        self._unsaid.clear()


def become() -> None:
    """Become what a job may be a child of: nothing of it is lost, and no signal ends us before it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    process.become_subreaper()
    process.set_name(COMM)


def begin() -> int:
    """Become a supervisor; return when this process was started (`process.start_ticks`)."""
    become()
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # of who opens for writing what we just read: see `writers`
    jobprocess.keep_environ()
    return process.start_ticks(os.getpid()) or 0


def serve(channel: socket.socket, log: Log, relief: Relief | None = None, first: Attempt | None = None) -> None:
    """Take attempts from the channel, one after the other, until the worker closes it, or one has taken long.

    `relief` may start the jobs for us; `first` is one that was begun already.
    """
    own_start = begin()
    told: Attempt | None = None
    spares, offered, reports = Spares(), Offered(channel), Reports(channel)
    plan: Plan | None = None
    is_over = False
    while not is_over:
        if first is None and plan is None:
            received = receive(channel, lambda: spares.wait(channel))
            if received is None:
                break
            plan, lease = received
            held = Held(lease, plan.record)
        attempt = Attempt(plan, held, log, own_start, spares) if plan is not None else first
        assert attempt is not None
        held, first = attempt.held, None
        attempt.relief = relief if relief is not None and relief.suits(attempt.plan) else None
        attempt.on_wait = reports.say
        report = attempt.run()
        if offered.nursery.is_slow:
            reports.say()
            offered.nursery.look(attempt.places)  # what was offered may be void then; the worker hands us the next one
        plan = attempt.go_on(offered)
        is_over = plan is None and time.monotonic() - attempt.started > LONG_S
        going_on = attempt.going_on(plan, offered) | {"is_last": is_over}
        reports.add(report | going_on, most=0 if plan is None or attempt.is_told else len(offered))
        told = attempt if attempt.is_told else told
    spares.drop()
    # The worker is gone: nobody has a next attempt for us, and perhaps nobody tells the end of our last one.
    if told is not None:
        notice.become_notifier(told.plan.telling, told.places, (told.plan.node, told.plan.record))
