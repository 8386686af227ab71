"""One node's part of a synced spool: copies of a directory on several nodes that a tool makes equal, sooner or later.

Copies that agree later know no lock and no rename that excludes, so each path has one node that may act on it. A drop in an
inbox belongs to that inbox's node; one in the root to the node that wins it by the hash of its name, among those that its
spec names, whether they are alive or not. Nobody ever takes over. What is claimed here may come back from a copy that still
has it: it is known by name and content, and set aside.

If we die here: a drop is in its place, or set aside; either is looked at again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from spooldadd import claiming, durable, intake, layout, origin
from spooldadd.errors import ConfigError
from spooldadd.ledger import Ledger
from spooldadd.log import Log
from spooldadd.mark import SYNCED, Format, complete
from spooldadd.placement import Place, owner
from spooldadd.spool import Spool

# A look takes a listing of all records; what comes back meanwhile and is ours is known by the ledger all the same.
LOOK_S = 5.0


def is_synced(marked: Format) -> bool:
    """Tell whether a spool is one of several copies."""
    return marked.kind == SYNCED


def make_ready(the_spool: Spool, node: str) -> None:
    """Make a copy of a synced spool fit to be served. Refuse it as a node that is not in its list: nothing would be ours.

    Raises: ConfigError; SpoolError where the copy cannot be written.
    """
    nodes = the_spool.format.nodes
    if not is_synced(the_spool.format):
        return
    if node not in nodes:
        listed = ", ".join(f"`{name}`" for name in nodes) or "empty"
        raise ConfigError(
            f"this node is called `{node}`, and the list of nodes in `{the_spool.places.format}` is {listed}: set `node` in "
            "the configuration, or `--node`; the list of a synced spool is fixed when it is made, the same in each copy"
        )
    try:
        complete(the_spool.places)
    except OSError as error:
        raise the_spool.trouble(error) from error


class Synced:
    """What one node of a synced spool may claim."""

    def __init__(self, the_spool: Spool, log: Log, suffixes: tuple[str, ...], wall_s: Callable[[], float]) -> None:
        self._places = the_spool.places
        self._nodes = the_spool.format.nodes
        self._own = the_spool.holder.node
        self._log = log
        self._suffixes = suffixes
        self._wall_s = wall_s
        self._ledger = Ledger(the_spool.places, self._own)
        self._look_at = 0.0
        self._is_loaded = False
        self._said: set[str] = set()
        self._foreign: dict[str, tuple[intake.Signature, origin.Origin | None]] = {}

    def owner_of(self, key: str, place: Place) -> str:
        """Return the node to which a drop belongs."""
        return layout.drop_node(key) or owner(place, layout.bare_name(key), self._nodes)

    def is_ours(self, key: str, place: Place) -> bool:
        """Tell whether a drop belongs to this node and is new; one that came back is set aside. Raises: OSError."""
        if self.owner_of(key, place) != self._own:
            return False
        found = origin.of_drop(self._places.root, key)
        return found is None or not self._has_come_back(key, found)

    def claimed(self, job: str, record_path: str) -> None:
        """An attempt is about to start, or was refused: from now on the drop is known. Raises: OSError."""
        found = origin.of_record(record_path)
        if found is not None:
            self._load()
            self._ledger.note(job, found, self._wall_s())

    def look(self, now: float) -> None:
        """Learn what was claimed elsewhere, and set aside the copies of it that belong to others. Raises: OSError."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        self._load()
        self._learn()
        for directory in (self._places.internal, self._places.nodes):
            self._say_conflicts(directory, os.listdir(directory))
        for key, found in self._copies_of_others():
            if found is not None:
                self._has_come_back(key, found)

    def _load(self) -> None:
        if not self._is_loaded:
            self._ledger.load(self._wall_s())
            self._learn()
            self._is_loaded = True

    def _learn(self) -> None:
        for path in self._ledger.look(self._wall_s()):
            try:
                self._say_conflicts(path, os.listdir(path))
            except FileNotFoundError:
                pass  # it has moved on

    def _has_come_back(self, key: str, found: origin.Origin) -> bool:
        self._load()
        job = self._ledger.job_of(found, self._wall_s())
        if job is None:
            return False
        target = os.path.join(self._places.aside, f"{found.mark()[:8]}.{os.path.basename(key)}")
        try:
            os.makedirs(self._places.aside, exist_ok=True)
            os.rename(os.path.join(self._places.root, key), target)
        except FileNotFoundError:
            return True
        reason = f"it is what the job `{job}` was made of, and came back from another copy of the spool"
        then = "not run again; drop it under another name where it is to run twice"
        say = self._log.debug if found.mark() in self._said else self._log.info
        say("set-aside", file=durable.printable(key), job=job, path=target, reason=reason, then=then)
        self._said.add(found.mark())
        return True

    def _copies_of_others(self) -> Iterator[tuple[str, origin.Origin | None]]:
        """Yield the drops that are not ours: in the root, and in the inboxes of the other nodes."""
        inboxes = [layout.inbox(node) for node in self._nodes if node != self._own]
        keys = [*_listed(self._places.root, ""), *(key for name in inboxes for key in _listed(self._places.root, name))]
        known, self._foreign = self._foreign, {}
        for key in keys:
            if not intake.is_candidate(layout.bare_name(os.path.basename(key)), self._suffixes):
                continue
            try:
                seen = claiming.signature(os.lstat(os.path.join(self._places.root, key)))
            except FileNotFoundError:
                continue
            before = known.get(key)
            found = before[1] if before is not None and before[0] == seen else origin.of_drop(self._places.root, key)
            self._foreign[key] = (seen, found)
            yield key, found

    def _say_conflicts(self, directory: str, names: Iterable[str]) -> None:
        """A conflict copy in a record, or of a file of ours, means that two nodes wrote to one path. It is never read."""
        for name in sorted(names):
            path = os.path.join(directory, name)
            if intake.is_conflict_copy(name) and path not in self._said:
                self._said.add(path)
                self._log.warning(
                    "conflict-copy", file=durable.printable(path), then="it is not read; compare and remove it"
                )


def _listed(root: str, inbox: str) -> list[str]:
    try:
        return [os.path.join(inbox, name) for name in os.listdir(os.path.join(root, inbox))]
    except (FileNotFoundError, NotADirectoryError):
        return []
