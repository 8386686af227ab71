"""Keeps the state of `flood` in a directory that all processes of a node share.

One session at a time has the lock; it reads the state, decides, and writes it back by rename when it ends well. The mail
that a decision asks for belongs into the outbox **within** the session:

    with ledger.session() as session:
        if session.fail(fact) is Verdict.SEND:
            outbox.put(letter)

If we die here: before the rename nothing was decided, though a letter may be in the outbox; then the same failure is told
twice, never not at all. A state that cannot be read is put aside as `flood.json.broken`, and the next failure of each cause
counts as a first one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from spooldadd import durable
from spooldadd.errors import MailError
from spooldadd.mail import flood
from spooldadd.mail.cause import Cause
from spooldadd.mail.events import Digest, HeldBack
from spooldadd.mail.flood import Counted, Fact, Failing, Known, Rules, State, Verdict

LOCK_WAIT_S = 20.0  # a session composes one mail, some 50 ms; a thousand supervisors that end at once must all get in
STATE, LOCK, BROKEN = "flood.json", "flood.lock", "flood.json.broken"
SCHEMA = 1
USUAL = Rules()


class Session:
    """One process's turn. What it decides is kept when the session ends without an exception."""

    def __init__(self, state: State, rules: Rules, now: Callable[[], float]) -> None:
        self.state = state
        self._rules = rules
        self._now = now

    def fail(self, fact: Fact) -> Verdict:
        """Take note of a failure and return what to do with it."""
        self.state, verdict = flood.fail(self.state, self._rules, fact, self._now())
        return verdict

    def take(self, key: str) -> bool:
        """Take note of what is dealt with in this session, and return whether it is new."""
        self.state, is_new = flood.take(self.state, key)
        return is_new

    def succeed(self, name: str) -> tuple[Verdict, Failing | None]:
        """Take note of a success and return what to do with it, and what it ends."""
        self.state, verdict, failing = flood.succeed(self.state, self._rules, name, self._now())
        return verdict, failing

    def tell(self) -> tuple[Digest | HeldBack, ...]:
        """Return the mails whose time has come."""
        self.state, events = flood.tell(self.state, self._rules, self._now())
        return events

    def next_due_s(self) -> float | None:
        """Return when `tell` may next have something to say."""
        return flood.next_due_s(self.state, self._rules)


class Ledger:
    """The state of a node in a directory. `now` is the wall clock."""

    def __init__(
        self, directory: str, rules: Rules = USUAL, *, now: Callable[[], float] = time.time, sync: bool = True
    ) -> None:
        self._directory = directory
        self._rules = rules
        self._now = now
        self._sync = sync

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Have the state for oneself.

        Raises: MailError when the lock cannot be had in time; OSError when the directory cannot be used.
        """
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        handle = os.open(os.path.join(self._directory, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(handle, self._directory)
            session = Session(self._read(), self._rules, self._now)
            before = session.state
            yield session
            if session.state is not before:
                self._write(session.state)
        finally:
            os.close(handle)

    def read(self) -> State:
        """Return the state as it was last written, for those who only look."""
        return self._read()

    def next_due_s(self) -> float | None:
        """Return when there may be something to tell; None when nothing waits."""
        return flood.next_due_s(self._read(), self._rules)

    def _read(self) -> State:
        path = os.path.join(self._directory, STATE)
        try:
            with open(path, "rb") as stream:
                data = stream.read()
        except FileNotFoundError:
            return State()
        try:
            return state_from_table(json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError):
            with contextlib.suppress(OSError):
                os.replace(path, os.path.join(self._directory, BROKEN))
            return State()

    def _write(self, state: State) -> None:
        data = json.dumps(table_from_state(state), ensure_ascii=True).encode()
        durable.write(os.path.join(self._directory, STATE), data, sync=self._sync, mode=0o600)


def table_from_state(state: State) -> dict[str, object]:
    """Return the state as a table of plain values."""
    return {"schema": SCHEMA, **dataclasses.asdict(state)}


def state_from_table(table: dict[str, Any]) -> State:
    """Read what `table_from_state` made.

    Raises: ValueError, TypeError, KeyError or AttributeError for anything else.
    """
    if table["schema"] != SCHEMA:
        raise ValueError(f"a flood state of schema {table['schema']}")
    return State(
        causes={str(key): _known(value) for key, value in table["causes"].items()},
        names={str(key): _failing(value) for key, value in table["names"].items()},
        sent_s=tuple(float(at_s) for at_s in table["sent_s"]),
        held_mails=int(table["held_mails"]),
        held_since_s=float(table["held_since_s"]),
        held_recovered=tuple(str(name) for name in table["held_recovered"]),
        taken=tuple(str(key) for key in table.get("taken", ())),
    )


def _known(table: dict[str, Any]) -> Known:
    counted = table["counted"]
    return Known(
        label=str(table["label"]),
        last_s=float(table["last_s"]),
        counted=Counted(
            count=int(counted["count"]),
            first_s=float(counted["first_s"]),
            last_s=float(counted["last_s"]),
            names=tuple(str(name) for name in counted["names"]),
            names_left_out=int(counted["names_left_out"]),
            example_job=str(counted["example_job"]),
        ),
        is_told=bool(table["is_told"]),
        is_over=bool(table["is_over"]),
    )


def _failing(table: dict[str, Any]) -> Failing:
    cause = Cause(str(table["cause"]["id"]), str(table["cause"]["label"]))
    return Failing(float(table["since_s"]), float(table["last_s"]), int(table["failures"]), cause)


def _lock(handle: int, directory: str) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        if time.monotonic() > deadline:
            raise MailError(f"`{directory}/{LOCK}` was locked for {LOCK_WAIT_S:g} s; who holds it is shown by `fuser`")
        time.sleep(0.005)
