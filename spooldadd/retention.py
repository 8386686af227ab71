"""Remove finished records that nobody wants to keep any longer: by age, by number, by size. Never one that is still needed.

Names tell when a job was submitted, so directories are walked in that order, a batch at a time: a million records cost a few
listings and the memory of one batch, and a record that is too young by its name alone is not even opened. What may not go:

| it stays | because |
|---|---|
| a file `hold` is in it | a person wants it to stay |
| word of its end lies in `.spool/notify/`, or a letter about it waits | its mail is made from it |
| it has not arrived on the master, and will be sent there | it would be lost |

A record goes by one rename into `.spool/trash/`, so no reader sees half of it. One that was run again between the look and
the rename goes back. One that is still the same gets another name there, and only then is anything in it deleted. One
process prunes a spool at a time (`.spool/prune.lock`). Where locks keep nobody out, two of them rename each record to names
of their own, and one of them wins; what is in the trash and not yet known to be the same, the other puts back.

How many are too many, and by how many bytes, is found out after each listing, and what is gone when its turn comes counts as
removed: it runs again, or somebody else removed it. Otherwise one that may stay would go in its stead.

If we die here: what is in `.spool/trash/` the next one that prunes removes, or puts back; everything else is whole.
"""

from __future__ import annotations

import datetime
import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from spooldadd import durable, layout, locking, names, workdir
from spooldadd.finished import Seen, look, oldest, records, size_of
from spooldadd.layout import Layout

TRASH, LOCK = "trash", "prune.lock"
# Together 10 MB of names: few listings of a million records, and little memory.
BATCH = 50_000
# Records whose renames are made last together: each fsync takes as long as removing a few of them.
CHUNK = 200
# So many are too many until the first listing has been counted: enough to make it.
UNKNOWN = 1
# The time in an id is the drop's, to the second, and by the clock of the machine that claimed it.
STAMP_SLACK_S = 1.0
HELD, UNTOLD, NOT_UPLOADED, CHANGED, STUCK = "held", "mail-unsent", "not-uploaded", "changed", "in-trouble"


class Busy(Exception):  # an answer, not a fault
    """Another process prunes this spool. The message says which, where that is known."""


@dataclass(frozen=True)
class Ages:
    """How long records stay after their end; None is for ever."""

    done_s: float | None = None
    failed_s: float | None = None

    def of(self, state: str) -> float | None:
        """Return the age at which a record in this state goes."""
        return self.done_s if state == layout.DONE else self.failed_s


@dataclass(frozen=True)
class Bounds:
    """What may stay. All of them hold; None bounds nothing. With `only_queue` other queues' records are left alone."""

    ages: Ages = Ages()
    done_count: int | None = None
    failed_count: int | None = None
    size_bytes: int | None = None
    queues: Mapping[str, Ages] = field(default_factory=dict)
    only_queue: str = ""

    def count(self, state: str) -> int | None:
        """Return how many records in this state stay."""
        return self.done_count if state == layout.DONE else self.failed_count

    def age(self, state: str, queue: str) -> float | None:
        """Return the age at which a record of this queue goes."""
        own = self.queues.get(queue, Ages()).of(state)
        return self.ages.of(state) if own is None else own

    def least_age(self, state: str) -> float | None:
        """Return the age below which no record in this state goes for its age, whatever its queue."""
        found = [age for ages in (self.ages, *self.queues.values()) if (age := ages.of(state)) is not None]
        return min(found, default=None)


@dataclass(frozen=True)
class Guards:
    """What keeps a record from going, besides a file in itself."""

    outbox_jobs: Callable[[], frozenset[str]] = frozenset  # those that a waiting letter is about
    awaits_upload: Callable[[str, str], bool] = lambda _path, _state: False  # from a record's path and state


@dataclass
class Tally:
    """What came of it so far."""

    looked: int = 0
    removed: int = 0
    freed_bytes: int = 0
    kept: Counter[str] = field(default_factory=Counter)  # records that a bound would remove, by what keeps them


@dataclass(frozen=True)
class Telling:
    """Whom to tell: of each record that goes (state, name), and of the progress now and then."""

    gone: Callable[[str, str], None] = lambda _state, _name: None
    progress: Callable[[Tally], None] = lambda _tally: None


def trash_of(places: Layout) -> str:
    """Return the place for records on their way out."""
    return os.path.join(places.internal, TRASH)


def has_trash(places: Layout) -> bool:
    """Tell whether somebody died while removing records."""
    try:
        with os.scandir(trash_of(places)) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


@contextmanager
def alone(places: Layout, who: str) -> Iterator[None]:
    """Hold the right to prune this spool. Raises: Busy; OSError."""
    path = os.path.join(places.internal, LOCK)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)  # who can open it can hold it
    try:
        if not locking.try_lock(fd):
            raise Busy(f"{_holder(fd)} prunes `{places.root}` now; try again when it is through")
        os.ftruncate(fd, 0)
        os.write(fd, f"{who}\n".encode())
        yield
    finally:
        os.close(fd)


def _holder(fd: int) -> str:
    try:
        return os.read(fd, 200).decode("utf-8", "replace").strip() or "another process"
    except OSError:  # where locks are mandatory nobody else may read it
        return "another process"


class Pruner:
    """One pass over the finished records of a spool; to be used under `alone`."""

    def __init__(self, places: Layout, bounds: Bounds, guards: Guards, *, sync: bool, now_s: float | None = None) -> None:
        self._places = places
        self._bounds = bounds
        self._guards = guards
        self._sync = sync
        self._now_s = time.time() if now_s is None else now_s
        self._excess_bytes = 0
        self.tally = Tally()

    def run(self, telling: Telling, *, is_dry: bool = False) -> Tally:
        """Remove what is to go, successful records first; with `is_dry` only say what would. Raises: OSError."""
        if not is_dry:
            self.empty_trash()
        self._excess_bytes = 0 if self._bounds.size_bytes is None else UNKNOWN
        for state in (layout.DONE, layout.FAILED):
            self._prune(state, telling, is_dry=is_dry)
        return self.tally

    def empty_trash(self) -> None:
        """Remove what one who died has left, and put back what he had not looked at. Raises: OSError."""
        trash = trash_of(self._places)
        for entry in _names(trash):
            path, home = os.path.join(trash, entry), self._home_of(entry)
            if home:
                self._put_back(path, home)
            else:
                self._delete(path)

    def _home_of(self, entry: str) -> str:
        """Return where this entry of the trash belongs; empty where it was looked at, and is to go."""
        rest, _, state = entry.rpartition(".")  # `RECORD.TOKEN.STATE`; no token is a state
        record = rest.rpartition(".")[0]
        if state not in (layout.DONE, layout.FAILED) or names.parse_job_id(record) is None:
            return ""
        return os.path.join(self._places.state_directory(state), record)

    # -- walking

    def _prune(self, state: str, telling: Telling, *, is_dry: bool) -> None:
        directory = self._places.state_directory(state)
        after, before = ("", ""), self.tally.removed
        surplus = 0 if self._bounds.count(state) is None else UNKNOWN
        while until := self._until(state, surplus):
            batch, total = oldest(directory, BATCH, after, until)
            if not batch:
                return
            surplus = self._surplus(state, total) - (self.tally.removed - before if is_dry else 0)
            self._measure(is_dry=is_dry)
            if self._until(state, surplus) < until:
                continue  # none is too many: only the old ones are meant
            after = batch[-1]
            untold = self._untold()  # after the listing: word is left before a record is filed
            for start in range(0, len(batch), CHUNK):
                chunk = [name for _, name in batch[start : start + CHUNK]]
                doomed, surplus = self._doomed(state, chunk, surplus, untold)
                self._remove(state, doomed, telling, is_dry=is_dry)
                telling.progress(self.tally)

    def _surplus(self, state: str, total: int) -> int:
        """Return how many records are too many; `total` were listed."""
        most = self._bounds.count(state)
        if most is None:
            return 0
        if not self._bounds.only_queue:
            return total - most
        directory = self._places.state_directory(state)
        return sum(1 for name in records(directory) if self._is_meant(os.path.join(directory, name))) - most

    def _measure(self, *, is_dry: bool) -> None:
        """Find out anew how many bytes are too many, unless none were."""
        if self._excess_bytes > 0 and self._bounds.size_bytes is not None:
            shown = self.tally.freed_bytes if is_dry else 0
            self._excess_bytes = self._size_of_all() - self._bounds.size_bytes - shown

    def _until(self, state: str, surplus: int) -> str:
        """Return the time in an id beyond which no record can be meant; empty where none is meant at all."""
        if surplus > 0 or self._excess_bytes > 0:
            return "~"
        age = self._bounds.least_age(state)
        if age is None:
            return ""
        moment = datetime.datetime.fromtimestamp(max(0.0, self._now_s - age + STAMP_SLACK_S), datetime.UTC)
        return moment.strftime("%Y%m%dT%H%M%SZ")

    def _doomed(
        self, state: str, chunk: list[str], surplus: int, untold: frozenset[str]
    ) -> tuple[list[tuple[str, Seen]], int]:
        """Return those of the chunk that go, and how many are still too many then."""
        found: list[tuple[str, Seen]] = []
        for name in chunk:
            self.tally.looked += 1
            path = os.path.join(self._places.state_directory(state), name)
            seen = look(path)
            if seen is None and not os.path.lexists(path):  # of another queue, perhaps: rather one too few goes
                surplus -= 1
                self._reckon(path)
            if seen is None or (self._bounds.only_queue and seen.queue != self._bounds.only_queue):
                continue
            if surplus <= 0 and self._excess_bytes <= 0 and not self._is_old(state, seen):
                continue
            why = self._kept_for(path, state, name, untold)
            if why:
                self.tally.kept[why] += 1
                continue
            surplus -= 1
            self._reckon(path)
            found.append((name, seen))
        return found, surplus

    def _reckon(self, path: str) -> None:
        """Take this record's bytes off those that are too many. Of one that is gone nobody knows how many they were."""
        if self._excess_bytes > 0:
            self._excess_bytes -= size_of(path)
            if not os.path.lexists(path):
                self._excess_bytes = 0  # the next prune goes on; this one might remove what may stay

    def _is_meant(self, path: str) -> bool:
        seen = look(path)
        return seen is not None and seen.queue == self._bounds.only_queue

    def _is_old(self, state: str, seen: Seen) -> bool:
        age = self._bounds.age(state, seen.queue)
        return age is not None and self._now_s - seen.ended_s >= age

    def _kept_for(self, path: str, state: str, name: str, untold: frozenset[str]) -> str:
        """Return what keeps this record from going, empty where nothing does."""
        if os.path.lexists(os.path.join(path, layout.HOLD)):
            return HELD
        if name in untold:
            return UNTOLD
        return NOT_UPLOADED if self._guards.awaits_upload(path, state) else ""

    def _untold(self) -> frozenset[str]:
        """Return the jobs of which somebody is still to be told."""
        jobs = set(self._guards.outbox_jobs())
        for node in _names(self._places.notify):
            words = map(names.parse_record_name, _names(os.path.join(self._places.notify, node)))
            jobs.update(word.job for word in words if word is not None)
        return frozenset(jobs)

    def _size_of_all(self) -> int:
        directories = [self._places.state_directory(state) for state in (layout.DONE, layout.FAILED)]
        return sum(size_of(os.path.join(directory, name)) for directory in directories for name in records(directory))

    # -- removing

    def _remove(self, state: str, doomed: list[tuple[str, Seen]], telling: Telling, *, is_dry: bool) -> None:
        if not doomed:
            return
        directory = self._places.state_directory(state)
        if is_dry:
            for name, _seen in doomed:
                self.tally.removed += 1
                self.tally.freed_bytes += size_of(os.path.join(directory, name))
                telling.gone(state, name)
            return
        trash = trash_of(self._places)
        _make_directory(trash, sync=self._sync)
        moved = [(name, target) for name, seen in doomed if (target := self._put_aside(state, name, seen, trash))]
        if self._sync:  # or a power cut brings back the name of a record whose files are gone
            durable.sync_directory(trash)
            durable.sync_directory(directory)
        for name, target in moved:
            self._delete(target, is_counted=True)
            telling.gone(state, name)

    def _put_aside(self, state: str, name: str, seen: Seen, trash: str) -> str:
        """Move a record out; return where it is now, empty where it is not the one that we looked at any more.

        Until it is looked at again its name there says where it belongs: if we die, or another prunes beside us, it is put
        back and not removed.
        """
        source = os.path.join(self._places.state_directory(state), name)
        target = os.path.join(trash, f"{name}.{names.random_part()}")
        unseen = f"{target}.{state}"
        if not _rename_if_there(source, unseen):
            return ""
        now = look(unseen)
        if now is not None and now.result == seen.result and not os.path.lexists(os.path.join(unseen, layout.HOLD)):
            return target if _rename_if_there(unseen, target) else ""
        if self._put_back(unseen, source):  # it ran again, or a person has just held it
            self.tally.kept[CHANGED] += 1
        return ""

    def _put_back(self, unseen: str, source: str) -> bool:
        """Tell whether we put it back; false where another did. The kernel renames none over a directory with files."""
        try:
            return _rename_if_there(unseen, source)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            self.tally.kept[STUCK] += 1  # somebody has made another of that name
            return False

    def _delete(self, path: str, *, is_counted: bool = False) -> None:
        size_bytes = size_of(path) if is_counted else 0
        try:
            workdir.remove(path)
        except FileNotFoundError:
            pass  # another empties the trash as well; what both of us leave the next one removes
        except OSError as error:
            if error.errno in (errno.EROFS, errno.EIO, errno.ESTALE):
                raise
            self.tally.kept[STUCK] += 1  # somebody else's file in a directory of his; it is out of the way
            return
        if is_counted:
            self.tally.removed += 1
            self.tally.freed_bytes += size_bytes


# -- on disk


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _rename_if_there(source: str, target: str) -> bool:
    """Tell whether it was us who renamed it. Raises: OSError but for a source that is gone."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        return durable.is_done_all_the_same(error, source, target)
    return True


def _make_directory(path: str, *, sync: bool) -> None:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return
    if sync:
        durable.sync_directory(os.path.dirname(path))
