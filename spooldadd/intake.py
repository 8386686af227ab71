"""Which dropped files are quiet, complete specs.

A file is quiet when it was moved in, or closed after writing, under our eyes; or when its size, time and inode stood still
for the settle time by our own monotonic clock. In either case nobody may have it open for writing, where the file system
can say so. That a file parses proves nothing: of the prefixes of a small spec one in six is valid TOML. That it does not
parse is a reason to wait until it has settled.

Reads only; what is wrong with a file that is quiet is found out after the claim.
"""

from __future__ import annotations

import heapq
import os
import sys
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import NamedTuple

from spooldadd import forms, layout, watch
from spooldadd.claiming import signature
from spooldadd.fresh import ALL_OURS, Fresh, Parts, Unopened
from spooldadd.looking import Look, look, looks_complete
from spooldadd.spec import Peek, peek, peek_script

# What is longer is not kept while it waits, nor while others are looked at: a thousand may be in one look.
KEPT_BYTES = 2048
CONFLICT_MARKS = (".sync-conflict-", "(conflicted copy", "_conflict-")
TEMPORARY_STARTS = (".", "~", "#")
TEMPORARY_END = "~"
# After closing, `rsync --inplace` and `install` still set times and modes by name; a claim in between would make them fail.
# Above the time they take, below what a person notices.
CLOSE_GRACE_S = 0.25
# How many of those that wait are looked at again at each scan: 3 us each here, at worst a millisecond each on a network.
LOOK_AGAIN = 256

Signature = tuple[int, int, int]
NONE_UNOPENED: Mapping[str, Unopened] = {}
_TWO_DIGITS = (1 << 60) - 1  # of a Python integer: with a third it takes half as much again


def is_candidate(name: str, suffixes: tuple[str, ...]) -> bool:
    """Tell whether a name in the root of a spool could be a spec's."""
    return name.endswith(suffixes) and not name.startswith(TEMPORARY_STARTS) and not is_conflict_copy(name)


def is_conflict_copy(name: str) -> bool:
    """Tell whether a sync tool made this name for the loser of a conflict: reported, never run."""
    return "conflict" in name and any(mark in name for mark in CONFLICT_MARKS)  # the word first: it is in all marks


def is_unexpected(name: str, suffixes: tuple[str, ...]) -> bool:
    """Tell whether this is a file that nobody will look at, though a person may expect it."""
    is_ours = name == layout.PAUSED or name.startswith(f"{layout.PAUSED}.") or name.endswith(layout.HELD_SUFFIX)
    is_ours = is_ours or bool(layout.inbox_node(name))
    is_temporary = name.startswith(TEMPORARY_STARTS) or name.endswith(TEMPORARY_END)
    return not (is_ours or is_temporary or name.endswith(suffixes) or is_conflict_copy(name))


def _mark(status: os.stat_result) -> int:
    """Return a signature as one number, by which a worker that keeps 100,000 of them saves 20 MB."""
    return hash(signature(status)) & _TWO_DIGITS


class Drop(NamedTuple):
    """A quiet spec: what queueing needs to know before it is claimed. Its key is its name, in an inbox with that."""

    key: str
    peek: Peek
    modified_at_s: float
    data: bytes | None = None  # of a small one


@dataclass(frozen=True)
class Rule:
    """When a file counts as a complete spec: how long it must stand still, how it is called, whether its clock is ours."""

    settle_s: float
    suffixes: tuple[str, ...]
    is_local: bool


class _Unsettled(NamedTuple):
    """A candidate that may still be written to."""

    mark: int
    quiet_at: float


class Intake:
    """Follows the candidates in the root of a spool, or in an inbox, from their first sight until they are quiet.

    Drops are told from outside by their keys: the file's name, in an inbox behind that of the inbox.
    """

    def __init__(self, root: str, rule: Rule, inbox: str = "", parts: Parts = ALL_OURS) -> None:
        self._root = os.path.join(root, inbox, "")
        self._prefix = f"{inbox}/" if inbox else ""
        self._settle_s = rule.settle_s
        self._suffixes = rule.suffixes
        self._is_local = rule.is_local
        self._unsettled: dict[str, _Unsettled] = {}
        self._times: list[tuple[float, str]] = []  # when each of them can be quiet, as a heap; those of before are stale
        self._fresh = Fresh(parts)
        self._quiet: dict[str, int] = {}  # handed out, and the marks that they had then
        self._lost: list[str] = []  # of those: what went without being claimed by us
        self._again: list[str] = []
        self.conflicts: Set[str] = frozenset()
        self.unexpected: Set[str] = frozenset()
        self.no_specs: set[str] = set()  # Python files without inline metadata: quiet, and nobody's business

    def scan(self, now: float) -> None:
        """List the directory: forget what is gone, and put what is new in line for `examine` or `examine_others`.

        Linear in the names, but for those that are known by calls that Python makes for all of them at once: 0.05 s for
        100,000. Raises: OSError where it cannot be listed.
        """
        new = set(os.listdir(self._root))
        for name in self._quiet.keys() - new:
            self._lose(name)
        for name in [name for name in self._unsettled if name not in new]:
            del self._unsettled[name]
        self._look_again()
        self._fresh.keep(new)
        new.difference_update(self._quiet, self._unsettled, *self._fresh.known)
        candidates = [name for name in new if is_candidate(name, self._suffixes)]
        new.difference_update(candidates)
        self._note_others(new)
        self._fresh.add(candidates, now)

    def _note_others(self, names: set[str]) -> None:
        """Take note of what is no spec's name."""
        conflicts = {name for name in names if is_conflict_copy(name) and layout.bare_name(name).endswith(self._suffixes)}
        unexpected = {name for name in names - layout.ROOT_ENTRIES if is_unexpected(name, self._suffixes)}
        self.conflicts, self.unexpected = map(self._keys, (conflicts, unexpected))

    def examine(self, now: float, wall_s: float, most: int) -> list[Drop]:
        """Look at no more than `most` of the new files that are ours; return those that are quiet already."""
        return self._check_each(self._fresh.take(most), now, wall_s)

    def examine_others(
        self, now: float, wall_s: float, most: int, leave_s: float, *, newest: int
    ) -> tuple[list[Drop], list[Drop]]:
        """Look at no more than `most` of what is other nodes' part: some of the newest, the rest in our own order.

        Returns those that are quiet and were left to their node for this time already, and those that were not.
        """
        taken = dict(self._fresh.take_others(now, most, leave_s, newest=newest))
        drops = self._check_each(taken, now, wall_s, taken)
        left = [drop for drop in drops if taken[drop.key].seen_at + leave_s <= now]  # the root's keys are names
        return left, [drop for drop in drops if taken[drop.key].seen_at + leave_s > now]

    @property
    def has_fresh(self) -> bool:
        """Tell whether `examine` has something left to look at."""
        return self._fresh.has_ours

    @property
    def unopened(self) -> int:
        """How many names are left for `examine_others`."""
        return self._fresh.unopened

    def others_at(self, leave_s: float) -> float:
        """Return when `examine_others` may find something, by the monotonic clock; infinitely late where it will not."""
        return self._fresh.others_at(leave_s)

    def distrust_clock(self) -> None:
        """The wall clock was set back."""
        self._fresh.distrust_clock()

    def share_out(self, now: float) -> None:
        """Other nodes serve than before: part anew what nobody here has looked at."""
        self._fresh.share_out(now)

    def hint(self, hint: watch.Hint, now: float, wall_s: float) -> Drop | None:
        """Take notice of an event; return the drop if it makes one quiet. What is another node's part stays unopened."""
        if not is_candidate(hint.name, self._suffixes) or not self._is_news(hint.name):
            return None
        if hint.name not in self._unsettled and not self._fresh.is_ours(hint.name):
            self._fresh.announce(hint.name, now, None if hint.kind == watch.CREATED else wall_s)
            return None
        found = look(self._root + hint.name)
        if found is None:
            self._unsettled.pop(hint.name, None)
            return None
        wait_s = self._settle_s
        if hint.kind != watch.CREATED and looks_complete(hint.name, found):
            wait_s = 0.0 if hint.kind == watch.MOVED else CLOSE_GRACE_S
        self._wait(hint.name, _mark(found.status), now + wait_s)
        return self._settle(hint.name, found, now)

    def due(self, now: float, most: int = sys.maxsize) -> list[Drop]:
        """Return the drops that became quiet by standing still until now, of no more than `most` that may have done so."""
        names: dict[str, None] = {}
        while len(names) < most and (at := self.next_at) is not None and at <= now:
            names[heapq.heappop(self._times)[1]] = None
        try:
            return self._check_each(names, now, None)
        except OSError:
            for name in names.keys() & self._unsettled.keys():
                heapq.heappush(self._times, (self._unsettled[name].quiet_at, name))
            raise

    def doubt(self, key: str, now: float) -> None:
        """Wait for this file to settle from now on: it turned out to be unfinished."""
        name = key.removeprefix(self._prefix)
        self._forget(name)
        found = look(self._root + name)
        if found is not None:
            self._wait(name, _mark(found.status), now + self._settle_s)

    def forget(self, key: str, claimed: Signature | None = None) -> bool:
        """A file of this name, or only that of this signature, is no longer ours; return whether no other is handed out."""
        name = key.removeprefix(self._prefix)
        seen = self._quiet.get(name)
        if claimed is not None and seen != hash(claimed) & _TWO_DIGITS:
            return seen is None
        self._forget(name)
        return True

    def forget_all(self) -> None:
        """Nothing here is ours to claim any more."""
        self._lost += self._quiet
        self._quiet, self._unsettled, self._times = {}, {}, []
        self._fresh.clear()

    def knows(self, key: str) -> bool:
        """Tell whether a drop of this key was handed out and not forgotten since."""
        return key.removeprefix(self._prefix) in self._quiet

    def take_lost(self) -> list[str]:
        """Return the keys of those that were handed out and are gone since, or are no longer what they were."""
        lost, self._lost = self._lost, []
        return [self._prefix + name for name in lost if name not in self._quiet]

    @property
    def next_at(self) -> float | None:
        """When, by the monotonic clock, the next candidate can become quiet."""
        while self._times:
            quiet_at, name = self._times[0]
            entry = self._unsettled.get(name)
            if entry is not None and entry.quiet_at == quiet_at:
                return quiet_at
            heapq.heappop(self._times)
        return None

    @property
    def unsettled(self) -> int:
        """How many candidates may still be written to."""
        return len(self._unsettled)

    def _forget(self, name: str) -> None:
        self._quiet.pop(name, None)
        if self.no_specs:
            self.no_specs.discard(self._prefix + name)

    def _lose(self, name: str) -> None:
        self._forget(name)
        self._lost.append(name)

    def _keys(self, names: Set[str]) -> Set[str]:
        return {self._prefix + name for name in names} if self._prefix else names

    def _look_again(self) -> None:
        """What was edited while it waited counts as new. Events tell it sooner, but not everywhere."""
        if not self._again:
            self._again = list(self._quiet)
        some, self._again = self._again[:LOOK_AGAIN], self._again[LOOK_AGAIN:]
        for name in some:
            self._is_news(name)

    def _is_news(self, name: str) -> bool:
        """Tell whether this file was not handed out as it is now; if so, forget that it was."""
        if name not in self._quiet:
            return True
        try:
            if _mark(os.lstat(self._root + name)) == self._quiet[name]:
                return False
        except (FileNotFoundError, PermissionError):
            pass
        self._lose(name)
        return True

    def _check_each(
        self, names: Iterable[str], now: float, wall_s: float | None, unopened: Mapping[str, Unopened] = NONE_UNOPENED
    ) -> list[Drop]:
        """Look at these; return the drops that are quiet. Raises: OSError; then it is as if none had been handed out."""
        drops: dict[str, Drop] = {}
        try:
            for name in names:
                drop = self._check(name, now, wall_s, unopened.get(name)) if name not in self._quiet else None
                if drop is not None:
                    drops[name] = drop
        except OSError:
            for name in drops:
                self._forget(name)  # the next scan finds them
            raise
        return list(drops.values())

    def _check(self, name: str, now: float, wall_s: float | None, unopened: Unopened | None) -> Drop | None:
        found = look(self._root + name)
        if found is None:
            self._unsettled.pop(name, None)
            return None
        entry, seen = self._unsettled.get(name), _mark(found.status)
        if entry is None or entry.mark != seen:
            if self._stood_still(found, wall_s) or _is_as_announced(name, found, unopened):
                self._unsettled.pop(name, None)
                return self._hand_out(name, found, seen)
            self._wait(name, seen, now + self._settle_s)
        return self._settle(name, found, now)

    def _wait(self, name: str, seen: int, quiet_at: float) -> None:
        self._unsettled[name] = _Unsettled(seen, quiet_at)
        heapq.heappush(self._times, (quiet_at, name))

    def _settle(self, name: str, found: Look, now: float) -> Drop | None:
        entry = self._unsettled[name]
        if entry.quiet_at > now:
            return None
        if found.writer:
            self._wait(name, entry.mark, now + self._settle_s)
            return None
        del self._unsettled[name]
        return self._hand_out(name, found, entry.mark)

    def _hand_out(self, name: str, found: Look, seen: int) -> Drop | None:
        self._quiet[name] = seen
        if forms.is_script(name) and not forms.is_meant(self._root + name, name):
            self.no_specs.add(self._prefix + name)
            return None
        return _drop(self._prefix + name, found)

    def _stood_still(self, found: Look, wall_s: float | None) -> bool:
        """A file that was there before us: on a local disk, whose clock is ours, its change time tells the same."""
        if wall_s is None or not self._is_local or found.writer is not False:
            return False
        return found.status.st_size > 0 and found.status.st_ctime + self._settle_s <= wall_s


def _is_as_announced(name: str, found: Look, unopened: Unopened | None) -> bool:
    """Tell whether a file that was not opened when an event said that it is complete is still what it was then."""
    if unopened is None or unopened.complete_s is None or found.status.st_ctime > unopened.complete_s:
        return False
    return looks_complete(name, found)


def _drop(key: str, found: Look) -> Drop:
    data = found.data or b""
    seen = peek_script(data) if forms.is_script(found.member or key) else peek(data)
    return Drop(key, seen, found.status.st_mtime, data if len(data) <= KEPT_BYTES else None)
