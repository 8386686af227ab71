"""Tell what ended: from the word that a supervisor left to letters in the outbox, and from there on their way.

A pass takes each word in the order in which the jobs ended, decides under the lock of its readers' ledger, puts the letter
into the outbox, and only then removes the word. Any number of notifiers may run at once.

If we die here: the word is still there, or the letter is in the outbox. A letter has an id that its job and attempt give,
and a ledger remembers what it took, so nothing is told twice.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from spooldadd import durable, lifecycle, names
from spooldadd.asking import reader
from spooldadd.config import Config
from spooldadd.errors import MailError
from spooldadd.log import Log
from spooldadd.mail import ended
from spooldadd.mail.configured import transport_from
from spooldadd.mail.ended import Ended
from spooldadd.mail.events import Change, Digest, Failure, HeldBack, Recovery, Success, find_changes
from spooldadd.mail.explaining import cause_of, commands_for
from spooldadd.mail.flood import Fact, Failing, Rules, Verdict, timestamp
from spooldadd.mail.hiding import hideable, redactor
from spooldadd.mail.lateness import Lateness
from spooldadd.mail.ledger import Ledger
from spooldadd.mail.outbox import REFUSED, WAITING, Outbox
from spooldadd.mail.places import Places, places_of
from spooldadd.mail.posting import Post
from spooldadd.mail.redact import Hide, hide_in_table
from spooldadd.mail.wishes import Wish, wish_of, wish_of_spec
from spooldadd.notice import path_of
from spooldadd.spec.models import Notify
from spooldadd.spool import Spool

READERS = "readers.json"
# What could not be told for lack of room in the hour is looked at this often.
AGAIN_S = 60.0
PRUNE_S = 86400.0


@dataclass(frozen=True)
class Readers:
    """Those who are told together, and what they were told."""

    wish: Wish
    ledger: Ledger


class Notifier:
    """Tells what one spool's jobs on one node came to."""

    def __init__(self, config: Config, the_spool: Spool, log: Log, environ: Mapping[str, str]) -> None:
        self._config = config
        self._spool = the_spool
        self._log = log
        self._environ = environ
        self.places: Places = places_of(config, the_spool)
        self.outbox = Outbox(self.places.outbox, sync=the_spool.sync)
        self._post = Post(config, self.outbox, log, time.time)
        self._read = reader(config, environ)
        self._hide: Hide = redactor(config, environ, read=self._read)
        for directory in (self.places.failing, self.places.readers):
            os.makedirs(directory, mode=0o700, exist_ok=True)

    # -- one pass

    def run(self, *, is_forced: bool = False) -> None:
        """Tell all there is to tell, and send what is due; with `is_forced` all that waits."""
        while self._tell_ended():
            pass
        self._tell_summaries()
        self._tell_late()
        self._flush(is_forced=is_forced)
        while self._tell_ended():  # sending takes its time, and more may have ended meanwhile
            self._flush(is_forced=False)
        self._prune()
        self._note_next()

    def _tell_ended(self) -> int:
        """Tell what jobs came to; return how many."""
        found = [(word, ended.find(self._spool.places, name)) for word, name in self._words()]
        told = 0
        for word, each in sorted(found, key=lambda pair: pair[1].finished_s if pair[1] else 0.0):
            try:
                if each is not None:
                    self._tell(each)
                durable.unlink_if_there(word)
                told += 1
                if each is not None:
                    self._unmark(each)
            except OSError as error:
                self._log.warning("mail-failed", error=str(error), then="trying again in 30 s")
            except MailError:
                raise
            except Exception as error:  # noqa: BLE001  # one job that nobody can write about must not silence all others
                said = f"{type(error).__name__}: {self._hide(str(error))}"
                self._log.error("mail-failed", record=os.path.basename(word), error=said, then="trying again in 30 s")
        return told

    def _words(self) -> list[tuple[str, names.RecordName]]:
        """Return the path of each word, and the running record it is about; not those that are still to be filed."""
        directory = os.path.dirname(path_of(self._spool.places, self._config.node, ""))
        found = []
        with contextlib.suppress(FileNotFoundError):
            for entry in sorted(os.listdir(directory)):
                name = names.parse_record_name(entry)
                if name and not os.path.lexists(os.path.join(self._spool.places.running, entry)):
                    found.append((os.path.join(directory, entry), name))
        return found

    def _tell(self, each: Ended) -> None:
        state = each.table.get("state")
        wish = wish_of_spec(self._config, each.spec, str(each.table.get("queue", "default")))
        hide = redactor(self._config, self._environ, each.spec_table(), read=self._read)
        each = hideable(each, self._read, hide)
        if state == lifecycle.DONE:
            self._tell_success(each, wish, hide)
        elif state == lifecycle.FAILED and each.table.get("outcome") != lifecycle.CANCELLED:
            self._tell_failure(each, wish, hide)

    # -- a failure

    def _tell_failure(self, each: Ended, wish: Wish, hide: Hide) -> None:
        kind = "lost" if each.table.get("outcome") == lifecycle.LOST else "failure"
        is_wanted = kind in wish.on
        if wish.is_empty or not (is_wanted or _is_for_recovery_only(wish)):
            return
        cause = cause_of(each, hide)
        with self._readers_of(wish).ledger.session() as session:
            if not session.take(f"{each.job}.{each.attempt}"):
                return
            verdict = session.fail(Fact(each.result.name, each.job, cause))
            failing = session.state.names[each.result.name]
            if verdict is Verdict.SEND and is_wanted:
                event = self._failure(each, failing, hide)
                self._post.put(event, wish, hide, (each.job, each.finished_s))
        self._mark(each)
        if verdict is not Verdict.SEND:
            then = "a repeat: told in the next digest" if verdict is Verdict.COUNT else "told when the hour is over"
            self._log.info("mail-held", job=each.job, attempt=each.attempt, cause=cause.id, then=then)

    def _failure(self, each: Ended, failing: Failing, hide: Hide) -> Failure:
        before = ended.last_success(self._spool.places, each.result.name, each.finished_s)
        changes: tuple[Change, ...] = ()
        if before is not None:
            both = redactor(self._config, self._environ, each.spec_table(), before.spec_table(), read=self._read)
            changes = find_changes(hide_in_table(_circumstances(before), both), hide_in_table(_circumstances(each), both))
        return Failure(
            each.result,
            failing.cause,
            log_tail=each.log,
            log_name=each.log_name,
            is_log_cut=each.is_log_cut,
            record=each.record,
            spec=each.spec.decode("utf-8", "replace"),
            changes=changes,
            last_success_at=timestamp(before.finished_s) if before else "",
            failing_since=timestamp(failing.since_s) if failing.failures > 1 else "",
            commands=commands_for(self._spool.places.root, each.job, failing.cause),
        )

    # -- a success

    def _tell_success(self, each: Ended, wish: Wish, hide: Hide) -> None:
        """Tell the recovery to those who heard of the failure; the success to those who want each, and heard of neither."""
        name, about = each.result.name, (each.job, each.finished_s)
        told = set()
        for readers in self._all_readers():
            if name not in readers.ledger.read().names:
                continue
            with readers.ledger.session() as session:
                verdict, failing = session.succeed(name)
                if verdict is Verdict.SEND and failing is not None and "recovery" in readers.wish.on:
                    event = Recovery(each.result, timestamp(failing.since_s), failing.failures, failing.cause, each.record)
                    self._post.put(event, readers.wish, hide, about)
                    told.add(readers.wish.key)
        if "success" in wish.on and not wish.is_empty and wish.key not in told:
            self._post.put(Success(each.result, each.record), wish, hide, about)

    # -- what fails

    def _mark(self, each: Ended) -> None:
        path = os.path.join(self.places.failing, names.safe_name(each.result.name))
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))

    def _unmark(self, each: Ended) -> None:
        """Let successes of this name pass unheard again, unless it still fails, or word of another end of it waits."""
        name = each.result.name
        if each.table.get("state") != lifecycle.DONE or any(names.job_name(word.job) == name for _, word in self._words()):
            return
        if not any(name in readers.ledger.read().names for readers in self._all_readers()):
            durable.unlink_if_there(os.path.join(self.places.failing, names.safe_name(name)))

    # -- readers

    def _readers_of(self, wish: Wish) -> Readers:
        """Return the readers of this wish; who they are is written down, for digests."""
        directory = os.path.join(self.places.readers, wish.key)
        path = os.path.join(directory, READERS)
        if not os.path.exists(path):
            os.makedirs(directory, mode=0o700, exist_ok=True)
            table = {"email": wish.email, "on": sorted(wish.on), "via": wish.via}
            durable.write(path, json.dumps(table).encode(), sync=self._spool.sync, mode=0o600)
        return Readers(wish, self._ledger(directory))

    def _all_readers(self) -> Iterator[Readers]:
        for entry in sorted(os.listdir(self.places.readers)):
            directory = os.path.join(self.places.readers, entry)
            try:
                with open(os.path.join(directory, READERS), "rb") as file:
                    table = json.load(file)
                via = tuple(name for name in map(str, table["via"]) if name in self._config.transport)
                wish = Wish(tuple(map(str, table["email"])), frozenset(table["on"]), via)
            except (OSError, ValueError, KeyError, TypeError):
                continue
            yield Readers(wish, self._ledger(directory))

    def _ledger(self, directory: str) -> Ledger:
        mail = self._config.mail
        return Ledger(directory, Rules(mail.digest_s, mail.per_hour), sync=self._spool.sync)

    # -- what is told later

    def _tell_summaries(self) -> None:
        for readers in self._all_readers():
            with readers.ledger.session() as session:
                for event in session.tell():
                    if not readers.wish.on.isdisjoint({"failure", "lost"}):
                        self._post.put(event, readers.wish, self._hide, (_about(event), _last_s(event)))

    def _tell_late(self) -> None:
        lateness = self._lateness()
        wish = wish_of(self._config, Notify(), "default")
        for event, deadline_s in lateness.due():
            if "late" in wish.on and not wish.is_empty:
                self._post.put(event, wish, self._hide, (event.name, deadline_s))
        lateness.note()

    def _lateness(self) -> Lateness:
        now = datetime.datetime.now().astimezone()
        return Lateness(self._spool.places, self.places, self._config.notify.expect, now)

    # -- on their way

    def _flush(self, *, is_forced: bool) -> None:
        tries = {entry.id: entry.tries for entry in self.outbox.entries(WAITING)}
        transports = {name: transport_from(name, table, self._read) for name, table in self._config.transport.items()}
        flushed = self.outbox.flush(transports, is_forced=is_forced)
        for letter in flushed.sent:
            self._log.info("mail-sent", letter=letter)
        if not (flushed.refused or flushed.waiting):
            return
        for entry in self.outbox.entries(WAITING, REFUSED):
            is_refused = entry.id in flushed.refused
            if is_refused or (entry.id in flushed.waiting and entry.tries > tries.get(entry.id, 0)):
                said = self._hide("; ".join(sorted({answer.text for answer in entry.answers.values() if answer.text})))
                then = "it is in `refused/`" if is_refused else f"trying again at {timestamp(entry.next_s)}"
                self._log.warning("mail-failed", letter=entry.id, via=entry.transport, error=said, then=then)

    def _prune(self) -> None:
        stamp = os.path.join(self.places.outbox, "pruned")
        with contextlib.suppress(FileNotFoundError):
            if 0 <= time.time() - os.stat(stamp).st_mtime < PRUNE_S:
                return
        self.outbox.prune()
        durable.write(stamp, b"", sync=False, mode=0o600)

    def _note_next(self) -> None:
        """Write down when there is something to do again; the worker reads it."""
        soon_s = time.time() + AGAIN_S
        summaries = [readers.ledger.next_due_s() for readers in self._all_readers()]
        due = [max(at_s, soon_s) for at_s in summaries if at_s is not None]
        due += [at_s for at_s in (self.outbox.next_due_s(), self._lateness().next_s()) if at_s is not None]
        next_s = min(due, default=time.time() + PRUNE_S)
        durable.write(self.places.next, f"{next_s:.3f}".encode(), sync=False, mode=0o600)


def _is_for_recovery_only(wish: Wish) -> bool:
    """Those who want to hear of recoveries alone need their failures counted, and are not told of them."""
    return "recovery" in wish.on and wish.on.isdisjoint({"failure", "lost"})


def _circumstances(each: Ended) -> dict[str, object]:
    return {
        "spec": each.spec_table(),
        "environment": each.table.get("environment", ""),
        "node": each.table.get("node", ""),
    }


def _about(event: Digest | HeldBack) -> str:
    return f"{sum(each.count for each in event.repeats)} failures"


def _last_s(event: Digest | HeldBack) -> float:
    """Return when the last thing happened that is told: it gives the letter its id, whenever it is made."""
    times = [each.last_at for each in event.repeats if each.last_at]
    return datetime.datetime.fromisoformat(max(times)).timestamp() if times else 0.0
