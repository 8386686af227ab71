"""Letters on disk, from before the first try until somebody took them or nobody will. One directory for a node.

    OUTBOX/waiting/<id>/   letter.eml  letter.json (its envelope)  state.json (tries, answers)
    OUTBOX/sent/<id>/      everybody took it; removed after some days
    OUTBOX/refused/<id>/   somebody refused it for good, or three days went by: with the answers, until a person looks

A letter is made under a temporary name and renamed into `waiting`, before anything is sent. Who hands it over holds a kernel
lock on its directory, so any number of processes may flush at once.

| if we die | on disk | what happens next |
|---|---|---|
| while it is written | `waiting/.tmp-...` | nothing was promised; removed after an hour |
| after the rename, before the other side took it | `waiting/<id>` | it is sent when its time comes |
| after the other side took it, before that is marked | `waiting/<id>` | **it is sent a second time**, same Message-ID |
| after it is marked, before the last rename | `waiting/<id>`, nobody waiting | it is moved, and not sent |

The third is the only way to a second copy. A Maildir does not even make that one.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from spooldadd import durable
from spooldadd.errors import MailError
from spooldadd.mail.letter import Answer, Fate, Letter, Unreachable
from spooldadd.mail.transport import Transport

FIRST_WAIT_S = 60.0
LONGEST_WAIT_S = 6 * 3600.0
GIVE_UP_S = 3 * 86400.0
TEMPORARY_S = 3600.0  # writing a letter takes a moment; far above any pause of a living writer
SENT_DAYS, REFUSED_DAYS = 7.0, 90.0
WAITING, SENT, REFUSED = "waiting", "sent", "refused"
PLACES = (WAITING, SENT, REFUSED)
SCHEMA = 1


class Newer(ValueError):
    """A newer release wrote this letter; this one would misread it."""


@dataclass(frozen=True)
class Parcel:
    """A letter that is not in the outbox yet. `event` and `job` say what it is about, for those who look.

    With an `id` of its own it is put in once, however often that is tried.
    """

    transport: str
    sender: str
    recipients: tuple[str, ...]
    data: bytes
    event: str = ""
    job: str = ""
    id: str = ""


@dataclass(frozen=True)
class Entry:
    """What is known of a letter in the outbox, without its text."""

    id: str
    place: str
    transport: str
    sender: str
    event: str
    job: str
    created_s: float
    tries: int = 0
    next_s: float = 0.0
    answers: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Return the recipients whose fate is open."""
        return tuple(address for address, answer in self.answers.items() if answer.fate is Fate.WAITING)


@dataclass(frozen=True)
class Flushed:
    """What a pass over the outbox did, in ids of letters."""

    sent: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()

    def __add__(self, other: Flushed) -> Flushed:
        return Flushed(self.sent + other.sent, self.refused + other.refused, self.waiting + other.waiting)


def wait_s(tries: int) -> float:
    """Return how long to wait after this many tries: a minute, doubling up to six hours."""
    return min(FIRST_WAIT_S * 2.0 ** min(tries - 1, 30), LONGEST_WAIT_S)


class Outbox:
    """The letters of a node. `now` is the wall clock; `at` is called with the name of each step, for tests that die."""

    def __init__(
        self,
        directory: str,
        *,
        now: Callable[[], float] = time.time,
        sync: bool = True,
        at: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.directory = directory
        self._now = now
        self._sync = sync
        self._at = at

    def put(self, parcel: Parcel) -> str:
        """Write a letter down and return its id; from then on it is sent, whatever dies.

        Raises: OSError when it cannot be written, after which nothing of it is left.
        """
        self._make_places()
        created_s = self._now()
        name = parcel.id or f"{_stamp(created_s)}-{secrets.token_hex(6)}"
        if parcel.id and any(os.path.lexists(self._path(place, name)) for place in PLACES):
            return name
        temporary = os.path.join(self.directory, WAITING, f"{durable.TEMPORARY}{name}")
        envelope = {"schema": SCHEMA, "transport": parcel.transport, "sender": parcel.sender, "event": parcel.event}
        envelope |= {"job": parcel.job, "created_s": created_s, "recipients": list(parcel.recipients)}
        if parcel.id:
            shutil.rmtree(temporary, ignore_errors=True)  # one who died while writing the same letter
        os.mkdir(temporary, 0o700)
        try:
            self._write_new(temporary, "letter.eml", parcel.data)
            self._write_new(temporary, "letter.json", json.dumps(envelope).encode())
            self._at("written")
            if self._sync:
                durable.sync_directory(temporary)
            durable.move(temporary, self._path(WAITING, name), sync=self._sync)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        self._at("put")
        return name

    def flush(
        self, transports: Mapping[str, Transport], *, only: Collection[str] | None = None, is_forced: bool = False
    ) -> Flushed:
        """Try the letters whose time has come, oldest first; with `is_forced` all, with `only` those ids.

        A transport that nobody answers on is not tried again in this pass, so a dead server costs one time limit, not one
        for each letter. What another process is sending is passed over.
        """
        done = Flushed()
        dead: set[str] = set()
        for name in self._names(WAITING):
            if only is None or name in only:
                done += self._flush_one(name, transports, dead, is_forced=is_forced)
        return done

    def entries(self, *places: str) -> list[Entry]:
        """Return what is known of the letters in these places, by default in all, oldest first; broken ones are left out."""
        found = []
        for place in places or PLACES:
            for name in self._names(place):
                with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
                    found.append(self._read(place, name))
        return sorted(found, key=lambda entry: entry.id)

    def text(self, name: str) -> bytes:
        """Return the letter itself. Raises: MailError when there is none of that id."""
        for place in PLACES:
            with (
                contextlib.suppress(FileNotFoundError),
                open(os.path.join(self._path(place, name), "letter.eml"), "rb") as stream,
            ):
                return stream.read()
        raise MailError(f"there is no letter `{name}` in `{self.directory}`")

    def retry(self, name: str) -> None:
        """Give a refused letter another three days, for those recipients that did not get it.

        Raises: MailError when it is not among the refused.
        """
        try:
            entry = self._read(REFUSED, name)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise MailError(f"there is no refused letter `{name}` in `{self.directory}`") from error
        answers = {
            address: answer if answer.fate is Fate.SENT else Answer(Fate.WAITING, answer.text)
            for address, answer in entry.answers.items()
        }
        fresh = replace(entry, tries=0, next_s=0.0, answers=answers)
        self._write_state(REFUSED, fresh, retried_s=self._now())
        durable.move(self._path(REFUSED, name), self._path(WAITING, name), sync=self._sync)

    def next_due_s(self) -> float | None:
        """Return when the next letter wants to be tried; None when none waits."""
        return min((entry.next_s for entry in self.entries(WAITING)), default=None)

    def prune(self, *, sent_days: float = SENT_DAYS, refused_days: float = REFUSED_DAYS) -> int:
        """Remove what was sent, or refused, that long ago, and what a dead writer left; return how many."""
        removed = 0
        for entry in self.surplus(sent_days=sent_days, refused_days=refused_days):
            shutil.rmtree(self._path(entry.place, entry.id), ignore_errors=True)  # another one may be at it, too
            removed += 1
        return removed + self._remove_unfinished()

    def surplus(self, *, sent_days: float = SENT_DAYS, refused_days: float = REFUSED_DAYS) -> list[Entry]:
        """Return the letters that `prune` would remove; never one that waits."""
        bounds = ((SENT, sent_days * 86400.0), (REFUSED, refused_days * 86400.0))
        return [
            entry for place, limit_s in bounds for entry in self.entries(place) if self._now() - entry.created_s > limit_s
        ]

    def _flush_one(self, name: str, transports: Mapping[str, Transport], dead: set[str], *, is_forced: bool) -> Flushed:
        with self._alone(name) as is_ours:
            if not is_ours:
                return Flushed()
            try:
                entry = self._read(WAITING, name)
                data = self.text(name)
            except Newer:
                return Flushed(waiting=(name,))  # whoever wrote it sends it
            except (MailError, ValueError, TypeError, KeyError, AttributeError):
                self._file(name, REFUSED)  # never deleted: a person may still read it
                return Flushed(refused=(name,))
            if entry.waiting and not self._is_too_old(entry):
                if entry.transport in dead or not (is_forced or self._is_due(entry)):
                    return Flushed(waiting=(name,))
                entry = self._try(entry, data, transports.get(entry.transport), dead)
            return self._settle(entry)

    def _try(self, entry: Entry, data: bytes, transport: Transport | None, dead: set[str]) -> Entry:
        """Hand a letter over once, and write down what came of it.

        The try is counted before it begins: where its outcome cannot be written, on a full disk, the letter waits for its
        time like any other and is not sent again at every pass.
        """
        tries = entry.tries + 1
        entry = replace(entry, tries=tries, next_s=self._now() + wait_s(tries))
        self._write_state(WAITING, entry)
        self._at("before-sending")
        letter = Letter(entry.id, entry.transport, entry.sender, entry.waiting, data)
        try:
            if transport is None:
                raise Unreachable(f"no transport `{entry.transport}` is configured")
            answers = transport.send(letter)
        except Unreachable as error:
            dead.add(entry.transport)
            answers = dict.fromkeys(entry.waiting, Answer(Fate.WAITING, str(error)))
        self._at("sent")
        known = {address: answer for address, answer in answers.items() if address in entry.answers}
        entry = replace(entry, answers={**entry.answers, **known})
        self._write_state(WAITING, entry)
        self._at("marked")
        return entry

    def _settle(self, entry: Entry) -> Flushed:
        """Leave a letter where it belongs now."""
        if entry.waiting and self._is_too_old(entry):
            entry = replace(entry, answers={address: _give_up(answer) for address, answer in entry.answers.items()})
            self._write_state(WAITING, entry)
        if entry.waiting:
            return Flushed(waiting=(entry.id,))
        is_refused = any(answer.fate is Fate.REFUSED for answer in entry.answers.values())
        self._file(entry.id, REFUSED if is_refused else SENT)
        self._at("filed")
        return Flushed(refused=(entry.id,)) if is_refused else Flushed(sent=(entry.id,))

    def _is_due(self, entry: Entry) -> bool:
        """Tell whether to try now; a time too far ahead is one from before a clock was set back."""
        return entry.next_s <= self._now() or entry.next_s - self._now() > LONGEST_WAIT_S

    def _is_too_old(self, entry: Entry) -> bool:
        return entry.tries > 0 and self._now() - entry.created_s > GIVE_UP_S

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[bool]:
        """Hold the lock on a letter; give False when another process has it, or has filed it by now."""
        path = self._path(WAITING, name)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            yield False
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.exists(path) and os.path.samestat(os.fstat(handle), os.stat(path))
        except BlockingIOError:
            is_ours = False
        try:
            yield is_ours
        finally:
            os.close(handle)

    def _file(self, name: str, place: str) -> None:
        durable.move(self._path(WAITING, name), self._path(place, name), sync=self._sync)

    def _read(self, place: str, name: str) -> Entry:
        """Read a letter's envelope and state. Raises: OSError, ValueError, TypeError, KeyError, AttributeError."""
        path = self._path(place, name)
        with open(os.path.join(path, "letter.json"), "rb") as stream:
            envelope = json.load(stream)
        try:
            with open(os.path.join(path, "state.json"), "rb") as stream:
                state = json.load(stream)
        except FileNotFoundError:
            state = {}
        for table in (envelope, state):
            if table.get("schema", SCHEMA) > SCHEMA:
                raise Newer(f"it is of schema {table['schema']}, of a newer release than this one")
        answers = {str(address): Answer(Fate.WAITING) for address in envelope["recipients"]}
        for address, answer in state.get("answers", {}).items():
            answers[address] = Answer(Fate(answer["fate"]), str(answer["text"]))
        return Entry(
            id=name,
            place=place,
            transport=str(envelope["transport"]),
            sender=str(envelope["sender"]),
            event=str(envelope["event"]),
            job=str(envelope["job"]),
            created_s=float(state.get("retried_s") or envelope["created_s"]),
            tries=int(state.get("tries", 0)),
            next_s=float(state.get("next_s", 0.0)),
            answers=answers,
        )

    def _write_state(self, place: str, entry: Entry, *, retried_s: float | None = None) -> None:
        answers = {address: {"fate": answer.fate.value, "text": answer.text} for address, answer in entry.answers.items()}
        state = {"schema": SCHEMA, "tries": entry.tries, "next_s": entry.next_s, "answers": answers}
        state["retried_s"] = retried_s if retried_s is not None else entry.created_s
        path = os.path.join(self._path(place, entry.id), "state.json")
        durable.write(path, json.dumps(state).encode(), sync=self._sync, mode=0o600)

    def _write_new(self, directory: str, name: str, data: bytes) -> None:
        durable.write_new(os.path.join(directory, name), data, sync=self._sync, mode=0o600)

    def _make_places(self) -> None:
        for place in PLACES:
            os.makedirs(os.path.join(self.directory, place), mode=0o700, exist_ok=True)

    def _path(self, place: str, name: str) -> str:
        if "/" in name or name.startswith("."):
            raise MailError(f"`{name}` is no id of a letter")
        return os.path.join(self.directory, place, name)

    def _names(self, place: str) -> list[str]:
        try:
            names = os.listdir(os.path.join(self.directory, place))
        except FileNotFoundError:
            return []
        return sorted(name for name in names if not name.startswith("."))

    def _remove_unfinished(self) -> int:
        waiting = os.path.join(self.directory, WAITING)
        removed = 0
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(waiting):
                if durable.is_temporary(entry.name) and self._now() - entry.stat().st_mtime > TEMPORARY_S:
                    shutil.rmtree(entry.path, ignore_errors=True)
                    removed += 1
        return removed


def _give_up(answer: Answer) -> Answer:
    if answer.fate is not Fate.WAITING:
        return answer
    return Answer(Fate.REFUSED, f"given up after three days; the last was: {answer.text or 'no answer'}")


def _stamp(at_s: float) -> str:
    """Return a time as the beginning of an id, so that ids sort by age."""
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
