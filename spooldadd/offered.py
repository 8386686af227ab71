"""What a supervisor may claim by itself when it is done: offers of the worker, each for a moment. Light.

To hear of an end, claim the next job and hand it over takes two changes between processes, in which a node that is full has
nothing to do. So a worker plans some of the drops that are next in line while jobs run, and tells a supervisor of them. None
of them is taken by that: it stays a drop, which anybody may claim, cancel or change. A supervisor that has filed an attempt
claims the next of its offers, under the lease that it holds: the lock file is renamed, nobody else can have it meanwhile.

Where a power cut is to be survived, what the claim will say is written down before (`draft`), so that it can be made last
together with what is waited for anyway.

If we die here: what a worker leaves that dies while it claims (`claiming`); a draft, which a worker removes.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import time
from collections import deque

from spooldadd import claiming, durable, layout, names, record
from spooldadd.channel import receive_offers
from spooldadd.nursery import Nursery
from spooldadd.plan import Plan, from_table
from spooldadd.spares import DRAFT, PREFIX

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


class Offer:
    """One drop, as it was when it was planned, and its plan."""

    __slots__ = ("common", "data", "draft", "plan", "signature", "source", "until")

    def __init__(self, common: dict[str, Any], said: tuple[Any, ...]) -> None:
        self.until: float = common["until"]  # by the monotonic clock
        self.common = common
        self.source, self.signature, self.data, shared, own = said
        self.plan = from_table({**shared, **own})
        self.plan.control_group = common["control_group"]
        self.draft = ""  # where its claim is written already

    def claimed_now(self) -> dict[str, object]:
        """Return what its claim says, from now on."""
        plan = self.plan
        plan.claimed_at_s = time.time()
        name = names.RecordName(names.JobId(plan.job), plan.attempt, plan.record.rpartition(".")[2])
        moments = plan.submitted_at_s, plan.claimed_at_s
        return claiming.table(self.common["claimer"], name, plan.queue, self.source, moments, {})


class Offered:
    """The offers that one supervisor has, in the order in which they are to be taken."""

    __slots__ = ("_channel", "_draft", "_offers", "is_last", "is_open", "nursery", "signature", "source")

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._offers: deque[Offer] = deque()
        self._draft = ""  # a file that is to be removed
        self.nursery = Nursery(may_make=True)
        self.is_open = True  # the worker is there
        self.source = ""  # what was claimed last, as it was called where it was dropped
        self.signature = (0, 0, 0)  # and what that file is told by from one that is dropped there later
        self.is_last = False  # and whether its claim file lasts already

    def draft(self, places: layout.Layout, directory: str) -> bool:
        """Write down what the next claim will say, and make it last in the same wait as the names in this directory.

        It is no claim, and its name means nothing to anybody: `claim` moves it into the record. Return whether the names in
        the directory last; False where nothing is offered, too. If we die here: a spare without its supervisor, which a
        worker removes.
        """
        offer = self._next()
        if offer is None:
            return False
        self._offers.appendleft(offer)
        self._draft = path = f"{places.locks}/{PREFIX}{os.getpid()}{DRAFT}"
        try:
            durable.unlink_if_there(path)  # of an offer that came to nothing
            durable.write_new(path, record.claim_data(offer.claimed_now()), sync=False)
        except OSError:
            return False  # it is written when it is made, then
        wrong = durable.sync_each([path], [directory], at_once=True)
        offer.draft = "" if path in wrong else path
        return directory not in wrong

    def __len__(self) -> int:
        return len(self._offers)

    def claim(self, places: layout.Layout, held: Held) -> Plan | None:
        """Claim the first that can be had, with this lease; return its plan, or None.

        Raises: Left where the lease has to be let go of for recovery to put something right.
        """
        while offer := self._next():
            self.is_last = bool(offer.draft)
            if _claim(places, held, offer, self.nursery):
                self._draft = "" if self.is_last else self._draft
                self.source, self.signature = offer.source, offer.signature
                return offer.plan
        return None

    def forget(self) -> None:
        """Forget all: the worker hears that nothing was claimed, and takes them back."""
        self._offers.clear()
        if self._draft:
            try:
                os.unlink(self._draft)
            except OSError:
                pass  # left for the worker
            self._draft = ""

    def _next(self) -> Offer | None:
        self._hear()
        while self._offers and self.is_open:
            offer = self._offers.popleft()
            if time.monotonic() < offer.until:
                return offer
        return None

    def _hear(self) -> None:
        while data := receive_offers(self._channel):
            said = marshal.loads(data)
            self._offers.extend(Offer(said, offer) for offer in said["offers"])
        self.is_open = data is not None


def _claim(places: layout.Layout, held: Held, offer: Offer, nursery: Nursery) -> bool:
    """Claim one; False where it is no longer there as it was offered. It is still to be made last. Raises: Left."""
    path, plan = f"{places.root}/{offer.source}", offer.plan
    try:
        if claiming.signature(os.lstat(path)) != offer.signature:
            return False  # before anything is made for it: the worker looks at it again
    except OSError:
        return False
    record_path = f"{places.running}/{plan.record}"
    target = f"{record_path}/{layout.SPEC}"
    try:
        held.rename(places, plan.record, offer.common["holder"])
        if plan.sync:
            claiming.make_own(record_path, 0o777)
        else:
            nursery.make(places, record_path, 0o777)
        if offer.draft:
            os.rename(offer.draft, f"{record_path}/{layout.CLAIM}")
        else:
            record.write_first_claim(record_path, offer.claimed_now(), sync=False)
        won = claiming.rename_in(path, target)
        if not won:
            claiming.remove_unclaimed(record_path)
            return False
        trouble = _trouble(target, offer.signature, offer.data)
    except OSError as error:
        raise Left(plan.job, str(error)) from error
    if trouble:
        raise Left(plan.job, f"`{durable.printable(offer.source)}` {trouble} when it was claimed")
    return True


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
