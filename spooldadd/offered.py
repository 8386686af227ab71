"""What a supervisor may claim by itself when it is done: offers of the worker, each for a moment. Light.

To hear of an end, claim the next job and hand it over takes two changes between processes, in which a node that is full has
nothing to do. So a worker plans some of the drops that are next in line while jobs run, and tells a supervisor of them. None
of them is taken by that: it stays a drop, which anybody may claim, cancel or change. A supervisor that has filed an attempt
claims the next of its offers, under the lease that it holds: the lock file is renamed, nobody else can have it meanwhile.

If we die here: what a worker leaves that dies while it claims (`claiming`).
"""

from __future__ import annotations

import fcntl
import marshal
import os
import time
from collections import deque

from spooldadd import claiming, durable, layout, names, record
from spooldadd.channel import receive_offers
from spooldadd.plan import Plan, from_table

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    import socket
    from typing import Any


class Left(Exception):  # it is an answer, not a fault of ours
    """A claim was made half, or of other bytes than were planned. Whoever lets go of its lease leaves it to recovery."""

    def __init__(self, job: str, reason: str) -> None:
        super().__init__(reason)
        self.job = job


class Held:
    """A lease, and the record whose lock file it is of now."""

    __slots__ = ("_is_rewritable", "lease", "record")

    def __init__(self, lease: int, record_name: str) -> None:
        self.lease = lease
        self.record = record_name
        self._is_rewritable = False

    def rename(self, places: layout.Layout, record_name: str, holder: bytes) -> None:
        """Make it the lease of another record, in whose lock file stands nothing but who claims it. Raises: OSError.

        If we die here: a lock file that nobody holds, whose record is filed or not made yet.
        """
        if not self._is_rewritable:  # at the end is no place for what replaces the rest
            fcntl.fcntl(self.lease, fcntl.F_SETFL, fcntl.fcntl(self.lease, fcntl.F_GETFL) & ~os.O_APPEND)
            self._is_rewritable = True
        fcntl.flock(self.lease, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as we hold it, unless the last job has unlocked it for all
        durable.overwrite(self.lease, holder)
        os.rename(places.lock(self.record), places.lock(record_name))
        self.record = record_name


class Offered:
    """The offers that one supervisor has, in the order in which they are to be taken."""

    __slots__ = ("_channel", "_offers", "is_open", "signature", "source")

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._offers: deque[tuple[float, dict[str, Any], tuple[Any, ...]]] = deque()
        self.is_open = True  # the worker is there
        self.source = ""  # what was claimed last, as it was called where it was dropped
        self.signature = (0, 0, 0)  # and what that file is told by from one that is dropped there later

    def claim(self, places: layout.Layout, held: Held) -> Plan | None:
        """Claim the first that can be had, with this lease; return its plan, or None.

        Raises: Left where the lease has to be let go of for recovery to put something right.
        """
        self._hear()
        while self._offers and self.is_open:
            until, common, offer = self._offers.popleft()
            if time.monotonic() < until:
                plan = _claim(places, held, common, offer)
                if plan is not None:
                    self.source, self.signature = offer[:2]
                    return plan
        return None

    def forget(self) -> None:
        """Forget all: the worker hears that nothing was claimed, and takes them back."""
        self._offers.clear()

    def _hear(self) -> None:
        while data := receive_offers(self._channel):
            said = marshal.loads(data)
            self._offers.extend((said["until"], said, offer) for offer in said["offers"])
        self.is_open = data is not None


def _claim(places: layout.Layout, held: Held, common: dict[str, Any], offer: tuple[Any, ...]) -> Plan | None:
    """Claim one; None where it is no longer there as it was offered. It is still to be made last. Raises: Left."""
    source, signature, data, shared, own = offer
    path = f"{places.root}/{source}"
    try:
        if claiming.signature(os.lstat(path)) != signature:
            return None  # before anything is made for it: the worker looks at it again
    except OSError:
        return None
    plan = from_table({**shared, **own})
    plan.control_group = common["control_group"]
    plan.claimed_at_s = time.time()
    record_path = f"{places.running}/{plan.record}"
    target = f"{record_path}/{layout.SPEC}"
    try:
        held.rename(places, plan.record, common["holder"])
        claiming.make_own(record_path, 0o777)
        record.write_first_claim(record_path, _table(common, plan, source), sync=False)
        won = claiming.rename_in(path, target)
        if not won:
            claiming.remove_unclaimed(record_path)
            return None
        trouble = _trouble(target, signature, data)
    except OSError as error:
        raise Left(plan.job, str(error)) from error
    if trouble:
        raise Left(plan.job, f"`{durable.printable(source)}` {trouble} when it was claimed")
    return plan


def _table(common: dict[str, Any], plan: Plan, source: str) -> dict[str, object]:
    name = names.RecordName(names.JobId(plan.job), plan.attempt, plan.record.rpartition(".")[2])
    return claiming.table(common["claimer"], name, plan.queue, source, (plan.submitted_at_s, plan.claimed_at_s), {})


def _trouble(path: str, signature: tuple[int, int, int], data: bytes) -> str:
    """Say why what was planned is not what is to run; empty where these bytes are in this file, and nobody writes to it."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if claiming.has_writer_until_closed(fd):
            return "was open for writing"
        is_same = claiming.signature(os.fstat(fd)) == signature and os.read(fd, len(data) + 1) == data
        return "" if is_same else "was changed"
    finally:
        os.close(fd)
