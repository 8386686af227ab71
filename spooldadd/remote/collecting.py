"""Fetch finished records from spools of other machines, by rsync alone: what is new, and only whole.

A record in `done/` or `failed/` is whole; it may be sent back to `waiting/` while it is fetched. So a batch is looked at
again afterwards: a record whose result is still the same, there and here, gets its manifest here, and is taken in. What was
collected stands in `.spool/collected/<spool>`, a line for each, so that it is not fetched again after somebody removed it
here; without the file, all is fetched again.

If we die here: what was fetched lies in `.spool/incoming/.pull-<spool>/`, where the next one goes on with it; a record that
was taken in without its line is recognised by its manifest. A deletion that stopped half-way is done again, by its line.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from spooldadd import durable, layout, locking, mark, names
from spooldadd.layout import Layout
from spooldadd.remote import incoming, listing, manifest, probing
from spooldadd.remote.listing import Seen
from spooldadd.remote.rsync import PARTIAL, Answer, Rsync, Unreachable
from spooldadd.remote.targets import Target

# So many records are fetched, looked at again and taken in together.
BATCH = 100
COLLECTED = "collected"
_NOTES = (layout.UPLOADED, layout.RETURNING, layout.RETURNED, layout.MANIFEST)
_NO_RESULT = "-"


@dataclass(frozen=True)
class Wish:
    """What is to be fetched, and whether it is to be removed there when it is here."""

    target: Target
    is_failed_only: bool = False
    is_deleting: bool = False


@dataclass
class Collected:
    """What became of one target: ids of what came, what was here already, what changed all the while, what was removed."""

    target: Target
    new: list[str] = field(default_factory=list)
    known: int = 0
    left: list[str] = field(default_factory=list)
    deleted: int = 0
    troubles: list[str] = field(default_factory=list)

    def table(self) -> dict[str, object]:
        """Return what `--json` shows."""
        plain: dict[str, object] = {"node": self.target.name, "target": self.target.address, "jobs": self.new}
        plain |= {"known": self.known, "left": self.left, "deleted": self.deleted}
        return {**plain, **({"troubles": self.troubles} if self.troubles else {})}


class Collecting:
    """The way from one target into the spool at hand."""

    def __init__(self, rsync: Rsync, places: Layout, wish: Wish, heard: Callable[[int, int], None]) -> None:
        self._rsync = rsync
        self._places = places
        self._wish = wish
        self._heard = heard  # how many are done, of how many
        self._own = mark.read(places.root)
        self._sync = self._own.durability == "power"
        self._spool = ""
        self._found = Collected(wish.target)

    def run(self) -> Collected:
        """Fetch what is new. What keeps it from being fetched stands in `troubles`."""
        try:
            self._collect()
        except Unreachable as error:
            self._found.troubles.append(str(error))
        except OSError as error:
            self._found.troubles.append(f"`{self._places.root}` cannot be written: {error.strerror} (`{error.filename}`)")
        return self._found

    def _collect(self) -> None:
        theirs = probing.probe(self._rsync, self._wish.target)
        if theirs.id and theirs.id == self._own.id:
            raise Unreachable("it is this very spool")
        self._spool = theirs.id or hashlib.sha256(self._wish.target.address.encode()).hexdigest()[:10]
        key = names.safe_name(self._spool)
        with locking.Alone(os.path.join(self._places.incoming, f"{incoming.PULLED}{key}.lock")) as is_ours:
            if not is_ours:
                raise Unreachable("somebody else collects from it now; try again when that is done")
            self._fetch(os.path.join(self._places.incoming, incoming.PULLED + key), Book(self._places, key, sync=self._sync))

    def _fetch(self, directory: str, book: Book) -> None:
        there = self._listed()
        book.forget_others(there, self._states)
        todo = {
            name: stamp
            for name, stamp in there.items()
            if book.stamps.get(name) != stamp and not book.is_remnant(name, stamp)
        }
        self._found.known = len(there) - len(todo)
        for name, stamp in list(todo.items()):
            if self._is_here(name, stamp):
                book.note(name, stamp)
                del todo[name]
                self._found.known += 1
        for done in range(0, len(todo), BATCH):
            self._fetch_batch(directory, dict(list(todo.items())[done : done + BATCH]), book)
            self._heard(min(done + BATCH, len(todo)), len(todo))
        shutil.rmtree(directory, ignore_errors=not self._found.left)
        if self._wish.is_deleting:
            self._delete(there, book)

    @property
    def _states(self) -> tuple[str, ...]:
        return (layout.FAILED,) if self._wish.is_failed_only else (layout.FAILED, layout.DONE)

    def _listed(self) -> dict[str, str]:
        """Return each finished record there as `failed/JOB`, with what tells one version of it from another."""
        patterns = [f"/{state}/" for state in self._states]
        seen = listing.names(self._rsync, self._wish.target, [*patterns, "/*/*/", f"/*/*/{layout.RESULT}"])
        found = {}
        for name, one in seen.items():
            parts = name.split("/")
            if (
                len(parts) == 2
                and one.is_directory
                and names.parse_job_id(parts[1])
                and names.safe_name(parts[1]) == parts[1]
            ):
                found[name] = seen.get(f"{name}/{layout.RESULT}", Seen(False, _NO_RESULT)).stamp
        return dict(sorted(found.items(), key=lambda item: item[0].rsplit(".", 2)[1:]))

    def _is_here(self, name: str, stamp: str) -> bool:
        """Tell whether this version came before, by whatever way."""
        found = incoming.find(self._places, self._spool, os.path.basename(name))
        return found is not None and _stamp(found[0]) == stamp

    # -- a batch

    def _fetch_batch(self, directory: str, batch: dict[str, str], book: Book) -> None:
        os.makedirs(directory, exist_ok=True)
        whole = list(batch) if self._pull(directory, list(batch)).code == 0 else self._pull_each(directory, list(batch))
        now = listing.files(self._rsync, self._wish.target, [f"{name}/{layout.RESULT}" for name in whole])
        for name, before in batch.items():
            path = os.path.join(directory, name)
            after = now.get(f"{name}/{layout.RESULT}", Seen(False, _NO_RESULT)).stamp
            if name in whole and after == before == _stamp(path):
                self._take_in(path, name)
                book.note(name, before)
            else:
                self._found.left.append(os.path.basename(name))

    def _pull(self, directory: str, wanted: Sequence[str]) -> Answer:
        """Raises: Unreachable."""
        notes = [f"--exclude=/*/*/{note}" for note in _NOTES]
        arguments = ["-r", "-t", "--no-links", "--no-implied-dirs", "--delete", f"--partial-dir={PARTIAL}", *notes]
        arguments += ["--chmod=Du+rwx,Fu+rw", f"{self._wish.target.at()}/", f"{directory}/"]
        return self._rsync.copy(arguments, self._wish.target, names=map(str.encode, wanted))

    def _pull_each(self, directory: str, wanted: Sequence[str]) -> list[str]:
        """One of them vanished or cannot be read: the others shall not wait for it."""
        return [name for name in wanted if self._pull(directory, [name]).code == 0]

    def _take_in(self, path: str, name: str) -> None:
        state, job = name.split("/")
        found = manifest.describe(path, job, state)
        target = self._wish.target
        node = found.node or target.name
        manifest.write(
            path, replace(found, node=node, spool=self._spool, source=target.name, address=target.address), sync=self._sync
        )
        arrivals = incoming.take_in(self._places, path, sync=self._sync)
        self._found.new += [os.path.basename(took.path) for took in arrivals.news]
        self._found.known += len(arrivals.took) - len(arrivals.news)
        self._found.troubles += arrivals.troubles

    # -- removing there what is here

    def _delete(self, there: dict[str, str], book: Book) -> None:
        """Remove what was collected, and is the same there as a moment ago. Raises: Unreachable."""
        ours = [name for name in there if name in book.stamps]
        for done in range(0, len(ours), BATCH):
            batch = ours[done : done + BATCH]
            now = listing.files(self._rsync, self._wish.target, [f"{name}/{layout.RESULT}" for name in batch])
            stamps = {name: now.get(f"{name}/{layout.RESULT}", Seen(False, _NO_RESULT)).stamp for name in batch}
            # One without its result is a deletion that stopped half-way.
            gone = [name for name in batch if stamps[name] in (book.stamps[name], _NO_RESULT)]
            if gone:
                self._delete_batch(gone)

    def _delete_batch(self, gone: Sequence[str]) -> None:
        with tempfile.TemporaryDirectory(prefix="spooldadd-delete-") as empty:
            for state in self._states:
                os.mkdir(os.path.join(empty, state))
            kept = [f"--include=/{state}/" for state in self._states]
            removed = [f"--include=/{name}/***" for name in gone]
            arguments = [
                "-r",
                "--delete",
                "--force",
                *kept,
                *removed,
                "--exclude=*",
                f"{empty}/",
                f"{self._wish.target.at()}/",
            ]
            answer = self._rsync.copy(arguments, self._wish.target)
        if answer.code == 0:
            self._found.deleted += len(gone)
        else:
            self._found.troubles.append(f"not all could be removed there ({answer.err.strip()[:300]})")


class Book:
    """What was collected from one spool: a line for each record, with what tells its version."""

    def __init__(self, places: Layout, key: str, *, sync: bool) -> None:
        self._path = os.path.join(places.internal, COLLECTED, key)
        self._sync = sync
        self.stamps = dict(self._lines())

    def note(self, name: str, stamp: str) -> None:
        """Add a line. A line that a crash cut short says nothing. Raises: OSError."""
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            durable.write_all(fd, f"\n{name}\t{stamp}\n".encode())
        finally:
            os.close(fd)
        self.stamps[name] = stamp

    def is_remnant(self, name: str, stamp: str) -> bool:
        """Tell whether it was collected, and is now half deleted there."""
        return stamp == _NO_RESULT and name in self.stamps

    def forget_others(self, there: dict[str, str], states: Sequence[str]) -> None:
        """Leave out lines of records that are there no more, where only some were looked for, of these states."""
        kept = {name: stamp for name, stamp in self.stamps.items() if name in there or name.split("/")[0] not in states}
        if len(kept) == len(self.stamps):
            return
        self.stamps = kept
        text = "".join(f"{name}\t{stamp}\n" for name, stamp in kept.items())
        durable.write(self._path, text.encode(), sync=self._sync)

    def _lines(self) -> Iterator[tuple[str, str]]:
        try:
            with open(self._path, encoding="utf-8", errors="replace") as file:
                lines = file.read().split("\n")
        except FileNotFoundError:
            return
        for line in lines[:-1]:
            name, tab, stamp = line.partition("\t")
            if tab:
                yield name, stamp


def _stamp(record: str) -> str:
    """Return of a record here what a listing says of one there."""
    try:
        status = os.lstat(os.path.join(record, layout.RESULT))
    except OSError:
        return _NO_RESULT
    return f"{status.st_size} {time.strftime('%Y/%m/%d %H:%M:%S', time.gmtime(status.st_mtime))}"
